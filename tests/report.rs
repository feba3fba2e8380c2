//! What stands beside a finished study: plots, cards, methods, provenance, comparisons, drawings.

mod study;

use std::collections::BTreeSet;

use serde_json::Value;
use study::{Study, TINY};

/// The tiny study with a plot of every kind that it bears.
fn rich() -> Study {
    let plots = "plots:
        - { kind: shots_curve, x: shots, y: accuracy, color: fraction, bars: standard_error }
        - { kind: scale_curve, x: fraction, y: accuracy, color: shots, bars: range }
        - { kind: bars, x: shots, y: accuracy, color: fraction, overlay: { table: transfer, name: again } }
        - { kind: forest, table: effect }
        - { kind: learning_curve, table: pretrain.curve, x: step, y: loss, color: fraction }
        - { kind: roc, where: { shots: full }, color: fraction }
        - { kind: precision_recall, where: { shots: full }, color: fraction }
        - { kind: reliability, where: { shots: full }, color: fraction }
        - { kind: confusion, where: { shots: full, fraction: 1.0 } }
      tensorboard: true";
    let from = "plots: [ { kind: shots_curve, x: shots, y: accuracy, color: fraction } ]";
    assert!(TINY.contains(from));
    let tables = "tables: [transfer, effect, merged.sources]";
    let more = "tables: [transfer, effect, merged.sources, pretrain.curve]";
    Study::new(&TINY.replace(from, plots).replace(tables, more))
}

