//! The body of a BiT ResNet-v2: pre-activation bottleneck units, forward and backward by hand.
//!
//! A unit (Kolesnikov et al., arXiv 1912.11370; the published `PreActBottleneck`):
//!
//! ```text
//! a1 = relu(gn1(x));  z1 = conv1(a1)
//! a2 = relu(gn2(z1)); z2 = conv2(a2)       3x3, with the stride
//! a3 = relu(gn3(z2)); y  = conv3(a3) + shortcut,  shortcut = downsample(a1) or x
//! ```
//!
//! Kept for the backward pass are x, z1, z2 and the norms' moments; with `recompute` only x. The
//! activations a1, a2, a3 are made again from them, which costs less than keeping them.

use crate::nn::buffer::{Buffer, Workspace};
use crate::nn::conv::Conv;
use crate::nn::element::Element;
use crate::nn::kernel::Kernel;
use crate::nn::parameter::{Layout, Parameter};
use crate::nn::prepared::{self, Prepared};
use crate::nn::{Map, norm, standardise};

/// A weight-standardised convolution: its geometry and which parameter holds its weights.
#[derive(Clone, Copy)]
pub(super) struct StdConv {
    pub conv: Conv,
    pub weight: usize,
}

/// A GroupNorm with ReLU: which parameter holds its weights; its bias is the next one.
#[derive(Clone, Copy)]
pub(super) struct Norm {
    pub weight: usize,
}

#[derive(Clone)]
pub(super) struct Unit {
    pub norm1: Norm,
    pub conv1: StdConv,
    pub norm2: Norm,
    pub conv2: StdConv,
    pub norm3: Norm,
    pub conv3: StdConv,
    pub downsample: Option<StdConv>,
}

/// What one unit keeps for its backward pass.
pub(super) struct Kept<T: Element> {
    pub x: Buffer<T>,
    map: Map,
    moments1: Vec<f32>,
    inner: Option<Inner<T>>,
}

/// What lies between a unit's input and its last convolution.
struct Inner<T: Element> {
    z1: Buffer<T>,
    moments2: Vec<f32>,
    z2: Buffer<T>,
    moments3: Vec<f32>,
}

impl StdConv {
    /// `N` is what the network keeps its maps in, and `T` what this convolution reads and writes: the root, with three
    /// channels, which do not make pairs, computes in f32 on values that `N` holds.
    #[allow(clippy::too_many_arguments)]
    pub fn forward<N: Element, T: Element>(
        &self,
        kernel: Kernel,
        parameters: &[Parameter],
        x: &[T],
        map: Map,
        residual: Option<&[T]>,
        y: &mut [T],
        workspace: &mut Workspace,
    ) {
        let packing = self.conv.packing();
        let mut hat = workspace.take(packing.len());
        standardise::forward(kernel, packing, &parameters[self.weight].data, &mut hat);
        if !T::NARROW {
            N::round(kernel, &mut hat);
        }
        let weights = Prepared::for_forward(kernel, &self.conv, map, hat, workspace);
        weights.forward(kernel, &self.conv, x, map, residual, y);
        weights.give(workspace);
    }

    /// Adds the weight gradient to the parameter's.
    pub fn weight_gradient<T: Element>(
        &self,
        kernel: Kernel,
        parameters: &mut [Parameter],
        x: &[T],
        map: Map,
        dy: &[T],
        workspace: &mut Workspace,
    ) {
        let packing = self.conv.packing();
        let mut dhat = workspace.take(packing.len());
        prepared::weight_gradient(kernel, &self.conv, x, map, dy, &mut dhat, workspace);
        let Parameter { data, gradient, .. } = &mut parameters[self.weight];
        standardise::backward(kernel, packing, data, &dhat, gradient);
        workspace.give(dhat);
    }

    #[allow(clippy::too_many_arguments)]
    pub fn input_gradient<T: Element>(
        &self,
        kernel: Kernel,
        parameters: &[Parameter],
        dy: &[T],
        map: Map,
        add: bool,
        dx: &mut [T],
        workspace: &mut Workspace,
    ) {
        let packing = self.conv.packing();
        let mut hat = workspace.take(packing.len());
        standardise::forward(kernel, packing, &parameters[self.weight].data, &mut hat);
        let weights = Prepared::for_input_gradient(kernel, &self.conv, map, hat, workspace);
        weights.input_gradient(kernel, &self.conv, dy, map, add, dx);
        weights.give(workspace);
    }
}

impl Norm {
    pub fn forward<T: Element>(
        &self,
        kernel: Kernel,
        parameters: &[Parameter],
        x: &[T],
        map: Map,
        moments: &[f32],
        y: &mut [T],
    ) {
        let (weight, bias) = (&parameters[self.weight].data, &parameters[self.weight + 1].data);
        norm::forward(kernel, x, map, moments, weight, bias, y);
    }

