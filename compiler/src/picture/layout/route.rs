//! Lines between placed nodes, and the heights that follow from how many lie side by side.

use std::collections::BTreeMap;

use super::branch::Cells;
use super::{Band, Layout, Line, Point, Ranks, Rect, Size, Stream};

/// An edge over more ranks than this runs around: every rank that it passes takes a cell.
const LONGEST_SPAN: usize = 64;

/// Space between ranks without a lane.
const BETWEEN_RANKS: i64 = 22;
/// Space between a rank and the first lane below it.
const ABOVE_LANES: i64 = 8;
/// Space from one lane to the next.
const LANE: i64 = 8;
/// Space between the last lane and the rank below it; an arrowhead fits in.
const BELOW_LANES: i64 = 16;
/// Space between bands.
const BETWEEN_BANDS: i64 = 14;
/// Space between what a line from the side may not touch and the line.
const CLEAR: i64 = 10;
/// Space between the nodes and the first line that runs around them; a frame fits in.
const AROUND: i64 = 44;

/// A place that a line goes through on its way down, one in each rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    /// A node on the stream.
    Stream(usize),
    Cell(usize),
}

/// The way of an edge.
#[derive(Debug)]
enum Path {
    /// A piece of the stream.
    Stream,
    /// From the stream, right above the reader.
    Tap { cell: usize },
    /// From rank to rank.
    Down(Vec<Stop>),
    /// At the right of everything, in the lane of this number.
    Around { lane: usize },
}

/// What lines have in common that share a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    From(Stop),
    Into(Stop),
    Around(usize),
}

/// The ways of all edges, and the cells that they go through.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) cells: Cells,
    /// The cell of each node that is not on the stream.
    cell_of: Vec<Option<usize>>,
    edges: Vec<(usize, usize)>,
    by_edge: Vec<Path>,
}

impl Paths {
    pub(super) fn new(sizes: &[Size], edges: &[(usize, usize)], ranks: &Ranks, stream: &Stream) -> Self {
        let mut cells = Cells::default();
        let cell =
            |(node, size): (usize, &Size)| (!stream.contains(node)).then(|| cells.add(ranks.rank[node], size.width));
        let cell_of = sizes.iter().enumerate().map(cell).collect();
        let mut paths = Paths { cells, cell_of, edges: edges.to_vec(), by_edge: Vec::with_capacity(edges.len()) };
        let mut around: Vec<usize> = Vec::new();
        for &(from, to) in edges {
            let path = paths.path(from, to, ranks, stream, &mut around);
            paths.by_edge.push(path);
        }
        paths
    }

    /// `around` is the rank that each lane at the right is taken up to.
    fn path(&mut self, from: usize, to: usize, ranks: &Ranks, stream: &Stream, around: &mut Vec<usize>) -> Path {
        let [first, last] = [ranks.rank[from], ranks.rank[to]];
        if stream.has_edge(from, to) {
            return Path::Stream;
        }
        if let (Some(next), Some(cell)) = (stream.next[from], self.cell_of[to])
            && last <= ranks.rank[next]
        {
            return Path::Tap { cell };
        }
        if last > first + 1 && (ranks.band[from] != ranks.band[to] || last - first > LONGEST_SPAN) {
            // Later edges start no higher up within a band, but may across bands: lanes are taken as they come.
            let free = around.iter().position(|&end| end < first);
            let lane = free.unwrap_or_else(|| {
                around.push(0);
                around.len() - 1
            });
            around[lane] = last;
            return Path::Around { lane };
        }
        let mut stops = vec![self.stop(from)];
        stops.extend((first + 1..last).map(|rank| Stop::Cell(self.cells.add(rank, 0))));
        stops.push(self.stop(to));
        for pair in stops.windows(2) {
            if let [Stop::Cell(above), Stop::Cell(below)] = *pair {
                self.cells.connect(above, below);
            }
        }
        Path::Down(stops)
    }

    fn stop(&self, node: usize) -> Stop {
        self.cell_of[node].map_or(Stop::Stream(node), Stop::Cell)
    }

    fn x(&self, stop: Stop) -> i64 {
        match stop {
            Stop::Stream(_) => 0,
            Stop::Cell(cell) => self.cells.all[cell].x,
        }
    }
}

/// Pieces of lines between two ranks that run across.
struct Lanes {
    /// By the rank above and what the pieces have in common.
    lane: BTreeMap<(usize, Origin), usize>,
    /// How many lanes there are below each rank.
    count: Vec<usize>,
}

