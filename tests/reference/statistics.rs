//! `statistics.json`: SciPy's and scikit-learn's statistics on given numbers.
//!
//! The field `rng` (NumPy's generators) belongs to the check of those.

use scaleshot::eval::{
    metric::{calibration, ranking},
    probe::ridge::Ridge,
    scaling::{Law, Loss, Observation, fit},
    statistic::{bootstrap, correction, delong::DeLong, interval, mean, paired},
};
use serde_json::Value;

/// What was checked, one line a statistic; or the first number that differs.
pub fn check(json: &Value) -> Result<Vec<String>, String> {
    let mut checked = Vec::new();
    cases(json, &mut checked)?;
    repeats(json, &mut checked)?;
    fits(json, &mut checked)?;
    probe(json, &mut checked)?;
    Ok(checked)
}

fn numbers(v: &Value) -> Result<Vec<f64>, String> {
    v.as_array()
        .map(|a| a.iter().filter_map(Value::as_f64).collect())
        .ok_or_else(|| format!("not a list of numbers: {v}"))
}

fn same(checked: &mut Vec<String>, name: &str, found: Option<f64>, want: &Value, relative: f64) -> Result<(), String> {
    match (found, want.as_f64()) {
        (Some(a), Some(b)) if (a - b).abs() <= relative * b.abs().max(1e-9) => {
            checked.push(name.to_string());
            Ok(())
        }
        (found, _) => Err(format!("{name} is {found:?}, reference {want}")),
    }
}

fn cases(json: &Value, checked: &mut Vec<String>) -> Result<(), String> {
    let y: Vec<bool> = numbers(&json["data"]["y"])?.iter().map(|v| *v > 0.0).collect();
    let (a, b) = (numbers(&json["data"]["a"])?, numbers(&json["data"]["b"])?);
    let auc = &json["auc"];
    same(checked, "auc a", ranking::auroc(&a, &y), &auc["a"], 1e-14)?;
    same(checked, "auc b", ranking::auroc(&b, &y), &auc["b"], 1e-14)?;
    same(checked, "ap a", ranking::average_precision(&a, &y), &json["ap"]["a"], 1e-14)?;
    same(checked, "ap b", ranking::average_precision(&b, &y), &json["ap"]["b"], 1e-14)?;
    same(checked, "brier", calibration::brier(&a, &y), &json["brier"], 1e-13)?;
    same(checked, "logloss", calibration::log_loss(&a, &y), &json["logloss"], 1e-13)?;
    same(checked, "ece15", calibration::ece(&a, &y, 15), &json["ece15_binary_pos_prob"], 1e-13)?;
    same(checked, "youden", ranking::youden(&a, &y).map(|v| v.0), &json["youden_threshold"], 0.0)?;

    let delong = DeLong::new(&[&a, &b], &y).ok_or("delong is not defined")?;
    for (i, found) in delong.covariance.iter().enumerate() {
        same(checked, "delong_cov", Some(*found), &auc["delong_cov"][i / 2][i % 2], 1e-11)?;
    }
    let test = delong.test(0, 1);
    same(checked, "delong_z", test.map(|t| t.statistic), &auc["delong_z"], 1e-11)?;
    same(checked, "delong_p", test.map(|t| t.p), &auc["delong_p_two_sided"], 1e-10)?;
    let ci = delong.interval(0, 0.95);
    same(checked, "delong_ci low", ci.map(|i| i.low), &auc["delong_ci95_a"][0], 1e-11)?;
    same(checked, "delong_ci high", ci.map(|i| i.high), &auc["delong_ci95_a"][1], 1e-11)
}

