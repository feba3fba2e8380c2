//! What the program says, whole: exit code, stdout and stderr of one command, held against a file in `tests/errors/`.
//!
//! `SCALESHOT_BLESS=1` writes the files anew; their change is then looked at as any other. What differs from run to run
//! is written as a word: the folder as `FOLDER`, keys as `KEY`, times as `TIME`.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

/// As short as keys are shown, and as long as they are.
const KEY_DIGITS: [usize; 2] = [12, 64];

/// What is different from its file; `None` where nothing is.
pub fn difference(name: &str, out: &Output, folder: &Path) -> Option<String> {
    let text = |bytes: &[u8]| plain(&String::from_utf8_lossy(bytes), folder);
    let code = out.status.code().map_or_else(|| "killed".into(), |code| code.to_string());
    let said = format!("exit {code}\n--- stdout\n{}--- stderr\n{}", text(&out.stdout), text(&out.stderr));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/errors/{name}.txt"));
    if std::env::var_os("SCALESHOT_BLESS").is_some_and(|v| !v.is_empty()) {
        std::fs::write(&path, &said).unwrap();
        return None;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|e| format!("(no file: {e})\n"));
    (said != expected).then(|| format!("{name}: expected\n{expected}\nbut it says\n{said}\n"))
}

/// Without what differs from run to run.
fn plain(text: &str, folder: &Path) -> String {
    let real = folder.canonicalize().unwrap();
    let text = text.replace(real.to_str().unwrap(), "FOLDER").replace(folder.to_str().unwrap(), "FOLDER");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let word = rest.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let hex = word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let (taken, shown) = if hex && KEY_DIGITS.contains(&word.len()) {
            (word.len(), "KEY")
        } else if let Some(length) = seconds(rest) {
            (length, "TIME")
        } else {
            let length = word.len().max(first.len_utf8());
            (length, &rest[..length])
        };
        out.push_str(shown);
        rest = &rest[taken..];
    }
    out
}

/// The length of a time such as `0.3 s` at the beginning.
fn seconds(text: &str) -> Option<usize> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    let after = text.get(whole..)?.strip_prefix('.')?;
    let part = digits(after);
    let unit = after.get(part..)?.strip_prefix(" s")?;
    let ends = unit.bytes().next().is_none_or(|b| !b.is_ascii_alphanumeric());
    (whole > 0 && part == 1 && ends).then_some(whole + 1 + part + 2)
}

#[test]
fn what_differs_from_run_to_run_is_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{}/x 3f2a91c07d44 3f2a91c07d4 done in 12.3 s, 0.25 s, 1.5 sizes\n", folder.path().display());
    assert_eq!(plain(&text, folder.path()), "FOLDER/x KEY 3f2a91c07d4 done in TIME, 0.25 s, 1.5 sizes\n");
}
