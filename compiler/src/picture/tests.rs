use lathe_grammar::pattern::Kind;
use lathe_grammar::span::{SourceId, Span};

use super::*;
use crate::elaborate::{Elaborated, Module, ModuleId};
use crate::ir::{ParamId, read};

fn module(name: &str, kind: &'static str, shape: &[u64], note: ModuleNote) -> Content {
    Content::Module { name: name.to_owned(), kind, compact: kind == "norm", shape: shape.to_vec(), note }
}

fn note(format: &str, before: u64, after: u64) -> ModuleNote {
    ModuleNote { format: format.to_owned(), input: None, bytes_before: before, bytes_after: after, tied_to: None }
}

fn node(path: &str, content: Content) -> Node {
    Node { path: path.to_owned(), result: "real[T, 64]".to_owned(), content }
}

/// A model of one block, its table shared.
fn small() -> Diagram {
    let input = ModuleNote { input: Some("int8(per: token)".to_owned()), ..note("int4(group: 128)", 8192, 2176) };
    let tied = ModuleNote { tied_to: Some("embed".to_owned()), ..note("int8(per: channel)", 0, 0) };
    Diagram {
        model: "small".to_owned(),
        spec: "w4".to_owned(),
        bytes: Bytes { before: 90_240, after: 38_720 },
        formats: vec![
            ("int8(per: channel)".to_owned(), 34_240),
            ("int4(group: 128)".to_owned(), 4352),
            ("keep".to_owned(), 128),
        ],
        nodes: vec![
            node("tokens", Content::Operation { name: "tokens", details: Vec::new() }),
            node("embed", module("embed", "embedding", &[1024, 64], note("int8(per: channel)", 73_600, 34_240))),
            node("h[0..2].norm", module("norm", "norm", &[64], note("keep", 64, 64))),
            node("h[0..2].up", module("up", "linear", &[64, 64], input)),
            node("h[0..2].silu", Content::Operation { name: "silu", details: Vec::new() }),
            node("h[0..2].add", Content::Sign("+")),
            node("head", module("head", "head", &[1024, 64], tied)),
            node("output", Content::Operation { name: "logits", details: vec!["real[T, 1024]".to_owned()] }),
        ],
        edges: vec![(0, 1), (1, 2), (2, 3), (3, 4), (1, 5), (4, 5), (5, 6), (6, 7)],
        groups: vec![Group {
            container: "h".to_owned(),
            indices: "0–1".to_owned(),
            count: 2,
            bytes: Bytes { before: 16_512, after: 4480 },
            layers: vec![Layer { indices: "0–1".to_owned(), nodes: 2..6 }],
        }],
        ties: vec![(6, 1)],
    }
}

/// The same, with every name replaced.
fn named(name: &str) -> Diagram {
    let mut diagram = small();
    diagram.model = name.to_owned();
    diagram.spec = name.to_owned();
    diagram.formats.iter_mut().for_each(|(format, _)| format.push_str(name));
    for group in &mut diagram.groups {
        group.container = name.to_owned();
        group.indices = name.to_owned();
    }
    for node in &mut diagram.nodes {
        node.path = name.to_owned();
        node.result = name.to_owned();
        if let Content::Module { name: own, note, .. } = &mut node.content {
            name.clone_into(own);
            note.format.push_str(name);
            note.input = Some(name.to_owned());
            note.tied_to = note.tied_to.as_ref().map(|_| name.to_owned());
        }
    }
    diagram
}

const HOSTILE: [&str; 7] = [
    "</text><script>alert(1)</script>",
    "\"/> & <!-- ]]> &amp;",
    "a\nb\tc\0d\u{1b}[31m\u{ffff}",
    "\\\" ]; } \\N \\l",
    "",
    "語のとても長い名前がここにあります、箱の外に出てはいけません",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

/// An element as it opens.
struct Element<'a> {
    name: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
    /// Up to the next tag.
    text: &'a str,
}

impl Element<'_> {
    fn number(&self, key: &str) -> i64 {
        let value = self.attributes.iter().find(|(name, _)| *name == key).expect("the attribute is there").1;
        value.parse().expect("a number")
    }
}

