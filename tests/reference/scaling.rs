//! `scaling.json`: laws of the error over sizes as SciPy fits them; `scaling.py` made it.

use scaleshot::eval::scaling::{Fit, Law, Loss, Observation, fit};
use serde_json::Value;

/// What was checked, one line a law; or the first number that differs.
pub fn check(json: &Value) -> Result<Vec<String>, String> {
    let cases = json["scaling"].as_array().filter(|c| !c.is_empty()).ok_or("scaling: no cases")?;
    cases.iter().map(|case| one(case).map_err(|e| format!("{}: {e}", case["law"]))).collect()
}

fn numbers(v: &Value) -> Result<Vec<f64>, String> {
    v.as_array().map(|a| a.iter().filter_map(Value::as_f64).collect()).ok_or_else(|| format!("no numbers: {v}"))
}

fn observed(case: &Value, error: &Value) -> Result<Vec<Observation>, String> {
    let (data, model, error) = (numbers(&case["data"])?, numbers(&case["model"])?, numbers(error)?);
    if data.len() != error.len() || model.len() != error.len() {
        return Err("sizes and errors differ in length".into());
    }
    Ok(data
        .into_iter()
        .zip(model)
        .zip(error)
        .map(|((data, model), error)| Observation { data, model, error })
        .collect())
}

fn one(case: &Value) -> Result<String, String> {
    let law: Law = serde_json::from_value(case["law"].clone()).map_err(|e| e.to_string())?;
    let points = observed(case, &case["error"])?;
    let squares = fit(law, Loss::LeastSquares, &points).ok_or("no least-squares fit")?;
    same(&squares, &case["least_squares"], 1e-4)?;
    let errors = squares.standard_errors(&points).ok_or("no standard errors")?;
    for (name, found) in law.parameters().iter().zip(errors) {
        close(&format!("standard error of {name}"), found, &case["least_squares"]["se"][name], 1e-3)?;
    }
    huber(law, &points, &case["huber"])?;
    let odd = &case["with_one_odd_run"];
    huber(law, &observed(case, &odd["error"])?, &odd["huber"])?;
    Ok(format!("{}: {} runs, least squares and Huber", law.name(), points.len()))
}

fn huber(law: Law, points: &[Observation], want: &Value) -> Result<(), String> {
    let delta = want["delta"].as_f64().ok_or("no delta")?;
    let found = fit(law, Loss::Huber(Some(delta)), points).ok_or("no robust fit")?;
    same(&found, want, 2e-3)
}

/// The objective is at most that of SciPy, and the parameters are the same.
fn same(found: &Fit, want: &Value, relative: f64) -> Result<(), String> {
    let objective = want["objective"].as_f64().ok_or("no objective")?;
    if found.objective > objective * (1.0 + 1e-7) {
        return Err(format!("objective {} is above the reference {objective}", found.objective));
    }
    for (name, value) in found.law.parameters().iter().zip(&found.parameters) {
        close(name, *value, &want["parameters"][name], relative)?;
    }
    Ok(())
}

fn close(name: &str, found: f64, want: &Value, relative: f64) -> Result<(), String> {
    match want.as_f64() {
        Some(w) if (found - w).abs() <= relative * w.abs() => Ok(()),
        _ => Err(format!("{name} is {found}, reference {want}")),
    }
}
