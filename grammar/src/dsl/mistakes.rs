//! What to say about text that the grammar could not read.

mod words;

use std::ops::Range;

use pest::Parser as _;
use pest::error::{Error, ErrorVariant, InputLocation};
use pest::iterators::Pair;

use crate::diag::{Diagnostic, nearest};

use super::{Grammar, Rule, Walker};

use words::expectations;
pub(super) use words::is_mark;

/// The words that begin a section of a spec.
const SECTIONS: &[&str] = &["models", "let", "rules", "rotate", "kv_cache", "tied", "table_basis", "compute"];

/// What stands in `rotate`.
const REQUEST: &str = "a request is written `SITE by ROTATION` or `SITE of PATTERN by ROTATION`";

const COMMENTS: &str = "comments begin with `//`";

/// Where an item that could not be read stands: what it should have been follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Between specs and models.
    File,
    /// In a spec, outside its blocks.
    Spec,
    /// In `rules`.
    Rule,
    /// In `rotate`.
    Rotation,
    /// In a model, outside all blocks.
    Model,
    /// In a `repeat` or `if` of a model, outside scopes.
    Inner,
    /// In `module … { }`.
    Scope,
    /// In `graph` or a block.
    Graph,
}

impl Place {
    fn rule(self) -> Rule {
        match self {
            Place::File => Rule::item,
            Place::Spec => Rule::section,
            Place::Rule => Rule::format_rule,
            Place::Rotation => Rule::rotation,
            Place::Model | Place::Inner | Place::Scope => Rule::declaration,
            Place::Graph => Rule::statement,
        }
    }

    /// The words that can begin an item here.
    pub(super) fn keywords(self) -> &'static [&'static str] {
        match self {
            Place::File => &["use", "let", "spec", "model"],
            Place::Spec => SECTIONS,
            Place::Rule | Place::Rotation => &[],
            Place::Model => &[
                "architectures",
                "let",
                "assert",
                "context",
                "module",
                "repeat",
                "if",
                "ignore",
                "alias",
                "block",
                "graph",
            ],
            Place::Inner => &["let", "assert", "context", "module", "repeat", "if", "ignore"],
            Place::Scope => &["let", "assert", "repeat", "if"],
            Place::Graph => &["for", "if", "return"],
        }
    }

    /// Whether an item can begin with a name.
    fn takes_names(self) -> bool {
        matches!(self, Place::Rule | Place::Rotation | Place::Scope | Place::Graph)
    }

    fn expectation(self) -> &'static str {
        match self {
            Place::File => "`use`, `let`, `spec` or `model`",
            Place::Spec => "a section",
            Place::Rule => "a rule",
            Place::Rotation => "a request for a rotation",
            Place::Model | Place::Inner | Place::Scope => "a declaration",
            Place::Graph => "a statement",
        }
    }
}

/// A piece of text to point at.
struct Found<'t> {
    start: usize,
    text: &'t str,
}

impl Walker {
    /// Reports an item that could not be read. When only its first word is misspelt, `read` gets what was meant, so that
    /// mistakes behind it are found too.
    pub(super) fn bad<T>(
        &mut self,
        pair: &Pair<Rule>,
        place: Place,
        read: impl FnOnce(&mut Self, Pair<Rule>) -> T,
    ) -> Option<T> {
        let (text, start) = (pair.as_str(), pair.as_span().start());
        if let Some(comment) = foreign_comment(text) {
            let fault = Diagnostic::error("P0001", format!("expected {}, found `/*`", place.expectation()));
            let span = self.origin.place(start..start + comment);
            self.diagnostics.push(fault.label(span, "").help(COMMENTS));
            return None;
        }
        let word = leading_word(text);
        if let Some((fault, meant)) = self.bad_keyword(text, start, word, place) {
            self.diagnostics.push(fault);
            return self.read_as_meant(text, start, word, meant?, place, read);
        }
        let Err(error) = Grammar::parse(place.rule(), text) else {
            self.report("P0001", self.span(pair), format!("expected {}", place.expectation()));
            return None;
        };
        self.shifted(start as isize, |walker| {
            let mended = walker.describe_item(&error, text, place)?;
            let pair = Grammar::parse(place.rule(), &mended).ok()?.next()?;
            Some(read(walker, pair))
        })
    }

