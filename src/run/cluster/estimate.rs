//! What a plan would take of a cluster, from the records of smaller runs.
//!
//! ```text
//! size of a cell     n = images that go through it (passes · rows); rows follow the plan from cells that are known
//! seconds of a core  y = wall time · threads of a record;  y = a + b n over the records of the same node,
//!                    else of the same kind;  a, b ≥ 0, by least squares of relative errors
//! one size only      a is unknown: b = y/n at the one end, a = y at the other; the interval holds both
//! wall of a job      y / processors, for kinds that use all they get; else y
//! wall of the plan   jobs in order, each when its parents are done, so many at one time
//! ```
//!
//! Errors of one node's cells are taken as one error, those of different nodes as independent. The time in the queue
//! is not in it: nobody knows it. Nothing is submitted, and no queue is asked.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet},
};

use serde::Serialize;

use super::{
    group::{Wish, groups},
    profile::Profile,
};
use crate::{
    digest::Digest,
    error::Result,
    kind::{self, ROWS},
    pipeline::Pipeline,
    plan::{Plan, State},
    store::{Store, part::Part, record::Record},
};

/// A number and where it lies with 90 % chance, as far as the records tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Interval {
    pub expected: f64,
    pub low: f64,
    pub high: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    /// Submissions: arrays and single jobs.
    pub jobs: usize,
    /// Cells, each a job or a task of an array.
    pub cells: usize,
    pub core_hours: Interval,
    pub gpu_hours: Interval,
    /// From the first start to the last end, the queue apart.
    pub wall_s: Interval,
    pub nodes: Vec<NodeEstimate>,
    /// Cells of which no record tells anything; they are in no sum.
    pub unknown: Vec<String>,
}

/// The cells of one node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeEstimate {
    pub node: String,
    pub kind: String,
    pub cells: usize,
    /// Images that go through all of them.
    pub images: f64,
    pub core_hours: Interval,
    /// Of the longest.
    pub wall_s: f64,
    pub records: usize,
    /// The largest of these records, in images.
    pub seen_images: f64,
}

/// A finished cell, as far as time goes.
struct Seen {
    node: String,
    kind: String,
    images: f64,
    core_s: f64,
}

/// No two runs take the same time.
const LEAST_SPREAD: f64 = 0.15;
/// Of a normal distribution: 90 % lie within.
const NINETY: f64 = 1.645;

