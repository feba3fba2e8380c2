//! Numbers from MATLAB's `.mat` files of version 5 (5.0 MAT-file format, 1996 to 2024), compressed or not.
//!
//! Only real, dense numeric arrays are read; structures, cells, texts and the HDF5 files of version 7.3 are passed
//! over or refused by name.
//!
//! | part | bytes |
//! |---|---|
//! | header | 116 text, 8 subsystem, 2 version, 2 `IM` (little-endian) |
//! | element | 4 type, 4 size, data padded to 8; small: 2 type, 2 size, 4 data |
//! | matrix (14) | flags (class), dimensions, name, values, each an element |
//! | compressed (15) | zlib of one element |

use std::{collections::BTreeMap, io::Read, path::Path};

use crate::error::{Error, Result};

/// A column-major numeric array.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrix {
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<f64>,
}

/// Far above any list of labels; what unpacks to more is a bomb.
const MOST_BYTES: u64 = 256 << 20;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// All numeric arrays of a file by name.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Matrix>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    parse(&bytes).map_err(|message| {
        let e = Error::data(path, None, format!("cannot be read as a .mat file: {message}"));
        if message.contains("7.3") { e.with_hint("save it in MATLAB with -v7") } else { e }
    })
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Matrix>, String> {
    if bytes.starts_with(b"MATLAB 7.3") || bytes.starts_with(b"\x89HDF") {
        return Err("it is of version 7.3, which is HDF5".into());
    }
    match bytes.get(124..128) {
        Some([_, 1, b'I', b'M']) => {}
        Some([1, _, b'M', b'I']) => return Err("it is big-endian".into()),
        _ => return Err("it has no header of version 5".into()),
    }
    let mut rest = &bytes[128..];
    let mut found = BTreeMap::new();
    while rest.len() >= 8 {
        let (kind, data) = element(&mut rest)?;
        let unpacked;
        let (kind, data) = match kind {
            COMPRESSED => {
                let mut out = Vec::new();
                let mut reader = flate2::read::ZlibDecoder::new(data).take(MOST_BYTES + 1);
                reader.read_to_end(&mut out).map_err(|e| format!("an array cannot be unpacked: {e}"))?;
                if out.len() as u64 > MOST_BYTES {
                    return Err("an array unpacks to more than 256 MiB".into());
                }
                unpacked = out;
                element(&mut unpacked.as_slice())?
            }
            other => (other, data),
        };
        if kind == MATRIX
            && let Some((name, matrix)) = matrix(data)?
        {
            found.insert(name, matrix);
        }
    }
    Ok(found)
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// Takes one element off the front: its type and its data.
fn element<'a>(rest: &mut &'a [u8]) -> Result<(u32, &'a [u8]), String> {
    let cut = || "it ends early".to_string();
    let whole = *rest;
    if whole.len() < 8 {
        return Err(cut());
    }
    let first = u32_at(whole, 0);
    if first >> 16 != 0 {
        let (kind, size) = (first & 0xFFFF, (first >> 16) as usize);
        *rest = &whole[8..];
        return Ok((kind, whole[4..8].get(..size).ok_or("a small element of more than 4 bytes")?));
    }
    let size = u32_at(whole, 4) as usize;
    let data = whole.get(8..8 + size).ok_or_else(cut)?;
    // Compressed elements are not padded.
    let padded = if first == COMPRESSED { size } else { size.next_multiple_of(8) };
    *rest = whole.get(8 + padded..).unwrap_or(&[]);
    Ok((first, data))
}

/// A numeric array with its name; `None` for other classes.
fn matrix(mut data: &[u8]) -> Result<Option<(String, Matrix)>, String> {
    let (_, flags) = element(&mut data)?;
    let flags = flags.get(..4).map(|f| u32_at(f, 0)).ok_or("an array without flags")?;
    // Classes 6 (double) to 15 (uint64) are numeric; bit 11 says complex.
    if !(6..=15).contains(&(flags & 0xFF)) || flags & 0x0800 != 0 {
        return Ok(None);
    }
    let (_, dims) = element(&mut data)?;
    let dims: Vec<usize> = dims.chunks_exact(4).map(|d| u32_at(d, 0) as usize).collect();
    let (_, name) = element(&mut data)?;
    let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_string();
    let (kind, values) = element(&mut data)?;
    let values = numbers(kind, values).ok_or_else(|| format!("{name} has values of type {kind}"))?;
    let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if count != Some(values.len()) {
        return Err(format!("{name} has {} values, its shape is {dims:?}", values.len()));
    }
    Ok(Some((name, Matrix { dims, values })))
}

