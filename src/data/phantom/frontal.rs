//! The frontal view: optical density of one line of sight, from anatomy and pathology.
//!
//! Densities are sums of what lies behind each other: chest wall, then lung or solid tissue, then bone.
//! Exposure, noise and the film itself are [`super::film`]'s.

use super::{
    anatomy::Anatomy,
    clutter::Clutter,
    finding::{Blob, Pathology},
    shape::{bump, ellipse, ellipse_bump, step, to_segment, to_whole},
};

/// Density of a chest filled with soft tissue, beside that of its wall.
const CORE: f32 = 0.75;

pub struct Frontal<'a> {
    anatomy: &'a Anatomy,
    pathology: &'a Pathology,
    clutter: &'a Clutter,
    /// Taken from the front, lying or sitting: larger heart, higher diaphragm, shoulder blades over the lungs.
    ap: bool,
    dome: [f32; 2],
    wall: f32,
    heart: Heart,
}

/// One line of sight.
struct Ray {
    x: f32,
    y: f32,
    /// 0 right, 1 left of the spine.
    side: usize,
    /// Distance from the spine.
    out: f32,
    /// Half the inner width of the thorax here.
    width: f32,
    /// 0 at the lung's tip, 1 at its base.
    t: f32,
}

struct Heart {
    x: f32,
    y: f32,
    rx: f32,
    ry: f32,
}

impl<'a> Frontal<'a> {
    pub fn new(anatomy: &'a Anatomy, pathology: &'a Pathology, clutter: &'a Clutter, ap: bool) -> Self {
        let breath = clutter.breath + 0.10 * pathology.emphysema - if ap { 0.06 } else { 0.0 };
        let dome = [0, 1].map(|i| anatomy.dome[i] + breath - pathology.lift[i]);
        let usual = anatomy.cardiothoracic * if ap { 1.06 } else { 1.0 };
        let width = (usual + clutter.beat + pathology.heart_growth - 0.06 * pathology.emphysema) * 2.0 * anatomy.chest;
        let ry = 0.14 + 0.19 * width;
        let heart = Heart { x: 0.14 * width, y: dome[1] + 0.05 - 0.8 * ry, rx: width / 2.0, ry };
        Frontal { anatomy, pathology, clutter, ap, dome, wall: 0.30 + 0.25 * anatomy.habitus, heart }
    }

    /// Half the inner width of the thorax at a height.
    fn half_width(&self, y: f32) -> f32 {
        let t = (y - self.anatomy.apex) / (0.6 - self.anatomy.apex);
        let q = (1.0 - t).clamp(0.0, 1.0);
        if t <= 0.0 { 0.0 } else { self.anatomy.chest * (1.0 - q * q * q).sqrt() }
    }

    /// Height of the diaphragm: a dome that falls steeply to the outer angle.
    fn diaphragm(&self, side: usize, x: f32) -> f32 {
        let d = (x - 0.5 * self.anatomy.chest) / (0.5 * self.anatomy.chest);
        let flat = 1.0 - 0.6 * self.pathology.emphysema;
        self.dome[side] + flat * d * d * if d > 0.0 { 0.24 } else { 0.06 }
    }

