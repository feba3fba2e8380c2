//! Observers for people and programs: bars on a terminal, plain lines elsewhere, JSON lines for scripts.
//!
//! Messages go to stderr; only JSON lines, which are data, go to stdout. Bars and lines tell of this process's run,
//! or of another's that is watched ([`super::watch`]).

use std::{
    collections::HashMap,
    io::{IsTerminal, Write},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    event::{By, Event, Observer, duration},
    tally::Tally,
};

/// What fits the place where the program runs.
pub fn observer(json: bool) -> Box<dyn Observer> {
    if json {
        Box::new(JsonLines::new(std::io::stdout()))
    } else if std::io::stderr().is_terminal() {
        Box::new(Bars::new(ProgressDrawTarget::stderr()))
    } else {
        Box::new(Lines::new(std::io::stderr()))
    }
}

/// An observer that may come in the middle of a run.
pub trait Latecomer: Observer {
    /// Takes in what happened before, and when, and tells in short how the run stands.
    fn catch_up(&self, past: &[(Event, Instant)]);
}

/// What fits the place where the program runs, for a run that has begun already.
pub fn latecomer() -> Box<dyn Latecomer> {
    if std::io::stderr().is_terminal() {
        Box::new(Bars::new(ProgressDrawTarget::stderr()))
    } else {
        Box::new(Lines::new(std::io::stderr()))
    }
}

/// One event a line.
pub struct JsonLines<W>(Mutex<W>);

impl<W: Write + Send> JsonLines<W> {
    pub fn new(out: W) -> Self {
        JsonLines(Mutex::new(out))
    }
}

impl<W: Write + Send> Observer for JsonLines<W> {
    fn event(&self, event: &Event) {
        let Ok(line) = serde_json::to_string(event) else { return };
        // A reader that went away does not stop the run.
        let mut out = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

/// Cells that ran, as lines, where there are so many that a line each would hide what matters.
const MANY: usize = 200;
/// Such a cell still gets its line if it took long.
const LONG_MS: u64 = 10_000;

/// The words for events that deserve a line; `None` for the rest.
fn sentence(event: &Event, run: usize) -> Option<String> {
    Some(match event {
        Event::Planned { cells, fresh, run, blocked, threads, .. } => {
            let blocked = if *blocked > 0 { format!(", {blocked} blocked") } else { String::new() };
            if *run == 0 && blocked.is_empty() {
                return None;
            }
            let threads = if *threads > 0 { format!("{threads} threads") } else { "by jobs".into() };
            format!("{cells} cells: {fresh} fresh, {run} to run{blocked}; {threads}")
        }
        Event::Started { cell, reasons, resumes, .. } if run <= MANY => {
            let resumes = if *resumes { "; continues from a checkpoint" } else { "" };
            format!("start {cell} ({}{resumes})", reasons.join("; "))
        }
        Event::Done { cell, wall_ms, .. } if run <= MANY || *wall_ms >= LONG_MS => {
            format!("done {cell}, {}", duration(*wall_ms))
        }
        Event::Spared { cell, by, .. } if run <= MANY => match by {
            None => format!("fresh {cell}, its inputs came out as they were"),
            Some(By::Cell(other)) => format!("fresh {cell}, it is the same as {other}"),
            Some(By::Process) => format!("fresh {cell}, another process computed it"),
        },
        Event::Queued { cell, job, state, detail } if run <= MANY || state == "lost" => {
            format!("{state} {cell} as job {job}{}{detail}", if detail.is_empty() { "" } else { ", " })
        }
        Event::Waiting { cell, by: By::Cell(other) } => format!("wait {cell}: it is the same as {other}, which runs"),
        Event::Waiting { cell, by: By::Process } => format!("wait {cell}: another process is computing it"),
        Event::Retrying { cell, error, attempt, wait_ms } => {
            format!("try {attempt} of {cell} failed: {error}; again in {}", duration(*wait_ms))
        }
        Event::Failed(failure) => {
            let mut text = format!("failed {}: {}", failure.cell, failure.error);
            for (what, value) in [("hint", &failure.hint), ("log", &failure.log)] {
                if let Some(value) = value {
                    text.push_str(&format!("\n{what}: {value}"));
                }
            }
            text
        }
        Event::Skipped(skip) if run <= MANY && skip.stopped => {
            format!("skip {}: stopped because {} failed (--keep-going runs it)", skip.cell, skip.because)
        }
        Event::Skipped(skip) if run <= MANY => format!("skip {}: because {} failed", skip.cell, skip.because),
        Event::Interrupted { cell } => format!("stopped {cell}, the next run continues"),
        Event::Blocked { cell, reasons } => format!("blocked {cell}: {}", reasons.join("; ")),
        Event::Stopping => "stopping: running cells checkpoint; Ctrl-C again stops now".into(),
        Event::Finished(summary) => summary.sentence(),
        _ => return None,
    })
}

/// Plain lines, for logs and pipes.
pub struct Lines<W> {
    state: Mutex<LinesState<W>>,
}

struct LinesState<W> {
    out: W,
    tally: Tally,
    /// When a cell last had a progress line.
    told: HashMap<String, Instant>,
    /// When the run last had one.
    told_all: Option<Instant>,
}

/// Between two progress lines of a cell, and of a run of [`MANY`] cells.
const EVERY: Duration = Duration::from_secs(20);

impl<W: Write + Send> Lines<W> {
    pub fn new(out: W) -> Self {
        Lines { state: Mutex::new(LinesState { out, tally: Tally::default(), told: HashMap::new(), told_all: None }) }
    }
}

impl<W: Write + Send> Observer for Lines<W> {
    fn event(&self, event: &Event) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.tally.event(event, now);
        let line = match event {
            Event::Progress { cell, done, total, unit } => {
                let due = state.told.get(cell).is_some_and(|at| at.elapsed() >= EVERY);
                if !due {
                    state.told.entry(cell.clone()).or_insert_with(Instant::now);
                    return;
                }
                state.told.insert(cell.clone(), Instant::now());
                let total = if *total > 0 { format!(" of {total}") } else { String::new() };
                Some(format!("at {cell}: {done}{total} {unit}"))
            }
            event => {
                let ended = matches!(
                    event,
                    Event::Done { .. }
                        | Event::Spared { .. }
                        | Event::Failed(_)
                        | Event::Skipped(_)
                        | Event::Interrupted { .. }
                );
                let count = if ended { format!("{} ", state.count()) } else { String::new() };
                sentence(event, state.tally.run).map(|text| count + &text)
            }
        };
        if let Some(line) = line {
            let _ = writeln!(state.out, "{line}");
        }
        // Where most cells have no line of their own, one tells of all of them.
        let last = *state.told_all.get_or_insert(now);
        if state.tally.run > MANY && now.duration_since(last) >= EVERY && !matches!(event, Event::Finished(_)) {
            state.told_all = Some(now);
            state.tell_all(now);
        }
    }
}

impl<W: Write> LinesState<W> {
    fn count(&self) -> String {
        format!("[{}/{}]", self.tally.ended(), self.tally.run)
    }

