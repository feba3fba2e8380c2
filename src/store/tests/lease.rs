//! Leases: one holder at a time, the dead found out, the slow kept from harm.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    progress::Cancel,
    store::owner::{Beat, owner_name},
};

fn key() -> Digest {
    Digest::of(b"k")
}

/// Puts a lease of somebody else's into a store, and its owner where `alive`.
fn held_by(store: &Store, owner: &Owner, alive: bool) {
    let beat = Beat { owner: owner.clone(), beat: 1, collects: false };
    if alive {
        store.objects.put(&owner_name(&owner.token), beat.text().unwrap()).unwrap();
    }
    store.objects.put(&format!("leases/{}.json", key()), beat.text().unwrap()).unwrap();
}

/// An owner on another machine, who wants to be taken for dead after a second.
pub(super) fn stranger(token: &str) -> Owner {
    Owner {
        token: token.into(),
        host: "far".into(),
        machine: "far".into(),
        pid: 1,
        pid_start: 1,
        started_unix_ms: 0,
        slurm_job: Some("17_4".into()),
        bound_s: 1,
    }
}

/// Takes a lease, however long the store wants to be left alone in between: how long that took.
fn wait(store: &Store) -> (Lease, Duration) {
    let began = Instant::now();
    (store.lease(&key(), &Cancel::default()).unwrap(), began.elapsed())
}

#[test]
fn a_lease_is_held_by_one_and_free_again_when_dropped() {
    everywhere(|store| {
        let held = store.try_lease(&key()).unwrap().unwrap();
        assert!(!held.found());
        assert!(store.try_lease(&key()).unwrap().is_none());
        assert!(store.try_lease(&Digest::of(b"other")).unwrap().is_some());
        drop(held);
        assert!(store.try_lease(&key()).unwrap().is_some());
        assert_eq!(store.objects.list("leases").unwrap(), []);
    });
}

#[test]
fn two_stores_on_one_place_know_of_each_other() {
    shared(|place| {
        let (one, two) = (Store::open(place).unwrap(), Store::open(place).unwrap());
        let held = one.try_lease(&key()).unwrap().unwrap();
        assert!(two.try_lease(&key()).unwrap().is_none());
        let holder = two.holder(&key()).unwrap().unwrap();
        assert_eq!((holder.pid, one.owners().unwrap().len()), (std::process::id(), 2));
        drop(held);
        let (lease, _) = wait(&two);
        assert!(one.try_lease(&key()).unwrap().is_none());
        drop(lease);
        assert_eq!(two.holder(&key()).unwrap(), None);
        drop((one, two));
        assert_eq!(Store::open(place).unwrap().owners().unwrap(), []);
    });
}

#[test]
fn many_threads_after_one_lease_never_hold_it_together() {
    shared(|place| {
        let rounds = if Store::open(place).unwrap().objects.remote() { 10 } else { 300 };
        let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                // Two threads on each of two stores, as in two processes of two threads.
                let store = std::sync::Arc::new(Store::open(place).unwrap());
                for _ in 0..2 {
                    let (store, inside, taken) = (store.clone(), &inside, &taken);
                    scope.spawn(move || {
                        for _ in 0..rounds {
                            if let Some(_lease) = store.try_lease(&key()).unwrap() {
                                assert_eq!(inside.fetch_add(1, SeqCst), 0);
                                taken.fetch_add(1, SeqCst);
                                inside.fetch_sub(1, SeqCst);
                            }
                        }
                    });
                }
            }
        });
        assert!(taken.into_inner() > 0);
    });
}

#[test]
fn a_dead_process_of_this_machine_and_one_without_its_object_are_dead_at_once() {
    everywhere(|store| {
        let probe = store.try_lease(&Digest::of(b"probe")).unwrap().unwrap();
        let this = store.holder(&Digest::of(b"probe")).unwrap().unwrap();
        drop(probe);
        let gone = Owner { token: "gone".into(), pid_start: this.pid_start + 1, bound_s: 600, ..this };
        held_by(store, &gone, true);
        assert!(store.try_lease(&key()).unwrap().is_some(), "its process is dead");
        assert_eq!(store.owners().unwrap().len(), 1, "what the dead left is removed");
        held_by(store, &Owner { bound_s: 600, ..stranger("nobody") }, false);
        assert!(store.try_lease(&key()).unwrap().is_some(), "it has no object");
    });
}

