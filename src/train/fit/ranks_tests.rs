//! Several ranks on one training: what they may not change, and what happens where one of them fails.

use std::borrow::Cow;

use super::*;
use crate::{data::loader::PixelSource, train::schedule::StepSchedule};

fn spec(ranks: Option<u32>, micro: Option<usize>, steps: u64) -> FitSpec {
    FitSpec {
        batch: 10,
        ranks,
        micro_batch: micro.map(MicroBatch::Images),
        mixup: Some(0.3),
        augment: Augment::RandomResizedCrop(Default::default()),
        ..FitSpec::sgd_agc(0.05, steps)
    }
}

/// Unknown findings fall unevenly on the ranks, so that a mean of the ranks' means would be wrong.
fn uneven(n: usize) -> Examples {
    let plain = stripes(n, 1);
    let Labels::Class { y, .. } = plain.labels() else { panic!() };
    let findings = y.iter().enumerate().flat_map(|(i, &c)| [(c % 2) as i8, if i % 3 > 0 { -1 } else { 1 }]);
    plain.relabelled(Labels::Multi { labels: 2, y: findings.collect() }).unwrap()
}

#[test]
fn ranks_make_the_update_of_as_many_micro_batches() {
    for (data, outputs) in [(uneven(24), 2), (stripes(24, 1), 4)] {
        let train = |ranks, micro, steps| {
            let mut model = Bit::new(BitConfig::parse("bit-r14x0.25", outputs).unwrap(), 3);
            // The head starts from something, or the first step moves nothing below it.
            let head: Vec<f32> = (0..outputs * model.feature_dim()).map(|i| (i as f32).sin() * 0.1).collect();
            model.set("head.conv.weight", &head).unwrap();
            let valid = data.take(&[1, 5, 9]).unwrap();
            let fit = alone(&mut model, &data, Some(&valid), &spec(ranks, micro, steps)).unwrap();
            (fit.curve, model)
        };
        for ranks in [2, 4] {
            let (one, expected) = train(None, Some(10usize.div_ceil(ranks as usize)), 1);
            let (curve, model) = train(Some(ranks), None, 1);
            assert!((one[0].loss - curve[0].loss).abs() < 1e-6 * one[0].loss, "{ranks}: {one:?} {curve:?}");
            let scored = |c: &[CurvePoint]| c.last().unwrap().valid_loss.unwrap();
            assert!((scored(&one) - scored(&curve)).abs() < 1e-5, "{ranks}: {one:?} {curve:?}");
            let mut start = Bit::new(expected.config().clone(), 3);
            let head: Vec<f32> = (0..outputs * start.feature_dim()).map(|i| (i as f32).sin() * 0.1).collect();
            start.set("head.conv.weight", &head).unwrap();
            for (name, _) in expected.names() {
                let [a, b, s] = [&expected, &model, &start].map(|m| m.get(&name).unwrap());
                let far = |x: &[f32], y: &[f32]| -> f64 {
                    x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>().sqrt()
                };
                let moved = far(&a, &s);
                assert!(moved > 0.0, "{name} did not move");
                // Besides the gradients' rounding, the weights have their own.
                let rounding = 6e-8 * far(&a, &vec![0.0; a.len()]);
                assert!(far(&a, &b) <= 1e-5 * moved + rounding, "{ranks} ranks, {name}: {} of {moved}", far(&a, &b));
            }
        }
    }
}

#[test]
fn neither_threads_nor_micro_batches_of_ranks_decide_more_than_rounding() {
    let data = stripes(24, 1);
    let run = |threads, micro| {
        let mut model = tiny(1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| alone(&mut model, &data, None, &spec(Some(2), micro, 4))).unwrap();
        weights(&model)
    };
    assert!(run(1, None) == run(6, None));
    assert!(run(2, Some(2)) == run(4, Some(2)));
}

