//! Declarations for tensors that a definition leaves out: what their names, shapes and the config lead one to expect.
//!
//! It is a guess about what a matrix is for, never about what is stored: pasted into the definition, every tensor that
//! it speaks of is claimed. Fused tensors are taken as one module, which is up to the reader to take apart.

mod sizes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use lathe_grammar::pattern::parse_index;
use lathe_grammar::span::Sources;

use self::sizes::{Place, Sizes};
use crate::model::{Config, Tensor};

/// Most modules that are suggested, and most of them in one tensor.
const MAX_MODULES: u64 = 1 << 18;

/// Longest suggestion in bytes; nobody reads a longer one.
const MAX_TEXT: usize = 1 << 16;

/// Most modules that one declaration names.
const MAX_ALIKE: usize = 4;

/// Variables of repetitions within each other; those of experts are called by their letter.
const VARIABLES: [&str; 3] = ["i", "j", "k"];
const EXPERT: &str = "e";

/// Stands in a constructor for the index of the module.
const INDEX: &str = "#";

/// What a definition has already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Declared {
    /// A head.
    pub(super) head: bool,
    /// Something that looks up tokens.
    pub(super) embedding: bool,
}

/// Declarations that claim `tensors`, as they can stand in a model. `None` when there is nothing that can be written.
pub(super) fn declarations(tensors: &[&Tensor], config: &Config, declared: Declared) -> Option<String> {
    let mut guess = Guess { sizes: Sizes::new(config), modules: Vec::new(), ignored: BTreeSet::new(), table: None };
    let stored: BTreeMap<&str, &Tensor> = tensors.iter().map(|tensor| (tensor.name.as_str(), *tensor)).collect();
    let mut has_head = declared.head;
    let tables: Vec<&Tensor> = stored.values().copied().filter(|tensor| guess.is_table(tensor)).collect();
    if !declared.embedding {
        let by_name = tables.iter().find(|table| ["emb", "wte", "tok"].iter().any(|word| table.name.contains(word)));
        guess.table = by_name.or(tables.first()).map(|table| module_of(&table.name).to_owned());
    }
    for tensor in stored.values() {
        has_head |= guess.is_table(tensor) && guess.table.as_deref() != Some(module_of(&tensor.name));
        guess.tensor(tensor, &stored);
    }
    if let (Some(table), false) = (guess.table.clone(), has_head)
        && let [rows, width] = stored.get(format!("{table}.weight").as_str())?.shape[..]
    {
        let constructor = guess.head(rows, width, false);
        guess.modules.push(Module { path: vec!["lm_head".to_owned()], constructor });
    }
    let text = guess.text();
    if text.is_empty() || text.len() > MAX_TEXT { None } else { formatted(&text) }
}

/// The text as `lathe fmt` would write it; `None` when a name of a tensor is none of the language.
fn formatted(declarations: &str) -> Option<String> {
    let mut sources = Sources::new();
    let source = sources.add("suggestion.lathe", format!("lathe 1\nmodel suggestion {{\n{declarations}}}\n"));
    let text = lathe_grammar::format(&sources, source).ok()?;
    let lines: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("model ")).skip(1).collect();
    let body = lines.split_last()?.1.iter().map(|line| line.strip_prefix("    ").unwrap_or(line));
    Some(body.collect::<Vec<_>>().join("\n"))
}

/// A module that is suggested.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Module {
    path: Vec<String>,
    constructor: String,
}

struct Guess {
    sizes: Sizes,
    modules: Vec<Module>,
    /// Patterns of tensors that no module can read.
    ignored: BTreeSet<String>,
    /// Path of the embedding.
    table: Option<String>,
}

/// The name of a tensor without its last segment.
pub(super) fn module_of(tensor: &str) -> &str {
    tensor.rsplit_once('.').map_or("", |(module, _)| module)
}

fn is_index(segment: &str) -> bool {
    parse_index(segment).is_some()
}

fn segments(path: &str) -> Vec<String> {
    path.split('.').map(str::to_owned).collect()
}

