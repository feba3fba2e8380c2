//! BiT-HyperRule: the learning rates, mixup and resolution of a fine-tuning by the size of its dataset.
//!
//! Kolesnikov et al. 2020, *Big Transfer (BiT): General Visual Representation Learning*, section 3.3 and
//! appendix, as the study's published code has it. With supports s0 < s1 < s2 < s3 < s4 (in steps) and the
//! base rate b:
//!
//! ```text
//! rate(t) = b · t / s0            for t < s0           (linear warm-up from zero)
//!         = b / 10^k              k = #{ i ≥ 1 : s_i < t }, for s0 ≤ t < s4
//!         = rate(s4 - 1)          for t ≥ s4, where a run is longer than the rule
//! ```
//!
//! It does not choose the base rate, nor the batch size.

/// The three schedules of the rule: shorter than 20,000 examples, shorter than 500,000, and the rest.
const SUPPORTS: [[u64; 5]; 3] =
    [[100, 200, 300, 400, 500], [500, 3_000, 6_000, 9_000, 10_000], [500, 6_000, 12_000, 18_000, 20_000]];

/// Mixup's alpha from 20,000 examples on.
const MIXUP_ALPHA: f64 = 0.1;

/// The rule for one dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct HyperRule {
    supports: [u64; 5],
    mixup: f64,
}

impl HyperRule {
    /// By the number of training examples.
    pub fn for_size(examples: usize) -> Self {
        let at = match examples {
            0..20_000 => 0,
            20_000..500_000 => 1,
            _ => 2,
        };
        Self::nth(at)
    }

    /// With the length overridden. 500, 10,000 and 20,000 name the rule's own three schedules, as in the
    /// published code; any shorter length compresses the schedule of this dataset's size in proportion, and
    /// a longer one continues at the final rate.
    pub fn with_steps(examples: usize, steps: u64) -> Self {
        if let Some(at) = SUPPORTS.iter().position(|s| s[4] == steps) {
            return Self::nth(at);
        }
        let mut rule = Self::for_size(examples);
        let end = rule.supports[4];
        if steps < end {
            rule.supports = rule.supports.map(|s| s * steps / end);
        }
        rule
    }

    fn nth(at: usize) -> Self {
        HyperRule { supports: SUPPORTS[at], mixup: if at == 0 { 0.0 } else { MIXUP_ALPHA } }
    }

    /// End of warm-up, three decays, end of training; in steps.
    pub fn supports(&self) -> [u64; 5] {
        self.supports
    }

    /// Alpha of mixup's Beta(alpha, alpha); 0 is no mixup.
    pub fn mixup(&self) -> f64 {
        self.mixup
    }

    /// Steps that the rule trains for.
    pub fn steps(&self) -> u64 {
        self.supports[4]
    }

    /// The rate of step `step` (from 0), or `None` once the rule has ended.
    pub fn rate(&self, step: u64, base: f64) -> Option<f64> {
        if step < self.supports[0] {
            return Some(base * step as f64 / self.supports[0] as f64);
        }
        if step >= self.supports[4] {
            return None;
        }
        // Repeated division, not one by a power, for the same bits as the published code.
        let decays = self.supports[1..].iter().filter(|&&s| s < step).count();
        Some((0..decays).fold(base, |rate, _| rate / 10.0))
    }

    /// The rate that a run longer than the rule continues with.
    pub fn final_rate(&self, base: f64) -> f64 {
        self.rate(self.supports[4].saturating_sub(1), base).unwrap_or(base)
    }
}

/// (side to resize to, side to crop) in pixels by the area of the original images (height, width in pixels).
pub fn resolution(height_px: u32, width_px: u32) -> (u32, u32) {
    if u64::from(height_px) * u64::from(width_px) < 96 * 96 { (160, 128) } else { (512, 480) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_length_compresses_and_a_longer_one_continues() {
        let short = HyperRule::with_steps(100, 50);
        assert_eq!(short.supports(), [10, 20, 30, 40, 50]);
        assert_eq!((short.rate(5, 0.1), short.rate(50, 0.1)), (Some(0.05), None));
        let long = HyperRule::with_steps(100, 700);
        assert_eq!((long.steps(), long.rate(600, 0.1)), (500, None));
        assert_eq!(long.final_rate(1.0), 1.0 / 10.0 / 10.0 / 10.0);
    }

    #[test]
    fn a_length_of_the_rule_brings_its_own_mixup() {
        assert_eq!(HyperRule::with_steps(1_000_000, 500).mixup(), 0.0);
        assert_eq!(HyperRule::with_steps(10, 20_000), HyperRule::for_size(500_000));
    }

    #[test]
    fn tiny_lengths_still_have_rates() {
        for steps in 1..12 {
            let rule = HyperRule::with_steps(10, steps);
            assert!((0..steps).all(|s| rule.rate(s, 1.0).is_some_and(|r| r.is_finite())), "{steps}");
        }
    }
}
