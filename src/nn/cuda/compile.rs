//! The kernels' programs from NVRTC, kept on disk by content, compute capability, driver and compiler.

use std::path::{Path, PathBuf};

use cudarc::nvrtc::{result, sys};

use super::source;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Where compiled programs are kept: `SCALESHOT_CUDA_CACHE`, else the user's cache folder.
fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let own = || Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("scaleshot/cuda"));
    set("SCALESHOT_CUDA_CACHE").or_else(own)
}

/// The cubin of all kernels for a compute capability such as (9, 0), as `load` takes it. What was kept and cannot be
/// loaded is compiled again.
///
/// # Errors
/// NVRTC is missing or refuses the program; its log is in the message. What `load` says of a new one.
pub fn cubin<T>(narrow: bool, capability: (i32, i32), driver: &str, load: impl Fn(Vec<u8>) -> Result<T>) -> Result<T> {
    let program = source::program(narrow);
    let arch = format!("sm_{}{}", capability.0, capability.1);
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers lead to integers of this frame.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result().map_err(refused)?;
    let key = format!("{program}\n{arch} driver {driver} nvrtc {major}.{minor}");
    kept(folder().as_deref(), &key, load, || compile(&program, &arch))
}

/// Takes what a folder keeps under a key, or makes it and keeps it there.
fn kept<T>(
    folder: Option<&Path>,
    key: &str,
    load: impl Fn(Vec<u8>) -> Result<T>,
    make: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<T> {
    let path = folder.map(|folder| folder.join(format!("{}.cubin", Digest::of(key.as_bytes()).hex())));
    if let Some(loaded) = path.as_ref().and_then(|path| load(std::fs::read(path).ok()?).ok()) {
        return Ok(loaded);
    }
    let made = make()?;
    if let Some(path) = path {
        // A cache that cannot be written is no reason to fail.
        let _ = keep(&path, &made);
    }
    load(made)
}

fn keep(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)?;
    let aside = tempfile::NamedTempFile::new_in(folder)?;
    std::fs::write(aside.path(), bytes)?;
    aside.persist(path).map(|_| ()).map_err(|e| e.error)
}

fn refused(e: result::NvrtcError) -> Error {
    Error::invalid(format!("NVRTC: {e:?}"))
}

/// Compiles one program for a real architecture. It needs no GPU.
///
/// # Errors
/// The compiler's log.
pub fn compile(program: &str, arch: &str) -> Result<Vec<u8>> {
    compile_telling(program, arch, &[]).map(|(cubin, _)| cubin)
}

/// The same with more options, and what the compiler said.
fn compile_telling(program: &str, arch: &str, more: &[&str]) -> Result<(Vec<u8>, String)> {
    let text = std::ffi::CString::new(program).map_err(|_| Error::invalid("bug: a program with a zero byte"))?;
    let made = result::create_program(&text, Some(c"scaleshot.cu")).map_err(refused)?;
    // SAFETY: the program was just made and is destroyed below, once; sizes are asked for before buffers are filled.
    unsafe {
        let own = [format!("--gpu-architecture={arch}"), "--std=c++17".to_string()];
        let options: Vec<String> = own.into_iter().chain(more.iter().map(|option| option.to_string())).collect();
        let compiled = result::compile_program(made, &options);
        let log = result::get_program_log(made).unwrap_or_default();
        let log: String = log.iter().map(|&c| char::from(c as u8)).filter(|c| *c != '\0').collect();
        let cubin = match compiled {
            Ok(()) => cubin_of(made),
            Err(e) => Err(Error::invalid(format!("NVRTC: {e:?}\n{}", log.chars().take(4000).collect::<String>()))),
        };
        result::destroy_program(made).map_err(refused)?;
        Ok((cubin?, log))
    }
}

/// # Safety
/// The program was compiled and lives.
unsafe fn cubin_of(program: sys::nvrtcProgram) -> Result<Vec<u8>> {
    let mut size = 0;
    // SAFETY: the caller's promise; the buffer has the size that was just told.
    unsafe {
        sys::nvrtcGetCUBINSize(program, &mut size).result().map_err(refused)?;
        let mut cubin = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()).result().map_err(refused)?;
        Ok(cubin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_compiled_once_for_a_key_and_again_where_it_was_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cache");
        let made = std::cell::Cell::new(0);
        let load = |bytes: Vec<u8>| match bytes.as_slice() {
            [b'c', b'u', n] => Ok(*n),
            _ => Err(Error::invalid("no cubin")),
        };
        let make = || {
            made.set(made.get() + 1);
            Ok(vec![b'c', b'u', made.get()])
        };
        let take = |key: &str| kept(Some(&folder), key, load, make).unwrap();
        assert_eq!((take("a"), take("a"), take("b"), take("a"), take("b")), (1, 1, 2, 1, 2));
        for file in std::fs::read_dir(&folder).unwrap() {
            std::fs::write(file.unwrap().path(), "").unwrap();
        }
        assert_eq!((take("a"), take("a")), (3, 3));
        assert_eq!((kept(None, "a", load, make).unwrap(), made.get()), (4, 4));
        // A folder that cannot be written, and a program that does not load.
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(kept(Some(&dir.path().join("file")), "a", load, make).unwrap(), 5);
        assert!(kept(Some(&folder), "c", load, || Ok(Vec::new())).is_err());
    }

    /// With `SCALESHOT_NVRTC` naming a folder of NVRTC's libraries (on the library path as well), or NVRTC found.
    #[test]
    fn every_kernel_compiles_for_hopper() {
        if !super::super::library::present("nvrtc") {
            assert!(std::env::var_os("SCALESHOT_NVRTC").is_none(), "SCALESHOT_NVRTC is set and NVRTC is not found");
            println!("skipped: NVRTC is not here");
            return;
        }
        for narrow in [false, true] {
            let program = source::program(narrow);
            let told = compile_telling(&program, "sm_90", &["--ptxas-options=-v"]);
            let (cubin, log) = told.unwrap_or_else(|e| panic!("{e}"));
            // The names of kernels stand in the cubin's symbol table.
            let has = |name: &str| cubin.windows(name.len()).any(|w| w == name.as_bytes());
            let kernels = source::kernels(&program);
            assert!(kernels.len() > 20 && kernels.iter().all(|k| has(k)), "{kernels:?}");
            let number = |text: &str, before: &str, after: &str| -> u32 {
                let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("no {before} in {text}"));
                rest.split(after).next().unwrap().trim().parse().unwrap_or_else(|_| panic!("no number in {rest}"))
            };
            for kernel in kernels {
                let told = log.split(&format!("entry function '{kernel}'")).nth(1).unwrap();
                let told = told.split("entry function").next().unwrap();
                let (registers, spilled) =
                    (number(told, "Used", "registers"), number(told, "stack frame,", "bytes spill stores"));
                println!("bf16 {narrow} {kernel}: {registers} registers, {spilled} bytes spilled");
                // Three blocks and more on a multiprocessor of 65,536 registers, two where sums are kept in them;
                // softmax_loss spills 32 bytes by NVRTC 13.0 and 56 by 13.2.
                let (most, most_spilled) = match kernel {
                    "product_wide" => (96, 32),
                    "softmax_loss" => (80, 56),
                    _ => (80, 32),
                };
                let fits = registers <= most && spilled <= most_spilled;
                assert!(fits, "{kernel}: {registers} registers, {spilled} bytes spilled");
            }
        }
        let e = compile("KERNEL", "sm_90").unwrap_err().to_string();
        assert!(e.contains("error"), "{e}");
    }
}
