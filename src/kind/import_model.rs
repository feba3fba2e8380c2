//! `import_model`: weights from outside as a model: BiT `.npz`, safetensors, PyTorch `.pth` and `.pth.tar`.
//!
//! No pickle is executed. What images the weights have seen is not known, so leakage from them cannot be checked.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cell, Kind, SourcePath,
    trained::{self, Card},
};
use crate::{
    data::{augment::View, dataset::Task, normalise::Normalise},
    error::{Error, Result},
    model::weights,
    store::artifact::ArtifactType,
};

pub struct ImportModel;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The file. Its form is told by its content, its depth and width by its tensors.
    pub root: PathBuf,
    /// Names of the outputs in order; null: numbers. Ignored where the file has no head.
    #[serde(default)]
    pub outputs: Option<Vec<String>>,
    /// Whether outputs exclude each other, as in ImageNet.
    #[serde(default = "yes")]
    pub single_label: bool,
    /// What the model saw of an image.
    #[serde(default)]
    pub view: View,
    /// How grey levels became its input: `symmetric` (-1 to 1, as BiT; the default), `imagenet`, or
    /// `{ mean: [..], std: [..] }`.
    #[serde(default)]
    pub normalise: Option<Normalise>,
    /// Names of the datasets that it was trained on.
    #[serde(default)]
    pub trained_on: Vec<String>,
}

fn yes() -> bool {
    true
}

impl Kind for ImportModel {
    const NAME: &'static str = "import_model";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Reads weights of a BiT model from a file.";
    type Params = Params;

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("model", ArtifactType::Model)]
    }

    fn sources(params: &Params) -> Vec<SourcePath> {
        let obtain = "BiT weights are published as .npz, those of the study as .pth.tar".into();
        vec![SourcePath { field: "root", path: params.root.clone(), obtain }]
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        params.normalise.into_iter().flat_map(Normalise::check).collect()
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let weights = weights::read(&params.root)?;
        let classes = weights.config.classes.max(1);
        let (model, messages) = weights.model(Some(classes))?;
        for message in messages {
            cell.note("weights", 1, message);
        }
        if let Some(first) = weights.unknown.first() {
            cell.note("unknown_tensors", weights.unknown.len() as u64, format!("for one {first}"));
        }
        let outputs = match &params.outputs {
            Some(names) if names.len() == classes => names.clone(),
            Some(names) => {
                return Err(Error::invalid(format!(
                    "the file has {classes} outputs, {} names were given",
                    names.len()
                )));
            }
            None => (0..classes).map(|i| i.to_string()).collect(),
        };
        let task = if params.single_label { Task::Single(outputs) } else { Task::Multi(outputs) };
        let card = Card::new(&model.config().name(), &task, (params.view, params.normalise), params.trained_on.clone());
        trained::publish(cell, "model", &model, &card, &trained::nothing_seen()?)
    }
}
