//! Steps and inference on a GPU, as a worker of `peers/compare_cuda.py`: one line of JSON in, one line out.
//!
//! | in | out |
//! |---|---|
//! | `{"model", "px", "batch", "micro", "precision", "mode": "train" or "infer"}` | `{"ready": what computes, "flops", "bytes", "micro", "peak_bytes"}`, after warming up |
//! | `{"steps": n}` | `{"seconds": of one, "loss"}` |
//!
//! Inputs are random and fresh for every request, and sent from the host in every step, beside the computing: for
//! training as f32, for inference as the bytes that are stored, which the GPU renders. A time
//! is that of n steps from one wait for the GPU to the next. Peak memory is what is gone from the GPU after warming up,
//! when all has been allocated: nobody else may take any between the question and that answer. It compares with nothing
//! itself.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use scaleshot::data::augment::{Augment, View};
use scaleshot::data::loader::{Draw, Examples, Labels, MemoryPixels, TrainView};
use scaleshot::data::sampling::ImageDims;
use scaleshot::error::{Error, Result};
use scaleshot::model::{Beside, Bit, BitConfig, Images, Precision};
use scaleshot::nn::cuda::{Machine, open};
use scaleshot::nn::looks::Looks;
use scaleshot::nn::{Optimizer, SgdAgc, Targets, sgd_agc::SgdAgcOptions};
use scaleshot::random::stream::Stream;
use serde_json::{Value, json};

const CLASSES: usize = 10;
const WARM_UP: usize = 4;

struct Work {
    machine: Arc<dyn Machine>,
    bit: Bit,
    optimizer: SgdAgc,
    px: usize,
    batch: usize,
    micro: usize,
    train: bool,
    /// Bytes that were free before the network came.
    free: u64,
    asked: u64,
}

fn main() {
    let mut work: Option<Work> = None;
    for line in std::io::stdin().lock().lines() {
        let answer = line.map_err(Error::io("stdin")).and_then(|line| answer(&mut work, &serde_json::from_str(&line)?));
        match answer {
            Ok(answer) => println!("{answer}"),
            Err(e) => {
                println!("{}", json!({"error": e.to_string(), "hint": e.hint()}));
                work = None;
            }
        }
    }
}

fn answer(work: &mut Option<Work>, asked: &Value) -> Result<Value> {
    if asked["model"].is_string() {
        // What the last case holds is free before the next one measures what is.
        *work = None;
        let mut new = Work::new(asked)?;
        new.steps(WARM_UP)?;
        let (flops, bytes) = work_of(new.bit.config(), new.px);
        let all = new.batch as f64;
        let peak = new.free.saturating_sub(new.machine.room()?);
        let ready = json!({
            "ready": new.bit.family(),
            "flops": flops * all,
            "bytes": bytes * all,
            "micro": new.micro,
            "peak_bytes": peak
        });
        *work = Some(new);
        return Ok(ready);
    }
    let work = work.as_mut().ok_or_else(|| Error::invalid("no case yet"))?;
    let steps = asked["steps"].as_u64().unwrap_or(1).max(1) as usize;
    let (seconds, loss) = work.steps(steps)?;
    Ok(json!({"seconds": seconds / steps as f64, "loss": loss}))
}

impl Work {
    fn new(asked: &Value) -> Result<Self> {
        let machine = open(0)?;
        let free = machine.room()?;
        let number = |name: &str| asked[name].as_u64().map(|n| n as usize);
        let name = asked["model"].as_str().unwrap_or_default();
        let mut bit = Bit::new(BitConfig::parse(name, CLASSES)?, 0);
        bit.set_precision(if asked["precision"] == "bf16" { Precision::Bf16 } else { Precision::F32 });
        bit.place(Some(machine.clone()))?;
        let (px, batch, train) = (number("px").unwrap_or(224), number("batch").unwrap_or(64), asked["mode"] != "infer");
        let optimizer = SgdAgc::new(SgdAgcOptions::default());
        let beside = Beside { images: 0, ..Beside::training(&optimizer.rule(), false, false) };
        let fitting = bit.fitting(batch, (px, px), &Targets::Class(&[]), beside)?.unwrap_or(batch);
        let micro = number("micro").unwrap_or(if train { fitting.max(1) } else { batch });
        Ok(Work { machine, bit, optimizer, px, batch, micro, train, free, asked: 0 })
    }

