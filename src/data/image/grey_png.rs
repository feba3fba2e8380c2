//! The plain grey PNG, as X-rays come: 8 bits, not interlaced, nothing transparent.
//!
//! Undoing a filter is a chain from each pixel to the next, and no wider vector shortens it. Here four rows are undone
//! at once, each a pixel behind the one above it, so that four chains run side by side. Whatever is another kind of
//! PNG, and whatever is not whole, is left to the `png` crate, which reads it or says what is wrong.

use std::{borrow::Cow, cell::RefCell};

/// Larger pictures are left to a decoder that holds a few rows.
const MOST_BYTES: usize = 16 << 20;
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

thread_local! {
    /// Filtered rows, kept from one image to the next.
    static FILTERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Width, height and pixels, row by row.
pub(super) fn decode(bytes: &[u8]) -> Option<(u32, u32, Vec<u8>)> {
    let (width, height, packed) = chunks(bytes)?;
    let (wide, rows) = (width as usize, height as usize);
    let size = wide.checked_add(1)?.checked_mul(rows).filter(|&n| n <= MOST_BYTES && wide > 0 && rows > 0)?;
    FILTERED.with_borrow_mut(|filtered| {
        filtered.resize(filtered.len().max(size), 0);
        let mut inflate = fdeflate::Decompressor::new();
        // Each chunk's own check was made.
        inflate.ignore_adler32();
        let (_, made) = inflate.read(&packed, &mut filtered[..size], 0, true).ok()?;
        if made != size || !inflate.is_done() {
            return None;
        }
        let mut out = vec![0; wide * rows];
        undo_all(&filtered[..size], wide, &mut out).then_some((width, height, out))
    })
}

/// Width, height and the packed rows, where all chunks are whole and none asks for more than this file does.
fn chunks(bytes: &[u8]) -> Option<(u32, u32, Cow<'_, [u8]>)> {
    let mut rest = bytes.strip_prefix(SIGNATURE)?;
    let mut size = None;
    let mut packed: Cow<[u8]> = Cow::Borrowed(&[]);
    loop {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let named = rest.get(4..length.checked_add(8)?)?;
        let check = u32::from_be_bytes(*rest.get(length + 8..)?.first_chunk()?);
        let mut crc = flate2::Crc::new();
        crc.update(named);
        if crc.sum() != check {
            return None;
        }
        let (name, data) = named.split_at(4);
        match (name, size) {
            // Height, width, then 8 bits, grey, and no other way of packing, filtering or interlacing.
            (b"IHDR", None) => {
                let &[a, b, c, d, e, f, g, h, 8, 0, 0, 0, 0] = data else { return None };
                size = Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])));
            }
            (b"IDAT", Some(_)) if packed.is_empty() => packed = Cow::Borrowed(data),
            (b"IDAT", Some(_)) => packed.to_mut().extend_from_slice(data),
            (b"IEND", Some((width, height))) => return Some((width, height, packed)),
            (b"tRNS" | b"acTL" | b"PLTE", _) | (_, None) => return None,
            // Text, resolution, time: nothing of the pixels. Capitals mark what must be understood.
            ([first, ..], _) if first.is_ascii_lowercase() => {}
            _ => return None,
        }
        rest = &rest[length + 12..];
    }
}

/// Undoes the filters of all rows, each with its filter's number before it; `false` where that is none.
fn undo_all(filtered: &[u8], wide: usize, out: &mut [u8]) -> bool {
    let rows: Vec<(u8, &[u8])> = filtered.chunks_exact(wide + 1).map(|row| (row[0], &row[1..])).collect();
    let none = vec![0; wide];
    let mut at = 0;
    while at < rows.len() {
        let (before, rest) = out.split_at_mut(at * wide);
        let above: &[u8] = if at == 0 { &none } else { &before[(at - 1) * wide..] };
        let four = rows.get(at..at + 4).filter(|four| four.iter().all(|(filter, _)| *filter == rows[at].0));
        match (rows[at].0, four) {
            (3, Some(four)) => undo_four(four, above, rest, wide, average),
            (4, Some(four)) => undo_four(four, above, rest, wide, paeth),
            (filter, _) => {
                if !undo(filter, rows[at].1, above, &mut rest[..wide]) {
                    return false;
                }
                at += 1;
                continue;
            }
        }
        at += 4;
    }
    true
}

/// One row by the one above it.
fn undo(filter: u8, row: &[u8], above: &[u8], out: &mut [u8]) -> bool {
    match filter {
        0 => out.copy_from_slice(row),
        1 => chain(row, above, out, |left, _, _| left),
        2 => out.iter_mut().zip(row.iter().zip(above)).for_each(|(out, (row, up))| *out = row.wrapping_add(*up)),
        3 => chain(row, above, out, average),
        4 => chain(row, above, out, paeth),
        _ => return false,
    }
    true
}

#[inline(always)]
fn chain(row: &[u8], above: &[u8], out: &mut [u8], predict: impl Fn(u8, u8, u8) -> u8) {
    let (mut left, mut corner) = (0, 0);
    for ((out, &row), &up) in out.iter_mut().zip(row).zip(above) {
        left = row.wrapping_add(predict(left, up, corner));
        corner = up;
        *out = left;
    }
}

