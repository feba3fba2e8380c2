//! What a DICOM file declares, held against what it has, before anything is read by it.
//!
//! The parser takes memory for a value before it reads it, and calls itself for an item within an item: 20 bytes can
//! ask for 4 GB, and 200 kB of open sequences for all of a thread's stack. This walks over the headers as the parser
//! does (PS3.5, 7.1 to 7.5) and takes no memory by what they say.
//!
//! | bound | why |
//! |---|---|
//! | a value's length | the bytes that are left |
//! | a list of numbers | whole numbers: of others the parser reads a part, and takes the rest for headers |
//! | sequences and items within each other | [`DEEPEST`] |
//! | elements, items and the parts of texts | [`MOST_PARTS`], since each takes many times its bytes in memory |
//!
//! No value is looked into but for the backslashes of text. What else is wrong is the parser's to find: where it
//! would give up, the walk ends.

use std::cmp::Ordering;

use dicom_core::{
    Tag, VR,
    dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr},
};
use dicom_object::StandardDataDictionary;

use super::{PIXEL_DATA, Result, broken, truncated};

/// Open sequences and items at once. Structured reports, the deepest files there are, stay below 20.
const DEEPEST: usize = 64;
/// Elements, items and parts of texts of one file.
const MOST_PARTS: usize = 1 << 20;

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
const UNDEFINED: u32 = u32::MAX;

/// How headers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Encoding {
    explicit: bool,
    big_endian: bool,
}

impl Encoding {
    const META: Encoding = Encoding { explicit: true, big_endian: false };

