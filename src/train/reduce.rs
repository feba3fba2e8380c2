//! Gradients on their way between ranks, while the backward pass goes on (Li et al. 2020, arXiv 2006.15704).
//!
//! The backward pass finishes gradients from the head to the root. Neighbours among them make a bucket; a full bucket
//! is handed to a thread that sums it over the ranks, while the pass goes on below it. Buckets are cut by the
//! network alone, so every rank sends the same ones in the same order, and a bucket's sum has the order of ranks.

use std::{ops::Range, sync::mpsc};

use super::collective::Collective;
use crate::{
    error::{Error, Result},
    model::bit::{Bit, Images},
    nn::{Targets, parameter::Parameter},
    thread,
};

/// Bytes above which a bucket is sent: as PyTorch's.
const BUCKET_BYTES: usize = 25 << 20;

/// Sums gradients over the ranks of one training.
pub struct Reducer<'c> {
    collective: &'c dyn Collective,
    /// Parameters of each bucket, the head's first.
    buckets: Vec<Range<usize>>,
    /// Memory of the last step's buckets.
    spare: Vec<Vec<f32>>,
}

impl<'c> Reducer<'c> {
    /// For this network. Alone there is nothing to sum and no bucket.
    pub fn new(model: &Bit, collective: &'c dyn Collective) -> Self {
        let buckets = if collective.ranks() > 1 { buckets(model.parameters(), BUCKET_BYTES) } else { Vec::new() };
        Reducer { collective, buckets, spare: Vec::new() }
    }

    /// [`Bit::loss_backward`] of the last micro-batch of a step, after which the model's gradients are the sums of
    /// all ranks'. Returns this rank's own loss.
    ///
    /// # Errors
    /// Those of the backward pass; another rank has ended.
    pub fn backward(&mut self, model: &mut Bit, x: &Images<'_>, targets: &Targets<'_>, scale: f64) -> Result<f64> {
        if self.buckets.is_empty() {
            return model.loss_backward(x, targets, scale);
        }
        let (collective, buckets) = (self.collective, &self.buckets);
        let mut spare = std::mem::take(&mut self.spare);
        let (loss, summed) = std::thread::scope(|scope| {
            let (hand, handed) = mpsc::channel::<Vec<f32>>();
            let travelling = scope.spawn(move || {
                let sum = |mut bucket: Vec<f32>| collective.all_reduce(&mut bucket).map(|()| bucket);
                (handed.into_iter().map(sum).collect::<Result<Vec<_>>>(), thread::cpu())
            });
            let mut open = buckets.iter();
            let mut next = open.next();
            let loss = model.loss_backward_telling(x, targets, scale, &mut |parameters, first| {
                while let Some(range) = next.filter(|range| range.start >= first) {
                    let mut bucket = spare.pop().unwrap_or_default();
                    bucket.clear();
                    parameters[range.clone()].iter().for_each(|p| bucket.extend_from_slice(&p.gradient));
                    // Refused only where the sums have failed, which is told below.
                    let _ = hand.send(bucket);
                    next = open.next();
                }
            });
            drop(hand);
            (loss, travelling.join())
        });
        let loss = loss?;
        let (summed, took) = summed.map_err(|_| Error::invalid("bug: summing gradients panicked"))?;
        thread::count(took.unwrap_or_default());
        let summed = summed?;
        for (range, bucket) in self.buckets.iter().zip(&summed) {
            let mut rest = bucket.as_slice();
            for p in &mut model.parameters_mut()[range.clone()] {
                let (own, after) = rest.split_at(p.gradient.len());
                p.gradient.copy_from_slice(own);
                rest = after;
            }
        }
        self.spare = summed;
        self.spare.reverse();
        Ok(loss)
    }
}