fn read(study: &Study, name: &str) -> String {
    std::fs::read_to_string(study.path("reports/tiny").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn a_report_has_plots_cards_methods_and_a_way_back_to_the_data() {
    let study = rich();
    study.must(&["run", "x.yaml"]);
    let folder = study.path("reports/tiny");
    let names: BTreeSet<String> = std::fs::read_dir(folder.join("plots"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 18, "an SVG and a PNG of each of nine plots: {names:?}");
    for name in names.iter().filter(|n| n.ends_with(".svg")) {
        let svg = read(&study, &format!("plots/{name}"));
        assert!(!svg.contains("<text") && svg.contains("<title>"), "{name}: text must not need a font of the reader");
    }

    // Every row of a table leads to a cell of the study page.
    let (index, page) = (read(&study, "index.html"), read(&study, "study.html"));
    let links: BTreeSet<&str> = index.split("href=\"study.html#").skip(1).filter_map(|s| s.split('"').next()).collect();
    assert!(links.len() > 8, "{links:?}");
    for link in &links {
        assert!(page.contains(&format!("id=\"{link}\"")), "{link} leads nowhere");
    }

    // From a number to its cell, its inputs and the digests of the data.
    let json: Value = serde_json::from_str(&read(&study, "provenance.json")).unwrap();
    let number = json["numbers"].as_array().unwrap().iter().find(|n| n["table"] == "transfer").unwrap();
    let record: Value =
        serde_json::from_str(&study.must(&["show", number["cell"].as_str().unwrap(), "--json"])).unwrap();
    assert_eq!(number["key"], record["key"]);
    let data: Vec<&str> = number["data"].as_array().unwrap().iter().map(|d| d["cell"].as_str().unwrap()).collect();
    assert_eq!(data, ["chexpert", "nih", "target"]);
    assert!(number["data"].as_array().unwrap().iter().all(|d| d["digest"].as_str().is_some_and(|d| d.len() == 64)));

    let methods = read(&study, "methods.md");
    for part in [
        "**merged** merges chexpert and nih",
        "**transfer** fine-tunes the models of pretrain",
        "shots in 1, full",
        "seed in 0, 1",
        "optimizer.sgd_agc.lr 0.1",
    ] {
        assert!(methods.contains(part), "{part}\n{methods}");
    }
    let card = read(&study, "cards/model-pretrain-fraction=1.0.md");
    assert!(card.contains("Architecture: bit-r14x0.25") && card.contains("| `transfer["), "{card}");
    let sheet = read(&study, "cards/datasheet-merged.md");
    assert!(sheet.contains("| finding | present | absent | unknown |") && sheet.contains("chexpert"), "{sheet}");
    assert!(study.path("reports/index.html").is_file());
    let events =
        std::fs::read(folder.join("tensorboard/pretrain,fraction=1.0/events.out.tfevents.0.scaleshot")).unwrap();
    assert!(events.windows(13).any(|w| w == b"brain.Event:2"));

    // A deleted folder is written again by a run that computes nothing, to the same bytes.
    let before = study.report();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(study.ran(&[]).is_empty());
    assert_eq!(before.len(), study.report().len());
    assert!(before == study.report(), "the same records give the same pages");
}

#[test]
fn runs_and_cells_can_be_compared() {
    let study = Study::new(TINY);
    study.must(&["run", "x.yaml"]);
    study.must(&["run", "x.yaml", "-p", "lr=0.3", "--reports", "other"]);
    let diff: Value = serde_json::from_str(&study.must(&["diff", "reports/tiny", "other/tiny", "--json"])).unwrap();
    let changes: Vec<&str> = diff["changes"].as_array().unwrap().iter().map(|c| c["what"].as_str().unwrap()).collect();
    assert!(changes.contains(&"param optimizer.sgd_agc.lr"), "{diff}");
    let change =
        diff["changes"].as_array().unwrap().iter().find(|c| c["what"] == "param optimizer.sgd_agc.lr").unwrap();
    assert_eq!((&change["a"], &change["b"], change["cells"].as_array().unwrap().len()), (&0.1.into(), &0.3.into(), 8));
    let accuracy = diff["metrics"].as_array().unwrap().iter().find(|m| m["metric"] == "accuracy").unwrap();
    assert_eq!(accuracy["pairs"], 8);
    // The first run is also what its report folder says it was, and the second is what is current.
    let text = study.must(&["diff", "reports/tiny", "tiny"]);
    assert!(text.contains("0.1 => 0.3"), "{text}");
    assert!(study.must(&["diff", "other/tiny", "tiny"]).contains("20 have the same key"), "{text}");
    let cells = study.must(&[
        "diff",
        "transfer[fraction=0.5,shots=1,seed=0]",
        "transfer[fraction=0.5,shots=1,seed=1]",
        "--markdown",
    ]);
    assert!(cells.contains("| transfer | param seed | 0 | 1 | 1 |"), "{cells}");
    assert!(study.must(&["diff", "reports/tiny", "tiny", "--html"]).starts_with("<!doctype html>"));
    let wrong = study.output(&["diff", "tiny", "nothing"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn a_cell_is_shown_as_tables_images_and_curves() {
    let study = Study::new(TINY);
    study.must(&["run", "x.yaml", "pretrain", "-p", "epochs=3"]);
    let shown = |words: &[&str], locale: &str| {
        let out = study.command(words).env("LC_ALL", locale).env("COLUMNS", "80").output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let plain = shown(&["show", "pretrain[fraction=1.0]", "curve", "--curve", "loss"], "C");
    assert!(plain.contains('*') && plain.contains("step") && plain.is_ascii(), "{plain}");
    let braille = shown(&["show", "pretrain[fraction=1.0]", "curve", "--curve", "loss"], "C.UTF-8");
    assert!(braille.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "{braille}");
    let grid = shown(&["show", "pixels", "--images", "3"], "C");
    let pictures = grid.lines().filter(|l| l.chars().filter(|c| ".:-=+*#%@".contains(*c)).count() > 30).count();
    assert!(pictures >= 6, "three images beside each other:\n{grid}");
    let quiet = shown(&["show", "pixels"], "C");
    assert!(quiet.len() < grid.len(), "nothing is drawn into a pipe unless it is asked for");
}

#[test]
fn a_graph_is_a_drawing_with_collapsed_matrices() {
    let study = Study::new(TINY);
    let svg = study.must(&["graph", "x.yaml", "--svg"]);
    assert!(svg.starts_with("<svg") && svg.contains("<title>Graph of tiny</title>"), "{svg}");
    let text = study.must(&["graph", "x.yaml"]);
    assert!(text.contains("transfer (transfer, 8 cells: fraction 2 × shots 2 × seed 2) <- "), "{text}");
    let cells = study.must(&["graph", "x.yaml", "--cells", "--svg"]);
    assert!(cells.len() > svg.len());
}
