//! The one AST that both syntaxes produce. Spans do not take part in equality.

use crate::pattern::Pattern;
use crate::span::{Span, Spanned};

/// One text: `lathe 1` and its items.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// Version of the language.
    pub version: Spanned<u32>,
    /// In the order of the text: every `use` stands before all other items.
    pub items: Vec<Item>,
}

impl File {
    /// The specs, in the order of the text.
    pub fn specs(&self) -> impl Iterator<Item = &Spec> {
        self.items.iter().filter_map(|item| if let ItemKind::Spec(spec) = &item.kind { Some(spec) } else { None })
    }

    /// The model definitions, in the order of the text.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.items.iter().filter_map(|item| if let ItemKind::Model(model) = &item.kind { Some(model) } else { None })
    }
}

/// One item of a file.
#[derive(Debug, Clone)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// The whole item.
    pub span: Span,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// The kinds of item.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a file has a handful of items")]
pub enum ItemKind {
    /// `use "PATH"`: the names of another file.
    Use(Spanned<String>),
    /// `let NAME = VALUE`, for every spec of the file.
    Let(Let),
    /// `spec NAME { … }`
    Spec(Spec),
    /// `model NAME [extends BASE] { … }`
    Model(Model),
}

/// Maps module patterns to formats, edges to rotations. Sections that were not written are `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Its name.
    pub name: Spanned<String>,
    /// The spec that it builds on: the name of one in scope, or the path of a file that holds one.
    pub extends: Option<Spanned<String>>,
    /// `models a, b`: definitions or model types that it is meant for.
    pub models: Option<Spanned<Vec<Spanned<String>>>>,
    /// `let NAME = VALUE`, in the order of the text.
    pub lets: Vec<Let>,
    /// `rules { … }`, in the order of the text. The last one that matches decides.
    pub rules: Option<Spanned<Vec<Rule>>>,
    /// `rotate { … }`
    pub rotate: Option<Spanned<Vec<Rotation>>>,
    /// `kv_cache => FORMAT`
    pub kv_cache: Option<Spanned<Call>>,
    /// `tied => share`: what becomes of tables that several modules share.
    pub tied: Option<Spanned<String>>,
    /// `table_basis => rotated`: in which frame such tables are stored.
    pub table_basis: Option<Spanned<String>>,
    /// `compute => f32`: the dtype of activations between operations.
    pub compute: Option<Spanned<String>>,
}

impl Spec {
    /// The settings that are words, by their names, in the order in which they are printed.
    pub fn words(&self) -> [(&'static str, Option<&Spanned<String>>); 3] {
        let Spec { tied, table_basis, compute, .. } = self;
        [("tied", tied.as_ref()), ("table_basis", table_basis.as_ref()), ("compute", compute.as_ref())]
    }

    /// A setting that is a word.
    pub fn word_mut(&mut self, name: &str) -> Option<&mut Option<Spanned<String>>> {
        match name {
            "tied" => Some(&mut self.tied),
            "table_basis" => Some(&mut self.table_basis),
            "compute" => Some(&mut self.compute),
            _ => None,
        }
    }
}

/// `let NAME = VALUE`: a format, a rotation, a number or a word, under a name.
#[derive(Debug, Clone)]
pub struct Let {
    /// Name bound.
    pub name: Spanned<String>,
    /// A [`Call`] as an expression, or a literal; what it may be depends on where the name is used.
    pub value: Expr,
    /// The whole binding.
    pub span: Span,
}

impl PartialEq for Let {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value
    }
}

/// `PATTERN => FORMAT [with input FORMAT] [optional]`. At least one of the formats is there.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which modules.
    pub pattern: Spanned<Pattern>,
    /// What their weights become. `None` in `PATTERN => with input FORMAT`, which decides about inputs alone.
    pub format: Option<Spanned<Call>>,
    /// What their input activations become.
    pub input: Option<Spanned<Call>>,
    /// Whether it may match nothing.
    pub optional: bool,
    /// The whole rule.
    pub span: Span,
}

impl Rule {
    /// Whether its pattern and its formats could be read.
    pub fn is_readable(&self) -> bool {
        self.pattern.value.is_readable() && self.format.iter().chain(&self.input).all(|call| call.value.is_readable())
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        (&self.pattern, &self.format, &self.input, self.optional)
            == (&other.pattern, &other.format, &other.input, other.optional)
    }
}

/// `SITE [of PATTERN] by ROTATION [offline] [optional]`
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Which edges of the graph: `residual`, `value`, …, `input`.
    pub site: Spanned<String>,
    /// Only those in, or into, what matches.
    pub within: Option<Spanned<Pattern>>,
    /// By what.
    pub by: Spanned<Call>,
    /// Whether an operation at run time is refused.
    pub offline: bool,
    /// Whether there may be no such edge.
    pub optional: bool,
    /// The whole request.
    pub span: Span,
}

impl PartialEq for Rotation {
    fn eq(&self, other: &Self) -> bool {
        (&self.site, &self.within, &self.by, self.offline, self.optional)
            == (&other.site, &other.within, &other.by, other.offline, other.optional)
    }
}

/// `keep`, `keep(exact)`, `int4(group: 128)`, `random_hadamard(seed: 7)`: a name and arguments, checked against the
/// tables of formats and rotations later.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `keep`, `int8`, …, or a `let`. Empty, which cannot be written, in place of a call that could not be read: that was
    /// reported.
    pub name: Spanned<String>,
    /// In the order of the text.
    pub args: Vec<Arg>,
}

impl Call {
    /// Stands for one at `span` that could not be read.
    pub fn unreadable(span: Span) -> Spanned<Call> {
        Spanned::new(Call { name: Spanned::new(String::new(), span), args: Vec::new() }, span)
    }

    /// Whether it could be read.
    pub fn is_readable(&self) -> bool {
        !self.name.value.is_empty()
    }
}

/// A model definition: an architecture as data.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Its name.
    pub name: Spanned<String>,
    /// The model that it builds on: the name of one in scope, or the path of a file that holds one.
    pub extends: Option<Spanned<String>>,
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
    /// `alias "PATH" = "STORED", "STORED"`
    Alias {
        /// The path of modules; empty for all of them.
        path: Spanned<String>,
        /// What tensors below it may be stored under instead; empty for nothing in front of their names.
        stored: Vec<Spanned<String>>,
    },
    /// `block NAME(a, b) { … }`: a function of the graph.
    Block {
        /// Its name.
        name: Spanned<String>,
        /// Names of the arguments.
        parameters: Vec<Spanned<String>>,
        /// Statements.
        body: Vec<Stmt>,
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

/// A statement of the graph or of a block.
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
    /// `a[b..c, ..]`: what is not one index.
    Slice(Box<Expr>, Vec<Subscript>),
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

/// What a [`ExprKind::Slice`] takes along one dimension.
#[derive(Debug, Clone, PartialEq)]
pub enum Subscript {
    /// `..`
    All,
    /// `a`
    At(Expr),
    /// `a..b`, `a..`, `..b`: from the first up to, not including, the last.
    Range(Option<Expr>, Option<Expr>),
}

impl Subscript {
    /// The expressions in it.
    pub fn bounds(&self) -> impl Iterator<Item = &Expr> {
        let (first, last) = match self {
            Subscript::All => (None, None),
            Subscript::At(index) => (Some(index), None),
            Subscript::Range(first, last) => (first.as_ref(), last.as_ref()),
        };
        first.into_iter().chain(last)
    }
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
