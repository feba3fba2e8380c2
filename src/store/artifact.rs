//! Artifacts: what a cell leaves behind, as named files known by content.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What the files of an artifact are, and so which inputs accept it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactType {
    /// `table.parquet` in the dataset schema (see `data::dataset`).
    Dataset,
    /// `table.parquet` and `shard-00000.arrow` … of equally sized uint8 images.
    Images,
    /// `weights.safetensors` and `model.json`.
    Model,
    /// `features.parquet`: one row an image, a vector and its labels.
    Features,
    /// `table.parquet`, any columns.
    Table,
    /// Parquet files, `index.html` and whatever the page needs.
    Report,
    /// Anything else.
    Files,
}

impl ArtifactType {
    pub fn name(self) -> &'static str {
        match self {
            ArtifactType::Dataset => "dataset",
            ArtifactType::Images => "images",
            ArtifactType::Model => "model",
            ArtifactType::Features => "features",
            ArtifactType::Table => "table",
            ArtifactType::Report => "report",
            ArtifactType::Files => "files",
        }
    }
}

/// One file of an artifact. `name` is relative, with forward slashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    pub name: String,
    pub digest: Digest,
    pub bytes: u64,
}

/// Files sorted by name; its digest covers type, names and contents, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    #[serde(rename = "type")]
    pub kind: ArtifactType,
    pub files: Vec<FileRef>,
}

impl Artifact {
    pub fn new(kind: ArtifactType, mut files: Vec<FileRef>) -> Self {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Artifact { kind, files }
    }

    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.kind.name().as_bytes());
        for file in &self.files {
            hasher.update(&(file.name.len() as u64).to_le_bytes());
            hasher.update(file.name.as_bytes());
            hasher.update(&file.digest.0);
        }
        Digest(*hasher.finalize().as_bytes())
    }

    pub fn file(&self, name: &str) -> Option<&FileRef> {
        self.files.iter().find(|f| f.name == name)
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}
