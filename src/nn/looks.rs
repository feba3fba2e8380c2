//! Images that a device is to render: their stored bytes, and how each is looked at, as numbers.
//!
//! `cuda/source/image.cu` and `operate.cu` read these tables. The data's room fills them (`data/looks.rs`); nothing is
//! decoded, drawn or computed here.

/// Looks at images of any sizes that all become `height` x `width`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Looks {
    /// Images of the result.
    pub n: usize,
    pub height: usize,
    pub width: usize,
    /// Stored images one after the other: `n`, and as many partners where they are mixed.
    pub bytes: Vec<u8>,
    /// Eighteen words a look: see `image.cu`.
    pub table: Vec<u64>,
    /// RandAugment's operations in order, each with eight words a look: see `operate.cu`.
    pub operations: Vec<Vec<u64>>,
    /// Some look is rotated, scaled or shifted, or has to be scaled after it was resized.
    pub warped: bool,
    /// What each level of each channel becomes, and the channels' means and deviations.
    pub scaling: Vec<f32>,
    /// Channels are scaled differently, so that grey is resized as it is and scaled afterwards.
    pub shares: bool,
    /// Share of each image itself, where it is mixed with its partner.
    pub share: Option<f32>,
}
