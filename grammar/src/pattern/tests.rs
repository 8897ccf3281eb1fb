use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// A small model: 12 layers, of which each has a norm, projections, and a router with 4 experts.
const MODULES: [(&str, Kind); 6] = [
    ("input_layernorm", Kind::Norm),
    ("self_attn.q_proj", Kind::Linear),
    ("mlp.down_proj", Kind::Linear),
    ("mlp.gate", Kind::Router),
    ("mlp.experts.0.up_proj", Kind::Linear),
    ("mlp.experts.3.up_proj", Kind::Linear),
];

fn modules() -> Vec<(String, Kind)> {
    let mut modules = vec![("model.embed_tokens".to_owned(), Kind::Embedding)];
    for layer in 0..12 {
        modules.extend(MODULES.iter().map(|(path, kind)| (format!("model.layers.{layer}.{path}"), *kind)));
    }
    modules.push(("model.norm".to_owned(), Kind::Norm));
    modules.push(("lm_head".to_owned(), Kind::Head));
    modules
}

fn children(container: &str) -> usize {
    match container {
        "model.layers" => 12,
        _ if container.ends_with(".experts") => 4,
        _ => 0,
    }
}

fn matches(pattern: &Pattern, path: &str, kind: Kind) -> bool {
    let takes_format = kind != Kind::Norm;
    pattern.matches(&Candidate { path, kind, takes_format, children: &children })
}

/// The modules of the small model that match.
fn matched(pattern: &str) -> Vec<String> {
    let pattern = Pattern::parse(pattern).unwrap_or_else(|fault| panic!("{pattern}: {fault}"));
    modules().into_iter().filter(|(path, kind)| matches(&pattern, path, *kind)).map(|(path, _)| path).collect()
}

fn counts(pattern: &str) -> usize {
    matched(pattern).len()
}

#[test]
fn whole_segments_match_at_the_end_of_a_path() {
    assert_eq!(counts("mlp.down_proj"), 12);
    assert_eq!(counts("down_proj"), 12);
    assert_eq!(counts("own_proj"), 0);
    assert_eq!(counts("mlp"), 0);
    assert_eq!(counts("self_attn.down_proj"), 0);
    assert_eq!(matched("layers.1.mlp.down_proj"), ["model.layers.1.mlp.down_proj"]);
    assert_eq!(matched("lm_head"), ["lm_head"]);
}

#[test]
fn a_slash_anchors_at_the_begin() {
    assert_eq!(matched("/model.norm"), ["model.norm"]);
    assert_eq!(counts("/norm"), 0);
    assert_eq!(counts("/model.layers.1.**"), 5);
    assert_eq!(counts("/model.layers.1"), 0);
    assert_eq!(counts("/**.down_proj"), 12);
}

#[test]
fn stars_stay_within_a_segment() {
    assert_eq!(counts("self_attn.*"), 12);
    assert_eq!(counts("*_proj"), 48);
    assert_eq!(counts("mlp.*_proj"), 12);
    assert_eq!(counts("mlp.*.*.up_proj"), 24);
    assert_eq!(counts("*o*n_p*"), 12);
    assert_eq!(matched("*"), modules().into_iter().map(|(path, _)| path).collect::<Vec<_>>());
}

#[test]
fn double_stars_take_any_number_of_segments() {
    assert_eq!(counts("**"), 12 * 5 + 2);
    assert_eq!(counts("layers.**.up_proj"), 24);
    assert_eq!(counts("layers.**.mlp.**.up_proj"), 24);
    assert_eq!(counts("/model.**.norm"), 1);
    assert_eq!(counts("layers[0].**"), 5);
    assert_eq!(counts("down_proj.**"), 0);
}

#[test]
fn a_final_double_star_means_what_takes_a_format() {
    assert_eq!(counts("layers[0].**"), 5);
    assert_eq!(counts("layers[0].**:norm"), 1);
    assert_eq!(counts("layers[0].*"), 1);
}

#[test]
fn indices() {
    assert_eq!(matched("layers[3].mlp.gate"), matched("layers.3.mlp.gate"));
    assert_eq!(matched("layers[0, -1].mlp.gate"), ["model.layers.0.mlp.gate", "model.layers.11.mlp.gate"]);
    assert_eq!(counts("layers[0..4].mlp.gate"), 4);
    assert_eq!(counts("layers[10..40].mlp.gate"), 2);
    assert_eq!(counts("layers[-4..].mlp.gate"), 4);
    assert_eq!(counts("layers[..-4].mlp.gate"), 8);
    assert_eq!(counts("layers[4..4].mlp.gate"), 0);
    assert_eq!(counts("layers[12].mlp.gate"), 0);
    assert_eq!(counts("layers[-13].mlp.gate"), 0);
    assert_eq!(counts("layers[*].mlp.gate"), 12);
    assert_eq!(counts("layers[0].mlp.experts[-1].up_proj"), 1);
    assert_eq!(counts("mlp[0]"), 0);
    assert_eq!(counts("layers.03.mlp.gate"), 0);
}

