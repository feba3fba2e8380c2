//! Plots for paper: one SVG whose text is drawn as outlines of the bundled font, and the same as PNG.
//!
//! Colours are written out (no variables, one light theme), and no font of the machine is asked, so that the
//! bytes are the same everywhere and the file looks the same in a browser, in LaTeX and in Word.

use std::sync::{Arc, OnceLock};

use resvg::{
    tiny_skia::{Color, Pixmap, Transform},
    usvg::{Options, Tree, WriteOptions, fontdb::Database},
};

use super::{
    Plot, WIDTH,
    mark::{COLOURS, number, text_width},
};
use crate::{
    error::{Error, Result},
    report::html::escape,
};

/// Pixels a unit in PNG files: a panel of 420 units is 1260 px, 300 dpi at 10.7 cm.
const PIXELS: f32 = 3.0;

const INK: &str = "#1d1c1a";
const MUTED: &str = "#5a5751";
const PAPER: &str = "#ffffff";

/// Okabe & Ito's palette; purple and blue a little darker and yellow last and dark, to stand on white.
const PALETTE: [&str; COLOURS] = ["#0072b2", "#d55e00", "#009e73", "#b8578f", "#e69f00", "#3d9fd8", "#8f8500"];

/// The rules of `plot.css` with its light theme written out.
fn style() -> String {
    let mut css = format!(
        "text{{fill:{INK}}}.tick{{fill:{MUTED}}}.end{{text-anchor:end}}.mid{{text-anchor:middle}}\
         .title{{font-size:15px;font-weight:bold}}.panel-title{{font-weight:bold}}.inverse{{fill:{PAPER}}}\
         .grid{{stroke:#e3e0da;stroke-width:1;fill:none}}.base{{stroke:{MUTED};stroke-width:1;fill:none}}\
         .guide{{stroke:{MUTED};stroke-width:1;fill:none;stroke-dasharray:4 3}}\
         .halo{{stroke:{PAPER};stroke-width:3.4;fill:none;stroke-opacity:.75}}\
         .over{{stroke:{INK};stroke-width:1.2;fill:none}}.node{{fill:{PAPER};stroke:{MUTED};stroke-width:1}}\
         .line{{stroke-width:1.8;fill:none;stroke-linejoin:round;stroke-linecap:round}}\
         .thin{{stroke-width:1.3;stroke-opacity:.75}}.whisker{{stroke-width:1.3;fill:none}}\
         .mark{{stroke:{PAPER};stroke-width:1}}.band{{fill-opacity:.18}}\
         .d1 .line{{stroke-dasharray:6 3}}.d2 .line{{stroke-dasharray:1.5 3.5}}.other .line{{stroke-dasharray:5 3}}\
         .bar.d1{{fill-opacity:.6}}.bar.d2{{fill-opacity:.35}}"
    );
    for (i, colour) in PALETTE.iter().enumerate() {
        css.push_str(&format!(
            ".s{i} .line,.s{i} .whisker{{stroke:{colour}}}.s{i} .mark,.s{i} .band{{fill:{colour}}}\
             .bar.s{i},.cell.s{i}{{fill:{colour}}}.other.s{i} .mark{{fill:{PAPER};stroke:{colour};stroke-width:1.6}}\
             .bar.other.s{i}{{fill-opacity:.25;stroke:{colour};stroke-width:1.2}}"
        ));
    }
    css
}

/// The two faces, and nothing of the machine.
fn fonts() -> Arc<Database> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    FONTS
        .get_or_init(|| {
            let mut fonts = Database::new();
            fonts.load_font_data(include_bytes!("font/DejaVuSans.ttf").to_vec());
            fonts.load_font_data(include_bytes!("font/DejaVuSans-Bold.ttf").to_vec());
            fonts.set_sans_serif_family("DejaVu Sans");
            Arc::new(fonts)
        })
        .clone()
}

/// A drawing with text as text and classes for colours, before it is made independent of the machine.
pub struct Drawing {
    /// In units.
    pub width: f64,
    pub height: f64,
    pub title: String,
    pub description: String,
    /// Elements under the root, with the classes of `plot.css`.
    pub body: String,
}

impl Drawing {
    fn tree(&self) -> Result<Tree> {
        let source = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" font-family=\"DejaVu Sans\" font-size=\"12\"><style>{}</style><rect width=\"{w}\" height=\"{h}\" fill=\"{PAPER}\"/>{}</svg>",
            style(),
            self.body,
            w = number(self.width),
            h = number(self.height)
        );
        let options = Options { font_family: "DejaVu Sans".into(), fontdb: fonts(), ..Options::default() };
        Tree::from_str(&source, &options).map_err(|e| Error::invalid(format!("bug: plot {}: {e}", self.title)))
    }

    /// One SVG file with text as outlines, its title and description for readers who do not see it.
    pub fn svg(&self) -> Result<String> {
        let options = WriteOptions { coordinates_precision: 2, transforms_precision: 4, ..WriteOptions::default() };
        let drawn = self.tree()?.to_string(&options);
        let (head, rest) = drawn.split_once('>').unwrap_or((&drawn, ""));
        Ok(format!(
            "{head} role=\"img\">\n    <title>{}</title>\n    <desc>{}</desc>{rest}",
            escape(&self.title),
            escape(&self.description)
        ))
    }

    /// The same as PNG, three pixels a unit, on white.
    pub fn png(&self) -> Result<Vec<u8>> {
        let (width, height) = (self.width as f32 * PIXELS, self.height as f32 * PIXELS);
        let mut pixels = Pixmap::new(width.round() as u32, height.round() as u32).ok_or_else(|| {
            Error::invalid(format!("plot {} is too large to draw: {width} × {height} px", self.title))
        })?;
        // A last row that the drawing covers in part would let through what is behind it.
        pixels.fill(Color::WHITE);
        resvg::render(&self.tree()?, Transform::from_scale(PIXELS, PIXELS), &mut pixels.as_mut());
        // Everything stands on opaque white, so the alpha channel says nothing.
        let rgb: Vec<u8> = pixels.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
        let failed = |e: png::EncodingError| Error::invalid(format!("plot {}: {e}", self.title));
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, pixels.width(), pixels.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::High);
        let per_metre = (f64::from(PIXELS) * 96.0 / 0.0254).round() as u32;
        let unit = png::Unit::Meter;
        encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: per_metre, yppu: per_metre, unit }));
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&rgb).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(out)
    }
}

