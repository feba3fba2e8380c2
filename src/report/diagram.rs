//! Nodes and edges in layers from left to right, as SVG.
//!
//! A node stands one layer after the last of what it needs, or as late as what needs it allows, so that edges are
//! short. Edges that pass a layer have a place of their own there, and slots stand in the order of the mean height
//! of what leads to them, which keeps most edges from crossing (Sugiyama et al. 1981, with one sweep).

use std::collections::{BTreeMap, HashMap};

use super::{
    html::escape,
    plot::{Drawing, fit, text_width},
};
use crate::error::Result;

/// One box.
#[derive(Clone, Debug, Default)]
pub struct Vertex {
    pub name: String,
    /// What it is, told when it is pointed at.
    pub about: String,
    /// The second line in the box.
    pub under: String,
    /// More of it, broken into lines: the axes of a matrix.
    pub more: String,
    /// Places of what it needs; each comes before it.
    pub parents: Vec<usize>,
    /// Stands for many, and is drawn as a stack.
    pub many: bool,
    /// Failed, or the like.
    pub bad: bool,
}

/// A drawn graph: elements with the classes of `plot.css`.
pub struct Diagram {
    pub width: f64,
    pub height: f64,
    pub body: String,
    pub description: String,
}

const WIDE: f64 = 176.0;
/// Height of a box without lines of [`Vertex::more`], and of each of them.
const HIGH: f64 = 46.0;
const LINE: f64 = 15.0;
const STEP: f64 = WIDE + 56.0;
const MARGIN: f64 = 8.0;

/// What stands in a layer: a node, or an edge on its way past.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Slot {
    Node(usize),
    Pass { from: usize, to: usize },
}

/// The layer of every node.
fn layers(nodes: &[Vertex]) -> Vec<usize> {
    let mut layer = vec![0; nodes.len()];
    // Longest path from a source. Parents mostly come first, so that few rounds are needed; at most as many as nodes,
    // so that a cycle cannot hold it up.
    for _ in 0..nodes.len() {
        let mut changed = false;
        for i in 0..nodes.len() {
            let above = nodes[i].parents.iter().map(|&p| layer[p] + 1).max().unwrap_or(0).min(nodes.len());
            changed |= std::mem::replace(&mut layer[i], above) != above;
        }
        if !changed {
            break;
        }
    }
    let mut below: Vec<Option<usize>> = vec![None; nodes.len()];
    for i in (0..nodes.len()).rev() {
        if let Some(child) = below[i] {
            layer[i] = layer[i].max(child.saturating_sub(1));
        }
        for &p in &nodes[i].parents {
            below[p] = Some(below[p].map_or(layer[i], |b| b.min(layer[i])));
        }
    }
    layer
}

/// y of every slot of every layer, and the height of the whole.
fn places(nodes: &[Vertex], layer: &[usize], high: f64) -> (Vec<BTreeMap<Slot, f64>>, f64) {
    let count = layer.iter().map(|l| l + 1).max().unwrap_or(0);
    let mut slots_of: Vec<Vec<Slot>> = vec![Vec::new(); count];
    // What leads to each slot: a node may be led to by many edges, a passing edge by its own beginning.
    let mut leads: HashMap<(usize, Slot), Vec<Slot>> = HashMap::new();
    for (to, node) in nodes.iter().enumerate() {
        slots_of[layer[to]].push(Slot::Node(to));
        for &from in node.parents.iter().filter(|&&p| layer[p] < layer[to]) {
            let mut before = Slot::Node(from);
            for (l, slots) in slots_of.iter_mut().enumerate().take(layer[to]).skip(layer[from] + 1) {
                slots.push(Slot::Pass { from, to });
                leads.entry((l, Slot::Pass { from, to })).or_default().push(before);
                before = Slot::Pass { from, to };
            }
            leads.entry((layer[to], Slot::Node(to))).or_default().push(before);
        }
    }
    let mut placed: Vec<BTreeMap<Slot, f64>> = Vec::new();
    let mut tallest: f64 = 0.0;
    for (l, slots) in slots_of.iter().enumerate() {
        let height = |slot: &Slot| {
            let led: Vec<f64> = leads
                .get(&(l, *slot))
                .into_iter()
                .flatten()
                .filter_map(|before| placed.get(l.wrapping_sub(1))?.get(before).copied())
                .collect();
            if led.is_empty() { f64::MAX } else { led.iter().sum::<f64>() / led.len() as f64 }
        };
        let mut ordered: Vec<(f64, Slot)> = slots.iter().map(|s| (height(s), *s)).collect();
        ordered.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut y = MARGIN + high / 2.0;
        let mut last = false;
        let mut place = BTreeMap::new();
        for (i, (_, slot)) in ordered.iter().enumerate() {
            let is_node = matches!(slot, Slot::Node(_));
            if i > 0 {
                y += match (last, is_node) {
                    (true, true) => high + 20.0,
                    (false, false) => 12.0,
                    _ => high / 2.0 + 16.0,
                };
            }
            last = is_node;
            place.insert(*slot, y);
        }
        tallest = tallest.max(y + high / 2.0 + MARGIN);
        placed.push(place);
    }
    (placed, tallest)
}

