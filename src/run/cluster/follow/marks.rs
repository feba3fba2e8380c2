//! Which cells have left a mark, asked for so that a plan of many cells costs a look no more than one of few.

use std::collections::BTreeSet;

use crate::{
    digest::Digest,
    error::Result,
    store::{Mark, Store},
};

/// Names on a page of a listing, at the least generous of stores.
const PAGE: usize = 1000;

/// The marks of a plan as they were last listed.
///
/// A listing tells of all cells, and most of a large plan's were settled long ago. One that took many pages is
/// made that much less often; between two listings a mark is looked for by its own name, once its job is over.
#[derive(Default)]
pub(super) struct Marks {
    done: BTreeSet<usize>,
    failed: BTreeSet<usize>,
    /// Whether they were listed for this look.
    fresh: bool,
    /// Looks until they are listed again.
    pause: usize,
}

impl Marks {
    /// Begins a look.
    pub fn look(&mut self, store: &Store, plan: &Digest) -> Result<()> {
        self.fresh = self.pause == 0;
        if self.fresh {
            self.done = store.marked(plan, Mark::Done)?;
            self.failed = store.marked(plan, Mark::Failed)?;
            self.pause = (self.done.len() + self.failed.len()) / PAGE;
        } else {
            self.pause -= 1;
        }
        Ok(())
    }

    /// Whether a cell's mark is worth asking for: it was listed for this look, or may have come since the last
    /// listing, as its job is over.
    pub fn may_be_done(&self, cell: usize, over: bool) -> bool {
        if self.fresh { self.done.contains(&cell) } else { over }
    }

    /// The same of a cell whose job is over.
    pub fn may_have_failed(&self, cell: usize) -> bool {
        !self.fresh || self.failed.contains(&cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_listing_is_made_less_often_and_loses_no_mark_meanwhile() {
        let (store, plan) = (Store::open("memory://").unwrap(), Digest::of(b"plan"));
        for cell in 0..2 * PAGE + 10 {
            store.put_mark(&plan, Mark::Done, cell, &cell).unwrap();
        }
        let mut marks = Marks::default();
        marks.look(&store, &plan).unwrap();
        let new = 5000;
        assert!(marks.may_be_done(7, false) && !marks.may_be_done(new, true) && !marks.may_have_failed(new));
        store.put_mark(&plan, Mark::Done, new, &new).unwrap();
        store.put_mark(&plan, Mark::Failed, 3, &3).unwrap();
        let before = store.requests().list;
        for _ in 0..2 {
            marks.look(&store, &plan).unwrap();
            // Its job is over: the mark is asked for by its name. The others are left alone.
            assert!(marks.may_be_done(new, true) && marks.may_have_failed(3) && !marks.may_be_done(8, false));
        }
        assert_eq!(store.requests().list, before);
        marks.look(&store, &plan).unwrap();
        assert!(store.requests().list > before);
        assert!(marks.may_be_done(new, false) && marks.may_have_failed(3) && !marks.may_have_failed(new));
    }

    #[test]
    fn a_short_listing_is_made_for_every_look() {
        let (store, plan) = (Store::open("memory://").unwrap(), Digest::of(b"plan"));
        let mut marks = Marks::default();
        for cell in 0..10 {
            store.put_mark(&plan, Mark::Done, cell, &cell).unwrap();
            marks.look(&store, &plan).unwrap();
            assert!(marks.may_be_done(cell, false));
        }
    }
}
