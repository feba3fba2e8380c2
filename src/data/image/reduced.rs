//! Baseline JPEG at a half, a quarter or an eighth of its size, straight from the frequencies.
//!
//! A block of 8 x 8 pixels is stored as its DCT. Its lowest M x M coefficients, transformed back with M points
//! and scaled by M / 8, are the block at M x M pixels, low-pass filtered. What is thrown away is never transformed
//! or stored, so that only the entropy decoding costs what it costs at full size. Halved chroma is transformed with
//! twice the points instead of being enlarged.
//!
//! Progressive, arithmetic, 12-bit, CMYK and multi-scan files, odd sampling, and whatever is broken are left to the
//! full decoder: `None` says so. Nothing is judged here.

use super::{ImageSize, Pixels};

/// Bits that are looked up at once; longer codes are rare.
const LOOK: u32 = 10;

#[rustfmt::skip]
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// The picture at 1 / `by` (2, 4 or 8) of its sides, rounded up, grey or RGB; `luma` gives the grey picture of a
/// coloured file. Its last row and column may reach beyond the original.
pub fn decode(bytes: &[u8], by: u32, luma: bool) -> Option<Pixels> {
    let points = match by {
        2 | 4 | 8 => 8 / by as usize,
        _ => return None,
    };
    let mut frame = Frame::default();
    let mut at = 2;
    loop {
        let &[0xFF, marker, ..] = bytes.get(at..)? else { return None };
        if marker == 0xFF {
            at += 1;
            continue;
        }
        let length = usize::from(u16::from_be_bytes(*bytes.get(at + 2..)?.first_chunk()?));
        let segment = bytes.get(at + 4..at + 2 + length)?;
        at += 2 + length;
        match marker {
            0xC0 | 0xC1 => frame.size(segment)?,
            0xC4 => frame.huffman(segment)?,
            0xDB => frame.quantisation(segment)?,
            0xDD => frame.restart = usize::from(u16::from_be_bytes(*segment.first_chunk()?)),
            // Adobe: 1 is YCbCr.
            0xEE if segment.starts_with(b"Adobe") && segment.get(11) != Some(&1) => return None,
            0xDA => {
                frame.scan(segment)?;
                return frame.decode(&bytes[at..], points, luma);
            }
            0xE0..=0xEF | 0xFE => {}
            _ => return None,
        }
    }
}

