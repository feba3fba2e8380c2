//! A GPU as a machine: one context, a stream that computes, a stream that copies, and graphs of recorded work.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `SCALESHOT_CUDA_DETERMINISTIC` | 0 lets cuDNN take algorithms by time, whatever their order of sums | 1 |
//! | `SCALESHOT_CUDA_TF32` | 1 lets f32 convolutions round their factors to 10 bits | 0 |
//! | `SCALESHOT_CUDA_GRAPHS` | 0 launches recorded work one by one | 1 |
//!
//! The kernels' own sums have a fixed order always.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, Once, RwLock, RwLockReadGuard};

use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, DriverError, PinnedHostSlice,
    result, sys,
};
use cudarc::nvrtc::Ptx;
use rayon::prelude::*;

use super::compile;
use super::convolution::Convolutions;
use super::library;
use super::op::{BLOCK, Launch, Machine, Memory, Op, Recorded};
use super::source;
use crate::error::{Error, Result};

/// What the user may choose between.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub deterministic: bool,
    pub tf32: bool,
    pub graphs: bool,
}

impl Options {
    fn of_environment() -> Self {
        let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
        Options {
            deterministic: !is("SCALESHOT_CUDA_DETERMINISTIC", "0"),
            tf32: is("SCALESHOT_CUDA_TF32", "1"),
            graphs: !is("SCALESHOT_CUDA_GRAPHS", "0"),
        }
    }
}

/// Bytes that the driver takes without waiting, though they are not page-locked.
const TAKEN_AT_ONCE: usize = 32 << 10;

/// A GPU that is ready to compute.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    ordinal: u32,
    options: Options,
    capability: (i32, i32),
    /// Its version decides algorithms, and so last digits.
    cudnn: usize,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    copies: Arc<CudaStream>,
    functions: HashMap<(String, bool), CudaFunction>,
    convolutions: Mutex<Convolutions>,
    staging: Mutex<Staging>,
    /// Held alone while work is recorded: what another thread told the stream meanwhile would be recorded too.
    recording: RwLock<()>,
}

fn failed(what: &str) -> impl Fn(DriverError) -> Error + '_ {
    move |e| Error::invalid(format!("CUDA: {what}: {e:?}"))
}

impl Gpu {
    /// Opens GPU `ordinal`, compiles the kernels or finds them compiled.
    ///
    /// # Errors
    /// A library, the driver or the GPU is missing; the hint says what to install.
    pub fn open(ordinal: u32) -> Result<Self> {
        library::required()?;
        let options = Options::of_environment();
        let context = CudaContext::new(ordinal as usize).map_err(failed(&format!("cuda:{ordinal}")))?;
        // SAFETY: memory is used on one stream; the staging buffers, which two use, have events of their own.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(failed("stream"))?;
        let copies = context.new_stream().map_err(failed("stream"))?;
        let capability = context.compute_capability().map_err(failed("capability"))?;
        if capability < (8, 0) {
            return Err(Error::invalid(format!(
                "cuda:{ordinal} has compute capability {}.{}; bfloat16 needs 8.0",
                capability.0, capability.1
            )));
        }
        let mut functions = HashMap::new();
        for narrow in [false, true] {
            let load = |cubin| context.load_module(Ptx::from_binary(cubin)).map_err(failed("kernels"));
            let module = compile::cubin(narrow, capability, &library::driver(), load)?;
            for kernel in source::kernels(&source::program(narrow)) {
                let function = module.load_function(kernel).map_err(failed(kernel))?;
                functions.insert((kernel.to_string(), narrow), function);
            }
        }
        let convolutions = Mutex::new(Convolutions::new(stream.clone(), options)?);
        let staging = Mutex::new(Staging::default());
        Ok(Gpu(Arc::new(Inner {
            ordinal,
            options,
            capability,
            cudnn: cudarc::cudnn::result::get_version(),
            context,
            stream,
            copies,
            functions,
            convolutions,
            staging,
            recording: RwLock::default(),
        })))
    }

    /// The stream that computes, for what is ordered with it while [`Gpu::turn`] is held.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.0.stream
    }

    /// Keeps work from being recorded, and makes the GPU's context this thread's.
    pub fn turn(&self) -> Result<RwLockReadGuard<'_, ()>> {
        self.0.turn()
    }
}

