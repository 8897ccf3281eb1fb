//! The filter `tojson`, which is `json.dumps` of Python.

use std::io::{self, Write};

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Values that nest deeper are refused.
const MAX_DEPTH: usize = 100;
/// Largest indentation of a level, in spaces.
const MAX_INDENT: usize = 64;

/// `value | tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`, in at most `max_bytes`.
pub(super) fn to_json(value: &Value, options: &Kwargs, max_bytes: usize) -> Result<String, Error> {
    let failed = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(failed("an undefined value is no JSON".to_owned()));
    }
    if indent.is_some_and(|indent| indent > MAX_INDENT) {
        return Err(failed(format!("tojson takes an indent of at most {MAX_INDENT}")));
    }
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(failed("tojson takes two separators".to_owned())),
    };
    let style = Style { item, key, indent, ascii, depth: 0, filled: false };
    let written = if sorted {
        let text = write(value, style.clone(), max_bytes).map_err(|error| failed(error.to_string()))?;
        let tree: Result<serde_json::Value, _> = serde_json::from_str(&text);
        tree.and_then(|mut tree| {
            tree.sort_all_objects();
            write(&tree, style, max_bytes)
        })
    } else {
        write(value, style, max_bytes)
    };
    written.map_err(|error| failed(error.to_string()))
}

fn write(value: &impl Serialize, style: Style, max_bytes: usize) -> serde_json::Result<String> {
    let mut bytes = Bounded { bytes: Vec::new(), max_bytes };
    value.serialize(&mut Serializer::with_formatter(&mut bytes, style))?;
    Ok(String::from_utf8(bytes.bytes).unwrap_or_else(|_| unreachable!("JSON is made of text")))
}

/// Takes a bounded number of bytes.
struct Bounded {
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max_bytes {
            return Err(io::Error::other("a value is too large to be written as JSON"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How Python writes JSON.
#[derive(Clone)]
struct Style {
    item: String,
    key: String,
    indent: Option<usize>,
    ascii: bool,
    depth: usize,
    /// Whether the list or object that ends next has something in it.
    filled: bool,
}

impl Style {
    fn begin(&mut self, out: &mut (impl Write + ?Sized), bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(io::Error::other("a value nests too deep to be written as JSON"));
        }
        self.filled = false;
        out.write_all(bracket)
    }

    fn end(&mut self, out: &mut (impl Write + ?Sized), bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.new_line(out)?;
        }
        self.filled = true;
        out.write_all(bracket)
    }

    fn next(&mut self, out: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.filled = true;
        self.new_line(out)
    }

    fn new_line(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        match self.indent {
            None => Ok(()),
            Some(indent) => write!(out, "\n{:1$}", "", indent * self.depth),
        }
    }
}

impl Formatter for Style {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }

    /// As `repr` does: an exponent has a sign and two digits.
    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        let text = format!("{value:?}");
        match text.split_once('e') {
            None => out.write_all(text.as_bytes()),
            Some((digits, exponent)) => {
                let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
                write!(out, "{digits}e{sign}{exponent:0>2}")
            }
        }
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if !self.ascii {
            return out.write_all(text.as_bytes());
        }
        for character in text.chars() {
            if character.is_ascii() {
                write!(out, "{character}")?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}
