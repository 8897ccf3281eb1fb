//! Any pattern is read or refused; one that is read prints as itself and answers for any module.
//!
//! The first line is the pattern, each further line the path of a module.

#![no_main]

use lathe_grammar::pattern::{Candidate, Kind, NameGlob, Pattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or("");
    let glob = NameGlob::parse(first);
    let Ok(pattern) = Pattern::parse(first) else { return };
    let printed = pattern.to_string();
    let again = Pattern::parse(&printed).unwrap_or_else(|fault| panic!("`{printed}`: {}", fault.message));
    assert_eq!(again, pattern);

    let children = |path: &str| path.len() % 5;
    let alternatives = pattern.alternatives();
    for path in lines {
        for kind in [Kind::Linear, Kind::Norm] {
            let candidate = Candidate { path, kind, takes_format: kind == Kind::Linear, children: &children };
            let matches = pattern.matches(&candidate);
            assert_eq!(again.matches(&candidate), matches, "{printed} on {path}");
            let any = alternatives.iter().any(|alternative| alternative.matches(&candidate));
            assert_eq!(any, matches, "alternatives of {printed} on {path}");
        }
        let _ = pattern.matches_container(path, &children);
        if let Ok(glob) = &glob {
            let _ = glob.matches(path);
        }
    }
});
