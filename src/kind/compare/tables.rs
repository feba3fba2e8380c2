//! The five tables of a comparison.

use serde_json::Value;

use super::{
    Params,
    cases::{Cases, Intervals},
    contrast::{self, Contrast, Level},
    declared, limits, number, overall,
};
use crate::{
    error::Result,
    eval::statistic::{
        correction,
        interval::{Interval, t_interval},
        mean,
        paired::{self, Test},
        variance,
    },
    kind::measurements::{Point, place},
    report::frame::{Frame, label},
};

pub struct Tables {
    pub table: Frame,
    pub tests: Frame,
    pub delong: Frame,
    pub levels: Frame,
    pub overall: Frame,
    /// What the record and the report say beside: (what, count, sentence).
    pub notes: Vec<(&'static str, u64, String)>,
}

/// A test over seeds: its name, what it needs, and the test itself.
type OverSeeds = (&'static str, fn(&[f64], &Params) -> Option<Test>);

const OVER_SEEDS: [OverSeeds; 4] = [
    ("t", |d, _| paired::t_test(d)),
    ("wilcoxon", |d, _| paired::wilcoxon(d).filter(|_| d.len() > 1)),
    ("sign_flip", |d, _| paired::sign_flip(d).filter(|_| d.len() > 1)),
    ("nadeau_bengio", |d, p| paired::nadeau_bengio(d, p.overlap?)),
];

/// Holm's and Benjamini and Hochberg's correction over the tests that are defined.
pub fn corrected(p: &[Option<f64>]) -> Vec<(Option<f64>, Option<f64>)> {
    let defined: Vec<f64> = p.iter().flatten().copied().collect();
    let (mut holm, mut bh) =
        (correction::holm(&defined).into_iter(), correction::benjamini_hochberg(&defined).into_iter());
    p.iter().map(|p| p.map_or((None, None), |_| (holm.next(), bh.next()))).collect()
}

fn ends(i: Option<Interval>) -> (Value, Value) {
    (number(i.map(|i| i.low)), number(i.map(|i| i.high)))
}

pub fn make(points: &[Point], cases: &Cases, params: &Params, metric: &str) -> Result<Tables> {
    let levels = contrast::levels(points, &params.across, &params.paired_by)?;
    let baseline = contrast::baseline(&levels, params.baseline.as_ref(), &params.across)?;
    let contrasts = contrast::contrasts(&levels, &baseline);
    let mut notes = Vec::new();
    if contrasts.is_empty() {
        let known: Vec<String> = levels.iter().map(|l| label(&l.level)).collect();
        let mut known: Vec<&str> = known.iter().map(String::as_str).collect();
        known.dedup();
        notes.push((
            "no_contrast",
            0,
            format!("axis {} has only {}: there is nothing to compare", params.across, known.join(", ")),
        ));
    }
    let dropped: usize = contrasts.iter().map(|c| c.dropped).sum();
    if dropped > 0 {
        notes.push((
            "dropped_pairs",
            dropped as u64,
            format!("{metric} is undefined or was not run on one side of the pair"),
        ));
    }
    let mut sentences: Vec<(String, u64)> = Vec::new();
    for sentence in contrasts.iter().filter_map(|c| limits(c.pairs.len())) {
        match sentences.iter_mut().find(|(s, _)| *s == sentence) {
            Some((_, count)) => *count += 1,
            None => sentences.push((sentence, 1)),
        }
    }
    notes.extend(sentences.into_iter().map(|(sentence, count)| ("design_limits", count, sentence)));
    let tests: Vec<Vec<Option<Test>>> =
        OVER_SEEDS.iter().map(|(_, test)| contrasts.iter().map(|c| test(&c.differences(), params)).collect()).collect();
    Ok(Tables {
        table: table(points, &contrasts, &tests, cases, params, metric)?,
        tests: test_rows(&contrasts, &tests, params, metric)?,
        delong: delong(points, &contrasts, cases, params, metric)?,
        levels: level_rows(points, &levels, cases, params, metric)?,
        overall: overall::table(&levels, &baseline, params, metric, cases.cancel())?,
        notes,
    })
}

/// The columns that name a contrast.
fn names<'a>(c: &'a Contrast, params: &'a Params, metric: &'a str) -> Vec<(&'a str, Value)> {
    let others = c.from.others.iter().map(|(n, v)| (n.as_str(), v.clone()));
    let class = params.class.iter().map(|c| ("class", Value::from(c.as_str())));
    others
        .chain([
            ("across", Value::from(params.across.as_str())),
            ("from", c.from.level.clone()),
            ("to", c.to.level.clone()),
            ("metric", Value::from(metric)),
        ])
        .chain(class)
        .collect()
}

/// Names of the ends of every interval over cases.
const OVER_CASES: [&str; 6] =
    ["bootstrap_low", "bootstrap_high", "bca_low", "bca_high", "two_level_low", "two_level_high"];

fn case_columns(cases: &Intervals) -> Vec<(&'static str, Value)> {
    let mut out = vec![
        ("unit", cases.units.map_or(Value::Null, |u| Value::from(u.0))),
        ("units", cases.units.map_or(Value::Null, |u| Value::from(u.1))),
    ];
    let all = [cases.percentile, cases.bca, cases.two_level].map(ends);
    out.extend(OVER_CASES.iter().zip(all.into_iter().flat_map(|(low, high)| [low, high])).map(|(n, v)| (*n, v)));
    out
}

fn table(
    points: &[Point],
    contrasts: &[Contrast],
    tests: &[Vec<Option<Test>>],
    cases: &Cases,
    params: &Params,
    metric: &str,
) -> Result<Frame> {
    let mut rows = declared(&["across", "metric", "remark"], &["pairs", "dropped"], &["difference", "low", "high"]);
    let adjusted: Vec<_> =
        tests.iter().map(|t| corrected(&t.iter().map(|t| t.map(|t| t.p)).collect::<Vec<_>>())).collect();
    for (i, c) in contrasts.iter().enumerate() {
        let d = c.differences();
        let mut remarks: Vec<String> = limits(d.len()).into_iter().collect();
        if d.len() > 1 && tests[0][i].is_none() {
            remarks.push("all differences are equal: no t test".into());
        }
        let (low, high) = ends(t_interval(&d, params.level));
        let p = |test: usize| number(tests[test][i].map(|t| t.p));
        let mut row = names(c, params, metric);
        row.extend([
            ("pairs", Value::from(d.len())),
            ("dropped", Value::from(c.dropped)),
            ("mean_from", number(mean(&c.before()))),
            ("mean_to", number(mean(&c.after()))),
            ("difference", number(mean(&d))),
            ("low", low),
            ("high", high),
            ("p_t", p(0)),
            ("p_wilcoxon", p(1)),
            ("p_sign_flip", p(2)),
            ("p_nadeau_bengio", p(3)),
            ("p_t_holm", number(adjusted[0][i].0)),
            ("p_t_bh", number(adjusted[0][i].1)),
        ]);
        if !cases.is_empty() {
            let sides: Vec<Vec<&Point>> =
                c.pairs.iter().map(|(a, b)| vec![&points[a.point], &points[b.point]]).collect();
            let found = cases.intervals(&sides, &params.plan(metric))?;
            row.extend(case_columns(&found));
            remarks.extend(found.why);
        }
        row.push(("remark", Value::from(remarks.join("; "))));
        rows.push(row);
    }
    rows.frame()
}

fn test_rows(contrasts: &[Contrast], tests: &[Vec<Option<Test>>], params: &Params, metric: &str) -> Result<Frame> {
    let mut rows = declared(&["across", "metric", "test", "remark"], &["pairs"], &["statistic", "p", "p_holm", "p_bh"]);
    for ((name, _), found) in OVER_SEEDS.iter().zip(tests) {
        if *name == "nadeau_bengio" && params.overlap.is_none() {
            continue;
        }
        let adjusted = corrected(&found.iter().map(|t| t.map(|t| t.p)).collect::<Vec<_>>());
        for ((c, test), (holm, bh)) in contrasts.iter().zip(found).zip(adjusted) {
            let pairs = c.pairs.len();
            let exact = matches!(*name, "wilcoxon" | "sign_flip");
            let remark = match test {
                Some(_) if exact && pairs < 6 => format!("no p below {} with {pairs} pairs", paired::smallest_p(pairs)),
                Some(_) => String::new(),
                None if pairs < 2 => limits(pairs).unwrap_or_default(),
                None if *name == "sign_flip" => limits(pairs).unwrap_or_default(),
                None => "all differences are equal".into(),
            };
            let mut row = names(c, params, metric);
            row.extend([
                ("test", Value::from(*name)),
                ("pairs", Value::from(pairs)),
                ("statistic", number(test.map(|t| t.statistic))),
                ("p", number(test.map(|t| t.p))),
                ("p_holm", number(holm)),
                ("p_bh", number(bh)),
                ("remark", Value::from(remark)),
            ]);
            rows.push(row);
        }
    }
    rows.frame()
}

fn delong(points: &[Point], contrasts: &[Contrast], cases: &Cases, params: &Params, metric: &str) -> Result<Frame> {
    let mut rows = declared(&["across", "metric", "class", "remark"], &[], &["difference", "z", "p", "p_holm", "p_bh"]);
    let mut found = Vec::new();
    for c in contrasts {
        for (before, after) in &c.pairs {
            let areas = cases.areas(&points[before.point], &points[after.point], &params.plan(metric))?;
            found.extend(areas.into_iter().map(|area| (c, &before.pair, area)));
        }
    }
    let adjusted = corrected(&found.iter().map(|(.., area)| area.test.map(|t| t.p)).collect::<Vec<_>>());
    for ((c, pair, area), (holm, bh)) in found.iter().zip(adjusted) {
        let defined = |v: f64| number((!v.is_nan()).then_some(v));
        let ((from_low, from_high), (to_low, to_high)) = (ends(area.intervals[0]), ends(area.intervals[1]));
        let (low, high) = ends(area.difference);
        let mut row = names(c, params, metric);
        row.extend([
            (params.paired_by.as_str(), (*pair).clone()),
            ("class", Value::from(area.class.as_str())),
            ("auc_from", defined(area.auc[0])),
            ("auc_from_low", from_low),
            ("auc_from_high", from_high),
            ("auc_to", defined(area.auc[1])),
            ("auc_to_low", to_low),
            ("auc_to_high", to_high),
            ("difference", defined(area.auc[1] - area.auc[0])),
            ("low", low),
            ("high", high),
            ("z", number(area.test.map(|t| t.statistic))),
            ("p", number(area.test.map(|t| t.p))),
            ("p_holm", number(holm)),
            ("p_bh", number(bh)),
            ("remark", Value::from(area.why.as_str())),
        ]);
        rows.push(row);
    }
    rows.frame()
}

fn level_rows(points: &[Point], levels: &[Level], cases: &Cases, params: &Params, metric: &str) -> Result<Frame> {
    let mut rows = declared(
        &["across", "metric", "remark"],
        &["runs", "undefined"],
        &["mean", "sd", "sd_population", "low", "high"],
    );
    for level in levels {
        let values = level.values();
        let (low, high) = ends(t_interval(&values, params.level));
        let sd = variance(&values);
        let n = values.len() as f64;
        let mut remarks = Vec::new();
        match values.len() {
            0 => remarks.push(format!("{metric} has no value in {}", place(&level.others))),
            1 => remarks.push("one run: no deviation and no interval over seeds".into()),
            _ => {}
        }
        let class = params.class.iter().map(|c| ("class", Value::from(c.as_str())));
        let mut row: Vec<(&str, Value)> = level.others.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
        row.push(("across", Value::from(params.across.as_str())));
        row.push(("level", level.level.clone()));
        row.push(("metric", Value::from(metric)));
        row.extend(class);
        row.extend([
            ("runs", Value::from(values.len())),
            ("undefined", Value::from(level.runs.len() - values.len())),
            ("mean", number(mean(&values))),
            ("sd", number(sd.map(f64::sqrt))),
            ("sd_population", number(sd.map(|v| (v * (n - 1.0) / n).sqrt()))),
            ("low", low),
            ("high", high),
        ]);
        if !cases.is_empty() {
            let sides: Vec<Vec<&Point>> =
                level.runs.iter().filter(|r| r.value.is_some()).map(|r| vec![&points[r.point]]).collect();
            let found = cases.intervals(&sides, &params.plan(metric))?;
            row.extend(case_columns(&found));
            remarks.extend(found.why);
        }
        row.push(("remark", Value::from(remarks.join("; "))));
        rows.push(row);
    }
    rows.frame()
}

#[cfg(test)]
mod tests;