/// Whether a name of a tensor can be the path of a module.
fn is_path(name: &str) -> bool {
    let is_name = |segment: &str| {
        segment.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && segment.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut segments = name.split('.');
    segments.next().is_some_and(is_name) && segments.all(|segment| is_index(segment) || is_name(segment))
}

/// The call that reads a tensor from within the outermost repetition around its module. `None` where it would stand in no
/// block of modules, in whose path its name could go on, and has more than one index.
fn stored(name: &str) -> Option<String> {
    let all = segments(name);
    let Some(at) = all.iter().position(|segment| is_index(segment)) else { return Some(format!("stored(\"{name}\")")) };
    let (container, rest) = (all[..at].join("."), all[at + 1..].join("."));
    match &all[at + 1..] {
        [first, _, ..] if !is_index(first) => Some(format!("stored(\".{rest}\")")),
        [leaf] if !is_index(leaf) => Some(format!("stored(\"{container}.\" + {INDEX} + \".{leaf}\")")),
        _ => None,
    }
}

/// The bias that comes with a weight.
fn bias_of<'t>(weight: &Tensor, all: &BTreeMap<&str, &'t Tensor>) -> Option<&'t Tensor> {
    let module = weight.name.strip_suffix(".weight");
    let name = match module {
        Some(module) => format!("{module}.bias"),
        None => format!("{}_bias", weight.name),
    };
    let bias = *all.get(name.as_str())?;
    let fits = match (&bias.shape[..], &weight.shape[..]) {
        ([bias], [weight]) => bias == weight && module.is_some(),
        ([_, _], [_, _]) => bias.shape == weight.shape && is_norm(module_of(&weight.name)),
        ([bias], [rows, columns]) => bias == rows || bias == columns,
        ([stack, bias], [count, rows, columns]) => stack == count && (bias == rows || bias == columns),
        _ => false,
    };
    fits.then_some(bias)
}

/// Whether the last part of a path calls itself a norm.
fn is_norm(path: &str) -> bool {
    path.rsplit('.').next().is_some_and(|name| name.contains("norm"))
}

impl Guess {
    /// Whether it has a row for each token, and stands in no layer.
    fn is_table(&self, tensor: &Tensor) -> bool {
        match tensor.shape[..] {
            [rows, _] => {
                tensor.name.ends_with(".weight")
                    && !tensor.name.split('.').any(is_index)
                    && self.sizes.vocabulary(rows).is_some()
            }
            _ => false,
        }
    }

    fn head(&self, rows: u64, width: u64, bias: bool) -> String {
        let vocabulary = self.sizes.vocabulary(rows).unwrap_or_else(|| rows.to_string());
        let tie = self
            .table
            .as_ref()
            .map_or_else(String::new, |table| format!(", tied_to: {table}, tied: config.tie_word_embeddings or null"));
        format!("head({}, {vocabulary}{}{tie})", self.sizes.width(width, Place::Other), with_bias(bias))
    }

    fn push(&mut self, path: &str, constructor: String) {
        if (self.modules.len() as u64) < MAX_MODULES {
            self.modules.push(Module { path: segments(path), constructor });
        }
    }

    /// Adds what reads this tensor. A bias comes with its weight.
    fn tensor(&mut self, tensor: &Tensor, all: &BTreeMap<&str, &Tensor>) {
        let name = tensor.name.as_str();
        if tensor.stored_dtype().is_none() || tensor.shape.contains(&0) || name.ends_with(".inv_freq") {
            let segments = segments(name);
            let pattern = match segments.iter().rposition(|segment| is_index(segment)) {
                Some(at) => format!("**.{}", segments[at + 1..].join(".")),
                None => name.to_owned(),
            };
            self.ignored.insert(pattern);
            return;
        }
        if !is_path(name) {
            return;
        }
        let weight = match name.strip_suffix(".bias") {
            Some(module) => all.get(format!("{module}.weight").as_str()),
            None => name.strip_suffix("_bias").and_then(|weight| all.get(weight)),
        };
        if weight.and_then(|weight| bias_of(weight, all)).is_some_and(|bias| bias.name == name) {
            return;
        }
        let path = name.strip_suffix(".weight").unwrap_or(name);
        let constructor = match tensor.shape[..] {
            [count, rows, columns] if count <= MAX_MODULES => {
                let Some(constructor) = self.one_of_a_stack(tensor, (rows, columns), bias_of(tensor, all)) else {
                    return;
                };
                // `experts.up`, a stack, becomes `experts[e].up`, and `up.weight` becomes `up[e]`.
                let (container, leaf) = match path.rsplit_once('.') {
                    Some((container, leaf)) if path == name => (container, format!(".{leaf}")),
                    _ => (path, String::new()),
                };
                for index in 0..count {
                    self.push(&format!("{container}.{index}{leaf}"), constructor.clone());
                }
                return;
            }
            [width] if path == name => Some(format!("vector({})", self.sizes.heads(width, Place::of(path)))),
            [width] => Some(self.norm(width, None, Place::of(path), bias_of(tensor, all).is_some())),
            [] => stored(name).map(|whole| format!("vector(1, weight: reshape({whole}, [1]))")),
            [rows, columns] => self.matrix(tensor, (rows, columns), bias_of(tensor, all)),
            [rows, ref rest @ ..] => {
                let columns = rest.iter().fold(1u64, |product, size| product.saturating_mul(*size));
                let part = stored(name).map(|whole| format!("reshape({whole}, [{rows}, {columns}])"));
                part.map(|part| format!("linear({columns}, {rows}, weight: {part})"))
            }
        };
        if let Some(constructor) = constructor {
            self.push(path, constructor);
        }
    }

