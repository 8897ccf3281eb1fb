//! Random bits and numbers that are the same on every machine.

/// Pseudorandom bits of a seed, `SplitMix64` (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
/// generators", OOPSLA). Output i needs none of the outputs before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitMix64 {
    seed: u64,
}

impl SplitMix64 {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64 { seed }
    }

    /// Output `index`, 64 bits; the first is number 0.
    ///
    /// ```
    /// use lathe_kernels::rotations::SplitMix64;
    ///
    /// // As other implementations give it for this seed.
    /// assert_eq!(SplitMix64::new(1_234_567).output(0), 6_457_827_717_110_365_317);
    /// ```
    pub fn output(self, index: u64) -> u64 {
        let z = self.seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
