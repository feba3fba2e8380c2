//! The contract of a store, held by every backend.
//!
//! Folder and memory are always at hand. `SCALESHOT_TEST_STORES` names others, as URLs with commas between them
//! (`make test-stores` starts servers and sets it); each test then works under a path of its own.

mod collector;
mod lease;
mod requests;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    artifact::{Artifact, ArtifactType, FileRef},
    part::Part,
    record::{Machine, Note, Outputs},
    *,
};

/// Runs a test body on a folder, in memory, and on every store that is served.
fn everywhere(body: impl Fn(&Store)) {
    body(&Store::open("memory://").unwrap());
    shared(|place| body(&Store::open(place).unwrap()));
}

/// Runs a test body on every place that several processes can open: a folder, and every store that is served.
fn shared(body: impl Fn(&str)) {
    let folder = tempfile::tempdir().unwrap();
    body(folder.path().join("a store").to_str().unwrap());
    for place in served() {
        body(&place);
    }
}

/// Stores over the network, each with a path that no other test has.
fn served() -> Vec<String> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let Ok(urls) = std::env::var("SCALESHOT_TEST_STORES") else {
        eprintln!("left out: stores over the network (make test-stores starts servers for them)");
        return Vec::new();
    };
    let began = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let path = || format!("{}-{began}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
    urls.split(',').map(|url| format!("{}/{}", url.trim().trim_end_matches('/'), path())).collect()
}

fn record(key: &[u8], outputs: Outputs) -> Record {
    Record {
        key: Digest::of(key),
        kind: "write".into(),
        kind_version: 1,
        pipeline: "p".into(),
        cell: "a[seed=1]".into(),
        parts: vec![Part::Param { path: "lr".into(), value: 0.003.into() }],
        outputs,
        notes: vec![Note { what: "skipped_rows".into(), count: 2, detail: "a.csv:7".into() }],
        measured: [("precision".to_string(), "bf16".into())].into(),
        wall_ms: 5,
        cpu_ms: None,
        peak_rss_bytes: Some(1 << 20),
        threads: 2,
        machine: Machine::default(),
        program: "scaleshot 0".into(),
        finished_unix_ms: 1,
        log: None,
        accepted: None,
    }
}

fn outputs(store: &Store, content: &[u8]) -> Outputs {
    let (digest, bytes) = store.put_bytes(content).unwrap();
    let file = FileRef { name: "table.parquet".into(), digest, bytes };
    BTreeMap::from([("table".to_string(), Artifact::new(ArtifactType::Table, vec![file]))])
}

