//! The three tables of a scaling study.

use polars::prelude::DataType;
use serde_json::Value;

use super::{At, Choose, Group, Params};
use crate::{
    error::Result,
    eval::scaling::{
        Fit, Law, Loss, Observation, fit,
        refusal::{self, Demand},
        spread::{self, Extrapolation, Spread},
    },
    kind::measurements::place,
    progress::Cancel,
    report::frame::{Frame, Rows},
};

pub struct Tables {
    pub table: Frame,
    pub predicted: Frame,
    pub points: Frame,
    /// (what, count, sentence).
    pub notes: Vec<(&'static str, u64, String)>,
}

/// One law in one group.
struct Fitted {
    law: Law,
    fit: Option<Fit>,
    standard_errors: Option<Vec<f64>>,
    aicc: Option<f64>,
    extrapolation: Option<Extrapolation>,
    spread: Option<Spread>,
    remarks: Vec<String>,
}

impl Fitted {
    fn new(law: Law, points: &[Observation], params: &Params, cancel: &Cancel) -> Self {
        let mut out = Fitted {
            law,
            fit: None,
            standard_errors: None,
            aicc: None,
            extrapolation: None,
            spread: None,
            remarks: Vec::new(),
        };
        let loss = params.loss();
        let logarithms = loss != Loss::LeastSquares;
        if let Some(why) = refusal::refuse(law, points, params.demand(), logarithms) {
            out.remarks.push(why);
            return out;
        }
        let Some(found) = fit(law, loss, points) else {
            out.remarks.push("no start of the fit ended in a finite law".into());
            return out;
        };
        out.standard_errors = found.standard_errors(points);
        out.aicc = found.aicc(points);
        let (seen, unseen) = spread::hold_out(points, params.hold_out as usize);
        // The sizes that are left need not bear the law as firmly: they must only determine it.
        let demand = Demand { sizes: 3, ..params.demand() };
        match refusal::refuse(law, &seen, demand, logarithms) {
            Some(why) => out.remarks.push(format!("without the largest {}: {why}", params.hold_out)),
            None => out.extrapolation = spread::extrapolation(law, loss, &seen, &unseen),
        }
        let draws = (params.resamples as usize, params.resample_seed);
        match Spread::new(&found, loss, points, draws, cancel) {
            Ok(spread) => out.spread = Some(spread),
            Err(why) => out.remarks.push(format!("no interval: {why}")),
        }
        out.fit = Some(found);
        out
    }

