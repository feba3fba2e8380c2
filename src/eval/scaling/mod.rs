//! Scaling laws: how an error falls with the size of the data, of the model, or of both.
//!
//! | law | error | parameters |
//! |---|---|---|
//! | `power_law` | c + a·n^(−b) | a, b, c |
//! | `pure_power_law` | a·n^(−b) | a, b |
//! | `exponential` | c + a·e^(−b·n) | a, b, c |
//! | `logarithmic` | a − b·ln n | a, b |
//! | `joint` | c + a·n^(−b) + d·m^(−e) (Hoffmann et al. 2022) | a, b, d, e, c |
//! | `pure_joint` | a·n^(−b) + d·m^(−e) | a, b, d, e |
//! | `joint_product` | c + a·n^(−b)·m^(−e) | a, b, e, c |
//!
//! n is the data size, m the model size. Amplitudes and asymptotes are positive: an error is. A law that the points
//! cannot bear is refused with the reason ([`refusal`]), never fitted anyway.
//!
//! | file | what |
//! |---|---|
//! | [`law`] | the laws, their values and derivatives |
//! | [`mod@fit`] | least squares, and Huber's loss of the logarithms, from many starts in a fixed order |
//! | [`refusal`] | when points cannot bear a law, in words |
//! | [`spread`] | bootstrap intervals, and the error on sizes left out |

pub mod fit;
pub mod law;
pub mod refusal;
pub mod spread;

pub use fit::{Fit, Loss, fit};
pub use law::Law;

/// One run: its sizes (1 where the law has no such size) and its error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    pub data: f64,
    pub model: f64,
    pub error: f64,
}
