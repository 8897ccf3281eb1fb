//! The one AST that both syntaxes produce. Spans do not take part in equality.

use crate::pattern::Pattern;
use crate::span::{Span, Spanned};

/// One text: `lathe 1` and its items.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// Version of the language.
    pub version: Spanned<u32>,
    /// Specs and models, in the order of the text.
    pub items: Vec<Item>,
}

/// A spec or a model definition.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// `spec NAME { … }`
    Spec(Spec),
    /// `model NAME { … }`
    Model(Model),
}

/// Maps module patterns to formats.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Its name.
    pub name: Spanned<String>,
    /// The rules, in the order of the text. The last one that matches decides.
    pub rules: Vec<Rule>,
}

/// `PATTERN => FORMAT [optional]`
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which modules.
    pub pattern: Spanned<Pattern>,
    /// What they become.
    pub format: Spanned<FormatExpr>,
    /// Whether it may match nothing.
    pub optional: bool,
    /// The whole rule.
    pub span: Span,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern && self.format == other.format && self.optional == other.optional
    }
}

/// `keep`, `keep(exact)`, `int4(group: 128)`: a name and arguments, checked against the table of formats later.
#[derive(Debug, Clone, PartialEq)]
pub struct FormatExpr {
    /// `keep`, `int8`, …
    pub name: String,
    /// In the order of the text.
    pub args: Vec<Arg>,
}

/// A model definition: an architecture as data.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its name.
    pub name: Spanned<String>,
    /// Declarations, in the order of the text.
    pub body: Vec<Decl>,
}

/// One declaration of a model.
#[derive(Debug, Clone)]
pub struct Decl {
    /// What is declared.
    pub kind: DeclKind,
    /// The whole declaration.
    pub span: Span,
}

impl PartialEq for Decl {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// The kinds of declaration.
#[derive(Debug, Clone, PartialEq)]
pub enum DeclKind {
    /// `architectures "A", "B"`: the names in config.json that select this definition.
    Architectures(Vec<Spanned<String>>),
    /// `let NAME = EXPR`
    Let {
        /// Name bound.
        name: Spanned<String>,
        /// Its value.
        value: Expr,
    },
    /// `assert EXPR, "message"`
    Assert {
        /// Must evaluate to true.
        condition: Expr,
        /// What this definition was written for.
        message: Option<Spanned<String>>,
    },
    /// `context EXPR`: the largest number of positions that the model was made for.
    Context(Expr),
    /// `module a.b = linear(…)`, and inside a scope `a, b = linear(…)`.
    Module {
        /// One module per path, all alike.
        paths: Vec<Path>,
        /// Constructor call.
        constructor: Expr,
    },
    /// `module a.b[i] { … }`: declarations under a common path.
    Scope {
        /// The common path.
        path: Path,
        /// What is under it.
        body: Vec<Decl>,
    },
    /// `repeat i in A..B { … }`
    Repeat {
        /// Loop variable.
        variable: Spanned<String>,
        /// First value.
        start: Expr,
        /// One past the last.
        end: Expr,
        /// Repeated declarations.
        body: Vec<Decl>,
    },
    /// `if EXPR { … } else { … }`
    If {
        /// A bool.
        condition: Expr,
        /// Declared when true.
        then: Vec<Decl>,
        /// Declared when false.
        otherwise: Vec<Decl>,
    },
    /// `ignore tensors "…"` or `ignore config "…"`
    Ignore {
        /// Tensors of the checkpoint, or keys of config.json.
        what: Ignored,
        /// Names; those of tensors may hold `*` and `**`.
        names: Vec<Spanned<String>>,
    },
    /// `graph(tokens, positions) { … }`
    Graph {
        /// Names of the inputs.
        parameters: Vec<Spanned<String>>,
        /// Statements.
        body: Vec<Stmt>,
    },
}

/// What an `ignore` speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Stored tensors.
    Tensors,
    /// Keys of config.json.
    Config,
}

/// A module path with computed indices: `model.layers[i].mlp`.
#[derive(Debug, Clone)]
pub struct Path {
    /// Its segments; `layers[i]` is two.
    pub segments: Vec<PathSegment>,
    /// The whole path.
    pub span: Span,
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.segments == other.segments
    }
}

/// A segment of a [`Path`].
#[derive(Debug, Clone, PartialEq)]
pub enum PathSegment {
    /// `mlp`
    Name(String),
    /// `[i]`
    Index(Expr),
}

/// A statement of the graph.
#[derive(Debug, Clone)]
pub struct Stmt {
    /// What it does.
    pub kind: StmtKind,
    /// The whole statement.
    pub span: Span,
}

impl PartialEq for Stmt {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// The kinds of statement.
#[derive(Debug, Clone, PartialEq)]
pub enum StmtKind {
    /// `x = EXPR`: binds or rebinds.
    Assign {
        /// Name bound.
        name: Spanned<String>,
        /// Its new value.
        value: Expr,
    },
    /// `for layer in EXPR { … }` or `for i, layer in EXPR { … }`
    For {
        /// Counts from 0.
        index: Option<Spanned<String>>,
        /// Each element.
        variable: Spanned<String>,
        /// A list, or a repeated module.
        over: Expr,
        /// Repeated statements.
        body: Vec<Stmt>,
    },
    /// `if EXPR { … } else { … }`
    If {
        /// A bool.
        condition: Expr,
        /// Run when true.
        then: Vec<Stmt>,
        /// Run when false.
        otherwise: Vec<Stmt>,
    },
    /// `return EXPR`
    Return(Expr),
}

/// An expression.
#[derive(Debug, Clone)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// All of it.
    pub span: Span,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// The kinds of expression.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// `42`
    Int(i64),
    /// `1e-6`, `0.5`
    Float(f64),
    /// `"text"`
    Str(String),
    /// `[a, b]`
    List(Vec<Expr>),
    /// A `let`, a loop variable, an input, a module's first segment, a function, `config`.
    Name(String),
    /// `a.b`
    Member(Box<Expr>, Spanned<String>),
    /// `a[b]`
    Index(Box<Expr>, Box<Expr>),
    /// `f(x, name: y)`
    Call {
        /// A function, a constructor or a module.
        callee: Box<Expr>,
        /// Arguments, positional ones first.
        args: Vec<Arg>,
    },
    /// `-a`, `!a`
    Unary(UnaryOp, Box<Expr>),
    /// `a + b`, `a or b`
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `if c { a } else { b }`
    If {
        /// A bool.
        condition: Box<Expr>,
        /// Value when true.
        then: Box<Expr>,
        /// Value when false.
        otherwise: Box<Expr>,
    },
    /// `a when c`: `a` when `c` holds, else `null`.
    When(Box<Expr>, Box<Expr>),
}

/// An argument, positional or named.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// `eps` in `eps: 1e-6`.
    pub name: Option<Spanned<String>>,
    /// Its value.
    pub value: Expr,
}

/// Prefix operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-`
    Neg,
    /// `!`
    Not,
}

/// Infix operators, loosest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    /// `a or b`: `b` when `a` is missing or null.
    Or,
    /// `||`
    Either,
    /// `&&`
    Both,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`: exact between integers, else an error.
    Div,
    /// `%`
    Rem,
    /// `^`, right-associative, binds tighter than a prefix minus on its left.
    Pow,
}
