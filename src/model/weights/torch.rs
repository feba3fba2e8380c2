//! PyTorch checkpoints (`.pth`, `.pth.tar`, `.pt`): the zip form that PyTorch writes since 1.6.
//!
//! The pickle inside is read as data and never executed ([`crate::pickle`]): only dictionaries and tensors come out of
//! it. Optimiser states and other entries of a checkpoint are passed over.
//!
//! | in the zip | holds |
//! |---|---|
//! | `NAME/data.pkl` | dictionaries in which a tensor is a call of `torch._utils._rebuild_tensor_v2` with its storage, offset, shape and strides |
//! | `NAME/data/KEY` | the numbers of the storage with that key |

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use candle_core::Tensor;
use zip::ZipArchive;

use super::{
    Named,
    floats::{self, Form},
};
use crate::{
    error::{Error, Result},
    pickle::{Id, Pickle, Value},
};

/// Entries under which checkpoints keep the weights; without any, the file is the weights.
const KEYS: [&str; 3] = ["model", "state_dict", "model_state_dict"];
/// The pickle alone, without the numbers.
const MOST_PICKLE_BYTES: u64 = 1 << 30;

/// True for the first bytes of the older forms, which are a bare pickle or a tar.
pub fn is_legacy(head: &[u8]) -> bool {
    head.starts_with(&[0x80, 0x02]) || head.starts_with(b"sys_info") || head.starts_with(b"pickle")
}

/// What to do about a file of the older form.
pub fn legacy(path: &Path) -> Error {
    Error::data(path, None, "a PyTorch file of the form before 1.6")
        .with_hint("write it anew in PyTorch: torch.save(torch.load(old), new)")
}

/// All float tensors of the weights as f32, with the names they have there, sorted.
pub fn read(path: &Path) -> Result<Named> {
    let wrong = |message: String| Error::data(path, None, format!("not a PyTorch checkpoint: {message}"));
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut archive = ZipArchive::new(file).map_err(|e| wrong(e.to_string()))?;
    let names: Vec<String> = archive
        .file_names()
        .map(|name| name.map(|n| n.into_owned()))
        .collect::<Result<_, _>>()
        .map_err(|e| wrong(e.to_string()))?;
    let main = names.iter().find(|name| name.ends_with("data.pkl"));
    let main = main.ok_or_else(|| wrong("it has no data.pkl".into()))?;
    let mut bytes = Vec::new();
    let entry = archive.by_name(main).map_err(|e| wrong(e.to_string()))?;
    entry.take(MOST_PICKLE_BYTES).read_to_end(&mut bytes).map_err(|e| wrong(e.to_string()))?;
    let pickle = Pickle::read_around_code(&bytes).map_err(wrong)?;
    let folder = format!("{}data/", main.trim_end_matches("data.pkl"));
    let mut storages = Storages { archive, folder, read: HashMap::new() };
    let inner = KEYS.iter().filter_map(|key| pickle.entry(key));
    for weights in inner.chain([pickle.root()]) {
        let mut tensors = Vec::new();
        for (name, view) in views(&pickle, weights) {
            let tensor = view.and_then(|view| view.tensor(&mut storages)).map_err(|m| wrong(format!("{name}: {m}")))?;
            tensors.push((name, tensor));
        }
        if !tensors.is_empty() {
            tensors.sort_by(|a, b| a.0.cmp(&b.0));
            return Ok(tensors);
        }
    }
    Err(Error::data(path, None, "holds no tensors")
        .with_hint(format!("looked under {} and at the top", KEYS.join(", "))))
}

/// Float tensors of a dictionary by name; of a name that stands there twice the last.
fn views<'p>(pickle: &'p Pickle, weights: &Value) -> HashMap<String, std::result::Result<View<'p>, String>> {
    let Value::Dict(entries) = weights else { return HashMap::new() };
    let named = entries.iter().filter_map(|(name, value)| {
        let Value::Bytes(name) = pickle.value(*name) else { return None };
        Some((String::from_utf8_lossy(name).into_owned(), View::of(pickle, *value)?))
    });
    named.collect()
}

