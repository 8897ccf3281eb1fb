//! parse ∘ print = identity.

mod specs;

use lathe_grammar::ast::{
    Arg, BinaryOp, Decl, DeclKind, Expr, ExprKind, File, Item, ItemKind, Model, Path, PathSegment, Stmt, StmtKind,
    Subscript, UnaryOp,
};
use lathe_grammar::print;
use lathe_grammar::span::{SourceId, Span, Spanned};
use proptest::prelude::*;

use crate::ast;

const NOWHERE: Span = Span { source: SourceId(0), start: 0, end: 0 };

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(value, NOWHERE)
}

fn expr(kind: ExprKind) -> Expr {
    Expr { kind, span: NOWHERE }
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "config", "layer_1", "_x", "order", "format", "when_"]).prop_map(str::to_owned)
}

fn any_expression() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        Just(ExprKind::Null),
        any::<bool>().prop_map(ExprKind::Bool),
        (0..=i64::MAX).prop_map(ExprKind::Int),
        any::<f64>().prop_filter("the language has none", |x| x.is_finite()).prop_map(|x| ExprKind::Float(x.abs())),
        "[a-z\"\\\\\n\tü/{(]{0,8}".prop_map(ExprKind::Str),
        name().prop_map(ExprKind::Name),
    ]
    .prop_map(expr);
    leaf.prop_recursive(5, 40, 4, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        let args = prop::collection::vec(inner.clone(), 0..3).prop_flat_map(|values| {
            let count = values.len();
            (Just(values), 0..=count).prop_map(|(values, positional)| {
                let named = |i: usize| (i >= positional).then(|| spanned(format!("name_{i}")));
                values.into_iter().enumerate().map(|(i, value)| Arg { name: named(i), value }).collect()
            })
        });
        let bound = || prop::option::of(inner.clone());
        let subscript = prop_oneof![
            inner.clone().prop_map(Subscript::At),
            (bound(), bound()).prop_map(|bounds| match bounds {
                (None, None) => Subscript::All,
                (first, last) => Subscript::Range(first, last),
            }),
        ];
        let subscripts = prop::collection::vec(subscript, 1..3)
            .prop_filter("one index is no slice", |subscripts| !matches!(subscripts[..], [Subscript::At(_)]));
        let operators = vec![
            BinaryOp::Or,
            BinaryOp::Either,
            BinaryOp::Both,
            BinaryOp::Eq,
            BinaryOp::Ne,
            BinaryOp::Lt,
            BinaryOp::Le,
            BinaryOp::Gt,
            BinaryOp::Ge,
            BinaryOp::Add,
            BinaryOp::Sub,
            BinaryOp::Mul,
            BinaryOp::Div,
            BinaryOp::Rem,
            BinaryOp::Pow,
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(ExprKind::List),
            (boxed(), name()).prop_map(|(of, name)| ExprKind::Member(of, spanned(name))),
            (boxed(), boxed()).prop_map(|(of, index)| ExprKind::Index(of, index)),
            (boxed(), subscripts).prop_map(|(of, subscripts)| ExprKind::Slice(of, subscripts)),
            (boxed(), args).prop_map(|(callee, args)| ExprKind::Call { callee, args }),
            (prop::sample::select(vec![UnaryOp::Neg, UnaryOp::Not]), boxed())
                .prop_map(|(operator, operand)| ExprKind::Unary(operator, operand)),
            (prop::sample::select(operators), boxed(), boxed())
                .prop_map(|(operator, left, right)| ExprKind::Binary(operator, left, right)),
            (boxed(), boxed()).prop_map(|(value, condition)| ExprKind::When(value, condition)),
            (boxed(), boxed(), boxed()).prop_map(|(condition, then, otherwise)| ExprKind::If {
                condition,
                then,
                otherwise
            }),
        ]
        .prop_map(expr)
    })
}

/// A model that holds an expression everywhere where one can stand.
fn model_around(value: &Expr) -> File {
    let decl = |kind| Decl { kind, span: NOWHERE };
    let path =
        || Path { segments: vec![PathSegment::Name("model".into()), PathSegment::Index(value.clone())], span: NOWHERE };
    let binding = || decl(DeclKind::Let { name: spanned("x".into()), value: value.clone() });
    let module = || decl(DeclKind::Module { paths: vec![path(), path()], constructor: value.clone() });
    let chosen = DeclKind::If { condition: value.clone(), then: vec![module()], otherwise: vec![binding(), module()] };
    let chain = DeclKind::If { condition: value.clone(), then: vec![], otherwise: vec![decl(chosen.clone())] };
    let body = vec![
        binding(),
        decl(DeclKind::Assert { condition: value.clone(), message: Some(spanned("a \"b\"".into())) }),
        decl(DeclKind::Context(value.clone())),
        module(),
        decl(DeclKind::Scope { path: path(), body: vec![module(), decl(chosen)] }),
        decl(DeclKind::Repeat {
            variable: spanned("i".into()),
            start: value.clone(),
            end: value.clone(),
            body: vec![decl(chain)],
        }),
        decl(DeclKind::Alias {
            path: spanned("a.b".into()),
            stored: vec![spanned(String::new()), spanned("c".into())],
        }),
        decl(DeclKind::Block {
            name: spanned("f".into()),
            parameters: vec![spanned("x".into()), spanned("y".into())],
            body: vec![Stmt { kind: StmtKind::Return(value.clone()), span: NOWHERE }],
        }),
    ];
    let model = Model { name: spanned("m-1.5".into()), extends: None, body };
    File { version: spanned(1), items: vec![Item { kind: ItemKind::Model(model), span: spanned(()).span }] }
}

proptest! {
    #[test]
    fn any_model(value in any_expression()) {
        let file = model_around(&value);
        let printed = print(&file);
        prop_assert_eq!(&ast("a.lathe", &printed), &file, "{}", printed);
        prop_assert_eq!(print(&ast("a.lathe", &printed)), printed);
    }
}

#[test]
fn parentheses_are_minimal() {
    for expression in [
        "a + b * c",
        "(a + b) * c",
        "a - (b - c)",
        "a - b - c",
        "2 ^ -0.5",
        "-a ^ b",
        "(-a) ^ b",
        "(a ^ b) ^ c",
        "a ^ b ^ c",
        "2 ^ -a ^ b * c",
        "--a",
        "!(a && b)",
        "(a when b) + c",
        "a when b or c",
        "a when (b when c)",
        "(-a).b",
        "f(a when b, x: c or d)",
        "a[b..c, .., 0, d.., ..e + 1]",
        "a[..]",
        "a[1..2.0]",
        "a[b when c..]",
        "if a { b } else if c { d } else { e } + [1, 2.0, 1e-6]",
    ] {
        let text = format!("lathe 1\n\nmodel m {{\n    let x = {expression}\n}}\n");
        assert_eq!(print(&ast("a.lathe", &text)), text);
    }
}
