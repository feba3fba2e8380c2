//! Confusion matrices from predictions: shares of each true class, with counts on demand.

use serde_json::Value;

use super::{Judged, Marks, PanelSvg, Plot, WIDTH, fit, number, text_width};
use crate::{
    error::{Error, Result},
    eval::metric::{accuracy::arg_max, confusion::Confusion, probability::sigmoid},
    report::{
        frame::{Frame, Rows},
        html::escape,
        predictions::{Predictions, Truths},
    },
};

/// A name, its classes, their matrix, and how many runs it sums.
type Group = (String, Vec<String>, Confusion, usize);

/// Shares are printed in matrices of at most so many classes.
const PRINTED: usize = 16;

/// One matrix a series and panel, summed over its runs. Of findings that do not exclude each other, `class` is
/// needed and gives absent against present at a probability of one half.
///
/// # Errors
/// Findings without a class; a class that is not there; matrices of different classes in one panel.
pub fn confusion(runs: &[Judged], class: Option<&str>, title: &str) -> Result<Plot> {
    let mut groups: Vec<Group> = Vec::new();
    for run in runs {
        let name: Vec<&str> = [run.panel.as_str(), run.series.as_str()].into_iter().filter(|n| !n.is_empty()).collect();
        let name = name.join(" · ");
        let (classes, matrix) = matrix(&run.predictions, class)?;
        match groups.iter_mut().find(|g| g.0 == name) {
            Some((_, known, sum, n)) if *known == classes => {
                sum.counts.iter_mut().zip(&matrix.counts).for_each(|(s, c)| *s += c);
                sum.unpredicted += matrix.unpredicted;
                *n += 1;
            }
            Some(_) => {
                return Err(Error::invalid(format!("{name} holds predictions of different classes"))
                    .with_hint("name the axis that tells them apart under panel"));
            }
            None => groups.push((name, classes, matrix, 1)),
        }
    }
    let most = groups.iter().map(|g| g.3).max().unwrap_or(0);
    let panels = groups.iter().map(|(name, classes, matrix, _)| panel(name, classes, matrix)).collect();
    let runs = if most > 1 { format!(" Rows of up to {most} runs are summed.") } else { String::new() };
    Ok(Plot {
        title: title.into(),
        caption: format!("Shares of each true class (rows); the darker, the larger.{runs}"),
        panels,
        legend: Vec::new(),
        legend_title: String::new(),
        data: Some(counts(&groups)?),
        marks: Marks::Bars,
    })
}

/// `class, predicted, rows`, one row a cell that is not empty; more panels than one are named.
fn counts(groups: &[Group]) -> Result<Frame> {
    let mut rows = Rows::new();
    for (name, classes, matrix, _) in groups {
        for (class, truth) in classes.iter().enumerate() {
            for (predicted, said) in classes.iter().enumerate().filter(|(p, _)| matrix.count(class, *p) > 0) {
                let panel = (groups.len() > 1).then(|| ("panel", Value::from(name.as_str())));
                rows.push(panel.into_iter().chain([
                    ("class", Value::from(truth.as_str())),
                    ("predicted", Value::from(said.as_str())),
                    ("rows", Value::from(matrix.count(class, predicted))),
                ]));
            }
        }
    }
    rows.frame()
}

fn matrix(p: &Predictions, class: Option<&str>) -> Result<(Vec<String>, Confusion)> {
    let width = p.names.len();
    let at = class.map(|class| {
        p.names.iter().position(|n| n == class).ok_or_else(|| {
            Error::invalid(format!("no class {class} in the predictions"))
                .with_hint(format!("classes are {}", p.names.join(", ")))
        })
    });
    match (&p.truth, at.transpose()?) {
        (Truths::Class(truth), None) => {
            let logits: Vec<f64> = p.logits.iter().map(|&l| f64::from(l)).collect();
            let predicted: Vec<Option<usize>> = logits.chunks(width.max(1)).map(arg_max).collect();
            Ok((p.names.clone(), Confusion::new(&predicted, truth, width)))
        }
        (Truths::Class(_), Some(_)) => {
            Err(Error::invalid("a confusion matrix of exclusive classes has all of them").with_hint("leave class out"))
        }
        (Truths::Labels(_), None) => {
            Err(Error::invalid("findings do not exclude each other, so they have no common confusion matrix")
                .with_hint(format!("name one as class: {}", p.names.join(", "))))
        }
        (Truths::Labels(truth), Some(c)) => {
            let column = |i: usize| i * width + c;
            let truth: Vec<i32> = (0..p.image.len()).map(|i| i32::from(truth[column(i)])).collect();
            let said = |i: usize| {
                p.logits.get(column(i)).filter(|l| !l.is_nan()).map(|&l| usize::from(sigmoid(f64::from(l)) >= 0.5))
            };
            let predicted: Vec<Option<usize>> = (0..truth.len()).map(said).collect();
            Ok((vec![format!("no {}", p.names[c]), p.names[c].clone()], Confusion::new(&predicted, &truth, 2)))
        }
    }
}

