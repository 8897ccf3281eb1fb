//! Definitions and checkpoints with other names in another order.
//!
//! Every segment of a module path, and every name that a definition binds, becomes another by one function of its text.
//! What the language itself names stays: functions, constructors, the inputs of a graph, keys of config.json.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use lathe_compiler::elaborate::{CONSTRUCTORS, FUNCTIONS};
use lathe_grammar::ast::{
    BinaryOp, Decl, DeclKind, Expr, ExprKind, Ignored, Model, Path, PathSegment, Stmt, StmtKind, Subscript,
};

use super::forge::Forge;
use super::random::Random;

/// Functions that are given the names of tensors.
const OF_TENSORS: [&str; 2] = ["stored", "has_tensor"];

/// Renames and shuffles.
pub(crate) struct Renamer {
    fixed: BTreeSet<String>,
    random: RefCell<Random>,
    names: RefCell<BTreeMap<String, String>>,
    /// Names that stand for a part of config.json, as they were.
    of_config: RefCell<BTreeSet<String>>,
}

impl Renamer {
    pub(crate) fn new(seed: u64) -> Self {
        let functions = FUNCTIONS.iter().map(|function| function.name);
        let constructors = CONSTRUCTORS.iter().map(|constructor| constructor.name);
        let words = ["config", "tokens", "positions", "weight", "bias", ""];
        let fixed = functions.chain(constructors).chain(words).map(str::to_string).collect();
        Renamer {
            fixed,
            random: RefCell::new(Random::new(seed)),
            names: RefCell::default(),
            of_config: RefCell::default(),
        }
    }

