//! Small SVG plots: lines over shots, bars by source, learning curves.
//!
//! A plot is a row of panels that share one legend. Colours and inks are CSS variables, so a page's
//! light and dark themes apply; [`Plot::standalone`] gives one SVG file that carries its own. Series
//! differ in colour (Okabe & Ito's palette, safe for colour-blind readers), in marker, and from the
//! eighth on in dash. Text is at least 12 units on a panel of 420, legible on a phone.

mod axis;
mod bars;
mod curves;
mod lines;

use super::{frame::Frame, html::escape};
pub(crate) use axis::Scale;

pub use bars::bars;
pub use curves::{Curves, learning_curves};
pub use lines::shots_curve;

/// Panel width in SVG units.
pub(crate) const WIDTH: f64 = 420.0;

/// One panel: the body of an SVG of [`WIDTH`] × `height`.
#[derive(Clone, Debug)]
pub struct PanelSvg {
    pub title: String,
    pub height: f64,
    pub body: String,
    /// What is to be seen, for readers who do not see it.
    pub description: String,
}

/// What a series looks like, and so its key in the legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    Bars,
    /// Lines with markers.
    Points,
    Lines,
}

/// Panels, a legend and a caption that names the error bars.
#[derive(Clone, Debug)]
pub struct Plot {
    pub title: String,
    pub caption: String,
    pub panels: Vec<PanelSvg>,
    /// Series names in the order of their colours; empty where there is only one.
    pub legend: Vec<String>,
    /// The legend's heading: what the series are.
    pub legend_title: String,
    /// The numbers shown, for a table under the plot.
    pub data: Option<Frame>,
    pub marks: Marks,
}

/// Inks and the palette in both themes. Yellow is last and darkened on light ground, where it would
/// be hard to see; on dark ground the sky blue leads instead of the deep one.
pub const CSS: &str = include_str!("plot.css");

impl Plot {
    /// The plot as HTML: figure, legend, panels, caption, data.
    pub fn render(&self, id: &str) -> String {
        let mut out = format!("<figure class=\"plot\" id=\"{id}\">\n<h3>{}</h3>\n", escape(&self.title));
        if !self.legend.is_empty() {
            out.push_str("<ul class=\"legend\"");
            if !self.legend_title.is_empty() {
                out.push_str(&format!(" aria-label=\"{}\"", escape(&self.legend_title)));
            }
            out.push('>');
            if !self.legend_title.is_empty() {
                out.push_str(&format!("<li class=\"what\">{}</li>", escape(&self.legend_title)));
            }
            for (i, name) in self.legend.iter().enumerate() {
                out.push_str(&format!(
                    "<li><svg class=\"key\" viewBox=\"0 0 28 12\" aria-hidden=\"true\">{}</svg>{}</li>",
                    key(i, self.marks),
                    escape(name)
                ));
            }
            out.push_str("</ul>\n");
        }
        out.push_str("<div class=\"panels\">\n");
        for (i, p) in self.panels.iter().enumerate() {
            let title = if p.title.is_empty() { String::new() } else { format!("<h4>{}</h4>", escape(&p.title)) };
            out.push_str(&format!(
                "<div class=\"panel\">{title}<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {h}\" role=\"img\" aria-labelledby=\"{id}-d{i}\"><desc id=\"{id}-d{i}\">{d}</desc>{b}</svg></div>\n",
                h = p.height,
                d = escape(&p.description),
                b = p.body
            ));
        }
        out.push_str(&format!("</div>\n<figcaption>{}</figcaption>\n", escape(&self.caption)));
        if let Some(table) = self.data.as_ref().and_then(|f| super::html::Table::from_frame("", f).ok()) {
            out.push_str(&format!(
                "<details><summary>Numbers of this plot</summary>{}</details>\n",
                table.render(&format!("{id}-n"))
            ));
        }
        out.push_str("</figure>\n");
        out
    }

    /// One SVG file with its own style, panels side by side (at most three), title and caption in it.
    pub fn standalone(&self) -> String {
        let across = self.panels.len().clamp(1, 3);
        let width = across as f64 * WIDTH;
        let mut body = format!("<text class=\"title\" x=\"12\" y=\"24\">{}</text>", escape(&self.title));
        let mut y = 40.0;
        let mut x = 12.0;
        for (i, name) in self.legend.iter().enumerate() {
            let need = 54.0 + 1.08 * text_width(name);
            if x + need > width && x > 12.0 {
                x = 12.0;
                y += 20.0;
            }
            body.push_str(&format!(
                "<g transform=\"translate({},{})\">{}<text x=\"34\" y=\"10\">{}</text></g>",
                number(x),
                number(y),
                key(i, self.marks),
                escape(name)
            ));
            x += need;
        }
        if !self.legend.is_empty() {
            y += 26.0;
        }
        for row in self.panels.chunks(across) {
            let height = row.iter().map(|p| p.height).fold(0.0, f64::max);
            for (i, p) in row.iter().enumerate() {
                let at = i as f64 * WIDTH;
                body.push_str(&format!(
                    "<text class=\"panel-title\" x=\"{}\" y=\"{}\">{}</text><g transform=\"translate({},{})\">{}</g>",
                    number(at + 12.0),
                    number(y + 12.0),
                    escape(&p.title),
                    number(at),
                    number(y + 18.0),
                    p.body
                ));
            }
            y += height + 30.0;
        }
        body.push_str(&format!(
            "<text class=\"tick\" x=\"12\" y=\"{}\">{}</text>",
            number(y + 4.0),
            escape(&self.caption)
        ));
        let height = y + 18.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\"><style>{CSS}svg{{background:var(--bg)}}</style>{body}</svg>\n",
            width = number(width),
            height = number(height)
        )
    }
}

