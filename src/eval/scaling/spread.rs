//! How far a fit would move with other runs, and how far off it is at sizes that it has not seen.
//!
//! Where every size has at least two runs, runs are drawn within their size, and their distances from the size's
//! mean logarithm are stretched by √(k / (k − 1)), without which k runs give too narrow a spread. Where sizes have
//! one run, normal noise is added to the fitted logarithms. Its deviation s² = Σ r² / (n − p) is itself known from
//! few residuals only, so that every resample draws it anew as s²·(n − p) / χ²: of a linear law the interval is t's.
//! Resample b draws from its own stream, so intervals depend neither on threads nor on order. The spread is that
//! of the runs: a law that is wrong is not in it.

use rayon::prelude::*;

use super::{
    Law, Loss, Observation,
    fit::{Fit, Starts, fit, fit_from},
};
use crate::{eval::statistic::quantile_sorted, progress::Cancel, random::stream::Stream};

/// Share of resamples that may fail before an interval is refused.
const FAILED_SHARE: f64 = 0.1;

/// What was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    Runs,
    Noise,
}

impl Drawn {
    pub fn name(self) -> &'static str {
        match self {
            Drawn::Runs => "runs",
            Drawn::Noise => "noise",
        }
    }
}

/// The fits of all resamples.
#[derive(Clone, Debug)]
pub struct Spread {
    pub drawn: Drawn,
    fits: Vec<Fit>,
}

impl Spread {
    /// `Err` says why there is no spread; once `cancel` is requested the rest of the resamples counts as failed.
    pub fn new(
        fit: &Fit,
        loss: Loss,
        points: &[Observation],
        (resamples, seed): (usize, u64),
        cancel: &Cancel,
    ) -> Result<Self, String> {
        if points.iter().any(|p| p.error <= 0.0) {
            return Err("an error is 0, whose logarithm the resamples need".into());
        }
        let sizes = sizes(points);
        let drawn = if sizes.iter().all(|of| of.len() > 1) { Drawn::Runs } else { Drawn::Noise };
        let spare = points.len().saturating_sub(fit.parameters.len());
        if drawn == Drawn::Noise && spare == 0 {
            return Err(format!(
                "{} runs for {} parameters leave no residuals to know the noise by",
                points.len(),
                fit.parameters.len()
            ));
        }
        // A resample keeps the width of the loss that the points gave.
        let loss = match loss {
            Loss::Huber(None) => Loss::Huber(fit.delta),
            other => other,
        };
        let fits: Vec<Fit> = (0..resamples as u64)
            .into_par_iter()
            .filter(|_| !cancel.requested())
            .filter_map(|b| {
                let mut stream = Stream::new(seed, "bootstrap scaling", 0, b);
                let resample = match drawn {
                    Drawn::Runs => runs(points, &sizes, &mut stream),
                    Drawn::Noise => noise(points, fit, &mut stream),
                };
                fit_from(fit.law, loss, &resample, Starts::From(fit))
            })
            .collect();
        let failed = resamples - fits.len();
        if fits.is_empty() || failed as f64 > FAILED_SHARE * resamples as f64 {
            return Err(format!("{failed} of {resamples} resamples could not be fitted"));
        }
        Ok(Spread { drawn, fits })
    }

    /// Percentile interval of a number that follows from a fit; `None` where it is not finite in some resample.
    pub fn interval(&self, level: f64, of: impl Fn(&Fit) -> f64) -> Option<(f64, f64)> {
        let mut values: Vec<f64> = self.fits.iter().map(of).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some((quantile_sorted(&values, (1.0 - level) / 2.0)?, quantile_sorted(&values, (1.0 + level) / 2.0)?))
    }
}

/// Places of the runs of every pair of sizes, in the order of their first run.
fn sizes(points: &[Observation]) -> Vec<Vec<usize>> {
    let mut out: Vec<Vec<usize>> = Vec::new();
    for (i, p) in points.iter().enumerate() {
        match out.iter_mut().find(|of| points[of[0]].data == p.data && points[of[0]].model == p.model) {
            Some(of) => of.push(i),
            None => out.push(vec![i]),
        }
    }
    out
}

fn runs(points: &[Observation], sizes: &[Vec<usize>], stream: &mut Stream) -> Vec<Observation> {
    let mut out = points.to_vec();
    for of in sizes {
        let k = of.len() as f64;
        let mean = of.iter().map(|&i| points[i].error.ln()).sum::<f64>() / k;
        for &i in of {
            let drawn = of[stream.below(of.len() as u64) as usize];
            out[i].error = (mean + (k / (k - 1.0)).sqrt() * (points[drawn].error.ln() - mean)).exp();
        }
    }
    out
}

fn noise(points: &[Observation], fit: &Fit, stream: &mut Stream) -> Vec<Observation> {
    let spare = points.len() - fit.parameters.len();
    let fitted = |p: &Observation| fit.at(p.data, p.model).ln();
    let squares: f64 = points.iter().map(|p| (p.error.ln() - fitted(p)).powi(2)).sum();
    let chi: f64 = (0..spare).map(|_| stream.normal().powi(2)).sum();
    let deviation = (squares / chi).sqrt();
    let mut out = points.to_vec();
    for p in &mut out {
        p.error = (fitted(p) + deviation * stream.normal()).exp();
    }
    out
}

/// The error of a law at sizes that it has not seen.
#[derive(Clone, Debug)]
pub struct Extrapolation {
    /// Of each size left out: data size, model size, mean error of its runs, and what the law says.
    pub held_out: Vec<(f64, f64, f64, f64)>,
    /// Mean over these of |ln(law / mean error)|: about the relative error.
    pub off: f64,
}

