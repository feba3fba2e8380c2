//! Fits a law: least squares of the errors, or Huber's loss of their logarithms.
//!
//! Huber's loss bounds what one odd run can do, and logarithms weigh a small error as much as a large one. Its width
//! δ is given (1e-3 in Hoffmann et al. 2022), or 1.345 robust deviations of the residuals, at which it loses 5 % of
//! efficiency against normal noise.
//!
//! From every start of a fixed grid Levenberg and Marquardt's method descends, with Huber's weights; L-BFGS goes on
//! from where that ends, since near kinks the weights mislead it. The best of all starts is kept, the first of equals.

use super::{
    Law, Observation,
    law::{Feature, Term},
};
use crate::eval::lbfgs;

/// What a fit minimises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Σ (error − law)².
    LeastSquares,
    /// Σ Huber(ln error − ln law), of width δ; `None`: δ from the residuals.
    Huber(Option<f64>),
}

/// A fitted law.
#[derive(Clone, Debug)]
pub struct Fit {
    pub law: Law,
    /// In the order of [`Law::parameters`].
    pub parameters: Vec<f64>,
    /// Σ (error − law)², or Σ Huber: ½r² up to δ, then δ(|r| − ½δ).
    pub objective: f64,
    /// The width of Huber's loss that was used.
    pub delta: Option<f64>,
}

/// Least width of Huber's loss where it is taken from the residuals.
const LEAST_DELTA: f64 = 1e-3;

/// Starts of a full fit, and of the refit of a resample.
#[derive(Clone, Copy, Debug)]
pub(super) enum Starts<'a> {
    Grid,
    /// Near a fit that is known, and a few others.
    From(&'a Fit),
}

/// Fits one law; `None` where points are fewer than parameters, a size or (for Huber's loss) an error is not above
/// 0, or no start ends in a finite value. Whether the points can bear the law is [`super::refusal`]'s question.
pub fn fit(law: Law, loss: Loss, points: &[Observation]) -> Option<Fit> {
    fit_from(law, loss, points, Starts::Grid)
}

pub(super) fn fit_from(law: Law, loss: Loss, points: &[Observation], starts: Starts) -> Option<Fit> {
    let sizes = points.iter().all(|p| p.data > 0.0 && p.model > 0.0 && (p.data * p.model).is_finite());
    let errors = points.iter().all(|p| p.error.is_finite() && (p.error > 0.0 || loss == Loss::LeastSquares));
    if points.len() < law.parameters().len() || !sizes || !errors {
        return None;
    }
    let problem = Problem::new(law, points);
    match loss {
        Loss::LeastSquares => problem.best(Residual::Plain, starts),
        Loss::Huber(Some(delta)) => problem.best(Residual::Logarithm(delta), starts),
        Loss::Huber(None) => {
            let squares = problem.best(Residual::Logarithm(f64::INFINITY), starts)?;
            let mut off: Vec<f64> =
                points.iter().map(|p| (p.error.ln() - squares.at(p.data, p.model).ln()).abs()).collect();
            off.sort_by(f64::total_cmp);
            let deviation = 1.4826 * super::super::statistic::quantile_sorted(&off, 0.5)?;
            problem.best(Residual::Logarithm((1.345 * deviation).max(LEAST_DELTA)), starts)
        }
    }
}

impl Fit {
    /// The error at sizes; a model size is ignored by a law over one size.
    pub fn at(&self, data: f64, model: f64) -> f64 {
        self.law.at(&self.parameters, data, model)
    }

    pub fn parameter(&self, name: &str) -> Option<f64> {
        self.law.parameters().iter().position(|p| *p == name).map(|i| self.parameters[i])
    }

    /// Standard errors of the linearised problem, for least squares; `None` without points to spare or where the
    /// points do not tell the parameters apart.
    pub fn standard_errors(&self, points: &[Observation]) -> Option<Vec<f64>> {
        let p = self.parameters.len();
        if points.len() <= p || self.delta.is_some() {
            return None;
        }
        let mut normal = vec![0.0; p * p];
        for point in points {
            let j = self.law.gradient(&self.parameters, point.data, point.model);
            for r in 0..p {
                (0..p).for_each(|c| normal[r * p + c] += j[r] * j[c]);
            }
        }
        let spread = self.objective / (points.len() - p) as f64;
        (0..p)
            .map(|i| {
                let mut unit = vec![0.0; p];
                unit[i] = 1.0;
                solve(&normal, &unit).map(|column| (column[i] * spread).sqrt()).filter(|v| v.is_finite())
            })
            .collect()
    }

