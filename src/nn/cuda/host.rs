//! The processor as a device, for tests: the kernels' own sources compiled as C, and its own convolutions.
//!
//! It runs what a GPU would run, launch by launch, with the device's blocks, barriers and order of sums. Only the
//! convolutions are not the device's. Memory lies between guards of NaN: what is read beyond a buffer spoils a result,
//! and what is written there ends the test.

use super::op::{Convolve, Launch, Listed, Machine, Memory, Op, Pass, Recorded, Sums};
use super::{source, weight};
use crate::error::{Error, Result};
use crate::nn::buffer::{Buffer, Workspace};
use crate::nn::element::{Bf16, Element};
use crate::nn::kernel;
use crate::nn::parameter::Parameter;
use std::collections::{BTreeSet, HashMap};
use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock};

type Kernel = unsafe extern "C" fn(*const c_void, *const u32);

/// Both programs, and the lock that their coroutines need.
pub struct Host {
    libraries: [Library; 2],
    turn: Mutex<()>,
    /// Bytes that it claims to have.
    pub room: u64,
    /// Of several that can sum among themselves.
    number: Option<usize>,
    /// How often it has.
    pub sums: Arc<AtomicUsize>,
    /// Kernels that ran, and whether for bfloat16.
    pub launched: Mutex<BTreeSet<(&'static str, bool)>>,
}

/// Whose turn comes first between two barriers, and which block.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    Forward,
    Backward,
    Jumping,
}

/// Values on either side of a buffer.
const GUARD: usize = 1024;

struct Guarded {
    memory: Buffer<f32>,
    bytes: usize,
}

impl Guarded {
    fn new(bytes: usize) -> Self {
        let mut memory = Buffer::<f32>::zeros(2 * GUARD + bytes.div_ceil(4));
        // SAFETY: all of the buffer's bytes, as bytes.
        let all = unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<u8>(), 4 * memory.len()) };
        all[..4 * GUARD].fill(0xff);
        all[4 * GUARD + bytes..].fill(0xff);
        Guarded { memory, bytes }
    }

    fn start(&self) -> u64 {
        self.memory.as_ptr() as u64 + 4 * GUARD as u64
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: all of the buffer's bytes, as bytes.
        let all = unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast::<u8>(), 4 * self.memory.len()) };
        let (before, rest) = all.split_at(4 * GUARD);
        let whole = before.iter().chain(&rest[self.bytes..]).all(|&b| b == 0xff);
        assert!(whole || std::thread::panicking(), "something was written beside a buffer of {} bytes", self.bytes);
    }
}

/// Machines of ranks that sum what lies on them.
struct Meeting {
    places: Mutex<Vec<u64>>,
    barrier: Barrier,
}

struct Met {
    meeting: Arc<Meeting>,
    rank: usize,
    sums: Arc<AtomicUsize>,
}

impl Sums for Met {
    fn sum(&self, at: u64, count: usize) -> Result<()> {
        let Meeting { places, barrier } = &*self.meeting;
        places.lock().unwrap()[self.rank] = at;
        barrier.wait();
        let mut sums = vec![0f32; count];
        for &at in places.lock().unwrap().iter() {
            // SAFETY: each rank's own buffer of so many values, to which nobody writes before all have come again.
            let values = unsafe { std::slice::from_raw_parts(at as *const f32, count) };
            sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
        }
        barrier.wait();
        // SAFETY: this rank's own buffer, which nobody reads any more.
        unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), at as *mut f32, count) };
        self.sums.fetch_add(1, Ordering::SeqCst);
        barrier.wait();
        Ok(())
    }
}

struct Library(*mut c_void);

// SAFETY: the handle of an opened library may be used from any thread; it is never closed.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Compiles one program with the system's C compiler, which linking Rust needs anyway.
    fn new(narrow: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (code, library) = (folder.path().join("kernels.c"), folder.path().join("kernels.so"));
        std::fs::write(&code, [include_str!("host.c"), &source::program(narrow)].concat()).unwrap();
        let built = std::process::Command::new("cc")
            .args([
                "-std=gnu11",
                "-O1",
                "-U_FORTIFY_SOURCE",
                "-ffp-contract=off",
                "-fwrapv",
                "-w",
                "-shared",
                "-fPIC",
                "-o",
            ])
            .args([&library, &code])
            .arg("-lm")
            .output()
            .unwrap();
        assert!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
        let path = CString::new(library.to_str().unwrap()).unwrap();
        // SAFETY: a library of plain C without constructors.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "the compiled kernels cannot be loaded");
        Library(handle)
    }

    fn symbol(&self, name: &str) -> *mut c_void {
        let name = CString::new(name).unwrap();
        // SAFETY: the library is open and the name ends with a zero.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!found.is_null(), "there is no kernel {name:?}");
        found
    }
}

impl Host {
    /// The one of this process.
    pub fn get() -> Arc<Host> {
        static HOST: OnceLock<Arc<Host>> = OnceLock::new();
        HOST.get_or_init(|| Arc::new(Host::with_room(1 << 40))).clone()
    }

    /// One of its own that claims to have `room` bytes.
    pub fn with_room(room: u64) -> Host {
        let (libraries, turn) = ([false, true].map(Library::new), Mutex::new(()));
        Host { libraries, turn, room, number: None, sums: Arc::default(), launched: Mutex::default() }
    }

    /// One of its own whose threads and blocks take turns so.
    pub fn in_order(order: Order) -> Host {
        let host = Host::with_room(1 << 40);
        for library in &host.libraries {
            // SAFETY: host.c defines this number, and no kernel runs yet.
            unsafe { *library.symbol("order").cast::<u32>() = order as u32 };
        }
        host
    }

