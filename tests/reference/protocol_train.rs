//! Holds BiT-HyperRule, resolutions and the pre-training schedules against numbers of the published code.

use scaleshot::train::{
    hyperrule::{self, HyperRule},
    schedule::{Place, Scale, cosine_rate, step_rate},
};
use serde_json::Value;

/// Rates agree to this share; the published code multiplies in the same order, so what is left is the
/// cosine of two mathematical libraries and the parsing of decimals.
const RELATIVE: f64 = 4.0 * f64::EPSILON;

/// Sentences on what agreed, or the first difference. A section that is absent is not an error.
pub fn check(json: &Value) -> Result<Vec<String>, String> {
    let mut said = Vec::new();
    for (name, one) in [
        ("hyperrule", hyper as fn(&Value) -> Result<usize, String>),
        ("resolution", resolution),
        ("pretrain_lr", pretrain),
    ] {
        if let Some(cases) = json.get(name).and_then(Value::as_array) {
            let mut values = 0;
            for (i, case) in cases.iter().enumerate() {
                values += one(case).map_err(|e| format!("{name}[{i}]: {e}"))?;
            }
            said.push(format!("{name}: {} cases, {values} values agree", cases.len()));
        }
    }
    Ok(said)
}

fn number(value: &Value, name: &str) -> Result<f64, String> {
    value.get(name).and_then(Value::as_f64).ok_or_else(|| format!("{name} is missing or no number"))
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a [Value], String> {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| format!("{name} is missing or no list"))
}

fn whole(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| format!("{value} is not a whole number"))
}

fn same(what: String, ours: f64, theirs: f64) -> Result<(), String> {
    if ours == theirs || (ours - theirs).abs() <= RELATIVE * theirs.abs() {
        Ok(())
    } else {
        Err(format!("{what}: {ours:e} here, {theirs:e} published"))
    }
}

fn hyper(case: &Value) -> Result<usize, String> {
    let rule = HyperRule::for_size(number(case, "dataset_size")? as usize);
    let supports = list(case, "schedule")?.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
    if supports != rule.supports() {
        return Err(format!("supports {:?} here, {supports:?} published", rule.supports()));
    }
    same("mixup".into(), rule.mixup(), number(case, "mixup")?)?;
    let rates = list(case, "lr")?;
    for pair in rates {
        let step = whole(&pair[0])?;
        // 0.003 is the base rate of the rule's own code, 0.001 that of the study's fine-tunings.
        match (rule.rate(step, 0.003), pair[1].as_f64()) {
            (None, None) => {}
            (Some(ours), Some(theirs)) => same(format!("step {step}"), ours, theirs)?,
            (ours, theirs) => return Err(format!("step {step}: {ours:?} here, {theirs:?} published")),
        }
    }
    same("final rate".into(), rule.final_rate(0.001), number(case, "final_lr")?)?;
    Ok(rates.len() + 7)
}

fn resolution(case: &Value) -> Result<usize, String> {
    let size = list(case, "size")?.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
    let (resize, crop) = hyperrule::resolution(size[0] as u32, size[1] as u32);
    same("resize".into(), f64::from(resize), number(case, "resize")?)?;
    same("crop".into(), f64::from(crop), number(case, "crop")?)?;
    Ok(2)
}

fn pretrain(case: &Value) -> Result<usize, String> {
    let scale = Scale {
        workers: number(case, "world")? as u32,
        accumulate: number(case, "accumulate")? as u32,
        local_batch: number(case, "local_batch")?,
        base_batch: number(case, "base_batch_size")?,
    };
    let (base, warmup) = (number(case, "base_lr")?, number(case, "warmup_epochs")?);
    let iterations_per_epoch = number(case, "iterations_per_epoch")? as u64;
    let kind = case.get("kind").and_then(Value::as_str).unwrap_or_default();
    let rates = list(case, "lr")?;
    for triple in rates {
        let at = Place { epoch: whole(&triple[0])?, iteration: whole(&triple[1])?, iterations_per_epoch };
        let ours = match kind {
            "step" => step_rate(base, warmup, &[30.0, 60.0, 80.0], &scale, at),
            "cosine" => cosine_rate(base, warmup, 0.0, number(case, "epochs")?, &scale, at),
            other => return Err(format!("unknown kind {other}")),
        };
        let theirs = triple[2].as_f64().ok_or("rate is no number")?;
        same(format!("{kind}, epoch {}, iteration {}", at.epoch, at.iteration), ours, theirs)?;
    }
    Ok(rates.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_numbers_agree_and_a_changed_one_does_not() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/protocol.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let said = check(&json).unwrap();
        assert_eq!(said.len(), 3, "{said:?}");
        json["pretrain_lr"][2]["lr"][5][2] = 0.1148.into();
        assert!(check(&json).unwrap_err().contains("pretrain_lr[2]"));
    }
}
