//! Images per second of training steps and of inference: `cargo bench --bench compute -- MODEL PX BATCH [REPEATS [f32|bf16]]`.
//!
//! With `operators` as the first word, times of each operator instead. Prints one JSON object a
//! line, with the median over the repeats. A training step is forward, backward and one update. It
//! compares with nothing itself.

#[path = "compute/operators.rs"]
mod operators;

use scaleshot::model::{Bit, BitConfig, Images, Precision};
use scaleshot::nn::{SgdAgc, Targets, sgd_agc::SgdAgcOptions};
use scaleshot::random::stream::Stream;
use std::time::Instant;

const CLASSES: usize = 10;

struct Case {
    model: String,
    px: usize,
    batch: usize,
    repeats: usize,
    precision: Precision,
}

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let run = if words.first().is_some_and(|w| w == "operators") {
        words.remove(0);
        operators::run
    } else {
        whole
    };
    let number = |i: usize, default: usize| words.get(i).and_then(|w| w.parse().ok()).unwrap_or(default);
    let precision = if words.get(4).is_some_and(|w| w == "bf16") { Precision::Bf16 } else { Precision::F32 };
    let cases = match words.first() {
        Some(model) => {
            vec![Case {
                model: model.clone(),
                px: number(1, 224),
                batch: number(2, 16),
                repeats: number(3, 5),
                precision,
            }]
        }
        None => vec![
            Case { model: "bit-r26x0.25".into(), px: 32, batch: 64, repeats: 20, precision },
            Case { model: "bit-r50x1".into(), px: 128, batch: 16, repeats: 5, precision },
            Case { model: "bit-r50x1".into(), px: 224, batch: 16, repeats: 5, precision },
        ],
    };
    for case in &cases {
        if let Err(error) = run(case) {
            eprintln!("{}: {error}", case.model);
            std::process::exit(1);
        }
    }
}

fn whole(case: &Case) -> scaleshot::error::Result<()> {
    let mut bit = Bit::new(BitConfig::parse(&case.model, CLASSES)?, 0);
    bit.set_precision(case.precision);
    let mut optimizer = SgdAgc::new(SgdAgcOptions::default());
    let mut stream = Stream::new(0, "bench", 0, 0);
    let data: Vec<f32> = (0..case.batch * case.px * case.px * 3).map(|_| stream.range(-1.0, 1.0) as f32).collect();
    let labels: Vec<i32> = (0..case.batch).map(|_| stream.below(CLASSES as u64) as i32).collect();
    let x = Images { data: &data, n: case.batch, height: case.px, width: case.px };
    let mut train = Vec::new();
    for _ in 0..=case.repeats {
        let start = Clock::now();
        bit.zero_gradients();
        bit.loss_backward(&x, &Targets::Class(&labels), 1.0 / case.batch as f64)?;
        bit.step(&mut optimizer, 0.003);
        train.push(start.elapsed());
    }
    let mut infer = Vec::new();
    for _ in 0..=case.repeats {
        let start = Clock::now();
        bit.logits(&x)?;
        infer.push(start.elapsed());
    }
    for (mode, times) in [("train", train), ("infer", infer)] {
        // The first run makes the buffers.
        let times = &times[1..];
        let wall = median(times.iter().map(|t| t.0));
        let best = times.iter().map(|t| t.0).fold(f64::INFINITY, f64::min);
        println!(
            "{}",
            serde_json::json!({
                "model": case.model, "px": case.px, "batch": case.batch, "mode": mode,
                "precision": case.precision, "kernel": case.precision.kernel_name(),
                "threads": rayon::current_num_threads(), "images_per_s": case.batch as f64 / wall,
                "median_s": wall, "best_s": best, "cpu_s": median(times.iter().map(|t| t.1)), "peak_rss_mib": peak_rss_mib(),
            })
        );
    }
    Ok(())
}

/// The middle value, or the upper of the two.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The most memory that this process ever held, in MiB.
fn peak_rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Wall and processor time since a moment; the latter says more on a machine that others use too.
struct Clock {
    wall: Instant,
    cpu_s: f64,
}

impl Clock {
    fn now() -> Self {
        Clock { wall: Instant::now(), cpu_s: cpu_s() }
    }

    fn elapsed(&self) -> (f64, f64) {
        (self.wall.elapsed().as_secs_f64(), cpu_s() - self.cpu_s)
    }
}

/// Seconds that all threads of this process have run; 0 where the system does not tell.
fn cpu_s() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = |task: std::fs::DirEntry| -> Option<f64> {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(nanoseconds).sum::<f64>() / 1e9
}
