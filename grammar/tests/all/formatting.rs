//! `format`: what it changes, and what it never does.

use std::fmt::Write as _;
use std::sync::LazyLock;

use lathe_grammar::span::Sources;
use lathe_grammar::{Parsed, is_yaml, print_yaml};
use proptest::prelude::*;

use crate::{files_under, parse_named, read, repository};

fn formatted_named(name: &str, text: &str) -> String {
    let mut sources = Sources::new();
    let source = sources.add(name, text);
    lathe_grammar::format(&sources, source).unwrap_or_else(|faults| panic!("{text}\n{faults:#?}"))
}

/// What a text is formatted to, which formatting does not change. That AST and comments are the same is checked by
/// `format` itself.
fn formatted(name: &str, text: &str) -> String {
    let formatted = formatted_named(name, text);
    assert_eq!(formatted_named(name, &formatted), formatted, "formatted twice, of\n{text}");
    formatted
}

fn lathe(text: &str) -> String {
    formatted("a.lathe", text)
}

/// A spec with these lines, formatted.
fn spec(lines: &str) -> String {
    lathe(&format!("lathe 1\nspec a {{\n{lines}\n}}\n"))
}

/// The declarations of a model with these lines, formatted.
fn model(lines: &str) -> String {
    lathe(&format!("lathe 1\nmodel a {{\n{lines}\n}}\n"))
}

#[test]
fn shipped_files_are_formatted() {
    let bless = std::env::var_os("LATHE_BLESS").is_some();
    for file in files_under(&repository().join("specs")) {
        let text = read(&file);
        let formatted = formatted(&file.display().to_string(), &text);
        if bless && formatted != text {
            std::fs::write(&file, formatted).expect("the file can be written");
        } else {
            assert_eq!(formatted, text, "{}: LATHE_BLESS=1 formats it", file.display());
        }
    }
}

#[test]
fn columns() {
    assert_eq!(
        spec(
            "rules {\n** => keep\nmlp.*_proj=>int4( group :128 ) with  input keep  optional\n\n:head => with input keep\n}"
        ),
        "\
lathe 1

spec a {
    rules {
        **         => keep
        mlp.*_proj => int4(group: 128) with input keep optional

        :head => with input keep
    }
}
"
    );
    assert_eq!(
        spec(
            "let b=1\nlet body = keep\n// one\nlet c =x\ntied=>share\nkv_cache => keep\nrotate {\nvalue by hadamard\ninput of mlp.* by hadamard offline\n}"
        ),
        "\
lathe 1

spec a {
    let b    = 1
    let body = keep
    // one
    let c = x
    tied     => share
    kv_cache => keep
    rotate {
        value          by hadamard
        input of mlp.* by hadamard offline
    }
}
"
    );
    assert_eq!(
        model(
            "let d = 1\nmodule a.b = linear(d, d)\nmodule norm = rms_norm(d)\ngraph(t) {\nx=t\nlonger = x\nreturn x\n}"
        ),
        "\
lathe 1

model a {
    let d = 1
    module a.b  = linear(d, d)
    module norm = rms_norm(d)
    graph(t) {
        x      = t
        longer = x
        return x
    }
}
"
    );
}

#[test]
fn blocks_and_aliases() {
    assert_eq!(
        model(
            "alias  \"a\"=\"b\",\n\"\" // a\nalias \"longer\" = \"\"\nmodule a = linear(1, 1, weight : w[ 1 .. d+1,.. ,0 ,..2])\n\n\
             // of f\nblock f( x,y ,) { // head\n\n// inner\nreturn x+y // last\n// end\n}\nblock g( ) {\nreturn 1\n}"
        ),
        "\
lathe 1

model a {
    alias \"a\"      = \"b\", \"\"  // a
    alias \"longer\" = \"\"
    module a = linear(1, 1, weight: w[1..d + 1, .., 0, ..2])

    // of f
    block f(x, y) {  // head
        // inner
        return x + y  // last
        // end
    }
    block g() {
        return 1
    }
}
"
    );
}

#[test]
fn columns_that_make_a_line_too_long_are_given_up() {
    let long = format!("{} => keep", "x".repeat(100));
    let formatted = spec(&format!("rules {{\n{long}\na => int8(per: channel)\n}}"));
    assert!(formatted.contains("\n        a => int8"), "{formatted}");
}

#[test]
fn comments() {
    assert_eq!(
        lathe(
            "// first\nlathe 1 // version\n// of uses\nuse \"a\"\nuse \"b\"   // b\n\n\n// of a\n\n// still\nspec a { // head\n\n\n\
             // before\nrules { // rules\n// inner\n** => keep// all\nmlp.up => int4( // four\n// bits\ngroup: 128) // end\n\n// last\n\n}\n\
             // after\n} // closed\n// eof"
        ),
        "\
// first
lathe 1  // version

// of uses
use \"a\"
use \"b\"  // b

// of a

// still
spec a {  // head
    // before
    rules {  // rules
        // inner
        ** => keep  // all
        // four
        // bits
        mlp.up => int4(group: 128)  // end

        // last
    }
    // after
}  // closed

// eof
"
    );
    assert_eq!(
        spec("rules {\na => keep // one\nb.c.d => keep // two\ne => keep\nf => keep // four\n}"),
        "\
lathe 1

spec a {
    rules {
        a     => keep  // one
        b.c.d => keep  // two
        e     => keep
        f     => keep  // four
    }
}
"
    );
}

