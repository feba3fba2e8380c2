//! Axes: round ticks, numbers as people write them, a scale from data to SVG units.

use super::{number, text_width};

/// From data to SVG units.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub low: f64,
    pub high: f64,
    pub from: f64,
    pub to: f64,
    /// Equal ratios are equal distances; the ends are positive.
    pub log: bool,
}

impl Scale {
    pub fn linear(low: f64, high: f64, from: f64, to: f64) -> Self {
        Scale { low, high, from, to, log: false }
    }

    pub fn at(&self, v: f64) -> f64 {
        let f = |v: f64| if self.log { v.max(f64::MIN_POSITIVE).ln() } else { v };
        let (low, high) = (f(self.low), f(self.high));
        let share = if high > low { (f(v) - low) / (high - low) } else { 0.5 };
        self.from + share * (self.to - self.from)
    }

    /// Ticks within the ends, with their labels.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let all = if self.log { log_ticks(self.low, self.high) } else { ticks(self.low, self.high, count) };
        let slack = 1e-9 * (self.high - self.low).abs();
        let all: Vec<f64> = all.into_iter().filter(|t| *t >= self.low - slack && *t <= self.high + slack).collect();
        let labels = if self.log { all.iter().map(|t| short(*t)).collect() } else { tick_labels(&all) };
        all.into_iter().zip(labels).collect()
    }
}

/// 1, 2 and 5 times the powers of ten, or the powers alone where those would crowd.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let stride = ((last - first) / 6).max(1) as usize;
    let all: Vec<f64> =
        (first..=last).step_by(stride).flat_map(|p| steps.iter().map(move |s| s * 10f64.powi(p))).collect();
    let inside = all.iter().filter(|t| **t >= low && **t <= high).count();
    // Less than two would say nothing of the scale.
    if inside < 2 { ticks(low, high, 4).into_iter().filter(|t| *t > 0.0).collect() } else { all }
}