    /// Seconds of some steps, and the last loss; an error where that is no number.
    fn steps(&mut self, steps: usize) -> Result<(f64, Option<f64>)> {
        self.asked += 1;
        if self.train { self.train(steps) } else { self.infer(steps).map(|seconds| (seconds, None)) }
    }

    fn stream(&self) -> Stream {
        Stream::new(self.asked, "bench cuda", 0, 0)
    }

    /// Images of each part of a batch.
    fn parts(&self) -> impl Iterator<Item = usize> + use<> {
        let (batch, micro) = (self.batch, self.micro);
        (0..batch).step_by(micro).map(move |first| micro.min(batch - first))
    }

    fn train(&mut self, steps: usize) -> Result<(f64, Option<f64>)> {
        let mut stream = self.stream();
        let image = self.px * self.px * 3;
        let data: Vec<f32> = (0..self.micro * image).map(|_| stream.range(-1.0, 1.0) as f32).collect();
        let classes: Vec<i32> = (0..self.micro).map(|_| stream.below(CLASSES as u64) as i32).collect();
        self.machine.room()?;
        let begun = Instant::now();
        for _ in 0..steps {
            self.bit.zero_gradients();
            for n in self.parts() {
                let x = Images { data: &data[..n * image], n, height: self.px, width: self.px };
                self.bit.accumulate(&x, &Targets::Class(&classes[..n]), 1.0 / self.batch as f64)?;
            }
            self.bit.step(&mut self.optimizer, 0.003);
        }
        let losses = self.bit.take_losses()?;
        let seconds = begun.elapsed().as_secs_f64();
        match losses.iter().find(|loss| !loss.is_finite()) {
            Some(loss) => Err(Error::invalid(format!("the loss is {loss}"))),
            None => Ok((seconds, losses.last().copied())),
        }
    }

    fn infer(&mut self, steps: usize) -> Result<f64> {
        let parts: Vec<Looks> = self.parts().map(|n| self.looks(n)).collect::<Result<_>>()?;
        self.machine.room()?;
        let begun = Instant::now();
        for looks in (0..steps).flat_map(|_| &parts) {
            self.bit.submit(looks, true)?;
        }
        let logits = self.bit.take_results()?;
        let seconds = begun.elapsed().as_secs_f64();
        match logits.len() == steps * self.batch * CLASSES && logits.iter().all(|v| v.is_finite()) {
            true => Ok(seconds),
            false => Err(Error::invalid("logits are missing, or no numbers")),
        }
    }

    /// Random stored images, looked at as they are.
    fn looks(&self, n: usize) -> Result<Looks> {
        let mut stream = self.stream();
        let dims = ImageDims { height: self.px, width: self.px, channels: 3 };
        let bytes = (0..n * self.px * self.px * 3).map(|_| stream.below(256) as u8).collect();
        let source = Arc::new(MemoryPixels::new(dims, bytes)?);
        let places = (0..n as u32).map(|i| (0, i)).collect();
        let examples = Examples::new(source, places, Labels::Class { classes: 1, y: vec![0; n] })?;
        let draws: Vec<Draw> = (0..n as u32).map(|example| Draw { example, epoch: 0, number: 0 }).collect();
        let how = TrainView { view: &View::Stored, augment: &Augment::None, rand_augment: None, seed: 0 };
        examples.looks(&draws, &[], &how)
    }
}

/// Of one image's forward pass: floating-point operations of its convolutions, and bytes that their maps and norms must
/// move at least, with bfloat16 maps that no cache holds.
fn work_of(config: &BitConfig, px: usize) -> (f64, f64) {
    let root = config.channels(64);
    let mut side = px.div_ceil(2);
    let (mut products, mut values) = (side * side * 147 * root, px * px * 3 + side * side * root);
    side = side.div_ceil(2);
    let mut inputs = root;
    for (block, &units) in config.blocks.iter().enumerate() {
        let (middle, outputs) = (config.channels(64 << block), config.channels(256 << block));
        for unit in 0..units {
            let before = side * side;
            if block > 0 && unit == 0 {
                side = side.div_ceil(2);
            }
            let after = side * side;
            products += before * inputs * middle + after * (9 * middle * middle + middle * outputs);
            // Each convolution reads one map and writes one; each norm before it reads and writes what it reads.
            values += 3 * before * inputs + before * middle + 3 * before * middle + after * middle;
            values += 3 * after * middle + after * outputs;
            if inputs != outputs {
                products += after * inputs * outputs;
                values += before * inputs + after * outputs;
            }
            inputs = outputs;
        }
    }
    (2.0 * products as f64, 2.0 * values as f64)
}
