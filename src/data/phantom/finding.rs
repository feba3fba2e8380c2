//! What can be wrong with a phantom, how often, and how it is drawn into one study.
//!
//! A [`Pathology`] is both the truth that labels are written from and the scene that is rendered: nothing
//! is labelled that is not drawn, and nothing else than a label's drawing depends on the label.

use super::shape::range;
use crate::random::stream::Stream;

/// A radiological finding, as the generator knows it; each layout has its own words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    Atelectasis,
    Cardiomegaly,
    Consolidation,
    Edema,
    Effusion,
    Emphysema,
    Fibrosis,
    Infiltration,
    Mass,
    Nodule,
    PleuralThickening,
    Pneumonia,
    Pneumothorax,
    SupportDevices,
    Tuberculosis,
}

use Finding::*;

/// How often each finding is drawn in a study that is not healthy.
const PREVALENCE: [(Finding, f64); 14] = [
    (Atelectasis, 0.22),
    (Cardiomegaly, 0.28),
    (Consolidation, 0.16),
    (Edema, 0.16),
    (Effusion, 0.32),
    (Emphysema, 0.05),
    (Fibrosis, 0.05),
    (Infiltration, 0.16),
    (Mass, 0.11),
    (Nodule, 0.14),
    (PleuralThickening, 0.05),
    (Pneumonia, 0.15),
    (Pneumothorax, 0.15),
    (SupportDevices, 0.30),
];

/// Right is the patient's right, left in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Right,
    Left,
}

impl Side {
    pub const BOTH: [Side; 2] = [Side::Right, Side::Left];

    pub fn draw(stream: &mut Stream) -> Self {
        Self::BOTH[stream.below(2) as usize]
    }

    pub fn index(self) -> usize {
        self as usize
    }

    /// -1 or 1.
    pub fn sign(self) -> f32 {
        [-1.0, 1.0][self.index()]
    }
}

/// An opacity in the lung: an ellipse, smooth (`rough` 0) or patchy (1), solid or hollow.
#[derive(Clone, Debug)]
pub struct Blob {
    pub x: f32,
    pub y: f32,
    /// Place from front to back, where lateral views show it.
    pub z: f32,
    pub rx: f32,
    pub ry: f32,
    pub density: f32,
    pub rough: f32,
    /// Radius of an air-filled middle over the whole radius.
    pub hollow: f32,
}

/// A line of given half-width; several make a catheter.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub from: [f32; 2],
    pub to: [f32; 2],
    pub half_width: f32,
    pub density: f32,
}

/// Everything that a study shows beside the patient's anatomy.
#[derive(Clone, Debug, Default)]
pub struct Pathology {
    /// Findings in alphabetical order, with their severity, 0 (barely visible) to 1.
    pub findings: Vec<(Finding, f32)>,
    /// Added to the cardiothoracic ratio.
    pub heart_growth: f32,
    /// Height of pleural fluid, 0 for none.
    pub effusion: [f32; 2],
    /// Width of the air between lung and wall, 0 for none.
    pub pneumothorax: [f32; 2],
    pub blobs: Vec<Blob>,
    /// Plates of collapsed lung.
    pub bands: Vec<Line>,
    /// How far collapse lifts the diaphragm.
    pub lift: [f32; 2],
    /// Perihilar haze.
    pub edema: f32,
    /// Overinflation.
    pub emphysema: f32,
    /// Reticular texture at the bases.
    pub fibrosis: f32,
    /// Thickness of the pleura along the wall.
    pub pleura: [f32; 2],
    /// Catheters, wires and tubes, in frontal coordinates.
    pub lines: Vec<Line>,
    /// Centre and half-side of a pacemaker's case.
    pub case: Option<([f32; 2], f32)>,
}

impl Pathology {
    /// A study drawn at the usual prevalences; `healthy` is the chance of no finding at all.
    pub fn draw(stream: &mut Stream, healthy: f64, enlarged_heart: bool) -> Self {
        let mut out = Pathology::default();
        let healthy = stream.chance(healthy);
        for (finding, prevalence) in PREVALENCE {
            // Every study consumes the same draws before any is used, so that findings stay independent.
            let (draw, severity) = (stream.uniform(), severity(stream));
            let likely = match finding {
                SupportDevices => prevalence,
                _ if healthy => 0.0,
                Cardiomegaly if enlarged_heart => 0.9,
                Edema if enlarged_heart => 2.0 * prevalence,
                _ => prevalence,
            };
            if draw < likely {
                out.add(finding, severity, stream);
            }
        }
        out
    }

