//! Checks `bit_model.json`: the published model's logits, losses, gradients and SGD+AGC steps.

use scaleshot::model::{Bit, BitConfig, Images};
use scaleshot::nn::Targets;
use scaleshot::nn::cuda::Machine;
use scaleshot::nn::sgd_agc::{SgdAgc, SgdAgcOptions};
use serde_json::Value;
use std::sync::Arc;

const PASSES: f64 = 1e-4;
const NORMS: f64 = 1e-3;

fn uniform(stream: u64, i: u64) -> f64 {
    let mut z = (stream << 32).wrapping_add(i).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f64 / (1u64 << 24) as f64
}

fn number(value: &Value, key: &str) -> Result<f64, String> {
    value[key].as_f64().ok_or_else(|| format!("{key} is no number"))
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        Value::Null => vec![-1.0],
        other => other.as_f64().into_iter().collect(),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    value[key].as_array().ok_or_else(|| format!("{key} is no list"))
}

/// A value that must be within `tolerance` of the reference.
fn near(what: &str, found: f64, wanted: f64, tolerance: f64) -> Result<f64, String> {
    let off = (found - wanted).abs();
    if off <= tolerance { Ok(off) } else { Err(format!("{what}: {found}, expected {wanted} within {tolerance}")) }
}

fn l2(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

fn model(json: &Value) -> Result<Bit, String> {
    let config = &json["config"];
    let blocks: Vec<usize> = numbers(&config["blocks"]).iter().map(|&b| b as usize).collect();
    let blocks = <[usize; 4]>::try_from(blocks).map_err(|_| "blocks are not four")?;
    let classes = number(config, "classes")? as usize;
    let mut bit = Bit::new(BitConfig { blocks, width: number(config, "width")?, classes }, 0);
    let amplitude = number(config, "amplitude")?;
    let names: Vec<&str> = list(json, "parameters")?.iter().filter_map(Value::as_str).collect();
    let own = bit.names();
    if own.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>() != names {
        return Err(format!("parameters are named {own:?}, expected {names:?}"));
    }
    for (k, (name, shape)) in own.iter().enumerate() {
        let value = |i: usize| {
            let u = uniform(k as u64, i as u64);
            match () {
                () if name.ends_with("bias") => 0.2 * (u - 0.5),
                () if shape.len() == 1 => 1.0 + 0.2 * (u - 0.5),
                () => amplitude * (2.0 * u - 1.0),
            }
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| value(i) as f32).collect();
        bit.set(name, &values).map_err(|e| e.to_string())?;
    }
    Ok(bit)
}

fn run(json: &Value, run: &Value, machine: Option<&Arc<dyn Machine>>) -> Result<String, String> {
    let config = &json["config"];
    let mut bit = model(json)?;
    bit.place(machine.cloned()).map_err(|e| e.to_string())?;
    let shape: Vec<usize> = numbers(&config["shape"]).iter().map(|&s| s as usize).collect();
    let &[n, channels, height, width] = shape.as_slice() else { return Err(format!("shape {shape:?}")) };
    let mut data = vec![0f32; n * channels * height * width];
    for (i, value) in data.iter_mut().enumerate() {
        let (image, rest) = (i / (channels * height * width), i % (channels * height * width));
        let (pixel, channel) = (rest / channels, rest % channels);
        let nchw = (image * channels + channel) * height * width + pixel;
        *value = (2.0 * uniform(1000, nchw as u64) - 1.0) as f32;
    }
    let x = Images { data: &data, n, height, width };
    let labels = numbers(&run["labels"]);
    let task = run["task"].as_str().unwrap_or_default();
    let (classes, multi): (Vec<i32>, Vec<i8>) = labels.iter().map(|&l| (l as i32, l as i8)).unzip();
    let targets = match task {
        "multiclass" => Targets::Class(&classes),
        "multilabel" => Targets::Multi(&multi),
        other => return Err(format!("unknown task {other}")),
    };
    let scale = 1.0 / targets.terms(bit.config().classes) as f64;

    let logits = bit.logits(&x).map_err(|e| e.to_string())?;
    let wanted = numbers(&run["logits"]);
    let mut worst = [0f64; 4];
    for (i, (&found, &wanted)) in logits.iter().zip(&wanted).enumerate() {
        worst[0] = worst[0].max(near(&format!("{task}: logit {i}"), f64::from(found), wanted, PASSES)?);
    }
    if logits.len() != wanted.len() {
        return Err(format!("{task}: {} logits, expected {}", logits.len(), wanted.len()));
    }
    let before: Vec<Vec<f32>> =
        bit.names().iter().map(|(n, _)| bit.get(n).map_err(|e| e.to_string())).collect::<Result<_, _>>()?;
    let loss = bit.loss_backward(&x, &targets, scale).map_err(|e| e.to_string())?;
    worst[1] = near(&format!("{task}: loss"), loss, number(run, "loss")?, PASSES)?;
    for entry in list(run, "gradients")? {
        let name = entry["name"].as_str().unwrap_or_default();
        let gradient = bit.gradient(name).map_err(|e| e.to_string())?;
        let wanted = number(entry, "l2")?;
        let off = near(&format!("{task}: gradient norm of {name}"), l2(&gradient), wanted, NORMS * wanted)?;
        worst[2] = worst[2].max(off / wanted);
        let typical = wanted / (gradient.len() as f64).sqrt();
        for (i, (&found, wanted)) in gradient.iter().zip(numbers(&entry["first"])).enumerate() {
            let tolerance = NORMS * typical.max(wanted.abs());
            near(&format!("{task}: gradient {i} of {name}"), f64::from(found), wanted, tolerance)?;
        }
    }
    let mut optimizer = SgdAgc::new(SgdAgcOptions {
        momentum: number(config, "momentum")?,
        nesterov: config["nesterov"].as_bool().unwrap_or_default(),
        weight_decay: number(config, "weight_decay")?,
        clipping: Some(number(config, "agc_clipping")?),
        eps: number(config, "agc_eps")?,
        ..SgdAgcOptions::default()
    });
    for step in list(run, "trajectory")? {
        bit.step(&mut optimizer, number(config, "lr")?);
        bit.zero_gradients();
        let loss = bit.loss_backward(&x, &targets, scale).map_err(|e| e.to_string())?;
        let what = format!("{task}: loss after step {}", step["step"]);
        worst[1] = worst[1].max(near(&what, loss, number(step, "loss_after")?, PASSES)?);
    }
    bit.gather().map_err(|e| e.to_string())?;
    for (entry, before) in list(run, "moved_l2")?.iter().zip(&before) {
        let name = entry["name"].as_str().unwrap_or_default();
        let after = bit.get(name).map_err(|e| e.to_string())?;
        let moved: Vec<f32> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        let wanted = number(entry, "l2")?;
        worst[3] =
            worst[3].max(near(&format!("{task}: movement of {name}"), l2(&moved), wanted, NORMS * wanted)? / wanted);
    }
    let [logits, losses, gradients, moves] = worst;
    Ok(format!(
        "{task}: logits within {logits:.1e}, losses within {losses:.1e}, gradient norms within {gradients:.1e}, movements within {moves:.1e}"
    ))
}

/// What held, one line a run, or the first thing that did not; on a device where one is given.
pub fn check(json: &Value, machine: Option<&Arc<dyn Machine>>) -> Result<Vec<String>, String> {
    let runs = list(json, "runs")?;
    if runs.is_empty() {
        return Err("no runs".into());
    }
    runs.iter().map(|r| run(json, r, machine)).collect()
}
