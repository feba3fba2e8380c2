//! What the cases of the test set say: bootstrap of patients or images, of seeds and cases at once, and DeLong.
//!
//! All need the predictions behind the measurements. Both sides of a contrast must have been tested on the same
//! images with the same truths; where they were not, there is no number and the reason is said.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    error::{Error, Result},
    eval::{
        metric::{
            at_rows::AtRows,
            probability::{sigmoid, softmax},
        },
        statistic::{
            bootstrap::{self, Units},
            delong::DeLong,
            interval::Interval,
            paired::Test,
        },
    },
    kind::{Cell, Input, frames, measurements::Point},
    progress::Cancel,
    report::predictions::{Predictions, Truths},
};

/// What a resample draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Patients with all of their images; images where the set has no patients.
    #[default]
    Patient,
    /// Images, each on its own.
    Image,
}

/// How cases are resampled.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub metric: &'a str,
    pub class: Option<&'a str>,
    pub level: f64,
    pub unit: Unit,
    pub resamples: usize,
    pub seed: u64,
}

/// The predictions of every cell.
pub struct Cases {
    sets: Vec<(Vec<(String, serde_json::Value)>, Predictions)>,
    cancel: Cancel,
}

/// Intervals over cases; `None` where they are not defined, which `why` explains.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    /// `patient` or `image`, and how many were drawn from.
    pub units: Option<(&'static str, usize)>,
    pub percentile: Option<Interval>,
    pub bca: Option<Interval>,
    /// Seeds and cases drawn at once.
    pub two_level: Option<Interval>,
    pub why: Vec<String>,
}

/// DeLong's comparison of one class's areas in one pair.
pub struct Area {
    pub class: String,
    pub auc: [f64; 2],
    pub intervals: [Option<Interval>; 2],
    pub difference: Option<Interval>,
    pub test: Option<Test>,
    pub why: String,
}

impl Cases {
    pub fn read(cell: &Cell, inputs: &[Input]) -> Result<Self> {
        let read = |input: &Input| Ok((input.axes.clone(), Predictions::from_frame(&frames::read(cell, input)?)?));
        Ok(Cases { sets: inputs.iter().map(read).collect::<Result<_>>()?, cancel: cell.cancel.clone() })
    }

    #[cfg(test)]
    pub fn of(sets: Vec<(Vec<(String, serde_json::Value)>, Predictions)>) -> Self {
        Cases { sets, cancel: Cancel::default() }
    }

    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The predictions behind a measurement: those whose every axis it shares.
    fn of_point(&self, point: &Point) -> Option<&Predictions> {
        let same = |axes: &[(String, serde_json::Value)]| axes.iter().all(|(n, v)| point.axis(n) == Some(v));
        self.sets.iter().find(|(axes, _)| same(axes)).map(|(_, p)| p)
    }

    /// Intervals of the mean over `sides` of the metric (one point a side), or of its difference (two points).
    ///
    /// # Errors
    /// [`Error::Interrupted`] within a resample of the request.
    pub fn intervals(&self, sides: &[Vec<&Point>], plan: &Plan) -> Result<Intervals> {
        let found: Option<Vec<Vec<&Predictions>>> =
            sides.iter().map(|side| side.iter().map(|p| self.of_point(p)).collect()).collect();
        let Some(found) = found.filter(|f| !f.is_empty()) else {
            return Ok(Intervals::without("the predictions of some cells are not among those given"));
        };
        let flat: Vec<&Predictions> = found.iter().flatten().copied().collect();
        let aligned = match align(&flat) {
            Ok(aligned) => aligned,
            Err(why) => return Ok(Intervals::without(why)),
        };
        let metrics = aligned.iter().map(|p| metric(p, plan)).collect::<Result<Vec<_>>>()?;
        let per_side = found[0].len();
        let at = |side: usize, rows: &[u32]| -> Option<f64> {
            // What is left of the resamples is undefined at once, and the whole is refused below.
            if self.cancel.requested() {
                return None;
            }
            match &metrics[side * per_side..(side + 1) * per_side] {
                [one] => one.at(rows),
                [before, after] => Some(after.at(rows)? - before.at(rows)?),
                _ => None,
            }
        };
        let seeds = found.len();
        let (units, name) = units(&aligned[0], plan.unit);
        let mean = |rows: &[u32]| {
            let values: Option<Vec<f64>> = (0..seeds).map(|s| at(s, rows)).collect();
            crate::eval::statistic::mean(&values?)
        };
        let cases = bootstrap::bootstrap(&units, plan.resamples, plan.seed, mean);
        let both = bootstrap::two_level(seeds, &units, plan.resamples, plan.seed, at);
        self.cancel.check()?;
        let mut out = Intervals {
            units: Some((name, units.len())),
            percentile: cases.as_ref().and_then(|b| b.percentile(plan.level)),
            bca: cases.as_ref().and_then(|b| b.bca(plan.level)),
            two_level: both.as_ref().and_then(|b| b.percentile(plan.level)),
            why: Vec::new(),
        };
        if units.len() < 2 {
            out.why.push(format!("one {name} only: cases cannot be drawn"));
        } else if cases.is_none() {
            out.why.push(format!(
                "no bootstrap: with {} {name}s the metric is undefined in more than a tenth of the resamples",
                units.len()
            ));
        } else if out.bca.is_none() {
            out.why.push("no BCa interval: it is undefined without one of the cases, or all resamples agree".into());
        }
        if seeds < 2 {
            out.why.push("one run a level: no bootstrap over seeds and cases".into());
        }
        Ok(out)
    }