impl Plot {
    /// Panels side by side (at most three), with title, legend and caption.
    pub fn drawing(&self) -> Drawing {
        let across = self.across();
        let width = across as f64 * WIDTH;
        let mut body = String::new();
        let mut y = 8.0;
        for line in lines(&self.title, width - 24.0, 15.0 / 12.0 * 1.1) {
            y += 18.0;
            body.push_str(&format!("<text class=\"title\" x=\"12\" y=\"{}\">{}</text>", number(y), escape(&line)));
        }
        y += 14.0;
        let mut x = 12.0;
        if !self.legend.is_empty() && !self.legend_title.is_empty() {
            body.push_str(&format!(
                "<text class=\"tick\" x=\"12\" y=\"{}\">{}</text>",
                y + 10.0,
                escape(&self.legend_title)
            ));
            x += text_width(&self.legend_title) + 16.0;
        }
        for (look, name) in &self.legend {
            let need = 54.0 + text_width(name);
            if x + need > width && x > 12.0 {
                x = 12.0;
                y += 20.0;
            }
            body.push_str(&format!(
                "<g transform=\"translate({},{})\">{}<text x=\"34\" y=\"10\">{}</text></g>",
                number(x),
                number(y),
                look.key(self.marks),
                escape(name)
            ));
            x += need;
        }
        if !self.legend.is_empty() {
            y += 26.0;
        }
        for row in self.panels.chunks(across) {
            let height = row.iter().map(|p| p.height).fold(0.0, f64::max);
            let titled = row.iter().any(|p| !p.title.is_empty());
            let below = if titled { 20.0 } else { 0.0 };
            for (i, p) in row.iter().enumerate() {
                let at = i as f64 * WIDTH;
                if titled {
                    body.push_str(&format!(
                        "<text class=\"panel-title\" x=\"{}\" y=\"{}\">{}</text>",
                        number(at + 12.0),
                        number(y + 12.0),
                        escape(&super::mark::fit(&p.title, WIDTH - 40.0))
                    ));
                }
                body.push_str(&format!(
                    "<g transform=\"translate({},{})\">{}</g>",
                    number(at),
                    number(y + below),
                    p.body
                ));
            }
            y += height + below + 12.0;
        }
        for line in lines(&self.caption, width - 24.0, 1.0) {
            y += 15.0;
            body.push_str(&format!("<text class=\"tick\" x=\"12\" y=\"{}\">{}</text>", number(y), escape(&line)));
        }
        let description: Vec<&str> = self.panels.iter().map(|p| p.description.as_str()).collect();
        Drawing { width, height: y + 12.0, title: self.title.clone(), description: description.join(" "), body }
    }
}

/// Words broken into lines of at most `width` units, in text `size` times as large as usual.
fn lines(text: &str, width: f64, size: f64) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match out.last_mut() {
            Some(line) if size * text_width(&format!("{line} {word}")) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => out.push(word.into()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(body: &str) -> Drawing {
        Drawing { width: 60.0, height: 40.0, title: "a & b".into(), description: "d".into(), body: body.into() }
    }

    /// Share of pixels that are nearly of a colour.
    fn share(png: &[u8], of: [u8; 3]) -> f64 {
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let near = pixels.chunks_exact(3).filter(|p| p.iter().zip(of).all(|(a, b)| a.abs_diff(b) < 8)).count();
        near as f64 / (pixels.len() / 3) as f64
    }

    #[test]
    fn text_becomes_outlines_and_bytes_repeat() {
        let d = drawing("<text x=\"4\" y=\"20\">Größe 0.95 →</text>");
        let svg = d.svg().unwrap();
        assert!(!svg.contains("<text") && svg.contains("<path") && svg.contains("<title>a &amp; b</title>"), "{svg}");
        assert_eq!(svg, d.svg().unwrap());
        assert_eq!(d.png().unwrap(), d.png().unwrap());
        assert!(share(&d.png().unwrap(), [0x1d, 0x1c, 0x1a]) > 0.01, "letters are there without a font of the machine");
    }

    #[test]
    fn classes_have_their_colours() {
        let d = drawing("<rect class=\"bar s1\" x=\"0\" y=\"0\" width=\"30\" height=\"40\"/>");
        assert!((share(&d.png().unwrap(), [0xd5, 0x5e, 0x00]) - 0.5).abs() < 0.02);
        let hollow = drawing("<g class=\"s1 other\"><circle class=\"mark\" cx=\"30\" cy=\"20\" r=\"15\"/></g>");
        assert!(share(&hollow.png().unwrap(), [255, 255, 255]) > 0.9);
    }

    #[test]
    fn long_captions_break() {
        let all = lines("one two three four five six seven eight nine ten eleven twelve", 100.0, 1.0);
        assert!(all.len() > 2 && all.iter().all(|l| text_width(l) <= 100.0), "{all:?}");
    }
}
