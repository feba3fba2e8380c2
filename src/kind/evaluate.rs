//! `evaluate`: a model on a dataset it was not fine-tuned on, by the outputs that both have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cell, InputSpec, Kind, computed,
    examples::{self, Pictures},
    leak,
    measure::{self, Scale},
    trained,
    transfer::TEST_BATCH,
};
use crate::{
    data::{
        augment::View,
        dataset::{Dataset, Task},
        leakage::Leakage,
        normalise::Normalise,
    },
    error::{Error, Result},
    model::Precision,
    nn::cuda::Device,
    store::artifact::ArtifactType,
    train,
};

pub struct Evaluate;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The model.
    pub model: String,
    /// The dataset.
    pub data: String,
    /// The split that is scored; null: every row.
    #[serde(default = "test")]
    pub split: Option<String>,
    /// Side that images are brought to where no `images` node did it before, in pixels.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4096))]
    pub image_px: Option<u32>,
    /// What the model sees of an image; null: what it saw in training.
    #[serde(default)]
    pub view: Option<View>,
    /// How grey levels become the model's input: `symmetric` (-1 to 1), `imagenet`, or `{ mean: [..], std: [..] }`; null:
    /// as in training.
    #[serde(default)]
    pub normalise: Option<Normalise>,
    /// What images that training has seen do.
    #[serde(default)]
    pub leakage: Leakage,
    /// What activations are stored in; logits are f32 in both.
    #[serde(default)]
    pub precision: Precision,
    /// Where to compute: `auto` (a GPU where there is one), `cpu`, or `cuda:N`. It is no part of what the cell is.
    #[serde(default, skip_serializing)]
    pub device: Option<Device>,
}

fn test() -> Option<String> {
    Some("test".into())
}

impl Kind for Evaluate {
    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "Scores a model on a dataset, by the outputs that both have.";
    const HAS_DEVICE: bool = true;
    type Params = Params;

    fn inputs() -> &'static [InputSpec] {
        const {
            &[
                InputSpec::one("model", &[ArtifactType::Model]),
                InputSpec::one("data", &[ArtifactType::Images, ArtifactType::Dataset]),
            ]
        }
    }

    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        const {
            &[
                ("metrics", ArtifactType::Table),
                ("predictions", ArtifactType::Table),
                ("confusion", ArtifactType::Table),
                ("thresholds", ArtifactType::Table),
            ]
        }
    }

    fn check(params: &Params) -> Vec<(String, String)> {
        params.normalise.into_iter().flat_map(Normalise::check).collect()
    }

    fn gpus(params: &Params) -> u32 {
        computed::gpus(params.device, 1)
    }

    fn run(params: &Params, cell: &Cell) -> Result<()> {
        let input = cell.one("data")?;
        let trained::Trained { mut model, card, seen } = trained::read(cell, cell.one("model")?)?;
        model.set_precision(params.precision);
        computed::place(cell, &mut model, params.device, 1)?;
        computed::precision(cell, &model, params.precision);
        let pictures = Pictures::open(cell, input, params.image_px)?;
        let pictures = pictures.normalised(params.normalise.or(card.normalise));
        let rows = match &params.split {
            Some(split) => pictures.split(&input.node, split)?,
            None => pictures.data.clone(),
        };
        leak::check(cell, params.leakage, ("training", &seen), (&input.node, &rows))?;
        let (rows, outputs) = shared_outputs(&rows, &card.task(), &input.node)?;
        let rows = examples::keep_known(cell, rows, &input.node)?;
        let session = cell.session();
        let view = params.view.unwrap_or(card.view);
        let all = train::predict(&model, &pictures.examples(&rows)?, &view, TEST_BATCH, &session)?;
        let logits: Vec<f32> = all.chunks(card.outputs.len()).flat_map(|row| outputs.iter().map(|&i| row[i])).collect();
        measure::publish(cell, &rows, logits, Scale::Logit, &[])
    }
}

/// The rows with only those labels that the model has an output for, and these outputs' places.
fn shared_outputs(rows: &Dataset, model: &Task, node: &str) -> Result<(Dataset, Vec<usize>)> {
    let nothing = || {
        Error::invalid(format!(
            "{node} and the model share no label: {:?} and {:?}",
            rows.task().names(),
            model.names()
        ))
    };
    match (rows.task(), model) {
        (Task::Single(have), Task::Single(outputs)) if have == outputs => {
            Ok((rows.clone(), (0..outputs.len()).collect()))
        }
        (Task::Multi(have), Task::Multi(outputs)) => {
            let (mut labels, mut places) = (Vec::new(), Vec::new());
            for name in have {
                if let (Some(place), Some(column)) = (outputs.iter().position(|o| o == name), rows.label(name)) {
                    labels.push((name.clone(), column.clone()));
                    places.push(place);
                }
            }
            if places.is_empty() {
                return Err(nothing());
            }
            Ok((rows.with_labels(labels)?, places))
        }
        _ => Err(nothing().with_hint("fine-tune it there: transfer, or embed and probe")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Columns;

    #[test]
    fn outputs_are_matched_by_name() {
        let rows = Columns {
            image: vec!["a".into()],
            labels: vec![
                ("Mass".into(), vec![Some(1)]),
                ("Edema".into(), vec![None]),
                ("Hernia".into(), vec![Some(0)]),
            ],
            ..Default::default()
        }
        .build()
        .unwrap();
        let model = Task::Multi(vec!["Edema".into(), "Effusion".into(), "Mass".into()]);
        let (kept, places) = shared_outputs(&rows, &model, "n").unwrap();
        assert_eq!(kept.task().names(), ["Mass", "Edema"]);
        assert_eq!(places, [2, 0]);
        assert!(shared_outputs(&rows, &Task::Multi(vec!["Fracture".into()]), "n").is_err());
    }
}
