//! Files of specs, in both syntaxes.

use lathe_grammar::ast::{Arg, Call, Expr, ExprKind, File, Item, ItemKind, Let, Rotation, Rule, Spec};
use lathe_grammar::pattern::Pattern;
use lathe_grammar::span::Spanned;
use lathe_grammar::{print, print_yaml};
use proptest::option;
use proptest::prelude::*;

use super::{NOWHERE, any_expression, expr, spanned};
use crate::ast;

fn word() -> impl Strategy<Value = String> {
    // Words of YAML, and of the language where they can be names.
    let words = ["keep", "int4", "yes", "no", "y", "off", "rules", "use", "by", "of", "input", "spec", "_a1", "lathe"];
    prop::sample::select(words.to_vec()).prop_map(str::to_owned)
}

fn item_name() -> impl Strategy<Value = String> {
    prop_oneof![word(), "[a-z_][a-z0-9_.-]{0,6}", Just("true".to_owned()), Just("e1".to_owned())]
}

/// The text of a `use` or `extends`.
fn path() -> impl Strategy<Value = String> {
    prop_oneof![item_name(), "[a-z./ #:'\"\\\\{*ü\u{2028}\u{feff}-]{1,8}"]
}

fn pattern() -> impl Strategy<Value = Spanned<Pattern>> {
    let patterns = vec![
        "**",
        "*",
        ":linear",
        "/model.norm",
        "layers[0, -1].mlp.down_proj",
        "layers[0..4].**:linear",
        "{embed_tokens,lm_head}",
        "mlp.{up,gate}_proj",
        "a.by.of.optional",
        r#"re:"a\.\d+ => by (b|c) #.*""#,
        "layers[*]",
    ];
    prop::sample::select(patterns).prop_map(|text| spanned(Pattern::parse(text).expect("a pattern")))
}

fn call() -> impl Strategy<Value = Spanned<Call>> {
    let value = prop_oneof![
        (0..200_i64).prop_map(ExprKind::Int),
        any::<bool>().prop_map(ExprKind::Bool),
        word().prop_map(ExprKind::Name),
        "[a-z \"#:{]{0,4}".prop_map(ExprKind::Str),
    ]
    .prop_map(expr);
    let args = prop::collection::vec((any::<bool>(), value), 0..3).prop_map(|args| {
        let (named, positional): (Vec<_>, Vec<_>) = args.into_iter().partition(|(is_named, _)| *is_named);
        let positional = positional.into_iter().map(|(_, value)| Arg { name: None, value });
        let named = named.into_iter().enumerate();
        let named = named.map(|(i, (_, value))| Arg { name: Some(spanned(format!("name_{i}"))), value });
        positional.chain(named).collect()
    });
    (word(), args).prop_map(|(name, args)| spanned(Call { name: spanned(name), args }))
}

fn rule() -> impl Strategy<Value = Rule> {
    let formats = prop_oneof![
        call().prop_map(|format| (Some(format), None)),
        call().prop_map(|input| (None, Some(input))),
        (call(), call()).prop_map(|(format, input)| (Some(format), Some(input))),
    ];
    (pattern(), formats, any::<bool>()).prop_map(|(pattern, (format, input), optional)| Rule {
        pattern,
        format,
        input,
        optional,
        span: NOWHERE,
    })
}

fn rotation() -> impl Strategy<Value = Rotation> {
    (word(), option::of(pattern()), call(), any::<bool>(), any::<bool>()).prop_map(
        |(site, within, by, offline, optional)| Rotation {
            site: spanned(site),
            within,
            by,
            offline,
            optional,
            span: NOWHERE,
        },
    )
}

/// No name is bound twice, which YAML could not say.
fn lets() -> impl Strategy<Value = Vec<Let>> {
    let any_value = prop_oneof![any_expression(), call().prop_map(as_expression)];
    prop::collection::btree_map(word(), any_value, 0..4).prop_map(|lets| {
        lets.into_iter().map(|(name, value)| Let { name: spanned(name), value, span: NOWHERE }).collect()
    })
}

fn as_expression(call: Spanned<Call>) -> Expr {
    let name = expr(ExprKind::Name(call.value.name.value));
    if call.value.args.is_empty() {
        return name;
    }
    expr(ExprKind::Call { callee: Box::new(name), args: call.value.args })
}

fn spec() -> impl Strategy<Value = Spec> {
    let head = (item_name(), option::of(path()), option::of(prop::collection::vec(item_name(), 1..4)));
    let sections = (
        lets(),
        option::of(prop::collection::vec(rule(), 0..4)),
        option::of(prop::collection::vec(rotation(), 0..4)),
        option::of(call()),
        [option::of(word()), option::of(word()), option::of(word())],
    );
    (head, sections).prop_map(|((name, extends, models), sections)| {
        let (lets, rules, rotate, kv_cache, [tied, table_basis, compute]) = sections;
        Spec {
            name: spanned(name),
            extends: extends.map(spanned),
            models: models.map(|names| spanned(names.into_iter().map(spanned).collect())),
            lets,
            rules: rules.map(spanned),
            rotate: rotate.map(spanned),
            kv_cache,
            tied: tied.map(spanned),
            table_basis: table_basis.map(spanned),
            compute: compute.map(spanned),
        }
    })
}

fn file(uses: Vec<String>, lets: Vec<Let>, specs: Vec<Spec>) -> File {
    let uses = uses.into_iter().map(|path| ItemKind::Use(spanned(path)));
    let kinds = uses.chain(lets.into_iter().map(ItemKind::Let)).chain(specs.into_iter().map(ItemKind::Spec));
    File { version: spanned(1), items: kinds.map(|kind| Item { kind, span: NOWHERE }).collect() }
}

fn uses() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(path(), 0..3)
}

/// What YAML can hold.
fn file_for_yaml() -> impl Strategy<Value = File> {
    prop_oneof![
        3 => (uses(), spec()).prop_map(|(uses, spec)| file(uses, Vec::new(), vec![spec])),
        1 => (uses(), lets()).prop_map(|(uses, lets)| file(uses, lets, Vec::new())),
    ]
}

proptest! {
    #[test]
    fn any_file(uses in uses(), lets in lets(), specs in prop::collection::vec(spec(), 0..3)) {
        let file = file(uses, lets, specs);
        let printed = print(&file);
        prop_assert_eq!(&ast("a.lathe", &printed), &file, "{}", printed);
        prop_assert_eq!(print(&ast("a.lathe", &printed)), printed);
    }

    #[test]
    fn any_file_in_yaml(file in file_for_yaml()) {
        let yaml = print_yaml(&file).expect("YAML can hold it");
        let read = ast("a.yaml", &yaml);
        prop_assert_eq!(&read, &file, "{}", yaml);
        prop_assert_eq!(print_yaml(&read), Some(yaml));
        // And over to the other syntax.
        prop_assert_eq!(&ast("a.lathe", &print(&read)), &file);
    }
}

#[test]
fn what_yaml_cannot_hold() {
    for text in [
        "spec a { }\nspec b { }",
        "let x = 1\nspec a { }",
        "model m { }",
        "spec a {\nlet x = 1\nlet x = 2\n}",
        "let x = 1\nlet x = 2",
    ] {
        assert_eq!(print_yaml(&ast("a.lathe", &format!("lathe 1\n{text}\n"))), None, "{text}");
    }
    for text in ["", "use \"a\"", "let x = 1\nlet y = 2", "use \"a\"\nuse \"b\"\nspec a { }"] {
        assert!(print_yaml(&ast("a.lathe", &format!("lathe 1\n{text}\n"))).is_some(), "{text}");
    }
}