    fn interval(&self, params: &Params, of: impl Fn(&Fit) -> f64) -> (Value, Value) {
        let found = self.spread.as_ref().and_then(|s| s.interval(params.level, of));
        (number(found.map(|i| i.0)), number(found.map(|i| i.1)))
    }
}

/// Which law a group is best described by; `None` where none could be fitted.
fn choose(laws: &[Fitted], params: &Params) -> Option<(usize, &'static str)> {
    let able: Vec<usize> = (0..laws.len()).filter(|&i| laws[i].fit.is_some()).collect();
    let least = |of: &dyn Fn(usize) -> Option<f64>| -> Option<usize> {
        let values: Option<Vec<(f64, usize, usize)>> =
            able.iter().map(|&i| Some((of(i)?, laws[i].law.parameters().len(), i))).collect();
        // Of equals the law with fewer parameters.
        values?.into_iter().min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map(|v| v.2)
    };
    let by_extrapolation = || least(&|i| laws[i].extrapolation.as_ref().map(|e| e.off)).map(|i| (i, "extrapolation"));
    let by_aicc = || least(&|i| laws[i].aicc).map(|i| (i, "aicc"));
    match (able.as_slice(), params.choose) {
        ([], _) => None,
        ([only], _) => Some((*only, "only one")),
        (_, Choose::Extrapolation) => by_extrapolation().or_else(by_aicc),
        (_, Choose::Aicc) => by_aicc(),
    }
}

fn number(v: Option<f64>) -> Value {
    v.filter(|v| v.is_finite()).map_or(Value::Null, Value::from)
}

/// All parameters of all laws; a law has only its own.
const PARAMETERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const LOW: [&str; 5] = ["a_low", "b_low", "c_low", "d_low", "e_low"];
const HIGH: [&str; 5] = ["a_high", "b_high", "c_high", "d_high", "e_high"];
const ERRORS: [&str; 5] = ["a_se", "b_se", "c_se", "d_se", "e_se"];

fn declared(texts: &[&str], counts: &[&str], numbers: &[&str]) -> Rows {
    let with = |rows: Rows, names: &[&str], of: DataType| names.iter().fold(rows, |r, n| r.declare(n, of.clone()));
    with(with(with(Rows::new(), texts, DataType::String), counts, DataType::Int64), numbers, DataType::Float64)
}

/// # Errors
/// [`crate::error::Error::Interrupted`] within a resample of the request.
pub fn make(groups: &[Group], params: &Params, metric: &str, cancel: &Cancel) -> Result<Tables> {
    let laws = params.laws();
    let mut table = declared(
        &["metric", "law", "chosen_by", "resampled", "remark"],
        &["runs", "undefined", "sizes"],
        &["objective", "delta", "aicc", "extrapolation_error"],
    )
    .declare("chosen", DataType::Boolean);
    let mut predicted = declared(
        &["metric", "law", "remark"],
        &[],
        &["data_size", "model_size", "error", "error_low", "error_high", "score", "score_low", "score_high"],
    );
    let mut points = declared(
        &["metric", "law"],
        &["runs"],
        &["data_size", "model_size", "error", "score", "fitted", "fitted_score", "foretold"],
    );
    let mut notes = Vec::new();
    let one_minus = params.one_minus(metric)?;
    for group in groups {
        let fitted: Vec<Fitted> = laws.iter().map(|law| Fitted::new(*law, &group.points, params, cancel)).collect();
        cancel.check()?;
        let chosen = choose(&fitted, params);
        if let (None, Some(first)) = (chosen, fitted.first()) {
            let name = if group.others.is_empty() { String::new() } else { format!("{}: ", place(&group.others)) };
            notes.push(("no_law", 1, format!("{name}{}", first.remarks.join("; "))));
        }
        if group.undefined > 0 {
            notes.push((
                "undefined_metric",
                group.undefined as u64,
                format!("{metric} of these runs is undefined; they are left out"),
            ));
        }
        for (i, one) in fitted.iter().enumerate() {
            let by = chosen.filter(|c| c.0 == i).map(|c| c.1);
            let names = |law: Law| {
                let others = group.others.iter().map(|(n, v)| (n.as_str(), v.clone()));
                others.chain([("metric", Value::from(metric)), ("law", Value::from(law.name()))]).collect::<Vec<_>>()
            };
            table.push(names(one.law).into_iter().chain(law_columns(one, group, by, params)));
            for at in &params.predict_at {
                predicted.push(names(one.law).into_iter().chain(prediction(one, group, *at, params, one_minus)));
            }
            if one.fit.is_some() {
                for row in observed(one, group, params, one_minus) {
                    points.push(names(one.law).into_iter().chain(row));
                }
            }
        }
    }
    Ok(Tables { table: table.frame()?, predicted: predicted.frame()?, points: points.frame()?, notes })
}

fn law_columns(one: &Fitted, group: &Group, chosen: Option<&str>, params: &Params) -> Vec<(&'static str, Value)> {
    let sizes = refusal::by_size(&group.points, |p| p.data).len();
    let mut row = vec![
        ("chosen", Value::from(chosen.is_some())),
        ("chosen_by", chosen.map_or(Value::Null, Value::from)),
        ("runs", Value::from(group.points.len())),
        ("undefined", Value::from(group.undefined)),
        ("sizes", Value::from(sizes)),
    ];
    for (k, name) in PARAMETERS.iter().enumerate() {
        let at = one.law.parameters().iter().position(|p| p == name);
        let value = at.and_then(|_| one.fit.as_ref()?.parameter(name));
        let (low, high) = at.map_or((Value::Null, Value::Null), |at| one.interval(params, |f| f.parameters[at]));
        let error = at.and_then(|at| one.standard_errors.as_ref().map(|e| e[at]));
        row.extend([(*name, number(value)), (LOW[k], low), (HIGH[k], high), (ERRORS[k], number(error))]);
    }
    row.extend([
        ("objective", number(one.fit.as_ref().map(|f| f.objective))),
        ("delta", number(one.fit.as_ref().and_then(|f| f.delta))),
        ("aicc", number(one.aicc)),
        ("extrapolation_error", number(one.extrapolation.as_ref().map(|e| e.off))),
        ("resampled", one.spread.as_ref().map_or(Value::Null, |s| Value::from(s.drawn.name()))),
        ("remark", Value::from(one.remarks.join("; "))),
    ]);
    row
}

/// Sizes as the tables name them: a law over the model alone has no data size.
fn size_columns(data: f64, model: f64, params: &Params) -> Vec<(&'static str, Value)> {
    match (&params.data_size, &params.model_size) {
        (Some(_), Some(_)) => vec![("data_size", data.into()), ("model_size", model.into())],
        (Some(_), None) => vec![("data_size", data.into())],
        _ => vec![("model_size", data.into())],
    }
}

fn prediction(one: &Fitted, group: &Group, at: At, params: &Params, one_minus: bool) -> Vec<(&'static str, Value)> {
    let (data, model) = match at {
        At::One(n) => (n, 1.0),
        At::Both { data, model } => (data, model),
    };
    let error = one.fit.as_ref().map(|f| f.at(data, model));
    let (low, high) = one.interval(params, |f| f.at(data, model));
    let score = |v: &Value| v.as_f64().map_or(Value::Null, |v| Value::from(if one_minus { 1.0 - v } else { v }));
    let (score_low, score_high) = if one_minus { (score(&high), score(&low)) } else { (score(&low), score(&high)) };
    let mut remarks = if one.fit.is_none() { one.remarks.clone() } else { Vec::new() };
    let largest = |of: fn(&Observation) -> f64| group.points.iter().map(of).fold(0.0, f64::max);
    for (what, size, run) in [("data", data, largest(|p| p.data)), ("model", model, largest(|p| p.model))] {
        if one.fit.is_some() && size > run && run > 0.0 {
            let what = if params.both() { format!(" {what}") } else { String::new() };
            remarks.push(format!("{:.3} times the largest{what} size that was run", size / run));
        }
    }
    if error.is_some_and(|e| e < 0.0) {
        remarks.push("the law is below 0 there: it does not hold so far out".into());
    }
    let error = number(error);
    let mut row = size_columns(data, model, params);
    row.extend([
        ("score", score(&error)),
        ("score_low", score_low),
        ("score_high", score_high),
        ("error", error),
        ("error_low", low),
        ("error_high", high),
        ("remark", Value::from(remarks.join("; "))),
    ]);
    row
}

/// Every pair of sizes that was run, with what the law says there, and what it said before it had seen it.
fn observed(one: &Fitted, group: &Group, params: &Params, one_minus: bool) -> Vec<Vec<(&'static str, Value)>> {
    let mut places: Vec<(f64, f64)> = group.points.iter().map(|p| (p.data, p.model)).collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    places.dedup();
    let score = |v: f64| if one_minus { 1.0 - v } else { v };
    let mut out = Vec::new();
    for (data, model) in places {
        let of: Vec<f64> =
            group.points.iter().filter(|p| (p.data, p.model) == (data, model)).map(|p| p.error).collect();
        let mean = of.iter().sum::<f64>() / of.len() as f64;
        let fitted = one.fit.as_ref().map(|f| f.at(data, model));
        let held_out = one.extrapolation.iter().flat_map(|e| &e.held_out);
        let foretold = held_out.filter(|h| (h.0, h.1) == (data, model)).map(|h| h.3).next();
        let mut row = size_columns(data, model, params);
        row.extend([
            ("runs", Value::from(of.len())),
            ("error", Value::from(mean)),
            ("score", Value::from(score(mean))),
            ("fitted", number(fitted)),
            ("fitted_score", number(fitted.map(score))),
            ("foretold", number(foretold)),
        ]);
        out.push(row);
    }
    out
}

#[cfg(test)]
mod tests;
