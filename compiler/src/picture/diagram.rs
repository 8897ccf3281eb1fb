//! A model becomes a picture's nodes, edges and groups: layers are folded, sizes summed up.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::collect::{Item, items};
use super::fold::{LayerPath, Stretch, fold_layers, index_text};
use super::{Bytes, Diagram, Group, Layer, ModuleNote, Node};
use crate::elaborate::{Elaborated, ModuleId};

/// Most nodes that a picture has; nobody would find anything in a larger one.
const MOST_NODES: usize = 5000;

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a picture has at most {MOST_NODES} nodes, this one would have {nodes}: too few of the layers are the same")]
pub struct TooLarge {
    /// How many nodes it would have.
    pub nodes: usize,
}

/// The picture of a model, its graph as the definition states it, under the spec of this name. `describe` says what
/// becomes of a module.
///
/// # Errors
/// When it would be too large to be of use.
pub fn diagram(model: &Elaborated, spec: &str, describe: &dyn Fn(ModuleId) -> ModuleNote) -> Result<Diagram, TooLarge> {
    let notes: Vec<ModuleNote> = (0..model.modules.len()).map(|index| describe(ModuleId(index as u32))).collect();
    let items = items(model, &notes);
    let runs = Runs::new(&items);
    let stretches = fold_layers(runs.all.len(), |stretch| runs.continues(stretch));

    let mut diagram = Diagram {
        model: model.name.clone(),
        spec: spec.to_owned(),
        bytes: notes.iter().fold(Bytes::default(), Bytes::plus),
        formats: formats(&notes),
        nodes: Vec::new(),
        edges: Vec::new(),
        groups: Vec::new(),
        ties: Vec::new(),
    };
    let nodes = stretches.iter().map(|stretch| runs.items(stretch.first()).len()).sum();
    if nodes > MOST_NODES {
        return Err(TooLarge { nodes });
    }
    let mut drawn: Vec<usize> = Vec::with_capacity(items.len());
    for stretch in stretches {
        let first = diagram.nodes.len();
        let block = runs.items(stretch.first());
        drawn.extend(runs.items(stretch.all()).enumerate().map(|(place, _)| first + place % block.len()));
        for item in block.clone() {
            let node = drawn[item];
            diagram.nodes.push(node_of(&items[item], stretch));
            let operands: BTreeSet<usize> = items[item].operands.iter().map(|&operand| drawn[operand]).collect();
            diagram.edges.extend(operands.into_iter().map(|operand| (operand, node)));
        }
        diagram.groups.extend(runs.group(stretch, first, &notes));
    }
    diagram.ties = ties(model, &items, &drawn, &notes);
    Ok(diagram)
}

impl Bytes {
    fn plus(self, note: &ModuleNote) -> Self {
        Bytes {
            before: self.before.saturating_add(note.bytes_before),
            after: self.after.saturating_add(note.bytes_after),
        }
    }
}

/// Every format with the bytes that it will take, the largest first.
fn formats(notes: &[ModuleNote]) -> Vec<(String, u64)> {
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for note in notes.iter().filter(|note| note.tied_to.is_none()) {
        let total = totals.entry(&note.format).or_default();
        *total = total.saturating_add(note.bytes_after);
    }
    let mut totals: Vec<_> = totals.into_iter().map(|(format, bytes)| (format.to_owned(), bytes)).collect();
    totals.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    totals
}

/// The first node of each module that shares a table, with the first of the module that has it.
fn ties(model: &Elaborated, items: &[Item<'_>], drawn: &[usize], notes: &[ModuleNote]) -> Vec<(usize, usize)> {
    let mut nodes: BTreeMap<ModuleId, usize> = BTreeMap::new();
    for (item, &node) in items.iter().zip(drawn) {
        if let Some(module) = item.module {
            nodes.entry(module).or_insert(node);
        }
    }
    let find = |path: &str| model.modules.iter().position(|module| module.path == path);
    let tied = notes.iter().enumerate().filter_map(|(head, note)| {
        let table = find(note.tied_to.as_deref()?)?;
        Some((*nodes.get(&ModuleId(head as u32))?, *nodes.get(&ModuleId(table as u32))?))
    });
    tied.collect()
}

fn node_of(item: &Item<'_>, stretch: Stretch) -> Node {
    let path = match item.layer {
        Some(LayerPath { container, index, rest }) if stretch.count > 1 => {
            let indices = match stretch.period {
                1 => format!("{index}..{}", index.saturating_add(stretch.count as u64)),
                _ => indices(index, stretch),
            };
            let dot = if rest.is_empty() { "" } else { "." };
            format!("{container}[{indices}]{dot}{rest}")
        }
        _ => item.label.to_owned(),
    };
    Node { path, result: item.fact.to_string(), content: item.content.clone() }
}

/// The indices of all layers that the one of this index stands for.
fn indices(index: u64, stretch: Stretch) -> String {
    index_text(index, stretch.period as u64, stretch.count as u64)
}

/// The items of a model, cut where the layer changes.
struct Runs<'a> {
    items: &'a [Item<'a>],
    all: Vec<Run<'a>>,
    /// The run of each item.
    run_of: Vec<usize>,
}