#[derive(Default)]
struct Frame {
    height: usize,
    width: usize,
    components: Vec<Component>,
    quantisation: [Option<[f32; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    /// MCUs between restart markers; 0 for none.
    restart: usize,
}

#[derive(Default)]
struct Component {
    id: u8,
    across: usize,
    down: usize,
    quantisation: usize,
    dc: usize,
    ac: usize,
}

impl Frame {
    fn size(&mut self, s: &[u8]) -> Option<()> {
        let &[8, h1, h0, w1, w0, n, ref rest @ ..] = s else { return None };
        (self.height, self.width) = (u16::from_be_bytes([h1, h0]).into(), u16::from_be_bytes([w1, w0]).into());
        if !self.components.is_empty() || !matches!(n, 1 | 3) || self.height == 0 || self.width == 0 {
            return None;
        }
        for c in rest.get(..3 * usize::from(n))?.chunks_exact(3) {
            let (across, down) = (usize::from(c[1] >> 4), usize::from(c[1] & 15));
            self.components.push(Component { id: c[0], across, down, quantisation: c[2].into(), ..Default::default() });
        }
        match self.components.as_mut_slice() {
            // One component is not interleaved: its sampling means nothing.
            [one] => (one.across, one.down) = (1, 1),
            [luma, chroma @ ..] => {
                let halved = |n: usize| matches!(n, 1 | 2);
                let whole = chroma.iter().all(|c| (c.across, c.down) == (1, 1));
                if !halved(luma.across) || !halved(luma.down) || !whole {
                    return None;
                }
            }
            [] => return None,
        }
        Some(())
    }

    fn quantisation(&mut self, mut s: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = s.split_first() {
            let wide = usize::from(head >> 4);
            let values = rest.get(..64 * (1 + wide))?;
            let mut table = [0.0; 64];
            for (k, value) in values.chunks_exact(1 + wide).enumerate() {
                table[k] = value.iter().fold(0.0, |v, &b| v * 256.0 + f32::from(b));
            }
            *self.quantisation.get_mut(usize::from(head & 15))? = Some(table);
            s = &rest[values.len()..];
        }
        Some(())
    }

    fn huffman(&mut self, mut s: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = s.split_first() {
            let counts: &[u8; 16] = rest.first_chunk()?;
            let total = counts.iter().map(|&c| usize::from(c)).sum::<usize>();
            let symbols = rest.get(16..16 + total)?;
            let tables = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(head & 15))? = Some(Huffman::new(counts, symbols)?);
            s = &rest[16 + total..];
        }
        Some(())
    }

    fn scan(&mut self, s: &[u8]) -> Option<()> {
        let (&n, rest) = s.split_first()?;
        if usize::from(n) != self.components.len() || rest.get(2 * usize::from(n)..)? != [0, 63, 0] {
            return None;
        }
        for (c, entry) in self.components.iter_mut().zip(rest.chunks_exact(2)) {
            if c.id != entry[0] {
                return None;
            }
            (c.dc, c.ac) = (usize::from(entry[1] >> 4), usize::from(entry[1] & 15));
        }
        Some(())
    }

    fn decode(&self, scan: &[u8], points: usize, luma: bool) -> Option<Pixels> {
        let (across, down) = self.components.first().map(|c| (c.across, c.down))?;
        let (columns, rows) = (self.width.div_ceil(8 * across), self.height.div_ceil(8 * down));
        let stride = columns * across * points;
        let wanted = if luma { 1 } else { self.components.len() };
        let mut planes = vec![vec![0u8; stride * rows * down * points]; wanted];
        let mut plans = Vec::with_capacity(self.components.len());
        for (i, c) in self.components.iter().enumerate() {
            // Chroma of one block covers as many pixels as the luma of all.
            let (nx, ny) = if i == 0 { (points, points) } else { (points * across, points * down) };
            let q = self.quantisation.get(c.quantisation)?.as_ref()?;
            let (dc, ac) = (self.dc.get(c.dc)?.as_ref()?, self.ac.get(c.ac)?.as_ref()?);
            plans.push(Plan { dc, ac, inverse: Inverse::new(nx, ny, q) });
        }
        let mut bits = Bits { bytes: scan, at: 0, held: 0, count: 0, padded: 0 };
        let mut last = [0i32; 3];
        let mut block = [0.0f32; 64];
        for mcu in 0..columns * rows {
            if self.restart > 0 && mcu > 0 && mcu % self.restart == 0 {
                bits.restart()?;
                last = [0; 3];
            }
            bits.honest()?;
            let (row, column) = (mcu / columns, mcu % columns);
            for (i, (c, plan)) in self.components.iter().zip(&plans).enumerate() {
                for part in 0..c.across * c.down {
                    let plain = plan.read(&mut bits, &mut last[i], &mut block)?;
                    if i < wanted {
                        let (y, x) = if i == 0 {
                            ((row * down + part / across) * points, (column * across + part % across) * points)
                        } else {
                            (row * plan.inverse.ny, column * plan.inverse.nx)
                        };
                        plan.inverse.write(&block, plain, &mut planes[i][y * stride + x..], stride);
                    }
                }
            }
        }
        bits.honest()?;
        let by = 8 / points;
        let (height, width) = (self.height.div_ceil(by), self.width.div_ceil(by));
        let channels = if wanted == 1 { 1 } else { 3 };
        let size = ImageSize { height: height as u32, width: width as u32, channels };
        let mut data = Vec::with_capacity(size.bytes());
        for y in 0..height {
            let row = |plane: usize| &planes[plane][y * stride..][..width];
            match channels {
                1 => data.extend_from_slice(row(0)),
                _ => row(0).iter().zip(row(1)).zip(row(2)).for_each(|((&y, &b), &r)| data.extend(rgb(y, b, r))),
            }
        }
        Pixels::new(size, data)
    }
}

/// JFIF's YCbCr to RGB, in 16.16 fixed point.
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = ((i32::from(y) << 16) + 0x8000, i32::from(cb) - 128, i32::from(cr) - 128);
    let level = |v: i32| (v >> 16).clamp(0, 255) as u8;
    [level(y + 91_881 * cr), level(y - 22_554 * cb - 46_802 * cr), level(y + 116_130 * cb)]
}

