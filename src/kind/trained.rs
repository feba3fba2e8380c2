//! Models as artifacts: weights, a card that says what they are, and which images they have seen.
//!
//! | file | holds |
//! |---|---|
//! | `weights.safetensors` | parameters under the checkpoint's names |
//! | `model.json` | architecture, outputs, the view that training used |
//! | `seen.parquet` | patient, content digest and perceptual hash of every training image, the base model's included |
//!
//! `seen.parquet` is what lets a later cell prove that its test images were never trained on.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Cell, Input};
use crate::{
    data::{
        augment::View,
        dataset::{Columns, Dataset, Task},
        image::phash,
        leakage,
        normalise::Normalise,
    },
    error::{Error, Result},
    model::{
        Bit, BitConfig,
        weights::{self, NameStyle},
    },
    store::artifact::{ArtifactType, FileRef},
};

const WEIGHTS: &str = "weights.safetensors";
const CARD: &str = "model.json";
const SEEN: &str = "seen.parquet";

/// What a reader of a model must know besides its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// `bit-r50x1`
    pub architecture: String,
    /// Whether outputs exclude each other.
    pub single_label: bool,
    /// Names of the outputs in order.
    pub outputs: Vec<String>,
    /// What the model saw of an image.
    pub view: View,
    /// How grey levels became its input; `None` is to -1 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<Normalise>,
    /// Names of the datasets that it was trained on, oldest first.
    pub trained_on: Vec<String>,
}

impl Card {
    pub fn new(
        architecture: &str,
        task: &Task,
        (view, normalise): (View, Option<Normalise>),
        trained_on: Vec<String>,
    ) -> Self {
        Card {
            architecture: architecture.into(),
            single_label: matches!(task, Task::Single(_)),
            outputs: task.names().to_vec(),
            view,
            normalise,
            trained_on,
        }
    }

    pub fn task(&self) -> Task {
        if self.single_label { Task::Single(self.outputs.clone()) } else { Task::Multi(self.outputs.clone()) }
    }
}

/// What is kept of the images that a model was trained on: patient, file digest and place in packed files, and the
/// upright bits of the perceptual hash.
pub fn seen(rows: &Dataset) -> Result<Dataset> {
    let mut seen = Columns { image: vec![String::new(); rows.rows()], ..Default::default() }.build()?;
    for column in ["patient", "digest", "record"] {
        if let Some(values) = rows.batch().column_by_name(column) {
            seen = seen.with_column(column, values.clone())?;
        }
    }
    if let Some(hashes) = leakage::upright_hashes(rows) {
        seen = seen.with_column(phash::COLUMN, Arc::new(hashes))?;
    }
    Ok(seen)
}

pub fn nothing_seen() -> Result<Dataset> {
    Columns::default().build()
}

/// A model read back from its artifact.
pub struct Trained {
    pub model: Bit,
    pub card: Card,
    pub seen: Dataset,
}

pub fn read(cell: &Cell, input: &Input) -> Result<Trained> {
    let card_path = cell.file(input, CARD)?;
    let card: Card = serde_json::from_slice(&std::fs::read(&card_path).map_err(Error::io(&card_path))?)?;
    let mut model = Bit::new(BitConfig::parse(&card.architecture, card.outputs.len())?, 0);
    weights::read(&cell.file(input, WEIGHTS)?)?.load(&mut model)?;
    let seen = match input.artifact.file(SEEN) {
        Some(_) => Dataset::read_parquet(&cell.file(input, SEEN)?, false)?,
        None => nothing_seen()?,
    };
    Ok(Trained { model, card, seen })
}

pub fn publish(cell: &Cell, output: &str, model: &Bit, card: &Card, seen: &Dataset) -> Result<()> {
    let at = |name: &str| -> PathBuf { cell.work.join(format!("{output}.{name}")) };
    weights::write(&at(WEIGHTS), model, NameStyle::Own)?;
    std::fs::write(at(CARD), serde_json::to_string_pretty(card)?).map_err(Error::io(at(CARD)))?;
    seen.write_parquet(&at(SEEN))?;
    let files: Vec<_> = [WEIGHTS, CARD, SEEN].iter().map(|n| (n.to_string(), at(n))).collect();
    cell.publish(output, ArtifactType::Model, &files)
}

/// Puts weights with other parameter names in the place of a model's among its files.
pub fn rename(cell: &Cell, input: &Input, files: &mut [FileRef], style: NameStyle) -> Result<()> {
    let Trained { model, .. } = read(cell, input)?;
    let path = cell.work.join(WEIGHTS);
    weights::write(&path, &model, style)?;
    let (digest, bytes) = cell.store.put_file(&path)?;
    for file in files.iter_mut().filter(|f| f.name == WEIGHTS) {
        (file.digest, file.bytes) = (digest, bytes);
    }
    Ok(())
}

/// Names of the datasets that rows come from, sorted.
pub fn dataset_names(rows: &Dataset) -> Vec<String> {
    let names: BTreeSet<&str> = rows.text("dataset").into_iter().flat_map(|c| c.iter().flatten()).collect();
    names.into_iter().map(str::to_string).collect()
}
