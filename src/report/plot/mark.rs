//! What a series looks like: colour, dash and marker, and text measured in the bundled font.

use super::Marks;

/// How many colours there are before dashes tell series apart.
pub(crate) const COLOURS: usize = 7;

/// The look of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Its place in the palette.
    pub order: usize,
    /// From elsewhere (published): drawn dashed, hollow and pale beside one's own.
    pub other: bool,
}

impl Look {
    pub fn of(order: usize) -> Self {
        Look { order, other: false }
    }

    /// Class names: colour, dash, and whether it is from elsewhere.
    pub fn class(self) -> String {
        let dash = match self.order / COLOURS {
            0 => String::new(),
            n => format!(" d{}", (n - 1) % 2 + 1),
        };
        format!("s{}{dash}{}", self.order % COLOURS, if self.other { " other" } else { "" })
    }

    /// Its key in a legend of 28 × 12 units.
    pub fn key(self, marks: Marks) -> String {
        if marks == Marks::Bars {
            return format!(
                "<rect class=\"bar {}\" x=\"7\" y=\"1\" width=\"14\" height=\"10\" rx=\"1.5\"/>",
                self.class()
            );
        }
        let mark = if marks == Marks::Points { marker(self.order, 14.0, 6.0) } else { String::new() };
        format!("<g class=\"{}\"><path class=\"line\" d=\"M2 6H26\"/>{mark}</g>", self.class())
    }
}

/// The marker of a series, about 7 units across.
pub(crate) fn marker(series: usize, x: f64, y: f64) -> String {
    let at = |dx: f64, dy: f64| format!("{} {}", number(x + dx), number(y + dy));
    let polygon = |points: &[(f64, f64)]| {
        let all: Vec<String> = points.iter().map(|p| at(p.0, p.1)).collect();
        format!("<path class=\"mark\" d=\"M{}Z\"/>", all.join("L"))
    };
    match series % COLOURS {
        0 => format!("<circle class=\"mark\" cx=\"{}\" cy=\"{}\" r=\"3.6\"/>", number(x), number(y)),
        1 => polygon(&[(-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)]),
        2 => polygon(&[(0.0, -4.2), (4.0, 3.0), (-4.0, 3.0)]),
        3 => polygon(&[(0.0, -4.6), (4.6, 0.0), (0.0, 4.6), (-4.6, 0.0)]),
        4 => polygon(&[(0.0, 4.2), (4.0, -3.0), (-4.0, -3.0)]),
        5 => polygon(&[(-4.4, 0.0), (-2.2, -3.8), (2.2, -3.8), (4.4, 0.0), (2.2, 3.8), (-2.2, 3.8)]),
        _ => polygon(&[
            (-1.4, -4.0),
            (1.4, -4.0),
            (1.4, -1.4),
            (4.0, -1.4),
            (4.0, 1.4),
            (1.4, 1.4),
            (1.4, 4.0),
            (-1.4, 4.0),
            (-1.4, 1.4),
            (-4.0, 1.4),
            (-4.0, -1.4),
            (-1.4, -1.4),
        ]),
    }
}

/// A bar with caps, or an arrow head at an end that was cut; `upright` or lying.
pub(crate) fn whisker(at: f64, low: (f64, bool), high: (f64, bool), upright: bool) -> String {
    let place = |across: f64, along: f64| {
        let (x, y) = if upright { (at + across, along) } else { (along, at + across) };
        format!("{} {}", number(x), number(y))
    };
    let forward = (high.0 - low.0).signum();
    let end = |(along, cut): (f64, bool), inward: f64| {
        let back = if cut { along + 4.0 * inward * forward } else { along };
        format!("M{}L{}L{}", place(-3.0, back), place(0.0, along), place(3.0, back))
    };
    format!(
        "<path class=\"whisker\" d=\"M{}L{}{}{}\"/>",
        place(0.0, low.0),
        place(0.0, high.0),
        end(low, 1.0),
        end(high, -1.0)
    )
}

/// A coordinate with at most two decimals, so that bytes are short and equal everywhere.
pub(crate) fn number(x: f64) -> String {
    let rounded = (x * 100.0).round() / 100.0;
    if rounded == 0.0 { "0".into() } else { rounded.to_string() }
}

/// Advance widths of DejaVu Sans from space to tilde, in 1/2048 of the size.
const WIDTHS: [u16; 95] = [
    651, 821, 942, 1716, 1303, 1946, 1597, 563, 799, 799, 1024, 1716, 651, 739, 651, 690, 1303, 1303, 1303, 1303, 1303,
    1303, 1303, 1303, 1303, 1303, 690, 690, 1716, 1716, 1716, 1087, 2048, 1401, 1405, 1430, 1577, 1294, 1178, 1587,
    1540, 604, 604, 1343, 1141, 1767, 1532, 1612, 1235, 1612, 1423, 1300, 1251, 1499, 1401, 2025, 1403, 1251, 1403,
    799, 690, 799, 1716, 1024, 1024, 1255, 1300, 1126, 1300, 1260, 721, 1300, 1298, 569, 569, 1186, 569, 1995, 1298,
    1253, 1300, 1300, 842, 1067, 803, 1298, 1212, 1675, 1212, 1212, 1075, 1303, 690, 1303, 1716,
];

/// Width of 12-unit text in the bundled font, in which plots are printed. Fonts of screens are narrower.
pub(crate) fn text_width(text: &str) -> f64 {
    let wide = |c: char| WIDTHS.get((c as usize).wrapping_sub(32)).copied().unwrap_or(1300);
    text.chars().map(|c| f64::from(wide(c)) * 12.0 / 2048.0).sum()
}

/// The text cut to fit, with an ellipsis.
pub(crate) fn fit(text: &str, width: f64) -> String {
    if text_width(text) <= width {
        return text.into();
    }
    let mut out = String::new();
    let mut used = text_width("…");
    for c in text.chars() {
        used += text_width(c.encode_utf8(&mut [0; 4]));
        if used > width {
            break;
        }
        out.push(c);
    }
    out.trim_end().to_string() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_series_differ_in_colour_or_dash() {
        let styles: std::collections::BTreeSet<String> = (0..12).map(|i| Look::of(i).class()).collect();
        assert_eq!(styles.len(), 12);
        assert_ne!(Look { order: 1, other: true }.class(), Look::of(1).class());
    }

    #[test]
    fn cut_text_fits() {
        let long = "a source with a rather long name";
        for width in [30.0, 80.0, 120.0] {
            assert!(text_width(&fit(long, width)) <= width, "{width}");
        }
        assert_eq!(fit("tb", 50.0), "tb");
        assert!((text_width("MM") - 2.0 * 1767.0 * 12.0 / 2048.0).abs() < 1e-9);
    }
}
