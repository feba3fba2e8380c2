//! A run on disk: one safetensors file with the weights, the optimiser, the best weights so far and, as
//! JSON in its header, the counters.
//!
//! | name | what |
//! |---|---|
//! | `model.NAME` | the weights after the last finished step |
//! | `optimizer.NAME` | the optimiser's state |
//! | `best.NAME` | the weights of the lowest validation loss, where they are kept |
//!
//! One file, written aside, flushed and renamed, so that there is always a whole one or none. Numbers are
//! kept as their bits: a continued run must not differ in the last digit. It does not hold sampling orders
//! or random states; those are functions of the step.

use std::{collections::HashMap, path::Path};

use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::curve::{Best, CurvePoint, bits};
use crate::error::{Error, Result};

const FILE: &str = "checkpoint.safetensors";
const STATE: &str = "scaleshot.state";

/// Tensors by name.
pub type Named = Vec<(String, Tensor)>;

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
    pub state: State,
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn floats(view: &TensorView) -> Vec<f32> {
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

impl Checkpoint {
    /// Writes it into `folder` in place of an older one.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut parts: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (prefix, tensors) in [("model", &self.model), ("best", &self.best)] {
            for (name, tensor) in tensors {
                let values = tensor.flatten_all()?.to_vec1::<f32>()?;
                parts.push((format!("{prefix}.{name}"), tensor.dims().to_vec(), bytes(&values)));
            }
        }
        for (name, values) in &self.optimizer {
            parts.push((format!("optimizer.{name}"), vec![values.len()], bytes(values)));
        }
        let views = parts
            .iter()
            .map(|(name, shape, data)| {
                let view = TensorView::new(Dtype::F32, shape.clone(), data)
                    .map_err(|e| Error::invalid(format!("bug: tensor {name} of a checkpoint: {e}")))?;
                Ok((name.as_str(), view))
            })
            .collect::<Result<Vec<_>>>()?;
        let header = HashMap::from([(STATE.to_string(), serde_json::to_string(&self.state)?)]);
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let (aside, path) = (folder.join(format!("{FILE}.part")), folder.join(FILE));
        safetensors::serialize_to_file(views, Some(header), &aside)
            .map_err(|e| Error::Io { path: aside.clone(), source: std::io::Error::other(e) })?;
        std::fs::File::open(&aside).and_then(|f| f.sync_all()).map_err(Error::io(&aside))?;
        std::fs::rename(&aside, &path).map_err(Error::io(&path))
    }

    /// The checkpoint in `folder`; none where there is no file.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let data = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io(&path))?,
        };
        let wrong = |e: safetensors::SafeTensorError| Error::data(&path, None, format!("not a checkpoint: {e}"));
        let (_, metadata) = SafeTensors::read_metadata(&data).map_err(wrong)?;
        let header = metadata.metadata().as_ref().and_then(|m| m.get(STATE));
        let state = header.ok_or_else(|| Error::data(&path, None, "not a checkpoint: it has no state"))?;
        let mut out = Checkpoint {
            model: Vec::new(),
            optimizer: Vec::new(),
            best: Vec::new(),
            state: serde_json::from_str(state)?,
        };
        for (name, view) in SafeTensors::deserialize(&data).map_err(wrong)?.iter() {
            let tensor = || Tensor::from_vec(floats(&view), view.shape(), &Device::Cpu);
            match name.split_once('.') {
                Some(("model", rest)) => out.model.push((rest.to_string(), tensor()?)),
                Some(("best", rest)) => out.best.push((rest.to_string(), tensor()?)),
                Some(("optimizer", rest)) => out.optimizer.push((rest.to_string(), floats(&view))),
                _ => return Err(Error::data(&path, None, format!("not a checkpoint: unknown tensor {name}"))),
            }
        }
        Ok(Some(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(step: u64) -> Checkpoint {
        let tensor = Tensor::from_vec(vec![1.0f32, -0.0, f32::MIN_POSITIVE, 0.1, 2.5, -3.0], (2, 3), &Device::Cpu);
        Checkpoint {
            model: vec![("a.weight".into(), tensor.unwrap())],
            optimizer: vec![("a.weight".into(), vec![0.25, 1e-30])],
            best: Vec::new(),
            state: State { step, loss_sum: 0.1 + 0.2, ..Default::default() },
        }
    }

    #[test]
    fn a_checkpoint_survives_the_disk_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Checkpoint::load(dir.path()).unwrap().is_none());
        some(1).save(dir.path()).unwrap();
        some(2).save(dir.path()).unwrap();
        let back = Checkpoint::load(dir.path()).unwrap().unwrap();
        assert_eq!((back.state.step, back.state.loss_sum.to_bits()), (2, (0.1f64 + 0.2).to_bits()));
        let bits = |t: &Tensor| -> Vec<u32> {
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
        };
        assert_eq!(bits(&back.model[0].1), bits(&some(2).model[0].1));
        assert_eq!((back.model[0].1.dims(), &back.optimizer), (&[2usize, 3][..], &some(2).optimizer));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_foreign_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"nothing").unwrap();
        let e = Checkpoint::load(dir.path()).err().unwrap();
        assert!(e.to_string().contains("checkpoint.safetensors: not a checkpoint"), "{e}");
    }
}
