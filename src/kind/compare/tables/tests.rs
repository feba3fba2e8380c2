use serde_json::{Value, json};

use super::*;
use crate::report::{
    frame::values,
    predictions::{Predictions, Truths},
};

fn points(runs: &[(f64, u64, Option<f64>)]) -> Vec<Point> {
    let axes = |fraction: f64, seed: u64| {
        vec![("fraction".into(), json!(fraction)), ("target".into(), json!("tb")), ("seed".into(), json!(seed))]
    };
    runs.iter().map(|&(f, s, value)| Point { axes: axes(f, s), facts: Vec::new(), value }).collect()
}

fn params(extra: Value) -> Params {
    let mut all = json!({"metrics": "transfer", "across": "fraction", "resamples": 400});
    all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn reference() -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/statistics.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn close(found: &Value, want: &Value) {
    let (a, b) = (found.as_f64().unwrap_or(f64::NAN), want.as_f64().unwrap());
    assert!((a - b).abs() <= 1e-10 * b.abs().max(1e-3), "{found} is not {want}");
}

fn first(frame: &Frame, column: &str) -> Value {
    values(frame, column).unwrap()[0].clone()
}

fn without_cases(points: &[Point], extra: Value) -> Tables {
    make(points, &Cases::of(Vec::new()), &params(extra), "accuracy").unwrap()
}

#[test]
fn tests_over_seeds_are_scipys() {
    let json = reference();
    let (x, y) = (numbers(&json["paired"]["x"]), numbers(&json["paired"]["y"]));
    let runs: Vec<_> = y.iter().enumerate().map(|(s, v)| (0.1, s as u64, Some(*v))).collect();
    let runs: Vec<_> = runs.into_iter().chain(x.iter().enumerate().map(|(s, v)| (1.0, s as u64, Some(*v)))).collect();
    let found = without_cases(&points(&runs), json!({"overlap": 0.25}));
    let p = &json["paired"];
    for (row, want) in ["ttest_rel", "wilcoxon", "sign_flip_exact_p", "nadeau_bengio_rho0.25"].iter().enumerate() {
        let want = p[want].get(1).unwrap_or(&p[want]);
        close(&values(&found.tests, "p").unwrap()[row], want);
    }
    close(&values(&found.tests, "statistic").unwrap()[0], &p["ttest_rel"][0]);
    let level = |column: &str| values(&found.levels, column).unwrap()[1].clone();
    for (column, want) in ["mean", "low", "high"].iter().zip(json["seed_mean_t_ci95"].as_array().unwrap()) {
        close(&level(column), want);
    }
    let n = 10.0f64;
    assert!(
        (level("sd_population").as_f64().unwrap() - level("sd").as_f64().unwrap() * (0.9f64).sqrt()).abs() < 1e-15 * n
    );
}

#[test]
fn corrections_are_scipys_and_leave_undefined_tests_out() {
    let json = reference();
    let p: Vec<Option<f64>> = numbers(&json["holm"]["p"]).into_iter().map(Some).chain([None]).collect();
    let found = corrected(&p);
    for i in 0..4 {
        close(&number(found[i].0), &json["holm"]["adj"][i]);
        close(&number(found[i].1), &json["bh_scipy"][i]);
    }
    assert_eq!(found[4], (None, None));
}

/// The reference's two scorers as two levels, one seed, tested on the same 60 images of 30 patients.
fn two_scorers() -> (Vec<Point>, Cases) {
    let json = reference();
    let class: Vec<i32> = numbers(&json["data"]["y"]).iter().map(|v| *v as i32).collect();
    let scorer = |name: &str| Predictions {
        image: (0..60).map(|i| format!("{i}.png")).collect(),
        patient: Some((0..60).map(|i| Some(format!("p{}", i / 2))).collect()),
        names: vec!["normal".into(), "ill".into()],
        logits: numbers(&json["data"][name]).iter().flat_map(|p| [0.0, (p / (1.0 - p)).ln() as f32]).collect(),
        truth: Truths::Class(class.clone()),
    };
    let points = points(&[(0.1, 0, json["auc"]["b"].as_f64()), (1.0, 0, json["auc"]["a"].as_f64())]);
    let mut after = scorer("a");
    // Another order of the same images: they are paired by name.
    after.image.reverse();
    after.patient.as_mut().unwrap().reverse();
    after.logits = after.logits.chunks(2).rev().flatten().copied().collect();
    if let Truths::Class(c) = &mut after.truth {
        c.reverse();
    }
    let cases = Cases::of(vec![(points[0].axes.clone(), scorer("b")), (points[1].axes.clone(), after)]);
    (points, cases)
}

#[test]
fn delong_over_the_cells_predictions_is_the_reference() {
    let (points, cases) = two_scorers();
    let json = reference();
    let found = make(&points, &cases, &params(json!({})), "mean_auc").unwrap();
    let auc = &json["auc"];
    close(&first(&found.delong, "auc_to"), &auc["a"]);
    close(&first(&found.delong, "auc_from"), &auc["b"]);
    close(&first(&found.delong, "z"), &auc["delong_z"]);
    close(&first(&found.delong, "p"), &auc["delong_p_two_sided"]);
    close(&first(&found.delong, "auc_to_low"), &auc["delong_ci95_a"][0]);
    assert_eq!((found.delong.height(), first(&found.delong, "class")), (1, json!("ill")));
    let row = |column: &str| first(&found.table, column);
    assert_eq!((row("unit"), row("units")), (json!("patient"), json!(30)));
    let (low, high) = (row("bootstrap_low").as_f64().unwrap(), row("bootstrap_high").as_f64().unwrap());
    let difference = row("difference").as_f64().unwrap();
    assert!(low < difference && difference < high && low > 0.0 && high < 0.5, "{low} {difference} {high}");
    assert!(row("bca_low").is_f64() && row("two_level_low").is_null() && row("low").is_null());
    assert!(row("remark").as_str().unwrap().contains("one run a level: no bootstrap over seeds and cases"));
    let images = make(&points, &cases, &params(json!({"unit": "image"})), "mean_auc").unwrap();
    assert_eq!(first(&images.table, "units"), json!(60));
}

#[test]
fn levels_on_other_images_have_no_interval_over_cases_and_say_so() {
    let (points, _) = two_scorers();
    let one = |name: &str| Predictions {
        image: vec![format!("{name}1"), format!("{name}2")],
        patient: None,
        names: vec!["a".into(), "b".into()],
        logits: vec![1.0, 0.0, 0.0, 1.0],
        truth: Truths::Class(vec![0, 1]),
    };
    let cases = Cases::of(vec![(points[0].axes.clone(), one("x")), (points[1].axes.clone(), one("y"))]);
    let found = make(&points, &cases, &params(json!({})), "accuracy").unwrap();
    assert_eq!(first(&found.table, "bootstrap_low"), Value::Null);
    let remark = first(&found.table, "remark");
    assert!(remark.as_str().unwrap().contains("tested on other images"), "{remark}");
}

#[test]
fn constant_scores_have_half_the_area_and_no_test() {
    let (points, _) = two_scorers();
    let constant = Predictions {
        image: (0..8).map(|i| i.to_string()).collect(),
        patient: None,
        names: vec!["Edema".into()],
        logits: vec![0.5; 8],
        truth: Truths::Labels(vec![1, 0, 1, 0, 1, 0, -1, 1]),
    };
    let cases = Cases::of(vec![(points[0].axes.clone(), constant.clone()), (points[1].axes.clone(), constant.clone())]);
    let found = make(&points, &cases, &params(json!({})), "mean_auc").unwrap();
    assert_eq!((first(&found.delong, "auc_to"), first(&found.delong, "p")), (json!(0.5), Value::Null));
    assert!(first(&found.delong, "remark").as_str().unwrap().contains("no variance"));
    let rare = Predictions { truth: Truths::Labels(vec![1, 0, 0, 0, 0, 0, 0, 0]), ..constant };
    let cases = Cases::of(vec![(points[0].axes.clone(), rare.clone()), (points[1].axes.clone(), rare)]);
    let found = make(&points, &cases, &params(json!({})), "mean_auc").unwrap();
    assert_eq!((first(&found.delong, "auc_to"), first(&found.table, "bootstrap_low")), (Value::Null, Value::Null));
    assert_eq!(first(&found.delong, "remark"), json!("1 positive and 7 negative images: DeLong needs two of each"));
    assert!(first(&found.table, "remark").as_str().unwrap().contains("with 8 images the metric is undefined"));
}

#[test]
fn what_the_design_cannot_show_is_said() {
    let five: Vec<_> = (0..5).flat_map(|s| [(0.1, s, Some(0.5)), (1.0, s, Some(0.6 + 0.01 * s as f64))]).collect();
    let found = without_cases(&points(&five), json!({}));
    let sentence = "with 5 pairs no two-sided sign-flip or Wilcoxon p is below 0.0625";
    assert_eq!(first(&found.table, "remark"), json!(sentence));
    assert_eq!(first(&found.table, "p_sign_flip"), json!(0.0625));
    assert_eq!(found.notes, [("design_limits", 1, sentence.to_string())]);

    let one = without_cases(&points(&[(0.1, 0, Some(0.5)), (1.0, 0, Some(0.6))]), json!({}));
    for column in ["low", "high", "p_t", "p_wilcoxon", "p_sign_flip", "p_t_holm"] {
        assert_eq!(first(&one.table, column), Value::Null, "{column}");
    }
    assert_eq!(first(&one.table, "remark"), json!("one pair: no interval and no test"));
    assert_eq!(first(&one.levels, "remark"), json!("one run: no deviation and no interval over seeds"));
    assert_eq!(first(&one.levels, "sd"), Value::Null);
}

#[test]
fn one_scale_gives_no_comparison_but_its_level_and_a_note() {
    let found = without_cases(&points(&[(0.1, 0, Some(0.5)), (0.1, 1, None)]), json!({}));
    assert_eq!((found.table.height(), found.tests.height(), found.levels.height()), (0, 0, 1));
    assert_eq!((first(&found.levels, "runs"), first(&found.levels, "undefined")), (json!(1), json!(1)));
    assert_eq!(found.notes[0].2, "axis fraction has only 0.1: there is nothing to compare");
}

#[test]
fn targets_are_taken_together() {
    let mut all = Vec::new();
    for (t, base) in [("a", 0.2), ("b", 0.5), ("c", 0.7), ("d", 0.9)] {
        for (fraction, lift) in [(0.1, 0.0), (1.0, 0.05)] {
            for seed in 0..2u64 {
                let axes = vec![
                    ("fraction".into(), json!(fraction)),
                    ("target".into(), json!(t)),
                    ("seed".into(), json!(seed)),
                ];
                let value = Some(base + lift + 0.01 * seed as f64);
                all.push(Point { axes, facts: Vec::new(), value });
            }
        }
    }
    let found = without_cases(&all, json!({"targets": "target"}));
    let row = |column: &str, row: usize| values(&found.overall, column).unwrap()[row].clone();
    // scipy.stats.trim_mean([0.2, 0.21, 0.5, 0.51, 0.7, 0.71, 0.9, 0.91], 0.25) = 0.605
    close(&row("iqm", 0), &json!(0.605));
    close(&row("iqm", 1), &json!(0.655));
    assert_eq!((row("improvement", 0), row("improvement", 1)), (Value::Null, json!(1.0)));
    assert_eq!((row("targets", 1), row("runs", 1)), (json!(4), json!(8)));
    assert!(row("iqm_low", 1).as_f64().unwrap() < 0.655);
    let one_seed: Vec<Point> = all.into_iter().filter(|p| p.axis("seed") == Some(&json!(0))).collect();
    let found = without_cases(&one_seed, json!({"targets": "target"}));
    assert_eq!(first(&found.overall, "iqm_low"), Value::Null);
    assert_eq!(first(&found.overall, "remark"), json!("target a has 1 run: no interval over runs"));
}