impl Lanes {
    /// Pieces of one origin share a lane; pieces of different ones do if they do not overlap.
    fn new(pieces: BTreeMap<(usize, Origin), (i64, i64)>, ranks: usize) -> Self {
        let mut sorted: Vec<_> = pieces.into_iter().collect();
        sorted.sort_by_key(|&((rank, origin), (left, right))| (rank, left, right, origin));
        let mut lanes = Lanes { lane: BTreeMap::new(), count: vec![0; ranks] };
        let mut taken: Vec<Vec<i64>> = vec![Vec::new(); ranks];
        for ((rank, origin), (left, right)) in sorted {
            let taken = &mut taken[rank];
            let lane = taken.iter().position(|&end| end + CLEAR < left).unwrap_or(taken.len());
            if lane == taken.len() {
                taken.push(right);
            } else {
                taken[lane] = right;
            }
            lanes.lane.insert((rank, origin), lane);
            lanes.count[rank] = taken.len();
        }
        lanes
    }
}

struct Router<'a> {
    paths: &'a Paths,
    ranks: &'a Ranks,
    boxes: Vec<Rect>,
    /// How many pieces leave a stop for the rank below it.
    leaving: BTreeMap<Stop, usize>,
    /// Left end of the first box beside the stream, by rank.
    first_box: Vec<i64>,
}

/// Gives everything its y and draws the lines.
pub(super) fn route(paths: &Paths, sizes: &[Size], bands: &[Band], ranks: &Ranks, stream: &Stream) -> Layout {
    let boxes: Vec<Rect> = sizes
        .iter()
        .enumerate()
        .map(|(node, &size)| {
            let left = match paths.cell_of[node] {
                Some(cell) => paths.cells.all[cell].x - size.width / 2,
                None => -Stream::overhang(size),
            };
            Rect { left, top: 0, width: size.width, height: size.height }
        })
        .collect();
    let mut router = Router { paths, ranks, boxes, leaving: BTreeMap::new(), first_box: vec![i64::MAX; ranks.count] };
    for (node, place) in router.boxes.iter().enumerate().filter(|&(node, _)| !stream.contains(node)) {
        let first = &mut router.first_box[ranks.rank[node]];
        *first = place.left.min(*first);
    }
    for path in &paths.by_edge {
        if let Path::Down(stops) = path {
            stops.iter().rev().skip(1).for_each(|&stop| *router.leaving.entry(stop).or_default() += 1);
        }
    }
    let left = router.boxes.iter().map(|place| place.left).min().unwrap_or(0).min(0);
    let right = router.boxes.iter().map(Rect::right).max().unwrap_or(0);
    let right = paths.cells.all.iter().map(|cell| cell.x).fold(right, i64::max);
    let right = bands.iter().map(|band| band.width).fold(right, i64::max);

    let lanes = Lanes::new(router.pieces(right), ranks.count);
    let (tops, bottoms, band_ends) = heights(sizes, bands, ranks, &lanes);
    for (node, place) in router.boxes.iter_mut().enumerate() {
        let rank = ranks.rank[node];
        place.top = tops[rank] + (bottoms[rank] - tops[rank] - place.height) / 2;
    }
    let lines: Vec<Line> = (0..paths.edges.len()).map(|edge| router.line(edge, right, &lanes, &tops)).collect();

    let height = band_ends.last().map_or(0, |&(_, bottom)| bottom);
    let reach = lines.iter().flat_map(|line| &line.points).map(|point| point.x).fold(right, i64::max);
    let rect = |right: i64| Rect { left, top: 0, width: right - left, height };
    Layout { lines, bands: band_ends, inner: rect(right), outer: rect(reach), boxes: router.boxes }
}

