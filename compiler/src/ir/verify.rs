//! The verifier. What it accepts, every later stage lowers or refuses with an error; none panics.
//!
//! Invariants that hold before the first pass, between any two, and after the last:
//!
//! 1. **Slots.** The operands of a node fill the slots 0, 1, … without a gap and without a slot filled twice.
//! 2. **Arity.** Their number is one that the operation takes.
//! 3. **Acyclic.** No result depends on itself.
//! 4. **Output.** There is exactly one output, and nothing uses it.
//! 5. **Facts.** The fact of every node is the one that its operation infers from the facts of its operands.
//! 6. **Parameters.** Every parameter node names an entry of the table, and no two entries have one name.
//! 7. **Values.** A parameter that is tied refers to a stored parameter of the same shape; a stored one has as many
//!    elements as its view.
//! 8. **Numbers.** Attributes are finite, epsilons are not negative, windows are at least 1, tables of frequencies are
//!    finite and not empty, and so is what they grow to.
//! 9. **Frames.** Frames and folds name rotations, scales and parameters of the tables, and blocks divide what they act on.

use std::collections::BTreeMap;
use std::fmt;

use lathe_runtime::program::RopeGrowth;

use super::fact::{Dim, Fact};
use super::frame::{Chain, Factor, Fold};
use super::graph::{Graph, NodeId, Values};
use super::op::{Op, Real};

