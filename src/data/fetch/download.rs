//! One file over HTTP, continued where an earlier attempt ended, and held against its published checksums.
//!
//! What a part is a part of (size, entity tag, date) lies beside it. A server that now offers another file, or that
//! cannot continue, makes the download begin anew. To continue, the last byte is asked for again: so a part that was
//! whole is no error, and a byte that differs shows another file.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use futures::StreamExt;
use md5::Md5;
use object_store::{
    ClientOptions, GetOptions, GetRange, GetResult, ObjectStore, RetryConfig, http::HttpBuilder, path::Path as Name,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Remote;
use crate::{
    error::{Error, Result},
    progress::{Cancel, Progress},
};

/// Attempts in a row that bring no byte before the download is given up.
const ATTEMPTS: u32 = 4;
const CONNECT: Duration = Duration::from_secs(20);
/// The longest silence of a server in the middle of a file.
const SILENCE: Duration = Duration::from_secs(60);

/// What a part is a part of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    url: String,
    bytes: u64,
    e_tag: Option<String>,
    modified: String,
}

/// Where the origin of a part is written.
pub(super) fn origin_file(part: &Path) -> PathBuf {
    part.with_extension("json")
}

/// Brings the whole file to `part`; its size, and its MD5 and SHA-256 in hexadecimal.
pub(super) fn download(
    remote: &Remote,
    part: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(u64, (String, String))> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::invalid(format!("no runtime for downloads: {e}")))?;
    let server = server(&remote.url)?;
    let mut silent = 0;
    loop {
        let before = length(part);
        match runtime.block_on(attempt(server.as_ref(), remote, part, progress, cancel)) {
            Ok(()) => break,
            Err(Broken::ForGood(e)) => return Err(e),
            Err(Broken::Once(e)) => {
                silent = if length(part) > before { 0 } else { silent + 1 };
                if silent >= ATTEMPTS {
                    let hint = format!("{} bytes are kept; the same command continues there", length(part));
                    return Err(Error::invalid(format!("{}: {e}", remote.url)).with_hint(hint));
                }
                progress.log(&format!("{}: {e}; going on at byte {}", remote.url, length(part)));
                // Signals are looked at while waiting.
                for _ in 0..(1 << silent) {
                    cancel.check()?;
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
    Ok((length(part), digests(part, cancel)?))
}

fn server(url: &str) -> Result<Box<dyn ObjectStore>> {
    // A whole file may take hours, so only silence is bounded. Plain HTTP is for whoever writes it into a catalogue.
    let options = ClientOptions::new()
        .with_allow_http(url.starts_with("http://"))
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT)
        .with_read_timeout(SILENCE);
    let retry = RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(60), ..Default::default() };
    let built = HttpBuilder::new().with_url(url).with_client_options(options).with_retry(retry).build();
    built.map(|s| Box::new(s) as Box<dyn ObjectStore>).map_err(|e| Error::invalid(format!("{url}: {e}")))
}

fn length(part: &Path) -> u64 {
    part.metadata().map_or(0, |m| m.len())
}

/// Why an attempt ended early.
enum Broken {
    /// The connection or the server; another attempt may go on.
    Once(String),
    ForGood(Error),
}

impl From<Error> for Broken {
    fn from(e: Error) -> Self {
        Broken::ForGood(e)
    }
}

async fn attempt(
    server: &dyn ObjectStore,
    remote: &Remote,
    part: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(), Broken> {
    let origin_file = origin_file(part);
    let known: Option<Origin> = std::fs::read(&origin_file).ok().and_then(|b| serde_json::from_slice(&b).ok());
    let mut have = if known.as_ref().is_some_and(|k| k.url == remote.url) { length(part) } else { 0 };
    let mut answer = ask(server, have).await;
    if have > 0 {
        let anew = match &answer {
            Ok(a) => Some(origin(remote, a)) != known || a.range.start != have - 1,
            // A server that knows no ranges, or a file that is shorter now. Other errors leave the part as it is.
            Err(e) => matches!(e, object_store::Error::NotSupported { .. }) || short(e).contains("416"),
        };
        if anew {
            have = 0;
            answer = ask(server, 0).await;
        }
    }
    let answer = answer.map_err(|e| refused(remote, e))?;
    let whole = origin(remote, &answer);
    if let Some(bytes) = remote.bytes.filter(|b| *b != whole.bytes) {
        let message = format!("{}: the server has {} bytes, the catalogue says {bytes}", remote.url, whole.bytes);
        return Err(Error::invalid(message).with_hint("the file changed at its source").into());
    }
    let mut file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(part).map_err(Error::io(part))?;
    file.set_len(have).map_err(Error::io(part))?;
    if have == 0 {
        let json = serde_json::to_vec(&whole).map_err(Error::from)?;
        crate::aside::replace(&origin_file, &json)?;
    }
    progress.begin(whole.bytes, "bytes");
    progress.advance(have);
    let mut overlap = have > 0;
    let mut stream = answer.into_stream();
    while let Some(piece) = stream.next().await {
        cancel.check()?;
        let piece = piece.map_err(|e| Broken::Once(short(&e)))?;
        let mut new = &piece[..];
        if overlap && !new.is_empty() {
            let mut last = [0];
            file.seek(SeekFrom::Start(have - 1)).map_err(Error::io(part))?;
            file.read_exact(&mut last).map_err(Error::io(part))?;
            if last[0] != new[0] {
                file.set_len(0).map_err(Error::io(part))?;
                return Err(Broken::Once("the file is another one now".into()));
            }
            new = &new[1..];
            overlap = false;
        }
        file.write_all(new).map_err(Error::io(part))?;
        progress.advance(new.len() as u64);
    }
    let came = length(part);
    if came != whole.bytes {
        return Err(Broken::Once(format!("{came} of {} bytes came", whole.bytes)));
    }
    file.sync_all().map_err(Error::io(part))?;
    Ok(())
}

async fn ask(server: &dyn ObjectStore, have: u64) -> object_store::Result<GetResult> {
    let range = (have > 0).then(|| GetRange::Offset(have - 1));
    server.get_opts(&Name::default(), GetOptions { range, ..Default::default() }).await
}

fn origin(remote: &Remote, answer: &GetResult) -> Origin {
    Origin {
        url: remote.url.clone(),
        bytes: answer.meta.size,
        e_tag: answer.meta.e_tag.clone(),
        modified: answer.meta.last_modified.to_rfc3339(),
    }
}

fn refused(remote: &Remote, e: object_store::Error) -> Broken {
    use object_store::Error as E;
    match &e {
        E::NotFound { .. } => {
            let missing = Error::invalid(format!("{}: the server has no such file", remote.url));
            missing.with_hint("see the set's home page for where it has gone").into()
        }
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            Error::invalid(format!("{}: the server refuses: {}", remote.url, short(&e))).into()
        }
        _ => Broken::Once(short(&e)),
    }
}

/// An error with what caused it, on one line.
fn short(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut next = e.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(&format!(": {told}"));
        }
        next = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// MD5 and SHA-256 of a file in hexadecimal.
fn digests(part: &Path, cancel: &Cancel) -> Result<(String, String)> {
    let mut file = File::open(part).map_err(Error::io(part))?;
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        cancel.check()?;
        let n = file.read(&mut buffer).map_err(Error::io(part))?;
        if n == 0 {
            return Ok((hex(&md5.finalize()), hex(&sha256.finalize())));
        }
        md5.update(&buffer[..n]);
        sha256.update(&buffer[..n]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Which published checksum holds, the strongest first; `None` where none is published.
///
/// # Errors
/// A checksum, or the size, is not the published one.
pub(super) fn check(remote: &Remote, bytes: u64, digests: &(String, String)) -> Result<Option<String>> {
    let published = [("sha256", &remote.sha256, &digests.1), ("md5", &remote.md5, &digests.0)];
    for (name, expected, found) in published {
        if let Some(expected) = expected {
            if !expected.eq_ignore_ascii_case(found) {
                let message = format!("{}: its {name} is {found}, published is {expected}", remote.url);
                return Err(Error::invalid(message)
                    .with_hint("what came was thrown away; if it stays so, the file changed at its source"));
            }
            return Ok(Some(name.into()));
        }
    }
    if remote.bytes.is_some_and(|b| b != bytes) {
        return Err(Error::invalid(format!("{}: {bytes} bytes came, {:?} are published", remote.url, remote.bytes)));
    }
    Ok(None)
}
