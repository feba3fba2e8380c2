//! Processor time of threads, where that of a thread that worked for another counts as the other's.
//!
//! Read from Linux's `/proc`; where that is absent there is no figure.

use std::{cell::Cell, time::Duration};

/// Stack of a thread that computes: query engines recurse deeply.
pub const STACK_BYTES: usize = 16 << 20;

thread_local! {
    /// Of threads that worked for this one: see [`apart`] and [`count`].
    static JOINED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Processor time that the calling thread has used, and those that worked for it.
pub fn cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?) + JOINED.get())
}

/// Counts time of a thread that worked for the calling one as the caller's.
pub fn count(time: Duration) {
    JOINED.set(JOINED.get() + time);
}

/// Does the work on a new thread, which is in no pool, while the caller waits. A panic goes on in the caller.
///
/// # Errors
/// The system starts no thread.
pub fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("apart".into()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, || (work(), cpu()))?.join() {
            Ok((made, took)) => {
                count(took.unwrap_or_default());
                Ok(made)
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn busy(time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            std::hint::black_box(0);
        }
    }

    #[test]
    fn time_of_work_apart_is_the_callers() {
        let Some(before) = cpu() else { return };
        // Both threads would have to be kept from the processor for all this time to show nothing.
        apart(|| apart(|| busy(Duration::from_millis(200))).unwrap()).unwrap();
        assert!(cpu().unwrap() - before > Duration::from_millis(20));
        assert_eq!(apart(rayon::current_thread_index).unwrap(), None);
    }

    #[test]
    fn a_panic_goes_on_in_the_caller() {
        let caught = std::panic::catch_unwind(|| apart(|| panic!("of the work")));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"of the work"));
    }
}
