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
    if text.is_empty() { None } else { formatted(&text) }
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

/// The call that reads a tensor from within the outermost repetition around its module.
fn stored(name: &str) -> String {
    let mut parts = name.split('.');
    if parts.by_ref().any(is_index) {
        format!("stored(\".{}\")", parts.collect::<Vec<_>>().join("."))
    } else {
        format!("stored(\"{name}\")")
    }
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

    /// Adds what reads this tensor. A bias comes with the weight beside it.
    fn tensor(&mut self, tensor: &Tensor, all: &BTreeMap<&str, &Tensor>) {
        let name = tensor.name.as_str();
        if tensor.stored_dtype().is_none() || tensor.shape.contains(&0) || name.ends_with(".inv_freq") {
            let last = name.split('.').rev().take_while(|segment| !is_index(segment)).count();
            let rest = segments(name).split_off(name.split('.').count() - last).join(".");
            let is_repeated = name.split('.').any(is_index);
            self.ignored.insert(if is_repeated { format!("**.{rest}") } else { name.to_owned() });
            return;
        }
        let (path, is_weight) = match name.strip_suffix(".weight") {
            Some(path) => (path, true),
            None => (name, false),
        };
        if let Some(module) = name.strip_suffix(".bias").or_else(|| name.strip_suffix("_bias"))
            && ["", ".weight"].iter().any(|suffix| {
                all.get(format!("{module}{suffix}").as_str()).is_some_and(|weight| is_bias_of(tensor, weight))
            })
        {
            return;
        }
        let bias_name = if is_weight { format!("{path}.bias") } else { format!("{path}_bias") };
        let bias = all.get(bias_name.as_str()).filter(|bias| is_bias_of(bias, tensor)).copied();
        let place = Place::of(path);
        match tensor.shape[..] {
            [width] if is_weight => {
                let constructor = self.norm(width, None, place, bias.is_some());
                self.push(path, constructor);
            }
            [width] => self.push(path, format!("vector({})", self.sizes.heads(width, place))),
            [] => self.push(path, format!("vector(1, weight: reshape({}, [1]))", stored(name))),
            [rows, width] => {
                let constructor = self.matrix(tensor, (rows, width), path, is_weight, bias);
                self.push(path, constructor);
            }
            [count, rows, width] if count <= MAX_MODULES => {
                let part = format!("{}[{INDEX}]", stored(name));
                let is_transposed = bias.is_some_and(|bias| bias.shape[1] != rows);
                let (out, input, part) =
                    if is_transposed { (width, rows, format!("transpose({part})")) } else { (rows, width, part) };
                let (out, input) = (self.sizes.width(out, place), self.sizes.width(input, place));
                let bias = bias.map_or_else(String::new, |bias| format!(", bias: {}[{INDEX}]", stored(&bias.name)));
                let constructor = format!("linear({input}, {out}, weight: {part}{bias})");
                // `experts.up`, a stack, becomes `experts[e].up`, and `up.weight` becomes `up[e]`.
                let (container, leaf) = match path.rsplit_once('.') {
                    Some((container, leaf)) if !is_weight => (container, format!(".{leaf}")),
                    _ => (path, String::new()),
                };
                for index in 0..count {
                    self.push(&format!("{container}.{index}{leaf}"), constructor.clone());
                }
            }
            [rows, ref rest @ ..] => {
                let width = rest.iter().fold(1u64, |product, size| product.saturating_mul(*size));
                let constructor =
                    format!("linear({width}, {rows}, weight: reshape({}, [{rows}, {width}]))", stored(name));
                self.push(path, constructor);
            }
        }
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

    fn matrix(
        &self,
        tensor: &Tensor,
        (rows, width): (u64, u64),
        path: &str,
        is_weight: bool,
        bias: Option<&Tensor>,
    ) -> String {
        let place = Place::of(path);
        let width_of = |size: u64| self.sizes.width(size, place);
        if self.table.as_deref() == Some(path) {
            let rows = self.sizes.vocabulary(rows).unwrap_or_else(|| rows.to_string());
            return format!("embedding({rows}, {})", width_of(width));
        }
        if self.is_table(tensor) {
            return self.head(rows, width, bias.is_some());
        }
        if !path.split('.').any(is_index) && ["pos", "wpe"].iter().any(|word| path.contains(word)) {
            return format!("embedding({}, {})", self.sizes.positions(rows), width_of(width));
        }
        if is_weight && path.rsplit('.').next().is_some_and(|name| name.contains("norm")) {
            return self.norm(width, Some(rows), place, bias.is_some());
        }
        if rows != width && bias.is_some_and(|bias| bias.shape[0] == width) {
            // Its bias says that the matrix is stored as [in, out].
            let (input, out) = (width_of(rows), width_of(width));
            return format!("linear({input}, {out}, weight: transpose({}), bias: true)", stored(&tensor.name));
        }
        let rest = match is_weight {
            true => with_bias(bias.is_some()).to_owned(),
            false => format!("{}, weight: {}", with_bias(bias.is_some()), stored(&tensor.name)),
        };
        let scores = path.rsplit('.').take(2).any(|segment| segment == "gate" || segment == "router");
        match self.sizes.experts(rows).filter(|_| scores) {
            Some(experts) => format!("router({}, {experts}{rest})", width_of(width)),
            None => format!("linear({}, {}{rest})", width_of(width), width_of(rows)),
        }
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

/// Whether a tensor has one element for each row, or column, of another.
fn is_bias_of(bias: &Tensor, weight: &Tensor) -> bool {
    match (&bias.shape[..], &weight.shape[..]) {
        ([bias], [weight]) => bias == weight,
        ([_, _], [_, _]) => bias.shape == weight.shape,
        ([bias], [rows, columns]) => bias == rows || bias == columns,
        ([stack, bias], [count, rows, columns]) => stack == count && (bias == rows || bias == columns),
        _ => false,
    }
}

/// Where declarations are written.
struct Block<'b> {
    /// Of the paths of modules, with a dot behind it.
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

    /// Modules without an index. Those that are alike and have one parent are one declaration.
    fn write_plain(&self, modules: &[&Module], text: &mut String) {
        let mut alike: Vec<(&[String], &str, Vec<String>)> = Vec::new();
        for module in modules {
            let parent = module.path.split_last().map_or(&[][..], |(_, parent)| parent);
            let path = format!("{}{}", self.prefix, module.path.join("."));
            let path = path.trim_end_matches('.').to_owned();
            let of = |(other, constructor, paths): &&mut (&[String], &str, Vec<String>)| {
                *other == parent && *constructor == module.constructor && paths.len() < MAX_ALIKE
            };
            match alike.iter_mut().find(of).filter(|_| self.depth > 0) {
                Some((_, _, paths)) => paths.push(path),
                None => alike.push((parent, &module.constructor, vec![path])),
            }
        }
        for (_, constructor, paths) in alike {
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
            let path = format!("{}{}[{variable}]", self.prefix, container.join("."));
            let depth = self.depth + 1;
            if self.depth == 0 && modules.iter().all(|module| !module.path.is_empty()) {
                let _ = writeln!(text, "module {path} {{");
                Block { prefix: "", index: &variable, keyword: "", depth }.write(modules, sizes, text);
                text.push_str("}\n");
            } else {
                let prefix = format!("{path}.");
                Block { prefix: &prefix, index: &variable, keyword: self.keyword, depth }.write(modules, sizes, text);
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
