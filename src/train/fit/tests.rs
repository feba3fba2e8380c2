//! The loop on small striped pictures: what it learns, and what may not change what it learns.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::*;
use crate::{
    data::{
        augment::{Augment, View},
        loader::MemoryPixels,
        randaugment::RandAugment,
        sampling::ImageDims,
    },
    model::{Precision, config::BitConfig},
    nn::cuda::{Machine, host::Host},
    progress::{Cancel, Progress, Silent},
    random::stream::Stream,
    train::{
        checkpoint::Checkpoint,
        collective::Alone,
        embed,
        memory::{Auto, Checkpointing, MicroBatch},
        optimizer::Optimizer as OptimizerSpec,
        predict,
        schedule::{CosineSchedule, Schedule},
        score::score,
        spec::{Every, SgdAgcSpec},
    },
};

/// Grey images, 16 high and 12 wide, with stripes whose direction and width are the class.
fn stripes(n: usize, seed: u64) -> Examples {
    let (dims, bytes, y) = drawn(n, seed);
    let source = MemoryPixels::new(dims, bytes).unwrap();
    let places = (0..n as u32).map(|i| (0, i)).collect();
    Examples::new(Arc::new(source), places, Labels::Class { classes: 4, y }).unwrap()
}

fn drawn(n: usize, seed: u64) -> (ImageDims, Vec<u8>, Vec<i32>) {
    let (height, width, classes) = (16, 12, 4);
    let mut bytes = Vec::new();
    let y: Vec<i32> = (0..n).map(|i| (i % classes) as i32).collect();
    for (i, &class) in y.iter().enumerate() {
        let mut s = Stream::new(seed, "stripes", 0, i as u64);
        let phase = s.below(8) as usize;
        let period = if class < 2 { 4 } else { 8 };
        for row in 0..height {
            for column in 0..width {
                let at = phase + if class % 2 == 0 { row } else { column };
                let base = if at % period < period / 2 { 200.0 } else { 60.0 };
                bytes.push((base + 20.0 * s.normal()).clamp(0.0, 255.0) as u8);
            }
        }
    }
    (ImageDims { height, width, channels: 1 }, bytes, y)
}

fn tiny(seed: u64) -> Bit {
    Bit::new(BitConfig::parse("bit-r14x0.25", 4).unwrap(), seed)
}

fn session<'a>(progress: &'a dyn Progress, cancel: &'a Cancel, checkpoint: Option<&'a Path>) -> Session<'a> {
    Session { progress, cancel, checkpoint, checkpoint_every_s: 3600, collective: &Alone }
}

