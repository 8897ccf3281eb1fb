//! When one pattern matches whatever another does, in any model.
//!
//! The other pattern is matched like a path whose segments are themselves patterns: what stands for a run in it, `**`
//! among segments or `*` within one, is taken only by the same. So the answer can be no where a closer look would say
//! yes: `[0..2]` is not seen to be covered by `{[0],[1]}`.

use std::cell::Cell;

use super::{IndexItem, Kind, Matcher, PathPattern, Pattern, Segment, glob_matches, wildcard_matches};

/// How much may still be done to compare patterns, in steps of a few bytes each. Once it is spent, every answer is no.
#[derive(Debug)]
pub struct Effort(Cell<usize>);

impl Effort {
    /// So many steps.
    pub fn new(steps: usize) -> Self {
        Effort(Cell::new(steps))
    }

    /// Whether nothing more is looked at.
    pub fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    /// Whether there was enough for so many steps.
    fn spend(&self, steps: usize) -> bool {
        self.0.set(self.0.get().saturating_sub(steps));
        !self.is_spent()
    }
}

/// A pattern taken apart, to be compared with many others.
#[derive(Debug)]
pub struct Outline<'a>(Vec<Alternative<'a>>);

/// One of [`Pattern::alternatives`], taken apart.
#[derive(Debug)]
pub struct Alternative<'a> {
    /// The text of a regular expression, which may match anything.
    regex: Option<&'a str>,
    kind: Option<Kind>,
    /// Whether it ends in `**` and names no kind.
    leaves_norms_out: bool,
    /// As if the pattern were anchored and its final `**` could be empty.
    segments: Vec<Segment>,
}

impl<'a> Outline<'a> {
    /// That of a pattern.
    pub fn of(pattern: &'a Pattern) -> Self {
        Outline(match &pattern.matcher {
            Matcher::Paths(paths) => paths.iter().flat_map(PathPattern::one_index_each).map(Alternative::of).collect(),
            Matcher::Regex(_) => {
                let anything = PathPattern { anchored: false, segments: vec![Segment::Any], kind: None };
                vec![Alternative { regex: Some(&pattern.text), ..Alternative::of(anything) }]
            }
            Matcher::Unreadable => Vec::new(),
        })
    }

    /// As [`Pattern::alternatives`], in the same order; none of a pattern that could not be read.
    pub fn alternatives(&self) -> &[Alternative<'a>] {
        &self.0
    }

    /// Whether it matches, in any model, every module that takes a format and that `other` matches; when `other` says
    /// `:norm`, every module that `other` matches. Norms take no format, and names do not tell them from other modules.
    /// Yes is certain; no may be for want of proof, or of effort.
    ///
    /// ```
    /// use lathe_grammar::pattern::{Effort, Outline, Pattern};
    ///
    /// let covers = |pattern, other| {
    ///     let [pattern, other] = [pattern, other].map(|text| Pattern::parse(text).unwrap());
    ///     let (pattern, effort) = (Outline::of(&pattern), Effort::new(1000));
    ///     Outline::of(&other).alternatives().iter().all(|other| pattern.covers(other, &effort))
    /// };
    /// assert!(covers("mlp.*", "layers[0..4].mlp.{up,down}_proj"));
    /// assert!(!covers("layers[0..4].**", "layers[-1].**"));
    /// assert!(covers("**", "layers[0].*") && !covers("**", "layers[0].*:norm"));
    /// ```
    pub fn covers(&self, other: &Alternative<'_>, effort: &Effort) -> bool {
        self.0.iter().any(|alternative| alternative.covers(other, effort))
    }
}

impl Alternative<'_> {
    fn of(path: PathPattern) -> Self {
        let PathPattern { anchored, segments, kind } = path;
        let start = (!anchored).then_some(Segment::Any);
        let leaves_norms_out = kind.is_none() && segments.last() == Some(&Segment::Any);
        let mut segments: Vec<Segment> = start.into_iter().chain(segments).collect();
        if segments.last() == Some(&Segment::Any) {
            segments.push(Segment::Name("*".to_owned()));
        }
        Alternative { regex: None, kind, leaves_norms_out, segments }
    }

    fn covers(&self, other: &Alternative<'_>, effort: &Effort) -> bool {
        if !effort.spend(1) {
            return false;
        }
        if self.regex.is_some() {
            return self.regex == other.regex;
        }
        let is_any = |segment: &Segment| *segment == Segment::Any;
        let covers_one =
            |segment: &Segment, other: &Segment| effort.spend(segment.steps(other)) && segment.covers(other);
        self.kind.is_none_or(|kind| other.kind == Some(kind))
            && !(self.leaves_norms_out && other.kind.is_some_and(|kind| !kind.takes_format()))
            && wildcard_matches(&self.segments, &other.segments, false, is_any, covers_one)
    }
}

