//! Near-duplicates among many perceptual hashes, without comparing each with each.
//!
//! Multi-index hashing (Norouzi et al. 2012): the 256 bits are dealt out to `b` bands of about log2(n) bits.
//! With [`RADIUS`] = s b + a and a < b, two hashes at most [`RADIUS`] apart agree up to s flipped bits in one of the
//! first a + 1 bands, or up to s - 1 in another: else they differ in (a + 1) (s + 1) + (b - a - 1) s = [`RADIUS`] + 1
//! bits or more. So it is enough to look up the bands with so many flips, and nothing within the radius is missed.
//! Bands grow with the number of hashes, so that a look-up in a thousand hashes meets about 50 candidates, and one in a
//! million about 1,000.

use rayon::prelude::*;

use crate::data::image::phash::{BITS, Bits, RADIUS};

/// The widest band; beyond it two flips would have to be tried.
const WIDEST: usize = 18;
const NARROWEST: usize = 8;

/// Hashes that can be searched.
pub struct NearIndex {
    hashes: Vec<Bits>,
    /// The bands that are looked up, each with how many flips.
    bands: Vec<(Band, u32)>,
}

struct Band {
    /// Bits of the hash that are this band's.
    places: Vec<usize>,
    /// `starts[key]..starts[key + 1]` are the places in `members` of hashes with this key.
    starts: Vec<u32>,
    members: Vec<u32>,
}

/// The nearest hash of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    pub distance: u32,
    /// Its place in the index; the first of several at one distance.
    pub at: u32,
}

impl NearIndex {
    /// Up to 2³² - 1 hashes.
    pub fn new(hashes: Vec<Bits>) -> Self {
        let width = (hashes.len().max(2).ilog2() as usize).clamp(NARROWEST, WIDEST);
        let count = BITS / width;
        let (each, more) = (RADIUS as usize / count, RADIUS as usize % count);
        let flips = |band: usize| if band <= more { Some(each as u32) } else { each.checked_sub(1).map(|n| n as u32) };
        let bands = (0..count)
            .into_par_iter()
            .filter_map(|band| Some((Band::new(&hashes, (band..BITS).step_by(count).collect()), flips(band)?)))
            .collect();
        NearIndex { hashes, bands }
    }

    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The nearest hash within the radius of any of `orientations`, and how many comparisons that took.
    pub fn nearest(&self, orientations: impl Iterator<Item = Bits>) -> (Option<Near>, u64) {
        let (mut best, mut compared) = (None::<Near>, 0);
        for wanted in orientations {
            compared += self.each_near(&wanted, &mut |at, distance| {
                if best.is_none_or(|b| (distance, at) < (b.distance, b.at)) {
                    best = Some(Near { distance, at });
                }
            });
        }
        (best, compared)
    }

    /// Calls `visit` with the place and the distance of every hash within the radius, with some of them several times.
    /// How many comparisons that took.
    pub fn each_near(&self, wanted: &Bits, visit: &mut dyn FnMut(u32, u32)) -> u64 {
        let mut compared = 0;
        for (band, flips) in &self.bands {
            band.each_key(wanted, *flips, &mut |key| {
                let members = band.members_of(key);
                compared += members.len() as u64;
                for &at in members {
                    if let Some(distance) = within(wanted, &self.hashes[at as usize]) {
                        visit(at, distance);
                    }
                }
            });
        }
        compared
    }
}

/// The distance of two hashes, if it is within the radius; most are told apart by their first 64 bits.
#[inline]
fn within(a: &Bits, b: &Bits) -> Option<u32> {
    let mut apart = 0;
    for (a, b) in a.iter().zip(b) {
        apart += (a ^ b).count_ones();
        if apart > RADIUS {
            return None;
        }
    }
    Some(apart)
}

impl Band {
    fn new(hashes: &[Bits], mut places: Vec<usize>) -> Self {
        // The last bands may have one bit more than others; what is above the widest is not looked at.
        places.truncate(WIDEST + 2);
        let mut band = Band { starts: vec![0; (1 << places.len()) + 1], members: vec![0; hashes.len()], places };
        for hash in hashes {
            let key = band.key(hash);
            band.starts[key + 1] += 1;
        }
        for i in 1..band.starts.len() {
            band.starts[i] += band.starts[i - 1];
        }
        let mut next = band.starts.clone();
        for (at, hash) in hashes.iter().enumerate() {
            let slot = &mut next[band.key(hash)];
            band.members[*slot as usize] = at as u32;
            *slot += 1;
        }
        band
    }