fn repeats(json: &Value, checked: &mut Vec<String>) -> Result<(), String> {
    let p = &json["paired"];
    let (x, y) = (numbers(&p["x"])?, numbers(&p["y"])?);
    let d = paired::differences(&x, &y).ok_or("pairs do not fit together")?;
    for (name, found, field) in [
        ("wilcoxon", paired::wilcoxon(&d), "wilcoxon"),
        ("ttest_rel", paired::t_test(&d), "ttest_rel"),
        ("nadeau_bengio", paired::nadeau_bengio(&d, 0.25), "nadeau_bengio_rho0.25"),
    ] {
        same(checked, name, found.map(|t| t.statistic), &p[field][0], 1e-11)?;
        same(checked, &format!("{name} p"), found.map(|t| t.p), &p[field][1], 1e-10)?;
    }
    same(checked, "sign_flip p", paired::sign_flip(&d).map(|t| t.p), &p["sign_flip_exact_p"], 0.0)?;

    let t = &json["seed_mean_t_ci95"];
    let found = interval::t_interval(&x, 0.95);
    same(checked, "t mean", found.map(|i| i.value), &t[0], 1e-14)?;
    same(checked, "t low", found.map(|i| i.low), &t[1], 1e-13)?;
    same(checked, "t high", found.map(|i| i.high), &t[2], 1e-13)?;

    let statistic = |rows: &[u32]| mean(&rows.iter().map(|&r| x[r as usize]).collect::<Vec<_>>());
    let boot = bootstrap::bootstrap(&bootstrap::Units::rows(x.len()), 9999, 0, statistic).ok_or("no bootstrap")?;
    same(checked, "bca acceleration", boot.acceleration, &json["bca"]["acceleration_jackknife_mean"], 1e-9)?;
    // Another stream of resamples: the ends, which lie on a grid of 0.001, may differ by one step.
    let bca = boot.bca(0.95).ok_or("no bca interval")?;
    for (name, found, i) in [("bca low", bca.low, 0), ("bca high", bca.high, 1)] {
        same(checked, name, Some(found), &json["bca"]["scipy_ci_rng0"][i], 1.3e-3)?;
    }

    let p = numbers(&json["holm"]["p"])?;
    for (i, found) in correction::holm(&p).into_iter().enumerate() {
        same(checked, "holm", Some(found), &json["holm"]["adj"][i], 1e-14)?;
    }
    for (i, found) in correction::benjamini_hochberg(&p).into_iter().enumerate() {
        same(checked, "benjamini-hochberg", Some(found), &json["bh_scipy"][i], 1e-14)?;
    }
    Ok(())
}

fn fits(json: &Value, checked: &mut Vec<String>) -> Result<(), String> {
    let p = &json["powerlaw"];
    let (x, y) = (numbers(&p["x"])?, numbers(&p["y"])?);
    let points: Vec<Observation> =
        x.iter().zip(&y).map(|(&data, &error)| Observation { data, model: 1.0, error }).collect();
    let found = fit(Law::PowerLaw, Loss::LeastSquares, &points).ok_or("no least-squares fit")?;
    let se = found.standard_errors(&points).ok_or("no standard errors")?;
    for (i, value) in found.parameters.iter().enumerate() {
        // SciPy stops at ftol = 1e-8, some 1e-7 from the minimum.
        same(checked, "power law", Some(*value), &p["a_b_c_unweighted_lsq"][i], 1e-6)?;
        same(checked, "power law se", Some(se[i]), &p["se"][i], 1e-5)?;
    }
    let h = &p["huber1e-3_logspace_lbfgs_best_of_grid"];
    let found = fit(Law::PowerLaw, Loss::Huber(Some(1e-3)), &points).ok_or("no robust fit")?;
    let below = h["obj"].as_f64().is_some_and(|o| found.objective <= o * (1.0 + 1e-9));
    if !below {
        return Err(format!("huber objective is {}, reference {}", found.objective, h["obj"]));
    }
    for name in ["a", "b", "c"] {
        same(checked, &format!("huber {name}"), found.parameter(name), &h[name], 1e-4)?;
    }
    Ok(())
}

fn probe(json: &Value, checked: &mut Vec<String>) -> Result<(), String> {
    let f = &json["fewshot_lsr"];
    let matrix = |v: &Value| -> Result<Vec<f64>, String> {
        let rows = v.as_array().ok_or("not a matrix")?;
        Ok(rows.iter().map(numbers).collect::<Result<Vec<_>, _>>()?.concat())
    };
    let (x, test) = (matrix(&f["X"])?, matrix(&f["Xtest"])?);
    let class: Vec<i32> = numbers(&f["labels"])?.into_iter().map(|v| v as i32).collect();
    let dim = x.len() / class.len();
    for (field, l2) in [("l2_1024_scores", 1024.0), ("l2_1_scores", 1.0)] {
        let want = matrix(&f[field])?;
        let found = Ridge::fit(&x, dim, &class, 3, l2).map_err(|e| e.to_string())?.scores(&test);
        for (found, want) in found.iter().zip(&want) {
            // The reference ran in float32.
            same(checked, field, Some(*found), &Value::from(*want), 1e-4)?;
        }
        if found.len() != want.len() {
            return Err(format!("{field}: {} scores, reference {}", found.len(), want.len()));
        }
    }
    Ok(())
}
