//! A curve in a terminal: braille dots, two by four a character, or stars where there is only ASCII.

use crate::report::{
    frame::{Frame, values},
    plot::short,
};

const WIDE: usize = 64;
const HIGH: usize = 12;

/// A column over `step`; `None` where either is missing or fewer than two points are defined.
pub fn curve(table: &Frame, column: &str, unicode: bool) -> Option<String> {
    let (x, y) = (values(table, "step").ok()?, values(table, column).ok()?);
    let points: Vec<(f64, f64)> = x.iter().zip(&y).filter_map(|(x, y)| Some((x.as_f64()?, y.as_f64()?))).collect();
    (points.len() > 1).then(|| draw(&points, column, unicode))
}

fn draw(points: &[(f64, f64)], name: &str, unicode: bool) -> String {
    let ends = |of: fn(&(f64, f64)) -> f64| {
        points.iter().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
    };
    let ((left, right), (low, high)) = (ends(|p| p.0), ends(|p| p.1));
    let (across, down) = if unicode { (2, 4) } else { (1, 1) };
    let (width, height) = (WIDE * across, HIGH * down);
    let at = |v: f64, low: f64, high: f64, n: usize| {
        let share = if high > low { (v - low) / (high - low) } else { 0.5 };
        (share * (n - 1) as f64).round() as usize
    };
    let mut dots = vec![false; width * height];
    // Lines between points, so that a curve of few points is one.
    for pair in points.windows(2) {
        let place =
            |p: &(f64, f64)| (at(p.0, left, right, width) as f64, (height - 1 - at(p.1, low, high, height)) as f64);
        let ((x0, y0), (x1, y1)) = (place(&pair[0]), place(&pair[1]));
        let steps = (x1 - x0).abs().max((y1 - y0).abs()).max(1.0) as usize;
        for i in 0..=steps {
            let t = i as f64 / steps as f64;
            let (x, y) = ((x0 + t * (x1 - x0)).round() as usize, (y0 + t * (y1 - y0)).round() as usize);
            dots[y * width + x] = true;
        }
    }
    let (top, bottom) = (format!("{high:.4}"), format!("{low:.4}"));
    let margin = top.len().max(bottom.len());
    let mut out = format!("{name}\n");
    for row in 0..HIGH {
        let label = match row {
            0 => top.as_str(),
            r if r == HIGH - 1 => bottom.as_str(),
            _ => "",
        };
        let line: String = (0..WIDE).map(|column| glyph(&dots, width, row, column, unicode)).collect();
        let bar = if unicode { '│' } else { '|' };
        out.push_str(format!("{label:>margin$} {bar}{line}").trim_end());
        out.push('\n');
    }
    let (rule, corner) = if unicode { ('─', '└') } else { ('-', '+') };
    out.push_str(&format!("{:margin$} {corner}{}\n", "", rule.to_string().repeat(WIDE)));
    let (first, last) = (short(left), short(right));
    let gap = WIDE.saturating_sub(first.len() + last.len());
    out.push_str(&format!("{:margin$}  {first}{}{last}  step\n", "", " ".repeat(gap)));
    out
}

fn glyph(dots: &[bool], width: usize, row: usize, column: usize, unicode: bool) -> char {
    if !unicode {
        return if dots[row * width + column] { '*' } else { ' ' };
    }
    // The bits of U+2800: the left column's three upper dots, the right one's, then the lowest two.
    const BITS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
    let mut code = 0x2800;
    for (dy, bits) in BITS.iter().enumerate() {
        for (dx, bit) in bits.iter().enumerate() {
            if dots[(row * 4 + dy) * width + column * 2 + dx] {
                code |= bit;
            }
        }
    }
    if code == 0x2800 { ' ' } else { char::from_u32(code).unwrap_or(' ') }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::frame::Rows;
    use serde_json::{Value, json};

    fn table(values: &[Value]) -> Frame {
        let mut rows = Rows::new();
        values.iter().enumerate().for_each(|(i, v)| rows.push([("step", json!(i)), ("loss", v.clone())]));
        rows.frame().unwrap()
    }

    #[test]
    fn a_falling_curve_goes_from_the_upper_left_to_the_lower_right() {
        let falling = table(&[json!(2.0), json!(1.0), json!(0.0)]);
        let text = curve(&falling, "loss", false).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert!(
            rows[1].starts_with("2.0000 |**") && rows[12].starts_with("0.0000 |") && rows[12].ends_with('*'),
            "{text}"
        );
        assert!(rows[14].ends_with("step") && rows[14].trim_start().starts_with('0'), "{text}");
        let dots = curve(&falling, "loss", true).unwrap();
        assert!(dots.contains('│') && dots.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "{dots}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(curve(&table(&[json!(1.0), Value::Null]), "loss", true).is_none());
        assert!(curve(&table(&[json!(1.0), json!(1.0)]), "nothing", true).is_none());
        assert!(curve(&table(&[json!(1.0), json!(1.0)]), "loss", true).is_some(), "a flat curve has a middle");
    }
}
