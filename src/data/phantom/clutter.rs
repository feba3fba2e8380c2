//! What looks like a finding and is none: the reason why phantoms are not read at a glance.
//!
//! Old scars and nipples stay with a patient, haze and skin folds belong to one film. All are drawn
//! independently of the findings, for the ill and the healthy alike.

use super::{
    finding::{Blob, Side},
    shape::range,
};
use crate::random::stream::Stream;

/// Harmless marks of one patient.
#[derive(Clone, Debug)]
pub struct Marks {
    /// Calcified granulomas and nipple shadows.
    pub spots: Vec<Blob>,
    /// Thickness of a scar over the lung's tip.
    pub cap: [f32; 2],
    /// Height of an old blunted angle at the diaphragm.
    pub blunt: [f32; 2],
}

impl Marks {
    pub fn draw(s: &mut Stream) -> Self {
        let spot = |x: f32, y: f32, radius: f32, density: f32| Blob {
            x,
            y,
            z: 0.3 * x,
            rx: radius,
            ry: radius,
            density,
            rough: 0.0,
            hollow: 0.0,
        };
        let mut spots = Vec::new();
        if s.chance(0.4) {
            for _ in 0..1 + s.below(4) {
                let (x, y) = (Side::draw(s).sign() * range(s, 0.2, 0.6), range(s, -0.65, 0.3));
                spots.push(spot(x, y, range(s, 0.018, 0.04), range(s, 0.25, 0.7)));
            }
        }
        if s.chance(0.35) {
            let (x, y) = (range(s, 0.36, 0.5), range(s, 0.12, 0.3));
            for side in Side::BOTH {
                if s.chance(0.8) {
                    spots.push(spot(side.sign() * x, y, 0.045, range(s, 0.1, 0.3)));
                }
            }
        }
        let mut pair = |chance: f64, low: f32, high: f32| {
            [(); 2].map(|()| if s.chance(chance) { range(s, low, high) } else { 0.0 })
        };
        Marks { cap: pair(0.22, 0.04, 0.16), blunt: pair(0.18, 0.05, 0.16), spots }
    }
}

/// Disturbances of one film.
#[derive(Clone, Debug)]
pub struct Clutter {
    /// Height of the diaphragm against the patient's usual, positive for a deep breath.
    pub breath: f32,
    /// Change of the cardiothoracic ratio with breath and heart beat.
    pub beat: f32,
    /// Veil over each lung: rotation, clothes, soft tissue.
    pub haze: [f32; 2],
    /// Patchy veil: how strong, and where in the noise.
    pub patch: (f32, f32),
    /// Distance of a skin fold from the chest wall, by side.
    pub fold: Option<(Side, f32)>,
    /// Whether a bubble of gas shows under the left diaphragm.
    pub stomach: bool,
}

impl Clutter {
    pub fn draw(s: &mut Stream) -> Self {
        Clutter {
            breath: range(s, -0.07, 0.07),
            beat: range(s, -0.025, 0.025),
            haze: [range(s, 0.0, 0.16), range(s, 0.0, 0.16)],
            patch: (range(s, 0.0, 0.2), range(s, 0.0, 30.0)),
            fold: if s.chance(0.2) { Some((Side::draw(s), range(s, 0.06, 0.3))) } else { None },
            stomach: s.chance(0.5),
        }
    }
}
