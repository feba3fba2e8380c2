//! `table`: a CSV or Parquet file from outside as a frame.

use std::path::PathBuf;

use polars::prelude::Column;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cell, Kind, SourcePath, frames};
use crate::{
    error::{Error, Result},
    report::frame::{self, Frame},
    store::artifact::ArtifactType,
};

pub struct Table;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The file: `.csv` or `.parquet`, or a folder of such files with the same columns.
    pub root: PathBuf,
    /// Name of an added column that holds each row's file name without ending; null: no such column.
    #[serde(default)]
    pub file_column: Option<String>,
}

impl Kind for Table {
    const NAME: &'static str = "table";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Reads a CSV or Parquet file as a frame.";
    type Params = Params;

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("table", ArtifactType::Table)]
    }

    fn sources(params: &Params) -> Vec<SourcePath> {
        vec![SourcePath { field: "root", path: params.root.clone(), obtain: "a table of your own".into() }]
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let files = files(&params.root)?;
        let mut frame: Option<Frame> = None;
        for file in files {
            let mut part = read(&file)?;
            if let Some(name) = &params.file_column {
                let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                part.with_column(Column::new(name.as_str().into(), vec![stem; part.height()]))?;
            }
            frame = Some(match frame {
                None => part,
                Some(mut all) => {
                    all.vstack_mut(&part).map_err(|e| Error::data(&file, None, format!("columns differ: {e}")))?;
                    all
                }
            });
        }
        let frame = frame.ok_or_else(|| Error::data(&params.root, None, "the folder holds no .csv or .parquet"))?;
        frames::publish(cell, "table", &frame)
    }
}

fn is_table(path: &std::path::Path) -> bool {
    matches!(path.extension().and_then(|e| e.to_str()), Some("csv" | "parquet"))
}

fn files(root: &std::path::Path) -> Result<Vec<PathBuf>> {
    if !root.is_dir() {
        return Ok(vec![root.to_path_buf()]);
    }
    let entries = std::fs::read_dir(root).map_err(Error::io(root))?;
    let mut files = entries
        .map(|e| e.map(|e| e.path()).map_err(Error::io(root)))
        .filter(|p| p.as_ref().map_or(true, |p| is_table(p)))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn read(path: &std::path::Path) -> Result<Frame> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("parquet") => frame::read_parquet(path),
        Some("csv") => frame::read_csv(path),
        _ => Err(Error::data(path, None, "not a .csv or .parquet file")),
    }
}
