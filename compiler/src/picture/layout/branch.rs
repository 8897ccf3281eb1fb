//! Branches: connected cells beside the stream, each branch ordered and placed by itself.

use std::collections::BTreeMap;
use std::ops::Range;

/// Sweeps of moving blocks to the median of their neighbours; a few are enough for what models look like.
const SWEEPS: usize = 16;

/// A place in a rank beside the stream: a node, or a line that passes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    pub(super) rank: usize,
    /// 0 for a line.
    pub(super) width: i64,
    /// Its middle.
    pub(super) x: i64,
}

/// All cells, with what connects them.
#[derive(Debug, Default)]
pub(super) struct Cells {
    pub(super) all: Vec<Cell>,
    /// Cells of the next rank that a cell is connected to.
    below: Vec<Vec<usize>>,
    above: Vec<Vec<usize>>,
}

/// Connected cells.
#[derive(Debug)]
pub(super) struct Branch {
    members: Vec<usize>,
    pub(super) ranks: Range<usize>,
    pub(super) left: i64,
    pub(super) right: i64,
    /// The middle of its first rank.
    pub(super) middle: i64,
}

impl Cells {
    pub(super) fn add(&mut self, rank: usize, width: i64) -> usize {
        self.all.push(Cell { rank, width, x: 0 });
        self.below.push(Vec::new());
        self.above.push(Vec::new());
        self.all.len() - 1
    }

    /// Connects a cell with one in the next rank.
    pub(super) fn connect(&mut self, from: usize, to: usize) {
        self.below[from].push(to);
        self.above[to].push(from);
    }

    /// Moves a branch.
    pub(super) fn shift(&mut self, branch: &Branch, by: i64) {
        for &cell in &branch.members {
            self.all[cell].x += by;
        }
    }

    /// Finds the branches and gives their cells an x. `gap` is the space between neighbours.
    pub(super) fn branches(&mut self, gap: i64) -> Vec<Branch> {
        let mut seen = vec![false; self.all.len()];
        let mut branches = Vec::new();
        for start in 0..self.all.len() {
            if seen[start] {
                continue;
            }
            seen[start] = true;
            let (mut members, mut waiting) = (Vec::new(), vec![start]);
            while let Some(cell) = waiting.pop() {
                members.push(cell);
                for &other in self.below[cell].iter().chain(&self.above[cell]) {
                    if !seen[other] {
                        seen[other] = true;
                        waiting.push(other);
                    }
                }
            }
            members.sort_unstable();
            branches.push(self.branch(members, gap));
        }
        branches
    }

    fn branch(&mut self, members: Vec<usize>, gap: i64) -> Branch {
        let first = members.iter().map(|&cell| self.all[cell].rank).min().unwrap_or(0);
        let mut order: Vec<Vec<usize>> = Vec::new();
        for &cell in &members {
            let rank = self.all[cell].rank - first;
            if order.len() <= rank {
                order.resize(rank + 1, Vec::new());
            }
            order[rank].push(cell);
        }
        self.reorder(&mut order);
        Blocks::new(self, &order, gap).place(self);
        let left = |cells: &[usize]| cells.iter().map(|&cell| self.all[cell].left()).min().unwrap_or(0);
        let right = |cells: &[usize]| cells.iter().map(|&cell| self.all[cell].right()).max().unwrap_or(0);
        let top = order.first().map_or(&[][..], Vec::as_slice);
        let middle = i64::midpoint(left(top), right(top));
        let (left, right) = (left(&members), right(&members));
        Branch { members, ranks: first..first + order.len(), left, right, middle }
    }

    /// Orders ranks by the mean place of the neighbours above, below, and above again. Equals stay as they are.
    fn reorder(&self, order: &mut [Vec<usize>]) {
        let mut place: BTreeMap<usize, usize> = BTreeMap::new();
        for rank in order.iter() {
            place.extend(rank.iter().enumerate().map(|(place, &cell)| (cell, place)));
        }
        let mut sort = |rank: &mut Vec<usize>, neighbours: &[Vec<usize>]| {
            let mut keyed: Vec<(f64, usize)> = rank
                .iter()
                .map(|&cell| {
                    let neighbours = &neighbours[cell];
                    let sum: usize = neighbours.iter().map(|other| place[other]).sum();
                    let mean = sum as f64 / neighbours.len() as f64;
                    (if neighbours.is_empty() { place[&cell] as f64 } else { mean }, cell)
                })
                .collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            *rank = keyed.into_iter().map(|(_, cell)| cell).collect();
            place.extend(rank.iter().enumerate().map(|(place, &cell)| (cell, place)));
        };
        for sweep in 0..3 {
            let (count, upwards) = (order.len(), sweep == 1);
            for step in 0..count {
                let rank = if upwards { count - 1 - step } else { step };
                sort(&mut order[rank], if upwards { &self.below } else { &self.above });
            }
        }
    }
}

