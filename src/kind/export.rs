//! `export`: an artifact's files outside the store, in a folder or under a URL.

use std::{collections::BTreeMap, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cell, InputSpec, Kind, trained};
use crate::{
    error::{Error, Result},
    model::weights::NameStyle,
    store::{
        artifact::{Artifact, ArtifactType},
        objects::Objects,
    },
};

pub struct Export;

const ANY: &[ArtifactType] = &[
    ArtifactType::Report,
    ArtifactType::Table,
    ArtifactType::Model,
    ArtifactType::Dataset,
    ArtifactType::Images,
    ArtifactType::Features,
    ArtifactType::Files,
];

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The artifact: `NODE` or `NODE.OUTPUT`.
    pub from: String,
    /// A folder, or a URL that the store can write to.
    pub to: String,
    /// Whose parameter names a model's weights get; null: ours, which are the published PyTorch checkpoints'.
    #[serde(default)]
    pub names: Option<NameStyle>,
}

impl Kind for Export {
    const NAME: &'static str = "export";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Writes an artifact's files to a folder or URL outside the store.";
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const { &[InputSpec::one("from", ANY)] }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("files", ArtifactType::Files)]
    }

    /// Looks at names and sizes of a local folder; what lies under a URL is not asked for.
    fn undelivered(params: &Params, outputs: &BTreeMap<String, Artifact>) -> Option<String> {
        let folder = local_folder(&params.to)?;
        outputs.values().flat_map(|a| &a.files).find_map(|file| {
            let path = folder.join(&file.name);
            match std::fs::metadata(&path) {
                Err(_) => Some(format!("{} is gone", path.display())),
                Ok(m) if m.len() != file.bytes => Some(format!("{} was changed", path.display())),
                Ok(_) => None,
            }
        })
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let input = cell.one("from")?;
        let target = Objects::open(&params.to)?;
        let mut files = input.artifact.files.clone();
        if params.names == Some(NameStyle::Timm) {
            if input.artifact.kind != ArtifactType::Model {
                let what = input.artifact.kind.name();
                return Err(Error::invalid(format!("names are of a model's weights, and {} is {what}", params.from)));
            }
            trained::rename(cell, input, &mut files, NameStyle::Timm)?;
        }
        cell.progress.begin(files.len() as u64, "files");
        for file in &files {
            cell.cancel.check()?;
            target.upload(&file.name, &cell.store.local(&file.digest)?)?;
            cell.progress.advance(1);
        }
        cell.publish_refs("files", ArtifactType::Files, files)
    }
}

fn local_folder(to: &str) -> Option<&Path> {
    match to.split_once("://") {
        None => Some(Path::new(to)),
        Some(("file", path)) => Some(Path::new(path)),
        Some(_) => None,
    }
}
