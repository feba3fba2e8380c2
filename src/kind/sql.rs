//! SQL of a cell, answered by this program started once more.
//!
//! polars takes the number of its threads from the environment when it starts, cannot be stopped within a step of its
//! plan, and shares its threads among all who ask. A process of its own has the cell's threads, ends when the cell is
//! to stop, and is asked afterwards what it took. It ends with this one: its standard input closes then.

use std::{
    io::{BufRead, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Cell, Outside,
    command::{ended, ended_cpu},
};
use crate::{
    error::{Error, Result},
    memory,
    report::{
        frame::{self, Frame},
        query,
    },
    thread,
};

/// One SELECT over tables in files.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    pub sql: String,
    pub tables: Vec<Named>,
    /// Whether the rows of the one table pass through memory in pieces.
    pub streaming: bool,
    /// Where the answer is to be written, as Parquet.
    pub to: PathBuf,
}

/// A table of a question.
#[derive(Debug, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    /// Its rows: of each file, behind these columns that are the same in all of its rows.
    pub parts: Vec<(PathBuf, Vec<(String, Value)>)>,
}

/// How it went, in a file beside the answer.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Answered { peak_rss_bytes: u64 },
    Refused { message: String, hint: Option<String> },
}

/// The command that answers a question; `None` in programs other than `scaleshot`.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
/// What it is called on the command line.
pub const COMMAND: &str = "answer-sql";
/// Between two looks at whether it has ended or has to.
const LOOK: std::ops::Range<Duration> = Duration::from_micros(200)..Duration::from_millis(10);
/// polars repeats whole schemas.
const MESSAGE_CHARS: usize = 4000;

/// Says that this very program understands [`COMMAND`].
pub fn answers_itself() {
    // Of this process still where a newer build has taken the file's place.
    let running = PathBuf::from("/proc/self/exe");
    let program = if running.exists() { Some(running) } else { std::env::current_exe().ok() };
    if let Some(program) = program {
        let _ = PROGRAM.set(program);
    }
}

/// Has a question answered with the threads of a cell, and tells the cell what that took: `all`, where the cell does
/// nothing else.
///
/// # Errors
/// As [`query::query`]; [`Error::Interrupted`] as soon as the cell is to stop.
pub fn ask(cell: &Cell, question: &Question, all: bool) -> Result<()> {
    cell.cancel.check()?;
    let Some(program) = PROGRAM.get() else {
        return frame::alone(|| answer(question))?;
    };
    let said = question.to.with_extension("said");
    let stderr = question.to.with_extension("stderr");
    let failed = Error::io(program);
    let threads = cell.threads.max(1).to_string();
    let child = Command::new(program)
        .arg(COMMAND)
        .env("POLARS_MAX_THREADS", &threads)
        // Some of polars' work is done wherever rayon does it.
        .env("RAYON_NUM_THREADS", &threads)
        .env("RUST_MIN_STACK", thread::STACK_BYTES.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&stderr).map_err(Error::io(&stderr))?)
        // Ctrl-C reaches it through the cell alone, which else would take its end for a failure.
        .process_group(0)
        .spawn();
    let mut running = Running(child.map_err(failed)?);
    let mut input = running.0.stdin.take();
    if let Some(input) = &mut input {
        let line = format!("{}\n", serde_json::to_string(question)?);
        // What ended before it had read all says why below.
        let _ = input.write_all(line.as_bytes());
    }
    let pid = running.0.id();
    let mut look = LOOK.start;
    while !ended(pid)? {
        cell.cancel.check()?;
        std::thread::sleep(look);
        look = (look * 3 / 2).min(LOOK.end);
    }
    let cpu = ended_cpu(pid);
    let status = running.0.wait().map_err(Error::io("the query"))?;
    drop(input);
    let outside = |peak_rss_bytes| Outside { ran: all, cpu, peak_rss_bytes };
    match std::fs::read(&said).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        Some(Said::Answered { peak_rss_bytes }) if status.success() => {
            cell.add_outside(outside(peak_rss_bytes));
            Ok(())
        }
        Some(Said::Refused { message, hint }) => Err(Error::Invalid { message, hint }),
        _ => {
            let text = std::fs::read_to_string(&stderr).unwrap_or_default();
            let text: String = text.trim().chars().take(MESSAGE_CHARS).collect();
            Err(Error::invalid(format!("query: the process that answered it ended with {status}: {text}"))
                .with_hint("killed, it had too little memory; where it panicked, please report it with the query"))
        }
    }
}