impl Inner {
    fn turn(&self) -> Result<RwLockReadGuard<'_, ()>> {
        let turn = self.recording.read().unwrap_or_else(|e| e.into_inner());
        self.context.bind_to_thread().map_err(failed("context"))?;
        Ok(turn)
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        let key = (launch.kernel.to_string(), launch.narrow);
        let function = self.functions.get(&key);
        let function = function.ok_or_else(|| Error::invalid(format!("bug: no kernel {}", launch.kernel)))?;
        let [x, y, z] = launch.grid;
        let mut parameters = [launch.words.as_ptr() as *mut c_void];
        let stream = self.stream.cu_stream();
        // SAFETY: a kernel takes one structure of eight-byte fields, which the words are; tests run the same launches
        // on the processor and check their number. Addresses are of planned buffers that live.
        let done = unsafe {
            result::launch_kernel(function.cu_function(), (x, y, z), (BLOCK as u32, 1, 1), 0, stream, &mut parameters)
        };
        done.map_err(failed(launch.kernel))
    }

    /// Launches `ops`, in the caller's turn: cuDNN and copies take the thread's context.
    fn run(&self, ops: &[Op]) -> Result<()> {
        for op in ops {
            match op {
                Op::Launch(launch) => self.launch(launch)?,
                Op::Convolve(c) => self.convolutions.lock().unwrap_or_else(|e| e.into_inner()).run(c)?,
                Op::Copy { from, to, bytes } => {
                    // SAFETY: planned buffers of at least this size that do not overlap.
                    unsafe { result::memcpy_dtod_async(*to, *from, *bytes as usize, self.stream.cu_stream()) }
                        .map_err(failed("copy"))?;
                }
            }
        }
        Ok(())
    }

    /// Records what `ops` launches instead of launching it.
    fn capture(&self, ops: &[Op]) -> Result<CudaGraph> {
        let _alone = self.recording.write().unwrap_or_else(|e| e.into_inner());
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(failed("graph"))?;
        let ran = self.run(ops);
        let flags = sys::CUgraphInstantiate_flags(0);
        let graph = self.stream.end_capture(flags).map_err(failed("graph"));
        ran?;
        graph?.ok_or_else(|| Error::invalid("CUDA: an empty graph"))
    }
}

impl Machine for Gpu {
    fn name(&self) -> String {
        format!("cuda:{}", self.0.ordinal)
    }

    fn family(&self, narrow: bool) -> String {
        let Options { deterministic, tf32, .. } = self.0.options;
        let precision = match (narrow, tf32) {
            (true, _) => "bf16",
            (false, true) => "tf32",
            (false, false) => "f32",
        };
        let order = if deterministic { "" } else { " undetermined" };
        let (major, minor) = self.0.capability;
        format!("cuda sm_{major}{minor} cudnn {} {precision}{order}", self.0.cudnn)
    }

    fn room(&self) -> Result<u64> {
        let _turn = self.0.turn()?;
        self.0.stream.synchronize().map_err(failed("work before"))?;
        self.0.context.mem_get_info().map(|(free, _)| free as u64).map_err(failed("memory"))
    }

    fn allocate(&self, bytes: u64) -> Result<Memory> {
        let _turn = self.0.turn()?;
        let memory = self.0.stream.alloc_zeros::<u8>(bytes.max(1) as usize);
        let memory = memory.map_err(failed(&format!("{bytes} bytes on {}", self.name())))?;
        let start = memory.device_ptr(&self.0.stream).0;
        Ok(Memory::new(start, bytes, Box::new(Held { memory: Some(memory), gpu: self.clone() })))
    }

    fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        // The driver takes little at once; with more it would wait for the stream, and so would the host.
        if bytes.len() > TAKEN_AT_ONCE {
            return self.feed(to, bytes);
        }
        let _turn = self.0.turn()?;
        // SAFETY: memory that is not page-locked is taken before the call returns; the address is the caller's.
        unsafe { result::memcpy_htod_async(to, bytes, self.0.stream.cu_stream()) }.map_err(failed("copy to the GPU"))
    }

    fn feed(&self, to: u64, bytes: &[u8]) -> Result<()> {
        let _turn = self.0.turn()?;
        self.0.staging.lock().unwrap_or_else(|e| e.into_inner()).feed(&self.0, to, bytes)
    }

    fn read(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        let _turn = self.0.turn()?;
        // SAFETY: the bytes are not looked at before the stream has been waited for.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.0.stream.cu_stream()) }
            .map_err(failed("copy from the GPU"))?;
        self.0.stream.synchronize().map_err(failed("work before"))
    }

    fn run(&self, ops: &[Op]) -> Result<()> {
        let _turn = self.0.turn()?;
        self.0.run(ops)
    }

    fn record(&self, ops: Vec<Op>) -> Result<Box<dyn Recorded>> {
        let _turn = self.0.turn()?;
        let mut convolutions = self.0.convolutions.lock().unwrap_or_else(|e| e.into_inner());
        convolutions.prepare(ops.iter().filter_map(|op| if let Op::Convolve(c) = op { Some(c) } else { None }))?;
        Ok(Box::new(Graph { gpu: self.clone(), ops, state: Mutex::new(State::New) }))
    }

    #[cfg(feature = "nccl")]
    fn word(&self) -> Result<Option<Vec<u8>>> {
        super::nccl::word()
    }

    #[cfg(feature = "nccl")]
    fn join(&self, word: &[u8], rank: usize, ranks: usize) -> Result<Box<dyn super::op::Sums>> {
        Ok(Box::new(super::nccl::Communicator::new(self.clone(), word, rank, ranks)?))
    }
}

