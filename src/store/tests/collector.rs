//! Collections and runs on one place, where no lock reaches.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

use super::{lease::stranger, *};
use crate::store::owner::{Beat, owner_name};

#[test]
fn a_collection_does_not_begin_where_a_run_lives() {
    shared(|place| {
        let (run, gc) = (Store::open(place).unwrap(), Store::open(place).unwrap());
        run.announce().unwrap();
        let e = gc.begin_collecting().map(|_| ()).unwrap_err();
        assert!(e.to_string().contains("is in use by") && e.hint().unwrap().contains("--alone"), "{e}");
        drop(run);
        drop(gc.begin_collecting().unwrap());
        assert_eq!(gc.owners().unwrap().len(), 1);
    });
}

#[test]
fn a_run_waits_for_a_collection_to_end() {
    shared(|place| {
        let (run, gc) = (Store::open(place).unwrap(), Store::open(place).unwrap());
        let collecting = gc.begin_collecting().unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                run.announce().unwrap();
                assert!(over.load(SeqCst), "it did not wait");
            });
            // It looks twice a second.
            std::thread::sleep(Duration::from_millis(1200));
            over.store(true, SeqCst);
            drop(collecting);
            waits.join().unwrap();
        });
    });
}

#[test]
fn of_another_machine_who_beats_lives_and_who_is_silent_is_dead() {
    shared(|place| {
        let store = Store::open(place).unwrap();
        let put = |beat: u64| {
            let beat = Beat { owner: stranger("far"), beat, collects: false };
            store.objects.put(&owner_name("far"), beat.text().unwrap()).unwrap();
        };
        put(1);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for beat in 2.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    put(beat);
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            let refused = store.begin_collecting().is_err();
            stop.store(true, SeqCst);
            assert!(refused);
        });
        // It wanted to be taken for dead after a second of silence.
        let began = Instant::now();
        drop(store.begin_collecting().unwrap());
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
        assert_eq!(store.owners().unwrap().len(), 1, "the dead one is gone");
    });
}
