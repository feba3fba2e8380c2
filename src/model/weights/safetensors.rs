//! safetensors files, read and written tensor by tensor, so that a model is not held in memory twice.
//!
//! The same tensors and metadata give the same bytes; so there is at most one metadata entry (the format
//! keeps them in no order). Names are not looked at here.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use ::safetensors::{
    Dtype, View,
    tensor::{Metadata, TensorInfo},
};
use candle_core::{Device, Tensor};

use super::floats::Form;
use crate::{
    error::{Error, Result},
    model::bit::Bit,
};

/// The format's own bound on the header.
const HEADER_MOST_BYTES: u64 = 100_000_000;

/// A tensor to be written; its values are made when its turn comes.
pub struct Piece<'a> {
    name: String,
    shape: Vec<usize>,
    values: Box<dyn Fn() -> Cow<'a, [f32]> + 'a>,
}

impl<'a> Piece<'a> {
    pub fn new(name: String, shape: Vec<usize>, values: impl Fn() -> Cow<'a, [f32]> + 'a) -> Self {
        Piece { name, shape, values: Box::new(values) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// All parameters of a model in PyTorch's layout, under the names that `rename` gives.
    pub fn of_model(model: &'a Bit, rename: impl Fn(&str) -> String) -> Vec<Self> {
        let one = |p: &'a crate::nn::parameter::Parameter| {
            Piece::new(rename(&p.name), p.shape.clone(), move || Cow::Owned(p.unpack(&p.data)))
        };
        model.parameters().iter().map(one).collect()
    }
}

impl View for &Piece<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned((self.values)().iter().flat_map(|v| v.to_le_bytes()).collect())
    }
    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * 4
    }
}

/// Writes aside, flushes, and puts the file in place of an older one.
pub fn write(path: &Path, pieces: &[Piece], metadata: Option<(&str, String)>) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".part");
    let aside = Path::new(&aside);
    let header = metadata.map(|(name, value)| HashMap::from([(name.to_string(), value)]));
    ::safetensors::serialize_to_file(pieces.iter().map(|p| (p.name.as_str(), p)), header, aside)
        .map_err(|e| Error::io(aside)(std::io::Error::other(e)))?;
    File::open(aside).and_then(|f| f.sync_all()).map_err(Error::io(aside))?;
    std::fs::rename(aside, path).map_err(Error::io(path))
}

/// What a file holds: its metadata, and its float tensors as f32 in the order of the file.
pub struct Content {
    pub metadata: HashMap<String, String>,
    pub tensors: Vec<(String, Tensor)>,
}

/// True for the first bytes of a safetensors file: a short length, then `{`.
pub fn is(head: &[u8]) -> bool {
    head.len() >= 9
        && head[8] == b'{'
        && head[..8].try_into().map(u64::from_le_bytes).is_ok_and(|n| n < HEADER_MOST_BYTES)
}

/// Reads a whole file. Tensors that are not floats are left out.
pub fn read(path: &Path) -> Result<Content> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let bytes = file.metadata().map_err(Error::io(path))?.len();
    let wrong = |text: String| Error::data(path, None, format!("not a safetensors file: {text}"));
    let mut head = [0u8; 9];
    file.read_exact(&mut head).map_err(|e| wrong(e.to_string()))?;
    if !is(&head) {
        return Err(wrong("it does not begin with a header".into()));
    }
    let length = u64::from_le_bytes([head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]]);
    if length + 8 > bytes {
        return Err(wrong(format!("its header has {length} bytes, the file {bytes}")));
    }
    let mut header = vec![0u8; length as usize];
    file.seek(SeekFrom::Start(8)).and_then(|_| file.read_exact(&mut header)).map_err(Error::io(path))?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|e| wrong(e.to_string()))?;
    if length + 8 + header.data_len() as u64 != bytes {
        return Err(wrong(format!("it has {bytes} bytes, its header says {}", length + 8 + header.data_len() as u64)));
    }
    let mut tensors = Vec::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let (from, to) = info.data_offsets;
        let mut data = vec![0u8; to - from];
        file.seek(SeekFrom::Start(8 + length + from as u64))
            .and_then(|_| file.read_exact(&mut data))
            .map_err(Error::io(path))?;
        if let Some(tensor) = tensor(info, &data)? {
            tensors.push((name, tensor));
        }
    }
    Ok(Content { metadata: header.metadata().clone().unwrap_or_default(), tensors })
}

fn tensor(info: &TensorInfo, data: &[u8]) -> Result<Option<Tensor>> {
    let form = match info.dtype {
        Dtype::F64 => Form::F64,
        Dtype::F32 => Form::F32,
        Dtype::F16 => Form::F16,
        Dtype::BF16 => Form::Bf16,
        _ => return Ok(None),
    };
    Ok(Some(Tensor::from_vec(form.values(data), info.shape.as_slice(), &Device::Cpu)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces() -> Vec<Piece<'static>> {
        vec![
            Piece::new("b.weight".into(), vec![2, 1], || Cow::Owned(vec![-0.0, f32::MIN_POSITIVE])),
            Piece::new("a".into(), vec![3], || Cow::Borrowed(&[1.0, 0.1, 3.0])),
        ]
    }

    #[test]
    fn tensors_survive_to_the_bit_and_bytes_repeat() {
        let dir = tempfile::tempdir().unwrap();
        let (p, q) = (dir.path().join("p.safetensors"), dir.path().join("q.safetensors"));
        write(&p, &pieces(), Some(("about", "x".into()))).unwrap();
        write(&q, &pieces(), Some(("about", "x".into()))).unwrap();
        assert_eq!(std::fs::read(&p).unwrap(), std::fs::read(&q).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let content = read(&p).unwrap();
        assert_eq!(content.metadata["about"], "x");
        let found = |name: &str| content.tensors.iter().find(|(n, _)| n == name).unwrap().1.clone();
        assert_eq!(found("b.weight").dims(), [2, 1]);
        let bits: Vec<u32> =
            found("b.weight").flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [(-0.0f32).to_bits(), f32::MIN_POSITIVE.to_bits()]);
    }

    #[test]
    fn torn_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        write(&path, &pieces(), None).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for keep in [0, 5, 8, 20, whole.len() - 1] {
            std::fs::write(&path, &whole[..keep]).unwrap();
            let e = read(&path).err().unwrap().to_string();
            assert!(e.contains("t.safetensors: not a safetensors file"), "{keep}: {e}");
        }
    }
}
