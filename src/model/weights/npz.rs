//! BiT's own `.npz` files: TensorFlow's names, and convolutions as (height, width, in, out).
//!
//! Names are translated by [`super::names`]; here only layouts change.

use std::path::Path;

use candle_core::{DType, Tensor};

use super::{Named, names};
use crate::error::{Error, Result};

/// All float tensors as f32 under our names and in PyTorch's layout; and the names that are not known.
pub fn read(path: &Path) -> Result<(Named, Vec<String>)> {
    let wrong = |e: candle_core::Error| Error::data(path, None, format!("not a BiT .npz: {e}"));
    let (mut tensors, mut unknown) = (Vec::new(), Vec::new());
    for (name, tensor) in Tensor::read_npz(path).map_err(wrong)? {
        let Some(ours) = names::from_npz(&name) else {
            unknown.push(name);
            continue;
        };
        let mut tensor = tensor.to_dtype(DType::F32)?;
        if name.ends_with("/kernel") {
            if tensor.rank() != 4 {
                let dims = tensor.dims();
                return Err(Error::data(path, None, format!("{name} has shape {dims:?}, expected four dimensions")));
            }
            tensor = tensor.permute((3, 2, 0, 1))?.contiguous()?;
        }
        tensors.push((ours, tensor));
    }
    Ok((tensors, unknown))
}
