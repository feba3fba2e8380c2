//! One patient's body, drawn once and kept through all studies.
//!
//! Lengths are in units of half the thorax's usual extent: x from -1 (the patient's right, left in the
//! image) to 1, y from -1 (neck) to 1 (abdomen). In lateral views x runs from front (-1) to back (1).

use super::{
    clutter::Marks,
    shape::{Noise, range},
};
use crate::random::stream::Stream;

#[derive(Clone, Debug)]
pub struct Anatomy {
    pub female: bool,
    /// Years.
    pub age: u32,
    /// Soft tissue over the chest; 1 is usual.
    pub habitus: f32,
    /// Half the inner width of the thorax.
    pub chest: f32,
    /// Half its depth, for lateral views.
    pub depth: f32,
    /// Height of the lungs' tips.
    pub apex: f32,
    /// Height of the diaphragm, right and left.
    pub dome: [f32; 2],
    /// Heart width over thorax width; below 0.5 in health.
    pub cardiothoracic: f32,
    /// Half the width of the mediastinum.
    pub mediastinum: f32,
    /// Radius of the aortic knob.
    pub knob: f32,
    pub rib_spacing: f32,
    pub rib_phase: f32,
    pub rib_slope: f32,
    /// How clearly bones show.
    pub bone: f32,
    /// Sideways bow of the spine.
    pub scoliosis: f32,
    /// Density of breast shadows, 0 for none.
    pub breast: f32,
    /// How clearly vessels show.
    pub vessel: f32,
    pub marks: Marks,
    /// Lung texture and the roughness of whatever fills it.
    pub noise: Noise,
}

impl Anatomy {
    pub fn draw(stream: &mut Stream) -> Self {
        let female = stream.chance(0.46);
        let age = 18 + stream.below(45) as u32 + stream.below(30) as u32;
        let old = (age as f32 - 18.0) / 74.0;
        let right = range(stream, 0.38, 0.58);
        Anatomy {
            female,
            age,
            habitus: range(stream, 0.65, 1.5),
            chest: range(stream, 0.72, 0.86) * if female { 0.97 } else { 1.0 },
            depth: range(stream, 0.50, 0.64),
            apex: range(stream, -0.86, -0.76),
            dome: [right, right + range(stream, -0.02, 0.12)],
            cardiothoracic: range(stream, 0.37, 0.49) + 0.04 * old,
            mediastinum: range(stream, 0.11, 0.16),
            knob: range(stream, 0.05, 0.07) + 0.04 * old,
            rib_spacing: range(stream, 0.135, 0.17),
            rib_phase: range(stream, 0.0, 1.0),
            rib_slope: range(stream, 0.25, 0.45),
            bone: range(stream, 0.7, 1.3) * (1.15 - 0.4 * old),
            scoliosis: range(stream, -0.03, 0.03),
            breast: if female { range(stream, 0.04, 0.16) } else { 0.0 },
            vessel: range(stream, 0.6, 1.7),
            marks: Marks::draw(stream),
            noise: Noise::new(stream),
        }
    }
}