#[test]
fn blobs_are_their_content() {
    everywhere(|store| {
        let work = store.work_folder().unwrap();
        let path = work.path().join("a file #1");
        // Larger than a part of an upload, so that it goes up in pieces.
        let content: Vec<u8> = (0..9_000_001u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let (digest, bytes) = store.put_file(&path).unwrap();
        assert_eq!((digest, bytes), (Digest::of(&content), content.len() as u64));
        assert_eq!(store.put_bytes(&content).unwrap(), (digest, bytes));
        // Under a second name, though the store has taken the file away.
        assert_eq!(store.put_file(&path).unwrap(), (digest, bytes));
        assert_eq!(store.blob_bytes(&digest).unwrap(), Some(bytes));
        assert_eq!(std::fs::read(store.local(&digest).unwrap()).unwrap(), content);
        assert_eq!(store.bytes(&digest).unwrap(), content);
        assert_eq!(store.verify_blob(&digest).unwrap(), BlobState::Whole);
        assert_eq!(store.blobs().unwrap(), [(digest, bytes)]);
        let other = Digest::of(b"other");
        assert!(!store.has(&other).unwrap());
        assert_eq!(store.verify_blob(&other).unwrap(), BlobState::Missing);
        assert!(store.local(&other).unwrap_err().to_string().contains("is missing"));
        assert!(store.delete_blob(&digest).unwrap() && !store.delete_blob(&digest).unwrap());
    });
}

#[test]
fn a_file_of_the_users_is_copied_and_a_work_file_is_not() {
    everywhere(|store| {
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(outside.path(), b"mine").unwrap();
        let (digest, _) = store.put_file(outside.path()).unwrap();
        assert_eq!(std::fs::read(outside.path()).unwrap(), b"mine");
        assert_eq!(store.bytes(&digest).unwrap(), b"mine");
        let work = store.work_folder().unwrap();
        let path = work.path().join("x");
        std::fs::write(&path, b"work").unwrap();
        store.put_file(&path).unwrap();
        assert!(!path.exists());
        // A new file of the same name is another file, and leaves the first blob alone.
        std::fs::write(&path, b"next").unwrap();
        assert_eq!(store.put_file(&path).unwrap().0, Digest::of(b"next"));
        assert_eq!(store.bytes(&Digest::of(b"work")).unwrap(), b"work");
    });
}

#[test]
fn records_come_back_as_they_were() {
    everywhere(|store| {
        assert_eq!(store.records().unwrap(), []);
        let first = record(b"1", outputs(store, b"one"));
        let second = record(b"2", outputs(store, b"two"));
        assert_eq!(store.record_stamp(&first.key).unwrap(), None);
        store.put_record(&first).unwrap();
        store.put_record(&second).unwrap();
        assert_eq!(store.record(&first.key).unwrap(), Some(first.clone()));
        assert_eq!(store.record(&Digest::of(b"3")).unwrap(), None);
        let mut keys = [first.key, second.key];
        keys.sort();
        assert_eq!(store.records().unwrap(), keys);
        let stamp = store.record_stamp(&first.key).unwrap();
        store.put_record(&Record { wall_ms: 12345, ..first.clone() }).unwrap();
        assert_ne!(store.record_stamp(&first.key).unwrap(), stamp);
        assert!(store.delete_record(&first.key).unwrap() && !store.delete_record(&first.key).unwrap());
        assert_eq!(store.record(&first.key).unwrap(), None);
    });
}

#[test]
fn a_reader_never_gets_another_content() {
    everywhere(|store| {
        // Stores behind URLs share this machine's cache, which must not have it from the one before.
        let content = format!("content of {}", store.url());
        let digest = Digest::of(content.as_bytes());
        let name = format!("blobs/{}/{digest}", &digest.hex()[..2]);
        let read: [&dyn Fn() -> Result<()>; 2] =
            [&|| store.local(&digest).map(|_| ()), &|| store.bytes(&digest).map(|_| ())];
        for read in read {
            store.objects.put(&name, b"cOntent".to_vec()).unwrap();
            let error = read().unwrap_err();
            assert!(error.to_string().contains(&format!("blob {} is damaged", digest.short())), "{error}");
            assert!(error.hint().unwrap().contains("set aside"), "{error}");
            assert!(!store.has(&digest).unwrap());
        }
        store.put_bytes(content.as_bytes()).unwrap();
        assert_eq!(std::fs::read(store.local(&digest).unwrap()).unwrap(), content.as_bytes());
        let aside = store.folder().map(|f| std::fs::read(f.join(format!("damaged/{digest}"))).unwrap());
        assert!(aside.is_none_or(|bytes| bytes == b"cOntent"));
    });
}

#[test]
fn an_object_is_made_once_and_replaced_only_as_it_was_seen() {
    everywhere(|store| {
        let objects = &store.objects;
        let first = objects.create("last/a.json", b"one".to_vec()).unwrap().unwrap();
        assert_eq!(objects.create("last/a.json", b"two".to_vec()).unwrap(), None);
        assert_eq!(objects.tag("last/a.json").unwrap().unwrap().text(), first.text());
        let second = objects.replace("last/a.json", b"three".to_vec(), &first).unwrap().unwrap();
        assert_ne!(second.text(), first.text());
        assert_eq!(objects.replace("last/a.json", b"four".to_vec(), &first).unwrap(), None);
        let (bytes, tag) = objects.get_tagged("last/a.json").unwrap().unwrap();
        assert_eq!((bytes.as_slice(), tag.text()), (&b"three"[..], second.text()));
        objects.delete("last/a.json").unwrap();
        assert_eq!(objects.replace("last/a.json", b"five".to_vec(), &second).unwrap(), None);
        assert_eq!(objects.get_tagged("last/a.json").unwrap(), None);
    });
}

#[test]
fn damage_is_noticed_and_named() {
    everywhere(|store| {
        let whole = record(b"1", outputs(store, b"one"));
        assert_eq!(store.first_missing(&whole.outputs).unwrap(), None);
        store.put_record(&whole).unwrap();
        let text = canonical(&serde_json::to_value(&whole).unwrap());
        store.objects.put(&record_name(&whole.key), text.as_bytes()[..text.len() / 2].to_vec()).unwrap();
        let error = store.record(&whole.key).unwrap_err().to_string();
        assert!(error.contains("is damaged") && error.contains(&whole.key.hex()), "{error}");
        store.objects.put(&record_name(&Digest::of(b"9")), text.into_bytes()).unwrap();
        assert!(store.record(&Digest::of(b"9")).unwrap_err().to_string().contains("names key"));
        // A flipped bit shows to a reader of the whole blob, a cut one to a look at its size.
        let digest = Digest::of(b"one");
        let name = store.objects.list("blobs").unwrap().remove(0).0;
        store.objects.delete(&name).unwrap();
        store.objects.put(&name, b"onE".to_vec()).unwrap();
        assert_eq!(store.verify_blob(&digest).unwrap(), BlobState::Damaged { found: Digest::of(b"onE") });
        assert_eq!(store.first_missing(&whole.outputs).unwrap(), None);
        store.objects.put(&name, b"on".to_vec()).unwrap();
        assert_eq!(store.first_missing(&whole.outputs).unwrap().map(|(output, _)| output), Some("table"));
    });
}

#[test]
fn latest_keys_of_two_writers_are_both_kept() {
    everywhere(|store| {
        let last = |key: &[u8]| Last {
            key: Digest::of(key),
            stamp: "s".into(),
            wall_ms: 1,
            outputs: outputs(store, key),
            accepted: None,
        };
        let name = "../odd name";
        assert!(store.last(name).unwrap().is_empty());
        store.update_last(name, &BTreeMap::from([("a".to_string(), last(b"1"))])).unwrap();
        store.update_last(name, &BTreeMap::from([("b".to_string(), last(b"2"))])).unwrap();
        store.update_last(name, &BTreeMap::from([("a".to_string(), last(b"3"))])).unwrap();
        let read = store.last(name).unwrap();
        assert_eq!((&read["a"], &read["b"], read.len()), (&last(b"3"), &last(b"2"), 2));
        assert!(store.last("other").unwrap().is_empty());
    });
}

#[test]
fn scratch_stays_and_work_goes() {
    everywhere(|store| {
        let key = Digest::of(b"k");
        let scratch = store.scratch(&key).unwrap();
        assert!(!store.has_scratch(&key));
        std::fs::write(scratch.join("step"), "5").unwrap();
        assert!(store.has_scratch(&key));
        assert_eq!(store.scratch(&key).unwrap(), scratch);
        store.clear_scratch(&key).unwrap();
        store.clear_scratch(&key).unwrap();
        assert!(!scratch.exists());
        let work = store.work_folder().unwrap();
        let path = work.path().to_path_buf();
        std::fs::write(path.join("x"), "x").unwrap();
        drop(work);
        assert!(!path.join("x").exists());
        assert_eq!(std::fs::read_dir(store.work_folder().unwrap().path()).unwrap().count(), 0);
        let log = store.log(&key).unwrap();
        log.line("first");
        store.finish_log(&log).unwrap();
        store.log(&key).unwrap().line("second");
        let text = store.read_log(&key).unwrap().unwrap();
        assert!(text.contains(" first\n") && text.contains(" second\n"), "{text}");
        assert_eq!(store.read_log(&Digest::of(b"none")).unwrap(), None);
    });
}

#[test]
fn what_a_dead_process_left_is_swept_and_what_a_living_one_uses_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let living = Store::open(folder.path()).unwrap();
    let work = living.work_folder().unwrap();
    let dead = folder.path().join("work/run-dead");
    std::fs::create_dir(&dead).unwrap();
    std::fs::write(dead.join("half a blob"), "x").unwrap();
    std::fs::write(dead.with_extension("lock"), "").unwrap();
    let other = Store::open(folder.path()).unwrap();
    drop(other.work_folder().unwrap());
    assert!(!dead.exists() && !dead.with_extension("lock").exists());
    assert!(work.path().exists());
    drop(work);
    drop((living, other));
    assert_eq!(std::fs::read_dir(folder.path().join("work")).unwrap().count(), 0);
}

#[test]
fn places_that_cannot_be_stores_say_why() {
    let error = Store::open("ftp://host/x").err().unwrap();
    assert!(error.to_string().contains("no backend for ftp://"), "{error}");
    assert!(error.hint().unwrap().contains("s3://"));
    for place in ["https://me:hunter2@host/x", "s3://bucket/x?token=hunter2", "az://c/x#hunter2"] {
        let error = Store::open(place).err().unwrap();
        let told = format!("{error} {error:?} {}", error.hint().unwrap());
        assert!(told.contains("holds no user") && !told.contains("hunter2"), "{told}");
    }
    assert!(Store::open("s3://").err().unwrap().to_string().contains("no bucket"));
    assert!(Store::open("").is_err());
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Store::open(file.path()).err().unwrap();
    assert!(error.to_string().ends_with("is a file, and a store is a folder"), "{error}");
    assert!(Store::open(Path::new("memory://")).unwrap().folder().is_none());
}
