//! The training loop.
//!
//! ```text
//! for each step:   draws of the batch           sampler(seed, step)
//!                  for each micro-batch:        loss and gradients added, while the next one is filled
//!                  update                       rate(step)
//! every so often:  validation, curve, checkpoint
//! ```
//!
//! On several ranks each fills and computes its share of the batch; gradients are summed on the way back, losses and
//! requests to stop at the end of the step, so that all ranks stop after the same one. Rank 0 writes.
//!
//! Filling runs on the same rayon pool as the step, so that neither waits for the other and no thread is
//! added. A cancelled run drops the unfinished step and writes the state after the last finished one.
//!
//! On a device nothing waits for a step: losses are read when the curve or a checkpoint asks for them, and weights
//! and the optimiser's state come back then (see `settle`).

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    Session,
    checkpoint::State,
    collective::share,
    course::{Batch, Course, Feed},
    curve::{Best, CurvePoint},
    memory::{self, MicroBatch},
    ranks,
    reduce::Reducer,
    run::Run,
    spec::{ClassWeights, FitSpec, Keep},
};
use crate::{
    data::loader::{Examples, Labels},
    digest::Digest,
    error::{Error, Result},
    model::{
        Beside,
        bit::{Bit, Images},
    },
    nn::{
        Targets,
        looks::Looks,
        optimizer::{Optimizer, Parts},
    },
};

/// What a training came to; the weights are in the model.
#[derive(Clone, Debug)]
pub struct Fit {
    pub curve: Vec<CurvePoint>,
    pub steps: u64,
    /// Lowest validation loss, where there was validation data.
    pub best: Option<Best>,
    /// The step of the checkpoint that the run continued from. It says nothing about the result.
    pub resumed_from: Option<u64>,
    /// Where the time of this process's steps went. It says nothing about the result.
    pub pace: Pace,
}

/// Where the time of a training's steps went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    pub steps: u64,
    /// Of all steps, validation and checkpoints apart.
    pub whole: Duration,
    /// Of that, what steps waited for their images; not known of a device, which works on its own.
    pub waited: Option<Duration>,
}

impl Pace {
    /// Seconds of a step; none before the first one.
    pub fn step_s(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.whole.as_secs_f64() / self.steps as f64)
    }

    /// Share of the steps' time that they waited for their images; none before the first step and on a device.
    pub fn wait_share(&self) -> Option<f64> {
        let share = |waited: Duration| waited.as_secs_f64() / self.whole.as_secs_f64().max(1e-9);
        self.waited.filter(|_| self.steps > 0).map(share)
    }
}

/// Trains `model` on `train`. Scores `valid`, where given, at the spec's distances and at the end.
///
/// With [`Session::checkpoint`] an interrupted run continues to the bit-identical result.
/// Errors: a spec that cannot work ([`FitSpec::check`]), data that does not fit the model, unknown classes,
/// [`Error::NotFinite`] (the last checkpoint is kept), [`Error::Interrupted`], a rank that ended.
pub fn fit(
    model: &mut Bit,
    train: &Examples,
    valid: Option<&Examples>,
    spec: &FitSpec,
    session: &Session,
) -> Result<Fit> {
    check(model, train, valid, spec)?;
    let (asked, there) = (spec.ranks.unwrap_or(1) as usize, session.collective.ranks());
    match (asked, there) {
        (asked, there) if asked == there => fit_rank(model, train, valid, spec, session),
        (asked, 1) => ranks::in_threads(asked, model, train, valid, spec, session),
        _ => Err(Error::invalid(format!("the training asks for {asked} ranks and was started on {there}"))),
    }
}

