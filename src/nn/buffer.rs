//! Memory for activations and weights: aligned to a cache line, zeroed once, handed out again.
//!
//! It does not shrink: a workspace keeps the largest set of buffers that a step ever needed.

use super::element::Element;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

const ALIGN: usize = 64;

/// A fixed number of values, aligned to 64 bytes.
pub struct Buffer<T: Element = f32> {
    start: NonNull<T>,
    len: usize,
    room_bytes: usize,
}

// SAFETY: a buffer owns its memory and gives it out only through the usual borrow rules.
unsafe impl<T: Element> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Buffer<T> {}

impl<T: Element> Buffer<T> {
    pub fn zeros(len: usize) -> Self {
        let room_bytes = (len * size_of::<T>()).max(1).next_multiple_of(ALIGN);
        let layout = Self::layout(room_bytes);
        // SAFETY: the layout has a size above zero; all-zero bytes are a valid element.
        let start = unsafe { alloc_zeroed(layout) }.cast::<T>();
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Buffer { start, len, room_bytes }
    }

    fn layout(room_bytes: usize) -> Layout {
        Layout::from_size_align(room_bytes, ALIGN).expect("bug: a buffer larger than the address space")
    }

    /// The same memory for `len` values of another type, which find whatever bytes are there.
    fn recast<U: Element>(self, len: usize) -> Buffer<U> {
        assert!(len * size_of::<U>() <= self.room_bytes, "bug: a buffer too small to recast");
        let buffer = Buffer { start: self.start.cast(), len, room_bytes: self.room_bytes };
        std::mem::forget(self);
        buffer
    }
}

impl<T: Element> Default for Buffer<T> {
    fn default() -> Self {
        Buffer::zeros(0)
    }
}

impl<T: Element> From<&[T]> for Buffer<T> {
    fn from(values: &[T]) -> Self {
        let mut buffer = Buffer::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Buffer::from(&**self)
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `zeros`, and dropped once.
        unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.room_bytes)) }
    }
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` initialised values lie at `start` for as long as self lives; any bits are
        // a valid element.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Element> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
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
    pub fn take<T: Element>(&mut self, len: usize) -> Buffer<T> {
        let bytes = len * size_of::<T>();
        let fit = (0..self.free.len())
            .filter(|&i| self.free[i].room_bytes >= bytes && self.free[i].room_bytes <= 2 * bytes.max(16384))
            .min_by_key(|&i| self.free[i].room_bytes);
        match fit {
            Some(i) => self.free.swap_remove(i).recast(len),
            None => Buffer::zeros(len),
        }
    }

    pub fn give<T: Element>(&mut self, buffer: Buffer<T>) {
        self.free.push(buffer.recast(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_comes_back() {
        let mut workspace = Workspace::default();
        let a = workspace.take::<f32>(10_000);
        assert_eq!(a.as_ptr() as usize % ALIGN, 0);
        assert_eq!((a.len(), a.iter().sum::<f32>()), (10_000, 0.0));
        let place = a.as_ptr();
        workspace.give(a);
        assert_eq!(workspace.take::<f32>(20_000).len(), 20_000, "too small a buffer is not handed out");
        let b = workspace.take::<f32>(9_000);
        assert_eq!((b.as_ptr(), b.len()), (place, 9_000));
    }
}
