//! The lateral view: the same patient and the same findings from the side, front of the chest to the left.

use super::{
    anatomy::Anatomy,
    clutter::Clutter,
    finding::Pathology,
    frontal::opacity,
    shape::{bump, ellipse, ellipse_bump, step, to_segment, to_whole},
};

const CORE: f32 = 0.85;

pub struct Lateral<'a> {
    anatomy: &'a Anatomy,
    pathology: &'a Pathology,
    clutter: &'a Clutter,
}

impl<'a> Lateral<'a> {
    pub fn new(anatomy: &'a Anatomy, pathology: &'a Pathology, clutter: &'a Clutter) -> Self {
        Lateral { anatomy, pathology, clutter }
    }

    /// Density along the line of sight through (x, y); x from front to back.
    pub fn density(&self, x: f32, y: f32) -> f32 {
        let (a, p) = (self.anatomy, self.pathology);
        let t = ((y - a.apex) / (0.6 - a.apex)).clamp(0.0, 1.0);
        let fat = 0.05 + 0.07 * a.habitus;
        // Sternum in front and spine behind bound the lungs.
        let front = -a.depth * (0.35 + 0.75 * (1.0 - (1.0 - t) * (1.0 - t)));
        let back = a.depth * (0.75 + 0.35 * (1.0 - (2.0 * t - 1.1) * (2.0 * t - 1.1)));
        let body = step(0.0, 0.05, x - (front - 0.09 - fat - a.breast)) * step(0.0, 0.05, back + 0.22 + fat - x);
        if body == 0.0 {
            return 0.0;
        }
        let dome = a.dome[0] + self.clutter.breath - 0.02 + 0.10 * p.emphysema - 0.5 * (p.lift[0] + p.lift[1]);
        let d = (x + 0.12) / a.depth;
        let diaphragm = dome + d * d * if d > 0.0 { 0.26 } else { 0.12 };
        let above = step(-0.02, 0.03, diaphragm - y) * step(-0.05, 0.08, y - a.apex);
        let growth = a.cardiothoracic + self.clutter.beat + p.heart_growth;
        let (rx, ry) = (0.58 * growth, 0.10 + 0.50 * growth);
        let heart = ellipse(x - (front + 0.05 + rx), y - (dome + 0.03 - 0.8 * ry), rx, ry, 0.12);
        let inside = step(0.0, 0.06, x - front) * step(0.0, 0.06, back - x);
        let lung = inside * above * (1.0 - 0.9 * heart);

        let noise = a.noise.rough(x * 5.0 + 3.0, y * 5.0 + 5.0);
        let mut filled = p.blobs.iter().chain(&a.marks.spots).map(|b| 0.75 * opacity(b, b.z, x, y, noise)).sum::<f32>();
        filled += 0.8 * p.edema * ellipse_bump(x - 0.05, y + 0.02, 0.6, 0.6) * (0.8 + 0.5 * noise);
        for l in &p.bands {
            let (from, to) = ([l.from[0].abs() - 0.3, l.from[1]], [l.to[0].abs() - 0.3, l.to[1]]);
            filled += 0.7 * l.density * bump(to_segment([x, y], from, to) / l.half_width);
        }
        filled += p.fibrosis * 0.35 * a.noise.ridge(x * 11.0, y * 11.0) * step(-0.3, 0.4, y);
        filled += 0.5 * (self.clutter.haze[0] + self.clutter.haze[1]);
        filled += a.vessel * 0.22 * ellipse_bump(x - 0.05, y + 0.05, 0.2, 0.24);
        filled += a.vessel * 0.13 * a.noise.ridge(x * 6.0 + 8.0, y * 6.0);
        let height = p.effusion[0].max(p.effusion[1]);
        if height > 0.0 {
            let surface = dome + 0.24 - height * (0.35 + 0.75 * (d * d).min(1.2));
            filled = filled.max(0.8 * step(-0.03, 0.05, y - surface));
        }
        let air = p.pneumothorax[0].max(p.pneumothorax[1]);
        let mut density = 0.35 + 0.25 * a.habitus + CORE * (1.0 - lung * (1.0 - filled.min(0.95)));
        density -= lung * (0.5 * air * step(-0.1, -0.4, y) + 0.10 * p.emphysema);
        density += 0.10 * heart + 0.15 * (1.0 - above) * inside * step(0.0, 0.2, y);
        density -= 0.2 * step(0.06, 0.03, (x - 0.05 - 0.06 * y).abs()) * step(-0.2, -0.35, y);

        // Bones: vertebrae behind, breastbone in front, ribs running down to the front.
        let spine = back - 0.02 - x;
        let vertebra = 0.65 + 0.35 * step(0.05, 0.14, to_whole(y * 5.0 + a.rib_phase));
        let mut bone = 0.34 * step(0.13, 0.09, spine.abs()) * vertebra * (1.0 - 0.35 * step(0.0, 0.5, y));
        bone += 0.22 * step(0.05, 0.03, (x - front + 0.03).abs()) * step(-0.6, -0.5, y) * step(0.35, 0.25, y);
        let rib = to_whole((y + 0.45 * x) / a.rib_spacing + a.rib_phase) * a.rib_spacing;
        bone += 0.09 * step(0.03, 0.018, rib) * inside * step(dome + 0.35, dome + 0.15, y);
        // Raised arms over the tips of the lungs.
        density += 0.35 * step(-0.62, -0.85, y);
        density += a.bone * bone;
        let mut device = 0f32;
        for l in &p.lines {
            let (from, to) = ([0.3 * l.from[0] - 0.05, l.from[1]], [0.3 * l.to[0] - 0.1, l.to[1]]);
            device = device
                .max(0.9 * l.density * step(l.half_width * 1.2, l.half_width * 0.7, to_segment([x, y], from, to)));
        }
        if let Some((c, half)) = p.case {
            let (dx, dy) = ((x - front + 0.02).abs() / (0.3 * half), (y - c[1]).abs() / half);
            device = device.max(step(1.1, 0.9, dx.max(dy)));
        }
        body * density + device
    }
}