/// The part of one rank in a training that is checked.
pub(super) fn fit_rank(
    model: &mut Bit,
    train: &Examples,
    valid: Option<&Examples>,
    spec: &FitSpec,
    session: &Session,
) -> Result<Fit> {
    let collective = session.collective;
    let alone = collective.ranks() == 1;
    let share = share(spec.batch, collective.rank(), collective.ranks());
    model.set_precision(spec.precision);
    model.set_keep(spec.checkpoint.keep());
    let (height, width) = spec.view.size(train.dims());
    let image_bytes = memory::activation_bytes(model.config(), (height, width), spec.precision, spec.checkpoint);
    let mut optimizer = optimizer(model, spec);
    let course = Course::new(spec, train.len());
    let beside = Beside::training(&optimizer.rule(), spec.ema.is_some(), course.mixup > 0.0);
    let micro = match (spec.micro_batch, fitting(model, train, spec, share.len(), (height, width), beside)?) {
        (Some(MicroBatch::Auto(_)), Some(most)) => most.max(1),
        (asked, _) => memory::micro_batch(asked, share.len(), image_bytes),
    };
    let mut feed = Feed::new(train, spec, course.mixup, micro, share);
    let fingerprint = if session.checkpoint.is_some() { fingerprint(model, train, spec)? } else { String::new() };
    let mut run = Run::resume(model, &mut *optimizer, spec, fingerprint, session)?;
    let mut reducer = Reducer::new(model, collective);
    run.place_means(model)?;
    let here = model.machine().is_none();
    // A device alone tells its losses when they are asked for; ranks agree on theirs in every step.
    let lazy = !here && alone;
    session.progress.begin(course.steps, "steps");
    session.progress.advance(run.state.step);

    let parts = feed.parts();
    let none = Pace { waited: here.then_some(Duration::ZERO), ..Pace::default() };
    let (mut pace, mut first) = (none, !here);
    let (mut front, mut back) = (Filled::default(), Filled::default());
    let mut batch = feed.batch(run.state.step);
    if run.state.step < course.steps {
        front.fill(&feed, &batch, parts[0].clone(), here)?;
    }
    let mut saved = Instant::now();
    loop {
        if run.state.followed < run.state.step {
            if course.due(run.state.step) || model.unread_losses() >= UNREAD {
                // Where a device's steps are waited for, and so part of their time.
                let waits = Instant::now();
                settle(&mut run, model, &mut *optimizer, &course, session)?;
                pace.whole += if here { Duration::ZERO } else { waits.elapsed() };
            }
            let followed = run.follow(model, valid, spec, micro, &course, session);
            if matches!(followed, Err(Error::Interrupted)) {
                save(&mut run, model, &mut *optimizer, &course, session)?;
            }
            followed?;
        }
        if run.state.step >= course.steps {
            break;
        }
        if saved.elapsed().as_secs() >= session.checkpoint_every_s && run.state.step > 0 {
            save(&mut run, model, &mut *optimizer, &course, session)?;
            saved = Instant::now();
        }
        let step = run.state.step;
        let begun = Instant::now();
        let upcoming = (step + 1 < course.steps).then(|| feed.batch(step + 1));
        let mut loss = 0.0;
        model.zero_gradients();
        for (k, part) in parts.iter().enumerate() {
            if alone && session.cancel.requested() {
                save(&mut run, model, &mut *optimizer, &course, session)?;
                return Err(Error::Interrupted);
            }
            let next = match parts.get(k + 1) {
                Some(part) => Some((&batch, part)),
                None => upcoming.as_ref().map(|b| (b, &parts[0])),
            };
            let targets = feed.targets(&batch, part.clone());
            let images = Images { data: &front.rendered, n: part.len(), height, width };
            let (last, scale) = (k + 1 == parts.len(), batch.scale());
            let mut backward = || match (&front.looks, last) {
                (Some(looks), _) => model.accumulate_looks(looks, &targets.borrow(), scale).map(|()| None),
                (None, true) => reducer.backward(model, &images, &targets.borrow(), scale).map(Some),
                (None, false) => model.loss_backward(&images, &targets.borrow(), scale).map(Some),
            };
            let (computed, filled) = rayon::join(
                || (backward(), Instant::now()),
                || next.map_or(Ok(()), |(b, part)| back.fill(&feed, b, part.clone(), here)),
            );
            if let Some(waited) = &mut pace.waited {
                *waited += computed.1.elapsed();
            }
            loss += computed.0?.unwrap_or(0.0);
            filled?;
            std::mem::swap(&mut front, &mut back);
        }
        if !here && !alone {
            let there = |at, count| collective.all_reduce_there(at, count);
            model.sum_gradients(&there, &|values| collective.all_reduce(values))?;
            loss = model.pending_loss()?;
        }
        // Of all ranks; a sum above 0 is a request to stop at one of them.
        let mut told = [loss, f64::from(u8::from(!alone && session.cancel.requested()))];
        collective.all_reduce_f64(&mut told)?;
        let [loss, stop] = told;
        let lr = course.rates.at(step);
        if !loss.is_finite() {
            // Weights and state are those of the step before: on a device as well, where this one was not made.
            if !here {
                model.gather_gradients()?;
                bring_back(model, &mut *optimizer)?;
            }
            return Err(not_finite(&mut run, model, &*optimizer, &course, loss, session)?);
        }
        model.step(&mut *optimizer, lr);
        run.average(model);
        run.state.step += 1;
        pace.steps += 1;
        pace.whole += begun.elapsed();
        if !lazy {
            model.take_losses()?;
            run.state.loss_sum += loss;
            run.state.loss_count += 1;
        }
        session.progress.advance(1);
        if std::mem::take(&mut first) {
            // A device's first step loads libraries, uploads weights and makes memory: that is not its pace.
            settle(&mut run, model, &mut *optimizer, &course, session)?;
            pace = none;
        }
        if let Some(next) = upcoming {
            batch = next;
        }
        if stop > 0.0 {
            save(&mut run, model, &mut *optimizer, &course, session)?;
            return Err(Error::Interrupted);
        }
    }
    run.settle(model, spec)?;
    let State { curve, step, best, .. } = run.state;
    Ok(Fit { curve, steps: step, best, resumed_from: run.resumed_from, pace })
}

