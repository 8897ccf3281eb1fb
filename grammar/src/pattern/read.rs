//! Text of a pattern → [`Pattern`]: tokens, braces written out, segments put together.

use std::fmt::Write as _;

use regex::RegexBuilder;

use super::{
    IndexItem, Kind, MAX_ALTERNATIVES, MAX_PATTERN_LENGTH, Matcher, PathPattern, Pattern, PatternError, Segment,
    nearest_kind, parse_index, write_indices,
};

/// How deep braces may nest.
const MAX_BRACES: usize = 8;

/// How much memory a compiled regular expression may take, in bytes.
const REGEX_SIZE_LIMIT: usize = 1 << 20;

type Result<T> = std::result::Result<T, PatternError>;

/// A token and the bytes that it was read from.
#[derive(Debug, Clone)]
struct Lexeme {
    token: Token,
    start: usize,
    end: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Slash,
    Dot,
    Text(String),
    Star,
    DoubleStar,
    Index(Vec<IndexItem>),
    Kind(Kind),
}

/// What braces hold is a list of such sequences.
#[derive(Debug)]
enum Node {
    Leaf(Lexeme),
    Braces(Vec<Vec<Node>>),
}

pub(super) fn pattern(text: &str) -> Result<Pattern> {
    check_length(text)?;
    if let Some(rest) = text.strip_prefix("re:") {
        return regex(text, rest);
    }
    let nodes = Reader { text, position: 0 }.all()?;
    let alternatives = alternatives(&nodes, text)?;
    let mut canonical = String::new();
    print(&nodes, &mut canonical);
    Ok(Pattern { text: canonical, matcher: Matcher::Paths(alternatives) })
}

pub(super) fn name_glob(text: &str) -> Result<Vec<PathPattern>> {
    check_length(text)?;
    if text.starts_with("re:") {
        return Err(error(0..3, "a regular expression cannot stand here"));
    }
    let nodes = Reader { text, position: 0 }.all()?;
    let mut globs = alternatives(&nodes, text)?;
    for glob in &mut globs {
        let negative = |bound: &Option<i64>| bound.is_some_and(|bound| bound < 0);
        let counts_from_end = glob.segments.iter().any(|segment| match segment {
            Segment::Index(items) => items.iter().any(|item| match item {
                IndexItem::One(index) => *index < 0,
                IndexItem::Range { start, end } => negative(start) || negative(end),
            }),
            Segment::Any | Segment::Name(_) => false,
        });
        if glob.anchored || glob.kind.is_some() || counts_from_end {
            return Err(error(0..text.len(), "a name may hold `*`, `**`, `{a,b}` and indices from 0, nothing else"));
        }
        glob.anchored = true;
    }
    Ok(globs)
}

fn error(range: std::ops::Range<usize>, message: impl Into<String>) -> PatternError {
    PatternError { offset: range.start, length: range.len(), message: message.into(), help: None }
}

fn check_length(text: &str) -> Result<()> {
    if text.len() > MAX_PATTERN_LENGTH {
        return Err(error(0..text.len(), format!("a pattern may be at most {MAX_PATTERN_LENGTH} bytes long")));
    }
    match text.find(char::is_control) {
        Some(at) => Err(error(at..at + 1, "a control character cannot stand here")),
        None => Ok(()),
    }
}

/// `rest` is what stands behind `re:`.
fn regex(text: &str, rest: &str) -> Result<Pattern> {
    let body = rest.strip_prefix('"').and_then(|body| body.strip_suffix('"'));
    let Some(body) = body.filter(|body| !ends_inside(body)) else {
        return Err(PatternError {
            help: Some(format!("write `re:\"{}\"`", rest.trim_matches(['"', '\'']))),
            ..error(0..text.len(), "a regular expression stands in double quotes, and nothing stands behind it")
        });
    };
    let build = |expression: &str| {
        RegexBuilder::new(expression).size_limit(REGEX_SIZE_LIMIT).dfa_size_limit(REGEX_SIZE_LIMIT).build()
    };
    // The body is built alone first: `a)|(b` would escape the anchors.
    let regex = build(body).and_then(|_| build(&format!("^(?:{body})$"))).map_err(|fault| {
        let reason = match fault {
            regex::Error::CompiledTooBig(limit) => format!("it takes more than {limit} bytes once compiled"),
            other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        };
        error(4..4 + body.len(), format!("this regular expression cannot be used: {reason}"))
    })?;
    Ok(Pattern { text: text.to_owned(), matcher: Matcher::Regex(regex) })
}

