//! `dataset`: one dataset in its native layout, read or generated, as one table.

use std::{io::ErrorKind, path::Path, sync::Arc};

use arrow::array::{ArrayRef, BinaryArray};
use rayon::prelude::*;

use super::{Cell, Kind, Leaf, Resources, SourcePath, rows};
use crate::{
    data::{
        dataset::Dataset as Table,
        format::{Format, Read, Skipped},
    },
    digest::Digest,
    error::{Error, Result},
    store::artifact::ArtifactType,
};

pub struct Dataset;

impl Kind for Dataset {
    const NAME: &'static str = "dataset";
    const VERSION: u32 = 4;
    const ABOUT: &'static str = "Reads a dataset in its native layout, or generates one.";
    type Params = Format;

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("dataset", ArtifactType::Dataset)]
    }

    fn sources(params: &Format) -> Vec<SourcePath> {
        match params.generator() {
            Some(_) => Vec::new(),
            None => {
                vec![SourcePath { field: "root", path: params.root().to_path_buf(), obtain: params.obtain().into() }]
            }
        }
    }

    fn check(params: &Format) -> Vec<(String, String)> {
        params.generator().map_or_else(Vec::new, |g| g.problems())
    }

    fn images(leaf: Leaf, rows: f64) -> f64 {
        Self::rows(leaf, rows)
    }

    /// In patients or pictures as declared, for generated sets.
    fn rows(leaf: Leaf, _: f64) -> f64 {
        let pictures = |per: f64| leaf("categories").unwrap_or(1.0) * per;
        leaf("patients").or_else(|| leaf("per_category").map(pictures)).unwrap_or(1.0)
    }

    fn resources(params: &Format) -> Resources {
        Resources { threads: if params.generator().is_some() { 0 } else { 1 }, memory_bytes: 0 }
    }

    fn run(params: &Format, cell: &Cell) -> Result<()> {
        let mut skipped = Skipped::default();
        let table = match params.generator() {
            None => {
                let table = params.read(&mut skipped)?;
                let digests =
                    (0..table.rows()).map(|i| match cell.sources.digest(&image_path(params.root(), &table, i)?) {
                        Err(Error::Io { source, .. })
                            if skipped.images_unseen() && source.kind() == ErrorKind::NotFound =>
                        {
                            Ok(None)
                        }
                        digest => digest.map(Some),
                    });
                let digests = digests.collect::<Result<Vec<_>>>()?;
                let absent = digests.iter().filter(|d| d.is_none()).count() as u64;
                if absent > 0 {
                    cell.note("absent_images", absent, "rows whose image file is not there, kept by missing: keep");
                }
                table.with_column("digest", digest_column(&digests))?
            }
            Some(generator) => {
                let native = generator.generate(&cell.work.join("tree"), cell.progress, cell.cancel)?;
                let table = native.read(&mut skipped)?;
                let bytes = (0..table.rows())
                    .into_par_iter()
                    .map(|i| {
                        let path = image_path(native.root(), &table, i)?;
                        std::fs::read(&path).map_err(Error::io(&path))
                    })
                    .collect::<Result<Vec<_>>>()?;
                if bytes.iter().map(Vec::len).sum::<usize>() > i32::MAX as usize {
                    return Err(Error::invalid(
                        "the generated images have more than 2 GiB, which one table cannot hold",
                    )
                    .with_hint("generate fewer, or write them to a folder with scaleshot generate and read that"));
                }
                let digests: Vec<Option<Digest>> = bytes.par_iter().map(|b| Some(Digest::of(b))).collect();
                let column: BinaryArray = bytes.iter().map(|b| Some(b.as_slice())).collect();
                table.with_column("digest", digest_column(&digests))?.with_column("bytes", Arc::new(column))?
            }
        };
        for reason in skipped.reasons() {
            let what = if reason.dropped { "skipped_rows" } else { "unknown_values" };
            cell.note(what, reason.count, format!("{} ({})", reason.what, reason.examples.join("; ")));
        }
        rows::publish(cell, "dataset", ArtifactType::Dataset, &table, &[])
    }
}

fn image_path(root: &Path, table: &Table, row: usize) -> Result<std::path::PathBuf> {
    Ok(root.join(table.images()?.value(row)))
}

fn digest_column(digests: &[Option<Digest>]) -> ArrayRef {
    Arc::new(digests.iter().map(|d| d.map(|d| d.0)).collect::<BinaryArray>())
}