/// The invariants by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// 1
    Slots = 1,
    /// 2
    Arity,
    /// 3
    Acyclic,
    /// 4
    Output,
    /// 5
    Facts,
    /// 6
    Parameters,
    /// 7
    Values,
    /// 8
    Numbers,
    /// 9
    Frames,
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Where, when it is at one node.
    pub node: Option<NodeId>,
    /// What was found.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} ({:?})", self.invariant as u8, self.invariant)?;
        if let Some(NodeId(id)) = self.node {
            write!(f, " at %{id}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Violation {}

/// Checks every invariant and returns all violations, by number.
///
/// # Errors
/// The violations, when there are any.
pub fn verify(graph: &Graph) -> Result<(), Vec<Violation>> {
    let mut verifier = Verifier { graph, violations: Vec::new() };
    verifier.params();
    verifier.rope_tables();
    verifier.folds();
    for (id, _) in graph.nodes() {
        verifier.node(id);
    }
    if graph.topological().is_none() {
        verifier.report(Invariant::Acyclic, None, "the graph has a cycle".into());
    }
    verifier.output();
    verifier.violations.sort_by_key(|violation| (violation.invariant, violation.node));
    if verifier.violations.is_empty() { Ok(()) } else { Err(verifier.violations) }
}

fn elements(shape: &[u64]) -> u64 {
    shape.iter().fold(1, |product, size| product.saturating_mul(*size))
}

/// Elements of a row of a result, all dimensions but the rows together.
fn row_width(fact: &Fact) -> u64 {
    fact.shape.iter().fold(1, |product, dim| match dim {
        Dim::Fixed(size) => product.saturating_mul(*size),
        Dim::Tokens | Dim::Selected => product,
    })
}

struct Verifier<'a> {
    graph: &'a Graph,
    violations: Vec<Violation>,
}

impl Verifier<'_> {
    fn report(&mut self, invariant: Invariant, node: Option<NodeId>, message: String) {
        self.violations.push(Violation { invariant, node, message });
    }

    fn node(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let slots = self.graph.slots(id);
        if slots.iter().enumerate().any(|(expected, (slot, _))| *slot != expected as u32) {
            let found: Vec<u32> = slots.iter().map(|(slot, _)| *slot).collect();
            let expected = slots.len();
            self.report(Invariant::Slots, Some(id), format!("expected slots 0..{expected}, found {found:?}"));
        }
        let (least, most) = node.op.arity();
        let name = node.op.name();
        if slots.len() < least || slots.len() > most {
            let found = slots.len();
            let expected = if least == most { least.to_string() } else { format!("{least} to {most}") };
            self.report(Invariant::Arity, Some(id), format!("{name} takes {expected} operands, found {found}"));
        } else if let Op::Param(param) = &node.op
            && self.graph.param(*param).is_none()
        {
            self.report(Invariant::Parameters, Some(id), format!("p{} is not in the table", param.0));
        } else {
            let facts: Vec<&Fact> = slots.iter().map(|(_, operand)| &self.graph.node(*operand).fact).collect();
            match node.op.infer(self.graph, &facts) {
                Ok(fact) if fact == node.fact => {}
                Ok(fact) => {
                    let message = format!("{name} yields {fact}, found {}", node.fact);
                    self.report(Invariant::Facts, Some(id), message);
                }
                Err(misfit) => self.report(Invariant::Facts, Some(id), format!("{name}: {misfit}")),
            }
        }
        self.numbers(id);
        let width = row_width(&self.graph.node(id).fact);
        if let Some(message) = self.misfit(&self.graph.node(id).frame, width) {
            self.report(Invariant::Frames, Some(id), message);
        }
    }

    fn folds(&mut self) {
        for (index, param) in self.graph.params().iter().enumerate() {
            let Fold { product, rows, columns, .. } = &param.fold;
            let (first, last) = (param.shape.first().copied(), param.shape.last().copied());
            // Vectors of several heads are mapped as one row.
            let row = if param.shape.len() == 2 && columns.is_identity() {
                last.filter(|last| self.misfit(rows, *last).is_none()).or(Some(elements(&param.shape)))
            } else {
                last
            };
            let of_product = product.iter().flat_map(|product| [product.weight, product.vector]);
            let unknown = of_product.into_iter().find(|id| self.graph.param(*id).is_none());
            let message = self.misfit(rows, row.unwrap_or(1)).or_else(|| self.misfit(columns, first.unwrap_or(1)));
            let message = message.or(unknown.map(|id| format!("p{} is not in the table", id.0)));
            if let Some(message) = message {
                self.report(Invariant::Frames, None, format!("fold of p{index}: {message}"));
            }
        }
    }

    /// What is wrong with maps of rows of `width` elements.
    fn misfit(&self, chain: &Chain, width: u64) -> Option<String> {
        chain.factors().iter().find_map(|factor| {
            let block = match *factor {
                Factor::Rotation { id, .. } => self.graph.rotation(id).map(|rotation| rotation.width),
                Factor::Scale { id, .. } => self.graph.scale(id).map(|scale| scale.width),
                Factor::Gain { param, .. } => self.graph.param(param).map(|param| elements(&param.shape)),
            };
            match block {
                None => Some(format!("{factor} is not in the table")),
                Some(0) => Some(format!("{factor} has no elements")),
                Some(block) if !width.is_multiple_of(block) => {
                    Some(format!("expected {factor} on blocks that divide {width}, found {block}"))
                }
                Some(_) => None,
            }
        })
    }

    fn numbers(&mut self, id: NodeId) {
        let finite = |real: &Real| real.get().is_finite();
        let wrong = match &self.graph.node(id).op {
            Op::Normalize { eps } | Op::Norm { eps, .. } if !(finite(eps) && eps.get() >= 0.0) => {
                format!("expected a finite epsilon of 0 or more, found {eps}")
            }
            Op::Gain { offset } | Op::Norm { gain: Some(offset), .. } if !finite(offset) => {
                format!("expected a finite offset, found {offset}")
            }
            Op::Attention { scale, .. } if !finite(scale) => format!("expected a finite scale, found {scale}"),
            Op::Attention { window: Some(0), .. } => "expected a window of 1 or more, found 0".to_string(),
            Op::Attention { softcap: Some(cap), .. } | Op::Softcap { cap } if !(finite(cap) && cap.get() > 0.0) => {
                format!("expected a finite cap above 0, found {cap}")
            }
            Op::Affine { factor, offset } if !(finite(factor) && finite(offset)) => {
                format!("expected a finite factor and offset, found {factor} and {offset}")
            }
            Op::Clamp { low: None, high: None } => "expected a bound to clamp to, found none".to_string(),
            Op::Clamp { low, high } => {
                let bounds = [low, high].into_iter().flatten();
                let ordered = low.zip(*high).is_none_or(|(low, high)| low.get() <= high.get());
                if bounds.clone().all(finite) && ordered {
                    return;
                }
                let bounds: Vec<String> = bounds.map(Real::to_string).collect();
                format!("expected finite bounds in order, found {}", bounds.join(" and "))
            }
            _ => return,
        };
        self.report(Invariant::Numbers, Some(id), wrong);
    }

    fn rope_tables(&mut self) {
        for (index, table) in self.graph.rope_tables().iter().enumerate() {
            let finite = table.inverse_frequencies.iter().chain([&table.amplitude]).all(|value| value.is_finite());
            if !finite || table.inverse_frequencies.is_empty() {
                let message = format!("r{index}: expected finite frequencies, at least one");
                self.report(Invariant::Numbers, None, message);
            }
            let pairs = table.inverse_frequencies.len();
            let grows = match &table.growth {
                None => true,
                Some(RopeGrowth::Switch { positions, inverse_frequencies: other }) => {
                    *positions > 0 && other.len() == pairs && other.iter().all(|value| value.is_finite())
                }
                Some(RopeGrowth::Dynamic { positions, factor, theta }) => {
                    let numbers = factor.is_finite() && *factor >= 1.0 && theta.is_finite() && *theta > 0.0;
                    *positions > 0 && pairs > 1 && numbers
                }
            };
            if !grows {
                let message = format!("r{index}: expected growth by finite numbers for as many pairs");
                self.report(Invariant::Numbers, None, message);
            }
        }
    }

    fn params(&mut self) {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, param) in self.graph.params().iter().enumerate() {
            if let Some(first) = names.insert(&param.name, index) {
                let message = format!("p{first} and p{index} are both called {}", param.name);
                self.report(Invariant::Parameters, None, message);
            }
            let wrong = match &param.values {
                Values::Tied(other) => match self.graph.param(*other) {
                    Some(target) if matches!(target.values, Values::Tied(_)) => {
                        Some(format!("p{index} is tied to p{}, which is itself tied", other.0))
                    }
                    Some(target) if target.shape != param.shape => Some(format!(
                        "p{index} {:?} is tied to p{} {:?}: expected one shape",
                        param.shape, other.0, target.shape
                    )),
                    Some(_) => None,
                    None => Some(format!("p{index} is tied to p{}, which is not in the table", other.0)),
                },
                Values::Uniform | Values::Zeros if param.shape.len() != 1 => {
                    Some(format!("p{index} is made of one number, and {:?}: expected a vector", param.shape))
                }
                Values::Scale { id, .. } => match self.graph.scale(*id) {
                    Some(scale) if elements(&param.shape) == scale.width => None,
                    Some(scale) => Some(format!("p{index} is {:?}, found a scale of {}", param.shape, scale.width)),
                    None => Some(format!("p{index} is scale S{}, which is not in the table", id.0)),
                },
                Values::Uniform | Values::Zeros => None,
                Values::Stored(view) => {
                    let elements = param.shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
                    let found = view.elements();
                    if view.end().is_none() {
                        Some(format!("p{index} is {:?}, found a view that ends beyond 2^64", param.shape))
                    } else if found == 0 || elements != Some(found) {
                        Some(format!("p{index} is {:?}, found a view of {found} elements", param.shape))
                    } else {
                        None
                    }
                }
            };
            if let Some(message) = wrong {
                self.report(Invariant::Values, None, message);
            }
        }
    }

    fn output(&mut self) {
        let outputs: Vec<NodeId> =
            self.graph.nodes().filter(|(_, node)| node.op == Op::Output).map(|(id, _)| id).collect();
        if outputs.len() != 1 {
            self.report(Invariant::Output, None, format!("expected one output, found {}", outputs.len()));
        }
        for id in outputs {
            let users = self.graph.users(id).len();
            if users > 0 {
                self.report(Invariant::Output, Some(id), format!("expected no user of the output, found {users}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Node, read};

    const VALID: &str = "\
rope r0 half amplitude 1.0 frequencies 1.0 0.1
param p0 table [8, 4] tensor 0 rows 0..8
%0 tokens : token[T]
%1 param p0 : real[8, 4]
%2 embed %1 %0 : real[T, 4]
%3 linear %2 %1 : real[T, 8]
%4 output %3 : real[T, 8]
";

    #[test]
    fn text_round_trips_and_is_valid() {
        let graph = read(VALID).unwrap();
        assert_eq!(graph.to_string(), VALID);
        verify(&graph).unwrap();
    }

    /// The one invariant that the text of a graph cannot break.
    #[test]
    fn a_gap_or_a_double_in_the_slots_is_found() {
        for slots in [[0, 2], [0, 0], [1, 2]] {
            let mut graph = read(VALID).unwrap();
            let linear = NodeId(3);
            let Node { op, fact, .. } = graph.node(linear).clone();
            let copy =
                graph.add_unchecked(Node { op, fact, frame: Chain::IDENTITY, label: String::new(), origin: None }, &[]);
            for (slot, operand) in slots.into_iter().zip([NodeId(2), NodeId(1)]) {
                graph.connect(operand, copy, slot);
            }
            let violations = verify(&graph).unwrap_err();
            assert_eq!(violations[0].invariant, Invariant::Slots, "{slots:?}");
            assert_eq!(violations[0].node, Some(copy));
        }
    }
}