/// The images of a micro-batch, rendered here or to be rendered by a device.
#[derive(Default)]
struct Filled {
    rendered: Vec<f32>,
    looks: Option<Looks>,
}

impl Filled {
    fn fill(&mut self, feed: &Feed<'_>, batch: &Batch, part: Range<usize>, here: bool) -> Result<()> {
        if here {
            return feed.fill(batch, part, &mut self.rendered);
        }
        self.looks = Some(feed.looks(batch, part)?);
        Ok(())
    }
}

/// Losses that a device may keep to itself.
const UNREAD: u64 = 64;

/// Takes in the losses of the steps that a device has made since the last time. Nothing on the CPU.
fn settle(
    run: &mut Run,
    model: &mut Bit,
    optimizer: &mut dyn Optimizer,
    course: &Course,
    session: &Session,
) -> Result<()> {
    let first = run.state.step - model.unread_losses();
    for (step, loss) in (first..).zip(model.take_losses()?) {
        if !loss.is_finite() {
            // The device made no step after it.
            run.state.step = step;
            model.gather_gradients()?;
            bring_back(model, optimizer)?;
            return Err(not_finite(run, model, optimizer, course, loss, session)?);
        }
        run.state.loss_sum += loss;
        run.state.loss_count += 1;
    }
    Ok(())
}

/// Brings weights and the optimiser's state back from a device.
fn bring_back(model: &mut Bit, optimizer: &mut dyn Optimizer) -> Result<()> {
    model.gather()?;
    model.gather_state(optimizer)
}

fn save(
    run: &mut Run,
    model: &mut Bit,
    optimizer: &mut dyn Optimizer,
    course: &Course,
    session: &Session,
) -> Result<()> {
    settle(run, model, optimizer, course, session)?;
    bring_back(model, optimizer)?;
    run.save(model, optimizer, session)
}

/// The error of a loss that is no number in the step after the finished ones.
fn not_finite(
    run: &mut Run,
    model: &Bit,
    optimizer: &dyn Optimizer,
    course: &Course,
    loss: f64,
    session: &Session,
) -> Result<Error> {
    let step = run.state.step;
    let norms = largest_norms(model);
    let checkpoint = run.keep_any(model, optimizer, session)?;
    Ok(Error::NotFinite { loss, step, lr: course.rates.at(step), norms, checkpoint })
}

/// The images of a step that a device has room for; none on the CPU, or where it was not asked.
fn fitting(
    model: &Bit,
    train: &Examples,
    spec: &FitSpec,
    batch: usize,
    size: (usize, usize),
    beside: Beside,
) -> Result<Option<usize>> {
    if !matches!(spec.micro_batch, Some(MicroBatch::Auto(_))) {
        return Ok(None);
    }
    // Only their kind matters: it decides what is kept beside the logits.
    let targets = match train.labels() {
        Labels::Class { .. } => Targets::Soft(&[]),
        Labels::Multi { .. } => Targets::Multi(&[]),
    };
    model.fitting(batch, size, &targets, beside)
}

