//! No input makes the parser panic, hang or take much memory.

use std::fmt::Write as _;

use lathe_grammar::{MAX_SOURCE_LENGTH, print, print_yaml};
use proptest::prelude::*;

use crate::parse_named;

fn messages(name: &str, text: &str) -> Vec<String> {
    parse_named(name, text).2.diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect()
}

fn in_let(expression: &str) -> String {
    format!("lathe 1\nmodel m {{\nlet x = {expression}\n}}\n")
}

#[test]
fn deep_nesting_is_a_diagnostic() {
    for opening in ["(", "[", "{", "f(", "(["] {
        let text = in_let(&opening.repeat(100_000));
        assert_eq!(messages("a.lathe", &text), ["brackets nest deeper than 32 levels"], "{opening}");
    }
    let blocks = format!("lathe 1\nmodel m {}", "{ if a ".repeat(30_000));
    assert_eq!(messages("a.lathe", &blocks), ["brackets nest deeper than 32 levels"]);
}

#[test]
fn long_chains_are_a_diagnostic() {
    let too_deep = ["more than 256 operators or branches depend on each other here"];
    for chain in ["1 + ", "-", "!", "2 ^ ", "a when ", "a or "] {
        assert_eq!(messages("a.lathe", &in_let(&format!("{}1", chain.repeat(20_000)))), too_deep, "{chain}");
    }
    for chain in [".b", "(1)", "[1]"] {
        assert_eq!(messages("a.lathe", &in_let(&format!("a{}", chain.repeat(20_000)))), too_deep, "{chain}");
    }
    let branches = format!("{}{{ 1 }}", "if a { 1 } else ".repeat(10_000));
    assert_eq!(messages("a.lathe", &in_let(&branches)), too_deep);
    let declared = format!("lathe 1\nmodel m {{\n{} {{ }}\n}}\n", "if a { } else ".repeat(10_000));
    assert_eq!(messages("a.lathe", &declared), too_deep);
    let nested = format!("{}1{}", "(1 + 1 * ".repeat(29), ")".repeat(29));
    assert!(messages("a.lathe", &in_let(&nested)).is_empty());
    let nested = format!("{}1{}", "(1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + ".repeat(29), ")".repeat(29));
    assert_eq!(messages("a.lathe", &in_let(&nested)), too_deep);
}

#[test]
fn a_wide_expression_is_fine() {
    let list = format!("[{}]", "1, ".repeat(10_000));
    assert!(messages("a.lathe", &in_let(&list)).is_empty());
}

#[test]
fn a_long_text_is_refused_unread() {
    for name in ["a.lathe", "a.yaml"] {
        let text = " ".repeat(MAX_SOURCE_LENGTH + 1);
        let expected = format!("{name} has {} bytes; at most {MAX_SOURCE_LENGTH} are read", text.len());
        assert_eq!(messages(name, &text), [expected]);
    }
}

#[test]
fn many_mistakes_are_counted_not_shown() {
    let text = format!("lathe 1\nspec a {{ rules {{\n{}}} }}", "x => keep keep\n".repeat(1000));
    let (_, _, parsed) = parse_named("a.lathe", &text);
    assert_eq!(parsed.diagnostics.len(), 200);
    assert_eq!(parsed.diagnostics[199].notes, ["800 more mistakes are not shown"]);
}

#[test]
fn patterns_of_one_text_are_bounded() {
    let beyond = "the patterns before this one stand for more than 32768 alternatives";
    for pattern in [r"{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", r#"re:"\pL{9}""#] {
        let text = format!("lathe 1\nspec a {{ rules {{\n{}}} }}", format!("{pattern} => keep\n").repeat(400));
        assert_eq!(messages("a.lathe", &text), [beyond; 200], "{pattern}");
        let rules = format!("- {{ match: '{pattern}', format: keep }}\n").repeat(400);
        assert_eq!(messages("a.yaml", &format!("lathe: 1\nspec: a\nrules:\n{rules}")), [beyond; 200], "{pattern}");
    }
}

#[test]
fn specs_of_one_text_are_bounded() {
    let specs = |count: usize| format!("lathe 1\n{}", "spec a { }\n".repeat(count));
    assert!(messages("a.lathe", &specs(64)).is_empty());
    let (_, _, parsed) = parse_named("a.lathe", &specs(20_000));
    assert_eq!(parsed.diagnostics.len(), 1);
    assert_eq!(parsed.diagnostics[0].message, "a file may hold at most 64 specs");
    assert_eq!(parsed.file.expect("the rest is read").specs().count(), 64);
}

#[test]
fn yaml_bombs_are_a_diagnostic() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{aliases}]");
    }
    assert_eq!(messages("a.yaml", &bomb), ["the aliases of this YAML repeat more than 10000 values"]);
    for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert_eq!(messages("a.yaml", &deep).len(), 1);
    }
}

/// A cost that grew with the square of the length would be minutes.
#[test]
fn large_yaml_with_many_mistakes() {
    let head = "lathe: 1\nspec: a\nrules:\n";
    for line in
        ["- *\n", "- match: *x\n", "- [\n", "\t- a\n", "a\n", "  a: *b\n", "- {match: **, ", "'", "- &b b\n", "x: [\n"]
    {
        let text = format!("{head}{}", line.repeat((MAX_SOURCE_LENGTH - head.len()) / line.len()));
        assert!(!messages("a.yaml", &text).is_empty(), "{line}");
    }
}