    fn key(&self, hash: &Bits) -> usize {
        self.places.iter().enumerate().map(|(i, &bit)| ((hash[bit / 64] >> (bit % 64) & 1) as usize) << i).sum()
    }

    fn members_of(&self, key: usize) -> &[u32] {
        &self.members[self.starts[key] as usize..self.starts[key + 1] as usize]
    }

    /// Every key that differs from the hash's own in at most `flips` bits.
    fn each_key(&self, hash: &Bits, flips: u32, visit: &mut dyn FnMut(usize)) {
        fn walk(key: usize, from: usize, bits: usize, flips: u32, visit: &mut dyn FnMut(usize)) {
            visit(key);
            if flips > 0 {
                for bit in from..bits {
                    walk(key ^ 1 << bit, bit + 1, bits, flips - 1, visit);
                }
            }
        }
        walk(self.key(hash), 0, self.places.len(), flips, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data::image::phash::distance, random::stream::Stream};

    fn random(n: usize, seed: u64) -> Vec<Bits> {
        let mut s = Stream::new(seed, "hashes", 0, 0);
        (0..n).map(|_| std::array::from_fn(|_| s.below(u64::MAX))).collect()
    }

    fn flipped(mut hash: Bits, count: u32, s: &mut Stream) -> Bits {
        let mut left = count;
        while left > 0 {
            let bit = s.below(BITS as u64) as usize;
            let before = hash;
            hash[bit / 64] ^= 1 << (bit % 64);
            // A bit that was flipped before would be flipped back.
            if distance(&hash, &before) == 1 {
                left -= 1;
            }
        }
        hash
    }

    #[test]
    fn it_finds_what_comparing_each_with_each_finds() {
        for n in [1usize, 50, 700, 5_000] {
            let mut s = Stream::new(n as u64, "flips", 0, 0);
            // Clusters, so that many hashes lie about the radius of each other.
            let centres = random(n.div_ceil(20), 3);
            let hashes: Vec<Bits> = (0..n).map(|i| flipped(centres[i / 20], (i % 20) as u32, &mut s)).collect();
            let index = NearIndex::new(hashes.clone());
            assert_eq!((index.len(), index.is_empty()), (n, false));
            for k in 0..60 {
                let wanted = flipped(centres[k % centres.len()], (k / 2) as u32, &mut s);
                let every = hashes.iter().enumerate().map(|(at, h)| (distance(h, &wanted), at as u32));
                let expected = every.filter(|(d, _)| *d <= RADIUS).min();
                let (found, _) = index.nearest([wanted].into_iter());
                assert_eq!(found.map(|f| (f.distance, f.at)), expected, "n {n}, query {k}");
            }
        }
        assert_eq!(NearIndex::new(Vec::new()).nearest(random(1, 1).into_iter()).0, None);
    }

    #[test]
    fn comparisons_for_one_look_up_grow_far_slower_than_the_number_of_hashes() {
        // Strangers share a key of w bits once in 2^w times: each key that is looked up meets n / 2^w of them.
        let told = |index: &NearIndex| -> f64 {
            let keys = |bits: usize, flips: u32| [1, 1 + bits, 1 + bits + bits * (bits - 1) / 2][flips as usize];
            let share = |(band, flips): &(Band, u32)| {
                let bits = band.places.len();
                keys(bits, *flips) as f64 / (1u64 << bits) as f64
            };
            index.len() as f64 * index.bands.iter().map(share).sum::<f64>()
        };
        let mean = |n: usize| {
            let index = NearIndex::new(random(n, 5));
            let compared: u64 = random(100, 6).into_iter().map(|h| index.nearest([h].into_iter()).1).sum();
            let (mean, told) = (compared as f64 / 100.0, told(&index));
            assert!((mean / told - 1.0).abs() < 0.1, "{mean} comparisons in {n} hashes, {told} are to be expected");
            mean
        };
        let (few, many) = (mean(1 << 12), mean(1 << 17));
        // Comparing with each would take 32 times as many; this grows slower than the square root.
        assert!(many < 32f64.sqrt() * few, "{few} comparisons in 4,096 hashes, {many} in 131,072");
    }
}
