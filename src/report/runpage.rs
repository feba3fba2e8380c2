//! The page about a run: which cells ran, why, how long, on what. The only place for clocks and hosts.
//!
//! It is made from records, lies beside the report and is no artifact: two runs with equal results
//! have equal reports and different run pages.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    frame::Rows,
    html::{Page, Table, escape},
};
use crate::error::Result;

/// What became of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Its record was there.
    Fresh,
    Done,
    Failed,
    /// Something that it needs failed.
    Skipped,
    Interrupted,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Fresh => "fresh",
            State::Done => "done",
            State::Failed => "failed",
            State::Skipped => "skipped",
            State::Interrupted => "interrupted",
        }
    }
}

/// One cell of a run.
#[derive(Clone, Debug)]
pub struct RunRow {
    /// `transfer[shots=5,seed=0]`.
    pub cell: String,
    pub node: String,
    pub kind: String,
    pub state: State,
    /// Nodes that it takes artifacts from.
    pub parents: Vec<String>,
    /// Why it ran, or what went wrong.
    pub reason: String,
    /// From the start of the run; `None` where it did not run.
    pub start_ms: Option<u64>,
    pub wall_ms: Option<u64>,
    pub cpu_ms: Option<u64>,
    pub peak_rss_bytes: Option<u64>,
    pub threads: Option<u32>,
    pub key: String,
}

/// The run as a whole.
#[derive(Clone, Debug, Default)]
pub struct RunInfo {
    pub pipeline: String,
    /// As it is to be read, with its time zone.
    pub started: String,
    pub wall_ms: u64,
    /// Command, machine, cores, memory, program and library versions, in the order to show.
    pub facts: Vec<(String, String)>,
}

/// Timelines show this many cells, the longest.
const LANES: usize = 60;

pub fn render(info: &RunInfo, rows: &[RunRow]) -> Result<String> {
    let count = |s: State| rows.iter().filter(|r| r.state == s).count();
    let said: Vec<String> = [State::Done, State::Fresh, State::Failed, State::Skipped, State::Interrupted]
        .into_iter()
        .filter(|s| count(*s) > 0)
        .map(|s| format!("{} {}", count(s), s.word()))
        .collect();
    let peak = rows.iter().filter_map(|r| r.peak_rss_bytes).max();
    let cpu: u64 = rows.iter().filter_map(|r| r.cpu_ms).sum();
    let mut lead = format!(
        "{} cells: {}. {} of wall time, {} of processor time",
        rows.len(),
        said.join(", "),
        seconds(info.wall_ms),
        seconds(cpu)
    );
    if let Some(peak) = peak {
        lead.push_str(&format!(", at most {} of memory in one cell", bytes(peak)));
    }
    let mut page = Page::new(&format!("Run of {}", info.pipeline))
        .kicker(&format!("scaleshot run · {}", info.started))
        .lead(&(lead + "."))
        .section("Graph")
        .html(graph(rows))
        .section("Timeline")
        .html(timeline(info, rows));
    let mut table = Rows::new();
    for r in rows {
        let number = |v: Option<f64>| v.map_or(Value::Null, Value::from);
        table.push([
            ("cell", Value::from(r.cell.as_str())),
            ("kind", Value::from(r.kind.as_str())),
            ("state", Value::from(r.state.word())),
            ("wall_s", number(r.wall_ms.map(|v| v as f64 / 1000.0))),
            ("cpu_s", number(r.cpu_ms.map(|v| v as f64 / 1000.0))),
            ("peak_mib", number(r.peak_rss_bytes.map(|v| v as f64 / f64::from(1 << 20)))),
            ("threads", r.threads.map_or(Value::Null, Value::from)),
            ("key", Value::from(r.key.chars().take(12).collect::<String>())),
            ("reason", Value::from(r.reason.as_str())),
        ]);
    }
    page = page.section("Cells").table(&Table::from_frame("", &table.frame()?)?).section("Machine and versions");
    let facts: String =
        info.facts.iter().map(|(n, v)| format!("<dt>{}</dt><dd>{}</dd>", escape(n), escape(v))).collect();
    Ok(page.html(format!("<dl class=\"facts\">{facts}</dl>\n")).render())
}

fn seconds(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{:.1} s", ms as f64 / 1000.0),
        120_000..7_200_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

fn bytes(n: u64) -> String {
    match n as f64 / f64::from(1 << 20) {
        m if m < 1024.0 => format!("{m:.0} MiB"),
        m => format!("{:.1} GiB", m / 1024.0),
    }
}

/// A node with its cells' states, in the order of first appearance.
struct Node<'a> {
    name: &'a str,
    kind: &'a str,
    /// Places of its parents in the list of nodes.
    parents: Vec<usize>,
    states: BTreeMap<State, usize>,
    layer: usize,
}

