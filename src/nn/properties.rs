//! What holds for every family on every shape: it agrees with the plain kernel to rounding, and
//! gives the same bytes on any number of threads.

use super::Map;
use super::buffer::{Buffer, Workspace};
use super::conv::Conv;
use super::element::{Bf16, Element};
use super::kernel::Kernel;
use super::norm;
use crate::random::stream::Stream;
use proptest::prelude::*;

fn draw<T: Element>(seed: u64, len: usize) -> Vec<T> {
    let mut stream = Stream::new(seed, "property", 0, 0);
    (0..len).map(|_| T::narrow(stream.range(-1.0, 1.0) as f32)).collect()
}

/// Forward, input gradient and weight gradient of a convolution, widened.
fn convolve<T: Element>(kernel: Kernel, conv: &Conv, map: Map) -> [Vec<f32>; 3] {
    let mut workspace = Workspace::default();
    let (out, packing) = (conv.output(map), conv.packing());
    let (x, dy): (Vec<T>, Vec<T>) = (draw(1, map.len()), draw(2, out.len()));
    let mut w = Buffer::zeros(packing.len());
    // Weights of about the size that keeps sums near 1, and exact in bfloat16 for either path.
    let weights: Vec<f32> = draw::<Bf16>(3, packing.rows * conv.outputs).iter().map(|v| v.wide()).collect();
    packing.pack(&weights, conv.taps(), &mut w);
    let transposed = packing.transposed(conv.taps());
    let mut wt = Buffer::zeros(transposed.len());
    packing.transpose(&w, conv.taps(), &mut wt);
    let w = T::weights(kernel, packing, w, &mut workspace);
    let wt = T::weights(kernel, transposed, wt, &mut workspace);
    let (mut y, mut dx) = (vec![T::narrow(f32::NAN); out.len()], vec![T::narrow(f32::NAN); map.len()]);
    let mut dw = vec![f32::NAN; packing.len()];
    conv.forward(kernel, &x, map, &w, None, &mut y);
    conv.input_gradient(kernel, &dy, map, &wt, false, &mut dx);
    conv.weight_gradient(kernel, &x, map, &dy, &mut dw, &mut workspace);
    let wide = |values: Vec<T>| values.into_iter().map(Element::wide).collect();
    [wide(y), wide(dx), dw]
}

/// The norm's forward, input gradient and parameter gradients, widened.
fn normalise<T: Element>(kernel: Kernel, map: Map) -> [Vec<f32>; 3] {
    let (x, dy): (Vec<T>, Vec<T>) = (draw(4, map.len()), draw(5, map.len()));
    let (weight, bias) = (draw::<f32>(6, map.channels), draw::<f32>(7, map.channels));
    let moments = norm::moments(kernel, &x, map);
    let (mut y, mut dx) = (vec![T::default(); map.len()], vec![T::default(); map.len()]);
    norm::forward(kernel, &x, map, &moments, &weight, &bias, &mut y);
    let (mut dweight, mut dbias) = (vec![0.0; map.channels], vec![0.0; map.channels]);
    let gradients = norm::Gradients { weight: &mut dweight, bias: &mut dbias };
    norm::backward(kernel, &x, map, &moments, &weight, &bias, &dy, None, &mut dx, gradients);
    let wide = |values: Vec<T>| values.into_iter().map(Element::wide).collect();
    dweight.extend(dbias);
    [wide(y), wide(dx), dweight]
}

fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// The largest difference, relative to the largest value.
fn off(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    assert!(found.iter().all(|f| f.is_finite()), "every value is written");
    let size = wanted.iter().fold(1e-3, |m: f64, &w| m.max(f64::from(w).abs()));
    found.iter().zip(wanted).fold(0.0, |m: f64, (&f, &w)| m.max((f64::from(f) - f64::from(w)).abs())) / size
}