    /// When an item begins with a word that can begin none here: that, and the keyword that was probably meant.
    fn bad_keyword(
        &self,
        text: &str,
        start: usize,
        word: &str,
        place: Place,
    ) -> Option<(Diagnostic, Option<&'static str>)> {
        let takes_any = matches!(place, Place::Rule | Place::Rotation);
        if word.is_empty() || takes_any || place.keywords().contains(&word) {
            return None;
        }
        let behind = text[word.len()..].trim_start_matches([' ', '\t']);
        if place.takes_names() && behind.starts_with(['=', '.', '[', ',', '(', '+', '-', '*', ':']) {
            return None;
        }
        let span = self.origin.place(start..start + word.len());
        let fault = match (place, word) {
            (Place::Spec, "use") => {
                let message = "`use` stands at the top of the file, not in a spec";
                return Some((Diagnostic::error("P0001", message).label(span, ""), None));
            }
            (Place::Spec, "extends") => {
                let fault = Diagnostic::error("P0001", "`extends` stands behind the name of the spec").label(span, "");
                return Some((fault.help("write `spec NAME extends BASE {`"), None));
            }
            (Place::Spec, _) => Diagnostic::error("P0004", format!("a spec has no section `{word}`")),
            _ => Diagnostic::error("P0001", format!("expected {}, found `{word}`", place.expectation())),
        };
        let fault = fault.label(span, "");
        if let Some(keyword) = nearest(word, place.keywords().iter().copied()) {
            return Some((fault.help(format!("did you mean `{keyword}`?")), Some(keyword)));
        }
        match place {
            Place::File if word == "lathe" => {
                Some((fault.help("the version line stands once, at the top of the file"), None))
            }
            Place::File if ["import", "include"].contains(&word) => Some((fault.help("write `use \"PATH\"`"), None)),
            Place::File if SECTIONS.contains(&word) => {
                Some((fault.help(format!("`{word}` stands in a spec: `spec NAME {{ … }}`")), None))
            }
            Place::File => Some((fault, None)),
            Place::Spec => {
                let help = outside_its_block(text).map_or_else(|| held_by("a spec", place), str::to_owned);
                Some((fault.help(help), None))
            }
            Place::Model if word == "extends" => {
                let message = "`extends` stands behind the name of the model";
                let fault = Diagnostic::error("P0001", message).label(span, "");
                Some((fault.help("write `model NAME extends BASE {`"), None))
            }
            Place::Model => Some((fault.help(held_by("a model", place)), None)),
            Place::Inner => Some((fault.help(held_by("a block of a model", place)), None)),
            Place::Rule | Place::Rotation | Place::Scope | Place::Graph => None,
        }
    }

    /// Reads an item again with `keyword` in place of its first word.
    fn read_as_meant<T>(
        &mut self,
        text: &str,
        start: usize,
        word: &str,
        keyword: &str,
        place: Place,
        read: impl FnOnce(&mut Self, Pair<Rule>) -> T,
    ) -> Option<T> {
        let misspelt = self.origin.place(start..start + word.len());
        let text = format!("{keyword}{}", &text[word.len()..]);
        self.shifted((start + word.len()) as isize - keyword.len() as isize, |walker| {
            walker.origin = walker.origin.from(misspelt);
            match Grammar::parse(place.rule(), &text) {
                Ok(mut pairs) => pairs.next().map(|pair| read(walker, pair)),
                Err(error) => {
                    walker.describe(&error, &text);
                    None
                }
            }
        })
    }

    /// Reports the head of a block. `expected` is what should have matched.
    pub(super) fn bad_head(&mut self, pair: &Pair<Rule>, expected: Rule) {
        // With the brace behind it, which the rule looks at.
        let (start, end) = (pair.as_span().start(), pair.as_span().end());
        let text = pair.get_input().get(start..end + 1).unwrap_or(pair.as_str());
        match Grammar::parse(expected, text) {
            Err(error) => self.shifted(start as isize, |walker| walker.describe(&error, text)),
            Ok(_) => self.report("P0001", self.span(pair), "this cannot be read"),
        }
    }

    /// Reports what stands where an item should go on, up to the end of its line. `expected` is what should have matched.
    pub(super) fn bad_rest(&mut self, pair: &Pair<Rule>, expected: Rule) {
        let (input, start) = (pair.get_input(), pair.as_span().start());
        if self.is_reported(input, start) {
            return;
        }
        let text = pair.as_str();
        // What is missing is missing behind what is there, not behind the blanks.
        let start = if text.is_empty() { input[..start].trim_end_matches([' ', '\t']).len() } else { start };
        match Grammar::parse(expected, text) {
            Err(error) => self.shifted(start as isize, |walker| walker.describe(&error, text)),
            Ok(_) => self.report("P0001", self.span(pair), "this cannot be read"),
        }
    }

