use super::*;
use crate::nn::sgd_agc::{SgdAgc, SgdAgcOptions};

const HEIGHT: usize = 21;
const WIDTH: usize = 34;

/// A small network with a head that is not zero.
fn small(classes: usize) -> Bit {
    let mut bit = Bit::new(BitConfig { blocks: [1, 2, 1, 1], width: 0.25, classes }, 1);
    let head = draw(5, classes * bit.feature_dim()).iter().map(|v| 0.1 * v).collect::<Vec<_>>();
    bit.set("head.conv.weight", &head).unwrap();
    bit
}

fn draw(seed: u64, n: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, "bit test", 0, 0);
    (0..n).map(|_| stream.range(-1.0, 1.0) as f32).collect()
}

fn images(data: &[f32]) -> Images<'_> {
    Images { data, n: data.len() / (HEIGHT * WIDTH * CHANNELS), height: HEIGHT, width: WIDTH }
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn values(bit: &Bit) -> Vec<Vec<f32>> {
    bit.names().iter().map(|(name, _)| bit.get(name).unwrap()).collect()
}

fn gradients(bit: &Bit) -> Vec<Vec<f32>> {
    bit.names().iter().map(|(name, _)| bit.gradient(name).unwrap()).collect()
}

#[test]
fn steps_give_the_same_bytes_on_any_number_of_threads() {
    let data = draw(2, 5 * HEIGHT * WIDTH * CHANNELS);
    let precisions = [Precision::F32, Precision::Bf16];
    let all = Kernel::available().into_iter().flat_map(|k| precisions.map(|p| (k, p)));
    for (kernel, precision) in all {
        let train = |threads: usize, keep: Keep| {
            in_pool(threads, || {
                let mut bit = small(3);
                bit.set_kernel(kernel);
                bit.set_keep(keep);
                bit.set_precision(precision);
                let mut optimizer = SgdAgc::new(SgdAgcOptions::default());
                for _ in 0..2 {
                    bit.zero_gradients();
                    bit.loss_backward(&images(&data), &Targets::Class(&[0, 2, 1, 1, 0]), 0.2).unwrap();
                    bit.step(&mut optimizer, 0.1);
                }
                (values(&bit), bit.logits(&images(&data)).unwrap())
            })
        };
        let one = train(1, Keep::Inner);
        for threads in if precision == Precision::F32 { 2..4 } else { 3..4 } {
            assert!(one == train(threads, Keep::Inner), "{} {precision:?} with {threads} threads", kernel.name());
        }
        assert!(one == train(2, Keep::Input), "{} {precision:?} with recomputation", kernel.name());
    }
}

#[test]
fn logits_do_not_depend_on_batch_mates() {
    let data = draw(2, 3 * HEIGHT * WIDTH * CHANNELS);
    let mut bit = small(3);
    for precision in [Precision::F32, Precision::Bf16] {
        bit.set_precision(precision);
        let all = bit.logits(&images(&data)).unwrap();
        for (image, wanted) in data.chunks(HEIGHT * WIDTH * CHANNELS).zip(all.chunks(3)) {
            assert_eq!(bit.logits(&images(image)).unwrap(), wanted);
        }
    }
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let one = HEIGHT * WIDTH * CHANNELS;
    let data = draw(3, 3 * one);
    let labels = [1i8, 0, -1, -1, 1, 0, 0, -1, 1];
    let whole = Targets::Multi(&labels);
    let scale = 1.0 / whole.terms(3) as f64;
    let mut bit = small(3);
    let loss = bit.loss_backward(&images(&data), &whole, scale).unwrap();
    let wanted = gradients(&bit);
    bit.zero_gradients();
    let first = bit.loss_backward(&images(&data[..2 * one]), &Targets::Multi(&labels[..6]), scale).unwrap();
    let second = bit.loss_backward(&images(&data[2 * one..]), &Targets::Multi(&labels[6..]), scale).unwrap();
    assert!((first + second - loss).abs() < 1e-12 + 1e-9 * loss);
    for ((name, _), (found, wanted)) in bit.names().iter().zip(gradients(&bit).iter().zip(&wanted)) {
        let size = parameter::norm(wanted);
        let off: Vec<f32> = found.iter().zip(wanted).map(|(f, w)| f - w).collect();
        assert!(parameter::norm(&off) < 1e-5 * size, "{name}: off by {} of {size}", parameter::norm(&off));
    }
}

