//! Whole files.

use lathe_grammar::ast::{BinaryOp, DeclKind, Expr, ExprKind, Rule, Spec, StmtKind, Subscript, UnaryOp};
use lathe_grammar::span::Span;
use lathe_grammar::{print, print_yaml};

use crate::{ast, parse_named};

const LLAMA: &str = include_str!("files/llama.lathe");

/// The value of `let x = EXPRESSION`.
fn expression(text: &str) -> ExprKind {
    whole_expression(text).kind
}

fn whole_expression(text: &str) -> Expr {
    let file = ast("a.lathe", &format!("lathe 1\nmodel m {{\nlet x = {text}\n}}\n"));
    let model = file.models().next().expect("a model");
    let DeclKind::Let { value, .. } = &model.body[0].kind else { panic!("a let") };
    value.clone()
}

#[test]
fn a_definition_and_a_spec() {
    let file = ast("llama.lathe", LLAMA);
    assert_eq!(file.items.len(), 2);
    insta::assert_snapshot!(print(&file));
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_change_nothing() {
    let windows = format!("\u{feff}{}", LLAMA.replace('\n', "\r\n"));
    assert_eq!(ast("llama.lathe", LLAMA), ast("llama.lathe", &windows));
}

#[test]
fn newlines_are_free_in_brackets_and_behind_commas_of_names() {
    let free = "lathe 1\nmodel m {\narchitectures \"A\",\n  \"B\"\nlet x = f(\n1,\n  [2, // two\n3],\n)\n}\n";
    let tight = "lathe 1\nmodel m { architectures \"A\", \"B\"\nlet x = f(1, [2, 3]) }";
    assert_eq!(ast("a.lathe", free), ast("a.lathe", tight));
}

#[test]
fn yaml_and_the_language_give_the_same_ast() {
    let yaml = r#"
lathe: 1
spec: keep  # a comment
rules:
  - match: "**"
    format: keep
    optional: false
  - {match: 'mlp.down_proj', format: keep(exact), optional: true}
  - format: keep
    match: layers[0, -1].mlp.{up_proj,gate_proj}
  - match: :linear
    format: "keep"
"#;
    let language = "lathe 1
spec keep {
    rules {
        ** => keep
        mlp.down_proj => keep(exact) optional
        layers[0, -1].mlp.{up_proj,gate_proj} => keep
        :linear => keep
    }
}";
    let file = ast("keep.yaml", yaml);
    assert_eq!(file, ast("keep.lathe", language));
    assert_eq!(file, ast("keep.yml", &print_yaml(&file).expect("one spec")));
    insta::assert_snapshot!(print_yaml(&file).expect("one spec"));
}

const EVERY_SECTION: &str = include_str!("files/every_section.lathe");
const EVERY_SECTION_IN_YAML: &str = include_str!("files/every_section.yaml");

#[test]
fn twins_with_every_section() {
    let file = ast("a.lathe", EVERY_SECTION);
    assert_eq!(print(&file), EVERY_SECTION);
    assert_eq!(ast("a.yaml", EVERY_SECTION_IN_YAML), file);
    insta::assert_snapshot!(print_yaml(&file).expect("one spec"));
}

#[test]
fn lets_of_a_file_have_a_twin() {
    let yaml = "lathe: 1\nuse: [a]\nlet:\n  x: int4\n  y: 1e-6\n";
    assert_eq!(ast("a.yaml", yaml), ast("a.lathe", "lathe 1\nuse \"a\"\nlet x = int4\nlet y = 1e-6\n"));
}

#[test]
fn spans_of_lines_and_sections_are_whole() {
    let file = ast("a.lathe", EVERY_SECTION);
    let text = |span: Span| &EVERY_SECTION[span.range()];
    assert_eq!(text(file.items[0].span), "use \"common/tables\"");
    assert!(
        text(file.items[2].span).starts_with("spec every-section") && text(file.items[2].span).ends_with("bf16\n}")
    );
    let spec = file.specs().next().expect("a spec");
    assert_eq!(text(spec.models.as_ref().expect("models").span), "models llama, qwen2");
    assert_eq!(text(spec.lets[1].span), "let rate = 0.5");
    let rules = spec.rules.as_ref().expect("rules");
    assert!(text(rules.span).starts_with("rules {") && text(rules.span).ends_with('}'));
    assert_eq!(text(rules.value[3].span), ":router => with input keep");
    let rotate = spec.rotate.as_ref().expect("rotate");
    assert!(text(rotate.span).starts_with("rotate {") && text(rotate.span).ends_with('}'));
    assert_eq!(text(rotate.value[1].span), "value of layers[0..4] by hadamard offline");
    assert_eq!(text(spec.kv_cache.as_ref().expect("kv_cache").span), "int4(per: head)");
    assert_eq!(text(spec.compute.as_ref().expect("compute").span), "bf16");
    assert_eq!(text(spec.extends.as_ref().expect("extends").span), "\"llama/base\"");

    let file = ast("a.yaml", EVERY_SECTION_IN_YAML);
    let text = |span: Span| &EVERY_SECTION_IN_YAML[span.range()];
    let spec = file.specs().next().expect("a spec");
    assert_eq!(text(file.items[0].span), "common/tables");
    assert!(text(file.items[2].span).starts_with("lathe: 1") && text(file.items[2].span).ends_with("compute: bf16"));
    assert_eq!(text(spec.models.as_ref().expect("models").span), "models: [llama, \"qwen2\"]");
    assert_eq!(text(spec.lets[2].span), "offset: -3");
    let rules = spec.rules.as_ref().expect("rules");
    assert!(text(rules.span).starts_with("rules:") && text(rules.span).ends_with("format: keep"));
    assert!(text(rules.value[1].span).starts_with("{match: ") && text(rules.value[1].span).ends_with("true}"));
    let rotate = spec.rotate.as_ref().expect("rotate");
    assert_eq!(text(rotate.value[0].span), "site: residual\n    by: \"random_hadamard(seed: 7)\"");
    assert_eq!(text(spec.kv_cache.as_ref().expect("kv_cache").span), "int4(per: head)");
}

#[test]
fn spans_point_at_what_was_written() {
    for (name, text) in [
        ("a.lathe", "lathe 1\nspec a { rules {\n  mlp.up_proj => keep(exact) optional // why\n} }"),
        ("a.yaml", "lathe: 1\nspec: \"a\"\nrules:\n- match: 'mlp.up_proj'\n  format: keep(exact)\n  optional: true\n"),
    ] {
        let file = ast(name, text);
        let spec = file.specs().next().expect("a spec");
        let rule = &spec.rules.as_ref().expect("rules").value[0];
        let format = rule.format.as_ref().expect("a format");
        assert_eq!(text[rule.pattern.span.range()].trim_matches('\''), "mlp.up_proj");
        assert_eq!(&text[format.span.range()], "keep(exact)");
        assert_eq!(&text[format.value.args[0].value.span.range()], "exact");
        assert_eq!(&text[file.version.span.range()], "1");
        assert_eq!(text[spec.name.span.range()].trim_matches('"'), "a");
        assert!(text[rule.span.range()].starts_with(if name == "a.yaml" { "match" } else { "mlp" }));
        assert!(text[rule.span.range()].ends_with(if name == "a.yaml" { "optional: true" } else { "optional" }));
    }
}

#[test]
fn operators_bind_as_documented() {
    for (written, meant) in [
        ("2 ^ -0.5", "2 ^ (-0.5)"),
        ("-a ^ b", "-(a ^ b)"),
        ("a ^ b ^ c", "a ^ (b ^ c)"),
        ("-a * b", "(-a) * b"),
        ("!a == b", "(!a) == b"),
        ("a - b - c", "(a - b) - c"),
        ("a + b * c % d", "a + ((b * c) % d)"),
        ("a < b && c || d or e when f", "((((a < b) && c) || d) or e) when f"),
        ("a when b or c", "a when (b or c)"),
        ("a when b when c", "(a when b) when c"),
        ("-a.b(c)[d]", "-(((a.b)(c))[d])"),
        ("if a { b } else if c { d } else { e } + 1", "(if a { b } else { if c { d } else { e } }) + 1"),
    ] {
        assert_eq!(expression(written), expression(meant), "{written}");
    }
    let ExprKind::Binary(BinaryOp::Pow, _, exponent) = expression("2 ^ -0.5") else { panic!("a power") };
    assert!(matches!(exponent.kind, ExprKind::Unary(UnaryOp::Neg, _)));
}

#[test]
fn literals() {
    assert_eq!(expression("10_000"), ExprKind::Int(10_000));
    assert_eq!(expression("9223372036854775807"), ExprKind::Int(i64::MAX));
    assert_eq!(expression("1e-6"), ExprKind::Float(1e-6));
    assert_eq!(expression("1_0.5E+2"), ExprKind::Float(1050.0));
    assert_eq!(expression(r#""a\"\\\n\tü""#), ExprKind::Str("a\"\\\n\tü".to_owned()));
    assert_eq!(expression("null"), ExprKind::Null);
    assert_eq!(expression("nullable"), ExprKind::Name("nullable".to_owned()));
}

#[test]
fn keywords_are_names_behind_a_dot() {
    let text = "lathe 1\nmodel m {\nmodule model.if.graph = f(config.in)\nmodule a {\ncontext = f()\ngraph.x = f()\n\
        alias = f()\nblock.x, block = f()\nblock[0] {\n}\nblock {\nalias {\n}\n}\n}\nmodule block = f(alias)\n}\n";
    let file = ast("a.lathe", text);
    let model = file.models().next().expect("a model");
    assert_eq!(model.body.len(), 3);
    let DeclKind::Scope { body, .. } = &model.body[1].kind else { panic!("a scope") };
    assert_eq!(body.len(), 6);
    assert_eq!(ast("a.lathe", &print(&file)), file);
}

#[test]
fn one_index_is_no_slice() {
    let (a, one) = (|| Box::new(whole_expression("a")), || whole_expression("1"));
    assert_eq!(expression("a[1]"), ExprKind::Index(a(), Box::new(one())));
    assert_eq!(expression("a[..]"), ExprKind::Slice(a(), vec![Subscript::All]));
    assert_eq!(expression("a[1..]"), ExprKind::Slice(a(), vec![Subscript::Range(Some(one()), None)]));
    assert_eq!(expression("a[..1]"), ExprKind::Slice(a(), vec![Subscript::Range(None, Some(one()))]));
    assert_eq!(expression("a[1..1]"), ExprKind::Slice(a(), vec![Subscript::Range(Some(one()), Some(one()))]));
    assert_eq!(expression("a[1, ..]"), ExprKind::Slice(a(), vec![Subscript::At(one()), Subscript::All]));
}

#[test]
fn else_may_stand_on_the_next_line() {
    let text =
        "lathe 1\nmodel m {\ngraph(x) {\nif a {\ny = x\n}\nelse if b {\ny = x\n}\nelse {\ny = x\n}\nreturn y\n}\n}\n";
    let file = ast("a.lathe", text);
    let model = file.models().next().expect("a model");
    let DeclKind::Graph { body, .. } = &model.body[0].kind else { panic!("a graph") };
    let StmtKind::If { otherwise, .. } = &body[0].kind else { panic!("an if") };
    assert!(matches!(otherwise[0].kind, StmtKind::If { .. }));
    assert_eq!(body.len(), 2);
}

#[test]
fn what_could_be_read_is_there_beside_the_mistakes() {
    let text = "lathe 1\nspec a {\nrules {\na => \nb => keep\nc keep\n}\n}\nspec {\n}\nspec c { }\n";
    let (_, _, parsed) = parse_named("a.lathe", text);
    assert_eq!(parsed.diagnostics.len(), 3);
    let file = parsed.file.expect("the version is known");
    let rules = |spec: &Spec| spec.rules.as_ref().map(|rules| rules.value.len());
    let names: Vec<_> = file.specs().map(|spec| (spec.name.value.as_str(), rules(spec))).collect();
    assert_eq!(names, [("a", Some(2)), ("c", None)]);
    let spec = file.specs().next().expect("a spec");
    let rules = &spec.rules.as_ref().expect("rules").value;
    assert_eq!(rules.iter().map(Rule::is_readable).collect::<Vec<_>>(), [false, true]);
}
