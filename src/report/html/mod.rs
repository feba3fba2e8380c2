//! One self-contained HTML page: no network, inline style and one small script.
//!
//! Its bytes depend on what it is given, and it is to be given results alone: no clock, host, path or
//! program version belongs here (see [`crate::report::runpage`] for those). Without the script
//! everything can be read; with it, tables sort by a click on their heads.

mod images;
mod markdown;
mod provenance;
mod table;

pub use images::{Gallery, Sample};
pub(crate) use markdown::render as markdown_html;
pub use provenance::{Notice, Provenance};
pub use table::{Link, Table};

use super::plot::{self, Plot};

const STYLE: &str = include_str!("style.css");
const SORT: &str = include_str!("sort.js");

/// A page under construction. Blocks appear in the order in which they were added.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    kicker: String,
    blocks: Vec<String>,
    /// (id, text) of every section, for the contents.
    sections: Vec<(String, String)>,
    counter: usize,
}

impl Page {
    pub fn new(title: &str) -> Self {
        Page {
            title: title.into(),
            kicker: "scaleshot report".into(),
            blocks: Vec::new(),
            sections: Vec::new(),
            counter: 0,
        }
    }

    /// The small line above the title.
    pub fn kicker(mut self, text: &str) -> Self {
        self.kicker = text.into();
        self
    }

    /// A section heading; it is listed in the contents.
    pub fn section(mut self, heading: &str) -> Self {
        let id = self.id(heading);
        self.blocks.push(format!("<h2 id=\"{id}\">{}</h2>\n", escape(heading)));
        self.sections.push((id, heading.into()));
        self
    }

    /// A paragraph of plain text.
    pub fn text(mut self, text: &str) -> Self {
        self.blocks.push(format!("<p>{}</p>\n", escape(text)));
        self
    }

    /// The opening paragraph: what was asked and what came out.
    pub fn lead(mut self, text: &str) -> Self {
        self.blocks.push(format!("<p class=\"lead\">{}</p>\n", escape(text)));
        self
    }

    pub fn table(mut self, table: &Table) -> Self {
        let id = self.id(table.caption());
        self.blocks.push(table.render(&id));
        self
    }

    /// A plot, with links to the files of it that lie beside the page.
    pub fn plot(mut self, plot: &Plot, files: &[&str]) -> Self {
        let id = self.id(&plot.title);
        self.blocks.push(plot.render(&id, files));
        self
    }

    /// Links to pages that lie beside this one: (file, what is there).
    pub fn beside(mut self, pages: &[(&str, &str)]) -> Self {
        let links: Vec<String> =
            pages.iter().map(|(to, text)| format!("<a href=\"{}\">{}</a>", escape(to), escape(text))).collect();
        self.blocks.push(format!("<p class=\"beside\">{}</p>\n", links.join(" · ")));
        self
    }

    /// Text in the small Markdown of cards: headings, paragraphs, lists and tables.
    pub fn markdown(mut self, text: &str) -> Self {
        self.blocks.push(markdown::render(text));
        self
    }

    /// A block that opens on demand. `id` can be linked to.
    pub fn folded(mut self, id: &str, summary: &str, body: &str) -> Self {
        self.blocks.push(format!(
            "<details id=\"{}\" class=\"card\"><summary>{}</summary>\n{body}</details>\n",
            escape(id),
            escape(summary)
        ));
        self
    }

    pub fn images(mut self, gallery: &Gallery) -> Self {
        self.blocks.push(gallery.render());
        self
    }

    /// Where every table came from: node, axes, artifact digest, key parts.
    pub fn provenance(mut self, sources: &[Provenance]) -> Self {
        self.blocks.push(provenance::render(sources));
        self
    }

    /// What a reader must know of: skipped rows, shared patients, undefined metrics.
    pub fn notes(mut self, notes: &[Notice]) -> Self {
        self.blocks.push(provenance::render_notes(notes));
        self
    }

    /// Ready-made HTML, which the caller has escaped.
    pub fn html(mut self, body: String) -> Self {
        self.blocks.push(body);
        self
    }

    /// An id that no other block of this page has.
    fn id(&mut self, text: &str) -> String {
        self.counter += 1;
        let words: String =
            text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let words: Vec<&str> = words.split('-').filter(|w| !w.is_empty()).take(5).collect();
        format!("{}-{}", if words.is_empty() { "block".into() } else { words.join("-") }, self.counter)
    }

    pub fn render(&self) -> String {
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{t}</title>\n<style>\n{css}{STYLE}</style>\n</head>\n<body>\n<header>\n<p class=\"kicker\">{k}</p>\n<h1>{t}</h1>\n</header>\n",
            t = escape(&self.title),
            k = escape(&self.kicker),
            css = plot::CSS,
        );
        if self.sections.len() > 2 {
            out.push_str("<nav aria-label=\"Contents\"><ul>");
            for (id, text) in &self.sections {
                out.push_str(&format!("<li><a href=\"#{id}\">{}</a></li>", escape(text)));
            }
            out.push_str("</ul></nav>\n");
        }
        out.push_str("<main>\n");
        self.blocks.iter().for_each(|b| out.push_str(b));
        out.push_str(&format!("</main>\n<script>\n{SORT}</script>\n</body>\n</html>\n"));
        out
    }
}

/// Text for HTML and XML, attribute values included. Control characters that XML forbids are dropped.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_text() {
        let page = Page::new("<script>alert(1)</script>").section("a\"b").text("x & y").render();
        assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert"));
        assert!(page.contains("x &amp; y") && page.contains(">a&quot;b<"));
    }

    #[test]
    fn a_page_needs_no_network_and_its_ids_are_its_own() {
        let page = Page::new("t").section("Same").section("Same").section("Third").render();
        assert!(!page.contains("http://") && !page.contains("https://"), "no address but the SVG namespace");
        let ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|s| s.split('"').next()).collect();
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
    }
}
