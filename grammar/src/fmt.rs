//! Formatting: a text in its canonical form, with its comments, and in its order.
//!
//! Comments on a line of their own stay before what follows them, comments behind something stay behind it; one inside
//! an expression moves before the line. At most one blank line is kept between two lines, none at the ends of a block.

mod comments;
mod dsl;
mod lines;

use crate::ast::File;
use crate::diag::Diagnostic;
use crate::parse::{is_yaml, parse};
use crate::span::{SourceId, Sources, Span};

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
    let file = parse_whole(sources, source)?;
    let entry = sources.get(source);
    if is_yaml(&entry.name) {
        let message = format!("{} is left as it is: specs in YAML are not formatted", entry.name);
        return Err(vec![Diagnostic::error("F0001", message).label(Span::new(source, 0..0), "")]);
    }
    let formatted = lines::render(&dsl::entries(&entry.text, &file));
    let mut again = Sources::new();
    let formatted_source = again.add(entry.name.clone(), formatted);
    let formatted = &again.get(formatted_source).text;
    let is_same = parse_whole(&again, formatted_source).is_ok_and(|parsed| parsed == file)
        && comments::texts(formatted) == comments::texts(&entry.text);
    if is_same {
        return Ok(formatted.clone());
    }
    let message = format!("{} is left as it is: formatting would change what it says", entry.name);
    let fault = Diagnostic::error("F0001", message).label(Span::new(source, 0..0), "");
    Err(vec![fault.note("this is a mistake in Lathe")])
}

/// The AST of a text without mistakes.
fn parse_whole(sources: &Sources, source: SourceId) -> Result<File, Vec<Diagnostic>> {
    let parsed = parse(sources, source);
    match parsed.file {
        Some(file) if !parsed.diagnostics.iter().any(Diagnostic::is_error) => Ok(file),
        _ => Err(parsed.diagnostics),
    }
}
