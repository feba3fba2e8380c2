//! Predictions as a frame: what a model said about every row, so that any metric can be made again.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `image` | text | the row of the dataset |
//! | `patient` | text, null | for bootstraps by patient; absent where the set has no patients |
//! | `class` | int32, null | single label: the true class |
//! | `label:NAME` | int8, null | multi label: the truth of one finding |
//! | `logit:NAME` | float32 | what the model said of one class or finding |

use polars::prelude::*;

use super::frame::{Frame, unknown_column};
use crate::{
    error::{Error, Result},
    eval::metric::{Scores, Truth, score},
};

const LOGIT: &str = "logit:";
const LABEL: &str = "label:";

/// Logits row-major, with the truth of every row. Values below 0 are unknown.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    pub image: Vec<String>,
    pub patient: Option<Vec<Option<String>>>,
    pub names: Vec<String>,
    pub logits: Vec<f32>,
    pub truth: Truths,
}

/// An owned [`Truth`].
#[derive(Clone, Debug, PartialEq)]
pub enum Truths {
    Class(Vec<i32>),
    Labels(Vec<i8>),
}

impl Predictions {
    pub fn truth(&self) -> Truth<'_> {
        match &self.truth {
            Truths::Class(c) => Truth::Class(c),
            Truths::Labels(l) => Truth::Labels(l),
        }
    }

    pub fn score(&self) -> Scores {
        score(&self.logits, self.names.len(), self.truth())
    }

    /// One class's or finding's logits, row by row.
    pub fn logit(&self, class: usize) -> Vec<f32> {
        self.logits.iter().skip(class).step_by(self.names.len().max(1)).copied().collect()
    }

    pub fn frame(&self) -> Result<Frame> {
        let (rows, width) = (self.image.len(), self.names.len());
        let truths = match &self.truth {
            Truths::Class(c) => c.len(),
            Truths::Labels(l) => l.len().checked_div(width).unwrap_or(0),
        };
        if self.logits.len() != rows * width || truths != rows {
            return Err(Error::invalid(format!(
                "bug: {} logits and {truths} truths for {rows} rows of {width}",
                self.logits.len()
            )));
        }
        let mut columns = vec![Column::new("image".into(), &self.image)];
        if let Some(patient) = &self.patient {
            columns.push(Column::new("patient".into(), patient));
        }
        match &self.truth {
            Truths::Class(class) => {
                let class: Vec<Option<i32>> = class.iter().map(|&c| (c >= 0).then_some(c)).collect();
                columns.push(Column::new("class".into(), class));
            }
            Truths::Labels(labels) => {
                for (l, name) in self.names.iter().enumerate() {
                    let values: Vec<Option<i8>> =
                        labels.iter().skip(l).step_by(width).map(|&v| (v >= 0).then_some(v)).collect();
                    columns.push(Column::new(format!("{LABEL}{name}").into(), values));
                }
            }
        }
        for (l, name) in self.names.iter().enumerate() {
            columns.push(Column::new(format!("{LOGIT}{name}").into(), self.logit(l)));
        }
        Ok(DataFrame::new(rows, columns)?)
    }

    /// Reads back what [`Predictions::frame`] wrote.
    pub fn from_frame(frame: &Frame) -> Result<Self> {
        let rows = frame.height();
        let column = |name: &str| frame.column(name).map_err(|_| unknown_column(frame, name));
        let texts = |name: &str| -> Result<Vec<Option<String>>> {
            Ok(column(name)?.str()?.iter().map(|v| v.map(str::to_string)).collect())
        };
        let names: Vec<String> =
            frame.columns().iter().filter_map(|c| c.name().strip_prefix(LOGIT)).map(str::to_string).collect();
        let width = names.len();
        let mut logits = vec![f32::NAN; rows * width];
        for (l, name) in names.iter().enumerate() {
            let values = column(&format!("{LOGIT}{name}"))?.cast(&DataType::Float32)?;
            for (i, v) in values.f32()?.iter().enumerate() {
                logits[i * width + l] = v.unwrap_or(f32::NAN);
            }
        }
        let truth = if frame.column("class").is_ok() {
            let values = column("class")?.cast(&DataType::Int32)?;
            Truths::Class(values.i32()?.iter().map(|v| v.unwrap_or(-1)).collect())
        } else {
            let mut labels = vec![-1i8; rows * width];
            for (l, name) in names.iter().enumerate() {
                let values = column(&format!("{LABEL}{name}"))?.cast(&DataType::Int8)?;
                for (i, v) in values.i8()?.iter().enumerate() {
                    labels[i * width + l] = v.unwrap_or(-1);
                }
            }
            Truths::Labels(labels)
        };
        let image = texts("image")?.into_iter().map(Option::unwrap_or_default).collect();
        let patient = if frame.column("patient").is_ok() { Some(texts("patient")?) } else { None };
        Ok(Predictions { image, patient, names, logits, truth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_survive_a_frame_with_their_unknowns() {
        let multi = Predictions {
            image: vec!["a.png".into(), "b.png".into()],
            patient: Some(vec![Some("p1".into()), None]),
            names: vec!["Effusion".into(), "Mass".into(), "Nodule".into()],
            logits: vec![0.5, -1.0, 2.0, 0.25, 3.0, -4.0],
            truth: Truths::Labels(vec![1, 0, -1, 0, 1, 1]),
        };
        assert_eq!(Predictions::from_frame(&multi.frame().unwrap()).unwrap(), multi);
        let single = Predictions { truth: Truths::Class(vec![2, -1]), patient: None, ..multi };
        let back = Predictions::from_frame(&single.frame().unwrap()).unwrap();
        assert_eq!(back, single);
        assert_eq!(back.score().value("accuracy"), Some(1.0));
        assert_eq!(back.logit(2), [2.0, -4.0]);
    }

    #[test]
    fn lengths_that_do_not_fit_are_an_error() {
        let p = Predictions {
            image: vec!["a".into()],
            patient: None,
            names: vec!["x".into(), "y".into()],
            logits: vec![1.0],
            truth: Truths::Class(vec![0]),
        };
        assert!(p.frame().unwrap_err().to_string().starts_with("bug:"));
    }
}