/// A tensor as a view of a storage.
struct View<'p> {
    key: &'p str,
    form: Form,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl<'p> View<'p> {
    /// `None` for what is no float tensor.
    fn of(pickle: &'p Pickle, value: Id) -> Option<std::result::Result<Self, String>> {
        let (function, arguments) = called(pickle, value)?;
        let (function, arguments) = match (function, arguments) {
            // A parameter wraps its tensor; a subclass has function, type, arguments, state.
            ("torch._utils._rebuild_parameter", [tensor, ..]) => called(pickle, *tensor)?,
            ("torch._tensor._rebuild_from_type_v2", [function, _, arguments, ..]) => {
                match (pickle.value(*function), pickle.value(*arguments)) {
                    (Value::Global(name), Value::Tuple(arguments)) => (name.as_str(), arguments.as_slice()),
                    _ => return None,
                }
            }
            other => other,
        };
        let ("torch._utils._rebuild_tensor_v2", [storage, offset, shape, strides, ..]) = (function, arguments) else {
            return None;
        };
        let Value::Outside(storage) = pickle.value(*storage) else { return None };
        let Value::Tuple(storage) = pickle.value(*storage) else { return None };
        let [_, class, key, ..] = storage.as_slice() else { return None };
        let (Value::Global(class), Value::Bytes(key)) = (pickle.value(*class), pickle.value(*key)) else { return None };
        let form = match class.rsplit('.').next()? {
            "DoubleStorage" => Form::F64,
            "FloatStorage" => Form::F32,
            "HalfStorage" => Form::F16,
            "BFloat16Storage" => Form::Bf16,
            _ => return None,
        };
        let number = |id: &Id| match pickle.value(*id) {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        };
        let numbers = |id: &Id| match pickle.value(*id) {
            Value::Tuple(items) => items.iter().map(number).collect::<Option<Vec<usize>>>(),
            _ => None,
        };
        let view = || {
            let key = std::str::from_utf8(key).ok()?;
            let (offset, shape, strides) = (number(offset)?, numbers(shape)?, numbers(strides)?);
            (shape.len() == strides.len()).then_some(View { key, form, offset, shape, strides })
        };
        Some(view().ok_or_else(|| "a tensor with an odd shape".into()))
    }

    fn tensor(&self, storages: &mut Storages) -> std::result::Result<Tensor, String> {
        let outside = || format!("shape {:?} goes beyond its storage", self.shape);
        let count = self.shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side)).ok_or_else(outside)?;
        let reach = self.shape.iter().zip(&self.strides).try_fold(self.offset, |end, (&side, &stride)| {
            end.checked_add(side.saturating_sub(1).checked_mul(stride)?)
        });
        let reach = reach.ok_or_else(outside)?;
        let values = storages.values(self.key, self.form)?;
        // A tensor that repeats its numbers by a stride of 0 would be larger than the file that holds it.
        if count > values.len() || (count > 0 && reach >= values.len()) {
            return Err(outside());
        }
        let picked = if self.is_plain() {
            values[self.offset.min(values.len())..][..count].to_vec()
        } else {
            self.places(count).map(|at| values[at]).collect()
        };
        floats::tensor(picked, &self.shape)
    }

    /// Whether its numbers lie one after the other.
    fn is_plain(&self) -> bool {
        let mut stride = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&side, &given)| {
            let fits = side <= 1 || given == stride;
            stride *= side.max(1);
            fits
        })
    }

    /// Where in the storage its numbers lie, the last dimension running fastest.
    fn places(&self, count: usize) -> impl Iterator<Item = usize> {
        (0..count).map(|mut i| {
            let mut at = self.offset;
            for (&side, &stride) in self.shape.iter().zip(&self.strides).rev() {
                at += i % side * stride;
                i /= side;
            }
            at
        })
    }
}

/// A call that the pickle asks for: the function's name and its arguments.
fn called(pickle: &Pickle, value: Id) -> Option<(&str, &[Id])> {
    let Value::Made(function, arguments) = pickle.value(value) else { return None };
    match (pickle.value(*function), pickle.value(*arguments)) {
        (Value::Global(name), Value::Tuple(arguments)) => Some((name, arguments)),
        _ => None,
    }
}

/// Numbers of the archive by key.
struct Storages {
    archive: ZipArchive<BufReader<File>>,
    folder: String,
    /// Tensors that share a storage come one after the other or not at all: the last one is kept.
    read: HashMap<(String, u64), Vec<f32>>,
}