/// Neighbours from the last parameter to the first, in pieces of at least `bytes` but for the last one.
fn buckets(parameters: &[Parameter], bytes: usize) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let (mut end, mut size) = (parameters.len(), 0);
    for (at, p) in parameters.iter().enumerate().rev() {
        size += 4 * p.data.len();
        if size >= bytes || at == 0 {
            out.push(at..end);
            (end, size) = (at, 0);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{model::BitConfig, random::stream::Stream};

    /// Two ranks of which the other one has the same gradients; notes how much was computed when a bucket came.
    #[derive(Default)]
    struct Doubling(Mutex<Vec<usize>>);

    impl Collective for Doubling {
        fn rank(&self) -> usize {
            0
        }
        fn ranks(&self) -> usize {
            2
        }
        fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
            values.iter_mut().for_each(|v| *v *= 2.0);
            self.0.lock().unwrap().push(values.len());
            Ok(())
        }
        fn all_reduce_f64(&self, _: &mut [f64]) -> Result<()> {
            Ok(())
        }
        fn broadcast(&self, _: &mut Vec<u8>) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_gradient_travels_once_in_buckets_from_the_head_down() {
        let model = Bit::new(BitConfig::parse("bit-r14x0.25", 4).unwrap(), 1);
        let all = model.parameters().len();
        for bytes in [1, 10_000, 100_000, usize::MAX] {
            let cut = buckets(model.parameters(), bytes);
            assert_eq!(cut.iter().rev().cloned().flatten().collect::<Vec<_>>(), (0..all).collect::<Vec<_>>());
            assert!(cut.windows(2).all(|w| w[1].end == w[0].start));
        }
        assert_eq!(buckets(model.parameters(), usize::MAX).len(), 1);
    }

    #[test]
    fn summed_gradients_take_the_place_of_the_own_ones() {
        let mut stream = Stream::new(5, "reduce test", 0, 0);
        let data: Vec<f32> = (0..2 * 16 * 12 * 3).map(|_| stream.range(-1.0, 1.0) as f32).collect();
        let images = Images { data: &data, n: 2, height: 16, width: 12 };
        let targets = Targets::Class(&[1, 3]);
        let new = || {
            let mut model = Bit::new(BitConfig::parse("bit-r14x0.25", 4).unwrap(), 1);
            let head: Vec<f32> = (0..4 * model.feature_dim()).map(|i| (i as f32).sin() * 0.1).collect();
            model.set("head.conv.weight", &head).unwrap();
            model.zero_gradients();
            model
        };
        let mut own = new();
        own.loss_backward(&images, &targets, 0.5).unwrap();
        for bytes in [1, 20_000, BUCKET_BYTES] {
            let (mut model, doubling) = (new(), Doubling::default());
            let buckets = buckets(model.parameters(), bytes);
            let mut reducer = Reducer { collective: &doubling, buckets, spare: Vec::new() };
            for _ in 0..2 {
                model.zero_gradients();
                reducer.backward(&mut model, &images, &targets, 0.5).unwrap();
                for (name, _) in own.names() {
                    let twice: Vec<f32> = own.gradient(&name).unwrap().iter().map(|v| 2.0 * v).collect();
                    assert_eq!(model.gradient(&name).unwrap(), twice, "{name}");
                }
            }
            assert_eq!(doubling.0.lock().unwrap().len(), 2 * reducer.buckets.len());
        }
    }

    #[test]
    fn buckets_leave_before_the_pass_has_ended() {
        let data = vec![0.5; 16 * 12 * 3];
        let images = Images { data: &data, n: 1, height: 16, width: 12 };
        let mut model = Bit::new(BitConfig::parse("bit-r14x0.25", 4).unwrap(), 1);
        let mut firsts = Vec::new();
        model.loss_backward_telling(&images, &Targets::Class(&[1]), 1.0, &mut |_, first| firsts.push(first)).unwrap();
        // The head, each of the four units, and the root.
        assert!(firsts.len() == 6 && firsts[5] == 0 && firsts.windows(2).all(|w| w[0] > w[1]), "{firsts:?}");
    }
}
