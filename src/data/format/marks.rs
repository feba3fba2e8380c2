//! Where the bytes stand that end a field or quote it, found 64 bytes at a time.

/// Bytes that are looked at together.
const BLOCK: usize = 64;
/// So far behind every place that none lies in its block.
const NONE: usize = usize::MAX - BLOCK;

/// Walks over the marks of a text, which are the bytes of a delimiter, a quote, `\n` and `\r`.
pub(super) struct Marks {
    wanted: [u8; 4],
    /// Where the present block begins; there is none before the first call.
    base: usize,
    /// A bit for each mark of the block that was not passed.
    left: u64,
}

impl Marks {
    pub(super) fn new(delimiter: u8, quote: u8) -> Self {
        Marks { wanted: [delimiter, quote, b'\n', b'\r'], base: NONE, left: 0 }
    }

    /// Forgets what it knows, as it must where the text has moved or has grown.
    pub(super) fn restart(&mut self) {
        self.base = NONE;
    }

    /// Where the first mark stands from `at` on; the end where there is none. What lies before is passed: the next
    /// call must not go back.
    #[inline(always)]
    pub(super) fn from(&mut self, text: &[u8], at: usize) -> usize {
        let within = at.wrapping_sub(self.base);
        if within < BLOCK {
            self.left &= u64::MAX << within;
            if self.left != 0 {
                return self.base + self.left.trailing_zeros() as usize;
            }
            self.search(text, self.base + BLOCK)
        } else {
            self.search(text, at)
        }
    }

    /// The first mark of the blocks from `base` on.
    fn search(&mut self, text: &[u8], base: usize) -> usize {
        let (blocks, rest) = text.get(base..).unwrap_or_default().as_chunks::<BLOCK>();
        self.base = base;
        for block in blocks {
            self.left = marked(block, self.wanted);
            if self.left != 0 {
                return self.base + self.left.trailing_zeros() as usize;
            }
            self.base += BLOCK;
        }
        let mut block = [0; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        // Less than a block: what was filled up with is no mark.
        self.left = marked(&block, self.wanted) & !(u64::MAX << rest.len());
        if self.left != 0 { self.base + self.left.trailing_zeros() as usize } else { text.len() }
    }
}

/// A bit for each byte that is one of the wanted ones, the lowest for the first.
#[inline]
fn marked(block: &[u8; BLOCK], [a, b, c, d]: [u8; 4]) -> u64 {
    /// Brings the lowest bits of eight bytes together in the highest byte.
    const TOGETHER: u64 = 0x0102_0408_1020_4080;
    // The compiler makes a few vector comparisons of this.
    let hits: [u8; BLOCK] =
        block.map(|byte| u8::from(byte == a) | u8::from(byte == b) | u8::from(byte == c) | u8::from(byte == d));
    let (words, _) = hits.as_chunks::<8>();
    let bits = |word: &[u8; 8]| u64::from_le_bytes(*word).wrapping_mul(TOGETHER) >> 56;
    words.iter().enumerate().map(|(i, word)| bits(word) << (8 * i)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream::Stream;

    #[test]
    fn a_block_is_marked_as_byte_by_byte() {
        let mut s = Stream::new(0, "marks", 0, 0);
        for dense in [2, 10, 256] {
            for _ in 0..1_000 {
                let block: [u8; BLOCK] = std::array::from_fn(|_| {
                    b",\"\n\ra0\xff\x80;\t".get(s.below(dense) as usize).copied().unwrap_or(s.below(256) as u8)
                });
                let wanted = [b',', b'"', b'\n', b'\r'];
                let plain: u64 = block.iter().enumerate().map(|(i, byte)| u64::from(wanted.contains(byte)) << i).sum();
                assert_eq!(marked(&block, wanted), plain);
            }
        }
    }

    #[test]
    fn marks_of_texts_of_any_length_come_one_after_the_other() {
        let mut s = Stream::new(1, "marks", 0, 0);
        for length in (0..200).chain([1_000]) {
            let text: Vec<u8> = (0..length).map(|_| if s.below(20) == 0 { b';' } else { b'a' }).collect();
            let expected: Vec<usize> = (0..length).filter(|&i| text[i] == b';').collect();
            let mut marks = Marks::new(b';', b'"');
            let (mut found, mut at) = (Vec::new(), 0);
            loop {
                at = marks.from(&text, at);
                if at == text.len() {
                    break;
                }
                found.push(at);
                at += 1;
            }
            assert_eq!(found, expected);
            // From any place, and after a jump.
            let mut marks = Marks::new(b';', b'"');
            let mut at = 0;
            while at < length {
                let next = expected.iter().copied().find(|&i| i >= at).unwrap_or(length);
                assert_eq!(marks.from(&text, at), next);
                at += s.below(90) as usize;
            }
        }
    }

    #[test]
    fn a_text_that_grew_is_read_anew() {
        let mut marks = Marks::new(b',', b'"');
        assert_eq!(marks.from(b"ab", 0), 2);
        marks.restart();
        assert_eq!(marks.from(b"ab,c", 0), 2);
        assert_eq!(marks.from(b"ab,c", 3), 4);
    }
}