/// Memory that is freed in turn, behind all that was told before.
struct Held {
    memory: Option<CudaSlice<u8>>,
    gpu: Gpu,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _turn = self.gpu.0.turn();
        self.memory = None;
    }
}

/// Recorded work. It runs once as it is, so that libraries load what they need, then becomes a graph.
struct Graph {
    gpu: Gpu,
    ops: Vec<Op>,
    state: Mutex<State>,
}

enum State {
    New,
    Warm,
    Captured(CudaGraph),
    /// What a library launches could not be captured.
    Refused,
}

impl State {
    fn refused(e: Error) -> Self {
        static SAID: Once = Once::new();
        SAID.call_once(|| eprintln!("note: launching one by one, which is slower: {e}"));
        State::Refused
    }
}

// SAFETY: a graph is used by one thread at a time, behind its lock; it keeps its context alive.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // What still runs must not lose its graph.
        if matches!(self.state.get_mut(), Ok(State::Captured(_))) {
            let _turn = self.gpu.0.turn();
            let _ = self.gpu.0.stream.synchronize();
        }
    }
}

impl Recorded for Graph {
    fn run(&self, _: &dyn Machine) -> Result<()> {
        let inner = &self.gpu.0;
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        if matches!(*state, State::Warm) && inner.options.graphs {
            *state = inner.capture(&self.ops).map_or_else(State::refused, State::Captured);
        }
        let _turn = inner.turn()?;
        match &*state {
            State::Captured(graph) => graph.launch().map_err(failed("graph")),
            State::New => {
                inner.run(&self.ops)?;
                *state = State::Warm;
                Ok(())
            }
            State::Warm | State::Refused => inner.run(&self.ops),
        }
    }
}

/// Two page-locked buffers with a place on the GPU for each, used in turn: one is filled and sent while the computing
/// that reads the other goes on.
#[derive(Default)]
struct Staging {
    slots: [Option<Slot>; 2],
    next: usize,
}

struct Slot {
    host: PinnedHostSlice<u8>,
    device: CudaSlice<u8>,
    /// The bytes have left the host.
    arrived: CudaEvent,
    /// The bytes have been taken to where they are needed.
    taken: CudaEvent,
}

impl Slot {
    fn new(gpu: &Inner, bytes: usize) -> Result<Self> {
        let event = || gpu.context.new_event(None).map_err(failed("event"));
        // SAFETY: both buffers are written before they are read.
        let host = unsafe { gpu.context.alloc_pinned::<u8>(bytes) }.map_err(failed("page-locked memory"))?;
        // SAFETY: as above.
        let device = unsafe { gpu.stream.alloc::<u8>(bytes) }.map_err(failed("a place for inputs"))?;
        // The other stream must not write before the memory is there.
        gpu.stream.synchronize().map_err(failed("work before"))?;
        Ok(Slot { host, device, arrived: event()?, taken: event()? })
    }
}

impl Staging {
    fn feed(&mut self, gpu: &Inner, to: u64, bytes: &[u8]) -> Result<()> {
        let place = &mut self.slots[self.next];
        self.next = 1 - self.next;
        if place.as_ref().is_none_or(|slot| slot.host.len() < bytes.len()) {
            gpu.stream.synchronize().map_err(failed("work before"))?;
            *place = None;
        }
        let slot = match place {
            Some(slot) => slot,
            empty => empty.insert(Slot::new(gpu, bytes.len())?),
        };
        slot.arrived.synchronize().map_err(failed("copy to the GPU"))?;
        let host = slot.host.as_mut_slice().map_err(failed("page-locked memory"))?;
        let host = &mut host[..bytes.len()];
        host.par_chunks_mut(1 << 20).zip(bytes.par_chunks(1 << 20)).for_each(|(to, from)| to.copy_from_slice(from));
        let place = slot.device.device_ptr(&gpu.stream).0;
        gpu.copies.wait(&slot.taken).map_err(failed("event"))?;
        // SAFETY: the page-locked bytes are not touched again before `arrived`, the place on the GPU not before `taken`.
        unsafe { result::memcpy_htod_async(place, host, gpu.copies.cu_stream()) }.map_err(failed("copy to the GPU"))?;
        slot.arrived.record(&gpu.copies).map_err(failed("event"))?;
        gpu.stream.wait(&slot.arrived).map_err(failed("event"))?;
        // SAFETY: the place holds these bytes by then; the target is a planned buffer of at least this size.
        unsafe { result::memcpy_dtod_async(to, place, bytes.len(), gpu.stream.cu_stream()) }.map_err(failed("copy"))?;
        slot.taken.record(&gpu.stream).map_err(failed("event"))
    }
}
