//! Convolutions by cuDNN: NHWC in bfloat16 or f32 with f32 sums, an algorithm for each shape, one workspace.
//!
//! Under [`Options::deterministic`] algorithms are taken from cuDNN's own ranking, and only such as give the same
//! bits every time: the choice then depends on the shape, the GPU and cuDNN's version alone. Otherwise they are timed,
//! and ranked where there is no memory to time them.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cudnn::{CudnnError, result, sys};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use super::device::Options;
use super::op::{Convolve, Pass};
use crate::error::{Error, Result};
use crate::nn::Map;

/// Bytes of workspace that an algorithm may want.
const WORKSPACE: usize = 512 << 20;
/// Algorithms that cuDNN lists at most.
const LISTED: usize = 10;

/// Everything that decides the algorithm.
type Key = (Pass, [usize; 10]);

fn key(c: &Convolve) -> Key {
    let Map { n, height, width, .. } = c.map;
    let k = c.conv;
    let numbers = [k.inputs, k.outputs, k.kernel, k.stride, k.pad, n, height, width, c.narrow.into(), c.add.into()];
    (c.pass, numbers)
}

/// A handle with the algorithms chosen so far.
pub struct Convolutions {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    options: Options,
    chosen: HashMap<Key, Chosen>,
    /// The last is the largest. Recorded graphs hold addresses of earlier ones, which therefore stay.
    workspaces: Vec<CudaSlice<u8>>,
}

// SAFETY: a handle may be used from any thread, by one at a time; `Convolutions` lies behind a lock.
unsafe impl Send for Convolutions {}

/// Descriptors and algorithm of one convolution. They are never destroyed: there is one for each shape.
#[derive(Clone, Copy)]
struct Chosen {
    shape: Shape,
    algorithm: Algorithm,
    workspace: usize,
}

#[derive(Clone, Copy)]
struct Shape {
    x: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    conv: sys::cudnnConvolutionDescriptor_t,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    Input(sys::cudnnConvolutionBwdDataAlgo_t),
    Weight(sys::cudnnConvolutionBwdFilterAlgo_t),
}

fn refused(what: &str) -> impl Fn(CudnnError) -> Error + '_ {
    move |e| Error::invalid(format!("cuDNN: {what}: {e:?}"))
}

impl Convolutions {
    pub fn new(stream: Arc<CudaStream>, options: Options) -> Result<Self> {
        let handle = result::create_handle().map_err(refused("cannot start"))?;
        // SAFETY: the handle was just made; the stream lives as long as this does.
        unsafe { result::set_stream(handle, stream.cu_stream().cast()) }.map_err(refused("stream"))?;
        Ok(Convolutions { handle, stream, options, chosen: HashMap::new(), workspaces: Vec::new() })
    }

