//! Launches of the root's max-pool and of the global average; the kernels are in `source/pool.cu`.

use super::op::{BLOCK, Launch, Op};
use crate::nn::Map;
use crate::nn::pool::pooled;

fn shape(map: Map) -> [usize; 6] {
    let out = pooled(map);
    [map.n, map.height, map.width, map.channels, out.height, out.width]
}

/// Max-pool of `map`; `winner`, a byte a value, may be 0 where no gradient follows.
pub fn max_pool(narrow: bool, map: Map, x: u64, y: u64, winner: u64) -> Op {
    Launch::over("max_pool", narrow, pooled(map).len() / 4).at([x, y, winner]).counts(shape(map)).into()
}

/// The gradient of [`max_pool`]'s input, of shape `map`.
pub fn max_pool_backward(narrow: bool, map: Map, dy: u64, winner: u64, dx: u64) -> Op {
    Launch::over("max_pool_backward", narrow, map.len() / 4).at([dy, winner, dx]).counts(shape(map)).into()
}

fn by_channel(kernel: &'static str, narrow: bool, map: Map) -> Launch {
    Launch::new(kernel, narrow, [map.channels.div_ceil(BLOCK), map.n, 1])
}

/// The mean of each channel of each image, f32.
pub fn average(narrow: bool, map: Map, x: u64, means: u64) -> Op {
    by_channel("average", narrow, map).at([x, means]).counts([map.height * map.width, map.channels]).into()
}

/// The gradient of [`average`]'s input.
pub fn average_backward(narrow: bool, map: Map, dmeans: u64, dx: u64) -> Op {
    by_channel("average_backward", narrow, map).at([dmeans, dx]).counts([map.height * map.width, map.channels]).into()
}

/// From f32 pixels of three colours to the activations' type with `padded` channels.
pub fn spread(narrow: bool, pixels: usize, padded: usize, x: u64, out: u64) -> Op {
    Launch::over("spread", narrow, pixels).at([x, out]).counts([pixels, padded]).into()
}
