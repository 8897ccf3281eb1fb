//! A color for each family of formats. The hues are those of Okabe and Ito, which people tell apart however they see
//! color; what is colored is also named.

use std::collections::BTreeMap;

/// Colors of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Color {
    /// Behind the text: light.
    pub(crate) fill: &'static str,
    /// Of the border: dark enough for paper.
    pub(crate) line: &'static str,
}

/// Of what is as it was.
const NEUTRAL: Color = Color { fill: "#f3f4f6", line: "#8b919b" };

const HUES: [Color; 7] = [
    Color { fill: "#d5e8f7", line: "#0072b2" },
    Color { fill: "#fce6bd", line: "#c07f00" },
    Color { fill: "#d0efe3", line: "#008a66" },
    Color { fill: "#f4deec", line: "#b0588d" },
    Color { fill: "#fad6c5", line: "#c24d00" },
    Color { fill: "#fbf7c0", line: "#8f8500" },
    Color { fill: "#def4fd", line: "#2f9bd0" },
];

/// The family that is as the checkpoint has it.
const NEUTRAL_FAMILY: &str = "keep";

/// Families with a hue of their own, as long as no other family has taken it.
const PREFERRED: [(&str, usize); 17] = [
    ("int8", 0),
    ("int4", 1),
    ("fp8_e4m3", 2),
    ("nvfp4", 3),
    ("mxfp4", 3),
    ("int2", 4),
    ("int3", 4),
    ("nf4", 5),
    ("mxfp8", 6),
    ("fp8_e5m2", 2),
    ("mxfp6", 5),
    ("int7", 6),
    ("int6", 6),
    ("int5", 5),
    ("bf16", 6),
    ("f16", 2),
    ("f32", 5),
];

/// `int4` of `int4(group: 128)`.
fn family(format: &str) -> &str {
    format.split('(').next().unwrap_or(format).trim()
}

/// The colors of a picture.
pub(crate) struct Colors<'a>(BTreeMap<&'a str, Color>);

impl<'a> Colors<'a> {
    /// Gives each family a color: the one that it prefers, or the first that is free. Only when there are more families
    /// than hues, some have the same.
    pub(crate) fn new(formats: impl IntoIterator<Item = &'a str>) -> Self {
        let mut families: Vec<&str> = formats.into_iter().map(family).collect();
        families.sort_unstable();
        families.dedup();
        families.retain(|family| *family != NEUTRAL_FAMILY);
        let mut free: Vec<usize> = (0..HUES.len()).collect();
        let mut hues: BTreeMap<&str, usize> = BTreeMap::new();
        for &(family, hue) in &PREFERRED {
            if families.contains(&family) && free.contains(&hue) {
                free.retain(|&other| other != hue);
                hues.insert(family, hue);
            }
        }
        let mut free = free.into_iter().chain((0..HUES.len()).cycle());
        for family in families {
            hues.entry(family).or_insert_with(|| free.next().unwrap_or_default());
        }
        Colors(hues.into_iter().map(|(family, hue)| (family, HUES[hue])).collect())
    }

    /// The color of a format.
    pub(crate) fn of(&self, format: &str) -> Color {
        self.0.get(family(format)).copied().unwrap_or(NEUTRAL)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::spec::FORMATS;

    #[test]
    fn families_have_colors_of_their_own() {
        let formats = ["int8(per: channel)", "int4(group: 128)", "int4(group: 64)", "mxfp4", "nvfp4", "keep", "new"];
        let colors = Colors::new(formats);
        assert_eq!(colors.of("int4(group: 128)"), HUES[1]);
        assert_eq!(colors.of("int4(group: 64)"), HUES[1]);
        assert_eq!(colors.of("keep(exact)"), NEUTRAL);
        let hues: BTreeSet<_> = ["int8", "int4", "mxfp4", "nvfp4", "new"].map(|f| colors.of(f).line).into();
        assert_eq!(hues.len(), 5);
    }

    #[test]
    fn every_format_is_neutral_or_prefers_a_hue() {
        let known = std::iter::once(NEUTRAL_FAMILY).chain(PREFERRED.into_iter().map(|(family, _)| family));
        let mut known: Vec<&str> = known.collect();
        let mut formats: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        known.sort_unstable();
        formats.sort_unstable();
        assert_eq!(known, formats);
    }

    #[test]
    fn there_may_be_more_families_than_hues() {
        let names: Vec<String> = (0..50).map(|i| format!("format{i}")).collect();
        let colors = Colors::new(names.iter().map(String::as_str));
        assert!(names.iter().all(|name| colors.of(name) != NEUTRAL));
    }
}
