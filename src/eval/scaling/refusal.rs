//! When points cannot bear a law, in words.
//!
//! A curve through few or close sizes says nothing about an exponent, and one through errors that do not fall says
//! nothing at all. Every check looks at means over the runs of a size.

use super::{Law, Observation};

/// What points must offer.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Distinct sizes along the axis of a law over one size; 3 of each, for a law over both.
    pub sizes: usize,
    /// Largest size / smallest size.
    pub span: f64,
}

impl Default for Demand {
    fn default() -> Self {
        Demand { sizes: 4, span: 4.0 }
    }
}

/// Sizes of each axis that a law over both needs.
const EACH: usize = 3;

/// Mean error by size, from the smallest size up.
pub fn by_size(points: &[Observation], size: impl Fn(&Observation) -> f64) -> Vec<(f64, f64)> {
    let mut sizes: Vec<f64> = points.iter().map(&size).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    sizes
        .into_iter()
        .map(|s| {
            let of: Vec<f64> = points.iter().filter(|p| size(p) == s).map(|p| p.error).collect();
            (s, of.iter().sum::<f64>() / of.len() as f64)
        })
        .collect()
}

/// Why the law cannot be fitted to these points, or `None`. `logarithms`: the loss needs errors above 0.
pub fn refuse(law: Law, points: &[Observation], demand: Demand, logarithms: bool) -> Option<String> {
    if points.is_empty() {
        return Some("no run has a value".into());
    }
    if let Some(p) = points.iter().find(|p| !(p.data > 0.0 && p.model > 0.0)) {
        return Some(format!("a size of {} is not above 0", p.data.min(p.model)));
    }
    if let Some(p) = points.iter().find(|p| p.error < 0.0) {
        return Some(format!("an error of {} is below 0: is the metric a share?", p.error));
    }
    if logarithms && let Some(p) = points.iter().find(|p| p.error == 0.0) {
        return Some(format!("the error at size {} is 0, which has no logarithm; use loss: least_squares", p.data));
    }
    if law.over_both() { both(law, points, demand) } else { one(law, &by_size(points, |p| p.data), demand, "sizes") }
}

fn one(law: Law, means: &[(f64, f64)], demand: Demand, what: &str) -> Option<String> {
    let need = demand.sizes.max(law.parameters().len() + 1);
    enough(means, need, demand.span, what).or_else(|| falling(means))
}

fn enough(means: &[(f64, f64)], need: usize, span: f64, what: &str) -> Option<String> {
    let (first, last) = (means.first()?, means.last()?);
    if means.len() == 1 {
        return Some(format!("one of the {what} only ({}): nothing can be said about scale", first.0));
    }
    if means.len() < need {
        return Some(format!("{} {what}, {need} are needed", means.len()));
    }
    let reach = last.0 / first.0;
    (reach < span).then(|| format!("the {what} span a factor of {reach:.3}, {span} is needed"))
}

/// Errors that are constant, rise, or wander.
fn falling(means: &[(f64, f64)]) -> Option<String> {
    let (first, last) = (means.first()?, means.last()?);
    if means.iter().all(|m| (m.1 - first.1).abs() <= 1e-12 * first.1.abs()) {
        return Some(format!("the error is {:.4} at every size", first.1));
    }
    let fall = first.1 - last.1;
    if fall <= 0.0 {
        return Some(format!(
            "the error does not fall with size: {:.4} at {}, {:.4} at {}",
            first.1, first.0, last.1, last.0
        ));
    }
    let rise = means.windows(2).max_by(|a, b| (a[1].1 - a[0].1).total_cmp(&(b[1].1 - b[0].1)))?;
    let by = rise[1].1 - rise[0].1;
    (by > 0.5 * fall).then(|| {
        format!(
            "the error is not monotone: it rises by {by:.4} from size {} to {}, and falls by {fall:.4} in all",
            rise[0].0, rise[1].0
        )
    })
}

/// A size of a run.
type Size = fn(&Observation) -> f64;

