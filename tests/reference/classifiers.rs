//! `classifiers.json`: scikit-learn's metrics, operating points and probes, SciPy's aggregates; `classifiers.py` made it.

use scaleshot::eval::{
    metric::{
        Scores, Truth,
        probability::{sigmoid, softmax},
        score,
        threshold::{Rule, operating_points},
    },
    probe::{knn::Knn, logistic::Logistic},
    statistic::aggregate::{interquartile_mean, mean_improvement},
};
use scaleshot::progress::Cancel;
use serde_json::Value;

/// What was checked, one line a case; or the first number that differs.
pub fn check(json: &Value) -> Result<Vec<String>, String> {
    let cases = json["classifiers"].as_array().filter(|c| !c.is_empty()).ok_or("classifiers: no cases")?;
    let mut lines =
        cases.iter().map(|c| case(c).map_err(|e| format!("{}: {e}", c["name"]))).collect::<Result<Vec<_>, _>>()?;
    lines.push(probes(&json["probes"])?);
    lines.push(aggregates(&json["aggregates"])?);
    Ok(lines)
}

fn numbers(v: &Value) -> Result<Vec<f64>, String> {
    v.as_array().map(|a| a.iter().filter_map(Value::as_f64).collect()).ok_or_else(|| format!("no numbers: {v}"))
}

fn matrix(v: &Value) -> Result<Vec<Vec<f64>>, String> {
    v.as_array().ok_or_else(|| format!("no matrix: {v}"))?.iter().map(numbers).collect()
}

fn same(name: &str, found: Option<f64>, want: &Value, tolerance: f64) -> Result<(), String> {
    match (found, want.as_f64()) {
        (None, None) if want.is_null() => Ok(()),
        (Some(a), Some(b)) if (a - b).abs() <= tolerance => Ok(()),
        (found, _) => Err(format!("{name} is {found:?}, reference {want}")),
    }
}

fn case(json: &Value) -> Result<String, String> {
    let width = json["classes"].as_u64().ok_or("no classes")? as usize;
    let logits = matrix(&json["logits"])?.concat();
    let single = json["task"] == "single";
    let (class, labels): (Vec<i32>, Vec<i8>) = if single {
        (numbers(&json["labels"])?.iter().map(|v| *v as i32).collect(), Vec::new())
    } else {
        (Vec::new(), matrix(&json["labels"])?.concat().iter().map(|v| *v as i8).collect())
    };
    let truth = if single { Truth::Class(&class) } else { Truth::Labels(&labels) };
    let scores: Scores = score(&logits, width, truth);
    let overall = json["overall"].as_object().ok_or("no overall")?;
    for (name, want) in overall {
        same(name, scores.value(name), want, 1e-12)?;
    }
    let mut thresholds = 0;
    for (c, want) in json["per_class"].as_array().ok_or("no per_class")?.iter().enumerate() {
        for (name, want) in want.as_object().ok_or("no object")? {
            if name == "points" {
                thresholds += points(&logits, width, truth, c, want)?;
            } else {
                same(&format!("class {c} {name}"), scores.class_value(name, c), want, 1e-12)?;
            }
        }
    }
    if let Some(want) = json["confusion"].as_array() {
        let found = scores.confusion.as_ref().ok_or("no confusion matrix")?;
        for (t, row) in want.iter().enumerate() {
            for (p, want) in numbers(row)?.into_iter().enumerate() {
                if found.count(t, p) != want as u64 {
                    return Err(format!("confusion {t} {p} is {}, reference {want}", found.count(t, p)));
                }
            }
        }
    }
    Ok(format!("{}: {} overall, {width} classes, {thresholds} operating points", json["name"], overall.len()))
}

fn points(logits: &[f64], width: usize, truth: Truth, class: usize, want: &Value) -> Result<usize, String> {
    let rows = logits.len() / width;
    let (scores, positive): (Vec<f64>, Vec<bool>) = match truth {
        Truth::Class(y) => {
            let p = softmax(logits, width);
            (0..rows).filter(|&i| y[i] >= 0).map(|i| (p[i * width + class], y[i] == class as i32)).unzip()
        }
        Truth::Labels(y) => {
            let at = |i: usize| i * width + class;
            (0..rows).filter(|&i| y[at(i)] >= 0).map(|i| (sigmoid(logits[at(i)]), y[at(i)] > 0)).unzip()
        }
    };
    let rules = [Rule::Youden, Rule::Sensitivity(0.9), Rule::Specificity(0.9)];
    let mut checked = 0;
    let found = operating_points(&scores, &positive, &rules);
    for (name, found) in ["youden", "sensitivity_0.9", "specificity_0.9"].iter().zip(found) {
        let want = if want.is_null() { &Value::Null } else { &want[name] };
        match found {
            None if want.is_null() => {}
            Some(p) => {
                let found = [p.threshold, p.sensitivity(), p.specificity()];
                for (i, value) in found.into_iter().enumerate() {
                    same(&format!("class {class} {name} {i}"), Some(value), &want[i], 1e-12)?;
                }
                checked += 1;
            }
            None => return Err(format!("class {class} {name} has no point, reference {want}")),
        }
    }
    Ok(checked)
}

fn probes(json: &Value) -> Result<String, String> {
    let (x, test) = (matrix(&json["x"])?, matrix(&json["test"])?);
    let (dim, x, test) = (x[0].len(), x.concat(), test.concat());
    let class: Vec<i32> = numbers(&json["class"])?.iter().map(|v| *v as i32).collect();
    let path = json["logistic_path"].as_object().ok_or("no logistic path")?;
    let mut penalties: Vec<f64> = path.keys().filter_map(|k| k.parse().ok()).collect();
    penalties.sort_by(|a, b| b.total_cmp(a));
    let fitted = Logistic::path(&x, dim, &class, 3, &penalties, &Cancel::default()).map_err(|e| e.to_string())?;
    for (l2, model) in penalties.iter().zip(&fitted) {
        let want = matrix(path.iter().find(|(k, _)| k.parse() == Ok(*l2)).ok_or("no penalty")?.1)?.concat();
        for (found, want) in softmax(&model.logits(&test), 3).into_iter().zip(want) {
            same(&format!("logistic l2 {l2}"), Some(found), &Value::from(want), 1e-5)?;
        }
    }
    let knn = Knn::new(&x, dim, &class, 3).map_err(|e| e.to_string())?;
    for want in json["knn"].as_array().ok_or("no knn")? {
        let (k, temperature) =
            (want["k"].as_u64().ok_or("no k")?, want["temperature"].as_f64().ok_or("no temperature")?);
        let found = knn.probabilities(&test, k as usize, temperature);
        for (found, want) in found.into_iter().zip(matrix(&want["probabilities"])?.concat()) {
            same(&format!("knn k {k}"), Some(found), &Value::from(want), 1e-12)?;
        }
    }
    Ok(format!("probes: {} penalties, kNN", penalties.len()))
}

fn aggregates(json: &Value) -> Result<String, String> {
    let (a, b) = (matrix(&json["a"])?, matrix(&json["b"])?);
    same("iqm a", interquartile_mean(&a.concat()), &json["iqm_a"], 1e-14)?;
    same("iqm b", interquartile_mean(&b.concat()), &json["iqm_b"], 1e-14)?;
    same("improvement", mean_improvement(&a, &b), &json["improvement"], 1e-14)?;
    Ok("aggregates: interquartile mean, probability of improvement".into())
}
