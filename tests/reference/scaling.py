#!/usr/bin/env python3
"""Makes scaling.json: laws of the error over sizes as SciPy fits them (scipy 1.17, numpy 2.4).

    python tests/reference/scaling.py > tests/reference/scaling.json

least_squares: scipy.optimize.curve_fit on the errors, best of a grid of starts, standard errors from its covariance.
huber: scipy.optimize.least_squares(loss="huber", f_scale=delta) on differences of logarithms, best of the same grid;
its cost is Σ Huber as this program writes it.
"""

import itertools
import json
import sys

import numpy as np
import scipy
from scipy.optimize import curve_fit, least_squares

LAWS = {
    "power_law": (lambda n, m, a, b, c: c + a * n**-b, ["a", "b", "c"]),
    "pure_power_law": (lambda n, m, a, b: a * n**-b, ["a", "b"]),
    "exponential": (lambda n, m, a, b, c: c + a * np.exp(-b * n), ["a", "b", "c"]),
    "logarithmic": (lambda n, m, a, b: a - b * np.log(n), ["a", "b"]),
    "joint": (lambda n, m, a, b, d, e, c: c + a * n**-b + d * m**-e, ["a", "b", "d", "e", "c"]),
    "pure_joint": (lambda n, m, a, b, d, e: a * n**-b + d * m**-e, ["a", "b", "d", "e"]),
    "joint_product": (lambda n, m, a, b, e, c: c + a * n**-b * m**-e, ["a", "b", "e", "c"]),
}
GRID = {
    "a": [0.1, 1.0, 10.0], "d": [0.1, 1.0, 10.0], "c": [0.01, 0.1, 0.3], "b": [0.1, 0.5, 1.0], "e": [0.1, 0.5, 1.0],
}
TRUTH = {
    "power_law": [1.8, 0.42, 0.07],
    "pure_power_law": [1.2, 0.21],
    "exponential": [0.45, 0.03, 0.12],
    "logarithmic": [0.62, 0.045],
    "joint": [2.5, 0.45, 3.0, 0.3, 0.06],
    "pure_joint": [2.0, 0.35, 2.0, 0.22],
    "joint_product": [6.0, 0.25, 0.12, 0.08],
}


def points(name, rng):
    data = [2, 5, 10, 25, 50, 100, 250] if name == "exponential" else [50, 150, 500, 1500, 5000, 20000, 100000]
    model = [2e4, 1e5, 6e5, 4e6] if name in ("joint", "pure_joint", "joint_product") else [1.0]
    grid = [(float(n), m) for n in data for m in model for _ in range(1 if len(model) > 1 else 3)]
    n, m = np.array(grid).T
    clean = LAWS[name][0](n, m, *TRUTH[name])
    return n, m, np.round(clean * np.exp(0.02 * rng.standard_normal(len(n))), 6)


def starts(names):
    return itertools.product(*(GRID[p] for p in names))


def lsq(name, n, m, y):
    law, names = LAWS[name]
    best = None
    unit = 50.0 if name == "exponential" else 1.0
    for start in starts(names):
        start = [s / unit if p == "b" and name == "exponential" else s for p, s in zip(names, start)]
        try:
            with np.errstate(all="ignore"):
                p, cov = curve_fit(lambda x, *p: law(x[0], x[1], *p), (n, m), y, start, maxfev=20000, ftol=1e-14,
                                   xtol=1e-14, gtol=1e-14)
        except RuntimeError:
            continue
        cost = float(np.sum((law(n, m, *p) - y) ** 2))
        if np.isfinite(cost) and (best is None or cost < best[0]):
            best = (cost, p, np.sqrt(np.diag(cov)))
    return {"objective": best[0], "parameters": dict(zip(names, map(float, best[1]))),
            "se": dict(zip(names, map(float, best[2])))}


def huber(name, n, m, y, delta):
    law, names = LAWS[name]
    positive = np.array([p in "acd" for p in names])
    if name == "logarithmic":
        positive[:] = False
    best = None

    def residual(t):
        with np.errstate(all="ignore"):
            said = law(n, m, *np.where(positive, np.exp(np.clip(t, -60, 60)), t))
        return np.log(np.maximum(said, 1e-300)) - np.log(y)

    for start in starts(names):
        start = np.array([s / 50 if p == "b" and name == "exponential" else s for p, s in zip(names, start)])
        t = np.where(positive, np.log(start), start)
        with np.errstate(all="ignore"):
            if not np.all(np.isfinite(residual(t))):
                continue
            r = least_squares(residual, t, loss="huber", f_scale=delta, xtol=1e-15, ftol=1e-15, gtol=1e-15,
                              x_scale="jac", max_nfev=4000)
        if best is None or r.cost < best[0]:
            best = (float(r.cost), np.where(positive, np.exp(r.x), r.x))
    return {"delta": delta, "objective": best[0], "parameters": dict(zip(names, map(float, best[1])))}


def main():
    rng = np.random.default_rng(7)
    cases = []
    for name in LAWS:
        n, m, y = points(name, rng)
        odd = y.copy()
        odd[3] *= 1.4
        cases.append({"law": name, "data": n.tolist(), "model": m.tolist(), "error": y.tolist(),
                      "least_squares": lsq(name, n, m, y), "huber": huber(name, n, m, y, 0.01),
                      "with_one_odd_run": {"error": odd.tolist(), "huber": huber(name, n, m, odd, 0.01)}})
        print(name, cases[-1]["least_squares"]["parameters"], cases[-1]["huber"]["parameters"], file=sys.stderr)
    json.dump({"scaling": cases, "versions": {"scipy": scipy.__version__, "numpy": np.__version__}}, sys.stdout, indent=1)
    print()


main()
