//! The graph as text for people: equal layers once, parameters by their names. What [`super::read()`] takes is the
//! other text, that of `Display`.

use std::collections::HashMap;
use std::fmt::Write as _;

use lathe_runtime::program::{LayerIndex, Layers, Names, RopeGrowth, RopeTable, section};

use super::frame::{Chain, Factor, Fold, Product};
use super::graph::{Graph, Node, NodeId, Param, ParamId, TensorId, Values};
use super::op::Op;
use super::print::{Elements, operation};
use super::view::View;

impl Graph {
    /// The graph as text, with layers that are the same but for their index shown once. `tensor` names stored tensors;
    /// a parameter that begins one of its own name shows its shape alone.
    pub fn listing(&self, tensor: &dyn Fn(TensorId) -> String) -> String {
        let order = self.topological().unwrap_or_else(|| self.nodes().map(|(id, _)| id).collect());
        let is_input = |id: &NodeId| matches!(self.node(*id).op, Op::Tokens | Op::Positions | Op::Selection);
        let (inputs, others): (Vec<NodeId>, Vec<NodeId>) = order.into_iter().partition(is_input);
        let computed = others.into_iter().filter(|id| !matches!(self.node(*id).op, Op::Param(_)));
        let count = inputs.len();
        let steps: Vec<NodeId> = inputs.into_iter().chain(computed).collect();
        let places = steps.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        Listing { graph: self, tensor, inputs: count, steps, places }.text()
    }
}

/// What a node reads.
#[derive(Debug, Clone, Copy)]
enum Operand<'a> {
    Param(&'a Param),
    /// The result at this place.
    Result(usize),
}

struct Listing<'a> {
    graph: &'a Graph,
    tensor: &'a dyn Fn(TensorId) -> String,
    /// How many inputs there are.
    inputs: usize,
    /// Inputs, then the nodes that are no parameters, in their order.
    steps: Vec<NodeId>,
    places: HashMap<NodeId, usize>,
}

