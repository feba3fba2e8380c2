//! Gradients of the operators against finite differences, value by value, for every family.
//!
//! The norm's are in [`super::norm`], the losses' in [`super::loss`], the whole network's in `model/bit`.

use super::buffer::{Buffer, Workspace};
use super::conv::Conv;
use super::kernel::Kernel;
use super::packing::Packed;
use super::prepared::{Prepared, weight_gradient};
use super::{Map, pool, standardise};
use crate::random::stream::Stream;

fn draw(seed: u64, len: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, "differences", 0, 0);
    (0..len).map(|_| stream.range(-1.0, 1.0) as f32).collect()
}

/// What a gradient `dy` of `y` makes of it, as the loss behind it would.
fn loss(y: &[f32], dy: &[f32]) -> f64 {
    assert_eq!(y.len(), dy.len());
    y.iter().zip(dy).map(|(&y, &d)| f64::from(y) * f64::from(d)).sum()
}

/// Compares every `step`-th of `gradient` with the slope of `loss_of` between `h` below and `h` above.
fn check(what: &str, values: &[f32], gradient: &[f32], h: f32, step: usize, loss_of: impl Fn(&[f32]) -> f64) {
    assert_eq!(values.len(), gradient.len());
    let size = gradient.iter().fold(0f32, |m, g| m.max(g.abs()));
    assert!(size > 1e-3, "{what}: the gradient is zero");
    let mut moved = values.to_vec();
    for i in (0..values.len()).step_by(step) {
        let mut at = |by: f32| {
            moved[i] = values[i] + by;
            (f64::from(moved[i]), loss_of(&moved))
        };
        let ((up, above), (down, below)) = (at(h), at(-h));
        moved[i] = values[i];
        let (slope, found) = ((above - below) / (up - down), f64::from(gradient[i]));
        assert!((slope - found).abs() < 2e-3 * f64::from(size), "{what} at {i}: {found}, by differences {slope}");
    }
}

/// Convolutions that a network has: both ways of the 3x3, strides, the root, one image of one pixel.
const CONVOLUTIONS: [(usize, usize, usize, usize, usize, usize, usize); 7] = [
    // kernel, stride, pad, inputs, outputs, height, width
    (1, 1, 0, 20, 33, 3, 4),
    (1, 2, 0, 32, 64, 5, 3),
    (3, 1, 1, 6, 10, 5, 4),
    (3, 1, 1, 32, 48, 6, 7),
    (3, 1, 1, 32, 32, 1, 1),
    (3, 2, 1, 16, 32, 7, 5),
    (7, 2, 0, 3, 16, 13, 11),
];

#[test]
fn convolutions() {
    for (kernel, stride, pad, inputs, outputs, height, width) in CONVOLUTIONS {
        let conv = Conv { inputs, outputs, kernel, stride, pad };
        let map = Map { n: 2, height, width, channels: inputs };
        let (out, packing) = (conv.output(map), conv.packing());
        let (x, dy, plain) = (draw(1, map.len()), draw(2, out.len()), draw(3, packing.rows * outputs));
        for family in Kernel::available() {
            let mut workspace = Workspace::default();
            let packed = |weights: &[f32]| {
                let mut w = Buffer::zeros(packing.len());
                packing.pack(weights, conv.taps(), &mut w);
                w
            };
            let forward = |x: &[f32], w: Buffer| {
                let mut workspace = Workspace::default();
                let mut y = vec![f32::NAN; out.len()];
                let w = Prepared::<f32>::for_forward(family, &conv, map, w, &mut workspace);
                w.forward(family, &conv, x, map, None, &mut y);
                loss(&y, &dy)
            };
            let what = |of: &str| format!("{} {conv:?} {map:?} {of}", family.name());
            // A convolution is linear, so that a long step costs nothing and keeps the digits.
            let mut dw = vec![f32::NAN; packing.len()];
            weight_gradient(family, &conv, &x, map, &dy, &mut dw, &mut workspace);
            let mut unpacked = vec![f32::NAN; plain.len()];
            packing.unpack(&dw, conv.taps(), &mut unpacked);
            check(&what("weights"), &plain, &unpacked, 1.0, 1 + plain.len() / 60, |w| forward(&x, packed(w)));
            if pad == 0 && kernel > 1 {
                continue; // The root's input is the picture, which needs no gradient.
            }
            let mut dx = vec![f32::NAN; map.len()];
            let wt = Prepared::<f32>::for_input_gradient(family, &conv, map, packed(&plain), &mut workspace);
            wt.input_gradient(family, &conv, &dy, map, false, &mut dx);
            check(&what("input"), &x, &dx, 1.0, 1 + x.len() / 60, |x| forward(x, packed(&plain)));
        }
    }
}

#[test]
fn weight_standardisation() {
    let packing = Packed { rows: 18, lanes: 70 };
    let pack = |plain: &[f32]| {
        let mut packed = vec![0.0; packing.len()];
        packing.pack(plain, 9, &mut packed);
        packed
    };
    let (plain, dhat) = (draw(4, 18 * 70), pack(&draw(5, 18 * 70)));
    for family in Kernel::available() {
        let forward = |plain: &[f32]| {
            let mut hat = vec![f32::NAN; packing.len()];
            standardise::forward(family, packing, &pack(plain), &mut hat);
            loss(&hat, &dhat)
        };
        let (mut packed, mut dw) = (vec![0.0; packing.len()], vec![f32::NAN; plain.len()]);
        standardise::backward(family, packing, &pack(&plain), &dhat, &mut packed);
        packing.unpack(&packed, 9, &mut dw);
        check(&format!("{} weights", family.name()), &plain, &dw, 5e-3, 7, forward);
    }
}

#[test]
fn pools() {
    for (height, width) in [(1, 1), (4, 7), (9, 6)] {
        let map = Map { n: 2, height, width, channels: 16 };
        let out = pool::pooled(map);
        // No two values of a channel lie so near that a step changes which is the largest.
        let mut order: Vec<usize> = (0..map.len()).collect();
        order.sort_by_key(|i| i * 7919 % 10_007);
        let x: Vec<f32> = order.iter().map(|&i| 0.01 * (i as f32 + 0.5)).collect();
        let (dy, dmean) = (draw(6, out.len()), draw(7, map.n * map.channels));
        for family in Kernel::available() {
            let pooled = |x: &[f32]| {
                let (mut y, mut winner) = (vec![f32::NAN; out.len()], vec![0; out.len()]);
                pool::max_pool(family, x, map, &mut y, &mut winner);
                (y, winner)
            };
            let mut dx = vec![f32::NAN; map.len()];
            pool::max_pool_backward(family, &dy, &pooled(&x).1, map, &mut dx);
            check(&format!("{} {map:?} maximum", family.name()), &x, &dx, 2e-3, 1, |x| loss(&pooled(x).0, &dy));
        }
        let mut dx = vec![f32::NAN; map.len()];
        pool::average_backward(&dmean, map, &mut dx);
        check(&format!("{map:?} mean"), &x, &dx, 0.5, 1, |x| {
            let mut means = vec![f32::NAN; dmean.len()];
            pool::average(x, map, &mut means);
            loss(&means, &dmean)
        });
    }
}