/// A started process, which does not outlive whoever waits for it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Waited for already: then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers the question on standard input: what [`COMMAND`] does.
///
/// # Errors
/// There is no question, or no place for its answer. What is wrong with the question is told beside the answer.
pub fn serve() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(Error::io("standard input"))?;
    let question: Question = serde_json::from_str(&line)?;
    let asker = std::thread::Builder::new().name("asker".into());
    let gone = || {
        // Nothing more comes: it ends with whoever asked.
        let _ = std::io::stdin().lock().read(&mut [0]);
        std::process::exit(1);
    };
    asker.spawn(gone).map_err(Error::io("a thread"))?;
    let answered = thread::apart(|| answer(&question)).map_err(Error::io("a thread"))?;
    let said = match answered {
        Ok(()) => Said::Answered { peak_rss_bytes: memory::peak_bytes().unwrap_or(0) },
        Err(e) => Said::Refused {
            message: e.to_string().chars().take(MESSAGE_CHARS).collect(),
            hint: e.hint().map(|hint| hint.chars().take(MESSAGE_CHARS).collect()),
        },
    };
    let path = question.to.with_extension("said");
    std::fs::write(&path, serde_json::to_vec(&said)?).map_err(Error::io(&path))
}

fn answer(question: &Question) -> Result<()> {
    let file = |table: &Named| table.parts.first().map(|(path, _)| path.clone());
    let frame = match question.tables.as_slice() {
        [table] if question.streaming => {
            let path = file(table).ok_or_else(|| Error::invalid("bug: a table without a file"))?;
            query::stream(&question.sql, &table.name, &path)?
        }
        tables => {
            let tables: Result<Vec<(String, Frame)>> =
                tables.iter().map(|table| Ok((table.name.clone(), table.read()?))).collect();
            query::query(&question.sql, &tables?)?
        }
    };
    frame::write_parquet(&frame, &question.to)
}

impl Named {
    /// A table that is one file.
    pub fn file(name: &str, path: &Path) -> Self {
        Named { name: name.into(), parts: vec![(path.into(), Vec::new())] }
    }

    fn read(&self) -> Result<Frame> {
        let parts = self.parts.iter().map(|(path, axes)| frame::with_axes(&frame::read_parquet(path)?, axes));
        frame::concat(&parts.collect::<Result<Vec<_>>>()?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::frame::{Rows, values};

    #[test]
    fn a_table_of_parts_has_their_axes_as_columns() {
        let dir = tempfile::tempdir().unwrap();
        let part = |seed: i64| {
            let mut rows = Rows::new();
            rows.push([("score", json!(0.5 + seed as f64))]);
            let path = dir.path().join(format!("{seed}.parquet"));
            frame::write_parquet(&rows.frame().unwrap(), &path).unwrap();
            (path, vec![("seed".to_string(), json!(seed))])
        };
        let question = |sql: &str| Question {
            sql: sql.into(),
            tables: vec![Named { name: "runs".into(), parts: vec![part(0), part(1)] }],
            streaming: false,
            to: dir.path().join("to.parquet"),
        };
        let asked = question("SELECT seed, score FROM runs ORDER BY score DESC");
        // As it travels.
        let asked: Question = serde_json::from_str(&serde_json::to_string(&asked).unwrap()).unwrap();
        answer(&asked).unwrap();
        let frame = frame::read_parquet(&asked.to).unwrap();
        assert_eq!(values(&frame, "seed").unwrap(), [json!(1), json!(0)]);
        let e = answer(&question("SELECT * FROM run")).unwrap_err();
        assert_eq!(e.hint(), Some("did you mean runs?"), "{e}");
    }
}
