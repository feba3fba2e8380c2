//! Weights in files: read from whatever form they come in, written as safetensors.
//!
//! | form | known by | names |
//! |---|---|---|
//! | safetensors | its header | ours, big_transfer's (the same), or timm's |
//! | PyTorch `.pth`, `.pth.tar`, `.pt` | a zip with `data.pkl` | the same; `module.` is stripped; under `model` or `state_dict` |
//! | BiT `.npz` | a zip with arrays | TensorFlow's |
//!
//! Forms are told apart by content, never by extension. Everything becomes tensors under our names, from
//! which depth, width and classes are read. Nothing is downloaded here.

mod floats;
pub mod names;
pub mod npz;
pub mod safetensors;
pub mod torch;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::safetensors::Piece;
use super::{Bit, BitConfig};
use crate::error::{Error, Result};

/// Tensors by name.
pub type Named = Vec<(String, Tensor)>;

/// Metadata entry of our own files: the network's configuration as JSON.
const CONFIG: &str = "scaleshot.model";

/// Whose parameter names a written file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameStyle {
    /// Ours, which are those of the published PyTorch checkpoints.
    #[default]
    Own,
    /// Those of timm's `resnetv2_*_bit`, so that timm loads the file.
    Timm,
}

/// Weights of one network, under our names and in PyTorch's layout.
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    /// Depth and width, and the classes of the file's head (0 without a head).
    pub config: BitConfig,
    /// Tensors of the file that no BiT has.
    pub unknown: Vec<String>,
}

/// Reads weights of any known form.
pub fn read(path: &Path) -> Result<Weights> {
    let mut head = Vec::new();
    File::open(path).and_then(|f| f.take(16).read_to_end(&mut head)).map_err(Error::io(path))?;
    let (found, mut unknown) = if safetensors::is(&head) {
        (safetensors::read(path)?.tensors, Vec::new())
    } else if head.starts_with(b"PK") {
        let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
        let entries =
            zip::ZipArchive::new(file).map_err(|e| Error::data(path, None, format!("not a readable zip: {e}")))?;
        if entries.file_names().any(|name| name.is_ok_and(|n| n.ends_with("data.pkl"))) {
            (torch::read(path)?, Vec::new())
        } else {
            npz::read(path)?
        }
    } else if torch::is_legacy(&head) {
        return Err(torch::legacy(path));
    } else {
        return Err(Error::data(path, None, "not a file of weights")
            .with_hint("known: safetensors, PyTorch .pth and .pth.tar, BiT .npz"));
    };
    let mut tensors = BTreeMap::new();
    for (name, tensor) in found {
        let bare = names::bare(&name);
        let ours = match names::from_timm(bare) {
            Some(ours) => Some(ours),
            None if ["root.", "body.", "head."].iter().any(|p| bare.starts_with(p)) => Some(bare.to_string()),
            None => None,
        };
        match ours {
            Some(ours) => drop(tensors.insert(ours, tensor)),
            None => unknown.push(name),
        }
    }
    // timm writes a head that is not a convolution with two dimensions.
    if let Some(head) = tensors.get_mut("head.conv.weight")
        && let [o, i] = *head.dims()
    {
        *head = head.reshape((o, i, 1, 1))?;
    }
    let config = config(&tensors).map_err(|message| {
        let names: Vec<&str> = unknown.iter().take(3).map(String::as_str).collect();
        let hint = if names.is_empty() { String::new() } else { format!("it holds {}, …", names.join(", ")) };
        Error::data(path, None, format!("not a BiT ResNet-v2: {message}")).with_hint(hint)
    })?;
    unknown.sort();
    Ok(Weights { tensors, config, unknown })
}

/// Depth, width and classes by names and shapes.
fn config(tensors: &BTreeMap<String, Tensor>) -> Result<BitConfig, String> {
    let root = tensors.get("root.conv.weight").ok_or("there is no root convolution")?;
    let channels = *root.dims().first().ok_or("its root convolution has no channels")?;
    let mut blocks = [0usize; 4];
    for (block, unit) in tensors.keys().filter_map(|name| names::unit(name)) {
        if !(1..=4).contains(&block) || unit == 0 {
            return Err(format!("it has a block {block}, unit {unit}"));
        }
        blocks[block - 1] = blocks[block - 1].max(unit);
    }
    if blocks.contains(&0) {
        return Err(format!("it has {blocks:?} units in its four blocks"));
    }
    let classes = tensors.get("head.conv.weight").and_then(|t| t.dims().first().copied()).unwrap_or(0);
    Ok(BitConfig { blocks, width: channels as f64 / 64.0, classes })
}