    /// Density along the line of sight through (x, y).
    pub fn density(&self, x: f32, y: f32) -> f32 {
        let (a, p) = (self.anatomy, self.pathology);
        let shoulder = 0.2 + (a.chest + 0.08 + 0.10 * a.habitus) * step(-1.08, -0.74, y) - 0.1 * step(-0.5, 0.2, y);
        let middle = x - a.scoliosis * (1.0 - y * y);
        let (side, out) = (usize::from(middle > 0.0), middle.abs());
        let body = step(0.0, 0.05, shoulder + 0.1 - out);
        if body == 0.0 && p.lines.is_empty() {
            return 0.0;
        }
        let ray = Ray { x, y, side, out, width: self.half_width(y), t: (y - a.apex) / (0.6 - a.apex) };

        // How much of this line is lung.
        let thorax = step(0.0, 0.05, ray.width - out);
        let dome = self.diaphragm(side, out);
        let above = step(-0.015, 0.025, dome - y);
        let trunk = 0.45 * f32::from(middle > 0.0) * step(-0.45, -0.2, y);
        let centre = step(0.02, -0.03, out - a.mediastinum * (1.0 + trunk + 0.25 * step(-0.3, -0.8, y)));
        let knob = ellipse(x - a.mediastinum, y + 0.36, a.knob, a.knob, 0.25);
        let heart = self.heart(x, y);
        let lung = thorax * above * (1.0 - centre) * (1.0 - knob) * (1.0 - heart);

        // Free air begins outside the edge of the lung, which has sunk from the wall, most at the tip.
        let sunk = p.pneumothorax[side] * (1.7 - 1.7 * ray.t).max(0.0);
        let past = out - (ray.width - sunk);
        let free = if sunk > 1e-3 { step(-0.008, 0.008, past) } else { 0.0 };
        let inside = (self.filling(&ray) + self.vessels(&ray)) * (1.0 - free);
        let filled = (inside + self.veil(&ray)).min(0.95);
        let filled = filled.max(self.fluid(&ray, dome));

        let mut density = self.wall + CORE * (1.0 - lung * (1.0 - filled));
        density += lung * (0.2 * p.pneumothorax[side] * (1.0 - free) - 0.03 * free - 0.10 * p.emphysema);
        if sunk > 1e-3 {
            density += lung * 0.09 * bump(past / 0.02);
        }
        density += 0.14 * heart + 0.06 * knob + 0.16 * (1.0 - above) * thorax;
        density += 1.4 * a.breast * ellipse_bump(out - 0.44, y - 0.22, 0.36, 0.36);
        if self.clutter.stomach {
            density -= 0.35 * ellipse(x - 0.38, y - self.dome[1] - 0.16, 0.13, 0.09, 0.2);
        }
        // The windpipe.
        density -= 0.22 * step(0.055, 0.035, (x - 0.01).abs()) * step(-0.22, -0.32, y);
        density += a.bone * self.bones(&ray, middle);
        body * density + self.device(x, y)
    }

    /// What fills the lung in place of air: opacities, collapse, scars.
    fn filling(&self, ray: &Ray) -> f32 {
        let (a, p, &Ray { x, y, side, out, width, .. }) = (self.anatomy, self.pathology, ray);
        let noise = a.noise.rough(x * 5.0 + 11.0, y * 5.0 + 5.0);
        let mut filled = p.blobs.iter().chain(&a.marks.spots).map(|b| opacity(b, b.x, x, y, noise)).sum::<f32>();
        filled += 0.5 * rind(a.marks.cap[side], y - a.apex - 0.04);
        filled += 0.55 * rind(p.pleura[side], width - out) * step(-0.7, -0.3, y);
        let wings = ellipse_bump(out - 0.22, y + 0.02, 0.62, 0.62);
        filled += p.edema * (wings * (0.8 + 0.5 * noise) + 0.25 * step(0.1, 0.5, y));
        for l in &p.bands {
            filled += l.density * bump(to_segment([x, y], l.from, l.to) / l.half_width);
        }
        let net = a.noise.ridge(x * 11.0, y * 11.0 + 3.0);
        filled + p.fibrosis * 0.42 * net * step(-0.3, 0.4, y + 0.5 * (out - 0.4))
    }

    /// What lies over the lung and is taken for a part of it: soft tissue, cloth, a fold of skin.
    fn veil(&self, ray: &Ray) -> f32 {
        let &Ray { x, y, side, out, width, t } = ray;
        let (patch, place) = self.clutter.patch;
        let mut veil = self.clutter.haze[side];
        veil += patch * (self.anatomy.noise.at(x * 2.2 + place, y * 2.2) + 0.4).max(0.0);
        if let Some((fold, far)) = self.clutter.fold
            && fold.index() == side
        {
            let line = width - far * (1.3 - 0.5 * t) - out;
            veil += 0.13 * bump(line / 0.02) * step(-0.75, -0.6, y) * step(0.3, 0.1, y);
        }
        veil
    }

    /// The hilum and the vessels that leave it.
    fn vessels(&self, ray: &Ray) -> f32 {
        let (dx, dy) = (ray.out - 0.15, ray.y + 0.03);
        let hilum = ellipse_bump(ray.out - 0.19, dy, 0.15, 0.2);
        let reach = bump((dx * dx + dy * dy).sqrt() / 0.8);
        let branches = self.anatomy.noise.ridge(ray.x * 6.0 + 2.0, ray.y * 6.0);
        self.anatomy.vessel * (1.0 - 0.5 * self.pathology.emphysema) * (0.24 * hilum + 0.17 * reach * branches)
    }

