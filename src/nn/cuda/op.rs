//! Work for a device as data: launches of the project's kernels, convolutions, copies.
//!
//! What a step does is a list of these, made once for a shape. A [`Machine`] runs it: a GPU, or in tests the
//! processor, which runs the very same sources. Nothing here knows of CUDA.

use crate::error::{Error, Result};
use crate::nn::Map;
use crate::nn::conv::Conv;

/// Threads of every block.
pub const BLOCK: usize = 256;

/// One piece of work. Addresses are the device's.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Launch(Launch),
    Convolve(Convolve),
    Copy { from: u64, to: u64, bytes: u64 },
}

/// A kernel on a grid of blocks. `words` are the fields of the one structure that it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    pub kernel: &'static str,
    /// The kernel's version for bfloat16 activations.
    pub narrow: bool,
    pub grid: [u32; 3],
    pub words: Vec<u64>,
}

impl Launch {
    pub fn new(kernel: &'static str, narrow: bool, grid: [usize; 3]) -> Self {
        Launch { kernel, narrow, grid: grid.map(|side| side as u32), words: Vec::new() }
    }

    /// One thread for each of `count` values.
    pub fn over(kernel: &'static str, narrow: bool, count: usize) -> Self {
        Self::new(kernel, narrow, [count.div_ceil(BLOCK), 1, 1])
    }

    /// Adds pointers; 0 is null.
    pub fn at(mut self, addresses: impl IntoIterator<Item = u64>) -> Self {
        self.words.extend(addresses);
        self
    }

    pub fn counts(mut self, counts: impl IntoIterator<Item = usize>) -> Self {
        self.words.extend(counts.into_iter().map(|count| count as u64));
        self
    }

    pub fn reals(mut self, values: impl IntoIterator<Item = f64>) -> Self {
        self.words.extend(values.into_iter().map(f64::to_bits));
        self
    }
}

impl From<Launch> for Op {
    fn from(launch: Launch) -> Self {
        Op::Launch(launch)
    }
}

/// Which of a convolution's three products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// y from x and w.
    Forward,
    /// x's gradient from w and that of y.
    InputGradient,
    /// w's gradient from x and that of y.
    WeightGradient,
}

impl Pass {
    pub fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::InputGradient => "input gradient",
            Pass::WeightGradient => "weight gradient",
        }
    }
}

/// A convolution of NHWC maps with weights `[output][tap][input]`; `map` is the shape of x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolve {
    pub pass: Pass,
    pub conv: Conv,
    pub map: Map,
    pub narrow: bool,
    /// Of x, w and y, or of their gradients where the pass says so.
    pub x: u64,
    pub w: u64,
    pub y: u64,
    /// Adds to what the result holds.
    pub add: bool,
}

/// Memory of a device; it is free again when this is dropped.
pub struct Memory {
    pub start: u64,
    pub bytes: u64,
    _owner: Box<dyn Send + Sync>,
}

impl Memory {
    pub fn new(start: u64, bytes: u64, owner: Box<dyn Send + Sync>) -> Self {
        Memory { start, bytes, _owner: owner }
    }
}

/// Where operations run. All that it is told happens in that order.
pub trait Machine: Send + Sync {
    /// As pipelines name it: `cuda:0`.
    fn name(&self) -> String;

    /// What computes, as records and checkpoints name it: two that differ give other last digits.
    fn family(&self, narrow: bool) -> String;

    /// Bytes that are free.
    fn room(&self) -> Result<u64>;

    /// Memory of zeros.
    fn allocate(&self, bytes: u64) -> Result<Memory>;

    /// Takes the bytes before it returns; they arrive before whatever comes after.
    fn write(&self, to: u64, bytes: &[u8]) -> Result<()>;

    /// As [`Machine::write`] for many bytes, beside what is being computed.
    fn feed(&self, to: u64, bytes: &[u8]) -> Result<()> {
        self.write(to, bytes)
    }

    /// Waits for all that was told before.
    fn read(&self, from: u64, bytes: &mut [u8]) -> Result<()>;

    fn run(&self, ops: &[Op]) -> Result<()>;

    /// Prepares operations that will run many times.
    fn record(&self, ops: Vec<Op>) -> Result<Box<dyn Recorded>>;

    /// A word by which machines meet that can sum what lies on them without the host; none where these cannot.
    fn word(&self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Joins the machines, one a rank, that were given the same word. Returns once all have come.
    fn join(&self, _word: &[u8], _rank: usize, _ranks: usize) -> Result<Box<dyn Sums>> {
        Err(Error::invalid(format!("bug: {} joins nobody", self.name())))
    }
}

/// A machine's link to those of the other ranks.
pub trait Sums: Send + Sync {
    /// Replaces `count` f32 from `at` on by their sums over all ranks, behind what the machine was told before. All
    /// ranks make the same calls in the same order.
    fn sum(&self, at: u64, count: usize) -> Result<()>;
}

/// Operations that were prepared.
pub trait Recorded: Send {
    fn run(&self, machine: &dyn Machine) -> Result<()>;
}

/// Operations that run one by one.
pub struct Listed(pub Vec<Op>);

impl Recorded for Listed {
    fn run(&self, machine: &dyn Machine) -> Result<()> {
        machine.run(&self.0)
    }
}
