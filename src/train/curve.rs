//! The learning curve, and how its numbers are kept so that a continued run has the same ones.
//!
//! Serialised numbers are their bits: decimal text may lose the last digit.

use serde::{Deserialize, Serialize};

/// One point of a learning curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Finished updates.
    pub step: u64,
    /// Passes over the training images.
    #[serde(with = "bits")]
    pub epoch: f64,
    /// Rate of the last update.
    #[serde(with = "bits")]
    pub lr: f64,
    /// Mean training loss since the point before.
    #[serde(with = "bits")]
    pub loss: f64,
    /// Where the validation set was scored at this step and had known labels.
    #[serde(with = "optional_bits")]
    pub valid_loss: Option<f64>,
    #[serde(with = "optional_bits")]
    pub valid_accuracy: Option<f64>,
}

/// The step of the lowest validation loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub step: u64,
    #[serde(with = "bits")]
    pub valid_loss: f64,
}

pub(super) mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(value.to_bits())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        u64::deserialize(d).map(f64::from_bits)
    }
}

mod optional_bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
        value.map(f64::to_bits).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(f64::from_bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_json_to_the_bit() {
        let point = CurvePoint {
            step: 3,
            epoch: 0.1 + 0.2,
            lr: f64::MIN_POSITIVE / 3.0,
            loss: -0.0,
            valid_loss: Some(1.0 / 3.0),
            valid_accuracy: None,
        };
        let back: CurvePoint = serde_json::from_str(&serde_json::to_string(&point).unwrap()).unwrap();
        assert_eq!((back.epoch.to_bits(), back.loss.to_bits()), (point.epoch.to_bits(), point.loss.to_bits()));
        assert_eq!(back, point);
    }
}
