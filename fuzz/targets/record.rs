//! The small files of a store, whose content may be anything: each is read, or named as damaged.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use scaleshot::{
    digest::Digest,
    store::{Store, record::Record},
};
use scaleshot_fuzz::{file, folder};

fuzz_target!(|bytes: &[u8]| {
    static STORE: OnceLock<Store> = OnceLock::new();
    let store = STORE.get_or_init(|| Store::open(folder()).unwrap_or_else(|e| panic!("{e}")));
    // Under its own key, so that a whole record is taken as one.
    let key = serde_json::from_slice::<Record>(bytes).map_or(Digest::of(b"fuzzed"), |record| record.key);
    let mut written = Vec::new();
    for name in ["records/KEY.json", "last/fuzzed.json", "frozen/fuzzed.json", "runs/fuzzed.json", "tasks/KEY.json"] {
        written.push(file(&name.replace("KEY", &key.to_string()), bytes));
    }
    written.push(file(&format!("leases/{key}.json"), bytes));
    written.push(file("owners/fuzzed.json", bytes));
    if let Ok(Some(record)) = store.record(&key) {
        assert_eq!(record.key, key);
        // What was read is written and read as the same.
        let text = serde_json::to_vec(&record).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(serde_json::from_slice::<Record>(&text).ok(), Some(record));
    }
    let _ = store.last("fuzzed").map(|last| last.len());
    let _ = store.last_of("last/fuzzed.json");
    let _ = store.frozen("fuzzed");
    let _ = store.run_names().map(|names| names.iter().map(|n| store.run_entry(n).is_ok()).count());
    let _ = store.task::<scaleshot::run::Task>(&key);
    let _ = store.holder(&key);
    let _ = store.owners();
    let _ = store.broken_indexes().unwrap_or_else(|e| panic!("{e}"));
    for path in written {
        let _ = std::fs::remove_file(path);
    }
});
