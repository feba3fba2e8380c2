//! Leases: one process or thread at a time computes the cell with a key.
//!
//! `leases/KEY.json` names its owner, and is made by an exclusive create: in a folder a hard link to the owner's
//! object, which is there whole or not at all; over the network a conditional write. Whether the owner lives is
//! told by its beat ([`super::owner`]), so a cell costs no beats of its own, however long it runs.
//!
//! ```text
//!   try_lease ── create ──> held ── dropped ──> free
//!                  │ there is one
//!                  └──> its owner lives: None, ask again later
//!                       its owner is dead: take over, in one step that one of many wins
//! ```
//!
//! **A lease saves work and guards nothing.** A process may be stopped for longer than its bound, lose its lease
//! and go on. What guards is the record: [`Lease::publish`] creates it only where there is none (or where there is
//! still the one that the lease was taken for), so of two holders the first wins, and since a key decides the
//! result both are equal. Blobs are their content, and may be written by many.
//!
//! For an executor: take the lease ([`Store::try_lease`], or [`Store::lease`] to wait), look for the record again
//! ([`Lease::found`] tells whether there is one), compute, publish through the lease, drop it. [`Store::holder`]
//! tells who computes a cell now, and [`Store::break_lease`] frees it where the caller knows better than the beat
//! that its owner is dead (a Slurm job that the queue calls ended).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{
    Store, fault,
    objects::{Objects, Tag},
    owner::{Beat, Own, Owner, owner_name},
    record::Record,
    record_name,
};
use crate::{
    digest::Digest,
    error::{Error, Result},
    progress::Cancel,
};

/// What this process holds and what it waits for.
#[derive(Default)]
pub(super) struct Leases {
    own: Mutex<Option<Arc<Own>>>,
    /// Keys that a thread of this process holds or is taking.
    held: Arc<Mutex<HashSet<Digest>>>,
    watched: Mutex<HashMap<Digest, Watch>>,
}

/// What was seen of the lease of another owner.
struct Watch {
    /// The owner's token and its beat; `None` where they could not be read.
    seen: Option<(String, u64)>,
    /// Since when it was just that.
    since: Instant,
    next: Instant,
    pause: Duration,
}

/// Between two looks over the network; shorter in the beginning.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Between two looks of [`Store::lease`].
const POLL: Duration = Duration::from_millis(50);

/// Held until dropped.
pub struct Lease {
    key: Digest,
    own: Arc<Own>,
    objects: Arc<Objects>,
    held: Arc<Mutex<HashSet<Digest>>>,
    found: Option<Tag>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Lease({}, {})", self.key.short(), self.own.owner().token)
    }
}

/// What a look at a lease says of its owner.
enum Look {
    Free,
    Lives,
    Dead(Box<Dead>),
}

/// A lease that nobody will give back.
struct Dead {
    tag: Tag,
    /// `None` where nobody else is to be told dead: it cannot be read, or is this process's own.
    owner: Option<Owner>,
}

impl Look {
    fn dead(tag: Tag, owner: Option<Owner>) -> Self {
        Look::Dead(Box::new(Dead { tag, owner }))
    }
}

impl Store {
    /// `None` where another thread or process is computing this cell now.
    ///
    /// Cheap to call often: over the network it asks again only after a pause.
    pub fn try_lease(&self, key: &Digest) -> Result<Option<Lease>> {
        if self.objects.remote() && self.leases.watched().get(key).is_some_and(|w| Instant::now() < w.next) {
            return Ok(None);
        }
        let own = self.own()?;
        if !lock(&self.leases.held).insert(*key) {
            return Ok(None);
        }
        let taken = self.take(key, &own);
        if !matches!(taken, Ok(true)) {
            lock(&self.leases.held).remove(key);
            return taken.map(|_| None);
        }
        self.leases.watched().remove(key);
        let held = self.leases.held.clone();
        // From here on a failure frees the lease, by dropping it.
        let mut lease = Lease { key: *key, own, objects: self.objects.clone(), held, found: None };
        fault::point("lease.taken");
        lease.found = self.objects.look(&record_name(key))?;
        Ok(Some(lease))
    }

    /// Waits for the lease of a cell, a second at most after it is free or its holder is found dead.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once `cancel` is requested.
    pub fn lease(&self, key: &Digest, cancel: &Cancel) -> Result<Lease> {
        loop {
            if let Some(lease) = self.try_lease(key)? {
                return Ok(lease);
            }
            cancel.check()?;
            std::thread::sleep(POLL);
        }
    }

    /// Who computes this cell now; also one that has died and was not found dead yet.
    pub fn holder(&self, key: &Digest) -> Result<Option<Owner>> {
        Ok(self.objects.get(&lease_name(key))?.and_then(|bytes| Beat::parse(&bytes)).map(|beat| beat.owner))
    }

