//! error(n) = a·n^(−b) + c: how the error falls with scale, and where it ends.
//!
//! [`least_squares`]: for a fixed b the law is linear in a and c, so b is searched alone, and
//! Levenberg-Marquardt polishes all three; standard errors are those of the linearised problem.
//! [`robust`]: Huber loss (δ = 1e-3) of the logarithms, as in scaling-law studies (Hoffmann et al. 2022),
//! where one odd point must not bend the curve; a > 0 and c > 0 there.
//!
//! Whether the points can bear such a law at all is the caller's question; here `None` means that
//! they cannot be fitted (fewer than three distinct sizes, sizes or errors out of range).

use crate::eval::lbfgs;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PowerLaw {
    pub a: f64,
    pub b: f64,
    pub c: f64,
}

impl PowerLaw {
    pub fn at(&self, n: f64) -> f64 {
        self.a * n.powf(-self.b) + self.c
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Fit {
    pub law: PowerLaw,
    /// Of a, b and c; `None` with three points, or where the points do not tell them apart.
    pub standard_error: Option<[f64; 3]>,
    /// Σ (error − law)² for least squares, Σ Huber of log differences for the robust fit.
    pub objective: f64,
}

fn usable(n: &[f64], error: &[f64]) -> bool {
    let mut sizes: Vec<f64> = n.to_vec();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    n.len() == error.len()
        && sizes.len() >= 3
        && n.iter().all(|v| v.is_finite() && *v > 0.0)
        && error.iter().all(|v| v.is_finite())
}

/// The best a and c for a given b, and the sum of squares.
fn linear(n: &[f64], error: &[f64], b: f64) -> (PowerLaw, f64) {
    let u: Vec<f64> = n.iter().map(|n| n.powf(-b)).collect();
    let k = n.len() as f64;
    let (mu, me) = (u.iter().sum::<f64>() / k, error.iter().sum::<f64>() / k);
    let (mut uu, mut ue) = (0.0, 0.0);
    for (u, e) in u.iter().zip(error) {
        uu += (u - mu) * (u - mu);
        ue += (u - mu) * (e - me);
    }
    let a = if uu > 0.0 { ue / uu } else { 0.0 };
    let law = PowerLaw { a, b, c: me - a * mu };
    (law, squares(n, error, &law))
}

fn squares(n: &[f64], error: &[f64], law: &PowerLaw) -> f64 {
    n.iter().zip(error).map(|(&n, e)| (law.at(n) - e).powi(2)).sum()
}

/// Unweighted least squares.
pub fn least_squares(n: &[f64], error: &[f64]) -> Option<Fit> {
    if !usable(n, error) {
        return None;
    }
    let grid: Vec<f64> = (0..=80).map(|i| 10f64.powf(-2.0 + f64::from(i) / 80.0 * 2.7)).collect();
    let best = (0..grid.len()).min_by(|&i, &j| linear(n, error, grid[i]).1.total_cmp(&linear(n, error, grid[j]).1))?;
    let (mut low, mut high) = (grid[best.saturating_sub(1)], grid[(best + 1).min(grid.len() - 1)]);
    const GOLDEN: f64 = 0.618_033_988_749_894_8;
    while high - low > 1e-7 * high {
        let (left, right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
        if linear(n, error, left).1 <= linear(n, error, right).1 {
            high = right;
        } else {
            low = left;
        }
    }
    let law = polish(n, error, linear(n, error, (low + high) / 2.0).0);
    let objective = squares(n, error, &law);
    Some(Fit { law, standard_error: standard_error(n, &law, objective), objective })
}

/// ∂/∂a, ∂/∂b, ∂/∂c at one size.
fn jacobian(n: f64, law: &PowerLaw) -> [f64; 3] {
    let u = n.powf(-law.b);
    [u, -law.a * u * n.ln(), 1.0]
}

fn normal_matrix(n: &[f64], law: &PowerLaw) -> [[f64; 3]; 3] {
    let mut m = [[0.0; 3]; 3];
    for &n in n {
        let j = jacobian(n, law);
        for r in 0..3 {
            for c in 0..3 {
                m[r][c] += j[r] * j[c];
            }
        }
    }
    m
}

/// Levenberg-Marquardt until no step improves.
fn polish(n: &[f64], error: &[f64], mut law: PowerLaw) -> PowerLaw {
    let mut best = squares(n, error, &law);
    let mut damping = 1e-6;
    for _ in 0..200 {
        let mut matrix = normal_matrix(n, &law);
        let mut right = [0.0; 3];
        for (&n, e) in n.iter().zip(error) {
            let j = jacobian(n, &law);
            let residual = e - law.at(n);
            (0..3).for_each(|r| right[r] += j[r] * residual);
        }
        (0..3).for_each(|r| matrix[r][r] *= 1.0 + damping);
        let Some(inverse) = invert(&matrix) else { break };
        let step = inverse.map(|row| row[0] * right[0] + row[1] * right[1] + row[2] * right[2]);
        let next = PowerLaw { a: law.a + step[0], b: law.b + step[1], c: law.c + step[2] };
        let value = squares(n, error, &next);
        if value < best {
            (law, best, damping) = (next, value, (damping / 10.0).max(1e-15));
        } else if damping > 1e8 {
            break;
        } else {
            damping *= 10.0;
        }
    }
    law
}

fn standard_error(n: &[f64], law: &PowerLaw, objective: f64) -> Option<[f64; 3]> {
    if n.len() < 4 {
        return None;
    }
    let inverse = invert(&normal_matrix(n, law))?;
    let spread = objective / (n.len() - 3) as f64;
    let se = [0, 1, 2].map(|i| (inverse[i][i] * spread).sqrt());
    se.iter().all(|v| v.is_finite()).then_some(se)
}

/// Inverse of a symmetric 3×3 matrix by cofactors; `None` where it is singular to working precision.
fn invert(m: &[[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let cofactor = |r: usize, c: usize| {
        let (a, b) = ((r + 1) % 3, (r + 2) % 3);
        let (d, e) = ((c + 1) % 3, (c + 2) % 3);
        m[a][d] * m[b][e] - m[a][e] * m[b][d]
    };
    let determinant = (0..3).map(|c| m[0][c] * cofactor(0, c)).sum::<f64>();
    if !determinant.is_finite() || determinant.abs() <= 1e-15 * m[0][0] * m[1][1] * m[2][2] {
        return None;
    }
    let mut out = [[0.0; 3]; 3];
    for (r, row) in out.iter_mut().enumerate() {
        for (c, value) in row.iter_mut().enumerate() {
            *value = cofactor(c, r) / determinant;
        }
    }
    Some(out)
}

const HUBER: f64 = 1e-3;

/// Huber fit of the logarithms, the best of many starts. Errors must be above 0.
pub fn robust(n: &[f64], error: &[f64]) -> Option<Fit> {
    if !usable(n, error) || error.iter().any(|e| *e <= 0.0) {
        return None;
    }
    let (log_n, log_e): (Vec<f64>, Vec<f64>) =
        (n.iter().map(|v| v.ln()).collect(), error.iter().map(|v| v.ln()).collect());
    // In units of δ², so that the minimiser's tolerances fit; θ = (ln a, b, ln c).
    let objective = |t: &[f64], gradient: &mut [f64]| {
        let mut sum = 0.0;
        gradient.fill(0.0);
        for (x, y) in log_n.iter().zip(&log_e) {
            let (falling, floor) = (t[0] - t[1] * x, t[2]);
            let top = falling.max(floor);
            let (ef, ec) = ((falling - top).exp(), (floor - top).exp());
            let z = (top + (ef + ec).ln() - y) / HUBER;
            let share = ef / (ef + ec);
            let slope = z.clamp(-1.0, 1.0) / HUBER;
            sum += if z.abs() < 1.0 { 0.5 * z * z } else { z.abs() - 0.5 };
            gradient[0] += slope * share;
            gradient[1] -= slope * share * x;
            gradient[2] += slope * (1.0 - share);
        }
        sum
    };
    let least = error.iter().copied().fold(f64::INFINITY, f64::min);
    let mut starts: Vec<[f64; 3]> = Vec::new();
    if let Some(fit) = least_squares(n, error).filter(|f| f.law.a > 0.0 && f.law.c > 0.0) {
        starts.push([fit.law.a.ln(), fit.law.b, fit.law.c.ln()]);
    }
    for b in [0.1, 0.3, 0.5, 0.8, 1.2, 2.0] {
        for part in [0.02, 0.3, 0.6, 0.9] {
            let c = part * least;
            let a = n.iter().zip(error).map(|(n, e)| (e - c).ln() + b * n.ln()).sum::<f64>() / n.len() as f64;
            starts.push([a, b, c.ln()]);
        }
    }
    let options = lbfgs::Options { iterations: 2000, gradient: 1e-9, memory: 8 };
    let best = starts
        .iter()
        .map(|s| lbfgs::minimise(objective, s, options))
        // A kink can end one descent early; a fresh start from there goes on.
        .map(|m| (0..5).fold(m, |m, _| lbfgs::minimise(objective, &m.x, options)))
        .filter(|m| m.value.is_finite())
        .min_by(|p, q| p.value.total_cmp(&q.value))?;
    let law = PowerLaw { a: best.x[0].exp(), b: best.x[1], c: best.x[2].exp() };
    Some(Fit { law, standard_error: None, objective: best.value * HUBER * HUBER })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [f64; 6] = [100.0, 300.0, 1000.0, 5000.0, 20_000.0, 100_000.0];

    #[test]
    fn an_exact_law_is_found_again() {
        let law = PowerLaw { a: 3.0, b: 0.35, c: 0.08 };
        let error = SIZES.map(|n| law.at(n));
        for fit in [least_squares(&SIZES, &error).unwrap(), robust(&SIZES, &error).unwrap()] {
            let found = fit.law;
            assert!(
                (found.a - 3.0).abs() < 1e-3 && (found.b - 0.35).abs() < 1e-4 && (found.c - 0.08).abs() < 1e-4,
                "{fit:?}"
            );
        }
    }

    #[test]
    fn one_odd_point_bends_least_squares_but_not_the_robust_fit() {
        let law = PowerLaw { a: 3.0, b: 0.35, c: 0.08 };
        let mut error = SIZES.map(|n| law.at(n));
        error[2] *= 1.3;
        let off = |fit: Fit| (fit.law.at(1e6) - law.at(1e6)).abs();
        let (plain, robust) = (off(least_squares(&SIZES, &error).unwrap()), off(robust(&SIZES, &error).unwrap()));
        assert!(robust < plain / 3.0, "{robust} against {plain}");
    }

    #[test]
    fn too_few_sizes_are_refused() {
        assert!(least_squares(&[1.0, 2.0, 2.0], &[0.5, 0.4, 0.4]).is_none());
        assert!(robust(&SIZES, &[0.5, 0.4, 0.3, 0.2, 0.1, 0.0]).is_none());
        assert!(least_squares(&[0.0, 2.0, 3.0], &[0.5, 0.4, 0.4]).is_none());
    }
}
