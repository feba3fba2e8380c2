//! The inner loops, in one family for each kind of CPU, and which family is used here.
//!
//! | name | needs | vectors |
//! |---|---|---|
//! | `avx512` | AVX-512 F, BW, DQ, VL | 16 f32 |
//! | `avx2` | AVX2 and FMA | 8 f32 |
//! | `avx512`, bfloat16 | AVX512_BF16 too; plain loops otherwise | 16 pairs |
//! | `amx` | AMX for bfloat16, and all of the above | tiles of 16x16 pairs; else as `avx512` |
//! | `plain` | nothing | what the compiler makes of it |
//!
//! `SCALESHOT_KERNEL` overrides the choice. Families agree to rounding; within one, results are
//! the same bytes on any number of threads.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;
mod plain;

use super::element::Bf16;

use std::sync::OnceLock;

/// A family of inner loops that this CPU can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// As `Avx512`, with bfloat16 in tiles.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Kernel {
    /// The families that this CPU can run, best first.
    pub fn available() -> Vec<Kernel> {
        let mut families = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let half = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if wide && half {
                if amx::usable() == Ok(true) {
                    families.push(Kernel::Amx);
                }
                families.push(Kernel::Avx512);
            }
            if half {
                families.push(Kernel::Avx2);
            }
        }
        families.push(Kernel::Plain);
        families
    }

    pub fn name(self) -> &'static str {
        match self {
            Kernel::Plain => "plain",
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx => "amx",
        }
    }
}

struct Choice {
    kernel: Kernel,
    note: Option<String>,
}

fn choice() -> &'static Choice {
    static CHOICE: OnceLock<Choice> = OnceLock::new();
    CHOICE.get_or_init(|| choose(std::env::var("SCALESHOT_KERNEL").ok().as_deref()))
}

fn choose(wanted: Option<&str>) -> Choice {
    let available = Kernel::available();
    let best = available[0];
    match wanted.filter(|w| !w.is_empty()) {
        None if best == Kernel::Plain => Choice {
            kernel: best,
            note: Some("this CPU has no AVX2: training uses the plain kernel and is slow".into()),
        },
        None => Choice { kernel: best, note: distrust() },
        Some(wanted) => match available.iter().find(|k| k.name() == wanted) {
            Some(&kernel) => Choice { kernel, note: None },
            None => {
                let names: Vec<_> = available.iter().map(|k| k.name()).collect();
                let note = format!(
                    "SCALESHOT_KERNEL={wanted} cannot run here (known: {}); using {}",
                    names.join(", "),
                    best.name()
                );
                Choice { kernel: best, note: Some(note) }
            }
        },
    }
}

/// Why a family that the CPU has is not used, if so.
fn distrust() -> Option<String> {
    #[cfg(target_arch = "x86_64")]
    return amx::usable().err().map(str::to_string);
    #[cfg(not(target_arch = "x86_64"))]
    None
}

/// The family that this process uses.
pub fn chosen() -> Kernel {
    choice().kernel
}

/// Its name, as in records and `doctor`.
pub fn name() -> &'static str {
    chosen().name()
}

/// What a user should hear once about the choice, if anything.
pub fn note() -> Option<&'static str> {
    choice().note.as_deref()
}

/// `out[r] = base[r] + sum over taps t and channels c of inputs[t][r][channel + c] * weights[t][c]`,
/// for `rows` pixels and the `width` outputs of one panel.
pub struct Panel<'a, T = f32> {
    /// Where each tap of each pixel reads: `[tap][pitch]`.
    pub inputs: &'a [*const T],
    /// Pointers from one tap to the next in `inputs`; `rows` of them are used.
    pub pitch: usize,
    pub rows: usize,
    /// Where each tap's weights begin: `[channels][stride]`. As many as there are taps.
    pub weights: &'a [*const T],
    /// First channel of the inputs that is read; `weights` begin at it.
    pub channel: usize,
    pub channels: usize,
    /// Values from one channel's weights to the next's; a multiple of 16, at most 64.
    pub stride: usize,
    /// Outputs that are written, at most `stride` and more than `stride - 16`.
    pub width: usize,
    pub out: *mut f32,
    /// Added to the sum; null for zero. May equal `out`.
    pub base: *const f32,
    /// Where each pixel's outputs lie from `out` and from `base`.
    pub places: &'a [u32],
}

/// # Safety
/// Every pointer of `job` must be good for what its field says, `out` for writing and not shared.
/// The CPU must have the features of `kernel`, which [`Kernel::available`] sees to.
pub(crate) unsafe fn panel(kernel: Kernel, job: &Panel<'_>) {
    debug_assert!(job.inputs.len() >= (job.weights.len().max(1) - 1) * job.pitch + job.rows);
    debug_assert!(job.places.len() >= job.rows);
    // SAFETY: the caller's promise.
    unsafe {
        match kernel {
            Kernel::Plain => plain::panel(job),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => avx2::panel(job),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 | Kernel::Amx => avx512::panel(job),
        }
    }
}

