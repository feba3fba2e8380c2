//! Iterated function systems: random affine maps whose attractor is a category's shape.
//!
//! A system is N affine maps `(x, y) -> (a x + b y + e, c x + d y + f)`, N from 2 to 8, all parameters
//! uniform in [-1, 1], each map chosen with a probability proportional to |ad - bc| (Kataoka et al.,
//! "Pre-training without natural images", ACCV 2020, section 3). Systems that fill less than a fifth of
//! their bounding box are drawn anew. Beyond the paper, maps that do not contract are drawn anew too: they
//! throw single points far away, and the shape shrinks to a speck in the middle of its box.
//!
//! Only `+ - * /` and square roots, so that every host gets the same attractor.

use crate::random::stream::Stream;

/// Share of the bounding box, on a [`GRID`] x [`GRID`] raster, that a category must fill.
const FILLING_RATE: f64 = 0.2;
const GRID: usize = 64;
/// Points before the orbit has reached the attractor.
const TRANSIENT: usize = 40;

/// One affine map: a, b, c, d, e, f.
pub type Map = [f64; 6];

#[derive(Clone, Debug, PartialEq)]
pub struct System {
    pub maps: Vec<Map>,
}

/// The first map of the stream whose larger singular value is below 1.
fn contraction(stream: &mut Stream) -> Map {
    loop {
        let map @ [a, b, c, d, ..] = [(); 6].map(|()| stream.range(-1.0, 1.0));
        let (squares, determinant) = (a * a + b * b + c * c + d * d, a * d - b * c);
        if (squares + (squares * squares - 4.0 * determinant * determinant).max(0.0).sqrt()) / 2.0 < 1.0 {
            return map;
        }
    }
}

/// The box around an orbit.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub low: [f64; 2],
    pub high: [f64; 2],
}

/// Points of an attractor.
pub struct Orbit {
    /// Each with the map that led to it.
    pub points: Vec<([f64; 2], u8)>,
    pub frame: Frame,
}

impl System {
    /// The system of one category: the first of its stream that passes the filter.
    pub fn draw(seed: u64, category: u32) -> Self {
        let mut attempt = 0;
        loop {
            let mut stream = Stream::new(seed, "fractal category", attempt, u64::from(category));
            let maps = (0..2 + stream.below(7)).map(|_| contraction(&mut stream)).collect();
            let system = System { maps };
            if system.filling_rate(&mut stream).is_some_and(|r| r >= FILLING_RATE) {
                return system;
            }
            attempt += 1;
        }
    }

    /// A variation of the category: one parameter of all maps scaled by 0.8 to 1.2. Where that would
    /// diverge, a smaller change is taken.
    pub fn vary(&self, stream: &mut Stream) -> System {
        let (parameter, mut change) = (stream.below(6) as usize, stream.range(-0.2, 0.2));
        for _ in 0..4 {
            let mut maps = self.maps.clone();
            maps.iter_mut().for_each(|m| m[parameter] *= 1.0 + change);
            let varied = System { maps };
            if varied.filling_rate(&mut stream.clone()).is_some_and(|r| r >= 0.5 * FILLING_RATE) {
                return varied;
            }
            change *= 0.4;
        }
        self.clone()
    }

    /// `count` points of the attractor; `None` where the orbit escapes.
    pub fn orbit(&self, count: usize, stream: &mut Stream) -> Option<Orbit> {
        let mut sums = Vec::with_capacity(self.maps.len());
        let mut total = 0.0;
        for m in &self.maps {
            total += (m[0] * m[3] - m[1] * m[2]).abs().max(0.01);
            sums.push(total);
        }
        let mut points = Vec::with_capacity(count);
        let mut frame = Frame { low: [f64::INFINITY; 2], high: [f64::NEG_INFINITY; 2] };
        let (mut x, mut y) = (0.0f64, 0.0f64);
        for i in 0..count + TRANSIENT {
            let dice = stream.uniform() * total;
            let chosen = sums.iter().position(|s| dice < *s).unwrap_or(self.maps.len() - 1);
            let [a, b, c, d, e, f] = self.maps[chosen];
            (x, y) = (a * x + b * y + e, c * x + d * y + f);
            // Also true for NaN.
            if !(x.abs() < 1e4 && y.abs() < 1e4) {
                return None;
            }
            if i >= TRANSIENT {
                points.push(([x, y], chosen as u8));
                frame.low = [frame.low[0].min(x), frame.low[1].min(y)];
                frame.high = [frame.high[0].max(x), frame.high[1].max(y)];
            }
        }
        (0..2).all(|k| frame.high[k] - frame.low[k] > 1e-6).then_some(Orbit { points, frame })
    }

    fn filling_rate(&self, stream: &mut Stream) -> Option<f64> {
        let Orbit { points, frame } = self.orbit(4 * GRID * GRID, stream)?;
        let mut seen = vec![false; GRID * GRID];
        for (p, _) in points {
            let [column, row] = frame.cell(p, GRID);
            seen[row * GRID + column] = true;
        }
        Some(seen.iter().filter(|s| **s).count() as f64 / (GRID * GRID) as f64)
    }
}

impl Frame {
    /// The cell of a `side` x `side` raster over the box that holds a point.
    pub fn cell(&self, point: [f64; 2], side: usize) -> [usize; 2] {
        [0, 1].map(|k| {
            let t = (point[k] - self.low[k]) / (self.high[k] - self.low[k]);
            ((t * side as f64) as usize).min(side - 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_differ_repeat_and_fill_their_box() {
        let systems: Vec<System> = (0..12).map(|c| System::draw(3, c)).collect();
        assert_eq!(systems[5], System::draw(3, 5));
        for (i, s) in systems.iter().enumerate() {
            assert!(systems[..i].iter().all(|o| o != s));
            assert!((2..=8).contains(&s.maps.len()));
            let rate = s.filling_rate(&mut Stream::new(9, "other", 0, 0)).unwrap();
            assert!(rate > 0.15, "{rate}");
        }
        assert_ne!(systems[0], System::draw(4, 0));
    }

    #[test]
    fn sierpinskis_triangle_has_its_known_density() {
        // Three maps of ratio 1/2: on a raster of 2^k cells, (3/4)^k of them are met, 0.178 for k = 6.
        let map = |e: f64, f: f64| [0.5, 0.0, 0.0, 0.5, e, f];
        let system = System { maps: vec![map(0.0, 0.0), map(0.5, 0.0), map(0.0, 0.5)] };
        let rate = system.filling_rate(&mut Stream::new(0, "test", 0, 0)).unwrap();
        assert!((0.16..0.22).contains(&rate), "{rate}");
        let away = System { maps: vec![[2.0, 0.0, 0.0, 2.0, 1.0, 1.0]; 2] };
        assert_eq!(away.filling_rate(&mut Stream::new(0, "test", 0, 0)), None);
    }
}
