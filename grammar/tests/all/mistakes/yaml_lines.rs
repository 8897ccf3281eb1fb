//! Mistakes in YAML of which its readers speak in words of their own.

use super::yaml::{yaml, yaml_rules};

#[test]
fn patterns_that_are_lists_or_tags() {
    insta::assert_snapshot!(yaml_rules("- match: [\":linear\", \":head\"]\n  format: keep\n- match: !linear\n  format: keep\n- match: !mlp.up_proj\n  format: keep"), @r#"
    4:10 P0008: expected a pattern, found a list
      | - match: [":linear", ":head"]
      |          ^^^^^^^^^^^^^^^^^^^^
      = write it as a text: match: "{:linear,:head}"
    6:10 P0006: tags (`!` before a value) are not taken
      | - match: !linear
      |          ^^^^^^^
      = modules of a kind are written match: ":linear"
    8:10 P0006: tags (`!` before a value) are not taken
      | - match: !mlp.up_proj
      |          ^^^^^^^^^^^^
      = drop the `!`: match: "mlp.up_proj"
    "#);
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nrules: !!python/object:rules\n  - match: a\n    formt: keep\n"), @r"
    3:8 P0006: tags (`!` before a value) are not taken
      | rules: !!python/object:rules
      |        ^^^^^^^^^^^^^^^^^^^^^
      = drop the tag: rules:
    5:5 P0004: a rule has no key `formt`
      |     formt: keep
      |     ^^^^^
      = did you mean `format`?
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nrules:\n  - !!set {a, b}\n  - match: !x \"a\"\n    format: keep\n"), @r#"
    4:5 P0006: tags (`!` before a value) are not taken
      |   - !!set {a, b}
      |     ^^^^^
      = drop the tag
    5:12 P0006: tags (`!` before a value) are not taken
      |   - match: !x "a"
      |            ^^
      = drop the tag: match: "a"
    "#);
}

