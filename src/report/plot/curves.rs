//! Learning curves: one line a run, coloured by group.

use serde_json::Value;

use super::{Look, Marks, PanelSvg, Plot, Scale, WIDTH, axis, number};
use crate::{
    error::{Error, Result},
    report::{
        frame::{Frame, label, natural_order, values},
        html::escape,
    },
};

/// A longer curve is drawn as means over this many stretches of equal length.
const POINTS: usize = 160;

/// Which columns are what.
#[derive(Clone, Debug)]
pub struct Curves<'a> {
    /// A numeric column: `step` or `epoch`.
    pub x: &'a str,
    /// A numeric column: `loss`.
    pub y: &'a str,
    /// Columns whose values together tell one run from another.
    pub axes: &'a [String],
    /// Those of them that colour the lines. Repeats are lines of one colour; other axes are panels.
    pub color: &'a [String],
    /// Those of them that are repeats (`seed`).
    pub repeat: &'a [String],
}

struct Run {
    panel: String,
    color: String,
    points: Vec<(f64, f64)>,
}

/// # Errors
/// Unknown columns; no run with two points.
pub fn learning_curves(frame: &Frame, columns: &Curves<'_>, title: &str) -> Result<Plot> {
    let runs = runs(frame, columns)?;
    let longest = runs.iter().map(|r| r.points.len()).max().unwrap_or(0);
    if longest < 2 {
        return Err(Error::invalid(format!("no run has two values of {} to draw", columns.y)));
    }
    let ordered = |key: fn(&Run) -> &str| {
        let mut all: Vec<Value> = runs.iter().map(|r| Value::from(key(r))).collect();
        all.sort_by(natural_order);
        all.dedup();
        all.iter().map(label).collect::<Vec<String>>()
    };
    let (colors, names) = (ordered(|r| &r.color), ordered(|r| &r.panel));
    let of_panel = |name: &String| -> Vec<&Run> { runs.iter().filter(|r| r.panel == *name).collect() };
    let values: Vec<Vec<_>> =
        names.iter().map(|n| of_panel(n).iter().flat_map(|r| thin(&r.points)).map(|p| (p.1, None)).collect()).collect();
    let ranges = axis::ranges(&values);
    let panels =
        names.iter().zip(&ranges).map(|(name, range)| panel(name, &of_panel(name), &colors, *range, columns)).collect();
    let mut caption = format!("{} line{}, one a run.", runs.len(), if runs.len() == 1 { "" } else { "s" });
    if longest > POINTS {
        caption.push_str(&format!(" Means over {POINTS} stretches of each run."));
    }
    if ranges.iter().any(|r| *r != ranges[0]) {
        caption.push_str(" Vertical scales differ.");
    }
    let legend = if colors.len() > 1 { (0..).map(Look::of).zip(colors).collect() } else { Vec::new() };
    Ok(Plot {
        title: title.into(),
        caption,
        panels,
        legend,
        legend_title: columns.color.join(" · "),
        data: None,
        marks: Marks::Lines,
    })
}

fn runs(frame: &Frame, columns: &Curves<'_>) -> Result<Vec<Run>> {
    let (x, y) = (values(frame, columns.x)?, values(frame, columns.y)?);
    let axes: Vec<(&String, Vec<Value>)> =
        columns.axes.iter().map(|a| Ok((a, values(frame, a)?))).collect::<Result<_>>()?;
    let named = |row: usize, of: &dyn Fn(&String) -> bool| -> String {
        let parts: Vec<String> = axes
            .iter()
            .filter(|(a, v)| of(a) && !v[row].is_null())
            .map(|(a, v)| if v[row].is_string() { label(&v[row]) } else { format!("{a} {}", label(&v[row])) })
            .collect();
        parts.join(" · ")
    };
    let varies = |a: &String| axes.iter().any(|(n, v)| *n == a && v.iter().any(|x| *x != v[0]));
    let mut keys: Vec<Vec<Value>> = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for row in 0..frame.height() {
        let (Some(x), Some(y)) = (x[row].as_f64(), y[row].as_f64()) else { continue };
        let key: Vec<Value> = axes.iter().map(|(_, v)| v[row].clone()).collect();
        let at = match keys.iter().position(|k| *k == key) {
            Some(at) => at,
            None => {
                keys.push(key);
                runs.push(Run {
                    panel: named(row, &|a| !columns.color.contains(a) && !columns.repeat.contains(a) && varies(a)),
                    color: named(row, &|a| columns.color.contains(a)),
                    points: Vec::new(),
                });
                runs.len() - 1
            }
        };
        runs[at].points.push((x, y));
    }
    runs.iter_mut().for_each(|r| r.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
    Ok(runs)
}

fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    (0..POINTS)
        .map(|i| {
            let part = &points[i * points.len() / POINTS..(i + 1) * points.len() / POINTS];
            let n = part.len() as f64;
            (part.iter().map(|p| p.0).sum::<f64>() / n, part.iter().map(|p| p.1).sum::<f64>() / n)
        })
        .collect()
}

fn panel(name: &str, runs: &[&Run], colors: &[String], range: (f64, f64), columns: &Curves<'_>) -> PanelSvg {
    let height = 260.0;
    let mut f = axis::Frame::new(range, columns.y, WIDTH, height, 42.0);
    let ends = runs
        .iter()
        .flat_map(|r| &r.points)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |e, p| (e.0.min(p.0), e.1.max(p.0)));
    let scale = Scale::linear(ends.0, ends.1, f.left + 6.0, f.right - 6.0);
    f.numeric_x(&scale, columns.x, height);
    let mut body = std::mem::take(&mut f.body);
    let mut description = format!("{} over {}.", columns.y, columns.x);
    for run in runs {
        let order = colors.iter().position(|c| *c == run.color).unwrap_or(0);
        let points = thin(&run.points);
        let path: Vec<String> =
            points.iter().map(|(x, y)| format!("{} {}", number(scale.at(*x)), number(f.clip(*y).0))).collect();
        body.push_str(&format!(
            "<g class=\"{}\"><path class=\"line thin\" d=\"M{}\"><title>{}</title></path></g>",
            Look::of(order).class(),
            path.join("L"),
            escape(&run.color)
        ));
        if let Some(last) = run.points.last() {
            description.push_str(&format!(
                " {}: ends at {:.4}.",
                if run.color.is_empty() { "run" } else { &run.color },
                last.1
            ));
        }
    }
    PanelSvg { title: name.into(), height, body, description }
}