/// Top and bottom of each rank, and of each band.
fn heights(sizes: &[Size], bands: &[Band], ranks: &Ranks, lanes: &Lanes) -> (Vec<i64>, Vec<i64>, Vec<(i64, i64)>) {
    let mut height = vec![0; ranks.count];
    for (node, size) in sizes.iter().enumerate() {
        let rank = ranks.rank[node];
        height[rank] = size.height.max(height[rank]);
    }
    let (mut tops, mut bottoms, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut y = 0;
    for (band, members) in bands.iter().zip(&ranks.bands) {
        let top = if ends.is_empty() { 0 } else { y + BETWEEN_BANDS };
        y = top + band.above;
        for rank in members.clone() {
            y += match rank.checked_sub(1).map(|above| lanes.count[above]) {
                None => 0,
                Some(0) if rank == members.start => ABOVE_LANES,
                Some(0) => BETWEEN_RANKS,
                Some(count) => ABOVE_LANES + LANE * (count as i64 - 1) + BELOW_LANES,
            };
            tops.push(y);
            y += height[rank];
            bottoms.push(y);
        }
        y += band.below;
        ends.push((top, y));
    }
    (tops, bottoms, ends)
}

impl Router<'_> {
    /// Every piece that runs across: the rank above it and its origin, with its two ends.
    fn pieces(&self, right: i64) -> BTreeMap<(usize, Origin), (i64, i64)> {
        let mut pieces = BTreeMap::new();
        let mut add = |rank: usize, origin: Origin, a: i64, b: i64| {
            let (left, right) = pieces.entry((rank, origin)).or_insert((i64::MAX, i64::MIN));
            (*left, *right) = (a.min(b).min(*left), a.max(b).max(*right));
        };
        for (edge, (&(from, to), path)) in self.paths.edges.iter().zip(&self.paths.by_edge).enumerate() {
            match path {
                Path::Stream => {}
                Path::Tap { cell } => {
                    let reader = self.paths.cells.all[*cell];
                    add(reader.rank - 1, Origin::From(Stop::Stream(from)), 0, reader.x);
                }
                Path::Down(stops) => {
                    for (rank, pair) in (self.ranks.rank[from]..).zip(stops.windows(2)) {
                        let [a, b] = [pair[0], pair[1]];
                        let [x, to_x] = [self.paths.x(a), self.paths.x(b)];
                        if x != to_x && !self.enters_from_side(x, b) {
                            add(rank, self.origin(a, b), x, to_x);
                        }
                    }
                }
                Path::Around { lane } => {
                    let far = right + AROUND + LANE * *lane as i64;
                    for (rank, node) in [(self.ranks.rank[from], from), (self.ranks.rank[to] - 1, to)] {
                        add(rank, Origin::Around(edge), self.paths.x(self.paths.stop(node)), far);
                    }
                }
            }
        }
        pieces
    }

    /// Pieces share a lane with those that leave the same stop, or else with those that reach the same.
    fn origin(&self, from: Stop, to: Stop) -> Origin {
        if self.leaving[&from] > 1 { Origin::From(from) } else { Origin::Into(to) }
    }

    /// Whether a line that comes down at `x` reaches a node on the stream from its right.
    fn enters_from_side(&self, x: i64, stop: Stop) -> bool {
        match stop {
            Stop::Stream(node) => {
                x >= self.boxes[node].right() + 2 * CLEAR && x + CLEAR <= self.first_box[self.ranks.rank[node]]
            }
            Stop::Cell(_) => false,
        }
    }

    fn line(&self, edge: usize, right: i64, lanes: &Lanes, tops: &[i64]) -> Line {
        let (from, to) = self.paths.edges[edge];
        let across = |rank: usize, origin: Origin| {
            let lane = lanes.lane[&(rank, origin)];
            tops[rank + 1] - BELOW_LANES - LANE * lane as i64
        };
        let [x, to_x] = [from, to].map(|node| self.paths.x(self.paths.stop(node)));
        let start = Point { x, y: self.boxes[from].bottom() };
        let end = Point { x: to_x, y: self.boxes[to].top };
        let mut points = Vec::new();
        let cross = |points: &mut Vec<Point>, x: i64, to_x: i64, y: i64| {
            points.extend([Point { x, y }, Point { x: to_x, y }]);
        };
        match &self.paths.by_edge[edge] {
            Path::Stream => points.extend([start, end]),
            Path::Tap { cell } => {
                let rank = self.paths.cells.all[*cell].rank - 1;
                cross(&mut points, x, to_x, across(rank, Origin::From(Stop::Stream(from))));
                points.push(end);
            }
            Path::Down(stops) => {
                points.push(start);
                let mut end = end;
                for (rank, pair) in (self.ranks.rank[from]..).zip(stops.windows(2)) {
                    let [a, b] = [pair[0], pair[1]];
                    let [x, to_x] = [self.paths.x(a), self.paths.x(b)];
                    if self.enters_from_side(x, b) {
                        let y = self.boxes[to].middle().y;
                        points.push(Point { x, y });
                        end = Point { x: self.boxes[to].right(), y };
                    } else if x != to_x {
                        cross(&mut points, x, to_x, across(rank, self.origin(a, b)));
                    }
                }
                points.push(end);
            }
            Path::Around { lane } => {
                let far = right + AROUND + LANE * *lane as i64;
                points.push(start);
                cross(&mut points, x, far, across(self.ranks.rank[from], Origin::Around(edge)));
                cross(&mut points, far, to_x, across(self.ranks.rank[to] - 1, Origin::Around(edge)));
                points.push(end);
            }
        }
        Line { points, stream: matches!(self.paths.by_edge[edge], Path::Stream) }
    }
}
