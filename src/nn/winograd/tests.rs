//! Against the direct convolution, which is tested against the definition.

use super::*;
use crate::{
    nn::{
        Map,
        buffer::{Buffer, Workspace},
        conv::Base,
        element::Bf16,
    },
    random::stream::Stream,
};

fn draw(seed: u64, n: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, "winograd test", 0, 0);
    (0..n).map(|_| stream.range(-1.0, 1.0) as f32).collect()
}

/// Inputs, outputs, images, height and width: odd sides, sides of one pixel, many tiles and few, more than one
/// panel, a last panel of less than 64, more channels than one chain of sums, enough tiles for several parts.
const CASES: [(usize, usize, usize, usize, usize); 10] = [
    (32, 32, 1, 1, 1),
    (32, 48, 3, 2, 1),
    (48, 32, 2, 1, 5),
    (32, 32, 1, 32, 32),
    (64, 64, 2, 13, 11),
    (64, 80, 3, 7, 7),
    (144, 128, 2, 6, 9),
    (576, 32, 1, 4, 3),
    (32, 64, 7, 23, 26),
    (128, 192, 5, 14, 14),
];

/// Forward with a residual, input gradient added to what is held, weight gradient.
fn both(kernel: Kernel, conv: &Conv, map: Map) -> [[Vec<f32>; 2]; 3] {
    let (out, packing) = (conv.output(map), conv.packing());
    let (x, dy, residual) = (draw(1, map.len()), draw(2, out.len()), draw(3, out.len()));
    let mut w = Buffer::zeros(packing.len());
    packing.pack(&draw(4, packing.rows * conv.outputs), conv.taps(), &mut w);
    let turned = packing.transposed(conv.taps());
    let mut wt = Buffer::zeros(turned.len());
    packing.transpose(&w, conv.taps(), &mut wt);
    let at_points = |of: Packed, weights: &[f32], turned: bool| {
        let mut filters = vec![f32::NAN; super::packing(of).len()];
        super::filters(kernel, of, weights, turned, &mut filters);
        filters
    };

    let (mut y, mut direct_y) = (vec![f32::NAN; out.len()], vec![f32::NAN; out.len()]);
    let points = super::packing(packing);
    convolve(kernel, &x, map, points, &at_points(packing, &w, false), Base::Values(&residual), &mut y);
    conv.forward(kernel, &x, map, &w, Some(&residual), &mut direct_y);

    let (mut dx, mut direct_dx) = (draw(5, map.len()), draw(5, map.len()));
    convolve(kernel, &dy, out, super::packing(turned), &at_points(turned, &wt, true), Base::Held, &mut dx);
    conv.input_gradient(kernel, &dy, map, &wt, true, &mut direct_dx);

    let (mut dw, mut direct_dw) = (vec![f32::NAN; packing.len()], vec![f32::NAN; packing.len()]);
    weight_gradient(kernel, &x, map, &dy, packing, &mut dw, &mut Workspace::default());
    conv.weight_gradient(kernel, &x, map, &dy, &mut direct_dw, &mut Workspace::default());
    [[y, direct_y], [dx, direct_dx], [dw, direct_dw]]
}

fn each(visit: impl Fn(&Conv, Map)) {
    for (inputs, outputs, n, height, width) in CASES {
        let conv = Conv { inputs, outputs, kernel: 3, stride: 1, pad: 1 };
        visit(&conv, Map { n, height, width, channels: inputs });
    }
}

#[test]
fn every_family_agrees_with_the_direct_way_on_odd_shapes() {
    each(|conv, map| {
        for family in Kernel::available() {
            for (what, [found, wanted]) in ["forward", "input", "weight"].iter().zip(both(family, conv, map)) {
                let size = wanted.iter().fold(1.0f32, |m, w| m.max(w.abs()));
                for (i, (f, w)) in found.iter().zip(&wanted).enumerate() {
                    let near = (f - w).abs() < 4e-6 * size;
                    assert!(near, "{} {what} {conv:?} {map:?} at {i}: {f} is not {w}", family.name());
                }
            }
        }
    });
}

#[test]
fn bytes_depend_neither_on_threads_nor_on_the_rest_of_the_batch() {
    each(|conv, map| {
        let run = |threads, map| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| both(Kernel::available()[0], conv, map).map(|[found, _]| found))
        };
        let one = run(1, map);
        assert!(one == run(2, map) && one == run(3, map), "{conv:?} {map:?}");
        let alone = run(2, Map { n: 1, ..map });
        // Images are drawn one after the other, residuals too.
        assert!(one[0].starts_with(&alone[0]) && one[1].starts_with(&alone[1]), "{conv:?} {map:?}");
    });
}

#[test]
fn what_is_narrow_strided_or_small_goes_the_direct_way() {
    let conv = Conv { inputs: 64, outputs: 64, kernel: 3, stride: 1, pad: 1 };
    let map = Map { n: 2, height: 8, width: 7, channels: 64 };
    assert!(suits::<f32>(&conv, map) && !suits::<Bf16>(&conv, map));
    assert!(!suits::<f32>(&conv, Map { height: 1, ..map }));
    for other in [
        Conv { stride: 2, ..conv },
        Conv { kernel: 1, pad: 0, ..conv },
        Conv { inputs: 16, ..conv },
        Conv { outputs: 70, ..conv },
        Conv { pad: 0, ..conv },
    ] {
        assert!(!suits::<f32>(&other, map), "{other:?}");
    }
}
