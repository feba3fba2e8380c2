//! Every operator of a device against the plain one of the processor, on odd shapes, in f32 and bfloat16.
//!
//! The same bodies run on a GPU (`tests/cuda.rs`) and on the host machine (unit tests of `nn::cuda`).

use scaleshot::nn::Map;
use scaleshot::nn::adamw::{AdamW, AdamWOptions};
use scaleshot::nn::buffer::{Buffer, Workspace};
use scaleshot::nn::conv::Conv;
use scaleshot::nn::cuda::head::{self, Loss, Matrix, Wanted};
use scaleshot::nn::cuda::norm::{Backward, Norm, Scratch};
use scaleshot::nn::cuda::op::{Convolve, Machine, Memory, Op, Pass};
use scaleshot::nn::cuda::update::{self, Scalars, Update};
use scaleshot::nn::cuda::{pool, weight};
use scaleshot::nn::element::{Bf16, Element};
use scaleshot::nn::kernel::Kernel;
use scaleshot::nn::optimizer::{Optimizer, Parts};
use scaleshot::nn::packing::Packed;
use scaleshot::nn::parameter::Parameter;
use scaleshot::nn::sgd_agc::{SgdAgc, SgdAgcOptions};
use scaleshot::nn::{Targets, norm, pool as plain_pool, standardise};
use scaleshot::random::stream::Stream;

pub fn draw(seed: u64, len: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, "device operators", 0, 0);
    (0..len).map(|_| stream.range(-1.0, 1.0) as f32).collect()
}

/// Values as activations hold them.
fn held(narrow: bool, values: Vec<f32>) -> Vec<f32> {
    if narrow { values.into_iter().map(|v| Bf16::narrow(v).wide()).collect() } else { values }
}

/// Memory of a device for one test.
pub struct Bench<'a> {
    machine: &'a dyn Machine,
    memory: Vec<Memory>,
}

impl<'a> Bench<'a> {
    pub fn new(machine: &'a dyn Machine) -> Self {
        Bench { machine, memory: Vec::new() }
    }

    pub fn room(&mut self, bytes: u64) -> u64 {
        let memory = self.machine.allocate(bytes.max(1)).unwrap();
        let start = memory.start;
        self.memory.push(memory);
        start
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let at = self.room(bytes.len() as u64);
        self.machine.write(at, bytes).unwrap();
        at
    }

