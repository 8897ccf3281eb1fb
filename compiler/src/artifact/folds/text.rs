//! What was done to a weight, in a line of text, and in which frame the values of a buffer are.
//!
//! ```text
//! weight  := source ["+" product] ["rows" maps] ["columns" maps] | "matrix"
//! source  := [number "+"] ("s" place | "S" place ["'"] | "uniform" | "zeros")
//! product := [number "*"] "s" place "*s" place
//! maps    := map {" " map}
//! map     := "Q" place ["'"] | "S" place ["'"] | [number "+"] "s" place
//! frame   := ("1" | maps) [" x" count]
//! ```
//!
//! `s` is a source of the lock, `Q` a rotation and `S` a scale, by its place; with `'` the inverse. As a map, a source is a
//! gain. A text is read only as it is written: one space between words, the shortest numbers, nothing that does nothing.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use super::FoldsError;
use crate::ir::View;
use crate::lower::{Folded, FoldedProduct, Map, Source};
use crate::model::Checkpoint;
use crate::pack::stored_name;

/// What texts refer to by its place.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) sources: Vec<View>,
    pub(super) scales: Vec<Arc<[f64]>>,
}

/// Writes texts. Scales get their places when they are first met.
pub(super) struct Writer<'a> {
    checkpoint: &'a Checkpoint,
    places: HashMap<View, usize>,
    pub(super) scales: Vec<Arc<[f64]>>,
}

impl<'a> Writer<'a> {
    /// `sources` by place.
    pub(super) fn new(sources: Vec<View>, checkpoint: &'a Checkpoint) -> Writer<'a> {
        Writer { checkpoint, places: sources.into_iter().zip(0..).collect(), scales: Vec::new() }
    }

    /// A weight whose values are not a matrix of the user.
    pub(super) fn weight(&mut self, source: &Source, folded: &Folded) -> Result<String, FoldsError> {
        let Folded { offset, product, rows, columns } = folded;
        let source = match source {
            Source::Stored(view) => self.stored(view)?,
            Source::Uniform => "uniform".to_string(),
            Source::Values(values) if values.iter().all(|value| value.to_bits() == 0) => "zeros".to_string(),
            Source::Values(values) => self.values(values),
        };
        let mut text = plus(*offset, source);
        if let Some(FoldedProduct { weight, vector, factor }) = product {
            let factor = if *factor == 1.0 { String::new() } else { format!("{factor}*") };
            text.extend([" + ", &factor, &self.stored(vector)?, "*", &self.stored(weight)?]);
        }
        for (name, maps) in [("rows", rows), ("columns", columns)] {
            if !maps.is_empty() {
                text.extend([" ", name, " ", &self.maps(maps)?]);
            }
        }
        Ok(text)
    }

    /// The frames of buffers, equal neighbours together.
    pub(super) fn frames(&mut self, frames: &[Vec<Map>]) -> Result<Vec<String>, FoldsError> {
        let mut texts = Vec::new();
        for equal in frames.chunk_by(|a, b| a == b) {
            let text = if equal[0].is_empty() { "1".to_string() } else { self.maps(&equal[0])? };
            texts.push(if equal.len() > 1 { format!("{text} x{}", equal.len()) } else { text });
        }
        Ok(texts)
    }

    fn maps(&mut self, maps: &[Map]) -> Result<String, FoldsError> {
        let prime = |inverse: bool| if inverse { "'" } else { "" };
        let mut map = |map: &Map| match map {
            Map::Rotate { rotation, inverse } => Ok(format!("Q{rotation}{}", prime(*inverse))),
            Map::Gain { gain, offset } => Ok(plus(*offset, self.stored(gain)?)),
            Map::Scale { values, inverse } => Ok(format!("S{}{}", self.scale(values), prime(*inverse))),
        };
        Ok(maps.iter().map(&mut map).collect::<Result<Vec<_>, _>>()?.join(" "))
    }

    fn stored(&self, view: &View) -> Result<String, FoldsError> {
        match self.places.get(view) {
            Some(place) => Ok(format!("s{place}")),
            None => Err(FoldsError::NoSource { name: stored_name(view, self.checkpoint) }),
        }
    }

    fn scale(&mut self, values: &Arc<[f64]>) -> usize {
        let same = |scale: &Arc<[f64]>| Arc::ptr_eq(scale, values) || scale == values;
        self.scales.iter().position(same).unwrap_or_else(|| {
            self.scales.push(Arc::clone(values));
            self.scales.len() - 1
        })
    }

    /// Values that a scale has, or the inverse of one.
    fn values(&mut self, values: &Arc<[f64]>) -> String {
        let inverse = |scale: &Arc<[f64]>| {
            scale.len() == values.len() && scale.iter().zip(&**values).all(|(factor, value)| factor.recip() == *value)
        };
        match self.scales.iter().position(inverse) {
            Some(place) if !self.scales.contains(values) => format!("S{place}'"),
            _ => format!("S{}", self.scale(values)),
        }
    }
}

fn plus(offset: f64, text: String) -> String {
    if offset == 0.0 { text } else { format!("{offset}+{text}") }
}

impl Tables {
    /// How a weight of so many elements was made; `None` for a matrix of the user.
    pub(super) fn weight(&self, text: &str, elements: usize) -> Result<Option<(Source, Folded)>, FoldsError> {
        if text == "matrix" {
            return Ok(None);
        }
        let mut words = Words::new(text);
        let (offset, source) = words.offset("a source")?;
        let source = match source {
            "uniform" => Source::Uniform,
            "zeros" => Source::Values(vec![0.0; elements].into()),
            word if word.starts_with('S') => {
                let (values, inverse) = self.scale(&words, word)?;
                let found = values.len();
                if found != elements {
                    return Err(FoldsError::Elements { text: text.to_string(), expected: elements, found });
                }
                Source::Values(if inverse { values.iter().map(|value| value.recip()).collect() } else { values })
            }
            word => Source::Stored(self.stored(&words, word, "a source as in `s0`, `S0`, `uniform` or `zeros`")?),
        };
        let mut folded = Folded { offset, ..Folded::default() };
        if words.next_is("+") {
            folded.product = Some(self.product(&mut words)?);
        }
        if words.next_is("rows") {
            folded.rows = self.maps(&mut words)?;
        }
        if words.next_is("columns") {
            folded.columns = self.maps(&mut words)?;
        }
        words.end()?;
        Ok(Some((source, folded)))
    }

