//! One rank of a cell, as a launcher starts it.

use std::{
    io::{BufRead, Write},
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{
    super::{
        executor::{Means, Task, compute},
        meter::Meter,
    },
    STOP, Told,
};
use crate::{
    digest::Digest,
    error::{Error, Result},
    kind,
    progress::{Cancel, Progress, Silent},
    store::{Store, source::SourceIndex},
    train::collective::Collective,
};

/// Computes the part of one rank in a saved task. Rank 0 tells on stdout how it goes and ends.
///
/// # Errors
/// Why this rank cannot go on; the others have to be ended then. A training that was stopped is no error.
pub fn run(store: &Store, key: &Digest, threads: usize, collective: &dyn Collective) -> Result<()> {
    let cancel = Cancel::default();
    let first = collective.rank() == 0;
    let telling = Telling::default();
    if first {
        stop_on_word(&cancel)?;
    }
    let progress: &dyn Progress = if first { &telling } else { &Silent };
    match work(store, key, threads, collective, progress, &cancel) {
        Ok(made) if first => telling.tell(&Told::Done(Box::new(made))),
        Err(Error::Interrupted) if first => telling.tell(&Told::Stopped),
        Ok(_) | Err(Error::Interrupted) => {}
        Err(e) => {
            if first {
                telling.tell(&Told::Failed { error: e.to_string(), hint: e.hint().map(Into::into) });
            }
            return Err(e);
        }
    }
    Ok(())
}

fn work(
    store: &Store,
    key: &Digest,
    threads: usize,
    collective: &dyn Collective,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<super::Made> {
    let task: Task = store.task(key)?.ok_or_else(|| Error::store(format!("no task {}", key.short())))?;
    let kind = kind::find(&task.kind)
        .filter(|kind| kind.version() == task.kind_version)
        .ok_or_else(|| Error::invalid(format!("this program has no kind {} {}", task.kind, task.kind_version)))?;
    let sources = SourceIndex::open(store)?;
    let _live = store.live()?;
    // Content is found by digest only once its folder has been looked at in this process.
    for source in kind.sources(&task.params)? {
        sources.digest_tree(&source.path)?;
    }
    let means = Means { store, sources: &sources, progress, cancel, threads, gpus: &[], collective };
    let meter = Meter::start();
    let mut made = compute(kind, &task, &means)?;
    // Of all ranks; the sum is also what they wait for each other by.
    let mut cpu_ms = [made.cpu_ms.unwrap_or_default() as f64];
    collective.all_reduce_f64(&mut cpu_ms)?;
    made.cpu_ms = made.cpu_ms.map(|_| cpu_ms[0] as u64);
    made.peak_rss_bytes = made.peak_rss_bytes.max(meter.stop().peak_rss_bytes.unwrap_or_default());
    Ok(made)
}

/// Requests `cancel` when stdin says so or ends. Signals are left alone: a launcher that is told to end passes them
/// on to all ranks, while the word to stop comes to the first one alone and is agreed on with the others.
fn stop_on_word(cancel: &Cancel) -> Result<()> {
    let cancel = cancel.clone();
    let listen = move || {
        let mut line = String::new();
        let mut stdin = std::io::stdin().lock();
        while stdin.read_line(&mut line).is_ok_and(|n| n > 0) && line.trim() != STOP {
            line.clear();
        }
        cancel.request();
    };
    let refused = |e| Error::invalid(format!("cannot start a thread: {e}"));
    std::thread::Builder::new().name("stdin".into()).spawn(listen).map(drop).map_err(refused)
}

/// Writes lines for the process that started the ranks, progress a few times a second at most.
struct Telling(Mutex<(u64, Instant)>);

/// Between two lines of progress.
const EVERY: Duration = Duration::from_millis(100);

impl Default for Telling {
    fn default() -> Self {
        Telling(Mutex::new((0, Instant::now())))
    }
}

impl Telling {
    fn tell(&self, told: &Told) {
        let mut line = serde_json::to_vec(told).unwrap_or_default();
        line.push(b'\n');
        // Nobody listens any more: the word to stop comes the same way, by a closed stdin.
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }

    fn hand_over(&self) {
        let waiting = std::mem::take(&mut self.0.lock().unwrap_or_else(|e| e.into_inner()).0);
        if waiting > 0 {
            self.tell(&Told::Advance(waiting));
        }
    }
}

impl Progress for Telling {
    fn begin(&self, total: u64, unit: &'static str) {
        self.hand_over();
        self.tell(&Told::Begin(total, unit.into()));
    }

    fn advance(&self, by: u64) {
        let mut state = self.0.lock().unwrap_or_else(|e| e.into_inner());
        state.0 += by;
        if state.1.elapsed() >= EVERY {
            let waiting = std::mem::take(&mut state.0);
            state.1 = Instant::now();
            drop(state);
            self.tell(&Told::Advance(waiting));
        }
    }

    fn log(&self, line: &str) {
        self.hand_over();
        self.tell(&Told::Log(line.into()));
    }
}
