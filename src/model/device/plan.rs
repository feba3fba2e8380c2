//! The operations of one forward pass, or of a forward and backward pass, for images of one shape.
//!
//! The order is that of [`crate::model::body`]: what is kept for the way back are inputs, convolutions' outputs and
//! moments; activations are made again. A plan needs no device: with a base of 0 it says how much memory its
//! buffers take, with the true base it says what to run.

use super::layout::Layout;
use crate::model::Keep;
use crate::model::bit::Skeleton;
use crate::model::body::{self, StdConv, Unit};
use crate::nn::Map;
use crate::nn::conv::Conv;
use crate::nn::cuda::arena::{Arena, Span};
use crate::nn::cuda::head::{self, Loss, Matrix, Wanted};
use crate::nn::cuda::norm::{Backward, Norm, Scratch};
use crate::nn::cuda::op::{Convolve, Op, Pass};
use crate::nn::cuda::{pool, weight};
use crate::nn::pool::pooled;

/// Where the weights and what belongs to a step lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places {
    pub data: u64,
    pub gradient: u64,
    pub hat: u64,
    /// Mean and scale of each standardised row.
    pub moments: u64,
    pub scalars: u64,
    pub loss: u64,
}

/// What kind of targets a training plan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Features and logits, no gradients.
    Infer,
    Class,
    Soft,
    Multi,
}

/// Where a plan's inputs go and its results lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// f32 pixels, `n * height * width * 3`.
    pub x: u64,
    /// Classes or probabilities.
    pub targets: u64,
    /// A byte for each label that says whether it is known.
    pub known: u64,
    /// f32, `n * feature_dim`.
    pub features: u64,
    /// f32, `n * classes`.
    pub logits: u64,
}

pub struct Plan {
    pub ops: Vec<Op>,
    pub ends: Ends,
    /// Bytes of all buffers together.
    pub bytes: u64,
    /// The layer at which they are most.
    pub peak_layer: String,
}

/// What a unit keeps for its way back.
struct Kept {
    x: Span,
    map: Map,
    moments1: Span,
    inner: Option<Inner>,
}

struct Inner {
    z1: Span,
    moments2: Span,
    z2: Span,
    moments3: Span,
}

struct Builder<'a> {
    net: &'a Skeleton<'a>,
    layout: &'a Layout,
    places: Places,
    narrow: bool,
    arena: Arena,
    ops: Vec<Op>,
}

/// Plans a pass over `n` images of `height` x `width` with buffers from `base` on.
pub fn plan(
    net: &Skeleton<'_>,
    layout: &Layout,
    places: Places,
    base: u64,
    images: (usize, usize, usize),
    goal: Goal,
) -> Plan {
    let narrow = net.narrow();
    let mut b = Builder { net, layout, places, narrow, arena: Arena::new(base), ops: Vec::new() };
    let ends = b.pass(images, goal);
    Plan { ops: b.ops, ends, bytes: b.arena.peak_bytes(), peak_layer: b.arena.peak_layer().into() }
}

