//! Mistakes in the sections of a spec.

use super::diagnose;

/// A spec with these sections.
fn spec(lines: &str) -> String {
    diagnose(&format!("lathe 1\nspec a {{\n{lines}\n}}\n"))
}

fn rules(lines: &str) -> String {
    spec(&format!("rules {{\n{lines}\n}}"))
}

fn rotate(lines: &str) -> String {
    spec(&format!("rotate {{\n{lines}\n}}"))
}

#[test]
fn unknown_sections() {
    insta::assert_snapshot!(spec("rulez { a => keep\nb -> keep }\nfrobnicate {\na b c\n}\nkv_cahce -> int8\nlm_head => keep\n** => keep\nvalue by hadamard"), @r"
    3:1 P0004: a spec has no section `rulez`
      | rulez { a => keep
      | ^^^^^
      = did you mean `rules`?
    4:3 P0001: expected `=>`, found `->`
      | b -> keep }
      |   ^^
      = a rule is written `PATTERN => FORMAT`
    5:1 P0004: a spec has no section `frobnicate`
      | frobnicate {
      | ^^^^^^^^^^
      = a spec holds `models`, `let`, `rules`, `rotate`, `kv_cache`, `tied`, `table_basis`, `compute`
    8:1 P0004: a spec has no section `kv_cahce`
      | kv_cahce -> int8
      | ^^^^^^^^
      = did you mean `kv_cache`?
    8:10 P0001: expected `=>`, found `->`
      | kv_cahce -> int8
      |          ^^
    9:1 P0004: a spec has no section `lm_head`
      | lm_head => keep
      | ^^^^^^^
      = a rule stands in `rules { … }`
    10:1 P0001: expected a section, found `**`
      | ** => keep
      | ^^
      = a rule stands in `rules { … }`
    11:1 P0004: a spec has no section `value`
      | value by hadamard
      | ^^^^^
      = a request for a rotation stands in `rotate { … }`
    ");
    insta::assert_snapshot!(spec("use \"x\"\nextends b\nlet x = 3 4"), @r#"
    3:1 P0001: `use` stands at the top of the file, not in a spec
      | use "x"
      | ^^^
    4:1 P0001: `extends` stands behind the name of the spec
      | extends b
      | ^^^^^^^
      = write `spec NAME extends BASE {`
    5:11 P0001: expected an operator or the end of the line, found `4`
      | let x = 3 4
      |           ^
    "#);
}

#[test]
fn sections_that_stand_twice() {
    insta::assert_snapshot!(spec("rules { }\nrules { a -> keep }\ncompute => f32\ntied => share\ncompute => bf16\nmodels a\nmodels b\nkv_cache => int8\nkv_cache => int8\nrotate { }\nrotate { }"), @r"
    4:1 P0005: a spec has one `rules`
      | rules { a -> keep }
      | ^^^^^
      | rules { }
      | ^^^^^ the first one is here
    4:11 P0001: expected `=>`, found `->`
      | rules { a -> keep }
      |           ^^
      = a rule is written `PATTERN => FORMAT`
    7:1 P0005: a spec has one `compute`
      | compute => bf16
      | ^^^^^^^
      | compute => f32
      | ^^^^^^^ the first one is here
    9:1 P0005: a spec has one `models`
      | models b
      | ^^^^^^
      | models a
      | ^^^^^^ the first one is here
    11:1 P0005: a spec has one `kv_cache`
      | kv_cache => int8
      | ^^^^^^^^
      | kv_cache => int8
      | ^^^^^^^^ the first one is here
    13:1 P0005: a spec has one `rotate`
      | rotate { }
      | ^^^^^^
      | rotate { }
      | ^^^^^^ the first one is here
    ");
}

#[test]
fn two_mistakes_on_one_line() {
    insta::assert_snapshot!(rules("a..b => keep keep\na..b -> keep keep\na = keep(1, x: 2, x: 3) optinal\n:linar => int4( with"), @r"
    4:3 S0102: an empty segment: a name, `*` or `**` is missing before this dot
      | a..b => keep keep
      |   ^
    4:14 P0001: expected `with`, `optional` or the end of the line, found `keep`
      | a..b => keep keep
      |              ^^^^
    5:3 S0102: an empty segment: a name, `*` or `**` is missing before this dot
      | a..b -> keep keep
      |   ^
    5:6 P0001: expected `=>`, found `->`
      | a..b -> keep keep
      |      ^^
      = a rule is written `PATTERN => FORMAT`
    5:14 P0001: expected `with`, `optional` or the end of the line, found `keep`
      | a..b -> keep keep
      |              ^^^^
    6:3 P0001: expected `=>`, found `=`
      | a = keep(1, x: 2, x: 3) optinal
      |   ^
      = a rule is written `PATTERN => FORMAT`
    6:19 P0005: the argument `x` is given twice
      | a = keep(1, x: 2, x: 3) optinal
      |                   ^
      | a = keep(1, x: 2, x: 3) optinal
      |             ^ the first one is here
    6:25 P0001: expected `with`, `optional` or the end of the line, found `optinal`
      | a = keep(1, x: 2, x: 3) optinal
      |                         ^^^^^^^
      = did you mean `optional`?
    7:15 P0001: this `(` is never closed
      | :linar => int4( with
      |               ^
    ");
    insta::assert_snapshot!(rotate("value of a..b by hadamard twice\nvalue => hadamard twice"), @r"
    4:12 S0102: an empty segment: a name, `*` or `**` is missing before this dot
      | value of a..b by hadamard twice
      |            ^
    4:27 P0001: expected `offline`, `optional` or the end of the line, found `twice`
      | value of a..b by hadamard twice
      |                           ^^^^^
    5:7 P0001: expected `by`, found `=>`
      | value => hadamard twice
      |       ^^
      = a request is written `SITE by ROTATION` or `SITE of PATTERN by ROTATION`
    5:19 P0001: expected `offline`, `optional` or the end of the line, found `twice`
      | value => hadamard twice
      |                   ^^^^^
    ");
}

#[test]
fn marks_of_other_languages() {
    insta::assert_snapshot!(rules("a: keep\na = keep\na -> keep\na keep;\na => keep;\na => keep, b => keep"), @r"
    4:2 P0001: expected `=>`, found `:`
      | a: keep
      |  ^
      = a rule is written `PATTERN => FORMAT`
    5:3 P0001: expected `=>`, found `=`
      | a = keep
      |   ^
      = a rule is written `PATTERN => FORMAT`
    6:3 P0001: expected `=>`, found `->`
      | a -> keep
      |   ^^
      = a rule is written `PATTERN => FORMAT`
    7:3 P0001: expected `=>`, found `keep`
      | a keep;
      |   ^^^^
      = a rule is written `PATTERN => FORMAT`
    8:10 P0001: expected `with`, `optional` or the end of the line, found `;`
      | a => keep;
      |          ^
      = an item ends at the end of its line, without a `;`
    9:10 P0001: expected `with`, `optional` or the end of the line, found `,`
      | a => keep, b => keep
      |          ^
      = each rule stands on a line of its own, without a `,`
    ");
    insta::assert_snapshot!(rules("# a => keep\na => keep # why\n'a' => keep\n- match: a"), @r"
    4:1 P0001: a comment begins with `//`, not with `#`
      | # a => keep
      | ^
    5:11 P0001: a comment begins with `//`, not with `#`
      | a => keep # why
      |           ^
    6:1 S0102: `'` cannot stand in a pattern
      | 'a' => keep
      | ^
      = write the pattern without quotes
    7:8 P0001: expected `=>`, found `:`
      | - match: a
      |        ^
      = a rule is written `PATTERN => FORMAT`
    ");
    insta::assert_snapshot!(spec("compute = f32\ntied: share\nkv_cache -> int8\nmodels a b\nlet x int4"), @r"
    3:9 P0001: expected `=>`, found `=`
      | compute = f32
      |         ^
    4:5 P0001: expected `=>`, found `:`
      | tied: share
      |     ^
    5:10 P0001: expected `=>`, found `->`
      | kv_cache -> int8
      |          ^^
    6:10 P0001: expected `,` or the end of the line, found `b`
      | models a b
      |          ^
    7:7 P0001: expected `=`, found `int4`
      | let x int4
      |       ^^^^
    ");
}

#[test]
fn attributes_of_a_rule() {
    insta::assert_snapshot!(rules("a => keep with_input int8\na => keep wiht input int8\na => keep with int8\na => keep with inptu int8\na => with input"), @r"
    4:11 P0001: expected `with`, `optional` or the end of the line, found `with_input`
      | a => keep with_input int8
      |           ^^^^^^^^^^
      = write `with input FORMAT`
    5:11 P0001: expected `with`, `optional` or the end of the line, found `wiht`
      | a => keep wiht input int8
      |           ^^^^
      = did you mean `with`?
    6:16 P0001: expected `input`, found `int8`
      | a => keep with int8
      |                ^^^^
      = write `with input FORMAT`
    7:16 P0001: expected `input`, found `inptu`
      | a => keep with inptu int8
      |                ^^^^^
      = did you mean `input`?
    8:16 P0001: expected a format, found the end of the line
      | a => with input
      |                ^
    ");
    insta::assert_snapshot!(rules("a => keep optional optional\na => keep with input int8 with input int4\na => keep optional with input int8\na => optional\na => with"), @r"
    4:20 P0005: `optional` stands twice
      | a => keep optional optional
      |                    ^^^^^^^^
      | a => keep optional optional
      |           ^^^^^^^^ the first one is here
    5:27 P0005: a rule has one `with input`
      | a => keep with input int8 with input int4
      |                           ^^^^^^^^^^^^^^^
      | a => keep with input int8 with input int4
      |           ^^^^^^^^^^^^^^^ the first one is here
    6:11 P0001: `optional` stands last in a rule
      | a => keep optional with input int8
      |           ^^^^^^^^
      = write `PATTERN => FORMAT with input FORMAT optional`
    7:6 P0001: expected a format, found `optional`
      | a => optional
      |      ^^^^^^^^
    8:6 P0001: expected a format, found `with`
      | a => with
      |      ^^^^
    ");
}

#[test]
fn lines_in_the_wrong_block() {
    insta::assert_snapshot!(rules("residual by hadamard\nlet x = 3"), @r"
    4:10 P0001: expected `=>`, found `by`
      | residual by hadamard
      |          ^^
      = a request for a rotation stands in `rotate { … }`
    5:7 P0001: expected `=>`, found `=`
      | let x = 3
      |       ^
      = `let` stands in the spec, outside `rules`
    ");
    insta::assert_snapshot!(rotate("mlp.* => keep\n** by hadamard"), @r"
    4:7 P0001: expected `by`, found `=>`
      | mlp.* => keep
      |       ^^
      = a rule stands in `rules { … }`
    5:1 P0001: expected a site, found `**`
      | ** by hadamard
      | ^^
      = a request is written `SITE by ROTATION` or `SITE of PATTERN by ROTATION`
    ");
}

#[test]
fn requests_for_rotations() {
    insta::assert_snapshot!(rotate("residual hadamard\ninput of a.b hadamard\nresidual => hadamard\nresidual: hadamard\nresidual\nresidual by\nresidual bye hadamard\nof a by b\nvalue by offline"), @r"
    4:10 P0001: expected `by`, found `hadamard`
      | residual hadamard
      |          ^^^^^^^^
      = a request is written `SITE by ROTATION` or `SITE of PATTERN by ROTATION`
    5:14 P0001: expected `by`, found `hadamard`
      | input of a.b hadamard
      |              ^^^^^^^^
      = a request is written `SITE by ROTATION` or `SITE of PATTERN by ROTATION`
    6:10 P0001: expected `by`, found `=>`
      | residual => hadamard
      |          ^^
      = a request is written `SITE by ROTATION` or `SITE of PATTERN by ROTATION`
    7:9 P0001: expected `by`, found `:`
      | residual: hadamard
      |         ^
      = a request is written `SITE by ROTATION` or `SITE of PATTERN by ROTATION`
    8:9 P0001: expected `by`, found the end of the line
      | residual
      |         ^
      = a request is written `SITE by ROTATION` or `SITE of PATTERN by ROTATION`
    9:12 P0001: expected a rotation, found the end of the line
      | residual by
      |            ^
    10:10 P0001: expected `by`, found `bye`
      | residual bye hadamard
      |          ^^^
      = a request is written `SITE by ROTATION` or `SITE of PATTERN by ROTATION`
    11:4 P0001: expected `of` or `by`, found `a`
      | of a by b
      |    ^
      = a request is written `SITE by ROTATION` or `SITE of PATTERN by ROTATION`
    12:10 P0001: expected a rotation, found `offline`
      | value by offline
      |          ^^^^^^^
    ");
    insta::assert_snapshot!(rotate("value by hadamard offline offline\nvalue by hadamard optional offline optional\nvalue by hadamard offlin\ninput of by hadamard"), @r"
    4:27 P0005: `offline` stands twice
      | value by hadamard offline offline
      |                           ^^^^^^^
      | value by hadamard offline offline
      |                   ^^^^^^^ the first one is here
    5:36 P0005: `optional` stands twice
      | value by hadamard optional offline optional
      |                                    ^^^^^^^^
      | value by hadamard optional offline optional
      |                   ^^^^^^^^ the first one is here
    6:19 P0001: expected `offline`, `optional` or the end of the line, found `offlin`
      | value by hadamard offlin
      |                   ^^^^^^
      = did you mean `offline`?
    7:21 P0001: expected `by`, found the end of the line
      | input of by hadamard
      |                     ^
    ");
}

#[test]
fn heads() {
    insta::assert_snapshot!(diagnose("lathe 1\nspec a extend b {\n}\nspec b extends {\nrules { a -> b }\n}\nspec c extends \"\" {\n}\nspec d extends 3 {\n}\n"), @r#"
    2:8 P0001: expected `{` or `extends`, found `extend`
      | spec a extend b {
      |        ^^^^^^
      = did you mean `extends`?
    4:16 P0001: expected a name or a string in double quotes, found `{`
      | spec b extends {
      |                ^
    5:11 P0001: expected `=>`, found `->`
      | rules { a -> b }
      |           ^^
      = a rule is written `PATTERN => FORMAT`
    7:16 P0001: this path is empty
      | spec c extends "" {
      |                ^^
    9:16 P0001: expected a name or a string in double quotes, found `3`
      | spec d extends 3 {
      |                ^
    "#);
    insta::assert_snapshot!(diagnose("lathe 1\nspec a {\n} spec b {\n}\nspec c { rules { } tied => share }\n"), @r"
    3:3 P0001: expected the end of the line, found `spec`
      | } spec b {
      |   ^^^^
    5:20 P0001: expected the end of the line, found `tied`
      | spec c { rules { } tied => share }
      |                    ^^^^
    ");
}

#[test]
fn imports_and_shared_lets() {
    insta::assert_snapshot!(diagnose("lathe 1\nuse a\nuse 'a'\nuse \"\"\nuse \"a\\nb\"\nlet x = = 3\nlet if = 3\nspec a { }\nuse \"late\"\n"), @r#"
    2:5 P0001: expected a string in double quotes, found `a`
      | use a
      |     ^
    3:5 P0001: expected a string in double quotes, found `'`
      | use 'a'
      |     ^
      = strings stand in double quotes
    4:5 P0001: this path is empty
      | use ""
      |     ^^
    5:5 P0001: this path holds a control character
      | use "a\nb"
      |     ^^^^^^
    6:9 P0001: expected an expression, found `=`
      | let x = = 3
      |         ^
    7:5 P0001: expected a name, found `if`
      | let if = 3
      |     ^^
    9:1 P0001: `use` stands at the top of the file, before all other items
      | use "late"
      | ^^^^^^^^^^
    "#);
}

#[test]
fn yaml_under_another_name() {
    insta::assert_snapshot!(diagnose("lathe: 1\nspec: a\nrules:\n  - match: x\n"), @r"
    1:1 P0002: this text is YAML, which stands in a file whose name ends in `.yaml`
      | lathe: 1
      | ^^^^^^^^
      = rename the file, or write it in the Lathe language, which begins with `lathe 1`
    ");
    insta::assert_snapshot!(diagnose("// a spec\nspec: a\n"), @r"
    2:1 P0002: this text is YAML, which stands in a file whose name ends in `.yaml`
      | spec: a
      | ^^^^^^^
      = rename the file, or write it in the Lathe language, which begins with `lathe 1`
    ");
}

#[test]
fn columns_behind_a_byte_order_mark() {
    insta::assert_snapshot!(diagnose("\u{feff}lathe 0\n"), @r"
    1:7 P0002: `0` is no version of the language
      | lathe 0
      |       ^
      = this compiler reads `lathe 1`
    ");
    insta::assert_snapshot!(diagnose("\u{feff}spec a { }"), @r"
    1:1 P0002: the version line is missing
      | spec a { }
      | ^
      = begin the file with `lathe 1`
    ");
}

#[test]
fn heads_of_sections() {
    insta::assert_snapshot!(spec("rules: {\na -> keep\n}\nrotate = {\nvalue by\n}\nmodels: [llama]\nkv_cache = {\n}"), @r"
    3:6 P0001: expected `{`, found `:`
      | rules: {
      |      ^
    4:3 P0001: expected `=>`, found `->`
      | a -> keep
      |   ^^
      = a rule is written `PATTERN => FORMAT`
    6:8 P0001: expected `{`, found `=`
      | rotate = {
      |        ^
    7:9 P0001: expected a rotation, found the end of the line
      | value by
      |         ^
    9:7 P0001: expected a name, found `:`
      | models: [llama]
      |       ^
    10:10 P0001: expected `=>`, found `=`
      | kv_cache = {
      |          ^
    ");
    insta::assert_snapshot!(rules("a => keep\nrotate {\nvalue by hadamard\n}"), @r"
    5:1 P0001: `rotate` stands in a spec, not in the block of another section
      | rotate {
      | ^^^^^^
    ");
    insta::assert_snapshot!(diagnose("lathe 1\nspec a {\n  rules {\n    ** => keep\n  rotate {\n    value by hadamard\n  }\n}\n"), @r"
    2:8 P0001: this `{` is never closed
      | spec a {
      |        ^
      |   rules {
      |         ^ a `}` may be missing for this one
      | }
      | ^ which is closed here, at another indentation
    ");
    insta::assert_snapshot!(diagnose("lathe 1\nrules {\n** => keep\n}\nimport \"x\"\nuse \"x\" as y\n"), @r#"
    2:1 P0001: expected `use`, `let`, `spec` or `model`, found `rules`
      | rules {
      | ^^^^^
      = `rules` stands in a spec: `spec NAME { … }`
    5:1 P0001: expected `use`, `let`, `spec` or `model`, found `import`
      | import "x"
      | ^^^^^^
      = write `use "PATH"`
    6:9 P0001: expected the end of the line, found `as`
      | use "x" as y
      |         ^^
    "#);
    insta::assert_snapshot!(diagnose("version 1\nspec a { }\n"), @r"
    1:1 P0002: the version line is missing
      | version 1
      | ^
      = begin the file with `lathe 1`
    ");
}