    fn tell_all(&mut self, now: Instant) {
        let line = format!("{} {}", self.count(), self.tally.sentence(now));
        let _ = writeln!(self.out, "{line}");
    }
}

impl<W: Write + Send> Latecomer for Lines<W> {
    fn catch_up(&self, past: &[(Event, Instant)]) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        for (event, at) in past {
            state.tally.event(event, *at);
            if let (Event::Planned { .. } | Event::Failed(_), Some(text)) = (event, sentence(event, state.tally.run)) {
                let _ = writeln!(state.out, "{text}");
            }
        }
        state.tell_all(Instant::now());
        let running = state.tally.running();
        let mut text: String = running.iter().take(SHOWN).map(|cell| format!("at {cell}\n")).collect();
        if running.len() > SHOWN {
            text.push_str(&format!("at {} more\n", running.len() - SHOWN));
        }
        let _ = state.out.write_all(text.as_bytes());
    }
}

/// Bars for the running cells above one for the whole run.
///
/// Never more than [`SHOWN`] cells have a bar, so that a screen of 5,000 cells reads like one of 5.
pub struct Bars {
    multi: MultiProgress,
    state: Mutex<BarsState>,
}

#[derive(Default)]
struct BarsState {
    total: Option<ProgressBar>,
    cells: HashMap<String, (ProgressBar, Option<u64>)>,
    tally: Tally,
    told: Option<Instant>,
}

/// Bars of running cells at one time.
const SHOWN: usize = 8;

impl Bars {
    pub fn new(target: ProgressDrawTarget) -> Self {
        Bars { multi: MultiProgress::with_draw_target(target), state: Mutex::default() }
    }

