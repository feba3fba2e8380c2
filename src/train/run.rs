//! The moving part of a training, beside the weights and the optimiser: counters, best weights, means, checkpoints.

use super::{
    Session,
    checkpoint::{self, Checkpoint, State},
    course::Course,
    curve::{Best, CurvePoint},
    ema::Ema,
    infer::{Wanted, by_shares, each_batch},
    score::{Score, score},
    spec::{FitSpec, Keep},
};
use crate::{
    data::loader::Examples,
    error::{Error, Result},
    model::{bit::Bit, weights::Named},
    nn::optimizer::Optimizer,
};

pub(super) struct Run {
    pub state: State,
    pub resumed_from: Option<u64>,
    /// Weights of the lowest validation loss, where they are to be kept.
    best: Named,
    ema: Option<Ema>,
    /// The step of the checkpoint on disk.
    saved: Option<u64>,
}

impl Run {
    /// Takes up the checkpoint of this very run into the model and the optimiser, or begins at step 0.
    pub fn resume(
        model: &mut Bit,
        optimizer: &mut dyn Optimizer,
        spec: &FitSpec,
        fingerprint: String,
        session: &Session,
    ) -> Result<Self> {
        let mut ema = spec.ema.map(|decay| Ema::new(decay, model));
        let found = found(&fingerprint, spec, session)?;
        let refused = match found {
            Ok(Some(found)) if session.collective.rank() > 0 || found.state.fingerprint == fingerprint => {
                for (name, tensor) in &found.model {
                    model.load(name, tensor)?;
                }
                optimizer.restore(model.parameters(), &found.optimizer)?;
                if let Some(ema) = &mut ema {
                    ema.restore(model, &found.mean)?;
                }
                let step = Some(found.state.step);
                session.progress.log(&format!("continuing after step {}", found.state.step));
                return Ok(Run { state: found.state, resumed_from: step, best: found.best, ema, saved: step });
            }
            Ok(Some(_)) => Some("the checkpoint is of other parameters, data or kernels".to_string()),
            Ok(None) => None,
            Err(e) => Some(e.to_string()),
        };
        if let Some(reason) = refused {
            session.progress.log(&format!("starting over: {reason}"));
        }
        let state = State { fingerprint, ..State::default() };
        Ok(Run { state, resumed_from: None, best: Vec::new(), ema, saved: None })
    }

    /// Writes a checkpoint of the last finished step.
    pub fn save(&mut self, model: &Bit, optimizer: &dyn Optimizer, session: &Session) -> Result<()> {
        let Some(folder) = session.checkpoint else { return Ok(()) };
        let mean = self.ema.as_ref().map_or(Ok(Vec::new()), |ema| ema.state(model))?;
        checkpoint::save(folder, model, &optimizer.state(model.parameters()), &self.best, &mean, &self.state)?;
        self.saved = Some(self.state.step);
        Ok(())
    }

    /// The step of the checkpoint on disk. Where there is none, the last finished step becomes it; an older one
    /// stays, since it is further from whatever went wrong.
    pub fn keep_any(&mut self, model: &Bit, optimizer: &dyn Optimizer, session: &Session) -> Result<Option<u64>> {
        if self.saved.is_none() {
            self.save(model, optimizer, session)?;
        }
        Ok(self.saved)
    }

    /// Has a device keep the means of the weights, where there are any.
    pub fn place_means(&mut self, model: &mut Bit) -> Result<()> {
        self.ema.as_mut().map_or(Ok(()), |ema| ema.place(model))
    }

    /// Takes the weights of a finished step into their mean.
    pub fn average(&mut self, model: &Bit) {
        if let Some(ema) = &mut self.ema {
            ema.update(model);
        }
    }

