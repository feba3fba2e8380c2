//! Whole trainings on a device: what they learn, and that an interruption leaves no trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use scaleshot::data::augment::Augment;
use scaleshot::data::loader::{Examples, Labels, MemoryPixels};
use scaleshot::data::sampling::ImageDims;
use scaleshot::error::Error;
use scaleshot::model::{Bit, BitConfig, Precision};
use scaleshot::nn::cuda::Machine;
use scaleshot::progress::{Cancel, Progress, Silent};
use scaleshot::random::stream::Stream;
use scaleshot::train::collective::Alone;
use scaleshot::train::schedule::{CosineSchedule, Schedule};
use scaleshot::train::{Fit, FitSpec, Session, fit};

const SIDE: usize = 32;

/// Grey squares with stripes whose direction and width are the class.
fn stripes(n: usize, seed: u64) -> Examples {
    let mut bytes = Vec::new();
    let y: Vec<i32> = (0..n as i32).map(|i| i % 4).collect();
    for (i, &class) in y.iter().enumerate() {
        let mut s = Stream::new(seed, "stripes", 0, i as u64);
        let (phase, period) = (s.below(8) as usize, if class < 2 { 4 } else { 8 });
        for (row, column) in (0..SIDE).flat_map(|r| (0..SIDE).map(move |c| (r, c))) {
            let at = phase + if class % 2 == 0 { row } else { column };
            let base = if at % period < period / 2 { 200.0 } else { 60.0 };
            bytes.push((base + 20.0 * s.normal()).clamp(0.0, 255.0) as u8);
        }
    }
    let source = MemoryPixels::new(ImageDims { height: SIDE, width: SIDE, channels: 1 }, bytes).unwrap();
    let places = (0..n as u32).map(|i| (0, i)).collect();
    Examples::new(Arc::new(source), places, Labels::Class { classes: 4, y }).unwrap()
}

fn placed(machine: &Arc<dyn Machine>) -> Bit {
    let mut model = Bit::new(BitConfig::parse("bit-r14x0.25", 4).unwrap(), 3);
    model.place(Some(machine.clone())).unwrap();
    model
}

fn spec(precision: Precision, steps: u64) -> FitSpec {
    let schedule = Schedule::Cosine(CosineSchedule::default());
    FitSpec {
        batch: 16,
        augment: Augment::Flip,
        mixup: Some(0.1),
        schedule,
        precision,
        ..FitSpec::sgd_agc(0.05, steps)
    }
}

/// The curve of bfloat16 falls as that of f32 does, and so does its error on other pictures.
pub fn curves(machine: &Arc<dyn Machine>) {
    let (train, test) = (stripes(128, 1), stripes(64, 2));
    let run = |precision| -> Fit {
        let session = Session {
            progress: &Silent,
            cancel: &Cancel::default(),
            checkpoint: None,
            checkpoint_every_s: 3600,
            collective: &Alone,
        };
        fit(&mut placed(machine), &train, Some(&test), &spec(precision, 120), &session).unwrap()
    };
    let [full, narrow] = [Precision::F32, Precision::Bf16].map(run);
    for learned in [&full, &narrow] {
        let (first, last) = (&learned.curve[0], learned.curve.last().unwrap());
        assert!(last.loss < 0.5 * first.loss && last.valid_accuracy.unwrap() > 0.5, "{first:?} {last:?}");
    }
    let area = |fit: &Fit| fit.curve.iter().map(|p| p.loss).sum::<f64>() / fit.curve.len() as f64;
    assert!((area(&full) - area(&narrow)).abs() < 0.1 * area(&full), "{} {}", area(&full), area(&narrow));
}

/// Asks to stop once this many steps were reported.
struct StopAfter {
    left: AtomicU64,
    cancel: Cancel,
}

impl Progress for StopAfter {
    fn begin(&self, _: u64, _: &'static str) {}
    fn advance(&self, by: u64) {
        if by == 1 && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.cancel.request();
        }
    }
    fn log(&self, _: &str) {}
}

/// A run that is stopped again and again ends with the bits of one that was not.
pub fn interrupted(machine: &Arc<dyn Machine>) {
    let train = stripes(48, 1);
    for precision in [Precision::F32, Precision::Bf16] {
        let spec = FitSpec { ema: Some(0.8), curve_every: Some(2), ..spec(precision, 11) };
        let run = |stop: Option<u64>, folder: &std::path::Path| {
            let cancel = Cancel::default();
            let progress = StopAfter { left: AtomicU64::new(stop.unwrap_or(u64::MAX)), cancel: cancel.clone() };
            let checkpoint = stop.map(|_| folder);
            let session = Session {
                progress: &progress,
                cancel: &cancel,
                checkpoint,
                checkpoint_every_s: 3600,
                collective: &Alone,
            };
            let mut model = placed(machine);
            fit(&mut model, &train, None, &spec, &session).map(|fit| (fit, model))
        };
        let folder = tempfile::tempdir().unwrap();
        let (whole, expected) = run(None, folder.path()).unwrap_or_else(|e| panic!("{e}"));
        let mut stops = 0;
        let (fit, model) = loop {
            match run(Some(3), folder.path()) {
                Ok(done) => break done,
                Err(Error::Interrupted) => stops += 1,
                Err(e) => panic!("{e}"),
            }
        };
        assert!(stops > 1 && fit.resumed_from.is_some());
        assert_eq!(fit.curve, whole.curve);
        for (name, _) in model.names() {
            assert!(model.get(&name).unwrap() == expected.get(&name).unwrap(), "{precision:?}: {name}");
        }
    }
}
