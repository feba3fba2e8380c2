//! A network on the host machine against the network itself: the same weights, passes and steps.

#[path = "../../../tests/cuda/network.rs"]
mod network;
#[path = "../../../tests/cuda/operators.rs"]
mod operators;
#[path = "../../../tests/cuda/rendering.rs"]
mod rendering;
#[path = "../../../tests/cuda/summing.rs"]
mod summing;

use std::sync::Arc;

use crate::model::reference;
use crate::model::{Beside, Bit, BitConfig, Images};
use crate::nn::cuda::host::{Host, Order};
use crate::nn::cuda::{Machine, source};
use crate::nn::sgd_agc::SgdAgcOptions;
use crate::nn::{Optimizer, SgdAgc, Targets};

fn host() -> Arc<dyn Machine> {
    Host::get()
}

#[test]
fn norms_are_the_processors() {
    operators::norms(&*host());
}

#[test]
fn standardised_weights_are_the_processors() {
    operators::standardised(&*host());
}

#[test]
fn pools_are_the_processors() {
    operators::pools(&*host());
}

#[test]
fn heads_and_losses_are_the_processors() {
    operators::heads(&*host());
}

#[test]
fn updates_are_the_processors() {
    operators::updates(&*host());
}

/// Every kernel, with the threads between two barriers and the blocks in another order: a missing barrier, or a block
/// that reads what another writes, gives other values in one of them.
#[test]
fn no_kernel_is_left_out_and_none_depends_on_whose_turn_it_is() {
    for order in [Order::Forward, Order::Backward, Order::Jumping] {
        let host = Host::in_order(order);
        operators::norms(&host);
        operators::standardised(&host);
        operators::pools(&host);
        operators::heads(&host);
        operators::updates(&host);
        rendering::looks(&host);
        rendering::operations(&host);
        let launched = host.launched.lock().unwrap();
        let text = source::program(true);
        for name in source::kernels(&text) {
            // What takes activations exists in two widths.
            let arguments = text.split(&format!("KERNEL({name}, ")).nth(1).unwrap().split(')').next().unwrap();
            let fields = text.split(&format!("}} {arguments};")).next().unwrap().rsplit('{').next().unwrap();
            assert!(launched.contains(&(name, false)), "{order:?}: {name} did not run");
            assert!(!fields.contains("E *") || launched.contains(&(name, true)), "{order:?}: {name} in bf16");
        }
    }
}

#[test]
fn convolutions_have_their_shapes() {
    operators::convolutions(&*host());
}

#[test]
fn images_are_rendered_to_the_bit() {
    rendering::looks(&*host());
    rendering::operations(&*host());
}

#[test]
fn ranks_sum_where_their_values_lie() {
    let hosts: Vec<Arc<dyn Machine>> = (0..3).map(|n| Arc::new(Host::numbered(n)) as Arc<dyn Machine>).collect();
    assert!(summing::ranks(&hosts[..1]) && summing::ranks(&hosts) && !summing::ranks(&[host()]));
}

#[test]
fn passes_are_the_processors() {
    network::passes(&host());
}

#[test]
fn steps_are_the_processors_and_repeat_to_the_bit() {
    network::steps(&host());
}

#[test]
fn a_continued_training_is_the_same_to_the_bit() {
    network::resumed(&host());
}

#[test]
fn gradients_match_differences_of_the_loss() {
    network::differences(&host());
}

#[test]
fn the_published_model_is_met() {
    network::reference(&host(), reference::check);
}

#[test]
fn too_large_a_step_names_the_layer_and_the_way_out() {
    let machine: Arc<dyn Machine> = Arc::new(Host::with_room((1 << 30) + (24 << 20)));
    let mut bit = Bit::new(BitConfig::parse("bit-r14x0.25", 3).unwrap(), 1);
    bit.place(Some(machine)).unwrap();
    let data = vec![0.0; 64 * 64 * 64 * 3];
    let x = Images { data: &data, n: 64, height: 64, width: 64 };
    let targets = Targets::Class(&[0; 64]);
    let e = bit.accumulate(&x, &targets, 1.0).unwrap_err();
    assert!(e.to_string().contains("64 images of 64 x 64 px need") && e.to_string().contains("at body.block"), "{e}");
    let hint = e.hint().unwrap();
    let fits = bit.fitting(64, (64, 64), &targets, Beside::default()).unwrap().unwrap();
    assert!(hint.contains(&format!("micro_batch: {fits} fits")) && hint.contains("checkpoint: blocks"), "{hint}");
    // The optimiser's state and rendering take their part.
    let beside = Beside::training(&SgdAgc::new(SgdAgcOptions::default()).rule(), true, true);
    assert_eq!((beside.copies, beside.images), (2, 2));
    let fewer = bit.fitting(64, (64, 64), &targets, beside).unwrap().unwrap();
    assert!(0 < fewer && fewer < fits, "{fewer} of {fits}");
    let part = Images { data: &data[..fits * 64 * 64 * 3], n: fits, ..x };
    bit.accumulate(&part, &Targets::Class(&vec![0; fits]), 1.0).unwrap();
}
