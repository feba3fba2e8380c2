//! Peak memory of fine-tuning at 480 px: `cargo bench --bench memory [-- MODEL BATCH STEPS [f32|bf16 [none|blocks]]]`.
//!
//! Without arguments: BiT-R50x1 with batch 32 by automatic micro-batches, and one step of BiT-R152x4, whose blocks
//! are computed twice. Every case runs in a process of its own, through the same training loop as `transfer`, on
//! pictures of 512 px. Prints one JSON object a line; sizes are in GiB. Linux tells the peak; elsewhere it is null. More
//! than 20 GiB is an error.

use scaleshot::{
    data::{
        augment::{Augment, View},
        loader::{Examples, Labels, MemoryPixels},
        sampling::ImageDims,
    },
    error::{Error, Result},
    model::{Bit, BitConfig, Precision},
    progress::{Cancel, Silent},
    random::stream::Stream,
    train::{
        FitSpec, Session,
        collective::Alone,
        fit,
        memory::{Auto, Checkpointing, MicroBatch, activation_bytes, micro_batch},
    },
};
use std::{process::ExitCode, sync::Arc, time::Instant};

const CLASSES: usize = 10;
const STORED_PX: usize = 512;
const PX: usize = 480;
/// What no case may take: a step of the paper's largest network on a machine of 24 GiB.
const LIMIT_GIB: f64 = 20.0;
const GIB: f64 = (1u64 << 30) as f64;
const CASES: [[&str; 5]; 2] = [["bit-r50x1", "32", "2", "f32", "none"], ["bit-r152x4", "1", "1", "f32", "blocks"]];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let done = if words.is_empty() { each_alone() } else { one(&words) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn each_alone() -> Result<()> {
    let program = std::env::current_exe().map_err(Error::io("this program"))?;
    for case in CASES {
        let status = std::process::Command::new(&program).args(case).status().map_err(Error::io(&program))?;
        if !status.success() {
            return Err(Error::invalid(format!("{} failed", case.join(" "))));
        }
    }
    Ok(())
}

fn one(words: &[String]) -> Result<()> {
    let word = |i: usize, default: &str| words.get(i).cloned().unwrap_or(default.into());
    let number = |i: usize, default: &str| -> Result<u64> {
        word(i, default).parse().map_err(|_| Error::invalid(format!("{} is no number", word(i, default))))
    };
    let (name, batch, steps) = (word(0, ""), number(1, "32")? as usize, number(2, "1")?);
    let precision = if word(3, "f32") == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let checkpoint = if word(4, "none") == "blocks" { Checkpointing::Blocks } else { Checkpointing::None };
    let mut model = Bit::new(BitConfig::parse(&name, CLASSES)?, 0);
    let auto = Some(MicroBatch::Auto(Auto::Auto));
    let spec = FitSpec {
        batch,
        micro_batch: auto,
        precision,
        checkpoint,
        view: View::Whole { px: PX as u32 },
        augment: Augment::Crop { resize_px: STORED_PX as u32 },
        ..FitSpec::sgd_agc(0.003, steps)
    };
    let (cancel, begun) = (Cancel::default(), Instant::now());
    let session =
        Session { progress: &Silent, cancel: &cancel, checkpoint: None, checkpoint_every_s: 3600, collective: &Alone };
    let fit = fit(&mut model, &examples(batch)?, None, &spec, &session)?;
    let image_bytes = activation_bytes(model.config(), (PX, PX), precision, checkpoint);
    let values: usize = model.parameters().iter().map(|p| p.data.len()).sum();
    let micro = micro_batch(auto, batch, image_bytes);
    let line = serde_json::json!({
        "case": format!("{name} {PX} px batch {batch}"),
        "precision": precision.name(), "kernels": precision.kernel_name(), "checkpoint": word(4, "none"),
        "micro_batch": micro, "steps": fit.steps, "loss": fit.curve.last().map(|p| p.loss),
        "s_per_step": begun.elapsed().as_secs_f64() / steps as f64,
        "input_wait_share": fit.pace.wait_share(),
        "weights_gib": values as f64 * 4.0 / GIB,
        "estimated_activations_gib": image_bytes as f64 * micro as f64 / GIB,
        "peak_gib": peak_bytes().map(|b| b as f64 / GIB),
    });
    println!("{line}");
    match peak_bytes() {
        Some(peak) if peak as f64 > LIMIT_GIB * GIB => {
            Err(Error::invalid(format!("{name}: {:.1} GiB, and {LIMIT_GIB} was the limit", peak as f64 / GIB)))
        }
        _ => Ok(()),
    }
}

/// Noise with labels.
fn examples(n: usize) -> Result<Examples> {
    let mut stream = Stream::new(0, "memory", 0, 0);
    let dims = ImageDims { height: STORED_PX, width: STORED_PX, channels: 3 };
    let bytes = (0..n * STORED_PX * STORED_PX * 3).map(|_| stream.bits() as u8).collect();
    let y = (0..n).map(|i| (i % CLASSES) as i32).collect();
    let source = Arc::new(MemoryPixels::new(dims, bytes)?);
    Examples::new(source, (0..n as u32).map(|i| (0, i)).collect(), Labels::Class { classes: CLASSES, y })
}

fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}
