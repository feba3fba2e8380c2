//! Outside files, known by content.
//!
//! A file is read once; from then on its digest is trusted for as long as size, modification time, change time
//! and inode stay what they were. A file changed within the clock's grain of being read is not remembered, so a
//! change just after the reading cannot hide. Times and places decide only whether to read again: they enter
//! no key. Nothing is watched: what was seen holds for the life of a [`SourceIndex`], and [`SourceIndex::check`]
//! tells whether it still does.

use std::{
    collections::{BTreeSet, HashMap},
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use rayon::prelude::*;

use super::{Store, fault};
use crate::{
    digest::Digest,
    error::{Error, Result},
    progress::{Progress, Silent},
};

/// One file of a source, as listings and kinds see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the root, with forward slashes; empty where the root is itself the file.
    pub name: String,
    pub digest: Digest,
    pub bytes: u64,
}

/// A file or folder as it was when it was looked at.
#[derive(Debug)]
pub struct Tree {
    /// With symlinks resolved.
    pub root: PathBuf,
    /// Digest of [`Tree::listing`]: names and contents, nothing else.
    pub digest: Digest,
    /// Sorted by name.
    pub files: Vec<SourceFile>,
    stamps: Vec<Stamp>,
}

/// What must not have changed for a digest to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
    inode: u64,
    device: u64,
}

/// A file that was found, and what is known of it.
struct Found {
    name: String,
    path: PathBuf,
    stamp: Stamp,
}

impl Tree {
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }

    pub fn file(&self, name: &str) -> Option<&SourceFile> {
        self.place(name).map(|i| &self.files[i])
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.files.binary_search_by(|f| f.name.as_str().cmp(name)).ok()
    }

    /// `digest bytes "name"`, one line a file. Its digest is the tree's, so as a blob it is found by it.
    pub fn listing(&self) -> String {
        listing(&self.files)
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }
}

fn listing(files: &[SourceFile]) -> String {
    let mut text = String::with_capacity(files.len() * 100);
    for file in files {
        text.push_str(&format!("{} {} {}\n", file.digest, file.bytes, serde_json::Value::from(file.name.as_str())));
    }
    text
}

/// The files of a [`Tree::listing`].
pub fn parse_listing(text: &str) -> Result<Vec<SourceFile>> {
    text.lines()
        .map(|line| {
            let mut fields = line.splitn(3, ' ');
            let file = (|| {
                let digest = fields.next()?.parse().ok()?;
                let bytes = fields.next()?.parse().ok()?;
                Some(SourceFile { digest, bytes, name: serde_json::from_str(fields.next()?).ok()? })
            })();
            file.ok_or_else(|| Error::store(format!("listing of a source is damaged at: {line}")))
        })
        .collect()
}

/// Digests of outside files, remembered between runs in the store's folder on this machine.
pub struct SourceIndex {
    folder: PathBuf,
    progress: Arc<dyn Progress>,
    /// The time, for deciding what has settled.
    clock: fn() -> SystemTime,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    trees: HashMap<PathBuf, Arc<Tree>>,
    /// Where content lies, from the trees seen and, once asked for something else, all that are remembered.
    places: HashMap<Digest, (PathBuf, Stamp)>,
    remembered: bool,
}

impl SourceIndex {
    pub fn open(store: &Store) -> Result<Self> {
        Ok(SourceIndex {
            folder: store.home.join("sources"),
            progress: Arc::new(Silent),
            clock: SystemTime::now,
            state: Mutex::default(),
        })
    }