/// Elements as they open, with their attributes and the text in them; panics where the text is no XML.
fn elements(xml: &str) -> Vec<Element<'_>> {
    let allowed = |text: &str| {
        assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{ffff}')), "{text:?}");
        for entity in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|known| entity.starts_with(known)), "{text}");
        }
    };
    let (mut open, mut found): (Vec<usize>, Vec<Element<'_>>) = (Vec::new(), Vec::new());
    for tag in xml.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("a tag ends");
        allowed(tag);
        allowed(text);
        if let Some(name) = tag.strip_prefix('/') {
            let element = open.pop().expect("what is closed is open");
            assert_eq!(found[element].name, name);
        } else {
            let (name, mut rest) = tag.trim_end_matches('/').split_once(' ').unwrap_or((tag.trim_end_matches('/'), ""));
            let mut attributes = Vec::new();
            while let Some((key, value)) = rest.trim_start().split_once("=\"") {
                let (value, after) = value.split_once('"').expect("a value ends");
                attributes.push((key, value));
                rest = after;
            }
            assert_eq!(rest.trim(), "", "{tag}");
            if !tag.ends_with('/') {
                open.push(found.len());
            }
            found.push(Element { name, attributes, text });
        }
    }
    assert!(open.is_empty());
    found
}

#[test]
fn svg_of_a_small_model() {
    let svg = svg(&small());
    elements(&svg);
    insta::assert_snapshot!(svg);
}

#[test]
fn dot_of_a_small_model() {
    insta::assert_snapshot!(dot(&small()));
}

#[test]
fn svg_is_sound_whatever_the_names() {
    for name in HOSTILE {
        let svg = svg(&named(name));
        let found = elements(&svg);
        assert!(found.iter().all(|element| element.name != "script"));
        assert_eq!(found.iter().filter(|element| element.name == "svg").count(), 1);
    }
}

/// Strings end where they began, and nothing of a name is outside of one.
#[test]
fn dot_is_sound_whatever_the_names() {
    let outside = |dot: &str| {
        let (mut outside, mut inside, mut escaped) = (String::new(), false, false);
        for c in dot.chars() {
            match (inside, escaped, c) {
                (true, false, '\\') => escaped = true,
                (_, false, '"') => inside = !inside,
                (true, ..) => escaped = false,
                (false, ..) => outside.push(c),
            }
        }
        assert!(!inside);
        outside
    };
    let expected = outside(&dot(&small()));
    for name in HOSTILE {
        assert_eq!(outside(&dot(&named(name))), expected, "{name}");
    }
}

#[test]
fn no_text_is_wider_than_its_box() {
    for name in HOSTILE.into_iter().chain(["q_proj"]) {
        let svg = svg(&named(name));
        let elements = elements(&svg);
        let first = elements.iter().rposition(|element| element.name == "marker").expect("markers come first");
        // The group of a node holds its tooltip, a box, then lines. `None` outside of such a group.
        let mut place: Option<Option<(i64, i64)>> = None;
        let mut checked = 0;
        for element in &elements[first..] {
            match (element.name, place) {
                ("g", _) => place = None,
                ("title", _) => place = Some(None),
                ("rect", Some(None)) => place = Some(Some((element.number("x"), element.number("width")))),
                ("text", Some(Some((left, width)))) => {
                    let text = element.text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
                    let own = text::width(&text.replace("&amp;", "&"), 12);
                    let middle = element.attributes.contains(&("text-anchor", "middle"));
                    let begin = if middle { element.number("x") - own / 2 } else { element.number("x") };
                    assert!(left < begin && begin + own < left + width, "{text}");
                    checked += 1;
                }
                _ => {}
            }
        }
        assert!(checked > 20, "{checked}");
    }
}

