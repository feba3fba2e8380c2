//! What there is of GPUs, and opening one. This is where the feature `cuda` is chosen.

use std::sync::Arc;

use super::op::Machine;
use crate::error::Result;

/// A GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    pub ordinal: u32,
    pub name: String,
    /// `9.0`
    pub capability: String,
    pub memory_bytes: u64,
}

/// A library that is opened at run time.
#[derive(Clone, Debug, PartialEq)]
pub struct Library {
    pub name: &'static str,
    /// What it is for.
    pub what: &'static str,
    pub found: bool,
    /// How to obtain it.
    pub hint: &'static str,
}

/// What `doctor` tells of GPUs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// The program was built with the feature `cuda`.
    pub built: bool,
    /// The newest CUDA that the driver knows.
    pub driver: Option<String>,
    pub cards: Vec<Card>,
    pub libraries: Vec<Library>,
    /// Why no GPU can be used.
    pub problem: Option<String>,
}

#[cfg(not(feature = "cuda"))]
const ABSENT: &str = "this program was built without GPUs";
/// How to build one with them.
#[cfg(not(feature = "cuda"))]
const BUILD: &str = "build it with them: cargo build --release --features cuda (docs/cuda.md)";

#[cfg(feature = "cuda")]
pub fn inventory() -> Inventory {
    super::library::inventory()
}

#[cfg(not(feature = "cuda"))]
pub fn inventory() -> Inventory {
    Inventory { problem: Some(ABSENT.into()), ..Inventory::default() }
}

/// Whether GPUs were built in.
pub const BUILT: bool = cfg!(feature = "cuda");

/// The number of GPUs that can be used.
///
/// # Errors
/// There is none, or the program was built without; the message says why.
#[cfg(feature = "cuda")]
pub fn count() -> Result<u32> {
    super::library::count()
}

/// The number of GPUs that can be used.
///
/// # Errors
/// The program was built without GPUs; the hint says how to build it.
#[cfg(not(feature = "cuda"))]
pub fn count() -> Result<u32> {
    Err(absent())
}

#[cfg(not(feature = "cuda"))]
fn absent() -> crate::error::Error {
    crate::error::Error::invalid(ABSENT).with_hint(BUILD)
}

/// GPU `ordinal`, ready to compute. It is opened once a process.
///
/// # Errors
/// It is not there, a library is missing, or the program was built without GPUs; the hint says what to do.
#[cfg(feature = "cuda")]
pub fn open(ordinal: u32) -> Result<Arc<dyn Machine>> {
    use std::collections::HashMap;
    use std::sync::{Mutex, OnceLock};
    static OPEN: OnceLock<Mutex<HashMap<u32, super::device::Gpu>>> = OnceLock::new();
    let count = count()?;
    if ordinal >= count {
        return Err(crate::error::Error::invalid(format!("there is no cuda:{ordinal}: the driver sees {count} GPUs")));
    }
    let mut open = OPEN.get_or_init(Mutex::default).lock().unwrap_or_else(|e| e.into_inner());
    if let Some(gpu) = open.get(&ordinal) {
        return Ok(Arc::new(gpu.clone()));
    }
    let gpu = super::device::Gpu::open(ordinal)?;
    open.insert(ordinal, gpu.clone());
    Ok(Arc::new(gpu))
}

/// GPU `ordinal` with a queue of its own, beside what the process has opened before: for another rank.
///
/// # Errors
/// As [`open`].
#[cfg(feature = "cuda")]
pub fn open_apart(ordinal: u32) -> Result<Arc<dyn Machine>> {
    Ok(Arc::new(super::device::Gpu::open(ordinal)?))
}

/// GPU `ordinal` for another rank.
///
/// # Errors
/// The program was built without GPUs; the hint says how to build it.
#[cfg(not(feature = "cuda"))]
pub fn open_apart(_ordinal: u32) -> Result<Arc<dyn Machine>> {
    Err(absent())
}

/// GPU `ordinal`, ready to compute.
///
/// # Errors
/// The program was built without GPUs; the hint says how to build it.
#[cfg(not(feature = "cuda"))]
pub fn open(_ordinal: u32) -> Result<Arc<dyn Machine>> {
    Err(absent())
}