    /// What a name becomes: always the same, and no two become one.
    fn name(&self, name: &str) -> String {
        if self.fixed.contains(name) || !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
            return name.to_string();
        }
        let mut names = self.names.borrow_mut();
        let count = names.len();
        let prefix = self.random.borrow_mut().below(26) as u8 + b'a';
        names.entry(name.to_string()).or_insert_with(|| format!("{}_{count}", char::from(prefix))).clone()
    }

    /// A path of segments between dots, which may be a pattern.
    fn path(&self, path: &str) -> String {
        path.split('.').map(|segment| self.name(segment)).collect::<Vec<_>>().join(".")
    }

    /// What a path was called before.
    pub(crate) fn original(&self, path: &str) -> String {
        let names = self.names.borrow();
        let known = |segment: &str| names.iter().find(|(_, new)| *new == segment).map(|(old, _)| old.clone());
        let segments = path.split('.').map(|segment| known(segment).unwrap_or_else(|| segment.to_string()));
        segments.collect::<Vec<_>>().join(".")
    }

    /// A checkpoint whose tensors have other names, in another order of the file.
    pub(crate) fn tensors(&self, tensors: &Forge) -> Forge {
        let mut order: Vec<usize> = (0..tensors.entries.len()).collect();
        self.random.borrow_mut().shuffle(&mut order);
        let mut renamed = Forge::default();
        for index in order {
            let entry = &tensors.entries[index];
            let bytes = &tensors.data[entry.offsets.0 as usize..entry.offsets.1 as usize];
            renamed.push(&self.path(&entry.name), entry.dtype, &entry.shape, bytes);
        }
        renamed
    }

    /// A definition that extends nothing, with other names and its declarations in another order.
    pub(crate) fn model(&self, mut model: Model) -> Model {
        // Lets may stand in any order: until no more are found.
        let mut known = usize::MAX;
        while known != self.of_config.borrow().len() {
            known = self.of_config.borrow().len();
            self.note_config(&model.body);
        }
        self.declarations(&mut model.body);
        model
    }

    fn note_config(&self, declarations: &[Decl]) {
        for declaration in declarations {
            match &declaration.kind {
                DeclKind::Let { name, value } if self.is_config(value) => {
                    self.of_config.borrow_mut().insert(name.value.clone());
                }
                DeclKind::Scope { body, .. } | DeclKind::Repeat { body, .. } => self.note_config(body),
                DeclKind::If { then, otherwise, .. } => {
                    self.note_config(then);
                    self.note_config(otherwise);
                }
                _ => {}
            }
        }
    }

    /// Whether an expression is config.json or a part of it.
    fn is_config(&self, expr: &Expr) -> bool {
        match &expr.kind {
            ExprKind::Name(name) => name == "config" || self.of_config.borrow().contains(name),
            ExprKind::Member(base, _) | ExprKind::Index(base, _) | ExprKind::When(base, _) => self.is_config(base),
            ExprKind::Binary(BinaryOp::Or, value, other) => self.is_config(value) || self.is_config(other),
            _ => false,
        }
    }

    fn rename(&self, name: &mut String) {
        *name = self.name(name);
    }

    fn declarations(&self, declarations: &mut [Decl]) {
        self.random.borrow_mut().shuffle(declarations);
        for declaration in declarations {
            match &mut declaration.kind {
                DeclKind::Architectures(names) => self.random.borrow_mut().shuffle(names),
                DeclKind::Let { name, value } => {
                    self.rename(&mut name.value);
                    self.expr(value);
                }
                DeclKind::Assert { condition, .. } => self.expr(condition),
                DeclKind::Context(value) => self.expr(value),
                DeclKind::Module { paths, constructor } => {
                    self.random.borrow_mut().shuffle(paths);
                    for path in paths {
                        self.module_path(path);
                    }
                    self.expr(constructor);
                }
                DeclKind::Scope { path, body } => {
                    self.module_path(path);
                    self.declarations(body);
                }
                DeclKind::Repeat { variable, start, end, body } => {
                    self.rename(&mut variable.value);
                    for bound in [start, end] {
                        self.expr(bound);
                    }
                    self.declarations(body);
                }
                DeclKind::If { condition, then, otherwise } => {
                    self.expr(condition);
                    self.declarations(then);
                    self.declarations(otherwise);
                }
                DeclKind::Ignore { what, names } => {
                    self.random.borrow_mut().shuffle(names);
                    if *what == Ignored::Tensors {
                        for name in names {
                            name.value = self.path(&name.value);
                        }
                    }
                }
                DeclKind::Alias { path, stored } => {
                    path.value = self.path(&path.value);
                    for stored in stored {
                        stored.value = self.path(&stored.value);
                    }
                }
                DeclKind::Block { name, parameters, body } => {
                    self.rename(&mut name.value);
                    for parameter in parameters {
                        self.rename(&mut parameter.value);
                    }
                    self.statements(body);
                }
                DeclKind::Graph { body, .. } => self.statements(body),
            }
        }
    }

    fn module_path(&self, path: &mut Path) {
        for segment in &mut path.segments {
            match segment {
                PathSegment::Name(name) => self.rename(name),
                PathSegment::Index(index) => self.expr(index),
            }
        }
    }

    fn statements(&self, statements: &mut [Stmt]) {
        for statement in statements {
            match &mut statement.kind {
                StmtKind::Assign { name, value } => {
                    self.rename(&mut name.value);
                    self.expr(value);
                }
                StmtKind::For { index, variable, over, body } => {
                    if let Some(index) = index {
                        self.rename(&mut index.value);
                    }
                    self.rename(&mut variable.value);
                    self.expr(over);
                    self.statements(body);
                }
                StmtKind::If { condition, then, otherwise } => {
                    self.expr(condition);
                    self.statements(then);
                    self.statements(otherwise);
                }
                StmtKind::Return(value) => self.expr(value),
            }
        }
    }

    fn expr(&self, expr: &mut Expr) {
        match &mut expr.kind {
            ExprKind::Null | ExprKind::Bool(_) | ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Str(_) => {}
            ExprKind::List(items) => items.iter_mut().for_each(|item| self.expr(item)),
            ExprKind::Name(name) => self.rename(name),
            ExprKind::Member(base, name) => {
                if !self.is_config(base) {
                    self.rename(&mut name.value);
                }
                self.expr(base);
            }
            ExprKind::Index(base, index) => {
                for part in [base, index] {
                    self.expr(part);
                }
            }
            ExprKind::Slice(base, subscripts) => {
                self.expr(base);
                for subscript in subscripts {
                    match subscript {
                        Subscript::All => {}
                        Subscript::At(index) => self.expr(index),
                        Subscript::Range(first, last) => {
                            for bound in [first, last].into_iter().flatten() {
                                self.expr(bound);
                            }
                        }
                    }
                }
            }
            ExprKind::Call { callee, args } => {
                let of_tensors = matches!(&callee.kind, ExprKind::Name(name) if OF_TENSORS.contains(&name.as_str()));
                for arg in args {
                    if of_tensors {
                        self.tensor_names(&mut arg.value);
                    }
                    self.expr(&mut arg.value);
                }
                self.expr(callee);
            }
            ExprKind::Unary(_, value) => self.expr(value),
            ExprKind::Binary(_, left, right) | ExprKind::When(left, right) => {
                for part in [left, right] {
                    self.expr(part);
                }
            }
            ExprKind::If { condition, then, otherwise } => {
                for part in [condition, then, otherwise] {
                    self.expr(part);
                }
            }
        }
    }

    /// Texts that are names of tensors.
    fn tensor_names(&self, expr: &mut Expr) {
        match &mut expr.kind {
            ExprKind::Str(name) => *name = self.path(name),
            ExprKind::List(items) => items.iter_mut().for_each(|item| self.tensor_names(item)),
            ExprKind::Binary(_, left, right) => {
                for part in [left, right] {
                    self.tensor_names(part);
                }
            }
            _ => {}
        }
    }
}