/// Fits without the `count` largest sizes (along the data where the law is over both) and asks for them. The caller
/// judges by [`super::refusal`] whether the rest bears the law.
pub fn extrapolation(law: Law, loss: Loss, seen: &[Observation], unseen: &[Observation]) -> Option<Extrapolation> {
    let fitted = fit(law, loss, seen)?;
    let held_out: Vec<(f64, f64, f64, f64)> = sizes(unseen)
        .into_iter()
        .map(|of| {
            let p = unseen[of[0]];
            let mean = of.iter().map(|&i| unseen[i].error).sum::<f64>() / of.len() as f64;
            (p.data, p.model, mean, fitted.at(p.data, p.model))
        })
        .collect();
    let off = held_out.iter().map(|(.., mean, said)| (said / mean).ln().abs()).sum::<f64>() / held_out.len() as f64;
    off.is_finite().then_some(Extrapolation { held_out, off })
}

/// Points without those of the `count` largest data sizes, and these.
pub fn hold_out(points: &[Observation], count: usize) -> (Vec<Observation>, Vec<Observation>) {
    let sizes = super::refusal::by_size(points, |p| p.data);
    let from = sizes.len().checked_sub(count).and_then(|at| sizes.get(at)).map_or(f64::INFINITY, |s| s.0);
    points.iter().partition(|p| p.data < from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: [f64; 3] = [3.0, 0.4, 0.1];

    fn noisy(runs: usize, deviation: f64, set: u64) -> Vec<Observation> {
        let mut s = Stream::new(set, "scaling test", 0, 0);
        let mut out = Vec::new();
        for data in [100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0] {
            for _ in 0..runs {
                let error = Law::PowerLaw.at(&TRUTH, data, 1.0) * (deviation * s.normal()).exp();
                out.push(Observation { data, model: 1.0, error });
            }
        }
        out
    }

    /// Share of 30 data sets whose 90 % interval holds the truth: of the exponent, and of the error at 10 times the
    /// largest size.
    fn coverage(runs: usize) -> (f64, f64) {
        let (mut exponent, mut beyond) = (0, 0);
        for set in 0..30 {
            let points = noisy(runs, 0.02, set);
            let fitted = fit(Law::PowerLaw, Loss::Huber(None), &points).unwrap();
            let spread = Spread::new(&fitted, Loss::Huber(None), &points, (80, 0), &Cancel::default()).unwrap();
            let holds = |i: Option<(f64, f64)>, truth: f64| i.is_some_and(|(low, high)| low <= truth && truth <= high);
            exponent += u32::from(holds(spread.interval(0.9, |f| f.parameters[1]), TRUTH[1]));
            let truth = Law::PowerLaw.at(&TRUTH, 3e5, 1.0);
            beyond += u32::from(holds(spread.interval(0.9, |f| f.at(3e5, 1.0)), truth));
        }
        (f64::from(exponent) / 30.0, f64::from(beyond) / 30.0)
    }

    #[test]
    fn intervals_over_runs_hold_the_truth_as_often_as_they_say() {
        let (exponent, beyond) = coverage(5);
        assert!((0.75..=1.0).contains(&exponent) && (0.75..=1.0).contains(&beyond), "{exponent} {beyond}");
    }

    #[test]
    fn intervals_of_one_run_a_size_hold_the_truth_more_often_than_not() {
        let (exponent, beyond) = coverage(1);
        assert!((0.6..=1.0).contains(&exponent) && (0.6..=1.0).contains(&beyond), "{exponent} {beyond}");
    }

    #[test]
    fn resamples_do_not_depend_on_threads() {
        let points = noisy(3, 0.05, 1);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let fitted = fit(Law::PowerLaw, Loss::Huber(None), &points).unwrap();
                let spread = Spread::new(&fitted, Loss::Huber(None), &points, (100, 0), &Cancel::default()).unwrap();
                spread.interval(0.95, |f| f.parameters[2])
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn a_stop_ends_the_resamples() {
        let points = noisy(2, 0.05, 1);
        let fitted = fit(Law::PowerLaw, Loss::Huber(None), &points).unwrap();
        let cancel = Cancel::default();
        cancel.request();
        // So many would take an hour.
        let why = Spread::new(&fitted, Loss::Huber(None), &points, (10_000_000, 0), &cancel).unwrap_err();
        assert_eq!(why, "10000000 of 10000000 resamples could not be fitted");
    }

    #[test]
    fn the_largest_sizes_are_left_out_and_foretold() {
        let points = noisy(2, 0.0, 0);
        let (seen, unseen) = hold_out(&points, 2);
        assert_eq!((seen.len(), unseen.len()), (8, 4));
        let right = extrapolation(Law::PowerLaw, Loss::Huber(None), &seen, &unseen).unwrap();
        let wrong = extrapolation(Law::PurePowerLaw, Loss::Huber(None), &seen, &unseen).unwrap();
        assert!(right.off < 1e-4 && wrong.off > 0.05, "{} {}", right.off, wrong.off);
        assert_eq!(right.held_out.len(), 2);
        assert!(hold_out(&points, 9).0.is_empty() || hold_out(&points, 9).1.is_empty());
    }

    #[test]
    fn runs_without_spare_have_no_interval() {
        let points: Vec<Observation> = noisy(1, 0.02, 0).into_iter().take(3).collect();
        let fitted = fit(Law::PowerLaw, Loss::LeastSquares, &points).unwrap();
        let why = Spread::new(&fitted, Loss::LeastSquares, &points, (50, 0), &Cancel::default()).unwrap_err();
        assert_eq!(why, "3 runs for 3 parameters leave no residuals to know the noise by");
    }
}