    /// A study with tuberculosis, or one without any finding.
    pub fn tuberculosis(stream: &mut Stream, ill: bool) -> Self {
        let mut out = Pathology::default();
        if ill {
            let severity = severity(stream);
            out.add(Tuberculosis, severity, stream);
        }
        out
    }

    pub fn severity(&self, finding: Finding) -> Option<f32> {
        self.findings.iter().find(|(f, _)| *f == finding).map(|(_, s)| *s)
    }

    /// No finding but devices, which are not an illness.
    pub fn healthy(&self) -> bool {
        self.findings.iter().all(|(f, _)| *f == SupportDevices)
    }

    fn add(&mut self, finding: Finding, severity: f32, stream: &mut Stream) {
        self.findings.push((finding, severity));
        let s = stream;
        let side = Side::draw(s);
        match finding {
            Cardiomegaly => self.heart_growth = 0.045 + 0.12 * severity,
            Effusion => {
                self.effusion[side.index()] = 0.06 + 0.36 * severity;
                if s.chance(0.35) {
                    self.effusion[1 - side.index()] = 0.05 + 0.30 * severity * range(s, 0.3, 1.0);
                }
            }
            Pneumothorax => self.pneumothorax[side.index()] = 0.04 + 0.18 * severity,
            Nodule => {
                for _ in 0..1 + s.below(3) {
                    let r = 0.045 + 0.04 * severity * range(s, 0.6, 1.0);
                    let side = Side::draw(s);
                    self.blob(s, side, r, 0.45 + 0.4 * severity, 0.0);
                }
            }
            Mass => {
                let r = 0.11 + 0.10 * severity;
                self.blob(s, side, r, 0.4 + 0.35 * severity, 0.12);
            }
            Consolidation => {
                let r = 0.19 + 0.15 * severity;
                self.blob(s, side, r, 0.45 + 0.35 * severity, 0.55);
            }
            Pneumonia => {
                for _ in 0..2 {
                    let r = 0.15 + 0.12 * severity;
                    self.blob(s, side, r, 0.35 + 0.3 * severity, 0.75);
                }
            }
            Infiltration => {
                for side in Side::BOTH {
                    let r = 0.2 + 0.12 * severity;
                    self.blob(s, side, r, 0.2 + 0.22 * severity, 0.9);
                }
            }
            Edema => self.edema = 0.12 + 0.34 * severity,
            Emphysema => self.emphysema = 0.4 + 0.6 * severity,
            Fibrosis => self.fibrosis = 0.4 + 0.6 * severity,
            PleuralThickening => self.pleura[side.index()] = 0.04 + 0.05 * severity,
            Atelectasis => {
                self.lift[side.index()] = 0.02 + 0.10 * severity;
                for _ in 0..1 + s.below(2) {
                    let (x, y) = (side.sign() * range(s, 0.2, 0.4), range(s, 0.1, 0.34));
                    let tilt = range(s, -0.08, 0.08);
                    let length = 0.18 + 0.2 * severity;
                    self.bands.push(Line {
                        from: [x, y],
                        to: [x + side.sign() * length, y + tilt],
                        half_width: 0.018 + 0.014 * severity,
                        density: 0.25 + 0.35 * severity,
                    });
                }
            }
            SupportDevices => self.device(side, s),
            Tuberculosis => {
                let r = 0.12 + 0.13 * severity;
                self.blob_at(s, side, (-0.62, -0.2), r, 0.18 + 0.38 * severity, 0.8);
                if s.chance(0.4) {
                    self.blob_at(s, side, (-0.6, -0.15), 0.085, 0.2 + 0.4 * severity, 0.1);
                    if let Some(cavity) = self.blobs.last_mut() {
                        cavity.hollow = 0.6;
                    }
                }
                for _ in 0..(1.0 + 6.0 * severity) as u32 {
                    let r = range(s, 0.02, 0.036);
                    self.blob_at(s, side, (-0.62, 0.1), r, 0.2 + 0.35 * severity, 0.0);
                }
                if s.chance(0.25) {
                    self.effusion[side.index()] = 0.08 + 0.3 * severity;
                }
            }
        }
    }

