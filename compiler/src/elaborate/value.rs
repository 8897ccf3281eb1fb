//! Values of expressions, and the scopes that names are looked up in.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use lathe_grammar::ast::Expr;

use super::ModuleId;
use crate::ir::{NodeId, RopeId, Shaped};

/// The value is missing, and the reason has been reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported;

/// What an expression evaluates to.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A key that config.json does not have; the path for messages.
    Missing(String),
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    List(Rc<Vec<Value>>),
    /// An object of config.json, by its path; the root is empty.
    Object(Vec<String>),
    /// A stored tensor, or a part of it.
    View(Rc<Shaped>),
    /// Frequencies of a rotary embedding.
    Rope(RopeId),
    /// A part of a module path that is no module itself: `model.layers`.
    Container(String),
    Module(ModuleId),
    /// A part of a repeated module that each row has chosen for itself: `container.*.rest`.
    Chosen(Rc<Chosen>),
    /// An activation.
    Node(NodeId),
}

/// A module of each child of a container, of which each row has chosen some.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    /// Path of the container.
    pub(super) container: String,
    /// Path of the module below each child, with a dot in front; empty for the child itself.
    pub(super) rest: String,
    /// The choice.
    pub(super) choice: NodeId,
}

impl Value {
    /// What it is, for messages: `the number 3`.
    pub(super) fn describe(&self) -> String {
        match self {
            Value::Missing(path) => format!("`{path}`, which config.json does not have"),
            Value::Null => "null".into(),
            Value::Bool(value) => format!("{value}"),
            Value::Int(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value:?}"),
            Value::Str(value) => format!("the string {value:?}"),
            Value::List(values) => format!("a list of {}", values.len()),
            Value::Object(path) if path.is_empty() => "the whole config".into(),
            Value::Object(path) => format!("the object `{}` of config.json", path.join(".")),
            Value::View(view) => format!("a stored tensor {:?}", view.shape()),
            Value::Chosen(chosen) => format!("chosen modules `{}.*{}`", chosen.container, chosen.rest),
            Value::Rope(_) => "rotary frequencies".into(),
            Value::Container(path) => format!("the container `{path}`"),
            Value::Module(_) => "a module".into(),
            Value::Node(_) => "an activation".into(),
        }
    }
}

/// A name and what it stands for.
pub(super) enum Binding<'a> {
    /// A `let` that nobody has used yet.
    Deferred(&'a Expr),
    /// A `let` that is being evaluated: using it is a cycle.
    Evaluating,
    /// Evaluated; an error was reported once and is not repeated.
    Done(Result<Value, Reported>),
}

/// Names of one block. Lookups go on in the parent.
pub(super) struct Scope<'a> {
    parent: Option<Rc<Scope<'a>>>,
    /// Assignments do not reach past this block.
    frontier: bool,
    /// Path of the modules that are declared in this block, where that differs from its parent's.
    prefix: Option<Rc<str>>,
    names: RefCell<BTreeMap<String, Binding<'a>>>,
}

impl<'a> Scope<'a> {
    pub(super) fn root() -> Rc<Self> {
        Rc::new(Scope { parent: None, frontier: true, prefix: None, names: RefCell::default() })
    }

    pub(super) fn child(parent: &Rc<Self>) -> Rc<Self> {
        Rc::new(Scope { parent: Some(Rc::clone(parent)), frontier: false, prefix: None, names: RefCell::default() })
    }

    /// The block of a module path.
    pub(super) fn below(parent: &Rc<Self>, prefix: &str) -> Rc<Self> {
        let parent = Some(Rc::clone(parent));
        Rc::new(Scope { parent, frontier: false, prefix: Some(prefix.into()), names: RefCell::default() })
    }

    /// A block whose assignments shadow the names of its parents: the graph's.
    pub(super) fn frontier(parent: &Rc<Self>) -> Rc<Self> {
        Rc::new(Scope { parent: Some(Rc::clone(parent)), frontier: true, prefix: None, names: RefCell::default() })
    }

    /// The scope of the model.
    pub(super) fn root_of(self: &Rc<Self>) -> Rc<Self> {
        self.parent.as_ref().map_or_else(|| Rc::clone(self), Scope::root_of)
    }

    /// Path of the modules that are declared here.
    pub(super) fn prefix(&self) -> Rc<str> {
        match (&self.prefix, &self.parent) {
            (Some(prefix), _) => Rc::clone(prefix),
            (None, Some(parent)) => parent.prefix(),
            (None, None) => "".into(),
        }
    }

    /// Whether it is that of the model.
    pub(super) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// Binds a name in this block. False when the block already has it.
    pub(super) fn bind(&self, name: &str, binding: Binding<'a>) -> bool {
        self.names.borrow_mut().insert(name.to_string(), binding).is_none()
    }

    /// Rebinds a name in the nearest block up to the frontier that has it, else binds it here.
    pub(super) fn assign(&self, name: &str, value: Result<Value, Reported>) {
        let mut scope = self;
        loop {
            if let Some(binding) = scope.names.borrow_mut().get_mut(name) {
                *binding = Binding::Done(value);
                return;
            }
            match &scope.parent {
                Some(parent) if !scope.frontier => scope = parent,
                _ => break,
            }
        }
        self.bind(name, Binding::Done(value));
    }

    /// The nearest block that has the name.
    pub(super) fn holder(self: &Rc<Self>, name: &str) -> Option<Rc<Scope<'a>>> {
        if self.names.borrow().contains_key(name) {
            return Some(Rc::clone(self));
        }
        self.parent.as_ref()?.holder(name)
    }

    /// The binding of a name of this very block, replaced by `with`.
    pub(super) fn replace(&self, name: &str, with: Binding<'a>) -> Option<Binding<'a>> {
        self.names.borrow_mut().insert(name.to_string(), with)
    }

    /// All names in sight.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.borrow().keys().cloned().collect();
        names.extend(self.parent.iter().flat_map(|parent| parent.names()));
        names
    }
}