    /// Akaike's criterion with its small-sample term, on the residuals of the logarithms; `None` without enough
    /// points, or where the law is not above 0 or passes through every point.
    pub fn aicc(&self, points: &[Observation]) -> Option<f64> {
        let (n, k) = (points.len() as f64, self.parameters.len() as f64 + 1.0);
        let squares: f64 = points.iter().map(|p| (p.error.ln() - self.at(p.data, p.model).ln()).powi(2)).sum();
        let value = n * (squares / n).ln() + 2.0 * k + 2.0 * k * (k + 1.0) / (n - k - 1.0);
        (n > k + 1.0 && value.is_finite()).then_some(value)
    }
}

#[derive(Clone, Copy)]
enum Residual {
    Plain,
    Logarithm(f64),
}

impl Residual {
    fn delta(self) -> f64 {
        match self {
            Residual::Plain => f64::INFINITY,
            Residual::Logarithm(delta) => delta,
        }
    }

    /// Huber's loss of a residual; the plain loss has no ½.
    fn loss(self, r: f64) -> f64 {
        let delta = self.delta();
        match self {
            Residual::Plain => r * r,
            _ if r.abs() <= delta => 0.5 * r * r,
            _ => delta * (r.abs() - 0.5 * delta),
        }
    }
}

/// Points with centred features, in the coordinates (ln amplitude, exponents).
struct Problem<'a> {
    law: Law,
    points: &'a [Observation],
    /// Mean ln n, mean ln m; the exponential law's unit of n.
    centre: [f64; 2],
    unit: f64,
}

impl<'a> Problem<'a> {
    fn new(law: Law, points: &'a [Observation]) -> Self {
        let mean = |f: fn(&Observation) -> f64| points.iter().map(f).sum::<f64>() / points.len() as f64;
        let unit = points.iter().map(|p| p.data).fold(0.0, f64::max);
        Problem { law, points, centre: [mean(|p| p.data.ln()), mean(|p| p.model.ln())], unit }
    }

    fn feature(&self, feature: Feature, p: &Observation) -> f64 {
        match feature {
            Feature::LogData => p.data.ln() - self.centre[0],
            Feature::LogModel => p.model.ln() - self.centre[1],
            Feature::Data => p.data / self.unit,
        }
    }

    /// The law at a point, and its derivatives by the coordinates.
    fn law_at(&self, t: &[f64], p: &Observation, slopes: &mut [f64]) -> f64 {
        slopes.fill(0.0);
        if self.law == Law::Logarithmic {
            let x = p.data.ln() - self.centre[0];
            slopes.copy_from_slice(&[1.0, -x]);
            return t[0] - t[1] * x;
        }
        let mut sum = 0.0;
        for Term { amplitude, exponents } in self.law.terms() {
            let slope: f64 = exponents.iter().map(|&(at, f)| t[at] * self.feature(f, p)).sum();
            let value = (t[*amplitude] - slope).exp();
            slopes[*amplitude] += value;
            exponents.iter().for_each(|&(at, f)| slopes[at] -= value * self.feature(f, p));
            sum += value;
        }
        sum
    }

    /// Residual of a point and its derivatives; infinite where a logarithm is not defined.
    fn residual(&self, of: Residual, t: &[f64], p: &Observation, slopes: &mut [f64]) -> f64 {
        let value = self.law_at(t, p, slopes);
        match of {
            Residual::Plain => {
                slopes.iter_mut().for_each(|s| *s = -*s);
                p.error - value
            }
            Residual::Logarithm(_) if value > 0.0 => {
                slopes.iter_mut().for_each(|s| *s /= -value);
                p.error.ln() - value.ln()
            }
            Residual::Logarithm(_) => f64::INFINITY,
        }
    }