    /// Tells `progress` of files that have to be read, in bytes.
    pub fn report_to(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// As if a minute had passed, so that files just written count as settled.
    #[cfg(test)]
    pub(crate) fn a_minute_later(mut self) -> Self {
        self.clock = || SystemTime::now() + std::time::Duration::from_secs(60);
        self
    }

    /// All files below a folder, or the one file, with their digests. Looked at once in the life of the index.
    ///
    /// Hidden files count; a scaleshot store inside the folder does not. A symlink that leads out of `root` is
    /// refused, since what it leads to would be read without being part of what was declared.
    pub fn digest_tree(&self, root: &Path) -> Result<Arc<Tree>> {
        if let Some(tree) = self.state().trees.get(root) {
            return Ok(tree.clone());
        }
        let real = root.canonicalize().map_err(Error::io(root))?;
        let seen = self.state().trees.get(&real).cloned();
        let tree = match seen {
            Some(tree) => tree,
            None => Arc::new(self.look(&real)?),
        };
        let mut state = self.state();
        for (file, stamp) in tree.files.iter().zip(&tree.stamps) {
            state.places.insert(file.digest, (tree.path(&file.name), *stamp));
        }
        state.trees.insert(real, tree.clone());
        state.trees.insert(root.into(), tree.clone());
        Ok(tree)
    }

    /// The files of a tree that was looked at, by its digest.
    pub fn files(&self, tree: &Digest) -> Option<Vec<SourceFile>> {
        self.state().trees.values().find(|t| t.digest == *tree).map(|t| t.files.clone())
    }

    /// The digest of one file, from a tree that holds it where there is one.
    pub fn digest(&self, path: &Path) -> Result<Digest> {
        let real = path.canonicalize().map_err(Error::io(path))?;
        let known = self.state().trees.values().find_map(|tree| {
            let name = real.strip_prefix(&tree.root).ok()?.to_str()?;
            tree.file(name).map(|f| f.digest)
        });
        if let Some(digest) = known {
            return Ok(digest);
        }
        let tree = self.digest_tree(&real)?;
        match tree.files.as_slice() {
            [file] if file.name.is_empty() => Ok(file.digest),
            _ => Err(Error::invalid(format!("{}: is a folder, expected a file", path.display()))),
        }
    }

    /// A place where this content lies now, unchanged since it was looked at. `None` where none is known.
    pub fn path_of(&self, digest: &Digest) -> Option<PathBuf> {
        let mut state = self.state();
        if !state.places.contains_key(digest) && !state.remembered {
            state.remembered = true;
            for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                for (path, digest, stamp) in recall_all(&entry.path()).into_iter().flatten() {
                    state.places.entry(digest).or_insert((path, stamp));
                }
            }
        }
        let (path, stamp) = state.places.get(digest).cloned()?;
        drop(state);
        (Stamp::of(&std::fs::metadata(&path).ok()?) == stamp).then_some(path)
    }

    /// `Err` where a source is not what it was when it was looked at: its reader may have seen both.
    pub fn check(&self, root: &Path) -> Result<()> {
        let Some(tree) = self.state().trees.get(root).cloned() else { return Ok(()) };
        let found = walk(&tree.root)?;
        let as_seen = |f: &&Found| tree.place(&f.name).is_some_and(|i| tree.stamps[i] == f.stamp);
        let changed = found.iter().find(|f| !as_seen(f));
        if changed.is_none() && found.len() == tree.files.len() {
            return Ok(());
        }
        let what = changed.map_or_else(|| tree.root.clone(), |f| f.path.clone());
        Err(Error::invalid(format!("{}: changed while it was read", what.display())))
    }

