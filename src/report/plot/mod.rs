//! Plots as SVG.
//!
//! | file | draws |
//! |---|---|
//! | [`lines`] | means with error bars over shots (categories) or over a number, logarithmic where asked |
//! | [`mod@bars`] | grouped bars |
//! | [`curves`] | learning curves, one line a run |
//! | [`mod@fit`] | measured points beside a fitted law with its interval band |
//! | [`mod@operating`] | ROC, precision-recall and reliability curves, made again from predictions |
//! | [`matrix`] | confusion matrices, made again from predictions |
//! | [`mod@forest`] | differences with their intervals |
//! | [`mod@print`] | any of them as one SVG file or PNG, the same bytes on every machine |
//!
//! A plot is a row of panels that share one legend. Colours and inks are CSS variables, so a page's
//! light and dark themes apply; [`Plot::drawing`] gives the form for paper. Series differ in colour
//! (Okabe & Ito's palette, safe for colour-blind readers), in marker, and from the eighth on in dash.
//! Text is at least 12 units on a panel of 420: 7 pt where a panel is printed one column (8.8 cm) wide.

mod axis;
mod bars;
mod curves;
mod fit;
mod forest;
mod lines;
mod mark;
mod matrix;
mod operating;
mod print;

use super::{frame::Frame, html::escape};
pub use axis::Placed;
pub(crate) use axis::{Scale, short};
pub(crate) use mark::{Look, fit, marker, number, text_width, whisker};

pub use bars::bars;
pub use curves::{Curves, learning_curves};
pub use fit::{Law, scaling_fit};
pub use forest::{Differences, forest};
pub use lines::{Horizontal, curve, shots_curve};
pub use matrix::confusion;
pub use operating::{Diagnostic, Judged, operating};
pub use print::Drawing;

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
    /// Looks and names of the series; empty where there is only one.
    pub(crate) legend: Vec<(Look, String)>,
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
    /// Panels side by side, at most three, so that the last row is as full as it can be: four are two and two.
    fn across(&self) -> usize {
        let panels = self.panels.len().max(1);
        panels.div_ceil(panels.div_ceil(3))
    }

    /// The plot as HTML: figure, legend, panels, caption, data.
    pub fn render(&self, id: &str, files: &[&str]) -> String {
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
            for (look, name) in &self.legend {
                out.push_str(&format!(
                    "<li><svg class=\"key\" viewBox=\"0 0 28 12\" aria-hidden=\"true\">{}</svg>{}</li>",
                    look.key(self.marks),
                    escape(name)
                ));
            }
            out.push_str("</ul>\n");
        }
        let pairs = if self.across() == 2 { " pairs" } else { "" };
        out.push_str(&format!("<div class=\"panels{pairs}\">\n"));
        for (i, p) in self.panels.iter().enumerate() {
            let title = if p.title.is_empty() { String::new() } else { format!("<h4>{}</h4>", escape(&p.title)) };
            out.push_str(&format!(
                "<div class=\"panel\">{title}<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {h}\" role=\"img\" aria-labelledby=\"{id}-d{i}\"><desc id=\"{id}-d{i}\">{d}</desc>{b}</svg></div>\n",
                h = p.height,
                d = escape(&p.description),
                b = p.body
            ));
        }
        let links: Vec<String> = files
            .iter()
            .map(|f| {
                let form = f.rsplit('.').next().unwrap_or(f).to_uppercase();
                format!(" <a href=\"{}\">{}</a>", escape(f), escape(&form))
            })
            .collect();
        out.push_str(&format!("</div>\n<figcaption>{}{}</figcaption>\n", escape(&self.caption), links.concat()));
        if let Some(table) = self.data.as_ref().and_then(|f| super::html::Table::from_frame("", f).ok()) {
            out.push_str(&format!(
                "<details><summary>Numbers of this plot</summary>{}</details>\n",
                table.render(&format!("{id}-n"))
            ));
        }
        out.push_str("</figure>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        frame::Rows,
        summary::{Spec, summarise},
    };
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
        for svg in [plot.render("p", &[]), plot.drawing().svg().unwrap()] {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            let opened = svg.matches("<g>").count() + svg.matches("<g ").count();
            assert_eq!(opened, svg.matches("</g>").count());
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
            let summary = summarise(&frame, &spec).unwrap();
            sound(&shots_curve(&summary, "curve").unwrap());
            sound(&bars(&summary, "bars").unwrap());
        }
        let none = frame(1, &[json!(1)], |_, _, _| Value::Null);
        assert!(summarise(&none, &spec).unwrap_err().to_string().contains("no defined value"));
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
