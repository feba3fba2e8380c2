//! Convolutions by whichever way is fastest: weights made ready for it, and the operators on them.
//!
//! [`super::winograd`] where it suits, else the direct way of [`super::conv`] and [`super::weight`].

use super::buffer::{Buffer, Workspace};
use super::conv::{Base, Conv};
use super::element::Element;
use super::kernel::Kernel;
use super::packing::Packed;
use super::{Map, winograd};

/// The weights of one convolution, for its forward pass or for its input gradient.
pub enum Prepared<T: Element> {
    Direct(Buffer<T>),
    /// At Winograd's points.
    Points(Buffer<f32>, Packed),
}

impl<T: Element> Prepared<T> {
    /// For [`Prepared::forward`] of inputs of `map`, from weights packed as [`Conv::packing`] says.
    pub fn for_forward(kernel: Kernel, conv: &Conv, map: Map, weights: Buffer, workspace: &mut Workspace) -> Self {
        Self::new(kernel, conv, map, conv.packing(), weights, false, workspace)
    }

    /// For [`Prepared::input_gradient`], from the same weights.
    pub fn for_input_gradient(
        kernel: Kernel,
        conv: &Conv,
        map: Map,
        weights: Buffer,
        workspace: &mut Workspace,
    ) -> Self {
        let (packing, taps) = (conv.packing(), conv.taps());
        let turned = packing.transposed(taps);
        let mut transposed = workspace.take(turned.len());
        packing.transpose(&weights, taps, &mut transposed);
        workspace.give(weights);
        Self::new(kernel, conv, map, turned, transposed, true, workspace)
    }

    fn new(
        kernel: Kernel,
        conv: &Conv,
        map: Map,
        packing: Packed,
        weights: Buffer,
        turned: bool,
        workspace: &mut Workspace,
    ) -> Self {
        if !winograd::suits::<T>(conv, map) {
            return Prepared::Direct(T::weights(kernel, packing, weights, workspace));
        }
        let points = winograd::packing(packing);
        let mut filters = workspace.take(points.len());
        winograd::filters(kernel, packing, &weights, turned, &mut filters);
        workspace.give(weights);
        Prepared::Points(filters, points)
    }

    /// See [`Conv::forward`].
    pub fn forward(&self, kernel: Kernel, conv: &Conv, x: &[T], map: Map, residual: Option<&[T]>, y: &mut [T]) {
        match self {
            Prepared::Direct(weights) => conv.forward(kernel, x, map, weights, residual, y),
            Prepared::Points(filters, packing) => {
                winograd::convolve(kernel, x, map, *packing, filters, residual.map_or(Base::Zero, Base::Values), y);
            }
        }
    }

    /// See [`Conv::input_gradient`].
    pub fn input_gradient(&self, kernel: Kernel, conv: &Conv, dy: &[T], map: Map, add: bool, dx: &mut [T]) {
        match self {
            Prepared::Direct(weights) => conv.input_gradient(kernel, dy, map, weights, add, dx),
            Prepared::Points(filters, packing) => {
                let base = if add { Base::Held } else { Base::Zero };
                winograd::convolve(kernel, dy, conv.output(map), *packing, filters, base, dx);
            }
        }
    }

    pub fn give(self, workspace: &mut Workspace) {
        match self {
            Prepared::Direct(weights) => workspace.give(weights),
            Prepared::Points(filters, _) => workspace.give(filters),
        }
    }
}

/// See [`Conv::weight_gradient`].
pub fn weight_gradient<T: Element>(
    kernel: Kernel,
    conv: &Conv,
    x: &[T],
    map: Map,
    dy: &[T],
    dw: &mut [f32],
    workspace: &mut Workspace,
) {
    if winograd::suits::<T>(conv, map) && winograd::suits_weight_gradient(map) {
        winograd::weight_gradient(kernel, x, map, dy, conv.packing(), dw, workspace);
    } else {
        conv.weight_gradient(kernel, x, map, dy, dw, workspace);
    }
}
