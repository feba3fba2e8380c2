//! A whole network on a device against the same network on the processor.
//!
//! The same bodies run on a GPU (`tests/cuda.rs`) and on the host machine (unit tests of `model::device`).

use std::sync::Arc;

use scaleshot::model::{Bit, BitConfig, Images, Keep, Precision};
use scaleshot::nn::Targets;
use scaleshot::nn::cuda::Machine;
use scaleshot::nn::parameter::norm as length;
use scaleshot::nn::sgd_agc::{SgdAgc, SgdAgcOptions};
use serde_json::Value;

use super::operators::draw;

const SIDE: [usize; 2] = [21, 34];

fn small(classes: usize) -> Bit {
    let mut bit = Bit::new(BitConfig { blocks: [1, 2, 1, 1], width: 0.25, classes }, 1);
    let head: Vec<f32> = draw(5, classes * bit.feature_dim()).iter().map(|v| 0.1 * v).collect();
    bit.set("head.conv.weight", &head).unwrap();
    bit
}

fn images(data: &[f32]) -> Images<'_> {
    Images { data, n: data.len() / (SIDE[0] * SIDE[1] * 3), height: SIDE[0], width: SIDE[1] }
}

fn gradients(bit: &Bit) -> Vec<(String, Vec<f32>)> {
    bit.names().into_iter().map(|(name, _)| (name.clone(), bit.gradient(&name).unwrap())).collect()
}

fn weights(bit: &Bit) -> Vec<Vec<f32>> {
    bit.names().iter().map(|(name, _)| bit.get(name).unwrap()).collect()
}

/// How far values are from the true ones, as a length.
fn off(found: &[f32], truth: &[f32]) -> f64 {
    length(&found.iter().zip(truth).map(|(f, t)| f - t).collect::<Vec<_>>())
}

/// Logits, features, losses and all gradients, for every kind of target. f32 is held against the processor's f32.
///
/// bfloat16 has no such truth: roundings and ReLUs that another order of sums tips over make up most of what two
/// ways of computing it differ by. But both are so far from f32 as rounding makes them, and a device must not be
/// farther from it than the processor's bfloat16 is.
pub fn passes(machine: &Arc<dyn Machine>) {
    let data = draw(2, 3 * SIDE[0] * SIDE[1] * 3);
    let soft: Vec<f32> = draw(3, 9).iter().map(|v| v.abs()).collect();
    let known = [true, false, true, true, true, false, false, true, true];
    let multi = [1i8, 0, -1, -1, 1, 0, 0, -1, 1];
    let all = [
        Targets::Class(&[0, 2, 1]),
        Targets::Soft(&soft),
        Targets::Multi(&multi),
        Targets::MultiSoft { values: &soft, known: &known },
    ];
    for targets in &all {
        let run = |precision, machine: Option<&Arc<dyn Machine>>| {
            let mut bit = small(3);
            bit.place(machine.cloned()).unwrap();
            bit.set_precision(precision);
            let values = [bit.logits(&images(&data)).unwrap(), bit.features(&images(&data)).unwrap()];
            let loss = bit.loss_backward(&images(&data), targets, 0.3).unwrap();
            (values, loss, gradients(&bit))
        };
        let (truth, true_loss, true_gradients) = run(Precision::F32, None);
        let (found, loss, own) = run(Precision::F32, Some(machine));
        for (f, t) in found.iter().zip(&truth) {
            assert!(off(f, t) < 1e-4 * length(t), "{targets:?}: {f:?}, expected {t:?}");
        }
        assert!((loss - true_loss).abs() < 1e-5 * true_loss.max(1.0), "{targets:?}: loss {loss}, expected {true_loss}");
        for ((name, f), (_, t)) in own.iter().zip(&true_gradients) {
            assert!(
                off(f, t) < 2e-3 * length(t),
                "{targets:?}: gradient of {name} is off by {} of {}",
                off(f, t),
                length(t)
            );
        }

        let (here, _, here_gradients) = run(Precision::Bf16, None);
        let (there, loss, there_gradients) = run(Precision::Bf16, Some(machine));
        for ((f, h), t) in there.iter().zip(&here).zip(&truth) {
            assert!(off(f, t) < 2.0 * off(h, t), "{targets:?}: bf16 is off by {}, here by {}", off(f, t), off(h, t));
        }
        // The loss follows from the logits, in f32.
        let expected = targets.loss(&there[0], 3, 0.3, &mut vec![0.0; there[0].len()]);
        assert!((loss - expected).abs() < 1e-5 * expected.max(1.0), "{targets:?}: loss {loss}, expected {expected}");
        // One by one with room for chance, and all together.
        let (mut worst, mut all_there, mut all_here) = (0f64, 0f64, 0f64);
        let gradients = there_gradients.iter().zip(&here_gradients).zip(&true_gradients);
        for (((name, f), (_, h)), (_, t)) in gradients {
            let [there, here] = [f, h].map(|values| off(values, t) / length(t));
            assert!(
                there < 2.0 * here + 0.01,
                "{targets:?}: bf16 gradient of {name} is off by {there}, here by {here}"
            );
            worst = worst.max(there / here);
            all_there += there * there;
            all_here += here * here;
        }
        let ratio = (all_there / all_here).sqrt();
        println!("bf16 gradients are {ratio:.2} times as far from f32's as the processor's, at most {worst:.2} times");
        assert!(ratio < 1.25, "{targets:?}: bf16 gradients are off {ratio} times as far as here");
    }
}

