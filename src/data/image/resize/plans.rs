//! Which resizes the kernel does, and what it needs for them, kept from one image to the next.

use std::{cell::RefCell, rc::Rc};

use super::{
    super::Pixels,
    Frame,
    avx512::{self, Plan},
    taps::Taps,
};

/// Plans that a thread keeps: a dataset's images have few sizes, and each is resized once for its look and once for
/// its hash.
const KEPT: usize = 8;

thread_local! {
    /// The latest last.
    static PLANS: RefCell<Vec<(Wanted, Option<Rc<Plan>>)>> = const { RefCell::new(Vec::new()) };
    /// What lies between the two passes.
    static ROWS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// All that a plan depends on.
#[derive(Clone, Copy, PartialEq)]
struct Wanted {
    height: u32,
    width: u32,
    channels: u32,
    frame: Frame,
    new_height: u32,
    new_width: u32,
}

/// The pixels of the resized image; `None` where they are left to the library.
pub fn resized(image: &Pixels, frame: Frame, height: u32, width: u32) -> Option<Vec<u8>> {
    if !avx512::usable() {
        return None;
    }
    let size = image.size;
    let wanted = Wanted {
        height: size.height,
        width: size.width,
        channels: size.channels,
        frame,
        new_height: height,
        new_width: width,
    };
    let plan = PLANS.with_borrow_mut(|plans| {
        if let Some(at) = plans.iter().position(|(of, _)| *of == wanted) {
            plans[at..].rotate_left(1);
        } else {
            if plans.len() == KEPT {
                plans.remove(0);
            }
            plans.push((wanted, wanted.plan().map(Rc::new)));
        }
        plans.last().and_then(|(_, plan)| plan.clone())
    })?;
    let mut out = Vec::with_capacity(plan.bytes());
    ROWS.with_borrow_mut(|rows| plan.run(&image.data, rows, &mut out));
    Some(out)
}

impl Wanted {
    /// `None` for a frame that is not inside the image, and where one of the passes has nothing to do.
    fn plan(&self) -> Option<Plan> {
        let Frame { top, left, height, width } = self.frame;
        let (bottom, right) = (top + height, left + width);
        let inside = top >= 0.0 && left >= 0.0 && bottom <= self.height.into() && right <= self.width.into();
        let changes = |side: f64, new: u32| side > 0.0 && side != f64::from(new);
        if !(inside && changes(height, self.new_height) && changes(width, self.new_width)) {
            return None;
        }
        let down = Taps::new(self.height, top, bottom, self.new_height);
        let across = Taps::new(self.width, left, right, self.new_width);
        Plan::new(down, &across, self.width as usize, self.channels as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::ImageSize, by_library},
        *,
    };
    use crate::random::stream::Stream;

    #[test]
    fn the_kernel_and_the_library_give_the_same_bytes() {
        if !avx512::usable() {
            println!("left out: this CPU cannot permute 64 bytes at once");
            return;
        }
        let (mut done, mut left) = (0, 0);
        for case in 0..400 {
            let mut s = Stream::new(case, "resize", 0, 0);
            let mut upto = |n: u64| 1 + s.below(n) as u32;
            let size = ImageSize { height: upto(200), width: upto(500), channels: [1, 3][upto(2) as usize - 1] };
            let (height, width) = (upto(150), upto(150));
            let data = (0..size.bytes()).map(|_| (upto(256) - 1) as u8).collect();
            let image = Pixels { size, data };
            let whole = Frame { top: 0.0, left: 0.0, height: size.height.into(), width: size.width.into() };
            let (down, right) = (f64::from(upto(64)) / 130.0, f64::from(upto(64)) / 130.0);
            let part = Frame {
                top: down * whole.height,
                left: (right * whole.width).floor(),
                height: (1.0 - down) * whole.height * 0.9,
                width: (whole.width * 0.45).ceil(),
            };
            for frame in [whole, part] {
                let expected = by_library(&image, frame, ImageSize { height, width, channels: size.channels });
                match resized(&image, frame, height, width) {
                    Some(out) => {
                        assert!(out == expected.unwrap().data, "{size} to {height} x {width} of {frame:?}");
                        done += 1;
                    }
                    None => left += 1,
                }
            }
        }
        // Narrow pictures of wide ones are the library's.
        assert!(done > 4 * left, "{done} by the kernel, {left} left");
    }

    #[test]
    fn frames_outside_the_image_are_the_librarys_to_refuse() {
        let size = ImageSize { height: 9, width: 9, channels: 1 };
        let image = Pixels { size, data: vec![7; 81] };
        for (top, height) in [(-1.0, 9.0), (4.0, 6.0), (f64::NAN, 3.0), (0.0, f64::NAN), (1.0, 0.0)] {
            let frame = Frame { top, left: 0.0, height, width: 9.0 };
            assert_eq!(resized(&image, frame, 4, 4), None);
        }
    }
}
