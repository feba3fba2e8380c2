//! Records of a delimited text stream, field by field.
//!
//! The rules are the csv crate's (RFC 4180 and what is found in the wild): a field that begins with a quote goes on to
//! the next single one, a doubled quote in it is one, and what follows it up to the delimiter belongs to it; elsewhere
//! a quote is a quote. A record ends with `\n`, `\r\n` or `\r`; blank lines are none; a byte order mark is left out.
//! Whether records are UTF-8 and have as many fields as the header is for [`super::table`] to judge.

use std::io::{Error, Read, Result};

use super::marks::Marks;

/// Far more than any row of a table of images has. Ends a gzip bomb, or a quote that is never closed.
const ROW_BYTES: usize = 64 << 20;
/// What is read at once, and held as long as no record is longer.
const BUFFER: usize = 1 << 18;
const QUOTE: u8 = b'"';

pub(super) struct Records<R> {
    inner: R,
    delimiter: u8,
    marks: Marks,
    buffer: Vec<u8>,
    /// Where the present record begins in the buffer, where the next one does, and where what was read ends.
    start: usize,
    next: usize,
    end: usize,
    /// Lines on which the present record begins and the next one will.
    line: u64,
    next_line: u64,
    fields: Vec<Field>,
    /// Fields that are not in the buffer as they are meant.
    rewritten: String,
    /// Nothing more is to come: the end, or after what is in the buffer this error.
    over: bool,
    failed: Option<Error>,
}

#[derive(Clone, Copy)]
struct Field {
    /// From the record's beginning, or the beginning of the rewritten fields.
    from: u32,
    to: u32,
    rewritten: bool,
}

/// A record that is text.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    text: &'a str,
    rewritten: &'a str,
    fields: &'a [Field],
}

impl<'a> Record<'a> {
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn get(&self, i: usize) -> Option<&'a str> {
        let field = self.fields.get(i)?;
        let text = if field.rewritten { self.rewritten } else { self.text };
        text.get(field.from as usize..field.to as usize)
    }
}

/// A field on its way: where its text is in the buffer, and whether that needs rewriting.
struct Found {
    from: usize,
    to: usize,
    plain: bool,
    /// Where the delimiter, the newline or the end stands after it.
    at: usize,
}

impl<R: Read> Records<R> {
    pub(super) fn new(inner: R, delimiter: u8) -> Self {
        Records {
            inner,
            delimiter,
            marks: Marks::new(delimiter, QUOTE),
            buffer: Vec::new(),
            start: 0,
            next: 0,
            end: 0,
            line: 1,
            next_line: 1,
            fields: Vec::new(),
            rewritten: String::new(),
            over: false,
            failed: None,
        }
    }

    /// The line on which the present record begins, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// How many fields the present record has.
    pub(super) fn fields(&self) -> usize {
        self.fields.len()
    }

