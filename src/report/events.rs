//! TensorBoard event files: curves for a tool that many already have open.
//!
//! A file is a sequence of TFRecords (length as u64, masked CRC-32C of it, payload, masked CRC-32C of that, all
//! little-endian), each an `Event` of `tensorflow/core/util/event.proto`. The first one says `brain.Event:2`.
//!
//! `wall_time` is the step in seconds, since artifacts hold no clock: equal curves are equal bytes, and
//! TensorBoard's "relative" axis shows steps.

use prost::Message;
use serde_json::Value;

use super::frame::{Frame, values};
use crate::{
    data::format::tfrecord::masked_crc,
    error::{Error, Result},
};

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `Summary.Value` with the one of its forms that is written here.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// An event file under construction.
pub struct Events(Vec<u8>);

impl Default for Events {
    fn default() -> Self {
        let mut events = Events(Vec::new());
        events.push(&Event { file_version: Some("brain.Event:2".into()), ..Event::default() });
        events
    }
}

impl Events {
    /// Every numeric column of a curve but `step` as a tag, one event a row. Nulls are left out.
    ///
    /// # Errors
    /// No column `step`, or one that is no whole number.
    pub fn of_curve(curve: &Frame) -> Result<Self> {
        let steps = values(curve, "step")?;
        let columns: Vec<(String, Vec<Value>)> = curve
            .columns()
            .iter()
            .filter(|c| c.name() != "step" && c.dtype().is_primitive_numeric())
            .map(|c| Ok((c.name().to_string(), values(curve, c.name())?)))
            .collect::<Result<_>>()?;
        let mut events = Events::default();
        for (row, step) in steps.iter().enumerate() {
            let step = step.as_i64().ok_or_else(|| Error::invalid(format!("step {step} is no whole number")))?;
            let scalar = |(tag, all): &(String, Vec<Value>)| {
                Some(Scalar { tag: tag.clone(), simple_value: Some(all[row].as_f64()? as f32) })
            };
            let value: Vec<Scalar> = columns.iter().filter_map(scalar).collect();
            if !value.is_empty() {
                let summary = Some(Summary { value });
                events.push(&Event { wall_time: step as f64, step, file_version: None, summary });
            }
        }
        Ok(events)
    }

    fn push(&mut self, event: &Event) {
        let payload = event.encode_to_vec();
        let length = (payload.len() as u64).to_le_bytes();
        self.0.extend(length);
        self.0.extend(masked_crc(&length).to_le_bytes());
        self.0.extend(&payload);
        self.0.extend(masked_crc(&payload).to_le_bytes());
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::frame::Rows;
    use serde_json::json;

    fn read(mut bytes: &[u8]) -> Vec<Event> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(u32::from_le_bytes(bytes[8..12].try_into().unwrap()), masked_crc(&bytes[..8]));
            let payload = &bytes[12..12 + length];
            assert_eq!(u32::from_le_bytes(bytes[12 + length..16 + length].try_into().unwrap()), masked_crc(payload));
            out.push(Event::decode(payload).unwrap());
            bytes = &bytes[16 + length..];
        }
        out
    }

    #[test]
    fn every_number_is_a_scalar_and_nulls_are_left_out() {
        let mut rows = Rows::new();
        rows.push([("step", json!(1)), ("loss", json!(0.5)), ("valid_loss", Value::Null), ("note", json!("x"))]);
        rows.push([("step", json!(20)), ("loss", json!(0.25)), ("valid_loss", json!(0.75))]);
        let events = read(&Events::of_curve(&rows.frame().unwrap()).unwrap().bytes());
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        let told: Vec<(i64, Vec<(String, f32)>)> = events[1..]
            .iter()
            .map(|e| {
                let values = &e.summary.as_ref().unwrap().value;
                (e.step, values.iter().map(|v| (v.tag.clone(), v.simple_value.unwrap())).collect())
            })
            .collect();
        let expected =
            [(1, vec![("loss".to_string(), 0.5)]), (20, vec![("loss".into(), 0.25), ("valid_loss".into(), 0.75)])];
        assert_eq!(told, expected);
    }

    #[test]
    fn the_checksum_is_tensorflows() {
        // tensorboard.compat.tensorflow_stub.pywrap_tensorflow.masked_crc32c(b"123456789")
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
        assert_eq!(&Events::default().bytes()[..8], &15u64.to_le_bytes());
    }
}