/// As [`panel`] for bfloat16: weights lie in pairs, `[channels / 2][stride][2]`; `channel` and
/// `channels` are even.
///
/// # Safety
/// As for [`panel`].
pub(crate) unsafe fn pair_panel(kernel: Kernel, job: &Panel<'_, Bf16>) {
    debug_assert!(job.channel.is_multiple_of(2) && job.channels.is_multiple_of(2));
    // SAFETY: the caller's promise.
    unsafe {
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Amx => amx::pair_panel(job),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 if has_bf16() => avx512bf16::panel(job),
            _ => plain::pair_panel(kernel, job),
        }
    }
}

/// `sums[c] += sum over pixels p of x[p][c] * y[p]` for `channels` channels and one panel. For
/// bfloat16 a factor holds two pixels, the earlier one in its lower half, and both are multiplied.
pub struct Outer<'a, F> {
    /// `[pixels][channels]`, or pairs of pixels.
    pub x: &'a [F],
    /// `[pixels][stride]`, or pairs of pixels.
    pub y: &'a [F],
    pub channels: usize,
    /// `[channels][stride]`
    pub sums: &'a mut [f32],
    /// A multiple of 16, at most 64.
    pub stride: usize,
    /// Addresses of what will be read soon, one for each pixel, and the bytes at each: a kernel may
    /// have the CPU fetch them meanwhile.
    pub ahead: [(&'a [usize], usize); 2],
}

impl<F> Outer<'_, F> {
    /// The addresses that tile number `tile` fetches, one a pixel, and how far behind each.
    #[cfg(target_arch = "x86_64")]
    fn ahead(&self, tile: usize) -> (&[usize], usize) {
        let mut line = tile;
        for (addresses, bytes) in self.ahead {
            // A line of the cache more than the bytes fill, as they seldom begin with one.
            let lines = bytes.div_ceil(64) + 1;
            if line < lines {
                return (addresses, 64 * line);
            }
            line -= lines;
        }
        (&[], 0)
    }
}

impl<F> Outer<'_, F> {
    /// Kernels rely on these lengths.
    fn check(&self) {
        assert!(matches!(self.stride, 16 | 32 | 48 | 64), "bug: panels {} wide", self.stride);
        assert_eq!(self.x.len() * self.stride, self.y.len() * self.channels, "bug: pixels");
        assert_eq!(self.sums.len(), self.channels * self.stride, "bug: sums");
    }
}

pub(crate) fn outer(kernel: Kernel, job: &mut Outer<'_, f32>) {
    job.check();
    match kernel {
        Kernel::Plain => plain::outer(job),
        // SAFETY: a family is only ever made where the CPU has its features, and the lengths were checked.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => unsafe { avx2::outer(job) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 | Kernel::Amx => unsafe { avx512::outer(job) },
    }
}

pub(crate) fn pair_outer(kernel: Kernel, job: &mut Outer<'_, u32>) {
    job.check();
    match kernel {
        // SAFETY: the CPU has the features, and the lengths were checked.
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512 | Kernel::Amx if has_bf16() => unsafe { avx512bf16::outer(job) },
        _ => plain::pair_outer(kernel, job),
    }
}

/// Whether the CPU multiplies pairs of bfloat16 (`vdpbf16ps`).
pub fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Compiles a function once for each family, so that its plain loops use that family's vectors,
/// and gives it a first argument that says which to run. All versions give the same bytes: the
/// compiler neither reorders nor fuses floating-point operations.
macro_rules! versions {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$t:ident: $bound:ident>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$t: $bound>)? (kernel: $crate::nn::kernel::Kernel, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body $(<$t: $bound>)? ($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx512 $(<$t: $bound>)? ($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2 $(<$t: $bound>)? ($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            match kernel {
                $crate::nn::kernel::Kernel::Plain => body($($arg),*),
                // SAFETY: a family is only ever made where the CPU has its features.
                #[cfg(target_arch = "x86_64")]
                $crate::nn::kernel::Kernel::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::nn::kernel::Kernel::Avx512 | $crate::nn::kernel::Kernel::Amx => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use versions;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_family_falls_back_and_says_so() {
        let choice = choose(Some("neon"));
        assert_eq!(choice.kernel, Kernel::available()[0]);
        assert!(choice.note.unwrap().contains("neon"));
        assert_eq!(choose(Some("plain")).kernel, Kernel::Plain);
        assert!(choose(Some("plain")).note.is_none());
    }
}