fn both(law: Law, points: &[Observation], demand: Demand) -> Option<String> {
    let axes: [(&str, Size, Size); 2] =
        [("data sizes", |p| p.data, |p| p.model), ("model sizes", |p| p.model, |p| p.data)];
    for (what, size, other) in axes {
        let means = by_size(points, size);
        if let Some(why) = enough(&means, EACH, demand.span, what) {
            return Some(why);
        }
        // Of the curves at one other size, most must fall: their mean would hide which sizes were run together.
        let mut curves = Vec::new();
        for (at, _) in by_size(points, other) {
            let of: Vec<Observation> = points.iter().filter(|p| other(p) == at).copied().collect();
            let means = by_size(&of, size);
            if means.len() > 1 {
                curves.push(falling(&means));
            }
        }
        let bad: Vec<String> = curves.iter().flatten().cloned().collect();
        if curves.is_empty() || 2 * bad.len() > curves.len() {
            let first = bad.into_iter().next().unwrap_or_else(|| "no two of them were run beside the same".into());
            return Some(format!("over {what}: {first}"));
        }
    }
    let mut pairs: Vec<(f64, f64)> = points.iter().map(|p| (p.data, p.model)).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    pairs.dedup();
    let need = law.parameters().len() + 1;
    (pairs.len() < need).then(|| format!("{} pairs of data and model size, {need} are needed", pairs.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(runs: &[(f64, f64)]) -> Vec<Observation> {
        runs.iter().map(|&(data, error)| Observation { data, model: 1.0, error }).collect()
    }

    fn why(runs: &[(f64, f64)]) -> String {
        refuse(Law::PurePowerLaw, &points(runs), Demand::default(), true).unwrap_or_default()
    }

    #[test]
    fn every_reason_names_its_sizes_and_numbers() {
        assert_eq!(why(&[]), "no run has a value");
        assert_eq!(why(&[(10.0, 0.4), (10.0, 0.5)]), "one of the sizes only (10): nothing can be said about scale");
        assert_eq!(why(&[(10.0, 0.4), (20.0, 0.3), (30.0, 0.2)]), "3 sizes, 4 are needed");
        let near = [(10.0, 0.4), (12.0, 0.39), (14.0, 0.38), (16.0, 0.37)];
        assert_eq!(why(&near), "the sizes span a factor of 1.600, 4 is needed");
        let flat = [(10.0, 0.5), (100.0, 0.5), (1000.0, 0.5), (10_000.0, 0.5)];
        assert_eq!(why(&flat), "the error is 0.5000 at every size");
        let up = [(10.0, 0.3), (100.0, 0.35), (1000.0, 0.33), (10_000.0, 0.4)];
        assert_eq!(why(&up), "the error does not fall with size: 0.3000 at 10, 0.4000 at 10000");
        let wander = [(10.0, 0.4), (100.0, 0.2), (1000.0, 0.35), (10_000.0, 0.25)];
        assert_eq!(
            why(&wander),
            "the error is not monotone: it rises by 0.1500 from size 100 to 1000, and falls by 0.1500 in all"
        );
        assert!(why(&[(10.0, 0.4), (100.0, 0.0)]).contains("has no logarithm"));
        assert!(why(&[(0.0, 0.4)]).contains("not above 0"));
        assert!(why(&[(10.0, -4.0)]).contains("is the metric a share?"));
        let falls = [(10.0, 0.4), (100.0, 0.3), (1000.0, 0.31), (10_000.0, 0.2)];
        assert_eq!(refuse(Law::PowerLaw, &points(&falls), Demand::default(), true), None);
    }

    #[test]
    fn a_law_over_both_needs_both() {
        let grid = |models: &[f64]| -> Vec<Observation> {
            [100.0, 1000.0, 10_000.0]
                .into_iter()
                .flat_map(|data: f64| {
                    models.iter().map(move |&model| Observation {
                        data,
                        model,
                        error: data.powf(-0.3) + model.powf(-0.2),
                    })
                })
                .collect()
        };
        let joint = |models: &[f64]| refuse(Law::Joint, &grid(models), Demand::default(), true);
        assert_eq!(joint(&[1e5, 1e6, 1e7]), None);
        assert_eq!(joint(&[1e5, 1e6]), Some("2 model sizes, 3 are needed".into()));
        assert!(joint(&[1e5]).unwrap().starts_with("one of the model sizes only"));
        let mut up = grid(&[1e5, 1e6, 1e7]);
        up.iter_mut().for_each(|p| p.error = p.model.ln());
        let why = refuse(Law::Joint, &up, Demand::default(), true).unwrap();
        assert!(why.starts_with("over data sizes: the error is"), "{why}");
    }
}
