//! Tables: numbers aligned and rounded for reading, full values behind them for sorting.

use serde_json::Value;

use super::escape;
use crate::{
    error::Result,
    report::frame::{Frame, label, values},
};

/// More rows than these are left to the Parquet file.
const ROWS: usize = 500;

/// Longer sentences may wrap.
const WRAP: usize = 36;

/// Where a row comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub text: String,
    pub to: String,
}

/// A caption, heads, cells and a note.
#[derive(Clone, Debug)]
pub struct Table {
    caption: String,
    note: String,
    heads: Vec<String>,
    /// Column by column.
    cells: Vec<Vec<Value>>,
    /// Rows before any were cut.
    total: usize,
    /// One a row, or none at all.
    links: Vec<Link>,
}

impl Table {
    /// Every column of a frame; the first 500 rows, with a line on the rest.
    pub fn from_frame(caption: &str, frame: &Frame) -> Result<Self> {
        let heads: Vec<String> = frame.columns().iter().map(|c| c.name().to_string()).collect();
        let shown = frame.head(Some(ROWS));
        let cells = heads.iter().map(|h| values(&shown, h)).collect::<Result<_>>()?;
        Ok(Table {
            caption: caption.into(),
            note: String::new(),
            heads,
            cells,
            total: frame.height(),
            links: Vec::new(),
        })
    }

    /// A line under the table. It ends with its own full stop.
    pub fn note(mut self, text: &str) -> Self {
        self.note = text.into();
        self
    }

    /// A last column `source` that leads to where each row comes from; one link a row of the frame.
    pub fn links(mut self, links: Vec<Link>) -> Self {
        self.links = links;
        self
    }

    pub(super) fn caption(&self) -> &str {
        &self.caption
    }