/// Whether a `"` in the body, not escaped by `\`, ends it early, or its last `\` escapes the quote behind it.
fn ends_inside(body: &str) -> bool {
    let mut escaped = false;
    for character in body.chars() {
        match character {
            '"' if !escaped => return true,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    escaped
}

// ---- Tokens

struct Reader<'a> {
    text: &'a str,
    position: usize,
}

impl Reader<'_> {
    fn all(mut self) -> Result<Vec<Node>> {
        let nodes = self.sequence(0)?;
        if self.position < self.text.len() {
            let at = self.position;
            if self.peek() == Some(b'}') {
                return Err(error(at..at + 1, "this `}` closes nothing"));
            }
            let help = Some(format!("write `{{{}}}`", self.text));
            return Err(PatternError { help, ..error(at..at + 1, "alternatives stand in braces") });
        }
        if nodes.is_empty() {
            return Err(error(0..self.text.len(), "the pattern is empty"));
        }
        Ok(unify_indices(nodes))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn next_is(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.position += 1;
        }
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &str {
        let start = self.position;
        while self.peek().is_some_and(&belongs) {
            self.position += 1;
        }
        &self.text[start..self.position]
    }

    /// Up to the end, or to a `,` or `}` that this sequence does not own.
    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        while let Some(byte) = self.peek() {
            let start = self.position;
            let token = match byte {
                b',' | b'}' => break,
                b' ' | b'\t' if depth > 0 => {
                    self.skip_blanks();
                    if matches!(self.peek(), None | Some(b',' | b'}')) {
                        break;
                    }
                    self.position = start;
                    return Err(self.stranger());
                }
                b'{' => {
                    nodes.push(self.braces(depth)?);
                    continue;
                }
                b'[' => self.index()?,
                b':' => self.kind()?,
                b'*' => {
                    self.position += 1;
                    if self.next_is(b'*') { Token::DoubleStar } else { Token::Star }
                }
                b'/' => {
                    self.position += 1;
                    Token::Slash
                }
                b'.' => {
                    self.position += 1;
                    Token::Dot
                }
                _ if is_name_byte(byte) => Token::Text(self.take_while(is_name_byte).to_owned()),
                _ => return Err(self.stranger()),
            };
            nodes.push(Node::Leaf(Lexeme { token, start, end: self.position }));
        }
        Ok(nodes)
    }

    fn stranger(&self) -> PatternError {
        let character = self.text[self.position..].chars().next().unwrap_or(' ');
        let range = self.position..self.position + character.len_utf8();
        let message = if character.is_whitespace() {
            "a pattern holds no blanks outside brackets and braces".to_owned()
        } else {
            format!("`{character}` cannot stand in a pattern")
        };
        let help = match character {
            '(' | ')' | '|' | '+' | '\\' | '^' | '$' | '?' => Some(as_regex(self.text)),
            '\'' | '"' => Some("write the pattern without quotes".into()),
            '!' => Some("to leave modules out, decide about them in a later rule".into()),
            ' ' if ["not ", "except ", " except ", " but ", " - "].iter().any(|word| self.text.contains(word)) => {
                Some("to leave modules out, decide about them in a later rule".into())
            }
            _ => None,
        };
        PatternError { help, ..error(range, message) }
    }

    fn braces(&mut self, depth: usize) -> Result<Node> {
        let start = self.position;
        self.position += 1;
        if depth == MAX_BRACES {
            return Err(error(start..start + 1, format!("braces nest deeper than {MAX_BRACES} levels")));
        }
        let mut alternatives = Vec::new();
        loop {
            self.skip_blanks();
            let from = self.position;
            let alternative = self.sequence(depth + 1)?;
            if alternative.is_empty() {
                return Err(error(from..from, "an alternative is empty"));
            }
            alternatives.push(alternative);
            if self.next_is(b'}') {
                return Ok(Node::Braces(alternatives));
            }
            if !self.next_is(b',') {
                return Err(error(start..start + 1, "this `{` is never closed"));
            }
        }
    }

    fn index(&mut self) -> Result<Token> {
        let start = self.position;
        self.position += 1;
        let mut items = Vec::new();
        loop {
            self.skip_blanks();
            items.push(self.index_item()?);
            self.skip_blanks();
            if self.next_is(b']') {
                return Ok(Token::Index(items));
            }
            if !self.next_is(b',') {
                return Err(match self.peek() {
                    None => error(start..start + 1, "this `[` is never closed"),
                    Some(_) => self.bad_index(),
                });
            }
        }
    }

    fn index_item(&mut self) -> Result<IndexItem> {
        if self.next_is(b'*') {
            return Ok(IndexItem::Range { start: None, end: None });
        }
        let start = self.number()?;
        if self.text[self.position..].starts_with("..") {
            self.position += 2;
            let end = self.number()?;
            if start.is_none() && end.is_none() {
                return Err(self.bad_index());
            }
            return Ok(IndexItem::Range { start, end });
        }
        start.map(IndexItem::One).ok_or_else(|| self.bad_index())
    }

    fn bad_index(&self) -> PatternError {
        let length = self.text[self.position..].chars().next().map_or(0, char::len_utf8);
        let help = match self.peek() {
            Some(b':' | b'-') => "a range is written `[0..4]`, and does not hold its end",
            _ => "indices are written `[3]`, `[0, -1]`, `[0..4]`, `[-4..]` or `[*]`",
        };
        PatternError {
            help: Some(help.into()),
            ..error(self.position..self.position + length, "an index was expected here")
        }
    }

    fn number(&mut self) -> Result<Option<i64>> {
        let start = self.position;
        self.next_is(b'-');
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if digits.is_empty() {
            self.position = start;
            return Ok(None);
        }
        let text = &self.text[start..self.position];
        // Half the range, so that sums with a length cannot overflow.
        match text.parse::<i32>() {
            Ok(number) => Ok(Some(i64::from(number))),
            Err(_) => Err(error(start..self.position, format!("the index {text} is too large"))),
        }
    }

    fn kind(&mut self) -> Result<Token> {
        let start = self.position;
        self.position += 1;
        let name = self.take_while(is_name_byte).to_owned();
        let Some(kind) = Kind::from_name(&name) else {
            let names: Vec<String> = Kind::ALL.iter().map(|kind| format!("`:{}`", kind.name())).collect();
            let help = match nearest_kind(&name) {
                Some(nearest) => format!("did you mean `:{nearest}`?"),
                None => format!("the kinds are {}", names.join(", ")),
            };
            let message = format!("`:{name}` is not a kind of module");
            return Err(PatternError { help: Some(help), ..error(start..self.position, message) });
        };
        Ok(Token::Kind(kind))
    }
}