impl Weights {
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The network with these weights, and sentences on what was left out or replaced.
    ///
    /// With `classes` other than the file's, its head is dropped for one of zeros.
    pub fn model(&self, classes: Option<usize>) -> Result<(Bit, Vec<String>)> {
        let classes = match classes {
            Some(n) => n,
            None if self.config.classes == 0 => {
                return Err(Error::invalid("the weights have no head").with_hint("say how many classes there are"));
            }
            None => self.config.classes,
        };
        // The seed is of no matter: every parameter is set, or zero.
        let mut model = Bit::new(BitConfig { classes, ..self.config.clone() }, 0);
        let said = self.load(&mut model)?;
        Ok((model, said))
    }

    /// Sets all parameters of `model`, and says what was left out or replaced.
    ///
    /// A head for other classes is dropped and the model's own head kept. Errors: a parameter that is
    /// missing, or whose shape differs (both shapes are named).
    pub fn load(&self, model: &mut Bit) -> Result<Vec<String>> {
        let (ours, theirs) = (model.config().classes, self.config.classes);
        let mut said = Vec::new();
        let keep_head = ours == theirs && self.tensors.contains_key("head.conv.bias");
        if !keep_head {
            said.push(if theirs == 0 {
                format!("the weights have no head: that of {ours} classes is new")
            } else {
                format!("head of {theirs} classes dropped: that of {ours} classes is new")
            });
        }
        let wanted: Vec<String> = model.names().into_iter().map(|(name, _)| name).collect();
        let needed: Vec<&String> = wanted.iter().filter(|name| keep_head || !name.starts_with("head.conv.")).collect();
        let missing: Vec<&str> =
            needed.iter().filter(|n| !self.tensors.contains_key(**n)).map(|n| n.as_str()).collect();
        if !missing.is_empty() {
            return Err(Error::invalid(format!(
                "weights of {} lack {} of {} parameters: {}{}",
                model.config().name(),
                missing.len(),
                wanted.len(),
                missing[..missing.len().min(3)].join(", "),
                if missing.len() > 3 { ", …" } else { "" }
            )));
        }
        for name in needed {
            if let Some(tensor) = self.tensors.get(name) {
                model.load(name, tensor)?;
            }
        }
        let extra: Vec<&str> =
            self.tensors.keys().filter(|n| !wanted.contains(n)).chain(&self.unknown).map(String::as_str).collect();
        if !extra.is_empty() {
            let some = extra[..extra.len().min(3)].join(", ");
            said.push(format!(
                "{} tensors are not used: {some}{}",
                extra.len(),
                if extra.len() > 3 { ", …" } else { "" }
            ));
        }
        Ok(said)
    }
}