    /// One of several.
    pub fn numbered(number: usize) -> Host {
        Host { number: Some(number), ..Host::with_room(1 << 40) }
    }

    fn launch(&self, launch: &Launch) {
        let library = &self.libraries[usize::from(launch.narrow)];
        // SAFETY: host.c defines this number beside every kernel.
        let words = unsafe { *library.symbol(&format!("{}_words", launch.kernel)).cast::<u32>() };
        assert_eq!(words as usize, launch.words.len(), "words of {}", launch.kernel);
        self.launched.lock().unwrap().insert((launch.kernel, launch.narrow));
        // For the launch alone: convolutions share their threads with whoever else waits for a turn.
        let _turn = self.turn.lock().unwrap_or_else(|e| e.into_inner());
        // SAFETY: host.c gives every kernel this type.
        let kernel: Kernel = unsafe { std::mem::transmute(library.symbol(launch.kernel)) };
        // SAFETY: as many words as the kernel takes; its addresses are the caller's promise, as on a device.
        unsafe { kernel(launch.words.as_ptr().cast(), launch.grid.as_ptr()) }
    }
}

impl Machine for Host {
    fn name(&self) -> String {
        self.number.map_or("host".into(), |number| format!("host:{number}"))
    }

    fn family(&self, narrow: bool) -> String {
        format!("host {}", if narrow { "bf16" } else { "f32" })
    }

    fn room(&self) -> Result<u64> {
        Ok(self.room)
    }

    fn allocate(&self, bytes: u64) -> Result<Memory> {
        if bytes > self.room {
            return Err(Error::invalid("bug: more was asked for than there is"));
        }
        let owner = Guarded::new(bytes as usize);
        Ok(Memory::new(owner.start(), bytes, Box::new(owner)))
    }

    fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: the caller's promise that this memory is its own, as on a device.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    fn read(&self, from: u64, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn run(&self, ops: &[Op]) -> Result<()> {
        for op in ops {
            match op {
                Op::Launch(launch) => self.launch(launch),
                Op::Convolve(c) if c.narrow => convolve::<Bf16>(c),
                Op::Convolve(c) => convolve::<f32>(c),
                // SAFETY: as in `write`; planned buffers do not overlap.
                Op::Copy { from, to, bytes } => unsafe {
                    std::ptr::copy_nonoverlapping(*from as *const u8, *to as *mut u8, *bytes as usize)
                },
            }
        }
        Ok(())
    }

    fn record(&self, ops: Vec<Op>) -> Result<Box<dyn Recorded>> {
        Ok(Box::new(Listed(ops)))
    }

    fn word(&self) -> Result<Option<Vec<u8>>> {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        Ok(self.number.map(|_| LAST.fetch_add(1, Ordering::SeqCst).to_le_bytes().to_vec()))
    }

    fn join(&self, word: &[u8], rank: usize, ranks: usize) -> Result<Box<dyn Sums>> {
        static MEETINGS: Mutex<Option<HashMap<Vec<u8>, Arc<Meeting>>>> = Mutex::new(None);
        let meeting = || Arc::new(Meeting { places: Mutex::new(vec![0; ranks]), barrier: Barrier::new(ranks) });
        let mut meetings = MEETINGS.lock().unwrap();
        let meeting = meetings.get_or_insert_default().entry(word.to_vec()).or_insert_with(meeting).clone();
        Ok(Box::new(Met { meeting, rank, sums: self.sums.clone() }))
    }
}

/// One of the three products by the processor's own operators, in f32.
fn convolve<T: Element>(c: &Convolve) {
    let (conv, map, out, kernel) = (c.conv, c.map, c.conv.output(c.map), kernel::chosen());
    let shape = [conv.outputs, conv.inputs, conv.kernel, conv.kernel];
    let p = Parameter::conv(String::new(), shape);
    let view = |at: u64, count: usize| -> Vec<f32> {
        // SAFETY: the plan gives every buffer the size of its map, and what is there is initialised.
        let values = unsafe { std::slice::from_raw_parts(at as *const T, count) };
        values.iter().map(|v| v.wide()).collect()
    };
    let store = |at: u64, values: &[f32]| {
        // SAFETY: as above; nothing else borrows the result.
        let result = unsafe { std::slice::from_raw_parts_mut(at as *mut T, values.len()) };
        for (r, &sum) in result.iter_mut().zip(values) {
            *r = T::narrow(if c.add { r.wide() + sum } else { sum });
        }
    };
    let weights = || p.pack(&weight::from_rows(&p, &view(c.w, p.count())));
    match c.pass {
        Pass::Forward => {
            let mut y = vec![0.0; out.len()];
            conv.forward(kernel, &view(c.x, map.len()), map, &weights(), None, &mut y);
            store(c.y, &y);
        }
        Pass::InputGradient => {
            let mut turned = Buffer::zeros(conv.packing().transposed(conv.taps()).len());
            conv.packing().transpose(&weights(), conv.taps(), &mut turned);
            let mut dx = vec![0.0; map.len()];
            conv.input_gradient(kernel, &view(c.y, out.len()), map, &turned, false, &mut dx);
            store(c.x, &dx);
        }
        Pass::WeightGradient => {
            let mut dw = Buffer::zeros(conv.packing().len());
            let (x, dy) = (view(c.x, map.len()), view(c.y, out.len()));
            conv.weight_gradient(kernel, &x, map, &dy, &mut dw, &mut Workspace::default());
            store(c.w, &weight::to_rows(&p, &p.unpack(&dw)));
        }
    }
}
