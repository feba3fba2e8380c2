//! Headers of NumPy's arrays (`.npy`, versions 1 and 2), as they lie in `.npz` files.
//!
//! Only the header is read here: what an array claims to hold is compared with what there is by whoever reads it, and
//! before memory is taken for it.

use std::io::Read;

/// What a `.npy` header says: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 28, 28), }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// NumPy's type without its byte order: `f4` is float32.
    pub code: String,
    pub shape: Vec<usize>,
}

/// Far above any honest header.
const MOST_BYTES: u32 = 1 << 16;

impl Header {
    /// Reads up to the array's first value.
    ///
    /// # Errors
    /// In words: no `.npy` of these versions, values in Fortran's order or big-endian, or a header that is no header.
    pub fn read(from: &mut impl Read) -> Result<Self, String> {
        let mut magic = [0; 8];
        from.read_exact(&mut magic).map_err(|e| e.to_string())?;
        if &magic[..6] != b"\x93NUMPY" || !matches!(magic[6], 1 | 2) {
            return Err("no .npy array of version 1 or 2".into());
        }
        let mut length = [0; 4];
        from.read_exact(&mut length[..2 * usize::from(magic[6])]).map_err(|e| e.to_string())?;
        let length = u32::from_le_bytes(length);
        if length > MOST_BYTES {
            return Err(format!("a header of {length} bytes"));
        }
        let mut header = vec![0; length as usize];
        from.read_exact(&mut header).map_err(|e| e.to_string())?;
        let header = String::from_utf8_lossy(&header);
        Self::parse(&header).ok_or_else(|| format!("not numbers in C order: {}", header.trim()))
    }

    fn parse(header: &str) -> Option<Self> {
        let field = |name: &str| header.split_once(&format!("'{name}':")).map(|(_, rest)| rest.trim_start());
        let code = field("descr")?.strip_prefix('\'')?.split_once('\'')?.0;
        if code.starts_with('>') || !field("fortran_order")?.starts_with("False") {
            return None;
        }
        let inside = field("shape")?.strip_prefix('(')?.split_once(')')?.0;
        let sides = inside.split(',').map(str::trim).filter(|side| !side.is_empty());
        let shape = sides.map(|side| side.parse().ok()).collect::<Option<Vec<usize>>>()?;
        Some(Header { code: code.trim_start_matches(['<', '|', '=']).into(), shape })
    }

    /// Bytes of all values of `each` bytes; `None` where that is more than can be counted.
    pub fn bytes(&self, each: u64) -> Option<u64> {
        self.shape.iter().try_fold(each, |n, &side| n.checked_mul(side as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: &str) -> Result<Header, String> {
        let length = (header.len() as u16).to_le_bytes();
        Header::read(&mut [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat().as_slice())
    }

    #[test]
    fn headers_are_read_as_numpy_writes_them() {
        let written = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 28), }      \n";
        assert_eq!(read(written), Ok(Header { code: "f4".into(), shape: vec![3, 28] }));
        let one = read("{'descr': '|u1', 'fortran_order': False, 'shape': (7,), }").unwrap();
        assert_eq!((one.code.as_str(), one.bytes(1)), ("u1", Some(7)));
        assert_eq!(read("{'descr': '<f8', 'fortran_order': False, 'shape': (), }").unwrap().bytes(8), Some(8));
    }

    #[test]
    fn what_is_no_such_header_is_told() {
        for (header, part) in [
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (3,), }", "not numbers in C order"),
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (3,), }", "not numbers in C order"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", "not numbers in C order"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }", "not numbers in C order"),
        ] {
            assert!(read(header).unwrap_err().contains(part), "{header}");
        }
        assert!(Header::read(&mut &b"\x93NUMPY\x03\x00"[..]).unwrap_err().contains("version 1 or 2"));
        assert!(Header::read(&mut &b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..]).unwrap_err().contains("4294967295 bytes"));
        let huge = read("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }").unwrap();
        assert_eq!(huge.bytes(4), None);
    }
}
