//! What is said about typical mistakes: where, in which words, with which help.

mod specs;
mod yaml;
mod yaml_lines;

use std::fmt::Write as _;

use crate::parse_named;

/// Every diagnostic of a text, with the line that it points at.
fn diagnose_named(name: &str, text: &str) -> String {
    let (sources, source, parsed) = parse_named(name, text);
    let text = &sources.get(source).text;
    let mut report = String::new();
    for diagnostic in &parsed.diagnostics {
        for (i, label) in diagnostic.labels.iter().enumerate() {
            let (line, column) = sources.line_column(label.span);
            let width = text[label.span.range()].chars().count().max(1);
            let source = text.lines().nth(line - 1).unwrap_or_default();
            if i == 0 {
                let _ = writeln!(report, "{line}:{column} {}: {}", diagnostic.code, diagnostic.message);
            }
            let _ =
                writeln!(report, "  | {source}\n  | {:>2$} {}", "^".repeat(width), label.message, column + width - 1);
        }
        for help in diagnostic.notes.iter().chain(&diagnostic.help) {
            let _ = writeln!(report, "  = {help}");
        }
    }
    report.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn diagnose(text: &str) -> String {
    diagnose_named("a.lathe", text)
}

/// A spec with these rules.
fn rules(lines: &str) -> String {
    diagnose(&format!("lathe 1\nspec a {{\nrules {{\n{lines}\n}}\n}}\n"))
}

/// A model with these declarations.
fn model(lines: &str) -> String {
    diagnose(&format!("lathe 1\nmodel m {{\n{lines}\n}}\n"))
}

/// A graph with these statements.
fn graph(lines: &str) -> String {
    model(&format!("graph(tokens) {{\n{lines}\n}}"))
}

#[test]
fn versions() {
    insta::assert_snapshot!(diagnose("spec a { }"), @r"
    1:1 P0002: the version line is missing
      | spec a { }
      | ^
      = begin the file with `lathe 1`
    ");
    insta::assert_snapshot!(diagnose("lathe 2\nspec ((("), @r"
    1:7 P0003: version 2 of the language is newer than this compiler reads
      | lathe 2
      |       ^
      = this compiler reads `lathe 1`
    ");
    insta::assert_snapshot!(diagnose("lathe\n"), @r"
    1:1 P0002: the version line names no version
      | lathe
      | ^^^^^
      = this compiler reads `lathe 1`
    ");
    insta::assert_snapshot!(diagnose("lathe 1\nlathe 1\n"), @r"
    2:1 P0001: expected `use`, `let`, `spec` or `model`, found `lathe`
      | lathe 1
      | ^^^^^
      = the version line stands once, at the top of the file
    ");
    insta::assert_snapshot!(diagnose("lath 1\nspec a { }\n"), @r"
    1:1 P0002: the version line is missing
      | lath 1
      | ^
      = begin the file with `lathe 1`
    ");
    insta::assert_snapshot!(diagnose(""), @r"
    1:1 P0002: the version line is missing
      |
      | ^
      = begin the file with `lathe 1`
    ");
}

#[test]
fn misspelt_keywords_do_not_hide_what_is_behind_them() {
    insta::assert_snapshot!(diagnose("lathe 1\nspce a {\nruels {\na -> keep\n}\n}\nmodle m { lte x = 3 4 }\n"), @r"
    2:1 P0001: expected `use`, `let`, `spec` or `model`, found `spce`
      | spce a {
      | ^^^^
      = did you mean `spec`?
    3:1 P0004: a spec has no section `ruels`
      | ruels {
      | ^^^^^
      = did you mean `rules`?
    4:3 P0001: expected `=>`, found `->`
      | a -> keep
      |   ^^
      = a rule is written `PATTERN => FORMAT`
    7:1 P0001: expected `use`, `let`, `spec` or `model`, found `modle`
      | modle m { lte x = 3 4 }
      | ^^^^^
      = did you mean `model`?
    7:11 P0001: expected a declaration, found `lte`
      | modle m { lte x = 3 4 }
      |           ^^^
      = did you mean `let`?
    7:21 P0001: expected an operator or the end of the line, found `4`
      | modle m { lte x = 3 4 }
      |                     ^
    ");
    insta::assert_snapshot!(model("repaet i in 0..3 {\nmodule a[i] = f(1 2)\n}\narchitecture \"A\"\nfrobnicate 3"), @r#"
    3:1 P0001: expected a declaration, found `repaet`
      | repaet i in 0..3 {
      | ^^^^^^
      = did you mean `repeat`?
    4:19 P0001: expected `)`, `,` or an operator, found `2`
      | module a[i] = f(1 2)
      |                   ^
    6:1 P0001: expected a declaration, found `architecture`
      | architecture "A"
      | ^^^^^^^^^^^^
      = did you mean `architectures`?
    7:1 P0001: expected a declaration, found `frobnicate`
      | frobnicate 3
      | ^^^^^^^^^^
      = a model holds `architectures`, `let`, `assert`, `context`, `module`, `repeat`, `if`, `ignore`, `alias`, `block`, `graph`
    "#);
    insta::assert_snapshot!(graph("retrun x\nfro a in b { }"), @r"
    4:1 P0001: expected a statement, found `retrun`
      | retrun x
      | ^^^^^^
      = did you mean `return`?
    5:1 P0001: expected a statement, found `fro`
      | fro a in b { }
      | ^^^
      = did you mean `for`?
    ");
}

#[test]
fn models_that_extend() {
    insta::assert_snapshot!(diagnose("lathe 1\nmodel a extends b extends c {\n}\nmodel d extends e, f {\n}"), @r"
    2:19 P0001: expected `{`, found `extends`
      | model a extends b extends c {
      |                   ^^^^^^^
      = there is one base, which may extend another
    4:18 P0001: expected `{`, found `,`
      | model d extends e, f {
      |                  ^
      = there is one base, which may extend another
    ");
    insta::assert_snapshot!(diagnose("lathe 1\nmodel a extends {\n}\nmodel b: c {\n}\nmodel d(e) {\n}"), @r"
    2:17 P0001: expected a name or a string in double quotes, found `{`
      | model a extends {
      |                 ^
    4:8 P0001: expected `{` or `extends`, found `:`
      | model b: c {
      |        ^
      = a base is written `NAME extends BASE {`
    6:8 P0001: expected `{` or `extends`, found `(`
      | model d(e) {
      |        ^
      = a base is written `NAME extends BASE {`
    ");
    insta::assert_snapshot!(diagnose("lathe 1\nmodel a {\nextends b\n}\nmodel c extends \"/d.lathe\" {\n}"), @r"
    3:1 P0001: `extends` stands behind the name of the model
      | extends b
      | ^^^^^^^
      = write `model NAME extends BASE {`
    ");
}

#[test]
fn blocks() {
    insta::assert_snapshot!(model("block f {\n}\nblock (x) {\n}\nblock f(x, x) {\n}\nblock f(x)\nblock f(x, 1) {\n}"), @r"
    3:9 P0001: expected `(`, found `{`
      | block f {
      |         ^
      = write `block NAME(a, b) {`
    5:7 P0001: expected a name, found `(`
      | block (x) {
      |       ^
    7:12 P0005: the parameter `x` stands twice
      | block f(x, x) {
      |            ^
      | block f(x, x) {
      |         ^ the first one is here
    9:11 P0001: expected `{`, found the end of the line
      | block f(x)
      |           ^
    10:12 P0001: expected a name or `)`, found `1`
      | block f(x, 1) {
      |            ^
    ");
    insta::assert_snapshot!(model("block f(x) {\nlet y = x\nretrun y\n}\nblcok g() {\n}\nblock f(x) = x"), @r"
    4:1 P0001: expected a statement, found `let`
      | let y = x
      | ^^^
    5:1 P0001: expected a statement, found `retrun`
      | retrun y
      | ^^^^^^
      = did you mean `return`?
    7:1 P0001: expected a declaration, found `blcok`
      | blcok g() {
      | ^^^^^
      = did you mean `block`?
    9:15 P0001: expected `{`, found the end of the line
      | block f(x) = x
      |               ^
    ");
}

#[test]
fn aliases() {
    insta::assert_snapshot!(model("alias a.b = c\nalias \"a\" = b\nalias \"a\"\nalias \"a\" \"b\"\nalias \"a\" =\nalais \"a\" = \"b\"\nalias \"a.\" = \"\", \".b\", \"b..c\""), @r#"
    3:7 P0001: expected a string in double quotes, found `a`
      | alias a.b = c
      |       ^
    4:13 P0001: expected a string in double quotes, found `b`
      | alias "a" = b
      |             ^
    5:10 P0001: expected `=`, found the end of the line
      | alias "a"
      |          ^
    6:11 P0001: expected `=`, found `"b"`
      | alias "a" "b"
      |           ^^^
    7:12 P0001: expected a string in double quotes, found the end of the line
      | alias "a" =
      |            ^
    8:1 P0001: expected a declaration, found `alais`
      | alais "a" = "b"
      | ^^^^^
      = did you mean `alias`?
    9:7 P0001: `a.` has a part without a name
      | alias "a." = "", ".b", "b..c"
      |       ^^^^
      = parts of a path stand between single dots; all tensors are `""`
    9:18 P0001: `.b` has a part without a name
      | alias "a." = "", ".b", "b..c"
      |                  ^^^^
      = parts of a path stand between single dots; all tensors are `""`
    9:24 P0001: `b..c` has a part without a name
      | alias "a." = "", ".b", "b..c"
      |                        ^^^^^^
      = parts of a path stand between single dots; all tensors are `""`
    "#);
}

#[test]
fn subscripts() {
    let with = |subscripts: &str| model(&format!("let x = {subscripts}"));
    insta::assert_snapshot!(with("a[]"), @r"
    3:11 P0001: expected an index or `..`, found `]`
      | let x = a[]
      |           ^
    ");
    insta::assert_snapshot!(with("a[1, ]"), @r"
    3:14 P0001: expected an index or `..`, found `]`
      | let x = a[1, ]
      |              ^
    ");
    insta::assert_snapshot!(with("a[1:2]"), @r"
    3:12 P0001: expected `]`, `,`, `..` or an operator, found `:`
      | let x = a[1:2]
      |            ^
      = a range is written `FIRST..END`
    ");
    insta::assert_snapshot!(with("a[:, 1]"), @r"
    3:11 P0001: expected an index or `..`, found `:`
      | let x = a[:, 1]
      |           ^
      = a range is written `FIRST..END`
    ");
    insta::assert_snapshot!(with("a[1...2]"), @r"
    3:14 P0001: expected `]`, `,` or an expression, found `.`
      | let x = a[1...2]
      |              ^
    ");
    insta::assert_snapshot!(with("a[1..2..3]"), @r"
    3:15 P0001: expected `]`, `,` or an operator, found `..`
      | let x = a[1..2..3]
      |               ^^
    ");
    insta::assert_snapshot!(model("module a[1..2] = f()\nrepeat i in 0:3 {\n}"), @r"
    3:11 P0001: expected `]` or an operator, found `..`
      | module a[1..2] = f()
      |           ^^
    4:14 P0001: expected `..` or an operator, found `:`
      | repeat i in 0:3 {
      |              ^
      = a range is written `FIRST..END`
    ");
}

#[test]
fn declarations_of_the_model_alone() {
    insta::assert_snapshot!(
        model("if a {\ngraph() { }\nrepeat i in 0..1 {\narchitectures \"A\"\nalias \"a\" = \"b\"\n}\n} else {\nblock f() { }\ncontext 3\nfrobnicate 3\n}"),
        @r#"
    4:1 P0001: `graph` belongs to the model, not into a `repeat` or an `if`
      | graph() { }
      | ^^^^^
    6:1 P0001: `architectures` belongs to the model, not into a `repeat` or an `if`
      | architectures "A"
      | ^^^^^^^^^^^^^
    7:1 P0001: `alias` belongs to the model, not into a `repeat` or an `if`
      | alias "a" = "b"
      | ^^^^^
    10:1 P0001: `block` belongs to the model, not into a `repeat` or an `if`
      | block f() { }
      | ^^^^^
    12:1 P0001: expected a declaration, found `frobnicate`
      | frobnicate 3
      | ^^^^^^^^^^
      = a block of a model holds `let`, `assert`, `context`, `module`, `repeat`, `if`, `ignore`
    "#);
}

#[test]
fn bad_rules() {
    insta::assert_snapshot!(rules("a keep\n{a, b}.c[0, 1] keep\na -> keep\na = keep\na\na =>\n=> keep"), @r"
    4:3 P0001: expected `=>`, found `keep`
      | a keep
      |   ^^^^
      = a rule is written `PATTERN => FORMAT`
    5:16 P0001: expected `=>`, found `keep`
      | {a, b}.c[0, 1] keep
      |                ^^^^
      = a rule is written `PATTERN => FORMAT`
    6:3 P0001: expected `=>`, found `->`
      | a -> keep
      |   ^^
      = a rule is written `PATTERN => FORMAT`
    7:3 P0001: expected `=>`, found `=`
      | a = keep
      |   ^
      = a rule is written `PATTERN => FORMAT`
    8:2 P0001: expected `=>`, found the end of the line
      | a
      |  ^
      = a rule is written `PATTERN => FORMAT`
    9:5 P0001: expected a format, found the end of the line
      | a =>
      |     ^
    10:1 P0001: expected a pattern, found `=>`
      | => keep
      | ^^
    ");
    insta::assert_snapshot!(rules("a => keep optinal\na => keep keep\na => 3\na => keep(exact, exact: 1, 2, exact: 3)"), @r"
    4:11 P0001: expected `with`, `optional` or the end of the line, found `optinal`
      | a => keep optinal
      |           ^^^^^^^
      = did you mean `optional`?
    5:11 P0001: expected `with`, `optional` or the end of the line, found `keep`
      | a => keep keep
      |           ^^^^
    6:6 P0001: expected a format, found `3`
      | a => 3
      |      ^
    7:28 P0001: an argument without a name stands behind one with a name
      | a => keep(exact, exact: 1, 2, exact: 3)
      |                            ^
      | a => keep(exact, exact: 1, 2, exact: 3)
      |                  ^^^^^ this one has a name
    7:31 P0005: the argument `exact` is given twice
      | a => keep(exact, exact: 1, 2, exact: 3)
      |                               ^^^^^
      | a => keep(exact, exact: 1, 2, exact: 3)
      |                  ^^^^^ the first one is here
    ");
    insta::assert_snapshot!(diagnose("lathe 1\nspec a {\nrules { }\nrules { }\nrules\n}\nspec 3 { }\nspec { }\n"), @r"
    4:1 P0005: a spec has one `rules`
      | rules { }
      | ^^^^^
      | rules { }
      | ^^^^^ the first one is here
    5:6 P0001: expected `{`, found the end of the line
      | rules
      |      ^
    7:6 P0001: expected a name, found `3`
      | spec 3 { }
      |      ^
    8:6 P0001: expected a name, found `{`
      | spec { }
      |      ^
    ");
}

#[test]
fn bad_patterns() {
    insta::assert_snapshot!(rules("a..b => keep\n:linar => keep\nlayers[0 => keep\nlayers[] => keep\nlayers[1.5] => keep\na b => keep"), @r"
    4:3 S0102: an empty segment: a name, `*` or `**` is missing before this dot
      | a..b => keep
      |   ^
    5:1 S0102: `:linar` is not a kind of module
      | :linar => keep
      | ^^^^^^
      = did you mean `:linear`?
    6:7 P0001: this `[` is never closed
      | layers[0 => keep
      |       ^
    7:8 S0102: an index was expected here
      | layers[] => keep
      |        ^
      = indices are written `[3]`, `[0, -1]`, `[0..4]`, `[-4..]` or `[*]`
    8:9 S0102: an index was expected here
      | layers[1.5] => keep
      |         ^
      = indices are written `[3]`, `[0, -1]`, `[0..4]`, `[-4..]` or `[*]`
    9:2 S0102: a pattern holds no blanks outside brackets and braces
      | a b => keep
      |  ^
    ");
    insta::assert_snapshot!(rules("{a,} => keep\na/b => keep\na**b => keep\na.(b|c) => keep\nre:\"(\" => keep\nre:x => keep"), @r#"
    4:4 S0102: an alternative is empty
      | {a,} => keep
      |    ^
    5:2 S0102: a `/` stands only at the start; segments are separated by dots
      | a/b => keep
      |  ^
      = write `a.b`
    6:2 S0102: `**` is a whole segment; write `*` for a part of one
      | a**b => keep
      |  ^^
    7:3 S0102: `(` cannot stand in a pattern
      | a.(b|c) => keep
      |   ^
      = write `re:"a.(b|c)"` for a regular expression
    8:5 S0102: this regular expression cannot be used: unclosed group
      | re:"(" => keep
      |     ^
    9:1 S0102: a regular expression stands in double quotes, and nothing stands behind it
      | re:x => keep
      | ^^^^
      = write `re:"x"`
    "#);
    insta::assert_snapshot!(model("ignore tensors \"a..b\", \"a.**\""), @r#"
    3:19 S0102: an empty segment: a name, `*` or `**` is missing before this dot
      | ignore tensors "a..b", "a.**"
      |                   ^
    "#);
}

#[test]
fn open_brackets() {
    insta::assert_snapshot!(model("let a = f(1\nlet b = [1, 2\nlet c = 3)\nlet d = 3 4"), @r"
    4:9 P0001: this `[` is never closed
      | let b = [1, 2
      |         ^
    5:10 P0001: expected an operator or the end of the line, found `)`
      | let c = 3)
      |          ^
    6:11 P0001: expected an operator or the end of the line, found `4`
      | let d = 3 4
      |           ^
    ");
    insta::assert_snapshot!(diagnose("lathe 1\nmodel m {\n    repeat i in 0..3 {\n        module a = f()\n    let x = 3 4\n}\n"), @r"
    2:9 P0001: this `{` is never closed
      | model m {
      |         ^
      |     repeat i in 0..3 {
      |                      ^ a `}` may be missing for this one
      | }
      | ^ which is closed here, at another indentation
    5:15 P0001: expected an operator or the end of the line, found `4`
      |     let x = 3 4
      |               ^
    ");
    insta::assert_snapshot!(diagnose("lathe 1\nspec s {\nrules {\n{a,b => keep\nc => keep\n}\n}\nspec t {\nrules { a -> keep }\n}\n"), @r"
    4:1 P0001: this `{` is never closed
      | {a,b => keep
      | ^
    9:11 P0001: expected `=>`, found `->`
      | rules { a -> keep }
      |           ^^
      = a rule is written `PATTERN => FORMAT`
    ");
    insta::assert_snapshot!(diagnose("lathe 1\nspec a {\n}\n}\n"), @r"
    4:1 P0001: this `}` closes nothing
      | }
      | ^
    ");
}

#[test]
fn strings_and_numbers() {
    insta::assert_snapshot!(model("let a = \"x\nlet b = \"\\d\"\nlet c = 'x'\nlet d = 99999999999999999999\nlet e = 1e999\nlet f = 3x"), @r#"
    3:9 P0001: this string has no closing `"`
      | let a = "x
      |         ^^
      = a string ends on the line on which it begins; write `\n` for a newline in it
    4:10 P0001: `\d` means nothing in a string
      | let b = "\d"
      |          ^^
      = the escapes are `\"`, `\\`, `\n` and `\t`
    5:9 P0001: expected an expression, found `'`
      | let c = 'x'
      |         ^
      = strings stand in double quotes
    6:9 P0001: the number `99999999999999999999` is larger than 9223372036854775807
      | let d = 99999999999999999999
      |         ^^^^^^^^^^^^^^^^^^^^
    7:9 P0001: the number `1e999` is larger than 1.7976931348623157e308
      | let e = 1e999
      |         ^^^^^
    8:9 P0001: expected an expression, found `3x`
      | let f = 3x
      |         ^^
    "#);
}

#[test]
fn heads_of_blocks() {
    insta::assert_snapshot!(model("repeat i of 0..3 {\nlet a = 1 2\n}\nrepeat i in 3 {\n}\nif a = 1 {\nlet a = 1 2\n}\ngraph {\n}\ngraph(a b) {\nx = 1 2\n}"), @r"
    3:10 P0001: expected `in`, found `of`
      | repeat i of 0..3 {
      |          ^^
    4:11 P0001: expected an operator or the end of the line, found `2`
      | let a = 1 2
      |           ^
    6:15 P0001: expected `..` or an operator, found `{`
      | repeat i in 3 {
      |               ^
    8:6 P0001: expected `{` or an operator, found `=`
      | if a = 1 {
      |      ^
      = write `==` to compare
    9:11 P0001: expected an operator or the end of the line, found `2`
      | let a = 1 2
      |           ^
    11:7 P0001: expected `(`, found `{`
      | graph {
      |       ^
    13:9 P0001: expected `)` or `,`, found `b`
      | graph(a b) {
      |         ^
    14:7 P0001: expected an operator or the end of the line, found `2`
      | x = 1 2
      |       ^
    ");
    insta::assert_snapshot!(graph("for x of y {\nz = 1 2\n}\nif x and y {\n} else if {\n}"), @r"
    4:7 P0001: expected `,` or `in`, found `of`
      | for x of y {
      |       ^^
    5:7 P0001: expected an operator or the end of the line, found `2`
      | z = 1 2
      |       ^
    8:11 P0001: expected an expression, found `{`
      | } else if {
      |           ^
    ");
}

#[test]
fn declarations_in_the_wrong_place() {
    insta::assert_snapshot!(model("x = f()\nmodule a {\nmodule b = f()\ngraph() { }\ncontext 3\n}\nreturn 3"), @r"
    3:1 P0001: `module` is missing before this path
      | x = f()
      | ^
      = outside a scope, a module is declared by `module PATH = …`
    5:1 P0001: `module` is left out inside a scope
      | module b = f()
      | ^^^^^^
      = write `PATH = …`: the path goes on from that of the scope
    6:1 P0001: `graph` belongs to the model, not into a scope
      | graph() { }
      | ^^^^^
    7:1 P0001: `context` belongs to the model, not into a scope
      | context 3
      | ^^^^^^^
    9:1 P0001: expected a declaration, found `return`
      | return 3
      | ^^^^^^
      = a model holds `architectures`, `let`, `assert`, `context`, `module`, `repeat`, `if`, `ignore`, `alias`, `block`, `graph`
    ");
    insta::assert_snapshot!(graph("let x = 3\nmodule a = f()\nx + 1\nf(x)"), @r"
    4:1 P0001: expected a statement, found `let`
      | let x = 3
      | ^^^
    5:1 P0001: expected a statement, found `module`
      | module a = f()
      | ^^^^^^
    6:3 P0001: expected `=`, found `+`
      | x + 1
      |   ^
    7:2 P0001: expected `=`, found `(`
      | f(x)
      |  ^
    ");
}

#[test]
fn declarations_cut_short() {
    insta::assert_snapshot!(model("architectures\nlet x\nlet = 3\nlet if = 3\nassert\nassert a, b\ncontext\nignore tensrs \"a\"\nmodule x\nmodule x ="), @r#"
    3:14 P0001: expected a string in double quotes, found the end of the line
      | architectures
      |              ^
    4:6 P0001: expected `=`, found the end of the line
      | let x
      |      ^
    5:5 P0001: expected a name, found `=`
      | let = 3
      |     ^
    6:5 P0001: expected a name, found `if`
      | let if = 3
      |     ^^
    7:7 P0001: expected an expression, found the end of the line
      | assert
      |       ^
    8:11 P0001: expected a string in double quotes, found `b`
      | assert a, b
      |           ^
    9:8 P0001: expected an expression, found the end of the line
      | context
      |        ^
    10:8 P0001: expected `tensors` or `config`, found `tensrs`
      | ignore tensrs "a"
      |        ^^^^^^
      = did you mean `tensors`?
    11:9 P0001: expected `{`, `,` or `=`, found the end of the line
      | module x
      |         ^
    12:11 P0001: expected an expression, found the end of the line
      | module x =
      |           ^
    "#);
}

#[test]
fn slips_from_other_languages() {
    insta::assert_snapshot!(graph("x = a ** 2;\nx += 1\nx = not a\nx = a and b\nx = a ? b : c\nx = a if b else c\nx = #\nx = if a { b }"), @r"
    4:8 P0001: expected a value, found `*`
      | x = a ** 2;
      |        ^
      = write `^` for a power
    5:3 P0001: expected `=`, found `+`
      | x += 1
      |   ^
    6:9 P0001: expected an operator or the end of the line, found `a`
      | x = not a
      |         ^
      = write `!`
    7:7 P0001: expected an operator or the end of the line, found `and`
      | x = a and b
      |       ^^^
      = write `&&`
    8:7 P0001: expected an operator or the end of the line, found `?`
      | x = a ? b : c
      |       ^
      = write `if CONDITION { A } else { B }`
    9:7 P0001: expected an operator or the end of the line, found `if`
      | x = a if b else c
      |       ^^
    10:4 P0001: expected an expression, found the end of the line
      | x = #
      |    ^
    10:5 P0001: a comment begins with `//`, not with `#`
      | x = #
      |     ^
    11:15 P0001: expected `else`, found the end of the line
      | x = if a { b }
      |               ^
    ");
    insta::assert_snapshot!(graph("if a {\n} elif b {\n}"), @r"
    5:3 P0001: expected `else` or the end of the line, found `elif`
      | } elif b {
      |   ^^^^
      = write `else if`
    ");
}
