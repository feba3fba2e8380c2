//! Many targets as one number: interquartile mean and probability of improvement (Agarwal et al. 2021).
//!
//! Intervals draw runs within every target. The targets themselves are taken as given: nothing is said about
//! targets that were not run.

use serde_json::Value;

use super::{Params, contrast::Level, number};
use crate::{
    error::Result,
    eval::statistic::{aggregate, mean},
    progress::Cancel,
    report::frame::{Frame, label, natural_order},
};

/// The runs of one level by target.
struct ByTarget {
    others: Vec<(String, Value)>,
    level: Value,
    targets: Vec<(Value, Vec<f64>)>,
}

/// One row a level and combination of the axes that are neither compared, paired nor targets.
pub fn table(levels: &[Level], baseline: &Value, params: &Params, metric: &str, cancel: &Cancel) -> Result<Frame> {
    let mut rows = super::declared(
        &["across", "metric", "remark"],
        &["targets", "runs"],
        &["mean", "iqm", "iqm_low", "iqm_high", "improvement", "improvement_low", "improvement_high"],
    );
    let Some(axis) = params.targets.as_deref() else { return rows.frame() };
    let groups = group(levels, axis);
    for group in &groups {
        cancel.check()?;
        let strata: Vec<Vec<f64>> = group.targets.iter().map(|(_, runs)| runs.clone()).collect();
        let all = strata.concat();
        let (resamples, seed) = (params.resamples as usize, params.resample_seed);
        let iqm = |s: &[Vec<f64>]| aggregate::interquartile_mean(&s.concat());
        let spread = aggregate::stratified(&strata, resamples, seed, iqm).and_then(|b| b.percentile(params.level));
        let base = groups.iter().find(|g| g.level == *baseline && g.others == group.others);
        let better = base.filter(|b| b.level != group.level).map(|b| improvement(group, b, params));
        let mut remarks = Vec::new();
        if spread.is_none() {
            let poor = group.targets.iter().find(|(_, runs)| runs.len() < 2);
            remarks.push(match poor {
                Some((target, runs)) => {
                    format!("{axis} {} has {} run: no interval over runs", label(target), runs.len())
                }
                None => "no runs with a value".into(),
            });
        }
        if group.targets.len() < 3 {
            remarks.push(format!(
                "{} targets: their interquartile mean says no more than their mean",
                group.targets.len()
            ));
        }
        let (value, interval, why) = better.unwrap_or_default();
        remarks.extend(why);
        rows.push(group.others.iter().map(|(n, v)| (n.as_str(), v.clone())).chain([
            ("across", Value::from(params.across.as_str())),
            ("level", group.level.clone()),
            ("metric", Value::from(metric)),
            ("targets", Value::from(group.targets.len())),
            ("runs", Value::from(all.len())),
            ("mean", number(mean(&all))),
            ("iqm", number(aggregate::interquartile_mean(&all))),
            ("iqm_low", number(spread.map(|i| i.low))),
            ("iqm_high", number(spread.map(|i| i.high))),
            ("improvement", number(value)),
            ("improvement_low", number(interval.map(|i| i.low))),
            ("improvement_high", number(interval.map(|i| i.high))),
            ("remark", Value::from(remarks.join("; "))),
        ]));
    }
    rows.frame()
}

fn group(levels: &[Level], axis: &str) -> Vec<ByTarget> {
    let mut groups: Vec<ByTarget> = Vec::new();
    for level in levels {
        let others: Vec<_> = level.others.iter().filter(|(n, _)| n != axis).cloned().collect();
        let target = level.others.iter().find(|(n, _)| n == axis).map_or(Value::Null, |(_, v)| v.clone());
        let at = groups.iter().position(|g| g.others == others && g.level == level.level).unwrap_or_else(|| {
            groups.push(ByTarget { others, level: level.level.clone(), targets: Vec::new() });
            groups.len() - 1
        });
        groups[at].targets.push((target, level.values()));
    }
    for group in &mut groups {
        group.targets.sort_by(|a, b| natural_order(&a.0, &b.0));
    }
    groups
}

type Improvement = (Option<f64>, Option<crate::eval::statistic::interval::Interval>, Option<String>);

/// Probability that a run of this level beats one of the baseline on the same target, over the shared targets.
fn improvement(group: &ByTarget, base: &ByTarget, params: &Params) -> Improvement {
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for (target, runs) in &group.targets {
        if let Some((_, of_base)) = base.targets.iter().find(|(t, _)| t == target) {
            x.push(runs.clone());
            y.push(of_base.clone());
        }
    }
    let left_out = group.targets.len() - x.len();
    let why = (left_out > 0).then(|| format!("{left_out} targets are not measured at the baseline"));
    let strata: Vec<Vec<f64>> = x.iter().chain(&y).cloned().collect();
    let n = x.len();
    let statistic = |s: &[Vec<f64>]| aggregate::mean_improvement(&s[..n], &s[n..]);
    let spread = aggregate::stratified(&strata, params.resamples as usize, params.resample_seed, statistic);
    (aggregate::mean_improvement(&x, &y), spread.and_then(|b| b.percentile(params.level)), why)
}