    /// Chooses algorithms and makes the workspace large enough for all, so that [`Convolutions::run`] allocates nothing.
    pub fn prepare<'a>(&mut self, all: impl IntoIterator<Item = &'a Convolve>) -> Result<()> {
        let mut wanted = 0;
        for c in all {
            if !self.chosen.contains_key(&key(c)) {
                let shape = shape(c, self.options)?;
                let (algorithm, workspace) = self.choose(c, shape)?;
                self.chosen.insert(key(c), Chosen { shape, algorithm, workspace });
            }
            wanted = wanted.max(self.chosen[&key(c)].workspace);
        }
        // Smaller ones stay: graphs that were captured hold their addresses.
        if wanted > self.workspaces.last().map_or(0, CudaSlice::len) {
            // SAFETY: workspaces hold nothing that is read before it is written.
            let new = unsafe { self.stream.alloc::<u8>(wanted) };
            self.workspaces.push(new.map_err(|e| Error::invalid(format!("a workspace of {wanted} bytes: {e:?}")))?);
        }
        Ok(())
    }

    pub fn run(&mut self, c: &Convolve) -> Result<()> {
        self.prepare([c])?;
        let Chosen { shape: Shape { x, w, y, conv }, algorithm, workspace } = self.chosen[&key(c)];
        let room = self.workspaces.last().map_or(0, |room| room.device_ptr(&self.stream).0) as *mut c_void;
        let (one, base) = (1f32, if c.add { 1f32 } else { 0f32 });
        let (one, base) = ((&raw const one).cast::<c_void>(), (&raw const base).cast::<c_void>());
        let (xp, wp, yp) = (c.x as *mut c_void, c.w as *mut c_void, c.y as *mut c_void);
        let handle = self.handle;
        // SAFETY: descriptors were made for this shape and are never destroyed; the plan gives every buffer the size
        // of its map; the workspace has the bytes that this algorithm wants; scalars are f32, as f32 sums ask for.
        let done = unsafe {
            match algorithm {
                Algorithm::Forward(a) => {
                    result::convolution_forward(handle, one, x, xp, w, wp, conv, a, room, workspace, base, y, yp)
                }
                Algorithm::Input(a) => {
                    result::convolution_backward_data(handle, one, w, wp, y, yp, conv, a, room, workspace, base, x, xp)
                }
                Algorithm::Weight(a) => result::convolution_backward_filter(
                    handle, one, x, xp, y, yp, conv, a, room, workspace, base, w, wp,
                ),
            }
        };
        done.map_err(|e| Error::invalid(format!("cuDNN: {}: {e:?}", told(c))))
    }

    fn choose(&self, c: &Convolve, s: Shape) -> Result<(Algorithm, usize)> {
        let handle = self.handle;
        let deterministic = self.options.deterministic;
        // What cannot be timed, for want of memory beside the plan's, is ranked.
        let ways = if deterministic { &[false][..] } else { &[true, false] };
        /// Lists the candidates of one pass and takes the first that will do.
        macro_rules! ranked {
            ($kind:path, $perf:ty, $rank:path, $time:path, $($argument:expr),*) => {{
                let mut found = None;
                for &timed in ways {
                    // SAFETY: the fields are numbers, for which zeros are valid.
                    let mut list: [$perf; LISTED] = unsafe { std::mem::zeroed() };
                    let (limit, mut count) = (LISTED as i32, 0);
                    // SAFETY: the handle and the descriptors live; the list has room for as many as are asked for.
                    let listed = unsafe {
                        if timed {
                            $time(handle, $($argument),*, limit, &mut count, list.as_mut_ptr()).result()
                        } else {
                            $rank(handle, $($argument),*, limit, &mut count, list.as_mut_ptr()).result()
                        }
                    };
                    match listed {
                        Err(_) if timed => continue,
                        listed => listed.map_err(|e| Error::invalid(format!("cuDNN: {}: {e:?}", told(c))))?,
                    }
                    let fits = |p: &&$perf| {
                        p.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                            && p.memory <= WORKSPACE
                            && (!deterministic || p.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC)
                    };
                    found = list.iter().take(count as usize).find(fits).map(|p| ($kind(p.algo), p.memory, p.mathType));
                    if found.is_some() {
                        break;
                    }
                }
                found
            }};
        }
        let found = match c.pass {
            Pass::Forward => ranked!(
                Algorithm::Forward,
                sys::cudnnConvolutionFwdAlgoPerf_t,
                sys::cudnnGetConvolutionForwardAlgorithm_v7,
                sys::cudnnFindConvolutionForwardAlgorithm,
                s.x,
                s.w,
                s.conv,
                s.y
            ),
            Pass::InputGradient => ranked!(
                Algorithm::Input,
                sys::cudnnConvolutionBwdDataAlgoPerf_t,
                sys::cudnnGetConvolutionBackwardDataAlgorithm_v7,
                sys::cudnnFindConvolutionBackwardDataAlgorithm,
                s.w,
                s.y,
                s.conv,
                s.x
            ),
            Pass::WeightGradient => ranked!(
                Algorithm::Weight,
                sys::cudnnConvolutionBwdFilterAlgoPerf_t,
                sys::cudnnGetConvolutionBackwardFilterAlgorithm_v7,
                sys::cudnnFindConvolutionBackwardFilterAlgorithm,
                s.x,
                s.y,
                s.conv,
                s.w
            ),
        };
        let Some((algorithm, memory, math)) = found else {
            let error = Error::invalid(format!("cuDNN has no algorithm for {}", told(c)));
            return Err(if deterministic {
                error.with_hint("SCALESHOT_CUDA_DETERMINISTIC=0 lets it take others")
            } else {
                error
            });
        };
        // Where cuDNN answers with its default, f32 would be computed as TF32.
        let math = if c.narrow || self.options.tf32 { math } else { sys::cudnnMathType_t::CUDNN_FMA_MATH };
        // SAFETY: the descriptor is this shape's own.
        unsafe { result::set_convolution_math_type(s.conv, math) }.map_err(refused("math type"))?;
        // SAFETY: as above. The list told of the algorithm as it found the descriptor, this is with its math.
        let wanted = unsafe {
            match algorithm {
                Algorithm::Forward(a) => {
                    result::get_convolution_forward_workspace_size(handle, s.x, s.w, s.conv, s.y, a)
                }
                Algorithm::Input(a) => {
                    result::get_convolution_backward_data_workspace_size(handle, s.w, s.y, s.conv, s.x, a)
                }
                Algorithm::Weight(a) => {
                    result::get_convolution_backward_filter_workspace_size(handle, s.x, s.y, s.conv, s.w, a)
                }
            }
        };
        Ok((algorithm, memory.max(wanted.map_err(refused("workspace"))?)))
    }
}