/// Four rows of one filter, from the first of `out` on.
#[inline(always)]
fn undo_four(
    rows: &[(u8, &[u8])],
    above: &[u8],
    out: &mut [u8],
    wide: usize,
    predict: impl Fn(u8, u8, u8) -> u8 + Copy,
) {
    let (out0, rest) = out.split_at_mut(wide);
    let (out1, rest) = rest.split_at_mut(wide);
    let (out2, rest) = rest.split_at_mut(wide);
    let (out3, rows) = (&mut rest[..wide], [rows[0].1, rows[1].1, rows[2].1, rows[3].1]);
    // What each row has come to: its last pixel, and the one above that.
    let (mut last, mut corner) = ([0u8; 4], [0u8; 4]);
    // Where not all four rows have a pixel: at both ends.
    let some = |steps: std::ops::Range<usize>, out: [&mut [u8]; 4], last: &mut [u8; 4], corner: &mut [u8; 4]| {
        for x in steps {
            // From the lowest row up, so that each finds above it what was made one step before.
            for k in (0..4).rev().filter(|&k| x >= k && x - k < wide) {
                let up = if k == 0 { above[x] } else { last[k - 1] };
                last[k] = rows[k][x - k].wrapping_add(predict(last[k], up, corner[k]));
                corner[k] = up;
                out[k][x - k] = last[k];
            }
        }
    };
    some(0..3, [out0, out1, out2, out3], &mut last, &mut corner);
    let all = wide.saturating_sub(3);
    if all > 0 {
        let row = |k: usize| &rows[k][3 - k..][..all];
        let (row0, row1, row2, row3, above) = (row(0), row(1), row(2), row(3), &above[3..][..all]);
        let (out0, out1) = (&mut out0[3..][..all], &mut out1[2..][..all]);
        let (out2, out3) = (&mut out2[1..][..all], &mut out3[..all]);
        // By themselves: an array would go through memory at every step.
        let [mut last0, mut last1, mut last2, mut last3] = last;
        let [mut corner0, mut corner1, mut corner2, mut corner3] = corner;
        for x in 0..all {
            last3 = row3[x].wrapping_add(predict(last3, last2, corner3));
            corner3 = last2;
            last2 = row2[x].wrapping_add(predict(last2, last1, corner2));
            corner2 = last1;
            last1 = row1[x].wrapping_add(predict(last1, last0, corner1));
            corner1 = last0;
            last0 = row0[x].wrapping_add(predict(last0, above[x], corner0));
            corner0 = above[x];
            (out3[x], out2[x], out1[x], out0[x]) = (last3, last2, last1, last0);
        }
        (last, corner) = ([last0, last1, last2, last3], [corner0, corner1, corner2, corner3]);
    }
    some(wide.max(3)..wide + 3, [out0, out1, out2, out3], &mut last, &mut corner);
}

#[inline(always)]
fn average(left: u8, up: u8, _: u8) -> u8 {
    ((u16::from(left) + u16::from(up)) >> 1) as u8
}

/// Whichever neighbour is nearest to left + up - corner.
#[inline(always)]
fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let (a, b, c) = (i16::from(left), i16::from(up), i16::from(corner));
    let (from_left, from_up) = ((b - c).abs(), (a - c).abs());
    let from_corner = (a + b - 2 * c).abs();
    let other = if from_up <= from_corner { up } else { corner };
    if from_left <= from_up && from_left <= from_corner { left } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(width: u32, height: u32, data: &[u8], filter: png::Filter) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_filter(filter);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        bytes
    }

    fn picture(width: u32, height: u32) -> Vec<u8> {
        let of = |i: u32| {
            let (x, y) = (i % width, i / width);
            (x * x / 3 + y * 5 + x * y % 17 + i.wrapping_mul(0x9E37_79B9) / 0x1000_0000) as u8
        };
        (0..width * height).map(of).collect()
    }

    #[test]
    fn every_filter_and_size_gives_the_pixels_back() {
        use png::Filter::*;
        for (width, height) in [(1, 1), (1, 9), (2, 5), (3, 4), (4, 8), (5, 13), (64, 64), (301, 47)] {
            let data = picture(width, height);
            for filter in [NoFilter, Sub, Up, Avg, Paeth, Adaptive] {
                let bytes = encoded(width, height, &data, filter);
                assert_eq!(decode(&bytes), Some((width, height, data.clone())), "{width} x {height}, {filter:?}");
            }
        }
    }

    #[test]
    fn several_chunks_are_one_stream() {
        let data = picture(80, 60);
        let bytes = encoded(80, 60, &data, png::Filter::Paeth);
        let at = bytes.windows(4).position(|w| w == b"IDAT").unwrap();
        let length = u32::from_be_bytes(bytes[at - 4..at].try_into().unwrap()) as usize;
        let mut parts = bytes[..at - 4].to_vec();
        for part in bytes[at + 4..at + 4 + length].chunks(100) {
            let mut crc = flate2::Crc::new();
            crc.update(b"IDAT");
            crc.update(part);
            parts.extend((part.len() as u32).to_be_bytes());
            parts.extend(b"IDAT");
            parts.extend(part);
            parts.extend(crc.sum().to_be_bytes());
        }
        parts.extend(&bytes[at + 8 + length..]);
        assert_eq!(decode(&parts), Some((80, 60, data)));
    }

    #[test]
    fn whatever_is_damaged_or_of_another_kind_is_left_alone() {
        let bytes = encoded(40, 30, &picture(40, 30), png::Filter::Avg);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
        }
        for at in 8..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(decode(&damaged), None, "byte {at}");
        }
        let mut rgb = Vec::new();
        let mut encoder = png::Encoder::new(&mut rgb, 4, 4);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(&[7; 48]).unwrap();
        assert_eq!(decode(&rgb), None);
    }
}