    fn objective(&self, of: Residual, t: &[f64]) -> f64 {
        let mut slopes = vec![0.0; t.len()];
        self.points.iter().map(|p| of.loss(self.residual(of, t, p, &mut slopes))).sum()
    }

    fn best(&self, of: Residual, starts: Starts) -> Option<Fit> {
        let mut ends: Vec<(f64, Vec<f64>)> = self.starts(starts).into_iter().map(|s| self.descend(of, s)).collect();
        if matches!(starts, Starts::From(_)) {
            // A refit is one of a thousand: only its best descent goes on.
            ends.sort_by(|a, b| a.0.total_cmp(&b.0));
            ends.truncate(1);
        }
        let mut best: Option<(f64, Vec<f64>)> = None;
        for (value, t) in ends {
            let (value, t) = self.polish(of, value, t);
            if value.is_finite() && best.as_ref().is_none_or(|(least, _)| value < *least) {
                best = Some((value, t));
            }
        }
        let (objective, t) = best?;
        let parameters = self.natural(&t);
        let delta = matches!(of, Residual::Logarithm(d) if d.is_finite()).then(|| of.delta());
        parameters.iter().all(|p| p.is_finite()).then_some(Fit { law: self.law, parameters, objective, delta })
    }

    /// Levenberg and Marquardt's steps with Huber's weights until none improves.
    fn descend(&self, of: Residual, mut t: Vec<f64>) -> (f64, Vec<f64>) {
        let p = t.len();
        let mut value = self.objective(of, &t);
        let mut damping = 1e-3;
        let mut slopes = vec![0.0; p];
        for _ in 0..200 {
            let (mut normal, mut right) = (vec![0.0; p * p], vec![0.0; p]);
            for point in self.points {
                let r = self.residual(of, &t, point, &mut slopes);
                let weight = if r.abs() <= of.delta() { 1.0 } else { of.delta() / r.abs() };
                for i in 0..p {
                    right[i] -= weight * slopes[i] * r;
                    (0..p).for_each(|j| normal[i * p + j] += weight * slopes[i] * slopes[j]);
                }
            }
            let largest = (0..p).map(|i| normal[i * p + i]).fold(0.0, f64::max);
            let mut moved = false;
            while damping < 1e10 {
                let mut damped = normal.clone();
                // A direction that no point feels (an asymptote near 0) must not make the system singular.
                (0..p).for_each(|i| damped[i * p + i] += damping * (normal[i * p + i] + 1e-9 * largest));
                let next =
                    solve(&damped, &right).map(|step| t.iter().zip(&step).map(|(t, s)| t + s).collect::<Vec<_>>());
                let better = next.map(|n| (self.objective(of, &n), n)).filter(|(v, _)| *v < value);
                if let Some((v, n)) = better {
                    let gained = value - v;
                    (value, t) = (v, n);
                    damping = (damping / 10.0).max(1e-12);
                    moved = gained > 1e-15 * value;
                    break;
                }
                damping *= 10.0;
            }
            if !moved {
                break;
            }
        }
        (value, t)
    }

    /// L-BFGS from where these end.
    fn polish(&self, of: Residual, value: f64, t: Vec<f64>) -> (f64, Vec<f64>) {
        // In units of the value, so that the minimiser's tolerance is relative.
        let unit = if value > 0.0 && value.is_finite() { value } else { return (value, t) };
        let mut slopes = vec![0.0; t.len()];
        let objective = |t: &[f64], gradient: &mut [f64]| {
            gradient.fill(0.0);
            let mut sum = 0.0;
            for point in self.points {
                let r = self.residual(of, t, point, &mut slopes);
                let slope = match of {
                    Residual::Plain => 2.0 * r,
                    Residual::Logarithm(delta) => r.clamp(-delta, delta),
                };
                sum += of.loss(r) / unit;
                gradient.iter_mut().zip(&slopes).for_each(|(g, s)| *g += slope * s / unit);
            }
            sum
        };
        let options = lbfgs::Options { iterations: 200, gradient: 1e-9, memory: 8 };
        let found = lbfgs::minimise(objective, &t, options);
        if found.value < 1.0 { (found.value * unit, found.x) } else { (value, t) }
    }