fn told(c: &Convolve) -> String {
    let k = c.conv;
    format!(
        "{} of {} to {} channels, {}x{} stride {}, {} images of {} x {}",
        c.pass.name(),
        k.inputs,
        k.outputs,
        k.kernel,
        k.kernel,
        k.stride,
        c.map.n,
        c.map.height,
        c.map.width
    )
}

/// cuDNN wants dimensions in the order N, C, H, W whatever the format says.
fn dims(map: Map) -> [i32; 4] {
    [map.n, map.channels, map.height, map.width].map(|side| side as i32)
}

fn shape(c: &Convolve, options: Options) -> Result<Shape> {
    use sys::{cudnnConvolutionMode_t as Mode, cudnnDataType_t as Data, cudnnMathType_t as Math};
    let format = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
    let data = if c.narrow { Data::CUDNN_DATA_BFLOAT16 } else { Data::CUDNN_DATA_FLOAT };
    let math = match (c.narrow, options.tf32) {
        (true, _) => Math::CUDNN_TENSOR_OP_MATH,
        (false, true) => Math::CUDNN_DEFAULT_MATH,
        (false, false) => Math::CUDNN_FMA_MATH,
    };
    let k = c.conv;
    let [kernel, stride, pad] = [k.kernel, k.stride, k.pad].map(|n| n as i32);
    let filter = [k.outputs as i32, k.inputs as i32, kernel, kernel];
    let (mode, sums) = (Mode::CUDNN_CROSS_CORRELATION, Data::CUDNN_DATA_FLOAT);
    let make = || -> std::result::Result<Shape, CudnnError> {
        let (x, y) = (result::create_tensor_descriptor()?, result::create_tensor_descriptor()?);
        let (w, conv) = (result::create_filter_descriptor()?, result::create_convolution_descriptor()?);
        // SAFETY: the descriptors were just made.
        unsafe {
            result::set_tensor4d_descriptor(x, format, data, dims(c.map))?;
            result::set_tensor4d_descriptor(y, format, data, dims(k.output(c.map)))?;
            result::set_filter4d_descriptor(w, data, format, filter)?;
            result::set_convolution2d_descriptor(conv, pad, pad, stride, stride, 1, 1, mode, sums)?;
            result::set_convolution_math_type(conv, math)?;
        }
        Ok(Shape { x, w, y, conv })
    };
    make().map_err(|e| Error::invalid(format!("cuDNN: {}: {e:?}", told(c))))
}
