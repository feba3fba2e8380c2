//! How far a word of the command line reaches from the cells that it names: `pretrain+` to all that follows
//! them, `+report` to all that they need.

use super::CellSpec;

/// As typed around a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// `+NAME`
    up: bool,
    /// `NAME+`
    down: bool,
}

impl Reach {
    /// Parts a word into the name and the signs around it. No name begins or ends with a plus.
    pub fn of(word: &str) -> (&str, Reach) {
        let (up, rest) = word.strip_prefix('+').map_or((false, word), |rest| (true, rest));
        let (down, name) = rest.strip_suffix('+').map_or((false, rest), |rest| (true, rest));
        (name, Reach { up, down })
    }

    /// Marks the cells found, and those that the reach adds. Parents come before their children in `cells`.
    pub fn mark(self, cells: &[CellSpec], found: Vec<usize>, chosen: &mut [bool]) {
        let parents = |i: usize| cells[i].inputs.values().flatten().map(|input| input.cell);
        let mut below = vec![false; if self.down { cells.len() } else { 0 }];
        if self.down {
            found.iter().for_each(|&i| below[i] = true);
            for i in 0..cells.len() {
                below[i] |= parents(i).any(|p| below[p]);
                chosen[i] |= below[i];
            }
        }
        let mut above = vec![false; if self.up { cells.len() } else { 0 }];
        if self.up {
            found.iter().for_each(|&i| above[i] = true);
            for i in (0..cells.len()).rev() {
                if above[i] {
                    parents(i).for_each(|p| above[p] = true);
                    chosen[i] = true;
                }
            }
        }
        found.into_iter().for_each(|i| chosen[i] = true);
    }
}