    fn end(&self, state: &mut BarsState, cell: &str) {
        if let Some((bar, _)) = state.cells.remove(cell) {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
        if let Some(total) = &state.total {
            total.inc(1);
        }
    }
}

impl Observer for Bars {
    fn event(&self, event: &Event) {
        self.take_in(event, Instant::now(), true);
    }
}

impl Latecomer for Bars {
    fn catch_up(&self, past: &[(Event, Instant)]) {
        for (event, at) in past {
            self.take_in(event, *at, matches!(event, Event::Planned { .. } | Event::Failed(_)));
        }
    }
}

impl Bars {
    /// An event of some time; with `tell` it may have a line of its own.
    fn take_in(&self, event: &Event, at: Instant, tell: bool) {
        let now = Instant::now();
        let ago = now.saturating_duration_since(at);
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.tally.event(event, at);
        match event {
            Event::Planned { run, .. } => {
                if *run > 0 {
                    let bar = self.multi.add(ProgressBar::new(*run as u64).with_elapsed(ago));
                    bar.set_style(style("{elapsed:>6} {bar:24} {pos}/{len} cells{msg}"));
                    bar.enable_steady_tick(Duration::from_millis(500));
                    state.total = Some(bar);
                }
            }
            Event::Started { cell, .. } => {
                if state.cells.len() < SHOWN
                    && let Some(total) = &state.total
                {
                    let bar = self.multi.insert_before(total, ProgressBar::no_length().with_elapsed(ago));
                    bar.set_style(style("{elapsed:>6} {wide_msg}"));
                    bar.set_message(cell.clone());
                    state.cells.insert(cell.clone(), (bar, None));
                }
            }
            Event::Retrying { cell, .. } => {
                if let Some((bar, _)) = state.cells.remove(cell) {
                    bar.finish_and_clear();
                    self.multi.remove(&bar);
                }
            }
            Event::Progress { cell, done, total, unit } => {
                if let Some((bar, length)) = state.cells.get_mut(cell) {
                    if *length != Some(*total) {
                        *length = Some(*total);
                        bar.set_length(*total);
                        bar.reset_eta();
                        let figures = if unit == "bytes" {
                            "{bytes}/{total_bytes} {binary_bytes_per_sec}"
                        } else if *total > 0 {
                            "{human_pos}/{human_len} {prefix} {per_sec}"
                        } else {
                            "{human_pos} {prefix} {per_sec}"
                        };
                        let left = if *total > 0 { ", {eta} left" } else { "" };
                        bar.set_style(style(&format!("{{elapsed:>6}} {{bar:24}} {{wide_msg}} {figures}{left}")));
                        bar.set_prefix(unit.clone());
                    }
                    bar.set_position(*done);
                }
            }
            Event::Done { cell, .. } | Event::Interrupted { cell } | Event::Spared { cell, .. } => {
                self.end(state, cell);
            }
            Event::Failed(failure) => self.end(state, &failure.cell),
            Event::Skipped(skip) => self.end(state, &skip.cell),
            Event::Finished(_) => {
                for (bar, _) in state.cells.drain().map(|(_, bar)| bar) {
                    bar.finish_and_clear();
                }
                if let Some(total) = state.total.take() {
                    total.finish_and_clear();
                }
            }
            Event::Waiting { .. } | Event::Queued { .. } | Event::Stopping | Event::Blocked { .. } => {}
        }
        if let Some(total) = &state.total
            && state.told.is_none_or(|at| now.duration_since(at) > Duration::from_millis(200))
        {
            state.told = Some(now);
            total.set_message(format!(", {}", state.tally.sentence(now)));
        }
        // Bars say what is starting.
        if tell
            && !matches!(event, Event::Started { .. })
            && let Some(text) = sentence(event, state.tally.run)
        {
            let _ = self.multi.println(text);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ ")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        digest::Digest,
        run::{Failure, Skip, Summary},
    };

    /// A run of `run` cells of which the second fails and the third is skipped.
    fn events(run: usize) -> Vec<Event> {
        let key = Digest::of(b"k");
        vec![
            Event::Planned { cells: run + 2, fresh: 2, run, blocked: 0, threads: 2, todo: vec![] },
            Event::Started {
                cell: "a".into(),
                key,
                reasons: vec!["lr changed (0.003 => 0.01)".into()],
                threads: 1,
                resumes: true,
                log: "l".into(),
            },
            Event::Progress { cell: "a".into(), done: 5, total: 10, unit: "images".into() },
            Event::Progress { cell: "a".into(), done: 9, total: 0, unit: "bytes".into() },
            Event::Done { cell: "a".into(), key, wall_ms: 1500, cpu_ms: None, peak_rss_bytes: None, bytes: 3 },
            Event::Failed(Failure {
                cell: "b".into(),
                error: "no rows".into(),
                hint: Some("check the filter".into()),
                log: Some("logs/b.log".into()),
            }),
            Event::Skipped(Skip { cell: "c".into(), because: "b".into(), stopped: false }),
            Event::Finished(Summary { cells: run + 2, fresh: 2, ran: 1, failed: 1, skipped: 1, ..Summary::default() }),
        ]
    }

    fn lines(run: usize) -> String {
        let lines = Lines::new(Vec::new());
        events(run).iter().for_each(|e| lines.event(e));
        String::from_utf8(lines.state.into_inner().unwrap().out).unwrap()
    }

    #[test]
    fn lines_tell_a_small_run_in_full() {
        let expected = "5 cells: 2 fresh, 3 to run; 2 threads\n\
             start a (lr changed (0.003 => 0.01); continues from a checkpoint)\n\
             [1/3] done a, 1.5 s\n\
             [2/3] failed b: no rows\nhint: check the filter\nlog: logs/b.log\n\
             [3/3] skip c: because b failed\n\
             5 cells: 1 ran, 2 fresh, 1 failed, 1 skipped, 0.0 s\n";
        assert_eq!(lines(3), expected);
    }

    #[test]
    fn lines_of_a_large_run_keep_to_what_matters() {
        let text = lines(5000);
        assert!(!text.contains("done a") && !text.contains("skip c"), "{text}");
        assert!(text.contains("[2/5000] failed b: no rows"), "{text}");
    }

    #[test]
    fn json_lines_carry_every_event() {
        let json = JsonLines::new(Vec::new());
        events(3).iter().for_each(|e| json.event(e));
        let text = String::from_utf8(json.0.into_inner().unwrap()).unwrap();
        let back: Vec<Event> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(back, events(3));
    }

    #[test]
    fn who_comes_late_is_told_how_the_run_stands_and_then_what_happens() {
        let events = events(5000);
        let (past, next) = events.split_at(4);
        let past: Vec<(Event, Instant)> = past.iter().map(|e| (e.clone(), Instant::now())).collect();
        let lines = Lines::new(Vec::new());
        lines.catch_up(&past);
        next.iter().for_each(|e| lines.event(e));
        let text = String::from_utf8(lines.state.into_inner().unwrap().out).unwrap();
        let expected = "5002 cells: 2 fresh, 5000 to run; 2 threads\n\
             [0/5000] 1 running, time left unknown\n\
             at a\n\
             [2/5000] failed b: no rows\nhint: check the filter\nlog: logs/b.log\n\
             5002 cells: 1 ran, 2 fresh, 1 failed, 1 skipped, 0.0 s\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn lines_of_a_large_run_tell_of_all_now_and_then() {
        let lines = Lines::new(Vec::new());
        let events = events(5000);
        lines.event(&events[0]);
        lock(&lines.state).told_all = Instant::now().checked_sub(EVERY);
        lines.event(&events[1]);
        lines.event(&events[4]);
        let text = String::from_utf8(lines.state.into_inner().unwrap().out).unwrap();
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), ["[0/5000] 1 running, time left unknown"]);
    }

