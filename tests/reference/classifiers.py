#!/usr/bin/env python3
"""Makes classifiers.json: metrics, operating points, probes and aggregates (scikit-learn 1.9, scipy 1.17, numpy 2.4).

    python tests/reference/classifiers.py > tests/reference/classifiers.json

Scores are rounded, so that many of them tie. Rows of unknown truth (-1) are left out before scikit-learn sees them.
"""

import json
import sys
import warnings

import numpy as np
import scipy
import sklearn
from scipy.special import expit, softmax
from scipy.stats import mannwhitneyu, trim_mean
from sklearn import metrics as skm
from sklearn.linear_model import LogisticRegression

warnings.filterwarnings("ignore")


def clean(v):
    v = float(v)
    return None if not np.isfinite(v) else v


def ece(p, right, bins=15):
    which = np.clip(np.ceil(p * bins), 1, bins)
    return float(sum(abs(right[which == b].sum() - p[which == b].sum()) for b in range(1, bins + 1)) / len(p))


def binary(score, y):
    out = {"auc": None, "ap": None, "points": None}
    if 0 < y.sum() < len(y):
        fpr, tpr, t = skm.roc_curve(y, score, drop_intermediate=False)
        fpr, tpr, t = fpr[1:], tpr[1:], t[1:]  # without the point at infinity
        j = np.argmax(np.round(tpr - fpr, 12))
        rules = {"youden": int(j) if tpr[j] - fpr[j] > 1e-12 else None}
        rules["sensitivity_0.9"] = int(np.flatnonzero(tpr >= 0.9)[0])
        able = np.flatnonzero(1 - fpr >= 0.9)
        rules["specificity_0.9"] = int(able[-1]) if len(able) else None
        points = {k: None if i is None else [float(t[i]), float(tpr[i]), float(1 - fpr[i])] for k, i in rules.items()}
        out = {"auc": float(skm.roc_auc_score(y, score)), "ap": float(skm.average_precision_score(y, score)),
               "points": points}
    return out


def single(name, n, k, rng, unknown, absent=None):
    logits = np.round(rng.standard_normal((n, k)) * 1.5, 1)
    y = rng.integers(0, k, n)
    if absent is not None:
        y[y == absent] = (absent + 1) % k
    logits[np.arange(n), y] += 0.8
    # Two classes tie by a shared 0; of more, equal differences of rounded logits would tie only up to their last bits.
    logits = np.round(logits, 1) if k == 2 else np.round(logits + 1e-3 * rng.standard_normal((n, k)), 6)
    if k == 2:
        logits[:, 0] = 0
    labels = np.where(rng.random(n) < unknown, -1, y)
    known = labels >= 0
    p, t = softmax(logits[known], axis=1), labels[known]
    top = p.argmax(1)
    every = list(range(k))
    per = []
    for c in every:
        one = binary(p[:, c], (t == c).astype(int))
        for metric in ("precision", "recall", "f1"):
            f = getattr(skm, metric + "_score")
            one[metric] = clean(f(t == c, top == c, zero_division=np.nan))
        per.append(one)
    out = {
        "accuracy": skm.accuracy_score(t, top),
        "balanced_accuracy": skm.balanced_accuracy_score(t, top),
        "log_loss": skm.log_loss(t, p, labels=every),
        "brier": skm.brier_score_loss(t, p[:, 1]) if k == 2 else skm.brier_score_loss(t, p, labels=every),
        "ece": ece(p.max(1), top == t),
    }
    if k > 5:
        out["top5_accuracy"] = skm.top_k_accuracy_score(t, p, k=5, labels=every)
    return {"name": name, "task": "single", "classes": k, "logits": logits.tolist(), "labels": labels.tolist(),
            "overall": {m: float(v) for m, v in out.items()}, "per_class": per,
            "confusion": skm.confusion_matrix(t, top, labels=every).tolist()}