struct Run<'a> {
    items: Range<usize>,
    /// Container and index of the layer.
    layer: Option<(&'a str, u64)>,
    /// The last run that reads a result of this one.
    last_reader: usize,
}

impl<'a> Runs<'a> {
    fn new(items: &'a [Item<'a>]) -> Self {
        let mut runs: Vec<Run<'a>> = Vec::new();
        let mut run_of: Vec<usize> = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let layer = item.layer.map(|layer| (layer.container, layer.index));
            match runs.last_mut() {
                Some(run) if run.layer == layer => run.items.end = index + 1,
                _ => runs.push(Run { items: index..index + 1, layer, last_reader: runs.len() }),
            }
            let run = runs.len() - 1;
            run_of.push(run);
            for &operand in &item.operands {
                runs[run_of[operand]].last_reader = run;
            }
        }
        Runs { items, all: runs, run_of }
    }

    /// The items of some neighbouring runs.
    fn items(&self, runs: Range<usize>) -> Range<usize> {
        self.all[runs.start].items.start..self.all[runs.end - 1].items.end
    }

    /// Whether the block after a stretch is the same as its last one, and nothing but it and the block itself reads the
    /// last one: what is read from outside of a stretch is read from the end of it.
    fn continues(&self, stretch: Stretch) -> bool {
        let end = stretch.all().end;
        (end - stretch.period..end).all(|run| {
            self.all[run].last_reader < end + stretch.period && self.same(run, run + stretch.period, stretch)
        })
    }

    /// Whether two runs differ in the index of the layer only.
    fn same(&self, a: usize, b: usize, stretch: Stretch) -> bool {
        let (run_a, run_b) = (&self.all[a], &self.all[b]);
        let (Some((container_a, index_a)), Some((container_b, index_b))) = (run_a.layer, run_b.layer) else {
            return false;
        };
        container_a == container_b
            && index_a.checked_add(stretch.period as u64) == Some(index_b)
            && run_a.items.len() == run_b.items.len()
            && run_a.items.clone().zip(run_b.items.clone()).all(|(a, b)| self.same_item(a, b, stretch))
    }

    fn same_item(&self, a: usize, b: usize, stretch: Stretch) -> bool {
        let (item_a, item_b) = (&self.items[a], &self.items[b]);
        let same_op = item_a.module.is_some() && item_b.module.is_some() || item_a.op == item_b.op;
        let (rest_a, rest_b) = (item_a.layer.map(|layer| layer.rest), item_b.layer.map(|layer| layer.rest));
        same_op
            && rest_a == rest_b
            && item_a.content == item_b.content
            && item_a.fact == item_b.fact
            && item_a.operands.len() == item_b.operands.len()
            && item_a.operands.iter().zip(&item_b.operands).all(|(&x, &y)| self.same_operand((a, x), (b, y), stretch))
    }

    /// Whether item `a` reads `x` as item `b`, a block later, reads `y`.
    fn same_operand(&self, (a, x): (usize, usize), (b, y): (usize, usize), stretch: Stretch) -> bool {
        let [run_a, run_b, run_x, run_y] = [a, b, x, y].map(|item| self.run_of[item]);
        let place = |item: usize, run: usize| item - self.all[run].items.start;
        let first = stretch.first();
        // What the first block is given from before the stretch, the second is given by the first.
        let enters = first.contains(&run_a) && first.contains(&run_y);
        let moves_along = || run_a - run_x == run_b - run_y && place(x, run_x) == place(y, run_y);
        if run_x < stretch.start { x == y || enters } else { moves_along() }
    }

    /// The frame around a stretch of layers whose first node is `node`.
    fn group(&self, stretch: Stretch, node: usize, notes: &[ModuleNote]) -> Option<Group> {
        let first = self.items(stretch.first()).start;
        let layers = self.all[stretch.first()].iter().filter_map(|run| {
            let (_, index) = run.layer?;
            let nodes = node + run.items.start - first..node + run.items.end - first;
            Some(Layer { indices: indices(index, stretch), nodes })
        });
        let (container, index) = self.all[stretch.start].layer?;
        let modules: BTreeSet<ModuleId> =
            self.items[self.items(stretch.all())].iter().filter_map(|item| item.module).collect();
        Some(Group {
            container: container.to_owned(),
            indices: index_text(index, 1, stretch.all().len() as u64),
            count: stretch.count,
            bytes: modules.into_iter().fold(Bytes::default(), |sum, id| sum.plus(&notes[id.0 as usize])),
            layers: layers.collect(),
        })
    }
}
