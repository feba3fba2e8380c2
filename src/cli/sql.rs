//! `scaleshot answer-sql`: what the program starts itself as, to answer the SQL of one cell (`kind/sql.rs`).

use std::process::ExitCode;

use super::Outcome;
use crate::kind::sql;

pub fn run() -> Outcome {
    sql::serve()?;
    Ok(ExitCode::SUCCESS)
}
