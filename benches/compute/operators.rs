//! Times of each operator of a training step, on the shapes of a network, one after the other.
//!
//! Every operator runs alone on random values, so what it finds in the caches may differ from a real
//! step; the last line says how the sum of all compares with one. The share of the peak is by
//! processor time, which a busy machine hardly changes: products per second of processor time over
//! those of a matrix product that stays in the caches, by the `gemm` crate for f32 and by this
//! program's own kernel for bfloat16.

use super::{CLASSES, Case, Clock, median};
use rayon::prelude::*;
use scaleshot::error::Result;
use scaleshot::model::{BitConfig, Precision};
use scaleshot::nn::buffer::{Buffer, Workspace};
use scaleshot::nn::conv::Conv;
use scaleshot::nn::element::{Bf16, Element};
use scaleshot::nn::kernel::{self, Kernel};
use scaleshot::nn::parameter::Parameter;
use scaleshot::nn::prepared::{Prepared, weight_gradient};
use scaleshot::nn::{Map, SgdAgc, norm, pool, sgd_agc::SgdAgcOptions, standardise};
use scaleshot::random::stream::Stream;
use std::collections::BTreeMap;

/// An operator on a shape, and how often a training step runs it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// inputs, outputs, kernel, stride, pad
    Conv(usize, usize, usize, usize, usize),
    /// GroupNorm with ReLU.
    Norm,
    MaxPool,
}

struct Row {
    operator: &'static str,
    shape: String,
    count: usize,
    wall_s: f64,
    cpu_s: f64,
    /// Multiplications and additions of one run; 0 for what is no product.
    operations: f64,
    /// Whether the values are bfloat16.
    narrow: bool,
}

pub fn run(case: &Case) -> Result<()> {
    match case.precision {
        Precision::F32 => run_in::<f32>(case),
        Precision::Bf16 => run_in::<Bf16>(case),
    }
}

fn run_in<T: Element>(case: &Case) -> Result<()> {
    let config = BitConfig::parse(&case.model, CLASSES)?;
    let kernel = kernel::chosen();
    let mut rows = Vec::new();
    for ((layer, [height, width, channels]), count) in layers(&config, case.px) {
        let map = Map { n: case.batch, height, width, channels };
        match layer {
            // The root works in f32 whatever the precision.
            Layer::Conv(3, outputs, kernel_px, stride, pad) => {
                let conv = Conv { inputs: 3, outputs, kernel: kernel_px, stride, pad };
                convolution::<f32>(kernel, conv, map, count, case.repeats, &mut rows);
            }
            Layer::Conv(inputs, outputs, kernel_px, stride, pad) => {
                let conv = Conv { inputs, outputs, kernel: kernel_px, stride, pad };
                convolution::<T>(kernel, conv, map, count, case.repeats, &mut rows);
            }
            Layer::Norm => normalisation::<T>(kernel, map, count, case.repeats, &mut rows),
            Layer::MaxPool => max_pool::<T>(kernel, map, case.repeats, &mut rows),
        }
    }
    rows.push(update(kernel, &config, case.repeats));
    let peaks = [peak::<f32>(kernel), peak::<T>(kernel)];
    let ideal_s = |row: &Row| row.operations / peaks[usize::from(row.narrow)] / 1e9;
    let total: f64 = rows.iter().map(|r| r.cpu_s * r.count as f64).sum();
    for row in &rows {
        let speed = (row.operations > 0.0).then(|| row.operations / row.cpu_s / 1e9);
        println!(
            "{}",
            serde_json::json!({
                "model": case.model, "px": case.px, "batch": case.batch, "precision": case.precision,
                "kernel": case.precision.kernel_name(), "mode": "operator", "operator": row.operator,
                "shape": row.shape, "count": row.count, "wall_ms": row.wall_s * 1e3, "cpu_ms": row.cpu_s * 1e3,
                "share_of_operators": row.cpu_s * row.count as f64 / total,
                "gflops": speed, "share_of_peak": speed.map(|_| ideal_s(row) / row.cpu_s),
            })
        );
    }
    let products: Vec<_> = rows.iter().filter(|r| r.operations > 0.0).collect();
    let sum = |f: &dyn Fn(&Row) -> f64| products.iter().map(|&r| f(r) * r.count as f64).sum::<f64>();
    let speed = sum(&|r| r.operations) / sum(&|r| r.cpu_s) / 1e9;
    println!(
        "{}",
        serde_json::json!({
            "model": case.model, "px": case.px, "batch": case.batch, "precision": case.precision,
            "kernel": case.precision.kernel_name(), "mode": "operators", "cpu_ms": total * 1e3,
            "products_share": sum(&|r| r.cpu_s) / total, "gflops": speed,
            "share_of_peak": sum(&ideal_s) / sum(&|r| r.cpu_s), "peak_gflops": peaks[1],
        })
    );
    Ok(())
}