    /// The frame of some buffers, and of how many.
    pub(super) fn frame(&self, text: &str) -> Result<(Vec<Map>, usize), FoldsError> {
        let mut words = Words::new(text);
        let maps = if words.next_is("1") { Vec::new() } else { self.maps(&mut words)? };
        let count = match words.next() {
            None => 1,
            Some(word) => word
                .strip_prefix('x')
                .and_then(number)
                .filter(|count| *count > 1)
                .ok_or_else(|| words.unexpected("a map, or a count above 1 as in `x2`", word))?,
        };
        words.end()?;
        Ok((maps, count))
    }

    /// One map or more, up to a word that begins none.
    fn maps(&self, words: &mut Words<'_>) -> Result<Vec<Map>, FoldsError> {
        let mut maps = Vec::new();
        while maps.is_empty() || words.peek().is_some_and(|word| word != "columns" && !word.starts_with('x')) {
            let (offset, word) = words.offset("a map")?;
            maps.push(match word.chars().next() {
                Some('Q') if offset == 0.0 => {
                    let (rotation, inverse) = words.primed(word, 'Q', "a rotation as in `Q0` or `Q0'`")?;
                    Map::Rotate { rotation, inverse }
                }
                Some('S') if offset == 0.0 => {
                    let (values, inverse) = self.scale(words, word)?;
                    Map::Scale { values, inverse }
                }
                _ => Map::Gain { gain: self.stored(words, word, "a map as in `Q0`, `S0` or `s0`")?, offset },
            });
        }
        Ok(maps)
    }

