//! Parameter names of BiT ResNet-v2 as others write them, and the shape of a network from its own names.
//!
//! | here and big_transfer's PyTorch | timm `resnetv2_*_bit` | BiT `.npz` |
//! |---|---|---|
//! | `root.conv.weight` | `stem.conv.weight` | `resnet/root_block/standardized_conv2d/kernel` |
//! | `body.block1.unit01.conv2.weight` | `stages.0.blocks.0.conv2.weight` | `resnet/block1/unit01/b/standardized_conv2d/kernel` |
//! | `body.block1.unit01.gn2.weight`, `.bias` | `stages.0.blocks.0.norm2.weight`, `.bias` | `resnet/block1/unit01/b/group_norm/gamma`, `beta` |
//! | `body.block1.unit01.downsample.weight` | `stages.0.blocks.0.downsample.conv.weight` | `resnet/block1/unit01/a/proj/standardized_conv2d/kernel` |
//! | `head.gn.weight`, `.bias` | `norm.weight`, `.bias` | `resnet/group_norm/gamma`, `beta` |
//! | `head.conv.weight`, `.bias` | `head.fc.weight`, `.bias` | `resnet/head/conv2d/kernel`, `bias` |
//!
//! Only names; values and their layout are the readers' business.

/// Strips what `DataParallel` and its like put before names.
pub fn bare(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("module.") {
        name = rest;
    }
    name
}

/// Our name for timm's.
pub fn from_timm(name: &str) -> Option<String> {
    match name.split('.').collect::<Vec<_>>()[..] {
        ["stem", "conv", "weight"] => Some("root.conv.weight".into()),
        ["norm", which @ ("weight" | "bias")] => Some(format!("head.gn.{which}")),
        ["head", "fc", which @ ("weight" | "bias")] => Some(format!("head.conv.{which}")),
        ["stages", stage, "blocks", block, ref rest @ ..] => {
            let (stage, block): (usize, usize) = (stage.parse().ok()?, block.parse().ok()?);
            let part = match rest {
                ["downsample", "conv", "weight"] => "downsample.weight".to_string(),
                [conv @ ("conv1" | "conv2" | "conv3"), "weight"] => format!("{conv}.weight"),
                [norm, which @ ("weight" | "bias")] => format!("gn{}.{which}", number(norm.strip_prefix("norm")?)?),
                _ => return None,
            };
            Some(format!("body.block{}.unit{:02}.{part}", stage + 1, block + 1))
        }
        _ => None,
    }
}

/// timm's name for ours.
pub fn to_timm(name: &str) -> Option<String> {
    match name.split('.').collect::<Vec<_>>()[..] {
        ["root", "conv", "weight"] => Some("stem.conv.weight".into()),
        ["head", "gn", which] => Some(format!("norm.{which}")),
        ["head", "conv", which] => Some(format!("head.fc.{which}")),
        ["body", block, unit, part, which] => {
            let stage = block.strip_prefix("block")?.parse::<usize>().ok()?.checked_sub(1)?;
            let block = unit.strip_prefix("unit")?.parse::<usize>().ok()?.checked_sub(1)?;
            let part = match part.strip_prefix("gn") {
                Some(n) => format!("norm{n}"),
                None if part == "downsample" => "downsample.conv".into(),
                None => part.to_string(),
            };
            Some(format!("stages.{stage}.blocks.{block}.{part}.{which}"))
        }
        _ => None,
    }
}

/// Our name for that of a BiT `.npz`.
pub fn from_npz(name: &str) -> Option<String> {
    let which = |last: &str| match last {
        "gamma" => Some("weight"),
        "beta" => Some("bias"),
        _ => None,
    };
    match name.split('/').collect::<Vec<_>>()[..] {
        ["resnet", "root_block", "standardized_conv2d", "kernel"] => Some("root.conv.weight".into()),
        ["resnet", "group_norm", last] => Some(format!("head.gn.{}", which(last)?)),
        ["resnet", "head", "conv2d", "kernel"] => Some("head.conv.weight".into()),
        ["resnet", "head", "conv2d", "bias"] => Some("head.conv.bias".into()),
        ["resnet", block, unit, ref rest @ ..] => {
            number(block.strip_prefix("block")?)?;
            number(unit.strip_prefix("unit")?)?;
            let part = match rest {
                ["a", "proj", "standardized_conv2d", "kernel"] => "downsample.weight".to_string(),
                [letter, "standardized_conv2d", "kernel"] => format!("conv{}.weight", place(letter)?),
                [letter, "group_norm", last] => format!("gn{}.{}", place(letter)?, which(last)?),
                _ => return None,
            };
            Some(format!("body.{block}.{unit}.{part}"))
        }
        _ => None,
    }
}

fn place(letter: &str) -> Option<usize> {
    ["a", "b", "c"].iter().position(|l| *l == letter).map(|at| at + 1)
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok()
}

/// (block, unit) from 1 of a name of ours.
pub fn unit(name: &str) -> Option<(usize, usize)> {
    let rest = name.strip_prefix("body.block")?;
    let (block, rest) = rest.split_once(".unit")?;
    Some((number(block)?, number(rest.split_once('.')?.0)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bit, BitConfig};

    #[test]
    fn every_name_goes_to_timm_and_back() {
        let model = Bit::new(BitConfig::parse("bit-r26x0.25", 3).unwrap(), 0);
        for (name, _) in model.names() {
            let timm = to_timm(&name).unwrap();
            assert_eq!(from_timm(&timm).as_deref(), Some(name.as_str()), "{timm}");
        }
        assert_eq!(to_timm("body.block4.unit02.gn3.bias").unwrap(), "stages.3.blocks.1.norm3.bias");
        assert_eq!(from_timm("stages.0.blocks.0.downsample.norm.weight"), None);
        assert_eq!(from_timm("stages.0.blocks.0.attn.weight"), None);
    }

    #[test]
    fn names_of_npz_and_wrappers_are_known() {
        let pairs = [
            ("resnet/root_block/standardized_conv2d/kernel", "root.conv.weight"),
            ("resnet/block3/unit12/c/group_norm/beta", "body.block3.unit12.gn3.bias"),
            ("resnet/block1/unit01/a/proj/standardized_conv2d/kernel", "body.block1.unit01.downsample.weight"),
            ("resnet/block1/unit01/a/standardized_conv2d/kernel", "body.block1.unit01.conv1.weight"),
            ("resnet/group_norm/gamma", "head.gn.weight"),
            ("resnet/head/conv2d/bias", "head.conv.bias"),
        ];
        for (theirs, ours) in pairs {
            assert_eq!(from_npz(theirs).as_deref(), Some(ours));
        }
        assert_eq!(from_npz("resnet/global_step"), None);
        assert_eq!(bare("module.module.root.conv.weight"), "root.conv.weight");
        assert_eq!(unit("body.block3.unit12.gn3.bias"), Some((3, 12)));
    }
}