#[test]
fn branches() {
    assert_eq!(
        model(
            "if a { // yes\nlet x = 1 } // between\n// and\nelse if b {// other\nlet x = 2\n\n}\nelse {\n\nlet x = if c {3} else {4}}// end"
        ),
        "\
lathe 1

model a {
    if a {  // yes
        let x = 1
    } else if b {
        // between
        // and
        // other
        let x = 2
    } else {
        let x = if c { 3 } else { 4 }
    }  // end
}
"
    );
}

#[test]
fn long_lines_are_broken() {
    let name = "quite_a_long_name_for_a_number";
    assert_eq!(
        model(&format!(
            "let x = f({name}, g({name}, {name}, {name}, {name}), \"a, (b\", h(1), last: [{name}]) + 1 // c\nignore config {}",
            ["\"key_of_config\""; 9].join(",")
        )),
        format!(
            "\
lathe 1

model a {{
    let x = f(
        {name},
        g(
            {name},
            {name},
            {name},
            {name},
        ),
        \"a, (b\",
        h(1),
        last: [{name}],
    ) + 1  // c
    ignore config {six},
        \"key_of_config\", \"key_of_config\", \"key_of_config\"
}}
",
            six = ["\"key_of_config\""; 6].join(", ")
        )
    );
    let unbreakable = format!("    let x = {}\n", [name; 5].join(" + "));
    assert!(model(&unbreakable).contains(&unbreakable));
}

#[test]
fn other_line_ends_and_marks_go() {
    assert_eq!(lathe("\u{feff}lathe 1\r\nspec a {\r\n}\r\n\r\n// b\r\n"), "lathe 1\n\nspec a {\n}\n\n// b\n");
}

#[test]
fn yaml() {
    let text = "\
# first

lathe:   1 # version


spec: 'a'
let:
    body: 'int4( group:128 )'   # body
    size: 0x10

    # after
rules:
- match: layers.3.mlp # which
  # how
  format: \"int8(per:channel)\"
  # more of it
  optional: true
# between
-   { match: '**', # all
      format: keep }
-
  format: keep
  match: \"a\"
  # end of rules
 # also

models: [ llama,  'qwen3' ]
rotate:
  - site: value
    by: hadamard
kv_cache:
  keep
# eof";
    let expected = "\
# first

lathe: 1  # version

spec: a
let:
  body: \"int4(group: 128)\"  # body
  size: 0x10

  # after
rules:
  - match: \"layers[3].mlp\"  # which
    # how
    format: \"int8(per: channel)\"
    # more of it
    optional: true
  # between
  # all
  - {match: \"**\", format: keep}
  - format: keep
    match: \"a\"
    # end of rules
  # also

models: [llama, qwen3]
rotate:
  - site: value
    by: hadamard
kv_cache: keep
# eof
";
    assert_eq!(formatted("a.yaml", text), expected);
}

#[test]
fn yaml_that_has_no_place_for_comments_or_says_things_twice_is_left_as_it_is() {
    for (text, at) in [
        ("lathe: 1\nspec: a\nkv_cache: &x keep\n", "&"),
        ("lathe: 1\nspec: a\ncompute: &x f32\nkv_cache: *x\n", "*"),
        ("lathe: 1\nspec: a\nkv_cache: |-\n  keep\n", "|"),
        ("lathe: 1\nspec: a\nkv_cache: >-  # why\n  keep\n", ">"),
        ("lathe: 1\nspec: a\nkv_cache: !!str keep\n", "!"),
        ("%YAML 1.2\n---\nlathe: 1\nspec: a\n", "%"),
        ("lathe: 1\n? spec\n: a\n", "?"),
        ("lathe: 1\nspec: a\nlet:\n  b: x or\n    y\n", "x"),
    ] {
        assert!(parse_named("a.yaml", text).2.diagnostics.is_empty(), "{text}");
        let mut sources = Sources::new();
        let source = sources.add("a.yaml", text);
        let faults = lathe_grammar::format(&sources, source).expect_err(text);
        assert_eq!(faults[0].code, "F0001");
        assert!(text[faults[0].labels[0].span.range()].starts_with(at), "{text}\n{faults:#?}");
    }
}

#[test]
fn a_text_with_mistakes_is_not_formatted() {
    let mut sources = Sources::new();
    let source = sources.add("a.lathe", "lathe 1\nspec a { rules { mlp.* -> keep } }");
    let faults = lathe_grammar::format(&sources, source).expect_err("a mistake");
    assert_eq!(faults.len(), 1);
}

/// Every text of the repository without mistakes.
static CORPUS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let folders = ["specs", "editors", "grammar/tests", "tests/filetests"];
    let files = folders.iter().flat_map(|folder| files_under(&repository().join(folder)));
    let texts = files.map(|file| (file.display().to_string(), read(&file)));
    let mut corpus = Vec::new();
    for (name, text) in texts {
        if let (_, _, Parsed { file: Some(file), diagnostics }) = parse_named(&name, &text)
            && diagnostics.is_empty()
        {
            corpus.extend(print_yaml(&file).map(|yaml| (format!("{name}.yaml"), yaml)));
            corpus.push((name, text));
        }
    }
    assert!(corpus.len() > 20, "{} texts", corpus.len());
    corpus
});