impl<'a> Listing<'a> {
    fn text(&self) -> String {
        let params = self.graph.params();
        let mut text = format!("{} params, {} nodes\nrope tables\n", params.len(), self.steps.len());
        for (index, table) in self.graph.rope_tables().iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  r{index}  {}, digest {}", table.summary(), digest(table));
        }
        if !self.graph.rotations().is_empty() || !self.graph.scales().is_empty() {
            text.push_str("bases\n");
        }
        for (index, rotation) in self.graph.rotations().iter().enumerate() {
            let _ = writeln!(text, "  Q{index}  {}, width {}", rotation.name, rotation.width);
        }
        for (index, scale) in self.graph.scales().iter().enumerate() {
            let _ = writeln!(text, "  S{index}  {}, width {}", scale.name, scale.width);
        }
        let names: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
        let same = |a: usize, b: usize, index: &LayerIndex, layer: u32| self.same_param(a, b, index, layer);
        text.push_str(&section("params", &names, Layers::Folded, &same, |place, names| self.param(place, names)));
        let labels: Vec<&str> = self.steps.iter().map(|id| self.graph.node(*id).label.as_str()).collect();
        let same = |a: usize, b: usize, index: &LayerIndex, layer: u32| self.same_node(a, b, index, layer);
        text.push_str(&section("nodes", &labels, Layers::Folded, &same, |place, names| self.node(place, names)));
        text
    }

    fn param_named(&self, id: ParamId) -> &'a Param {
        &self.graph.params()[id.index()]
    }

    fn param(&self, place: usize, names: &Names) -> String {
        let Param { name, shape, values, fold } = &self.graph.params()[place];
        let fold = self.fold(fold, names);
        match values {
            Values::Uniform => format!("{shape:?} uniform{fold}"),
            Values::Zeros => format!("{shape:?} zeros{fold}"),
            Values::Scale { id, inverse } => format!("{shape:?} = S{}{}{fold}", id.0, if *inverse { "'" } else { "" }),
            Values::Tied(other) => format!("{shape:?} tied to {}{fold}", names.show(&self.param_named(*other).name)),
            Values::Stored(view) => {
                let tensor = (self.tensor)(view.tensor);
                if tensor == *name && *view == View::contiguous(view.tensor, 0, view.elements()) {
                    return format!("{shape:?}{fold}");
                }
                format!("{shape:?} = {} {}{fold}", names.show(&tensor), Elements(shape, view))
            }
        }
    }

    /// A product of maps, with gains by the names of their parameters.
    fn chain(&self, chain: &Chain, names: &Names) -> String {
        let factor = |factor: &Factor| match factor {
            Factor::Gain { param, offset } => {
                let offset = if offset.get() == 0.0 { String::new() } else { format!("{offset} + ") };
                format!(" diag({offset}{})", names.show(&self.param_named(*param).name))
            }
            other => format!(" {other}"),
        };
        chain.factors().iter().map(factor).collect()
    }

    /// What becomes of the values of a parameter.
    fn fold(&self, fold: &Fold, names: &Names) -> String {
        let Fold { offset, product, rows, columns } = fold;
        let mut text = offset.map_or_else(String::new, |offset| format!(", plus {offset}"));
        if let Some(Product { weight, vector, factor }) = product {
            let [weight, vector] = [weight, vector].map(|id| names.show(&self.param_named(*id).name));
            let factor = if factor.get() == 1.0 { String::new() } else { format!("{factor} ") };
            let _ = write!(text, ", plus {factor}{vector} times {weight}");
        }
        for (what, chain) in [("rows", rows), ("columns", columns)] {
            if !chain.is_identity() {
                let _ = write!(text, ", {what} by{}", self.chain(chain, names));
            }
        }
        text
    }

    fn same_chain(&self, a: &Chain, b: &Chain, index: &LayerIndex, layer: u32) -> bool {
        let same = |(a, b): (&Factor, &Factor)| match (a, b) {
            (Factor::Gain { param: p, offset: x }, Factor::Gain { param: q, offset: y }) => {
                x == y && index.corresponds(&self.param_named(*p).name, &self.param_named(*q).name, layer)
            }
            (a, b) => a == b,
        };
        a.factors().len() == b.factors().len() && a.factors().iter().zip(b.factors()).all(same)
    }

    fn same_fold(&self, a: &Fold, b: &Fold, index: &LayerIndex, layer: u32) -> bool {
        let same =
            |a: ParamId, b: ParamId| index.corresponds(&self.param_named(a).name, &self.param_named(b).name, layer);
        let same_product = match (a.product, b.product) {
            (Some(a), Some(b)) => same(a.weight, b.weight) && same(a.vector, b.vector) && a.factor == b.factor,
            (a, b) => a == b,
        };
        same_product
            && a.offset == b.offset
            && self.same_chain(&a.rows, &b.rows, index, layer)
            && self.same_chain(&a.columns, &b.columns, index, layer)
    }

    /// Whether parameter `b` is in the next layer what `a` is in layer `layer`.
    fn same_param(&self, a: usize, b: usize, index: &LayerIndex, layer: u32) -> bool {
        let [a, b] = [a, b].map(|place| &self.graph.params()[place]);
        let same_values = match (&a.values, &b.values) {
            (Values::Tied(a), Values::Tied(b)) => {
                index.corresponds(&self.param_named(*a).name, &self.param_named(*b).name, layer)
            }
            (Values::Stored(a), Values::Stored(b)) => {
                (a.offset, &a.axes) == (b.offset, &b.axes)
                    && index.corresponds(&(self.tensor)(a.tensor), &(self.tensor)(b.tensor), layer)
            }
            (a, b) => a == b,
        };
        same_values
            && self.same_fold(&a.fold, &b.fold, index, layer)
            && a.shape == b.shape
            && index.corresponds(&a.name, &b.name, layer)
    }

    fn at(&self, place: usize) -> &'a Node {
        self.graph.node(self.steps[place])
    }

    fn operands(&self, place: usize) -> Vec<Operand<'a>> {
        let operand = |id: NodeId| match &self.graph.node(id).op {
            Op::Param(param) => Operand::Param(self.param_named(*param)),
            _ => Operand::Result(self.places[&id]),
        };
        self.graph.operands(self.steps[place]).into_iter().map(operand).collect()
    }

    fn node(&self, place: usize, names: &Names) -> String {
        let Node { op, fact, frame, .. } = self.at(place);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = operation(&mut text, op);
        let operands = self.operands(place);
        let shown = |operand: &Operand| match operand {
            Operand::Param(param) => format!(" {}", names.show(&param.name)),
            Operand::Result(place) => format!(" %{place}"),
        };
        // Of the weights of many experts, and of their biases, the first and the last are shown.
        let experts = if let Op::ExpertLinear { experts, .. } = op { *experts as usize } else { 0 };
        let (single, of_experts) = operands.split_at(if experts > 0 { 2.min(operands.len()) } else { operands.len() });
        text.extend(single.iter().map(shown));
        for alike in of_experts.chunks(experts.max(1)) {
            match alike {
                [first, .., last] => text.extend([shown(first), " …".to_owned(), shown(last)]),
                few => text.extend(few.iter().map(shown)),
            }
        }
        let _ = write!(text, " : {fact}");
        if !frame.is_identity() {
            let _ = write!(text, " in{}", self.chain(frame, names));
        }
        text
    }

    /// Whether node `b` does in the next layer what `a` does in layer `layer`: the same with corresponding parameters,
    /// on inputs that are the same, and results that are equally many places before, if that is within a layer, or else
    /// the same.
    fn same_node(&self, a: usize, b: usize, index: &LayerIndex, layer: u32) -> bool {
        let (node_a, node_b) = (self.at(a), self.at(b));
        let same_operand = |pair: (Operand, Operand)| match pair {
            (Operand::Param(x), Operand::Param(y)) => x.shape == y.shape && index.corresponds(&x.name, &y.name, layer),
            (Operand::Result(x), Operand::Result(y)) if x.min(y) < self.inputs => x == y,
            (Operand::Result(x), Operand::Result(y)) => match (a.checked_sub(x), b.checked_sub(y)) {
                (Some(before), other) if before <= b - a => Some(before) == other,
                _ => x == y,
            },
            (Operand::Param(_), Operand::Result(_)) | (Operand::Result(_), Operand::Param(_)) => false,
        };
        let (operands_a, operands_b) = (self.operands(a), self.operands(b));
        index.corresponds(&node_a.label, &node_b.label, layer)
            && node_a.op == node_b.op
            && node_a.fact == node_b.fact
            && operands_a.len() == operands_b.len()
            && operands_a.into_iter().zip(operands_b).all(same_operand)
    }
}

