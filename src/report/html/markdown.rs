//! The small Markdown that cards and methods sections are written in, as HTML.
//!
//! Headings, paragraphs, `- ` lists, tables with a head, `code` and **bold**: what this program writes, and no more.

use super::escape;

pub fn render(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        let level = line.chars().take_while(|c| *c == '#').count();
        if (1..=4).contains(&level) && line[level..].starts_with(' ') {
            // A card's title is a third-level heading on a page.
            let tag = (level + 2).min(5);
            out.push_str(&format!("<h{tag}>{}</h{tag}>\n", inline(&line[level + 1..])));
        } else if line.starts_with("- ") {
            out.push_str("<ul>\n");
            let mut item = Some(line);
            while let Some(text) = item.and_then(|l| l.strip_prefix("- ")) {
                out.push_str(&format!("<li>{}</li>\n", inline(text)));
                item = lines.next_if(|l| l.starts_with("- "));
            }
            out.push_str("</ul>\n");
        } else if line.starts_with('|') {
            let mut rows = vec![line];
            while let Some(row) = lines.next_if(|l| l.starts_with('|')) {
                rows.push(row);
            }
            out.push_str(&table(&rows));
        } else {
            let mut paragraph = line.to_string();
            while let Some(more) =
                lines.next_if(|l| !l.is_empty() && !l.starts_with(['#', '|']) && !l.starts_with("- "))
            {
                paragraph.push(' ');
                paragraph.push_str(more.trim());
            }
            out.push_str(&format!("<p>{}</p>\n", inline(&paragraph)));
        }
    }
    out
}

fn table(rows: &[&str]) -> String {
    let cells = |row: &str| -> Vec<String> {
        // A bar inside a cell is written `\|`.
        let row = row.trim().trim_start_matches('|').replace("\\|", "\u{1}");
        let row = row.strip_suffix('|').unwrap_or(&row);
        row.split('|').map(|c| c.trim().replace('\u{1}', "|")).collect()
    };
    let right: Vec<bool> = rows.get(1).map(|r| cells(r).iter().map(|c| c.ends_with(':')).collect()).unwrap_or_default();
    let class = |i: usize| if right.get(i).copied().unwrap_or(false) { " class=\"n\"" } else { "" };
    let mut out =
        String::from("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Table\"><table>\n<thead><tr>");
    for (i, head) in rows.first().map(|r| cells(r)).unwrap_or_default().iter().enumerate() {
        out.push_str(&format!("<th scope=\"col\"{}>{}</th>", class(i), inline(head)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows.iter().skip(2) {
        out.push_str("<tr>");
        for (i, cell) in cells(row).iter().enumerate() {
            out.push_str(&format!("<td{}>{}</td>", class(i), inline(cell)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    out
}

/// `code`, **bold** and text; unpaired signs stay signs.
fn inline(text: &str) -> String {
    let mut out = String::new();
    let parts: Vec<&str> = text.split('`').collect();
    for (i, part) in parts.iter().enumerate() {
        let code = i % 2 == 1 && i + 1 < parts.len();
        if code {
            out.push_str(&format!("<code>{}</code>", escape(part)));
        } else {
            if i % 2 == 1 {
                out.push('`');
            }
            let bold: Vec<&str> = part.split("**").collect();
            for (j, piece) in bold.iter().enumerate() {
                match (j % 2 == 1, j + 1 < bold.len()) {
                    (true, true) => out.push_str(&format!("<b>{}</b>", escape(piece))),
                    (true, false) => out.push_str(&format!("**{}", escape(piece))),
                    _ => out.push_str(&escape(piece)),
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cards_hold_becomes_html() {
        let html =
            render("# A <b>\n\nTwo\nlines `x|y`.\n\n- one\n- **two**\n\n| a | n |\n|---|---:|\n| x \\| y | 1 |\n");
        assert_eq!(
            html,
            "<h3>A &lt;b&gt;</h3>\n<p>Two lines <code>x|y</code>.</p>\n<ul>\n<li>one</li>\n<li><b>two</b></li>\n</ul>\n\
             <div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Table\"><table>\n<thead><tr><th scope=\"col\">a</th>\
             <th scope=\"col\" class=\"n\">n</th></tr></thead>\n<tbody>\n<tr><td>x | y</td><td class=\"n\">1</td></tr>\n\
             </tbody>\n</table></div>\n"
        );
        assert_eq!(render("5 * 3 ` and ** alone"), "<p>5 * 3 ` and ** alone</p>\n");
    }
}