#[test]
fn every_text_can_be_formatted() {
    for (name, text) in CORPUS.iter() {
        formatted(name, text);
    }
}

/// The same text laid out otherwise: comments, blank lines, breaks in parentheses, blanks. `dice` are thrown in turn.
fn scattered(text: &str, dice: &[u8]) -> String {
    let mut dice = dice.iter().cycle();
    let mut roll = |sides: u8| dice.next().is_some_and(|die| die % sides == 0);
    let mut comments = 0;
    let mut comment = || {
        comments += 1;
        format!("// {comments} \" {{ (")
    };
    let mut scattered = String::new();
    let (mut in_string, mut in_comment, mut escaped, mut open) = (false, false, false, Vec::new());
    for (i, character) in text.char_indices() {
        if character == '\n' {
            if !in_comment && roll(4) {
                let _ = write!(scattered, "  {}", comment());
            }
            in_comment = false;
            if roll(4) {
                scattered += if roll(2) { "\n" } else { "\r\n\t" };
            }
            if roll(4) {
                let _ = write!(scattered, "\n   {}", comment());
            }
        }
        scattered.push(character);
        if in_comment || in_string {
            in_string = in_string && (escaped || character != '"');
            escaped = character == '\\' && !escaped;
            continue;
        }
        match character {
            '"' => in_string = true,
            '/' if text[i..].starts_with("//") => in_comment = true,
            '(' | '[' | '{' => open.push(character),
            ')' | ']' | '}' => {
                open.pop();
            }
            ' ' if roll(8) => scattered.push(' '),
            _ => {}
        }
        if matches!(character, '(' | ',') && open.last() == Some(&'(') && roll(4) {
            if roll(2) {
                scattered += &comment();
            }
            scattered.push('\n');
        }
    }
    scattered
}

/// The same for YAML: comments at any column, blank lines, blanks before and behind.
fn scattered_yaml(text: &str, dice: &[u8]) -> String {
    let mut dice = dice.iter().cycle();
    let mut roll = |sides: u8| dice.next().map_or(0, |die| die % sides);
    let mut scattered = String::new();
    for (i, line) in text.lines().enumerate() {
        if roll(4) == 0 {
            let _ = write!(scattered, "{:1$}# own {i}: \" [\r\n", "", roll(9).into());
        }
        if roll(4) == 0 {
            scattered += if roll(2) == 0 { "\n" } else { "\r\n  \n" };
        }
        scattered += line;
        if roll(4) == 0 {
            let _ = write!(scattered, "{:1$} # behind {i} '", "", roll(3).into());
        }
        scattered += "\n";
    }
    scattered
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn layout_is_all_that_changes(which: prop::sample::Index, dice in prop::collection::vec(any::<u8>(), 1..200)) {
        let (name, text) = which.get(&CORPUS);
        let scattered = if is_yaml(name) { scattered_yaml(text, &dice) } else { scattered(text, &dice) };
        formatted(name, &scattered);
    }
    #[test]
    fn what_can_be_read_can_be_formatted(
        which: prop::sample::Index,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..4, prop::sample::select(PIECES)), 1..4),
    ) {
        let (name, text) = which.get(&CORPUS);
        let mut edited: Vec<char> = text.chars().collect();
        for (at, removed, piece) in edits {
            let at = at.index(edited.len());
            edited.splice(at..(at + removed).min(edited.len()), piece.chars());
        }
        let edited = String::from_iter(edited);
        let (sources, source, parsed) = parse_named(name, &edited);
        if parsed.diagnostics.is_empty() {
            match lathe_grammar::format(&sources, source) {
                Ok(once) => prop_assert_eq!(formatted_named(name, &once), once, "formatted twice, of\n{}", edited),
                Err(faults) => prop_assert!(faults.iter().all(|fault| fault.notes.is_empty()), "{edited}\n{faults:#?}"),
            }
        }
    }
}

/// What an edit inserts.
const PIECES: &[&str] = &[
    "", " ", "\n", "\n\n", "\t", "\r\n", "//", "// c\n", "#", " # c\n", "\"", "'", ",", ", ", ":", ": ", "- ", "-",
    "(", ")", "[", "]", "{", "}", "\\", "*", "&", "|", ">", "!", "%", "?", "~", "---\n", "x", "0", "ü",
];