/// The layers of a network with the shapes that they read, and how often each occurs.
fn layers(config: &BitConfig, px: usize) -> BTreeMap<(Layer, [usize; 3]), usize> {
    let mut counts = BTreeMap::new();
    let mut note = |layer, side: usize, channels: usize| {
        *counts.entry((layer, [side, side, channels])).or_insert(0) += 1;
    };
    let mut channels = config.channels(64);
    note(Layer::Conv(3, channels, 7, 2, 0), px + 6, 3);
    let root = (px - 1) / 2 + 1;
    note(Layer::MaxPool, root, channels);
    let mut side = (root - 1) / 2 + 1;
    for (block, (&units, base)) in config.blocks.iter().zip([256, 512, 1024, 2048]).enumerate() {
        for unit in 0..units {
            let stride = if block > 0 && unit == 0 { 2 } else { 1 };
            let outputs = config.channels(base);
            let (middle, next) = (outputs / 4, (side - 1) / stride + 1);
            note(Layer::Norm, side, channels);
            note(Layer::Conv(channels, middle, 1, 1, 0), side, channels);
            note(Layer::Norm, side, middle);
            note(Layer::Conv(middle, middle, 3, stride, 1), side, middle);
            note(Layer::Norm, next, middle);
            note(Layer::Conv(middle, outputs, 1, 1, 0), next, middle);
            if stride != 1 || channels != outputs {
                note(Layer::Conv(channels, outputs, 1, stride, 0), side, channels);
            }
            (side, channels) = (next, outputs);
        }
    }
    note(Layer::Norm, side, channels);
    counts
}

/// Median wall and processor time of some runs, the first left out.
fn time(repeats: usize, mut work: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<(f64, f64)> = (0..=repeats)
        .map(|_| {
            let start = Clock::now();
            work();
            start.elapsed()
        })
        .collect();
    times.remove(0);
    (median(times.iter().map(|t| t.0)), median(times.iter().map(|t| t.1)))
}

fn draw<T: Element>(len: usize) -> Buffer<T> {
    let mut values = Buffer::zeros(len);
    values.par_chunks_mut(1 << 16).enumerate().for_each(|(i, values)| {
        let mut stream = Stream::new(0, "bench", 0, i as u64);
        values.iter_mut().for_each(|v: &mut T| *v = T::narrow(stream.range(-1.0, 1.0) as f32));
    });
    values
}

fn convolution<T: Element>(kernel: Kernel, conv: Conv, map: Map, count: usize, repeats: usize, rows: &mut Vec<Row>) {
    let (out, packing, mut workspace) = (conv.output(map), conv.packing(), Workspace::default());
    let (x, dy, plain) = (draw::<T>(map.len()), draw::<T>(out.len()), draw::<f32>(packing.len()));
    let (mut y, mut dx) = (Buffer::<T>::zeros(out.len()), Buffer::<T>::zeros(map.len()));
    let (mut dw, mut gradient) = (Buffer::<f32>::zeros(packing.len()), Buffer::<f32>::zeros(packing.len()));
    let Conv { inputs, outputs, kernel: side, stride, .. } = conv;
    let shape = format!("{side}x{side}/{stride} {inputs}->{outputs} at {}x{}", map.height, map.width);
    let operations = 2.0 * (out.len() * packing.rows) as f64;
    let mut note = |operator, operations, (wall_s, cpu_s)| {
        rows.push(Row { operator, shape: shape.clone(), count, wall_s, cpu_s, operations, narrow: T::NARROW });
    };
    let standardised = |workspace: &mut Workspace| {
        let mut hat = workspace.take::<f32>(packing.len());
        standardise::forward(kernel, packing, &plain, &mut hat);
        hat
    };
    let times = time(repeats, || {
        let hat = standardised(&mut workspace);
        Prepared::<T>::for_forward(kernel, &conv, map, hat, &mut workspace).give(&mut workspace);
    });
    note("standardise and pack", 0.0, times);
    let hat = standardised(&mut workspace);
    let w = Prepared::<T>::for_forward(kernel, &conv, map, hat, &mut workspace);
    note("conv forward", operations, time(repeats, || w.forward(kernel, &conv, &x, map, None, &mut y)));
    let times = time(repeats, || weight_gradient(kernel, &conv, &x, map, &dy, &mut dw, &mut workspace));
    note("conv weight gradient", operations, times);
    note(
        "standardise backward",
        0.0,
        time(repeats, || standardise::backward(kernel, packing, &plain, &dw, &mut gradient)),
    );
    if conv.pad == 0 && conv.kernel > 1 {
        return; // The root's input needs no gradient.
    }
    let turned = |workspace: &mut Workspace| {
        let hat = standardised(workspace);
        Prepared::<T>::for_input_gradient(kernel, &conv, map, hat, workspace)
    };
    let times = time(repeats, || {
        turned(&mut workspace).give(&mut workspace);
    });
    note("standardise, transpose and pack", 0.0, times);
    let wt = turned(&mut workspace);
    let times = time(repeats, || wt.input_gradient(kernel, &conv, &dy, map, false, &mut dx));
    note("conv input gradient", operations, times);
}

