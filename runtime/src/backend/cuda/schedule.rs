//! Which kernels a pass launches: a program as a list of launches, several steps in one where a kernel does several.
//!
//! ```text
//! add, norm, rotate                       rows       and rounds the result to what products take
//! norm, products with the same x          product    where the kernel of the product normalizes
//! rounding to int8, product               product    where the kernel of the product rounds
//! product, add                            product
//! two products, gated                     product
//! norms, rotary embeddings and rotations
//! of queries, keys and values, the cache  heads
//! select                                  nothing    a view of the last rows
//! ```
//!
//! Everything else is a launch of its own, so every valid program has a schedule. A step may run earlier or later than the
//! program says, but never before what it reads is written: buffers are written once, so order has no other meaning.
//!
//! What products read is kept in the form that they take, see [`Form`], and in f32 only where something else reads it.
//!
//! A schedule is made without a device; what devices differ in is asked of [`Abilities`].

mod forms;
mod fuse;
mod places;
mod print;
#[cfg(test)]
mod tests;

pub(crate) use places::{Key, Places};
pub(crate) use print::Listing;

use crate::program::{BufferId, CacheId, Index, Op, Program, RopeId, RotationId, Unary, WeightId};

/// What depends on the device and on how it holds weights.
pub(crate) trait Abilities {
    /// Whether one launch multiplies by all of these.
    fn joins(&self, weights: &[WeightId]) -> bool;
    /// Whether a product of one row normalizes it, in bf16, or in int8 where it quantizes.
    fn normalizes(&self, weight: WeightId) -> bool;
    /// Whether a product of one row in int8 rounds it.
    fn quantizes(&self, weight: WeightId) -> bool;
    /// Whether rows of this width are rotated in the launch that adds, normalizes and rounds them.
    fn rotates_rows(&self, rotation: RotationId, width: u32) -> bool;
}

/// How the elements of a buffer are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Form {
    /// As the program says: f32, or u32 indices.
    Real,
    /// Rounded to bf16.
    Bf16,
    /// Rounded to int8, a scale for each of so many equal parts of a row.
    Int8 {
        /// Parts.
        parts: u32,
    },
}

/// Forms that a launch writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Forms {
    pub(crate) real: bool,
    pub(crate) bf16: bool,
    /// With one scale for each row.
    pub(crate) int8: bool,
}

impl Forms {
    /// As the program says.
    pub(crate) const REAL: Forms = Forms { real: true, bf16: false, int8: false };

    fn iter(self) -> impl Iterator<Item = Form> {
        let forms = [(self.real, Form::Real), (self.bf16, Form::Bf16), (self.int8, Form::Int8 { parts: 1 })];
        forms.into_iter().filter_map(|(is_written, form)| is_written.then_some(form))
    }
}

/// A norm, as [`crate::program::Op::Norm`] has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Norm {
    pub(crate) centre: bool,
    pub(crate) along: Option<WeightId>,
    pub(crate) width: u32,
    pub(crate) eps: f32,
    pub(crate) gain: Option<WeightId>,
    pub(crate) gain_offset: f32,
    pub(crate) shift: Option<WeightId>,
}

/// A rotation, and whether to rotate back.
pub(crate) type Turn = (RotationId, bool);

/// Rows of a product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Operand {
    pub(crate) x: BufferId,
    /// The form in which they are multiplied.
    pub(crate) form: Form,
    /// Whether the product itself brings them into that form.
    pub(crate) within: bool,
}

impl Operand {
    /// What is read.
    fn read(&self) -> (BufferId, Form) {
        (self.x, if self.within { Form::Real } else { self.form })
    }
}

/// One of the weights of a product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    pub(crate) weight: WeightId,
    pub(crate) bias: Option<WeightId>,
    /// Where its product goes: nowhere where products are gated.
    pub(crate) out: Option<BufferId>,
}

/// What becomes of a product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Finish {
    /// It is written.
    Store,
    /// This is added to it.
    Add(BufferId),
    /// `f(first) · second`.
    Gated(Unary, BufferId, Forms),
}

/// Queries, keys or values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Head {
    pub(crate) x: BufferId,
    pub(crate) norm: Option<Norm>,
    pub(crate) rope: Option<RopeId>,
    pub(crate) turn: Option<Turn>,
    pub(crate) to: HeadTo,
}

/// Where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadTo {
    Buffer(BufferId),
    Keys(CacheId),
    Values(CacheId),
}

/// What is launched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    /// Sines and cosines of the positions of the pass.
    Angles(RopeId),
    Embed {
        table: WeightId,
        index: Index,
        first: u32,
        out: BufferId,
    },
    /// `x + add` (kept in `sum`), then the norm, then the rotation.
    Rows {
        x: BufferId,
        add: Option<BufferId>,
        sum: Option<BufferId>,
        norm: Option<Norm>,
        turn: Option<Turn>,
        out: BufferId,
        forms: Forms,
    },
    /// A buffer in another form.
    Round {
        x: BufferId,
        form: Form,
    },
    Product {
        x: Operand,
        norm: Option<Norm>,
        parts: Vec<Part>,
        finish: Finish,
    },
    /// The product with the weights of a step's experts.
    Experts {
        x: Operand,
        step: usize,
    },
    Heads {
        heads: Vec<Head>,
        head_dim: u32,
    },
    /// Over keys and values that are in the cache already.
    Attention {
        step: usize,
        forms: Forms,
    },
    /// Step by step what the program says.
    Step {
        step: usize,
        forms: Forms,
    },
}

/// A launch, and the steps that it computes, of which the last names it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Launch {
    pub(crate) call: Call,
    pub(crate) steps: Vec<usize>,
}