    pub(crate) fn render(&self, id: &str) -> String {
        let named = if self.caption.is_empty() { "Numbers" } else { &self.caption };
        let mut out = format!("<div class=\"table\" id=\"{id}\">\n");
        if !self.caption.is_empty() {
            out.push_str(&format!("<h3 id=\"{id}-c\">{}</h3>\n", escape(&self.caption)));
        }
        let rows = self.cells.first().map_or(0, Vec::len);
        if rows == 0 {
            out.push_str("<p class=\"note\">No rows.</p>\n</div>\n");
            return out;
        }
        out.push_str(&format!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">\n<table>\n<thead><tr>",
            escape(named)
        ));
        let numeric: Vec<bool> = self.cells.iter().map(|c| is_numeric(c)).collect();
        for (head, numeric) in self.heads.iter().zip(&numeric) {
            let class = if *numeric { " class=\"n\"" } else { "" };
            out.push_str(&format!("<th scope=\"col\"{class}>{}</th>", escape(head)));
        }
        if !self.links.is_empty() {
            out.push_str("<th scope=\"col\">source</th>");
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        let styles: Vec<Style> = self.cells.iter().map(|c| Style::of(c)).collect();
        for row in 0..rows {
            out.push_str("<tr>");
            for ((column, numeric), style) in self.cells.iter().zip(&numeric).zip(&styles) {
                out.push_str(&cell(&column[row], *numeric, style));
            }
            if let Some(link) = self.links.get(row) {
                let (to, text) = (escape(&link.to), escape(&link.text));
                out.push_str(&format!(
                    "<td><a class=\"source\" href=\"{to}\" title=\"what this row is made of\">{text}</a></td>"
                ));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table>\n</div>\n");
        let mut note = self.note.clone();
        if self.total > rows {
            note = format!("{note} The first {rows} of {} rows; the Parquet file has all.", self.total);
        }
        if !note.is_empty() {
            out.push_str(&format!("<p class=\"note\">{}</p>\n", escape(note.trim())));
        }
        out.push_str("</div>\n");
        out
    }
}

/// Numbers, or texts that begin with one and mean one (`0.612 ± 0.040`).
fn is_numeric(cells: &[Value]) -> bool {
    let mut any = false;
    cells.iter().all(|c| match c {
        Value::Null => true,
        Value::Number(_) => {
            any = true;
            true
        }
        Value::String(s) => {
            any = true;
            s.contains(" ± ") || s.parse::<f64>().is_ok()
        }
        _ => false,
    }) && any
}

/// How the numbers of one column are rounded.
enum Style {
    Decimals(usize),
    /// Three significant digits each, for columns that span many orders.
    Significant,
}

impl Style {
    fn of(cells: &[Value]) -> Self {
        let sizes: Vec<f64> =
            cells.iter().filter(|c| c.is_f64()).filter_map(Value::as_f64).map(f64::abs).filter(|v| *v > 0.0).collect();
        let most = sizes.iter().copied().fold(0.0, f64::max);
        let least = sizes.iter().copied().fold(f64::INFINITY, f64::min);
        match most {
            _ if least < 5e-4 => Style::Significant,
            m if m < 10.0 => {
                // Axis values such as 0.1 and 1 keep their own digits.
                let short =
                    |d: usize| cells.iter().filter_map(Value::as_f64).all(|v| format!("{v:.d$}").parse() == Ok(v));
                Style::Decimals((1..3).find(|&d| short(d)).unwrap_or(3))
            }
            m if m < 1000.0 => Style::Decimals(1),
            _ => Style::Decimals(0),
        }
    }

    fn write(&self, v: f64) -> String {
        match self {
            Style::Decimals(d) => format!("{v:.d$}"),
            Style::Significant if v == 0.0 => "0".into(),
            Style::Significant if v.abs() < 1e-3 || v.abs() >= 1e6 => format!("{v:.2e}"),
            Style::Significant => {
                let digits = (2 - v.abs().log10().floor() as i32).max(0) as usize;
                format!("{v:.digits$}")
            }
        }
    }
}

fn cell(value: &Value, numeric: bool, style: &Style) -> String {
    let class = if numeric { " class=\"n\"" } else { "" };
    match value {
        Value::Null => format!("<td{class}><span class=\"null\" title=\"not defined\">–</span></td>"),
        Value::Number(n) if n.is_f64() => {
            let v = n.as_f64().unwrap_or(f64::NAN);
            let short = style.write(v).replacen('-', "\u{2212}", 1);
            format!("<td{class} data-v=\"{v}\">{short}</td>")
        }
        Value::Bool(b) => format!("<td{class}>{}</td>", if *b { "yes" } else { "no" }),
        other => {
            let text = label(other);
            let class = if text.contains(' ') && text.chars().count() > WRAP { " class=\"w\"" } else { class };
            format!("<td{class}>{}</td>", escape(&text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::frame::Rows;
    use serde_json::json;

    #[test]
    fn nulls_are_dashes_and_sorting_keeps_every_digit() {
        let mut rows = Rows::new();
        rows.push([("model", json!("<b>")), ("p", json!(0.000_012_345)), ("value", json!(0.123_456_789))]);
        rows.push([("model", json!("x")), ("p", json!(0.5)), ("value", json!(null))]);
        let html = Table::from_frame("T", &rows.frame().unwrap()).unwrap().render("t");
        assert!(html.contains("data-v=\"0.123456789\">0.123<"), "{html}");
        assert!(html.contains(">1.23e\u{2212}5<") || html.contains(">1.23e-5<"), "{html}");
        assert!(html.contains("&lt;b&gt;") && html.contains("not defined"));
    }

    #[test]
    fn long_tables_say_that_they_are_cut() {
        let mut rows = Rows::new();
        (0..600).for_each(|i| rows.push([("i", json!(i))]));
        let html = Table::from_frame("T", &rows.frame().unwrap()).unwrap().render("t");
        assert!(html.contains("The first 500 of 600 rows"));
        assert!(Table::from_frame("T", &Rows::new().frame().unwrap()).unwrap().render("t").contains("No rows"));
    }

    #[test]
    fn axis_values_are_not_padded() {
        let digits = |v: &[Value]| v.iter().map(|x| Style::of(v).write(x.as_f64().unwrap())).collect::<Vec<_>>();
        assert_eq!(digits(&[json!(0.1), json!(1.0)]), ["0.1", "1.0"]);
        assert_eq!(digits(&[json!(0.5), json!(0.6123)]), ["0.500", "0.612"]);
        assert_eq!(digits(&[json!(-12.34), json!(250.0)]), ["-12.3", "250.0"]);
    }
}