impl Segment {
    /// Whether it matches every segment that `other` matches.
    fn covers(&self, other: &Segment) -> bool {
        match (self, other) {
            (Segment::Any, _) => true,
            (_, Segment::Any) | (Segment::Index(_), Segment::Name(_)) => false,
            // A `*` in the other's text is a byte that only a `*` takes.
            (Segment::Name(glob), Segment::Name(other)) => glob_matches(glob.as_bytes(), other.as_bytes()),
            (Segment::Name(glob), Segment::Index(others)) => others.iter().all(|other| match other {
                IndexItem::One(index) if *index >= 0 => glob_matches(glob.as_bytes(), index.to_string().as_bytes()),
                IndexItem::One(_) | IndexItem::Range { .. } => glob == "*",
            }),
            (Segment::Index(items), Segment::Index(others)) => {
                others.iter().all(|other| items.iter().any(|item| item.covers(*other)))
            }
        }
    }

    /// At most so much is [`Self::covers`] to do.
    fn steps(&self, other: &Segment) -> usize {
        match (self, other) {
            // Without a wildcard, the first byte that differs decides.
            (Segment::Name(glob), Segment::Name(other)) if glob.contains('*') => glob.len().saturating_mul(other.len()),
            (Segment::Name(glob), _) => glob.len(),
            // Indices are of one number or range each.
            (Segment::Any | Segment::Index(_), _) => 1,
        }
    }
}

impl IndexItem {
    /// Whether it contains every index that `other` contains, however many there are.
    fn covers(self, other: IndexItem) -> bool {
        match (self, other) {
            (IndexItem::One(one), IndexItem::One(other)) => one == other,
            (IndexItem::One(one), IndexItem::Range { start, end }) => {
                start == Some(one) && end == Some(one + 1) && one != -1
            }
            (IndexItem::Range { start, end }, IndexItem::One(one)) => {
                from_zero(start).is_none_or(|start| never_past(start, one))
                    && end.is_none_or(|end| one != end && never_past(one, end))
            }
            (IndexItem::Range { start, end }, IndexItem::Range { start: other_start, end: other_end }) => {
                from_zero(start).is_none_or(|start| other_start.is_some_and(|other| never_past(start, other)))
                    && end.is_none_or(|end| other_end.is_some_and(|other| never_past(other, end)))
            }
        }
    }
}

/// A range that starts at 0 is open: there is no index before it.
fn from_zero(start: Option<i64>) -> Option<i64> {
    start.filter(|start| *start != 0)
}

