//! BiT ResNet-v2 as in the published study: parameters by name, logits, and a training step's gradients.
//!
//! Root: 7x7 convolution with stride 2, one pixel of zeros, max-pool 3x3 with stride 2. Body: see
//! [`super::body`]. Head: GroupNorm, ReLU, global average, linear. All convolutions but the head
//! are weight-standardised. It reads no files and draws no batches. [`placed`] computes it on a device.

mod placed;

use super::body::{Builder, Keep, Norm, StdConv, Unit};
use super::config::BitConfig;
use super::device::Network;
use super::images::CHANNELS;
pub use super::images::Images;
use super::precision::Precision;
use crate::error::{Error, Result, nearest};
use crate::nn::buffer::{Buffer, Workspace};
use crate::nn::conv::Conv;
use crate::nn::cuda::Machine;
use crate::nn::element::{Bf16, Element};
use crate::nn::kernel::{self, Kernel};
use crate::nn::loss::Targets;
use crate::nn::optimizer::Optimizer;
use crate::nn::parameter::{self, Parameter};
use crate::nn::{Map, norm, pool};
use crate::random::stream::Stream;
use std::sync::{Arc, Mutex};

pub use placed::Skeleton;

const ROOT_PAD: usize = 3;
/// Input values that inference takes through the network at a time: 16 images of 224 px.
const INFERENCE_VALUES: usize = 16 * 224 * 224 * CHANNELS;

/// The network with its parameters and, once trained, their gradients.
pub struct Bit {
    config: BitConfig,
    kernel: Kernel,
    keep: Keep,
    precision: Precision,
    parameters: Vec<Parameter>,
    root: StdConv,
    units: Vec<Unit>,
    norm: Norm,
    head: Conv,
    /// Which parameter is the head's weight; its bias is the next and last one.
    head_weight: usize,
    workspaces: Mutex<Vec<Workspace>>,
    /// Where passes and steps run, if not here, and the weights there once something did.
    machine: Option<Arc<dyn Machine>>,
    /// For the other ranks of a training, in turn; this one's where there are none.
    machines: Vec<Arc<dyn Machine>>,
    network: Mutex<Option<Network>>,
    /// The weights there are newer than those here.
    ahead: bool,
}

impl Bit {
    /// A network with the published initial weights: convolutions as PyTorch draws them (uniform
    /// within 1/sqrt(fan in)), norms 1 and 0, head 0.
    pub fn new(config: BitConfig, seed: u64) -> Self {
        let mut builder = Builder::default();
        let mut channels = config.channels(64);
        let conv = Conv { inputs: CHANNELS, outputs: channels, kernel: 2 * ROOT_PAD + 1, stride: 2, pad: 0 };
        let root = builder.conv("root.conv.weight".into(), conv);
        let mut units = Vec::new();
        for (block, (&count, base)) in config.blocks.iter().zip([256, 512, 1024, 2048]).enumerate() {
            for unit in 0..count {
                let stride = if block > 0 && unit == 0 { 2 } else { 1 };
                let prefix = format!("body.block{}.unit{:02}", block + 1, unit + 1);
                units.push(builder.unit(&prefix, channels, config.channels(base), stride));
                channels = config.channels(base);
            }
        }
        let norm = builder.norm("head.gn", channels);
        let head = Conv { inputs: channels, outputs: config.classes, kernel: 1, stride: 1, pad: 0 };
        let head_weight = builder.conv("head.conv.weight".into(), head).weight;
        builder.parameters.push(Parameter::vector("head.conv.bias".into(), &vec![0.0; config.classes]));
        let mut parameters = builder.parameters;
        for p in parameters[..head_weight].iter_mut().filter(|p| p.shape.len() == 4) {
            let bound = 1.0 / (p.shape[1..].iter().product::<usize>() as f64).sqrt();
            let mut stream = Stream::new(seed, &format!("init {}", p.name), 0, 0);
            let values: Vec<f32> = (0..p.count()).map(|_| stream.range(-bound, bound) as f32).collect();
            p.data = p.pack(&values);
        }
        let (kernel, keep, precision) = (kernel::chosen(), Keep::Inner, Precision::F32);
        let workspaces = Mutex::default();
        let (machine, network, ahead) = (None, Mutex::default(), false);
        Bit {
            config,
            kernel,
            keep,
            precision,
            parameters,
            root,
            units,
            norm,
            head,
            head_weight,
            workspaces,
            machine,
            machines: Vec::new(),
            network,
            ahead,
        }
    }

