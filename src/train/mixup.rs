//! Mixup (Zhang et al. 2018, arXiv 1710.09412): each image of a batch becomes a mean of itself and another.
//!
//! One share is drawn for a whole batch, from Beta(alpha, alpha), and partners are a permutation of the
//! batch, as in the published code. Micro-batches share both, so that accumulating changes nothing.

use crate::random::stream::Stream;

/// The mixing of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// Share of the image itself.
    pub share: f64,
    /// Each image's partner, by position in the batch.
    pub partners: Vec<u32>,
}

/// The mixing of step `step`, or none for alpha 0.
pub fn draw(alpha: f64, seed: u64, step: u64, batch: usize) -> Option<Mix> {
    if alpha <= 0.0 {
        return None;
    }
    let mut partners: Vec<u32> = (0..batch as u32).collect();
    Stream::new(seed, "mixup-partner", step, 0).shuffle(&mut partners);
    Some(Mix { share: beta(&mut Stream::new(seed, "mixup-share", step, 0), alpha, alpha), partners })
}

/// Beta(a, b) as a ratio of two Gammas.
fn beta(stream: &mut Stream, a: f64, b: f64) -> f64 {
    let (x, y) = (gamma(stream, a), gamma(stream, b));
    // Both underflow only for a tiny alpha, where the share is 0 or 1 anyway.
    if x + y > 0.0 { x / (x + y) } else { f64::from(u8::from(stream.chance(a / (a + b)))) }
}

/// Gamma(shape, 1) by Marsaglia and Tsang 2000; shapes below 1 through shape + 1 and a power.
fn gamma(stream: &mut Stream, shape: f64) -> f64 {
    if shape < 1.0 {
        let power = (1.0 - stream.uniform()).powf(1.0 / shape);
        return gamma(stream, shape + 1.0) * power;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = stream.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - stream.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_the_moments_of_their_beta() {
        for alpha in [0.1, 0.4, 1.0, 3.0] {
            let shares: Vec<f64> = (0..20_000).map(|step| draw(alpha, 1, step, 1).unwrap().share).collect();
            let n = shares.len() as f64;
            let mean = shares.iter().sum::<f64>() / n;
            let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 0.012, "{alpha}: mean {mean}");
            assert!((variance / expected - 1.0).abs() < 0.03, "{alpha}: variance {variance}, {expected}");
            assert!(shares.iter().all(|s| (0.0..=1.0).contains(s)));
        }
    }

    #[test]
    fn partners_permute_the_batch_and_steps_differ() {
        let a = draw(0.1, 3, 7, 16).unwrap();
        let mut sorted = a.partners.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..16).collect::<Vec<_>>());
        assert_eq!(draw(0.1, 3, 7, 16).unwrap(), a);
        assert_ne!(draw(0.1, 3, 8, 16).unwrap().partners, a.partners);
        assert!(draw(0.0, 3, 7, 16).is_none());
    }
}
