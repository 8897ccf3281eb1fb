//! Whole files.

use lathe_grammar::ast::{BinaryOp, DeclKind, ExprKind, Spec, StmtKind, UnaryOp};
use lathe_grammar::{print, print_yaml};

use crate::{ast, parse_named};

const LLAMA: &str = include_str!("files/llama.lathe");

/// The value of `let x = EXPRESSION`.
fn expression(text: &str) -> ExprKind {
    let file = ast("a.lathe", &format!("lathe 1\nmodel m {{\nlet x = {text}\n}}\n"));
    let model = file.models().next().expect("a model");
    let DeclKind::Let { value, .. } = &model.body[0].kind else { panic!("a let") };
    value.kind.clone()
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
    let text =
        "lathe 1\nmodel m {\nmodule model.if.graph = f(config.in)\nmodule a {\ncontext = f()\ngraph.x = f()\n}\n}\n";
    let file = ast("a.lathe", text);
    let model = file.models().next().expect("a model");
    assert_eq!(model.body.len(), 2);
    assert_eq!(ast("a.lathe", &print(&file)), file);
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
    let text = "lathe 1\nspec a {\nrules {\na => \nb => keep\n}\n}\nspec {\n}\nspec c { }\n";
    let (_, _, parsed) = parse_named("a.lathe", text);
    assert_eq!(parsed.diagnostics.len(), 2);
    let file = parsed.file.expect("the version is known");
    let rules = |spec: &Spec| spec.rules.as_ref().map(|rules| rules.value.len());
    let names: Vec<_> = file.specs().map(|spec| (spec.name.value.as_str(), rules(spec))).collect();
    assert_eq!(names, [("a", Some(1)), ("c", None)]);
}
