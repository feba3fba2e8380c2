//! Kinds for the tests of this room. They compute nothing: pipelines here are parsed, not run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Registry;
use crate::{
    error::Result,
    kind::{Arity, Cell, Erased, InputSpec, Kind},
    store::artifact::ArtifactType::{self, Dataset, Images, Model, Table},
};

pub static KINDS: Registry<'static> =
    &[&Erased::<Source>::NEW, &Erased::<Join>::NEW, &Erased::<Train>::NEW, &Erased::<Tune>::NEW, &Erased::<Sum>::NEW];

struct Source;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "format", rename_all = "snake_case", deny_unknown_fields)]
enum SourceParams {
    /// Folders of images.
    ImageFolder {
        root: String,
    },
    Cifar {
        root: String,
        classes: Option<u32>,
    },
}

impl Kind for Source {
    const NAME: &'static str = "source";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Reads a dataset.";
    type Params = SourceParams;
    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("dataset", Dataset)]
    }
    fn run(_: &SourceParams, _: &Cell) -> Result<()> {
        Ok(())
    }
}

struct Join;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JoinParams {
    from: Vec<String>,
    /// Views to keep.
    #[serde(default)]
    views: Vec<View>,
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    fraction: Option<f64>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum View {
    PA,
    AP,
}

impl Kind for Join {
    const NAME: &'static str = "join";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Makes one dataset of many.";
    type Params = JoinParams;
    fn inputs() -> &'static [InputSpec] {
        &[InputSpec { field: "from", accepts: &[Dataset, Images], prefers: None, arity: Arity::Cells, named: false }]
    }
    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("dataset", Dataset), ("origin", Table)]
    }
    fn check(params: &JoinParams) -> Vec<(String, String)> {
        if params.from.is_empty() { vec![("from".into(), "there is nothing to join".into())] } else { Vec::new() }
    }
    fn run(_: &JoinParams, _: &Cell) -> Result<()> {
        Ok(())
    }
}

struct Train;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TrainParams {
    data: String,
    model: String,
    #[serde(default)]
    epochs: u32,
    #[serde(default)]
    optimizer: Option<Optimizer>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Optimizer {
    SgdAgc(SgdAgc),
    Adam {},
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SgdAgc {
    /// The learning rate of a batch of 256.
    lr: f64,
    #[serde(default)]
    momentum: f64,
}

impl Kind for Train {
    const NAME: &'static str = "train";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Trains a model.";
    type Params = TrainParams;
    fn inputs() -> &'static [InputSpec] {
        &[InputSpec { field: "data", accepts: &[Images, Dataset], prefers: None, arity: Arity::One, named: false }]
    }
    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("model", Model), ("curve", Table)]
    }
    fn run(_: &TrainParams, _: &Cell) -> Result<()> {
        Ok(())
    }
}

struct Tune;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TuneParams {
    model: String,
    data: String,
    shots: Shots,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    teacher: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Shots {
    Count(u32),
    Word(Full),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Full {
    Full,
}

impl Kind for Tune {
    const NAME: &'static str = "tune";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Tunes a model.";
    type Params = TuneParams;
    fn inputs() -> &'static [InputSpec] {
        &[
            InputSpec { field: "model", accepts: &[Model], prefers: None, arity: Arity::One, named: false },
            InputSpec { field: "data", accepts: &[Dataset], prefers: None, arity: Arity::One, named: false },
            InputSpec { field: "teacher", accepts: &[Model], prefers: None, arity: Arity::Optional, named: false },
        ]
    }
    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("predictions", Table), ("metrics", Table), ("model", Model)]
    }
    fn run(_: &TuneParams, _: &Cell) -> Result<()> {
        Ok(())
    }
}

struct Sum;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SumParams {
    tables: Vec<String>,
    #[serde(default)]
    across: Option<String>,
}

impl Kind for Sum {
    const NAME: &'static str = "sum";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Puts tables together.";
    type Params = SumParams;
    fn inputs() -> &'static [InputSpec] {
        &[InputSpec { field: "tables", accepts: &[Table], prefers: Some("metrics"), arity: Arity::Cells, named: false }]
    }
    fn outputs() -> &'static [(&'static str, ArtifactType)] {
        &[("table", Table)]
    }
    fn run(_: &SumParams, _: &Cell) -> Result<()> {
        Ok(())
    }
}