/// A convolution of a network and a map it can read: odd sides, sides of one pixel, batches of one,
/// and as many channels as pixels a side.
fn shapes() -> impl Strategy<Value = (Conv, Map)> {
    let channels = prop_oneof![1usize..20, Just(16), Just(32), Just(64), 60usize..80, 120usize..140];
    let kernels = prop_oneof![Just((1usize, 0usize)), Just((3, 1)), Just((7, 0))];
    (channels.clone(), channels, kernels, 1usize..3, 1usize..4, 1usize..14, 1usize..14, any::<bool>()).prop_map(
        |(inputs, outputs, (kernel, pad), stride, n, height, width, cube)| {
            // bfloat16 takes channels in pairs; the root, which alone has three, is f32.
            let (inputs, outputs) = (inputs.next_multiple_of(2), outputs.next_multiple_of(2));
            let (height, width) = if cube && inputs <= 20 { (inputs, inputs) } else { (height, width) };
            let least = if pad == 0 { kernel } else { 1 };
            let map = Map { n, height: height.max(least), width: width.max(least), channels: inputs };
            (Conv { inputs, outputs, kernel, stride, pad }, map)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn families_agree_with_the_plain_kernel((conv, map) in shapes()) {
        let (wanted, pairs) = (convolve::<f32>(Kernel::Plain, &conv, map), convolve::<Bf16>(Kernel::Plain, &conv, map));
        for family in Kernel::available() {
            for (found, wanted) in convolve::<f32>(family, &conv, map).iter().zip(&wanted) {
                prop_assert!(off(found, wanted) < 4e-6, "{} off by {}", family.name(), off(found, wanted));
            }
            let found = convolve::<Bf16>(family, &conv, map);
            // What is written is rounded to 8 bits, here or there to either side; weight gradients are f32.
            for ((found, wanted), limit) in found.iter().zip(&pairs).zip([9e-3, 9e-3, 1e-5]) {
                prop_assert!(off(found, wanted) < limit, "{} bf16 off by {}", family.name(), off(found, wanted));
            }
        }
    }

    #[test]
    fn bytes_do_not_depend_on_threads((conv, map) in shapes()) {
        for family in Kernel::available() {
            let run = |threads| in_pool(threads, || {
                (convolve::<f32>(family, &conv, map), convolve::<Bf16>(family, &conv, map),
                 normalise::<f32>(family, map), normalise::<Bf16>(family, map))
            });
            let one = run(1);
            for threads in [2, 3] {
                prop_assert!(one == run(threads), "{} with {} threads", family.name(), threads);
            }
        }
    }

    #[test]
    fn norms_agree_with_the_plain_kernel((_, map) in shapes()) {
        // A group of one value has no spread: its gradient is all rounding.
        prop_assume!(map.height * map.width * map.channels / norm::groups(map.channels) > 4);
        let wanted = normalise::<f32>(Kernel::Plain, map);
        for family in Kernel::available() {
            for (found, wanted) in normalise::<f32>(family, map).iter().zip(&wanted) {
                prop_assert!(off(found, wanted) < 1e-5, "{} off by {}", family.name(), off(found, wanted));
            }
        }
    }
}

/// Weight gradients of large maps are summed in several parts, which proptest's small maps never are.
#[test]
fn parts_of_a_weight_gradient_do_not_depend_on_threads() {
    let conv = Conv { inputs: 70, outputs: 130, kernel: 3, stride: 1, pad: 1 };
    let map = Map { n: 5, height: 27, width: 22, channels: 70 };
    for family in Kernel::available() {
        let run =
            |threads| in_pool(threads, || (convolve::<f32>(family, &conv, map), convolve::<Bf16>(family, &conv, map)));
        let one = run(1);
        assert!(one == run(2) && one == run(3), "{}", family.name());
        let wanted = in_pool(1, || convolve::<f32>(Kernel::Plain, &conv, map));
        for (found, wanted) in one.0.iter().zip(&wanted) {
            assert!(off(found, wanted) < 4e-6, "{} off by {}", family.name(), off(found, wanted));
        }
    }
}
