//! Holds AdamW and the first weights of a linear layer against PyTorch (`make_torch.py`).

use scaleshot::{
    model::head,
    nn::{
        Optimizer,
        adamw::{AdamW, AdamWOptions},
        kernel::Kernel,
        optimizer::Parts,
        parameter::Parameter,
    },
};
use serde_json::Value;

/// Sentences on what agreed, or the first difference.
pub fn check(json: &Value) -> Result<Vec<String>, String> {
    let mut said = Vec::new();
    let cases = json["adamw"].as_array().ok_or("adamw is no list")?;
    let mut furthest = 0f64;
    for (i, case) in cases.iter().enumerate() {
        for kernel in Kernel::available() {
            let far = adamw(case, kernel).map_err(|e| format!("adamw[{i}] with {}: {e}", kernel.name()))?;
            furthest = furthest.max(far);
        }
    }
    said.push(format!("{} runs of AdamW, at most {furthest:.1e} apart", cases.len()));
    if let Some(cases) = json["linear"].as_array() {
        for (i, case) in cases.iter().enumerate() {
            linear(case).map_err(|e| format!("linear[{i}]: {e}"))?;
        }
        said.push(format!("{} linear layers, to the bit", cases.len()));
    }
    Ok(said)
}

fn floats(value: &Value) -> Result<Vec<f32>, String> {
    let list = value.as_array().ok_or("a list is missing")?;
    list.iter().map(|v| v.as_f64().map(|v| v as f32).ok_or_else(|| format!("{v} is no number"))).collect()
}

fn number(case: &Value, name: &str) -> Result<f64, String> {
    case[name].as_f64().ok_or_else(|| format!("{name} is missing"))
}

/// Every step's weights within 2e-6 of PyTorch's; returns how far the furthest is.
fn adamw(case: &Value, kernel: Kernel) -> Result<f64, String> {
    let shape = floats(&case["shape"])?;
    let shape: Vec<usize> = shape.into_iter().map(|v| v as usize).collect();
    let shape: [usize; 4] = shape.try_into().map_err(|_| "shape has not four sides")?;
    let mut parameters = [Parameter::conv("conv.weight".into(), shape)];
    parameters[0].data = parameters[0].pack(&floats(&case["weight"])?);
    let mut optimizer = AdamW::new(AdamWOptions {
        beta1: number(case, "beta1")?,
        beta2: number(case, "beta2")?,
        eps: number(case, "eps")?,
        weight_decay: number(case, "weight_decay")?,
        parts: Parts::default(),
    });
    let steps = case["gradients"].as_array().ok_or("gradients are missing")?;
    let mut furthest = 0f64;
    for (step, (gradient, after)) in steps.iter().zip(case["after"].as_array().ok_or("after is missing")?).enumerate() {
        parameters[0].gradient = parameters[0].pack(&floats(gradient)?);
        optimizer.step(kernel, &mut parameters, 1, number(case, "lr")? / (1.0 + step as f64));
        let ours = parameters[0].unpack(&parameters[0].data);
        for (at, (ours, theirs)) in ours.iter().zip(floats(after)?).enumerate() {
            let far = f64::from((ours - theirs).abs());
            furthest = furthest.max(far);
            if far.is_nan() || far > 2e-6 {
                return Err(format!("step {step}, weight {at}: {ours} here, {theirs} in PyTorch"));
            }
        }
    }
    Ok(furthest)
}

fn linear(case: &Value) -> Result<(), String> {
    let [seed, inputs, outputs] = ["seed", "inputs", "outputs"].map(|name| number(case, name));
    let (weight, bias) = head::linear(inputs? as usize, outputs? as usize, seed? as u64);
    let (first, last) = (floats(&case["first"])?, floats(&case["last"])?);
    if weight[..first.len()] != first || weight[weight.len() - last.len()..] != last {
        return Err(format!("weights begin {:?} here, {first:?} in PyTorch", &weight[..first.len()]));
    }
    let sum: f64 = weight.iter().map(|&w| f64::from(w)).sum();
    if (sum - number(case, "sum")?).abs() > 1e-9 {
        return Err(format!("weights add up to {sum} here, {} in PyTorch", case["sum"]));
    }
    let theirs = floats(&case["bias"])?;
    if bias == theirs { Ok(()) } else { Err(format!("biases {bias:?} here, {theirs:?} in PyTorch")) }
}