impl Cell {
    fn left(&self) -> i64 {
        self.x - self.width / 2
    }

    fn right(&self) -> i64 {
        self.left() + self.width
    }
}

/// Cells that lie straight below each other, because each is all that the one above it is connected to, and the other
/// way round. A block has one x.
struct Blocks {
    /// Members of each block, from the top.
    members: Vec<Vec<usize>>,
    /// For each block, those to its right and their least distance.
    right: Vec<Vec<(usize, i64)>>,
    left: Vec<Vec<(usize, i64)>>,
    /// For each block, those that its cells are connected to.
    neighbours: Vec<Vec<usize>>,
}

impl Blocks {
    fn new(cells: &Cells, order: &[Vec<usize>], gap: i64) -> Self {
        let place: BTreeMap<usize, usize> =
            order.iter().flat_map(|rank| rank.iter().enumerate().map(|(place, &cell)| (cell, place))).collect();
        let mut block_of: BTreeMap<usize, usize> = BTreeMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        for rank in order {
            // Blocks do not cross: each goes on to the right of the one before it.
            let mut last = None;
            for &cell in rank {
                let above = match cells.above[cell][..] {
                    [above] if cells.below[above].len() == 1 => Some(above),
                    _ => None,
                };
                match above.filter(|above| last.is_none_or(|last| place[above] > last)) {
                    Some(above) => {
                        last = Some(place[&above]);
                        let block = block_of[&above];
                        block_of.insert(cell, block);
                        members[block].push(cell);
                    }
                    None => {
                        block_of.insert(cell, members.len());
                        members.push(vec![cell]);
                    }
                }
            }
        }
        let mut blocks = Blocks {
            right: vec![Vec::new(); members.len()],
            left: vec![Vec::new(); members.len()],
            neighbours: vec![Vec::new(); members.len()],
            members,
        };
        for rank in order {
            for pair in rank.windows(2) {
                let [a, b] = [pair[0], pair[1]];
                let width = |cell: usize| cells.all[cell].width;
                let distance = (width(a) + 1) / 2 + gap + (width(b) + 1) / 2;
                blocks.right[block_of[&a]].push((block_of[&b], distance));
                blocks.left[block_of[&b]].push((block_of[&a], distance));
            }
        }
        for (block, cell) in
            blocks.members.iter().enumerate().flat_map(|(block, cells)| cells.iter().map(move |&cell| (block, cell)))
        {
            let connected = cells.above[cell].iter().chain(&cells.below[cell]).map(|other| block_of[other]);
            blocks.neighbours[block].extend(connected.filter(|&other| other != block));
        }
        blocks
    }

    /// Gives cells their x: as far to the left as there is space, then each block to the median of its neighbours, as far as
    /// those beside it let it.
    fn place(&self, cells: &mut Cells) {
        let order = self.left_to_right();
        let mut x = vec![0; self.members.len()];
        for &block in &order {
            x[block] = self.left[block].iter().map(|&(other, distance)| x[other] + distance).max().unwrap_or(0);
        }
        let mut settle = |block: usize| {
            let neighbours = &self.neighbours[block];
            if neighbours.is_empty() {
                return;
            }
            let mut places: Vec<i64> = neighbours.iter().map(|&other| x[other]).collect();
            places.sort_unstable();
            let median = i64::midpoint(places[(places.len() - 1) / 2], places[places.len() / 2]);
            let least = self.left[block].iter().map(|&(other, distance)| x[other] + distance).max();
            let most = self.right[block].iter().map(|&(other, distance)| x[other] - distance).min();
            let right_of = least.map_or(median, |least| median.max(least));
            x[block] = most.map_or(right_of, |most| right_of.min(most));
        };
        for _ in 0..SWEEPS {
            for &block in order.iter().rev().chain(&order) {
                settle(block);
            }
        }
        for (members, x) in self.members.iter().zip(x) {
            for &cell in members {
                cells.all[cell].x = x;
            }
        }
    }

    /// All blocks, each after those to its left. Blocks do not cross, so there is such an order.
    fn left_to_right(&self) -> Vec<usize> {
        let mut waiting: Vec<usize> = self.left.iter().map(Vec::len).collect();
        let mut order: Vec<usize> = (0..waiting.len()).filter(|&block| waiting[block] == 0).collect();
        let mut next = 0;
        while let Some(&block) = order.get(next) {
            next += 1;
            for &(other, _) in &self.right[block] {
                waiting[other] -= 1;
                if waiting[other] == 0 {
                    order.push(other);
                }
            }
        }
        order
    }
}