/// Words and marks of the language in any order: most of it nonsense that looks like sense.
fn token_soup() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "lathe 1\n",
        "spec",
        "model",
        "rules",
        "graph",
        "block",
        "alias",
        "f(x) {",
        "[..",
        "module",
        "repeat",
        "let",
        "assert",
        "if",
        "else",
        "for",
        "in",
        "return",
        "context",
        "ignore",
        "tensors",
        "config",
        "architectures",
        "optional",
        "offline",
        "with input",
        "use",
        "extends",
        "models",
        "rotate",
        "kv_cache",
        "tied",
        "table_basis",
        "compute",
        "by",
        "of",
        "residual",
        "->",
        ";",
        "#",
        "'",
        "when",
        "or",
        "null",
        "x",
        "model.layers[i]",
        "a.b",
        "\"text\"",
        "\"open",
        "1",
        "0.5",
        "1e999",
        "99999999999999999999",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "{a,b}",
        "**",
        "*",
        ":linear",
        "=>",
        "=",
        "==",
        "..",
        ".",
        ",",
        ":",
        "+",
        "-",
        "^",
        "!",
        "\n",
        "\n",
        "// note\n",
        "re:\"a|b\"",
        "ü",
        "\\",
        "\t",
        "\r\n",
        "\u{feff}",
    ]);
    prop::collection::vec(token, 0..80).prop_map(|tokens| tokens.join(" "))
}

/// Words and marks of YAML specs in any order.
fn yaml_soup() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "\n",
        "\n",
        "\n",
        "\n  ",
        "\n  ",
        "\n    ",
        "\n\t",
        " ",
        "lathe: 1\n",
        "\nspec: ",
        "\nrules:\n",
        "\nrotate:\n",
        "\nlet:\n",
        "\nuse: ",
        "- ",
        "  - match: ",
        "    format: ",
        "    input: ",
        "site: ",
        "of: ",
        "by: ",
        "optional: ",
        "true",
        "keep",
        "int4(group: 128)",
        "**",
        "*.x",
        "*a",
        "&a ",
        "{a,b}",
        "{match: ",
        "format: ",
        "[0",
        "]",
        "}",
        ", ",
        "\"",
        "'",
        "# note",
        "---\n",
        "...",
        "|",
        ">\n",
        "!x ",
        "<<: ",
        "? ",
        ": ",
        "ü",
        "\\",
        "1e5",
        "~",
        "\r\n",
        "\u{feff}",
        "\u{2028}",
        "%YAML 1.2\n",
    ]);
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

/// Everything that must hold for any text.
fn check(name: &str, text: &str) -> Result<(), TestCaseError> {
    let (sources, source, parsed) = parse_named(name, text);
    let text = sources.get(source).text.as_str();
    let end = text.len() as u32;
    for diagnostic in &parsed.diagnostics {
        prop_assert!(!diagnostic.message.is_empty() && !diagnostic.message.contains('\n'), "{:?}", diagnostic);
        for label in &diagnostic.labels {
            prop_assert!(label.span.source == source && label.span.start <= label.span.end && label.span.end <= end);
            prop_assert!(text.get(label.span.range()).is_some(), "{diagnostic:?} cuts a character");
            sources.line_column(label.span);
        }
    }
    prop_assert!(parsed.file.is_some() || !parsed.diagnostics.is_empty());
    if let Some(file) = parsed.file.filter(|_| parsed.diagnostics.is_empty()) {
        let printed = print(&file);
        let (_, _, again) = parse_named("printed.lathe", &printed);
        prop_assert!(again.diagnostics.is_empty(), "{printed}");
        if let Some(printed) = print_yaml(&file) {
            let (_, _, again) = parse_named("printed.yaml", &printed);
            prop_assert!(again.diagnostics.is_empty(), "{printed}");
            prop_assert_eq!(again.file.as_ref(), Some(&file));
        }
        prop_assert_eq!(again.file, Some(file));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text(text in "\\PC*") {
        check("a.lathe", &text)?;
        check("a.yaml", &text)?;
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        check("a.lathe", &text)?;
        check("a.yaml", &text)?;
    }

    #[test]
    fn any_tokens(text in token_soup()) {
        check("a.lathe", &text)?;
        check("a.lathe", &format!("lathe 1\nmodel m {{\n{text}\n}}\n"))?;
        check("a.lathe", &format!("lathe 1\nmodel m {{\ngraph(x) {{\n{text}\n}}\n}}\n"))?;
        check("a.lathe", &format!("lathe 1\nspec s {{\n{text}\n}}\n"))?;
        check("a.lathe", &format!("lathe 1\nspec s {{\nrules {{\n{text}\n}}\n}}\n"))?;
        check("a.lathe", &format!("lathe 1\nspec s {{\nrotate {{\n{text}\n}}\n}}\n"))?;
        check("a.yaml", &format!("lathe: 1\nspec: s\nrules:\n  - match: {text}\n    format: keep\n"))?;
    }

    #[test]
    fn any_yaml_tokens(text in yaml_soup()) {
        check("a.yaml", &text)?;
        check("a.yaml", &format!("lathe: 1\nspec: s\nrules:\n{text}"))?;
        check("a.yaml", &format!("lathe: 1\nspec: s\nlet:\n  x: {text}"))?;
    }

    /// A file with a piece cut out.
    #[test]
    fn any_cut(start in 0..2500usize, length in 0..60usize) {
        let cut = |whole: &str| {
            let start = start % whole.len();
            let end = (start + length).min(whole.len());
            format!("{}{}", &whole[..start], &whole[end..])
        };
        check("a.lathe", &cut(include_str!("files/llama.lathe")))?;
        check("a.lathe", &cut(include_str!("files/every_section.lathe")))?;
        check("a.yaml", &cut(include_str!("files/every_section.yaml")))?;
    }
}
