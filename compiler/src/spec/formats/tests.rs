use lathe_grammar::diag::Diagnostic;
use lathe_grammar::span::Sources;

use super::*;
use crate::spec::{Entry, NoFiles, Place, check, load};

/// What a text is in a role.
fn read(text: &str, role: Role) -> Result<Format, Vec<Diagnostic>> {
    let body = match role {
        Role::Weight => format!("rules {{ ** => {text} }}"),
        Role::Input => format!("rules {{ ** => with input {text} }}"),
        Role::Cache => format!("kv_cache => {text}"),
    };
    let mut sources = Sources::new();
    let source = sources.add("a.lathe", format!("lathe 1\nspec a {{ {body} }}\n"));
    let entry = Entry { source, place: Place::File("a.lathe".into()), name: None };
    let mut diagnostics = Vec::new();
    let loaded = load(&entry, false, &mut sources, &NoFiles, &mut diagnostics);
    let spec = check(&loaded[0], &mut diagnostics).expect("a spec");
    let stated = match role {
        Role::Weight => spec.rules.first().and_then(|rule| rule.format),
        Role::Input => spec.rules.first().and_then(|rule| rule.input),
        Role::Cache => spec.kv_cache,
    };
    if diagnostics.is_empty() {
        Ok(stated.and_then(|stated| stated.format).expect("it is right"))
    } else {
        Err(diagnostics)
    }
}

/// Values of a parameter: every word, both flags, the ends of a range and one value between.
fn values(parameter: &Parameter) -> Vec<String> {
    match parameter.of {
        Type::Integer { least, most } => vec![least.to_string(), "128".into(), most.to_string()],
        Type::Flag => vec!["true".into(), "false".into()],
        Type::Word(words) => words.iter().map(|word| format!("{word:?}")).collect(),
        Type::Block { most } => vec!["[1, 128]".into(), format!("[{most}, {most}]")],
        Type::Fraction => vec!["0.5".into()],
        Type::Text => vec!["\"text\"".into()],
    }
}

/// Every choice of at most two arguments, as text.
fn calls(kind: &FormatKind) -> Vec<String> {
    if kind.element == Element::Kept {
        return vec!["keep".into(), "keep(exact)".into()];
    }
    let mut lists: Vec<Vec<String>> = vec![Vec::new()];
    for parameter in kind.parameters {
        let shorter: Vec<Vec<String>> = lists.iter().filter(|list| list.len() < 2).cloned().collect();
        for value in values(parameter) {
            lists.extend(shorter.iter().map(|list| [&list[..], &[format!("{}: {value}", parameter.name)]].concat()));
        }
    }
    lists.into_iter().map(|list| format!("{}({})", kind.name, list.join(", "))).collect()
}

#[test]
fn formats_print_as_text_that_reads_back() {
    for kind in FORMATS {
        for role in ANYWHERE {
            let read_calls = calls(kind).into_iter().filter_map(|text| Some((read(&text, *role).ok()?, text)));
            let mut count = 0;
            for (format, text) in read_calls {
                let printed = format.to_string();
                let again = read(&printed, *role).unwrap_or_else(|found| panic!("{text} → {printed}: {found:#?}"));
                assert_eq!((again, again.to_string()), (format, printed), "{text}");
                count += 1;
            }
            assert_eq!(count > 0, kind.roles.contains(role), "{} for {}", kind.name, role.name());
        }
    }
}

#[test]
fn what_holds_anyway_is_not_written() {
    for (text, role, printed) in [
        ("int4(group: 128, symmetric: true, fit: absmax)", Role::Weight, "int4(group: 128)"),
        ("int8(per: token, scale: dynamic)", Role::Input, "int8(per: token)"),
        ("int8(symmetric: false, per: head)", Role::Cache, "int8(per: head, symmetric: false)"),
        ("mxfp8(element: e4m3)", Role::Weight, "mxfp8"),
        ("mxfp6(element: e3m2)", Role::Weight, "mxfp6(element: e3m2)"),
        ("int8(sparse: \"2:4\", per: tensor)", Role::Weight, "int8(per: tensor, sparse: \"2:4\")"),
        ("int8(block: [128,64])", Role::Weight, "int8(block: [128, 64])"),
        ("bf16()", Role::Weight, "bf16"),
    ] {
        assert_eq!(read(text, role).unwrap().to_string(), printed);
    }
}

