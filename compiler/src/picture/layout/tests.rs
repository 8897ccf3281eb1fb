use super::*;

/// Numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

struct Graph {
    sizes: Vec<Size>,
    edges: Vec<(usize, usize)>,
    bands: Vec<Band>,
}

impl Graph {
    fn layout(&self) -> Layout {
        layout(&self.sizes, &self.edges, &self.bands)
    }

    /// Every node but the first reads one to three earlier ones, mostly near ones.
    fn random(seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let nodes = 2 + numbers.below(40);
        let sizes = (0..nodes)
            .map(|_| Size { width: 20 + 10 * numbers.below(20) as i64, height: 20 + 10 * numbers.below(8) as i64 })
            .collect();
        let mut edges = Vec::new();
        for node in 1..nodes {
            let mut operands: Vec<usize> = (0..=numbers.below(3))
                .map(|_| {
                    let reach = if numbers.below(5) == 0 { node } else { node.min(4) };
                    node - 1 - numbers.below(reach)
                })
                .collect();
            operands.sort_unstable();
            operands.dedup();
            edges.extend(operands.into_iter().map(|operand| (operand, node)));
        }
        let mut bands = Vec::new();
        let mut begin = 0;
        while begin < nodes {
            let end = nodes.min(begin + 1 + numbers.below(12));
            bands.push(Band { nodes: begin..end, above: 20, below: 10, width: 50 });
            begin = end;
        }
        Graph { sizes, edges, bands }
    }
}

/// What two things have in common, if they overlap.
fn overlap(a: &Rect, b: &Rect) -> bool {
    a.left < b.right() && b.left < a.right() && a.top < b.bottom() && b.top < a.bottom()
}

/// The pieces of a line as thin rectangles.
fn pieces(line: &Line) -> impl Iterator<Item = Rect> {
    line.points.windows(2).map(|ends| {
        let [a, b] = [ends[0], ends[1]];
        assert!(a.x == b.x || a.y == b.y, "{a:?} {b:?}");
        let (left, top) = (a.x.min(b.x), a.y.min(b.y));
        Rect { left, top, width: (a.x - b.x).abs().max(1), height: (a.y - b.y).abs().max(1) }
    })
}

#[test]
fn boxes_do_not_overlap() {
    for seed in 0..300 {
        let Layout { boxes, .. } = Graph::random(seed).layout();
        for (index, a) in boxes.iter().enumerate() {
            let other = boxes[..index].iter().position(|b| overlap(a, b));
            assert_eq!(other, None, "seed {seed}: {index}");
        }
    }
}

#[test]
fn lines_lead_down_from_the_operand_to_its_reader() {
    for seed in 0..300 {
        let graph = Graph::random(seed);
        let layout = graph.layout();
        for (&(from, to), line) in graph.edges.iter().zip(&layout.lines) {
            let (operand, reader) = (layout.boxes[from], layout.boxes[to]);
            assert!(operand.bottom() <= reader.top, "seed {seed}: {from} → {to}");
            assert!(line.points.windows(2).all(|ends| ends[0].y <= ends[1].y), "seed {seed}: {from} → {to}");
            let (first, last) = (line.points[0], line.points[line.points.len() - 1]);
            // A line that taps the stream begins on it, below the operand.
            assert!(first.y >= operand.bottom() && (operand.left..=operand.right()).contains(&first.x));
            assert!(
                (reader.left..=reader.right()).contains(&last.x) && (reader.top..reader.bottom()).contains(&last.y)
            );
        }
    }
}

#[test]
fn lines_pass_no_box() {
    for seed in 0..300 {
        let graph = Graph::random(seed);
        let layout = graph.layout();
        for (edge, line) in graph.edges.iter().zip(&layout.lines) {
            for piece in pieces(line) {
                let through = layout.boxes.iter().position(|place| overlap(place, &piece));
                assert_eq!(through, None, "seed {seed}: {edge:?} {piece:?}");
            }
        }
    }
}

#[test]
fn everything_is_in_its_band_and_in_the_picture() {
    for seed in 0..300 {
        let graph = Graph::random(seed);
        let layout = graph.layout();
        for (band, &(top, bottom)) in graph.bands.iter().zip(&layout.bands) {
            for place in &layout.boxes[band.nodes.clone()] {
                assert!(top + band.above <= place.top && place.bottom() + band.below <= bottom, "seed {seed}");
                assert!(layout.inner.left <= place.left && place.right() <= layout.inner.right(), "seed {seed}");
            }
        }
        assert!(layout.bands.windows(2).all(|pair| pair[0].1 < pair[1].0), "seed {seed}");
        for point in layout.lines.iter().flat_map(|line| &line.points) {
            assert!((layout.outer.left..=layout.outer.right()).contains(&point.x), "seed {seed}");
            assert!((0..=layout.outer.height).contains(&point.y), "seed {seed}");
        }
        assert_eq!(layout, graph.layout());
    }
}

#[test]
fn the_stream_is_straight() {
    // 0 is added to what 1, 2 and 3 make of it, and read once more by 5.
    let size = Size { width: 60, height: 20 };
    let graph = Graph {
        sizes: vec![size; 6],
        edges: vec![(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (0, 4), (4, 5)],
        bands: vec![Band { nodes: 0..6, above: 0, below: 0, width: 0 }],
    };
    let layout = graph.layout();
    let stream: Vec<(usize, usize)> =
        graph.edges.iter().zip(&layout.lines).filter(|(_, line)| line.stream).map(|(&edge, _)| edge).collect();
    assert_eq!(stream, [(0, 4), (4, 5)]);
    assert!([0, 4, 5].iter().all(|&node| layout.boxes[node].left == layout.boxes[0].left));
    assert!([1, 2, 3].iter().all(|&node| layout.boxes[node].left > 0));
}

#[test]
fn a_line_over_many_ranks_takes_no_cells() {
    let nodes = 3000;
    let chain = (1..nodes).map(|node| (node - 1, node));
    // Were it not for the shortcut at the end, the chain would be the stream.
    let shortcuts = (0..nodes - 70).map(|node| (node, node + 70));
    let edges: Vec<_> = chain.chain(shortcuts).collect();
    let sizes = vec![Size { width: 20, height: 20 }; nodes];
    let bands = [Band { nodes: 0..nodes, above: 0, below: 0, width: 0 }];
    let ranks = Ranks::new(nodes, &edges, &bands);
    let stream = Stream::new(nodes, &edges);
    let paths = route::Paths::new(&sizes, &edges, &ranks, &stream);
    assert!(paths.cells.all.len() <= nodes, "{}", paths.cells.all.len());
}

#[test]
fn nothing_is_laid_out_as_nothing() {
    let layout = layout(&[], &[], &[]);
    assert!(layout.boxes.is_empty() && layout.lines.is_empty());
}
