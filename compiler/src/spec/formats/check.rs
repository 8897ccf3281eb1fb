//! Formats as they are written, checked against the table.

use lathe_grammar::ast::Call;
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{Span, Spanned};

use super::{ANYWHERE, Element, FORMATS, Format, FormatKind, Granularity, Role};
use crate::spec::elsewhere;
use crate::spec::names::Names;
use crate::spec::parameters::{Arguments, Value, bind, place};
use crate::spec::rotations::RotationKind;

/// A format that is right.
#[derive(Debug, Clone, Copy)]
pub(in crate::spec) struct Checked {
    pub(in crate::spec) format: Format,
    /// Where its value is written: behind a `let`, or on the command line.
    pub(in crate::spec) origin: Span,
    /// Its group or block; the whole when it states none.
    pub(in crate::spec) size: Span,
}

/// Checks a format that stands in `role`. `None` when there is a mistake; every one has been reported.
pub(in crate::spec) fn format(
    call: &Spanned<Call>,
    role: Role,
    names: &Names<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Checked> {
    if !call.value.is_readable() {
        return None;
    }
    let (meant, used) = names.call(call, diagnostics)?;
    let name = &meant.value.name;
    let mut report = |mut diagnostic: Diagnostic| {
        if let Some(used) = used {
            diagnostic = diagnostic.label(used, "used here");
        }
        diagnostics.push(diagnostic);
        None
    };
    let Some(kind) = FormatKind::find(&name.value) else {
        if names.is_lost(&name.value) {
            return None;
        }
        let diagnostic = Diagnostic::error("S0201", format!("`{}` is no format", name.value)).label(name.span, "");
        return report(diagnostic.help(help_for_unknown(name, names)));
    };
    if !kind.roles.contains(&role) {
        let message = format!("`{}` is no format for {}", kind.name, role.name());
        let roles: Vec<&str> = kind.roles.iter().map(|role| role.name()).collect();
        let help = format!("it is one for {}", roles.join(" and "));
        return report(Diagnostic::error("S0208", message).label(name.span, "").help(help));
    }
    if kind.element == Element::Kept {
        let exact = match &meant.value.args[..] {
            [] => false,
            [arg] if arg.name.is_none() && arg.value.to_string() == "exact" => true,
            [first, ..] => {
                let span = first.name.as_ref().map_or(first.value.span, |name| name.span.to(first.value.span));
                let message = "`keep` takes no argument but `exact`";
                return report(Diagnostic::error("S0203", message).label(span, "").help("write `keep(exact)`"));
            }
        };
        if exact && role != Role::Weight {
            let message = format!("`keep(exact)` is for weights, found it for {}", role.name());
            return report(Diagnostic::error("S0208", message).label(meant.span, "").help("write `keep`"));
        }
        let format = Format { exact, ..Format::KEEP };
        return Some(Checked { format, origin: meant.span, size: meant.span });
    }
    let before = diagnostics.len();
    let arguments = bind(kind.name, (kind.parameters, 0), &meant.value.args, names, diagnostics);
    let checked = arguments.and_then(|arguments| {
        let format = typed(kind, &arguments, meant.span, role, diagnostics)?;
        let size = arguments.find("group").or(arguments.find("block")).map_or(meant.span, |value| value.span);
        Some(Checked { format, origin: arguments.foreign(meant.span.source).unwrap_or(meant.span), size })
    });
    if let Some(used) = used {
        for diagnostic in &mut diagnostics[before..] {
            if diagnostic.labels.len() == 1 {
                *diagnostic = diagnostic.clone().label(used, "used here");
            }
        }
    }
    checked
}

/// What was probably meant by a name that is no format.
fn help_for_unknown(name: &Spanned<String>, names: &Names<'_>) -> String {
    let written = name.value.as_str();
    if let Some(help) = elsewhere::format(written) {
        return help;
    }
    if RotationKind::find(written).is_some() {
        return "it is a rotation: those stand in `rotate`".into();
    }
    let known = FORMATS.iter().map(|kind| kind.name).chain(names.names_at(name.span.source));
    match elsewhere::near(written, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`lathe list formats` shows all".into(),
    }
}

fn typed(
    kind: &'static FormatKind,
    arguments: &Arguments,
    call: Span,
    role: Role,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Format> {
    let before = diagnostics.len();
    let granularity = granularity(kind, arguments, call, role, diagnostics);
    let only = |name: &str, holds: bool, whom: &str, diagnostics: &mut Vec<Diagnostic>| {
        if let Some(given) = arguments.find(name).filter(|_| !holds) {
            let message = format!("`{name}` is for {whom}, found it for {}", role.name());
            diagnostics.push(Diagnostic::error("S0208", message).label(given.span, ""));
        }
    };
    only("fit", role == Role::Weight, "weights", diagnostics);
    only("scales", role == Role::Weight, "weights", diagnostics);
    only("sparse", role == Role::Weight, "weights", diagnostics);
    only("scale", role != Role::Weight, "activations and caches", diagnostics);
    if diagnostics.len() > before {
        return None;
    }
    let unless = |name: &str, default: &str| arguments.word(name).filter(|word| *word != default);
    Some(Format {
        kind,
        granularity: granularity?,
        symmetric: arguments.flag("symmetric").unwrap_or(true),
        exact: false,
        sparse: arguments.word("sparse").is_some(),
        fit: unless("fit", "absmax"),
        scale: unless("scale", "dynamic"),
        scales: unless("scales", "bf16"),
        values: arguments
            .word("element")
            .filter(|word| kind.parameters.iter().all(|known| known.default != Some(word))),
    })
}

fn granularity(
    kind: &FormatKind,
    arguments: &Arguments,
    call: Span,
    role: Role,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Granularity> {
    let name = kind.name;
    let given: Vec<&str> =
        ["group", "per", "block"].into_iter().filter(|name| arguments.find(name).is_some()).collect();
    if let [first, second, ..] = given[..] {
        let message = format!("`{first}` and `{second}` of `{name}` both say what shares a scale");
        diagnostics.push(
            Diagnostic::error("S0207", message)
                .label(place(arguments, second, call), "")
                .label(place(arguments, first, call), "said here"),
        );
        return None;
    }
    match arguments.find("per").or(arguments.find("block")).map(|value| (&value.value, value.span)) {
        Some((Value::Word(word), span)) => {
            let (granularity, allowed): (_, &[Role]) = match *word {
                "tensor" => (Granularity::Tensor, ANYWHERE),
                "channel" => (Granularity::Channel, &[Role::Weight, Role::Cache]),
                "token" => (Granularity::Token, &[Role::Input, Role::Cache]),
                _ => (Granularity::Head, &[Role::Cache]),
            };
            if allowed.contains(&role) {
                return Some(granularity);
            }
            let whom: Vec<&str> = allowed.iter().map(|role| role.name()).collect();
            let message = format!("`per: {word}` is for {}, found it for {}", whom.join(" and "), role.name());
            diagnostics.push(Diagnostic::error("S0208", message).label(span, "").help(match role {
                Role::Weight => "weights share a scale `per: channel` or in a `group: N`",
                Role::Input => "activations share a scale `per: token`, `per: tensor` or in a `group: N`",
                Role::Cache => "caches share a scale `per: head`, `per: token`, `per: channel` or `per: tensor`",
            }));
            None
        }
        Some((Value::Block(rows, columns), span)) => {
            if role == Role::Weight {
                return Some(Granularity::Block(*rows as u64, *columns as u64));
            }
            let message = format!("`block` is for weights, found it for {}", role.name());
            diagnostics.push(Diagnostic::error("S0208", message).label(span, ""));
            None
        }
        _ => {
            if let Some(size) = arguments.integer("group") {
                return Some(Granularity::Group(size as u64));
            }
            if !kind.takes("group") {
                return Some(Granularity::Tensor);
            }
            let (message, help) = if kind.takes("per") {
                let per = match role {
                    Role::Weight => "channel",
                    Role::Input => "token",
                    Role::Cache => "head",
                };
                let help = format!("write `{name}(per: {per})`, or `{name}(group: 128)`");
                (format!("`{name}` is not told what shares a scale: `group` or `per` is missing"), help)
            } else {
                (format!("`{name}` needs the argument `group`"), format!("write `{name}(group: 64)`"))
            };
            diagnostics.push(Diagnostic::error("S0206", message).label(call, "").help(help));
            None
        }
    }
}
