//! A table in a delimited text file, plain or gzip: its header by name, its rows with their lines.
//!
//! Quoted fields may hold newlines. A row with more or fewer fields than the header, or that is not
//! UTF-8, is odd: counted with its line or an error, never guessed at. Values stay text here.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use super::{
    ahead::Ahead,
    records::{Record, Records},
    skipped::{OddRows, Skipped},
};
use crate::error::{Error, Result, nearest};

/// What pandas reads as missing, so that a blank means the same here as in the published readers.
const BLANKS: [&str; 18] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "nan", "null",
];

/// The text, or `None` where it is one of the ways to write nothing.
pub(super) fn filled(text: &str) -> Option<&str> {
    let text = trimmed(text);
    // Few values begin as a blank does.
    let blank = match text.as_bytes() {
        [] => true,
        [b'#' | b'-' | b'1' | b'<' | b'N' | b'n', ..] if text.len() <= 8 => BLANKS.contains(&text) || text == "n/a",
        _ => false,
    };
    (!blank).then_some(text)
}

/// The text without the spaces around it, of which there seldom are any.
fn trimmed(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => text.trim(),
    }
}

pub(super) struct Table {
    pub(super) file: PathBuf,
    records: Records<Box<dyn Read>>,
    header: Vec<String>,
    odd_rows: OddRows,
}

/// One row; fields are UTF-8.
pub(super) struct Row<'a> {
    record: Record<'a>,
    /// The line on which it starts, from 1.
    pub(super) line: u64,
}

impl Row<'_> {
    /// The field as written, without the spaces around it.
    pub(super) fn raw(&self, column: usize) -> &str {
        trimmed(self.record.get(column).unwrap_or(""))
    }

    /// All fields as written.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        (0..self.record.len()).map(|i| self.raw(i))
    }

    /// The field, or `None` where it is blank.
    pub(super) fn text(&self, column: usize) -> Option<&str> {
        filled(self.raw(column))
    }

    /// An owned field, or `None` where it is blank.
    pub(super) fn owned(&self, column: usize) -> Option<String> {
        self.text(column).map(str::to_string)
    }
}

/// The first of `names` that exists in `root`, as it is or with `.gz`.
pub(super) fn find(root: &Path, names: &[&str], obtain: &str) -> Result<PathBuf> {
    for name in names {
        for path in [root.join(name), root.join(format!("{name}.gz"))] {
            if path.is_file() {
                return Ok(path);
            }
        }
    }
    let what = if root.is_dir() { "no such file" } else { "no such file; the folder does not exist either" };
    Err(Error::data(root.join(names[0]), None, what).with_hint(obtain))
}

/// The bytes of a file, unpacked where its name ends with `.gz`.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = BufReader::with_capacity(1 << 16, File::open(path).map_err(Error::io(path))?);
    let gzip = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    Ok(if gzip { Ahead::of(flate2::bufread::MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// Far more than any list of images has.
const LIST_BYTES: u64 = 1 << 30;

/// The text of a list, unpacked where its name ends with `.gz`.
pub(super) fn text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(LIST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| broken(path, 1, &e))?;
    if bytes.len() as u64 > LIST_BYTES {
        return Err(Error::data(path, None, "the list has more than 1 GiB"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() as u64 + 1;
        Error::data(path, line, "the text is not UTF-8")
    })
}

impl Table {
    pub(super) fn open(path: &Path, delimiter: u8, odd_rows: OddRows) -> Result<Self> {
        let mut records = Records::new(open(path)?, delimiter);
        if !records.advance().map_err(|e| broken(path, 1, &e))? {
            return Err(Error::data(path, None, "the file is empty"));
        }
        let header = records.lossy().iter().map(|f| f.trim().to_string()).collect();
        Ok(Table { file: path.into(), records, header, odd_rows })
    }

    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    /// Where a column stands, if there is one of that name.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|h| h == name)
    }

    /// Where the columns stand; an error names every one that is missing.
    pub(super) fn columns<const N: usize>(&self, names: [&str; N]) -> Result<[usize; N]> {
        let found = self.list(&names)?;
        Ok(std::array::from_fn(|i| found[i]))
    }

    pub(super) fn list(&self, names: &[&str]) -> Result<Vec<usize>> {
        let missing: Vec<&str> = names.iter().copied().filter(|n| self.column(n).is_none()).collect();
        if missing.is_empty() {
            return Ok(names.iter().filter_map(|n| self.column(n)).collect());
        }
        let known = || self.header.iter().map(String::as_str);
        let hint = match missing.iter().find_map(|m| nearest(m, known()).map(|n| (m, n))) {
            Some((m, n)) => format!("the header has {n:?}; was {m:?} renamed?"),
            None => format!("the header has: {}", known().take(40).collect::<Vec<_>>().join(", ")),
        };
        let plural = if missing.len() == 1 { "column" } else { "columns" };
        Err(Error::data(&self.file, 1, format!("missing {plural} {}", missing.join(", "))).with_hint(hint))
    }

    /// The next whole row; odd ones are counted on the way.
    pub(super) fn next(&mut self, skipped: &mut Skipped) -> Result<Option<Row<'_>>> {
        loop {
            if !self.records.advance().map_err(|e| broken(&self.file, self.records.line(), &e))? {
                return Ok(None);
            }
            let (line, fields) = (self.records.line(), self.records.fields());
            if !self.records.is_text() {
                skipped.odd(self.odd_rows, "the row is not UTF-8", &self.file, line, "")?;
            } else if fields != self.header.len() {
                let what = format!("{fields} fields where the header has {}", self.header.len());
                skipped.odd(self.odd_rows, &what, &self.file, line, "")?;
            } else {
                break;
            }
        }
        Ok(self.records.text().map(|record| Row { record, line: self.records.line() }))
    }
}

fn broken(path: &Path, line: u64, e: &std::io::Error) -> Error {
    Error::data(path, line.max(1), format!("cannot be read on from here: {e}"))
        .with_hint("the file is cut off or damaged; fetch it again")
}

/// Years from `58`, `058Y`, `11M`, `3D`; `None` where it is neither.
pub(super) fn years(text: &str) -> Option<f32> {
    let (digits, unit) = match text.chars().last()? {
        'Y' | 'y' => (&text[..text.len() - 1], 1.0),
        'M' | 'm' => (&text[..text.len() - 1], 12.0),
        'D' | 'd' => (&text[..text.len() - 1], 365.25),
        _ => (text, 1.0),
    };
    let value: f32 = digits.trim().parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value / unit)
}

