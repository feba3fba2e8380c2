//! Random numbers: a counter-based stream of our own, and the generators of NumPy and PyTorch
//! where the published study drew with them.

mod mt19937;
pub mod numpy;
pub mod pcg64;
pub mod stream;
pub mod torch;