/// A model of layers `x + linear(norm(x))`. A layer of `readers` also reads what layer 0 made of its input.
fn model(layers: usize, readers: &[usize]) -> Elaborated {
    let mut params = vec!["param p0 embed.weight [16, 8] tensor 0 rows 0..16".to_owned()];
    let head = [
        "%0 tokens : token[T]  // tokens",
        "%1 param p0 : real[16, 8]  // embed",
        "%2 embed %1 %0 : real[T, 8]  // embed",
    ];
    let mut nodes = head.map(str::to_owned).to_vec();
    let span = Span::new(SourceId(0), 0..0);
    let new = |path: String, kind, param| Module { path, stored: None, kind, params: vec![ParamId(param)], span };
    let mut modules = vec![new("embed".to_owned(), Kind::Embedding, 0)];
    let (mut next, mut x, mut first) = (3, 2, None);
    let mut add = |text: &str| {
        nodes.push(format!("%{next} {text}"));
        next += 1;
        next - 1
    };
    for layer in 0..layers {
        let (gain, weight) = (1 + 2 * layer as u32, 2 + 2 * layer as u32);
        params.push(format!("param p{gain} h.{layer}.norm.weight [8] tensor {gain} rows 0..1"));
        params.push(format!("param p{weight} h.{layer}.up.weight [8, 8] tensor {weight} rows 0..8"));
        modules.push(new(format!("h.{layer}.norm"), Kind::Norm, gain));
        modules.push(new(format!("h.{layer}.up"), Kind::Linear, weight));
        let gain = add(&format!("param p{gain} : real[8]  // h.{layer}.norm"));
        let weight = add(&format!("param p{weight} : real[8, 8]  // h.{layer}.up"));
        let normal = add(&format!("normalize eps=1e-6 %{x} : real[T, 8]  // h.{layer}.norm"));
        let normal = add(&format!("gain %{normal} %{gain} : real[T, 8]  // h.{layer}.norm"));
        let mut up = add(&format!("linear %{normal} %{weight} : real[T, 8]  // h.{layer}.up"));
        if readers.contains(&layer) {
            let other = *first.get_or_insert(up);
            up = add(&format!("mul %{up} %{other} : real[T, 8]  // h.{layer}.mul"));
        }
        x = add(&format!("add %{x} %{up} : real[T, 8]  // h.{layer}.add"));
    }
    add(&format!("output %{x} : real[T, 8]  // output"));
    Elaborated {
        name: "layers".to_owned(),
        graph: read(&[params, nodes].concat().join("\n")).expect("a graph"),
        modules,
        children: [].into(),
        ties: Vec::new(),
        max_positions: None,
    }
}

/// The titles of the groups when the layers have these formats.
fn groups(model: &Elaborated, format: impl Fn(u64) -> &'static str) -> Vec<String> {
    let describe = |id: ModuleId| {
        let layer = fold::LayerPath::split(&model.modules[id.0 as usize].path);
        note(layer.map_or("keep", |layer| format(layer.index)), 100, 10)
    };
    let diagram = diagram(model, "spec", &describe).expect("a small picture");
    elements(&svg(&diagram));
    diagram.groups.iter().map(Group::title).collect()
}

#[test]
fn equal_layers_are_drawn_once() {
    let model = model(32, &[]);
    let diagram = diagram(&model, "spec", &|_| note("int8", 100, 10)).expect("a small picture");
    let paths: Vec<&str> = diagram.nodes.iter().map(|node| node.path.as_str()).collect();
    assert_eq!(paths, ["tokens", "embed", "h[0..32].norm", "h[0..32].up", "h[0..32].add", "output"]);
    assert_eq!(diagram.edges, [(0, 1), (1, 2), (2, 3), (1, 4), (3, 4), (4, 5)]);
    assert_eq!(diagram.groups[0].title(), "h 0–31 ×32");
    assert_eq!(diagram.groups[0].bytes, Bytes { before: 6400, after: 640 });
    assert_eq!(diagram.bytes, Bytes { before: 6500, after: 650 });
    assert_eq!(diagram.formats, [("int8".to_owned(), 650)]);
    assert_eq!(diagram.sizes(), "6.50 kB → 650 B (10.0 %, 10.00× smaller)");
}

#[test]
fn layers_that_differ_are_drawn_apart() {
    let model = model(8, &[]);
    let ends = |layer| if layer == 0 || layer == 7 { "int8" } else { "int4" };
    assert_eq!(groups(&model, ends), ["h 0", "h 1–6 ×6", "h 7"]);
    let turns = |layer| if layer % 2 == 0 { "int8" } else { "int4" };
    assert_eq!(groups(&model, turns), ["h 0–7 · 4 × 2 layers"]);
}

#[test]
fn a_layer_that_others_read_is_drawn_apart() {
    assert_eq!(groups(&model(6, &[0, 1, 2, 3, 4, 5]), |_| "keep"), ["h 0", "h 1–5 ×5"]);
    assert_eq!(groups(&model(6, &[0, 1, 2, 3]), |_| "keep"), ["h 0", "h 1–3 ×3", "h 4–5 ×2"]);
}

#[test]
fn a_picture_that_is_too_large_is_refused() {
    let model = model(2000, &[]);
    let formats: Vec<String> = (0..model.modules.len()).map(|index| format!("int8(group: {index})")).collect();
    let describe = |id: ModuleId| note(&formats[id.0 as usize], 1, 1);
    assert_eq!(diagram(&model, "spec", &describe), Err(TooLarge { nodes: 6003 }));
}
