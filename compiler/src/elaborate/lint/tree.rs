//! Module paths that a definition can make, as a tree.

use std::collections::BTreeMap;

use lathe_grammar::ast::{Decl, DeclKind, Path, PathSegment};

/// Every path that begins with no segment.
pub(super) const ROOT: usize = 0;

/// The segment that stands for any index.
pub(super) const ANY: &str = "*";

/// Module paths, as a tree. A place in it is an index of a node.
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    parent: usize,
    segment: String,
    children: BTreeMap<String, usize>,
    is_module: bool,
}

impl Default for Tree {
    fn default() -> Self {
        Tree { nodes: vec![Node::default()] }
    }
}

impl Tree {
    pub(super) fn child(&self, place: usize, segment: &str) -> Option<usize> {
        self.nodes[place].children.get(segment).copied()
    }

    pub(super) fn insert(&mut self, parent: usize, segment: String) -> usize {
        if let Some(child) = self.child(parent, &segment) {
            return child;
        }
        let child = self.nodes.len();
        self.nodes[parent].children.insert(segment.clone(), child);
        self.nodes.push(Node { parent, segment, ..Node::default() });
        child
    }

    /// The path of a place: `model.layers.*`.
    pub(super) fn path(&self, mut place: usize) -> String {
        let mut segments = Vec::new();
        while place != ROOT {
            segments.push(self.nodes[place].segment.split('@').next().unwrap_or_default());
            place = self.nodes[place].parent;
        }
        segments.reverse();
        segments.join(".")
    }

    pub(super) fn is_module(&self, place: usize) -> bool {
        self.nodes[place].is_module
    }

    /// A segment for an index that equals no other.
    pub(super) fn unlike_any(&self) -> String {
        format!("{ANY}@{}", self.nodes.len())
    }

    /// The place of a path as it is written in an `alias`.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        let mut segments = path.split('.').filter(|segment| !segment.is_empty());
        segments.try_fold(ROOT, |place, segment| self.child(place, loose_segment(segment)))
    }

    pub(super) fn segments(&self, place: usize) -> impl Iterator<Item = &str> {
        self.nodes[place].children.keys().map(String::as_str)
    }

    /// Adds every path that declarations can make, with [`ANY`] for indices.
    pub(super) fn collect(&mut self, body: &[Decl], prefix: usize) {
        for decl in body {
            match &decl.kind {
                DeclKind::Module { paths, .. } => {
                    for path in paths {
                        let place = self.loose(path, prefix);
                        self.nodes[place].is_module = true;
                    }
                }
                DeclKind::Scope { path, body } => {
                    // Without a module in it, a scope makes no path.
                    if declares_modules(body) {
                        let place = self.loose(path, prefix);
                        self.collect(body, place);
                    }
                }
                DeclKind::Repeat { body, .. } => self.collect(body, prefix),
                DeclKind::If { then, otherwise, .. } => {
                    self.collect(then, prefix);
                    self.collect(otherwise, prefix);
                }
                DeclKind::Architectures(_)
                | DeclKind::Let { .. }
                | DeclKind::Assert { .. }
                | DeclKind::Context(_)
                | DeclKind::Ignore { .. }
                | DeclKind::Alias { .. }
                | DeclKind::Block { .. }
                | DeclKind::Graph { .. } => {}
            }
        }
    }

    fn loose(&mut self, path: &Path, prefix: usize) -> usize {
        path.segments.iter().fold(prefix, |place, segment| match segment {
            PathSegment::Name(name) => self.insert(place, loose_segment(name).to_string()),
            PathSegment::Index(_) => self.insert(place, ANY.to_string()),
        })
    }
}

/// A segment of a path as the tree of all paths has it.
pub(super) fn loose_segment(name: &str) -> &str {
    if name.parse::<u64>().is_ok() { ANY } else { name }
}

fn declares_modules(body: &[Decl]) -> bool {
    body.iter().any(|decl| match &decl.kind {
        DeclKind::Module { .. } => true,
        DeclKind::Scope { body, .. } | DeclKind::Repeat { body, .. } => declares_modules(body),
        DeclKind::If { then, otherwise, .. } => declares_modules(then) || declares_modules(otherwise),
        _ => false,
    })
}