fn nodes(rows: &[RunRow]) -> Vec<Node<'_>> {
    let mut names: Vec<&str> = Vec::new();
    for r in rows {
        if !names.contains(&r.node.as_str()) {
            names.push(&r.node);
        }
    }
    let mut nodes: Vec<Node<'_>> = names
        .iter()
        .map(|n| Node { name: n, kind: "", parents: Vec::new(), states: BTreeMap::new(), layer: 0 })
        .collect();
    for r in rows {
        let Some(at) = names.iter().position(|n| *n == r.node) else { continue };
        nodes[at].kind = &r.kind;
        *nodes[at].states.entry(r.state).or_default() += 1;
        for p in r.parents.iter().filter_map(|p| names.iter().position(|n| n == p)) {
            if p != at && !nodes[at].parents.contains(&p) {
                nodes[at].parents.push(p);
            }
        }
    }
    // Longest path from a source; at most as many rounds as nodes, so that a cycle cannot hold it up.
    for _ in 0..nodes.len() {
        for i in 0..nodes.len() {
            let above = nodes[i].parents.iter().map(|&p| nodes[p].layer + 1).max();
            nodes[i].layer = above.unwrap_or(0).min(nodes.len());
        }
    }
    // Then as late as its children allow, so that edges are short.
    for i in (0..nodes.len()).rev() {
        let below = nodes.iter().filter(|n| n.parents.contains(&i)).map(|n| n.layer).min();
        if let Some(below) = below {
            nodes[i].layer = nodes[i].layer.max(below.saturating_sub(1));
        }
    }
    nodes
}

const WIDE: f64 = 168.0;
const HIGH: f64 = 46.0;
const STEP: f64 = WIDE + 56.0;

/// What stands in a layer: a node, or an edge on its way past.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Node(usize),
    Pass { from: usize, to: usize },
}