/// With dots in the place of all but the first `/`.
fn dotted(text: &str) -> String {
    let (start, rest) = if text.starts_with('/') { text.split_at(1) } else { ("", text) };
    format!("{start}{}", rest.replace('/', "."))
}

/// Help for a pattern that reads like a regular expression.
fn as_regex(text: &str) -> String {
    format!("write `re:\"{text}\"` for a regular expression")
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// `layers.3` is `layers[3]`: where a number is plainly a whole segment, it is written as an index.
fn unify_indices(nodes: Vec<Node>) -> Vec<Node> {
    let mut unified: Vec<Node> = Vec::with_capacity(nodes.len());
    let mut nodes = nodes.into_iter().peekable();
    while let Some(node) = nodes.next() {
        let begins = match unified.last() {
            None | Some(Node::Leaf(Lexeme { token: Token::Slash | Token::Dot, .. })) => true,
            Some(_) => false,
        };
        let ends = match nodes.peek() {
            None | Some(Node::Leaf(Lexeme { token: Token::Dot | Token::Index(_) | Token::Kind(_), .. })) => true,
            Some(_) => false,
        };
        let index = match &node {
            Node::Leaf(Lexeme { token: Token::Text(text), .. }) if begins && ends => parse_index(text),
            _ => None,
        };
        match (index, node) {
            (Some(index), Node::Leaf(lexeme)) => {
                unified.pop_if(|last| matches!(last, Node::Leaf(Lexeme { token: Token::Dot, .. })));
                let token = Token::Index(vec![IndexItem::One(index.into())]);
                unified.push(Node::Leaf(Lexeme { token, ..lexeme }));
            }
            (_, node) => unified.push(node),
        }
    }
    unified
}

// ---- Braces written out

fn alternatives(nodes: &[Node], text: &str) -> Result<Vec<PathPattern>> {
    let too_many =
        || error(0..text.len(), format!("this pattern stands for more than {MAX_ALTERNATIVES} alternatives"));
    if count(nodes) > MAX_ALTERNATIVES {
        return Err(too_many());
    }
    let patterns = expand(nodes).iter().map(|lexemes| assemble(lexemes, text)).collect::<Result<Vec<PathPattern>>>()?;
    let total = patterns.iter().fold(0, |sum: usize, pattern| sum.saturating_add(pattern.index_choices()));
    if total > MAX_ALTERNATIVES { Err(too_many()) } else { Ok(patterns) }
}

fn count(nodes: &[Node]) -> usize {
    nodes.iter().fold(1, |product: usize, node| match node {
        Node::Leaf(_) => product,
        Node::Braces(alternatives) => {
            let sum = alternatives.iter().fold(0, |sum: usize, nodes| sum.saturating_add(count(nodes)));
            product.saturating_mul(sum)
        }
    })
}

fn expand(nodes: &[Node]) -> Vec<Vec<&Lexeme>> {
    let mut done: Vec<Vec<&Lexeme>> = vec![Vec::new()];
    for node in nodes {
        match node {
            Node::Leaf(lexeme) => done.iter_mut().for_each(|begun| begun.push(lexeme)),
            Node::Braces(alternatives) => {
                let tails: Vec<Vec<&Lexeme>> = alternatives.iter().flat_map(|nodes| expand(nodes)).collect();
                done = done
                    .iter()
                    .flat_map(|begun| tails.iter().map(|tail| [begun.as_slice(), tail.as_slice()].concat()))
                    .collect();
            }
        }
    }
    done
}

/// What stands before the place that [`assemble`] is at.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// Nothing, or `/`.
    Start,
    Dot,
    /// A name that may go on.
    Name,
    /// `**` or an index.
    Whole,
    Kind,
}