#[test]
fn gradients_match_differences_of_the_loss() {
    let data = draw(4, 2 * HEIGHT * WIDTH * CHANNELS);
    let soft = [0.2, 0.5, 0.3, 0.9, 0.0, 0.1];
    for kernel in Kernel::available() {
        let mut bit = small(3);
        bit.set_kernel(kernel);
        bit.loss_backward(&images(&data), &Targets::Soft(&soft), 0.5).unwrap();
        let found = gradients(&bit);
        for ((name, shape), gradient) in bit.names().into_iter().zip(found) {
            // The slope along a direction that the gradient is not orthogonal to, by differences.
            let noise = draw(6, gradient.len());
            let typical = parameter::norm(&gradient) / (gradient.len() as f64).sqrt();
            let along: Vec<f64> =
                gradient.iter().zip(&noise).map(|(&g, &n)| f64::from(g) / typical + f64::from(n)).collect();
            let length = along.iter().map(|a| a * a).sum::<f64>().sqrt();
            let slope: f64 = gradient.iter().zip(&along).map(|(&g, a)| f64::from(g) * a / length).sum();
            let before = bit.get(&name).unwrap();
            let mut at = |h: f64| {
                let moved: Vec<f32> =
                    before.iter().zip(&along).map(|(&b, a)| (f64::from(b) + h * a / length) as f32).collect();
                bit.set(&name, &moved).unwrap();
                bit.loss_backward(&images(&data), &Targets::Soft(&soft), 0.5).unwrap()
            };
            let size = parameter::norm(&before).max(1.0);
            // Long steps meet corners of ReLUs, short ones rounding.
            let off = [3e-4, 1e-4, 3e-5]
                .map(|h| {
                    let h = h * size;
                    let difference = (at(h) - at(-h)) / (2.0 * h);
                    (difference - slope).abs() / slope.abs()
                })
                .into_iter()
                .fold(f64::MAX, f64::min);
            assert!(off < 0.02, "{} {name} {shape:?}: slope {slope}, off by {off}", kernel.name());
            bit.set(&name, &before).unwrap();
        }
    }
}

#[test]
fn bfloat16_stays_near_f32() {
    // Large enough for groups of many values: norms of a few amplify any rounding.
    let (height, width) = (70, 90);
    let data = draw(4, 2 * height * width * CHANNELS);
    let x = Images { data: &data, n: 2, height, width };
    let mut bit = small(3);
    let mut run = |precision: Precision, kernel: Kernel| {
        bit.set_precision(precision);
        bit.set_kernel(kernel);
        bit.zero_gradients();
        let loss = bit.loss_backward(&x, &Targets::Class(&[0, 2]), 0.5).unwrap();
        (loss, gradients(&bit).concat())
    };
    let (loss, gradient) = run(Precision::F32, Kernel::Plain);
    for kernel in Kernel::available() {
        let (found, other) = run(Precision::Bf16, kernel);
        assert!((found - loss).abs() < 0.03 * loss, "{}: loss {found}, {loss} in f32", kernel.name());
        let dot: f64 = gradient.iter().zip(&other).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        let cosine = dot / (parameter::norm(&gradient) * parameter::norm(&other));
        // Rounding flips one ReLU in some hundreds, in each of 17 layers; the operators' own
        // tests are the strict ones.
        assert!(cosine > 0.85, "{}: gradients at a cosine of {cosine}", kernel.name());
    }
}

#[test]
fn wrong_shapes_name_both() {
    let mut bit = small(3);
    let tensor = candle_core::Tensor::zeros((16, 3, 3, 3), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let error = bit.load("root.conv.weight", &tensor).unwrap_err().to_string();
    assert!(error.contains("[16, 3, 3, 3]") && error.contains("[16, 3, 7, 7]"), "{error}");
    let error = bit.load("root.conv.wieght", &tensor).unwrap_err();
    assert_eq!(error.hint(), Some("did you mean root.conv.weight?"));
    let error = bit.logits(&Images { data: &[0.0; 5], n: 1, height: 2, width: 1 }).unwrap_err().to_string();
    assert!(error.contains("5 values") && error.contains("2x1"), "{error}");
    let x = draw(1, HEIGHT * WIDTH * CHANNELS);
    assert!(bit.loss_backward(&images(&x), &Targets::Class(&[3]), 1.0).is_err());
}

#[test]
fn tensors_come_back_and_a_new_head_is_zero() {
    let (bit, mut other) = (small(3), Bit::new(BitConfig { blocks: [1, 2, 1, 1], width: 0.25, classes: 3 }, 9));
    for (name, tensor) in bit.tensors().unwrap() {
        other.load(&name, &tensor).unwrap();
    }
    assert!(values(&bit) == values(&other));
    other.replace_head(7);
    let x = draw(1, HEIGHT * WIDTH * CHANNELS);
    assert_eq!(other.logits(&images(&x)).unwrap(), [0.0; 7]);
    assert_eq!(other.names().last().unwrap(), &("head.conv.bias".to_string(), vec![7]));
}

#[test]
fn a_nan_reaches_the_loss() {
    let mut data = draw(1, HEIGHT * WIDTH * CHANNELS);
    data[100] = f32::NAN;
    let loss = small(3).loss_backward(&images(&data), &Targets::Class(&[0]), 1.0).unwrap();
    assert!(loss.is_nan(), "{loss}");
}