    /// A terminal that remembers all that was written to it.
    #[derive(Clone, Debug, Default)]
    struct Screen(std::sync::Arc<Mutex<String>>);

    impl indicatif::TermLike for Screen {
        fn width(&self) -> u16 {
            100
        }
        fn height(&self) -> u16 {
            30
        }
        fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> std::io::Result<()> {
            self.write_str(text)?;
            self.write_str("\n")
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bars_follow_a_run_and_are_gone_after_it() {
        let screen = Screen::default();
        let bars = Bars::new(ProgressDrawTarget::term_like(Box::new(screen.clone())));
        let events = events(3);
        for event in &events[..4] {
            bars.event(event);
        }
        assert_eq!(lock(&bars.state).cells.len(), 1);
        events[4..].iter().for_each(|e| bars.event(e));
        let state = lock(&bars.state);
        assert!(state.cells.is_empty() && state.total.is_none());
        let text = screen.0.lock().unwrap().clone();
        for part in ["0/3 cells, 0 running", "done a, 1.5 s", "failed b: no rows", "log: logs/b.log"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn thousands_of_cells_never_have_more_than_a_few_bars() {
        let bars = Bars::new(ProgressDrawTarget::hidden());
        bars.event(&Event::Planned { cells: 5000, fresh: 0, run: 5000, blocked: 0, threads: 64, todo: vec![] });
        for i in 0..5000 {
            bars.event(&Event::Started {
                cell: format!("c{i}"),
                key: Digest::of(b""),
                reasons: vec![],
                threads: 1,
                resumes: false,
                log: String::new(),
            });
        }
        let state = lock(&bars.state);
        assert_eq!((state.cells.len(), state.tally.running().len()), (SHOWN, 5000));
    }
}
