// SPDX-License-Identifier: GPL-2.0

//! Numbers that look random and come again with the same seed.

/// SplitMix64.
#[derive(Clone)]
pub(crate) struct Random(u64);

/// What programs forget: the ends of every width.
const EDGES: [u64; 18] = [
    0,
    1,
    2,
    3,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0001,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

impl Random {
    /// A stream for each combination of numbers.
    pub(crate) fn new(seed: &[u64]) -> Self {
        let mut random = Self(0);
        for part in seed {
            random.0 = random.0.rotate_left(17) ^ part;
            random.0 = random.next();
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True so many times in a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// A number that something may not expect.
    pub(crate) fn number(&mut self) -> u64 {
        match self.below(3) {
            0 => self.next(),
            1 => self.below(16) as u64,
            _ => self.pick(&EDGES),
        }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        out
    }

    /// Changes something: bits, bytes, the length.
    pub(crate) fn spoil(&mut self, data: &mut Vec<u8>) {
        let len = data.len();
        if len == 0 {
            *data = self.bytes(4);
            return;
        }
        match self.below(6) {
            0 => data[self.below(len)] ^= 1 << self.below(8),
            1 => data[self.below(len)] = self.number() as u8,
            2 => {
                let at = self.below(len);
                let number = self.number().to_le_bytes();
                for (byte, new) in data[at..].iter_mut().zip(&number[..1 << self.below(4)]) {
                    *byte = *new;
                }
            }
            3 => data.truncate(self.below(len)),
            4 => {
                let more = self.below(64);
                data.extend(self.bytes(more));
            }
            _ => {
                let at = self.below(len);
                let random = self.bytes(len - at);
                data[at..].copy_from_slice(&random);
            }
        }
    }
}
