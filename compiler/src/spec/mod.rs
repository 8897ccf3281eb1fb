//! Specs as the rest of the compiler reads them: loaded with all that they use and extend, names resolved, formats and
//! rotations checked against their tables. Everything here needs no model.
//!
//! ```text
//! text ─ grammar ─▶ ast::Spec ─ load ─▶ Loaded (bases first) ─ overrides ─▶ Loaded ─ check ─▶ Spec
//! ```
//!
//! A spec that extends another has the rules of its base before its own, so that its own decide; its `let`s replace those
//! of the base, also in the base's rules; so do its settings. Its rotations replace those of the base on each edge that both
//! ask for, which takes a model to tell.

mod elsewhere;
mod formats;
mod load;
mod names;
mod overrides;
mod parameters;
mod rotations;
mod shadow;
#[cfg(test)]
mod tests;
mod unbuilt;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lathe_grammar::ast::{self, Call};
use lathe_grammar::diag::Diagnostic;
use lathe_grammar::pattern::Pattern;
use lathe_grammar::span::{Span, Spanned};

pub use formats::{FORMATS, Format, FormatKind, Granularity, Indivisible, Role};
pub use load::{Loaded, load};
pub use overrides::{UNKNOWN_NAME, apply as apply_overrides};
pub use parameters::{Parameter, Type};
pub use rotations::{LAYER, ROTATIONS, RotationKind, SITES, Site, SiteKind, Turn};

pub use crate::texts::{Entry, FileError, Files, NoFiles, Place};

use names::Names;

/// What becomes of tables that several modules share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tied {
    /// One packed table for all of its readers.
    #[default]
    Share,
    /// A table for each reader.
    Split,
    /// Whichever is cheaper.
    Auto,
}

/// In which frame a table that several modules share is stored, where the residual stream is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TableBasis {
    /// In that of the stream: a lookup gives what the stream holds, and the head transforms what it reads.
    #[default]
    Rotated,
    /// As the checkpoint has it: one transform behind the lookup, one in front of the head.
    Original,
}

/// What operands of products and the KV cache may be rounded to. Activations between operations and sums are binary32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compute {
    /// Nothing: they are IEEE 754 binary32.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE 754 binary16.
    F16,
}

/// A setting that is one of a few words.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it decides, in one line.
    pub summary: &'static str,
    /// Its values with what they mean, the default first; whether this version can build each.
    pub values: &'static [(&'static str, &'static str, bool)],
}

/// The settings that are words, in the order in which listings show them.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "tied",
        summary: "what becomes of tables that several modules read",
        values: &[
            ("share", "a table that several modules read is stored once", true),
            ("split", "it is stored once for each of them", true),
            (
                "auto",
                "it is stored once, where rules give its readers several formats in the one that takes most bytes",
                true,
            ),
        ],
    },
    Setting {
        name: "table_basis",
        summary: "in which frame such tables are stored, where the residual stream is rotated",
        values: &[
            (
                "rotated",
                "a table is stored in the frame of the stream; what differs at the head is transformed there",
                true,
            ),
            (
                "original",
                "it is stored as it is, with a transform behind the lookup and one in front of the head",
                true,
            ),
        ],
    },
    Setting {
        name: "compute",
        summary: "what operands of products and the KV cache may be rounded to",
        values: &[
            ("f32", "nothing: they are binary32, as activations and sums always are", true),
            ("bf16", "bfloat16, on a device that is faster for it", true),
            ("f16", "binary16, on a device that is faster for it", false),
        ],
    },
];

/// What a rule states about one attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stated {
    /// The format; `None` when it had a mistake, which was reported.
    pub format: Option<Format>,
    /// Where it is stated.
    pub span: Span,
    /// Where its value is written: there, behind a `let`, or on the command line.
    pub origin: Span,
    /// Where the size of its group or block is written; all of it when there is none.
    pub size: Span,
}

impl Stated {
    fn new(call: &Spanned<Call>, role: Role, names: &Names<'_>, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let span = call.span;
        match formats::format(call, role, names, diagnostics) {
            Some(checked) => Stated { format: Some(checked.format), span, origin: checked.origin, size: checked.size },
            None => Stated { format: None, span, origin: span, size: span },
        }
    }

