//! Formatting: a text in its canonical form, with its comments, and in its order.
//!
//! Comments on a line of their own stay before what follows them, comments behind something stay behind it; one inside
//! an expression moves before the line. At most one blank line is kept between two lines, none at the ends of a block.

mod comments;
mod dsl;
mod lines;
mod writer;
mod yaml;

use crate::ast::File;
use crate::diag::Diagnostic;
use crate::parse::{is_yaml, parse};
use crate::span::{SourceId, Sources, Span};
use crate::yaml::value;

/// Formats a text: YAML when the name of the source ends in `.yaml` or `.yml`, else the Lathe language. What the text
/// says stays the same, and so do its comments; formatting what is formatted changes nothing.
///
/// # Errors
/// The mistakes of a text that has some, or why the text is left as it is.
///
/// ```
/// use lathe_grammar::span::Sources;
///
/// let mut sources = Sources::new();
/// let source = sources.add("mine.lathe", "lathe 1\nspec mine {rules {\n**=>keep//all\nmlp.*  =>  keep }}");
///
/// let formatted = lathe_grammar::format(&sources, source).unwrap();
///
/// assert_eq!(formatted, "\
/// lathe 1
///
/// spec mine {
///     rules {
///         **    => keep  //all
///         mlp.* => keep
///     }
/// }
/// ");
/// ```
pub fn format(sources: &Sources, source: SourceId) -> Result<String, Vec<Diagnostic>> {
    let before = read(sources, source)?;
    let mut again = Sources::new();
    let formatted = again.add(sources.get(source).name.clone(), before.formatted.clone());
    // What would not say the same is our mistake, and must not reach a file.
    let is_same =
        read(&again, formatted).is_ok_and(|after| after.file == before.file && after.comments == before.comments);
    if is_same {
        return Ok(before.formatted);
    }
    let fault = Diagnostic::error("F0001", "this file is not formatted: what it says would change");
    Err(vec![fault.label(Span::new(source, 0..0), "").note("this is a mistake in Lathe")])
}

/// Where the comments of a text stand, without the blanks behind them. `None` when they cannot be told from the rest: in
/// YAML that `format` leaves as it is.
pub fn comments(sources: &Sources, source: SourceId) -> Option<Vec<Span>> {
    let entry = sources.get(source);
    let trivia = if is_yaml(&entry.name) {
        let root = value::read(&entry.text).ok()?;
        yaml::scan(&entry.text, &root).ok()?
    } else {
        comments::scan(&entry.text)
    };
    Some(trivia.comments.into_iter().map(|comment| Span::new(source, comment)).collect())
}

/// A text without mistakes.
struct Read {
    file: File,
    comments: Vec<String>,
    formatted: String,
}

fn read(sources: &Sources, source: SourceId) -> Result<Read, Vec<Diagnostic>> {
    let parsed = parse(sources, source);
    let file = match parsed.file {
        Some(file) if !parsed.diagnostics.iter().any(Diagnostic::is_error) => file,
        _ => return Err(parsed.diagnostics),
    };
    let entry = sources.get(source);
    let text = entry.text.as_str();
    let texts =
        |trivia: &writer::Trivia| trivia.comments.iter().map(|comment| text[comment.clone()].to_owned()).collect();
    let (comments, entries) = if is_yaml(&entry.name) {
        let refused = |at| {
            let fault = Diagnostic::error("F0001", "a file with this YAML is not formatted");
            let help =
                "lists, mappings, numbers and texts on one line are; write out what anchors and aliases stand for";
            vec![fault.label(Span::new(source, at), "").help(help)]
        };
        let root = value::read(text).map_err(|fault| refused(fault.at..fault.at))?;
        let trivia = yaml::scan(text, &root).map_err(refused)?;
        (texts(&trivia), yaml::entries(text, trivia, &root))
    } else {
        let trivia = comments::scan(text);
        (texts(&trivia), dsl::entries(text, trivia, &file))
    };
    Ok(Read { file, comments, formatted: lines::render(&entries) })
}
