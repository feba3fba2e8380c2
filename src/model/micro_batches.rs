//! Gradient accumulation: micro-batches of any cut make the update that the whole batch makes.

use super::{Bit, BitConfig, Images, Precision};
use crate::nn::{SgdAgc, Targets, sgd_agc::SgdAgcOptions};
use crate::random::stream::Stream;

const SIDE: [usize; 2] = [19, 26];

fn trained(precision: Precision, steps: usize, cuts: &[usize], data: &[f32], labels: &[i8]) -> Vec<Vec<f32>> {
    let mut bit = Bit::new(BitConfig { blocks: [1, 1, 1, 1], width: 0.25, classes: 2 }, 3);
    bit.set_precision(precision);
    let mut optimizer = SgdAgc::new(SgdAgcOptions::default());
    let image = data.len() / (labels.len() / 2);
    let scale = 1.0 / Targets::Multi(labels).terms(2) as f64;
    for _ in 0..steps {
        bit.zero_gradients();
        let mut first = 0;
        for &n in cuts {
            let x = Images { data: &data[first * image..][..n * image], n, height: SIDE[0], width: SIDE[1] };
            bit.loss_backward(&x, &Targets::Multi(&labels[2 * first..][..2 * n]), scale).unwrap();
            first += n;
        }
        bit.step(&mut optimizer, 0.1);
    }
    bit.names().iter().map(|(name, _)| bit.get(name).unwrap()).collect()
}

#[test]
fn micro_batches_make_the_update_of_the_whole_batch() {
    let mut stream = Stream::new(8, "micro-batches", 0, 0);
    let data: Vec<f32> = (0..5 * SIDE[0] * SIDE[1] * 3).map(|_| stream.range(-1.0, 1.0) as f32).collect();
    // Unknown labels lie unevenly over the cuts: each term must count the same, not each micro-batch.
    let labels = [1i8, 0, -1, -1, 1, -1, 0, 1, 1, 1];
    // Cuts leave nothing but sums in another order; weights that differ so little tip some of bfloat16's roundings over
    // in the steps that follow.
    for (precision, steps, limit) in [(Precision::F32, 3, 1e-5), (Precision::Bf16, 1, 1e-4), (Precision::Bf16, 3, 2e-2)]
    {
        // Without images only the weights' decay moves them.
        let start = trained(precision, steps, &[], &data, &labels);
        let whole = trained(precision, steps, &[5], &data, &labels);
        for cuts in [&[1, 4][..], &[2, 2, 1], &[1; 5]] {
            let cut = trained(precision, steps, cuts, &data, &labels);
            // Differences beside the length of the way, over all parameters.
            let (mut off, mut way) = (0.0, 0.0);
            for ((cut, whole), start) in cut.iter().zip(&whole).zip(&start) {
                for ((c, w), s) in cut.iter().zip(whole).zip(start) {
                    off += f64::from(c - w).powi(2);
                    way += f64::from(w - s).powi(2);
                }
            }
            assert!(way > 0.0 && off.sqrt() < limit * way.sqrt(), "{precision:?} {steps} {cuts:?}: {off} of {way}");
        }
    }
}