    /// Where its value is written, when that is another place.
    pub(crate) fn origin_elsewhere(&self) -> Option<Span> {
        Some(self.origin).filter(|origin| !self.holds(*origin))
    }

    /// Points at a part of what it states, and at the place that states it, when that is another.
    pub(crate) fn point_at(&self, diagnostic: Diagnostic, part: Span) -> Diagnostic {
        let diagnostic = diagnostic.label(part, "");
        if self.holds(part) { diagnostic } else { diagnostic.label(self.span, "used here") }
    }

    fn holds(&self, part: Span) -> bool {
        part.source == self.span.source && self.span.start <= part.start && part.end <= self.span.end
    }
}

/// A rule, checked.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which modules.
    pub pattern: Spanned<Pattern>,
    /// What their weights become.
    pub format: Option<Stated>,
    /// What their inputs become.
    pub input: Option<Stated>,
    /// Whether it may match nothing.
    pub optional: bool,
    /// The whole rule.
    pub span: Span,
    /// Which layer of the spec it stands in: 0 is the base of all.
    pub layer: usize,
    /// Whether it decides nothing for any model, which was reported.
    pub shadowed: bool,
    /// Whether all of it could be read.
    pub readable: bool,
}

/// A request for a rotation, checked.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Which edges.
    pub site: Spanned<Site>,
    /// Only those in, or into, what matches.
    pub within: Option<Spanned<Pattern>>,
    /// By what.
    pub turn: Turn,
    /// Whether an operation at run time is refused.
    pub offline: bool,
    /// Whether there may be no such edge.
    pub optional: bool,
    /// The whole request.
    pub span: Span,
    /// Which layer of the spec it stands in: 0 is the base of all.
    pub layer: usize,
}

/// A spec that is right as far as can be said without a model.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name.
    pub name: Spanned<String>,
    /// Definitions and model types that it is meant for; all when absent.
    pub models: Option<Spanned<Vec<Spanned<String>>>>,
    /// Those of the bases first. The last one that matches decides.
    pub rules: Vec<Rule>,
    /// Those of the bases first, without those that a later one of the same site and pattern replaces. On a model, each takes
    /// its edges from those of lower layers; one by `none` also from the others of its own.
    pub rotations: Vec<Rotation>,
    /// What cached keys and values become.
    pub kv_cache: Option<Stated>,
    /// What becomes of shared tables.
    pub tied: Tied,
    /// In which frame they are stored.
    pub table_basis: TableBasis,
    /// What operands of products may be rounded to.
    pub compute: Compute,
    /// The settings that are stated, with their values and where those stand.
    words: Vec<(&'static str, &'static str, Span)>,
}

