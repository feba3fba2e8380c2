//! SQL over named frames, by polars.
//!
//! polars groups, joins and unions in whatever order its threads finish. Results must not depend on
//! that, so every step of the optimised plan is told to keep the order of its input: groups come in
//! the order of their first row, and ties of `ORDER BY` stay as they were.

use std::path::Path;

use polars::{
    error::PolarsError,
    prelude::{Engine, IntoLazy, LazyFrame, MaintainOrderJoin, PlRefPath, ScanArgsParquet, UniqueKeepStrategy},
    sql::SQLContext,
};
use polars_plan::{plans::IR, prelude::Node};

use super::frame::Frame;
use crate::error::{Error, Result, nearest};

/// Runs one SELECT. Frames are known by the names given.
///
/// # Errors
/// What polars says about the query, with the tables that there are.
pub fn query(sql: &str, tables: &[(String, Frame)]) -> Result<Frame> {
    let mut context = SQLContext::new();
    for (name, frame) in tables {
        context.register(name, frame.clone().lazy());
    }
    let known: Vec<&str> = tables.iter().map(|(n, _)| n.as_str()).collect();
    let explain = |e| explained(e, &known);
    let plan = context.execute(sql).map_err(explain)?;
    let mut frame = plan
        ._collect_post_opt(|_, plans, _, _| {
            for i in 0..plans.len() {
                match plans.get_mut(Node(i)) {
                    IR::GroupBy { maintain_order, .. } => *maintain_order = true,
                    IR::Sort { sort_options, .. } => sort_options.maintain_order = true,
                    IR::Union { options, .. } => options.maintain_order = true,
                    IR::Distinct { options, .. } => {
                        options.maintain_order = true;
                        if options.keep_strategy == UniqueKeepStrategy::Any {
                            options.keep_strategy = UniqueKeepStrategy::First;
                        }
                    }
                    IR::Join { options, .. } => {
                        let mut kept = (**options).clone();
                        kept.args.maintain_order = MaintainOrderJoin::LeftRight;
                        *options = std::sync::Arc::new(kept);
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .map_err(explain)?;
    frame.rechunk_mut();
    Ok(frame)
}

/// Runs one SELECT over a Parquet file, known as `name`, by polars' streaming engine: its rows pass through memory in
/// pieces. They come in the order that the query's own `ORDER BY` says, or in none.
///
/// # Errors
/// As [`query`].
pub fn stream(sql: &str, name: &str, file: &Path) -> Result<Frame> {
    let explain = |e| explained(e, &[name]);
    let scan = PlRefPath::try_from_path(file).and_then(|p| LazyFrame::scan_parquet(p, ScanArgsParquet::default()));
    let mut context = SQLContext::new();
    context.register(name, scan.map_err(explain)?);
    let plan = context.execute(sql).map_err(explain)?;
    // One plan without sinks has one result.
    let mut frame = plan.collect_with_engine(Engine::Streaming).map_err(explain)?.unwrap_single();
    frame.rechunk_mut();
    Ok(frame)
}

/// What polars says about a query, with the table that was meant or those that there are.
fn explained(e: PolarsError, known: &[&str]) -> Error {
    let text = e.to_string();
    // Behind what is wrong polars shows its plan, with paths of work folders.
    let said = text.split("Resolved plan until failure").next().unwrap_or_default();
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let message = lines.join("; ");
    let error = Error::invalid(format!("query: {message}"));
    let word = message.split(['\'', '"']).nth(1).unwrap_or_default();
    match nearest(word, known.iter().copied()).filter(|n| *n != word) {
        Some(near) => error.with_hint(format!("did you mean {near}?")),
        None => error.with_hint(format!("tables are {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::frame::{Rows, values};
    use serde_json::json;

    fn results(n: i64) -> Frame {
        let mut rows = Rows::new();
        for i in 0..n {
            rows.push([
                ("model", json!(format!("m{}", (i * 7) % 50))),
                ("seed", json!(i % 3)),
                ("value", json!(0.1 * i as f64)),
            ]);
        }
        rows.frame().unwrap()
    }

    #[test]
    fn groups_come_in_the_order_of_their_first_row() {
        let sql = "SELECT model, AVG(value) AS mean, COUNT(*) AS n FROM t GROUP BY model";
        let frame = query(sql, &[("t".into(), results(3000))]).unwrap();
        let expected: Vec<_> = (0..50).map(|i| json!(format!("m{}", (i * 7) % 50))).collect();
        assert_eq!(values(&frame, "model").unwrap(), expected);
        assert!(values(&frame, "n").unwrap().iter().all(|n| *n == json!(60)));
    }

    #[test]
    fn joins_and_unions_keep_their_order() {
        let mut names = Rows::new();
        for i in (0..50).rev() {
            names.push([("model", json!(format!("m{i}"))), ("size", json!(i))]);
        }
        let tables = [("t".to_string(), results(100)), ("s".to_string(), names.frame().unwrap())];
        let frame = query("SELECT t.model, s.size FROM t JOIN s ON t.model = s.model", &tables).unwrap();
        let expected: Vec<_> = (0..100).map(|i| json!((i * 7) % 50)).collect();
        assert_eq!(values(&frame, "size").unwrap(), expected);
        let frame = query("SELECT seed FROM t UNION SELECT size AS seed FROM s", &tables).unwrap();
        assert_eq!(values(&frame, "seed").unwrap()[..4], [json!(0), json!(1), json!(2), json!(49)]);
    }

    #[test]
    fn a_file_is_streamed_to_what_its_frame_gives() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.parquet");
        let frame = results(300_000);
        crate::report::frame::write_parquet(&frame, &file).unwrap();
        let sql = "SELECT model, value FROM t WHERE seed = 2 AND value < 20000 ORDER BY value DESC";
        let (streamed, whole) = (stream(sql, "t", &file).unwrap(), query(sql, &[("t".into(), frame)]).unwrap());
        assert_eq!(streamed.height(), 66_666);
        assert!(streamed.equals(&whole));
        let e = stream("SELECT * FROM transfers", "transfer", &file).unwrap_err();
        assert_eq!(e.hint(), Some("did you mean transfer?"), "{e}");
    }

    #[test]
    fn a_wrong_query_names_the_tables() {
        let e = query("SELECT * FROM transfers", &[("transfer".into(), results(1))]).unwrap_err();
        assert_eq!(e.hint(), Some("did you mean transfer?"), "{e}");
        let e = query("SELEC 1", &[("transfer".into(), results(1))]).unwrap_err();
        assert_eq!(e.hint(), Some("tables are transfer"), "{e}");
    }
}
