//! How much a store is asked for: by listings, not one by one.

use super::*;

/// Many records with a blob each, put there without the cells that would make them.
fn fill(store: &Store, n: u32) -> Vec<Record> {
    let one = |i: u32| {
        let record = record(&i.to_le_bytes(), outputs(store, &i.to_be_bytes()));
        store.put_record(&record).unwrap();
        record
    };
    (0..n).map(one).collect()
}

fn all_there(store: &Store, records: &[Record]) {
    for record in records {
        assert!(store.record_stamp(&record.key).unwrap().is_some());
        assert_eq!(store.first_missing(&record.outputs).unwrap(), None);
    }
}

#[test]
fn a_survey_answers_for_ten_thousand_cells_in_a_few_pages() {
    let store = Store::open("memory://").unwrap();
    let records = fill(&store, 10_000);
    let before = store.requests();
    {
        let _survey = store.survey(records.len()).unwrap();
        all_there(&store, &records);
        assert_eq!(store.record_stamp(&Digest::of(b"none")).unwrap(), None);
    }
    let asked = store.requests() - before;
    eprintln!("10,000 records and blobs: {asked:?}");
    assert!(asked.total() <= 25 && asked.head == 0, "{asked:?}");
    let before = store.requests();
    all_there(&store, &records[..10]);
    assert_eq!((store.requests() - before).head, 20, "without a survey each is asked for");
}

#[test]
fn a_survey_tells_what_the_store_would() {
    everywhere(|store| {
        let records = fill(store, 3);
        let stamps = || records.iter().map(|r| store.record_stamp(&r.key).unwrap()).collect::<Vec<_>>();
        let asked = stamps();
        let survey = store.survey(3).unwrap();
        assert_eq!(stamps(), asked);
        // What this process writes meanwhile is seen.
        store.put_record(&Record { wall_ms: 12345, ..records[0].clone() }).unwrap();
        store.delete_record(&records[1].key).unwrap();
        let now = stamps();
        assert!(now[0] != asked[0] && now[1].is_none() && now[2] == asked[2]);
        drop(survey);
        assert_eq!(stamps(), now);
    });
}

#[test]
fn a_store_that_holds_far_more_is_not_listed_to_its_end() {
    let store = Store::open("memory://").unwrap();
    let records = fill(&store, 12_000);
    let before = store.requests();
    let _survey = store.survey(1).unwrap();
    all_there(&store, &records[..1]);
    assert_eq!(store.record_stamp(&Digest::of(b"none")).unwrap(), None);
    let asked = store.requests() - before;
    assert!(asked.total() <= 22, "{asked:?}");
}
