//! Sample images with their truth and what a model said, as PNG data URIs.

use super::escape;

/// One image. `right` is told in words and by a sign, never by colour alone.
#[derive(Clone, Debug)]
pub struct Sample {
    /// An encoded PNG.
    pub png: Vec<u8>,
    pub truth: String,
    pub predicted: String,
    /// Of what was predicted, in [0, 1].
    pub probability: Option<f64>,
    /// `None` where the truth is unknown.
    pub right: Option<bool>,
}

/// Samples under one heading.
#[derive(Clone, Debug)]
pub struct Gallery {
    pub title: String,
    /// Which model, which data, how the samples were chosen.
    pub note: String,
    pub samples: Vec<Sample>,
}

impl Gallery {
    pub(super) fn render(&self) -> String {
        let mut out = format!("<section class=\"gallery\">\n<h3>{}</h3>\n", escape(&self.title));
        if self.samples.is_empty() {
            out.push_str("<p class=\"note\">No samples.</p>\n</section>\n");
            return out;
        }
        out.push_str("<ul>\n");
        for s in &self.samples {
            let (sign, word) = match s.right {
                Some(true) => ("✓", "right"),
                Some(false) => ("✗", "wrong"),
                None => ("?", "truth unknown"),
            };
            let share = s.probability.map(|p| format!(" {:.0} %", 100.0 * p)).unwrap_or_default();
            out.push_str(&format!(
                "<li class=\"{class}\"><img src=\"data:image/png;base64,{data}\" alt=\"{truth}, predicted {predicted}\" loading=\"lazy\"><p><b>{truth}</b><span class=\"said\"><span aria-label=\"{word}\">{sign}</span> {predicted}{share}</span></p></li>\n",
                class = word.split(' ').next().unwrap_or(word),
                data = base64(&s.png),
                truth = escape(&s.truth),
                predicted = escape(&s.predicted),
            ));
        }
        out.push_str("</ul>\n");
        if !self.note.is_empty() {
            out.push_str(&format!("<p class=\"note\">{}</p>\n", escape(&self.note)));
        }
        out.push_str("</section>\n");
        out
    }
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().enumerate().fold(0u32, |w, (i, b)| w | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn base64_is_rfc_4648() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        pairs.iter().for_each(|(plain, coded)| assert_eq!(base64(plain.as_bytes()), *coded));
    }

    #[test]
    fn right_and_wrong_are_words_too() {
        let sample = |right| Sample {
            png: vec![1],
            truth: "cat".into(),
            predicted: "dog".into(),
            probability: Some(0.7),
            right,
        };
        let gallery =
            Gallery { title: "t".into(), note: String::new(), samples: vec![sample(Some(false)), sample(None)] };
        let html = gallery.render();
        assert!(html.contains("aria-label=\"wrong\"") && html.contains("truth unknown") && html.contains("dog 70 %"));
    }
}
