//! Images rendered on a device against the processor's, to the bit: crops, flips, warps, RandAugment, mixup.

use std::sync::Arc;

use scaleshot::data::augment::{Augment, View};
use scaleshot::data::loader::{Draw, Examples, Labels, MemoryPixels, TrainView};
use scaleshot::data::normalise::Normalise;
use scaleshot::data::randaugment::{OPERATIONS, RandAugment};
use scaleshot::data::sampling::ImageDims;
use scaleshot::nn::cuda::Machine;
use scaleshot::nn::cuda::image::{Frame, How};

use super::operators::{Bench, draw};

const COUNT: usize = 20;

fn examples(channels: usize) -> Examples {
    let dims = ImageDims { height: 21, width: 17, channels };
    let bytes = draw(1, COUNT * 21 * 17 * channels).iter().map(|v| (v * 127.0 + 128.0) as u8).collect();
    let labels = Labels::Class { classes: 1, y: vec![0; COUNT] };
    let source = Arc::new(MemoryPixels::new(dims, bytes).unwrap());
    Examples::new(source, (0..COUNT as u32).map(|i| (0, i)).collect(), labels).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// What a device makes of looks, as a training on it does.
fn rendered(machine: &dyn Machine, data: &Examples, draws: &[Draw], partners: &[Draw], how: &TrainView) -> Vec<f32> {
    let looks = data.looks(draws, partners, how).unwrap();
    let one = Frame { images: draws.len(), height: looks.height, width: looks.width };
    let all = Frame { images: draws.len() + partners.len(), ..one };
    let mut b = Bench::new(machine);
    let (bytes, table, scaling) = (b.bytes(&looks.bytes), b.words(&looks.table), b.f32s(&looks.scaling));
    let how = How { table, scaling, shares: looks.shares };
    let (first, second) = (b.room(4 * all.values() as u64), b.room(4 * all.values() as u64));
    b.run([all.render(bytes, how, first), all.warp(first, how, second)]);
    let mut levels = [b.room(all.values() as u64), b.room(all.values() as u64)];
    if !looks.operations.is_empty() {
        b.run([all.to_levels(second, how, levels[0])]);
        for operation in &looks.operations {
            let table = b.words(operation);
            b.run([all.operate(levels[0], levels[1], table)]);
            levels.swap(0, 1);
        }
        b.run([all.from_levels(levels[0], how, second)]);
    }
    if !partners.is_empty() {
        let share = b.words(&[f64::from(0.3f32).to_bits()]);
        b.run([one.mix(second, second + 4 * one.values() as u64, share, first)]);
        return b.get_f32s(first, one.values());
    }
    b.get_f32s(second, one.values())
}

/// Every view, augmentation and operation, of grey and of colour images.
pub fn looks(machine: &dyn Machine) {
    let augments = [
        Augment::None,
        Augment::Flip,
        Augment::Crop { resize_px: 15 },
        Augment::RandomResizedCrop(Default::default()),
        Augment::Xray(Default::default()),
    ];
    let draws: Vec<Draw> = (0..COUNT as u32).map(|i| Draw { example: i, epoch: 2, number: i.into() }).collect();
    let partners: Vec<Draw> = draws.iter().rev().copied().collect();
    let all =
        [(1, Normalise::default()), (3, Normalise::default()), (1, Normalise::imagenet()), (3, Normalise::imagenet())];
    for (channels, normalise) in all {
        let data = examples(channels).normalised(normalise);
        for view in [View::Stored, View::Whole { px: 13 }, View::Center { resize_px: 30, px: 14 }] {
            for augment in &augments {
                if augment.fits(&view, data.dims()).is_err() {
                    continue;
                }
                for (rand_augment, mixed) in [(None, false), (Some(RandAugment { n: 2, m: 12 }), true)] {
                    let how = TrainView { view: &view, augment, rand_augment: rand_augment.as_ref(), seed: 5 };
                    let partners = if mixed { &partners[..] } else { &[] };
                    let mut wanted = Vec::new();
                    data.fill_train(&draws, mixed.then_some((partners, 0.3)), &how, &mut wanted).unwrap();
                    let found = rendered(machine, &data, &draws, partners, &how);
                    assert!(
                        bits(&found) == bits(&wanted),
                        "{channels} channels, {view:?}, {augment:?}, {rand_augment:?}"
                    );
                }
            }
        }
    }
}

/// Each of the fourteen operations at three strengths, of either sign.
pub fn operations(machine: &dyn Machine) {
    use scaleshot::data::randaugment::Picture;
    let (height, width) = (19, 23);
    let data: Vec<u8> = draw(7, height * width * 3).iter().map(|v| (v * 60.0 + 110.0) as u8).collect();
    let picture = Picture { height, width, data };
    let frame = Frame { images: 1, height, width };
    for (name, operation) in OPERATIONS {
        for strength in [3, 15, 30] {
            for sign in [1.0, -1.0] {
                let magnitude = sign * operation.magnitude(strength, height, width);
                if sign < 0.0 && matches!(name, "posterize" | "solarize") {
                    continue;
                }
                let mut b = Bench::new(machine);
                let (from, to) = (b.bytes(&picture.data), b.room(picture.data.len() as u64));
                let table = b.words(&operation.words(magnitude, height, width));
                b.run([frame.operate(from, to, table)]);
                let wanted = operation.apply(&picture, magnitude).data;
                assert!(b.raw(to, wanted.len()) == wanted, "{name} of {magnitude}");
            }
        }
    }
}