    /// Acts on a text that begins at this offset of the one at hand.
    pub(super) fn shifted<T>(&mut self, by: isize, act: impl FnOnce(&mut Self) -> T) -> T {
        let origin = self.origin;
        self.origin = origin.part(by);
        let value = act(self);
        self.origin = origin;
        value
    }

    /// Whether the line of `text` that holds `at` has a bracket or string that was reported before parsing: what the
    /// grammar says about it follows from that.
    pub(super) fn is_reported(&self, text: &str, at: usize) -> bool {
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
        let line = self.origin.place(start..end);
        self.broken.iter().any(|broken| line.start <= broken.start && broken.start <= line.end)
    }

    /// Reports what pest says about `text`, in the user's words.
    pub(super) fn describe(&mut self, error: &Error<Rule>, text: &str) {
        let at = match error.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
        };
        if self.is_reported(text, at) {
            return;
        }
        let ErrorVariant::ParsingError { positives, .. } = &error.variant else {
            let span = self.origin.place(at..at);
            return self.report("P0001", span, "this text is too involved to be parsed");
        };
        let found = found_at(text, at);
        let span = self.origin.place(found.start..found.start + found.text.len());
        let expected = expectations(positives);
        let what = describe_found(&found);
        let message = match expected.split_last() {
            None => format!("{what} cannot stand here"),
            Some((only, [])) => format!("expected {only}, found {what}"),
            Some((last, others)) => format!("expected {} or {last}, found {what}", others.join(", ")),
        };
        let mut fault = Diagnostic::error("P0001", message).label(span, "");
        let keywords = expected.iter().map(|expected| expected.trim_matches('`')).filter(|word| is_word(word));
        fault.help = match hint(positives, text, &found) {
            Some(hint) => Some(hint.to_owned()),
            None if is_word(found.text) => {
                nearest(found.text, keywords).map(|keyword| format!("did you mean `{keyword}`?"))
            }
            None => None,
        };
        self.diagnostics.push(fault);
    }

    /// As [`Self::describe`], for an item. In a rule the pattern runs on to the arrow, so a missing arrow is looked for;
    /// so is a missing `by`. Where another mark stands for it, comes back the item as it was meant.
    fn describe_item(&mut self, error: &Error<Rule>, text: &str, place: Place) -> Option<String> {
        let line = text.lines().next().unwrap_or_default();
        let (mark, marks, help) = match place {
            Place::Rule if find_outside(line, |rest| rest.starts_with("=>")).is_none() => {
                ("=>", &["->", "=", ": "][..], "a rule is written `PATTERN => FORMAT`")
            }
            Place::Rotation if find_outside(line, |rest| rest.starts_with(" by ")).is_none() => {
                ("by", &["=>", "->", "=", ": "][..], REQUEST)
            }
            Place::Spec if self.wrong_block(line) => return None,
            _ => {
                self.describe(error, text);
                return None;
            }
        };
        if self.is_reported(text, 0) || self.section_in_block(line) {
            return None;
        }
        let starts_with_mark = |rest: &str| marks.iter().any(|mark| rest.starts_with(mark));
        let wrong_mark = find_outside(line, starts_with_mark);
        let found = match wrong_mark {
            Some(at) => found_at(text, at),
            None => found_at(text, missing_at(line, place)),
        };
        let message = format!("expected `{mark}`, found {}", describe_found(&found));
        let help = match (place, found.text) {
            (Place::Rule, "by") => "a request for a rotation stands in `rotate { … }`",
            (Place::Rule, "=") if leading_word(line) == "let" => "`let` stands in the spec, outside `rules`",
            (Place::Rotation, "=>") if leading_word(line) != first_word(line) => "a rule stands in `rules { … }`",
            _ => help,
        };
        let span = self.origin.place(found.start..found.start + found.text.len());
        self.diagnostics.push(Diagnostic::error("P0001", message).label(span, "").help(help));
        // With the mark in place of two bytes, all others keep their offsets.
        let at = wrong_mark.filter(|at| place == Place::Rotation || first_word(line) == text[..*at].trim_end())?;
        let replaced = text.get(at..at + mark.len())?;
        let is_whole = replaced.trim_end() == found.text && (mark == "=>" || text[..at].ends_with(' '));
        is_whole.then(|| format!("{}{mark}{}", &text[..at], &text[at + mark.len()..]))
    }

    /// Reports a block in other brackets than braces. False for any other line.
    fn wrong_block(&mut self, line: &str) -> bool {
        let word = leading_word(line);
        let at = line.len() - line[word.len()..].trim_start().len();
        if !["rules", "rotate"].contains(&word) || !line[at..].starts_with(['[', '(']) {
            return false;
        }
        if !self.is_reported(line, at) {
            let message = format!("expected `{{`, found `{}`", &line[at..=at]);
            self.report("P0001", self.origin.place(at..at + 1), message);
        }
        true
    }

    /// Reports a section that stands in the block of another one, unless some brace was reported: then it may only seem
    /// so. False for any other line.
    fn section_in_block(&mut self, line: &str) -> bool {
        let word = leading_word(line);
        if !SECTIONS.contains(&word) || !line[word.len()..].trim_start().starts_with('{') {
            return false;
        }
        if self.broken.is_empty() {
            let message = format!("`{word}` stands in a spec, not in the block of another section");
            self.report("P0001", self.origin.place(0..word.len()), message);
        }
        true
    }
}

