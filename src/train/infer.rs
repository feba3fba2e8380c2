//! Logits and features of a dataset by batches; the result does not depend on the batch size.
//!
//! The next batch is filled while the model computes the last. A device gets images as they are stored, renders them
//! itself as in training, and is waited for once at the end. Writing results is the caller's business.

use super::{
    Session,
    collective::{Collective, share},
};
use crate::{
    data::{
        augment::{Augment, View},
        loader::{Draw, Examples, TrainView},
    },
    error::{Error, Result},
    model::bit::{Bit, Images},
    progress::Cancel,
};

/// Logits of every example in order, `outputs` an example.
pub fn predict(model: &Bit, data: &Examples, view: &View, batch: usize, session: &Session) -> Result<Vec<f32>> {
    let cancel = session.agreed_cancel();
    let of = |data: &Examples| {
        session.progress.begin(data.len() as u64, "images");
        each_batch(model, Wanted::Logits, data, view, batch, &cancel, |n| session.progress.advance(n))
    };
    by_shares(data, session.collective, of)
}

/// Features of every example in order (pooled, before the head), `model.feature_dim()` an example.
pub fn embed(model: &Bit, data: &Examples, view: &View, batch: usize, session: &Session) -> Result<Vec<f32>> {
    session.progress.begin(data.len() as u64, "images");
    each_batch(model, Wanted::Features, data, view, batch, session.cancel, |n| session.progress.advance(n))
}

/// Values of every example in order, of which each rank computes its share; the same on all ranks, to the bit.
pub(super) fn by_shares(
    data: &Examples,
    collective: &dyn Collective,
    compute: impl Fn(&Examples) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    if collective.ranks() == 1 || data.is_empty() {
        return compute(data);
    }
    let rows = share(data.len(), collective.rank(), collective.ranks());
    let own = compute(&data.take(&rows.clone().map(|row| row as u32).collect::<Vec<_>>())?)?;
    // Ranks without rows have to know how wide a row is.
    let mut width = [if rows.is_empty() { 0.0 } else { (own.len() / rows.len()) as f64 }, f64::from(!rows.is_empty())];
    collective.all_reduce_f64(&mut width)?;
    let width = (width[0] / width[1].max(1.0)) as usize;
    // Sums with nothing but zeros are what they were.
    let mut all = vec![0.0; data.len() * width];
    all[rows.start * width..rows.end * width].copy_from_slice(&own);
    collective.all_reduce(&mut all)?;
    Ok(all)
}

/// What a network is asked for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wanted {
    Logits,
    Features,
}

/// Values of every example in order, by batches.
pub(super) fn each_batch(
    model: &Bit,
    wanted: Wanted,
    data: &Examples,
    view: &View,
    batch: usize,
    cancel: &Cancel,
    done: impl Fn(u64),
) -> Result<Vec<f32>> {
    if let Some((field, message)) = view.check().into_iter().next() {
        return Err(Error::invalid(format!("{field} {message}")));
    }
    if model.machine().is_some() {
        return each_placed(model, wanted, data, view, batch, cancel, done);
    }
    let all: Vec<u32> = (0..data.len() as u32).collect();
    let (height, width) = view.size(data.dims());
    let batches: Vec<&[u32]> = all.chunks(batch.max(1)).collect();
    let (mut front, mut back, mut out) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(first) = batches.first() {
        data.fill(first, view, &mut front)?;
    }
    for (k, rows) in batches.iter().enumerate() {
        cancel.check()?;
        let images = Images { data: &front, n: rows.len(), height, width };
        let compute = || match wanted {
            Wanted::Logits => model.logits(&images),
            Wanted::Features => model.features(&images),
        };
        let (computed, filled) =
            rayon::join(compute, || batches.get(k + 1).map_or(Ok(()), |next| data.fill(next, view, &mut back)));
        out.extend(computed?);
        filled?;
        std::mem::swap(&mut front, &mut back);
        done(rows.len() as u64);
    }
    Ok(out)
}

/// The same on a device, which computes one batch while the next is looked up and sent.
fn each_placed(
    model: &Bit,
    wanted: Wanted,
    data: &Examples,
    view: &View,
    batch: usize,
    cancel: &Cancel,
    done: impl Fn(u64),
) -> Result<Vec<f32>> {
    // What an earlier call has left that ended early.
    model.take_results()?;
    let how = TrainView { view, augment: &Augment::None, rand_augment: None, seed: 0 };
    let draws: Vec<Draw> = (0..data.len() as u32).map(|example| Draw { example, epoch: 0, number: 0 }).collect();
    for draws in draws.chunks(batch.clamp(1, Bit::inference_batch(view.size(data.dims())))) {
        cancel.check()?;
        model.submit(&data.looks(draws, &[], &how)?, wanted == Wanted::Logits)?;
        done(draws.len() as u64);
    }
    model.take_results()
}
