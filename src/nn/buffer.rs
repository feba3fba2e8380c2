//! Memory for activations and weights: aligned to a cache line, zeroed once, handed out again.
//!
//! It does not shrink: a workspace keeps the largest set of buffers that a step ever needed.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

const ALIGN: usize = 64;

/// A fixed number of f32, aligned to 64 bytes.
pub struct Buffer {
    start: NonNull<f32>,
    len: usize,
    room: usize,
}

// SAFETY: a buffer owns its memory and gives it out only through the usual borrow rules.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub fn zeros(len: usize) -> Self {
        let room = len.max(1).next_multiple_of(ALIGN / 4);
        let layout = Self::layout(room);
        // SAFETY: the layout has a size above zero; all-zero bytes are valid f32.
        let start = unsafe { alloc_zeroed(layout) }.cast::<f32>();
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Buffer { start, len, room }
    }

    fn layout(room: usize) -> Layout {
        Layout::from_size_align(room * 4, ALIGN).expect("bug: a buffer larger than the address space")
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer::zeros(0)
    }
}

impl From<&[f32]> for Buffer {
    fn from(values: &[f32]) -> Self {
        let mut buffer = Buffer::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Buffer::from(&**self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `zeros`, and dropped once.
        unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.room)) }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised values lie at `start` for as long as self lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// Buffers that are free for reuse.
#[derive(Default)]
pub struct Workspace {
    free: Vec<Buffer>,
}

impl Workspace {
    /// A buffer of `len` values with whatever was in it: the smallest free one that is large
    /// enough and wastes less than half of itself.
    pub fn take(&mut self, len: usize) -> Buffer {
        let fit = (0..self.free.len())
            .filter(|&i| self.free[i].room >= len && self.free[i].room <= 2 * len.max(4096))
            .min_by_key(|&i| self.free[i].room);
        match fit {
            Some(i) => {
                let mut buffer = self.free.swap_remove(i);
                buffer.len = len;
                buffer
            }
            None => Buffer::zeros(len),
        }
    }

    pub fn give(&mut self, buffer: Buffer) {
        self.free.push(buffer);
    }

    /// Bytes held for reuse.
    pub fn held_bytes(&self) -> usize {
        self.free.iter().map(|b| b.room * 4).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_comes_back() {
        let mut workspace = Workspace::default();
        let a = workspace.take(10_000);
        assert_eq!(a.as_ptr() as usize % ALIGN, 0);
        assert_eq!((a.len(), a.iter().sum::<f32>()), (10_000, 0.0));
        let place = a.as_ptr();
        workspace.give(a);
        assert_eq!(workspace.take(20_000).len(), 20_000, "too small a buffer is not handed out");
        let b = workspace.take(9_000);
        assert_eq!((b.as_ptr(), b.len()), (place, 9_000));
    }
}
