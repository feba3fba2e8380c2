//! Random numbers: a counter-based stream of our own, and the generators of NumPy and PyTorch
//! where the published study drew with them.

pub mod stream;
