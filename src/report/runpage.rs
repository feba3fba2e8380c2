//! The page about a run: which cells ran, why, how long, on what. The only place for clocks and hosts.
//!
//! It is made from records, lies beside the report and is no artifact: two runs with equal results
//! have equal reports and different run pages.

mod timeline;

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{
    diagram::{Diagram, Vertex},
    frame::Rows,
    html::{Page, Table, escape},
};
use crate::error::Result;
use timeline::Spell;

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
    /// That its result was taken as current instead of being computed, and why.
    pub accepted: Option<String>,
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

/// The list under the timeline shows this many cells, the longest.
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
    let accepted = rows.iter().filter(|r| r.accepted.is_some()).count();
    if let Some(peak) = peak {
        lead.push_str(&format!(", at most {} of memory in one cell", bytes(peak)));
    }
    let mut page = Page::new(&format!("Run of {}", info.pipeline))
        .kicker(&format!("scaleshot run · {}", info.started))
        .lead(&(lead + &if accepted > 0 { format!(". {accepted} accepted, not computed.") } else { ".".into() }))
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
            ("reason", Value::from(reason(r))),
        ]);
    }
    page = page.section("Cells").table(&Table::from_frame("", &table.frame()?)?).section("Machine and versions");
    let facts: String =
        info.facts.iter().map(|(n, v)| format!("<dt>{}</dt><dd>{}</dd>", escape(n), escape(v))).collect();
    Ok(page.html(format!("<dl class=\"facts\">{facts}</dl>\n")).render())
}

/// Why it ran, or that it did not have to.
fn reason(row: &RunRow) -> String {
    match &row.accepted {
        Some(told) if row.reason.is_empty() => format!("accepted: {told}"),
        Some(told) => format!("{}; accepted: {told}", row.reason),
        None => row.reason.clone(),
    }
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

/// The nodes with their cells' states, in the order of first appearance.
fn nodes(rows: &[RunRow]) -> Vec<Vertex> {
    let mut place: HashMap<&str, usize> = HashMap::new();
    let mut nodes: Vec<Vertex> = Vec::new();
    let mut states: Vec<BTreeMap<State, usize>> = Vec::new();
    for r in rows {
        let at = *place.entry(&r.node).or_insert_with(|| {
            nodes.push(Vertex { name: r.node.clone(), about: r.kind.clone(), ..Vertex::default() });
            states.push(BTreeMap::new());
            nodes.len() - 1
        });
        *states[at].entry(r.state).or_default() += 1;
    }
    for r in rows {
        let at = place[r.node.as_str()];
        for &p in r.parents.iter().filter_map(|p| place.get(p.as_str())) {
            if p != at && !nodes[at].parents.contains(&p) {
                nodes[at].parents.push(p);
            }
        }
    }
    for (node, states) in nodes.iter_mut().zip(&states) {
        let cells: usize = states.values().sum();
        let told: Vec<String> = states
            .iter()
            .map(|(s, c)| if cells == 1 { s.word().into() } else { format!("{c} {}", s.word()) })
            .collect();
        node.under = told.join(", ");
        node.bad = states.keys().any(|s| matches!(s, State::Failed | State::Skipped | State::Interrupted));
    }
    nodes
}

/// Nodes in layers from left to right.
fn graph(rows: &[RunRow]) -> String {
    let diagram = Diagram::of(nodes(rows));
    format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Graph of nodes\"><svg class=\"chart dag\" style=\"width:{w}px\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{}\">{}</svg></div>\n",
        escape(&diagram.description),
        diagram.body,
        w = diagram.width,
        h = diagram.height,
    )
}

/// When each cell ran: which ran beside which, and then the longest with what they took.
fn timeline(info: &RunInfo, rows: &[RunRow]) -> String {
    let mut ran: Vec<Spell<'_>> =
        rows.iter().filter_map(|row| Some(Spell { row, start_ms: row.start_ms?, wall_ms: row.wall_ms? })).collect();
    let total = ran.len();
    if ran.is_empty() {
        return "<p class=\"note\">Nothing ran: every cell was fresh.</p>\n".into();
    }
    let mut out = timeline::lanes(&ran, info.wall_ms);
    ran.sort_by_key(|r| std::cmp::Reverse(r.wall_ms));
    ran.truncate(LANES);
    ran.sort_by_key(|r| (r.start_ms, r.row.cell.clone()));
    let whole = ran.iter().map(|r| r.start_ms + r.wall_ms).max().unwrap_or(1).max(info.wall_ms).max(1) as f64;
    out.push_str("<ol class=\"lanes\">\n");
    for spell in &ran {
        let (left, width) = (100.0 * spell.start_ms as f64 / whole, (100.0 * spell.wall_ms as f64 / whole).max(0.15));
        let bad = if spell.row.state == State::Failed { " class=\"bad\"" } else { "" };
        out.push_str(&format!(
            "<li{bad}><span class=\"who\" title=\"{who}\">{who}</span><span class=\"lane\"><i style=\"left:{left:.2}%;width:{width:.2}%\"></i></span><span class=\"took\">{}</span></li>\n",
            spell.took(),
            who = escape(&spell.row.cell),
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
            accepted: None,
        }
    }

    #[test]
    fn nodes_tell_what_became_of_their_cells() {
        let rows = [
            row("a", "a", &[], State::Fresh, None),
            row("b", "b", &["a"], State::Done, Some(0)),
            row("c[x=1]", "c", &["a", "b"], State::Done, Some(1500)),
            row("c[x=2]", "c", &["a", "b"], State::Failed, Some(1500)),
        ];
        let found = nodes(&rows);
        let told: Vec<(&str, &str, bool)> = found.iter().map(|n| (n.name.as_str(), n.under.as_str(), n.bad)).collect();
        assert_eq!(told, [("a", "fresh", false), ("b", "done", false), ("c", "1 done, 1 failed", true)]);
        assert_eq!(found[2].parents, [0, 1]);
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
