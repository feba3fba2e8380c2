//! The order in which weights lie in memory: panels of 64 outputs, `[O/64][tap][C][64]`.
//!
//! The kernels read a panel front to back, whatever the convolution. Master weights, gradients
//! and momentum keep this order; PyTorch's (O, I, H, W) exists only in files. The last panel is
//! as wide as its outputs, rounded up to 16; the lanes that round it up are zero.

/// Outputs in a full panel.
pub const PANEL: usize = 64;

/// Vectors are 16 values; panels are whole vectors.
const VECTOR: usize = 16;

/// A packed matrix of `rows` (tap-major, then input channel) by `lanes` (outputs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    pub rows: usize,
    pub lanes: usize,
}

impl Packed {
    pub fn panels(&self) -> usize {
        self.lanes.div_ceil(PANEL)
    }

    /// Lanes that panel `p` really has.
    pub fn width(&self, p: usize) -> usize {
        (self.lanes - p * PANEL).min(PANEL)
    }

    /// Lanes that a row of panel `p` takes in memory.
    pub fn pitch(&self, p: usize) -> usize {
        self.width(p).next_multiple_of(VECTOR)
    }

    /// Values from one panel's start to the next one's.
    pub fn step(&self) -> usize {
        PANEL * self.rows
    }

    pub fn len(&self) -> usize {
        let last = self.panels() - 1;
        last * self.step() + self.rows * self.pitch(last)
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0 || self.lanes == 0
    }

    pub fn at(&self, row: usize, lane: usize) -> usize {
        let p = lane / PANEL;
        p * self.step() + row * self.pitch(p) + lane % PANEL
    }

    /// From (O, I, taps) to packed.
    pub fn pack(&self, oihw: &[f32], taps: usize, packed: &mut [f32]) {
        packed.fill(0.0);
        self.each(taps, |o, p| packed[p] = oihw[o]);
    }

    /// From packed to (O, I, taps).
    pub fn unpack(&self, packed: &[f32], taps: usize, oihw: &mut [f32]) {
        self.each(taps, |o, p| oihw[o] = packed[p]);
    }

    fn each(&self, taps: usize, mut visit: impl FnMut(usize, usize)) {
        let inputs = self.rows / taps;
        for lane in 0..self.lanes {
            for input in 0..inputs {
                for tap in 0..taps {
                    visit((lane * inputs + input) * taps + tap, self.at(tap * inputs + input, lane));
                }
            }
        }
    }

    /// The packing of the same taps with inputs and outputs exchanged, as the input gradient reads it.
    pub fn transposed(&self, taps: usize) -> Packed {
        Packed { rows: taps * self.lanes, lanes: self.rows / taps }
    }

    /// Writes `packed` (of this packing) in the order of [`Packed::transposed`].
    pub fn transpose(&self, packed: &[f32], taps: usize, out: &mut [f32]) {
        use rayon::prelude::*;
        let (inputs, other) = (self.rows / taps, self.transposed(taps));
        let worth = (1usize << 14).div_ceil(other.step());
        out.par_chunks_mut(other.step()).enumerate().with_min_len(worth).for_each(|(q, panel)| {
            let (pitch, width) = (other.pitch(q), other.width(q));
            if width < pitch {
                panel.fill(0.0);
            }
            for tap in 0..taps {
                for p in 0..self.panels() {
                    let from = &packed[p * self.step() + (tap * inputs + q * PANEL) * self.pitch(p)..];
                    let to = &mut panel[(tap * self.lanes + p * PANEL) * pitch..];
                    transpose_block(from, self.pitch(p), to, pitch, width, self.width(p));
                }
            }
        });
    }
}

/// `to[j][i] = from[i][j]` for `rows` by `columns`, in blocks that stay in registers.
fn transpose_block(from: &[f32], from_pitch: usize, to: &mut [f32], to_pitch: usize, rows: usize, columns: usize) {
    const B: usize = 16;
    for i0 in (0..rows).step_by(B) {
        for j0 in (0..columns).step_by(B) {
            let (di, dj) = (B.min(rows - i0), B.min(columns - j0));
            for j in j0..j0 + dj {
                let line = &mut to[j * to_pitch + i0..][..di];
                for (i, value) in line.iter_mut().enumerate() {
                    *value = from[(i0 + i) * from_pitch + j];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_comes_back_and_transposes() {
        for (outputs, inputs, taps) in [(5, 3, 9), (16, 16, 1), (70, 130, 9), (128, 64, 1), (200, 21, 49)] {
            let packing = Packed { rows: inputs * taps, lanes: outputs };
            let oihw: Vec<f32> = (0..outputs * inputs * taps).map(|i| i as f32 + 1.0).collect();
            let mut packed = vec![f32::NAN; packing.len()];
            packing.pack(&oihw, taps, &mut packed);
            let mut back = vec![0.0; oihw.len()];
            packing.unpack(&packed, taps, &mut back);
            assert_eq!(oihw, back);
            let other = packing.transposed(taps);
            let mut turned = vec![f32::NAN; other.len()];
            packing.transpose(&packed, taps, &mut turned);
            assert!(turned.iter().all(|v| v.is_finite()));
            for tap in 0..taps {
                for i in 0..inputs {
                    for o in 0..outputs {
                        assert_eq!(
                            turned[other.at(tap * outputs + o, i)],
                            packed[packing.at(tap * inputs + i, o)],
                            "{outputs} {inputs} {taps}"
                        );
                    }
                }
            }
        }
    }
}
