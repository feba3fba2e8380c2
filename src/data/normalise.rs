//! Grey levels to the model's input, by channel: (v / 255 - mean) / std.
//!
//! The published code scales natural images by ImageNet's means and deviations and X-rays to -1 to 1
//! (`build_transforms`: `data.mean`, `data.std`). What a model was trained with belongs to the model: see its card.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How grey levels become the model's input: `symmetric`, `imagenet`, or means and deviations of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Normalise {
    Known(Known),
    Own(Own),
}

/// Published scalings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// To -1 to 1: mean 0.5, deviation 0.5, as BiT and the study's X-rays.
    Symmetric,
    /// torchvision's for ImageNet: mean 0.485, 0.456, 0.406, deviation 0.229, 0.224, 0.225.
    Imagenet,
}

/// Means and deviations of red, green and blue, where levels are from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Own {
    pub mean: [f64; 3],
    pub std: [f64; 3],
}

impl Default for Normalise {
    fn default() -> Self {
        Normalise::Known(Known::Symmetric)
    }
}

impl Normalise {
    pub fn imagenet() -> Self {
        Normalise::Known(Known::Imagenet)
    }

    fn numbers(self) -> Own {
        match self {
            Normalise::Known(Known::Symmetric) => Own { mean: [0.5; 3], std: [0.5; 3] },
            Normalise::Known(Known::Imagenet) => Own { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
            Normalise::Own(own) => own,
        }
    }

    /// What cannot work: (field, message).
    pub fn check(self) -> Vec<(String, String)> {
        let Own { mean, std } = self.numbers();
        let mut out = Vec::new();
        if mean.iter().any(|m| !m.is_finite()) {
            out.push(("normalise.mean".into(), "must be numbers".into()));
        }
        if std.iter().any(|s| !(*s > 0.0 && s.is_finite())) {
            out.push(("normalise.std".into(), "must be above 0".into()));
        }
        out
    }
}

/// A scaling with the input of every level looked up.
#[derive(Clone, Debug)]
pub struct Levels {
    mean: [f32; 3],
    std: [f32; 3],
    /// By channel and level.
    pub(super) table: Arc<[[f32; 256]; 3]>,
    /// Whether all channels are scaled alike, so that grey stays grey.
    pub(super) alike: bool,
}

impl Levels {
    pub fn new(normalise: Normalise) -> Self {
        let Own { mean, std } = normalise.numbers();
        let (mean, std) = (mean.map(|m| m as f32), std.map(|s| s as f32));
        let mut levels =
            Levels { mean, std, table: Arc::new([[0.0; 256]; 3]), alike: mean == [mean[0]; 3] && std == [std[0]; 3] };
        let table = std::array::from_fn(|c| std::array::from_fn(|v| levels.scale(c, v as f32 / 255.0)));
        levels.table = Arc::new(table);
        levels
    }

    /// The tables of the channels, then their means, then their deviations: as a device reads them.
    pub(super) fn numbers(&self) -> Vec<f32> {
        self.table.iter().flatten().chain(&self.mean).chain(&self.std).copied().collect()
    }

    /// A share of full brightness to a channel's input, in f32 and torchvision's order of operations.
    pub(super) fn scale(&self, channel: usize, share: f32) -> f32 {
        (share - self.mean[channel]) / self.std[channel]
    }

    /// A channel's input back to the nearest level.
    pub(super) fn level(&self, channel: usize, input: f32) -> u8 {
        ((input * self.std[channel] + self.mean[channel]) * 255.0).round() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_goes_there_and_back() {
        let own = Normalise::Own(Own { mean: [0.1, 0.2, 0.3], std: [0.9, 0.5, 0.01] });
        for normalise in [Normalise::default(), Normalise::imagenet(), own] {
            let levels = Levels::new(normalise);
            for channel in 0..3 {
                let back: Vec<u8> = levels.table[channel].iter().map(|&v| levels.level(channel, v)).collect();
                assert_eq!(back, (0..=255).collect::<Vec<u8>>(), "{normalise:?}");
            }
        }
        assert!(Levels::new(Normalise::default()).alike && !Levels::new(Normalise::imagenet()).alike);
    }

    /// Numbers of torchvision 0.29.2 by the functions that the published code calls, which divide by 255:
    /// ```python
    /// x = numpy.array([0, 1, 17, 128, 254, 255], dtype=numpy.uint8)[None, :, None].repeat(3, 2)
    /// x = functional.to_tensor(x)
    /// print(functional.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])[:, 0].tolist())
    /// ```
    #[test]
    fn imagenet_is_torchvisions_to_the_bit() {
        let expected: [[f32; 6]; 3] = [
            [-2.117904, -2.1007793, -1.8267832, 0.07406463, 2.2317834, 2.2489083],
            [-2.0357141, -2.0182073, -1.7380952, 0.2051822, 2.4110641, 2.4285715],
            [-1.8044444, -1.7870152, -1.5081482, 0.42649257, 2.622571, 2.64],
        ];
        let levels = Levels::new(Normalise::imagenet());
        for (channel, expected) in expected.iter().enumerate() {
            let found = [0usize, 1, 17, 128, 254, 255].map(|v| levels.table[channel][v]);
            assert_eq!(&found, expected, "channel {channel}");
        }
    }

    #[test]
    fn words_and_numbers_are_read_and_checked() {
        let read = |json: serde_json::Value| serde_json::from_value::<Normalise>(json);
        assert_eq!(read(serde_json::json!("symmetric")).unwrap(), Normalise::default());
        assert_eq!(read(serde_json::json!("imagenet")).unwrap(), Normalise::imagenet());
        let own = read(serde_json::json!({"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.0, 0.2]})).unwrap();
        assert_eq!(own.check()[0].0, "normalise.std");
        assert!(read(serde_json::json!("imagnet")).is_err() && read(serde_json::json!({"mean": [0, 0, 0]})).is_err());
        assert!(Normalise::imagenet().check().is_empty());
    }
}
