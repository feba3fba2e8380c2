//! Numbers of a file as f32, whatever width they have there.

use std::io::Read;

use candle_core::{Device, Tensor};

/// How a file holds a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    F64,
    F32,
    F16,
    Bf16,
}

impl Form {
    pub fn bytes(self) -> u64 {
        match self {
            Form::F64 => 8,
            Form::F32 => 4,
            Form::F16 | Form::Bf16 => 2,
        }
    }

    /// Little-endian numbers; a rest that is no whole number is left out.
    pub fn values(self, data: &[u8]) -> Vec<f32> {
        let two = |b: &[u8]| [b[0], b[1]];
        match self {
            Form::F64 => {
                let eight = |b: &[u8]| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32;
                data.chunks_exact(8).map(eight).collect()
            }
            Form::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Form::F16 => data.chunks_exact(2).map(|b| half::f16::from_le_bytes(two(b)).to_f32()).collect(),
            Form::Bf16 => data.chunks_exact(2).map(|b| half::bf16::from_le_bytes(two(b)).to_f32()).collect(),
        }
    }

    /// So many bytes of numbers; memory grows with what comes and not with what is promised.
    ///
    /// # Errors
    /// In words: fewer bytes came.
    pub fn read(self, from: impl Read, bytes: u64) -> Result<Vec<f32>, String> {
        let mut data = Vec::new();
        from.take(bytes).read_to_end(&mut data).map_err(|e| e.to_string())?;
        if data.len() as u64 != bytes {
            return Err(format!("{} bytes where {bytes} were promised", data.len()));
        }
        Ok(self.values(&data))
    }
}

/// A tensor of these values; their number must be that of the shape.
pub fn tensor(values: Vec<f32>, shape: &[usize]) -> Result<Tensor, String> {
    let count = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
    if count != Some(values.len()) {
        return Err(format!("{} values for shape {shape:?}", values.len()));
    }
    Tensor::from_vec(values, shape, &Device::Cpu).map_err(|e| e.to_string())
}