    /// Frees a cell that `owner` holds, for a caller who knows that it is dead. Whether it did.
    pub fn break_lease(&self, key: &Digest, owner: &Owner) -> Result<bool> {
        let name = lease_name(key);
        let Some((bytes, tag)) = self.objects.get_tagged(&name)? else { return Ok(false) };
        if Beat::parse(&bytes).is_none_or(|beat| beat.owner.token != owner.token) {
            return Ok(false);
        }
        let own = self.own()?;
        if !lock(&self.leases.held).insert(*key) {
            return Ok(false);
        }
        let taken = self.take_over(key, &own, &tag, Some(owner));
        if let Ok(true) = taken {
            self.objects.delete(&name)?;
        }
        lock(&self.leases.held).remove(key);
        taken
    }

    /// Cells that are computed now, and by whom, as far as can be told at a glance: an owner whose process is gone,
    /// or whose object is, counts for nothing.
    pub fn held(&self) -> Result<Vec<(Digest, Owner)>> {
        let keys: Vec<Digest> = self.objects.list("leases")?.iter().filter_map(|(name, _)| key_of(name)).collect();
        let living: HashSet<String> =
            if keys.is_empty() { HashSet::new() } else { self.living()?.into_iter().map(|o| o.token).collect() };
        let mut held = Vec::new();
        for key in keys {
            held.extend(self.holder(&key)?.filter(|owner| living.contains(&owner.token)).map(|owner| (key, owner)));
        }
        Ok(held)
    }

    /// How many processes may hold leases now.
    pub fn living_owners(&self) -> Result<usize> {
        Ok(self.living()?.len())
    }

    fn living(&self) -> Result<Vec<Owner>> {
        Ok(self.owners()?.into_iter().filter(|owner| owner.lives_here() != Some(false)).collect())
    }

    /// Owners that have begun and not ended, dead ones that nobody has found among them.
    pub fn owners(&self) -> Result<Vec<Owner>> {
        let mut owners = Vec::new();
        for (name, _) in self.objects.list("owners")? {
            owners.extend(self.objects.get(&name)?.and_then(|bytes| Beat::parse(&bytes)).map(|beat| beat.owner));
        }
        Ok(owners)
    }

    /// Removes what dead processes of this machine left of themselves: how many.
    pub fn sweep_owners(&self) -> Result<usize> {
        let dead: Vec<Owner> = self.owners()?.into_iter().filter(|o| o.lives_here() == Some(false)).collect();
        for owner in &dead {
            self.objects.delete(&owner_name(&owner.token))?;
        }
        Ok(dead.len())
    }

    /// This process as an owner, from its first lease on, or from its first run behind a URL.
    pub(super) fn own(&self) -> Result<Arc<Own>> {
        let mut own = lock(&self.leases.own);
        if let Some(own) = &*own {
            return Ok(own.clone());
        }
        let begun = Arc::new(Own::begin(&self.objects)?);
        if self.objects.folder().is_some() {
            // What is left of them decides nothing, so failing to remove it is harmless.
            let _ = self.sweep_owners();
        }
        *own = Some(begun.clone());
        Ok(begun)
    }

