//! L-BFGS (Liu & Nocedal 1989) with the weak-Wolfe bisection of Lewis & Overton (2013), which also
//! holds where the gradient has kinks.
//!
//! Serial and deterministic; an objective may use threads as long as its sums have a fixed order.

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub iterations: usize,
    /// Stop once no gradient entry is larger than this.
    pub gradient: f64,
    /// Pairs kept.
    pub memory: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { iterations: 500, gradient: 1e-8, memory: 10 }
    }
}

#[derive(Clone, Debug)]
pub struct Minimum {
    pub x: Vec<f64>,
    pub value: f64,
    pub iterations: usize,
    /// Whether the gradient tolerance was met, not merely the step exhausted.
    pub converged: bool,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Minimises `f`, which writes its gradient into the second argument and returns its value (infinite
/// or NaN outside its domain).
pub fn minimise(mut f: impl FnMut(&[f64], &mut [f64]) -> f64, start: &[f64], options: Options) -> Minimum {
    let n = start.len();
    let mut x = start.to_vec();
    let mut gradient = vec![0.0; n];
    let mut value = f(&x, &mut gradient);
    let mut pairs: std::collections::VecDeque<(Vec<f64>, Vec<f64>, f64)> = Default::default();
    let mut next_x = vec![0.0; n];
    let mut next_gradient = vec![0.0; n];
    for iteration in 0..options.iterations {
        if gradient.iter().all(|g| g.abs() <= options.gradient) {
            return Minimum { x, value, iterations: iteration, converged: true };
        }
        let mut direction = descent(&gradient, &pairs);
        let mut slope = dot(&direction, &gradient);
        if slope.is_nan() || slope >= 0.0 {
            pairs.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = dot(&direction, &gradient);
        }
        let (mut low, mut high) = (0.0, f64::INFINITY);
        let mut step = if pairs.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
        let mut next_value = f64::NAN;
        let mut found = false;
        for _ in 0..60 {
            for i in 0..n {
                next_x[i] = x[i] + step * direction[i];
            }
            next_value = f(&next_x, &mut next_gradient);
            if next_value.is_nan() || next_value > value + 1e-4 * step * slope {
                high = step;
            } else if dot(&direction, &next_gradient) < 0.9 * slope {
                low = step;
            } else {
                found = true;
                break;
            }
            step = if high.is_finite() { (low + high) / 2.0 } else { 2.0 * low };
        }
        if !found && (next_value.is_nan() || next_value >= value) {
            if pairs.is_empty() {
                return Minimum { x, value, iterations: iteration, converged: false };
            }
            pairs.clear();
            continue;
        }
        let s: Vec<f64> = next_x.iter().zip(&x).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&s, &y);
        if curvature > 1e-300 {
            if pairs.len() == options.memory {
                pairs.pop_front();
            }
            pairs.push_back((s, y, 1.0 / curvature));
        }
        std::mem::swap(&mut x, &mut next_x);
        std::mem::swap(&mut gradient, &mut next_gradient);
        value = next_value;
    }
    let converged = gradient.iter().all(|g| g.abs() <= options.gradient);
    Minimum { x, value, iterations: options.iterations, converged }
}

/// −H·g by the two-loop recursion.
fn descent(gradient: &[f64], pairs: &std::collections::VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(pairs.len());
    for (s, y, rho) in pairs.iter().rev() {
        let alpha = rho * dot(s, &q);
        q.iter_mut().zip(y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    if let Some((_, y, rho)) = pairs.back() {
        let scale = 1.0 / (rho * dot(y, y));
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y, rho), alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = rho * dot(y, &q);
        q.iter_mut().zip(s).for_each(|(q, s)| *q += (alpha - beta) * s);
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rosenbrock_ends_in_its_valley() {
        let f = |x: &[f64], g: &mut [f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            g[0] = -2.0 * a - 400.0 * x[0] * b;
            g[1] = 200.0 * b;
            a * a + 100.0 * b * b
        };
        let m = minimise(f, &[-1.2, 1.0], Options::default());
        assert!(m.converged && (m.x[0] - 1.0).abs() < 1e-6 && (m.x[1] - 1.0).abs() < 1e-6, "{m:?}");
    }

    #[test]
    fn a_function_without_a_value_does_not_loop() {
        let m = minimise(
            |_, g| {
                g.fill(1.0);
                f64::NAN
            },
            &[0.0],
            Options::default(),
        );
        assert!(!m.converged);
    }
}
