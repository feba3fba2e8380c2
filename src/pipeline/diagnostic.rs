//! Everything wrong with a pipeline file, gathered first and printed together.
//!
//! Knows positions, lines and hints; does not know what a pipeline is.

use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// A place in a file: line and column from 1, width in characters. Line 0 is the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// 0 is the pipeline itself; files that it includes follow in the order they are read.
    pub file: u16,
    pub line: u32,
    pub column: u32,
    pub width: u32,
}

/// One thing that is wrong, where, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The pipeline, or a file that it includes.
    pub file: PathBuf,
    /// From 1; 0 where the problem is the file as a whole or the command line.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// How many characters the caret covers.
    pub width: u32,
    /// Where in the declaration: `nodes.merged.merge.views`.
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
    /// The line of the file, without its end.
    pub source: String,
}

/// What `load` returns for a file that cannot be run: at least one problem, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    pub file: PathBuf,
    pub items: Vec<Diagnostic>,
    /// Problems beyond the first [`SHOWN`], which are counted and not kept.
    pub more: usize,
}

/// One wrong value can be wrong in every cell of a large matrix; nobody reads more than this.
pub const SHOWN: usize = 100;

/// The widest piece of a source line that is printed.
const LINE_WIDTH: usize = 110;

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (i, item) in self.items.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            item.write(f)?;
        }
        if self.more > 0 {
            write!(f, "\n{}: {} more problems are not shown", self.file.display(), self.more)?;
        }
        Ok(())
    }
}

impl Diagnostic {
    fn write(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}", self.message)?;
        if self.line > 0 && !self.source.trim().is_empty() {
            // Lines that do not fit are cut so that the caret stays in sight.
            let column = self.column as usize - 1;
            let from =
                if column + self.width as usize > LINE_WIDTH { column.saturating_sub(LINE_WIDTH / 2) } else { 0 };
            // A zero byte would end the line in some terminals, and an escape would colour it.
            let plain = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
            let shown: String = self.source.chars().skip(from).take(LINE_WIDTH).map(plain).collect();
            let before = column - from;
            // Tabs stay tabs below, so that the caret stands under its character.
            let space: String = shown.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let room = shown.chars().count().saturating_sub(before).max(1);
            let caret = "^".repeat((self.width.max(1) as usize).min(room));
            let gutter = self.line.to_string();
            let blank = " ".repeat(gutter.len());
            write!(f, "\n  {gutter} | {}\n  {blank} | {space}{caret}", shown.trim_end())?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Gathers problems while files are read. The same problem at the same place is kept once.
pub struct Findings {
    files: Vec<Source>,
    seen: HashSet<(u16, u32, u32, String)>,
    items: Vec<(Mark, Diagnostic)>,
}

/// A file that was read, for the lines that messages show.
struct Source {
    path: PathBuf,
    lines: Vec<String>,
}

impl Findings {
    pub fn new(file: &Path, text: &str) -> Self {
        let mut out = Findings { files: Vec::new(), seen: HashSet::new(), items: Vec::new() };
        out.enter(file, text);
        out
    }

    /// Takes up another file; its number, which the marks in it carry.
    pub fn enter(&mut self, file: &Path, text: &str) -> u16 {
        self.files.push(Source { path: file.to_path_buf(), lines: text.lines().map(String::from).collect() });
        (self.files.len() - 1) as u16
    }

    pub fn push(&mut self, at: Mark, path: impl Into<String>, message: impl Into<String>, hint: Option<String>) {
        let message = message.into();
        if !self.seen.insert((at.file, at.line, at.column, message.clone())) {
            return;
        }
        let source = self.line(at).to_string();
        let file = self.file(at).to_path_buf();
        let Mark { line, column, width, .. } = at;
        let column = if line > 0 { column.max(1) } else { column };
        self.items.push((at, Diagnostic { file, line, column, width, path: path.into(), message, hint, source }));
    }

    /// The text of a line; empty where there is none.
    pub fn line(&self, at: Mark) -> &str {
        let lines = self.files.get(at.file as usize).map_or(&[] as &[_], |f| f.lines.as_slice());
        (at.line as usize).checked_sub(1).and_then(|i| lines.get(i)).map_or("", String::as_str)
    }

    /// The file of a mark.
    pub fn file(&self, at: Mark) -> &Path {
        self.files.get(at.file as usize).map_or(Path::new(""), |f| &f.path)
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// All problems in the order of the files, or nothing.
    pub fn finish(mut self) -> Option<Diagnostics> {
        if self.items.is_empty() {
            return None;
        }
        self.items.sort_by_key(|(at, _)| (at.file, at.line, at.column));
        let more = self.items.len().saturating_sub(SHOWN);
        self.items.truncate(SHOWN);
        let file = self.file(Mark::default()).to_path_buf();
        Some(Diagnostics { file, items: self.items.into_iter().map(|(_, d)| d).collect(), more })
    }
}

/// `did you mean NEAR?`, or else the known names themselves.
pub fn did_you_mean<'k>(name: &str, what: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(near) = crate::error::nearest(name, known.iter().copied()) {
        return Some(format!("did you mean {near}?"));
    }
    match known.len() {
        0 => None,
        1..=30 => Some(format!("known {what}: {}", known.join(", "))),
        n => Some(format!("known {what}: {} and {} more", known[..30].join(", "), n - 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32, width: u32) -> Mark {
        Mark { file: 0, line, column, width }
    }

    #[test]
    fn problems_come_in_file_order_once_with_line_and_caret() {
        let text = "a: 1\nb: { epoch: 3 }\n";
        let mut findings = Findings::new(Path::new("x.yaml"), text);
        findings.push(at(2, 6, 5), "b.epoch", "unknown field epoch", Some("did you mean epochs?".into()));
        findings.push(at(1, 1, 1), "a", "unknown key a", None);
        findings.push(at(2, 6, 5), "b.epoch", "unknown field epoch", None);
        findings.push(Mark::default(), "", "cannot read", None);
        let shown = findings.finish().unwrap().to_string();
        assert_eq!(
            shown,
            "x.yaml: cannot read\n\
             x.yaml:1:1: unknown key a\n  1 | a: 1\n    | ^\n\
             x.yaml:2:6: unknown field epoch\n  2 | b: { epoch: 3 }\n    |      ^^^^^\n\
             hint: did you mean epochs?"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let text = format!("{}wrong{}", "a".repeat(300), "b".repeat(300));
        let mut findings = Findings::new(Path::new("x.yaml"), &text);
        findings.push(at(1, 301, 5), "", "no", None);
        let shown = findings.finish().unwrap().to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1].chars().count(), "  1 | ".len() + LINE_WIDTH);
        let caret = lines[2].find('^').unwrap();
        assert_eq!(&lines[1][caret..caret + 5], "wrong");
    }
}