#[test]
fn bytes_of_a_weight() {
    // By hand, for [96, 256]: 24576 values.
    for (text, bytes) in [
        ("f32", 98_304),
        ("f16", 49_152),
        ("bf16", 49_152),
        // Codes, and 2 bytes for each scale: 1, 96 rows, 96 × 2 groups, 3 × 4 blocks.
        ("int8(per: tensor)", 24_576 + 2),
        ("int8(per: channel)", 24_576 + 192),
        ("int8(group: 128)", 24_576 + 384),
        ("int8(block: [32, 64])", 24_576 + 24),
        ("int7(per: channel)", 21_504 + 192),
        ("int6(per: channel)", 18_432 + 192),
        ("int5(per: channel)", 15_360 + 192),
        ("int4(group: 64)", 12_288 + 768),
        ("int3(group: 64)", 9_216 + 768),
        ("int2(group: 64)", 6_144 + 768),
        ("int3(group: 64, symmetric: false)", 9_216 + 768 + 192),
        // Of 4 bits, the zero points of a row in whole bytes; of 8, a byte for each.
        ("int4(group: 64, symmetric: false)", 12_288 + 768 + 192),
        ("int4(per: channel, symmetric: false)", 12_288 + 192 + 96),
        ("int8(group: 64, symmetric: false)", 24_576 + 768 + 384),
        ("int8(per: channel, scales: f32)", 24_576 + 384),
        // Half of the values, 4 + 2 bits each.
        ("int4(group: 64, sparse: \"2:4\")", 9_216 + 768),
        ("fp8_e4m3(per: tensor)", 24_576 + 4),
        ("fp8_e5m2(per: channel)", 24_576 + 384),
        ("nf4(group: 64)", 12_288 + 768),
        // A byte for each block, of 32 and of 16; one f32 for the tensor.
        ("mxfp8", 24_576 + 768),
        ("mxfp6", 18_432 + 768),
        ("mxfp4", 12_288 + 768),
        ("nvfp4", 12_288 + 1_536 + 4),
    ] {
        assert_eq!(read(text, Role::Weight).unwrap().bytes(96, 256), Some(bytes), "{text}");
    }
    assert_eq!(read("keep", Role::Weight).unwrap().bytes(96, 256), None);
    // Nothing overflows.
    assert_eq!(read("f32", Role::Weight).unwrap().bytes(u64::MAX, u64::MAX), Some(u64::MAX));
}

#[test]
fn what_divides() {
    let misfit = |text: &str, rows, columns| read(text, Role::Weight).unwrap().indivisible(rows, columns);
    for (text, rows, columns) in [
        ("int4(group: 64)", 3, 192),
        ("int8(block: [3, 64])", 6, 128),
        ("int4(per: channel)", 3, 7),
        ("mxfp4", 1, 32),
        ("nvfp4", 1, 48),
        ("int8(per: channel, sparse: \"2:4\")", 1, 8),
        ("bf16", 3, 7),
        ("keep", 3, 7),
    ] {
        assert_eq!(misfit(text, rows, columns), None, "{text}");
    }
    for (text, rows, columns, part, whole) in [
        ("int4(group: 128)", 3, 192, "group 128", "in_features 192"),
        ("int8(block: [4, 64])", 6, 128, "block [4, 64]", "the shape [6, 128]"),
        ("mxfp4", 1, 48, "the block size 32", "in_features 48"),
        ("nvfp4", 1, 40, "the block size 16", "in_features 40"),
        ("int8(per: channel, sparse: \"2:4\")", 1, 6, "4 of `sparse`", "in_features 6"),
    ] {
        let found = misfit(text, rows, columns).unwrap_or_else(|| panic!("{text} divides"));
        assert_eq!((found.part.as_str(), found.whole.as_str()), (part, whole));
    }
}