    /// With the key among those held by this process.
    fn take(&self, key: &Digest, own: &Own) -> Result<bool> {
        loop {
            if self.create(key, own)? {
                return Ok(true);
            }
            match self.look_at(key, own)? {
                Look::Free => {}
                Look::Lives => return Ok(false),
                Look::Dead(dead) => {
                    fault::point("lease.stale");
                    if self.take_over(key, own, &dead.tag, dead.owner.as_ref())? {
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn create(&self, key: &Digest, own: &Own) -> Result<bool> {
        let name = lease_name(key);
        let (Some(path), Some(owner)) = (self.objects.path(&name), self.objects.path(&owner_name(&own.owner().token)))
        else {
            return Ok(self.objects.create(&name, own.text()?)?.is_some());
        };
        let mut again = true;
        loop {
            use std::io::ErrorKind::{AlreadyExists, NotFound};
            match std::fs::hard_link(&owner, &path) {
                Ok(()) => return Ok(true),
                Err(e) if e.kind() == AlreadyExists => return Ok(false),
                Err(e) if e.kind() == NotFound && again => {
                    // The first lease of the store; or somebody took this process for dead.
                    again = false;
                    if let Some(folder) = path.parent() {
                        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
                    }
                    if !owner.exists() {
                        own.renew()?;
                    }
                }
                // A file system without hard links, or the most of them.
                Err(_) => return self.create_file(&path, own),
            }
        }
    }

    /// Seen by others while it is still empty, it counts as a lease of an owner who is not known yet.
    fn create_file(&self, path: &std::path::Path, own: &Own) -> Result<bool> {
        use std::io::Write;
        let mut file = match std::fs::File::create_new(path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
            created => created.map_err(Error::io(path))?,
        };
        file.write_all(&own.text()?).map_err(Error::io(path))?;
        Ok(true)
    }

    fn look_at(&self, key: &Digest, own: &Own) -> Result<Look> {
        let Some((bytes, tag)) = self.objects.get_tagged(&lease_name(key))? else { return Ok(Look::Free) };
        let owner = Beat::parse(&bytes).map(|lease| lease.owner);
        let (seen, bound) = match &owner {
            // Held by no thread of this process, so it is the object of a request that was sent twice.
            Some(owner) if owner.token == own.owner().token => return Ok(Look::dead(tag, None)),
            Some(owner) => {
                if owner.lives_here() == Some(false) {
                    return Ok(Look::dead(tag, Some(owner.clone())));
                }
                let Some(beat) = self.objects.get(&owner_name(&owner.token))? else {
                    return Ok(Look::dead(tag, Some(owner.clone())));
                };
                (Beat::parse(&beat).map(|beat| (owner.token.clone(), beat.beat)), owner.bound())
            }
            None => (None, own.owner().bound()),
        };
        let now = Instant::now();
        let mut watched = self.leases.watched();
        let first = Watch { seen: seen.clone(), since: now, next: now, pause: FIRST_PAUSE };
        let watch = watched.entry(*key).or_insert(first);
        if watch.seen != seen {
            watch.seen = seen;
            watch.since = now;
        }
        if now.duration_since(watch.since) > bound {
            return Ok(Look::dead(tag, owner));
        }
        watch.pause = (watch.pause * 3 / 2).min(LONGEST_PAUSE).min(bound / 4);
        watch.next = now + watch.pause;
        Ok(Look::Lives)
    }

    /// Of many who find the same lease dead, one wins; the others see another tag or none.
    fn take_over(&self, key: &Digest, own: &Own, dead: &Tag, owner: Option<&Owner>) -> Result<bool> {
        let name = lease_name(key);
        let won = match self.objects.path(&name) {
            Some(path) => {
                // Between the look and the renaming another taker might come: on this machine none can. Between
                // machines the lock may not reach, and a living lease that was moved by mistake is put back.
                let _alone = self.lock_named("takeover")?;
                if self.objects.look(&name)?.as_ref() != Some(dead) {
                    return Ok(false);
                }
                let aside = format!("{name}.{}", own.owner().token);
                let aside = self.objects.path(&aside).unwrap_or_default();
                match std::fs::rename(&path, &aside) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
                    moved => {
                        moved.map_err(Error::io(&path))?;
                        fault::point("lease.moved");
                        let took = std::fs::read(&aside).ok().and_then(|bytes| Beat::parse(&bytes));
                        let same = owner.is_none_or(|o| took.is_some_and(|t| t.owner.token == o.token));
                        if !same {
                            // Somebody was quicker and this is a living lease: back with it.
                            let _ = std::fs::hard_link(&aside, &path);
                        }
                        std::fs::remove_file(&aside).map_err(Error::io(&aside))?;
                        same && self.create(key, own)?
                    }
                }
            }
            None => self.objects.replace(&name, own.text()?, dead)?.is_some(),
        };
        if let (true, Some(owner)) = (won, owner) {
            // Its other leases are found dead at once then. It comes back with its next beat if it is not.
            let _ = self.objects.delete(&owner_name(&owner.token));
        }
        Ok(won)
    }
}

impl Leases {
    fn watched(&self) -> MutexGuard<'_, HashMap<Digest, Watch>> {
        lock(&self.watched)
    }
}

impl Lease {
    /// Whether there was a record under this key once the lease was taken: computed by the holder before, or
    /// the one that is to be replaced.
    pub fn found(&self) -> bool {
        self.found.is_some()
    }

    /// Whether another owner has it by now, because this process was taken for dead.
    pub fn lost(&self) -> bool {
        let lease = self.objects.get(&lease_name(&self.key)).ok().flatten();
        lease.and_then(|bytes| Beat::parse(&bytes)).is_none_or(|beat| beat.owner.token != self.own.owner().token)
    }

    /// Publishes the record, whose outputs must be in the store already: the record that now stands for the key.
    ///
    /// That is another one where this lease was lost and its taker was quicker.
    pub fn publish(&self, record: &Record) -> Result<Record> {
        let name = record_name(&self.key);
        let text = record.text()?;
        fault::point("record.before");
        let mut seen = self.found.clone();
        loop {
            let put = match &seen {
                None => self.objects.create(&name, text.clone())?,
                Some(tag) => self.objects.replace(&name, text.clone(), tag)?,
            };
            if put.is_some() {
                fault::point("record.published");
                return Ok(record.clone());
            }
            seen = match self.objects.get_tagged(&name)? {
                None => None,
                Some((bytes, tag)) => match Record::read(&bytes) {
                    Ok(first) if first.key == self.key => return Ok(first),
                    _ => Some(tag),
                },
            };
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let name = lease_name(&self.key);
        // A look costs nothing in a folder, and a request elsewhere. A lease that stays behind is free once this
        // process has ended, and its cell has its record already.
        if (self.objects.folder().is_none() && self.own.sure()) || !self.lost() {
            let _ = self.objects.delete(&name);
        }
        lock(&self.held).remove(&self.key);
        fault::point("lease.released");
    }
}

/// `None` for other files there: one that is being taken over.
fn key_of(name: &str) -> Option<Digest> {
    name.strip_prefix("leases/")?.strip_suffix(".json")?.parse().ok()
}

fn lease_name(key: &Digest) -> String {
    format!("leases/{key}.json")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
