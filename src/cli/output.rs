//! Text for people and for pipes: colour on terminals alone, and a reader that went away is no error.

use std::io::{IsTerminal, Write};

/// Whether escapes are written. Nothing but `NO_COLOR` and the stream itself decides.
#[derive(Clone, Copy, Debug)]
pub struct Colour(bool);

impl Colour {
    pub fn stdout() -> Self {
        Colour(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()))
    }

    pub fn stderr() -> Self {
        Colour(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()))
    }

    pub fn is_on(self) -> bool {
        self.0
    }

    #[cfg(test)]
    pub fn off() -> Self {
        Colour(false)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// `error: …` and, on its own line, `hint: …`.
    pub fn error(self, message: &str, hint: Option<&str>) -> String {
        let mut out = format!("{} {message}\n", self.paint("1;31", "error:"));
        if let Some(hint) = hint {
            out.push_str(&format!("{} {hint}\n", self.paint("1;36", "hint:")));
        }
        out
    }

    /// A pipeline's problems: carets and hints stand out.
    pub fn diagnostics(self, text: &str) -> String {
        let mut out = String::new();
        for line in text.lines() {
            let line = match line.strip_prefix("hint:") {
                Some(rest) => format!("{}{rest}", self.paint("1;36", "hint:")),
                None if line.starts_with("  ") && line.trim_matches([' ', '|']).chars().all(|c| c == '^') => {
                    self.paint("31", line)
                }
                None if line.starts_with("  ") => self.dim(line),
                None => self.bold(line),
            };
            out.push_str(&line);
            out.push('\n');
        }
        out
    }
}

/// Writes data to stdout. Who reads only the first lines (`| head`) ends the program quietly.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        let quiet = e.kind() == std::io::ErrorKind::BrokenPipe;
        if !quiet {
            complain(&format!("error: cannot write to stdout: {e}\n"));
        }
        std::process::exit(if quiet { 0 } else { 1 });
    }
}

/// Writes a message to stderr; where even that cannot be written there is nobody to tell.
pub fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_only_escapes() {
        assert_eq!(Colour::off().error("no", Some("yes")), "error: no\nhint: yes\n");
        assert_eq!(
            Colour::off().diagnostics("x.yaml:1:1: a\n  1 | a\n    | ^\nhint: b"),
            "x.yaml:1:1: a\n  1 | a\n    | ^\nhint: b\n"
        );
        let painted = Colour(true).diagnostics("x.yaml:1:1: a\n  1 | a\n    | ^\nhint: b");
        assert!(
            painted.contains("\x1b[31m    | ^\x1b[0m") && painted.contains("\x1b[1;36mhint:\x1b[0m b"),
            "{painted:?}"
        );
    }
}