#[test]
fn a_stopped_run_of_ranks_ends_with_the_same_bits() {
    let (train, valid) = (stripes(24, 1), stripes(10, 2));
    let spec = FitSpec {
        evaluate_every: Some(Every::Steps(3)),
        keep: Keep::Best,
        curve_every: Some(2),
        ..spec(Some(3), Some(2), 9)
    };
    let mut whole = tiny(1);
    let expected = alone(&mut whole, &train, Some(&valid), &spec).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut stops = 0;
    let (model, fit) = loop {
        let cancel = Cancel::default();
        let progress = StopAfter { left: AtomicU64::new(2), cancel: cancel.clone() };
        let mut model = tiny(1);
        match fit(&mut model, &train, Some(&valid), &spec, &session(&progress, &cancel, Some(dir.path()))) {
            Ok(fit) => break (model, fit),
            Err(Error::Interrupted) => stops += 1,
            Err(e) => panic!("{e}"),
        }
        assert!(stops < 20, "no progress is made");
    };
    assert!(stops > 1 && fit.resumed_from.is_some());
    assert_eq!((fit.curve, fit.best), (expected.curve, expected.best));
    assert!(weights(&model) == weights(&whole));
}

/// Images of which one cannot be read, from the second look on.
struct Torn {
    whole: MemoryPixels,
    torn: u32,
    looks: AtomicU64,
}

impl PixelSource for Torn {
    fn dims(&self) -> ImageDims {
        self.whole.dims()
    }

    fn pixels(&self, shard: u32, slot: u32) -> Result<Cow<'_, [u8]>> {
        if slot == self.torn && self.looks.fetch_add(1, Ordering::SeqCst) > 0 {
            return Err(Error::invalid(format!("image {slot} is torn")));
        }
        self.whole.pixels(shard, slot)
    }
}

#[test]
fn a_rank_that_fails_is_named_and_the_checkpoint_is_continued() {
    let whole = stripes(20, 1);
    let (dims, bytes, y) = drawn(20, 1);
    let torn = |torn| {
        let whole = MemoryPixels::new(dims, bytes.clone()).unwrap();
        let source = Torn { whole, torn, looks: AtomicU64::new(0) };
        let places = (0..20).map(|i| (0, i)).collect();
        Examples::new(Arc::new(source), places, Labels::Class { classes: 4, y: y.clone() }).unwrap()
    };
    // Whichever image it is, one of the ranks meets it in the second epoch; over all of them both ranks do.
    let mut named = 0;
    for image in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::default();
        let often = Session { checkpoint_every_s: 0, ..session(&Silent, &cancel, Some(dir.path())) };
        let spec = FitSpec { mixup: None, ..spec(Some(2), None, 8) };
        let e = fit(&mut tiny(1), &torn(image), None, &spec, &often).unwrap_err().to_string();
        assert!(e.ends_with(&format!("image {image} is torn")), "{e}");
        named += usize::from(e.starts_with("rank 1 ended: "));
        let (mut resumed, mut expected) = (tiny(1), tiny(1));
        let again = fit(&mut resumed, &whole, None, &spec, &often).unwrap();
        assert!(again.resumed_from.is_some_and(|step| step > 0), "{again:?}");
        alone(&mut expected, &whole, None, &spec).unwrap();
        assert!(weights(&resumed) == weights(&expected));
    }
    assert!(named > 0, "rank 1 never met the torn image");
}

#[test]
fn warm_up_follows_the_ranks_and_what_cannot_work_is_refused() {
    let schedule = |workers| Schedule::Step(StepSchedule { warmup_epochs: 2.0, workers, ..Default::default() });
    let with = |ranks, workers| FitSpec { schedule: schedule(workers), ..spec(ranks, None, 4) };
    assert_eq!(with(None, 1).check()[0].0, "schedule.warmup_epochs");
    assert!(with(Some(4), 1).check().is_empty());
    // As many workers declared by hand: the same rates. Others stay as declared.
    let rate = |spec: &FitSpec| crate::train::course::Course::new(spec, 100).rates.at(0);
    assert_eq!(rate(&with(Some(4), 1)), rate(&with(None, 4)));
    assert_eq!(rate(&with(Some(4), 8)), rate(&with(None, 8)));
    assert_ne!(rate(&with(Some(4), 1)), rate(&with(Some(2), 1)));
    for ranks in [0, 11] {
        assert_eq!(spec(Some(ranks), None, 1).check()[0].0, "ranks");
    }
    let (data, cancel) = (stripes(12, 1), Cancel::default());
    let members = crate::train::collective::threads::group(3);
    let session = Session { collective: &members[1], ..session(&Silent, &cancel, None) };
    let e = fit(&mut tiny(1), &data, None, &spec(Some(2), None, 1), &session).unwrap_err().to_string();
    assert!(e.contains("asks for 2 ranks and was started on 3"), "{e}");
}
