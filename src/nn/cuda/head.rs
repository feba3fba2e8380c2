//! Launches of the head's linear layer and of the losses; the kernels are in `source/head.cu`.

use super::op::{Launch, Op};

/// Rows and columns that a block makes, and those that it makes where there are enough for so many blocks: by then
/// most of a GPU has work, and fewer reads from shared memory go with a product.
const TILE: usize = 16;
const WIDE: usize = 64;
const MANY: usize = 64;

/// A matrix in memory: where it begins, and values from one row and one column to the next.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    pub at: u64,
    pub row: usize,
    pub column: usize,
}

impl Matrix {
    /// Rows of `columns` values.
    pub fn plain(at: u64, columns: usize) -> Self {
        Matrix { at, row: columns, column: 1 }
    }
}

/// `c = a b`, with the bias of each column where it is not 0, or added to what c holds. `shape` is (rows, columns,
/// inner) of c and of the product. Which kernel makes it changes no bit of it.
pub fn product(a: Matrix, b: Matrix, bias: u64, c: u64, shape: [usize; 3], add: bool) -> Op {
    let [rows, columns, _] = shape;
    let grid = |tile: usize| [columns.div_ceil(tile), rows.div_ceil(tile), 1];
    let many = grid(WIDE).iter().product::<usize>() >= MANY;
    let launch =
        if many { Launch::new("product_wide", false, grid(WIDE)) } else { Launch::new("product", false, grid(TILE)) };
    launch.at([a.at, b.at, bias, c]).counts(shape).counts([a.row, a.column, b.row, b.column, usize::from(add)]).into()
}

/// Adds the sums of the columns of `x` to `sums`.
pub fn column_sums(x: u64, sums: u64, [rows, columns]: [usize; 2]) -> Op {
    Launch::over("column_sums", false, columns).at([x, sums]).counts([rows, columns]).into()
}

/// What the logits should say, on the device.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// A class index, i32, for each example.
    Class(u64),
    /// Class probabilities, f32.
    Soft(u64),
    /// Probabilities of labels, f32, and a byte for each that says whether it is known.
    Multi { values: u64, known: u64 },
}

/// Addresses of what a loss reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    pub logits: u64,
    /// Of the step, see [`super::update::Scalars`].
    pub scalars: u64,
    pub gradient: u64,
    /// f64, one an example.
    pub terms: u64,
    /// The loss of the step so far, f64.
    pub loss: u64,
}

/// Gradient of the scaled loss of `n` examples, and its value added to the step's.
pub fn loss(wanted: Wanted, l: Loss, n: usize, classes: usize) -> [Op; 2] {
    let launch = |kernel| Launch::new(kernel, false, [n, 1, 1]);
    let out = [l.scalars, l.gradient, l.terms];
    let terms = match wanted {
        Wanted::Class(y) => launch("softmax_loss").at([l.logits, y, 0]).at(out),
        Wanted::Soft(y) => launch("softmax_loss").at([l.logits, 0, y]).at(out),
        Wanted::Multi { values, known } => launch("sigmoid_loss").at([l.logits, values, known]).at(out),
    };
    let sum = Launch::new("add_loss", false, [1, 1, 1]).at([l.terms, l.scalars, l.loss]).counts([n]);
    [terms.counts([classes]).into(), sum.into()]
}