/// What a training leaves: weights, momentum and losses after some steps of two micro-batches.
fn train(bit: &mut Bit, precision: Precision, keep: Keep, steps: usize) -> (Vec<Vec<f32>>, Vec<f64>) {
    bit.set_precision(precision);
    bit.set_keep(keep);
    let data = draw(4, 5 * SIDE[0] * SIDE[1] * 3);
    let (first, second) = data.split_at(2 * SIDE[0] * SIDE[1] * 3);
    let mut optimizer = SgdAgc::new(SgdAgcOptions::default());
    let mut losses = Vec::new();
    for _ in 0..steps {
        bit.zero_gradients();
        let one = bit.accumulate(&images(first), &Targets::Class(&[0, 2]), 0.2).unwrap();
        let two = bit.accumulate(&images(second), &Targets::Class(&[1, 1, 0]), 0.2).unwrap();
        bit.step(&mut optimizer, 0.1);
        losses.extend(one.zip(two).map(|(a, b)| a + b));
    }
    losses.extend(bit.take_losses().unwrap());
    bit.gather().unwrap();
    bit.gather_state(&mut optimizer).unwrap();
    let momentum = optimizer.state(bit.parameters()).into_iter().map(|(_, values)| values);
    ([weights(bit), momentum.collect()].concat(), losses)
}

/// Between two lists of weights.
fn distance(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    a.iter().zip(b).map(|(a, b)| off(a, b).powi(2)).sum::<f64>().sqrt()
}

/// Steps follow the processor's, recomputing changes no bit, and neither does doing it again.
pub fn steps(machine: &Arc<dyn Machine>) {
    let on = |precision, keep| {
        let mut bit = small(3);
        bit.place(Some(machine.clone())).unwrap();
        train(&mut bit, precision, keep, 3)
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let (truth, _) = train(&mut small(3), Precision::F32, Keep::Inner, 3);
        let (wanted, losses) = train(&mut small(3), precision, Keep::Inner, 3);
        let start = weights(&small(3));
        let (found, own) = on(precision, Keep::Inner);
        assert_eq!((found.len(), own.len()), (wanted.len(), 3));
        // Sums in another order tip a few of bfloat16's roundings over, each update some more.
        let (near, share) = if precision == Precision::F32 { (3, 1e-4) } else { (2, 0.05) };
        for (a, b) in own.iter().zip(&losses).take(near) {
            assert!((a - b).abs() < share * b, "{precision:?}: losses {own:?}, expected {losses:?}");
        }
        // Of the way from the start to f32's end, over all weights: bfloat16 as far off as the processor's.
        let truth = &truth[..start.len()];
        let way = distance(truth, &start);
        let [there, here] = [&found, &wanted].map(|of| distance(&of[..start.len()], truth) / way);
        let limit = if precision == Precision::F32 { 2e-3 } else { 1.25 * here };
        println!("{precision:?}: off by {there:.2e} of the way, the processor by {here:.2e}");
        assert!(way > 0.0 && there < limit, "{precision:?}: off by {there} of the way, the processor by {here}");
        assert!((found.clone(), own.clone()) == on(precision, Keep::Input), "{precision:?} with recomputation");
        assert!((found, own) == on(precision, Keep::Inner), "{precision:?} again");
    }
}

