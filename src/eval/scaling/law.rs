//! The laws as sums of terms, each an amplitude times powers of the sizes.
//!
//! The logarithm of a term is linear in (ln amplitude, exponents), so one pair of functions serves every law but the
//! logarithmic one, which is linear itself. Fits work on these coordinates, centred on the mean logarithm of the sizes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Law {
    /// c + a·n^(−b) over one size.
    PowerLaw,
    /// a·n^(−b) over one size: no asymptote.
    PurePowerLaw,
    /// c + a·e^(−b·n) over one size.
    Exponential,
    /// a − b·ln n over one size; it falls below 0 in the end.
    Logarithmic,
    /// c + a·n^(−b) + d·m^(−e) over data and model size.
    Joint,
    /// a·n^(−b) + d·m^(−e) over data and model size.
    PureJoint,
    /// c + a·n^(−b)·m^(−e) over data and model size.
    JointProduct,
}

/// What a parameter is multiplied with in the logarithm of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    LogData,
    LogModel,
    Data,
}

/// An amplitude and its exponents, as places among the parameters.
pub(super) struct Term {
    pub amplitude: usize,
    pub exponents: &'static [(usize, Feature)],
}

const fn term(amplitude: usize, exponents: &'static [(usize, Feature)]) -> Term {
    Term { amplitude, exponents }
}

impl Law {
    pub const ONE_SIZE: [Law; 4] = [Law::PowerLaw, Law::PurePowerLaw, Law::Exponential, Law::Logarithmic];
    pub const TWO_SIZES: [Law; 3] = [Law::Joint, Law::PureJoint, Law::JointProduct];

    pub fn name(self) -> &'static str {
        match self {
            Law::PowerLaw => "power_law",
            Law::PurePowerLaw => "pure_power_law",
            Law::Exponential => "exponential",
            Law::Logarithmic => "logarithmic",
            Law::Joint => "joint",
            Law::PureJoint => "pure_joint",
            Law::JointProduct => "joint_product",
        }
    }

    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            Law::PowerLaw | Law::Exponential => &["a", "b", "c"],
            Law::PurePowerLaw | Law::Logarithmic => &["a", "b"],
            Law::Joint => &["a", "b", "d", "e", "c"],
            Law::PureJoint => &["a", "b", "d", "e"],
            Law::JointProduct => &["a", "b", "e", "c"],
        }
    }

    pub fn over_both(self) -> bool {
        Law::TWO_SIZES.contains(&self)
    }

    /// Empty for the logarithmic law, which is no sum of positive terms.
    pub(super) fn terms(self) -> &'static [Term] {
        use Feature::{Data, LogData, LogModel};
        match self {
            Law::PowerLaw => const { &[term(0, &[(1, LogData)]), term(2, &[])] },
            Law::PurePowerLaw => const { &[term(0, &[(1, LogData)])] },
            Law::Exponential => const { &[term(0, &[(1, Data)]), term(2, &[])] },
            Law::Logarithmic => &[],
            Law::Joint => const { &[term(0, &[(1, LogData)]), term(2, &[(3, LogModel)]), term(4, &[])] },
            Law::PureJoint => const { &[term(0, &[(1, LogData)]), term(2, &[(3, LogModel)])] },
            Law::JointProduct => const { &[term(0, &[(1, LogData), (2, LogModel)]), term(3, &[])] },
        }
    }

    /// The error at sizes `data` and `model`, for parameters in the order of [`Law::parameters`].
    pub fn at(self, parameters: &[f64], data: f64, model: f64) -> f64 {
        if self == Law::Logarithmic {
            return parameters[0] - parameters[1] * data.ln();
        }
        self.terms().iter().map(|t| value(t, parameters, data, model)).sum()
    }

    /// ∂ error / ∂ parameters at one place.
    pub(super) fn gradient(self, parameters: &[f64], data: f64, model: f64) -> Vec<f64> {
        if self == Law::Logarithmic {
            return vec![1.0, -data.ln()];
        }
        let mut out = vec![0.0; parameters.len()];
        for term in self.terms() {
            let value = value(term, parameters, data, model);
            out[term.amplitude] += value / parameters[term.amplitude];
            for &(at, feature) in term.exponents {
                out[at] -= value * feature.of(data, model);
            }
        }
        out
    }
}

fn value(term: &Term, parameters: &[f64], data: f64, model: f64) -> f64 {
    let slope: f64 = term.exponents.iter().map(|&(at, feature)| parameters[at] * feature.of(data, model)).sum();
    parameters[term.amplitude] * (-slope).exp()
}

impl Feature {
    pub(super) fn of(self, data: f64, model: f64) -> f64 {
        match self {
            Feature::LogData => data.ln(),
            Feature::LogModel => model.ln(),
            Feature::Data => data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laws_are_what_their_formulas_say() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(Law::PowerLaw.at(&[2.0, 0.5, 0.1], 100.0, 1.0), 0.3);
        close(Law::Exponential.at(&[2.0, 0.01, 0.1], 100.0, 1.0), 2.0 * (-1.0f64).exp() + 0.1);
        close(Law::Logarithmic.at(&[0.9, 0.1], 1f64.exp(), 1.0), 0.8);
        close(Law::Joint.at(&[2.0, 0.5, 3.0, 1.0, 0.1], 100.0, 10.0), 0.6);
        close(Law::PureJoint.at(&[2.0, 0.5, 3.0, 1.0], 100.0, 10.0), 0.5);
        close(Law::JointProduct.at(&[2.0, 0.5, 1.0, 0.1], 100.0, 10.0), 0.12);
    }

    #[test]
    fn gradients_are_the_slopes_of_values() {
        for law in Law::ONE_SIZE.into_iter().chain(Law::TWO_SIZES) {
            let at = vec![0.7; law.parameters().len()];
            let gradient = law.gradient(&at, 3.0, 2.0);
            for (i, slope) in gradient.iter().enumerate() {
                let moved = |by: f64| {
                    let mut p = at.clone();
                    p[i] += by;
                    law.at(&p, 3.0, 2.0)
                };
                let want = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((slope - want).abs() < 1e-8, "{} {i}: {slope} {want}", law.name());
            }
        }
    }
}
