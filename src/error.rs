//! The one error type: what went wrong, where (file and row), and the way out.
//!
//! Pipeline files report many problems at once and have their own [`crate::pipeline::Diagnostic`];
//! everything that happens while a cell runs ends here.

use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused: `path: permission denied`.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A data file does not say what its format promises.
    #[error("{}{}: {message}", file.display(), row.map(|r| format!(":{r}")).unwrap_or_default())]
    Data { file: PathBuf, row: Option<u64>, message: String, hint: Option<String> },
    /// Parameters or inputs that cannot work together, found while a cell runs.
    #[error("{message}")]
    Invalid { message: String, hint: Option<String> },
    /// Blobs, records or locks.
    #[error("store: {message}")]
    Store { message: String, hint: Option<String>, source: Option<Box<dyn std::error::Error + Send + Sync>> },
    /// Training met a loss that is not a number; `checkpoint` is the step of the one that is kept.
    #[error("loss is {loss} at step {step} (learning rate {lr:?}); largest gradient norms: {norms}{}",
        checkpoint.map(|s| format!("; the checkpoint of step {s} is kept")).unwrap_or_default())]
    NotFinite { loss: f64, step: u64, lr: f64, norms: String, checkpoint: Option<u64> },
    /// An outside program did not end well. `code` is its exit code; none where it was killed or never began.
    #[error("{message}")]
    Command { message: String, code: Option<i32>, hint: Option<String> },
    #[error("interrupted")]
    Interrupted,
    #[error("tensor: {0}")]
    Tensor(#[from] candle_core::Error),
    #[error("arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("frame: {0}")]
    Frame(#[from] polars::error::PolarsError),
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid { message: message.into(), hint: None }
    }

    pub fn data(file: impl AsRef<Path>, row: impl Into<Option<u64>>, message: impl Into<String>) -> Self {
        Error::Data { file: file.as_ref().into(), row: row.into(), message: message.into(), hint: None }
    }

    pub fn store(message: impl Into<String>) -> Self {
        Error::Store { message: message.into(), hint: None, source: None }
    }

    /// For `map_err`: names the path that an I/O error is about.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }

    /// The same work may go well a moment later, though nothing was changed: a connection that broke, a device
    /// that was busy. Whatever is not known to pass does not count. What an outside program says is for its
    /// declaration to judge.
    pub fn can_pass(&self) -> bool {
        match self {
            Error::Io { source, .. } => passes(source),
            Error::Store { source: Some(source), .. } => {
                let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
                while let Some(error) = cause {
                    if error.downcast_ref::<std::io::Error>().is_some_and(passes) {
                        return true;
                    }
                    cause = error.source();
                }
                false
            }
            _ => false,
        }
    }

    /// Adds the way out, printed as a `hint:` line.
    pub fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Error::Data { hint, .. }
        | Error::Invalid { hint, .. }
        | Error::Command { hint, .. }
        | Error::Store { hint, .. } = &mut self
        {
            *hint = Some(text.into());
        }
        self
    }

    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Data { hint, .. }
            | Error::Invalid { hint, .. }
            | Error::Command { hint, .. }
            | Error::Store { hint, .. } => hint.as_deref(),
            Error::NotFinite { .. } => Some("lower the learning rate or add warm-up"),
            _ => None,
        }
    }
}

/// What the operating system refused may be granted in a moment.
fn passes(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    matches!(
        e.kind(),
        ConnectionRefused
            | ConnectionReset
            | ConnectionAborted
            | NotConnected
            | NetworkDown
            | NetworkUnreachable
            | HostUnreachable
            | TimedOut
            | Interrupted
            | WouldBlock
            | ResourceBusy
            | StaleNetworkFileHandle
    )
}

/// The known name nearest to `name`, if one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .filter(|(d, k)| *d <= 1 + k.len().max(name.len()) / 4 && *d < k.len().max(name.len()))
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_stays_with_its_error() {
        let e = Error::data("a.csv", 7, "five fields, expected four").with_hint("see skip_rows");
        assert_eq!(e.to_string(), "a.csv:7: five fields, expected four");
        assert_eq!(e.hint(), Some("see skip_rows"));
    }

    #[test]
    fn only_what_is_known_to_pass_passes() {
        use std::io::{Error as Io, ErrorKind};
        let io = |kind| Error::io("x")(Io::from(kind));
        assert!(io(ErrorKind::TimedOut).can_pass() && io(ErrorKind::ConnectionReset).can_pass());
        assert!(!io(ErrorKind::NotFound).can_pass() && !io(ErrorKind::StorageFull).can_pass());
        let store = |kind| Error::Store { message: String::new(), hint: None, source: Some(Box::new(Io::from(kind))) };
        assert!(store(ErrorKind::TimedOut).can_pass() && !store(ErrorKind::PermissionDenied).can_pass());
        assert!(!Error::invalid("no rows").can_pass() && !Error::Interrupted.can_pass());
    }

    #[test]
    fn nearest_finds_a_slip_and_refuses_a_stranger() {
        assert_eq!(nearest("epoch", ["epochs", "lr"]), Some("epochs"));
        assert_eq!(nearest("zebra", ["epochs", "lr"]), None);
        assert_eq!(nearest("x", ["y"]), None);
    }
}