    /// A linear of which a tensor holds one for each index.
    fn one_of_a_stack(&self, tensor: &Tensor, (rows, columns): (u64, u64), bias: Option<&Tensor>) -> Option<String> {
        let place = Place::of(&tensor.name);
        let part = format!("{}[{INDEX}]", stored(&tensor.name)?);
        // Its bias may say that each matrix is stored as [in, out].
        let is_transposed = bias.is_some_and(|bias| bias.shape[1] != rows);
        let (out, input) = if is_transposed { (columns, rows) } else { (rows, columns) };
        let part = if is_transposed { format!("transpose({part})") } else { part };
        let bias = match bias {
            Some(bias) => format!(", bias: {}[{INDEX}]", stored(&bias.name)?),
            None => String::new(),
        };
        let (input, out) = (self.sizes.width(input, place), self.sizes.width(out, place));
        Some(format!("linear({input}, {out}, weight: {part}{bias})"))
    }

    /// A norm; with `heads`, one for each of them.
    fn norm(&self, width: u64, heads: Option<u64>, place: Place, bias: bool) -> String {
        let heads = heads.map_or_else(String::new, |heads| format!(", heads: {}", self.sizes.heads(heads, place)));
        let (norm, bias) = match bias {
            true => ("layer_norm", ""),
            false if self.sizes.norms_are_centred() => ("layer_norm", ", bias: false"),
            false => ("rms_norm", ""),
        };
        let eps = self.sizes.epsilon(if norm == "rms_norm" { "rms" } else { "layer" });
        format!("{norm}({}, eps: {eps}{bias}{heads})", self.sizes.width(width, place))
    }

    fn matrix(&self, tensor: &Tensor, (rows, columns): (u64, u64), bias: Option<&Tensor>) -> Option<String> {
        let name = tensor.name.as_str();
        let path = name.strip_suffix(".weight").unwrap_or(name);
        let place = Place::of(path);
        let width_of = |size: u64| self.sizes.width(size, place);
        if self.table.as_deref() == Some(path) {
            let rows = self.sizes.vocabulary(rows).unwrap_or_else(|| rows.to_string());
            return Some(format!("embedding({rows}, {})", width_of(columns)));
        }
        if self.is_table(tensor) {
            return Some(self.head(rows, columns, bias.is_some()));
        }
        if path != name && is_norm(path) {
            return Some(self.norm(columns, Some(rows), place, bias.is_some()));
        }
        if path != name && !path.split('.').any(is_index) && ["pos", "wpe"].iter().any(|word| path.contains(word)) {
            return Some(format!("embedding({}, {})", self.sizes.positions(rows), width_of(columns)));
        }
        // Its bias may say that the matrix is stored as [in, out].
        let is_transposed = rows != columns && bias.is_some_and(|bias| bias.shape[0] == columns);
        let (out, input) = if is_transposed { (columns, rows) } else { (rows, columns) };
        let weight = match (is_transposed, path == name) {
            (true, _) => format!(", weight: transpose({})", stored(name)?),
            (false, true) => format!(", weight: {}", stored(name)?),
            (false, false) => String::new(),
        };
        let bias = match bias {
            Some(bias) if path == name => format!(", bias: {}", stored(&bias.name)?),
            bias => with_bias(bias.is_some()).to_owned(),
        };
        let scores = path.rsplit('.').take(2).any(|segment| segment == "gate" || segment == "router");
        let (constructor, out) = match self.sizes.experts(out).filter(|_| scores) {
            Some(experts) => ("router", experts),
            None => ("linear", width_of(out)),
        };
        Some(format!("{constructor}({}, {out}{weight}{bias})", width_of(input)))
    }

    /// All declarations: tables first, what is repeated, the rest, the head.
    fn text(mut self) -> String {
        let rank = |module: &Module| match module.constructor.split('(').next() {
            Some("embedding") => 0,
            Some("head") => 3,
            _ if module.path.iter().any(|segment| is_index(segment)) => 1,
            _ => 2,
        };
        self.modules.sort_by_cached_key(|module| (rank(module), module.clone()));
        let mut text = String::new();
        for rank_of in 0..=3 {
            let modules: Vec<Module> = self.modules.iter().filter(|module| rank(module) == rank_of).cloned().collect();
            Block { prefix: "", index: "", keyword: "module ", depth: 0 }.write(&modules, &self.sizes, &mut text);
        }
        for name in &self.ignored {
            let _ = writeln!(text, "ignore tensors \"{name}\"");
        }
        text
    }
}

fn with_bias(bias: bool) -> &'static str {
    if bias { ", bias: true" } else { "" }
}