    /// Goes to the next record; `false` at the end.
    ///
    /// # Errors
    /// What the stream's reader says, or a record of more than 64 MiB. [`Records::line`] is then the line from which
    /// it cannot be read on.
    pub(super) fn advance(&mut self) -> Result<bool> {
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER, 0);
            self.fill()?;
            if self.buffer[..self.end].starts_with(b"\xef\xbb\xbf") {
                self.next = 3;
            }
        }
        self.start = self.next;
        self.line = self.next_line;
        let mut blank = 0;
        loop {
            while let Some(newline @ (b'\n' | b'\r')) = self.buffer[..self.end].get(self.start) {
                // Of \r\n only the second counts, which may not have been read yet.
                let next = self.buffer[..self.end].get(self.start + 1);
                if *newline == b'\r' && next.is_none() && !self.over {
                    break;
                }
                self.line += u64::from(*newline == b'\n' || next != Some(&b'\n'));
                self.start += 1;
                blank += 1;
            }
            if self.start < self.end && self.split() {
                return Ok(true);
            }
            if blank + self.end - self.start >= ROW_BYTES {
                return Err(Error::other("one row has more than 64 MiB"));
            }
            if self.over {
                return match self.failed.take() {
                    Some(e) => Err(e),
                    None => Ok(false),
                };
            }
            self.fill()?;
        }
    }

    /// Where the record is UTF-8, its fields.
    pub(super) fn text(&self) -> Option<Record<'_>> {
        let text = std::str::from_utf8(&self.buffer[self.start..self.next]).ok()?;
        Some(Record { text, rewritten: &self.rewritten, fields: &self.fields })
    }

    /// Whether the record is UTF-8.
    pub(super) fn is_text(&self) -> bool {
        let bytes = &self.buffer[self.start..self.next];
        bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
    }

    /// The record's fields as bytes, whether or not they are text.
    pub(super) fn lossy(&self) -> Vec<String> {
        let of = |f: &Field| {
            let (from, to) = (f.from as usize, f.to as usize);
            if f.rewritten {
                return self.rewritten[from..to].to_string();
            }
            String::from_utf8_lossy(&self.buffer[self.start + from..self.start + to]).into_owned()
        };
        self.fields.iter().map(of).collect()
    }

    /// Reads until the buffer is full, or nothing more is to come. An error waits until the records before it are told.
    fn fill(&mut self) -> Result<()> {
        self.marks.restart();
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        (self.start, self.next) = (0, 0);
        if self.end == self.buffer.len() {
            self.buffer.resize(2 * self.end, 0);
        }
        while self.end < self.buffer.len() {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.over = true;
                    break;
                }
                Ok(n) => self.end += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    (self.over, self.failed) = (true, Some(e));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Finds the fields of the record at `start`; `false` where it may go on beyond what was read.
    fn split(&mut self) -> bool {
        // What is read is the whole file, if it did not break off.
        let whole = self.over && self.failed.is_none();
        let bytes = &self.buffer[..self.end];
        self.fields.clear();
        self.rewritten.clear();
        let (mut at, mut lines) = (self.start, 0);
        loop {
            let found = if bytes.get(at) == Some(&QUOTE) {
                quoted_field(bytes, at, &mut self.marks, &mut lines)
            } else {
                field(bytes, at, &mut self.marks)
            };
            // At the very end a quote may be doubled by what follows, and \r followed by \n.
            if !whole && (found.at == bytes.len() || (bytes[found.at] == b'\r' && found.at + 1 == bytes.len())) {
                return false;
            }
            let mut place = Field {
                from: (found.from - self.start) as u32,
                to: (found.to - self.start) as u32,
                rewritten: !found.plain,
            };
            if !found.plain {
                place.from = self.rewritten.len() as u32;
                // Where a record is not UTF-8, its fields are not looked at.
                self.rewritten.push_str(&rewritten(&bytes[found.from..found.to]));
                place.to = self.rewritten.len() as u32;
            }
            self.fields.push(place);
            at = found.at;
            match bytes.get(at) {
                Some(&b) if b == self.delimiter => at += 1,
                newline => {
                    let both = newline == Some(&b'\r') && bytes.get(at + 1) == Some(&b'\n');
                    at += usize::from(newline.is_some()) + usize::from(both);
                    self.next = at;
                    self.next_line = self.line + lines + u64::from(newline.is_some());
                    return true;
                }
            }
        }
    }
}

/// A field without quotes.
#[inline]
fn field(bytes: &[u8], from: usize, marks: &mut Marks) -> Found {
    let mut at = marks.from(bytes, from);
    while bytes.get(at) == Some(&QUOTE) {
        at = marks.from(bytes, at + 1);
    }
    Found { from, to: at, plain: true, at }
}

/// Where the next quote stands; the lines that end before it are counted.
fn quote(bytes: &[u8], from: usize, marks: &mut Marks, lines: &mut u64) -> usize {
    let mut at = marks.from(bytes, from);
    while let Some(&byte) = bytes.get(at)
        && byte != QUOTE
    {
        *lines += u64::from(byte == b'\n');
        at = marks.from(bytes, at + 1);
    }
    at
}