/// What one component's blocks are read with.
struct Plan<'a> {
    dc: &'a Huffman,
    ac: &'a Huffman,
    inverse: Inverse,
}

impl Plan<'_> {
    /// Reads a block's coefficients into its lowest places; whether there is none but the mean.
    fn read(&self, bits: &mut Bits, last: &mut i32, block: &mut [f32; 64]) -> Option<bool> {
        let inverse = &self.inverse;
        let length = u32::from(self.dc.next(bits)?);
        if length > 11 {
            return None;
        }
        *last += bits.value(length);
        let mut plain = true;
        let first = *last as f32 * inverse.quantisation[0];
        let mut k = 1;
        while k < 64 {
            let symbol = self.ac.next(bits)?;
            let (zeros, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if length == 0 {
                if zeros < 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += zeros;
            let value = bits.value(length);
            let place = usize::from(*inverse.places.get(k)?);
            if place < 64 {
                if plain {
                    block.fill(0.0);
                    plain = false;
                }
                block[place] = value as f32 * inverse.quantisation[k];
            }
            k += 1;
        }
        block[0] = first;
        Some(plain)
    }
}

/// Coefficients back to `nx` x `ny` pixels.
struct Inverse {
    nx: usize,
    ny: usize,
    quantisation: [f32; 64],
    /// Where the k-th coefficient in the file's order belongs; 255 where it is not needed.
    places: [u8; 64],
    /// By frequency and pixel, scaled.
    across: [[f32; 8]; 8],
    down: [[f32; 8]; 8],
}

impl Inverse {
    fn new(nx: usize, ny: usize, quantisation: &[f32; 64]) -> Self {
        let basis = |n: usize| -> [[f32; 8]; 8] {
            std::array::from_fn(|u| {
                std::array::from_fn(|x| {
                    let norm = if u == 0 { (1.0 / n as f64).sqrt() } else { (2.0 / n as f64).sqrt() };
                    let angle = std::f64::consts::PI * (2 * x + 1) as f64 * u as f64 / (2 * n) as f64;
                    if u < n && x < n { (norm * angle.cos() * (n as f64 / 8.0).sqrt()) as f32 } else { 0.0 }
                })
            })
        };
        let place =
            |natural: u8| if usize::from(natural % 8) < nx && usize::from(natural / 8) < ny { natural } else { 255 };
        Inverse { nx, ny, quantisation: *quantisation, places: ZIGZAG.map(place), across: basis(nx), down: basis(ny) }
    }

    fn write(&self, block: &[f32; 64], plain: bool, out: &mut [u8], stride: usize) {
        // The cast holds values between 0 and 255.
        let level = |v: f32| (v + 128.5) as u8;
        if plain || self.nx * self.ny == 1 {
            let value = level(block[0] / 8.0);
            for y in 0..self.ny {
                out[y * stride..][..self.nx].fill(value);
            }
            return;
        }
        if (self.nx, self.ny) == (2, 2) {
            let [a, b, c, d] = [block[0], block[1], block[8], block[9]].map(|v| v / 8.0);
            out[..2].copy_from_slice(&[level(a + b + c + d), level(a - b + c - d)]);
            out[stride..][..2].copy_from_slice(&[level(a + b - c - d), level(a - b - c + d)]);
            return;
        }
        let mut rows = [[0.0f32; 8]; 8];
        for (v, row) in rows.iter_mut().enumerate().take(self.ny) {
            for (u, basis) in self.across.iter().enumerate().take(self.nx) {
                let c = block[8 * v + u];
                row.iter_mut().zip(basis).for_each(|(r, b)| *r += c * b);
            }
        }
        for y in 0..self.ny {
            let mut line = [0.0f32; 8];
            for (row, basis) in rows.iter().zip(&self.down).take(self.ny) {
                line.iter_mut().zip(row).for_each(|(l, r)| *l += basis[y] * r);
            }
            out[y * stride..].iter_mut().zip(&line[..self.nx]).for_each(|(o, &l)| *o = level(l));
        }
    }
}

/// Canonical Huffman codes.
struct Huffman {
    /// By the next [`LOOK`] bits: symbol and length; length 0 where the code is longer.
    near: Vec<(u8, u8)>,
    symbols: Vec<u8>,
    /// For each length: one more than its largest code, left-aligned to 16 bits, and what leads to its symbols.
    limits: [(u32, i32); 17],
}

impl Huffman {
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Huffman { near: vec![(0, 0); 1 << LOOK], symbols: symbols.into(), limits: [(0, 0); 17] };
        let (mut code, mut at) = (0u32, 0usize);
        for length in 1..=16u32 {
            table.limits[length as usize].1 = at as i32 - code as i32;
            for _ in 0..counts[length as usize - 1] {
                if code >= 1 << length {
                    return None;
                }
                if length <= LOOK {
                    let from = (code << (LOOK - length)) as usize;
                    table.near[from..from + (1 << (LOOK - length))].fill((symbols[at], length as u8));
                }
                code += 1;
                at += 1;
            }
            table.limits[length as usize].0 = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    #[inline]
    fn next(&self, bits: &mut Bits) -> Option<u8> {
        bits.fill();
        let (symbol, length) = self.near[(bits.held >> (64 - LOOK)) as usize];
        if length > 0 {
            bits.skip(length.into());
            return Some(symbol);
        }
        let code = (bits.held >> 48) as u32;
        let length = (LOOK + 1..=16).find(|&l| code < self.limits[l as usize].0)?;
        let at = (code >> (16 - length)) as i32 + self.limits[length as usize].1;
        bits.skip(length);
        self.symbols.get(usize::try_from(at).ok()?).copied()
    }
}

/// The entropy-coded bits, stuffed zeros taken out.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the top.
    held: u64,
    count: u32,
    /// How many of those held are not from the file.
    padded: u32,
}

impl Bits<'_> {
    /// At least 32 bits: a code and its value.
    #[inline]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(next) = self.bytes.get(self.at..).and_then(|b| b.first_chunk::<4>()) {
            let word = u32::from_be_bytes(*next);
            // No byte is 0xFF: none of the complement is zero.
            let c = !word;
            if c.wrapping_sub(0x0101_0101) & !c & 0x8080_8080 == 0 {
                self.held |= u64::from(word) << (32 - self.count);
                self.count += 32;
                self.at += 4;
                return;
            }
        }
        while self.count <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.at += 2;
                    0xFF
                }
                (Some(0xFF), _) | (None, _) => {
                    self.padded += 8;
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline]
    fn skip(&mut self, n: u32) {
        self.held <<= n;
        self.count -= n;
    }

    /// A value of `length` bits after its code, which [`Bits::fill`] has made room for.
    #[inline]
    fn value(&mut self, length: u32) -> i32 {
        if length == 0 {
            return 0;
        }
        let raw = (self.held >> (64 - length)) as i32;
        self.skip(length);
        if raw < 1 << (length - 1) { raw - (1 << length) + 1 } else { raw }
    }

    /// `None` once bits were used that the file does not have.
    fn honest(&self) -> Option<()> {
        (self.count >= self.padded).then_some(())
    }

    fn restart(&mut self) -> Option<()> {
        self.honest()?;
        let &[0xFF, 0xD0..=0xD7, ..] = self.bytes.get(self.at..)? else { return None };
        (self.held, self.count, self.padded) = (0, 0, 0);
        self.at += 2;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{DecodeRule, GreyRule, decode as full, encode, resize},
        *,
    };

    /// Soft waves with a bright first corner, so that flips and transposition show.
    fn picture(height: u32, width: u32, channels: u32) -> Pixels {
        let size = ImageSize { height, width, channels };
        let data = (0..size.bytes() as u32).map(|i| {
            let (p, k) = (i / channels, i % channels);
            let (y, x) = (p / width, p % width);
            let corner = if y < 24 && x < 24 { 90.0 } else { 0.0 };
            let wave = 60.0 * (x as f64 * 0.07 + k as f64).sin() + 40.0 * (y as f64 * 0.11 - k as f64).cos();
            (110.0 + wave + corner).clamp(0.0, 255.0) as u8
        });
        Pixels { size, data: data.collect() }
    }

    fn mean_difference(a: &Pixels, b: &Pixels) -> f64 {
        assert_eq!(a.size, b.size);
        let sum: u64 = a.data.iter().zip(&b.data).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / a.data.len() as f64
    }

    #[test]
    fn a_reduced_picture_is_the_full_one_resized() {
        for (channels, restart) in [(1, 0u16), (3, 0), (1, 5), (3, 3)] {
            let image = picture(160, 240, channels);
            let mut bytes = Vec::new();
            let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 92);
            if restart > 0 {
                encoder.set_restart_interval(restart);
            }
            let colour = if channels == 1 { jpeg_encoder::ColorType::Luma } else { jpeg_encoder::ColorType::Rgb };
            encoder.encode(&image.data, 240, 160, colour).unwrap();
            let whole = full(&bytes, &DecodeRule { channels, ..Default::default() }).unwrap();
            for by in [2, 4, 8] {
                let reduced = decode(&bytes, by, false).unwrap();
                let expected = resize(&whole, 160 / by, 240 / by).unwrap();
                let apart = mean_difference(&reduced, &expected);
                assert!(apart < 2.0, "{channels} channels at 1/{by}: {apart}");
                // A following resize, as `images` does it, brings both together.
                let small = |p: &Pixels| resize(p, 10, 15).unwrap();
                let apart = mean_difference(&small(&reduced), &small(&whole));
                assert!(apart < 1.5, "{channels} channels at 1/{by}, resized: {apart}");
            }
        }
    }

    #[test]
    fn halved_chroma_and_luma_alone_are_read() {
        use jpeg_encoder::SamplingFactor::*;
        let image = picture(90, 130, 3);
        for sampling in [R_4_2_0, R_4_2_2, F_2_1, F_1_1] {
            let mut bytes = Vec::new();
            let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 92);
            encoder.set_sampling_factor(sampling);
            encoder.encode(&image.data, 130, 90, jpeg_encoder::ColorType::Rgb).unwrap();
            let whole = full(&bytes, &DecodeRule::default()).unwrap();
            for by in [2, 4] {
                let reduced = decode(&bytes, by, false).unwrap();
                assert_eq!((reduced.size.height, reduced.size.width), (90u32.div_ceil(by), 130u32.div_ceil(by)));
                let apart = mean_difference(&resize(&reduced, 9, 13).unwrap(), &resize(&whole, 9, 13).unwrap());
                assert!(apart < 4.0, "{sampling:?} at 1/{by}: {apart}");
                let luma = decode(&bytes, by, true).unwrap();
                assert!(mean_difference(&luma, &reduced.with_channels(1, GreyRule::Luma)) < 1.5);
            }
        }
    }

    #[test]
    fn whatever_is_not_baseline_or_not_whole_is_left_to_the_full_decoder() {
        let image = picture(64, 64, 1);
        let bytes = encode::jpeg(&image, 90).unwrap();
        assert!(decode(&bytes, 4, false).is_some() && decode(&bytes, 3, false).is_none());
        for cut in [3, 20, 100, bytes.len() / 2, bytes.len() - 40] {
            assert!(decode(&bytes[..cut], 4, false).is_none(), "cut at {cut}");
        }
        let mut progressive = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut progressive, 90);
        encoder.set_progressive(true);
        encoder.encode(&image.data, 64, 64, jpeg_encoder::ColorType::Luma).unwrap();
        assert!(decode(&progressive, 4, false).is_none());
        assert!(decode(b"", 2, false).is_none() && decode(&[0xFF, 0xD8, 0xFF], 2, false).is_none());
        // Bytes flipped anywhere give a picture, or nothing: never a panic.
        for i in 2..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut damaged = bytes.clone();
                damaged[i] ^= flip;
                decode(&damaged, 2, false);
            }
        }
    }
}