fn check(model: &Bit, train: &Examples, valid: Option<&Examples>, spec: &FitSpec) -> Result<()> {
    let problems: Vec<String> = spec.check().into_iter().map(|(field, text)| format!("{field} {text}")).collect();
    if !problems.is_empty() {
        return Err(Error::invalid(problems.join("; ")));
    }
    if train.is_empty() {
        return Err(Error::invalid("there are no training examples"));
    }
    spec.augment.fits(&spec.view, train.dims()).map_err(|e| Error::invalid(format!("augment: {e}")))?;
    if let Some(valid) = valid
        && spec.view.size(valid.dims()) != spec.view.size(train.dims())
    {
        return Err(Error::invalid(format!(
            "training images are {:?}, validation images {:?}",
            train.dims(),
            valid.dims()
        ))
        .with_hint("give a view with a size"));
    }
    for (name, data) in [("training", Some(train)), ("validation", valid)] {
        let Some(data) = data else { continue };
        let (labels, outputs) = (data.labels(), model.config().classes);
        if labels.outputs() != outputs {
            return Err(Error::invalid(format!(
                "{name} data has {} labels, the model {outputs} outputs",
                labels.outputs()
            ))
            .with_hint("replace the model's head"));
        }
    }
    match train.labels() {
        Labels::Class { y, .. } => {
            let unknown = y.iter().filter(|&&c| c < 0).count();
            if unknown > 0 {
                return Err(Error::invalid(format!("{unknown} of {} training examples have no class", y.len()))
                    .with_hint("leave them out with subset"));
            }
        }
        Labels::Multi { y, .. } => {
            if y.iter().all(|&l| l < 0) {
                return Err(Error::invalid("no training example has a known label"));
            }
            if spec.class_weights != ClassWeights::None || spec.oversample {
                return Err(Error::invalid("class_weights and oversample need data with one class an image"));
            }
        }
    }
    if spec.keep == Keep::Best && valid.is_none_or(|v| v.is_empty()) {
        return Err(Error::invalid("keep: best needs validation data"));
    }
    let unknown = spec
        .freeze
        .iter()
        .chain(spec.lr_factors.keys())
        .find(|prefix| model.names().iter().all(|(name, _)| !name.starts_with(prefix.as_str())));
    match unknown {
        Some(prefix) => Err(Error::invalid(format!("no parameter name begins with {prefix}"))
            .with_hint("names begin with root, body.block1 to body.block4, or head")),
        None => Ok(()),
    }
}

fn optimizer(model: &Bit, spec: &FitSpec) -> Box<dyn Optimizer> {
    let lr_factors = spec.factors(model.parameters().iter().map(|p| p.name.as_str()));
    spec.optimizer.build(Parts { frozen: spec.freeze.clone(), lr_factors })
}

/// Names what is trained on what, so that a checkpoint of something else is not continued. Another family of
/// kernels would continue to other last digits, so it is something else too.
fn fingerprint(model: &Bit, train: &Examples, spec: &FitSpec) -> Result<String> {
    let labels = match train.labels() {
        Labels::Class { y, .. } => Digest::of(&y.iter().flat_map(|c| c.to_le_bytes()).collect::<Vec<_>>()),
        Labels::Multi { y, .. } => Digest::of(&y.iter().map(|l| l.to_le_bytes()[0]).collect::<Vec<_>>()),
    };
    let dims = train.dims();
    let mut weights = blake3::Hasher::new();
    let mut bytes = Vec::new();
    for piece in model.parameters().iter().flat_map(|p| p.data.chunks(1 << 14)) {
        bytes.clear();
        bytes.extend(piece.iter().flat_map(|v| v.to_le_bytes()));
        weights.update(&bytes);
    }
    let parts = json!({
        "model": serde_json::to_value(model.config())?,
        "weights": Digest(*weights.finalize().as_bytes()),
        "spec": serde_json::to_value(spec)?,
        "labels": labels,
        "kernel": model.family(),
        "pixels": [dims.height, dims.width, dims.channels],
    });
    Ok(Digest::of_json(&parts).hex())
}

/// The three largest gradient norms by name, for the message of a loss that is no number.
fn largest_norms(model: &Bit) -> String {
    let mut norms: Vec<(f64, String)> = model.gradient_norms().into_iter().map(|(name, norm)| (norm, name)).collect();
    let rank = |n: f64| if n.is_nan() { f64::INFINITY } else { n };
    norms.sort_by(|a, b| rank(b.0).total_cmp(&rank(a.0)));
    norms.iter().take(3).map(|(norm, name)| format!("{name} {norm:.3e}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
