//! The random draws of `protocol.json` (shuffles and both few-shot draws, with the published code) and of
//! `statistics.json` (NumPy's generators).

use std::path::Path;

use scaleshot::{
    data::fewshot::{Draw, draw},
    random::{
        numpy::RandomState,
        pcg64::{Pcg64, SeedSequence},
    },
};
use serde_json::{Value, json};
use sha2::Digest as _;

/// Whether `json` has draws to check.
pub fn knows(json: &Value) -> bool {
    json["shuffle"].is_array() || json["rng"].is_object()
}

/// Holds the draws against the numbers; one line for each kind. Needs no tables.
pub fn check(json: &Value, _tables: Option<&Path>) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    if let Some(cases) = json["shuffle"].as_array() {
        for case in cases {
            let n = number(case, "n")?;
            let order = RandomState::new(number(case, "seed")? as u32).permutation(n as usize);
            let train = (n as f64 * case["ratio"].as_f64().unwrap_or(0.0)) as u64;
            same(case, "train", &json!(train))?;
            same(case, "first", &json!(order[..10]))?;
            same(case, "last", &json!(order[order.len() - 5..]))?;
            same(case, "sha256_comma_joined", &json!(joined(&order)))?;
        }
        lines.push(format!("{} shuffles", cases.len()));
    }
    for (key, rule) in [("fewshot_loader", Draw::Loader), ("fewshot_labels", Draw::Labels)] {
        let Some(cases) = json[key].as_array() else { continue };
        for case in cases {
            let class: Vec<i32> =
                case["labels"].as_array().into_iter().flatten().filter_map(|l| Some(l.as_i64()? as i32)).collect();
            if class.len() as u64 != number(case, "n")? {
                return Err(format!("{key}: {} labels are given", class.len()));
            }
            let (classes, shots) = (number(case, "classes")? as usize, number(case, "shots")? as usize);
            let drawn = draw(rule, &class, classes, shots, number(case, "seed")? as u32).map_err(|e| e.to_string())?;
            if !case["indices"].is_null() {
                same(case, "indices", &json!(drawn))?;
            }
            same(case, "first", &json!(drawn[..drawn.len().min(10)]))?;
            same(case, "sha256_comma_joined", &json!(joined(&drawn)))?;
        }
        lines.push(format!("{} draws by {key}", cases.len()));
    }
    if json["rng"].is_object() {
        let rng = &json["rng"];
        let text = |words: &[u64]| json!(words.iter().map(u64::to_string).collect::<Vec<_>>());
        let mut pcg = Pcg64::new(0);
        let raw = [pcg.bits(), pcg.bits(), pcg.bits()];
        let mut ints = RandomState::new(0);
        let ints: Vec<i64> = (0..3).map(|_| ints.randint(0, (1 << 31) - 1)).collect();
        let mut uniforms = RandomState::new(0);
        let uniforms: Vec<f64> = (0..3).map(|_| uniforms.random_sample()).collect();
        for (key, ours) in [
            ("RandomState(0).permutation(10)", json!(RandomState::new(0).permutation(10))),
            ("RandomState(42).permutation(10)", json!(RandomState::new(42).permutation(10))),
            ("default_rng(0).permutation(10)", json!(Pcg64::new(0).permutation(10))),
            ("default_rng(42).permutation(10)", json!(Pcg64::new(42).permutation(10))),
            ("PCG64(0) raw u64 x3", text(&raw)),
            ("SeedSequence(0).generate_state(4,u64)", text(&SeedSequence::new(0).generate(4))),
            ("RandomState(0).randint(0,2**31-1,3)", json!(ints)),
            ("RandomState(0).random_sample(3)", json!(uniforms)),
        ] {
            same(rng, key, &ours)?;
        }
        lines.push("8 streams of NumPy".into());
    }
    Ok(lines)
}

fn number(case: &Value, key: &str) -> Result<u64, String> {
    case[key].as_u64().ok_or_else(|| format!("no {key} in {case}"))
}

fn same(case: &Value, key: &str, ours: &Value) -> Result<(), String> {
    if &case[key] == ours { Ok(()) } else { Err(format!("{key}: {ours}, expected {}", case[key])) }
}

fn joined(order: &[u32]) -> String {
    let text = order.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    sha2::Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}
