//! What to say about text that the grammar could not read.

use pest::Parser as _;
use pest::error::{Error, ErrorVariant, InputLocation};
use pest::iterators::Pair;

use crate::diag::{Diagnostic, nearest};
use crate::parse::LATER_SECTIONS;

use super::{Grammar, Rule, Walker};

/// Where an item that could not be read stands: what it should have been follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Between specs and models.
    File,
    /// In a spec, outside `rules`.
    Spec,
    /// In `rules`.
    Rule,
    /// In a model, outside scopes.
    Model,
    /// In `module … { }`.
    Scope,
    /// In `graph`.
    Graph,
}

impl Place {
    fn rule(self) -> Rule {
        match self {
            Place::File => Rule::item,
            Place::Spec => Rule::rules,
            Place::Rule => Rule::format_rule,
            Place::Model | Place::Scope => Rule::declaration,
            Place::Graph => Rule::statement,
        }
    }

    /// The words that can begin an item here.
    fn keywords(self) -> &'static [&'static str] {
        match self {
            Place::File => &["spec", "model"],
            Place::Spec => &["rules"],
            Place::Rule => &[],
            Place::Model => &["architectures", "let", "assert", "context", "module", "repeat", "if", "ignore", "graph"],
            Place::Scope => &["let", "assert", "repeat", "if"],
            Place::Graph => &["for", "if", "return"],
        }
    }

    /// Whether an item can begin with a name.
    fn takes_names(self) -> bool {
        matches!(self, Place::Rule | Place::Scope | Place::Graph)
    }

    fn expectation(self) -> &'static str {
        match self {
            Place::File => "`spec` or `model`",
            Place::Spec => "`rules`",
            Place::Rule => "a rule",
            Place::Model | Place::Scope => "a declaration",
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
        let word = leading_word(text);
        if let Some((fault, meant)) = self.bad_keyword(text, start, word, place) {
            self.diagnostics.push(fault);
            return self.read_as_meant(text, start, word, meant?, place, read);
        }
        match Grammar::parse(place.rule(), text) {
            Err(error) => self.shifted(start as isize, |walker| walker.describe_item(&error, text, place)),
            Ok(_) => self.report("P0001", self.span(pair), format!("expected {}", place.expectation())),
        }
        None
    }

    /// When an item begins with a word that can begin none here: that, and the keyword that was probably meant.
    fn bad_keyword(
        &self,
        text: &str,
        start: usize,
        word: &str,
        place: Place,
    ) -> Option<(Diagnostic, Option<&'static str>)> {
        if word.is_empty() || place == Place::Rule || place.keywords().contains(&word) {
            return None;
        }
        let behind = text[word.len()..].trim_start_matches([' ', '\t']);
        if place.takes_names() && behind.starts_with(['=', '.', '[', ',', '(', '+', '-', '*', ':']) {
            return None;
        }
        let message = format!("expected {}, found `{word}`", place.expectation());
        let fault = Diagnostic::error("P0001", message).label(self.origin.place(start..start + word.len()), "");
        let later = if place == Place::Spec { LATER_SECTIONS } else { &[] };
        if let Some(keyword) = nearest(word, place.keywords().iter().chain(later).copied()) {
            return Some((fault.help(format!("did you mean `{keyword}`?")), Some(keyword)));
        }
        match place {
            Place::File if word == "lathe" => {
                Some((fault.help("the version line stands once, at the top of the file"), None))
            }
            Place::Model => {
                let keywords: Vec<String> = place.keywords().iter().map(|keyword| format!("`{keyword}`")).collect();
                Some((fault.help(format!("a model holds {}", keywords.join(", "))), None))
            }
            Place::File | Place::Spec => Some((fault, None)),
            Place::Rule | Place::Scope | Place::Graph => None,
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
        let text = format!("{keyword}{}", &text[word.len()..]);
        self.shifted((start + word.len()) as isize - keyword.len() as isize, |walker| {
            match Grammar::parse(place.rule(), &text) {
                Ok(mut pairs) => pairs.next().map(|pair| read(walker, pair)),
                Err(error) => {
                    walker.describe_item(&error, &text, place);
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

    /// Acts on a text that begins at this offset of the one at hand.
    fn shifted<T>(&mut self, by: isize, act: impl FnOnce(&mut Self) -> T) -> T {
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

    /// As [`Self::describe`], for an item. In a rule the pattern runs on to the arrow, so a missing arrow is looked for.
    fn describe_item(&mut self, error: &Error<Rule>, text: &str, place: Place) {
        let line = text.lines().next().unwrap_or_default();
        if place != Place::Rule || line.contains("=>") {
            return self.describe(error, text);
        }
        if self.is_reported(text, 0) {
            return;
        }
        let wrong_arrow =
            ["->", "="].iter().find_map(|arrow| line.find(arrow).map(|at| Found { start: at, text: arrow }));
        let found = wrong_arrow.unwrap_or_else(|| {
            let end = pattern_end(line);
            found_at(text, line.len() - line[end..].trim_start().len())
        });
        let message = format!("expected `=>`, found {}", describe_found(&found));
        let span = self.origin.place(found.start..found.start + found.text.len());
        let fault = Diagnostic::error("P0001", message).label(span, "").help("a rule is written `PATTERN => FORMAT`");
        self.diagnostics.push(fault);
    }
}

/// Where the pattern that begins this line ends: at the first blank outside brackets.
fn pattern_end(line: &str) -> usize {
    let mut depth = 0_usize;
    let end = line.find(|character| {
        match character {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && matches!(character, ' ' | '\t')
    });
    end.unwrap_or(line.len())
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

/// What could have stood there, without doublets, the end of the line last.
fn expectations(positives: &[Rule]) -> Vec<&'static str> {
    const LINE_END: &str = "the end of the line";
    let mut words: Vec<&str> = Vec::new();
    for word in positives.iter().filter_map(|expected| words_for(*expected)) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    // Behind a value a call or an index can always follow.
    if words.len() > 1 {
        words.retain(|word| *word != "`(`");
    }
    words.sort_by_key(|word| *word == LINE_END);
    words
}

/// What to write instead, for slips from other languages.
fn hint(positives: &[Rule], text: &str, found: &Found) -> Option<&'static str> {
    let after_value = positives.contains(&Rule::infix);
    let before = text[..found.start].trim_end();
    Some(match found.text {
        "=" if after_value => "write `==` to compare",
        "and" | "&" if after_value => "write `&&`",
        "|" if after_value => "write `||`",
        "**" if after_value => "write `^` for a power",
        "*" if before.ends_with('*') => "write `^` for a power",
        "?" if after_value => "write `if CONDITION { A } else { B }`",
        "elif" | "elsif" => "write `else if`",
        ";" => "an item ends at the end of its line, without a `;`",
        "'" => "strings stand in double quotes",
        "#" => "comments begin with `//`",
        "{" if positives.contains(&Rule::pattern) => "the braces of a pattern close on the line on which they open",
        _ if after_value && leading_word(before.rsplit([' ', '\t', '(']).next().unwrap_or_default()) == "not" => {
            "write `!`"
        }
        _ => return None,
    })
}

/// What a rule is called in messages. None for what would only distract there.
fn words_for(expected: Rule) -> Option<&'static str> {
    Some(match expected {
        Rule::word | Rule::name | Rule::path | Rule::item_name => "a name",
        Rule::integer | Rule::float | Rule::digits => "a number",
        Rule::string | Rule::strings => "a string in double quotes",
        Rule::open_brace | Rule::declarations | Rule::statements | Rule::branch => "`{`",
        Rule::close_brace => "`}`",
        Rule::open_paren | Rule::parameters => "`(`",
        Rule::close_paren => "`)`",
        Rule::close_bracket => "`]`",
        Rule::comma => "`,`",
        Rule::colon => "`:`",
        Rule::equals => "`=`",
        Rule::arrow => "`=>`",
        Rule::range => "`..`",
        Rule::line_end | Rule::EOI => "the end of the line",
        Rule::kw_in => "`in`",
        Rule::kw_else => "`else`",
        Rule::tensors => "`tensors`",
        Rule::config => "`config`",
        Rule::kw_input => "`input`",
        Rule::kw_optional => "`optional`",
        Rule::pattern => "a pattern",
        Rule::format | Rule::format_name => "a format",
        Rule::expression | Rule::condition => "an expression",
        Rule::atom => "a value",
        Rule::argument => "an argument",
        Rule::infix => "an operator",
        Rule::declaration => "a declaration",
        Rule::statement => "a statement",
        _ => return None,
    })
}

/// Keywords and punctuation: rules only so that messages can name them.
pub(super) fn is_mark(part: Rule) -> bool {
    matches!(
        part,
        Rule::open_brace
            | Rule::close_brace
            | Rule::open_paren
            | Rule::close_paren
            | Rule::open_bracket
            | Rule::close_bracket
            | Rule::comma
            | Rule::colon
            | Rule::equals
            | Rule::arrow
            | Rule::range
            | Rule::line_end
            | Rule::kw_lathe
            | Rule::kw_spec
            | Rule::kw_model
            | Rule::kw_extends
            | Rule::kw_rules
            | Rule::kw_with
            | Rule::kw_input
            | Rule::kw_architectures
            | Rule::kw_let
            | Rule::kw_assert
            | Rule::kw_context
            | Rule::kw_repeat
            | Rule::kw_in
            | Rule::kw_if
            | Rule::kw_else
            | Rule::kw_ignore
            | Rule::kw_graph
            | Rule::kw_for
            | Rule::kw_return
    )
}