/// The length of a comment of other languages, on one line, that begins the text. `/*.a` begins a pattern.
fn foreign_comment(text: &str) -> Option<usize> {
    let line = text.lines().next().unwrap_or_default();
    let rest = line.strip_prefix("/*")?;
    match rest.find("*/") {
        Some(end) => Some("/*".len() + end + "*/".len()),
        None => (rest.is_empty() || rest.starts_with(' ')).then_some(line.trim_end().len()),
    }
}

/// Up to the first blank outside brackets, or a colon before it: the pattern that begins this line.
fn first_word(line: &str) -> &str {
    let end = find_outside(line, |rest| rest.starts_with([' ', '\t']) || rest.starts_with(": "));
    &line[..end.unwrap_or(line.len())]
}

/// Where `=>` or `by` is missing in this line: behind the pattern or the site.
fn missing_at(line: &str, place: Place) -> usize {
    let next_word = |from: usize| {
        let end = from + first_word(&line[from..]).len();
        line.len() - line[end..].trim_start().len()
    };
    let second = next_word(0);
    if place == Place::Rotation && leading_word(&line[second..]) == "of" {
        let pattern = next_word(second);
        return next_word(pattern);
    }
    second
}

/// The first place, outside brackets and strings, where what follows is accepted.
fn find_outside(line: &str, accept: impl Fn(&str) -> bool) -> Option<usize> {
    let mut depth = 0_usize;
    let mut in_string = false;
    for (at, character) in line.char_indices() {
        if depth == 0 && !in_string && accept(&line[at..]) {
            return Some(at);
        }
        match character {
            '"' => in_string = !in_string,
            '(' | '[' | '{' if !in_string => depth += 1,
            ')' | ']' | '}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Where the formats stand in the part of a rule behind its arrow, which could not be read.
pub(super) struct Halves {
    pub(super) format: Option<Range<usize>>,
    pub(super) input: Option<Range<usize>>,
    pub(super) is_optional: bool,
}

pub(super) fn halves(rest: &str) -> Halves {
    let stands_for = |word: &str, keyword: &str| word == keyword || nearest(word, [keyword]).is_some();
    let end = |text: &str| text.trim_end_matches([' ', '\t', ';', ',']).len();
    let last_word = rest[..end(rest)].rfind([' ', '\t', ')']).map_or(0, |before| before + 1);
    let is_optional = stands_for(&rest[last_word..end(rest)], "optional");
    let rest = &rest[..if is_optional { last_word } else { rest.len() }];
    let with = find_outside(rest, |from| {
        let is_start = !rest[..rest.len() - from.len()].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        is_start && leading_word(from) == "with"
    });
    let format = 0..end(&rest[..with.unwrap_or(rest.len())]);
    let input = with.map(|with| {
        let skip = |at: usize| rest.len() - rest[at..].trim_start().len();
        let behind = skip(with + "with".len());
        let word = leading_word(&rest[behind..]);
        let start = if stands_for(word, "input") { skip(behind + word.len()) } else { behind };
        start..end(rest).max(start)
    });
    Halves { format: Some(format).filter(|format| with.is_none() || !format.is_empty()), input, is_optional }
}

/// Help for a line of a spec that reads like one of `rules` or `rotate`.
fn outside_its_block(text: &str) -> Option<&'static str> {
    let line = text.lines().next().unwrap_or_default();
    let holds = |mark: &str| find_outside(line, |rest| rest.starts_with(mark)).is_some();
    if holds("=>") {
        Some("a rule stands in `rules { … }`")
    } else if holds(" by ") {
        Some("a request for a rotation stands in `rotate { … }`")
    } else {
        None
    }
}

/// `a model holds …`
fn held_by(what: &str, place: Place) -> String {
    let keywords: Vec<String> = place.keywords().iter().map(|keyword| format!("`{keyword}`")).collect();
    format!("{what} holds {}", keywords.join(", "))
}

/// Whether the text begins with a word and a colon, as in `lathe: 1`.
pub(super) fn is_yaml_key(text: &str) -> bool {
    let word = leading_word(text);
    !word.is_empty() && text[word.len()..].trim_start_matches([' ', '\t']).starts_with(':')
}

/// Up to the first character that no word holds.
pub(super) fn leading_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// The word, number, string or mark at `at`; empty, and behind the last visible character, at the end of a line.
fn found_at(text: &str, at: usize) -> Found<'_> {
    let rest = &text[at..];
    let length = match rest.chars().next() {
        None | Some('\n') => return Found { start: text[..at].trim_end_matches([' ', '\t']).len(), text: "" },
        Some('"') => rest[1..].find(['"', '\n']).map_or(rest.len(), |end| end + 2).min(rest.len()),
        Some(first) if first.is_alphanumeric() || first == '_' => {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        }
        Some(first) => ["=>", "==", "->", "&&", "||", "**", ".."]
            .iter()
            .find(|mark| rest.starts_with(**mark))
            .map_or(first.len_utf8(), |mark| mark.len()),
    };
    Found { start: at, text: &rest[..length] }
}

fn describe_found(found: &Found) -> String {
    if found.text.is_empty() { "the end of the line".to_owned() } else { format!("`{}`", found.text) }
}

/// What to write instead, for slips from other languages.
fn hint(positives: &[Rule], text: &str, found: &Found) -> Option<&'static str> {
    let after_value = positives.contains(&Rule::infix);
    let before = text[..found.start].trim_end();
    Some(match found.text {
        _ if positives.contains(&Rule::kw_rules) => outside_its_block(text)?,
        _ if positives.contains(&Rule::kw_of) || positives.contains(&Rule::site) => REQUEST,
        "with_input" => "write `with input FORMAT`",
        text if positives == [Rule::kw_input] && nearest(text, ["input"]).is_none() => "write `with input FORMAT`",
        "input" if positives.contains(&Rule::with_input) || positives.contains(&Rule::kw_with) => {
            "write `with input FORMAT`"
        }
        "\"" | "'" | "{" | "$" if is_format(positives) => {
            "a format is written `int4(group: 128)`, without quotes or braces"
        }
        text if text.starts_with('"') && is_format(positives) => "write the format without quotes",
        "[" if positives.contains(&Rule::kw_optional) => "arguments stand in parentheses: `int4(group: 128)`",
        "," if positives.contains(&Rule::kw_optional) => "each rule stands on a line of its own, without a `,`",
        "=" if after_value && positives.contains(&Rule::colon) => "an argument is written `NAME: VALUE`",
        "=" if after_value => "write `==` to compare",
        "and" | "&" if after_value => "write `&&`",
        "|" if after_value => "write `||`",
        "**" if after_value => "write `^` for a power",
        "*" if before.ends_with('*') => "write `^` for a power",
        "?" if after_value => "write `if CONDITION { A } else { B }`",
        "elif" | "elsif" => "write `else if`",
        ";" => "an item ends at the end of its line, without a `;`",
        "'" => "strings stand in double quotes",
        "#" => COMMENTS,
        "/" if foreign_comment(&text[found.start..]).is_some() => COMMENTS,
        "(" | ":"
            if positives.contains(&Rule::kw_extends) && !text[found.start + 1..].trim_start().starts_with('{') =>
        {
            "a base is written `NAME extends BASE {`"
        }
        "extends" | "," if positives == [Rule::open_brace] && leading_word(behind_name(text)) == "extends" => {
            "there is one base, which may extend another"
        }
        ":" if positives.iter().any(|expected| [Rule::range, Rule::subscript].contains(expected)) => {
            "a range is written `FIRST..END`"
        }
        "{" if is_parameters(positives) && !before.is_empty() => "write `block NAME(a, b) {`",
        "{" if positives.contains(&Rule::pattern) => "the braces of a pattern close on the line on which they open",
        _ if after_value && leading_word(before.rsplit([' ', '\t', '(']).next().unwrap_or_default()) == "not" => {
            "write `!`"
        }
        _ => return None,
    })
}

/// Whether only the parameters of a block or of the graph could have stood there.
fn is_parameters(positives: &[Rule]) -> bool {
    matches!(positives, [Rule::parameters | Rule::open_paren])
}

/// The head of a spec or model without its name.
fn behind_name(head: &str) -> &str {
    head.trim_start().trim_start_matches(|c: char| !c.is_whitespace()).trim_start()
}

/// Whether a format could have stood there.
fn is_format(positives: &[Rule]) -> bool {
    positives.contains(&Rule::format) || positives.contains(&Rule::format_name)
}