/// Words in lines of at most `width` units; a word that is longer is cut.
fn broken(text: &str, width: f64) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in text.split(" × ").filter(|w| !w.is_empty()) {
        match out.last_mut() {
            Some(line) if text_width(&format!("{line} × {word}")) <= width => line.push_str(&format!(" × {word}")),
            _ => out.push(fit(word, width)),
        }
    }
    out
}

impl Diagram {
    pub fn of(nodes: Vec<Vertex>) -> Self {
        let layer = layers(&nodes);
        let more: Vec<Vec<String>> = nodes.iter().map(|n| broken(&n.more, WIDE - 18.0)).collect();
        // One height for all, so that edges stay level.
        let high = HIGH + LINE * more.iter().map(Vec::len).max().unwrap_or(0) as f64;
        let (placed, height) = places(&nodes, &layer, high);
        let left = |layer: usize| layer as f64 * STEP + MARGIN;
        let width = left(placed.len()) - (STEP - WIDE) + MARGIN;
        let mut body = String::new();
        for (to, node) in nodes.iter().enumerate() {
            for &from in node.parents.iter().filter(|&&p| layer[p] < layer[to]) {
                let start = layer[from];
                let mut y0 = placed[start][&Slot::Node(from)];
                let mut path = format!("M{} {y0}", left(start) + WIDE);
                for (l, place) in placed.iter().enumerate().take(layer[to] + 1).skip(start + 1) {
                    let end = l == layer[to];
                    let slot = if end { Slot::Node(to) } else { Slot::Pass { from, to } };
                    let Some(&y1) = place.get(&slot) else { continue };
                    let (x0, x1) = (left(l - 1) + WIDE, left(l));
                    let middle = (x0 + x1) / 2.0;
                    path.push_str(&format!("C{middle} {y0} {middle} {y1} {x1} {y1}"));
                    if !end {
                        path.push_str(&format!("H{}", x1 + WIDE));
                    }
                    y0 = y1;
                }
                body.push_str(&format!("<path class=\"base\" d=\"{path}\"/>"));
            }
        }
        for (i, n) in nodes.iter().enumerate() {
            let (x, y) = (left(layer[i]), placed[layer[i]][&Slot::Node(i)] - high / 2.0);
            let class = if n.bad { "node bad" } else { "node" };
            let frame = |d: f64| {
                format!(
                    "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{WIDE}\" height=\"{high}\" rx=\"4\"/>",
                    x + d,
                    y + d
                )
            };
            let stack = if n.many { frame(6.0) + &frame(3.0) } else { String::new() };
            let under = if n.under.is_empty() { n.about.clone() } else { n.under.clone() };
            let lines: String = more[i]
                .iter()
                .enumerate()
                .map(|(k, line)| {
                    let at = y + 36.0 + LINE * (k + 1) as f64;
                    format!("<text class=\"tick\" x=\"{}\" y=\"{at}\">{}</text>", x + 10.0, escape(line))
                })
                .collect();
            body.push_str(&format!(
                "<g>{stack}{}<text class=\"panel-title\" x=\"{tx}\" y=\"{}\">{}</text><text class=\"tick\" x=\"{tx}\" y=\"{}\">{}</text>{lines}<title>{}</title></g>",
                frame(0.0),
                y + 19.0,
                // Bold letters are about a tenth wider than the regular ones that are measured.
                escape(&fit(&n.name, (WIDE - 20.0) / 1.12)),
                y + 36.0,
                escape(&fit(&under, WIDE - 18.0)),
                escape(format!("{} ({}): {} {}", n.name, n.about, n.under, n.more).trim_end()),
                tx = x + 10.0,
            ));
        }
        let description = format!("{} nodes in {} layers.", nodes.len(), placed.len());
        Diagram { width, height, body, description }
    }

    /// One SVG file that needs nothing of the machine that shows it.
    pub fn svg(&self, title: &str) -> Result<String> {
        Drawing {
            width: self.width,
            height: self.height,
            title: title.into(),
            description: self.description.clone(),
            body: self.body.clone(),
        }
        .svg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(name: &str, parents: &[usize]) -> Vertex {
        Vertex { name: name.into(), parents: parents.to_vec(), many: name == "c", ..Vertex::default() }
    }

    #[test]
    fn layers_follow_the_longest_path_and_sources_stand_by_what_needs_them() {
        let nodes = [vertex("a", &[]), vertex("b", &[0]), vertex("c", &[0, 1]), vertex("d", &[]), vertex("e", &[2, 3])];
        let layer = layers(&nodes);
        assert_eq!(layer, [0, 1, 2, 2, 3]);
        let (placed, _) = places(&nodes, &layer, HIGH);
        assert!(placed[1].contains_key(&Slot::Pass { from: 0, to: 2 }), "an edge past a layer has its own place");
    }

    #[test]
    fn many_cells_are_a_stack_and_a_graph_of_thousands_is_drawn() {
        let diagram = Diagram::of(vec![vertex("a", &[]), vertex("c", &[0])]);
        assert_eq!(diagram.body.matches("<rect").count(), 4);
        assert!(diagram.svg("p").unwrap().contains("<title>p</title>"));
        let wide: Vec<Vertex> =
            (0..3000).map(|i| vertex(&i.to_string(), if i < 3 { &[] } else { &[0, 1, 2] })).collect();
        assert!(Diagram::of(wide).height > 100_000.0);
        assert!(Diagram::of(Vec::new()).body.is_empty());
    }
}