    /// DeLong's test of one pair, for the class asked for or for every class; none where the metric is no area
    /// under a curve.
    pub fn areas(&self, before: &Point, after: &Point, plan: &Plan) -> Result<Vec<Area>> {
        let (true, Some(a), Some(b)) =
            (matches!(plan.metric, "auc" | "mean_auc"), self.of_point(before), self.of_point(after))
        else {
            return Ok(Vec::new());
        };
        let Ok(sides) = align(&[a, b]) else { return Ok(Vec::new()) };
        let names = &sides[0].names;
        let classes: Vec<usize> = match plan.class {
            Some(name) => vec![place(names, name)?],
            // Of two classes the second is the positive one; the other's area is the same.
            None if names.len() == 2 && matches!(sides[0].truth, Truths::Class(_)) => vec![1],
            None => (0..names.len()).collect(),
        };
        Ok(classes.into_iter().map(|class| area(&sides, class, plan.level)).collect())
    }
}

impl Intervals {
    fn without(why: &str) -> Self {
        Intervals { why: vec![why.into()], ..Self::default() }
    }
}

fn place(names: &[String], class: &str) -> Result<usize> {
    names.iter().position(|n| n == class).ok_or_else(|| {
        Error::invalid(format!("the predictions have no class {class}"))
            .with_hint(format!("there are {}", names.join(", ")))
    })
}

fn metric(p: &Predictions, plan: &Plan) -> Result<AtRows> {
    let class = plan.class.map(|c| place(&p.names, c)).transpose()?;
    Ok(AtRows::new(plan.metric, class, &p.logits, p.names.len(), p.truth()))
}

fn units(p: &Predictions, unit: Unit) -> (Units, &'static str) {
    match (&p.patient, unit) {
        (Some(patients), Unit::Patient) if patients.iter().any(Option::is_some) => {
            (Units::patients(patients.iter().map(Option::as_deref)), "patient")
        }
        _ => (Units::rows(p.image.len()), "image"),
    }
}

/// The same rows in the same order for all, or why there are none.
fn align<'a>(sets: &[&'a Predictions]) -> Result<Vec<Cow<'a, Predictions>>, &'static str> {
    let first = sets[0];
    let mut out = Vec::with_capacity(sets.len());
    for set in sets {
        let one = if set.image == first.image { Cow::Borrowed(*set) } else { Cow::Owned(reorder(set, &first.image)?) };
        if one.names != first.names || one.truth != first.truth {
            return Err("the levels were tested on other labels, so that cases cannot be paired");
        }
        out.push(one);
    }
    Ok(out)
}

fn reorder(set: &Predictions, order: &[String]) -> Result<Predictions, &'static str> {
    const OTHER: &str = "the levels were tested on other images, so that cases cannot be paired";
    let known: HashMap<&str, usize> = set.image.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    if known.len() != set.image.len() || order.len() != set.image.len() {
        return Err(OTHER);
    }
    let rows: Vec<usize> =
        order.iter().map(|name| known.get(name.as_str()).copied().ok_or(OTHER)).collect::<Result<_, _>>()?;
    let width = set.names.len();
    let cells = |i: &usize| *i * width..(*i + 1) * width;
    Ok(Predictions {
        image: order.to_vec(),
        patient: set.patient.as_ref().map(|p| rows.iter().map(|&i| p[i].clone()).collect()),
        names: set.names.clone(),
        logits: rows.iter().flat_map(|i| &set.logits[cells(i)]).copied().collect(),
        truth: match &set.truth {
            Truths::Class(y) => Truths::Class(rows.iter().map(|&i| y[i]).collect()),
            Truths::Labels(y) => Truths::Labels(rows.iter().flat_map(|i| &y[cells(i)]).copied().collect()),
        },
    })
}

fn area(sides: &[Cow<Predictions>], class: usize, level: f64) -> Area {
    let width = sides[0].names.len();
    let truth: Vec<Option<bool>> = match &sides[0].truth {
        Truths::Class(y) => y.iter().map(|&y| (y >= 0).then_some(y == class as i32)).collect(),
        Truths::Labels(y) => y.iter().skip(class).step_by(width).map(|&y| (y >= 0).then_some(y > 0)).collect(),
    };
    let positive: Vec<bool> = truth.iter().flatten().copied().collect();
    let scores: Vec<Vec<f64>> = sides
        .iter()
        .map(|p| {
            let all = match &p.truth {
                Truths::Class(_) => softmax(&p.logits, width),
                Truths::Labels(_) => p.logits.iter().map(|&x| sigmoid(x.into())).collect(),
            };
            let of_class = all.into_iter().skip(class).step_by(width);
            of_class.zip(&truth).filter(|(_, t)| t.is_some()).map(|(s, _)| s).collect()
        })
        .collect();
    let positives = positive.iter().filter(|p| **p).count();
    let mut out = Area {
        class: sides[0].names[class].clone(),
        auc: [f64::NAN; 2],
        intervals: [None; 2],
        difference: None,
        test: None,
        why: String::new(),
    };
    match DeLong::new(&[&scores[0], &scores[1]], &positive) {
        Some(delong) => {
            out.auc = [delong.auc[0], delong.auc[1]];
            out.intervals = [delong.interval(0, level), delong.interval(1, level)];
            out.difference = delong.difference(1, 0, level);
            out.test = delong.test(1, 0);
            if out.test.is_none() {
                out.why = "the difference has no variance: equal, constant or perfect scores".into();
            }
        }
        None => {
            out.why = format!(
                "{positives} positive and {} negative images: DeLong needs two of each",
                positive.len() - positives
            );
        }
    }
    out
}
