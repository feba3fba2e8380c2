//! Curves of what a classifier does at every threshold, made again from its predictions.
//!
//! ROC and precision-recall curves of repeats are averaged vertically, on 101 equal steps of the horizontal axis
//! (Fawcett 2006, algorithm 3): between points of a ROC curve linearly, of a precision-recall curve by the next
//! point of higher recall, since lines between those would flatter (Davis & Goadrich 2006). Without a class, the
//! curves of all classes that have both sides are averaged too; of two exclusive classes the second is positive.
//! A reliability diagram pools the rows of repeats in 15 bins of equal width.

use serde_json::Value;

use super::{Look, Marks, PanelSvg, Plot, Scale, WIDTH, axis, marker, number, whisker};
use crate::{
    error::{Error, Result},
    eval::{
        metric::{
            calibration::ece,
            probability::{sigmoid, softmax},
            ranking::{auroc, average_precision},
        },
        statistic::{mean, variance},
    },
    report::{
        frame::{Rows, natural_order},
        html::escape,
        predictions::{Predictions, Truths},
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagnostic {
    Roc,
    PrecisionRecall,
    Reliability,
}

/// What one cell predicted, and where it belongs in a plot.
#[derive(Clone, Debug)]
pub struct Judged {
    pub panel: String,
    pub series: String,
    pub predictions: Predictions,
}

const STEPS: usize = 100;
const BINS: usize = 15;

/// One class of one run: a score a row, and whether the row is of the class. Unknown truths are left out.
type Side = (Vec<f64>, Vec<bool>);

/// The curves of several runs by panel and series.
///
/// # Errors
/// A class that is not there; no run with rows of both sides, naming class and counts.
pub fn operating(kind: Diagnostic, runs: &[Judged], class: Option<&str>, title: &str) -> Result<Plot> {
    let names = |key: fn(&Judged) -> &str| {
        let mut all: Vec<Value> = runs.iter().map(|r| Value::from(key(r))).collect();
        all.sort_by(natural_order);
        all.dedup();
        all.into_iter().map(|v| v.as_str().unwrap_or_default().to_string()).collect::<Vec<String>>()
    };
    let (panels, series) = (names(|r| &r.panel), names(|r| &r.series));
    let mut drawn = Vec::new();
    let mut table = Rows::new();
    let mut most = 0;
    for panel in &panels {
        let mut curves = Vec::new();
        for (order, name) in series.iter().enumerate() {
            let of: Vec<&Judged> = runs.iter().filter(|r| r.panel == *panel && r.series == *name).collect();
            if of.is_empty() {
                continue;
            }
            let curve = match kind {
                Diagnostic::Reliability => reliability(&of, class)?,
                _ => swept(kind, &of, class)?,
            };
            most = most.max(of.len());
            let mut row: Vec<(&str, Value)> = Vec::new();
            if panels.len() > 1 {
                row.push(("panel", Value::from(panel.as_str())));
            }
            if series.len() > 1 {
                row.push(("series", Value::from(name.as_str())));
            }
            row.extend([
                ("runs", Value::from(of.len())),
                (kind.summary(), curve.value.map_or(Value::Null, Value::from)),
                ("deviation", curve.deviation.map_or(Value::Null, Value::from)),
            ]);
            table.push(row);
            curves.push((order, name.as_str(), curve));
        }
        drawn.push(draw(kind, panel, &curves));
    }
    let what = match class {
        Some(class) => format!("Class {class}."),
        None if kind == Diagnostic::Reliability => "Confidence in what was predicted.".into(),
        None => "Mean over the classes that have both sides in the test set; of two classes the second.".into(),
    };
    let legend = if series.len() > 1 { (0..).map(Look::of).zip(series).collect() } else { Vec::new() };
    Ok(Plot {
        title: title.into(),
        caption: format!("{what} {}", kind.caption(most)),
        panels: drawn,
        legend,
        legend_title: String::new(),
        data: Some(table.frame()?),
        marks: if kind == Diagnostic::Reliability { Marks::Points } else { Marks::Lines },
    })
}

impl Diagnostic {
    fn summary(self) -> &'static str {
        match self {
            Diagnostic::Roc => "AUROC",
            Diagnostic::PrecisionRecall => "AP",
            Diagnostic::Reliability => "ECE",
        }
    }

    fn axes(self) -> (&'static str, &'static str) {
        match self {
            Diagnostic::Roc => ("false positive rate", "true positive rate"),
            Diagnostic::PrecisionRecall => ("recall", "precision"),
            Diagnostic::Reliability => ("confidence", "share that is right"),
        }
    }

    fn caption(self, runs: usize) -> String {
        let spread = match (self, runs) {
            (Diagnostic::Reliability, _) => {
                return format!(
                    "{BINS} bins; bars: Wilson's 95 % interval; dashed: perfect calibration. ECE: mean ± standard deviation over up to {runs} runs."
                );
            }
            (_, 0 | 1) => "One run a curve.".to_string(),
            (_, n) => format!(
                "Curves: vertical means over up to {n} runs; bands and ±: one standard deviation (n − 1) between runs."
            ),
        };
        if self == Diagnostic::Roc { format!("{spread} Dashed: chance.") } else { spread }
    }
}

/// What is drawn of one series.
struct Curve {
    /// x, y and the ends of a band or bar.
    points: Vec<axis::Placed>,
    value: Option<f64>,
    deviation: Option<f64>,
}

fn named(p: &Predictions, class: &str) -> Result<usize> {
    p.names.iter().position(|n| n == class).ok_or_else(|| {
        let near = crate::error::nearest(class, p.names.iter().map(String::as_str));
        let hint = near.map_or(format!("classes are {}", p.names.join(", ")), |n| format!("did you mean {n}?"));
        Error::invalid(format!("no class {class} in the predictions")).with_hint(hint)
    })
}

/// Scores and truths of the classes asked for.
fn sides(p: &Predictions, class: Option<&str>) -> Result<Vec<(usize, Side)>> {
    let width = p.names.len();
    let wanted: Vec<usize> = match class {
        Some(class) => vec![named(p, class)?],
        None if width == 2 && matches!(p.truth, Truths::Class(_)) => vec![1],
        None => (0..width).collect(),
    };
    let scores = match &p.truth {
        Truths::Class(_) => softmax(&p.logits, width),
        Truths::Labels(_) => p.logits.iter().map(|&l| sigmoid(f64::from(l))).collect(),
    };
    let side = |c: usize| -> Side {
        (0..p.image.len())
            .filter_map(|i| {
                let positive = match &p.truth {
                    Truths::Class(truth) => (truth[i] >= 0).then_some(truth[i] as usize == c)?,
                    Truths::Labels(truth) => (truth[i * width + c] >= 0).then_some(truth[i * width + c] == 1)?,
                };
                Some((scores[i * width + c], positive))
            })
            .unzip()
    };
    Ok(wanted.into_iter().map(|c| (c, side(c))).collect())
}

/// Mean and deviation over runs of a curve over [0, 1].
fn swept(kind: Diagnostic, runs: &[&Judged], class: Option<&str>) -> Result<Curve> {
    let (mut curves, mut numbers) = (Vec::new(), Vec::new());
    let mut lacking = String::new();
    for run in runs {
        let mut of_classes: Vec<Vec<f64>> = Vec::new();
        let mut areas = Vec::new();
        for (c, (scores, positive)) in sides(&run.predictions, class)? {
            let area = match kind {
                Diagnostic::Roc => auroc(&scores, &positive),
                _ => average_precision(&scores, &positive),
            };
            match area {
                Some(area) => {
                    areas.push(area);
                    of_classes.push(sweep(kind, &scores, &positive));
                }
                None => {
                    let positives = positive.iter().filter(|p| **p).count();
                    let name = &run.predictions.names[c];
                    lacking = format!("{name} has {positives} positives among {} known rows", positive.len());
                }
            }
        }
        if let Some(area) = mean(&areas) {
            numbers.push(area);
            curves
                .push((0..=STEPS).map(|i| of_classes.iter().map(|c| c[i]).sum::<f64>() / areas.len() as f64).collect());
        }
    }
    if curves.is_empty() {
        return Err(Error::invalid(format!("no {} curve can be drawn: {lacking}", kind.summary())));
    }
    let curves: Vec<Vec<f64>> = curves;
    let points = (0..=STEPS)
        .map(|i| {
            let at: Vec<f64> = curves.iter().map(|c| c[i]).collect();
            let middle = mean(&at).unwrap_or_default();
            let band = variance(&at).map(|v| ((middle - v.sqrt()).max(0.0), (middle + v.sqrt()).min(1.0)));
            (i as f64 / STEPS as f64, middle, band)
        })
        .collect();
    Ok(Curve { points, value: mean(&numbers), deviation: variance(&numbers).map(f64::sqrt) })
}

/// The curve's height at each step of the horizontal axis. Both sides have rows.
fn sweep(kind: Diagnostic, scores: &[f64], positive: &[bool]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let (mut hits, mut misses) = (0.0, 0.0);
    // (false positives, true positives) after each distinct score.
    let mut corners = vec![(0.0, 0.0)];
    for (k, &i) in order.iter().enumerate() {
        if positive[i] {
            hits += 1.0
        } else {
            misses += 1.0
        }
        if order.get(k + 1).is_none_or(|&next| scores[next] != scores[i]) {
            corners.push((misses, hits));
        }
    }
    let at = |i: usize| i as f64 / STEPS as f64;
    if kind == Diagnostic::Roc {
        let mut k = 0;
        return (0..=STEPS)
            .map(|i| {
                let wanted = at(i) * misses;
                // The last corner at or before: a rise straight up belongs to the rate where it happens.
                while k + 1 < corners.len() && corners[k + 1].0 <= wanted {
                    k += 1;
                }
                let (x0, y0) = corners[k];
                let y = match corners.get(k + 1) {
                    Some(&(x1, y1)) => y0 + (y1 - y0) * (wanted - x0) / (x1 - x0),
                    None => y0,
                };
                y / hits
            })
            .collect();
    }
    let mut k = 1;
    (0..=STEPS)
        .map(|i| {
            while k + 1 < corners.len() && corners[k].1 < at(i) * hits - 1e-9 {
                k += 1;
            }
            corners[k].1 / (corners[k].0 + corners[k].1)
        })
        .collect()
}

/// Confidence against the share that is right: of what was predicted, or of one class.
fn reliability(runs: &[&Judged], class: Option<&str>) -> Result<Curve> {
    let mut bins = vec![(0.0, 0u64, 0u64); BINS];
    let mut errors = Vec::new();
    for run in runs {
        let p = &run.predictions;
        let width = p.names.len();
        let (confidence, right): Side = match (&p.truth, class) {
            (Truths::Class(truth), None) => softmax(&p.logits, width)
                .chunks(width.max(1))
                .zip(truth)
                .filter(|(_, t)| **t >= 0)
                .map(|(row, t)| {
                    let best = (0..width).fold(0, |best, i| if row[i] > row[best] { i } else { best });
                    (row[best], best == *t as usize)
                })
                .unzip(),
            _ => {
                let all = sides(p, class)?;
                all.into_iter().flat_map(|(_, (s, t))| s.into_iter().zip(t)).unzip()
            }
        };
        errors.extend(ece(&confidence, &right, BINS));
        for (c, r) in confidence.iter().zip(&right) {
            let bin = &mut bins[((c * BINS as f64) as usize).min(BINS - 1)];
            bin.0 += c;
            bin.1 += u64::from(*r);
            bin.2 += 1;
        }
    }
    if bins.iter().all(|b| b.2 == 0) {
        return Err(Error::invalid("no row with a known truth to draw a reliability diagram of"));
    }
    let points = bins
        .iter()
        .filter(|b| b.2 > 0)
        .map(|b| (b.0 / b.2 as f64, b.1 as f64 / b.2 as f64, Some(wilson(b.1, b.2))))
        .collect();
    Ok(Curve { points, value: mean(&errors), deviation: variance(&errors).map(f64::sqrt) })
}

/// Wilson's 95 % score interval of a share.
fn wilson(hits: u64, of: u64) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_540_054;
    let (n, p) = (of as f64, hits as f64 / of as f64);
    let scale = 1.0 + Z * Z / n;
    let centre = (p + Z * Z / (2.0 * n)) / scale;
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    (centre - half, centre + half)
}

