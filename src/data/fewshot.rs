//! k examples of every class, drawn as the published study drew them, so that the same examples are found.
//!
//! | draw | used for | rule |
//! |---|---|---|
//! | `loader` | single-label sets | walk a random order and keep the last k seen of each class, until all have k |
//! | `labels` | PadChest | shuffle the rows of each class and take the first k |
//!
//! Both end with a shuffle of what was drawn. Order matters: indices are those of the rows as the published
//! readers order them.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    random::{numpy::RandomState, torch::Generator},
};

/// Which published rule draws the examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Draw {
    /// PyTorch's `randperm` orders all rows; of each class the last k rows seen are kept until every class
    /// has k; NumPy shuffles them. A class with fewer than k rows is an error.
    #[default]
    Loader,
    /// NumPy's `RandomState` shuffles each class's rows and takes the first k, then shuffles all of them. A
    /// class with fewer than k rows gives what it has.
    Labels,
}

/// Indices into `class` of `shots` rows of each of `classes` classes. Rows with a class below 0 are never drawn.
pub fn draw(rule: Draw, class: &[i32], classes: usize, shots: usize, seed: u32) -> Result<Vec<u32>> {
    match rule {
        Draw::Loader => loader(class, classes, shots, seed),
        Draw::Labels => Ok(labels(class, classes, shots, seed)),
    }
}

fn loader(class: &[i32], classes: usize, shots: usize, seed: u32) -> Result<Vec<u32>> {
    if shots == 0 {
        return Ok(Vec::new());
    }
    let mut generator = Generator::new(u64::from(seed));
    generator.skip_base_seed();
    let mut kept: Vec<VecDeque<u32>> = vec![VecDeque::new(); classes];
    let mut met: Vec<usize> = Vec::new();
    let mut found = 0;
    for row in generator.randperm(class.len()) {
        let Ok(c) = usize::try_from(class[row as usize]) else { continue };
        let Some(last) = kept.get_mut(c) else {
            return Err(Error::invalid(format!("class {c} of row {row} is not below {classes}")));
        };
        if last.is_empty() {
            met.push(c);
        }
        if last.len() == shots {
            last.pop_front();
            found -= 1;
        }
        last.push_back(row);
        found += 1;
        if found == shots * classes {
            let mut drawn: Vec<u32> = met.iter().flat_map(|&c| kept[c].iter().copied()).collect();
            RandomState::new(seed).shuffle(&mut drawn);
            return Ok(drawn);
        }
    }
    let poor = kept.iter().enumerate().find(|(_, k)| k.len() < shots).map_or((0, 0), |(c, k)| (c, k.len()));
    Err(Error::invalid(format!("class {} has {} rows, {shots} are asked for", poor.0, poor.1))
        .with_hint("ask for fewer shots, or use draw: labels, which takes what there is"))
}

fn labels(class: &[i32], classes: usize, shots: usize, seed: u32) -> Vec<u32> {
    let mut of: Vec<Vec<u32>> = vec![Vec::new(); classes];
    for (i, &c) in class.iter().enumerate() {
        if let Some(rows) = usize::try_from(c).ok().and_then(|c| of.get_mut(c)) {
            rows.push(i as u32);
        }
    }
    let mut random = RandomState::new(seed);
    let mut drawn = Vec::new();
    for rows in &mut of {
        random.shuffle(rows);
        drawn.extend(rows.iter().take(shots));
    }
    random.shuffle(&mut drawn);
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    // Reference numbers: protocol.json, computed with the published code.
    #[test]
    fn both_draws_are_the_published_ones() {
        let class: Vec<i32> = (0..50).map(|i| [0, 1, 2, 0, 1][i % 5]).collect();
        assert_eq!(draw(Draw::Loader, &class, 3, 1, 0).unwrap(), [32, 46, 23]);
        let class: Vec<i32> = (0..40).map(|i| i % 3).collect();
        assert_eq!(draw(Draw::Labels, &class, 4, 3, 0).unwrap(), [7, 12, 5, 18, 24, 32, 20, 10, 16]);
    }

    #[test]
    fn a_class_that_is_too_small_is_an_error_or_gives_what_it_has() {
        let class = [0, 0, 0, 1];
        let e = draw(Draw::Loader, &class, 2, 2, 0).unwrap_err();
        assert_eq!(e.to_string(), "class 1 has 1 rows, 2 are asked for");
        assert_eq!(draw(Draw::Labels, &class, 2, 2, 0).unwrap().len(), 3);
        assert!(draw(Draw::Loader, &[5], 2, 1, 0).is_err());
    }

    #[test]
    fn every_class_gets_its_share_and_unclassed_rows_none() {
        let class: Vec<i32> = (0..200).map(|i| if i % 7 == 0 { -1 } else { i % 4 }).collect();
        for rule in [Draw::Loader, Draw::Labels] {
            let drawn = draw(rule, &class, 4, 5, 3).unwrap();
            for c in 0..4 {
                assert_eq!(drawn.iter().filter(|&&i| class[i as usize] == c).count(), 5, "{rule:?} {c}");
            }
        }
    }
}
