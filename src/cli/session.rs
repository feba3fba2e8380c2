//! What most commands are about: a pipeline, and the store that holds its results.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use crate::{
    pipeline::{LoadOptions, Pipeline, load},
    store::{Store, source::SourceIndex},
};

/// `--store`, as typed.
#[derive(Debug, Args)]
pub struct StoreArguments {
    /// Where results live: a folder, or a URL [default: $SCALESHOT_STORE, or else .scaleshot]
    #[arg(long, value_name = "PLACE")]
    pub store: Option<PathBuf>,
}

impl StoreArguments {
    pub fn place(&self) -> PathBuf {
        let named = std::env::var_os("SCALESHOT_STORE").filter(|v| !v.is_empty()).map(PathBuf::from);
        self.store.clone().or(named).unwrap_or_else(|| ".scaleshot".into())
    }

    pub fn open(&self) -> Result<Store, Failure> {
        Ok(Store::open(self.place())?)
    }

    /// As [`Self::open`], for commands that only look: a folder is not made where there is none.
    pub fn open_existing(&self) -> Result<Store, Failure> {
        let place = self.place();
        let text = place.to_string_lossy();
        if !text.contains("://") && !place.exists() {
            let hint = Some("`scaleshot run` makes one; --store PLACE or SCALESHOT_STORE names another".to_string());
            return Err(Failure::words(format!("there is no store at {text}"), hint));
        }
        self.open()
    }
}

/// A pipeline file and its parameters, as typed.
#[derive(Debug, Args)]
pub struct PipelineArguments {
    /// The pipeline file
    #[arg(value_name = "PIPELINE")]
    pub file: PathBuf,
    /// Replace a parameter of the pipeline; the value is YAML, dotted names go into maps
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = assignment)]
    pub params: Vec<(String, String)>,
    /// Refuse pipelines with more cells
    #[arg(long, default_value_t = LoadOptions::default().max_cells, value_name = "N")]
    pub max_cells: usize,
}

pub fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().into(), value.into())),
        _ => Err("expected name=value".into()),
    }
}

impl PipelineArguments {
    pub fn load(&self) -> Result<Pipeline, Failure> {
        let options = LoadOptions { params: self.params.clone(), max_cells: self.max_cells, ..LoadOptions::default() };
        Ok(load(&self.file, &options)?)
    }
}

/// A pipeline that was read, and its opened store.
pub struct Session {
    pub pipeline: Pipeline,
    pub store: Store,
    pub sources: SourceIndex,
    /// Dropped last.
    _made: Made,
}

/// Folders of a store that were not there before, the innermost first. Whoever only looked leaves none behind: they are
/// removed again as far as nothing was put into them.
struct Made(Vec<PathBuf>);

impl Made {
    /// What opening a store here will make.
    fn for_store(place: &Path) -> Self {
        if place.to_string_lossy().contains("://") {
            return Made(Vec::new());
        }
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        Made(place.ancestors().take_while(missing).map(Path::to_path_buf).collect())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for folder in &self.0 {
            // Refused where there is something in it, and then it stays with those around it.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

impl Session {
    pub fn open(pipeline: &PipelineArguments, store: &StoreArguments) -> Result<Self, Failure> {
        let pipeline = pipeline.load()?;
        let made = Made::for_store(&store.place());
        let store = store.open()?;
        let sources = SourceIndex::open(&store)?;
        Ok(Session { pipeline, store, sources, _made: made })
    }

    /// The cells that words name, as indices; `None` without words, which means all.
    pub fn only(&self, words: &[String]) -> Result<Option<Vec<usize>>, Failure> {
        if words.is_empty() {
            return Ok(None);
        }
        self.pipeline.select(words).map(Some).map_err(Failure::Words)
    }
}