/// y of every slot of every layer, and the height of the whole. Slots stand in the order of the mean
/// height of what leads to them, which keeps most edges from crossing.
fn layout(nodes: &[Node<'_>]) -> (Vec<BTreeMap<Slot, f64>>, f64) {
    let layers = nodes.iter().map(|n| n.layer + 1).max().unwrap_or(0);
    let mut places: Vec<BTreeMap<Slot, f64>> = Vec::new();
    let mut tallest: f64 = 0.0;
    for layer in 0..layers {
        let mut slots: Vec<(f64, Slot)> = Vec::new();
        let before = |slot: Slot| layer.checked_sub(1).and_then(|l| places[l].get(&slot).copied());
        for (to, node) in nodes.iter().enumerate() {
            let led: Vec<f64> = node
                .parents
                .iter()
                .filter_map(|&from| before(Slot::Pass { from, to }).or_else(|| before(Slot::Node(from))))
                .collect();
            let mean = if led.is_empty() { f64::MAX } else { led.iter().sum::<f64>() / led.len() as f64 };
            if node.layer == layer {
                slots.push((mean, Slot::Node(to)));
            }
            for &from in node.parents.iter().filter(|&&p| nodes[p].layer < layer && layer < node.layer) {
                let y = before(Slot::Pass { from, to }).or_else(|| before(Slot::Node(from)));
                slots.push((y.unwrap_or(f64::MAX), Slot::Pass { from, to }));
            }
        }
        slots.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut y = HIGH / 2.0 + 2.0;
        let mut last = false;
        let mut place = BTreeMap::new();
        for (i, (_, slot)) in slots.iter().enumerate() {
            let is_node = matches!(slot, Slot::Node(_));
            if i > 0 {
                y += match (last, is_node) {
                    (true, true) => HIGH + 18.0,
                    (false, false) => 12.0,
                    _ => HIGH / 2.0 + 14.0,
                };
            }
            last = is_node;
            place.insert(*slot, y);
        }
        tallest = tallest.max(y + HIGH / 2.0 + 2.0);
        places.push(place);
    }
    (places, tallest)
}

/// Nodes in layers from left to right.
fn graph(rows: &[RunRow]) -> String {
    let nodes = nodes(rows);
    let (places, height) = layout(&nodes);
    let left = |layer: usize| layer as f64 * STEP + 2.0;
    let width = left(places.len()) - (STEP - WIDE) + 2.0;
    let mut body = String::new();
    for (to, node) in nodes.iter().enumerate() {
        for &from in &node.parents {
            let start = nodes[from].layer;
            let mut y0 = places[start][&Slot::Node(from)];
            let mut path = format!("M{} {y0}", left(start) + WIDE);
            for (layer, place) in places.iter().enumerate().take(node.layer + 1).skip(start + 1) {
                let end = layer == node.layer;
                let slot = if end { Slot::Node(to) } else { Slot::Pass { from, to } };
                let Some(&y1) = place.get(&slot) else { continue };
                let (x0, x1) = (left(layer - 1) + WIDE, left(layer));
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
        let (x, y) = (left(n.layer), places[n.layer][&Slot::Node(i)] - HIGH / 2.0);
        let cells: usize = n.states.values().sum();
        let states: Vec<String> = n
            .states
            .iter()
            .map(|(s, c)| if cells == 1 { s.word().into() } else { format!("{c} {}", s.word()) })
            .collect();
        let bad = n.states.keys().any(|s| matches!(s, State::Failed | State::Skipped | State::Interrupted));
        body.push_str(&format!(
            "<g><rect class=\"node{}\" x=\"{x}\" y=\"{y}\" width=\"{WIDE}\" height=\"{HIGH}\" rx=\"4\"/><text class=\"panel-title\" x=\"{tx}\" y=\"{t1}\">{name}</text><text class=\"tick\" x=\"{tx}\" y=\"{t2}\">{states}</text><title>{full} ({kind}): {states}</title></g>",
            if bad { " bad" } else { "" },
            tx = x + 10.0,
            t1 = y + 19.0,
            t2 = y + 36.0,
            name = escape(&super::plot::fit(n.name, WIDE - 18.0)),
            full = escape(n.name),
            kind = escape(n.kind),
            states = escape(&states.join(", ")),
        ));
    }
    format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Graph of nodes\"><svg class=\"chart dag\" style=\"width:{width}px\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{} nodes in {} layers\">{body}</svg></div>\n",
        nodes.len(),
        places.len()
    )
}

/// When each cell ran, the longest ones.
fn timeline(info: &RunInfo, rows: &[RunRow]) -> String {
    let mut ran: Vec<(&RunRow, u64, u64)> = rows.iter().filter_map(|r| Some((r, r.start_ms?, r.wall_ms?))).collect();
    let total = ran.len();
    ran.sort_by_key(|r| std::cmp::Reverse(r.2));
    ran.truncate(LANES);
    ran.sort_by_key(|r| (r.1, r.0.cell.clone()));
    if ran.is_empty() {
        return "<p class=\"note\">Nothing ran: every cell was fresh.</p>\n".into();
    }
    let whole = ran.iter().map(|r| r.1 + r.2).max().unwrap_or(1).max(info.wall_ms).max(1) as f64;
    let mut out = String::from("<ol class=\"lanes\">\n");
    for (row, start, wall) in &ran {
        let (left, width) = (100.0 * *start as f64 / whole, (100.0 * *wall as f64 / whole).max(0.15));
        let bad = if row.state == State::Failed { " class=\"bad\"" } else { "" };
        out.push_str(&format!(
            "<li{bad}><span class=\"who\">{}</span><span class=\"lane\"><i style=\"left:{left:.2}%;width:{width:.2}%\"></i></span><span class=\"took\">{}</span></li>\n",
            escape(&row.cell),
            seconds(*wall)
        ));
    }
    out.push_str("</ol>\n");
    if total > ran.len() {
        out.push_str(&format!("<p class=\"note\">The {} longest of {total} cells that ran.</p>\n", ran.len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cell: &str, node: &str, parents: &[&str], state: State, start_ms: Option<u64>) -> RunRow {
        RunRow {
            cell: cell.into(),
            node: node.into(),
            kind: "subset".into(),
            state,
            parents: parents.iter().map(|p| p.to_string()).collect(),
            reason: "never ran".into(),
            start_ms,
            wall_ms: start_ms.map(|_| 1500),
            cpu_ms: start_ms.map(|_| 2800),
            peak_rss_bytes: start_ms.map(|_| 300 << 20),
            threads: Some(2),
            key: "0123456789abcdef".into(),
        }
    }

    #[test]
    fn layers_follow_the_longest_path() {
        let rows = [
            row("a", "a", &[], State::Fresh, None),
            row("b", "b", &["a"], State::Done, Some(0)),
            row("c[x=1]", "c", &["a", "b"], State::Done, Some(1500)),
            row("c[x=2]", "c", &["a", "b"], State::Failed, Some(1500)),
        ];
        let layers: Vec<usize> = nodes(&rows).iter().map(|n| n.layer).collect();
        assert_eq!(layers, [0, 1, 2]);
        let (places, _) = layout(&nodes(&rows));
        assert!(places[1].contains_key(&Slot::Pass { from: 0, to: 2 }), "an edge past a layer has its own place");
        let info = RunInfo { pipeline: "p".into(), wall_ms: 3000, ..Default::default() };
        let html = render(&info, &rows).unwrap();
        assert!(html.contains(
            "4 cells: 2 done, 1 fresh, 1 failed. 3.0 s of wall time, 8.4 s of processor time, at most 300 MiB"
        ));
        assert!(html.contains("1 done, 1 failed"));
    }

    #[test]
    fn a_run_without_work_says_so() {
        let html = render(&RunInfo::default(), &[row("a", "a", &[], State::Fresh, None)]).unwrap();
        assert!(html.contains("every cell was fresh"));
        assert!(render(&RunInfo::default(), &[]).is_ok());
    }

    #[test]
    fn times_are_read_in_their_own_units() {
        assert_eq!([12, 1500, 150_000, 8_000_000].map(seconds), ["12 ms", "1.5 s", "2 min 30 s", "2 h 13 min"]);
    }
}