/// The cells of a plan that have to run, by the records of `known`; at most `at_once` jobs at one time, 0 for all.
pub fn estimate(
    pipeline: &Pipeline,
    plan: &Plan,
    known: &Store,
    profile: &Profile,
    max_array: usize,
    at_once: usize,
) -> Result<Estimate> {
    let records = records(known)?;
    let rows_of = rows_by_artifact(&records);
    let seen: Vec<Seen> = records.iter().filter_map(|r| seen(r, &rows_of)).collect();
    let rows = rows(pipeline, plan, &records, &rows_of);
    let runs: HashSet<usize> = plan.cells.iter().filter(|c| c.state == State::Run).map(|c| c.index).collect();
    let todo: Vec<usize> = plan.cells.iter().filter(|c| c.state == State::Run).map(|c| c.index).collect();
    let mut out = Estimate {
        jobs: 0,
        cells: todo.len(),
        core_hours: Interval::default(),
        gpu_hours: Interval::default(),
        wall_s: Interval::default(),
        nodes: Vec::new(),
        unknown: Vec::new(),
    };
    let (mut wishes, mut walls, mut spreads) = (Vec::new(), HashMap::new(), HashMap::new());
    let mut nodes: BTreeMap<&str, NodeEstimate> = BTreeMap::new();
    let mut gpu_errors: BTreeMap<&str, [f64; 2]> = BTreeMap::new();
    for &cell in &todo {
        let spec = &pipeline.cells[cell];
        let own = spec.kind.resources(&spec.params)?;
        let request = profile.request(spec, own, 0);
        let parents = spec.inputs.values().flatten().map(|i| i.cell);
        let parents = parents.filter(|p| runs.contains(p)).collect();
        wishes.push(Wish { cell, node: &spec.node, request: request.clone(), parents });
        let leaf = leaves(&spec.params);
        let images = spec.kind.images(&|path| leaf.get(path).copied(), input_rows(pipeline, cell, &rows)).max(1.0);
        let of_node: Vec<&Seen> = seen.iter().filter(|s| s.node == spec.node && s.kind == spec.kind.name()).collect();
        let of_kind = || seen.iter().filter(|s| s.kind == spec.kind.name()).collect();
        let near: Vec<&Seen> = if of_node.is_empty() { of_kind() } else { of_node };
        let Some(core_s) = predict(&near, images) else {
            out.unknown.push(spec.id.clone());
            walls.insert(cell, 0.0);
            continue;
        };
        let cpus = f64::from(request.all_cpus());
        // What cannot use more than one processor holds the others idle.
        let share = if own.threads == 0 || spec.kind.ranks(&spec.params)? > 1 { cpus } else { 1.0 };
        let wall = core_s.expected / share;
        walls.insert(cell, wall);
        spreads.insert(cell, [core_s.low / core_s.expected, core_s.high / core_s.expected]);
        let hours = |s: f64| s / share * cpus / 3600.0;
        let gpus = f64::from(request.gpus);
        let entry = nodes.entry(&spec.node).or_insert_with(|| NodeEstimate {
            node: spec.node.clone(),
            kind: spec.kind.name().into(),
            cells: 0,
            images: 0.0,
            core_hours: Interval::default(),
            wall_s: 0.0,
            records: near.len(),
            seen_images: near.iter().map(|s| s.images).fold(0.0, f64::max),
        });
        entry.cells += 1;
        entry.images += images;
        entry.wall_s = entry.wall_s.max(wall);
        entry.core_hours.expected += hours(core_s.expected);
        entry.core_hours.low += hours(core_s.low);
        entry.core_hours.high += hours(core_s.high);
        out.gpu_hours.expected += wall * gpus / 3600.0;
        let errors = gpu_errors.entry(&spec.node).or_default();
        errors[0] += (core_s.expected - core_s.low) / share * gpus / 3600.0;
        errors[1] += (core_s.high - core_s.expected) / share * gpus / 3600.0;
    }
    out.nodes = nodes.into_values().collect();
    let hours = || out.nodes.iter().map(|n| n.core_hours);
    let errors: Vec<[f64; 2]> = hours().map(|h| [h.expected - h.low, h.high - h.expected]).collect();
    out.core_hours = around(hours().map(|h| h.expected).sum(), errors.iter());
    out.gpu_hours = around(out.gpu_hours.expected, gpu_errors.values());
    out.jobs = groups(wishes, if profile.arrays { max_array } else { 0 }).len();
    let wall = |side: usize| {
        let of = |cell: &usize| walls[cell] * spreads.get(cell).map_or(1.0, |s: &[f64; 2]| s[side]);
        schedule(pipeline, &todo, &|cell| of(&cell), at_once)
    };
    let expected = schedule(pipeline, &todo, &|cell| walls[&cell], at_once);
    out.wall_s = Interval { expected, low: wall(0), high: wall(1) };
    Ok(out)
}

/// A sum whose parts have independent errors.
fn around<'a>(expected: f64, errors: impl Iterator<Item = &'a [f64; 2]>) -> Interval {
    let squares = errors.fold([0.0; 2], |sum, e| [sum[0] + e[0] * e[0], sum[1] + e[1] * e[1]]);
    Interval { expected, low: (expected - squares[0].sqrt()).max(0.0), high: expected + squares[1].sqrt() }
}