    /// What is due after a step: validation, the best weights, a point of the curve.
    pub fn follow(
        &mut self,
        model: &mut Bit,
        valid: Option<&Examples>,
        spec: &FitSpec,
        micro: usize,
        course: &Course,
        session: &Session,
    ) -> Result<()> {
        let done = self.state.step;
        let last = done == course.steps;
        let due = valid.filter(|_| last || done.is_multiple_of(course.evaluate_every));
        let scored = match due {
            Some(valid) => {
                self.exchange(model)?;
                if spec.keep == Keep::Best {
                    model.gather()?;
                }
                let scored = self.validate(model, valid, spec, micro, session);
                self.exchange(model)?;
                Some(scored?)
            }
            None => None,
        };
        if last || scored.is_some() || done.is_multiple_of(course.curve_every) {
            self.state.curve.push(CurvePoint {
                step: done,
                epoch: done as f64 / course.iterations_per_epoch as f64,
                lr: course.rates.at(done - 1),
                loss: self.state.loss_sum / self.state.loss_count.max(1) as f64,
                valid_loss: scored.and_then(|s| s.loss),
                valid_accuracy: scored.and_then(|s| s.accuracy),
            });
            (self.state.loss_sum, self.state.loss_count) = (0.0, 0);
        }
        self.state.followed = done;
        Ok(())
    }

    /// Puts the means of the weights into the model, or takes them out again; nothing without means.
    fn exchange(&mut self, model: &mut Bit) -> Result<()> {
        self.ema.as_mut().map_or(Ok(()), |ema| ema.swap(model))
    }

    fn validate(
        &mut self,
        model: &Bit,
        valid: &Examples,
        spec: &FitSpec,
        micro: usize,
        session: &Session,
    ) -> Result<Score> {
        let cancel = session.agreed_cancel();
        let compute = |data: &Examples| each_batch(model, Wanted::Logits, data, &spec.view, micro, &cancel, |_| ());
        let logits = by_shares(valid, session.collective, compute)?;
        let score = score(valid.labels(), &logits);
        // A loss that is no number is no score.
        let loss = score.loss.filter(|l| l.is_finite());
        let lowest = self.state.best.map_or(f64::INFINITY, |b| b.valid_loss);
        if let Some(valid_loss) = loss.filter(|&l| l < lowest) {
            self.state.best = Some(Best { step: self.state.step, valid_loss });
            if spec.keep == Keep::Best {
                self.best = model.tensors()?;
            }
        }
        Ok(Score { loss, ..score })
    }

    /// Leaves in the model what the training ends with: the best weights, the means, or those of the last step.
    pub fn settle(&mut self, model: &mut Bit, spec: &FitSpec) -> Result<()> {
        self.exchange(model)?;
        model.gather()?;
        if spec.keep == Keep::Best {
            for (name, tensor) in &self.best {
                model.load(name, tensor)?;
            }
        }
        Ok(())
    }
}

/// What rank 0 found in its folder, on every rank: the others' folders may be on other nodes.
///
/// # Errors
/// The ranks were started with different programs or for different trainings, or one of them has ended.
fn found(fingerprint: &str, spec: &FitSpec, session: &Session) -> Result<Result<Option<Checkpoint>>> {
    let collective = session.collective;
    let first = collective.rank() == 0;
    let mut found = match session.checkpoint.filter(|_| first) {
        Some(folder) => Checkpoint::load(folder),
        None => Ok(None),
    };
    if collective.ranks() == 1 {
        return Ok(found);
    }
    let own = serde_json::to_vec(&(spec, spec.precision.kernel_name()))?;
    let mut told = own.clone();
    collective.broadcast(&mut told)?;
    let mut others = [f64::from(u8::from(own != told))];
    collective.all_reduce_f64(&mut others)?;
    if others[0] > 0.0 {
        return Err(Error::invalid(format!("{} of the ranks compute otherwise than rank 0", others[0]))
            .with_hint("ranks need the same program, and nodes whose processors have the same kernels"));
    }
    let usable = matches!(&found, Ok(Some(checkpoint)) if checkpoint.state.fingerprint == fingerprint);
    let mut bytes = match session.checkpoint.filter(|_| usable) {
        Some(folder) => checkpoint::bytes(folder)?,
        None => Vec::new(),
    };
    collective.broadcast(&mut bytes)?;
    if !first && !bytes.is_empty() {
        found = Checkpoint::of_bytes(&bytes).map(Some);
    }
    Ok(found)
}
