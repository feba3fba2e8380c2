//! Which cells ran beside which: a Gantt chart in as few lanes as the cells need.

use std::collections::BTreeMap;

use super::{
    super::{
        html::escape,
        plot::{Look, Scale, fit, number, text_width},
    },
    RunRow, State, bytes, seconds,
};

/// A cell and when it ran.
pub struct Spell<'a> {
    pub row: &'a RunRow,
    /// From the start of the run.
    pub start_ms: u64,
    pub wall_ms: u64,
}

impl Spell<'_> {
    /// `4.8 s, cpu 9.1 s, 210 MiB`.
    pub fn took(&self) -> String {
        let mut out = seconds(self.wall_ms);
        if let Some(cpu) = self.row.cpu_ms {
            out.push_str(&format!(", cpu {}", seconds(cpu)));
        }
        if let Some(peak) = self.row.peak_rss_bytes {
            out.push_str(&format!(", {}", bytes(peak)));
        }
        out
    }
}

const WIDE: f64 = 1040.0;
const HIGH: f64 = 20.0;
const GAP: f64 = 4.0;

/// The lane of each spell: the first that is free when it starts.
fn assign(spells: &[&Spell<'_>]) -> Vec<usize> {
    let mut free_from: Vec<u64> = Vec::new();
    spells
        .iter()
        .map(|s| {
            let lane = free_from.iter().position(|&free| free <= s.start_ms).unwrap_or_else(|| {
                free_from.push(0);
                free_from.len() - 1
            });
            free_from[lane] = s.start_ms + s.wall_ms.max(1);
            lane
        })
        .collect()
}

/// The chart with its legend: one colour a kind of cell, words and a thick edge for what failed.
pub fn lanes(ran: &[Spell<'_>], wall_ms: u64) -> String {
    let mut spells: Vec<&Spell<'_>> = ran.iter().collect();
    spells.sort_by_key(|s| (s.start_ms, std::cmp::Reverse(s.wall_ms), &s.row.cell));
    let lanes = assign(&spells);
    let count = lanes.iter().max().map_or(0, |l| l + 1);
    let mut spent: BTreeMap<&str, u64> = BTreeMap::new();
    spells.iter().for_each(|s| *spent.entry(&s.row.kind).or_default() += s.wall_ms);
    let mut kinds: Vec<(&str, u64)> = spent.into_iter().collect();
    kinds.sort_by_key(|(kind, ms)| (std::cmp::Reverse(*ms), *kind));
    let end = spells.iter().map(|s| s.start_ms + s.wall_ms).max().unwrap_or(1).max(wall_ms).max(1);
    let x = Scale::linear(0.0, end as f64 / 1000.0, 4.0, WIDE - 8.0);
    let bottom = 4.0 + (HIGH + GAP) * count as f64;
    let mut body = String::new();
    for (t, label) in x.ticks(8) {
        let at = number(x.at(t));
        body.push_str(&format!(
            "<path class=\"grid\" d=\"M{at} 4V{}\"/><text class=\"tick mid\" x=\"{at}\" y=\"{}\">{label} s</text>",
            number(bottom),
            number(bottom + 16.0)
        ));
    }
    for (spell, lane) in spells.iter().zip(&lanes) {
        let order = kinds.iter().position(|(k, _)| *k == spell.row.kind).unwrap_or(0);
        let (from, to) = (x.at(spell.start_ms as f64 / 1000.0), x.at((spell.start_ms + spell.wall_ms) as f64 / 1000.0));
        let (wide, y) = ((to - from).max(0.8), 4.0 + (HIGH + GAP) * *lane as f64);
        let bad = if spell.row.state == State::Failed { " bad" } else { "" };
        body.push_str(&format!(
            "<g><rect class=\"bar spell{bad} {}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{HIGH}\" rx=\"1.5\"/>",
            Look::of(order).class(),
            number(from),
            number(y),
            number(wide)
        ));
        if wide > 60.0 && text_width(&spell.row.node) < wide - 10.0 {
            body.push_str(&format!(
                "<text class=\"in\" x=\"{}\" y=\"{}\">{}</text>",
                number(from + 5.0),
                number(y + 14.5),
                escape(&fit(&spell.row.cell, wide - 10.0))
            ));
        }
        body.push_str(&format!("<title>{}</title></g>", escape(&format!("{}: {}", spell.row.cell, spell.took()))));
    }
    let legend: String = kinds
        .iter()
        .enumerate()
        .map(|(i, (kind, ms))| {
            format!(
                "<li><svg class=\"key\" viewBox=\"0 0 28 12\" aria-hidden=\"true\">{}</svg>{} ({})</li>",
                Look::of(i).key(super::super::plot::Marks::Bars),
                escape(kind),
                seconds(*ms)
            )
        })
        .collect();
    format!(
        "<ul class=\"legend\" aria-label=\"Kinds and their time\">{legend}</ul>\n<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Timeline\"><svg class=\"chart gantt\" style=\"width:{WIDE}px\" viewBox=\"0 0 {WIDE} {h}\" role=\"img\" aria-label=\"{} cells in {count} lanes over {}\">{body}</svg></div>\n",
        spells.len(),
        seconds(end),
        h = number(bottom + 22.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, state: State) -> RunRow {
        RunRow {
            cell: format!("{kind}[x=1]"),
            node: kind.into(),
            kind: kind.into(),
            state,
            parents: Vec::new(),
            reason: String::new(),
            start_ms: None,
            wall_ms: None,
            cpu_ms: Some(1800),
            peak_rss_bytes: Some(200 << 20),
            threads: Some(2),
            key: String::new(),
            accepted: None,
        }
    }

    #[test]
    fn cells_that_overlap_have_lanes_of_their_own() {
        let (a, b) = (row("train", State::Done), row("probe", State::Failed));
        let spell = |row, start_ms, wall_ms| Spell { row, start_ms, wall_ms };
        let all = [spell(&a, 0, 1000), spell(&b, 500, 1000), spell(&a, 1000, 10), spell(&a, 1500, 10)];
        assert_eq!(assign(&all.iter().collect::<Vec<_>>()), [0, 1, 0, 0]);
        let html = lanes(&all, 2000);
        assert!(
            html.contains("4 cells in 2 lanes over 2.0 s") && html.contains("probe[x=1]: 1.0 s, cpu 1.8 s, 200 MiB")
        );
        assert!(html.contains("spell bad") && html.contains("train (1.0 s)"), "{html}");
    }
}
