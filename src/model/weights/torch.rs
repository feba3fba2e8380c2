//! PyTorch checkpoints (`.pth`, `.pth.tar`, `.pt`): the zip form that PyTorch writes since 1.6.
//!
//! The pickle inside is read as data and never executed: only dictionaries and tensors come out of it.
//! Optimiser states and other entries of a checkpoint are passed over.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use candle_core::{DType, pickle::PthTensors};

use super::Named;
use crate::error::{Error, Result};

/// Entries under which checkpoints keep the weights; without any, the file is the weights.
const KEYS: [&str; 3] = ["model", "state_dict", "model_state_dict"];

/// True for the first bytes of the older forms, which are a bare pickle or a tar.
pub fn is_legacy(head: &[u8]) -> bool {
    head.starts_with(&[0x80, 0x02]) || head.starts_with(b"sys_info") || head.starts_with(b"pickle")
}

/// What to do about a file of the older form.
pub fn legacy(path: &Path) -> Error {
    Error::data(path, None, "a PyTorch file of the form before 1.6")
        .with_hint("write it anew in PyTorch: torch.save(torch.load(old), new)")
}

/// All float tensors of the weights as f32, with the names they have there.
pub fn read(path: &Path) -> Result<Named> {
    // The parser trusts the shape of what it finds; a malformed file must not end the program.
    catch_unwind(AssertUnwindSafe(|| read_trusting(path)))
        .unwrap_or_else(|_| Err(Error::data(path, None, "a malformed PyTorch file")))
}

fn read_trusting(path: &Path) -> Result<Named> {
    let wrong = |e: candle_core::Error| Error::data(path, None, format!("not a PyTorch checkpoint: {e}"));
    for key in KEYS.iter().copied().map(Some).chain([None]) {
        let found = match PthTensors::new(path, key) {
            Err(e) if e.to_string().contains("not found") && key.is_some() => continue,
            other => other.map_err(wrong)?,
        };
        let mut names: Vec<&String> = found.tensor_infos().keys().collect();
        names.sort();
        let mut tensors = Vec::new();
        for name in names {
            if let Some(tensor) = found.get(name).map_err(wrong)?
                && tensor.dtype().is_float()
            {
                tensors.push((name.clone(), tensor.to_dtype(DType::F32)?));
            }
        }
        if !tensors.is_empty() {
            return Ok(tensors);
        }
    }
    Err(Error::data(path, None, "holds no tensors")
        .with_hint(format!("looked under {} and at the top", KEYS.join(", "))))
}
