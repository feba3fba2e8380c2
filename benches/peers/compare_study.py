"""bench-study: a whole small study beside PyTorch scripts under Snakemake, interleaved.

One network is pre-trained on drawn images and carried over to others with two numbers of examples and five seeds:
eleven trainings and a table. Measured are the whole study from nothing, a second run with nothing to do, and a run
after the transfer's learning rate changed. Both sides train the same network on the same images for the same steps;
their accuracies are printed and kept beside the times, because a study that learns nothing is fast. Writes
benches/results/study.json, a list of {case, metric, unit, ours, peer, peer_name, ratio, better, runs} of medians, where
a ratio above 1 always means that this program is better.

SCALESHOT_BENCH_ROUNDS  rounds, 3 unless said"""
import csv
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import pyarrow.parquet

HERE = pathlib.Path(__file__).parent
STUDY = HERE / "study"
ROUNDS = int(os.environ.get("SCALESHOT_BENCH_ROUNDS", "3"))
CORES = len(os.sched_getaffinity(0))


def timed(command, folder):
    began = time.monotonic()
    done = subprocess.run([str(c) for c in command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-3000:]}")
    return time.monotonic() - began


def means(rows):
    """Mean accuracy by number of examples."""
    by = {}
    for row in rows:
        by.setdefault(str(row["shots"]), []).append(float(row["accuracy"]))
    return {shots: statistics.mean(values) for shots, values in sorted(by.items())}


class Scaleshot:
    def __init__(self, program):
        self.program = program

    def run(self, folder, lr):
        return timed([self.program, "run", STUDY / "study.yaml", "-p", f"lr={lr}", "--store", "store"], folder)

    def accuracy(self, folder):
        return means(pyarrow.parquet.read_table(folder / "reports/bench-study/scores.parquet").to_pylist())


class Snakemake:
    def run(self, folder, lr):
        settings = [f"lr={lr}", f"python={sys.executable}", f"train={STUDY / 'train.py'}"]
        command = [pathlib.Path(sys.executable).parent / "snakemake", "-c", CORES, "-q", "all", "-s", STUDY / "Snakefile"]
        return timed([*command, "--config", *settings], folder)

    def accuracy(self, folder):
        with open(folder / "scores.csv") as rows:
            return means(csv.DictReader(rows))


def main():
    if len(sys.argv) != 2:
        sys.exit("expected the program: compare_study.py SCALESHOT")
    program = pathlib.Path(sys.argv[1]).absolute()
    tools = {"ours": Scaleshot(program), "peer": Snakemake()}
    times, scores = {}, {}
    with tempfile.TemporaryDirectory() as top:
        top = pathlib.Path(top)
        for name, seed, each in (("source", 1, 200), ("target", 2, 100)):
            said = f"{{format: fractal, categories: 10, per_category: {each}, test_per_category: 50, seed: {seed}, size_px: 32}}"
            timed([program, "generate", said, top / name], top)
        for _ in range(ROUNDS):
            for side, tool in tools.items():
                folder = top / side
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                for name in ("source", "target"):
                    (folder / name).symlink_to(top / name)
                for case, lr in (("whole study", 0.05), ("nothing changed", 0.05), ("transfer's rate changed", 0.02)):
                    times.setdefault(case, {}).setdefault(side, []).append(tool.run(folder, lr))
                    if case == "nothing changed":
                        scores[side] = tool.accuracy(folder)
    import torch, snakemake
    name = f"PyTorch {torch.__version__} under Snakemake {snakemake.__version__}"
    rows = []
    for case, sides in times.items():
        ours, peer = (statistics.median(sides[side]) for side in ("ours", "peer"))
        rows.append(dict(case=case, metric="wall time", unit="s", ours=ours, peer=peer, peer_name=name, ratio=peer / ours,
                         better="lower", runs=ROUNDS))
    for shots, ours in scores["ours"].items():
        peer = scores["peer"][shots]
        rows.append(dict(case=f"{shots} examples a class", metric="accuracy, mean of 5 seeds", unit="", ours=ours, peer=peer,
                         peer_name=name, ratio=ours / peer, better="higher", runs=5))
    for row in rows:
        print("{case:28} {metric:28} {ours:9.3f} {peer:9.3f} {unit:3} {ratio:7.2f}  {peer_name}".format(**row), flush=True)
    results = HERE.parent / "results"
    results.mkdir(exist_ok=True)
    (results / "study.json").write_text(json.dumps(rows, indent=1) + "\n")


main()
