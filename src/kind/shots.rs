//! How many examples of each class are learned from, and by which rule they are drawn.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    data::{
        dataset::{Dataset, Task},
        fewshot::{self, Draw},
    },
    error::{Error, Result},
};

/// A number of examples of each class, or `full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Shots {
    Count(u32),
    All(All),
}

/// Every example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum All {
    Full,
}

impl Default for Shots {
    fn default() -> Self {
        Shots::All(All::Full)
    }
}

impl Shots {
    pub fn check(self) -> Vec<(String, String)> {
        match self {
            Shots::Count(0) => vec![("shots".into(), "must be at least 1, or full".into())],
            _ => Vec::new(),
        }
    }

    /// Row numbers to train on. `node` names the data in errors.
    pub fn draw(self, rows: &Dataset, rule: Draw, seed: u32, node: &str) -> Result<Vec<u32>> {
        let Shots::Count(shots) = self else {
            return Ok((0..rows.rows() as u32).collect());
        };
        let (Task::Single(names), Some(column)) = (rows.task(), rows.classes()) else {
            return Err(Error::invalid(format!("{node} has several labels an image; shots need one class an image"))
                .with_hint("use shots: full, or make one class of its labels"));
        };
        let classes: Vec<i32> = column.iter().map(|c| c.unwrap_or(-1)).collect();
        for (class, name) in names.iter().enumerate() {
            let have = classes.iter().filter(|&&c| c == class as i32).count();
            if have < shots as usize && rule == Draw::Loader {
                let message = format!("{node}: class {name} has {have} training images, {shots} shots were asked for");
                return Err(Error::invalid(message).with_hint("draw: labels takes what there is"));
            }
        }
        fewshot::draw(rule, &classes, names.len(), shots as usize, seed)
    }
}
