//! `--set NAME=VALUE` and `--set NAME.ARGUMENT=VALUE`: a spec with other values, without touching its file.

use lathe_grammar::ast::{Arg, Call, Expr, ExprKind, Let, Rotation, Spec};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::{SourceId, Sources, Span, Spanned};

use super::SETTINGS;
use super::elsewhere::near;
use super::load::Loaded;
use super::names::{Names, as_call};
use super::rotations::{RotationKind, SITES};

/// Begins what is said of a name that a spec does not have.
pub const UNKNOWN_NAME: &str = "the spec has no `let` or setting";

/// One override, read.
#[derive(Debug)]
struct Override {
    name: Spanned<String>,
    argument: Option<Spanned<String>>,
    value: Expr,
}

/// Applies overrides to a spec that has been loaded, in their order.
pub fn apply(overrides: &[String], loaded: &mut Loaded, sources: &mut Sources, diagnostics: &mut Vec<Diagnostic>) {
    for text in overrides {
        let source = sources.add("--set", text.clone());
        let Some(setting) = read(text, source, sources, diagnostics) else { continue };
        if let Err(diagnostic) = set(setting, loaded) {
            diagnostics.push(*diagnostic);
        }
    }
}

fn read(text: &str, source: SourceId, sources: &Sources, diagnostics: &mut Vec<Diagnostic>) -> Option<Override> {
    let Some(equals) = text.find('=') else {
        let diagnostic = Diagnostic::error("S0007", "expected NAME=VALUE or NAME.ARGUMENT=VALUE, found no `=`");
        let help = "as in `--set body.group=64` or `--set \"body=int8(per: channel)\"`";
        diagnostics.push(diagnostic.label(Span::new(source, 0..text.len()), "").help(help));
        return None;
    };
    let part = |start: usize, end: usize| {
        let written = &text[start..end];
        let start = start + written.len() - written.trim_start().len();
        Spanned::new(written.trim().to_owned(), Span::new(source, start..start + written.trim().len()))
    };
    let (name, argument) = match text[..equals].rfind('.') {
        Some(dot) => (part(0, dot), Some(part(dot + 1, equals))),
        None => (part(0, equals), None),
    };
    if name.value.is_empty() || argument.as_ref().is_some_and(|argument| argument.value.is_empty()) {
        let message = "expected NAME=VALUE or NAME.ARGUMENT=VALUE, found no name";
        diagnostics.push(fault(message, Span::new(source, 0..equals + 1)));
        return None;
    }
    let (value, faults) = lathe_grammar::parse_value(sources, source, equals + 1..text.len());
    diagnostics.extend(faults);
    Some(Override { name, argument, value: value? })
}

fn set(setting: Override, loaded: &mut Loaded) -> Result<(), Box<Diagnostic>> {
    let Override { name, argument, value } = setting;
    let found = in_sight(loaded).find(|binding| binding.name.value == name.value).cloned();
    if let Some(binding) = found {
        let value = match argument {
            None => value,
            Some(argument) => {
                let call = as_call(&binding.value).and_then(|call| behind(&call, loaded));
                let Some(mut call) = call else {
                    let message = format!("`{}` stands for {}, which takes no arguments", name.value, binding.value);
                    return Err(fault(message, argument.span).label(binding.value.span, "bound here").into());
                };
                replace(&mut call.value, argument, value);
                as_expression(call)
            }
        };
        bind(loaded, &name.value, &value);
        return Ok(());
    }
    match (name.value.as_str(), argument) {
        (unknown, _) if loaded.layers.is_empty() => {
            let message = format!("there is no `let` `{unknown}`, and no spec that could have settings");
            return Err(fault(message, name.span).into());
        }
        ("kv_cache", None) => {
            let call = as_call(&value).ok_or_else(|| not_a("a format", &value))?;
            last(loaded).kv_cache = Some(call);
        }
        ("kv_cache", Some(argument)) => {
            let stated = loaded.layers.iter().rev().find_map(|layer| layer.kv_cache.as_ref());
            let Some(mut call) = stated.and_then(|call| behind(call, loaded)) else {
                return Err(fault("the spec has no `kv_cache`", name.span)
                    .help("give it all: `kv_cache=FORMAT`")
                    .into());
            };
            replace(&mut call.value, argument, value);
            last(loaded).kv_cache = Some(call);
        }
        (setting, argument) if SETTINGS.iter().any(|known| known.name == setting) => {
            if let Some(argument) = argument {
                return Err(fault(format!("`{setting}` takes no arguments"), argument.span).into());
            }
            let ExprKind::Name(word) = &value.kind else { return Err(not_a("a word", &value)) };
            let stated = last(loaded).word_mut(setting).expect("invariant: settings are sections of a spec");
            *stated = Some(Spanned::new(word.clone(), value.span));
        }
        (site, argument) if SITES.iter().any(|kind| kind.name == site) => {
            let call = match argument {
                None => as_call(&value).ok_or_else(|| not_a("a rotation", &value))?,
                Some(argument) => {
                    let stated = requests(loaded, site).first().map(|request| request.by.clone());
                    let mut call = stated.and_then(|call| behind(&call, loaded)).ok_or_else(|| {
                        Box::new(fault(format!("the spec has no rotation for the site `{site}`"), name.span))
                    })?;
                    replace(&mut call.value, argument, value);
                    call
                }
            };
            match &mut requests(loaded, site)[..] {
                [request] => request.by = call,
                other => {
                    let message = format!("expected one request for the site `{site}`, found {}", other.len());
                    return Err(fault(message, name.span).help("give its rotation a `let`, and set that").into());
                }
            }
        }
        (unknown, _) => {
            let lets: Vec<String> = in_sight(loaded).map(|binding| binding.name.value.clone()).collect();
            let settings: Vec<&str> = ["kv_cache"].into_iter().chain(SETTINGS.iter().map(|known| known.name)).collect();
            let known = lets.iter().map(String::as_str).chain(settings.iter().copied());
            let diagnostic = fault(format!("{UNKNOWN_NAME} `{unknown}`"), name.span);
            return Err(match near(unknown, known) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")).into(),
                None if lets.is_empty() => {
                    diagnostic.help(format!("it has no `let`; its settings are {}", settings.join(", "))).into()
                }
                None => {
                    let (lets, settings) = (lets.join(", "), settings.join(", "));
                    diagnostic.help(format!("its `let`s are {lets}; its settings {settings}")).into()
                }
            });
        }
    }
    Ok(())
}

