//! Names of BiT networks and what they mean: `bit-r50x1` is depth 50, width 1.

use crate::error::{Error, Result, nearest};
use serde::{Deserialize, Serialize};

/// Bottleneck units of the four blocks for each depth that has a name.
const DEPTHS: [(&str, [usize; 4]); 5] =
    [("14", [1, 1, 1, 1]), ("26", [2, 2, 2, 2]), ("50", [3, 4, 6, 3]), ("101", [3, 4, 23, 3]), ("152", [3, 8, 36, 3])];

/// The published networks and two small ones, for messages.
const KNOWN: [&str; 9] = [
    "bit-r26x0.25",
    "bit-r26x0.5",
    "bit-r50x1",
    "bit-r50x3",
    "bit-r101x1",
    "bit-r101x3",
    "bit-r152x2",
    "bit-r152x4",
    "bit-r14x0.25",
];

/// Size of a BiT ResNet-v2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BitConfig {
    /// Bottleneck units of the four blocks.
    pub blocks: [usize; 4],
    /// Factor on all channels; 1 is ResNet-50's. A multiple of 1/8.
    pub width: f64,
    pub classes: usize,
}

impl BitConfig {
    /// Reads `bit-r{14,26,50,101,152}x{width}`.
    ///
    /// Widths are multiples of 1/8, so that all channels are multiples of 8. GroupNorm has 32
    /// groups; where 32 does not divide the channels, the largest power of two that does.
    pub fn parse(name: &str, classes: usize) -> Result<Self> {
        let parts = name.strip_prefix("bit-r").and_then(|rest| rest.split_once('x'));
        let depth = parts.and_then(|(depth, _)| DEPTHS.iter().find(|(d, _)| *d == depth));
        let width = parts.and_then(|(_, width)| width.parse::<f64>().ok());
        let (Some(&(_, blocks)), Some(width)) = (depth, width) else {
            let hint = match nearest(name, KNOWN) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("known: {}, and bit-r{{14,26,50,101,152}}x with any width", KNOWN.join(", ")),
            };
            return Err(Error::invalid(format!("unknown model {name}")).with_hint(hint));
        };
        if !(width > 0.0 && width <= 64.0 && (width * 8.0).fract() == 0.0) {
            return Err(Error::invalid(format!("model {name}: width {width} is no positive multiple of 0.125")));
        }
        if classes == 0 {
            return Err(Error::invalid(format!("model {name}: no classes")));
        }
        Ok(BitConfig { blocks, width, classes })
    }

    /// The name that [`BitConfig::parse`] reads, or the blocks where the depth has none.
    pub fn name(&self) -> String {
        match DEPTHS.iter().find(|(_, blocks)| *blocks == self.blocks) {
            Some((depth, _)) => format!("bit-r{depth}x{}", self.width),
            None => format!("bit-{}x{}", self.blocks.map(|b| b.to_string()).join("-"), self.width),
        }
    }

    /// Parameters of everything but the head: what "model size" means where models are compared over tasks.
    pub fn body_parameters(&self) -> u64 {
        let root = self.channels(64);
        let mut count = 3 * 49 * root;
        let mut inputs = root;
        for (block, &units) in self.blocks.iter().enumerate() {
            let middle = self.channels(64 << block);
            let outputs = 4 * middle;
            for _ in 0..units {
                let norms = 2 * (inputs + 2 * middle);
                let shortcut = if inputs == outputs { 0 } else { inputs * outputs };
                count += norms + inputs * middle + 9 * middle * middle + middle * outputs + shortcut;
                inputs = outputs;
            }
        }
        (count + 2 * inputs) as u64
    }

    /// `base` channels at width 1.
    pub fn channels(&self, base: usize) -> usize {
        (base as f64 * self.width).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_parameters_is_the_networks_own() {
        for name in ["bit-r14x0.25", "bit-r26x0.5"] {
            let config = BitConfig::parse(name, 3).unwrap();
            let bit = crate::model::Bit::new(config.clone(), 0);
            let body = bit.names().into_iter().filter(|(name, _)| !name.starts_with("head.conv"));
            let count: usize = body.map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert_eq!(config.body_parameters(), count as u64, "{name}");
        }
        // The published ResNet-50x1 for 1,000 classes has 25,549,352.
        assert_eq!(BitConfig::parse("bit-r50x1", 1).unwrap().body_parameters() + 2049 * 1000, 25_549_352);
    }

    #[test]
    fn names_are_read_and_written() {
        for name in KNOWN {
            assert_eq!(BitConfig::parse(name, 3).unwrap().name(), name);
        }
        assert_eq!(BitConfig::parse("bit-r26x0.25", 3).unwrap().channels(64), 16);
        assert_eq!(BitConfig::parse("bit-r50x1", 3).unwrap().blocks, [3, 4, 6, 3]);
    }

    #[test]
    fn unknown_names_get_a_hint() {
        let error = BitConfig::parse("bit-r50-1", 3).unwrap_err();
        assert_eq!(error.hint(), Some("did you mean bit-r50x1?"));
        assert!(BitConfig::parse("resnet", 3).unwrap_err().hint().unwrap().contains("bit-r152x4"));
        assert!(BitConfig::parse("bit-r50x0", 3).unwrap_err().to_string().contains("width 0"));
        assert!(BitConfig::parse("bit-r50x0.3", 3).is_err());
    }
}