/// Where declarations are written.
struct Block<'b> {
    /// Of the paths of modules.
    prefix: &'b str,
    /// The index that is repeated, or a number.
    index: &'b str,
    /// What stands before the path of a module.
    keyword: &'b str,
    /// Repetitions around.
    depth: usize,
}

impl Block<'_> {
    fn write(&self, modules: &[Module], sizes: &Sizes, text: &mut String) {
        let (indexed, plain): (Vec<&Module>, Vec<&Module>) =
            modules.iter().partition(|module| module.path.iter().any(|segment| is_index(segment)));
        self.write_plain(&plain, text);
        // The indices that each module is there for, then the modules that are there for the same ones.
        let mut indices: BTreeMap<(&[String], Module), BTreeSet<u64>> = BTreeMap::new();
        for module in indexed {
            let found = module.path.iter().enumerate().find_map(|(at, segment)| Some((at, parse_index(segment)?)));
            let Some((at, index)) = found else { continue };
            let rest = Module { path: module.path[at + 1..].to_vec(), constructor: module.constructor.clone() };
            indices.entry((&module.path[..at], rest)).or_default().insert(index.into());
        }
        let mut alike: BTreeMap<BTreeSet<u64>, BTreeMap<&[String], Vec<Module>>> = BTreeMap::new();
        for ((container, module), indices) in indices {
            alike.entry(indices).or_default().entry(container).or_default().push(module);
        }
        // What most of them have stands first.
        let mut alike: Vec<_> = alike.into_iter().collect();
        alike.sort_by_key(|(indices, _)| std::cmp::Reverse(indices.len()));
        for (indices, containers) in alike {
            for run in runs(&indices) {
                self.write_run(run, &containers, sizes, text);
            }
        }
    }

    /// The path of a module, or container, below the prefix.
    fn path(&self, segments: &[String]) -> String {
        let parts = [self.prefix.to_owned(), segments.join(".")];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }

    /// Modules without an index. Those that are alike and have one parent are one declaration.
    fn write_plain(&self, modules: &[&Module], text: &mut String) {
        let mut declarations: Vec<(&str, Vec<String>)> = Vec::new();
        let mut alike: BTreeMap<(&[String], &str), usize> = BTreeMap::new();
        for module in modules {
            let parent = module.path.split_last().map_or(&[][..], |(_, parent)| parent);
            let path = self.path(&module.path);
            let known = alike.get(&(parent, module.constructor.as_str())).filter(|_| self.depth > 0);
            match known.map(|&index| &mut declarations[index].1).filter(|paths| paths.len() < MAX_ALIKE) {
                Some(paths) => paths.push(path),
                None => {
                    alike.insert((parent, &module.constructor), declarations.len());
                    declarations.push((&module.constructor, vec![path]));
                }
            }
        }
        for (constructor, paths) in declarations {
            let constructor = constructor.replace(INDEX, self.index);
            let _ = writeln!(text, "{}{} = {constructor}", self.keyword, paths.join(", "));
        }
    }

    /// The same modules for each index from `start` up to `end`.
    fn write_run(
        &self,
        (start, end): (u64, u64),
        containers: &BTreeMap<&[String], Vec<Module>>,
        sizes: &Sizes,
        text: &mut String,
    ) {
        let is_single = end - start == 1;
        let of_experts =
            self.depth > 0 || containers.keys().any(|path| path.iter().any(|name| name.contains("expert")));
        let bound = if of_experts { sizes.experts(end) } else { sizes.layers(end) };
        let variable = match VARIABLES.get(self.depth) {
            _ if is_single => start.to_string(),
            _ if of_experts && bound.is_some() => EXPERT.to_owned(),
            Some(variable) => (*variable).to_owned(),
            None => format!("i{}", self.depth),
        };
        if !is_single {
            let bound = bound.unwrap_or_else(|| end.to_string());
            let _ = writeln!(text, "repeat {variable} in {start}..{bound} {{");
        }
        for (container, modules) in containers {
            let path = format!("{}[{variable}]", self.path(container));
            let depth = self.depth + 1;
            let begins_with_a_name = |module: &Module| module.path.first().is_some_and(|first| !is_index(first));
            if self.depth == 0 && modules.iter().all(begins_with_a_name) {
                let _ = writeln!(text, "module {path} {{");
                Block { prefix: "", index: &variable, keyword: "", depth }.write(modules, sizes, text);
                text.push_str("}\n");
            } else {
                Block { prefix: &path, index: &variable, keyword: self.keyword, depth }.write(modules, sizes, text);
            }
        }
        if !is_single {
            text.push_str("}\n");
        }
    }
}

/// The numbers as ranges, each with its end excluded.
fn runs(indices: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &index in indices {
        match runs.last_mut() {
            Some((_, end)) if *end == index => *end = index + 1,
            _ => runs.push((index, index + 1)),
        }
    }
    runs
}
