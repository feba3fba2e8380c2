//! The operators, the network and trainings on a GPU, against the processor. Without a GPU every test says that it
//! was skipped; `SCALESHOT_REQUIRE_GPU` makes that a failure.
//!
//! The bodies are those that unit tests run on the host machine.
#![cfg(feature = "cuda")]

#[path = "cuda/learning.rs"]
mod learning;
#[path = "cuda/network.rs"]
mod network;
#[path = "cuda/operators.rs"]
mod operators;
#[path = "reference/model.rs"]
mod reference;
#[path = "cuda/rendering.rs"]
mod rendering;
#[cfg(feature = "nccl")]
#[path = "cuda/summing.rs"]
mod summing;

use std::sync::Arc;

use scaleshot::nn::cuda::{Machine, open};

fn on_gpu(test: impl FnOnce(&Arc<dyn Machine>)) {
    match open(0) {
        Ok(gpu) => test(&gpu),
        Err(e) => {
            assert!(std::env::var_os("SCALESHOT_REQUIRE_GPU").is_none(), "{e}");
            println!("skipped: {e}");
        }
    }
}

#[test]
fn norms_are_the_processors() {
    on_gpu(|gpu| operators::norms(&**gpu));
}

#[test]
fn standardised_weights_are_the_processors() {
    on_gpu(|gpu| operators::standardised(&**gpu));
}

#[test]
fn pools_are_the_processors() {
    on_gpu(|gpu| operators::pools(&**gpu));
}

#[test]
fn heads_and_losses_are_the_processors() {
    on_gpu(|gpu| operators::heads(&**gpu));
}

#[test]
fn updates_are_the_processors() {
    on_gpu(|gpu| operators::updates(&**gpu));
}

#[test]
fn convolutions_are_the_processors() {
    on_gpu(|gpu| operators::convolutions(&**gpu));
}

#[test]
fn images_are_rendered_to_the_bit() {
    on_gpu(|gpu| {
        rendering::looks(&**gpu);
        rendering::operations(&**gpu);
    });
}

#[test]
fn passes_are_the_processors() {
    on_gpu(network::passes);
}

#[test]
fn steps_are_the_processors_and_repeat_to_the_bit() {
    on_gpu(network::steps);
}

#[test]
fn a_continued_training_is_the_same_to_the_bit() {
    on_gpu(network::resumed);
}

#[test]
fn gradients_match_differences_of_the_loss() {
    on_gpu(network::differences);
}

#[test]
fn the_published_model_is_met() {
    on_gpu(|gpu| network::reference(gpu, reference::check));
}

#[test]
fn bfloat16_learns_as_f32_does() {
    on_gpu(learning::curves);
}

#[test]
fn an_interrupted_run_ends_with_the_same_bits() {
    on_gpu(learning::interrupted);
}

/// One rank on the first GPU alone, then one on each of up to four.
#[cfg(feature = "nccl")]
#[test]
fn nccl_sums_over_one_rank_and_over_all_gpus() {
    on_gpu(|gpu| {
        let all = scaleshot::nn::cuda::inventory().cards.len().min(4) as u32;
        if !summing::ranks(std::slice::from_ref(gpu)) {
            println!("skipped: NCCL is not here");
        } else if all == 1 {
            println!("one GPU: sums over several were left out");
        } else {
            summing::ranks(&(0..all).map(|n| open(n).unwrap()).collect::<Vec<_>>());
        }
    });
}
