//! Cells from one store to another: records with their blobs and logs, and the latest keys that name them.
//!
//! Every blob is digested on its way and every record is held against its key, so a damaged store cannot hand its
//! damage on. Blobs go before their record, as when a cell is computed.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Last, Store, garbage, part, record::Record};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// What [`Store::copy_cells`] did.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    pub records: usize,
    /// Of the records asked for, those that were there already.
    pub there: usize,
    pub blobs: usize,
    pub bytes: u64,
}

impl Store {
    /// Copies the records that `wanted` picks into `target`, with all that they were made from as far as this
    /// store has it. What is there already stays as it is.
    ///
    /// `among` names the keys that there are for a store that cannot list them.
    ///
    /// # Errors
    /// Records or blobs are damaged or missing: the first is named, and the cells that are whole were copied.
    pub fn copy_cells(
        &self,
        target: &Store,
        among: Option<&[Digest]>,
        wanted: &dyn Fn(&Record) -> bool,
    ) -> Result<Copied> {
        let mut broken: Vec<Error> = Vec::new();
        let mut records: HashMap<Digest, Record> = HashMap::new();
        for key in among.map_or_else(|| self.records(), |keys| Ok(keys.to_vec()))? {
            match self.record(&key) {
                Ok(record) => records.extend(record.map(|record| (key, record))),
                Err(e @ Error::Store { .. }) => broken.push(e),
                Err(e) => return Err(e),
            }
        }
        let roots: HashSet<Digest> = records.iter().filter(|(_, r)| wanted(r)).map(|(key, _)| *key).collect();
        let mut keys: Vec<Digest> = garbage::with_origins(&records, &roots).into_iter().collect();
        keys.sort();
        // Nothing that is copied may be collected before its record is there.
        let _live = target.live()?;
        let mut copied = Copied::default();
        for key in &keys {
            match self.copy_cell(target, &records[key], &mut copied) {
                Ok(()) => {}
                // The others are copied all the same.
                Err(e @ Error::Store { .. }) => broken.push(e),
                Err(e) => return Err(e),
            }
        }
        self.copy_last(target, &keys)?;
        let others = broken.len().saturating_sub(1);
        match broken.into_iter().next() {
            None => Ok(copied),
            Some(first) => {
                let hint = first.hint().map(String::from);
                let rest = if others > 0 { format!(", and {others} more are damaged") } else { String::new() };
                let Copied { records, there, .. } = copied;
                let e = Error::store(format!("{first}{rest}; {records} cells were copied, {there} were there"));
                Err(match hint {
                    Some(hint) => e.with_hint(hint),
                    None => e,
                })
            }
        }
    }

    fn copy_cell(&self, target: &Store, record: &Record, copied: &mut Copied) -> Result<()> {
        let key = &record.key;
        if part::key(&record.parts) != *key {
            return Err(Error::store(format!(
                "record {} ({}) is damaged: its parts make another key",
                key.short(),
                record.cell
            )));
        }
        if target.record_stamp(key)?.is_some()
            && let Ok(Some(there)) = target.record(key)
            && target.first_missing(&there.outputs)?.is_none()
        {
            copied.there += 1;
            return Ok(());
        }
        for digest in garbage::blobs_of(record) {
            self.copy_blob(target, record, &digest, copied)?;
        }
        if let Some(text) = self.read_log(key)? {
            target.objects.put(&format!("logs/{key}.log"), text.into_bytes())?;
        }
        target.put_record(record)?;
        copied.records += 1;
        Ok(())
    }

    fn copy_blob(&self, target: &Store, record: &Record, digest: &Digest, copied: &mut Copied) -> Result<()> {
        let output = record.outputs.values().flat_map(|a| &a.files).find(|f| f.digest == *digest);
        let Some(bytes) = self.blob_bytes(digest)? else {
            return match output {
                Some(file) => Err(Error::store(format!("{}: file {} is missing", record.cell, file.name))
                    .with_hint("run the pipeline on that store again, or `scaleshot verify --repair` it")),
                // A listing of sources makes reasons richer; a record is whole without.
                None => Ok(()),
            };
        };
        if target.blob_bytes(digest)? == Some(bytes) {
            return Ok(());
        }
        let (found, bytes) = target.put_file(&self.local(digest)?)?;
        if found != *digest {
            let name = output.map_or("a listing", |f| f.name.as_str());
            return Err(Error::store(format!("{}: {name} is damaged: blob {}", record.cell, digest.short()))
                .with_hint("run `scaleshot verify --repair` on that store"));
        }
        copied.blobs += 1;
        copied.bytes += bytes;
        Ok(())
    }

    /// The latest keys of cells that the target has none for, so that reasons there have something to be told
    /// against.
    fn copy_last(&self, target: &Store, keys: &[Digest]) -> Result<()> {
        let mut by_pipeline: BTreeMap<String, BTreeMap<String, Last>> = BTreeMap::new();
        for key in keys {
            let Some(record) = target.record(key)? else { continue };
            let Some(stamp) = target.record_stamp(key)? else { continue };
            let is_latest = self.last(&record.pipeline)?.get(&record.cell).is_some_and(|last| last.key == *key);
            if is_latest && !target.last(&record.pipeline)?.contains_key(&record.cell) {
                let (pipeline, cell) = (record.pipeline.clone(), record.cell.clone());
                by_pipeline.entry(pipeline).or_default().insert(cell, Last::new(record, stamp));
            }
        }
        by_pipeline.iter().try_for_each(|(pipeline, cells)| target.update_last(pipeline, cells))
    }
}