/// Seconds of a core for `images`, by cells like it; none where there are none.
fn predict(seen: &[&Seen], images: f64) -> Option<Interval> {
    if seen.is_empty() {
        return None;
    }
    let n = seen.len() as f64;
    // Of relative errors: each record is divided by its own time.
    let (mut s1, mut sx, mut sxx, mut sy, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for s in seen {
        let weight = 1.0 / (s.core_s * s.core_s);
        s1 += weight;
        sx += weight * s.images;
        sxx += weight * s.images * s.images;
        sy += weight * s.core_s;
        sxy += weight * s.images * s.core_s;
    }
    let least = seen.iter().map(|s| s.images).fold(f64::INFINITY, f64::min);
    let most = seen.iter().map(|s| s.images).fold(0.0, f64::max);
    let (through, flat) = (sxy / sxx, sy / s1);
    let sizes_differ = most > 1.2 * least;
    let determinant = s1 * sxx - sx * sx;
    let (a, b) = match sizes_differ && determinant > 0.0 {
        true => ((sxx * sy - sx * sxy) / determinant, (s1 * sxy - sx * sy) / determinant),
        false => (0.0, through),
    };
    let (a, b) = match (a < 0.0, b < 0.0) {
        (true, _) => (0.0, through),
        (_, true) => (flat, 0.0),
        _ => (a, b),
    };
    let expected = a + b * images;
    let squares = seen.iter().map(|s| (s.core_s / (a + b * s.images) - 1.0).powi(2)).sum::<f64>();
    let freedom = (n - if sizes_differ { 2.0 } else { 1.0 }).max(1.0);
    // The fewer records and the further beyond them, the wider.
    let beyond = (images / most).max(least / images).max(1.0).log2();
    let spread = (squares / freedom).sqrt().max(LEAST_SPREAD) * (1.0 + 1.0 / n).sqrt() * (1.0 + 0.5 * beyond);
    let (mut low, mut high) = (expected * (1.0 - NINETY * spread).max(0.1), expected * (1.0 + NINETY * spread));
    if !sizes_differ {
        // All of it by the image, or none of it.
        low = low.min(flat * (1.0 - NINETY * LEAST_SPREAD));
        high = high.max(flat * (1.0 + NINETY * LEAST_SPREAD));
    }
    Some(Interval { expected, low, high })
}

/// When the last job ends, if jobs start in order as soon as their parents are done and one of `at_once` is free.
fn schedule(pipeline: &Pipeline, todo: &[usize], wall: &dyn Fn(usize) -> f64, at_once: usize) -> f64 {
    // Milliseconds, since times have to be ordered.
    let mut free: BinaryHeap<Reverse<u64>> = (0..at_once.min(todo.len())).map(|_| Reverse(0)).collect();
    let mut ends: HashMap<usize, u64> = HashMap::new();
    let mut last = 0;
    for &cell in todo {
        let parents = pipeline.cells[cell].inputs.values().flatten().filter_map(|i| ends.get(&i.cell));
        let ready = parents.copied().max().unwrap_or(0);
        let start = free.pop().map_or(ready, |Reverse(at)| at.max(ready));
        let end = start + (wall(cell) * 1000.0) as u64;
        if at_once > 0 {
            free.push(Reverse(end));
        }
        ends.insert(cell, end);
        last = last.max(end);
    }
    last as f64 / 1000.0
}

fn records(store: &Store) -> Result<Vec<Record>> {
    let mut out = Vec::new();
    for key in store.records()? {
        // One that is gone by now, or of another version, tells nothing.
        out.extend(store.record(&key).ok().flatten().filter(|r| r.accepted.is_none()));
    }
    Ok(out)
}

/// Rows of datasets by their content.
fn rows_by_artifact(records: &[Record]) -> HashMap<Digest, f64> {
    let mut out = HashMap::new();
    for record in records {
        if let Some(rows) = record.measured.get(ROWS).and_then(|v| v.as_f64()) {
            out.extend(record.outputs.values().map(|artifact| (artifact.digest(), rows)));
        }
    }
    out
}

fn seen(record: &Record, rows: &HashMap<Digest, f64>) -> Option<Seen> {
    let kind = kind::find(&record.kind)?;
    let core_s = record.wall_ms.max(1) as f64 / 1000.0 * record.threads.max(1) as f64;
    let node = record.cell.split('[').next().unwrap_or_default().to_string();
    let images = kind.images(&|path| number(record, path), rows_in(record, rows)).max(1.0);
    Some(Seen { node, kind: record.kind.clone(), images, core_s })
}

fn number(record: &Record, wanted: &str) -> Option<f64> {
    record.parts.iter().find_map(|part| match part {
        Part::Param { path, value } if path == wanted => value.as_f64(),
        _ => None,
    })
}

fn rows_in(record: &Record, rows: &HashMap<Digest, f64>) -> f64 {
    let inputs = record.parts.iter().filter_map(|part| match part {
        Part::Input { digest, .. } => rows.get(digest),
        _ => None,
    });
    inputs.sum()
}

/// Rows of every cell's dataset: of its record where it is current, else in proportion to what the same node made of
/// its inputs before; 0 where it makes none, or nothing tells.
fn rows(pipeline: &Pipeline, plan: &Plan, records: &[Record], rows_of: &HashMap<Digest, f64>) -> Vec<f64> {
    let by_key: HashMap<Digest, &Record> = records.iter().map(|r| (r.key, r)).collect();
    let current: HashMap<usize, Digest> =
        plan.cells.iter().filter_map(|c| Some((c.index, c.current.as_ref()?.key))).collect();
    let made = |record: &Record| record.measured.get(ROWS).and_then(|v| v.as_f64());
    let mut out: Vec<f64> = Vec::with_capacity(pipeline.cells.len());
    for (cell, spec) in pipeline.cells.iter().enumerate() {
        if let Some(rows) = current.get(&cell).and_then(|key| made(by_key.get(key)?)) {
            out.push(rows);
            continue;
        }
        let leaf = leaves(&spec.params);
        let declared = spec.kind.rows(&|path| leaf.get(path).copied(), input_rows(pipeline, cell, &out));
        let ratios = records.iter().filter(|r| r.kind == spec.kind.name()).filter_map(|record| {
            let before = spec.kind.rows(&|path| number(record, path), rows_in(record, rows_of));
            let same = record.cell.split('[').next() == Some(spec.node.as_str());
            (before > 0.0).then_some((same, made(record)? / before))
        });
        let ratios: Vec<(bool, f64)> = ratios.collect();
        let any = ratios.iter().any(|(same, _)| *same);
        let near: Vec<f64> = ratios.into_iter().filter(|(same, _)| *same == any).map(|(_, ratio)| ratio).collect();
        let mean = if near.is_empty() { 0.0 } else { near.iter().sum::<f64>() / near.len() as f64 };
        out.push(declared * mean);
    }
    out
}

/// Rows of the datasets that a cell gets, by the rows of the cells before it.
fn input_rows(pipeline: &Pipeline, cell: usize, rows: &[f64]) -> f64 {
    pipeline.cells[cell].inputs.values().flatten().filter_map(|i| rows.get(i.cell)).sum()
}

/// Numbers of parameters by path.
fn leaves(params: &serde_json::Value) -> HashMap<String, f64> {
    fn walk(value: &serde_json::Value, path: String, out: &mut HashMap<String, f64>) {
        match value {
            serde_json::Value::Object(map) => {
                for (name, value) in map {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(value, path, out);
                }
            }
            value => out.extend(value.as_f64().map(|v| (path, v))),
        }
    }
    let mut out = HashMap::new();
    walk(params, String::new(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::fixture::Builder;

    fn all(seen: &[Seen]) -> Vec<&Seen> {
        seen.iter().collect()
    }

    fn at(images: f64, core_s: f64) -> Seen {
        Seen { node: "n".into(), kind: "k".into(), images, core_s }
    }

    #[test]
    fn twice_the_images_take_what_start_and_images_say() {
        let line: Vec<Seen> = [100.0, 200.0, 400.0].map(|n| at(n, 5.0 + 0.1 * n)).into();
        let found = predict(&all(&line), 800.0).unwrap();
        assert!((found.expected - 85.0).abs() < 1e-6, "{found:?}");
        assert!(found.low < 85.0 && found.high > 85.0 && found.high < 2.0 * 85.0, "{found:?}");
        // One size: between all of it by the image and none of it.
        let one = predict(&all(&[at(100.0, 10.0), at(100.0, 10.0)]), 200.0).unwrap();
        assert!(one.expected == 20.0 && one.low <= 10.0 && one.high >= 20.0, "{one:?}");
        // More records make it surer, a longer way less sure.
        let many: Vec<Seen> = (0..40).map(|i| at(100.0 + f64::from(i), 5.0 + 0.1 * (100.0 + f64::from(i)))).collect();
        let width = |i: Interval| (i.high - i.low) / i.expected;
        let sure = predict(&all(&many), 200.0).unwrap();
        assert!(width(sure) < width(predict(&all(&many[38..]), 200.0).unwrap()));
        assert!(width(sure) < width(predict(&all(&many), 2000.0).unwrap()));
        assert_eq!(predict(&[], 10.0), None);
    }

    #[test]
    fn nothing_takes_less_than_no_time() {
        let falling = [at(100.0, 10.0), at(400.0, 5.0)];
        let found = predict(&all(&falling), 1600.0).unwrap();
        assert!(found.expected > 0.0 && found.low > 0.0, "{found:?}");
        let steep = [at(100.0, 1.0), at(200.0, 10.0)];
        assert!(predict(&all(&steep), 10.0).unwrap().expected > 0.0);
    }

    #[test]
    fn jobs_wait_for_their_parents_and_for_a_place() {
        let mut builder = Builder::new().cell("a", json!({}), &[]);
        for i in 0..4 {
            builder = builder.cell(&format!("b{i}"), json!({"text": i.to_string()}), &[("data", &[0])]);
        }
        let pipeline = builder.cell("c", json!({}), &[("all", &[1, 2, 3, 4])]).build();
        let all: Vec<usize> = (0..6).collect();
        assert_eq!(schedule(&pipeline, &all, &|_| 10.0, 0), 30.0);
        assert_eq!(schedule(&pipeline, &all, &|_| 10.0, 2), 40.0);
        assert_eq!(schedule(&pipeline, &all, &|_| 10.0, 1), 60.0);
        assert_eq!(schedule(&pipeline, &[], &|_| 10.0, 1), 0.0);
    }
}
