//! A whole report and a run page from made-up results, for tests and for looking at.
//!
//! With `SCALESHOT_PAGES=FOLDER` the test below leaves the pages and the Parquet files there, to be
//! opened in a browser, in pandas, polars and DuckDB.

use serde_json::{Value, json};

use super::{
    frame::{self, Frame, Rows},
    html::{Gallery, Notice, Page, Provenance, Sample, Table},
    leaderboard::Entry,
    plot::{Curves, bars, learning_curves, shots_curve},
    runpage::{RunInfo, RunRow, State},
    summary::{Spec, Spread, summarise},
};
use crate::{error::Result, random::stream::Stream};

const SOURCES: [&str; 4] = ["chexpert", "chexpert+nih", "chexpert+nih+mimic", "imagenet-like"];

fn transfers() -> Result<Frame> {
    let mut rows = Rows::new();
    for (t, target) in ["phantom-tb", "cifar-10"].into_iter().enumerate() {
        for (m, source) in SOURCES.into_iter().enumerate() {
            for (k, shots) in [json!(1), json!(5), json!(10), json!("full")].into_iter().enumerate() {
                for seed in 0..3 {
                    let mut s = Stream::new(seed, "sample", (t * 10 + m) as u64, k as u64);
                    let natural = if (m == 3) == (t == 1) { 0.1 } else { 0.0 };
                    let mean = 0.35 + 0.13 * k as f64 + 0.03 * m as f64 + natural;
                    let accuracy = (mean + 0.02 * s.normal()).min(0.99);
                    for (metric, class, value) in [
                        ("accuracy", Value::Null, json!(accuracy)),
                        ("mean_auc", Value::Null, json!((accuracy + 0.1).min(0.995))),
                        ("auc", json!("effusion"), json!(accuracy)),
                    ] {
                        rows.push([
                            ("source", json!(source)),
                            ("target", json!(target)),
                            ("shots", shots.clone()),
                            ("seed", json!(seed)),
                            ("metric", json!(metric)),
                            ("class", class),
                            ("value", value),
                            ("rows", json!(1000)),
                        ]);
                    }
                }
            }
        }
    }
    rows.frame()
}

fn curves() -> Result<Frame> {
    let mut rows = Rows::new();
    for (m, source) in SOURCES.into_iter().enumerate() {
        for seed in 0..2u64 {
            let mut s = Stream::new(seed, "curve", m as u64, 0);
            for step in (0..3000).step_by(10) {
                let loss = 1.9 * (-(step as f64) / (600.0 + 200.0 * m as f64)).exp() + 0.25 + 0.05 * s.normal();
                rows.push([
                    ("source", json!(source)),
                    ("seed", json!(seed)),
                    ("step", json!(step)),
                    ("loss", json!(loss)),
                ]);
            }
        }
    }
    rows.frame()
}

fn effect() -> Result<Frame> {
    let mut rows = Rows::new();
    for (target, shots, difference, p) in [
        ("phantom-tb", "1", 0.0312, 0.0421),
        ("phantom-tb", "5", 0.0417, 0.008_13),
        ("phantom-tb", "full", -0.0021, 0.712),
        ("cifar-10", "5", 0.0009, 0.000_021),
    ] {
        rows.push([
            ("target", json!(target)),
            ("shots", json!(shots)),
            ("difference", json!(difference)),
            ("low", json!(difference - 0.02)),
            ("high", json!(difference + 0.02)),
            ("p", json!(p)),
            ("p_holm", if p > 0.5 { Value::Null } else { json!((4.0f64 * p).min(1.0)) }),
            ("pairs", json!(3)),
        ]);
    }
    rows.frame()
}

fn merged() -> Result<Frame> {
    let mut rows = Rows::new();
    for (source, read, kept, patients) in [
        ("chexpert", 224_316, 190_992, 64_534),
        ("nih", 112_120, 112_120, 30_805),
        ("mimic_cxr", 377_110, 243_334, 63_945),
    ] {
        rows.push([
            ("source", json!(source)),
            ("images_read", json!(read)),
            ("images_kept", json!(kept)),
            ("patients", json!(patients)),
            ("rule", json!("views PA and AP; uncertain is unknown; labels in every source")),
        ]);
    }
    rows.frame()
}