impl Builder<'_> {
    fn pass(&mut self, (n, height, width): (usize, usize, usize), goal: Goal) -> Ends {
        let train = goal != Goal::Infer;
        self.arena.enter("root");
        let padded = weight::padded(3, self.narrow);
        let input = Map { n, height, width, channels: padded };
        let x = self.take_f32(n * height * width * 3);
        let image = self.take(input);
        // What the host writes must lie where nothing else does before it is read.
        let (targets, known) = self.targets(n, goal);
        self.ops.push(pool::spread(self.narrow, n * height * width, padded, x.at, image.at));
        self.arena.give(x);
        let root = StdConv { conv: Conv { inputs: padded, ..self.net.root.conv }, ..self.net.root };
        let root = StdConv { conv: Conv { pad: root.conv.kernel / 2, ..root.conv }, ..root };
        let wide = root.conv.output(input);
        let z = self.take(wide);
        self.convolve(root, input, Pass::Forward, image.at, z.at, false);
        let mut map = pooled(wide);
        let mut y = self.take(map);
        let winner = train.then(|| self.arena.take(map.len() as u64));
        self.ops.push(pool::max_pool(self.narrow, wide, z.at, y.at, winner.map_or(0, |w| w.at)));
        self.arena.give(z);

        let mut kept = Vec::new();
        for (i, unit) in self.net.units.iter().enumerate() {
            self.enter(i);
            let (out, saved) = self.unit_forward(unit, y, map, train);
            kept.extend(saved);
            (y, map) = (out, unit.output(map));
        }

        self.arena.enter("head");
        let dim = self.net.head.inputs;
        let features = self.take_f32(n * dim);
        let (norm, moments) = self.moments(self.net.norm, map, y);
        let a = self.take(map);
        self.ops.push(norm.forward(y.at, moments.at, a.at));
        self.ops.push(pool::average(self.narrow, map, a.at, features.at));
        self.arena.give(a);
        let logits = self.logits(n, features);
        let ends = Ends { x: x.at, targets: targets.at, known: known.at, features: features.at, logits: logits.at };
        if !train {
            return ends;
        }
        let dfeatures = self.head_backward(n, features, logits, goal, ends);
        let dpooled = self.take(map);
        self.ops.push(pool::average_backward(self.narrow, map, dfeatures.at, dpooled.at));
        self.arena.give(dfeatures);
        let mut dy = self.take(map);
        self.norm_backward(
            self.net.norm,
            map,
            Backward { x: y.at, dy: dpooled.at, residual: 0, moments: moments.at, dx: dy.at },
        );
        self.give([dpooled, y, moments]);
        for (i, saved) in kept.into_iter().enumerate().rev() {
            self.enter(i);
            dy = self.unit_backward(&self.net.units[i], saved, dy);
        }

        self.arena.enter("root");
        let dz = self.take(wide);
        self.ops.push(pool::max_pool_backward(self.narrow, wide, dy.at, winner.map_or(0, |w| w.at), dz.at));
        self.weight_gradient(root, input, image.at, dz.at);
        ends
    }

    fn enter(&mut self, unit: usize) {
        let name = &self.net.parameters[self.net.units[unit].norm1.weight].name;
        let name = name.strip_suffix(".gn1.weight").unwrap_or(name).to_string();
        self.arena.enter(&name);
    }

    /// Room for what the logits should say, and for which labels are known.
    fn targets(&mut self, n: usize, goal: Goal) -> (Span, Span) {
        let classes = self.net.head.outputs;
        let (values, known) = match goal {
            Goal::Infer => (0, 0),
            Goal::Class => (n, 0),
            Goal::Soft => (n * classes, 0),
            Goal::Multi => (n * classes, n * classes),
        };
        (self.take_f32(values), self.arena.take(known as u64))
    }

    fn logits(&mut self, n: usize, features: Span) -> Span {
        let (dim, classes, weight) = (self.net.head.inputs, self.net.head.outputs, self.net.head_weight);
        let logits = self.take_f32(n * classes);
        let turned = Matrix { row: 1, column: dim, at: self.data(weight) };
        let bias = self.data(weight + 1);
        self.ops.push(head::product(
            Matrix::plain(features.at, dim),
            turned,
            bias,
            logits.at,
            [n, classes, dim],
            false,
        ));
        logits
    }

    /// The loss and the gradients of the head; returns the gradient of the features. Gives the logits back.
    fn head_backward(&mut self, n: usize, features: Span, logits: Span, goal: Goal, ends: Ends) -> Span {
        let (dim, classes, weight) = (self.net.head.inputs, self.net.head.outputs, self.net.head_weight);
        let dlogits = self.take_f32(n * classes);
        let terms = self.arena.take((n * size_of::<f64>()) as u64);
        let wanted = match goal {
            Goal::Class => Wanted::Class(ends.targets),
            Goal::Multi => Wanted::Multi { values: ends.targets, known: ends.known },
            Goal::Soft | Goal::Infer => Wanted::Soft(ends.targets),
        };
        let Places { scalars, loss, .. } = self.places;
        let of = Loss { logits: logits.at, scalars, gradient: dlogits.at, terms: terms.at, loss };
        self.ops.extend(head::loss(wanted, of, n, classes));
        let d = Matrix::plain(dlogits.at, classes);
        let across = Matrix { row: 1, column: classes, ..d };
        let f = Matrix::plain(features.at, dim);
        self.ops.push(head::product(across, f, 0, self.gradient(weight), [classes, dim, n], true));
        self.ops.push(head::column_sums(dlogits.at, self.gradient(weight + 1), [n, classes]));
        let dfeatures = self.take_f32(n * dim);
        let w = Matrix::plain(self.data(weight), dim);
        self.ops.push(head::product(d, w, 0, dfeatures.at, [n, dim, classes], false));
        self.give([logits, dlogits, terms]);
        dfeatures
    }

    /// The unit's output and, in training, what its way back needs. Gives `x` back where nothing does.
    fn unit_forward(&mut self, unit: &Unit, x: Span, map: Map, train: bool) -> (Span, Option<Kept>) {
        let (norm1, moments1) = self.moments(unit.norm1, map, x);
        let a1 = self.take(map);
        self.ops.push(norm1.forward(x.at, moments1.at, a1.at));
        let out = unit.output(map);
        let y = self.take(out);
        match unit.downsample {
            Some(downsample) => self.convolve(downsample, map, Pass::Forward, a1.at, y.at, false),
            None => self.ops.push(Op::Copy { from: x.at, to: y.at, bytes: self.bytes(out) }),
        }
        let inner = self.inner(unit, a1, map);
        let map2 = unit.conv2.conv.output(unit.conv1.conv.output(map));
        let a3 = self.take(map2);
        self.ops.push(self.norm(unit.norm3, map2).forward(inner.z2.at, inner.moments3.at, a3.at));
        self.convolve(unit.conv3, map2, Pass::Forward, a3.at, y.at, true);
        self.arena.give(a3);
        if !train {
            self.give_inner(inner);
            self.give([x, moments1]);
            return (y, None);
        }
        let inner = match self.net.keep {
            Keep::Inner => Some(inner),
            Keep::Input => {
                self.give_inner(inner);
                None
            }
        };
        (y, Some(Kept { x, map, moments1, inner }))
    }

    /// From a1, which is given back, to z2.
    fn inner(&mut self, unit: &Unit, a1: Span, map: Map) -> Inner {
        let map1 = unit.conv1.conv.output(map);
        let map2 = unit.conv2.conv.output(map1);
        let z1 = self.take(map1);
        self.convolve(unit.conv1, map, Pass::Forward, a1.at, z1.at, false);
        self.arena.give(a1);
        let (norm2, moments2) = self.moments(unit.norm2, map1, z1);
        let a2 = self.take(map1);
        self.ops.push(norm2.forward(z1.at, moments2.at, a2.at));
        let z2 = self.take(map2);
        self.convolve(unit.conv2, map1, Pass::Forward, a2.at, z2.at, false);
        self.arena.give(a2);
        let (_, moments3) = self.moments(unit.norm3, map2, z2);
        Inner { z1, moments2, z2, moments3 }
    }

    fn give_inner(&mut self, inner: Inner) {
        self.give([inner.z1, inner.z2, inner.moments2, inner.moments3]);
    }

    /// The gradient of the unit's input from that of its output, which is given back.
    fn unit_backward(&mut self, unit: &Unit, kept: Kept, dy: Span) -> Span {
        let Kept { x, map, moments1, inner } = kept;
        let map1 = unit.conv1.conv.output(map);
        let map2 = unit.conv2.conv.output(map1);
        let inner = match inner {
            Some(inner) => inner,
            None => {
                let a1 = self.again(unit.norm1, map, x, moments1);
                self.inner(unit, a1, map)
            }
        };
        let Inner { z1, moments2, z2, moments3 } = inner;
        let dz2 = self.back_through(unit.norm3, unit.conv3, map2, z2, moments3, dy);
        self.give([z2, moments3]);
        let dz1 = self.back_through(unit.norm2, unit.conv2, map1, z1, moments2, dz2);
        self.give([dz2, z1, moments2]);

        let a1 = self.again(unit.norm1, map, x, moments1);
        self.weight_gradient(unit.conv1, map, a1.at, dz1.at);
        if let Some(downsample) = unit.downsample {
            self.weight_gradient(downsample, map, a1.at, dy.at);
        }
        let da1 = a1;
        self.convolve(unit.conv1, map, Pass::InputGradient, da1.at, dz1.at, false);
        self.arena.give(dz1);
        let residual = match unit.downsample {
            Some(downsample) => {
                self.convolve(downsample, map, Pass::InputGradient, da1.at, dy.at, true);
                0
            }
            None => dy.at,
        };
        let dx = self.take(map);
        let maps = Backward { x: x.at, dy: da1.at, residual, moments: moments1.at, dx: dx.at };
        self.norm_backward(unit.norm1, map, maps);
        self.give([da1, x, moments1, dy]);
        dx
    }

    /// Back through a convolution and the norm before it: from the gradient of the one's output to that of the
    /// other's input `z`.
    fn back_through(&mut self, norm: body::Norm, conv: StdConv, map: Map, z: Span, moments: Span, dy: Span) -> Span {
        let a = self.again(norm, map, z, moments);
        self.weight_gradient(conv, map, a.at, dy.at);
        self.convolve(conv, map, Pass::InputGradient, a.at, dy.at, false);
        let dz = self.take(map);
        let maps = Backward { x: z.at, dy: a.at, residual: 0, moments: moments.at, dx: dz.at };
        self.norm_backward(norm, map, maps);
        self.arena.give(a);
        dz
    }

    /// A norm's output, made again.
    fn again(&mut self, norm: body::Norm, map: Map, x: Span, moments: Span) -> Span {
        let a = self.take(map);
        self.ops.push(self.norm(norm, map).forward(x.at, moments.at, a.at));
        a
    }

    fn norm(&self, norm: body::Norm, map: Map) -> Norm {
        Norm { map, narrow: self.narrow, weight: self.data(norm.weight), bias: self.data(norm.weight + 1) }
    }

    /// The norm of a map, and its moments.
    fn moments(&mut self, norm: body::Norm, map: Map, x: Span) -> (Norm, Span) {
        let norm = self.norm(norm, map);
        let moments = self.arena.take(norm.moments_bytes());
        let parts = self.arena.take(norm.parts_bytes());
        self.ops.extend(norm.moments(x.at, parts.at, moments.at));
        self.arena.give(parts);
        (norm, moments)
    }

    fn norm_backward(&mut self, norm: body::Norm, map: Map, maps: Backward) {
        let of = self.norm(norm, map);
        let spans = [of.parts_bytes(), of.totals_bytes(), of.moments_bytes()].map(|bytes| self.arena.take(bytes));
        let scratch = Scratch { parts: spans[0].at, totals: spans[1].at, slopes: spans[2].at };
        let (dweight, dbias) = (self.gradient(norm.weight), self.gradient(norm.weight + 1));
        self.ops.extend(of.backward(maps, scratch, dweight, dbias));
        self.give(spans);
    }

    fn convolve(&mut self, conv: StdConv, map: Map, pass: Pass, x: u64, y: u64, add: bool) {
        let w = self.places.hat + self.layout.rows(conv.weight).hat as u64 * self.size();
        self.ops.push(Op::Convolve(Convolve { pass, conv: conv.conv, map, narrow: self.narrow, x, w, y, add }));
    }

    /// Adds the gradient of a convolution's weights.
    fn weight_gradient(&mut self, conv: StdConv, map: Map, x: u64, dy: u64) {
        let rows = self.layout.rows(conv.weight);
        let dhat = self.arena.take(rows.hat_len() as u64 * self.size());
        let pass = Pass::WeightGradient;
        let (narrow, w, y) = (self.narrow, dhat.at, dy);
        self.ops.push(Op::Convolve(Convolve { pass, conv: conv.conv, map, narrow, x, w, y, add: false }));
        let moments = self.places.moments + (rows.first * 2 * size_of::<f32>()) as u64;
        let (data, gradient) = (self.data(conv.weight), self.gradient(conv.weight));
        self.ops.push(weight::standardise_backward(narrow, &rows, data, moments, dhat.at, gradient));
        self.arena.give(dhat);
    }

    fn data(&self, parameter: usize) -> u64 {
        self.places.data + (self.layout.starts[parameter] * size_of::<f32>()) as u64
    }

    fn gradient(&self, parameter: usize) -> u64 {
        self.places.gradient + (self.layout.starts[parameter] * size_of::<f32>()) as u64
    }

    /// Bytes of one activation.
    fn size(&self) -> u64 {
        if self.narrow { 2 } else { 4 }
    }

    fn bytes(&self, map: Map) -> u64 {
        map.len() as u64 * self.size()
    }

    fn take(&mut self, map: Map) -> Span {
        self.arena.take(self.bytes(map))
    }

    fn give<const N: usize>(&mut self, spans: [Span; N]) {
        spans.into_iter().for_each(|span| self.arena.give(span));
    }

    fn take_f32(&mut self, count: usize) -> Span {
        self.arena.take((count * size_of::<f32>()) as u64)
    }
}
