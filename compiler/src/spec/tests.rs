use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lathe_grammar::span::Sources;

use super::*;

/// Files in memory.
struct Texts(BTreeMap<&'static str, &'static str>);

impl Files for Texts {
    fn read(&self, path: &Path, _: &Path) -> Result<String, FileError> {
        let text = path.to_str().and_then(|path| self.0.get(path));
        text.map(|text| (*text).to_owned()).ok_or(FileError::NotFound)
    }
}

/// The spec of the file `entry` with what it says wrong.
fn load_among(files: &[(&'static str, &'static str)], entry: &str) -> (Option<Spec>, Vec<Diagnostic>) {
    let files = Texts(files.iter().copied().collect());
    let mut sources = Sources::new();
    let source = sources.add(entry, files.0[entry]);
    let entry = Entry { source, place: Place::File(entry.into()), name: None };
    let mut diagnostics = Vec::new();
    let loaded = load(&entry, false, &mut sources, &files, &mut diagnostics);
    let spec = loaded.first().and_then(|loaded| check(loaded, &mut diagnostics));
    (spec, diagnostics)
}

fn codes(files: &[(&'static str, &'static str)], entry: &str) -> Vec<&'static str> {
    load_among(files, entry).1.iter().map(|diagnostic| diagnostic.code).collect()
}

fn one(text: &'static str) -> (Spec, Vec<Diagnostic>) {
    let (spec, diagnostics) = load_among(&[("a.lathe", text)], "a.lathe");
    (spec.expect("the file holds one spec"), diagnostics)
}

#[test]
fn paths_are_relative_to_the_text_that_names_them() {
    let files = [
        ("specs/a.lathe", "lathe 1\nuse \"parts/../parts/./b.lathe\"\nspec a { rules { ** => b } }\n"),
        ("specs/parts/b.lathe", "lathe 1\nuse \"../c.lathe\"\nlet b = keep\n"),
        ("specs/c.lathe", "lathe 1\nlet c = keep\n"),
    ];
    assert_eq!(codes(&files, "specs/a.lathe"), [""; 0]);
}

#[test]
fn the_folder_may_be_named_by_a_path_that_climbs() {
    let spec = "lathe 1\nuse \"b.lathe\"\nspec a { rules { ** => b } }\n";
    let files = [("../specs/a.lathe", spec), ("../specs/b.lathe", "lathe 1\nlet b = keep\n")];
    assert_eq!(codes(&files, "../specs/a.lathe"), [""; 0]);
    for used in ["../b.lathe", "../specs2/b.lathe", "../../specs/b.lathe", "x/../../b.lathe"] {
        let text: &'static str = format!("lathe 1\nuse \"{used}\"\nspec a {{ rules {{ ** => keep }} }}\n").leak();
        assert_eq!(codes(&[("../specs/a.lathe", text)], "../specs/a.lathe"), ["S0004"], "{used}");
    }
    // A detour that comes back is none.
    let detour = "lathe 1\nuse \"../specs/b.lathe\"\nspec a { rules { ** => b } }\n";
    let files = [("../specs/a.lathe", detour), ("../specs/b.lathe", "lathe 1\nlet b = keep\n")];
    assert_eq!(codes(&files, "../specs/a.lathe"), [""; 0]);
}

#[test]
fn texts_of_the_library_stay_in_it() {
    let codes = |used: &str| -> Vec<&'static str> {
        let mut sources = Sources::new();
        let text = format!("lathe 1\nuse \"{used}\"\nspec a {{ rules {{ ** => keep }} }}\n");
        let entry = Entry { source: sources.add("a", text), place: Place::Library("some/a.lathe".into()), name: None };
        let mut diagnostics = Vec::new();
        // Files of that name are there, and are not for the library.
        let files = Texts(BTreeMap::from([("b.lathe", "lathe 1\n"), ("some/b.lathe", "lathe 1\n")]));
        load(&entry, false, &mut sources, &files, &mut diagnostics);
        diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
    };
    assert_eq!(codes("../keep.lathe"), [""; 0]);
    assert_eq!(codes("keep"), [""; 0]);
    assert_eq!([codes("b.lathe"), codes("../b.lathe")], [["S0006"], ["S0006"]]);
    for used in ["../../b.lathe", "/b.lathe", "x/../../../b.lathe", "..\\\\b.lathe"] {
        assert_eq!(codes(used), ["S0004"], "{used}");
    }
}

#[test]
fn names_reach_as_far_as_one_use() {
    let files = [
        ("a.lathe", "lathe 1\nuse \"b.lathe\"\nspec a { rules { ** => far } }\n"),
        ("b.lathe", "lathe 1\nuse \"c.lathe\"\nlet near = keep\n"),
        ("c.lathe", "lathe 1\nlet far = keep\n"),
    ];
    assert_eq!(codes(&files, "a.lathe"), ["S0201"]);
}

#[test]
fn what_a_spec_says_replaces_what_its_base_says() {
    let files = [
        (
            "base.lathe",
            "lathe 1\nspec base {\n    let body = int4(group: 64)\n    rules { :linear => body }\n    rotate { residual by \
             hadamard }\n    kv_cache => int8(per: head)\n    tied => split\n}\n",
        ),
        (
            "own.lathe",
            "lathe 1\nspec own extends \"base.lathe\" {\n    let body = int8(per: channel)\n    rules { lm_head => keep }\n    \
             rotate { residual by none }\n    kv_cache => keep\n}\n",
        ),
    ];
    let (spec, diagnostics) = load_among(&files, "own.lathe");
    let spec = spec.unwrap();
    assert_eq!(diagnostics, []);
    let formats: Vec<String> = spec.rules.iter().map(|rule| rule.format.unwrap().format.unwrap().to_string()).collect();
    assert_eq!(formats, ["int8(per: channel)", "keep"]);
    assert_eq!(spec.rules.iter().map(|rule| rule.layer).collect::<Vec<_>>(), [0, 1]);
    assert!(spec.rotations.iter().all(|request| request.turn.is_none()));
    assert!(spec.kv_cache.unwrap().format.unwrap().is_keep());
    assert_eq!(spec.tied, Tied::Split);
}

