//! A reader whose bytes are made ahead by a thread of its own: a file is unpacked while what came before is read.

use std::{
    io::{Error, Read, Result},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use crate::thread;

/// Bytes made at once, and how many such blocks wait at most.
const BLOCK: usize = 1 << 18;
const WAITING: usize = 2;

/// Ends its thread where it is dropped before the end.
pub(super) struct Ahead {
    made: Receiver<Result<Vec<u8>>>,
    block: Vec<u8>,
    at: usize,
    over: bool,
    /// Processor time of the thread, in nanoseconds.
    took_ns: Arc<AtomicU64>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        thread::count(Duration::from_nanos(self.took_ns.load(Ordering::Relaxed)));
    }
}

impl Ahead {
    /// The same bytes, and the same error after them. Where there is but one thread, or no further one is to be had,
    /// they are made as they are asked for.
    pub(super) fn of(reader: impl Read + Send + 'static) -> Box<dyn Read> {
        if rayon::current_num_threads() < 2 {
            return Box::new(reader);
        }
        let (out, made) = sync_channel(WAITING);
        // Handed over once there is a thread to take it.
        let (give, take) = sync_channel(1);
        let took_ns = Arc::new(AtomicU64::new(0));
        let tell = took_ns.clone();
        let work = move || {
            if let Ok(reader) = take.recv() {
                make(reader, &out, &tell);
            }
        };
        if std::thread::Builder::new().name("unpack".into()).spawn(work).is_err() {
            return Box::new(reader);
        }
        // The thread waits for it.
        let _ = give.send(reader);
        Box::new(Ahead { made, block: Vec::new(), at: 0, over: false, took_ns })
    }
}

/// Sends blocks until the end, which is an empty one, an error, or nobody listens.
fn make(mut reader: impl Read, out: &SyncSender<Result<Vec<u8>>>, took_ns: &AtomicU64) {
    loop {
        let mut block = Vec::with_capacity(BLOCK);
        let read = reader.by_ref().take(BLOCK as u64).read_to_end(&mut block);
        let over = block.is_empty() || read.is_err();
        // Before it is handed over: whoever has the last block drops the reader.
        took_ns.store(thread::cpu().unwrap_or_default().as_nanos() as u64, Ordering::Relaxed);
        // What came before an error is read first.
        if (!block.is_empty() || read.is_ok()) && out.send(Ok(block)).is_err() {
            return;
        }
        if let Err(e) = read {
            let _ = out.send(Err(e));
        }
        if over {
            return;
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.at == self.block.len() && !self.over {
            self.block = self.made.recv().map_err(|_| Error::other("the thread that unpacks has ended"))??;
            (self.at, self.over) = (0, self.block.is_empty());
        }
        let n = out.len().min(self.block.len() - self.at);
        out[..n].copy_from_slice(&self.block[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_threads<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap().install(run)
    }

    #[test]
    fn bytes_come_in_order_and_then_the_error() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 17).map(|i| (i / 7) as u8).collect();
        let source = bytes.clone();
        let read = move || {
            let mut back = Vec::new();
            Ahead::of(std::io::Cursor::new(source)).read_to_end(&mut back).map(|_| back)
        };
        assert_eq!(two_threads(read).unwrap(), bytes);
        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> Result<usize> {
                Err(Error::other("broken"))
            }
        }
        let read = || {
            let mut back = Vec::new();
            let e = Ahead::of((&b"abc"[..]).chain(Breaks)).read_to_end(&mut back).unwrap_err();
            (back, e.to_string())
        };
        assert_eq!(two_threads(read), (b"abc".to_vec(), "broken".to_string()));
    }

    #[test]
    fn a_reader_that_is_dropped_ends_its_thread() {
        struct Endless(std::sync::Arc<()>);
        impl Read for Endless {
            fn read(&mut self, out: &mut [u8]) -> Result<usize> {
                let _ = &self.0;
                out.fill(0);
                Ok(out.len())
            }
        }
        let alive = std::sync::Arc::new(());
        let source = Endless(alive.clone());
        two_threads(move || Ahead::of(source).read_exact(&mut [0; 10])).unwrap();
        for _ in 0..500 {
            if std::sync::Arc::strong_count(&alive) == 1 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the thread goes on");
    }
}
