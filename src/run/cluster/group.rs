//! From cells to submissions: neighbours of one node with equal needs and equal parents become one array.
//!
//! Equal parents, since an array waits as a whole: with more in it than shares a parent, one failure would cancel
//! cells that do not need it.

use std::collections::BTreeSet;

use super::profile::Request;

/// A cell that is to be submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish<'a> {
    pub cell: usize,
    pub node: &'a str,
    pub request: Request,
    /// Cells that have to be done first, not done yet.
    pub parents: BTreeSet<usize>,
}

/// Cells for one submission, in order.
pub type Group<'a> = Vec<Wish<'a>>;

/// Groups in the order of their first cell. `max_array` is above every index of a task, counted from the first
/// cell of its group; 0 makes no arrays.
pub fn groups<'a>(wishes: Vec<Wish<'a>>, max_array: usize) -> Vec<Group<'a>> {
    let mut groups: Vec<Group> = Vec::new();
    // Cells of one node are neighbours, those with equal parents among them not always: the open groups of the node.
    let mut open: Vec<usize> = Vec::new();
    for wish in wishes {
        if open.first().is_some_and(|&g| groups[g][0].node != wish.node) {
            open.clear();
        }
        let fits = |group: &Group| {
            let first = &group[0];
            wish.cell - first.cell < max_array && first.request == wish.request && first.parents == wish.parents
        };
        match open.iter().rev().copied().find(|&g| fits(&groups[g])) {
            Some(g) => groups[g].push(wish),
            None => {
                open.push(groups.len());
                groups.push(vec![wish]);
                // A search among many open groups costs more than a few smaller arrays.
                if open.len() > 64 {
                    open.remove(0);
                }
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(cell: usize, node: &'static str, cpus: u32, parents: &[usize]) -> Wish<'static> {
        Wish { cell, node, request: Request { cpus, ..Request::default() }, parents: parents.iter().copied().collect() }
    }

    fn cells(groups: &[Group]) -> Vec<Vec<usize>> {
        groups.iter().map(|g| g.iter().map(|w| w.cell).collect()).collect()
    }

    #[test]
    fn equal_needs_and_parents_make_an_array() {
        let wishes = vec![
            wish(3, "a", 1, &[0]),
            wish(4, "a", 1, &[1]),
            wish(5, "a", 1, &[0]),
            wish(6, "a", 2, &[0]),
            wish(7, "a", 1, &[1]),
            wish(9, "b", 1, &[0]),
        ];
        assert_eq!(cells(&groups(wishes.clone(), 1000)), [vec![3, 5], vec![4, 7], vec![6], vec![9]]);
        assert_eq!(cells(&groups(wishes.clone(), 3)), [vec![3, 5], vec![4], vec![6], vec![7], vec![9]]);
        assert_eq!(groups(wishes, 0).len(), 6);
    }

    #[test]
    fn an_array_is_split_where_its_tasks_would_reach_the_limit() {
        let wishes = (10..2510).map(|cell| wish(cell, "a", 1, &[])).collect();
        let sizes: Vec<usize> = groups(wishes, 1001).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1001, 1001, 498]);
    }
}