/// Writes a model as safetensors; the same model gives the same bytes.
pub fn write(path: &Path, model: &Bit, style: NameStyle) -> Result<()> {
    let rename = |name: &str| match style {
        NameStyle::Own => name.to_string(),
        NameStyle::Timm => names::to_timm(name).unwrap_or_else(|| name.to_string()),
    };
    let config = serde_json::to_string(model.config())?;
    safetensors::write(path, &Piece::of_model(model, rename), Some((CONFIG, config)))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::model::Images;

    fn tiny(classes: usize) -> Bit {
        let mut model = Bit::new(BitConfig::parse("bit-r14x0.25", classes).unwrap(), 7);
        // A head that is not zero, or a lost head would not be seen.
        for name in ["head.conv.weight", "head.conv.bias"] {
            let values: Vec<f32> = (0..model.get(name).unwrap().len()).map(|i| (i as f32 * 0.7).sin()).collect();
            model.set(name, &values).unwrap();
        }
        model
    }

    fn logits(model: &Bit) -> Vec<f32> {
        let data: Vec<f32> = (0..2 * 20 * 14 * 3).map(|i| (i as f32 * 0.37).cos()).collect();
        model.logits(&Images { data: &data, n: 2, height: 20, width: 14 }).unwrap()
    }

    /// A zip with stored entries.
    fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (name, data) in entries {
            let mut crc = flate2::Crc::new();
            crc.update(data);
            let (offset, size) = (out.len() as u32, data.len() as u32);
            let mut common = Vec::new();
            common.extend([20u16, 0, 0, 0, 0].iter().flat_map(|v| v.to_le_bytes()));
            common.extend([crc.sum(), size, size].iter().flat_map(|v| v.to_le_bytes()));
            common.extend((name.len() as u16).to_le_bytes());
            common.extend(0u16.to_le_bytes());
            out.extend(b"PK\x03\x04");
            out.extend(&common);
            out.extend(name.bytes());
            out.extend(data);
            directory.extend(b"PK\x01\x02\x14\x00");
            directory.extend(&common);
            directory.extend([0u8; 10]);
            directory.extend(offset.to_le_bytes());
            directory.extend(name.bytes());
        }
        let (start, size, n) = (out.len() as u32, directory.len() as u32, entries.len() as u16);
        out.extend(directory);
        out.extend(b"PK\x05\x06\x00\x00\x00\x00");
        out.extend([n, n].iter().flat_map(|v| v.to_le_bytes()));
        out.extend([size, start].iter().flat_map(|v| v.to_le_bytes()));
        out.extend([0u8; 2]);
        out
    }

    fn text(out: &mut Vec<u8>, s: &str) {
        out.push(b'X');
        out.extend((s.len() as u32).to_le_bytes());
        out.extend(s.bytes());
    }

    fn integer(out: &mut Vec<u8>, value: usize) {
        out.push(b'J');
        out.extend((value as i32).to_le_bytes());
    }

    /// A checkpoint as `torch.save({"epoch": 3, KEY: state_dict}, …)` writes it; without a key the dictionary alone.
    fn pth(model: &Bit, key: Option<&str>, prefix: &str) -> Vec<u8> {
        let mut pickle = vec![0x80, 2];
        let mut entries = Vec::new();
        if let Some(key) = key {
            pickle.extend(b"}(");
            text(&mut pickle, "epoch");
            integer(&mut pickle, 3);
            text(&mut pickle, key);
        }
        pickle.extend(b"ccollections\nOrderedDict\n)R(");
        for (at, (name, tensor)) in model.tensors().unwrap().iter().enumerate() {
            text(&mut pickle, &format!("{prefix}{name}"));
            pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            text(&mut pickle, "storage");
            pickle.extend(b"ctorch\nFloatStorage\n");
            text(&mut pickle, &at.to_string());
            text(&mut pickle, "cpu");
            integer(&mut pickle, tensor.elem_count());
            pickle.extend(b"tQ");
            integer(&mut pickle, 0);
            for numbers in [tensor.dims(), tensor.stride()] {
                pickle.push(b'(');
                numbers.iter().for_each(|&n| integer(&mut pickle, n));
                pickle.push(b't');
            }
            pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            entries.push((format!("archive/data/{at}"), values.iter().flat_map(|v| v.to_le_bytes()).collect()));
        }
        pickle.push(b'u');
        pickle.extend(if key.is_some() { &b"u."[..] } else { b"." });
        entries.insert(0, ("archive/data.pkl".into(), pickle));
        zip(&entries)
    }

    #[test]
    fn every_form_gives_the_same_network() {
        let (dir, model) = (tempfile::tempdir().unwrap(), tiny(5));
        let expected = logits(&model);
        let path = dir.path().join("weights");
        let check = |what: &str| {
            let weights = read(&path).unwrap_or_else(|e| panic!("{what}: {e}"));
            let (back, said) = weights.model(None).unwrap();
            assert!(said.is_empty(), "{what}: {said:?}");
            assert_eq!((back.config(), logits(&back)), (model.config(), expected.clone()), "{what}");
        };
        write(&path, &model, NameStyle::Own).unwrap();
        check("own safetensors");
        write(&path, &model, NameStyle::Timm).unwrap();
        assert!(safetensors::read(&path).unwrap().tensors.iter().any(|(n, _)| n == "stages.3.blocks.0.norm3.bias"));
        check("timm safetensors");
        for (key, prefix) in [(Some("model"), ""), (Some("state_dict"), "module."), (None, "module.module.")] {
            std::fs::write(&path, pth(&model, key, prefix)).unwrap();
            check(&format!("PyTorch under {key:?} with {prefix}"));
        }
        let arrays: Vec<(String, Tensor)> = model
            .tensors()
            .unwrap()
            .into_iter()
            .map(|(name, tensor)| {
                let tensor = if tensor.rank() == 4 { tensor.permute((2, 3, 1, 0)).unwrap() } else { tensor };
                (npz_name(&name), tensor.contiguous().unwrap())
            })
            .collect();
        Tensor::write_npz(&arrays, &path).unwrap();
        check("npz");
    }

    /// The name in a BiT `.npz`, written out for the one-unit blocks of the test.
    fn npz_name(ours: &str) -> String {
        let rest = match ours {
            "root.conv.weight" => "root_block/standardized_conv2d/kernel".to_string(),
            "head.conv.weight" => "head/conv2d/kernel".into(),
            "head.conv.bias" => "head/conv2d/bias".into(),
            "head.gn.weight" => "group_norm/gamma".into(),
            "head.gn.bias" => "group_norm/beta".into(),
            body => {
                let [_, block, unit, part, which] = body.split('.').collect::<Vec<_>>()[..] else { panic!("{body}") };
                let letter = |n: &str| ["a", "b", "c"][n.parse::<usize>().unwrap() - 1];
                let last = if which == "weight" { "gamma" } else { "beta" };
                let part = match (part.strip_prefix("conv"), part.strip_prefix("gn")) {
                    (Some(n), _) => format!("{}/standardized_conv2d/kernel", letter(n)),
                    (_, Some(n)) => format!("{}/group_norm/{last}", letter(n)),
                    _ => "a/proj/standardized_conv2d/kernel".into(),
                };
                format!("{block}/{unit}/{part}")
            }
        };
        format!("resnet/{rest}")
    }

    #[test]
    fn a_head_for_other_classes_is_dropped_and_said() {
        let (dir, model) = (tempfile::tempdir().unwrap(), tiny(5));
        let path = dir.path().join("weights.safetensors");
        write(&path, &model, NameStyle::Own).unwrap();
        let weights = read(&path).unwrap();
        let (other, said) = weights.model(Some(3)).unwrap();
        assert_eq!(said, ["head of 5 classes dropped: that of 3 classes is new"]);
        assert!(logits(&other).iter().all(|&v| v == 0.0));
        assert_eq!(
            other.get("body.block4.unit01.conv3.weight").unwrap(),
            model.get("body.block4.unit01.conv3.weight").unwrap()
        );
        let mut wide = Bit::new(BitConfig::parse("bit-r14x0.5", 5).unwrap(), 0);
        let e = weights.load(&mut wide).unwrap_err().to_string();
        assert!(e.contains("[16, 3, 7, 7]") && e.contains("[32, 3, 7, 7]"), "{e}");
        let mut deep = Bit::new(BitConfig::parse("bit-r26x0.25", 5).unwrap(), 0);
        let e = weights.load(&mut deep).unwrap_err().to_string();
        assert!(e.contains("lack 36 of 81 parameters: body.block1.unit02.gn1.weight"), "{e}");
    }

    #[test]
    fn weights_without_a_head_need_a_number_of_classes() {
        let (dir, model) = (tempfile::tempdir().unwrap(), tiny(5));
        let path = dir.path().join("w");
        let mut pieces = Piece::of_model(&model, |n| names::to_timm(n).unwrap());
        pieces.retain(|p| !p.name().starts_with("head."));
        pieces.push(Piece::new("extra".into(), vec![1], || std::borrow::Cow::Owned(vec![0.0])));
        safetensors::write(&path, &pieces, None).unwrap();
        let weights = read(&path).unwrap();
        assert!(weights.model(None).err().unwrap().hint().unwrap().contains("classes"));
        let (_, said) = weights.model(Some(2)).unwrap();
        assert_eq!(said, ["the weights have no head: that of 2 classes is new", "1 tensors are not used: extra"]);
    }

    #[test]
    fn other_files_are_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bin");
        let say = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let e = read(&path).err().unwrap();
            format!("{e}; {}", e.hint().unwrap_or_default())
        };
        assert!(say(b"hello").contains("x.bin: not a file of weights; known: safetensors"));
        assert!(say(b"\x80\x02\x8a\x0al\xfc\x9cF").contains("before 1.6; write it anew"));
        assert!(say(b"PK\x03\x04 torn").contains("not a readable zip"));
        let stray = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
        Tensor::write_npz(&[("alexnet/conv", &stray)], &path).unwrap();
        let e = read(&path).err().unwrap();
        assert!(
            e.to_string().contains("not a BiT ResNet-v2: there is no root") && e.hint().unwrap().contains("alexnet")
        );
        // A rebuilt tensor with too few arguments must not end the program.
        let bad = b"\x80\x02}(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n)Ru.".to_vec();
        std::fs::write(&path, zip(&[("archive/data.pkl".into(), bad)])).unwrap();
        let told = read(&path).err().unwrap().to_string();
        assert!(told.contains("holds no tensors"), "{told}");
    }
}