    fn product(&self, words: &mut Words<'_>) -> Result<FoldedProduct, FoldsError> {
        const EXPECTED: &str = "a product as in `s0*s1` or `2*s0*s1`";
        let word = words.required(EXPECTED)?;
        let factors: Vec<&str> = word.split('*').collect();
        let (factor, vector, weight) = match factors[..] {
            [vector, weight] => (Some(1.0), vector, weight),
            [factor, vector, weight] => {
                (number(factor).filter(|factor: &f64| factor.is_finite() && *factor != 1.0), vector, weight)
            }
            _ => return Err(words.unexpected(EXPECTED, word)),
        };
        let factor = factor.ok_or_else(|| words.unexpected(EXPECTED, word))?;
        let [vector, weight] = [vector, weight].map(|word| self.stored(words, word, EXPECTED));
        Ok(FoldedProduct { weight: weight?, vector: vector?, factor })
    }

    fn stored(&self, words: &Words<'_>, word: &str, expected: &'static str) -> Result<View, FoldsError> {
        let place = word.strip_prefix('s').and_then(number);
        let place = place.ok_or_else(|| words.unexpected(expected, word))?;
        self.sources.get(place).cloned().ok_or(FoldsError::NoPlace { what: "source", place })
    }

    fn scale(&self, words: &Words<'_>, word: &str) -> Result<(Arc<[f64]>, bool), FoldsError> {
        let (place, inverse) = words.primed(word, 'S', "a scale as in `S0` or `S0'`")?;
        let values = self.scales.get(place).ok_or(FoldsError::NoPlace { what: "scale", place })?;
        Ok((Arc::clone(values), inverse))
    }
}

/// A number as it is printed.
fn number<N: FromStr + Display>(text: &str) -> Option<N> {
    text.parse().ok().filter(|number: &N| number.to_string() == text)
}

/// The words of a text.
struct Words<'a> {
    text: &'a str,
    rest: std::iter::Peekable<std::str::Split<'a, char>>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Words<'a> {
        Words { text, rest: text.split(' ').peekable() }
    }

