//! When one pattern matches whatever another does, in any model.
//!
//! The other pattern is matched like a path whose segments are themselves patterns: what stands for a run in it, `**`
//! among segments or `*` within one, is taken only by the same. So the answer can be no where a closer look would say
//! yes: `{[0],[1]}` is not seen to cover `[0..2]`.

use super::{IndexItem, Kind, Matcher, PathPattern, Pattern, Segment, glob_matches, wildcard_matches};

/// Beyond this product of the sizes of two patterns the answer is no.
const MAX_WORK: usize = 1 << 20;

impl Pattern {
    /// Whether it matches every module that `other` matches, in any model. Yes is certain; no may be for want of proof.
    ///
    /// Modules are taken to accept formats, which a final `**` asks for, unless `other` says `:norm` or ends in a name
    /// of norms.
    ///
    /// ```
    /// use lathe_grammar::pattern::Pattern;
    ///
    /// let pattern = |text| Pattern::parse(text).unwrap();
    /// assert!(pattern("mlp.*").covers(&pattern("layers[0..4].mlp.{up,down}_proj")));
    /// assert!(!pattern("layers[0..4].**").covers(&pattern("layers[-1].**")));
    /// ```
    pub fn covers(&self, other: &Pattern) -> bool {
        if self == other {
            return true;
        }
        let Matcher::Paths(alternatives) = &self.matcher else { return false };
        let others = match &other.matcher {
            Matcher::Paths(others) => others.iter().flat_map(PathPattern::one_index_each).collect(),
            // It may match anything.
            Matcher::Regex(_) => vec![PathPattern { anchored: false, segments: vec![Segment::Any], kind: None }],
        };
        let size = |alternatives: &[PathPattern]| alternatives.iter().map(PathPattern::size).sum::<usize>();
        size(alternatives).saturating_mul(size(&others)) <= MAX_WORK
            && others.iter().all(|other| alternatives.iter().any(|alternative| alternative.covers(other)))
    }
}

impl PathPattern {
    fn covers(&self, other: &PathPattern) -> bool {
        let admits = match self.kind {
            Some(kind) => other.kind == Some(kind),
            None => self.segments.last() != Some(&Segment::Any) || !other.may_be_a_norm(),
        };
        let is_any = |segment: &Segment| *segment == Segment::Any;
        admits && wildcard_matches(&self.spelled_out(), &other.spelled_out(), false, is_any, Segment::covers)
    }

    /// Whether it says that it matches norms: by their kind, or by a name of the kind that they have.
    fn may_be_a_norm(&self) -> bool {
        match (self.kind, self.segments.last()) {
            (Some(kind), _) => kind == Kind::Norm,
            (None, Some(Segment::Name(name))) => name.contains("norm") || name.starts_with("ln"),
            (None, _) => false,
        }
    }

    /// The segments as if the pattern were anchored and its final `**` could be empty.
    fn spelled_out(&self) -> Vec<Segment> {
        let start = (!self.anchored).then_some(Segment::Any);
        let mut segments: Vec<Segment> = start.into_iter().chain(self.segments.iter().cloned()).collect();
        if segments.last() == Some(&Segment::Any) {
            segments.push(Segment::Name("*".to_owned()));
        }
        segments
    }

    /// What time to compare it depends on.
    fn size(&self) -> usize {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Any => 1,
            Segment::Name(name) => name.len(),
            Segment::Index(items) => items.len(),
        });
        1 + segments.sum::<usize>()
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

    fn covers(pattern: &str, other: &str) -> bool {
        let parse = |text: &str| Pattern::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        parse(pattern).covers(&parse(other))
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
            ("**", "model.norm"),
            ("layers[0].**", "layers[0].*_layernorm"),
            ("**", "ln_f"),
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
    fn large_patterns_are_not_compared() {
        let many = "{a,b}".repeat(10);
        assert!(covers(&many, &many));
        assert!(!covers(&format!("**.{many}"), &many));
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
            if !pattern.covers(&other) {
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
            prop_assert!(pattern.covers(&pattern));
            for alternative in pattern.alternatives() {
                prop_assert!(pattern.covers(&alternative), "{pattern} {alternative}");
            }
        }
    }
}