fn panel(name: &str, classes: &[String], matrix: &Confusion) -> PanelSvg {
    let n = classes.len().max(1);
    let widest = classes.iter().map(|c| text_width(c)).fold(0.0, f64::max).min(110.0);
    let left = widest + 30.0;
    let side = ((WIDTH - left - 14.0) / n as f64).min(56.0);
    let top = 10.0;
    let bottom = top + side * n as f64;
    let upright = classes.iter().all(|c| text_width(c) < side - 4.0);
    let mut body = String::new();
    for (row, class) in classes.iter().enumerate() {
        let total: u64 = (0..n).map(|p| matrix.count(row, p)).sum();
        let middle = top + (row as f64 + 0.5) * side;
        body.push_str(&format!(
            "<text class=\"tick end\" x=\"{}\" y=\"{}\">{}</text>",
            number(left - 6.0),
            number(middle + 4.0),
            escape(&fit(class, 110.0))
        ));
        for (column, said) in classes.iter().enumerate() {
            let count = matrix.count(row, column);
            let share = if total > 0 { count as f64 / total as f64 } else { 0.0 };
            let (x, y) = (left + column as f64 * side, top + row as f64 * side);
            body.push_str(&format!(
                "<g><rect class=\"cell s0\" x=\"{}\" y=\"{}\" width=\"{s}\" height=\"{s}\" fill-opacity=\"{}\"/>",
                number(x),
                number(y),
                number(0.04 + 0.96 * share),
                s = number((side - 1.0).max(0.5))
            ));
            if n <= PRINTED && side >= 26.0 {
                let text = if total == 0 { "–".into() } else { format!("{share:.2}") };
                // White on dark: the blue at 0.6 and more has 4.5 to 1 against white.
                let inverse = if share >= 0.6 { " inverse" } else { "" };
                body.push_str(&format!(
                    "<text class=\"mid{inverse}\" x=\"{}\" y=\"{}\">{text}</text>",
                    number(x + side / 2.0),
                    number(y + side / 2.0 + 4.0)
                ));
            }
            let told = format!("{class} called {said}: {count} of {total}");
            body.push_str(&format!("<title>{}</title></g>", escape(&told)));
        }
    }
    for (column, class) in classes.iter().enumerate() {
        let x = left + (column as f64 + 0.5) * side;
        body.push_str(&if upright {
            format!(
                "<text class=\"tick mid\" x=\"{}\" y=\"{}\">{}</text>",
                number(x),
                number(bottom + 16.0),
                escape(class)
            )
        } else {
            format!(
                "<text class=\"tick end\" transform=\"translate({},{}) rotate(-40)\">{}</text>",
                number(x + 4.0),
                number(bottom + 13.0),
                escape(&fit(class, 110.0))
            )
        });
    }
    let below = if upright { 22.0 } else { 16.0 + 0.7 * widest };
    body.push_str(&format!(
        "<text class=\"mid\" x=\"{}\" y=\"{}\">predicted</text><text class=\"mid\" transform=\"translate(12,{}) rotate(-90)\">true</text>",
        number(left + side * n as f64 / 2.0),
        number(bottom + below + 14.0),
        number((top + bottom) / 2.0)
    ));
    let right: u64 = (0..n).map(|i| matrix.count(i, i)).sum();
    let all: u64 = matrix.counts.iter().sum();
    let unpredicted =
        if matrix.unpredicted > 0 { format!(" {} rows had no prediction.", matrix.unpredicted) } else { String::new() };
    PanelSvg {
        title: name.into(),
        height: bottom + below + 22.0,
        body,
        description: format!("Confusion of {n} classes: {right} of {all} rows on the diagonal.{unpredicted}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::frame::values;

    fn judged(series: &str, truth: Truths) -> Judged {
        let predictions = Predictions {
            image: vec!["a".into(), "b".into(), "c".into()],
            patient: None,
            names: vec!["cat".into(), "dog".into()],
            logits: vec![2.0, 1.0, 0.0, 3.0, 1.0, 0.0],
            truth,
        };
        Judged { panel: String::new(), series: series.into(), predictions }
    }

    #[test]
    fn runs_are_summed_and_unknown_truths_left_out() {
        let runs = [judged("a", Truths::Class(vec![0, 1, 1])), judged("a", Truths::Class(vec![0, 0, -1]))];
        let plot = confusion(&runs, None, "t").unwrap();
        let data = plot.data.as_ref().unwrap();
        let rows: Vec<i64> = values(data, "rows").unwrap().iter().filter_map(|v| v.as_i64()).collect();
        // cat as cat twice, cat as dog once, dog as cat once, dog as dog once.
        assert_eq!(rows, [2, 1, 1, 1]);
        assert!(plot.panels[0].description.contains("3 of 5 rows"), "{}", plot.panels[0].description);
        plot.drawing().png().unwrap();
    }

    #[test]
    fn findings_need_a_class() {
        let runs = [judged("a", Truths::Labels(vec![1, 0, 0, 1, -1, 1]))];
        assert!(confusion(&runs, None, "t").unwrap_err().hint().unwrap().contains("cat, dog"));
        let plot = confusion(&runs, Some("dog"), "t").unwrap();
        assert!(plot.panels[0].description.contains("2 of 3 rows"), "{}", plot.panels[0].description);
    }
}