def multi(name, n, k, rng):
    logits = np.round(rng.standard_normal((n, k)) * 2, 1)
    labels = (rng.random((n, k)) < 0.3).astype(int)
    logits = np.round(logits + labels, 1)
    labels[rng.random((n, k)) < 0.2] = -1
    labels[:, -1] = np.where(labels[:, -1] == 1, 0, labels[:, -1])  # a finding without positives
    per, losses = [], {"log_loss": [], "brier": [], "ece": []}
    for c in range(k):
        known = labels[:, c] >= 0
        p, t = expit(logits[known, c]), labels[known, c]
        one = binary(p, t)
        for metric in ("precision", "recall", "f1"):
            one[metric] = clean(getattr(skm, metric + "_score")(t, p > 0.5, zero_division=np.nan))
        one["log_loss"] = float(skm.log_loss(t, p, labels=[0, 1]))
        one["brier"] = float(np.mean((p - t) ** 2))
        one["ece"] = ece(p, t.astype(bool))
        for m in losses:
            losses[m].append(one[m])
        per.append(one)
    known = labels >= 0
    overall = {"accuracy": float(((expit(logits) > 0.5) == (labels == 1))[known].mean())}
    overall.update({m: float(np.mean(v)) for m, v in losses.items()})
    return {"name": name, "task": "multi", "classes": k, "logits": logits.tolist(), "labels": labels.tolist(),
            "overall": overall, "per_class": per}


def probes(rng):
    n, d, k = 60, 5, 3
    y = np.arange(n) % k
    x = rng.standard_normal((n, d)) + 1.2 * np.eye(k, d)[y]
    x, test = np.round(x, 3), np.round(rng.standard_normal((12, d)) + 0.6, 3)
    z = (x - x.mean(0)) / x.std(0)
    zt = (test - x.mean(0)) / x.std(0)
    path = {}
    for l2 in (1.0, 0.1, 0.01, 0.001):
        model = LogisticRegression(C=1 / (l2 * n), tol=1e-12, max_iter=100000).fit(z, y)
        path[str(l2)] = model.predict_proba(zt).tolist()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = (test / np.linalg.norm(test, axis=1, keepdims=True)) @ unit.T
    knn = []
    for neighbours, temperature in ((1, 0.07), (5, 0.07), (20, 0.2), (1000, 1.0)):
        votes = np.zeros((len(test), k))
        for i, row in enumerate(similarity):
            near = np.argsort(-row, kind="stable")[:neighbours]
            np.add.at(votes[i], y[near], np.exp(row[near] / temperature))
        knn.append({"k": neighbours, "temperature": temperature,
                    "probabilities": (votes / votes.sum(1, keepdims=True)).tolist()})
    return {"x": x.tolist(), "class": y.tolist(), "test": test.tolist(), "logistic_path": path, "knn": knn}


def aggregates(rng):
    a, b = np.round(rng.random((5, 4)), 2), np.round(rng.random((5, 4)) * 0.9, 2)
    better = [mannwhitneyu(x, y).statistic / 16 for x, y in zip(a, b)]
    return {"a": a.tolist(), "b": b.tolist(), "iqm_a": float(trim_mean(a, 0.25, axis=None)),
            "iqm_b": float(trim_mean(b, 0.25, axis=None)), "improvement": float(np.mean(better))}


def main():
    rng = np.random.default_rng(11)
    out = {
        "classifiers": [
            single("two classes", 80, 2, rng, 0.0),
            single("three classes, some unknown", 90, 3, rng, 0.15),
            single("seven classes, one absent", 120, 7, rng, 0.05, absent=6),
            multi("five findings with unknowns", 100, 5, rng),
        ],
        "probes": probes(rng),
        "aggregates": aggregates(rng),
        "versions": {"sklearn": sklearn.__version__, "scipy": scipy.__version__, "numpy": np.__version__},
    }
    json.dump(out, sys.stdout, separators=(",", ":"))
    print()


main()