    fn starts(&self, starts: Starts) -> Vec<Vec<f64>> {
        let grid = self.grid();
        match starts {
            Starts::Grid => grid,
            Starts::From(fit) => {
                let step = (grid.len() / 3).max(1);
                std::iter::once(self.centred(&fit.parameters)).chain(grid.into_iter().step_by(step)).collect()
            }
        }
    }

    /// Exponents and shares of the asymptote on a grid, amplitudes from the points.
    fn grid(&self) -> Vec<Vec<f64>> {
        const EXPONENTS: [f64; 5] = [0.05, 0.2, 0.5, 1.0, 2.0];
        const SHARES: [f64; 4] = [0.02, 0.4, 0.8, 0.95];
        let least = self.points.iter().map(|p| p.error).filter(|e| *e > 0.0).fold(f64::INFINITY, f64::min);
        let n = self.points.len() as f64;
        let over =
            |share: f64| self.points.iter().map(|p| (p.error - share * least).max(1e-3 * least).ln()).sum::<f64>() / n;
        let asymptote = |share: f64| (share * least).ln();
        let mut out = Vec::new();
        match self.law {
            Law::Logarithmic => {
                let mean = self.points.iter().map(|p| p.error).sum::<f64>() / n;
                out.push(vec![mean, 0.0]);
            }
            Law::PurePowerLaw => out.extend(EXPONENTS.map(|b| vec![over(0.0), b])),
            Law::PowerLaw => {
                for b in EXPONENTS {
                    out.extend(SHARES.map(|s| vec![over(s), b, asymptote(s)]));
                }
            }
            Law::Exponential => {
                // In units of the largest size; the smallest may be far below it.
                for b in [0.5, 2.0, 8.0, 32.0, 128.0] {
                    out.extend(SHARES.map(|s| vec![over(s) + 1.0, b, asymptote(s)]));
                }
            }
            Law::Joint | Law::PureJoint | Law::JointProduct => {
                for b in [0.1, 0.4, 1.0] {
                    for e in [0.1, 0.4, 1.0] {
                        out.extend([0.05, 0.5, 0.9].map(|s| match self.law {
                            Law::Joint => vec![over(s) - 0.7, b, over(s) - 0.7, e, asymptote(s)],
                            Law::PureJoint => vec![over(0.0) + s.ln(), b, over(0.0) + (1.0 - s).ln(), e],
                            _ => vec![over(s), b, e, asymptote(s)],
                        }));
                    }
                }
            }
        }
        out
    }

    /// From coordinates to parameters in the sizes' own units.
    fn natural(&self, t: &[f64]) -> Vec<f64> {
        let mut out = t.to_vec();
        if self.law == Law::Logarithmic {
            out[0] += t[1] * self.centre[0];
            return out;
        }
        for Term { amplitude, exponents } in self.law.terms() {
            out[*amplitude] += self.offset(exponents, t);
            out[*amplitude] = out[*amplitude].exp();
        }
        if self.law == Law::Exponential {
            out[1] /= self.unit;
        }
        out
    }

    fn centred(&self, parameters: &[f64]) -> Vec<f64> {
        let mut t = parameters.to_vec();
        if self.law == Law::Logarithmic {
            t[0] -= t[1] * self.centre[0];
            return t;
        }
        if self.law == Law::Exponential {
            t[1] *= self.unit;
        }
        for Term { amplitude, exponents } in self.law.terms() {
            // An asymptote of 0 has no logarithm; it starts where it is nothing beside any error.
            t[*amplitude] = parameters[*amplitude].max(1e-30).ln() - self.offset(exponents, &t);
        }
        t
    }

    /// What centring took from the logarithm of a term.
    fn offset(&self, exponents: &[(usize, Feature)], t: &[f64]) -> f64 {
        let of = |f: Feature| match f {
            Feature::LogData => self.centre[0],
            Feature::LogModel => self.centre[1],
            Feature::Data => 0.0,
        };
        exponents.iter().map(|&(at, f)| t[at] * of(f)).sum()
    }
}

