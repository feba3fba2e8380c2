//! Bootstrap intervals: of cases, of patients with all their cases, of seeds and cases at once.
//!
//! Resample b draws from its own stream of (seed, "bootstrap", b), so intervals depend neither on
//! threads nor on order. An interval is refused, not guessed, where too many resamples leave the
//! statistic undefined (a class drawn away).

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{
    distribution::{normal_cdf, normal_quantile},
    interval::Interval,
    mean, quantile_sorted,
};
use crate::random::stream::Stream;

/// Share of resamples that may be undefined before an interval is refused.
const UNDEFINED_SHARE: f64 = 0.1;

/// What is drawn with replacement: groups of row numbers.
#[derive(Clone, Debug)]
pub struct Units(Vec<Vec<u32>>);

impl Units {
    /// Every row on its own.
    pub fn rows(n: usize) -> Self {
        Units((0..n as u32).map(|i| vec![i]).collect())
    }

    /// Rows of one patient are drawn together; rows without a patient are on their own.
    pub fn patients<'a>(patient: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        let mut units: Vec<Vec<u32>> = Vec::new();
        for (row, p) in patient.into_iter().enumerate() {
            let unit = match p {
                Some(p) => *known.entry(p).or_insert(units.len()),
                None => units.len(),
            };
            if unit == units.len() {
                units.push(Vec::new());
            }
            units[unit].push(row as u32);
        }
        Units(units)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn draw(&self, stream: &mut Stream) -> Vec<u32> {
        let mut rows = Vec::new();
        for _ in 0..self.len() {
            rows.extend(&self.0[stream.below(self.len() as u64) as usize]);
        }
        rows
    }

    fn without(&self, left_out: usize) -> Vec<u32> {
        let mut rows: Vec<u32> =
            self.0.iter().enumerate().filter(|(i, _)| *i != left_out).flat_map(|(_, u)| u).copied().collect();
        rows.sort_unstable();
        rows
    }

    fn all(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = self.0.iter().flatten().copied().collect();
        rows.sort_unstable();
        rows
    }
}

/// The statistic of the sample and of its resamples.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    pub value: f64,
    /// Of the defined resamples, sorted.
    pub resampled: Vec<f64>,
    /// How many resamples left the statistic undefined.
    pub undefined: usize,
    /// Acceleration from the jackknife over units; `None` where some leave-one-out is undefined.
    pub acceleration: Option<f64>,
}

/// Draws `resamples` times from `units`; the statistic is given row numbers (with repeats).
///
/// `None` where the sample itself gives no value, has fewer than two units, or more than a tenth of
/// the resamples is undefined.
pub fn bootstrap(
    units: &Units,
    resamples: usize,
    seed: u64,
    statistic: impl Fn(&[u32]) -> Option<f64> + Sync,
) -> Option<Bootstrap> {
    let finite = |v: Option<f64>| v.filter(|v| v.is_finite());
    let value = finite(statistic(&units.all()))?;
    if units.len() < 2 {
        return None;
    }
    let draws: Vec<Option<f64>> = (0..resamples as u64)
        .into_par_iter()
        .map(|b| finite(statistic(&units.draw(&mut Stream::new(seed, "bootstrap", 0, b)))))
        .collect();
    let left_out: Option<Vec<f64>> =
        (0..units.len()).into_par_iter().map(|i| finite(statistic(&units.without(i)))).collect();
    summarise(value, draws, left_out.as_deref().and_then(acceleration))
}

/// Draws seeds, then cases (the same for every drawn seed), with replacement: how far would the mean
/// over seeds move with other seeds *and* other cases. The statistic is given a seed's number and rows.
pub fn two_level(
    seeds: usize,
    units: &Units,
    resamples: usize,
    seed: u64,
    statistic: impl Fn(usize, &[u32]) -> Option<f64> + Sync,
) -> Option<Bootstrap> {
    let over = |seeds: &[usize], rows: &[u32]| -> Option<f64> {
        let values: Option<Vec<f64>> = seeds.iter().map(|&s| statistic(s, rows)).collect();
        mean(&values?).filter(|v| v.is_finite())
    };
    let every: Vec<usize> = (0..seeds).collect();
    let value = over(&every, &units.all())?;
    if units.len() < 2 || seeds < 2 {
        return None;
    }
    let draws: Vec<Option<f64>> = (0..resamples as u64)
        .into_par_iter()
        .map(|b| {
            let mut stream = Stream::new(seed, "bootstrap two-level", 0, b);
            let drawn: Vec<usize> = (0..seeds).map(|_| stream.below(seeds as u64) as usize).collect();
            over(&drawn, &units.draw(&mut stream))
        })
        .collect();
    summarise(value, draws, None)
}