impl Storages {
    fn values(&mut self, key: &str, form: Form) -> std::result::Result<&[f32], String> {
        let place = (key.to_string(), form.bytes() + u64::from(form == Form::Bf16));
        if !self.read.contains_key(&place) {
            let entry = self.archive.by_name(&format!("{}{key}", self.folder)).map_err(|e| e.to_string())?;
            let bytes = entry.size() / form.bytes() * form.bytes();
            let values = form.read(entry, bytes)?;
            self.read.clear();
            self.read.insert(place.clone(), values);
        }
        Ok(&self.read[&place])
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A zip with this pickle and one storage of the f32 numbers 0 to 5.
    fn file(pickle: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file("archive/data.pkl", options).unwrap();
        zip.write_all(pickle).unwrap();
        zip.start_file("archive/data/0", options).unwrap();
        zip.write_all(&(0..6).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        zip.finish().unwrap();
        file
    }

    /// `{"a": tensor}` as torch 2.15 pickles it by protocol 2, with offset, shape and strides of one byte each.
    fn pickle(offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
        let numbers = |of: &[u8]| [b"(".to_vec(), of.iter().flat_map(|&n| [b'K', n]).collect(), b"t".to_vec()].concat();
        let text = |t: &str| [&[b'X', t.len() as u8, 0, 0, 0], t.as_bytes()].concat();
        let storage = [
            b"(".to_vec(),
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            text("0"),
            text("cpu"),
            b"K\x06tQ".to_vec(),
        ];
        [
            b"\x80\x02}".to_vec(),
            text("a"),
            b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(),
            storage.concat(),
            vec![b'K', offset],
            numbers(shape),
            numbers(strides),
            b"\x89ccollections\nOrderedDict\n)RtRs.".to_vec(),
        ]
        .concat()
    }

    fn values(offset: u8, shape: &[u8], strides: &[u8]) -> Result<Vec<f32>> {
        let file = file(&pickle(offset, shape, strides));
        let named = read(file.path())?;
        assert_eq!((named.len(), named[0].0.as_str()), (1, "a"));
        Ok(named[0].1.flatten_all()?.to_vec1()?)
    }

    #[test]
    fn views_of_a_storage_are_read_as_pytorch_sees_them() {
        assert_eq!(values(0, &[2, 3], &[3, 1]).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(values(1, &[2], &[1]).unwrap(), [1.0, 2.0]);
        // Transposed, every second, a single number, none.
        assert_eq!(values(0, &[3, 2], &[1, 3]).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(values(1, &[3], &[2]).unwrap(), [1.0, 3.0, 5.0]);
        assert_eq!(values(4, &[], &[]).unwrap(), [4.0]);
        assert_eq!(values(0, &[0, 3], &[3, 1]).unwrap(), [0.0; 0]);
    }

    #[test]
    fn what_goes_beyond_its_storage_is_refused_before_memory_is_taken() {
        for (offset, shape, strides) in [
            (0, &[7][..], &[1][..]),
            (4, &[3], &[1]),
            (0, &[200, 200, 200, 200, 200], &[0, 0, 0, 0, 0]),
            (0, &[2], &[9]),
        ] {
            let e = values(offset, shape, strides).unwrap_err().to_string();
            assert!(e.contains("a: shape") && e.contains("goes beyond its storage"), "{e}");
        }
        assert!(values(0, &[2, 3], &[3]).unwrap_err().to_string().contains("odd shape"));
    }

    #[test]
    fn a_bomb_of_references_is_read_as_the_few_values_it_is() {
        // Each tuple holds the one before ten times; copied out, the last would be 10^60 values.
        let mut bomb = b"\x80\x02)q\x00".to_vec();
        for i in 0..60u8 {
            bomb.push(b'(');
            bomb.extend([b'h', i].repeat(10));
            bomb.extend([b't', b'q', i + 1]);
        }
        bomb.push(b'.');
        let e = read(file(&bomb).path()).unwrap_err();
        assert!(e.to_string().contains("holds no tensors"), "{e}");
        // Nested so deep that a reader that recurses would not come back.
        let deep = [&b"\x80\x02)"[..], &[0x85].repeat(1_000_000), b"."].concat();
        let e = read(file(&deep).path()).unwrap_err();
        assert!(e.to_string().contains("holds no tensors"), "{e}");
    }
}
