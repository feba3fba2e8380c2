use serde_json::{Value, json};

use super::*;
use crate::{kind::measurements::Point, report::frame::values};

fn params(extra: Value) -> Params {
    let mut all = json!({"metrics": "transfer", "data_size": "images", "resamples": 100});
    all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn point(images: Value, model: &str, seed: u64, value: Option<f64>) -> Point {
    let axes = vec![("images".into(), images), ("model".into(), json!(model)), ("seed".into(), json!(seed))];
    Point { axes, facts: Vec::new(), value }
}

/// Accuracy 1 − (0.1 + 3·n^(−0.4)), three seeds of ± 0.5 %, at six sizes.
fn study() -> Vec<Point> {
    let mut out = Vec::new();
    for n in [100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0f64] {
        for seed in 0..3u64 {
            let error = (0.1 + 3.0 * n.powf(-0.4)) * (1.0 + 0.005 * (seed as f64 - 1.0));
            out.push(point(json!(n), "bit-r50x1", seed, Some(1.0 - error)));
        }
    }
    out
}

fn tables(points: &[Point], extra: Value) -> Tables {
    let params = params(extra);
    make(&params.groups(points, "accuracy").unwrap(), &params, "accuracy", &Cancel::default()).unwrap()
}

fn of_law(frame: &Frame, law: &str, column: &str) -> Value {
    let at = values(frame, "law").unwrap().iter().position(|l| l == law).unwrap();
    values(frame, column).unwrap()[at].clone()
}

#[test]
fn the_law_that_foretells_best_is_chosen_and_asked_beyond_the_runs() {
    let found = tables(&study(), json!({"predict_at": [1e6]}));
    let chosen = |law| of_law(&found.table, law, "chosen");
    assert_eq!((chosen("power_law"), chosen("logarithmic")), (json!(true), json!(false)));
    assert_eq!(of_law(&found.table, "power_law", "chosen_by"), json!("extrapolation"));
    let number = |frame: &Frame, column: &str| of_law(frame, "power_law", column).as_f64().unwrap();
    assert!((number(&found.table, "b") - 0.4).abs() < 0.01 && (number(&found.table, "c") - 0.1).abs() < 0.01);
    assert!(number(&found.table, "b_low") < 0.4 && number(&found.table, "b_high") > 0.4);
    assert!(number(&found.table, "extrapolation_error") < 0.01);
    let truth = 1.0 - (0.1 + 3.0 * 1e6f64.powf(-0.4));
    assert!((number(&found.predicted, "score") - truth).abs() < 0.01);
    assert!(number(&found.predicted, "score_low") < truth && truth < number(&found.predicted, "score_high"));
    assert_eq!(of_law(&found.predicted, "power_law", "remark"), json!("33.333 times the largest size that was run"));
    assert!(number(&found.table, "sizes") == 6.0 && found.points.height() == 6 * 4);
    assert_eq!(values(&found.points, "foretold").unwrap().iter().filter(|v| v.is_f64()).count(), 4);
    assert_eq!(of_law(&found.table, "pure_power_law", "c"), Value::Null);
}

#[test]
fn points_that_cannot_bear_a_law_give_nulls_and_the_reason() {
    let few: Vec<Point> = study().into_iter().take(9).collect();
    let found = tables(&few, json!({"predict_at": [1e6]}));
    for column in ["a", "b", "c", "b_low", "aicc", "extrapolation_error", "chosen_by"] {
        assert_eq!(of_law(&found.table, "power_law", column), Value::Null, "{column}");
    }
    assert_eq!(of_law(&found.table, "power_law", "remark"), json!("3 sizes, 4 are needed"));
    assert_eq!(of_law(&found.predicted, "power_law", "score"), Value::Null);
    assert_eq!(of_law(&found.predicted, "power_law", "remark"), json!("3 sizes, 4 are needed"));
    assert_eq!(found.notes, [("no_law", 1, "model=bit-r50x1: 3 sizes, 4 are needed".to_string())]);
    assert_eq!(found.points.height(), 0);

    let one: Vec<Point> = study().into_iter().take(3).collect();
    let why = of_law(&tables(&one, json!({})).table, "power_law", "remark");
    assert_eq!(why, json!("one of the sizes only (100): nothing can be said about scale"));
}

#[test]
fn undefined_runs_are_counted_and_one_seed_a_size_draws_noise() {
    let mut points: Vec<Point> = study().into_iter().filter(|p| p.axis("seed") == Some(&json!(0))).collect();
    points.push(point(json!(300), "bit-r50x1", 1, None));
    let found = tables(&points, json!({}));
    assert_eq!(of_law(&found.table, "power_law", "undefined"), json!(1));
    assert_eq!(of_law(&found.table, "power_law", "resampled"), json!("noise"));
    assert!(found.notes.iter().any(|n| n.0 == "undefined_metric" && n.1 == 1));
}

#[test]
fn sizes_are_numbers_named_values_or_a_networks_parameters() {
    let p = params(json!({"model_size": "model", "sizes": {"full": 5000}}));
    let groups = p.groups(&[point(json!("full"), "bit-r50x1", 0, Some(0.5))], "accuracy").unwrap();
    assert_eq!(groups[0].points, [Observation { data: 5000.0, model: 23_500_352.0, error: 0.5 }]);
    let e = p.groups(&[point(json!("most"), "bit-r50x1", 0, Some(0.5))], "accuracy").err().unwrap();
    assert_eq!(
        (e.to_string().as_str(), e.hint()),
        ("images most is no size in numbers", Some("say what it means: sizes: { most: 1000 }"))
    );
    let e = p.groups(&[], "youden_threshold").err().unwrap();
    assert!(e.to_string().contains("whether more or less of youden_threshold is better"), "{e}");
}

#[test]
fn a_law_over_both_is_found_over_both() {
    let mut points = Vec::new();
    for n in [100.0, 1000.0, 10_000.0f64] {
        for m in [1e5, 1e6, 1e7f64] {
            for seed in 0..2u64 {
                let error = (0.05 + 3.0 * n.powf(-0.4) + 20.0 * m.powf(-0.4)) * (1.0 + 0.002 * seed as f64);
                points.push(point(json!(n), &m.to_string(), seed, Some(1.0 - error)));
            }
        }
    }
    let extra = json!({"model_size": "model", "laws": ["joint"], "predict_at": [{"data": 1e5, "model": 1e8}]});
    let found = tables(&points, extra);
    let number = |frame: &Frame, column: &str| of_law(frame, "joint", column).as_f64().unwrap();
    assert!((number(&found.table, "b") - 0.4).abs() < 0.02 && (number(&found.table, "e") - 0.4).abs() < 0.02);
    let truth = 0.05 + 3.0 * 1e5f64.powf(-0.4) + 20.0 * 1e8f64.powf(-0.4);
    assert!((number(&found.predicted, "error") - truth).abs() < 0.005);
    assert_eq!(
        of_law(&found.predicted, "joint", "remark"),
        json!("10.000 times the largest data size that was run; 10.000 times the largest model size that was run")
    );
}