    fn heart(&self, x: f32, y: f32) -> f32 {
        let h = &self.heart;
        // Turned so that the apex points down and to the patient's left; drawn out upwards, to the great vessels.
        let (dx, dy) = ((x - h.x) / h.rx, (y - h.y) / h.ry);
        let (u, v) = (0.92 * dx + 0.39 * dy, -0.39 * dx + 0.92 * dy);
        let above = if v > 0.0 { 1.0 } else { 0.42 };
        step(1.06, 0.94, (u * u + above * v * v).sqrt())
    }

    /// Pleural fluid rises along the wall: its surface is higher outside than inside.
    fn fluid(&self, ray: &Ray, dome: f32) -> f32 {
        let &Ray { y, side, out, width, .. } = ray;
        let height = self.pathology.effusion[side].max(self.anatomy.marks.blunt[side]);
        if height == 0.0 {
            return 0.0;
        }
        let r = (out / width.max(0.1)).min(1.0);
        let base = self.dome[side] + 0.20;
        let surface = base - height * (0.45 + 0.75 * r * r);
        0.92 * step(-0.03, 0.05, y - surface.min(dome + 0.3))
    }

    fn bones(&self, ray: &Ray, middle: f32) -> f32 {
        let (a, &Ray { y, out, width, .. }) = (self.anatomy, ray);
        let inside = step(-0.03, 0.02, width + 0.03 - out) * step(self.dome[0] + 0.42, self.dome[0] + 0.2, y);
        let band = |height: f32, half: f32| {
            let d = to_whole(height / a.rib_spacing + a.rib_phase) * a.rib_spacing;
            let edge = bump((d - half * 0.8) / (half * 0.6));
            0.75 * step(half * 1.15, half * 0.75, d) + 0.35 * edge
        };
        // Behind: from the spine outwards and down. In front: from the side inwards and down, fading to cartilage.
        let behind = band(y - a.rib_slope * out * (0.35 + out), 0.026) * step(0.07, 0.12, out);
        let front = band(y + 0.62 * out, 0.03) * step(0.26, 0.45, out) * step(-0.65, -0.45, y);
        let mut bone = inside * (0.15 * behind + 0.085 * front);
        let collar =
            to_segment([out, y], [0.07, -0.60], [0.42, -0.72]).min(to_segment([out, y], [0.42, -0.72], [0.86, -0.74]));
        bone += 0.20 * step(0.042, 0.026, collar);
        if self.ap {
            let blade = to_segment([out, y], [0.78, -0.6], [0.66, -0.12]);
            bone += 0.10 * step(0.09, 0.06, blade);
        } else {
            bone += 0.10 * step(0.1, 0.06, to_segment([out, y], [0.98, -0.6], [0.92, -0.1]));
        }
        let vertebra = 0.7 + 0.3 * step(0.06, 0.16, to_whole(y * 5.5 + a.rib_phase));
        bone + 0.26 * step(0.10, 0.07, middle.abs()) * vertebra
    }

    fn device(&self, x: f32, y: f32) -> f32 {
        let p = self.pathology;
        let mut density = 0f32;
        for l in &p.lines {
            density =
                density.max(l.density * step(l.half_width * 1.2, l.half_width * 0.7, to_segment([x, y], l.from, l.to)));
        }
        if let Some((c, half)) = p.case {
            let d = ((x - c[0]).abs() / half).max((y - c[1]).abs() / (0.85 * half));
            density = density.max(1.1 * step(1.08, 0.95, d));
        }
        density
    }
}

/// A layer of some thickness under a surface: 1 at depth 0, 0 from the thickness on.
fn rind(thickness: f32, depth: f32) -> f32 {
    if thickness > 0.0 { step(thickness, 0.5 * thickness, depth) } else { 0.0 }
}

/// How much of the lung at (x, y) a blob centred at `centre` fills.
pub fn opacity(blob: &Blob, centre: f32, x: f32, y: f32, noise: f32) -> f32 {
    let (dx, dy) = ((x - centre) / blob.rx, (y - blob.y) / blob.ry);
    let r = (dx * dx + dy * dy).sqrt();
    if r > 1.6 {
        return 0.0;
    }
    let ragged = r + blob.rough * 0.75 * noise;
    let soft = 0.12 + 0.5 * blob.rough;
    let cover = step(1.0 + soft, 1.0 - soft, ragged) * (1.0 - blob.rough * 0.35 * (1.0 + noise));
    let inner = if blob.hollow > 0.0 { step(blob.hollow * 0.8, blob.hollow, r) } else { 1.0 };
    blob.density * cover * inner
}
