//! Differences with their intervals, one a row: the forest plot of a comparison.

use serde_json::Value;

use super::{Marks, PanelSvg, Plot, Scale, WIDTH, fit, number, text_width, whisker};
use crate::{
    error::{Error, Result},
    report::{
        frame::{Frame, values},
        html::escape,
        summary::Spec,
    },
};

/// Columns of a comparison that name no row: what was measured, and how. The levels are named apart.
fn is_measured(name: &str) -> bool {
    const MEASURED: [&str; 14] = [
        "across",
        "metric",
        "remark",
        "pairs",
        "dropped",
        "from",
        "to",
        "low",
        "high",
        "unit",
        "units",
        "statistic",
        "z",
        "p",
    ];
    let parts = [name.starts_with("p_"), name.starts_with("mean_"), name.ends_with("_low"), name.ends_with("_high")];
    MEASURED.contains(&name) || parts.contains(&true)
}

/// Which columns are what.
#[derive(Clone, Debug)]
pub struct Differences<'a> {
    /// The difference; `low` and `high` hold its interval.
    pub value: &'a str,
    /// Columns that name a row; empty: the axes of a comparison that vary, or every text that does.
    pub rows: &'a [String],
    pub panel: &'a [String],
}

struct Row {
    panel: String,
    name: String,
    value: f64,
    interval: Option<(f64, f64)>,
    pairs: Option<i64>,
}