/// A number in few characters: `0.1`, `250`, `5k`, `1.28M`.
pub(crate) fn short(v: f64) -> String {
    let (scaled, unit) = match v.abs() {
        a if a >= 1e9 => (v / 1e9, "G"),
        a if a >= 1e6 => (v / 1e6, "M"),
        a if a >= 1e3 => (v / 1e3, "k"),
        _ => (v, ""),
    };
    if v != 0.0 && v.abs() < 1e-3 {
        return format!("{v:e}");
    }
    let text = format!("{scaled:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

/// Round tick values from within or just around [low, high], about `count` of them.
pub(crate) fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = (high - low).max(high.abs() * 1e-9).max(1e-12);
    let raw = span / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw * 0.999).unwrap_or(10.0 * power);
    let (first, last) = ((low / step + 1e-9).floor() as i64, (high / step - 1e-9).ceil() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// The ticks' common notation: as many decimals as the step needs, thousands as `k`.
pub(crate) fn tick_labels(ticks: &[f64]) -> Vec<String> {
    let step = ticks.windows(2).map(|w| w[1] - w[0]).fold(f64::INFINITY, f64::min);
    let thousands = step >= 1000.0;
    let scale = if thousands { 1000.0 } else { 1.0 };
    let decimals = (0..7).find(|&d| {
        (step / scale * 10f64.powi(d)).fract().abs() < 1e-6 || (step / scale * 10f64.powi(d)).fract() > 1.0 - 1e-6
    });
    let decimals = if step.is_finite() { decimals.unwrap_or(6) as usize } else { 2 };
    ticks
        .iter()
        .map(|t| {
            let t = if t.abs() < step * 1e-6 { 0.0 } else { *t };
            match thousands {
                true if t == 0.0 => "0".into(),
                true => format!("{:.decimals$}k", t / scale),
                false => format!("{t:.decimals$}"),
            }
        })
        .collect()
}

/// A mean, and the ends of its error bar.
pub(crate) type Bar = (f64, Option<(f64, f64)>);

/// A place along x, what is there, and the ends of its bar or band.
pub type Placed = (f64, f64, Option<(f64, f64)>);

/// The range of a measure with its bars: round, and within [0, 1] where the means are.
pub(crate) fn range(values: &[Bar]) -> (f64, f64) {
    let unit = values.iter().all(|v| (0.0..=1.0).contains(&v.0));
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (mean, bar) in values {
        let (l, h) = bar.unwrap_or((*mean, *mean));
        low = low.min(l);
        high = high.max(h);
    }
    if !low.is_finite() {
        return (0.0, 1.0);
    }
    if high - low < 1e-9 {
        let pad = if high == 0.0 { 0.5 } else { 0.05 * high.abs() };
        (low, high) = (low - pad, high + pad);
    }
    let all = ticks(low, high, 5);
    let (mut low, mut high) = (all[0], all[all.len() - 1]);
    if unit {
        low = low.max(0.0);
        high = high.min(1.0);
    }
    (low, high)
}

/// One range for all panels where that wastes no panel's room, else one each.
pub(crate) fn ranges(panels: &[Vec<Bar>]) -> Vec<(f64, f64)> {
    let own: Vec<(f64, f64)> = panels.iter().map(|p| range(p)).collect();
    let whole = range(&panels.concat());
    let shared = own.iter().all(|r| r.1 - r.0 >= 0.4 * (whole.1 - whole.0));
    if shared { vec![whole; own.len()] } else { own }
}

/// The frame of a panel: horizontal grid with labels, name of the measure above, base line.
pub(crate) struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    pub y: Scale,
    pub body: String,
}

impl Frame {
    pub fn new(range: (f64, f64), name: &str, width: f64, height: f64, below: f64) -> Self {
        let all: Vec<f64> =
            ticks(range.0, range.1, 5).into_iter().filter(|t| *t >= range.0 - 1e-9 && *t <= range.1 + 1e-9).collect();
        let labels = tick_labels(&all);
        let left = 14.0 + labels.iter().map(|l| text_width(l)).fold(16.0, f64::max);
        let (right, top, bottom) = (width - 12.0, 28.0, height - below);
        let y = Scale::linear(range.0, range.1, bottom, top);
        let mut body = format!("<text class=\"tick\" x=\"4\" y=\"12\">{}</text>", super::escape(name));
        for (t, label) in all.iter().zip(&labels) {
            let at = number(y.at(*t));
            body.push_str(&format!("<path class=\"grid\" d=\"M{} {at}H{}\"/>", number(left), number(right)));
            body.push_str(&format!(
                "<text class=\"tick end\" x=\"{}\" y=\"{}\">{label}</text>",
                number(left - 6.0),
                number(y.at(*t) + 4.0)
            ));
        }
        body.push_str(&format!(
            "<path class=\"base\" d=\"M{} {b}H{}\"/>",
            number(left),
            number(right),
            b = number(bottom)
        ));
        Frame { left, right, top, bottom, y, body }
    }

    /// Ticks and name of a numeric horizontal axis; `height` is that of the whole panel.
    pub fn numeric_x(&mut self, x: &Scale, name: &str, height: f64) {
        let mut free = f64::NEG_INFINITY;
        for (t, label) in x.ticks(5) {
            let (at, half) = (x.at(t), text_width(&label) / 2.0);
            self.body.push_str(&format!("<path class=\"base\" d=\"M{} {}v4\"/>", number(at), number(self.bottom)));
            // A label that would touch the one before is left out; its tick stays.
            if at - half > free + 4.0 {
                free = at + half;
                self.body.push_str(&format!(
                    "<text class=\"tick mid\" x=\"{}\" y=\"{}\">{label}</text>",
                    number(at),
                    number(self.bottom + 17.0)
                ));
            }
        }
        self.x_name(name, height);
    }

    pub fn x_name(&mut self, name: &str, height: f64) {
        self.body.push_str(&format!(
            "<text class=\"mid\" x=\"{}\" y=\"{}\">{}</text>",
            number((self.left + self.right) / 2.0),
            number(height - 6.0),
            super::escape(&super::fit(name, self.right - self.left))
        ));
    }

    /// y in units, kept inside the panel; the flag says whether it was cut.
    pub fn clip(&self, v: f64) -> (f64, bool) {
        let at = self.y.at(v);
        let kept = at.clamp(self.top, self.bottom);
        (kept, (kept - at).abs() > 0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_data() {
        assert_eq!(tick_labels(&ticks(0.0, 1.0, 5)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(tick_labels(&ticks(0.0, 10_000.0, 4)), ["0", "2.5k", "5.0k", "7.5k", "10.0k"]);
        assert_eq!(tick_labels(&ticks(0.61, 0.67, 5)), ["0.60", "0.62", "0.64", "0.66", "0.68"]);
        let flat = range(&[(0.5, None)]);
        assert!(flat.0 < 0.5 && flat.1 > 0.5);
    }

    #[test]
    fn a_logarithmic_scale_has_equal_ratios_at_equal_distances() {
        let x = Scale { low: 100.0, high: 10_000.0, from: 0.0, to: 200.0, log: true };
        assert!((x.at(1000.0) - 100.0).abs() < 1e-9);
        let labels: Vec<String> = x.ticks(5).into_iter().map(|t| t.1).collect();
        assert_eq!(labels, ["100", "200", "500", "1k", "2k", "5k", "10k"]);
        let narrow = Scale { low: 240.0, high: 310.0, from: 0.0, to: 1.0, log: true };
        assert!(narrow.ticks(5).len() >= 2, "{:?}", narrow.ticks(5));
        assert_eq!([0.1, 250.0, 1_281_167.0, 0.0].map(short), ["0.1", "250", "1.281M", "0"]);
    }

    #[test]
    fn shares_stay_between_zero_and_one_whatever_their_bars() {
        assert_eq!(range(&[(0.9, Some((0.2, 1.6))), (0.1, Some((-0.3, 0.5)))]), (0.0, 1.0));
        assert!(range(&[(1.9, Some((1.2, 2.6)))]).1 >= 2.6);
    }

    #[test]
    fn panels_share_a_range_unless_one_would_be_squeezed() {
        let wide = vec![(0.0, None), (1.0, None)];
        assert_eq!(ranges(&[wide.clone(), vec![(0.2, None), (0.9, None)]])[1], (0.0, 1.0));
        assert_ne!(ranges(&[wide, vec![(0.9, None), (0.91, None)]])[1], (0.0, 1.0));
    }
}