    pub fn f32s(&mut self, values: &[f32]) -> u64 {
        self.bytes(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    pub fn words(&mut self, values: &[u64]) -> u64 {
        self.bytes(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Activations.
    fn map(&mut self, narrow: bool, values: &[f32]) -> u64 {
        match narrow {
            true => self.bytes(&values.iter().flat_map(|&v| Bf16::narrow(v).0.to_le_bytes()).collect::<Vec<_>>()),
            false => self.f32s(values),
        }
    }

    pub fn run(&self, ops: impl IntoIterator<Item = Op>) {
        self.machine.run(&ops.into_iter().collect::<Vec<_>>()).unwrap();
    }

    pub fn raw(&self, at: u64, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        self.machine.read(at, &mut out).unwrap();
        out
    }

    pub fn get_f32s(&self, at: u64, count: usize) -> Vec<f32> {
        self.raw(at, 4 * count).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn get_map(&self, narrow: bool, at: u64, count: usize) -> Vec<f32> {
        match narrow {
            true => {
                let wide = |b: &[u8]| Bf16(u16::from_le_bytes([b[0], b[1]])).wide();
                self.raw(at, 2 * count).chunks_exact(2).map(wide).collect()
            }
            false => self.get_f32s(at, count),
        }
    }
}

/// Fails where a value is off by more than `share` of its own size and of the largest one, or is no number.
fn near(what: &str, found: &[f32], wanted: &[f32], share: f32) {
    let largest = wanted.iter().fold(0f32, |m, w| m.max(w.abs())).max(1e-6);
    within(what, found, wanted, |i| share * (wanted[i].abs() + 0.05 * largest));
}

/// The last digits of sums in f32, and one rounding to bfloat16 of what is written: inputs are held as the device holds
/// them, so that nothing else rounds.
fn near_rounded(what: &str, found: &[f32], wanted: &[f32], narrow: bool) {
    let largest = wanted.iter().fold(0f32, |m, w| m.max(w.abs())).max(1e-6);
    within(what, found, wanted, |i| 2e-4 * (wanted[i].abs() + 0.05 * largest) + rounding(narrow) * wanted[i].abs());
}

/// Of sums of `terms` products in f32 in any order, where `sizes` are the same sums of the factors' sizes: an error of
/// a last digit each, which add up as chance has it (the factor of eight covers tensor cores, which cut off), and one
/// rounding of what is written.
fn near_sums(what: &str, found: &[f32], wanted: &[f32], sizes: &[f32], terms: usize, narrow: bool) {
    let digits = 8.0 * (terms as f32).sqrt() * f32::EPSILON;
    within(what, found, wanted, |i| digits * sizes[i] + rounding(narrow) * wanted[i].abs());
}

/// Half a step between two neighbouring values of activations, of their size: bfloat16 has eight digits.
fn rounding(narrow: bool) -> f32 {
    if narrow { 1.001 / 256.0 } else { 0.0 }
}

fn within(what: &str, found: &[f32], wanted: &[f32], limit: impl Fn(usize) -> f32) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (i, (f, w)) in found.iter().zip(wanted).enumerate() {
        assert!((f - w).abs() <= limit(i), "{what} at {i}: {f}, expected {w} within {}", limit(i));
    }
}

const MAPS: [[usize; 4]; 6] =
    [[1, 1, 1, 256], [2, 3, 5, 64], [3, 9, 7, 8], [1, 23, 19, 48], [2, 2, 2, 2048], [1, 31, 17, 96]];

fn maps() -> impl Iterator<Item = (Map, bool)> {
    let map = |[n, height, width, channels]: [usize; 4]| Map { n, height, width, channels };
    MAPS.into_iter().flat_map(move |m| [(map(m), false), (map(m), true)])
}

/// GroupNorm with ReLU, both ways, with and without a residual gradient.
pub fn norms(machine: &dyn Machine) {
    for (map, narrow) in maps() {
        let mut b = Bench::new(machine);
        let what = |part: &str| format!("norm {part} of {map:?}, bf16 {narrow}");
        let x = held(narrow, draw(1, map.len()).iter().map(|v| v + 3.0).collect());
        let (dy, residual) = (held(narrow, draw(2, map.len())), held(narrow, draw(3, map.len())));
        let (w, bias) = (draw(4, map.channels), draw(5, map.channels));
        let of = Norm { map, narrow, weight: b.f32s(&w), bias: b.f32s(&bias) };
        let (at, grad, rest) = (b.map(narrow, &x), b.map(narrow, &dy), b.map(narrow, &residual));
        let (y, dx) = (b.map(narrow, &x), b.map(narrow, &x));
        let moments = b.room(of.moments_bytes());
        let scratch = Scratch {
            parts: b.room(of.parts_bytes()),
            totals: b.room(of.totals_bytes()),
            slopes: b.room(of.moments_bytes()),
        };
        let (dw, db) = (b.f32s(&vec![1.0; map.channels]), b.f32s(&vec![2.0; map.channels]));
        b.run(of.moments(at, scratch.parts, moments));
        b.run([of.forward(at, moments, y)]);

        let kernel = Kernel::Plain;
        let truth = norm::moments(kernel, &x, map);
        let mut plain = vec![0.0; map.len()];
        norm::forward(kernel, &x, map, &truth, &w, &bias, &mut plain);
        near(&what("moments"), &b.get_f32s(moments, truth.len()), &truth, 1e-5);
        near_rounded(&what("forward"), &b.get_map(narrow, y, map.len()), &plain, narrow);
        for with in [false, true] {
            let maps = Backward { x: at, dy: grad, residual: if with { rest } else { 0 }, moments, dx };
            b.run(of.backward(maps, scratch, dw, db));
            let (mut w2, mut b2) = (vec![0.0; map.channels], vec![0.0; map.channels]);
            let gradients = norm::Gradients { weight: &mut w2, bias: &mut b2 };
            let residual = with.then_some(&residual[..]);
            norm::backward(kernel, &x, map, &truth, &w, &bias, &dy, residual, &mut plain, gradients);
            near_rounded(&what("dx"), &b.get_map(narrow, dx, map.len()), &plain, narrow);
            // The second round adds to the first.
            let rounds = if with { 2.0 } else { 1.0 };
            let sum = |base: f32, v: &[f32]| v.iter().map(|v| base + rounds * v).collect::<Vec<_>>();
            near(&what("dweight"), &b.get_f32s(dw, map.channels), &sum(1.0, &w2), 1e-3);
            near(&what("dbias"), &b.get_f32s(db, map.channels), &sum(2.0, &b2), 1e-3);
        }
    }
}

/// Weight standardisation, both ways, with inputs padded.
pub fn standardised(machine: &dyn Machine) {
    for (outputs, inputs, kernel, narrow) in [(5, 3, 7, false), (16, 3, 7, true), (33, 24, 3, true), (7, 40, 1, false)]
    {
        let mut b = Bench::new(machine);
        let taps = kernel * kernel;
        let packing = Packed { rows: inputs * taps, lanes: outputs };
        let mut p = Parameter::conv("w".into(), [outputs, inputs, kernel, kernel]);
        let plain: Vec<f32> = draw(1, p.count()).iter().map(|v| v + 5.0).collect();
        p.data = p.pack(&plain);
        let padded = weight::padded(inputs, narrow);
        let rows = weight::Rows { start: 0, hat: 0, first: 0, outputs, taps, inputs, padded };
        let w = b.f32s(&weight::to_rows(&p, &plain));
        let (table, moments) = (rows.table().collect::<Vec<_>>(), b.room(8 * outputs as u64));
        let (table, hat) = (b.words(&table), b.map(narrow, &vec![9.0; rows.hat_len()]));
        b.run([weight::standardise(narrow, outputs, w, hat, moments, table)]);
        let mut truth = Buffer::<f32>::zeros(p.data.len());
        standardise::forward(Kernel::Plain, packing, &p.data, &mut truth);
        let truth = weight::to_rows(&p, &p.unpack(&truth));
        // Without the padding, which must be zero.
        let strip = |padded_values: &[f32]| -> Vec<f32> {
            let parts = padded_values.chunks(padded).map(|tap| tap.split_at(inputs));
            parts
                .flat_map(|(own, rest)| [own.to_vec(), rest.iter().filter(|v| **v != 0.0).copied().collect()].concat())
                .collect()
        };
        let what = |part: &str| format!("{part} of {outputs} x {inputs} x {taps}, bf16 {narrow}");
        near_rounded(&what("standardised"), &strip(&b.get_map(narrow, hat, rows.hat_len())), &truth, narrow);

        let g = held(narrow, draw(2, outputs * taps * inputs));
        let padded_g: Vec<f32> = g.chunks(inputs).flat_map(|tap| [tap, &vec![0.0; padded - inputs]].concat()).collect();
        let (dhat, dw) = (b.map(narrow, &padded_g), b.f32s(&vec![1.0; g.len()]));
        b.run([weight::standardise_backward(narrow, &rows, w, moments, dhat, dw)]);
        let packed = p.pack(&weight::from_rows(&p, &g));
        let mut truth = p.pack(&vec![1.0; g.len()]);
        standardise::backward(Kernel::Plain, packing, &p.data, &packed, &mut truth);
        near(&what("gradient"), &b.get_f32s(dw, g.len()), &weight::to_rows(&p, &p.unpack(&truth)), 1e-3);
    }
}

/// Max-pool and average, both ways.
pub fn pools(machine: &dyn Machine) {
    for (map, narrow) in maps() {
        let mut b = Bench::new(machine);
        let what = |part: &str| format!("{part} of {map:?}, bf16 {narrow}");
        let out = plain_pool::pooled(map);
        // Mostly negative, so that zeros win at borders.
        let x = held(narrow, draw(1, map.len()).iter().map(|v| v - 0.5).collect());
        let dy = held(narrow, draw(2, out.len()));
        let (at, grad) = (b.map(narrow, &x), b.map(narrow, &dy));
        let (y, dx, winner) = (b.map(narrow, &dy), b.map(narrow, &x), b.room(out.len() as u64));
        b.run([pool::max_pool(narrow, map, at, y, winner), pool::max_pool_backward(narrow, map, grad, winner, dx)]);
        let (mut plain, mut which, mut back) = (vec![0f32; out.len()], vec![0; out.len()], vec![0f32; map.len()]);
        plain_pool::max_pool(Kernel::Plain, &x, map, &mut plain, &mut which);
        plain_pool::max_pool_backward(Kernel::Plain, &dy, &which, map, &mut back);
        assert_eq!(b.raw(winner, out.len()), which, "{}", what("winners"));
        assert_eq!(b.get_map(narrow, y, out.len()), plain, "{}", what("max-pool"));
        near_rounded(&what("max-pool gradient"), &b.get_map(narrow, dx, map.len()), &back, narrow);

        let means = map.n * map.channels;
        let (mean, dmeans) = (b.room(4 * means as u64), draw(3, means));
        let dmean = b.f32s(&dmeans);
        b.run([pool::average(narrow, map, at, mean), pool::average_backward(narrow, map, dmean, dx)]);
        let mut plain = vec![0.0; means];
        plain_pool::average(&x, map, &mut plain);
        near(&what("average"), &b.get_f32s(mean, means), &plain, 1e-5);
        plain_pool::average_backward(&dmeans, map, &mut back);
        near_rounded(&what("average gradient"), &b.get_map(narrow, dx, map.len()), &back, narrow);
    }
    for narrow in [false, true] {
        let mut b = Bench::new(machine);
        let (x, padded) = (held(narrow, draw(1, 7 * 3)), weight::padded(3, narrow));
        let (at, out) = (b.f32s(&x), b.map(narrow, &vec![9.0; 7 * padded]));
        b.run([pool::spread(narrow, 7, padded, at, out)]);
        let found = b.get_map(narrow, out, 7 * padded);
        for (pixel, wanted) in found.chunks(padded).zip(x.chunks(3)) {
            assert!(pixel[..3] == *wanted && pixel[3..].iter().all(|&v| v == 0.0), "{pixel:?}");
        }
    }
}

/// A matrix of so many rows and columns, column by column.
fn turn(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| x[row * columns + column])).collect()
}

/// The head's products and every loss.
pub fn heads(machine: &dyn Machine) {
    // The last by the kernel for many.
    for (rows, columns, inner) in [(1, 1, 1), (5, 3, 700), (33, 17, 40), (515, 501, 530)] {
        let mut b = Bench::new(machine);
        let (x, y, bias) = (draw(1, rows * inner), draw(2, columns * inner), draw(3, columns));
        let (a, w, c) = (b.f32s(&x), b.f32s(&y), b.f32s(&vec![0.0; rows * columns]));
        let (bias_at, sums) = (b.f32s(&bias), b.f32s(&vec![1.0; columns]));
        let turned = Matrix { at: w, row: 1, column: inner };
        let shape = [rows, columns, inner];
        let first = head::product(Matrix::plain(a, inner), turned, bias_at, c, shape, false);
        let wide = matches!(&first, Op::Launch(launch) if launch.kernel == "product_wide");
        assert_eq!(wide, rows > 500, "{shape:?} is made by the other kernel");
        b.run([first]);
        b.run([head::product(Matrix::plain(a, inner), turned, 0, c, shape, true)]);
        b.run([head::column_sums(c, sums, [rows, columns])]);
        let dot = |r: usize, k: usize| -> f64 {
            (0..inner).map(|i| f64::from(x[r * inner + i]) * f64::from(y[k * inner + i])).sum()
        };
        let at = (0..rows).flat_map(|r| (0..columns).map(move |k| (r, k)));
        let wanted: Vec<f32> = at.map(|(r, k)| (2.0 * dot(r, k)) as f32 + bias[k]).collect();
        let found = b.get_f32s(c, rows * columns);
        near("product", &found, &wanted, 1e-4);
        // Its first rows by themselves are made by the kernel for few, and where either side is turned.
        let few = rows.min(9);
        let (turned_x, turned_w) = (b.f32s(&turn(&x, rows, inner)), b.f32s(&turn(&y, columns, inner)));
        let x_turned = Matrix { at: turned_x, row: 1, column: rows };
        for (a, w) in [(Matrix::plain(a, inner), turned), (x_turned, Matrix::plain(turned_w, columns))] {
            for rows in [few, rows] {
                let again = b.f32s(&vec![0.0; rows * columns]);
                b.run([head::product(a, w, bias_at, again, [rows, columns, inner], false)]);
                b.run([head::product(a, w, 0, again, [rows, columns, inner], true)]);
                assert!(b.get_f32s(again, rows * columns) == found[..rows * columns], "{rows} of {shape:?}");
            }
        }
        let column = |k: usize| 1.0 + wanted.iter().skip(k).step_by(columns).sum::<f32>();
        near("column sums", &b.get_f32s(sums, columns), &(0..columns).map(column).collect::<Vec<_>>(), 1e-4);
    }
    let (n, classes) = (3, 300);
    let logits: Vec<f32> = draw(4, n * classes).iter().map(|v| 8.0 * v).collect();
    let soft: Vec<f32> = draw(5, n * classes).iter().map(|v| v.abs()).collect();
    let known: Vec<bool> = draw(6, n * classes).iter().map(|v| *v > 0.0).collect();
    let class = [0i32, 299, 150];
    let targets = [Targets::Class(&class), Targets::Soft(&soft), Targets::MultiSoft { values: &soft, known: &known }];
    for wanted in targets {
        let mut b = Bench::new(machine);
        let scalars = Scalars { scale: 0.25, ..Scalars::default() }.bytes([0.0; 2]);
        let of = Loss {
            logits: b.f32s(&logits),
            scalars: b.bytes(&scalars),
            gradient: b.f32s(&vec![9.0; n * classes]),
            terms: b.room(8 * n as u64),
            loss: b.bytes(&1.5f64.to_le_bytes()),
        };
        let device = match wanted {
            Targets::Class(y) => Wanted::Class(b.bytes(&y.iter().flat_map(|c| c.to_le_bytes()).collect::<Vec<_>>())),
            Targets::Soft(y) => Wanted::Soft(b.f32s(y)),
            _ => Wanted::Multi {
                values: b.f32s(&soft),
                known: b.bytes(&known.iter().map(|&k| u8::from(k)).collect::<Vec<_>>()),
            },
        };
        b.run(head::loss(device, of, n, classes));
        let mut gradient = vec![0.0; n * classes];
        let loss = wanted.loss(&logits, classes, 0.25, &mut gradient);
        let found = f64::from_le_bytes(b.raw(of.loss, 8).try_into().unwrap());
        assert!((found - 1.5 - loss).abs() < 1e-9 * loss, "{found}, expected 1.5 and {loss}");
        near("gradient of the loss", &b.get_f32s(of.gradient, n * classes), &gradient, 1e-5);
    }
}

fn parameters() -> Vec<Parameter> {
    let mut all = vec![
        Parameter::conv("conv.weight".into(), [70, 5, 3, 3]),
        Parameter::conv("head.conv.weight".into(), [4, 300, 1, 1]),
        Parameter::vector("gn.bias".into(), &draw(1, 30)),
        Parameter::vector("frozen.bias".into(), &draw(2, 9)),
    ];
    for (seed, p) in all.iter_mut().enumerate() {
        p.data = p.pack(&draw(10 + seed as u64, p.count()));
        p.gradient = p.pack(&draw(20 + seed as u64, p.count()));
    }
    all
}

/// Updates of all parameters at once, running means, and the loss that is no number.
pub fn updates(machine: &dyn Machine) {
    let lr_factors = vec![("head".to_string(), 10.0)];
    let sgd = SgdAgcOptions { weight_decay: 0.01, frozen: vec!["frozen".into()], lr_factors, ..Default::default() };
    let parts = Parts { frozen: sgd.frozen.clone(), lr_factors: sgd.lr_factors.clone() };
    let adam = AdamWOptions { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, parts };
    let all: [Box<dyn Optimizer>; 3] = [
        Box::new(SgdAgc::new(sgd.clone())),
        Box::new(SgdAgc::new(SgdAgcOptions { clipping: None, nesterov: false, ..sgd })),
        Box::new(AdamW::new(adam)),
    ];
    for mut optimizer in all {
        let mut b = Bench::new(machine);
        let mut parameters = parameters();
        let rule = optimizer.rule();
        let mut starts = Vec::new();
        let mut values: [Vec<f32>; 2] = Default::default();
        for p in &parameters {
            starts.push(values[0].len());
            values[0].extend(weight::to_rows(p, &p.unpack(&p.data)));
            values[1].extend(weight::to_rows(p, &p.unpack(&p.gradient)));
        }
        let len = values[0].len();
        let table = update::table(&rule, &parameters, &starts, 4);
        let zeros = vec![0.0; len];
        let of = Update {
            w: b.f32s(&values[0]),
            gradient: b.f32s(&values[1]),
            state: [b.f32s(&zeros), b.f32s(&zeros)],
            table: b.words(&table),
            stopped: b.words(&[0]),
            scalars: b.room(Scalars::BYTES),
        };
        let (mean, loss, losses) = (b.f32s(&zeros), b.words(&[0]), b.words(&[0; 4]));
        let step = |step: u64, lr: f64| {
            let bytes = Scalars { scale: 1.0, lr, step, updates: step + 1 }.bytes([0.9, 0.99]);
            machine.write(of.scalars, &bytes).unwrap();
            machine.run(&[update::note_loss(loss, losses, of.stopped, of.scalars, 4)]).unwrap();
            machine.run(&update::update(&rule, table.len() / 4, of).into_iter().collect::<Vec<_>>()).unwrap();
        };
        for k in 0..3u32 {
            machine.write(loss, &f64::from(k).to_le_bytes()).unwrap();
            step(k.into(), 0.1 / f64::from(k + 1));
            optimizer.step(Kernel::Plain, &mut parameters, 4, 0.1 / f64::from(k + 1));
        }
        let found = b.get_f32s(of.w, len);
        for (p, &start) in parameters.iter().zip(&starts) {
            let plain = weight::from_rows(p, &found[start..start + p.count()]);
            near(&format!("{} by {rule:?}", p.name), &plain, &p.unpack(&p.data), 1e-4);
        }
        b.run([update::running_mean(of.w, mean, of.stopped, len, 0.25)]);
        near("running mean", &b.get_f32s(mean, len), &found.iter().map(|w| 0.25 * w).collect::<Vec<_>>(), 1e-5);
        b.run([update::exchange(of.w, mean, len)]);
        assert_eq!(b.get_f32s(mean, len), found);
        // A loss that is no number is noted and stops everything.
        let before = b.get_f32s(of.w, len);
        machine.write(loss, &f64::NAN.to_le_bytes()).unwrap();
        step(3, 1.0);
        b.run([update::clear(of.gradient, of.stopped, len)]);
        assert_eq!(b.get_f32s(of.w, len), before);
        assert_eq!(b.get_f32s(of.gradient, len), values[1]);
        let noted: Vec<f64> = b.raw(losses, 32).chunks(8).map(|v| f64::from_le_bytes(v.try_into().unwrap())).collect();
        assert!(noted[..3] == [0.0, 1.0, 2.0] && noted[3].is_nan(), "{noted:?}");
        machine.write(of.stopped, &[0; 8]).unwrap();
        b.run([update::clear(of.gradient, of.stopped, len)]);
        assert_eq!(b.get_f32s(of.gradient, len), zeros);
    }
}

/// The three products of convolutions: stride, padding, one by one, the root's. On the host machine this looks at
/// its stand-in for cuDNN.
pub fn convolutions(machine: &dyn Machine) {
    let cases = [
        (8, 24, 3, 1, 1, [3, 2, 1]),
        (24, 40, 3, 2, 1, [2, 9, 6]),
        (64, 32, 1, 1, 0, [2, 7, 4]),
        (48, 176, 1, 2, 0, [2, 7, 6]),
        (8, 64, 7, 2, 3, [2, 15, 10]),
        (136, 64, 3, 1, 1, [1, 13, 11]),
    ];
    for (inputs, outputs, kernel, stride, pad, [n, height, width]) in cases {
        let conv = Conv { inputs, outputs, kernel, stride, pad };
        let map = Map { n, height, width, channels: inputs };
        let out = conv.output(map);
        for narrow in [false, true] {
            let what = |part: &str| format!("{part} of {conv:?} {map:?}, bf16 {narrow}");
            let (x, dy) = (held(narrow, draw(1, map.len())), held(narrow, draw(2, out.len())));
            let p = Parameter::conv("w".into(), [outputs, inputs, kernel, kernel]);
            let plain_w = held(narrow, draw(3, p.count()));
            let base = held(narrow, draw(4, out.len()));
            let mut b = Bench::new(machine);
            let (x_at, dy_at, y_at) = (b.map(narrow, &x), b.map(narrow, &dy), b.map(narrow, &base));
            let w_at = b.map(narrow, &weight::to_rows(&p, &plain_w));
            let (dx_at, dw_at) = (b.map(narrow, &x), b.map(narrow, &plain_w));
            let op = |pass, x, w, y, add| Op::Convolve(Convolve { pass, conv, map, narrow, x, w, y, add });
            b.run([
                op(Pass::Forward, x_at, w_at, y_at, true),
                op(Pass::InputGradient, dx_at, w_at, dy_at, false),
                op(Pass::WeightGradient, x_at, dw_at, dy_at, false),
            ]);
            let [y, dx, dw] = products(conv, map, &p, [&x, &plain_w, &dy, &base]);
            let sizes = [&x, &plain_w, &dy, &base].map(|values| values.iter().map(|v| v.abs()).collect::<Vec<_>>());
            let sizes = products(conv, map, &p, [&sizes[0], &sizes[1], &sizes[2], &sizes[3]]);
            let taps = kernel * kernel;
            let found = b.get_map(narrow, y_at, out.len());
            near_sums(&what("forward"), &found, &y, &sizes[0], taps * inputs + 1, narrow);
            let found = b.get_map(narrow, dx_at, map.len());
            near_sums(&what("input gradient"), &found, &dx, &sizes[1], taps * outputs, narrow);
            let found = b.get_map(narrow, dw_at, dw.len());
            near_sums(&what("weight gradient"), &found, &dw, &sizes[2], n * out.height * out.width, narrow);
        }
    }
}

/// The processor's three products of x, w and dy, the first added to `base`; weights in the device's order.
fn products(conv: Conv, map: Map, p: &Parameter, [x, w, dy, base]: [&[f32]; 4]) -> [Vec<f32>; 3] {
    let (packing, kernel) = (conv.packing(), Kernel::Plain);
    let w = p.pack(w);
    let mut turned = Buffer::<f32>::zeros(packing.transposed(conv.taps()).len());
    packing.transpose(&w, conv.taps(), &mut turned);
    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; packing.len()]);
    conv.forward(kernel, x, map, &w, Some(base), &mut y);
    conv.input_gradient(kernel, dy, map, &turned, false, &mut dx);
    conv.weight_gradient(kernel, x, map, dy, &mut dw, &mut Workspace::default());
    [y, dx, weight::to_rows(p, &p.unpack(&dw))]
}