fn numbers(kind: u32, b: &[u8]) -> Option<Vec<f64>> {
    fn of<const N: usize>(b: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        b.chunks_exact(N).map(|c| f(c.try_into().unwrap_or([0; N]))).collect()
    }
    Some(match kind {
        1 => of(b, |c| f64::from(i8::from_le_bytes(c))),
        2 => of(b, |c| f64::from(u8::from_le_bytes(c))),
        3 => of(b, |c| f64::from(i16::from_le_bytes(c))),
        4 => of(b, |c| f64::from(u16::from_le_bytes(c))),
        5 => of(b, |c| f64::from(i32::from_le_bytes(c))),
        6 => of(b, |c| f64::from(u32::from_le_bytes(c))),
        7 => of(b, |c| f64::from(f32::from_le_bytes(c))),
        9 => of(b, f64::from_le_bytes),
        12 => of(b, |c| i64::from_le_bytes(c) as f64),
        13 => of(b, |c| u64::from_le_bytes(c) as f64),
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// A 1 × n array of uint8 or uint16 as MATLAB writes it, packed where asked.
    pub(crate) fn array(name: &str, values: &[u16], wide: bool, packed: bool) -> Vec<u8> {
        let part = |kind: u32, data: &[u8]| {
            let mut out = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
            out.extend(data);
            out.resize(out.len().next_multiple_of(8), 0);
            out
        };
        let class: u32 = if wide { 11 } else { 9 };
        let flags = [class.to_le_bytes(), [0; 4]].concat();
        let dims = [1u32.to_le_bytes(), (values.len() as u32).to_le_bytes()].concat();
        let data: Vec<u8> = match wide {
            true => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            false => values.iter().map(|&v| v as u8).collect(),
        };
        let inside = [part(6, &flags), part(5, &dims), part(1, name.as_bytes()), part(if wide { 4 } else { 2 }, &data)];
        let whole = part(MATRIX, &inside.concat());
        if !packed {
            return whole;
        }
        let mut z = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        z.write_all(&whole).unwrap();
        let z = z.finish().unwrap();
        [COMPRESSED.to_le_bytes(), (z.len() as u32).to_le_bytes()].concat().into_iter().chain(z).collect()
    }

    pub(crate) fn file(arrays: &[Vec<u8>]) -> Vec<u8> {
        let mut out = b"MATLAB 5.0 MAT-file".to_vec();
        out.resize(124, b' ');
        out.extend([0, 1, b'I', b'M']);
        out.extend(arrays.concat());
        out
    }

    #[test]
    fn plain_and_packed_arrays_and_short_names() {
        let bytes = file(&[array("labels", &[77, 5, 255], false, true), array("tstid", &[1, 8189], true, false)]);
        let found = parse(&bytes).unwrap();
        assert_eq!(found["labels"], Matrix { dims: vec![1, 3], values: vec![77.0, 5.0, 255.0] });
        assert_eq!(found["tstid"].values, [1.0, 8189.0]);
    }

    #[test]
    fn damage_and_other_versions_are_named() {
        let bytes = file(&[array("labels", &[1; 40], false, false)]);
        assert_eq!(parse(&bytes[..bytes.len() - 16]).unwrap_err(), "it ends early");
        assert!(parse(b"MATLAB 7.3 MAT-file").unwrap_err().contains("7.3"));
        assert!(parse(b"hello").unwrap_err().contains("header"));
        let mut packed = file(&[array("labels", &[1; 40], false, true)]);
        let end = packed.len();
        packed[end - 8..].fill(0);
        assert!(parse(&packed).is_err());
        let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        for _ in 0..260 {
            bomb.write_all(&vec![0; 1 << 20]).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        let head = [COMPRESSED.to_le_bytes(), (bomb.len() as u32).to_le_bytes()].concat();
        assert!(parse(&file(&[head, bomb])).unwrap_err().contains("256 MiB"));
    }
}