/// Draws a comparison's rows in their order.
///
/// # Errors
/// Unknown columns; no row with a defined difference.
pub fn forest(frame: &Frame, columns: &Differences<'_>, title: &str) -> Result<Plot> {
    let rows = rows(frame, columns)?;
    if rows.is_empty() {
        return Err(Error::invalid(format!("{} has no defined value to show", columns.value)));
    }
    let mut panels: Vec<&str> = Vec::new();
    for row in &rows {
        if !panels.contains(&row.panel.as_str()) {
            panels.push(&row.panel);
        }
    }
    // Zero is always seen, and one scale serves all panels.
    let ends = rows.iter().flat_map(|r| {
        let (low, high) = r.interval.unwrap_or((r.value, r.value));
        [low, high]
    });
    let (low, high) = ends.fold((0.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    let pad = 0.04 * (high - low).max(1e-9);
    let bare = rows.iter().filter(|r| r.interval.is_none()).count();
    let mut caption = "Bars: the interval of the mean difference (columns low and high).".to_string();
    if bare > 0 {
        caption.push_str(&format!(" {bare} rows have no interval."));
    }
    let drawn = panels
        .iter()
        .map(|name| {
            panel(
                name,
                &rows.iter().filter(|r| r.panel == **name).collect::<Vec<_>>(),
                (low - pad, high + pad),
                columns.value,
            )
        })
        .collect();
    Ok(Plot {
        title: title.into(),
        caption,
        panels: drawn,
        legend: Vec::new(),
        legend_title: String::new(),
        data: None,
        marks: Marks::Points,
    })
}

fn rows(frame: &Frame, columns: &Differences<'_>) -> Result<Vec<Row>> {
    let value = values(frame, columns.value)?;
    let (low, high) = (values(frame, "low")?, values(frame, "high")?);
    let pairs = values(frame, "pairs").ok();
    let varies = |name: &str| -> bool { values(frame, name).is_ok_and(|v| v.iter().any(|x| *x != v[0])) };
    let compared = frame.column("across").is_ok();
    let names: Vec<String> = if columns.rows.is_empty() {
        frame
            .columns()
            .iter()
            .map(|c| c.name().to_string())
            .filter(|n| compared || frame.column(n).is_ok_and(|c| c.dtype().is_string()))
            .filter(|n| !is_measured(n) && n != columns.value)
            // The levels compared come last, as `0.1 → 1`.
            .filter(|n| !columns.panel.contains(n) && varies(n))
            .collect()
    } else {
        columns.rows.to_vec()
    };
    let held = |names: &[String]| -> Result<Vec<(String, Vec<Value>)>> {
        names.iter().map(|n| Ok((n.clone(), values(frame, n)?))).collect()
    };
    let (named, panels) = (held(&names)?, held(columns.panel)?);
    let levels = if columns.rows.is_empty() { values(frame, "from").ok().zip(values(frame, "to").ok()) } else { None };
    let mut out = Vec::new();
    for row in 0..frame.height() {
        let Some(difference) = value[row].as_f64() else { continue };
        let mut name = Spec::name(named.iter().map(|(n, v)| (n.as_str(), &v[row])));
        if let Some((from, to)) = &levels {
            let label = crate::report::frame::label;
            let text = format!("{} → {}", label(&from[row]), label(&to[row]));
            name = if name.is_empty() { text } else { format!("{name} · {text}") };
        }
        out.push(Row {
            panel: Spec::name(panels.iter().map(|(n, v)| (n.as_str(), &v[row]))),
            name,
            value: difference,
            interval: low[row].as_f64().zip(high[row].as_f64()),
            pairs: pairs.as_ref().and_then(|p| p[row].as_i64()),
        });
    }
    Ok(out)
}

fn panel(name: &str, rows: &[&Row], (low, high): (f64, f64), value: &str) -> PanelSvg {
    let (left, right, top, step) = (14.0, WIDTH - 14.0, 8.0, 36.0);
    let x = Scale::linear(low, high, left, right);
    let bottom = top + step * rows.len() as f64;
    let mut body = String::new();
    for (t, label) in x.ticks(5) {
        let at = number(x.at(t));
        body.push_str(&format!(
            "<path class=\"grid\" d=\"M{at} {}V{}\"/><text class=\"tick mid\" x=\"{at}\" y=\"{}\">{label}</text>",
            number(top),
            number(bottom),
            number(bottom + 16.0)
        ));
    }
    body.push_str(&format!("<path class=\"base\" d=\"M{} {}V{}\"/>", number(x.at(0.0)), number(top), number(bottom)));
    let mut description = format!("{value}, one a row.");
    for (i, row) in rows.iter().enumerate() {
        let y = top + step * i as f64;
        let signed = |v: f64| format!("{v:+.3}").replace('-', "\u{2212}");
        let told = match row.interval {
            Some((l, h)) => format!("{} [{}, {}]", signed(row.value), signed(l), signed(h)),
            None => signed(row.value),
        };
        let pairs = row.pairs.map(|n| format!(", {n} pairs")).unwrap_or_default();
        body.push_str(&format!(
            "<text x=\"{}\" y=\"{}\">{}</text><text class=\"tick end\" x=\"{}\" y=\"{}\">{told}</text>",
            number(left),
            number(y + 12.0),
            escape(&fit(&row.name, right - left - text_width(&told) - 12.0)),
            number(right),
            number(y + 12.0)
        ));
        let (at, middle) = (x.at(row.value), y + 23.0);
        body.push_str("<g class=\"s0\">");
        if let Some((l, h)) = row.interval {
            body.push_str(&whisker(middle, (x.at(l), false), (x.at(h), false), false));
        }
        body.push_str(&format!(
            "<path class=\"mark\" d=\"M{} {}h8v8h-8Z\"/><title>{}</title></g>",
            number(at - 4.0),
            number(middle - 4.0),
            escape(&format!("{}: {told}{pairs}", row.name))
        ));
        description.push_str(&format!(" {}: {told}.", row.name));
    }
    body.push_str(&format!(
        "<text class=\"mid\" x=\"{}\" y=\"{}\">{}</text>",
        number((left + right) / 2.0),
        number(bottom + 34.0),
        escape(value)
    ));
    PanelSvg { title: name.into(), height: bottom + 42.0, body, description }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::frame::Rows;
    use serde_json::json;

    #[test]
    fn rows_are_named_by_what_varies_and_nulls_are_left_out() {
        let mut rows = Rows::new();
        for (target, difference) in [("tb", json!(0.05)), ("fractals", json!(-0.01)), ("pets", Value::Null)] {
            rows.push([
                ("across", json!("fraction")),
                ("metric", json!("accuracy")),
                ("from", json!(0.1)),
                ("to", json!(1.0)),
                ("difference", difference.clone()),
                ("low", difference.as_f64().map_or(Value::Null, |d| json!(d - 0.02))),
                ("high", difference.as_f64().map_or(Value::Null, |d| json!(d + 0.02))),
                ("p_t", json!(0.5)),
                ("remark", json!(target)),
                // Axes may stand behind what was measured.
                ("target", json!(target)),
            ]);
        }
        let frame = rows.frame().unwrap();
        let plot = forest(&frame, &Differences { value: "difference", rows: &[], panel: &[] }, "t").unwrap();
        let body = &plot.panels[0].body;
        assert!(body.contains("tb · 0.1 → 1") && !body.contains("pets"), "{body}");
        assert!(body.contains("+0.050 [+0.030, +0.070]") && body.contains("\u{2212}0.010"), "{body}");
        plot.drawing().svg().unwrap();
        let e = forest(&frame, &Differences { value: "effect", rows: &[], panel: &[] }, "t").unwrap_err();
        assert!(e.to_string().contains("no column effect"), "{e}");
    }
}