/// A field that begins with a quote at `at`.
fn quoted_field(bytes: &[u8], at: usize, marks: &mut Marks, lines: &mut u64) -> Found {
    let from = at + 1;
    let (mut plain, mut close) = (true, quote(bytes, from, marks, lines));
    while bytes.get(close + 1) == Some(&QUOTE) {
        plain = false;
        close = quote(bytes, close + 2, marks, lines);
    }
    let end = (close + 1).min(bytes.len());
    // What follows the quote belongs to the field.
    let rest = field(bytes, end, marks);
    match rest.at == end {
        true => Found { from, to: close, plain, at: end },
        false => Found { from, to: rest.at, plain: false, at: rest.at },
    }
}

/// The text of a field after its first quote: of two quotes one stays, a single one is the end of what is quoted.
fn rewritten(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let quote = rest.iter().position(|&byte| byte == QUOTE).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..quote]);
        match rest.get(quote + 1) {
            Some(&QUOTE) => out.push(QUOTE),
            _ => {
                out.extend_from_slice(rest.get(quote + 1..).unwrap_or_default());
                return String::from_utf8_lossy(&out).into_owned();
            }
        }
        rest = &rest[quote + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives a few bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> Result<usize> {
            let n = self.0.len().min(self.1).min(out.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    type Lines = Vec<Vec<String>>;

    fn ours(bytes: &[u8], at_once: usize) -> (Lines, Vec<u64>) {
        let mut records = Records::new(Trickle(bytes, at_once), b',');
        // Small enough to be outgrown.
        records.buffer = vec![0; 4];
        let (mut rows, mut lines) = (Vec::new(), Vec::new());
        while records.advance().unwrap() {
            match records.text() {
                Some(record) => rows.push((0..record.len()).map(|i| record.get(i).unwrap().into()).collect()),
                None => rows.push(vec!["not UTF-8".into()]),
            }
            assert_eq!(records.text().is_some(), records.is_text());
            lines.push(records.line());
        }
        (rows, lines)
    }

    fn theirs(bytes: &[u8]) -> Lines {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let text = |r: csv::Result<csv::StringRecord>| match r {
            Ok(r) => r.iter().map(String::from).collect(),
            Err(_) => vec!["not UTF-8".to_string()],
        };
        reader.records().map(text).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Made of what decides, so that every state is met.
        #[test]
        fn records_are_the_csv_crates(pieces in prop::collection::vec(
            prop::sample::select(vec![",", "\"", "\"\"", "\n", "\r\n", "\r", "a", "word or two", "ä", "\u{feff}", " "]),
            0..60,
        ), at_once in 1usize..9) {
            let text = pieces.concat();
            // The crate looks for a byte order mark in what it reads first; here it comes in parts.
            let bytes = text.trim_start_matches('\u{feff}').as_bytes();
            prop_assert_eq!(ours(bytes, at_once).0, theirs(bytes), "{:?}", text);
        }
    }

    #[test]
    fn lines_are_counted_through_quotes_and_blanks() {
        let (rows, lines) = ours(b"a,b\r\n\n\"x\ny\",1\r\n2,\"3\r\n\"\n\xff,1\n", 3);
        assert_eq!(lines, [1, 3, 5, 7]);
        assert_eq!(rows[1], ["x\ny", "1"]);
        assert_eq!(rows[3], ["not UTF-8"]);
    }

    #[test]
    fn a_mark_at_the_beginning_is_left_out() {
        let mut records = Records::new(&b"\xef\xbb\xbfa,b\n"[..], b',');
        assert!(records.advance().unwrap());
        assert_eq!(records.lossy(), ["a", "b"]);
        assert!(!records.advance().unwrap());
    }

    #[test]
    fn what_came_before_an_error_is_read() {
        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> Result<usize> {
                Err(Error::other("broken"))
            }
        }
        let mut records = Records::new((&b"a,b\n1,2\n3,"[..]).chain(Breaks), b',');
        assert!(records.advance().unwrap() && records.advance().unwrap());
        assert_eq!(records.text().unwrap().get(1), Some("2"));
        assert_eq!((records.advance().unwrap_err().to_string(), records.line()), ("broken".into(), 3));
    }
}
