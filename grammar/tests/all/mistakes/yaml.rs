//! Mistakes in YAML.

use super::diagnose_named;

pub(super) fn yaml(text: &str) -> String {
    diagnose_named("a.yaml", text)
}

/// A spec with these rules.
pub(super) fn yaml_rules(lines: &str) -> String {
    yaml(&format!("lathe: 1\nspec: a\nrules:\n{lines}\n"))
}

#[test]
fn patterns_without_quotes() {
    insta::assert_snapshot!(yaml_rules("- match: **\n  format: keep\n- match: *.mlp # all\n  format: keep"), @r#"
    4:10 P0006: this is not YAML: a value that begins with `*` must stand in quotes
      | - match: **
      |          ^^
      = quote this pattern: match: "**"
    6:10 P0006: this is not YAML: a value that begins with `*` must stand in quotes
      | - match: *.mlp # all
      |          ^^^^^
      = quote this pattern: match: "*.mlp"
    "#);
    insta::assert_snapshot!(yaml_rules("- match: {a,b}\n  format: keep\n- match: [a]\n  format: [keep]"), @r#"
    4:10 P0008: expected a pattern, found a mapping
      | - match: {a,b}
      |          ^^^^^
      = quote this pattern: match: "{a,b}"
    6:10 P0008: expected a pattern, found a list
      | - match: [a]
      |          ^^^
      = write it as a text: match: "a"
    7:11 P0008: expected a format, found a list
      |   format: [keep]
      |           ^^^^^^
      = write it as a text: format: keep
    "#);
    insta::assert_snapshot!(yaml_rules("- match: {a,b}.c\n  format: keep\n- match: [0\n  format: keep\n- match: !x\n  format: keep\n- match: &x\n  format: keep"), @r#"
    4:10 P0006: this is not YAML: a value that begins with `{` must stand in quotes
      | - match: {a,b}.c
      |          ^^^^^^^
      = quote this pattern: match: "{a,b}.c"
    6:10 P0006: this is not YAML: a value that begins with `[` must stand in quotes
      | - match: [0
      |          ^^
      = quote this pattern: match: "[0"
    8:10 P0006: tags (`!` before a value) are not taken
      | - match: !x
      |          ^^
      = drop the `!`: match: "x"
    10:3 P0008: expected a pattern, found nothing
      | - match: &x
      |   ^^^^^
      = quote this pattern: match: "&x"
    "#);
    insta::assert_snapshot!(yaml_rules("- {match: **, format: keep}\n- {match: {a,b}, format: int4(group: 128)}"), @r#"
    4:11 P0006: this is not YAML: a value that begins with `*` must stand in quotes
      | - {match: **, format: keep}
      |           ^^
      = quote this pattern: match: "**"
    5:11 P0008: expected a pattern, found a mapping
      | - {match: {a,b}, format: int4(group: 128)}
      |           ^^^^^
      = quote this pattern: match: "{a,b}"
    5:26 P0006: this is not YAML: a value that holds `: ` must stand in quotes
      | - {match: {a,b}, format: int4(group: 128)}
      |                          ^^^^^^^^^^^^^^^^
      = quote this value: format: "int4(group: 128)"
    "#);
    insta::assert_snapshot!(yaml_rules("- match: @x\n  format: `keep`\n- match: |x\n  format: keep"), @r#"
    4:10 P0006: this is not YAML: a value that begins with `@` must stand in quotes
      | - match: @x
      |          ^^
      = quote this pattern: match: "@x"
    5:11 P0006: this is not YAML: a value that begins with a backquote must stand in quotes
      |   format: `keep`
      |           ^^^^^^
      = quote this value: format: "`keep`"
    6:10 P0006: this is not YAML: a value that begins with `|` must stand in quotes
      | - match: |x
      |          ^^
      = quote this pattern: match: "|x"
    "#);
}

#[test]
fn values_without_quotes() {
    insta::assert_snapshot!(yaml_rules("- match: a\n  format: int4(group: 128, per: channel)"), @r#"
    5:11 P0006: this is not YAML: a value that holds `: ` must stand in quotes
      |   format: int4(group: 128, per: channel)
      |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = quote this value: format: "int4(group: 128, per: channel)"
    "#);
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nlet:\n  x: int4(group: 128)\n  y: int8(per: channel)\nkv_cache: int4(per: head)\n"), @r#"
    4:6 P0006: this is not YAML: a value that holds `: ` must stand in quotes
      |   x: int4(group: 128)
      |      ^^^^^^^^^^^^^^^^
      = quote this value: x: "int4(group: 128)"
    5:6 P0006: this is not YAML: a value that holds `: ` must stand in quotes
      |   y: int8(per: channel)
      |      ^^^^^^^^^^^^^^^^^^
      = quote this value: y: "int8(per: channel)"
    6:11 P0006: this is not YAML: a value that holds `: ` must stand in quotes
      | kv_cache: int4(per: head)
      |           ^^^^^^^^^^^^^^^
      = quote this value: kv_cache: "int4(per: head)"
    "#);
    insta::assert_snapshot!(yaml_rules("- match: \"a\n  format: keep\n- match: \"b\"\n  format: kep kep\n- match: 'c\n  format: keep"), @r#"
    4:10 P0006: this is not YAML: these quotes are not closed on their line
      | - match: "a
      |          ^
      = close the quotes: match: "a"
    7:15 P0001: expected the end of the line, found `kep`
      |   format: kep kep
      |               ^^^
    8:10 P0006: this is not YAML: these quotes are not closed on their line
      | - match: 'c
      |          ^
      = close the quotes: match: "c"
    "#);
}

#[test]
fn tabs() {
    insta::assert_snapshot!(yaml_rules("- match: a\n\tformat: keep"), @r"
    5:1 P0006: this is not YAML: a tab in the indentation
      | 	format: keep
      | ^
      = indent with blanks
    ");
    insta::assert_snapshot!(yaml_rules("\t- match: a\n\t  format: keep\n\t- match: b\n\t  formt: keep"), @r"
    4:1 P0006: this is not YAML: a tab in the indentation
      | 	- match: a
      | ^
      = 4 lines are indented with tabs
      = indent with blanks
    7:4 P0004: a rule has no key `formt`
      | 	  formt: keep
      |    ^^^^^
      = did you mean `format`?
    ");
    insta::assert_snapshot!(yaml_rules("  - match: a\n\tformat: keep\n  - match: *\n    format: keep\n  - match: b\n    formt: keep"), @r#"
    5:1 P0006: this is not YAML: a tab in the indentation
      | 	format: keep
      | ^
      = indent with blanks
    6:12 P0006: this is not YAML: a value that begins with `*` must stand in quotes
      |   - match: *
      |            ^
      = quote this pattern: match: "*"
    9:5 P0004: a rule has no key `formt`
      |     formt: keep
      |     ^^^^^
      = did you mean `format`?
    "#);
    insta::assert_snapshot!(yaml_rules("  - match: **\n\tformat: int4(group: 128)\n\tinptu: keep"), @r#"
    4:12 P0006: this is not YAML: a value that begins with `*` must stand in quotes
      |   - match: **
      |            ^^
      = quote this pattern: match: "**"
    5:1 P0006: this is not YAML: a tab in the indentation
      | 	format: int4(group: 128)
      | ^
      = 2 lines are indented with tabs
      = indent with blanks
    5:10 P0006: this is not YAML: a value that holds `: ` must stand in quotes
      | 	format: int4(group: 128)
      |          ^^^^^^^^^^^^^^^^
      = quote this value: format: "int4(group: 128)"
    6:2 P0004: a rule has no key `inptu`
      | 	inptu: keep
      |  ^^^^^
      = did you mean `input`?
    "#);
}

#[test]
fn rules_in_other_forms() {
    insta::assert_snapshot!(yaml_rules("- \"**\": keep\n- \"** => keep\"\n- **: keep\n- ** => keep\n- a\n- 3"), @r#"
    4:3 P0004: a rule has no key `**`
      | - "**": keep
      |   ^^^^
      = write `- match: "**"`, and `format: keep` below it
    5:3 P0008: expected a rule (a mapping with the keys match, format, input, optional), found `** => keep`
      | - "** => keep"
      |   ^^^^^^^^^^^^
      = write `- match: "**"`, and `format: keep` below it
    6:3 P0006: this is not YAML: no value before this one has the anchor that this alias names
      | - **: keep
      |   ^
      = write `- match: "**"`, and `format: keep` below it
    7:3 P0006: this is not YAML: no value before this one has the anchor that this alias names
      | - ** => keep
      |   ^
      = write `- match: "**"`, and `format: keep` below it
    8:3 P0008: expected a rule (a mapping with the keys match, format, input, optional), found `a`
      | - a
      |   ^
    9:3 P0008: expected a rule (a mapping with the keys match, format, input, optional), found the number 3
      | - 3
      |   ^
    "#);
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nrules:\n  \"**\": keep\nrotate:\n  - residual: hadamard\n  - residual by hadamard\n  - value\n"), @r#"
    4:3 P0008: expected a list of rules, found a mapping
      |   "**": keep
      |   ^^^^^^^^^^
      = write each rule as `- match: PATTERN`, and `format: FORMAT` below it
    6:5 P0004: a request has no key `residual`
      |   - residual: hadamard
      |     ^^^^^^^^
      = write `- site: residual`, and `by: hadamard` below it
    7:5 P0008: expected a request (a mapping with the keys site, of, by, offline, optional), found `residual by hadamard`
      |   - residual by hadamard
      |     ^^^^^^^^^^^^^^^^^^^^
      = write `- site: residual`, and `by: hadamard` below it
    8:5 P0008: expected a request (a mapping with the keys site, of, by, offline, optional), found `value`
      |   - value
      |     ^^^^^
    "#);
}

#[test]
fn keys_and_types() {
    insta::assert_snapshot!(yaml_rules("- macth: a\n  format: keep(\n  optional: no\n  input: int8\n- match: a..b\n  format: 'keep keep'"), @r"
    4:3 P0004: a rule has no key `macth`
      | - macth: a
      |   ^^^^^
      = did you mean `match`?
    5:15 P0001: this `(` is never closed
      |   format: keep(
      |               ^
    6:13 P0008: expected `true` or `false`, found `no`
      |   optional: no
      |             ^^
      = write `optional: false`
    8:12 S0102: an empty segment: a name, `*` or `**` is missing before this dot
      | - match: a..b
      |            ^
    9:17 P0001: expected the end of the line, found `keep`
      |   format: 'keep keep'
      |                 ^^^^
    ");
    insta::assert_snapshot!(yaml_rules("- match: \"a.\\tb\"\n  format: \"ke\\tep\"\n  match: c"), @r#"
    4:10 S0102: a control character cannot stand here
      | - match: "a.\tb"
      |          ^^^^^^^
    5:11 P0001: expected the end of the line, found `ep`
      |   format: "ke\tep"
      |           ^^^^^^^^
    6:3 P0005: the key `match` stands twice
      |   match: c
      |   ^^^^^
      | - match: "a.\tb"
      |   ^^^^^ the first one is here
    "#);
    insta::assert_snapshot!(yaml_rules("- format: keep\n- match: a\n- match:\n  format:"), @r"
    4:3 P0001: this rule has no `match`
      | - format: keep
      |   ^^^^^^
    5:3 P0001: this rule has neither `format` nor `input`
      | - match: a
      |   ^^^^^
    6:3 P0008: expected a pattern, found nothing
      | - match:
      |   ^^^^^
    7:3 P0008: expected a format, found nothing
      |   format:
      |   ^^^^^^
    ");
    insta::assert_snapshot!(yaml("spec: 3x\nrules: 3\nrotate:\n  residual: hadamard\nrulse: []"), @r"
    1:1 P0002: the version is missing
      | spec: 3x
      | ^
      = begin the file with `lathe: 1`
    1:7 P0001: `3x` cannot be the name of the spec
      | spec: 3x
      |       ^^
      = a name begins with a letter; letters, digits, `_`, `-` and `.` follow
    2:8 P0008: expected a list of rules, found the number 3
      | rules: 3
      |        ^
      = write each rule as `- match: PATTERN`, and `format: FORMAT` below it
    4:3 P0008: expected a list of requests for rotations, found a mapping
      |   residual: hadamard
      |   ^^^^^^^^^^^^^^^^^^
      = write each request as `- site: SITE`, and `by: ROTATION` below it
    5:1 P0004: a spec has no key `rulse`
      | rulse: []
      | ^^^^^
      = did you mean `rules`?
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nspec: b\n"), @r"
    3:1 P0005: the key `spec` stands twice
      | spec: b
      | ^^^^
      | spec: a
      | ^^^^ the first one is here
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nuse: b\nmodels: llama\nlet: [x]\nrules:\nkv_cache: [int4]\ntied: true\ncompute: bf 16\nextends: {a: b}\n"), @r#"
    3:6 P0008: expected a list of paths, found `b`
      | use: b
      |      ^
      = write a list: `use: ["PATH"]`
    4:9 P0008: expected a list of models, found `llama`
      | models: llama
      |         ^^^^^
      = write a list: `models: [NAME, NAME]`
    5:6 P0008: expected a mapping of names to values, found a list
      | let: [x]
      |      ^^^
      = write `NAME: VALUE` on lines of their own below `let:`
    6:1 P0008: expected a list of rules, found nothing
      | rules:
      | ^^^^^
      = write each rule as `- match: PATTERN`, and `format: FORMAT` below it
    7:11 P0008: expected a format, found a list
      | kv_cache: [int4]
      |           ^^^^^^
      = write it as a text: kv_cache: int4
    8:7 P0008: expected a word, found `true`
      | tied: true
      |       ^^^^
    9:10 P0001: expected a word, found `bf 16`
      | compute: bf 16
      |          ^^^^^
    10:10 P0008: expected a path, found a mapping
      | extends: {a: b}
      |          ^^^^^^
    "#);
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nmodels: []\nuse: [\"\", \"a\\nb\"]\nlet:\n  x: 18446744073709551615\n  y: 99999999999999999999999\n  z:\n  if: 3\n  x: 4\n"), @r#"
    3:9 P0008: expected the name of a model, found a list
      | models: []
      |         ^^
      = drop `models` when the spec is for all models
    4:7 P0001: this path is empty
      | use: ["", "a\nb"]
      |       ^^
    4:11 P0001: this path holds a control character
      | use: ["", "a\nb"]
      |           ^^^^^^
    6:6 P0001: the number `18446744073709551615` is larger than 9223372036854775807
      |   x: 18446744073709551615
      |      ^^^^^^^^^^^^^^^^^^^^
    7:6 P0001: the number `99999999999999999999999` is larger than 9223372036854775807
      |   y: 99999999999999999999999
      |      ^^^^^^^^^^^^^^^^^^^^^^^
    8:3 P0008: expected a value such as `int4(group: 128)`, found nothing
      |   z:
      |   ^
    9:3 P0001: `if` cannot be the name of a `let`
      |   if: 3
      |   ^^
    10:3 P0005: the key `x` stands twice
      |   x: 4
      |   ^
      |   x: 18446744073709551615
      |   ^ the first one is here
    "#);
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nrotate:\n  - site: residual\n  - by: hadamard\n  - site: input\n    of: a..b\n    by: hadamard(\n    offline: 1\n"), @r"
    4:5 P0001: this request has no `by`
      |   - site: residual
      |     ^^^^
    5:5 P0001: this request has no `site`
      |   - by: hadamard
      |     ^^
    7:11 S0102: an empty segment: a name, `*` or `**` is missing before this dot
      |     of: a..b
      |           ^
    8:17 P0001: this `(` is never closed
      |     by: hadamard(
      |                 ^
    9:14 P0008: expected `true` or `false`, found the number 1
      |     offline: 1
      |              ^
      = write `offline: true`
    ");
    insta::assert_snapshot!(yaml("- a\n"), @r"
    1:1 P0008: expected a spec (a mapping with keys such as lathe, spec, rules), found a list
      | - a
      | ^^^
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nrules: []\n"), @r"
    1:1 P0001: the name of the spec is missing
      | lathe: 1
      | ^
      = add a line `spec: NAME`
    ");
}

#[test]
fn text_that_is_not_yaml() {
    insta::assert_snapshot!(yaml("lathe: 1\nspec: [a\n"), @r"
    2:7 P0006: this is not YAML: unclosed bracket '['
      | spec: [a
      |       ^
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nrules: [\n"), @r"
    3:8 P0006: this is not YAML: unclosed bracket '['
      | rules: [
      |        ^
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nspec a\nrulse: []\n"), @r"
    2:1 P0006: this is not YAML: a colon is missing behind `spec`
      | spec a
      | ^^^^
      = write `spec: a`
    3:1 P0004: a spec has no key `rulse`
      | rulse: []
      | ^^^^^
      = did you mean `rules`?
    ");
    insta::assert_snapshot!(yaml("lathe: 1\n spec: a\nrulse: []\n"), @r"
    2:2 P0006: this is not YAML: `spec` begins in column 2, `lathe` above it in column 1
      |  spec: a
      |  ^^^^
      = begin the line with `spec`
    3:1 P0004: a spec has no key `rulse`
      | rulse: []
      | ^^^^^
      = did you mean `rules`?
    ");
    insta::assert_snapshot!(yaml_rules("  - match: a\n   format: keep\n  - match: b\n    formt: keep\n  - match: c\n     format: keep"), @r"
    5:4 P0006: this is not YAML: `format` begins in column 4, `match` above it in column 5
      |    format: keep
      |    ^^^^^^
      = indent `format` with 4 blanks
    7:5 P0004: a rule has no key `formt`
      |     formt: keep
      |     ^^^^^
      = did you mean `format`?
    9:6 P0006: this is not YAML: `format` begins in column 6, `match` above it in column 5
      |      format: keep
      |      ^^^^^^
      = indent `format` with 4 blanks
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\n---\nlathe: 1\nspec: a\n"), @r"
    3:1 P0006: a spec is one YAML document; another one begins here
      | ---
      | ^
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nlet:\n  x: .inf\n  y: keep keep\n  <<: {a: 1}\n"), @r"
    4:6 P0006: this is not YAML: value `.inf` is not a finite number
      |   x: .inf
      |      ^
    5:11 P0001: expected an operator or the end of the line, found `keep`
      |   y: keep keep
      |           ^^^^
    6:3 P0006: merge keys (`<<`) are not taken
      |   <<: {a: 1}
      |   ^
      = write the keys out
    ");
}

#[test]
fn versions() {
    insta::assert_snapshot!(yaml("lathe: 2\nrules: 3"), @r"
    1:8 P0003: version 2 of the language is newer than this compiler reads
      | lathe: 2
      |        ^
      = this compiler reads `lathe: 1`
    ");
    insta::assert_snapshot!(yaml("lathe: one\nspec: [\n"), @r"
    1:8 P0002: `one` is no version of the language
      | lathe: one
      |        ^^^
      = this compiler reads `lathe: 1`
    ");
    insta::assert_snapshot!(yaml("lathe: \"1\"\nspec: a"), @r#"
    1:8 P0002: `"1"` is no version of the language
      | lathe: "1"
      |        ^^^
      = this compiler reads `lathe: 1`
    "#);
    insta::assert_snapshot!(yaml("lathe:\nspec: a"), @r"
    1:6 P0002: the version line names no version
      | lathe:
      |      ^
      = this compiler reads `lathe: 1`
    ");
    insta::assert_snapshot!(yaml("// a spec\nlathe 1\nspec a {\n}\n"), @r"
    2:1 P0002: this text is in the Lathe language, which stands in a file whose name ends in `.lathe`
      | lathe 1
      | ^^^^^^^
      = rename the file, or write it in YAML, which begins with `lathe: 1`
    ");
}

#[test]
fn columns_behind_a_byte_order_mark() {
    insta::assert_snapshot!(yaml("\u{feff}lathe: 1.5\nspec: a\n"), @r"
    1:8 P0002: `1.5` is no version of the language
      | lathe: 1.5
      |        ^^^
      = this compiler reads `lathe: 1`
    ");
    insta::assert_snapshot!(yaml("\u{feff}lathe: 1\nspec: ü ü\n"), @r"
    2:7 P0001: `ü ü` cannot be the name of the spec
      | spec: ü ü
      |       ^^^
      = a name begins with a letter; letters, digits, `_`, `-` and `.` follow
    ");
}

#[test]
fn anchors_are_seen_from_everywhere() {
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nrules:\n  - match: a\n    format: &f keep\n  - match: **\n    format: *f\n  - match: b\n    format: *g\n"), @r#"
    6:12 P0006: this is not YAML: a value that begins with `*` must stand in quotes
      |   - match: **
      |            ^^
      = quote this pattern: match: "**"
    9:13 P0006: this is not YAML: a value that begins with `*` must stand in quotes
      |     format: *g
      |             ^^
      = quote this value: format: "*g"
    "#);
}

#[test]
fn mappings_in_flow_style() {
    insta::assert_snapshot!(yaml_rules("- { match: \"*\", format: keep, }\n- { match: lm_head format: keep }\n- { match: a, format: keep\n- match: b\n  format: keep keep"), @r"
    5:12 P0006: this is not YAML: a value that holds `: ` must stand in quotes
      | - { match: lm_head format: keep }
      |            ^^^^^^^^^^^^^^^^^^^^
      = write each entry on a line of its own, or a comma between two
    6:3 P0006: this is not YAML: unclosed bracket '{'
      | - { match: a, format: keep
      |   ^
    8:16 P0001: expected the end of the line, found `keep`
      |   format: keep keep
      |                ^^^^
    ");
    insta::assert_snapshot!(yaml("\"lathe\": 1\n'spec': a\n\"rules\":\n  - match: **\n    formt: keep\n"), @r#"
    4:12 P0006: this is not YAML: a value that begins with `*` must stand in quotes
      |   - match: **
      |            ^^
      = quote this pattern: match: "**"
    5:5 P0004: a rule has no key `formt`
      |     formt: keep
      |     ^^^^^
      = did you mean `format`?
    "#);
}

#[test]
fn keys_out_of_line() {
    insta::assert_snapshot!(yaml_rules("  - match: a\n    format: keep\n   - match: b\n     format: keep\n  - match: c\n    formt: keep"), @r"
    6:4 P0006: this is not YAML: `-` begins in column 4, the `-` before it in column 3
      |    - match: b
      |    ^
      = indent `-` with 2 blanks
    9:5 P0004: a rule has no key `formt`
      |     formt: keep
      |     ^^^^^
      = did you mean `format`?
    ");
    insta::assert_snapshot!(yaml_rules("  - match: a\n  format: keep\n  - match: re:\"a: #b\"\n    format: keep\ncompute: f32\n tied: share\nrulse: 3"), @r#"
    5:3 P0006: this is not YAML: `format` begins in column 3, `match` above it in column 5
      |   format: keep
      |   ^^^^^^
      = indent `format` with 4 blanks
    6:12 P0006: this is not YAML: a value that holds `: ` must stand in quotes
      |   - match: re:"a: #b"
      |            ^^^^^^^^^^
      = quote this pattern: match: "re:\"a: #b\""
    9:2 P0006: this is not YAML: `tied` begins in column 2, `compute` above it in column 1
      |  tied: share
      |  ^^^^
      = begin the line with `tied`
    10:1 P0004: a spec has no key `rulse`
      | rulse: 3
      | ^^^^^
      = did you mean `rules`?
    "#);
    insta::assert_snapshot!(yaml("lathe: 1\r\nspec: a\r\nrules:\r\n  - match: **\r\n\tformat: keep\r\n  - match: \"a\r\n    formt: keep\r\n"), @r#"
    4:12 P0006: this is not YAML: a value that begins with `*` must stand in quotes
      |   - match: **
      |            ^^
      = quote this pattern: match: "**"
    5:1 P0006: this is not YAML: a tab in the indentation
      | 	format: keep
      | ^
      = indent with blanks
    6:12 P0006: this is not YAML: these quotes are not closed on their line
      |   - match: "a
      |            ^
      = close the quotes: match: "a"
    7:5 P0004: a rule has no key `formt`
      |     formt: keep
      |     ^^^^^
      = did you mean `format`?
    "#);
    insta::assert_snapshot!(yaml("lathe: 1\n\n  - 'a'\n"), @r"
    1:8 P0002: `1…` is no version of the language
      | lathe: 1
      |        ^^^^^^^^^^
      = this compiler reads `lathe: 1`
    ");
    insta::assert_snapshot!(yaml("lathe: 1\n? |\n  - \n: 3\n"), @r"
    3:3 P0004: a spec has no key `- \n`
      |   -
      |   ^
      = the keys of a spec are lathe, use, spec, extends, models, let, rules, rotate, kv_cache, tied, table_basis, compute
    ");
}
