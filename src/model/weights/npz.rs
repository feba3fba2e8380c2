//! BiT's own `.npz` files: TensorFlow's names, and convolutions as (height, width, in, out).
//!
//! Names are translated by [`super::names`]; here only layouts change.

use std::{fs::File, io::BufReader, path::Path};

use candle_core::Tensor;
use zip::ZipArchive;

use super::{
    Named,
    floats::{self, Form},
    names,
};
use crate::{
    error::{Error, Result},
    npy::Header,
};

/// The form of NumPy's type; `None` for what is no float.
fn form(code: &str) -> Option<Form> {
    match code {
        "f8" => Some(Form::F64),
        "f4" => Some(Form::F32),
        "f2" => Some(Form::F16),
        _ => None,
    }
}

/// All float tensors as f32 under our names and in PyTorch's layout; and the names that are not known.
pub fn read(path: &Path) -> Result<(Named, Vec<String>)> {
    let wrong = |message: String| Error::data(path, None, format!("not a BiT .npz: {message}"));
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut archive = ZipArchive::new(file).map_err(|e| wrong(e.to_string()))?;
    let (mut tensors, mut unknown) = (Vec::new(), Vec::new());
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| wrong(e.to_string()))?;
        let name = entry.name().map_err(|e| wrong(e.to_string()))?.trim_end_matches(".npy").to_string();
        let Some(ours) = names::from_npz(&name) else {
            unknown.push(name);
            continue;
        };
        let told = |message: String| wrong(format!("{name}: {message}"));
        let header = Header::read(&mut entry).map_err(told)?;
        let form = form(&header.code).ok_or_else(|| told(format!("values of type {}, no floats", header.code)))?;
        let bytes = header.bytes(form.bytes()).ok_or_else(|| told(format!("an array of {:?}", header.shape)))?;
        let values = form.read(&mut entry, bytes).map_err(told)?;
        let mut tensor = floats::tensor(values, &header.shape).map_err(told)?;
        if name.ends_with("/kernel") {
            tensor = hwio_to_oihw(&tensor).ok_or_else(|| {
                Error::data(path, None, format!("{name} has shape {:?}, expected four dimensions", header.shape))
            })??;
        }
        tensors.push((ours, tensor));
    }
    Ok((tensors, unknown))
}

/// `None` where there are not four dimensions.
fn hwio_to_oihw(tensor: &Tensor) -> Option<Result<Tensor>> {
    (tensor.rank() == 4).then(|| Ok(tensor.permute((3, 2, 0, 1))?.contiguous()?))
}