/// Checks a loaded spec. Mistakes are added to `diagnostics`; the spec is returned as far as it is right. `None` for a text
/// that holds names only.
pub fn check(loaded: &Loaded, diagnostics: &mut Vec<Diagnostic>) -> Option<Spec> {
    let names = Names::of(loaded);
    let mut found = Vec::new();
    let mut rules = Vec::new();
    let mut rotations: Vec<Rotation> = Vec::new();
    let (mut models, mut kv_cache) = (None, None);
    let mut stated: BTreeMap<&str, &Spanned<String>> = BTreeMap::new();
    for (index, layer) in loaded.layers.iter().enumerate() {
        models = layer.models.clone().or(models);
        let before = rules.len();
        for rule in layer.rules.iter().flat_map(|rules| &rules.value) {
            let mut stated = |call: &Spanned<Call>, role: Role| Stated::new(call, role, &names, &mut found);
            rules.push(Rule {
                pattern: rule.pattern.clone(),
                format: rule.format.as_ref().map(|call| stated(call, Role::Weight)),
                input: rule.input.as_ref().map(|call| stated(call, Role::Input)),
                optional: rule.optional,
                span: rule.span,
                layer: index,
                shadowed: false,
                readable: rule.is_readable(),
            });
        }
        for (at, diagnostic) in shadow::shadowed(layer) {
            rules[before + at].shadowed = true;
            found.push(diagnostic);
        }
        let own = layer.rotate.iter().flat_map(|rotate| &rotate.value);
        let own: Vec<Rotation> = own.filter_map(|request| rotation(request, index, &names, &mut found)).collect();
        found.extend(requested_twice(&own));
        let replaced = |old: &Rotation| own.iter().any(|new| same_place(old, new));
        rotations.retain(|old| !replaced(old));
        rotations.extend(own);
        if let Some(call) = &layer.kv_cache {
            kv_cache = Some(Stated::new(call, Role::Cache, &names, &mut found));
        }
        stated.extend(layer.words().into_iter().filter_map(|(name, word)| Some((name, word?))));
    }
    let unused: Vec<&ast::Let> = names.lets().filter(|binding| !names.is_used(binding)).collect();
    for binding in unused {
        check_unused(binding, &names, &mut found);
    }
    if !found.iter().chain(diagnostics.iter()).any(Diagnostic::is_error) {
        found.extend(never_used(loaded, &names));
    }
    let words = SETTINGS.iter().filter_map(|setting| {
        let word = stated.get(setting.name)?;
        Some((setting.name, known_word(setting, word, &mut found)?, word.span))
    });
    let words: Vec<(&'static str, &'static str, Span)> = words.collect();
    let chosen = |name: &str| words.iter().find(|(known, ..)| *known == name).map(|(_, word, _)| *word);
    // One `let` can be used many times.
    let mut known = BTreeSet::new();
    found.retain(|fault| {
        let label = fault.labels.first();
        known.insert((fault.code, label.map(|label| label.span), fault.message.clone()))
    });
    diagnostics.extend(found);
    Some(Spec {
        name: loaded.layers.last()?.name.clone(),
        models,
        rules,
        rotations,
        kv_cache,
        tied: match chosen("tied") {
            Some("split") => Tied::Split,
            Some("auto") => Tied::Auto,
            _ => Tied::Share,
        },
        table_basis: match chosen("table_basis") {
            Some("original") => TableBasis::Original,
            _ => TableBasis::Rotated,
        },
        compute: match chosen("compute") {
            Some("bf16") => Compute::Bf16,
            Some("f16") => Compute::F16,
            _ => Compute::F32,
        },
        words,
    })
}

fn same_place(a: &Rotation, b: &Rotation) -> bool {
    let within = |request: &Rotation| request.within.as_ref().map(|pattern| pattern.value.to_string());
    let is_readable = a.within.as_ref().is_none_or(|pattern| pattern.value.is_readable());
    is_readable && a.site.value == b.site.value && within(a) == within(b)
}

/// A request of one spec for the same site and pattern as an earlier one.
fn requested_twice(requests: &[Rotation]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (i, request) in requests.iter().enumerate() {
        if let Some(first) = requests[..i].iter().find(|earlier| same_place(earlier, request)) {
            let message = "two rotations are asked for on the same edges";
            let diagnostic = Diagnostic::error("S0403", message).label(request.span, "");
            found.push(diagnostic.label(first.span, "the first one").help("write one request, or drop one of them"));
        }
    }
    found
}