/// Class names of a series: colour and dash.
pub(crate) fn style(series: usize) -> String {
    let dash = series / 7;
    if dash == 0 { format!("s{}", series % 7) } else { format!("s{} d{}", series % 7, (dash - 1) % 2 + 1) }
}

fn key(series: usize, marks: Marks) -> String {
    if marks == Marks::Bars {
        return format!(
            "<rect class=\"bar {}\" x=\"7\" y=\"1\" width=\"14\" height=\"10\" rx=\"1.5\"/>",
            style(series)
        );
    }
    let mark = if marks == Marks::Points { marker(series, 14.0, 6.0) } else { String::new() };
    format!("<g class=\"{}\"><path class=\"line\" d=\"M2 6H26\"/>{mark}</g>", style(series))
}

/// The marker of a series, about 7 units across.
pub(crate) fn marker(series: usize, x: f64, y: f64) -> String {
    let at = |dx: f64, dy: f64| format!("{} {}", number(x + dx), number(y + dy));
    let polygon = |points: &[(f64, f64)]| {
        let all: Vec<String> = points.iter().map(|p| at(p.0, p.1)).collect();
        format!("<path class=\"mark\" d=\"M{}Z\"/>", all.join("L"))
    };
    match series % 7 {
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

/// A coordinate with at most two decimals, so that bytes are short and equal everywhere.
pub(crate) fn number(x: f64) -> String {
    let rounded = (x * 100.0).round() / 100.0;
    if rounded == 0.0 { "0".into() } else { rounded.to_string() }
}

/// Width of 12-unit text in a proportional sans, estimated.
pub(crate) fn text_width(text: &str) -> f64 {
    text.chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '.' | ',' | ':' | '|' | '\'' | ' ' | 'f' | 't' | 'r' => 3.8,
            'm' | 'w' | 'M' | 'W' | '%' => 10.2,
            c if c.is_uppercase() => 8.2,
            _ => 6.8,
        })
        .sum()
}

/// The text cut to fit, with an ellipsis.
pub(crate) fn fit(text: &str, width: f64) -> String {
    if text_width(text) <= width {
        return text.into();
    }
    let mut out = String::new();
    for c in text.chars() {
        if text_width(&out) + 14.0 > width {
            break;
        }
        out.push(c);
    }
    out.trim_end().to_string() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{frame::Rows, summary::Spec};
    use serde_json::{Value, json};

    fn frame(sources: usize, xs: &[Value], value: impl Fn(usize, usize, u64) -> Value) -> Frame {
        let mut rows = Rows::new();
        for s in 0..sources {
            for (i, x) in xs.iter().enumerate() {
                for seed in 0..2 {
                    rows.push([
                        ("source", json!(format!("a source with a rather long name, number {s}"))),
                        ("x", x.clone()),
                        ("seed", json!(seed)),
                        ("y", value(s, i, seed)),
                    ]);
                }
            }
        }
        rows.frame().unwrap()
    }

    fn sound(plot: &Plot) {
        for svg in [plot.render("p"), plot.standalone()] {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
        }
    }

    #[test]
    fn odd_results_still_draw() {
        let long = json!("a target that nobody would call by such a name on a narrow phone");
        let spec = Spec::new("x", "y").color(&["source"]);
        let many = frame(12, &[json!(1), long, json!("full")], |s, i, seed| json!((s + i) as f64 + 0.1 * seed as f64));
        let equal = frame(1, &[json!(5)], |_, _, _| json!(0.5));
        let below = frame(2, &[json!(1), json!(2)], |s, i, _| json!(-1e6 * (s + i) as f64));
        let holes = frame(2, &[json!(1), json!(2)], |s, i, _| if s == i { Value::Null } else { json!(1e-7) });
        for frame in [many, equal, below, holes] {
            sound(&shots_curve(&frame, &spec, "curve").unwrap());
            sound(&bars(&frame, &spec, "bars").unwrap());
        }
        let none = frame(1, &[json!(1)], |_, _, _| Value::Null);
        assert!(shots_curve(&none, &spec, "").unwrap_err().to_string().contains("no defined value"));
    }

    #[test]
    fn twelve_series_differ_in_colour_or_dash() {
        let styles: std::collections::BTreeSet<String> = (0..12).map(style).collect();
        assert_eq!(styles.len(), 12);
    }

    #[test]
    fn learning_curves_have_one_line_a_run_and_shrink_long_ones() {
        let axes = ["source".to_string(), "seed".to_string()];
        let steps: Vec<Value> = (0..1000).map(|i| json!(i)).collect();
        let frame = frame(2, &steps, |s, i, _| json!(1.0 / (1 + i + s) as f64));
        let columns = Curves { x: "x", y: "y", axes: &axes, color: &axes[..1], repeat: &axes[1..] };
        let plot = learning_curves(&frame, &columns, "loss").unwrap();
        sound(&plot);
        assert_eq!(plot.panels[0].body.matches("line thin").count(), 4);
        assert!(plot.caption.contains("Means over 160 stretches"), "{}", plot.caption);
        assert!(plot.panels[0].body.len() < 20_000);
    }
}
