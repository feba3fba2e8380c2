//! News of runs: what a run tells while it goes on, for whoever watches it from another process.
//!
//! `news/run-….jsonl` is a file a run, locked by its writer and gone after it. One that nobody has locked is of a
//! run that was killed; the next run removes it. News decide nothing, so a run whose news cannot be written goes on
//! without them. They lie on this machine, as registrations of runs do ([`super::live`]).

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use serde::Serialize;

use super::Store;
use crate::error::{Error, Result};

/// The news of a run of this process; removed when it is dropped.
pub struct News {
    path: PathBuf,
    file: Mutex<File>,
}

const SUFFIX: &str = ".jsonl";

impl News {
    /// Adds a line, which others see at once.
    pub fn tell<T: Serialize>(&self, line: &T) {
        let Ok(mut text) = serde_json::to_vec(line) else { return };
        text.push(b'\n');
        let _ = self.file.lock().unwrap_or_else(|e| e.into_inner()).write_all(&text);
    }
}

impl Drop for News {
    fn drop(&mut self) {
        // Before the lock goes with the file, so that nobody takes it for that of a killed run.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Reads the news of a run as they come.
pub struct Reader {
    path: PathBuf,
    file: File,
    /// The beginning of a line whose end was not written yet.
    rest: Vec<u8>,
}

impl Reader {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        Ok(Reader { path: path.to_path_buf(), file, rest: Vec::new() })
    }

    /// Whether the run goes on: its process has the file locked.
    pub fn live(&self) -> bool {
        match self.file.try_lock_shared() {
            Ok(()) => {
                let _ = self.file.unlock();
                false
            }
            Err(_) => true,
        }
    }

    /// The lines since the last call.
    pub fn lines(&mut self) -> Result<Vec<String>> {
        self.file.read_to_end(&mut self.rest).map_err(Error::io(&self.path))?;
        let Some(end) = self.rest.iter().rposition(|&b| b == b'\n') else { return Ok(Vec::new()) };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        Ok(String::from_utf8_lossy(&whole).lines().map(Into::into).collect())
    }
}

impl Store {
    /// Begins the news of a run with a first line.
    pub fn begin_news<T: Serialize>(&self, first: &T) -> Result<News> {
        let folder = self.home.join("news");
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        self.forget_dead_news();
        // It is locked and has its first line before it has a name that readers look for.
        let aside = tempfile::Builder::new().prefix("run-").suffix(".new").tempfile_in(&folder);
        let aside = aside.map_err(Error::io(&folder))?;
        aside.as_file().lock().map_err(Error::io(aside.path()))?;
        let path = aside.path().with_extension(&SUFFIX[1..]);
        let file = aside.persist(&path).map_err(|e| Error::Io { path: path.clone(), source: e.error })?;
        let news = News { path, file: Mutex::new(file) };
        news.tell(first);
        Ok(news)
    }

    /// The news of all runs that there are, of killed ones among them.
    pub fn news(&self) -> Vec<Reader> {
        let mut paths: Vec<PathBuf> = self.news_paths().filter(|p| p.to_string_lossy().ends_with(SUFFIX)).collect();
        paths.sort();
        // One that is gone by now was of a run that has just ended.
        paths.iter().filter_map(|path| Reader::open(path).ok()).collect()
    }

    fn news_paths(&self) -> impl Iterator<Item = PathBuf> {
        std::fs::read_dir(self.home.join("news")).into_iter().flatten().flatten().map(|entry| entry.path())
    }

    /// Removes what killed runs left.
    pub(super) fn forget_dead_news(&self) {
        for path in self.news_paths().filter(|p| p.to_string_lossy().ends_with(SUFFIX)) {
            if Reader::open(&path).is_ok_and(|news| !news.live()) {
                // Failing to is harmless: it counts as dead the next time too.
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_read_line_by_line_while_they_come_and_go_with_their_run() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(store.news().is_empty());
        let news = store.begin_news(&1).unwrap();
        let mut reader = store.news().pop().unwrap();
        assert!(reader.live());
        assert_eq!(reader.lines().unwrap(), ["1"]);
        // A line whose end is not there yet is not half a line.
        news.file.lock().unwrap().write_all(b"2\n{\"a\"").unwrap();
        assert_eq!(reader.lines().unwrap(), ["2"]);
        news.file.lock().unwrap().write_all(b": 3}\n").unwrap();
        assert_eq!(reader.lines().unwrap(), ["{\"a\": 3}"]);
        news.tell(&4);
        drop(news);
        // What was told last is still read, although the file is gone.
        assert_eq!((reader.lines().unwrap(), reader.live()), (vec!["4".to_string()], false));
        assert!(store.news().is_empty());
    }

    #[test]
    fn what_a_killed_run_left_is_told_apart_and_removed_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("news")).unwrap();
        std::fs::write(folder.path().join("news/run-dead.jsonl"), "1\n").unwrap();
        assert!(!store.news()[0].live());
        let _news = store.begin_news(&2).unwrap();
        let all = store.news();
        assert_eq!((all.len(), all[0].live()), (1, true));
    }
}