/// The launches of a pass.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) launches: Vec<Launch>,
    /// For each buffer the one whose last rows it is.
    views: Vec<Option<BufferId>>,
}

/// For how many rows a schedule is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A pass of one token.
    One,
    /// A pass of any number of tokens.
    Many,
}

impl Schedule {
    /// Of a valid program, with as few launches as there can be.
    pub(crate) fn new(program: &Program, abilities: &dyn Abilities, kind: Kind) -> Schedule {
        let views = forms::views(program);
        let launches = forms::complete(program, &views, fuse::fused(program, abilities, kind));
        Schedule { launches, views }
    }

    /// Of a valid program, each step on its own and in its place. Gives the number of launches up to the end of each step.
    pub(crate) fn step_by_step(program: &Program) -> (Schedule, Vec<usize>) {
        let mut launches = Vec::new();
        let mut ends = Vec::with_capacity(program.steps.len());
        for launch in forms::angles(fuse::single(program)) {
            if let Some(&step) = launch.steps.last() {
                ends.resize(step, launches.len());
            }
            launches.extend(forms::rounds_before(program, &launch));
            launches.push(launch);
        }
        ends.resize(program.steps.len(), launches.len());
        (Schedule { launches, views: vec![None; program.buffers.len()] }, ends)
    }

    /// Where a buffer lies: in itself, or in the last rows of another.
    pub(crate) fn source(&self, buffer: BufferId) -> (BufferId, bool) {
        self.views[buffer.index()].map_or((buffer, false), |source| (source, true))
    }
}

impl Launch {
    /// What it reads.
    pub(crate) fn reads(&self, program: &Program) -> Vec<(BufferId, Form)> {
        let real = |buffer| (buffer, Form::Real);
        match &self.call {
            Call::Angles(_) | Call::Embed { .. } => Vec::new(),
            Call::Rows { x, add, .. } => [Some(*x), *add].into_iter().flatten().map(real).collect(),
            Call::Round { x, .. } => vec![real(*x)],
            Call::Product { x, finish, .. } => {
                let added = if let Finish::Add(buffer) = finish { Some(real(*buffer)) } else { None };
                [x.read()].into_iter().chain(added).collect()
            }
            Call::Experts { x, step } => {
                let choice = program.steps[*step].op.inputs().nth(1);
                [x.read()].into_iter().chain(choice.map(real)).collect()
            }
            Call::Heads { heads, .. } => heads.iter().map(|head| real(head.x)).collect(),
            Call::Attention { step, .. } => program.steps[*step].op.inputs().take(1).map(real).collect(),
            Call::Step { step, .. } => program.steps[*step].op.inputs().map(real).collect(),
        }
    }

    /// What it writes.
    pub(crate) fn writes(&self, program: &Program) -> Vec<(BufferId, Form)> {
        let real = |buffer| (buffer, Form::Real);
        let all = |buffer, forms: Forms| forms.iter().map(move |form| (buffer, form));
        match &self.call {
            Call::Angles(_) => Vec::new(),
            Call::Embed { out, .. } => vec![real(*out)],
            Call::Rows { sum, out, forms, .. } => sum.map(real).into_iter().chain(all(*out, *forms)).collect(),
            Call::Round { x, form } => vec![(*x, *form)],
            Call::Product { parts, finish, .. } => match finish {
                Finish::Gated(_, out, forms) => all(*out, *forms).collect(),
                Finish::Store | Finish::Add(_) => parts.iter().filter_map(|part| part.out).map(real).collect(),
            },
            Call::Experts { step, .. } => vec![real(program.steps[*step].op.out())],
            Call::Heads { heads, .. } => {
                let buffer = |head: &Head| if let HeadTo::Buffer(out) = head.to { Some(real(out)) } else { None };
                heads.iter().filter_map(buffer).collect()
            }
            Call::Attention { step, forms } | Call::Step { step, forms } => {
                all(program.steps[*step].op.out(), *forms).collect()
            }
        }
    }

    /// The rotary embeddings whose angles it reads.
    fn ropes(&self) -> impl Iterator<Item = RopeId> + '_ {
        let heads: &[Head] = if let Call::Heads { heads, .. } = &self.call { heads } else { &[] };
        heads.iter().filter_map(|head| head.rope)
    }

    /// The forms that it is to write of a buffer, where it writes more than one.
    fn forms_mut(&mut self, program: &Program, buffer: BufferId) -> Option<&mut Forms> {
        match &mut self.call {
            Call::Rows { out, forms, .. } | Call::Product { finish: Finish::Gated(_, out, forms), .. } => {
                (*out == buffer).then_some(forms)
            }
            Call::Attention { step, forms } | Call::Step { step, forms } => {
                (program.steps[*step].op.out() == buffer).then_some(forms)
            }
            Call::Angles(_)
            | Call::Embed { .. }
            | Call::Round { .. }
            | Call::Product { .. }
            | Call::Experts { .. }
            | Call::Heads { .. } => None,
        }
    }

    /// Which forms its kernel can write, besides f32.
    fn can_write(&self, program: &Program) -> Forms {
        match &self.call {
            Call::Rows { .. } => Forms { real: true, bf16: true, int8: true },
            Call::Attention { .. } | Call::Product { finish: Finish::Gated(..), .. } => {
                Forms { bf16: true, ..Forms::REAL }
            }
            Call::Step { step, .. } if matches!(program.steps[*step].op, Op::Unary { .. } | Op::Gated { .. }) => {
                Forms { bf16: true, ..Forms::REAL }
            }
            Call::Angles(_)
            | Call::Embed { .. }
            | Call::Round { .. }
            | Call::Product { .. }
            | Call::Experts { .. }
            | Call::Heads { .. }
            | Call::Step { .. } => Forms::REAL,
        }
    }
}