fn fault(message: impl Into<String>, span: Span) -> Diagnostic {
    Diagnostic::error("S0007", message).label(span, "")
}

fn not_a(what: &str, value: &Expr) -> Box<Diagnostic> {
    fault(format!("expected {what}, found {value}"), value.span).into()
}

fn last(loaded: &mut Loaded) -> &mut Spec {
    loaded.layers.last_mut().expect("settings are set where there is a spec")
}

/// The `let`s that rules can name, those that hide others first.
fn in_sight(loaded: &Loaded) -> impl Iterator<Item = &Let> {
    let specs = loaded.layers.iter().rev().flat_map(|layer| &layer.lets);
    specs.chain(loaded.file_lets.values().flatten())
}

/// Gives a `let` another value: that of a spec that nothing hides, else those of all files, of which each has its own copy.
fn bind(loaded: &mut Loaded, name: &str, value: &Expr) {
    let is_meant = |binding: &&mut Let| binding.name.value == name;
    if let Some(binding) = loaded.layers.iter_mut().rev().flat_map(|layer| &mut layer.lets).find(is_meant) {
        binding.value = value.clone();
        return;
    }
    for binding in loaded.file_lets.values_mut().flatten().filter(is_meant) {
        binding.value = value.clone();
    }
}

/// The requests for a site, of the last layer that has any.
fn requests<'l>(loaded: &'l mut Loaded, site: &str) -> Vec<&'l mut Rotation> {
    let of_layer = |layer: &'l mut Spec| -> Vec<&'l mut Rotation> {
        let requests = layer.rotate.iter_mut().flat_map(|rotate| &mut rotate.value);
        requests.filter(|request| request.site.value == site).collect()
    };
    loaded.layers.iter_mut().rev().map(of_layer).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The call that a format or rotation is once its `let`s are followed.
fn behind(call: &Spanned<Call>, loaded: &Loaded) -> Option<Spanned<Call>> {
    // What is wrong with a `let` is said when the spec is checked.
    let (call, _) = Names::of(loaded).call(call, &mut Vec::new())?;
    Some(call.into_owned())
}

/// Gives an argument another value, or adds it. What says the same in another way goes.
pub(super) fn replace(call: &mut Call, name: Spanned<String>, value: Expr) {
    const SAME: &[&str] = &["group", "per", "block"];
    let is_same = |other: &str| other == name.value || (SAME.contains(&other) && SAME.contains(&name.value.as_str()));
    let in_place = RotationKind::find(&call.name.value).and_then(|kind| kind.place(&name.value));
    if let Some(arg) = in_place.and_then(|place| call.args.get_mut(place)).filter(|arg| arg.name.is_none()) {
        arg.value = value;
        return;
    }
    let found = call.args.iter().position(|arg| arg.name.as_ref().is_some_and(|other| is_same(&other.value)));
    let arg = Arg { name: Some(name), value };
    match found {
        Some(index) => call.args[index] = arg,
        None => call.args.push(arg),
    }
}

fn as_expression(call: Spanned<Call>) -> Expr {
    let span = call.span;
    let Call { name, args } = call.value;
    let callee = Expr { kind: ExprKind::Name(name.value), span: name.span };
    if args.is_empty() { callee } else { Expr { kind: ExprKind::Call { callee: Box::new(callee), args }, span } }
}