/// A grey gradient with a blot, 48 px.
fn picture(seed: u64) -> Vec<u8> {
    let mut s = Stream::new(seed, "picture", 0, 0);
    let (x0, y0, r) = (s.range(10.0, 38.0), s.range(10.0, 38.0), s.range(4.0, 10.0));
    let pixels: Vec<u8> = (0..48 * 48)
        .map(|i| {
            let (x, y) = (f64::from(i % 48), f64::from(i / 48));
            let blot = 120.0 * (-((x - x0).powi(2) + (y - y0).powi(2)) / (r * r)).exp();
            (40.0 + 1.5 * y + blot + 8.0 * s.normal()).clamp(0.0, 255.0) as u8
        })
        .collect();
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 48, 48);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    out
}

fn page() -> Result<Page> {
    let results = transfers()?;
    let spec = Spec::new("shots", "accuracy").color(&["source"]);
    let summary = summarise(&results, &spec)?;
    let mut full = Spec::new("target", "mean_auc").color(&["source"]);
    full.spread = Spread::Deviation;
    let at_full = super::query::query("SELECT * FROM t WHERE shots = 'full'", &[("t".into(), results.clone())])?;
    let axes = ["source".to_string(), "seed".to_string()];
    let columns = Curves { x: "step", y: "loss", axes: &axes, color: &axes[..1], repeat: &axes[1..] };
    let samples = (0..9)
        .map(|i| Sample {
            png: picture(i),
            truth: if i % 3 == 0 { "nodule" } else { "no finding" }.into(),
            predicted: if i % 4 == 0 { "nodule" } else { "no finding" }.into(),
            probability: Some(0.97 - 0.05 * i as f64),
            right: if i == 5 { None } else { Some((i % 3 == 0) == (i % 4 == 0)) },
        })
        .collect();
    let source = |name: &str, axes: &[(&str, &str)]| Provenance {
        name: name.into(),
        node: "transfer".into(),
        kind: "table".into(),
        axes: axes.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
        digest: crate::digest::Digest::of(name.as_bytes()).hex(),
        parts: vec![
            ("schedule".into(), "bit-hyperrule".into()),
            ("model".into(), "weights.safetensors 5d1f0c2b9e4a".into()),
            ("data".into(), "cifar-10 test, 1,017 images a1b2c3d4e5f6".into()),
        ],
    };
    Ok(Page::new("Does more pre-training data help a small X-ray set?")
        .kicker("quickstart")
        .lead("Four sources of growing size, two targets, one to all shots, three seeds. On the X-ray target, the largest merge gains four points of 5-shot accuracy over the smallest; on CIFAR-10 the natural-like source leads.")
        .section("Findings")
        .table(&summary.table("Accuracy by source and shots")?)
        .table(&Table::from_frame("Largest merge against smallest", &effect()?)?.note("Paired over seeds; low and high are the 95 % t interval; p by paired t test, adjusted after Holm. Three pairs cannot give an exact p below 0.25."))
        .section("Plots")
        .plot(&shots_curve(&summary, "Few-shot accuracy by pre-training source")?, &["plots/1.svg", "plots/1.png"])
        .plot(&bars(&summarise(&at_full, &full)?, "Full transfer")?, &[])
        .plot(&learning_curves(&curves()?, &columns, "Pre-training loss")?, &[])
        .section("Samples")
        .images(&Gallery { title: "chexpert+nih+mimic on phantom-tb, 5 shots, seed 0".into(), note: "The first nine test images.".into(), samples })
        .section("Merged sources")
        .table(&Table::from_frame("What came from where", &merged()?)?)
        .section("Notes")
        .notes(&[
            Notice { place: "nih".into(), what: "skipped_rows".into(), count: 943, detail: "five fields, expected four; first train.txt:13994".into() },
            Notice { place: "transfer".into(), what: "shared_patients".into(), count: 0, detail: "between pre-training and target test".into() },
        ])
        .section("Provenance")
        .provenance(&[source("transfer", &[("source", "chexpert+nih+mimic"), ("shots", "5"), ("seed", "0")]), source("effect", &[])]))
}

