//! Axes: round ticks, numbers as people write them, a scale from data to SVG units.

use super::{number, text_width};

/// From data to SVG units.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub low: f64,
    pub high: f64,
    pub from: f64,
    pub to: f64,
}

impl Scale {
    pub fn at(&self, v: f64) -> f64 {
        let share = if self.high > self.low { (v - self.low) / (self.high - self.low) } else { 0.5 };
        self.from + share * (self.to - self.from)
    }
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
        let y = Scale { low: range.0, high: range.1, from: bottom, to: top };
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