#[test]
fn formats_that_are_mappings() {
    insta::assert_snapshot!(yaml_rules("- match: a\n  format: {int4: {group: 64}}\n- match: a\n  format: {int4: }\n- match: a\n  format: {keep: exact}\n- match: a\n  format:\n    type: int4\n    group: 128\n- match: a\n  format: {a: [b]}"), @r#"
    5:11 P0008: expected a format, found a mapping
      |   format: {int4: {group: 64}}
      |           ^^^^^^^^^^^^^^^^^^^
      = write it as a text: format: "int4(group: 64)"
    7:11 P0008: expected a format, found a mapping
      |   format: {int4: }
      |           ^^^^^
      = write it as a text: format: int4
    9:11 P0008: expected a format, found a mapping
      |   format: {keep: exact}
      |           ^^^^^^^^^^^^^
      = write it as a text: format: keep(exact)
    12:5 P0008: expected a format, found a mapping
      |     type: int4
      |     ^^^^^^^^^^^^^^^^^^^^^^^^^
      = write it as a text: format: "int4(group: 128)"
    15:11 P0008: expected a format, found a mapping
      |   format: {a: [b]}
      |           ^^^^^^^^
    "#);
}

#[test]
fn texts_over_several_lines() {
    insta::assert_snapshot!(yaml_rules("- match: |\n    **\n  format: >\n    int4(group: 64)\n- match: a\n  format: kep kep"), @r#"
    5:5 P0008: expected a pattern on one line, found a text on lines of its own
      |     **
      |     ^^
      = write it on one line in quotes: match: "**"
    7:5 P0008: expected a format on one line, found a text on lines of its own
      |     int4(group: 64)
      |     ^^^^^^^^^^^^^^^
      = write it on one line in quotes: format: "int4(group: 64)"
    9:15 P0001: expected the end of the line, found `kep`
      |   format: kep kep
      |               ^^^
    "#);
}

#[test]
fn blanks_and_colons_that_are_missing() {
    insta::assert_snapshot!(yaml_rules("- match:\":linear\"\n  format: int4(group: 64)\n- match:**\n  format: keep\n- match: a\n  formt: keep"), @r#"
    4:3 P0006: this is not YAML: a blank is missing behind the colon
      | - match:":linear"
      |   ^^^^^^
      = write a blank behind the colon: match: ":linear"
    5:11 P0006: this is not YAML: a value that holds `: ` must stand in quotes
      |   format: int4(group: 64)
      |           ^^^^^^^^^^^^^^^
      = quote this value: format: "int4(group: 64)"
    6:3 P0006: this is not YAML: a blank is missing behind the colon
      | - match:**
      |   ^^^^^^
      = write a blank behind the colon: match: "**"
    9:3 P0004: a rule has no key `formt`
      |   formt: keep
      |   ^^^^^
      = did you mean `format`?
    "#);
    insta::assert_snapshot!(yaml("lathe:1\nspec:a\nrules: 3\n"), @r"
    1:1 P0006: this is not YAML: a blank is missing behind the colon
      | lathe:1
      | ^^^^^^
      = write a blank behind the colon: lathe: 1
    2:1 P0006: this is not YAML: a blank is missing behind the colon
      | spec:a
      | ^^^^^
      = write a blank behind the colon: spec: a
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nrules\n  - match: a\n    format: keep\n"), @r"
    3:1 P0006: this is not YAML: a colon is missing behind `rules`
      | rules
      | ^^^^^
      = write `rules:`
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nspec a\nrules:\n  - match b\n    format: keep\n"), @r"
    2:1 P0006: this is not YAML: a colon is missing behind `spec`
      | spec a
      | ^^^^
      = write `spec: a`
    4:5 P0006: this is not YAML: a colon is missing behind `match`
      |   - match b
      |     ^^^^^
      = write `match: b`
    ");
    insta::assert_snapshot!(yaml_rules("  -match: \":linear\"\n    format: keep\n  - match: a\n    formt: keep"), @r#"
    4:3 P0006: this is not YAML: a blank is missing behind `-`
      |   -match: ":linear"
      |   ^^^^^^
      = write `- match: ":linear"`
    7:5 P0004: a rule has no key `formt`
      |     formt: keep
      |     ^^^^^
      = did you mean `format`?
    "#);
    insta::assert_snapshot!(yaml_rules("  -match: a\n  format: keep"), @r"
    4:3 P0008: a blank is missing behind `-`
      |   -match: a
      |   ^^^^^^
      = write `- match: a`
    ");
}

#[test]
fn comments_of_the_language() {
    insta::assert_snapshot!(yaml("// a spec\nlathe: 1\nspec: a\n// its rules\nrules:\n  // all\n  - match: a\n    formt: keep\n"), @r"
    1:1 P0006: this is not YAML: a comment that begins with `//`
      | // a spec
      | ^^
      = 3 lines begin with `//`
      = comments begin with `#`
    8:5 P0004: a rule has no key `formt`
      |     formt: keep
      |     ^^^^^
      = did you mean `format`?
    ");
}

#[test]
fn escapes() {
    insta::assert_snapshot!(yaml_rules("- match: \"re:layers\\.0\"\n  format: keep\n- match: \"re:it's\\d\\\\.0\"\n  format: keep\n- match: \"re:a\\b\"\n  format: keep\n- match: a\n  formt: keep"), @r#"
    4:10 P0006: this is not YAML: `\.` means nothing in a text in double quotes
      | - match: "re:layers\.0"
      |          ^^^^^^^^^^^^^^
      = use single quotes: match: 're:layers\.0'
    6:10 P0006: this is not YAML: `\d` means nothing in a text in double quotes
      | - match: "re:it's\d\\.0"
      |          ^^^^^^^^^^^^^^^
      = use single quotes: match: 're:it''s\d\.0'
    8:10 S0102: a control character cannot stand here
      | - match: "re:a\b"
      |          ^^^^^^^^
      = `\` means something in double quotes; use single quotes: 're:a\b'
    11:3 P0004: a rule has no key `formt`
      |   formt: keep
      |   ^^^^^
      = did you mean `format`?
    "#);
}

#[test]
fn keys_of_yaml() {
    insta::assert_snapshot!(yaml_rules("- match: a\n  format: keep\n  <<: *x\n- match: a\n  formt: keep"), @r"
    6:3 P0006: merge keys (`<<`) are not taken
      |   <<: *x
      |   ^
      = write the keys out
    8:3 P0004: a rule has no key `formt`
      |   formt: keep
      |   ^^^^^
      = did you mean `format`?
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\n~: 3\nrulse: []\n"), @r"
    3:1 P0006: a key cannot be `~` or `null`
      | ~: 3
      | ^
      = write the name of a key
    4:1 P0004: a spec has no key `rulse`
      | rulse: []
      | ^^^^^
      = did you mean `rules`?
    ");
    insta::assert_snapshot!(yaml("lathe: 1\nspec: a\nlet:\n  ~: 3\n  y: True\n"), @r"
    4:3 P0006: a key cannot be `~` or `null`
      |   ~: 3
      |   ^
      = write the name of a key
    5:6 P0008: expected `true` or `false`, found `True`
      |   y: True
      |      ^^^^
      = write `true`
    ");
}

#[test]
fn flags() {
    insta::assert_snapshot!(yaml_rules("- {match: a, format: keep, optional: \"true\"}\n- {match: a, format: keep, optional: yes}\n- {match: a, format: keep, optional: 0}\n- {match: a, format: keep, optional: True}\n- {match: a, format: keep, optional: maybe}"), @r#"
    4:38 P0008: expected `true` or `false`, found `true` in quotes, a text
      | - {match: a, format: keep, optional: "true"}
      |                                      ^^^^^^
      = write `optional: true`
    5:38 P0008: expected `true` or `false`, found `yes`
      | - {match: a, format: keep, optional: yes}
      |                                      ^^^
      = write `optional: true`
    6:38 P0008: expected `true` or `false`, found the number 0
      | - {match: a, format: keep, optional: 0}
      |                                      ^
      = write `optional: false`
    7:38 P0008: expected `true` or `false`, found `True`
      | - {match: a, format: keep, optional: True}
      |                                      ^^^^
      = write `true`
    8:38 P0008: expected `true` or `false`, found `maybe`
      | - {match: a, format: keep, optional: maybe}
      |                                      ^^^^^
    "#);
}

/// What is said first, without the line.
fn first(text: &str) -> String {
    yaml(text).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn limits() {
    insta::assert_snapshot!(first(&format!("lathe: 1\nrules: [{}]\n", "x, ".repeat(20_000))), @r"2:59994 P0007: this YAML has more than 20000 values");
    insta::assert_snapshot!(first(&format!("lathe: 1\na: &a x\nrules: [{}]\n", "*a, ".repeat(300))), @r"3:1033 P0007: this YAML has more than 256 aliases");
    insta::assert_snapshot!(first(&format!("lathe: 1\na: &a x\nrules: [{}]\n", "*a, ".repeat(150))), @r"4:1 P0007: this YAML has more than 100 aliases, and more than 10 for each anchor");
    let anchors = (0..300).map(|i| format!("&a{i} x")).collect::<Vec<_>>().join(", ");
    insta::assert_snapshot!(first(&format!("lathe: 1\nrules: [{anchors}]\n")), @r"2:2209 P0007: this YAML has more than 256 anchors");
    insta::assert_snapshot!(first(&format!("lathe: 1\nrules: {}{}\n", "[".repeat(300), "]".repeat(300))), @r"2:24 P0007: this YAML nests deeper than 16 levels");
}