fn draw(kind: Diagnostic, name: &str, curves: &[(usize, &str, Curve)]) -> PanelSvg {
    let (width, height) = (WIDTH, 340.0);
    let (across, up) = kind.axes();
    let mut f = axis::Frame::new((0.0, 1.0), up, width, height, 42.0);
    let x = Scale::linear(0.0, 1.0, f.left + 4.0, f.right - 4.0);
    f.numeric_x(&x, across, height);
    let mut body = std::mem::take(&mut f.body);
    if kind != Diagnostic::PrecisionRecall {
        body.push_str(&format!(
            "<path class=\"guide\" d=\"M{} {}L{} {}\"/>",
            number(x.at(0.0)),
            number(f.y.at(0.0)),
            number(x.at(1.0)),
            number(f.y.at(1.0))
        ));
    }
    let mut description = format!("{up} over {across}.");
    for (line, (order, series, curve)) in curves.iter().enumerate() {
        let place = |at: f64, y: f64| format!("{} {}", number(x.at(at)), number(f.y.at(y)));
        let path: Vec<String> = curve.points.iter().map(|p| place(p.0, p.1)).collect();
        body.push_str(&format!("<g class=\"{}\">", Look::of(*order).class()));
        if kind == Diagnostic::Reliability {
            for p in &curve.points {
                let (low, high) = p.2.unwrap_or((p.1, p.1));
                body.push_str(&whisker(x.at(p.0), (f.y.at(low), false), (f.y.at(high), false), true));
                body.push_str(&marker(*order, x.at(p.0), f.y.at(p.1)));
            }
        } else if curve.points.iter().all(|p| p.2.is_some()) {
            let upper = curve.points.iter().map(|p| place(p.0, p.2.map_or(p.1, |b| b.1)));
            let lower = curve.points.iter().rev().map(|p| place(p.0, p.2.map_or(p.1, |b| b.0)));
            let edge: Vec<String> = upper.chain(lower).collect();
            body.push_str(&format!("<path class=\"band\" d=\"M{}Z\"/>", edge.join("L")));
        }
        body.push_str(&format!("<path class=\"line\" d=\"M{}\"/></g>", path.join("L")));
        let number_of = curve.value.map_or("not defined".into(), |v| match curve.deviation {
            Some(d) => format!("{v:.3} ± {d:.3}"),
            None => format!("{v:.3}"),
        });
        // Where the curve is not: below a ROC curve, under the diagonal of a reliability diagram.
        let from_bottom = (curves.len() - line) as f64 * 16.0;
        let text = if series.is_empty() { format!("{} {number_of}", kind.summary()) } else { number_of.clone() };
        let left = if kind == Diagnostic::PrecisionRecall { f.left + 14.0 } else { f.right - 150.0 };
        let y = f.bottom - from_bottom;
        if curves.len() <= 8 {
            body.push_str(&format!(
                "<g transform=\"translate({},{})\">{}<text x=\"34\" y=\"10\">{}</text></g>",
                number(left),
                number(y - 6.0),
                Look::of(*order).key(if kind == Diagnostic::Reliability { Marks::Points } else { Marks::Lines }),
                escape(&text)
            ));
        }
        description.push_str(&format!(" {series}: {} {number_of}.", kind.summary()));
    }
    PanelSvg { title: name.into(), height, body, description }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(logits: Vec<f32>, truth: Vec<i32>) -> Judged {
        let n = truth.len();
        Judged {
            panel: String::new(),
            series: "a".into(),
            predictions: Predictions {
                image: (0..n).map(|i| i.to_string()).collect(),
                patient: None,
                names: vec!["no".into(), "yes".into()],
                logits: logits.into_iter().flat_map(|l| [0.0, l]).collect(),
                truth: Truths::Class(truth),
            },
        }
    }

    /// The areas under the drawn curves are the metrics': sklearn.metrics.roc_auc_score of these is 0.75.
    #[test]
    fn the_area_under_the_drawn_curve_is_the_auroc() {
        let (scores, positive) = (vec![0.1, 0.4, 0.35, 0.8], vec![false, false, true, true]);
        assert_eq!(auroc(&scores, &positive), Some(0.75));
        let curve = sweep(Diagnostic::Roc, &scores, &positive);
        let area: f64 = curve.windows(2).map(|w| (w[0] + w[1]) / 2.0 / STEPS as f64).sum();
        // Half a step is lost at the jump in the middle.
        assert!((area - 0.75).abs() < 0.5 / STEPS as f64, "{area}");
        assert_eq!((curve[0], curve[STEPS]), (0.5, 1.0));
    }

    #[test]
    fn precision_falls_by_steps() {
        let (scores, positive) = (vec![0.9, 0.8, 0.7, 0.6], vec![true, false, true, false]);
        let curve = sweep(Diagnostic::PrecisionRecall, &scores, &positive);
        assert_eq!((curve[0], curve[50]), (1.0, 1.0));
        assert!((curve[51] - 2.0 / 3.0).abs() < 1e-12 && (curve[100] - 2.0 / 3.0).abs() < 1e-12);
        let tied = sweep(Diagnostic::PrecisionRecall, &[0.5; 4], &positive);
        assert!(tied.iter().all(|p| *p == 0.5), "equal scores have one point, the prevalence");
    }

    #[test]
    fn wilson_is_the_textbook_interval() {
        // statsmodels.stats.proportion.proportion_confint(8, 10, method="wilson")
        let (low, high) = wilson(8, 10);
        assert!((low - 0.490_162_47).abs() < 1e-6 && (high - 0.943_317_8).abs() < 1e-6, "{low} {high}");
    }

    #[test]
    fn repeats_become_a_band_and_a_missing_side_is_named() {
        let runs =
            [judged(vec![-1.0, 0.5, 0.2, 2.0], vec![0, 0, 1, 1]), judged(vec![-1.0, 0.1, 0.2, 2.0], vec![0, 0, 1, 1])];
        for kind in [Diagnostic::Roc, Diagnostic::PrecisionRecall, Diagnostic::Reliability] {
            let plot = operating(kind, &runs, None, "t").unwrap();
            assert!(!plot.panels[0].body.contains("NaN"));
            plot.drawing().svg().unwrap();
        }
        let roc = operating(Diagnostic::Roc, &runs, Some("yes"), "t").unwrap();
        assert!(
            roc.panels[0].body.contains("band") && roc.panels[0].body.contains("0.875 ± 0.177"),
            "{}",
            roc.panels[0].body
        );
        let one_sided = [judged(vec![1.0, 2.0], vec![1, 1])];
        let e = operating(Diagnostic::Roc, &one_sided, None, "t").unwrap_err().to_string();
        assert!(e.contains("yes has 2 positives among 2 known rows"), "{e}");
        let e = operating(Diagnostic::Roc, &runs, Some("yess"), "t").unwrap_err();
        assert_eq!(e.hint(), Some("did you mean yes?"));
    }
}
