//! A collection and runs elsewhere, behind a URL, where no lock reaches.
//!
//! Both are owners ([`super::owner`]) and say so before they look: a run before it plans, a collection, whose beat
//! tells what it is, before it marks. Of two that begin at the same time at least one sees the other. A run then
//! waits for the collection to end; a collection does not begin where a run lives. That is told by beats, without
//! clocks: an owner of another machine who is not dead raises its counter within its bound.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    Store,
    owner::{Beat, Owner, owner_name},
};
use crate::error::{Error, Result};

/// Between two looks at the beats of others.
const LOOK: Duration = Duration::from_millis(500);

/// What was seen of another owner.
#[derive(Clone, Copy)]
struct Watched {
    beat: u64,
    since: Instant,
    /// Its counter was seen to rise.
    rose: bool,
}

/// Says that this process collects until it is dropped.
pub(super) struct Collecting<'a>(&'a Store);

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        // What cannot be written ends with this process's beats.
        if let Ok(own) = self.0.own() {
            let _ = own.collects(false);
        }
    }
}

impl Store {
    /// Makes this process known as a user of the store, and waits for collections to end. To be called before
    /// anything is looked at that will be relied on.
    pub(super) fn announce(&self) -> Result<()> {
        self.own()?;
        self.outlast(|beat| beat.collects, false).map(|_| ())
    }

    /// Makes this process known as a collector.
    ///
    /// # Errors
    /// Another process uses the store now. It takes up to the bound of an owner (60 s) to tell that a silent one is
    /// dead.
    pub(super) fn begin_collecting(&self) -> Result<Collecting<'_>> {
        let own = self.own()?;
        own.collects(true)?;
        let collecting = Collecting(self);
        let living = self.outlast(|_| true, true)?;
        if living.is_empty() {
            return Ok(collecting);
        }
        let who: Vec<String> = living.iter().map(Owner::told).collect();
        Err(Error::store(format!("{} is in use by {}", self.url(), who.join("; ")))
            .with_hint("wait until its run has ended; --alone collects all the same"))
    }

    /// Looks at the other owners that count until none of them lives: `or_see` until one is seen to live. Those that are
    /// found dead are removed.
    fn outlast(&self, counts: impl Fn(&Beat) -> bool, or_see: bool) -> Result<Vec<Owner>> {
        let mut watched: HashMap<String, Watched> = HashMap::new();
        loop {
            let (mut living, mut open) = (Vec::new(), false);
            for Beat { owner, beat, .. } in self.others()?.iter().filter(|beat| counts(beat)) {
                let now = Instant::now();
                let seen = Watched { beat: *beat, since: now, rose: false };
                let known = watched.entry(owner.token.clone()).or_insert(seen);
                if known.beat != *beat {
                    *known = Watched { rose: true, ..seen };
                }
                let silent = now.duration_since(known.since) > owner.bound();
                match owner.lives_here() {
                    Some(true) => living.push(owner.clone()),
                    None if !silent && known.rose => living.push(owner.clone()),
                    None if !silent => open = true,
                    _ => self.objects.delete(&owner_name(&owner.token))?,
                }
            }
            if or_see && !living.is_empty() || living.is_empty() && !open {
                return Ok(living);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn others(&self) -> Result<Vec<Beat>> {
        let own = owner_name(&self.own()?.owner().token);
        let mut beats = Vec::new();
        for (name, _) in self.objects.list("owners")?.into_iter().filter(|(name, _)| *name != own) {
            beats.extend(self.objects.get(&name)?.and_then(|bytes| Beat::parse(&bytes)));
        }
        Ok(beats)
    }
}