fn run() -> Result<String> {
    let mut rows = Vec::new();
    let mut clock = 0;
    for (node, kind, parents, cells) in [
        ("chexpert", "dataset", vec![], 1),
        ("nih", "dataset", vec![], 1),
        ("tb", "dataset", vec![], 1),
        ("merged", "merge", vec!["chexpert", "nih"], 1),
        ("source", "subset", vec!["merged"], 2),
        ("source_images", "images", vec!["source"], 2),
        ("pretrain", "pretrain", vec!["source_images"], 4),
        ("target_images", "images", vec!["tb"], 1),
        ("transfer", "transfer", vec!["pretrain", "target_images"], 36),
        ("effect", "compare", vec!["transfer"], 1),
        ("report", "report", vec!["transfer", "effect", "merged"], 1),
    ] {
        for i in 0..cells {
            let state = match (node, i) {
                ("chexpert" | "nih" | "tb", _) => State::Fresh,
                ("transfer", 7) => State::Failed,
                ("effect" | "report", _) => State::Skipped,
                _ => State::Done,
            };
            let ran = matches!(state, State::Done | State::Failed);
            let wall = 400 + 900 * cells as u64 % 7000 + 37 * i as u64;
            rows.push(RunRow {
                cell: if cells == 1 { node.into() } else { format!("{node}[fraction=0.1,shots=5,seed={i}]") },
                node: node.into(),
                kind: kind.into(),
                state,
                parents: parents.iter().map(|p: &&str| p.to_string()).collect(),
                reason: if ran { "lr changed (0.003 => 0.01)" } else { "" }.into(),
                start_ms: ran.then_some(clock),
                wall_ms: ran.then_some(wall),
                cpu_ms: ran.then_some(2 * wall - 30),
                peak_rss_bytes: ran.then_some((200 + i as u64) << 20),
                threads: ran.then_some(2),
                key: crate::digest::Digest::of(format!("{node}{i}").as_bytes()).hex(),
                accepted: None,
            });
            clock += if ran { wall / 2 } else { 0 };
        }
    }
    let info = RunInfo {
        pipeline: "quickstart".into(),
        started: "2026-11-22 21:00:12 UTC".into(),
        wall_ms: clock + 3000,
        facts: vec![("machine".into(), "linux x86-64, 2 cores, 23 GiB".into()), ("scaleshot".into(), "0.1.0".into())],
    };
    super::runpage::render(&info, &rows)
}

#[test]
fn a_whole_report_is_the_same_bytes_whoever_renders_it() {
    let first = page().unwrap().render();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(first, pool.install(|| page().unwrap().render()));
    assert!(!first.contains("http"), "a page needs no network");
    let drawn: String = first.split("<svg").skip(1).filter_map(|s| s.split("</svg>").next()).collect();
    assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "no coordinate is undefined");
    for tag in ["table", "svg", "figure", "details", "section", "ul", "div", "g"] {
        let open = first.matches(&format!("<{tag} ")).count() + first.matches(&format!("<{tag}>")).count();
        assert_eq!(open, first.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    let run = run().unwrap();
    assert!(run.contains("35 done") && run.contains("1 failed"));
    if let Ok(folder) = std::env::var("SCALESHOT_PAGES") {
        let folder = std::path::Path::new(&folder);
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("index.html"), &first).unwrap();
        std::fs::write(folder.join("run.html"), run).unwrap();
        let spec = Spec::new("shots", "accuracy").color(&["source"]);
        let drawing =
            shots_curve(&summarise(&transfers().unwrap(), &spec).unwrap(), "Few-shot accuracy").unwrap().drawing();
        std::fs::create_dir_all(folder.join("plots")).unwrap();
        std::fs::write(folder.join("plots/1.svg"), drawing.svg().unwrap()).unwrap();
        std::fs::write(folder.join("plots/1.png"), drawing.png().unwrap()).unwrap();
        let mut table = transfers().unwrap();
        let unknown = {
            let mut r = Rows::new().declare("value", polars::prelude::DataType::Float64);
            r.push([("source", json!("no value")), ("flag", json!(true))]);
            r.frame().unwrap()
        };
        table = frame::concat(&[table, unknown]).unwrap();
        frame::write_parquet(&table, &folder.join("transfer.parquet")).unwrap();
        let entry = Entry {
            task: "Image Classification".into(),
            dataset: "CIFAR-10".into(),
            metric: "Percentage correct".into(),
            value: Some(97.82),
            model: "R152x4".into(),
        };
        super::leaderboard::write_all(&[entry], folder).unwrap();
    }
}
