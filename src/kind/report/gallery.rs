//! Sample images with what a model said of them.
//!
//! One gallery for each set of images: the predictions of the last cell that is of them, and rows at even
//! distances over its test set, so that nobody picked them.

use std::collections::HashMap;

use super::super::{Cell, Input, frames, rows};
use crate::{
    data::{
        dataset::Dataset,
        image::{ImageShards, encode},
    },
    error::Result,
    eval::metric::probability::{sigmoid, softmax},
    report::{
        frame,
        html::{Gallery, Sample},
        predictions::{Predictions, Truths},
    },
};

const SAMPLES: usize = 8;

pub fn galleries(cell: &Cell) -> Result<Vec<Gallery>> {
    let mut out = Vec::new();
    for images in cell.many("images") {
        let Some(shards) = rows::shards(cell, images)? else {
            cell.note("no_samples", 1, format!("the images of {} are not decoded", images.node));
            continue;
        };
        let data = rows::read(cell, images, false)?;
        let places = places(&data)?;
        let mut chosen = None;
        for input in cell.many("predictions") {
            let predictions = Predictions::from_frame(&frames::read(cell, input)?)?;
            if predictions.image.iter().all(|i| places.contains_key(i)) {
                chosen = Some((input, predictions));
            }
        }
        if let Some((input, predictions)) = chosen {
            out.push(gallery(input, &predictions, &places, &shards)?);
        }
    }
    Ok(out)
}

/// Where each image lies, by the name that predictions call it.
fn places(data: &Dataset) -> Result<HashMap<String, (u32, u32)>> {
    let names = super::super::measure::image_names(data)?;
    Ok(names.into_iter().zip(rows::places(data)?).collect())
}

fn gallery(
    input: &Input,
    predictions: &Predictions,
    places: &HashMap<String, (u32, u32)>,
    shards: &ImageShards,
) -> Result<Gallery> {
    let (n, width) = (predictions.image.len(), predictions.names.len());
    let count = SAMPLES.min(n);
    let mut samples = Vec::with_capacity(count);
    for k in 0..count {
        let row = k * n / count;
        let (shard, slot) = places[&predictions.image[row]];
        let pixels = shards.image(shard, slot)?;
        samples.push(sample(predictions, row, width, encode::png(&pixels)?));
    }
    let axes: Vec<String> = input.axes.iter().map(|(n, v)| format!("{n} {}", frame::label(v))).collect();
    Ok(Gallery {
        title: format!("{}: {}", input.node, axes.join(", ")),
        note: format!("{count} of {n} test images, at even distances."),
        samples,
    })
}

fn sample(predictions: &Predictions, row: usize, width: usize, png: Vec<u8>) -> Sample {
    let logits: Vec<f64> = predictions.logits[row * width..][..width].iter().map(|&l| f64::from(l)).collect();
    let name = |i: usize| predictions.names[i].clone();
    match &predictions.truth {
        Truths::Class(classes) => {
            let p = softmax(&logits, width);
            let best = (0..width).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
            let truth = usize::try_from(classes[row]).ok();
            Sample {
                png,
                truth: truth.map_or("unknown".into(), name),
                predicted: name(best),
                probability: p.get(best).copied(),
                right: truth.map(|t| t == best),
            }
        }
        Truths::Labels(labels) => {
            let truths = &labels[row * width..][..width];
            let list = |keep: &dyn Fn(usize) -> bool| -> String {
                let found: Vec<String> = (0..width).filter(|&i| keep(i)).map(name).collect();
                if found.is_empty() { "none".into() } else { found.join(", ") }
            };
            let said = |i: usize| sigmoid(logits[i]) >= 0.5;
            let known = truths.iter().enumerate().filter(|(_, t)| **t >= 0);
            let right = known.clone().all(|(i, t)| said(i) == (*t == 1));
            Sample {
                png,
                truth: list(&|i| truths[i] == 1),
                predicted: list(&|i| said(i)),
                probability: None,
                right: (known.count() > 0).then_some(right),
            }
        }
    }
}
