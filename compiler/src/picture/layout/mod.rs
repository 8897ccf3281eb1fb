//! Where nodes and lines of a picture lie. Knows sizes and edges only.
//!
//! 1. **Ranks.** A node lies below everything it reads. Bands, one for each layer, do not share ranks.
//! 2. **Stream.** The shortest path from the input to the output, in most models the residual stream, is a straight line
//!    at the left; nodes on it hang on it by their left end. Any node that reads the stream taps it right above itself.
//! 3. **Branches.** What remains falls apart into branches, such as an attention block. Each is ordered and placed by
//!    itself ([`branch`]), then moved to the right of the stream, its middle on an axis that all branches share.
//! 4. **Lines** run straight down, and across only between two ranks, where those of different origin have lanes of
//!    their own ([`route`]). The few that leave their band run around at the right.

mod branch;
mod route;

use std::ops::Range;

use branch::Cells;

/// Width and height of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: i64,
    pub(super) height: i64,
}

/// Neighbouring nodes that have their ranks to themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Band {
    /// Its nodes; the ranges of all bands follow each other.
    pub(super) nodes: Range<usize>,
    /// Space for a frame and its title above the first rank.
    pub(super) above: i64,
    /// Space for a frame below the last rank.
    pub(super) below: i64,
    /// How far to the right of the stream its title reaches.
    pub(super) width: i64,
}

/// A point, from the top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) x: i64,
    pub(super) y: i64,
}

/// The place of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) left: i64,
    pub(super) top: i64,
    pub(super) width: i64,
    pub(super) height: i64,
}

impl Rect {
    pub(super) fn right(&self) -> i64 {
        self.left + self.width
    }

    pub(super) fn bottom(&self) -> i64 {
        self.top + self.height
    }

    pub(super) fn middle(&self) -> Point {
        Point { x: self.left + self.width / 2, y: self.top + self.height / 2 }
    }
}

/// The line of an edge: horizontal and vertical pieces, from the reader's operand to the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) points: Vec<Point>,
    /// Whether it is a piece of the stream.
    pub(super) stream: bool,
}

/// A picture's coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// By node.
    pub(super) boxes: Vec<Rect>,
    /// By edge.
    pub(super) lines: Vec<Line>,
    /// Top and bottom of each band, with the space above and below.
    pub(super) bands: Vec<(i64, i64)>,
    /// The nodes and the lines between them.
    pub(super) inner: Rect,
    /// All of it, with the lines that run around.
    pub(super) outer: Rect,
}

/// Space between neighbours in a rank.
const BESIDE: i64 = 26;
/// Space between the stream and a branch.
const BESIDE_STREAM: i64 = 34;
/// How far a node on the stream reaches to the left of it.
const OVERHANG: i64 = 26;

/// Lays out nodes. An edge is from an earlier node to a later one.
pub(super) fn layout(sizes: &[Size], edges: &[(usize, usize)], bands: &[Band]) -> Layout {
    let ranks = Ranks::new(sizes.len(), edges, bands);
    let stream = Stream::new(sizes.len(), edges);
    let mut paths = route::Paths::new(sizes, edges, &ranks, &stream);
    place_branches(&mut paths.cells, sizes, &ranks, &stream);
    route::route(&paths, sizes, bands, &ranks, &stream)
}

/// The rank of each node.
struct Ranks {
    rank: Vec<usize>,
    band: Vec<usize>,
    /// Ranks of each band.
    bands: Vec<Range<usize>>,
    count: usize,
}

impl Ranks {
    fn new(nodes: usize, edges: &[(usize, usize)], bands: &[Band]) -> Self {
        let mut band = vec![0; nodes];
        for (index, Band { nodes, .. }) in bands.iter().enumerate() {
            band[nodes.clone()].fill(index);
        }
        let mut operands: Vec<Vec<usize>> = vec![Vec::new(); nodes];
        for &(from, to) in edges {
            operands[to].push(from);
        }
        let mut ranks = Ranks { rank: vec![0; nodes], band, bands: Vec::with_capacity(bands.len()), count: 0 };
        for (index, Band { nodes, .. }) in bands.iter().enumerate() {
            let begin = ranks.count;
            for node in nodes.clone() {
                let above = operands[node].iter().filter(|&&operand| ranks.band[operand] == index);
                ranks.rank[node] = above.map(|&operand| ranks.rank[operand] + 1).max().unwrap_or(begin);
                ranks.count = ranks.count.max(ranks.rank[node] + 1);
            }
            ranks.bands.push(begin..ranks.count);
        }
        ranks
    }
}

/// The shortest path from a node that reads nothing to the last node.
pub(super) struct Stream {
    /// For each node on it, the next one.
    next: Vec<Option<usize>>,
    on: Vec<bool>,
}

impl Stream {
    pub(super) fn new(nodes: usize, edges: &[(usize, usize)]) -> Self {
        let mut shortest: Vec<Option<(usize, usize)>> = vec![None; nodes];
        for &(from, to) in edges {
            let length = shortest[from].map_or(1, |(length, _)| length + 1);
            if shortest[to].is_none_or(|(found, _)| length < found) {
                shortest[to] = Some((length, from));
            }
        }
        let mut stream = Stream { next: vec![None; nodes], on: vec![false; nodes] };
        let mut at = nodes.checked_sub(1);
        while let Some(node) = at {
            stream.on[node] = true;
            at = shortest[node].map(|(_, from)| from);
            if let Some(from) = at {
                stream.next[from] = Some(node);
            }
        }
        stream
    }

    fn contains(&self, node: usize) -> bool {
        self.on[node]
    }

    pub(super) fn has_edge(&self, from: usize, to: usize) -> bool {
        self.next[from] == Some(to)
    }

    /// How far a node on the stream reaches to the left of it.
    fn overhang(size: Size) -> i64 {
        OVERHANG.min(size.width / 2)
    }
}

/// Gives every cell its x. The stream is at 0.
fn place_branches(cells: &mut Cells, sizes: &[Size], ranks: &Ranks, stream: &Stream) {
    let mut taken = vec![0; ranks.count];
    for (node, &size) in sizes.iter().enumerate().filter(|&(node, _)| stream.contains(node)) {
        taken[ranks.rank[node]] = size.width - Stream::overhang(size);
    }
    let branches = cells.branches(BESIDE);
    let free =
        |taken: &[i64], ranks: &Range<usize>| taken[ranks.clone()].iter().max().copied().unwrap_or(0) + BESIDE_STREAM;
    let axis =
        branches.iter().map(|branch| free(&taken, &branch.ranks) + branch.middle - branch.left).max().unwrap_or(0);
    for branch in branches {
        let left = free(&taken, &branch.ranks).max(axis - (branch.middle - branch.left));
        cells.shift(&branch, left - branch.left);
        taken[branch.ranks.clone()].fill(left + branch.right - branch.left);
    }
}

#[cfg(test)]
mod tests;
