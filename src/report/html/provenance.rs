//! Where every number came from, and what a reader must know of.

use super::escape;

/// One table or plot's source: content digests and key parts, so that it can be found again.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// As it is called on the page.
    pub name: String,
    pub node: String,
    pub kind: String,
    /// Axis values of the cell.
    pub axes: Vec<(String, String)>,
    /// Hex digest of the artifact.
    pub digest: String,
    /// Parameters and input digests that its key is made of.
    pub parts: Vec<(String, String)>,
}

/// Something to know: rows skipped, patients shared, metrics undefined.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Which node or table.
    pub place: String,
    /// `skipped_rows`, `shared_patients`, …
    pub what: String,
    pub count: u64,
    pub detail: String,
}

pub(super) fn render(sources: &[Provenance]) -> String {
    let mut out = String::from("<div class=\"sources\">\n");
    for s in sources {
        let axes: Vec<String> = s.axes.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let cell = if axes.is_empty() { s.node.clone() } else { format!("{}[{}]", s.node, axes.join(",")) };
        let short: String = s.digest.chars().take(12).collect();
        let head = format!(
            "<b>{}</b> <span class=\"cell\">{}</span> <span class=\"kind\">{}</span> <code title=\"{}\">{}</code>",
            escape(&s.name),
            escape(&cell),
            escape(&s.kind),
            escape(&s.digest),
            escape(&short)
        );
        if s.parts.is_empty() {
            out.push_str(&format!("<p>{head}</p>\n"));
            continue;
        }
        out.push_str(&format!("<details><summary>{head}</summary><dl>"));
        for (name, value) in &s.parts {
            out.push_str(&format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)));
        }
        out.push_str("</dl></details>\n");
    }
    if sources.is_empty() {
        out.push_str("<p class=\"note\">No tables.</p>\n");
    }
    out.push_str("</div>\n");
    out
}

pub(super) fn render_notes(notes: &[Notice]) -> String {
    if notes.is_empty() {
        return "<p class=\"note\">Nothing was skipped and nothing leaked.</p>\n".into();
    }
    let mut out = String::from("<ul class=\"notes\">\n");
    for n in notes {
        out.push_str(&format!(
            "<li><b>{}</b> {}: <span class=\"count\">{}</span><span class=\"detail\">{}</span></li>\n",
            escape(&n.place),
            escape(&n.what.replace('_', " ")),
            n.count,
            escape(&n.detail)
        ));
    }
    out.push_str("</ul>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_shows_its_cell_and_keeps_the_whole_digest() {
        let html = render(&[Provenance {
            name: "transfer".into(),
            node: "transfer".into(),
            kind: "table".into(),
            axes: vec![("shots".into(), "5".into())],
            digest: "ab".repeat(32),
            parts: vec![("lr".into(), "0.003".into())],
        }]);
        assert!(
            html.contains("transfer[shots=5]") && html.contains(&"ab".repeat(32)) && html.contains(">abababababab<")
        );
        assert!(render_notes(&[]).contains("Nothing was skipped"));
    }
}
