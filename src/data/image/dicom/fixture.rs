//! DICOM files for tests, written by hand.

/// Explicit VR Little Endian elements.
#[derive(Clone, Default)]
pub struct Elements(pub Vec<u8>);

impl Elements {
    pub fn put(mut self, group: u16, element: u16, vr: &[u8; 2], value: &[u8]) -> Self {
        for word in [group, element] {
            self.0.extend(word.to_le_bytes());
        }
        self.0.extend(vr);
        let padded = value.len().next_multiple_of(2);
        match vr {
            b"OB" | b"OW" | b"SQ" => {
                self.0.extend([0, 0]);
                self.0.extend((padded as u32).to_le_bytes());
            }
            _ => self.0.extend((padded as u16).to_le_bytes()),
        }
        self.0.extend(value);
        self.0.resize(self.0.len() + padded - value.len(), if vr == b"UI" { 0 } else { b' ' });
        self
    }

    pub fn us(self, element: u16, value: u16) -> Self {
        self.put(0x28, element, b"US", &value.to_le_bytes())
    }
}

pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const IMPLICIT: &str = "1.2.840.10008.1.2";

/// A file of these elements, whichever way the transfer syntax says that they are written.
pub fn file(syntax: &str, elements: Elements) -> Vec<u8> {
    let meta = Elements::default()
        .put(2, 0x0002, b"UI", b"1.2.840.10008.5.1.4.1.1.1.1")
        .put(2, 0x0003, b"UI", b"1.2.3")
        .put(2, 0x0010, b"UI", syntax.as_bytes())
        .put(2, 0x0012, b"UI", b"1.2.3.4");
    file_with(meta, elements)
}

/// A file of this meta information, before which its length is put.
pub fn file_with(meta: Elements, elements: Elements) -> Vec<u8> {
    let length = Elements::default().put(2, 0, b"UL", &(meta.0.len() as u32).to_le_bytes());
    [&[0; 128], &b"DICM"[..], &length.0, &meta.0, &elements.0].concat()
}

/// What says that an image has `samples` of 8 bits a pixel.
pub fn head(rows: u16, columns: u16, samples: u16, photometric: &[u8]) -> Elements {
    let head = Elements::default().us(2, samples).put(0x28, 4, b"CS", photometric).us(0x10, rows).us(0x11, columns);
    head.us(0x100, 8).us(0x101, 8).us(0x102, 7).us(0x103, 0)
}

/// A black image, with its pixels at the end.
pub fn grey(rows: u16, columns: u16) -> Elements {
    let pixels = vec![0; usize::from(rows) * usize::from(columns)];
    head(rows, columns, 1, b"MONOCHROME2").put(0x7FE0, 0x10, b"OB", &pixels)
}
