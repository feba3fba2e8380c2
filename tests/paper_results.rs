//! The published per-run results through `pipelines/paper_results.yaml`: a small table of their form always, and the
//! real ones where `SCALESHOT_REAL_DATA` names a folder that holds them.

mod study;

use scaleshot::report::frame::{self, Frame, values};
use serde_json::{Value, json};
use study::Study;

const PIPELINE: &str = include_str!("../pipelines/paper_results.yaml");
const BESIDE: &str = include_str!("../pipelines/paper_beside_own.yaml");
const HEADER: &str = "metric_value,metric,path,seed,shot,pretrained_model,dataset,last_step\n";

/// Two targets, two sources, two networks; every run but one logged twice.
fn logged() -> String {
    let mut text = String::from(HEADER);
    for (dataset, base) in [("cifar10", 0.5), ("flowers_oversampling", 0.4)] {
        for (source, more) in [("imagenet1k", 0.0), ("imagenet21k", 0.2)] {
            for (model, larger) in [("bit50x1", 0.0), ("bit152x4", 0.1)] {
                for seed in 0..3 {
                    let value = base + more + larger + 0.01 * f64::from(seed);
                    let pretrained = format!("{source}_{model}");
                    let row = format!(
                        "{value},test/acc,r/{dataset}/{pretrained}/seed_{seed},{seed},full_shot,{pretrained},{dataset},500\n"
                    );
                    text += &row;
                    if seed < 2 {
                        text += &row;
                    }
                }
            }
        }
    }
    for seed in 0..2 {
        text += &format!("0.6{seed},test/mean_auc,r/p/{seed},{seed},10_shot,imagenet1k_bit50x1,padchest,500\n");
        text += &format!("0.7{seed},test/mean_auc,r/q/{seed},{seed},10_shot,imagenet21k_bit50x1,padchest,500\n");
    }
    text
}

fn report(study: &Study, pipeline: &str, table: &str) -> Frame {
    frame::read_parquet(&study.path(&format!("reports/{pipeline}/{table}.parquet"))).unwrap()
}

/// The value of a column in the only row where the others are as given.
fn find(frame: &Frame, at: &[(&str, &str)], column: &str) -> Value {
    let texts: Vec<(Vec<Value>, &str)> = at.iter().map(|(c, v)| (values(frame, c).unwrap(), *v)).collect();
    let rows: Vec<usize> =
        (0..frame.height()).filter(|&r| texts.iter().all(|(c, v)| frame::label(&c[r]) == *v)).collect();
    assert_eq!(rows.len(), 1, "{at:?} in {frame}");
    values(frame, column).unwrap()[rows[0]].clone()
}

fn close(found: &Value, want: f64) {
    let found = found.as_f64().unwrap_or(f64::NAN);
    assert!((found - want).abs() < 1e-9, "{found} is not {want}");
}

#[test]
fn rows_logged_twice_count_once_and_both_deviations_are_given() {
    let study = Study::new(PIPELINE);
    std::fs::create_dir(study.path("results")).unwrap();
    std::fs::write(study.path("results/a.csv"), logged()).unwrap();
    study.must(&["run", "x.yaml", "-p", "root=results"]);
    let runs = report(&study, "paper_results", "runs");
    assert_eq!(runs.height(), 2 * 2 * 2 * 3 + 4);
    let names: Vec<&str> = runs.columns().iter().map(|c| c.name().as_str()).collect();
    assert_eq!(names, ["target", "source", "model", "shots", "seed", "metric", "class", "value", "steps"]);
    let summary = report(&study, "paper_results", "summary");
    let at = [("target", "flowers"), ("source", "imagenet21k"), ("model", "bit-r152x4"), ("shots", "full")];
    assert_eq!(find(&summary, &at, "runs"), json!(3));
    close(&find(&summary, &at, "mean"), 0.71);
    close(&find(&summary, &at, "sd_sample"), 0.01);
    close(&find(&summary, &at, "sd_population"), 0.01 * (2.0f64 / 3.0).sqrt());
    // Means and deviations of `compare` are those of the query.
    let levels = report(&study, "paper_results", "source_effect");
    let at = [("target", "cifar10"), ("model", "bit-r50x1"), ("to", "imagenet21k")];
    close(&find(&levels, &at, "difference"), 0.2);

    let board = std::fs::read_to_string(study.path("reports/paper_results/leaderboard.csv")).unwrap();
    assert!(board.starts_with("Task,Dataset,Metric,Value,Model\n"), "{board}");
    assert!(
        board.contains("Image Classification,CIFAR-10,Percentage correct,81.0,ResNet152x4-AGC (ImageNet-21K)\n"),
        "{board}"
    );
    for name in ["leaderboard.md", "leaderboard.json", "leaderboard.parquet"] {
        assert!(study.path(&format!("reports/paper_results/{name}")).exists(), "{name}");
    }
}