    pub fn config(&self) -> &BitConfig {
        &self.config
    }

    /// Uses another family of inner loops than the process's choice.
    pub fn set_kernel(&mut self, kernel: Kernel) {
        self.kernel = kernel;
    }

    /// How much [`Bit::loss_backward`] keeps. [`Keep::Input`] takes less memory and more time, with
    /// the same result to the bit.
    pub fn set_keep(&mut self, keep: Keep) {
        self.forget(self.keep != keep);
        self.keep = keep;
    }

    /// What the body's activations are stored in; f32 until this is called.
    pub fn set_precision(&mut self, precision: Precision) {
        self.forget(self.precision != precision);
        self.precision = precision;
    }

    /// Names and shapes in checkpoint order.
    pub fn names(&self) -> Vec<(String, Vec<usize>)> {
        self.parameters.iter().map(|p| (p.name.clone(), p.shape.clone())).collect()
    }

    /// All parameters as f32 tensors in PyTorch's layout, in checkpoint order.
    pub fn tensors(&self) -> Result<Vec<(String, candle_core::Tensor)>> {
        let tensor = |p: &Parameter| -> Result<_> {
            let values = p.unpack(&p.data);
            Ok((p.name.clone(), candle_core::Tensor::from_vec(values, p.shape.as_slice(), &candle_core::Device::Cpu)?))
        };
        self.parameters.iter().map(tensor).collect()
    }

    fn find(&self, name: &str) -> Result<usize> {
        self.parameters.iter().position(|p| p.name == name).ok_or_else(|| {
            let error = Error::invalid(format!("{} has no parameter {name}", self.config.name()));
            match nearest(name, self.parameters.iter().map(|p| p.name.as_str())) {
                Some(known) => error.with_hint(format!("did you mean {known}?")),
                None => error,
            }
        })
    }

    /// Sets one parameter from a tensor in PyTorch's layout, of any float type.
    pub fn load(&mut self, name: &str, tensor: &candle_core::Tensor) -> Result<()> {
        let at = self.find(name)?;
        if tensor.dims() != self.parameters[at].shape {
            return Err(Error::invalid(format!(
                "{name}: shape {:?} in the file, {:?} in {} with {} classes",
                tensor.dims(),
                self.parameters[at].shape,
                self.config.name(),
                self.config.classes
            )));
        }
        let values = tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        self.set(name, &values)
    }

    /// Sets one parameter from its values in PyTorch's layout.
    pub fn set(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let at = self.find(name)?;
        self.forget(true);
        let parameter = &mut self.parameters[at];
        if values.len() != parameter.count() {
            let (found, shape) = (values.len(), &parameter.shape);
            return Err(Error::invalid(format!("{name}: {found} values for shape {shape:?}")));
        }
        parameter.data = parameter.pack(values);
        Ok(())
    }

    /// One parameter's values in PyTorch's layout.
    pub fn get(&self, name: &str) -> Result<Vec<f32>> {
        let parameter = &self.parameters[self.find(name)?];
        Ok(parameter.unpack(&parameter.data))
    }

    /// One parameter's gradient in PyTorch's layout; empty before the first [`Bit::loss_backward`].
    pub fn gradient(&self, name: &str) -> Result<Vec<f32>> {
        let parameter = &self.parameters[self.find(name)?];
        let has = parameter.gradient.len() == parameter.data.len();
        Ok(if has { parameter.unpack(&parameter.gradient) } else { Vec::new() })
    }