fn assemble(lexemes: &[&Lexeme], text: &str) -> Result<PathPattern> {
    let length = text.len();
    let mut pattern = PathPattern { anchored: false, segments: Vec::new(), kind: None };
    let mut before = Before::Start;
    for (i, lexeme) in lexemes.iter().enumerate() {
        let range = lexeme.start..lexeme.end;
        if before == Before::Kind {
            return Err(error(range, "nothing stands behind the kind of a pattern"));
        }
        before = match &lexeme.token {
            Token::Slash if i == 0 => {
                pattern.anchored = true;
                Before::Start
            }
            Token::Slash => {
                let help = Some(format!("write `{}`", dotted(text)));
                let message = "a `/` stands only at the start; segments are separated by dots";
                return Err(PatternError { help, ..error(range, message) });
            }
            Token::Dot if i == 0 && matches!(lexemes.get(1), Some(Lexeme { token: Token::Star, .. })) => {
                let message = "an empty segment: a name, `*` or `**` is missing before this dot";
                return Err(PatternError { help: Some(as_regex(text)), ..error(range, message) });
            }
            Token::Dot if matches!(before, Before::Name | Before::Whole) => Before::Dot,
            Token::Dot => return Err(error(range, "an empty segment: a name, `*` or `**` is missing before this dot")),
            Token::Text(_) | Token::Star | Token::DoubleStar if before == Before::Whole => {
                return Err(error(range, "a dot is missing: `**` and indices are whole segments"));
            }
            Token::DoubleStar if before == Before::Name => {
                return Err(error(range, "`**` is a whole segment; write `*` for a part of one"));
            }
            Token::DoubleStar => {
                pattern.segments.push(Segment::Any);
                Before::Whole
            }
            Token::Text(name) => {
                extend_name(&mut pattern.segments, before, name);
                Before::Name
            }
            Token::Star => {
                extend_name(&mut pattern.segments, before, "*");
                Before::Name
            }
            Token::Index(_) if before == Before::Dot => {
                let help = Some(format!("write `{}`", text.replace(".[", "[")));
                return Err(PatternError { help, ..error(range, "no dot stands before an index: `layers[3]`") });
            }
            Token::Index(items) => {
                pattern.segments.push(Segment::Index(items.clone()));
                Before::Whole
            }
            Token::Kind(_) if before == Before::Dot => {
                return Err(error(range, "no dot stands before a kind: `mlp.**:linear`"));
            }
            Token::Kind(kind) => {
                pattern.kind = Some(*kind);
                Before::Kind
            }
        };
    }
    match before {
        Before::Dot => {
            Err(error(length..length, "an empty segment: a name, `*` or `**` is missing behind the last dot"))
        }
        Before::Start => Err(error(0..length, "the pattern names no module")),
        Before::Name | Before::Whole | Before::Kind => {
            for segment in &mut pattern.segments {
                if let Segment::Name(name) = segment
                    && let Some(index) = parse_index(name)
                {
                    *segment = Segment::Index(vec![IndexItem::One(index.into())]);
                }
            }
            Ok(pattern)
        }
    }
}

fn extend_name(segments: &mut Vec<Segment>, before: Before, text: &str) {
    match segments.last_mut() {
        Some(Segment::Name(name)) if before == Before::Name => {
            if !(text == "*" && name.ends_with('*')) {
                name.push_str(text);
            }
        }
        _ => segments.push(Segment::Name(text.to_owned())),
    }
}

// ---- The canonical text

fn print(nodes: &[Node], target: &mut String) {
    for node in nodes {
        match node {
            Node::Leaf(lexeme) => match &lexeme.token {
                Token::Slash => target.push('/'),
                Token::Dot => target.push('.'),
                Token::Text(text) => target.push_str(text),
                Token::Star => target.push('*'),
                Token::DoubleStar => target.push_str("**"),
                Token::Index(items) => {
                    let _ = write_indices(items, target);
                }
                Token::Kind(kind) => {
                    let _ = write!(target, ":{}", kind.name());
                }
            },
            Node::Braces(alternatives) => {
                target.push('{');
                for (i, alternative) in alternatives.iter().enumerate() {
                    if i > 0 {
                        target.push(',');
                    }
                    print(alternative, target);
                }
                target.push('}');
            }
        }
    }
}
