//! Fetching of public datasets: a catalogue of where they lie, downloads that continue where they ended, checksums,
//! and unpacking that trusts no archive.
//!
//! ```text
//! TO/                    the dataset, laid out as its reader expects it
//! TO/.fetch/NAME.part    a download on its way, with NAME.json beside it: what it is a part of
//! TO/.fetch/done.json    what has been fetched and unpacked, with the digests found
//! ```
//!
//! Nothing outside TO is written. The catalogue is a file of data (`data/catalogue.yaml`); sets under an agreement are
//! in it too, with how to obtain them in place of addresses.

mod download;
mod unpack;

pub use unpack::Limits;

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    aside::replace,
    error::{Error, Result},
    progress::{Cancel, Progress},
};

/// The sets that are known, by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    pub sets: BTreeMap<String, Entry>,
}

/// One set of a catalogue.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// One sentence: what it is, how much.
    pub about: String,
    /// The page that tells about it.
    pub home: String,
    /// Its terms in a few words.
    pub terms: String,
    /// The format that reads it; absent where none does.
    #[serde(default)]
    pub format: Option<String>,
    /// The dataset's root below the folder it is fetched to.
    #[serde(default)]
    pub root: String,
    /// Who published the sizes and checksums of `files`, and why some have none.
    #[serde(default)]
    pub source: Option<String>,
    /// What to download; none for sets under an agreement.
    #[serde(default)]
    pub files: Vec<Remote>,
}

/// One file to download.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    pub url: String,
    /// Its name here; the last part of the address where left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Its exact size, where published.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Its published MD5, in hexadecimal.
    #[serde(default)]
    pub md5: Option<String>,
    /// Its published SHA-256, in hexadecimal.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Whether it is an archive to unpack (`.tar`, `.tar.gz`, `.tgz`, `.zip`) rather than to keep.
    #[serde(default)]
    pub unpack: bool,
}

impl Remote {
    /// The file's name here.
    ///
    /// # Errors
    /// A name that is not a plain one: it would lie outside the folder.
    pub fn file_name(&self) -> Result<String> {
        let last = || {
            let path = self.url.split(['?', '#']).next().unwrap_or("");
            path.rsplit('/').next().unwrap_or("").to_string()
        };
        let name = self.name.clone().unwrap_or_else(last);
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        if plain { Ok(name) } else { Err(Error::invalid(format!("{}: {name:?} is not the name of a file", self.url))) }
    }
}

/// A file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    pub url: String,
    pub name: String,
    pub bytes: u64,
    /// Digests of what came, in hexadecimal.
    pub md5: String,
    pub sha256: String,
    /// Which published checksum it was held against; null where none is published.
    pub checked: Option<String>,
    /// Files unpacked from it.
    pub unpacked: Option<u64>,
    /// Whether it was here before, so that nothing was downloaded.
    #[serde(default)]
    pub before: bool,
}

const FOLDER: &str = ".fetch";
const DONE: &str = "done.json";

/// Downloads, checks and unpacks everything of a set into `to`, which is made where it does not exist. Repeated, it
/// does what is left to do; interrupted, it continues where it was.
///
/// # Errors
/// A set without files, a server that fails for good, a size or checksum that is not the published one, an archive that
/// would write outside `to` or more than `limits` allows, or an interruption.
pub fn fetch(
    entry: &Entry,
    to: &Path,
    limits: &Limits,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Vec<Fetched>> {
    if entry.files.is_empty() {
        return Err(Error::invalid("the set has no files to download").with_hint(format!("see {}", entry.home)));
    }
    let work = to.join(FOLDER);
    std::fs::create_dir_all(&work).map_err(Error::io(&work))?;
    let done_file = work.join(DONE);
    let mut done: BTreeMap<String, Fetched> = match std::fs::read(&done_file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
            Error::data(&done_file, e.line() as u64, e.to_string()).with_hint("remove it to fetch anew")
        })?,
        Err(_) => BTreeMap::new(),
    };
    let mut all = Vec::with_capacity(entry.files.len());
    for remote in &entry.files {
        cancel.check()?;
        let name = remote.file_name()?;
        if let Some(before) = done.get(&name).filter(|d| still_holds(d, remote, to)) {
            progress.log(&format!("{name}: fetched before"));
            all.push(Fetched { before: true, ..before.clone() });
            continue;
        }
        let part = work.join(format!("{name}.part"));
        let (bytes, digests) = download::download(remote, &part, progress, cancel)?;
        let checked = download::check(remote, bytes, &digests).inspect_err(|_| {
            // What is wrong is of no use to continue from.
            let _ = std::fs::remove_file(&part);
        })?;
        let unpacked = match remote.unpack {
            true => {
                let count = unpack::unpack(&part, &name, to, limits, progress, cancel)?;
                std::fs::remove_file(&part).map_err(Error::io(&part))?;
                Some(count)
            }
            false => {
                let place = to.join(&name);
                std::fs::rename(&part, &place).map_err(Error::io(&place))?;
                None
            }
        };
        let _ = std::fs::remove_file(download::origin_file(&part));
        let (md5, sha256) = digests;
        let fetched = Fetched {
            url: remote.url.clone(),
            name: name.clone(),
            bytes,
            md5,
            sha256,
            checked,
            unpacked,
            before: false,
        };
        done.insert(name, fetched.clone());
        replace(&done_file, &serde_json::to_vec_pretty(&done)?)?;
        all.push(fetched);
    }
    Ok(all)
}

/// Whether a file of before is what is asked for now. Files that were unpacked are trusted to be there still.
fn still_holds(before: &Fetched, remote: &Remote, to: &Path) -> bool {
    let same =
        |published: &Option<String>, found: &str| published.as_ref().is_none_or(|p| p.eq_ignore_ascii_case(found));
    before.url == remote.url
        && remote.bytes.is_none_or(|b| b == before.bytes)
        && same(&remote.md5, &before.md5)
        && same(&remote.sha256, &before.sha256)
        && before.unpacked.is_some() == remote.unpack
        && (remote.unpack || to.join(&before.name).metadata().is_ok_and(|m| m.len() == before.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_stay_in_the_folder() {
        let named = |url: &str, name: Option<&str>| {
            let json = serde_json::json!({"url": url, "name": name});
            serde_json::from_value::<Remote>(json).unwrap().file_name()
        };
        assert_eq!(named("https://x.org/a/chest.npz?download=1", None).unwrap(), "chest.npz");
        for (url, name) in [
            ("https://x.org/", None),
            ("https://x.org/a/..", None),
            ("https://x.org/a", Some("../b")),
            ("https://x.org/a", Some(".fetch")),
            ("https://x.org/a", Some("a/b")),
        ] {
            assert!(named(url, name).is_err(), "{url} {name:?}");
        }
    }
}
