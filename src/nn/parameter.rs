//! A parameter: its values and gradient in the kernels' order, its name and shape as in checkpoints.

use super::buffer::Buffer;
use super::packing::Packed;

/// How values lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As in PyTorch, one dimension.
    Vector,
    /// A convolution's weights, see [`super::packing`].
    Packed { packing: Packed, taps: usize },
}

/// A named parameter. The gradient has the order of the values, and no memory before training.
#[derive(Clone)]
pub struct Parameter {
    /// As in the published checkpoints, such as `body.block1.unit01.conv2.weight`.
    pub name: String,
    /// As in PyTorch: (O, I, H, W) or (C).
    pub shape: Vec<usize>,
    pub layout: Layout,
    pub data: Buffer,
    pub gradient: Buffer,
}

impl Parameter {
    pub fn vector(name: String, values: &[f32]) -> Self {
        let (shape, data) = (vec![values.len()], Buffer::from(values));
        Parameter { name, shape, layout: Layout::Vector, data, gradient: Buffer::default() }
    }

    /// All zeros; `shape` is (O, I, H, W).
    pub fn conv(name: String, shape: [usize; 4]) -> Self {
        let [outputs, inputs, height, width] = shape;
        let taps = height * width;
        let packing = Packed { rows: inputs * taps, lanes: outputs };
        let data = Buffer::zeros(packing.len());
        let layout = Layout::Packed { packing, taps };
        Parameter { name, shape: shape.to_vec(), layout, data, gradient: Buffer::default() }
    }

    /// The number of values in PyTorch's layout.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Values of this parameter's order (its data, gradient or momentum) in PyTorch's layout.
    pub fn unpack(&self, values: &[f32]) -> Vec<f32> {
        match self.layout {
            Layout::Vector => values.to_vec(),
            Layout::Packed { packing, taps } => {
                let mut out = vec![0.0; self.count()];
                packing.unpack(values, taps, &mut out);
                out
            }
        }
    }

    /// Values in PyTorch's layout in this parameter's order.
    pub fn pack(&self, values: &[f32]) -> Buffer {
        match self.layout {
            Layout::Vector => Buffer::from(values),
            Layout::Packed { packing, taps } => {
                let mut out = Buffer::zeros(packing.len());
                packing.pack(values, taps, &mut out);
                out
            }
        }
    }

    /// Sets the gradient to zero, making it where there is none yet.
    pub fn zero_gradient(&mut self) {
        if self.gradient.len() == self.data.len() {
            self.gradient.fill(0.0);
        } else {
            self.gradient = Buffer::zeros(self.data.len());
        }
    }
}

/// The Euclidean norm, summed in f64 in a fixed order.
pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

/// A convolution, a head and a vector with drawn weights and gradients, for the optimisers' tests.
#[cfg(test)]
pub fn examples(seed_name: &str) -> Vec<Parameter> {
    let mut stream = crate::random::stream::Stream::new(1, seed_name, 0, 0);
    let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| stream.normal() as f32).collect() };
    let mut all = vec![
        Parameter::conv("conv.weight".into(), [70, 5, 3, 3]),
        Parameter::conv("head.conv.weight".into(), [4, 30, 1, 1]),
        Parameter::vector("gn.bias".into(), &draw(30)),
    ];
    for p in &mut all {
        p.data = p.pack(&draw(p.count()));
        p.gradient = p.pack(&draw(p.count()));
    }
    all
}
