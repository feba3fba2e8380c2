//! A difference as plain text and as Markdown.

use serde_json::Value;

use super::{Difference, Metric, Moved};
use crate::report::frame::label;

/// `a: 144 cells, b: 144 cells; 96 are the same.`
pub fn lead(d: &Difference) -> String {
    let mut out = format!("{}: {} cells; {}: {} cells.", d.a, d.cells_a, d.b, d.cells_b);
    out.push_str(&format!(" {} have the same key.", d.same));
    for (name, only) in [(&d.a, &d.only_a), (&d.b, &d.only_b)] {
        if !only.is_empty() {
            out.push_str(&format!(" {} are only in {name}.", only.len()));
        }
    }
    if !d.outputs.is_empty() {
        out.push_str(&format!(" The outputs of {} differ.", d.outputs.len()));
    }
    out
}

/// A value as it is read: digests short, an absent one as a dash.
pub fn shown(what: &str, value: &Value) -> String {
    match value {
        Value::Null => "–".into(),
        Value::String(s) if what.starts_with("input ") => match s.split_once(' ') {
            Some((digest, rest)) => format!("{} {rest}", digest.chars().take(12).collect::<String>()),
            None => s.chars().take(12).collect(),
        },
        other => label(other),
    }
}

fn change(m: &Metric) -> f64 {
    m.mean_b - m.mean_a
}

fn number(value: &Value) -> String {
    value.as_f64().map_or("–".into(), |v| format!("{v:.4}"))
}

fn moved(m: &Moved) -> String {
    m.a.as_f64().zip(m.b.as_f64()).map_or(String::new(), |(a, b)| format!("{:+.4}", b - a))
}

/// Cells listed one by one; the rest are in the JSON form.
const CELLS: usize = 40;

/// Sections with aligned columns.
pub fn text(d: &Difference) -> String {
    let mut out = lead(d) + "\n";
    let mut section = |name: &str, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            out.push_str(&format!("\n{name}\n{}", aligned(&rows)));
        }
    };
    section(
        "parameters, inputs, versions",
        d.changes
            .iter()
            .map(|c| {
                let arrow = format!("{} => {}", shown(&c.what, &c.a), shown(&c.what, &c.b));
                vec![c.node.clone(), c.what.clone(), arrow, format!("{} cells", c.cells.len())]
            })
            .collect(),
    );
    section(
        "metrics, means over pairs",
        d.metrics
            .iter()
            .map(|m| {
                let undefined = if m.undefined > 0 { format!(", {} undefined", m.undefined) } else { String::new() };
                vec![
                    m.node.clone(),
                    m.metric.clone(),
                    format!("{:.4} => {:.4}", m.mean_a, m.mean_b),
                    format!("{:+.4}", change(m)),
                    format!("{} pairs, {} higher, {} lower{undefined}", m.pairs, m.higher, m.lower),
                ]
            })
            .collect(),
    );
    section(
        "cells",
        d.moved
            .iter()
            .take(CELLS)
            .map(|m| vec![m.cell.clone(), m.metric.clone(), format!("{} => {}", number(&m.a), number(&m.b)), moved(m)])
            .collect(),
    );
    if d.moved.len() > CELLS {
        out.push_str(&format!("  and {} more; --json has all\n", d.moved.len() - CELLS));
    }
    for (name, only) in [(&d.a, &d.only_a), (&d.b, &d.only_b)] {
        if !only.is_empty() {
            out.push_str(&format!("\nonly in {name}\n"));
            only.iter().take(CELLS).for_each(|c| out.push_str(&format!("  {c}\n")));
            if only.len() > CELLS {
                out.push_str(&format!("  and {} more\n", only.len() - CELLS));
            }
        }
    }
    out
}

fn aligned(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(text, width)| format!("{text}{}", " ".repeat(width - text.chars().count())))
            .collect();
        out.push_str(&format!("  {}\n", cells.join("  ").trim_end()));
    }
    out
}

/// Tables for an issue or a pull request.
pub fn markdown(d: &Difference) -> String {
    let cell = |s: &str| s.replace('\\', "\\\\").replace('|', "\\|").replace('\n', " ");
    let mut out = format!("# {} and {}\n\n{}\n", cell(&d.a), cell(&d.b), cell(&lead(d)));
    if !d.changes.is_empty() {
        out.push_str(
            "\n## Parameters, inputs and versions\n\n| node | what | a | b | cells |\n|---|---|---|---|---:|\n",
        );
        for c in &d.changes {
            let row = [c.node.clone(), c.what.clone(), shown(&c.what, &c.a), shown(&c.what, &c.b)].map(|s| cell(&s));
            out.push_str(&format!("| {} | {} |\n", row.join(" | "), c.cells.len()));
        }
    }
    if !d.metrics.is_empty() {
        out.push_str("\n## Metrics\n\n| node | metric | mean a | mean b | change | pairs | higher | lower |\n|---|---|---:|---:|---:|---:|---:|---:|\n");
        for m in &d.metrics {
            out.push_str(&format!(
                "| {} | {} | {:.4} | {:.4} | {:+.4} | {} | {} | {} |\n",
                cell(&m.node),
                cell(&m.metric),
                m.mean_a,
                m.mean_b,
                change(m),
                m.pairs,
                m.higher,
                m.lower
            ));
        }
    }
    if !d.moved.is_empty() {
        out.push_str("\n## Cells\n\n| cell | metric | a | b | change |\n|---|---|---:|---:|---:|\n");
        for m in &d.moved {
            let row = [cell(&m.cell), cell(&m.metric), number(&m.a), number(&m.b), moved(m)];
            out.push_str(&format!("| {} |\n", row.join(" | ")));
        }
    }
    for (name, only) in [(&d.a, &d.only_a), (&d.b, &d.only_b)] {
        if !only.is_empty() {
            out.push_str(&format!("\n## Only in {}\n\n", cell(name)));
            only.iter().for_each(|c| out.push_str(&format!("- `{c}`\n")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{difference, tests::sides};
    use super::*;

    #[test]
    fn text_and_markdown_say_the_same() {
        let (a, b) = sides();
        let d = difference(&a, &b);
        assert_eq!(
            text(&d),
            "before: 5 cells; after: 4 cells. 1 have the same key. 1 are only in before.\n\n\
             parameters, inputs, versions\n  t  param steps  100 => 200  3 cells\n\n\
             metrics, means over pairs\n  same  accuracy  0.9000 => 0.9000  +0.0000  1 pairs, 0 higher, 0 lower\n  \
             t     accuracy  0.6000 => 0.6000  +0.0000  2 pairs, 1 higher, 1 lower, 1 undefined\n\n\
             cells\n  t[s=0]  accuracy  0.5000 => 0.6000  +0.1000\n  t[s=1]  accuracy  0.7000 => 0.6000  -0.1000\n  \
             t[s=2]  accuracy  – => 0.4000\n\nonly in before\n  gone\n"
        );
        let told = markdown(&d);
        assert!(
            told.contains("| t | param steps | 100 | 200 | 3 |")
                && told.contains("| t[s=2] | accuracy | – | 0.4000 |  |"),
            "{told}"
        );
    }
}
