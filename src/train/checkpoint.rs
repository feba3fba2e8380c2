//! A run on disk: one safetensors file with the weights, the optimiser, the best weights so far and, as
//! JSON in its header, the counters.
//!
//! | name | what |
//! |---|---|
//! | `model.NAME` | the weights after the last finished step |
//! | `optimizer.NAME` | the optimiser's state |
//! | `best.NAME` | the weights of the lowest validation loss, where they are kept |
//! | `mean.NAME` | the running mean of the weights, where there is one |
//!
//! One file, written aside, flushed and renamed, so that there is always a whole one or none. Numbers are
//! kept as their bits: a continued run must not differ in the last digit. It does not hold sampling orders
//! or random states; those are functions of the step.

use std::{borrow::Cow, path::Path};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::curve::{Best, CurvePoint, bits};
use crate::{
    error::{Error, Result},
    model::{
        Bit,
        weights::{
            Named,
            safetensors::{self, Piece},
        },
    },
    store::fault,
};

const FILE: &str = "checkpoint.safetensors";
const STATE: &str = "scaleshot.state";

/// Counters of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What was being trained on what; a checkpoint of something else is not used.
    pub fingerprint: String,
    /// Finished steps.
    pub step: u64,
    /// The last step after which validation and curve were seen to.
    pub followed: u64,
    /// Sum of the losses of the steps since the last curve point, and their number.
    #[serde(with = "bits")]
    pub loss_sum: f64,
    pub loss_count: u64,
    /// The lowest validation loss so far.
    pub best: Option<Best>,
    /// The learning curve so far.
    pub curve: Vec<CurvePoint>,
}

/// Everything that a run continues from.
pub struct Checkpoint {
    pub model: Named,
    pub optimizer: Vec<(String, Vec<f32>)>,
    pub best: Named,
    pub mean: Vec<(String, Vec<f32>)>,
    pub state: State,
}

/// Writes the state of a run into `folder` in place of an older one.
pub fn save(
    folder: &Path,
    model: &Bit,
    optimizer: &[(String, Vec<f32>)],
    best: &[(String, Tensor)],
    mean: &[(String, Vec<f32>)],
    state: &State,
) -> Result<()> {
    let mut pieces = Piece::of_model(model, |name| format!("model.{name}"));
    for (part, all) in [("optimizer", optimizer), ("mean", mean)] {
        for (name, values) in all {
            pieces.push(Piece::new(format!("{part}.{name}"), vec![values.len()], || Cow::Borrowed(values)));
        }
    }
    for (name, tensor) in best {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        pieces.push(Piece::new(format!("best.{name}"), tensor.dims().to_vec(), move || Cow::Owned(values.clone())));
    }
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    fault::point("checkpoint.before");
    safetensors::write(&folder.join(FILE), &pieces, Some((STATE, serde_json::to_string(state)?)))?;
    fault::point("checkpoint.published");
    Ok(())
}

/// The file in `folder`, for the ranks that do not see it.
pub fn bytes(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(FILE);
    std::fs::read(&path).map_err(Error::io(&path))
}

impl Checkpoint {
    /// A checkpoint that another rank has read with [`bytes()`].
    pub fn of_bytes(bytes: &[u8]) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(Error::io(Path::new("a temporary folder")))?;
        let path = folder.path().join(FILE);
        std::fs::write(&path, bytes).map_err(Error::io(&path))?;
        Self::load(folder.path())?.ok_or_else(|| Error::data(&path, None, "bug: it is not there"))
    }

    /// The checkpoint in `folder`; none where there is no file.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let content = safetensors::read(&path)?;
        let state = content.metadata.get(STATE);
        let state = state.ok_or_else(|| Error::data(&path, None, "not a checkpoint: it has no state"))?;
        let mut out = Checkpoint {
            model: Vec::new(),
            optimizer: Vec::new(),
            best: Vec::new(),
            mean: Vec::new(),
            state: serde_json::from_str(state)?,
        };
        for (name, tensor) in content.tensors {
            match name.split_once('.') {
                Some(("model", rest)) => out.model.push((rest.to_string(), tensor)),
                Some(("best", rest)) => out.best.push((rest.to_string(), tensor)),
                Some(("mean", rest)) => out.mean.push((rest.to_string(), tensor.to_vec1()?)),
                Some(("optimizer", rest)) => out.optimizer.push((rest.to_string(), tensor.to_vec1()?)),
                _ => return Err(Error::data(&path, None, format!("not a checkpoint: unknown tensor {name}"))),
            }
        }
        Ok(Some(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BitConfig;

    #[test]
    fn a_checkpoint_survives_the_disk_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Checkpoint::load(dir.path()).unwrap().is_none());
        let model = Bit::new(BitConfig::parse("bit-r14x0.125", 2).unwrap(), 1);
        let momentum = vec![("head.conv.bias".to_string(), vec![-0.0f32, 1e-40])];
        let best = model.tensors().unwrap();
        for step in [1, 2] {
            let state = State { step, loss_sum: 0.1 + 0.2, ..Default::default() };
            save(dir.path(), &model, &momentum, &best[..1], &momentum, &state).unwrap();
        }
        let back = Checkpoint::load(dir.path()).unwrap().unwrap();
        assert_eq!((back.state.step, back.state.loss_sum.to_bits()), (2, (0.1f64 + 0.2).to_bits()));
        let mut other = Bit::new(model.config().clone(), 2);
        back.model.iter().for_each(|(name, tensor)| other.load(name, tensor).unwrap());
        for (name, _) in model.names() {
            assert_eq!(other.get(&name).unwrap(), model.get(&name).unwrap(), "{name}");
        }
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back.optimizer[0].1), bits(&momentum[0].1));
        assert_eq!(bits(&back.mean[0].1), bits(&momentum[0].1));
        assert_eq!((back.best.len(), back.best[0].1.dims()), (1, best[0].1.dims()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_foreign_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"nothing").unwrap();
        let e = Checkpoint::load(dir.path()).err().unwrap();
        assert!(e.to_string().contains("checkpoint.safetensors: not a safetensors file"), "{e}");
    }
}