    fn of(transfer_syntax: &str) -> Self {
        match transfer_syntax {
            "1.2.840.10008.1.2" => Encoding { explicit: false, big_endian: false },
            "1.2.840.10008.1.2.2" => Encoding { explicit: true, big_endian: true },
            _ => Encoding::META,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Header {
    tag: Tag,
    vr: VR,
    length: u32,
}

/// A sequence or an item that has not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    is_item: bool,
    /// It holds encoded pixels, whose items have no elements.
    pixels: bool,
    /// Where it ends, if its length is declared.
    end: Option<usize>,
}

/// Checks the file's meta information, which stands before everything else. `bytes` begin with `DICM`.
///
/// # Errors
/// A value that is longer than the file.
pub(super) fn check_meta(bytes: &[u8]) -> Result<()> {
    Walk::new(bytes, 4, Encoding::META).meta().map(drop)
}

/// Checks the data set behind the meta information.
///
/// # Errors
/// A value that is longer than the file, more than [`DEEPEST`] sequences and items within each other, more than
/// [`MOST_PARTS`] elements.
pub(super) fn check_data_set(bytes: &[u8], transfer_syntax: &str) -> Result<()> {
    match Walk::new(bytes, 4, Encoding::META).meta()? {
        Some(start) => Walk::new(bytes, start, Encoding::of(transfer_syntax)).data_set(),
        None => Ok(()),
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    encoding: Encoding,
    open: Vec<Open>,
    /// At the level of a sequence, where items follow; else elements do.
    in_sequence: bool,
    /// What is open may end here: the parser does not look after every header.
    may_end: bool,
    parts: usize,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], at: usize, encoding: Encoding) -> Self {
        Walk { bytes, at, encoding, open: Vec::new(), in_sequence: false, may_end: false, parts: 0 }
    }

    /// Where the data set starts; nothing if the meta information is not such.
    fn meta(&mut self) -> Result<Option<usize>> {
        let Some(Header { tag: Tag(2, 0), length: 4, .. }) = self.element() else { return Ok(None) };
        let Some(group) = self.u32() else { return Ok(None) };
        let start = self.at;
        while self.at - start < group as usize {
            let Some(header) = self.element() else { return Ok(None) };
            self.value(header)?;
        }
        Ok(Some(self.at))
    }

    fn data_set(&mut self) -> Result<()> {
        while self.close_what_ended() && self.step()? {}
        Ok(())
    }

    /// What has a declared length ends where that says; false where it should have ended before.
    fn close_what_ended(&mut self) -> bool {
        while let Some(&Open { is_item, end: Some(end), .. }) = self.open.last()
            && self.may_end
        {
            match end.cmp(&self.at) {
                Ordering::Less => return false,
                Ordering::Equal => {
                    self.in_sequence = is_item;
                    self.open.pop();
                }
                Ordering::Greater => break,
            }
        }
        self.may_end = false;
        true
    }

    /// Passes one header, with the value that it has; false at the end, and where the parser gives up.
    fn step(&mut self) -> Result<bool> {
        let last = self.open.last().copied();
        if self.in_sequence {
            let Some(header) = self.item() else { return Ok(false) };
            match (header.tag, last) {
                (ITEM, Some(sequence)) => self.enter(true, sequence.pixels, header.length)?,
                (ITEM_END, _) if header.length == 0 => self.leave(true),
                (SEQUENCE_END, _) => self.leave(false),
                _ => return Ok(false),
            }
            return Ok(true);
        }
        if let Some(Open { is_item: true, pixels: true, end }) = last {
            // A fragment: `enter` has found its end within the file.
            self.may_end = true;
            return Ok(end.map(|end| self.at = end).is_some());
        }
        let Some(header) = self.element() else { return Ok(false) };
        let undefined = header.length == UNDEFINED;
        if header.vr == VR::SQ || undefined {
            self.refuse_number(header.tag)?;
        }
        if header.vr == VR::SQ {
            self.enter(false, false, header.length)?;
        } else if header.tag == ITEM_END {
            if last.is_some() {
                self.leave(true);
            }
        } else if header.tag == PIXEL_DATA && undefined {
            self.enter(false, true, header.length)?;
            let Some(first) = self.item() else { return Ok(false) };
            match first.tag {
                // The table of offsets, of four bytes each.
                ITEM => {
                    whole(first.length, 4)?;
                    self.enter(true, true, first.length)?;
                }
                SEQUENCE_END => {
                    self.open.pop();
                    self.in_sequence = false;
                }
                _ => return Ok(false),
            }
        } else if undefined {
            self.enter(false, false, header.length)?;
        } else {
            self.value(header)?;
        }
        Ok(true)
    }

    fn leave(&mut self, is_item: bool) {
        self.open.pop();
        self.in_sequence = is_item;
        self.may_end = true;
    }

    /// The parser reads some numbers as such whatever the file calls them, once pixels are signed. None is a sequence.
    fn refuse_number(&self, tag: Tag) -> Result<()> {
        match is_number(tag) {
            true => Err(broken(format!("{tag} is a number, and declared as a sequence"))),
            false => Ok(()),
        }
    }

    fn enter(&mut self, is_item: bool, pixels: bool, length: u32) -> Result<()> {
        let end = match length {
            UNDEFINED => None,
            _ => Some(self.end_of(length)?),
        };
        if self.open.len() == DEEPEST {
            return Err(broken(format!("more than {DEEPEST} sequences and items within each other")));
        }
        self.open.push(Open { is_item, pixels, end });
        self.in_sequence = !is_item;
        self.may_end = length == 0;
        Ok(())
    }

    fn value(&mut self, header: Header) -> Result<()> {
        whole(header.length, if is_number(header.tag) { 2 } else { 1 }.max(size(header.vr)))?;
        let end = self.end_of(header.length)?;
        if header.tag != PIXEL_DATA {
            self.count(self.bytes[self.at..end].iter().filter(|&&b| b == b'\\').count())?;
        }
        self.at = end;
        self.may_end = true;
        Ok(())
    }

    /// Where so many bytes end.
    fn end_of(&mut self, length: u32) -> Result<usize> {
        self.count(1)?;
        let end = self.at.checked_add(length as usize).filter(|&end| end <= self.bytes.len());
        end.ok_or_else(truncated)
    }

    fn count(&mut self, parts: usize) -> Result<()> {
        self.parts += parts;
        match self.parts > MOST_PARTS {
            true => Err(broken(format!("more than {MOST_PARTS} elements"))),
            false => Ok(()),
        }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(if self.encoding.big_endian { u16::from_be_bytes } else { u16::from_le_bytes })
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(if self.encoding.big_endian { u32::from_be_bytes } else { u32::from_le_bytes })
    }

    fn tag(&mut self) -> Option<Tag> {
        Some(Tag(self.u16()?, self.u16()?))
    }

    /// The header of an item or of a delimiter, which has no VR in any encoding.
    fn item(&mut self) -> Option<Header> {
        Some(Header { tag: self.tag()?, vr: VR::UN, length: self.u32()? })
    }

    fn element(&mut self) -> Option<Header> {
        use VR::*;
        let tag = self.tag()?;
        if !self.encoding.explicit {
            let length = self.u32()?;
            // Pixels and overlays are words, whatever the dictionary says.
            let words = tag == PIXEL_DATA || (tag.0 >> 8 == 0x60 && tag.1 == 0x3000);
            let known = || StandardDataDictionary.by_tag(tag).map_or(UN, |entry| entry.vr().relaxed());
            return Some(Header { tag, vr: if words { OW } else { known() }, length });
        }
        if tag.0 == ITEM.0 {
            return Some(Header { tag, vr: UN, length: self.u32()? });
        }
        let vr = VR::from_binary(self.take()?).unwrap_or(UN);
        let length = match vr {
            AE | AS | AT | CS | DA | DS | DT | FL | FD | IS | LO | LT | PN | SH | SL | SS | ST | TM | UI | UL | US => {
                u32::from(self.u16()?)
            }
            _ => {
                self.take::<2>()?;
                self.u32()?
            }
        };
        Some(Header { tag, vr, length })
    }
}

/// Whether the dictionary says signed or unsigned words of 16 bits, as the pixels are.
fn is_number(tag: Tag) -> bool {
    StandardDataDictionary.by_tag(tag).map(|entry| entry.vr()) == Some(VirtualVr::Xs)
}

/// Bytes of one value of a list.
fn size(vr: VR) -> u32 {
    use VR::*;
    match vr {
        US | SS | OW => 2,
        AT | UL | SL | OL | FL | OF => 4,
        FD | OD | SV | UV | OV => 8,
        _ => 1,
    }
}

fn whole(length: u32, size: u32) -> Result<()> {
    match length.is_multiple_of(size) {
        true => Ok(()),
        false => Err(broken(format!("{length} bytes are no list of numbers of {size} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::{
        decode::{DecodeError, DecodeRule, decode},
        dicom::fixture::{EXPLICIT, Elements, IMPLICIT, file, file_with, grey},
    };

    fn fail(bytes: &[u8]) -> DecodeError {
        decode(bytes, &DecodeRule { channels: 1, ..DecodeRule::default() }).unwrap_err()
    }

    /// One element of `vr` that declares `length` and has 8 bytes.
    fn declares(vr: &[u8; 2], length: u32) -> Elements {
        let mut head = vec![0x09, 0, 0x10, 0x10];
        head.extend(vr);
        head.extend([0, 0]);
        head.extend(length.to_le_bytes());
        Elements([head, vec![7; 8]].concat())
    }

    const ITEM_OPEN: [u8; 8] = [0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF];
    const ITEM_CLOSE: [u8; 8] = [0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0];
    const SEQUENCE_CLOSE: [u8; 8] = [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];

    /// A sequence of undefined length, in an explicit data set.
    const SEQUENCE_OPEN: [u8; 12] = [0x40, 0, 0x30, 0xA7, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];

    #[test]
    fn a_length_beyond_the_file_is_refused_before_anything_is_allocated() {
        for vr in [b"OB", b"OW", b"OF", b"OD", b"UN", b"UT", b"UC", b"ZZ"] {
            for length in [8, 1 << 20, 2 << 30, u32::MAX - 7] {
                let bytes = file(EXPLICIT, Elements([declares(vr, length).0, grey(2, 3).0].concat()));
                assert_eq!(check_data_set(&bytes[128..], EXPLICIT).is_err(), length > 1 << 10, "{vr:?} {length}");
                if length > 1 << 10 {
                    assert_eq!(fail(&bytes), truncated(), "{vr:?} {length}");
                }
            }
        }
    }

    #[test]
    fn the_meta_information_is_held_against_the_file_too() {
        // Its identifiers have two bytes of length, unless the file declares them as another kind of value.
        for tag in [2u8, 3, 0x10, 0x12] {
            let meta = Elements([vec![2, 0, tag, 0, b'O', b'B', 0, 0, 0, 0, 0, 0x80], vec![b'1'; 16]].concat());
            let bytes = file_with(meta, Elements::default());
            assert_eq!(check_meta(&bytes[128..]), Err(truncated()));
            assert_eq!(fail(&bytes), truncated());
        }
    }

    #[test]
    fn sequences_nest_so_far_and_no_further() {
        let nested = |deep: usize| {
            let open = [&SEQUENCE_OPEN[..], &ITEM_OPEN].concat().repeat(deep);
            let close = [ITEM_CLOSE, SEQUENCE_CLOSE].concat().repeat(deep);
            file(EXPLICIT, Elements([open, close, grey(2, 3).0].concat()))
        };
        for deep in [1, DEEPEST / 2] {
            let image = decode(&nested(deep), &DecodeRule::default()).unwrap();
            assert_eq!((image.size.height, image.size.width), (2, 3), "{deep}");
        }
        for deep in [DEEPEST / 2 + 1, 10_000, 500_000] {
            let e = fail(&nested(deep)).to_string();
            assert_eq!(e, "broken DICOM image: more than 64 sequences and items within each other", "{deep}");
        }
    }

    #[test]
    fn what_is_never_closed_is_refused_and_not_followed() {
        for deep in [1, 3, DEEPEST, 100_000] {
            let open = [&SEQUENCE_OPEN[..], &ITEM_OPEN].concat().repeat(deep);
            assert!(matches!(fail(&file(EXPLICIT, Elements(open))), DecodeError::Broken { .. }), "{deep}");
        }
        // The image's own elements within an item that stays open are not the file's.
        let inside = Elements([&SEQUENCE_OPEN[..], &ITEM_OPEN, &grey(2, 3).0].concat());
        assert!(matches!(fail(&file(EXPLICIT, inside)), DecodeError::Broken { .. }));
        // Elements of any name open a sequence where their length is undefined.
        let unnamed = [&declares(b"UN", UNDEFINED).0[..12], &ITEM_OPEN].concat().repeat(100_000);
        assert!(fail(&file(EXPLICIT, Elements(unnamed))).to_string().contains("within each other"));
    }

    #[test]
    fn sequences_are_found_by_the_dictionary_where_the_file_does_not_name_them() {
        let open = [&[0x40, 0, 0x30, 0xA7, 0xFF, 0xFF, 0xFF, 0xFF][..], &ITEM_OPEN].concat();
        let implicit = |deep: usize| file(IMPLICIT, Elements(open.repeat(deep)));
        assert!(fail(&implicit(40)).to_string().contains("within each other"));
        // A declared length: the content sequence holds an item, which holds a value of 4 GB.
        let long = [&[0x40, 0, 0x30, 0xA7, 24, 0, 0, 0], &ITEM_OPEN[..4], &[16, 0, 0, 0]].concat();
        let value = [9, 0, 0x10, 0x10, 0xFE, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(fail(&file(IMPLICIT, Elements([long, value.to_vec()].concat()))), truncated());
    }

    #[test]
    fn fragments_are_held_against_the_file() {
        let mut head = grey(2, 3).0;
        head.truncate(head.len() - 12 - 6);
        head.extend([0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        // An offset table of no entries, then a fragment of 2 GB.
        head.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
        head.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0x80, 0xFF, 0xD8]);
        assert_eq!(fail(&file("1.2.840.10008.1.2.4.50", Elements(head))), truncated());
    }

    #[test]
    fn parts_of_numbers_are_refused() {
        // The parser would read no number of two bytes as one of four, and take them for the next header.
        for (vr, length) in [(b"UL", 2), (b"US", 3), (b"FD", 12), (b"AT", 6)] {
            let element = Elements::default().put(9, 0x1010, vr, &vec![1; length]);
            let mut bytes = file(EXPLICIT, Elements([element.0, grey(2, 3).0].concat()));
            if length == 3 {
                // `put` makes lengths even.
                let at = bytes.windows(4).position(|w| w == [b'U', b'S', 4, 0]).unwrap();
                bytes[at + 2] = 3;
            }
            assert!(fail(&bytes).to_string().contains("are no list of numbers"), "{vr:?} {}", fail(&bytes));
        }
    }

    #[test]
    fn a_number_is_no_sequence_and_elements_are_counted() {
        // Pixel padding value (0028,0120), which the parser reads as a number once pixels are signed.
        let number = Elements([&[0x28, 0, 0x20, 1][..], b"SQ", &[0; 2], &8u32.to_le_bytes(), &ITEM_OPEN].concat());
        assert!(fail(&file(EXPLICIT, number)).to_string().contains("is a number"));
        let empty = [9, 0, 0x11, 0x10, b'L', b'O', 0, 0].repeat(MOST_PARTS + 1);
        assert!(fail(&file(EXPLICIT, Elements(empty))).to_string().contains("more than 1048576 elements"));
        let text = Elements([&declares(b"UC", MOST_PARTS as u32 + 2).0[..12], &vec![b'\\'; MOST_PARTS + 2]].concat());
        assert!(fail(&file(EXPLICIT, text)).to_string().contains("more than 1048576 elements"));
    }
}