/// Solves a small dense system by elimination with row pivots; `None` where it is singular to working precision.
fn solve(matrix: &[f64], right: &[f64]) -> Option<Vec<f64>> {
    let n = right.len();
    let mut a = matrix.to_vec();
    let mut b = right.to_vec();
    for column in 0..n {
        let pivot = (column..n).max_by(|&i, &j| a[i * n + column].abs().total_cmp(&a[j * n + column].abs()))?;
        let size = matrix[column * n + column].abs();
        if a[pivot * n + column].is_nan() || a[pivot * n + column].abs() <= 1e-15 * size || size == 0.0 {
            return None;
        }
        if pivot != column {
            (0..n).for_each(|k| a.swap(pivot * n + k, column * n + k));
            b.swap(pivot, column);
        }
        for row in column + 1..n {
            let factor = a[row * n + column] / a[column * n + column];
            (column..n).for_each(|k| a[row * n + k] -= factor * a[column * n + k]);
            b[row] -= factor * b[column];
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| a[row * n + k] * b[k]).sum();
        b[row] = (b[row] - known) / a[row * n + row];
    }
    b.iter().all(|v| v.is_finite()).then_some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(law: Law, parameters: &[f64]) -> Vec<Observation> {
        let mut out = Vec::new();
        for data in [100.0, 300.0, 1000.0, 5000.0, 20_000.0, 100_000.0] {
            for model in if law.over_both() { vec![1e5, 1e6, 2e7] } else { vec![1.0] } {
                let data = if law == Law::Exponential { data / 50.0 } else { data };
                out.push(Observation { data, model, error: law.at(parameters, data, model) });
            }
        }
        out
    }

    #[test]
    fn exact_laws_are_found_again_by_either_loss() {
        for (law, truth) in [
            (Law::PowerLaw, vec![3.0, 0.35, 0.08]),
            (Law::PurePowerLaw, vec![1.5, 0.2]),
            (Law::Exponential, vec![0.5, 0.02, 0.1]),
            (Law::Logarithmic, vec![0.9, 0.06]),
            (Law::Joint, vec![3.0, 0.4, 20.0, 0.35, 0.05]),
            (Law::PureJoint, vec![2.0, 0.3, 5.0, 0.25]),
            (Law::JointProduct, vec![30.0, 0.3, 0.2, 0.05]),
        ] {
            let points = observed(law, &truth);
            for loss in [Loss::LeastSquares, Loss::Huber(Some(1e-3)), Loss::Huber(None)] {
                let found = fit(law, loss, &points).unwrap();
                for p in &points {
                    let off = (found.at(p.data, p.model) / p.error).ln().abs();
                    assert!(off < 1e-5, "{} {loss:?}: {:?} off by {off}", law.name(), found.parameters);
                }
                for (a, b) in found.parameters.iter().zip(&truth) {
                    assert!((a - b).abs() < 2e-2 * b, "{} {loss:?}: {:?}", law.name(), found.parameters);
                }
            }
        }
    }

    #[test]
    fn one_odd_run_bends_least_squares_but_not_hubers_loss() {
        let truth = [3.0, 0.35, 0.08];
        let mut points = observed(Law::PowerLaw, &truth);
        points[2].error *= 1.3;
        let far =
            |loss| (fit(Law::PowerLaw, loss, &points).unwrap().at(1e6, 1.0) - Law::PowerLaw.at(&truth, 1e6, 1.0)).abs();
        let (plain, robust) = (far(Loss::LeastSquares), far(Loss::Huber(Some(1e-3))));
        assert!(robust < plain / 3.0, "{robust} against {plain}");
    }

    #[test]
    fn what_cannot_be_fitted_is_not() {
        let points = observed(Law::PowerLaw, &[3.0, 0.35, 0.08]);
        assert!(fit(Law::PowerLaw, Loss::LeastSquares, &points[..2]).is_none());
        let mut zero = points.clone();
        zero[5].error = 0.0;
        assert!(fit(Law::PowerLaw, Loss::Huber(None), &zero).is_none());
        zero[5].data = 0.0;
        assert!(fit(Law::PowerLaw, Loss::LeastSquares, &zero).is_none());
        assert!(fit(Law::PowerLaw, Loss::LeastSquares, &points[..3]).unwrap().standard_errors(&points[..3]).is_none());
    }
}