#[test]
fn kinds_are_exclusive() {
    assert_eq!(counts(":linear"), 48);
    assert_eq!(counts(":router"), 12);
    assert_eq!(counts(":head"), 1);
    assert_eq!(counts(":embedding"), 1);
    assert_eq!(counts(":norm"), 13);
    assert_eq!(counts(":conv"), 0);
    assert_eq!(counts("mlp.**:linear"), 36);
    assert_eq!(counts("mlp.*:linear"), 12);
}

#[test]
fn braces() {
    assert_eq!(counts("{lm_head, embed_tokens}"), 2);
    assert_eq!(counts("{self_attn.q,mlp.down}_proj"), 24);
    assert_eq!(counts("{:head,layers[0, 2].mlp.gate}"), 3);
    assert_eq!(counts("{/model.norm,/norm}"), 1);
    assert_eq!(counts("layers.{0,2}.mlp.gate"), 2);
}

#[test]
fn regular_expressions_match_the_whole_path() {
    assert_eq!(counts(r#"re:"model\.layers\.\d\.mlp\.gate""#), 10);
    assert_eq!(counts(r#"re:"gate""#), 0);
    assert_eq!(counts(r#"re:"lm_head|gate""#), 1);
    assert!(Pattern::parse(r#"re:"a)|(b""#).is_err());
    assert!(Pattern::parse(r#"re:"a" b""#).is_err());
    assert!(Pattern::parse(r#"re:"\w{1000}{1000}""#).is_err());
}

#[test]
fn containers_are_told_from_modules() {
    for (pattern, path, expected) in [
        ("layers[0]", "model.layers.0", true),
        ("layers[0]", "model.layers.1", false),
        ("mlp", "model.layers.0.mlp", true),
        ("mlp.down_proj", "model.layers.0.mlp", false),
        ("mlp:linear", "model.layers.0.mlp", false),
    ] {
        let pattern = Pattern::parse(pattern).expect("well-formed");
        assert_eq!(pattern.matches_container(path, &children), expected, "{pattern} {path}");
    }
}

#[test]
fn alternatives_are_what_must_match_on_its_own() {
    let alternatives = |text: &str| -> Vec<String> {
        let pattern = Pattern::parse(text).expect("well-formed");
        pattern.alternatives().iter().map(Pattern::to_string).collect()
    };
    assert_eq!(alternatives("a.b"), ["a.b"]);
    assert_eq!(alternatives("{a, b.c}.d:linear"), ["a.d:linear", "b.c.d:linear"]);
    assert_eq!(
        alternatives("l[0, 2..4, -1].{a,b}"),
        ["l[0].a", "l[2..4].a", "l[-1].a", "l[0].b", "l[2..4].b", "l[-1].b"]
    );
    assert_eq!(alternatives(r#"re:"a|b""#), [r#"re:"a|b""#]);
}

#[test]
fn alternatives_are_bounded() {
    let doubled = |times: usize| "{a,b}".repeat(times);
    assert_eq!(Pattern::parse(&doubled(10)).expect("1024").alternatives().len(), MAX_ALTERNATIVES);
    assert!(Pattern::parse(&doubled(11)).is_err());
    assert!(Pattern::parse(&doubled(800)).is_err());
    assert!(Pattern::parse(&format!("{}[0, 1]", doubled(10))).is_err());
    assert!(Pattern::parse(&"{".repeat(4000)).is_err());
    assert!(Pattern::parse(&"a".repeat(MAX_PATTERN_LENGTH + 1)).is_err());
}

#[test]
fn matching_does_not_blow_up() {
    let pattern = Pattern::parse(&format!("{}z", "**.".repeat(1000))).expect("well-formed");
    assert!(!matches(&pattern, &vec!["a"; 2000].join("."), Kind::Linear));
    let pattern = Pattern::parse(&format!("{}z", "*a".repeat(1000))).expect("well-formed");
    assert!(!matches(&pattern, &"a".repeat(10_000), Kind::Linear));
}

#[test]
fn canonical_text() {
    for (written, canonical) in [
        ("layers.3.mlp", "layers[3].mlp"),
        ("/3", "/[3]"),
        ("layers[ 0 ,-1, ..4 ]", "layers[0, -1, ..4]"),
        ("{ a , b }", "{a,b}"),
        ("layers.{0,1}", "layers.{0,1}"),
        ("layers.03", "layers.03"),
        ("a.{b,c.{d,e}}:norm", "a.{b,c.{d,e}}:norm"),
        ("[*].**", "[*].**"),
    ] {
        assert_eq!(Pattern::parse(written).expect("well-formed").to_string(), canonical);
    }
}

#[test]
fn faults_are_placed() {
    let cases = [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a b",
        "a/b",
        "/",
        "a.[0]",
        "a.:linear",
        "a**",
        "**a",
        "a[0]b",
        ":linear.a",
        ":",
        ":linea",
        "a[",
        "a[]",
        "a[x]",
        "a[0",
        "a[0,]",
        "a[1.5]",
        "a[99999999999]",
        "a[..]",
        "{",
        "}",
        "a,b",
        "{}",
        "{a",
        "{a,}",
        "{a b}",
        "{a}}",
        "ä",
        "a(b)",
        "a\nb",
        "re:a",
        "re:\"(\"",
        "***",
    ];
    let mut report = String::new();
    for text in cases {
        let fault = Pattern::parse(text).expect_err(text);
        let at = fault.offset..fault.offset + fault.length;
        let piece = text.get(at).unwrap_or_else(|| panic!("{text:?} {fault:?}"));
        let help = fault.help.map_or_else(String::new, |help| format!(" ({help})"));
        let _ = writeln!(report, "{text:?} at {} {piece:?}: {}{help}", fault.offset, fault.message);
    }
    insta::assert_snapshot!(report);
}

#[test]
fn name_globs_match_whole_names() {
    let glob = |text: &str, name: &str| NameGlob::parse(text).expect("well-formed").matches(name);
    assert!(glob("**.rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.inv_freq"));
    assert!(glob("**.rotary_emb.inv_freq", "rotary_emb.inv_freq"));
    assert!(!glob("rotary_emb.inv_freq", "model.rotary_emb.inv_freq"));
    assert!(glob("model.*.weight", "model.norm.weight"));
    assert!(!glob("model.*.weight", "model.a.norm.weight"));
    assert!(glob("layers[0..2].{a,b}", "layers.1.b"));
    for refused in ["/a", "a:linear", "re:\"a\"", "a[-1]", "a[-4..]"] {
        assert!(NameGlob::parse(refused).is_err(), "{refused}");
    }
}

/// Matching by its definition, without regard for time: `**` takes zero segments, or one and stays.
fn plainly_matches(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**"], []) | ([], _) => false,
        (["**", rest @ ..], _) => {
            (!rest.is_empty() && plainly_matches(rest, path))
                || path
                    .split_first()
                    .is_some_and(|(_, path)| plainly_matches(pattern, path) || (rest.is_empty() && path.is_empty()))
        }
        ([first, rest @ ..], [segment, path @ ..]) => {
            (*first == "*" || first == segment) && plainly_matches(rest, path)
        }
        (_, []) => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn matching_is_as_defined(
        pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..6),
        path in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..7),
        anchored: bool,
    ) {
        let text = format!("{}{}", if anchored { "/" } else { "" }, pattern.join("."));
        let parsed = Pattern::parse(&text).expect("well-formed");
        let starts = if anchored { 1 } else { path.len() };
        let expected = (0..starts).any(|start| plainly_matches(&pattern, &path[start..]));
        prop_assert_eq!(matches(&parsed, &path.join("."), Kind::Linear), expected);
    }

    #[test]
    fn printing_and_parsing_agree(text in "[ab03*./,{}\\[\\]: -]{1,12}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            let again = Pattern::parse(&pattern.to_string()).expect("what is printed is well-formed");
            prop_assert_eq!(again.to_string(), pattern.to_string());
            let paths = ["a", "a.b", "a.0", "0.a.3", "b.a.0.3", "a.b.a.b", "ab", "a-b"];
            for path in paths {
                prop_assert_eq!(matches(&pattern, path, Kind::Linear), matches(&again, path, Kind::Linear));
                let apart = pattern.alternatives().iter().any(|one| matches(one, path, Kind::Linear));
                prop_assert_eq!(matches(&pattern, path, Kind::Linear), apart, "{} {}", pattern, path);
            }
        }
    }

    #[test]
    fn faults_lie_in_the_text(text in "\\PC{0,20}") {
        if let Err(fault) = Pattern::parse(&text) {
            prop_assert!(text.get(fault.offset..fault.offset + fault.length).is_some(), "{:?}", fault);
        }
        if let Err(fault) = NameGlob::parse(&text) {
            prop_assert!(text.get(fault.offset..fault.offset + fault.length).is_some(), "{:?}", fault);
        }
    }
}

#[test]
fn numbers_past_every_index_are_names() {
    let printed = |text| Pattern::parse(text).unwrap().to_string();
    assert_eq!(printed("layers.2147483647"), "layers[2147483647]");
    assert_eq!(printed("layers.2147483648"), "layers.2147483648");
    assert!(Pattern::parse("layers[2147483648]").is_err());
}