    #[allow(clippy::too_many_arguments)]
    pub fn backward<T: Element>(
        &self,
        kernel: Kernel,
        parameters: &mut [Parameter],
        x: &[T],
        map: Map,
        moments: &[f32],
        dy: &[T],
        residual: Option<&[T]>,
        dx: &mut [T],
    ) {
        let (weight, bias) = parameters[self.weight..].split_at_mut(1);
        let (weight, bias) = (&mut weight[0], &mut bias[0]);
        let gradients = norm::Gradients { weight: &mut weight.gradient, bias: &mut bias.gradient };
        norm::backward(kernel, x, map, moments, &weight.data, &bias.data, dy, residual, dx, gradients);
    }
}

impl Unit {
    /// Its parameters are neighbours; this one is the first of them.
    pub fn first_parameter(&self) -> usize {
        self.norm1.weight
    }

    pub fn output(&self, map: Map) -> Map {
        self.conv3.conv.output(self.conv2.conv.output(map))
    }

    /// The unit's output and, for training, what its backward pass needs.
    pub fn forward<T: Element>(
        &self,
        kernel: Kernel,
        parameters: &[Parameter],
        x: Buffer<T>,
        map: Map,
        keep: Option<Keep>,
        workspace: &mut Workspace,
    ) -> (Buffer<T>, Option<Kept<T>>) {
        let moments1 = norm::moments(kernel, &x, map);
        let mut a1 = workspace.take(map.len());
        self.norm1.forward(kernel, parameters, &x, map, &moments1, &mut a1);
        let out = self.output(map);
        let shortcut = self.downsample.map(|downsample| {
            let mut shortcut = workspace.take(out.len());
            downsample.forward::<T, T>(kernel, parameters, &a1, map, None, &mut shortcut, workspace);
            shortcut
        });
        let inner = self.inner(kernel, parameters, a1, map, workspace);
        let map2 = self.conv2.conv.output(self.conv1.conv.output(map));
        let mut a3 = workspace.take(map2.len());
        self.norm3.forward(kernel, parameters, &inner.z2, map2, &inner.moments3, &mut a3);
        let mut y = workspace.take(out.len());
        let residual = shortcut.as_deref().unwrap_or(&x);
        self.conv3.forward::<T, T>(kernel, parameters, &a3, map2, Some(residual), &mut y, workspace);
        workspace.give(a3);
        shortcut.into_iter().for_each(|s| workspace.give(s));
        let Some(keep) = keep else {
            inner.give(workspace);
            workspace.give(x);
            return (y, None);
        };
        let inner = match keep {
            Keep::Inner => Some(inner),
            Keep::Input => {
                inner.give(workspace);
                None
            }
        };
        (y, Some(Kept { x, map, moments1, inner }))
    }

    /// From a1 (which is given back) to z2.
    fn inner<T: Element>(
        &self,
        kernel: Kernel,
        parameters: &[Parameter],
        a1: Buffer<T>,
        map: Map,
        workspace: &mut Workspace,
    ) -> Inner<T> {
        let map1 = self.conv1.conv.output(map);
        let map2 = self.conv2.conv.output(map1);
        let mut z1 = workspace.take(map1.len());
        self.conv1.forward::<T, T>(kernel, parameters, &a1, map, None, &mut z1, workspace);
        workspace.give(a1);
        let moments2 = norm::moments(kernel, &z1, map1);
        let mut a2 = workspace.take(map1.len());
        self.norm2.forward(kernel, parameters, &z1, map1, &moments2, &mut a2);
        let mut z2 = workspace.take(map2.len());
        self.conv2.forward::<T, T>(kernel, parameters, &a2, map1, None, &mut z2, workspace);
        workspace.give(a2);
        let moments3 = norm::moments(kernel, &z2, map2);
        Inner { z1, moments2, z2, moments3 }
    }