/// `F`, `M`, or `None`.
pub(super) fn sex(text: &str) -> Option<&'static str> {
    let is = |words: [&str; 2]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
    if is(["f", "female"]) { Some("F") } else { is(["m", "male"]).then_some("M") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn write(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[test]
    fn quoted_newlines_are_one_row_and_odd_rows_are_counted_with_their_line() {
        let (_dir, path) = write("t.csv", b"a,b\n1,\"x\ny\"\n2\n3,\xff\n4,nan\n5,6,7\n");
        let mut table = Table::open(&path, b',', OddRows::Skip).unwrap();
        let [a, b] = table.columns(["a", "b"]).unwrap();
        let mut skipped = Skipped::default();
        let mut seen = Vec::new();
        while let Some(row) = table.next(&mut skipped).unwrap() {
            seen.push((row.line, row.raw(a).to_string(), row.owned(b)));
        }
        assert_eq!(seen, [(2, "1".into(), Some("x\ny".into())), (6, "4".into(), None)]);
        assert_eq!(skipped.rows(), 3);
        assert_eq!(skipped.reasons()[0].examples, ["t.csv:4"]);
        assert_eq!(skipped.of("the row is not UTF-8"), 1);

        let mut table = Table::open(&path, b',', OddRows::Error).unwrap();
        table.next(&mut skipped).unwrap();
        let e = table.next(&mut skipped).err().unwrap();
        assert!(e.to_string().ends_with("t.csv:4: 1 fields where the header has 2"), "{e}");
    }

    #[test]
    fn a_wrong_header_names_file_columns_and_the_nearest() {
        let (_dir, path) = write("t.csv", b"Image Indx,Age\n");
        let table = Table::open(&path, b',', OddRows::Skip).unwrap();
        let e = table.columns(["Image Index", "Age", "Sex"]).unwrap_err();
        assert!(e.to_string().ends_with("t.csv:1: missing columns Image Index, Sex"), "{e}");
        assert!(e.hint().unwrap().contains("Image Indx"));
    }

    #[test]
    fn a_cut_gzip_file_is_an_error_with_its_name() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(&b"a,b\n1,2\n".repeat(5000)).unwrap();
        let whole = gz.finish().unwrap();
        let (_dir, path) = write("t.csv.gz", &whole[..whole.len() / 2]);
        let mut skipped = Skipped::default();
        let mut read = || -> Result<u64> {
            let mut table = Table::open(&path, b',', OddRows::Skip)?;
            let mut rows = 0;
            while table.next(&mut skipped)?.is_some() {
                rows += 1;
            }
            Ok(rows)
        };
        let e = read().unwrap_err();
        assert!(e.to_string().contains("t.csv.gz:"), "{e}");
    }

    #[test]
    fn a_quote_that_is_never_closed_ends_before_memory_does() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"a,b\n1,\"").unwrap();
        for _ in 0..66 {
            gz.write_all(&vec![b'x'; 1 << 20]).unwrap();
        }
        let (_dir, path) = write("bomb.csv.gz", &gz.finish().unwrap());
        let mut table = Table::open(&path, b',', OddRows::Skip).unwrap();
        let e = table.next(&mut Skipped::default()).err().unwrap();
        assert!(e.to_string().contains("bomb.csv.gz:2: ") && e.to_string().contains("more than 64 MiB"), "{e}");
    }

    #[test]
    fn ages_are_years() {
        assert_eq!(years("058Y"), Some(58.0));
        assert_eq!(years("6M"), Some(0.5));
        assert_eq!((years("old"), years("-3"), years("")), (None, None, None));
    }
}