fn normalisation<T: Element>(kernel: Kernel, map: Map, count: usize, repeats: usize, rows: &mut Vec<Row>) {
    let (x, dy) = (draw::<T>(map.len()), draw::<T>(map.len()));
    let (mut y, mut dx) = (Buffer::<T>::zeros(map.len()), Buffer::<T>::zeros(map.len()));
    let (weight, bias) = (vec![1f32; map.channels], vec![0f32; map.channels]);
    let shape = format!("{} at {}x{}", map.channels, map.height, map.width);
    let mut note = |operator, count, (wall_s, cpu_s)| {
        rows.push(Row { operator, shape: shape.clone(), count, wall_s, cpu_s, operations: 0.0, narrow: T::NARROW });
    };
    let mut moments = Vec::new();
    note("norm moments", count, time(repeats, || moments = norm::moments(kernel, &x, map)));
    // Once forward and once more when the backward pass recomputes it.
    let times = time(repeats, || norm::forward(kernel, &x, map, &moments, &weight, &bias, &mut y));
    note("norm and ReLU forward", 2 * count, times);
    let (mut dweight, mut dbias) = (vec![0f32; map.channels], vec![0f32; map.channels]);
    let times = time(repeats, || {
        let gradients = norm::Gradients { weight: &mut dweight, bias: &mut dbias };
        norm::backward(kernel, &x, map, &moments, &weight, &bias, &dy, None, &mut dx, gradients);
    });
    note("norm and ReLU backward", count, times);
}

fn max_pool<T: Element>(kernel: Kernel, map: Map, repeats: usize, rows: &mut Vec<Row>) {
    let out = pool::pooled(map);
    let (x, dy) = (draw::<f32>(map.len()), draw::<T>(out.len()));
    let (mut y, mut dx, mut winner) =
        (Buffer::<T>::zeros(out.len()), Buffer::<f32>::zeros(map.len()), vec![0; out.len()]);
    let shape = format!("{} at {}x{}", map.channels, map.height, map.width);
    let mut note = |operator, (wall_s, cpu_s)| {
        rows.push(Row { operator, shape: shape.clone(), count: 1, wall_s, cpu_s, operations: 0.0, narrow: T::NARROW });
    };
    note("max-pool forward", time(repeats, || pool::max_pool(kernel, &x, map, &mut y, &mut winner)));
    note("max-pool backward", time(repeats, || pool::max_pool_backward(kernel, &dy, &winner, map, &mut dx)));
}

/// One SGD step over parameters of the network's shapes.
fn update(kernel: Kernel, config: &BitConfig, repeats: usize) -> Row {
    let mut parameters: Vec<Parameter> = Vec::new();
    for ((layer, _), count) in layers(config, 64) {
        if let Layer::Conv(inputs, outputs, side, ..) = layer {
            parameters.extend((0..count).map(|i| {
                let mut parameter = Parameter::conv(format!("conv{i}"), [outputs, inputs, side, side]);
                parameter.data = draw(parameter.data.len());
                parameter.gradient = draw(parameter.data.len());
                parameter
            }));
        }
    }
    let values: usize = parameters.iter().map(Parameter::count).sum();
    let mut optimizer = SgdAgc::new(SgdAgcOptions::default());
    let (wall_s, cpu_s) = time(repeats, || optimizer.step(kernel, &mut parameters, CLASSES, 1e-6));
    Row {
        operator: "SGD with AGC",
        shape: format!("{values} values"),
        count: 1,
        wall_s,
        cpu_s,
        operations: 0.0,
        narrow: false,
    }
}

/// GFLOP per second of processor time of a matrix product that stays in the caches.
fn peak<T: Element>(kernel: Kernel) -> f64 {
    const SIDE: usize = 768;
    let operations = 2.0 * (SIDE * SIDE * SIDE) as f64;
    if T::NARROW {
        let conv = Conv { inputs: SIDE, outputs: SIDE, kernel: 1, stride: 1, pad: 0 };
        let map = Map { n: 1, height: 1, width: SIDE, channels: SIDE };
        let x = draw::<T>(map.len());
        let w = T::weights(kernel, conv.packing(), draw(conv.packing().len()), &mut Workspace::default());
        let mut y = Buffer::<T>::zeros(map.len());
        operations / time(15, || conv.forward(kernel, &x, map, &w, None, &mut y)).1 / 1e9
    } else {
        let (a, b, mut c) = (draw::<f32>(SIDE * SIDE), draw::<f32>(SIDE * SIDE), Buffer::<f32>::zeros(SIDE * SIDE));
        let side = SIDE as isize;
        let times = time(15, || {
            let (out, left, right) = (c.as_mut_ptr(), a.as_ptr(), b.as_ptr());
            // SAFETY: three square matrices of this side, row by row; only `out` is written.
            unsafe {
                gemm::gemm(
                    SIDE,
                    SIDE,
                    SIDE,
                    out,
                    1,
                    side,
                    false,
                    left,
                    1,
                    side,
                    right,
                    1,
                    side,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::Rayon(0),
                );
            }
        });
        operations / times.1 / 1e9
    }
}
