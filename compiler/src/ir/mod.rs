//! The graph: what a model computes, before anyone has decided how.
//!
//! A node is one operation with one result. An edge carries that result to a user; its *slot* says which operand it
//! is. Row vectors throughout: an activation is `[rows, …]`, a linear with weight W `[out, in]` computes `x Wᵀ`.
//!
//! **Symbolic rows.** The first dimension of an activation is `T`, the tokens of a step, or `S`, the tokens among them
//! whose logits are asked for. All other dimensions are numbers. Only attention mixes tokens; every other operation
//! treats each row alone, which is what lets a pass move [`Op::Select`] across them.
//!
//! **Parameters** are nodes too. [`Op::Param`] names an entry of the graph's parameter table, which says what the
//! tensor is called, its shape, and where its values come from: a stored tensor, or the table that it is tied to. Two
//! users of one parameter are two edges from one node, so what is tied is stored once.
//!
//! **Meaning of the operations** is documented on [`Op`]; [`Op::infer`] gives the shape of the result and refuses
//! operands that do not fit. [`verify()`] begins with the list of invariants that hold between passes.
//!
//! **Frames.** A result may be held in another basis than the one that its operation states: [`Node::frame`] says how to
//! turn it back, and [`Param::fold`] what the stored values of a parameter become so that the two fit. Before the pass that
//! fuses rotations all frames are the identity.
//!
//! **Identity.** petgraph reuses the index of a removed node, so nodes are known by our own [`NodeId`], which is never
//! reused; petgraph's types do not leave this module. Order, wherever output depends on it, is
//! [`Graph::topological`]: dependencies first, ties by [`NodeId`].

mod edit;
mod fact;
mod frame;
mod graph;
mod listing;
mod op;
mod print;
mod read;
mod verify;
mod view;

pub use edit::{Bases, Edit, NewNode, Operand};
pub use fact::{Dim, Dtype, Fact, Misfit};
pub use frame::{Basis, Chain, Factor, Fold, Product, Rotation, RotationId, Scale, ScaleId};
pub use graph::{Graph, Node, NodeId, Param, ParamId, TensorId, Values};
pub use op::{Op, Real, RopeId};
pub use read::{ReadError, read};
pub use verify::{Invariant, Violation, verify};
pub use view::{Axis, Shaped, View, ViewError};