#[test]
fn own_results_stand_beside_the_published() {
    let study = Study::new(BESIDE);
    std::fs::create_dir(study.path("results")).unwrap();
    std::fs::write(study.path("results/a.csv"), logged()).unwrap();
    let own = "source,model,target,shots,seed,metric,class,value,rows,positives\n\
               xray,bit-r26x0.25,cifar10,5,0,accuracy,,0.25,100,\n\
               xray,bit-r26x0.25,cifar10,5,0,auc,cat,0.75,100,10\n\
               xray,bit-r26x0.25,cifar10,full,0,accuracy,,0.5,100,\n";
    std::fs::write(study.path("own.csv"), own).unwrap();
    study.must(&["run", "x.yaml", "-p", "root=results", "-p", "own=own.csv"]);
    let both = report(&study, "paper_beside_own", "both");
    assert_eq!(both.height(), 2 * 2 * 2 * 3 + 4 + 2);
    let summary = report(&study, "paper_beside_own", "summary");
    let at = [("results", "own"), ("shots", "5")];
    close(&find(&summary, &at, "mean"), 0.25);
    assert_eq!(find(&summary, &at, "sd_sample"), Value::Null, "one run has no deviation");
}

#[test]
fn the_papers_values_come_out() {
    let root = std::env::var("SCALESHOT_REAL_DATA").ok().filter(|r| !r.is_empty()).map(std::path::PathBuf::from);
    let Some(folder) = root.map(|r| r.join("paper-results")).filter(|f| f.is_dir()) else {
        println!("left out: SCALESHOT_REAL_DATA names no folder with paper-results");
        return;
    };
    let study = Study::new(PIPELINE);
    study.must(&["run", "x.yaml", "-p", &format!("root={}", folder.display())]);
    let runs = report(&study, "paper_results", "runs");
    assert_eq!(runs.height(), 1689, "3,345 logged rows without their duplicates");
    let summary = report(&study, "paper_results", "summary");
    for (target, model, percent) in [
        ("cifar10", "bit-r152x4", "97.82"),
        ("cifar10", "bit-r50x1", "95.78"),
        ("cifar100", "bit-r152x4", "88.54"),
        ("pets", "bit-r152x4", "93.21"),
        ("flowers", "bit-r152x4", "99.49"),
        ("flowers", "bit-r50x1", "98.21"),
    ] {
        let at = [("target", target), ("source", "imagenet21k"), ("model", model), ("shots", "full")];
        let mean = find(&summary, &at, "mean").as_f64().unwrap();
        assert_eq!(format!("{:.2}", 100.0 * mean), percent, "{target} {model}");
        assert_eq!(find(&summary, &at, "runs"), json!(5), "{target} {model}");
        let deviation = |column: &str| find(&summary, &at, column).as_f64().unwrap();
        close(&json!(deviation("sd_population")), deviation("sd_sample") * 0.8f64.sqrt());
        let board = report(&study, "paper_results", "leaderboard");
        let values = values(&board, "Value").unwrap();
        assert!(values.iter().any(|v| frame::label(v) == percent), "{percent} is not on the leaderboard");
    }
    // A group with four runs, and one whose runs were logged once.
    let at = [("target", "pets"), ("source", "imagenet1k"), ("model", "bit-r50x1"), ("shots", "full")];
    assert_eq!(find(&summary, &at, "runs"), json!(4));
}