    fn blob(&mut self, stream: &mut Stream, side: Side, radius: f32, density: f32, rough: f32) {
        self.blob_at(stream, side, (-0.5, 0.3), radius, density, rough);
    }

    fn blob_at(&mut self, s: &mut Stream, side: Side, y: (f32, f32), radius: f32, density: f32, rough: f32) {
        self.blobs.push(Blob {
            x: side.sign() * range(s, 0.24, 0.58),
            y: range(s, y.0, y.1),
            z: range(s, -0.3, 0.35),
            rx: radius * range(s, 0.85, 1.2),
            ry: radius * range(s, 0.85, 1.2),
            density,
            rough,
            hollow: 0.0,
        });
    }

    fn device(&mut self, side: Side, s: &mut Stream) {
        let sign = side.sign();
        let mut path = |points: &[[f32; 2]], half_width: f32, density: f32| {
            for pair in points.windows(2) {
                self.lines.push(Line { from: pair[0], to: pair[1], half_width, density });
            }
        };
        match s.below(3) {
            // A pacemaker: case under the collar bone, lead to the right ventricle.
            0 => {
                let (x, y) = (sign * range(s, 0.46, 0.6), range(s, -0.56, -0.44));
                let tip = [range(s, 0.1, 0.25), range(s, 0.25, 0.36)];
                path(&[[x, y], [sign * 0.3, -0.62], [-0.08, -0.5], [-0.12, -0.1], [-0.06, 0.2], tip], 0.014, 0.7);
                self.case = Some(([x, y], range(s, 0.075, 0.1)));
            }
            // A central line through the subclavian or jugular vein.
            1 => {
                let end = [range(s, -0.13, -0.08), range(s, -0.15, 0.1)];
                path(&[[sign * 0.75, -0.62], [sign * 0.35, -0.66], [-0.1, -0.5], [-0.13, -0.3], end], 0.013, 0.6);
            }
            // A breathing tube, a feeding tube and the leads of a monitor.
            _ => {
                let x = range(s, -0.02, 0.02);
                path(&[[x, -1.2], [x, range(s, -0.42, -0.3)]], 0.02, 0.5);
                path(&[[x + 0.04, -1.2], [0.05, -0.2], [0.06, 0.4], [0.25, 0.75]], 0.012, 0.55);
                for sign in [-1.0f32, 1.0] {
                    let (x, y) = (sign * range(s, 0.3, 0.55), range(s, -0.3, 0.2));
                    path(&[[x, y], [x + 0.03, y + 0.02]], 0.04, 0.6);
                    path(&[[x, y], [sign * range(s, 0.6, 0.9), -0.95]], 0.01, 0.5);
                }
            }
        }
    }
}

/// Mostly moderate, sometimes slight or severe.
fn severity(stream: &mut Stream) -> f32 {
    (range(stream, 0.0, 1.0) + range(stream, 0.0, 1.0)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_what_is_said() {
        let mut seen = std::collections::BTreeMap::new();
        for i in 0..2000 {
            let p = Pathology::draw(&mut Stream::new(5, "test", 0, i), 0.3, i % 4 == 0);
            assert!(p.findings.is_sorted());
            assert_eq!(p.severity(Cardiomegaly).is_some(), p.heart_growth > 0.0);
            assert_eq!(p.severity(Effusion).is_some(), p.effusion.iter().any(|h| *h > 0.0));
            assert_eq!(p.severity(Pneumothorax).is_some(), p.pneumothorax.iter().any(|h| *h > 0.0));
            assert_eq!(p.severity(SupportDevices).is_some(), !p.lines.is_empty());
            assert_eq!(p.severity(Atelectasis).is_some(), !p.bands.is_empty());
            let opaque = [Consolidation, Infiltration, Mass, Nodule, Pneumonia];
            assert_eq!(opaque.iter().any(|f| p.severity(*f).is_some()), !p.blobs.is_empty());
            p.findings.iter().for_each(|(f, _)| *seen.entry(*f).or_insert(0) += 1);
        }
        assert_eq!(seen.len(), PREVALENCE.len());
        assert!(seen.values().all(|n| (40..1200).contains(n)), "{seen:?}");
    }
}
