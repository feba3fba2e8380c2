//! Which of NVIDIA's libraries are here. They are opened when they are first needed.

use cudarc::driver::{CudaContext, sys};

use super::inventory::{Card, Inventory, Library};
use crate::error::{Error, Result};

/// Library, what it is for, and how to obtain it.
const LIBRARIES: [(&str, &str, &str); 4] = [
    ("cuda", "the driver", "install NVIDIA's driver, 580 or newer for CUDA 13"),
    ("nvrtc", "compiles the kernels", "pip install nvidia-cuda-nvrtc, and put its lib folder on LD_LIBRARY_PATH"),
    ("cudnn", "convolutions", "pip install nvidia-cudnn-cu13, and put its lib folder on LD_LIBRARY_PATH"),
    ("nccl", "several GPUs", "pip install nvidia-nccl-cu13; the program looks for libnccl.so"),
];

/// Whether a library can be opened.
pub fn present(name: &str) -> bool {
    // SAFETY: opening these libraries runs nothing but their own initialisation.
    unsafe {
        match name {
            "cuda" => sys::is_culib_present(),
            "nvrtc" => cudarc::nvrtc::sys::is_culib_present(),
            "cudnn" => cudarc::cudnn::sys::is_culib_present(),
            #[cfg(feature = "nccl")]
            "nccl" => cudarc::nccl::sys::is_culib_present(),
            _ => false,
        }
    }
}

/// An error that names the first library that computing cannot do without.
pub fn required() -> Result<()> {
    match LIBRARIES.iter().take(3).find(|(name, ..)| !present(name)) {
        Some((name, what, hint)) => Err(Error::invalid(format!("lib{name} is not found: {what}")).with_hint(*hint)),
        None => Ok(()),
    }
}

/// The driver's own version where the kernel tells it, such as 580.95.05, and the newest CUDA that it knows; empty
/// without a driver.
pub fn driver() -> String {
    let own = std::fs::read_to_string("/sys/module/nvidia/version").unwrap_or_default();
    let cuda = match cuda_version() {
        0 => return String::new(),
        version => format!("CUDA {}.{}", version / 1000, version % 1000 / 10),
    };
    if own.trim().is_empty() { cuda } else { format!("{}, {cuda}", own.trim()) }
}

/// The driver's newest CUDA, as 13000 for 13.0; 0 without a driver.
fn cuda_version() -> i32 {
    let mut version = 0;
    if present("cuda") {
        // SAFETY: the pointer leads to an integer of this frame. What fails leaves 0.
        let _ = unsafe { sys::cuDriverGetVersion(&mut version) };
    }
    version
}

/// The number of GPUs, or why there is none that can be computed on.
pub fn count() -> Result<u32> {
    required()?;
    seen()
}

/// The number of GPUs that the driver sees, whatever else is missing.
fn seen() -> Result<u32> {
    if !present("cuda") {
        required()?;
    }
    let count = cudarc::driver::result::init().and_then(|()| CudaContext::device_count());
    match count {
        Ok(count) if count > 0 => Ok(count as u32),
        Ok(_) => Err(Error::invalid("the driver sees no GPU")),
        Err(e) => Err(Error::invalid(format!("the driver sees no GPU: {e:?}"))),
    }
}

/// All of it, for `doctor`.
pub fn inventory() -> Inventory {
    let known = LIBRARIES.iter().filter(|(name, ..)| *name != "nccl" || cfg!(feature = "nccl"));
    let libraries = known.map(|(name, what, hint)| Library { name, what, found: present(name), hint }).collect();
    let cards: Vec<Card> = seen().map_or(Vec::new(), |count| (0..count).filter_map(card).collect());
    let driver = driver();
    Inventory {
        built: true,
        driver: (!driver.is_empty()).then_some(driver),
        problem: count().err().map(|e| e.to_string()),
        cards,
        libraries,
    }
}

fn card(ordinal: u32) -> Option<Card> {
    let context = CudaContext::new(ordinal as usize).ok()?;
    let (major, minor) = context.compute_capability().ok()?;
    Some(Card {
        ordinal,
        name: context.name().ok()?,
        capability: format!("{major}.{minor}"),
        memory_bytes: context.total_mem().ok()? as u64,
    })
}