/// Of all frequencies, so that those that are not shown count too.
fn digest(table: &RopeTable) -> String {
    let beyond = match &table.growth {
        Some(RopeGrowth::Switch { inverse_frequencies, .. }) => inverse_frequencies.as_slice(),
        Some(RopeGrowth::Dynamic { .. }) | None => &[],
    };
    let all = table.inverse_frequencies.iter().chain(beyond);
    let bytes: Vec<u8> = all.flat_map(|frequency| frequency.to_le_bytes()).collect();
    blake3::hash(&bytes).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::read;

    /// Four layers that add what they normalize to what they get.
    fn layered(epsilons: [&str; 4]) -> Graph {
        let mut lines = vec![
            "rope r0 half amplitude 1.0 frequencies 1.0 0.5".to_owned(),
            "param p0 embed.weight [8, 4] tensor 0 rows 0..8".to_owned(),
        ];
        for layer in 0..4 {
            // The gain of the last layer lies in another tensor than those of the others.
            let stored = if layer == 3 { "1 rows 3..4".to_owned() } else { format!("{} rows 0..1", layer + 2) };
            lines.push(format!("param p{} layers.{layer}.norm.weight [4] tensor {stored}", layer + 1));
        }
        lines.push("%0 tokens : token[T]".to_owned());
        lines.push("%1 selection : row[S]".to_owned());
        lines.push("%2 param p0 : real[8, 4]".to_owned());
        lines.push("%3 embed %2 %0 : real[T, 4]  // embed".to_owned());
        for (layer, eps) in epsilons.iter().enumerate() {
            let (x, at) = (3 + 4 * layer, 4 + 4 * layer);
            let label = format!("layers.{layer}.norm");
            lines.push(format!("%{at} param p{} : real[4]  // {label}", layer + 1));
            lines.push(format!("%{} normalize eps={eps} %{x} : real[T, 4]  // {label}", at + 1));
            lines.push(format!("%{} gain %{} %{at} : real[T, 4]  // {label}", at + 2, at + 1));
            lines.push(format!("%{} add %{x} %{} : real[T, 4]  // layers.{layer}.add", at + 3, at + 2));
        }
        lines.push("%20 linear %19 %2 : real[T, 8]  // head".to_owned());
        lines.push("%21 select %20 %1 : real[S, 8]  // select".to_owned());
        lines.push("%22 output %21 : real[S, 8]  // output".to_owned());
        let text = lines.join("\n") + "\n";
        read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn listing(graph: &Graph) -> String {
        let tensor = |id: TensorId| match id.0 {
            0 => "embed.weight".to_owned(),
            1 => "norms".to_owned(),
            layer => format!("layers.{}.norm.weight", layer - 2),
        };
        graph.listing(&tensor)
    }

    #[test]
    fn equal_layers_are_shown_once() {
        insta::assert_snapshot!(listing(&layered(["1e-5"; 4])));
    }

    #[test]
    fn layers_that_take_turns_are_shown_in_turns() {
        insta::assert_snapshot!(listing(&layered(["1e-5", "1e-6", "1e-5", "1e-6"])));
    }

    #[test]
    fn frequencies_that_are_not_shown_count() {
        let table = |middle: f32| RopeTable {
            pairing: lathe_runtime::program::RopePairing::Half,
            inverse_frequencies: vec![1.0, middle, 0.25],
            amplitude: 1.0,
            growth: None,
        };
        assert_eq!(table(0.5).summary(), table(0.75).summary());
        assert_ne!(digest(&table(0.5)), digest(&table(0.75)));
    }
}