fn weights(model: &Bit) -> Vec<u32> {
    let tensors = model.tensors().unwrap();
    let values = tensors.iter().flat_map(|(_, t)| t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    values.map(f32::to_bits).collect()
}

fn alone(model: &mut Bit, train: &Examples, valid: Option<&Examples>, spec: &FitSpec) -> Result<Fit> {
    fit(model, train, valid, spec, &session(&Silent, &Cancel::default(), None))
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

#[test]
fn a_tiny_network_learns_stripes() {
    let (train, test) = (stripes(128, 1), stripes(64, 2));
    let mut model = tiny(3);
    let schedule = Schedule::Cosine(CosineSchedule::default());
    let spec = FitSpec { batch: 16, augment: Augment::Flip, schedule, ..FitSpec::sgd_agc(0.05, 120) };
    let fit = alone(&mut model, &train, Some(&test), &spec).unwrap();
    let (first, last) = (&fit.curve[0], fit.curve.last().unwrap());
    assert!(last.loss < 0.5 * first.loss, "{first:?} {last:?}");
    let logits = predict(&model, &train, &View::Stored, 50, &session(&Silent, &Cancel::default(), None)).unwrap();
    let seen = score(train.labels(), &logits).accuracy.unwrap();
    assert!(seen > 0.9 && last.valid_accuracy.unwrap() > 0.5, "{seen} {last:?}");
}

#[test]
fn an_interrupted_run_ends_with_the_same_bits() {
    let adamw: OptimizerSpec = serde_json::from_str(r#"{"adamw": {"lr": 0.003, "weight_decay": 0.1}}"#).unwrap();
    let plain = FitSpec::sgd_agc(0.05, 11);
    let averaged = FitSpec { precision: Precision::Bf16, ema: Some(0.8), ..plain.clone() };
    let adam = FitSpec { optimizer: adamw, checkpoint: Checkpointing::Blocks, ..plain.clone() };
    for spec in [plain, averaged.clone(), adam] {
        interrupted(spec, tiny, 3);
    }
    // Means, bfloat16 and a device's checkpoints at once: the host machine is slow.
    interrupted(averaged, placed, 1);
}

/// The same network on a device: the host machine, which runs what a GPU would.
fn placed(seed: u64) -> Bit {
    let mut model = tiny(seed);
    model.place(Some(Host::get())).unwrap();
    model
}

#[test]
fn a_device_follows_the_processor_and_stops_before_a_loss_that_is_no_number() {
    let (train, valid) = (stripes(24, 1), stripes(10, 2));
    let spec = FitSpec {
        batch: 8,
        micro_batch: Some(MicroBatch::Auto(Auto::Auto)),
        ema: Some(0.5),
        evaluate_every: Some(Every::Steps(2)),
        ..FitSpec::sgd_agc(0.02, 5)
    };
    let (mut here, mut there) = (tiny(1), placed(1));
    let wanted = alone(&mut here, &train, Some(&valid), &spec).unwrap();
    let found = alone(&mut there, &train, Some(&valid), &spec).unwrap();
    assert_eq!(found.curve.len(), wanted.curve.len());
    for (f, w) in found.curve.iter().zip(&wanted.curve) {
        let near = |f: f64, w: f64| (f - w).abs() < 1e-3 * w;
        assert!((f.step, f.lr) == (w.step, w.lr) && near(f.loss, w.loss), "{f:?}, expected {w:?}");
        assert!(f.valid_loss.is_some() == w.valid_loss.is_some());
        assert!(f.valid_loss.zip(w.valid_loss).is_none_or(|(f, w)| near(f, w)), "{f:?}, expected {w:?}");
    }
    // Two ranks on one device: gradients are summed by way of the host, and losses at every step.
    let shared = FitSpec { ranks: Some(2), micro_batch: None, ema: None, ..spec.clone() };
    let (mut here, mut there) = (tiny(1), placed(1));
    let wanted = alone(&mut here, &train, Some(&valid), &shared).unwrap();
    let found = alone(&mut there, &train, Some(&valid), &shared).unwrap();
    for (f, w) in found.curve.iter().zip(&wanted.curve) {
        assert!(f.step == w.step && (f.loss - w.loss).abs() < 1e-3 * w.loss, "{f:?}, expected {w:?}");
    }
    // Two ranks on a device each, which sum gradients among themselves.
    let (mut here, mut there) = (tiny(1), tiny(1));
    let hosts = [0, 1].map(Host::numbered);
    let sums = [0, 1].map(|rank: usize| hosts[rank].sums.clone());
    there.place_ranks(hosts.map(|host| Arc::new(host) as Arc<dyn Machine>).into()).unwrap();
    let wanted = alone(&mut here, &train, Some(&valid), &shared).unwrap();
    let found = alone(&mut there, &train, Some(&valid), &shared).unwrap();
    assert_eq!(sums.map(|sums| sums.load(Ordering::SeqCst) as u64), [found.steps; 2]);
    for (f, w) in found.curve.iter().zip(&wanted.curve) {
        assert!(f.step == w.step && (f.loss - w.loss).abs() < 1e-3 * w.loss, "{f:?}, expected {w:?}");
    }
    // Ranks on devices keep the weights of the last step whose loss was a number, here the first.
    let wild = FitSpec { optimizer: FitSpec::sgd_agc(1e38, 5).optimizer, evaluate_every: None, ..shared };
    let mut broken = placed(1);
    let stopped = alone(&mut broken, &train, None, &wild);
    assert!(matches!(stopped, Err(Error::NotFinite { step: 1, .. })), "{stopped:?}");
    let largest = broken.get("head.conv.bias").unwrap().into_iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(largest > 1e20, "{largest}");
    let mut broken = placed(1);
    let mut head = broken.get("head.conv.bias").unwrap();
    head[0] = f32::NAN;
    broken.set("head.conv.bias", &head).unwrap();
    let stopped = alone(&mut broken, &train, None, &FitSpec { ema: None, ..spec });
    assert!(matches!(stopped, Err(Error::NotFinite { step: 0, loss, .. }) if loss.is_nan()), "{stopped:?}");
    assert_eq!(broken.get("root.conv.weight").unwrap(), tiny(1).get("root.conv.weight").unwrap());
}

/// Stops a run again and again, and compares where it ends with a run that nobody stopped.
fn interrupted(spec: FitSpec, fresh: fn(u64) -> Bit, times: usize) {
    let (train, valid) = (stripes(24, 1), stripes(10, 2));
    let spec = FitSpec {
        batch: 10,
        micro_batch: Some(MicroBatch::Images(4)),
        augment: Augment::RandomResizedCrop(Default::default()),
        rand_augment: Some(RandAugment { n: 1, m: 9 }),
        mixup: Some(0.3),
        label_smoothing: 0.1,
        oversample: true,
        evaluate_every: Some(Every::Steps(3)),
        curve_every: Some(2),
        keep: if spec.ema.is_some() { Keep::Last } else { Keep::Best },
        ..spec
    };
    let mut whole = fresh(1);
    let expected = alone(&mut whole, &train, Some(&valid), &spec).unwrap();
    let mut stream = Stream::new(9, "stops", 0, 0);
    for _ in 0..times {
        let dir = tempfile::tempdir().unwrap();
        let (mut stops, mut resumed) = (0, Vec::new());
        let (model, fit) = loop {
            let cancel = Cancel::default();
            let progress = StopAfter { left: AtomicU64::new(1 + stream.below(5)), cancel: cancel.clone() };
            let mut model = fresh(1);
            match fit(&mut model, &train, Some(&valid), &spec, &session(&progress, &cancel, Some(dir.path()))) {
                Ok(fit) => break (model, fit),
                Err(Error::Interrupted) => stops += 1,
                Err(e) => panic!("{e}"),
            }
            resumed.push(Checkpoint::load(dir.path()).unwrap().unwrap().state.step);
        };
        assert!(stops > 0 && fit.resumed_from.is_some(), "{resumed:?}");
        assert_eq!(fit.curve, expected.curve, "stopped after {resumed:?}");
        assert_eq!(fit.best, expected.best);
        assert!(weights(&model) == weights(&whole), "stopped after {resumed:?}");
    }
}

#[test]
fn a_checkpoint_of_something_else_is_not_continued() {
    let (train, dir) = (stripes(16, 1), tempfile::tempdir().unwrap());
    let run = |seed: u64, stop: Option<u64>| {
        let cancel = Cancel::default();
        let progress = StopAfter { left: AtomicU64::new(stop.unwrap_or(u64::MAX)), cancel: cancel.clone() };
        let spec = FitSpec { batch: 4, seed, ..FitSpec::sgd_agc(0.01, 4) };
        fit(&mut tiny(1), &train, None, &spec, &session(&progress, &cancel, Some(dir.path())))
    };
    assert!(matches!(run(1, Some(2)), Err(Error::Interrupted)));
    assert_eq!(run(2, None).unwrap().resumed_from, None);
    assert_eq!(run(1, None).unwrap().resumed_from, Some(2));
    std::fs::write(dir.path().join("checkpoint.safetensors"), b"torn").unwrap();
    assert_eq!(run(1, None).unwrap().resumed_from, None);
}

#[test]
fn neither_threads_nor_micro_batches_decide_the_result() {
    let train = stripes(16, 1);
    let run = |threads, micro: Option<usize>, steps| {
        let mut model = tiny(1);
        let spec = FitSpec {
            batch: 8,
            micro_batch: micro.map(MicroBatch::Images),
            mixup: Some(0.2),
            ..FitSpec::sgd_agc(0.05, steps)
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| alone(&mut model, &train, None, &spec)).unwrap();
        model
    };
    assert!(weights(&run(1, None, 4)) == weights(&run(3, None, 4)));
    // Rounding differs between the whole and its parts, and grows from step to step.
    let pieces = run(2, Some(3), 1);
    for ((name, a), (_, b)) in run(2, None, 1).tensors().unwrap().iter().zip(pieces.tensors().unwrap()) {
        let far = (a - &b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(far < 2e-6, "{name}: {far}");
    }
}

#[test]
fn micro_batches_make_the_update_of_the_batch() {
    let plain = stripes(24, 1);
    let Labels::Class { y, .. } = plain.labels() else { panic!() };
    // Unknown findings fall unevenly on the parts, so that a mean of the parts' means would be wrong.
    let findings = y.iter().enumerate().flat_map(|(i, &c)| [(c % 2) as i8, if i % 3 > 0 { -1 } else { 1 }]);
    let masked = plain.relabelled(Labels::Multi { labels: 2, y: findings.collect() }).unwrap();
    let few: Vec<i32> = y.iter().enumerate().map(|(i, &c)| if i < 16 { 0 } else { c }).collect();
    let uneven = plain.relabelled(Labels::Class { classes: 4, y: few }).unwrap();
    let weighted = FitSpec { class_weights: ClassWeights::Balanced, ..FitSpec::sgd_agc(0.05, 1) };
    let no_clip = |spec: FitSpec| match spec.optimizer {
        // Clipping would hide a gradient of the wrong length.
        OptimizerSpec::SgdAgc(o) => {
            FitSpec { optimizer: OptimizerSpec::SgdAgc(SgdAgcSpec { clipping: None, ..o }), ..spec }
        }
        _ => spec,
    };
    for (data, outputs, spec) in [(&masked, 2, FitSpec::sgd_agc(0.05, 1)), (&uneven, 4, weighted)] {
        let step = |micro_batch| {
            let mut model = Bit::new(BitConfig::parse("bit-r14x0.25", outputs).unwrap(), 3);
            let spec = FitSpec { batch: 10, micro_batch, ..no_clip(spec.clone()) };
            let fit = alone(&mut model, data, None, &spec).unwrap();
            (fit.curve[0].loss, model)
        };
        let (loss, whole) = step(None);
        let (auto_loss, auto) = step(Some(MicroBatch::Auto(Auto::Auto)));
        assert!(auto_loss == loss && weights(&auto) == weights(&whole), "ten small images fit the budget");
        for micro in [1, 4, 7] {
            let (part_loss, parts) = step(Some(MicroBatch::Images(micro)));
            assert!((part_loss - loss).abs() < 1e-6 * loss, "{micro}: {part_loss} {loss}");
            let before = Bit::new(whole.config().clone(), 3);
            for (name, _) in whole.names() {
                let (a, b, start) = (whole.get(&name), parts.get(&name), before.get(&name));
                let (a, b, start) = (a.unwrap(), b.unwrap(), start.unwrap());
                let far = |x: &[f32], y: &[f32]| -> f64 {
                    x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>().sqrt()
                };
                // A head of zeros sends nothing below itself in the first step.
                let moved = far(&a, &start);
                assert!(far(&a, &b) <= 1e-5 * moved + 1e-9, "{name}: {} of {moved}", far(&a, &b));
                assert!(moved > 0.0 || !name.starts_with("head.conv"), "{name} did not move");
            }
        }
    }
}

#[test]
fn recomputing_blocks_changes_no_bit_and_precision_does() {
    let train = stripes(16, 1);
    let run = |precision, checkpoint| {
        let mut model = tiny(1);
        let spec = FitSpec { batch: 8, precision, checkpoint, ..FitSpec::sgd_agc(0.05, 4) };
        let fit = alone(&mut model, &train, None, &spec).unwrap();
        assert!(fit.pace.steps == 4 && fit.pace.wait_share().is_some_and(|w| (0.0..1.0).contains(&w)));
        (weights(&model), fit.curve.last().unwrap().loss)
    };
    let (f32_weights, f32_loss) = run(Precision::F32, Checkpointing::None);
    assert!(run(Precision::F32, Checkpointing::Blocks).0 == f32_weights);
    let (bf16_weights, bf16_loss) = run(Precision::Bf16, Checkpointing::None);
    assert!(run(Precision::Bf16, Checkpointing::Blocks).0 == bf16_weights);
    assert!(bf16_weights != f32_weights && (bf16_loss - f32_loss).abs() < 0.05, "{bf16_loss} {f32_loss}");
}

#[test]
fn a_mean_of_the_weights_is_validated_and_kept() {
    let (train, valid) = (stripes(32, 1), stripes(16, 2));
    let run = |ema| {
        let mut model = tiny(1);
        let spec = FitSpec { batch: 8, ema, ..FitSpec::sgd_agc(0.05, 12) };
        let fit = alone(&mut model, &train, Some(&valid), &spec).unwrap();
        let logits = predict(&model, &valid, &View::Stored, 8, &session(&Silent, &Cancel::default(), None));
        let scored = score(valid.labels(), &logits.unwrap()).loss;
        assert_eq!(fit.curve.last().unwrap().valid_loss, scored, "what was validated is what is kept");
        (model, fit)
    };
    let ((plain, _), (still, _), (mean, _)) = (run(None), run(Some(0.0)), run(Some(0.9)));
    assert!(weights(&plain) != weights(&mean));
    for (name, _) in plain.names() {
        let (a, b) = (plain.get(&name).unwrap(), still.get(&name).unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs().max(1e-3)), "{name}");
    }
}

#[test]
fn layers_far_from_the_head_move_less() {
    let train = stripes(16, 1);
    let moved = |layer_decay| {
        let mut model = tiny(1);
        // The head starts from something, or nothing moves below it.
        let head: Vec<f32> = (0..4 * model.feature_dim()).map(|i| (i as f32).sin() * 0.1).collect();
        model.set("head.conv.weight", &head).unwrap();
        let before = ["root.conv.weight", "head.conv.weight"].map(|n| (n, model.get(n).unwrap()));
        let spec = FitSpec { batch: 8, layer_decay, ..FitSpec::sgd_agc(0.05, 1) };
        alone(&mut model, &train, None, &spec).unwrap();
        before.map(|(n, old)| {
            let new = model.get(n).unwrap();
            old.iter().zip(&new).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        })
    };
    let ([root, head], [slow_root, same_head]) = (moved(None), moved(Some(0.5)));
    assert!((slow_root * 32.0 / root - 1.0).abs() < 0.01, "{slow_root} {root}");
    assert_eq!(head, same_head);
}

#[test]
fn a_loss_that_is_no_number_stops_and_keeps_the_checkpoint() {
    let (train, dir) = (stripes(16, 1), tempfile::tempdir().unwrap());
    let cancel = Cancel::default();
    let session = Session { checkpoint_every_s: 0, ..session(&Silent, &cancel, Some(dir.path())) };
    let spec = FitSpec { batch: 8, ..FitSpec::sgd_agc(1e36, 20) };
    let e = fit(&mut tiny(1), &train, None, &spec, &session).unwrap_err();
    let Error::NotFinite { step, lr, ref norms, checkpoint, .. } = e else { panic!("{e}") };
    assert!(step >= 1 && lr == 1e36 && norms.split(", ").count() == 3, "{e}");
    let kept = Checkpoint::load(dir.path()).unwrap().unwrap().state.step;
    assert!(kept <= step && checkpoint == Some(kept), "{e}");
    let text = e.to_string();
    assert!(text.contains(&format!("checkpoint of step {kept} is kept")) && text.contains("1e36"), "{text}");
    // Without a checkpoint before, the state of the last finished step is kept.
    let rare = Session { checkpoint_every_s: 3600, ..session };
    std::fs::remove_dir_all(dir.path()).unwrap();
    let Error::NotFinite { checkpoint, step, .. } = fit(&mut tiny(1), &train, None, &spec, &rare).unwrap_err() else {
        panic!()
    };
    assert_eq!(checkpoint, Some(step));
    assert_eq!(Checkpoint::load(dir.path()).unwrap().unwrap().state.step, step);
}

#[test]
fn findings_are_learnt_where_known_and_weights_can_be_frozen() {
    let plain = stripes(32, 1);
    let Labels::Class { y, .. } = plain.labels() else { panic!() };
    let findings = y.iter().flat_map(|&c| [(c % 2) as i8, if c == 3 { -1 } else { (c / 2) as i8 }, -1, 1]).collect();
    let source = plain.clone();
    let train = source.relabelled(Labels::Multi { labels: 4, y: findings }).unwrap();
    let mut model = tiny(5);
    let before = weights(&model).len();
    let root = model.get("root.conv.weight").unwrap();
    let spec = FitSpec {
        batch: 8,
        freeze: vec!["root".into(), "body.block1".into()],
        mixup: Some(0.2),
        ..FitSpec::sgd_agc(0.05, 20)
    };
    let fit = alone(&mut model, &train, Some(&train), &spec).unwrap();
    assert!(fit.curve.last().unwrap().valid_loss.unwrap() < 0.6, "{:?}", fit.curve.last());
    assert_eq!(model.get("root.conv.weight").unwrap(), root);
    assert_eq!(weights(&model).len(), before);
    // A finding that is never known has no gradient; its zero weights stay.
    let head = model.get("head.conv.weight").unwrap();
    let rows: Vec<f32> = head.chunks(model.feature_dim()).map(|r| r.iter().map(|v| v.abs()).sum()).collect();
    assert!(rows[2] == 0.0 && rows[0] > 0.0, "{rows:?}");
}

#[test]
fn inference_does_not_depend_on_the_batch_size() {
    let (model, data, cancel) = (tiny(1), stripes(7, 1), Cancel::default());
    let session = session(&Silent, &cancel, None);
    let view = View::Center { resize_px: 20, px: 16 };
    let features = embed(&model, &data, &view, 7, &session).unwrap();
    assert_eq!(features.len(), 7 * model.feature_dim());
    assert_eq!(embed(&model, &data, &view, 3, &session).unwrap(), features);
    assert!(features.iter().any(|&v| v != features[0]));
    assert_eq!(predict(&model, &data, &view, 1, &session).unwrap().len(), 28);
    cancel.request();
    assert!(matches!(predict(&model, &data, &view, 1, &session), Err(Error::Interrupted)));
}

/// A device renders what it infers from; its values wait there and come in order.
#[test]
fn a_device_infers_from_stored_bytes_what_it_would_from_rendered_images() {
    let (model, data, cancel) = (placed(1), stripes(7, 1), Cancel::default());
    let session = session(&Silent, &cancel, None);
    let view = View::Center { resize_px: 20, px: 16 };
    let mut rendered = Vec::new();
    data.fill(&[0, 1, 2, 3, 4, 5, 6], &view, &mut rendered).unwrap();
    let images = Images { data: &rendered, n: 7, height: 16, width: 16 };
    for batch in [2, 7] {
        assert_eq!(embed(&model, &data, &view, batch, &session).unwrap(), model.features(&images).unwrap());
        assert_eq!(predict(&model, &data, &view, batch, &session).unwrap(), model.logits(&images).unwrap());
    }
    assert!(embed(&model, &data.take(&[]).unwrap(), &view, 2, &session).unwrap().is_empty());
    cancel.request();
    assert!(matches!(embed(&model, &data, &view, 2, &session), Err(Error::Interrupted)));
}

#[test]
fn what_cannot_work_is_refused_before_anything_runs() {
    let data = stripes(8, 1);
    let say =
        |model: &mut Bit, train: &Examples, spec: FitSpec| alone(model, train, None, &spec).unwrap_err().to_string();
    let spec = || FitSpec::sgd_agc(0.1, 2);
    let mut other = Bit::new(BitConfig::parse("bit-r14x0.25", 3).unwrap(), 0);
    assert_eq!(say(&mut other, &data, spec()), "training data has 4 labels, the model 3 outputs");
    let mut model = tiny(0);
    assert!(say(&mut model, &data, FitSpec { epochs: Some(1.0), ..spec() }).contains("not both"));
    assert!(say(&mut model, &data, FitSpec { keep: Keep::Best, ..spec() }).contains("validation data"));
    assert!(say(&mut model, &data, FitSpec { freeze: vec!["neck".into()], ..spec() }).contains("neck"));
    assert!(say(&mut model, &data.take(&[]).unwrap(), spec()).contains("no training examples"));
    let unknown = data.relabelled(Labels::Class { classes: 4, y: vec![0, 1, -1, 0, 0, 0, 0, 0] }).unwrap();
    assert!(say(&mut model, &unknown, spec()).contains("1 of 8 training examples have no class"));
}

#[path = "ranks_tests.rs"]
mod ranks_tests;