    fn next(&mut self) -> Option<&'a str> {
        self.rest.next()
    }

    fn peek(&mut self) -> Option<&'a str> {
        self.rest.peek().copied()
    }

    /// Takes the next word if it is this one.
    fn next_is(&mut self, word: &str) -> bool {
        self.rest.next_if(|next| *next == word).is_some()
    }

    fn required(&mut self, expected: &'static str) -> Result<&'a str, FoldsError> {
        self.next().ok_or_else(|| self.unexpected(expected, "the end"))
    }

    /// The next word, and what is added to it.
    fn offset(&mut self, expected: &'static str) -> Result<(f64, &'a str), FoldsError> {
        let word = self.required(expected)?;
        let Some((offset, rest)) = word.split_once('+') else { return Ok((0.0, word)) };
        let offset = number(offset).filter(|offset: &f64| offset.is_finite() && *offset != 0.0);
        let offset = offset.ok_or_else(|| self.unexpected("a number other than 0 before `+`", word))?;
        Ok((offset, rest))
    }

    /// A place behind a letter, and whether `'` stands behind it.
    fn primed(&self, word: &str, letter: char, expected: &'static str) -> Result<(usize, bool), FoldsError> {
        let unprimed = word.strip_suffix('\'');
        let place = unprimed.unwrap_or(word).strip_prefix(letter).and_then(number);
        Ok((place.ok_or_else(|| self.unexpected(expected, word))?, unprimed.is_some()))
    }

    fn end(&mut self) -> Result<(), FoldsError> {
        match self.next() {
            None => Ok(()),
            Some(word) => Err(self.unexpected("the end, or what comes later in a text", word)),
        }
    }

    fn unexpected(&self, expected: &'static str, found: &str) -> FoldsError {
        FoldsError::Text { text: self.text.to_string(), expected, found: found.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ir::TensorId;

    fn views() -> Vec<View> {
        (0..12).map(|offset| View::contiguous(TensorId(0), offset, 4)).collect()
    }

    fn tables() -> Tables {
        Tables { sources: views(), scales: vec![[1.0, 0.5, 3.0].into(), [0.1, 7.0, 2.0].into()] }
    }

    fn checkpoint(folder: &std::path::Path) -> Checkpoint {
        let header = r#"{"t":{"dtype":"F32","shape":[15],"data_offsets":[0,60]}}"#;
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 60]].concat();
        fs::write(folder.join("model.safetensors"), file).unwrap();
        fs::write(folder.join("config.json"), "{}").unwrap();
        Checkpoint::open(folder).unwrap()
    }

    fn writer(checkpoint: &Checkpoint) -> Writer<'_> {
        Writer { scales: tables().scales, ..Writer::new(views(), checkpoint) }
    }

    const WEIGHTS: [&str; 15] = [
        "s5",
        "uniform",
        "zeros",
        "S1",
        "S0'",
        "1+s5",
        "-0.25+s5",
        "s5 rows Q0",
        "s5 columns Q3'",
        "s5 rows s2 Q0 columns Q1'",
        "s5 rows S0 1+s2 S1' Q0",
        "s7 + s3*s6",
        "s7 + 2.5*s3*s6 rows Q0",
        "zeros + -1*s3*s6 rows Q0'",
        "uniform rows Q12",
    ];

    const FRAMES: [&str; 5] = ["1", "1 x14", "Q0'", "Q0' s3 x2", "1+s3 S0 Q1 S1' x18446744073709551615"];

    #[test]
    fn texts_are_read_as_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = checkpoint(folder.path());
        for text in WEIGHTS {
            let (source, folded) = tables().weight(text, 3).unwrap().unwrap();
            assert_eq!(writer(&checkpoint).weight(&source, &folded).unwrap(), text);
        }
        assert_eq!(tables().weight("matrix", 9).unwrap(), None);
        for text in &FRAMES[..4] {
            let (maps, count) = tables().frame(text).unwrap();
            assert_eq!(writer(&checkpoint).frames(&vec![maps; count]).unwrap(), [*text]);
        }
        assert_eq!(tables().frame(FRAMES[4]).unwrap().1, usize::MAX);

        let (source, folded) = tables().weight("1+s7 + 2*s3*s6 rows 0.5+s2 Q0' columns S1", 4).unwrap().unwrap();
        let sources = views();
        assert_eq!(source, Source::Stored(sources[7].clone()));
        let product = FoldedProduct { vector: sources[3].clone(), weight: sources[6].clone(), factor: 2.0 };
        let rows =
            vec![Map::Gain { gain: sources[2].clone(), offset: 0.5 }, Map::Rotate { rotation: 0, inverse: true }];
        let columns = vec![Map::Scale { values: tables().scales[1].clone(), inverse: false }];
        assert_eq!(folded, Folded { offset: 1.0, product: Some(product), rows, columns });
        let Some((Source::Values(values), _)) = tables().weight("S0'", 3).unwrap() else { panic!("no values") };
        assert_eq!(*values, [1.0, 2.0, 1.0 / 3.0]);
        let Some((Source::Values(values), _)) = tables().weight("zeros", 3).unwrap() else { panic!("no values") };
        assert_eq!(*values, [0.0; 3]);
    }

    #[test]
    fn what_is_not_written_so_is_refused() {
        let map = "a map as in `Q0`, `S0` or `s0`";
        let source = "a source as in `s0`, `S0`, `uniform` or `zeros`";
        let rest = "the end, or what comes later in a text";
        let wrong = [
            ("", source, ""),
            ("s05", source, "s05"),
            ("s+5", "a number other than 0 before `+`", "s+5"),
            ("0+s5", "a number other than 0 before `+`", "0+s5"),
            ("1.0+s5", "a number other than 0 before `+`", "1.0+s5"),
            ("inf+s5", "a number other than 0 before `+`", "inf+s5"),
            ("Q0", source, "Q0"),
            ("S0''", "a scale as in `S0` or `S0'`", "S0''"),
            ("s5 ", rest, ""),
            ("s5  rows Q0", rest, ""),
            ("s5 rows", "a map", "the end"),
            ("s5 rows columns Q0", map, "columns"),
            ("s5 columns Q0 rows Q0", map, "rows"),
            ("s5 rows Q0 Q", "a rotation as in `Q0` or `Q0'`", "Q"),
            ("s5 rows 1+Q0", map, "Q0"),
            ("s5 rows Q0 x2", rest, "x2"),
            ("s5 + s3", "a product as in `s0*s1` or `2*s0*s1`", "s3"),
            ("s5 + 1*s3*s6", "a product as in `s0*s1` or `2*s0*s1`", "1*s3*s6"),
            ("s5 + ", "a product as in `s0*s1` or `2*s0*s1`", ""),
            ("matrix rows Q0", source, "matrix"),
        ];
        for (text, expected, found) in wrong {
            let error = tables().weight(text, 3).unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` in the lock: expected {expected}, found `{found}`"));
        }
        let count = "a map, or a count above 1 as in `x2`";
        for (text, expected, found) in [
            ("1 x1", count, "x1"),
            ("1 Q0", count, "Q0"),
            ("Q0 x", count, "x"),
            ("Q0 x2 x2", rest, "x2"),
            ("", map, ""),
        ] {
            let error = tables().frame(text).unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` in the lock: expected {expected}, found `{found}`"));
        }
        for (text, what) in [("s12", "source 12"), ("S2", "scale 2"), ("s1 rows 1+s99", "source 99")] {
            let error = tables().weight(text, 3).unwrap_err().to_string();
            assert_eq!(error, format!("the lock refers to a {what} that it does not have"));
        }
        let error = tables().weight("S0'", 4).unwrap_err().to_string();
        assert_eq!(error, "`S0'` in the lock: a weight of 4 elements, the scale has 3");
        let folder = tempfile::tempdir().unwrap();
        let unread = Source::Stored(View::contiguous(TensorId(0), 13, 2));
        let error = writer(&checkpoint(folder.path())).weight(&unread, &Folded::default()).unwrap_err().to_string();
        assert_eq!(error, "`t[13: 2*1]` is no source of the lock");
    }

    /// Texts with a few bytes changed: what is still read is still written so.
    #[test]
    fn spoiled_texts_are_read_exactly_or_refused() {
        const BYTES: &[u8] = b" +*'1059.-exsSQ\xc3\xa9";
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = checkpoint(folder.path());
        let mut state = 7_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut read = 0;
        for round in 0..20_000 {
            let is_weight = round % 2 == 0;
            let of = if is_weight { &WEIGHTS[..] } else { &FRAMES[..] };
            let mut text = of[random(of.len())].as_bytes().to_vec();
            for _ in 0..=random(3) {
                let at = random(text.len() + 1);
                match random(3) {
                    0 => text.insert(at, BYTES[random(BYTES.len())]),
                    1 if at < text.len() => text[at] = BYTES[random(BYTES.len())],
                    _ => text.truncate(at.max(1)),
                }
            }
            let text = String::from_utf8_lossy(&text);
            let written = if is_weight {
                let weight = tables().weight(&text, 3).ok().flatten();
                weight.map(|(source, folded)| writer(&checkpoint).weight(&source, &folded).unwrap())
            } else {
                let frame = tables().frame(&text).ok().filter(|(_, count)| *count < 100);
                frame.map(|(maps, count)| writer(&checkpoint).frames(&vec![maps; count]).unwrap().remove(0))
            };
            if let Some(written) = written {
                assert_eq!(written, text);
                read += 1;
            }
        }
        assert!(read > 1000, "{read} of 20000");
    }
}