#[test]
fn files_of_matrices_lie_beside_the_text_that_names_them() {
    let own = "lathe 1\nuse \"parts/heads.lathe\"\nspec own {\n    let stream = matrix(\"r.safetensors\")\n    let folder = \
               \"sub/r.safetensors\"\n    rotate {\n        residual by stream\n        value by heads\n        \
               input of o_proj by matrix(folder, \"O\")\n        ffn_hidden by smooth\n    }\n}\n";
    let heads = "lathe 1\nlet heads = matrix(key: \"layers.{layer}.\\\"R2\\\"\", file: \"r.safetensors\")\n";
    let files = Texts(BTreeMap::from([("specs/own.lathe", own), ("specs/parts/heads.lathe", heads)]));
    let turns = |overrides: &[String]| -> Vec<(String, Option<PathBuf>)> {
        let (mut sources, mut diagnostics) = (Sources::new(), Vec::new());
        let source = sources.add("specs/own.lathe", own);
        let entry = Entry { source, place: Place::File("specs/own.lathe".into()), name: None };
        let mut loaded = load(&entry, false, &mut sources, &files, &mut diagnostics).pop().unwrap();
        apply_overrides(overrides, &mut loaded, &mut sources, &mut diagnostics);
        let spec = check(&loaded, &mut diagnostics).unwrap();
        assert_eq!(diagnostics, []);
        spec.rotations.into_iter().map(|request| (request.turn.to_string(), request.turn.path)).collect()
    };
    let expected = [
        ("matrix(\"r.safetensors\")", Some("specs/r.safetensors")),
        ("matrix(\"r.safetensors\", \"layers.{layer}.\\\"R2\\\"\")", Some("specs/parts/r.safetensors")),
        ("matrix(\"sub/r.safetensors\", \"O\")", Some("specs/sub/r.safetensors")),
        ("smooth(alpha: 0.5)", None),
    ];
    assert_eq!(turns(&[]), expected.map(|(turn, path)| (turn.to_owned(), path.map(PathBuf::from))));
    // On the command line they lead from where it is given.
    let found = turns(&["stream=matrix(\"../r.safetensors\")".into(), "folder=\"/r.safetensors\"".into()]);
    let paths: Vec<PathBuf> = found.into_iter().filter_map(|(_, path)| path).collect();
    assert_eq!(paths, ["../r.safetensors", "specs/parts/r.safetensors", "/r.safetensors"].map(PathBuf::from));
}

#[test]
fn long_chains_end() {
    let text = |index: usize| -> &'static str {
        format!("lathe 1\nspec s{index} extends \"{}.lathe\" {{ rules {{ ** => keep }} }}\n", index + 1).leak()
    };
    let files: Vec<(&'static str, &'static str)> =
        (0..100).map(|index| (&*format!("{index}.lathe").leak(), text(index))).collect();
    assert_eq!(codes(&files, "0.lathe"), ["S0003"]);
}

/// Which rules of a spec decide nothing for any model, by index.
fn shadowed(rules: &str) -> Vec<usize> {
    let text: &'static str = format!("lathe 1\nspec a {{\n    rules {{\n{rules}\n    }}\n}}\n").leak();
    let (spec, _) = one(text);
    spec.rules.iter().enumerate().filter(|(_, rule)| rule.shadowed).map(|(index, _)| index).collect()
}

#[test]
fn rules_are_shadowed_by_attribute_and_by_alternative() {
    for (rules, expected) in [
        ("up_proj => keep\n** => keep", &[0][..]),
        ("** => keep\nup_proj => keep", &[]),
        // An attribute that no later rule states keeps a rule alive.
        ("up_proj => keep with input keep\n** => keep", &[]),
        ("up_proj => keep with input keep\n** => keep\n:linear => with input keep", &[]),
        ("up_proj => keep with input keep\n** => keep\n** => with input keep", &[0]),
        ("up_proj => with input keep\n** => keep", &[]),
        // Each alternative by another rule.
        ("{up,down}_proj => keep\nup_proj => keep\ndown_proj => keep", &[0]),
        ("{up,down}_proj => keep\nup_proj => keep", &[]),
        ("layers[0, 1].** => keep\nlayers[1].** => keep\nlayers[0].** => keep", &[0]),
        // `**` leaves norms to others.
        (":norm => keep\n** => keep", &[]),
        ("a => keep\na => keep\na => keep", &[0, 1]),
        // A format with a mistake was meant to decide all the same.
        ("a => keep\na => int44", &[0]),
    ] {
        assert_eq!(shadowed(rules), expected, "{rules}");
    }
}

#[test]
fn a_base_may_be_shadowed() {
    let files = [
        ("base.lathe", "lathe 1\nspec base { rules { up_proj => keep } }\n"),
        ("own.lathe", "lathe 1\nspec own extends \"base.lathe\" { rules { ** => keep } }\n"),
    ];
    assert_eq!(codes(&files, "own.lathe"), [""; 0]);
}

#[test]
fn a_let_that_nothing_uses_is_looked_at_once() {
    let (_, diagnostics) = one(
        "lathe 1\nspec a {\n    let a = int44\n    let b = hadamard(block: 1)\n    let c = mse\n    let d = 4\n    rules { ** => keep }\n}\n",
    );
    assert_eq!(diagnostics.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>(), ["S0205"]);
}