    fn look(&self, real: &Path) -> Result<Tree> {
        let found = walk(real)?;
        let cache = self.folder.join(format!("{}.txt", Digest::of(real.as_os_str().as_encoded_bytes()).hex()));
        let known: HashMap<String, (Digest, Stamp)> = recall(&cache, real).unwrap_or_default();
        let lookup = |f: &Found| known.get(&f.name).filter(|(_, stamp)| *stamp == f.stamp).map(|(digest, _)| *digest);
        let unread: u64 = found.iter().filter(|f| lookup(f).is_none()).map(|f| f.stamp.bytes).sum();
        if unread > 0 {
            self.progress.begin(unread, "bytes");
        }
        let now = (self.clock)();
        let digests = found
            .par_iter()
            .map(|f| match lookup(f) {
                Some(digest) => Ok(digest),
                None => {
                    let digest = Digest::of_file(&f.path)?;
                    self.progress.advance(f.stamp.bytes);
                    Ok(digest)
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let stamps: Vec<Stamp> = found.iter().map(|f| f.stamp).collect();
        let files: Vec<SourceFile> = found
            .into_iter()
            .zip(digests)
            .map(|(f, digest)| SourceFile { name: f.name, digest, bytes: f.stamp.bytes })
            .collect();
        let settled: Vec<(&SourceFile, &Stamp)> =
            files.iter().zip(&stamps).filter(|(_, stamp)| stamp.settled(now)).collect();
        let fresh = settled.len() == known.len()
            && settled.iter().all(|(f, s)| known.get(&f.name).is_some_and(|(d, k)| *d == f.digest && k == *s));
        if !fresh {
            // A cache that cannot be written (a read-only store) costs time, not truth.
            let _ = remember(&self.folder, &cache, real, &settled);
        }
        let digest = Digest::of(listing(&files).as_bytes());
        Ok(Tree { root: real.into(), digest, files, stamps })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Stamp {
    fn of(m: &Metadata) -> Self {
        let ns = |s: i64, n: i64| i128::from(s) * 1_000_000_000 + i128::from(n);
        Stamp {
            bytes: m.len(),
            modified_ns: ns(m.mtime(), m.mtime_nsec()),
            changed_ns: ns(m.ctime(), m.ctime_nsec()),
            inode: m.ino(),
            device: m.dev(),
        }
    }

    /// Whether a later change is sure to show: the last one is older than the clock's grain (2 s on file
    /// systems that keep whole seconds, else well above the kernel's tick).
    fn settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
        let grain = if self.modified_ns % 1_000_000_000 == 0 { 2_000_000_000 } else { 20_000_000 };
        self.modified_ns.max(self.changed_ns) + grain < now
    }
}

/// Every regular file below a real root, sorted by name.
fn walk(root: &Path) -> Result<Vec<Found>> {
    let meta = std::fs::metadata(root).map_err(Error::io(root))?;
    let mut found = if meta.is_dir() {
        walk_folder(root, root, String::new(), &BTreeSet::from([root.to_path_buf()]))?
    } else {
        vec![Found { name: String::new(), path: root.into(), stamp: Stamp::of(&meta) }]
    };
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn walk_folder(root: &Path, folder: &Path, prefix: String, above: &BTreeSet<PathBuf>) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            return Err(Error::invalid(format!("{}: file name is not UTF-8", path.display())));
        };
        let name = format!("{prefix}{name}");
        let mut meta = entry.metadata().map_err(Error::io(&path))?;
        let mut above = std::borrow::Cow::Borrowed(above);
        if meta.is_symlink() {
            let target = path.canonicalize().map_err(Error::io(&path))?;
            if !target.starts_with(root) {
                return Err(Error::Invalid {
                    message: format!(
                        "{}: symlink leads out of {} to {}",
                        path.display(),
                        root.display(),
                        target.display()
                    ),
                    hint: Some("copy what it leads to, or declare the folder that holds both".into()),
                });
            }
            meta = std::fs::metadata(&path).map_err(Error::io(&path))?;
            if meta.is_dir() && !above.to_mut().insert(target) {
                return Err(Error::invalid(format!(
                    "{}: symlink leads back to a folder that holds it",
                    path.display()
                )));
            }
        } else if meta.is_dir() {
            above.to_mut().insert(path.clone());
        }
        if meta.is_dir() {
            if !(path.join("blobs").is_dir() && path.join("records").is_dir()) {
                folders.push((path, name + "/", above.into_owned()));
            }
        } else if meta.is_file() {
            found.push(Found { name, path, stamp: Stamp::of(&meta) });
        }
    }
    let below = folders
        .into_par_iter()
        .map(|(path, prefix, above)| walk_folder(root, &path, prefix, &above))
        .collect::<Result<Vec<_>>>()?;
    found.extend(below.into_iter().flatten());
    Ok(found)
}

const HEADER: &str = "scaleshot sources 1";

/// `HEADER`, the root, one line a file, and a digest over all that, so that a torn or foreign file is refused.
fn remember(folder: &Path, cache: &Path, root: &Path, files: &[(&SourceFile, &Stamp)]) -> Result<()> {
    let Some(root) = root.to_str() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut text = format!("{HEADER}\n{}\n", serde_json::Value::from(root));
    for (file, stamp) in files {
        text.push_str(&format!(
            "{} {} {} {} {} {} {}\n",
            file.digest,
            stamp.bytes,
            stamp.modified_ns,
            stamp.changed_ns,
            stamp.inode,
            stamp.device,
            serde_json::Value::from(file.name.as_str())
        ));
    }
    let sum = Digest::of(text.as_bytes());
    text.push_str(&format!("{sum}\n"));
    let aside = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(folder))?;
    std::fs::write(aside.path(), text).map_err(Error::io(aside.path()))?;
    fault::point("sources.staged");
    aside.persist(cache).map_err(|e| Error::Io { path: cache.into(), source: e.error })?;
    Ok(())
}

fn recall(cache: &Path, root: &Path) -> Option<HashMap<String, (Digest, Stamp)>> {
    let (at, files) = parse(&std::fs::read_to_string(cache).ok()?)?;
    (at == root).then(|| files.into_iter().map(|(name, digest, stamp)| (name, (digest, stamp))).collect())
}

fn recall_all(cache: &Path) -> Option<Vec<(PathBuf, Digest, Stamp)>> {
    let (root, files) = parse(&std::fs::read_to_string(cache).ok()?)?;
    let path = |name: String| if name.is_empty() { root.clone() } else { root.join(name) };
    Some(files.into_iter().map(|(name, digest, stamp)| (path(name), digest, stamp)).collect())
}

type Remembered = (PathBuf, Vec<(String, Digest, Stamp)>);

fn parse(text: &str) -> Option<Remembered> {
    let (body, sum) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    let body = &text[..body.len() + 1];
    if sum.parse::<Digest>().ok()? != Digest::of(body.as_bytes()) {
        return None;
    }
    let mut lines = body.lines();
    if lines.next()? != HEADER {
        return None;
    }
    let root: String = serde_json::from_str(lines.next()?).ok()?;
    let mut files = Vec::new();
    for line in lines {
        let mut f = line.splitn(7, ' ');
        let digest = f.next()?.parse().ok()?;
        let stamp = Stamp {
            bytes: f.next()?.parse().ok()?,
            modified_ns: f.next()?.parse().ok()?,
            changed_ns: f.next()?.parse().ok()?,
            inode: f.next()?.parse().ok()?,
            device: f.next()?.parse().ok()?,
        };
        files.push((serde_json::from_str(f.next()?).ok()?, digest, stamp));
    }
    Some((root.into(), files))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a file and dates it back beyond the clock's grain, as if it had been there for long.
    fn write(path: &Path, text: &str, age_s: u64) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age_s)).unwrap();
    }

    struct Bytes(std::sync::atomic::AtomicU64);
    impl Progress for Bytes {
        fn begin(&self, _: u64, _: &'static str) {}
        fn advance(&self, by: u64) {
            self.0.fetch_add(by, std::sync::atomic::Ordering::Relaxed);
        }
        fn log(&self, _: &str) {}
    }

    /// Looks at a root with a new index, now or a minute after: (tree, bytes that had to be read).
    fn look(store: &Store, root: &Path, settled: bool) -> (Arc<Tree>, u64) {
        let bytes = Arc::new(Bytes(0.into()));
        let index = SourceIndex::open(store).unwrap().report_to(bytes.clone());
        let index = if settled { index.a_minute_later() } else { index };
        let tree = index.digest_tree(root).unwrap();
        (tree, bytes.0.load(std::sync::atomic::Ordering::Relaxed))
    }

    #[test]
    fn a_tree_is_its_names_and_contents_and_not_its_place_or_times() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("memory://").unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("deep/er/b"));
        for root in [&a, &b] {
            write(&root.join("x/1.txt"), "one", if root == &a { 100 } else { 7 });
            write(&root.join("2.txt"), "two", 50);
        }
        let (ta, tb) = (look(&store, &a, true).0, look(&store, &b, true).0);
        assert_eq!(ta.digest, tb.digest);
        assert_eq!(ta.files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["2.txt", "x/1.txt"]);
        assert_eq!(parse_listing(&ta.listing()).unwrap(), ta.files);
        assert_eq!(ta.digest, Digest::of(ta.listing().as_bytes()));
        std::fs::rename(b.join("2.txt"), b.join("3.txt")).unwrap();
        assert_ne!(look(&store, &b, true).0.digest, ta.digest);
    }

    #[test]
    fn a_second_look_stats_and_reads_only_what_changed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        let root = folder.path().join("data");
        write(&root.join("a"), "aaaa", 60);
        write(&root.join("b"), "bb", 60);
        let first = look(&store, &root, false);
        assert_eq!(first.1, 6);
        // Just written, so a change might hide behind the clock's grain: read again, until it has settled.
        assert_eq!(look(&store, &root, true).1, 6);
        let again = look(&store, &root, true);
        assert_eq!((again.0.digest, again.1), (first.0.digest, 0));
        // Same size, same modification time, other content: the change time gives it away.
        let modified = std::fs::metadata(root.join("a")).unwrap().modified().unwrap();
        std::fs::write(root.join("a"), "AAAA").unwrap();
        std::fs::File::options().write(true).open(root.join("a")).unwrap().set_modified(modified).unwrap();
        let changed = look(&store, &root, true);
        assert_eq!(changed.1, 4);
        assert_ne!(changed.0.digest, first.0.digest);
        // A torn cache is refused, not believed.
        let cache = std::fs::read_dir(folder.path().join("store/sources")).unwrap().next().unwrap().unwrap().path();
        let text = std::fs::read_to_string(&cache).unwrap();
        std::fs::write(&cache, text.replacen(' ', "  ", 1)).unwrap();
        assert_eq!(look(&store, &root, true).1, 6);
    }

    #[test]
    fn content_is_found_where_it_lies_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        let root = folder.path().join("data");
        write(&root.join("sub/a"), "aaaa", 60);
        let index = SourceIndex::open(&store).unwrap();
        index.digest_tree(&root).unwrap();
        let digest = Digest::of(b"aaaa");
        assert_eq!(index.digest(&root.join("sub/a")).unwrap(), digest);
        let path = root.canonicalize().unwrap().join("sub/a");
        assert_eq!(index.path_of(&digest), Some(path));
        index.check(&root).unwrap();
        write(&root.join("sub/a"), "bbbb", 30);
        assert_eq!(index.path_of(&digest), None);
        assert!(index.check(&root).unwrap_err().to_string().ends_with("sub/a: changed while it was read"));
    }

    #[test]
    fn a_symlink_may_lead_about_inside_but_not_out() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("memory://").unwrap();
        let index = || SourceIndex::open(&store).unwrap();
        let root = folder.path().join("data");
        write(&root.join("a/x"), "x", 60);
        symlink(root.join("a"), root.join("b")).unwrap();
        symlink(&root, folder.path().join("link")).unwrap();
        let tree = index().digest_tree(&folder.path().join("link")).unwrap();
        assert_eq!(tree.files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["a/x", "b/x"]);
        symlink(&root, root.join("a/loop")).unwrap();
        assert!(index().digest_tree(&root).unwrap_err().to_string().contains("leads back"));
        std::fs::remove_file(root.join("a/loop")).unwrap();
        write(&folder.path().join("secret"), "s", 60);
        symlink(folder.path().join("secret"), root.join("out")).unwrap();
        assert!(index().digest_tree(&root).unwrap_err().to_string().contains("leads out of"));
    }
}