    /// The gradient of the unit's input from that of its output, which is given back.
    pub fn backward<T: Element>(
        &self,
        kernel: Kernel,
        parameters: &mut [Parameter],
        kept: Kept<T>,
        dy: Buffer<T>,
        workspace: &mut Workspace,
    ) -> Buffer<T> {
        let Kept { x, map, moments1, inner } = kept;
        let map1 = self.conv1.conv.output(map);
        let map2 = self.conv2.conv.output(map1);
        let inner = inner.unwrap_or_else(|| {
            let mut a1 = workspace.take(map.len());
            self.norm1.forward(kernel, parameters, &x, map, &moments1, &mut a1);
            self.inner(kernel, parameters, a1, map, workspace)
        });
        let Inner { z1, moments2, z2, moments3 } = inner;

        let mut a3 = workspace.take(map2.len());
        self.norm3.forward(kernel, parameters, &z2, map2, &moments3, &mut a3);
        self.conv3.weight_gradient(kernel, parameters, &a3, map2, &dy, workspace);
        let mut da3 = a3;
        self.conv3.input_gradient(kernel, parameters, &dy, map2, false, &mut da3, workspace);
        let mut dz2 = workspace.take(map2.len());
        self.norm3.backward(kernel, parameters, &z2, map2, &moments3, &da3, None, &mut dz2);
        workspace.give(da3);
        workspace.give(z2);

        let mut a2 = workspace.take(map1.len());
        self.norm2.forward(kernel, parameters, &z1, map1, &moments2, &mut a2);
        self.conv2.weight_gradient(kernel, parameters, &a2, map1, &dz2, workspace);
        let mut da2 = a2;
        self.conv2.input_gradient(kernel, parameters, &dz2, map1, false, &mut da2, workspace);
        workspace.give(dz2);
        let mut dz1 = workspace.take(map1.len());
        self.norm2.backward(kernel, parameters, &z1, map1, &moments2, &da2, None, &mut dz1);
        workspace.give(da2);
        workspace.give(z1);

        let mut a1 = workspace.take(map.len());
        self.norm1.forward(kernel, parameters, &x, map, &moments1, &mut a1);
        self.conv1.weight_gradient(kernel, parameters, &a1, map, &dz1, workspace);
        if let Some(downsample) = self.downsample {
            downsample.weight_gradient(kernel, parameters, &a1, map, &dy, workspace);
        }
        let mut da1 = a1;
        self.conv1.input_gradient(kernel, parameters, &dz1, map, false, &mut da1, workspace);
        workspace.give(dz1);
        let residual = match self.downsample {
            Some(downsample) => {
                downsample.input_gradient(kernel, parameters, &dy, map, true, &mut da1, workspace);
                None
            }
            None => Some(&*dy),
        };
        let mut dx = workspace.take(map.len());
        self.norm1.backward(kernel, parameters, &x, map, &moments1, &da1, residual, &mut dx);
        workspace.give(da1);
        workspace.give(x);
        workspace.give(dy);
        dx
    }
}

impl<T: Element> Inner<T> {
    fn give(self, workspace: &mut Workspace) {
        workspace.give(self.z1);
        workspace.give(self.z2);
    }
}

/// How much a unit keeps for its backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Its input and what lies between its convolutions.
    Inner,
    /// Its input only; the rest is computed twice (gradient checkpointing).
    Input,
}

/// Lays out the parameters of a body in checkpoint order while its units are made.
#[derive(Default)]
pub(super) struct Builder {
    pub parameters: Vec<Parameter>,
}

impl Builder {
    pub fn conv(&mut self, name: String, conv: Conv) -> StdConv {
        let parameter = Parameter::conv(name, [conv.outputs, conv.inputs, conv.kernel, conv.kernel]);
        debug_assert!(matches!(parameter.layout, Layout::Packed { packing, .. } if packing == conv.packing()));
        self.parameters.push(parameter);
        StdConv { conv, weight: self.parameters.len() - 1 }
    }

    pub fn norm(&mut self, name: &str, channels: usize) -> Norm {
        self.parameters.push(Parameter::vector(format!("{name}.weight"), &vec![1.0; channels]));
        self.parameters.push(Parameter::vector(format!("{name}.bias"), &vec![0.0; channels]));
        Norm { weight: self.parameters.len() - 2 }
    }

    pub fn unit(&mut self, prefix: &str, inputs: usize, outputs: usize, stride: usize) -> Unit {
        let middle = outputs / 4;
        let conv = |inputs, outputs, kernel: usize, stride| Conv { inputs, outputs, kernel, stride, pad: kernel / 2 };
        let norm1 = self.norm(&format!("{prefix}.gn1"), inputs);
        let conv1 = self.conv(format!("{prefix}.conv1.weight"), conv(inputs, middle, 1, 1));
        let norm2 = self.norm(&format!("{prefix}.gn2"), middle);
        let conv2 = self.conv(format!("{prefix}.conv2.weight"), conv(middle, middle, 3, stride));
        let norm3 = self.norm(&format!("{prefix}.gn3"), middle);
        let conv3 = self.conv(format!("{prefix}.conv3.weight"), conv(middle, outputs, 1, 1));
        let downsample = (stride != 1 || inputs != outputs)
            .then(|| self.conv(format!("{prefix}.downsample.weight"), conv(inputs, outputs, 1, stride)));
        Unit { norm1, conv1, norm2, conv2, norm3, conv3, downsample }
    }
}