/// Whether `bound <= other` for every length. Bounds from different ends change places with the length.
fn never_past(bound: i64, other: i64) -> bool {
    (bound < 0) == (other < 0) && bound <= other
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pattern::Candidate;

    fn all_covered(pattern: &Pattern, other: &Pattern, effort: &Effort) -> bool {
        let pattern = Outline::of(pattern);
        Outline::of(other).alternatives().iter().all(|other| pattern.covers(other, effort))
    }

    fn covers(pattern: &str, other: &str) -> bool {
        let parse = |text: &str| Pattern::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        all_covered(&parse(pattern), &parse(other), &Effort::new(10_000))
    }

    #[test]
    fn what_is_covered() {
        for (pattern, other) in [
            ("**", "mlp.down_proj"),
            ("**", "lm_head:head"),
            ("**", "/model.layers[3].*"),
            ("**", r#"re:"model\..*""#),
            ("**", ":linear"),
            ("*", "**"),
            (":linear", "mlp.*:linear"),
            ("down_proj", "mlp.down_proj"),
            ("mlp.**", "mlp.down_proj"),
            ("mlp.**", "mlp.experts[0].up_proj"),
            ("*_proj", "{up,down}_proj"),
            ("*_proj", "q*_proj"),
            ("*a*", "*ba*c"),
            ("{up,down,gate}_proj", "{up,gate}_proj"),
            ("{layers[0],layers[1]}.mlp", "layers[0, 1].mlp"),
            ("model.norm", "/model.norm"),
            ("/**", "gate"),
            ("/**.norm", "norm"),
            ("norm", "/**.norm"),
            ("layers[3].mlp", "layers.3.mlp"),
            ("layers[*].mlp", "layers[0, -1, 2..].mlp"),
            ("layers.*.mlp", "layers[0, -1, 2..].mlp"),
            ("layers.1*.mlp", "layers[1, 12].mlp"),
            ("layers[..4].mlp", "layers[0, 3].mlp"),
            ("layers[0..4].mlp", "layers[..4].mlp"),
            ("layers[-4..].mlp", "layers[-1, -4..-2].mlp"),
            ("layers[3].mlp", "layers[3..4].mlp"),
            ("layers[-2].mlp", "layers[-2..-1].mlp"),
            ("layers[0..].mlp", "layers[-4..].mlp"),
            (r#"re:"a.b""#, r#"re:"a.b""#),
            ("a.**.b.**.c", "a.x.b.b.**.c"),
            // What norms are called says nothing.
            ("**", "model.norm"),
            ("**", "ln_f"),
            ("layers[0].**", "layers[0].*_layernorm"),
            ("mlp.**:linear", "mlp.norm:linear"),
            ("*", "norm:norm"),
            (":norm", "model.norm:norm"),
        ] {
            assert!(covers(pattern, other), "{pattern} covers {other}");
        }
    }

    #[test]
    fn what_is_not() {
        for (pattern, other) in [
            ("mlp.down_proj", "**"),
            ("mlp.down_proj", "down_proj"),
            ("**", ":norm"),
            ("*:norm", "model.norm"),
            ("layers[0].**", "layers[0].input_layernorm:norm"),
            (":linear", "**"),
            (":linear", ":head"),
            ("mlp.**", "mlp"),
            ("/model.norm", "model.norm"),
            ("layers[0..4].mlp", "layers[-1].mlp"),
            ("layers[1..].mlp", "layers[-1].mlp"),
            ("layers[-4..].mlp", "layers[0].mlp"),
            ("layers[..-1].mlp", "layers[0].mlp"),
            ("layers[-1].mlp", "layers[-1..].mlp"),
            ("layers[0..4].mlp", "layers[0..].mlp"),
            ("layers[*].mlp", "layers.*.mlp"),
            ("layers[*].mlp", "layers.03.mlp"),
            ("layers.1*.mlp", "layers[1..2].mlp"),
            ("q*_proj", "*_proj"),
            (r#"re:"a.*""#, "a"),
            (r#"re:"a.*""#, r#"re:"a""#),
            ("*.*", "**"),
            ("/:linear", "/*:linear"),
        ] {
            assert!(!covers(pattern, other), "{pattern} does not cover {other}");
        }
    }

    #[test]
    fn nothing_is_covered_once_the_effort_is_spent() {
        let many = Pattern::parse(&"{a,b}".repeat(10)).unwrap();
        assert!(all_covered(&many, &many, &Effort::new(10_000_000)));
        let effort = Effort::new(10_000);
        assert!(!all_covered(&many, &many, &effort) && effort.is_spent());
        assert!(!all_covered(&many, &Pattern::parse("aaaaaaaaaa").unwrap(), &effort));
    }

    /// Each alternative may be compared with each, and each part of one with each of the other.
    #[test]
    fn hostile_patterns_are_given_up() {
        let stars = format!("{}b", "a*".repeat(2000));
        let segments = "**.a.".repeat(800);
        for (pattern, other) in
            [(&stars, &"a".repeat(4000)), (&format!("{segments}b"), &format!("{}a", "a.".repeat(2000)))]
        {
            let effort = Effort::new(100_000);
            let [pattern, other] = [pattern, other].map(|text| Pattern::parse(text).unwrap());
            assert!(!all_covered(&pattern, &other, &effort), "{pattern}");
        }
    }

    fn alternative() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec![
            "a", "b", "*", "**", "a*", "*b", "ab", "0", "1", "[*]", "[0, 2]", "[-1]", "[-2..]", "[1..]", "[..2]",
            "[0..3]", "[1..-1]", "[2..3]", "[-3..-1]",
        ]);
        let kind = prop::sample::select(vec!["", "", "", ":linear", ":norm"]);
        (any::<bool>(), prop::collection::vec(segment, 1..4), kind).prop_map(|(anchored, segments, kind)| {
            let joined = segments.join(".").replace(".[", "[");
            format!("{}{joined}{kind}", if anchored { "/" } else { "" })
        })
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        prop_oneof![
            4 => alternative(),
            1 => (alternative(), alternative()).prop_map(|(one, other)| format!("{{{one},{other}}}")),
        ]
        .prop_map(|text| Pattern::parse(&text).unwrap_or_else(|fault| panic!("{text}: {fault}")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_is_covered_is_matched(
            pattern in pattern(),
            other in pattern(),
            paths in prop::collection::vec(
                prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "aab", "0", "1", "2", "3", "01"]), 1..6),
                1..12,
            ),
            length in 0_usize..5,
        ) {
            if !all_covered(&pattern, &other, &Effort::new(10_000)) {
                return Ok(());
            }
            for path in paths {
                let path = path.join(".");
                for kind in [Kind::Linear, Kind::Head, Kind::Norm] {
                    let takes_format = kind != Kind::Norm;
                    let candidate = Candidate { path: &path, kind, takes_format, children: &|_| length };
                    let is_promised = takes_format || other.to_string().ends_with(":norm");
                    if is_promised && other.matches(&candidate) {
                        let matches = pattern.matches(&candidate);
                        prop_assert!(matches, "{pattern} does not cover {other}: {path}, {length} children");
                    }
                }
            }
        }

        #[test]
        fn every_pattern_covers_itself_and_its_alternatives(pattern in pattern()) {
            for alternative in std::iter::once(pattern.clone()).chain(pattern.alternatives()) {
                prop_assert!(all_covered(&pattern, &alternative, &Effort::new(10_000)), "{pattern} {alternative}");
            }
        }
    }
}