/// A state that was brought back is continued from to the bit.
pub fn resumed(machine: &Arc<dyn Machine>) {
    let data = draw(4, 3 * SIDE[0] * SIDE[1] * 3);
    let targets = Targets::Class(&[0, 2, 1]);
    let step = |bit: &mut Bit, optimizer: &mut SgdAgc| {
        bit.zero_gradients();
        bit.accumulate(&images(&data), &targets, 0.3).unwrap();
        bit.step(optimizer, 0.05);
    };
    let finish = |bit: &mut Bit| {
        bit.gather().unwrap();
        weights(bit)
    };
    let placed = || {
        let mut bit = small(3);
        bit.place(Some(machine.clone())).unwrap();
        (bit, SgdAgc::new(SgdAgcOptions::default()))
    };
    let (mut through, mut optimizer) = placed();
    (0..4).for_each(|_| step(&mut through, &mut optimizer));
    let (mut half, mut optimizer) = placed();
    (0..2).for_each(|_| step(&mut half, &mut optimizer));
    half.gather().unwrap();
    half.gather_state(&mut optimizer).unwrap();
    let (mut rest, mut fresh) = placed();
    for (name, tensor) in half.tensors().unwrap() {
        rest.load(&name, &tensor).unwrap();
    }
    fresh.restore(rest.parameters(), &optimizer.state(half.parameters())).unwrap();
    (0..2).for_each(|_| step(&mut rest, &mut fresh));
    assert!(finish(&mut through) == finish(&mut rest), "two steps and two steps are not four");
}

/// Slopes of the loss along directions in every parameter, by differences.
pub fn differences(machine: &Arc<dyn Machine>) {
    let data = draw(4, 2 * SIDE[0] * SIDE[1] * 3);
    let soft = [0.2, 0.5, 0.3, 0.9, 0.0, 0.1];
    let mut bit = small(3);
    bit.place(Some(machine.clone())).unwrap();
    // One of each kind: the others run the same kernels.
    for name in [
        "root.conv.weight",
        "body.block1.unit01.gn1.weight",
        "body.block2.unit01.conv2.weight",
        "body.block2.unit01.downsample.weight",
        "body.block2.unit02.gn3.bias",
        "head.gn.weight",
        "head.conv.weight",
        "head.conv.bias",
    ] {
        bit.zero_gradients();
        bit.loss_backward(&images(&data), &Targets::Soft(&soft), 0.5).unwrap();
        let gradient = bit.gradient(name).unwrap();
        let typical = length(&gradient) / (gradient.len() as f64).sqrt();
        let noise = draw(6, gradient.len());
        let along: Vec<f64> =
            gradient.iter().zip(&noise).map(|(&g, &n)| f64::from(g) / typical + f64::from(n)).collect();
        let size = along.iter().map(|a| a * a).sum::<f64>().sqrt();
        let slope: f64 = gradient.iter().zip(&along).map(|(&g, a)| f64::from(g) * a / size).sum();
        let before = bit.get(name).unwrap();
        let mut at = |h: f64| {
            let moved = before.iter().zip(&along).map(|(&b, a)| (f64::from(b) + h * a / size) as f32);
            bit.set(name, &moved.collect::<Vec<_>>()).unwrap();
            bit.loss_backward(&images(&data), &Targets::Soft(&soft), 0.5).unwrap()
        };
        let far = length(&before).max(1.0);
        // Long steps meet corners of ReLUs, short ones rounding; the first that fits will do.
        let mut off = f64::MAX;
        for h in [1e-4, 3e-4, 3e-5].map(|h| h * far) {
            if off >= 0.02 {
                off = off.min(((at(h) - at(-h)) / (2.0 * h) - slope).abs() / slope.abs());
            }
        }
        assert!(off < 0.02, "{name}: slope {slope}, off by {off}");
        bit.set(name, &before).unwrap();
    }
}

/// What holds reference numbers against a network on a device.
type Check = fn(&Value, Option<&Arc<dyn Machine>>) -> Result<Vec<String>, String>;

/// The published model's numbers, from the repository or from `SCALESHOT_REFERENCE`.
pub fn reference(machine: &Arc<dyn Machine>, check: Check) {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference");
    let folder = std::env::var("SCALESHOT_REFERENCE").ok().filter(|v| !v.is_empty()).unwrap_or(own.into());
    let json = serde_json::from_slice(&std::fs::read(format!("{folder}/bit_model.json")).unwrap()).unwrap();
    for line in check(&json, Some(machine)).unwrap_or_else(|problem| panic!("{problem}")) {
        println!("{line}");
    }
}
