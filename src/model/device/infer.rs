//! Features and logits of images, which a device keeps to itself until they are asked for or many.
//!
//! Nobody waits between two parts of a dataset: while the device computes one, the next is rendered or sent. What
//! values are made of is the plan's business.

use super::network::{Input, Network, beside_steps, floats};
use super::plan::Goal;
use crate::error::Result;
use crate::model::bit::Skeleton;
use crate::model::images::Images;
use crate::nn::cuda::op::{Memory, Op};

/// Input values that inference takes at a time: 64 images of 224 px.
const INFERENCE_VALUES: usize = 64 * 224 * 224 * 3;
/// Values that wait on the device: features of 2,048 channels of 1,024 images. Tests have few images.
const WAITING: usize = if cfg!(test) { 1024 } else { 2048 * 1024 };

/// Results that have not been asked for.
#[derive(Default)]
pub struct Results {
    memory: Option<Memory>,
    /// f32 values that lie there.
    waiting: usize,
    /// Those that have come back.
    here: Vec<f32>,
}

/// Images of `height` x `width` that inference takes at a time.
pub fn at_once((height, width): (usize, usize)) -> usize {
    (INFERENCE_VALUES / (3 * height * width).max(1)).max(1)
}

impl Network {
    /// Features, or logits, of images.
    pub fn infer(&mut self, net: &Skeleton<'_>, x: &Images<'_>, logits: bool) -> Result<Vec<f32>> {
        let (image, step) = (x.map().image(), at_once((x.height, x.width)));
        for first in (0..x.n).step_by(step) {
            let n = step.min(x.n - first);
            let part = Images { data: &x.data[first * image..][..n * image], n, ..*x };
            self.submit(net, &Input::Rendered(part), logits)?;
        }
        self.take_results()
    }

    /// Has features, or logits, of images computed, behind those that were submitted before. Returns before they are.
    pub fn submit(&mut self, net: &Skeleton<'_>, x: &Input<'_>, logits: bool) -> Result<()> {
        let (n, height, width) = x.size();
        let values = n * if logits { net.head.outputs } else { net.head.inputs };
        self.make_room(values)?;
        let ends = self.start(net, x, Goal::Infer)?;
        self.go((n, height, width, Goal::Infer))?;
        let Results { memory, waiting, .. } = &mut self.results;
        let to = memory.as_ref().map_or(0, |memory| memory.start) + 4 * *waiting as u64;
        let from = if logits { ends.logits } else { ends.features };
        *waiting += values;
        self.machine.run(&[Op::Copy { from, to, bytes: 4 * values as u64 }])
    }

    /// All that was submitted since the last call. Waits for it.
    pub fn take_results(&mut self) -> Result<Vec<f32>> {
        self.bring_results()?;
        Ok(std::mem::take(&mut self.results.here))
    }

    /// Sees to room on the device for so many more values.
    fn make_room(&mut self, values: usize) -> Result<()> {
        let room = self.results.memory.as_ref().map_or(0, |memory| memory.bytes as usize / 4);
        if self.results.waiting + values <= room {
            return Ok(());
        }
        self.bring_results()?;
        if values > room {
            self.results.memory = None;
            let new = self.machine.allocate(4 * values.max(WAITING) as u64);
            self.results.memory = Some(new.map_err(beside_steps("results"))?);
        }
        Ok(())
    }

    fn bring_results(&mut self) -> Result<()> {
        let Results { memory: Some(memory), waiting, here } = &mut self.results else { return Ok(()) };
        let mut bytes = vec![0u8; 4 * *waiting];
        if !bytes.is_empty() {
            self.machine.read(memory.start, &mut bytes)?;
        }
        here.extend(floats(&bytes));
        *waiting = 0;
        Ok(())
    }
}