fn rotation(
    request: &ast::Rotation,
    layer: usize,
    names: &Names<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Rotation> {
    let turn = rotations::rotation(&request.by, names, diagnostics);
    let written = &request.site;
    let Some(kind) = SiteKind::find(&written.value) else {
        let known: Vec<&str> = SITES.iter().map(|kind| kind.name).collect();
        let diagnostic = Diagnostic::error("S0401", format!("`{}` is no site", written.value)).label(written.span, "");
        let also = SITES.iter().find(|kind| !kind.also.is_empty() && kind.also.eq_ignore_ascii_case(&written.value));
        let near = also.map(|kind| kind.name).or_else(|| elsewhere::near(&written.value, known.iter().copied()));
        let help = elsewhere::site(&written.value).unwrap_or_else(|| match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the sites are {}", known.join(", ")),
        });
        diagnostics.push(diagnostic.help(help));
        return None;
    };
    let by = if request.by.value.is_readable() { request.by.value.to_string() } else { "ROTATION".to_owned() };
    match (kind.pattern, &request.within) {
        (Some(true), None) => {
            let message = format!("`{}` needs a pattern: the input of which modules?", kind.name);
            let help = format!("write `{} of PATTERN by {by}`", kind.name);
            diagnostics.push(Diagnostic::error("S0206", message).label(written.span, "").help(help));
            return None;
        }
        (None, Some(pattern)) => {
            let message = format!("`{}` takes no pattern: it is one stream through the whole model", kind.name);
            let help = format!("write `{} by {by}`", kind.name);
            diagnostics.push(Diagnostic::error("S0203", message).label(pattern.span, "").help(help));
            return None;
        }
        _ => {}
    }
    let turn = turn?;
    if let Some(reason) = rotations::refused(&turn, kind.site) {
        let message = format!("`{turn}` cannot act on `{}`", kind.name);
        let fault = Diagnostic::error("S0409", message).label(request.by.span, "").label(written.span, "this site");
        diagnostics.push(fault.note(reason));
        return None;
    }
    Some(Rotation {
        site: Spanned::new(kind.site, written.span),
        within: request.within.clone(),
        turn,
        offline: request.offline,
        optional: request.optional,
        span: request.span,
        layer,
    })
}

/// The value of a setting.
fn known_word(setting: &Setting, word: &Spanned<String>, diagnostics: &mut Vec<Diagnostic>) -> Option<&'static str> {
    let name = setting.name;
    let listed: Vec<&'static str> = setting.values.iter().map(|(value, ..)| *value).collect();
    let found = listed.iter().copied().find(|value| *value == word.value);
    if found.is_none() {
        let message = format!("`{name}` is {}, found `{}`", parameters::one_of(&listed), word.value);
        let diagnostic = Diagnostic::error("S0501", message).label(word.span, "");
        let help = elsewhere::format(&word.value)
            .filter(|_| name == "compute")
            .or_else(|| elsewhere::near(&word.value, listed).map(|near| format!("did you mean `{near}`?")));
        diagnostics.push(Diagnostic { help, ..diagnostic });
    }
    found
}

/// The `let`s of the spec itself that nothing uses. Those of a base may be there for others that extend it.
fn never_used(loaded: &Loaded, names: &Names<'_>) -> Vec<Diagnostic> {
    let own = loaded.layers.last().into_iter().flat_map(|layer| &layer.lets);
    let unused = own.filter(|binding| !names.is_used(binding));
    let warning = |binding: &ast::Let| {
        let message = format!("`{}` is bound and never used", binding.name.value);
        Diagnostic::warning("S0107", message)
            .label(binding.name.span, "")
            .help("drop it, or write it where it was meant")
    };
    unused.map(warning).collect()
}

/// A `let` that nothing uses is looked at too.
fn check_unused(binding: &ast::Let, names: &Names<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(call) = names::as_call(&binding.value) else { return };
    let mut silent = Vec::new();
    let Some((meant, _)) = names.call(&call, diagnostics) else { return };
    let name = &meant.value.name.value;
    if RotationKind::find(name).is_some() {
        rotations::rotation(&call, names, diagnostics);
        return;
    }
    if FormatKind::find(name).is_none() && meant.value.args.is_empty() {
        // A word for an argument, such as `let how = mse`.
        return;
    }
    // It is right when it can stand in one role.
    let roles = [Role::Weight, Role::Input, Role::Cache];
    if roles.iter().all(|role| formats::format(&call, *role, names, &mut silent).is_none()) {
        formats::format(&call, Role::Weight, names, diagnostics);
    }
}

impl fmt::Display for Tied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tied::Share => "share",
            Tied::Split => "split",
            Tied::Auto => "auto",
        })
    }
}

impl fmt::Display for TableBasis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableBasis::Rotated => "rotated",
            TableBasis::Original => "original",
        })
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compute::F32 => "f32",
            Compute::Bf16 => "bf16",
            Compute::F16 => "f16",
        })
    }
}