pub(super) fn summarise(value: f64, draws: Vec<Option<f64>>, acceleration: Option<f64>) -> Option<Bootstrap> {
    let undefined = draws.iter().filter(|d| d.is_none()).count();
    if draws.is_empty() || undefined as f64 > UNDEFINED_SHARE * draws.len() as f64 {
        return None;
    }
    let mut resampled: Vec<f64> = draws.into_iter().flatten().collect();
    resampled.sort_by(f64::total_cmp);
    Some(Bootstrap { value, resampled, undefined, acceleration })
}

/// Σd³ / (6 (Σd²)^1.5) with d = mean of the leave-one-outs − each.
fn acceleration(left_out: &[f64]) -> Option<f64> {
    let m = mean(left_out)?;
    let (mut squares, mut cubes) = (0.0, 0.0);
    for v in left_out {
        let d = m - v;
        squares += d * d;
        cubes += d * d * d;
    }
    Some(if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 })
}

impl Bootstrap {
    pub fn percentile(&self, level: f64) -> Option<Interval> {
        self.between((1.0 - level) / 2.0, (1.0 + level) / 2.0)
    }

    /// Bias-corrected and accelerated (Efron 1987). `None` where the acceleration is not defined or
    /// every resample lies on one side of the value.
    pub fn bca(&self, level: f64) -> Option<Interval> {
        let a = self.acceleration?;
        let n = self.resampled.len() as f64;
        let below = self.resampled.partition_point(|v| *v < self.value) as f64;
        let not_above = self.resampled.partition_point(|v| *v <= self.value) as f64;
        let z0 = normal_quantile((below + not_above) / (2.0 * n));
        let at = |tail: f64| {
            let z = z0 + normal_quantile(tail);
            normal_cdf(z0 + z / (1.0 - a * z))
        };
        let (low, high) = (at((1.0 - level) / 2.0), at((1.0 + level) / 2.0));
        (z0.is_finite() && low.is_finite() && high.is_finite()).then(|| self.between(low, high))?
    }

    fn between(&self, low: f64, high: f64) -> Option<Interval> {
        Some(Interval {
            value: self.value,
            low: quantile_sorted(&self.resampled, low)?,
            high: quantile_sorted(&self.resampled, high)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of<'a>(x: &'a [f64]) -> impl Fn(&[u32]) -> Option<f64> + Sync + 'a {
        move |rows| mean(&rows.iter().map(|&r| x[r as usize]).collect::<Vec<_>>())
    }

    #[test]
    fn intervals_do_not_depend_on_threads() {
        let x: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17)).collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bootstrap(&Units::rows(40), 500, 3, mean_of(&x)).unwrap().bca(0.95))
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn patients_are_drawn_whole_and_widen_the_interval() {
        let x: Vec<f64> = (0..60).map(|i| f64::from(i / 6)).collect();
        let ids: Vec<String> = (0..60).map(|i| format!("p{}", i / 6)).collect();
        let width = |u: &Units| {
            let i = bootstrap(u, 1000, 0, mean_of(&x)).unwrap().percentile(0.95).unwrap();
            i.high - i.low
        };
        let by_patient = Units::patients(ids.iter().map(|s| Some(s.as_str())));
        assert_eq!(by_patient.len(), 10);
        assert!(width(&by_patient) > 1.5 * width(&Units::rows(60)));
        assert_eq!(Units::patients([None, Some("a"), None, Some("a")]).len(), 3);
    }

    #[test]
    fn a_statistic_that_is_mostly_undefined_has_no_interval() {
        let once = |rows: &[u32]| rows.contains(&0).then_some(1.0);
        assert!(bootstrap(&Units::rows(10), 200, 0, once).is_none());
        assert!(bootstrap(&Units::rows(1), 200, 0, |_| Some(1.0)).is_none());
    }

    #[test]
    fn two_levels_reach_further_than_cases_alone() {
        let units = Units::rows(50);
        let value = |seed: usize, rows: &[u32]| {
            Some(seed as f64 + rows.iter().map(|&r| f64::from(r % 2)).sum::<f64>() / rows.len() as f64)
        };
        let both = two_level(4, &units, 500, 1, value).unwrap().percentile(0.95).unwrap();
        let cases = bootstrap(&units, 500, 1, |rows| value(1, rows)).unwrap().percentile(0.95).unwrap();
        assert!(both.high - both.low > 2.0 * (cases.high - cases.low));
        assert!(two_level(1, &units, 500, 1, value).is_none());
    }
}