#[test]
fn an_owner_elsewhere_lives_while_it_beats_and_is_dead_after_its_bound() {
    everywhere(|store| {
        let owner = stranger("far");
        held_by(store, &owner, true);
        // Three bounds long it beats, and its clock goes anywhere: nobody takes its lease.
        let began = Instant::now();
        let mut beat = 1;
        while began.elapsed() < Duration::from_secs(3) {
            beat += 1;
            let clock = Owner { started_unix_ms: beat % 7 * 1_000_000_000, ..owner.clone() };
            store
                .objects
                .put(&owner_name("far"), Beat { owner: clock, beat, collects: false }.text().unwrap())
                .unwrap();
            assert!(store.try_lease(&key()).unwrap().is_none());
        }
        assert_eq!(store.holder(&key()).unwrap().unwrap().told(), "far, Slurm job 17_4");
        let (_lease, waited) = wait(store);
        assert!(waited >= Duration::from_millis(700), "taken after {waited:?}");
        assert!(waited < Duration::from_secs(20), "taken after {waited:?}");
    });
}

#[test]
fn of_many_who_find_an_owner_dead_one_at_a_time_takes_over() {
    shared(|place| {
        held_by(&Store::open(place).unwrap(), &stranger("far"), true);
        let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let store = Store::open(place).unwrap();
                    let _lease = wait(&store).0;
                    assert_eq!(inside.fetch_add(1, SeqCst), 0);
                    taken.fetch_add(1, SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, SeqCst);
                });
            }
        });
        assert_eq!(taken.into_inner(), 8);
    });
}

#[test]
fn a_holder_that_lost_its_lease_overwrites_nobody() {
    shared(|place| {
        let (slow, quick) = (Store::open(place).unwrap(), Store::open(place).unwrap());
        let lost = slow.try_lease(&key()).unwrap().unwrap();
        let holder = quick.holder(&key()).unwrap().unwrap();
        assert!(!quick.break_lease(&key(), &stranger("far")).unwrap(), "not its lease");
        assert!(quick.break_lease(&key(), &holder).unwrap());
        let lease = quick.try_lease(&key()).unwrap().unwrap();
        let first = record(b"k", outputs(&quick, b"result"));
        let second = Record { wall_ms: 99, ..first.clone() };
        assert_eq!(lease.publish(&first).unwrap(), first);
        assert_eq!(lost.publish(&second).unwrap(), first, "the first one wins");
        assert_eq!(slow.record(&key()).unwrap().unwrap(), first);
        drop((lost, lease));
        // Forced, a record that was there when the lease was taken is replaced; a damaged one too.
        let (lease, _) = wait(&slow);
        assert!(lease.found());
        assert_eq!(lease.publish(&second).unwrap(), second);
        drop(lease);
        slow.objects.put(&record_name(&key()), b"{".to_vec()).unwrap();
        assert!(slow.record(&key()).is_err());
        let (lease, _) = wait(&quick);
        assert_eq!(lease.publish(&first).unwrap(), first);
        assert_eq!(slow.record(&key()).unwrap().unwrap(), first);
    });
}

/// Not a test of its own: what the killed process of the next one runs.
#[test]
fn taker() {
    let Ok(place) = std::env::var("SCALESHOT_TEST_TAKER") else { return };
    drop(wait(&Store::open(place).unwrap()));
}

#[test]
fn a_taker_that_is_killed_blocks_nobody() {
    for point in TAKEOVER_POINTS {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        held_by(&store, &stranger("far"), false);
        let killed = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::lease::taker", "--test-threads=1"])
            .env("SCALESHOT_TEST_TAKER", folder.path())
            .env("SCALESHOT_FAULT", point)
            .output()
            .unwrap();
        assert!(!killed.status.success(), "{point} was not passed");
        assert!(wait(&store).1 < Duration::from_secs(5), "{point}");
    }
}
