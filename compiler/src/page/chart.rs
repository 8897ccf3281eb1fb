//! What charts have in common: scales with ticks at round numbers, positions in percent, axes.

use std::fmt;

use super::html::Html;

/// A share as a percentage, with as many digits as a pixel needs.
pub(super) struct Percent(pub(super) f64);

impl Percent {
    /// The middle of one of `count` places of the same width.
    pub(super) fn middle(place: usize, count: usize) -> Self {
        Percent((place as f64 + 0.5) / count.max(1) as f64)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 1e5).round() / 1e3)
    }
}

/// Pixels, to a tenth.
pub(super) struct Pixels(pub(super) f64);

impl fmt::Display for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", (self.0 * 10.0).round() / 10.0)
    }
}

/// The vertical axis of a chart: from one tick to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    /// The lowest tick.
    pub(super) low: f64,
    /// The highest tick.
    pub(super) high: f64,
    /// From one tick to the next: 1, 2 or 5 times a power of ten.
    pub(super) step: f64,
}

impl Scale {
    /// About `steps` steps that contain both numbers, which are below 10²⁰.
    pub(super) fn new(low: f64, high: f64, steps: u32) -> Self {
        let least = (high - low) / f64::from(steps);
        let mut power = 1.0;
        while 10.0 * power < least {
            power *= 10.0;
        }
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= least);
        let step = step.unwrap_or(10.0 * power);
        let low = (low / step).floor() * step;
        Scale { low, high: ((high / step).ceil() * step).max(low + step), step }
    }

    /// Where a number is: 0 at the lowest tick, 1 at the highest.
    pub(super) fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round() as u32;
        let Scale { low, step, .. } = *self;
        (0..=count).map(move |tick| low + f64::from(tick) * step)
    }

    /// Lines across the chart, and what they stand for. The scale begins `top` pixels below the top and is `height` high.
    pub(super) fn draw(&self, html: &mut Html, top: f64, height: f64, name: impl Fn(f64) -> String) {
        for tick in self.ticks() {
            let y = top + height * (1.0 - self.place(tick));
            html.put(format_args!(
                "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{0}\" y2=\"{0}\"/><text class=\"tick y\" x=\"-8\" y=\"{1}\">{2}</text>\n",
                Pixels(y),
                Pixels(y + 4.0),
                name(tick)
            ));
        }
    }
}

/// Ticks of layers, `top` pixels below the top, where there are as many places as `indices`.
pub(super) fn layer_ticks(html: &mut Html, indices: &[u64], top: f64) {
    let step = Scale::new(0.0, indices.len() as f64, 7).step as usize;
    for (place, index) in indices.iter().enumerate().step_by(step) {
        html.put(format_args!(
            "<text class=\"tick x\" x=\"{}\" y=\"{}\">{index}</text>\n",
            Percent::middle(place, indices.len()),
            Pixels(top + 16.0)
        ));
    }
}

/// A tick of a scale of bytes, in the unit of the highest one.
pub(super) fn byte_tick(tick: f64, highest: f64) -> String {
    let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let (unit, size) = units.into_iter().find(|(_, size)| highest >= *size).unwrap_or(("B", 1.0));
    if tick == 0.0 { "0".to_owned() } else { format!("{} {unit}", tick / size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(low: f64, high: f64) -> Vec<f64> {
        Scale::new(low, high, 5).ticks().collect()
    }

    #[test]
    fn ticks_are_round_and_contain_what_is_shown() {
        assert_eq!(ticks(21.3, 48.9), [20.0, 30.0, 40.0, 50.0]);
        assert_eq!(ticks(30.2, 30.4), [30.0, 31.0]);
        assert_eq!(ticks(-3.0, 4.0), [-4.0, -2.0, 0.0, 2.0, 4.0]);
        assert_eq!(ticks(0.0, 0.0), [0.0, 1.0]);
        assert_eq!(ticks(0.0, 437e6), [0.0, 1e8, 2e8, 3e8, 4e8, 5e8]);
        for top in [1e3, 1e9, 7.3e12, 1.8e19] {
            assert!(ticks(0.0, top).len() <= 7 && *ticks(0.0, top).last().unwrap() >= top, "{top}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(Percent(1.0 / 3.0).to_string(), "33.333%");
        assert_eq!(Percent::middle(1, 4).to_string(), "37.5%");
        assert_eq!(Pixels(17.04).to_string(), "17");
        assert_eq!(byte_tick(3e8, 1e9), "0.3 GB");
        assert_eq!(byte_tick(0.0, 1e9), "0");
        assert_eq!(byte_tick(20.0, 60.0), "20 B");
    }
}
