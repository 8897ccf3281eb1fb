//! What a model that extends another comes to: one model.
//!
//! A `let`, a `block`, the `graph`, the `context`, an `assert` of the same condition and a module whose path is written
//! the same replace what the base has. Scopes, `repeat`s and `if`s that are written the same are one, in which this holds
//! again. All else is added. The architectures of the base stay its own.

use std::collections::BTreeMap;
use std::mem::take;

use lathe_grammar::ast::{Decl, DeclKind, Model};

/// `model` with everything of its base, which itself extends nothing any more.
pub(super) fn join(base: Model, model: Model) -> Model {
    Model { name: model.name, extends: None, body: joined(base.body, model.body) }
}

/// By what a declaration is known among those around it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Let(String),
    Block(String),
    Graph,
    Context,
    Assert(String),
    Module(String),
    Scope(String),
    Repeat(String),
    If(String),
}

/// One for each path of modules, none for what is only ever added.
fn keys(decl: &Decl) -> Vec<Key> {
    vec![match &decl.kind {
        DeclKind::Let { name, .. } => Key::Let(name.value.clone()),
        DeclKind::Block { name, .. } => Key::Block(name.value.clone()),
        DeclKind::Graph { .. } => Key::Graph,
        DeclKind::Context(_) => Key::Context,
        DeclKind::Assert { condition, .. } => Key::Assert(condition.to_string()),
        DeclKind::Module { paths, .. } => return paths.iter().map(|path| Key::Module(path.to_string())).collect(),
        DeclKind::Scope { path, .. } => Key::Scope(path.to_string()),
        DeclKind::Repeat { variable, start, end, .. } => Key::Repeat(format!("{} in {start}..{end}", variable.value)),
        DeclKind::If { condition, .. } => Key::If(condition.to_string()),
        DeclKind::Architectures(_) | DeclKind::Ignore { .. } | DeclKind::Alias { .. } => return Vec::new(),
    }]
}

/// What replaces a declaration, or goes on with it, stands where that stood.
fn joined(base: Vec<Decl>, own: Vec<Decl>) -> Vec<Decl> {
    // Of several blocks that are written the same, the first goes on with what the base has.
    let mut homes: BTreeMap<Key, usize> = BTreeMap::new();
    for (index, decl) in own.iter().enumerate() {
        for key in keys(decl) {
            homes.entry(key).or_insert(index);
        }
    }
    let mut own: Vec<Option<Decl>> = own.into_iter().map(Some).collect();
    let mut joined = Vec::new();
    for mut decl in base {
        if matches!(decl.kind, DeclKind::Architectures(_)) {
            continue;
        }
        let replacing: Vec<usize> = keys(&decl).iter().filter_map(|key| homes.get(key).copied()).collect();
        match &mut decl.kind {
            DeclKind::Scope { .. } | DeclKind::Repeat { .. } | DeclKind::If { .. } => {
                match replacing.first().and_then(|&index| own[index].as_mut()) {
                    Some(own) => unite(decl, own),
                    None => joined.push(decl),
                }
            }
            DeclKind::Module { paths, .. } => {
                paths.retain(|path| !homes.contains_key(&Key::Module(path.to_string())));
                if !paths.is_empty() {
                    joined.push(decl);
                }
            }
            _ if replacing.is_empty() => joined.push(decl),
            _ => {}
        }
        joined.extend(replacing.into_iter().filter_map(|index| own[index].take()));
    }
    joined.extend(own.into_iter().flatten());
    joined
}

/// Gives a block what the base has in the one that is written the same.
fn unite(base: Decl, own: &mut Decl) {
    match (base.kind, &mut own.kind) {
        (DeclKind::Scope { body: base, .. }, DeclKind::Scope { body, .. })
        | (DeclKind::Repeat { body: base, .. }, DeclKind::Repeat { body, .. }) => *body = joined(base, take(body)),
        (DeclKind::If { then: base_then, otherwise: base_otherwise, .. }, DeclKind::If { then, otherwise, .. }) => {
            *then = joined(base_then, take(then));
            *otherwise = joined(base_otherwise, take(otherwise));
        }
        _ => unreachable!("invariant: blocks with equal keys are of one kind"),
    }
}