    /// The norm of each parameter's gradient, in checkpoint order.
    pub fn gradient_norms(&self) -> Vec<(String, f64)> {
        self.parameters.iter().map(|p| (p.name.clone(), parameter::norm(&p.gradient))).collect()
    }

    /// All parameters, as the optimiser's state is kept beside them.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The same, for averages of weights that take their place.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        self.forget(true);
        &mut self.parameters
    }

    /// Gives the network a new head of zeros, as the published transfer does.
    pub fn replace_head(&mut self, classes: usize) {
        self.forget(true);
        self.config.classes = classes;
        self.head.outputs = classes;
        let name = |at: usize| self.parameters[at].name.clone();
        let (weight, bias) = (name(self.head_weight), name(self.head_weight + 1));
        self.parameters[self.head_weight] = Parameter::conv(weight, [classes, self.head.inputs, 1, 1]);
        self.parameters[self.head_weight + 1] = Parameter::vector(bias, &vec![0.0; classes]);
    }

    /// Channels of [`Bit::features`].
    pub fn feature_dim(&self) -> usize {
        self.head.inputs
    }

    /// `n * classes` logits, row-major. An image's logits do not depend on what else is in the batch.
    pub fn logits(&self, x: &Images<'_>) -> Result<Vec<f32>> {
        if self.machine.is_some() {
            return self.infer_placed(x, true);
        }
        let features = self.features(x)?;
        let mut logits = vec![0.0; x.n * self.config.classes];
        self.head_forward(&features, x.n, &mut logits);
        Ok(logits)
    }

    /// `n * feature_dim` values: what the head's linear layer reads.
    pub fn features(&self, x: &Images<'_>) -> Result<Vec<f32>> {
        if self.machine.is_some() {
            return self.infer_placed(x, false);
        }
        match self.precision {
            Precision::F32 => self.features_in::<f32>(x),
            Precision::Bf16 => self.features_in::<Bf16>(x),
        }
    }

    fn features_in<T: Element>(&self, x: &Images<'_>) -> Result<Vec<f32>> {
        x.check()?;
        let mut workspace = self.workspace();
        let mut features = vec![0.0; x.n * self.feature_dim()];
        let image = x.map().image();
        let step = (INFERENCE_VALUES / image).max(1);
        for first in (0..x.n).step_by(step) {
            let n = step.min(x.n - first);
            let part = Images { data: &x.data[first * image..][..n * image], n, ..*x };
            let (mut y, mut map) = self.root_forward::<T>(&part, None, &mut workspace);
            for unit in &self.units {
                (y, _) = unit.forward(self.kernel, &self.parameters, y, map, None, &mut workspace);
                map = unit.output(map);
            }
            let out = &mut features[first * self.feature_dim()..][..n * self.feature_dim()];
            self.pool_forward(&y, map, out, &mut workspace);
            workspace.give(y);
        }
        self.give_back(workspace);
        Ok(features)
    }

    /// Forward and backward of one (micro-)batch: adds the gradients of `scale` times the sum of
    /// the loss terms to the parameters', and returns that scaled sum.
    ///
    /// With `scale` = 1 / [`Targets::terms`] of the whole batch, micro-batches add up to it exactly
    /// but for rounding.
    pub fn loss_backward(&mut self, x: &Images<'_>, targets: &Targets<'_>, scale: f64) -> Result<f64> {
        self.loss_backward_telling(x, targets, scale, &mut |_, _| ())
    }

    /// The same. Tells on the way back, from the head to the root, from which parameter on all gradients are those
    /// of this call's end, so that they can travel while the rest is computed: `ready(parameters, first)`.
    pub fn loss_backward_telling(
        &mut self,
        x: &Images<'_>,
        targets: &Targets<'_>,
        scale: f64,
        ready: &mut dyn FnMut(&[Parameter], usize),
    ) -> Result<f64> {
        x.check()?;
        targets.check(x.n, self.config.classes)?;
        if x.n == 0 {
            return Ok(0.0);
        }
        if self.machine.is_some() {
            return self.loss_backward_placed(x, targets, scale);
        }
        Ok(match self.precision {
            Precision::F32 => self.loss_backward_in::<f32>(x, targets, scale, ready),
            Precision::Bf16 => self.loss_backward_in::<Bf16>(x, targets, scale, ready),
        })
    }

    fn loss_backward_in<T: Element>(
        &mut self,
        x: &Images<'_>,
        targets: &Targets<'_>,
        scale: f64,
        ready: &mut dyn FnMut(&[Parameter], usize),
    ) -> f64 {
        for p in self.parameters.iter_mut().filter(|p| p.gradient.len() != p.data.len()) {
            p.zero_gradient();
        }
        let mut workspace = self.workspace();
        let workspace = &mut workspace;
        let kernel = self.kernel;

        let mut winner = Vec::new();
        let (mut y, mut map) = self.root_forward::<T>(x, Some(&mut winner), workspace);
        let mut kept = Vec::with_capacity(self.units.len());
        for unit in &self.units {
            let (out, saved) = unit.forward(kernel, &self.parameters, y, map, Some(self.keep), workspace);
            kept.extend(saved);
            (y, map) = (out, unit.output(map));
        }
        let mut features = vec![0.0; x.n * self.feature_dim()];
        let moments = self.pool_forward(&y, map, &mut features, workspace);
        let mut logits = vec![0.0; x.n * self.config.classes];
        self.head_forward(&features, x.n, &mut logits);

        let mut dlogits = vec![0.0; logits.len()];
        let loss = targets.loss(&logits, self.config.classes, scale, &mut dlogits);

        let dfeatures = self.head_backward(&features, x.n, &dlogits, workspace);
        ready(&self.parameters, self.head_weight);
        let mut dpooled = workspace.take::<T>(map.len());
        pool::average_backward(&dfeatures, map, &mut dpooled);
        let mut dy = workspace.take(map.len());
        self.norm.backward(kernel, &mut self.parameters, &y, map, &moments, &dpooled, None, &mut dy);
        workspace.give(dpooled);
        workspace.give(y);
        for (unit, saved) in self.units.iter().zip(kept).rev() {
            dy = unit.backward(kernel, &mut self.parameters, saved, dy, workspace);
            ready(&self.parameters, unit.first_parameter());
        }
        self.root_backward(x, &winner, dy, workspace);
        ready(&self.parameters, 0);
        let workspace = std::mem::take(workspace);
        self.give_back(workspace);
        loss
    }

    pub fn zero_gradients(&mut self) {
        if self.machine.is_some() {
            return self.zero_gradients_placed();
        }
        self.parameters.iter_mut().for_each(Parameter::zero_gradient);
    }

    /// One update of all parameters with the gradients at hand, which are left as they are.
    pub fn step(&mut self, optimizer: &mut dyn Optimizer, lr: f64) {
        if self.machine.is_some() {
            return self.step_placed(optimizer, lr);
        }
        optimizer.step(self.kernel, &mut self.parameters, self.config.classes, lr);
    }

    /// Padded input to the body's first map. `winner` is filled for the backward pass. Computes in f32 on what `T`
    /// holds.
    fn root_forward<T: Element>(
        &self,
        x: &Images<'_>,
        winner: Option<&mut Vec<u8>>,
        workspace: &mut Workspace,
    ) -> (Buffer<T>, Map) {
        let map = x.map();
        let wide = pool::padded(map, ROOT_PAD);
        let mut padded = workspace.take::<f32>(wide.len());
        pool::pad(x.data, map, ROOT_PAD, &mut padded);
        T::round(self.kernel, &mut padded);
        let out = self.root.conv.output(wide);
        let mut z = workspace.take::<f32>(out.len());
        self.root.forward::<T, f32>(self.kernel, &self.parameters, &padded, wide, None, &mut z, workspace);
        // Before the pool, so that equals are equals on every machine.
        T::round(self.kernel, &mut z);
        workspace.give(padded);
        let pooled = pool::pooled(out);
        let mut y = workspace.take(pooled.len());
        let mut unused = Vec::new();
        let winner = winner.unwrap_or(&mut unused);
        winner.resize(pooled.len(), 0);
        pool::max_pool(self.kernel, &z, out, &mut y, winner);
        workspace.give(z);
        (y, pooled)
    }

    fn root_backward<T: Element>(&mut self, x: &Images<'_>, winner: &[u8], dy: Buffer<T>, workspace: &mut Workspace) {
        let wide = pool::padded(x.map(), ROOT_PAD);
        let out = self.root.conv.output(wide);
        let mut dz = workspace.take::<f32>(out.len());
        pool::max_pool_backward(self.kernel, &dy, winner, out, &mut dz);
        T::round(self.kernel, &mut dz);
        workspace.give(dy);
        let mut padded = workspace.take::<f32>(wide.len());
        pool::pad(x.data, x.map(), ROOT_PAD, &mut padded);
        T::round(self.kernel, &mut padded);
        self.root.weight_gradient(self.kernel, &mut self.parameters, &padded, wide, &dz, workspace);
        workspace.give(padded);
        workspace.give(dz);
    }

    /// Norm, ReLU and average; returns the norm's moments.
    fn pool_forward<T: Element>(&self, y: &[T], map: Map, features: &mut [f32], workspace: &mut Workspace) -> Vec<f32> {
        let moments = norm::moments(self.kernel, y, map);
        let mut a = workspace.take(map.len());
        self.norm.forward(self.kernel, &self.parameters, y, map, &moments, &mut a);
        pool::average(&a, map, features);
        workspace.give(a);
        moments
    }

    fn head_map(&self, n: usize) -> Map {
        Map { n, height: 1, width: 1, channels: self.feature_dim() }
    }

    fn head_forward(&self, features: &[f32], n: usize, logits: &mut [f32]) {
        let weight = &self.parameters[self.head_weight].data;
        let bias = &self.parameters[self.head_weight + 1].data;
        self.head.forward(self.kernel, features, self.head_map(n), weight, None, logits);
        for row in logits.chunks_exact_mut(self.config.classes) {
            row.iter_mut().zip(bias.iter()).for_each(|(z, b)| *z += b);
        }
    }

    /// Adds the head's gradients and returns that of the features.
    fn head_backward(&mut self, features: &[f32], n: usize, dlogits: &[f32], workspace: &mut Workspace) -> Vec<f32> {
        let map = self.head_map(n);
        let (weight, bias) = self.parameters[self.head_weight..].split_at_mut(1);
        let (weight, bias) = (&mut weight[0], &mut bias[0]);
        let mut dw = workspace.take::<f32>(weight.data.len());
        self.head.weight_gradient(self.kernel, features, map, dlogits, &mut dw, workspace);
        weight.gradient.iter_mut().zip(dw.iter()).for_each(|(g, d)| *g += d);
        workspace.give(dw);
        for (class, g) in bias.gradient.iter_mut().enumerate() {
            *g += dlogits.iter().skip(class).step_by(self.config.classes).map(|&d| f64::from(d)).sum::<f64>() as f32;
        }
        let packing = self.head.packing();
        let mut turned = workspace.take::<f32>(packing.transposed(1).len());
        packing.transpose(&weight.data, 1, &mut turned);
        let mut dfeatures = vec![0.0; features.len()];
        self.head.input_gradient(self.kernel, dlogits, map, &turned, false, &mut dfeatures);
        workspace.give(turned);
        dfeatures
    }

    fn workspace(&self) -> Workspace {
        self.workspaces.lock().ok().and_then(|mut free| free.pop()).unwrap_or_default()
    }

    fn give_back(&self, workspace: Workspace) {
        if let Ok(mut free) = self.workspaces.lock() {
            free.push(workspace);
        }
    }
}

#[cfg(test)]
mod tests;
