"""bench-cuda: training and inference on a GPU beside PyTorch's, interleaved, as ratios.

Both sides run as workers that keep their case loaded; each round asks one for a few steps and then the other, and
medians over the rounds are compared. The largest model takes each side's own largest batch that fits, one side after
the other, since both do not fit at once. Writes benches/results/cuda.json (or SCALESHOT_BENCH_OUT), a list of {case,
metric, unit, ours, peer, peer_name, ratio, better, runs}, where a ratio above 1 always means that this program is
better. For shares of the card's ceilings the peer is the measured product or copy. A case that one side cannot run,
for want of memory or time say, has a line with its error and no ratio. Ends with 1 where nothing could be compared.

Both sides choose cuDNN's algorithms by time; "deterministic" cases, and the largest model, whose algorithms would take
long to time, have ours choose them so that every run gives the same bits. `asked` is the ratio to reach on an H100.

SCALESHOT_BENCH_ONLY     a regular expression that chooses cases: "bit-r50x1 224 64 bf16 train eager", "cells"
SCALESHOT_BENCH_SECONDS  the whole bench takes no longer, 480 unless said: what is left then is told
SCALESHOT_BENCH_ROUNDS   rounds of each case, 5 unless said
SCALESHOT_BENCH_CUDA     the compiled bench, which is built unless said
SCALESHOT                the program, for whole cells; without it they are left out"""
import json
import os
import pathlib
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
RESULTS = pathlib.Path(os.environ.get("SCALESHOT_BENCH_OUT") or HERE.parent / "results" / "cuda.json")
ROUNDS = int(os.environ.get("SCALESHOT_BENCH_ROUNDS", "5"))
DEADLINE = time.monotonic() + float(os.environ.get("SCALESHOT_BENCH_SECONDS", "480"))
ONLY = re.compile(os.environ.get("SCALESHOT_BENCH_ONLY", ""))
# Steps of a request by model, pixels and batch.
STEPS = {
    ("bit-r50x1", 224, 128): 4,
    ("bit-r26x0.25", 32, 64): 40,
    ("bit-r50x1", 224, 64): 8,
    ("bit-r50x1", 224, 256): 2,
}
MIDDLE, SMALL, LOW, HIGH = STEPS
# What is run, the most telling first, since time may run out: (case, mode, compiled), or whole cells. Compiling the
# largest model takes longer than all else together.
ORDER = [
    (MIDDLE, "train", False),
    "cells",
    (MIDDLE, "train", True),
    (SMALL, "train", False),
    (SMALL, "train", True),
    (MIDDLE, "infer", False),
    (MIDDLE, "infer", True),
    (MIDDLE, "train", "deterministic"),
    ("bit-r152x4", 480, [32, 16, 8, 4, 2]),
    (LOW, "train", False),
    (HIGH, "train", False),
    ("bit-r152x4", 224, [128, 64, 32, 16]),
    (LOW, "train", True),
    (HIGH, "train", True),
    (SMALL, "infer", False),
    (SMALL, "infer", True),
    (LOW, "infer", False),
    (HIGH, "infer", False),
]
PRECISION = "bf16"
# Ratios to reach on an H100: (case, metric, peer, ratio), each but the last a regular expression.
ASKED = [
    (r"bit-r50x1 224 px batch \d+ bf16 train$", "throughput", "eager", 1.3),
    (r"bit-r50x1 224 px batch \d+ bf16 train$", "throughput", "compiled", 1.1),
    (r"bit-r50x1 224 px batch \d+ bf16 train$", "peak memory", "eager", 1 / 0.7),
    (r"bit-r26x0.25 .* train$", "throughput", "eager", 2.0),
    (r"from shards", "throughput", "bare step", 0.9),
]


def build():
    command = ["cargo", "build", "--release", "--locked", "--features", "cuda", "--bench", "cuda", "--message-format=json"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "cuda":
            return [message["executable"]]
    sys.exit("cargo built no bench named cuda")


def chosen(deterministic):
    return dict(os.environ, SCALESHOT_CUDA_DETERMINISTIC=str(int(deterministic)))


class Worker:
    """A process that answers a line with a line, and is ended where it does not in time."""

    def __init__(self, command, deterministic=False):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE, env=chosen(deterministic)
        )

    def ask(self, **message):
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
            left = DEADLINE - time.monotonic()
            # One line answers one question, so nothing of an answer is ever left in a buffer that select cannot see.
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                self.process.kill()
                return {"error": "stopped: the time was over"}
            line = self.process.stdout.readline()
        except OSError as e:
            return {"error": f"the worker ended: {e}"}
        return json.loads(line) if line else {"error": "the worker ended; its error is above"}

    def close(self):
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def row(case, metric, unit, ours, peer, peer_name, better, runs):
    ratio = ours / peer if better == "higher" else peer / ours
    made = dict(
        case=case, metric=metric, unit=unit, ours=ours, peer=peer, peer_name=peer_name, ratio=ratio, better=better, runs=runs
    )
    for of, what, whom, asked in ASKED:
        if re.search(of, case) and what == metric and whom in peer_name:
            made["asked"] = asked
    return made


def failed(case, name, mine, others, batch):
    """The line of a case that a side could not run, with the rate of the one that could."""
    told = {side: next((m["error"] for m in of if "error" in m), None) for side, of in (("ours", mine), ("peer", others))}
    rates = {}
    for side, of in (("ours", mine), ("peer", others)):
        seconds = [m["seconds"] for m in of if "seconds" in m]
        if not told[side] and seconds:
            rates[side] = batch / statistics.median(seconds)
    return [dict(case=case, metric="throughput", unit="images/s", peer_name=name, error=told, **rates)]


def compare(program, ceilings, model, px, batch, mode, compiled):
    """Rows of one case. Both workers are new, so that neither holds the other's memory from before."""
    deterministic, compiled = compiled == "deterministic", compiled is True
    case = f"{model} {px} px batch {batch} {PRECISION} {mode}" + (" deterministic" if deterministic else "")
    steps = STEPS[model, px, batch]
    ours, theirs = Worker(program, deterministic), Worker([sys.executable, "cuda_torch.py"])
    try:
        about = dict(model=model, px=px, batch=batch, precision=PRECISION, mode=mode, micro=None)
        # Ours is told first: its memory is what is gone from the card, of which PyTorch has none yet.
        first = ours.ask(**about)
        peer = theirs.ask(**about, compiled=compiled)
        name = "PyTorch {} {}".format(peer.get("ready", ""), "compiled" if compiled else "eager")
        mine, others = [first] if "error" in first else [], [peer] if "error" in peer else []
        for _ in range(ROUNDS):
            if "error" not in first:
                mine.append(ours.ask(steps=steps))
            if "error" not in peer:
                others.append(theirs.ask(steps=steps))
        if any("error" in m for m in mine + others):
            return failed(case, name, mine, others, batch)
        middle = lambda of, key: statistics.median(m[key] for m in of)
        seconds, peer_seconds = middle(mine, "seconds"), middle(others, "seconds")
        rows = [
            row(case, "throughput", "images/s", batch / seconds, batch / peer_seconds, name, "higher", ROUNDS),
            row(case, "peak memory", "bytes", first["peak_bytes"], others[-1]["peak_bytes"], name, "lower", ROUNDS),
        ]
        if ceilings and not compiled and not deterministic:
            # A backward pass makes two products for each of the forward pass, and moves twice its maps.
            passes = 3 if mode == "train" else 1
            done, moved = passes * first["flops"] / seconds, passes * first["bytes"] / seconds
            rows.append(row(case, "convolutions", "FLOP/s", done, ceilings[PRECISION], f"product in {PRECISION}", "higher", ROUNDS))
            rows.append(row(case, "maps moved", "bytes/s", moved, ceilings["copy"], "copy", "higher", ROUNDS))
        return rows
    finally:
        ours.close()
        theirs.close()


def largest(command, model, px, batches):
    """The largest batch that one side trains at once, its images a second, and what was said of larger ones."""
    refused = {}
    for batch in batches:
        worker = Worker(command, deterministic=True)
        try:
            ready = worker.ask(model=model, px=px, batch=batch, precision=PRECISION, mode="train", micro=batch, compiled=False)
            steps = [] if "error" in ready else [worker.ask(steps=1) for _ in range(ROUNDS)]
        finally:
            worker.close()
        wrong = next((m["error"] for m in [ready, *steps] if "error" in m), None)
        if wrong is None:
            seconds = statistics.median(m["seconds"] for m in steps)
            peak = ready.get("peak_bytes") or steps[-1]["peak_bytes"]
            return dict(batch=batch, rate=batch / seconds, peak=peak, ready=ready["ready"], refused=refused)
        refused[batch] = wrong
        if time.monotonic() > DEADLINE:
            break
    return dict(batch=None, refused=refused)


def compare_largest(program, model, px, batches):
    """Rows of a model that takes all of the card: each side alone, with the largest batch that it has room for."""
    ours, theirs = largest(program, model, px, batches), largest([sys.executable, "cuda_torch.py"], model, px, batches)
    case = f"{model} {px} px {PRECISION} train, largest batch (ours {ours['batch']}, peer {theirs['batch']})"
    if ours["batch"] is None or theirs["batch"] is None:
        rates = {side: of["rate"] for side, of in (("ours", ours), ("peer", theirs)) if of["batch"]}
        told = {"ours": ours["refused"], "peer": theirs["refused"]}
        return [dict(case=case, metric="throughput", unit="images/s", peer_name="PyTorch eager", error=told, **rates)]
    name = f"PyTorch {theirs['ready']} eager"
    return [
        row(case, "throughput", "images/s", ours["rate"], theirs["rate"], name, "higher", ROUNDS),
        row(case, "batch", "images", ours["batch"], theirs["batch"], name, "higher", 1),
        row(case, "peak memory", "bytes", ours["peak"], theirs["peak"], name, "lower", 1),
    ]


PIPELINE = """
pipeline: bench-cuda
nodes:
  made: {{ dataset: {{ format: fractal, categories: 10, per_category: 100, test_per_category: 20, seed: 1, size_px: 256 }} }}
  pixels: {{ images: {{ data: made, size_px: 256 }} }}
  pretrain:
    pretrain:
      data: pixels
      model: {model}
      batch: {batch}
      steps: {steps}
      curve_every: {every}
      precision: bf16
      device: cuda:0
      view: {{ whole: {{ px: 224 }} }}
      augment: {{ random_resized_crop: {{}} }}
      optimizer: {{ sgd_agc: {{ lr: 0.1 }} }}
  transfer:
    transfer:
      model: pretrain
      data: pixels
      leakage: report
      batch: {batch}
      steps: {steps}
      curve_every: {every}
      precision: bf16
      device: cuda:0
      view: {{ whole: {{ px: 224 }} }}
      augment: {{ crop: {{ resize_px: 256 }} }}
"""


def cells(scaleshot, bare):
    """Steps of whole cells from shards beside the bare step's rate."""
    (model, _, batch), steps = MIDDLE, 400
    if bare is None:
        return [dict(case="cells", error="left out: the bare step has no rate")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "bench.yaml"
        # A loss that is logged is waited for, so they are few, as in a real training.
        path.write_text(PIPELINE.format(model=model, batch=batch, steps=steps, every=steps // 4))
        command = [scaleshot, "run", str(path), "--gpus", "0", "--store", f"{folder}/store", "--reports", f"{folder}/reports"]
        try:
            left = max(1, DEADLINE - time.monotonic())
            run = subprocess.run(command, cwd=folder, env=chosen(False), timeout=left)
        except subprocess.TimeoutExpired:
            return [dict(case="cells", error="stopped: the time was over")]
        if run.returncode:
            return [dict(case="cells", error=f"exit code {run.returncode}")]
        for record in pathlib.Path(folder).glob("store/**/*.json"):
            try:
                content = json.loads(record.read_text())
            except ValueError:
                continue
            measured = content.get("measured") if isinstance(content, dict) else None
            if not measured or "step_ms" not in measured:
                continue
            rate = batch * 1e3 / measured["step_ms"]
            case = f"{model} 224 px batch {batch} bf16 {content.get('kind', 'cell')} from shards on {measured.get('device')}"
            rows.append(row(case, "throughput", "images/s", rate, bare, "bare step", "higher", 1))
    return rows or [dict(case="cells", error="no record tells the time of a step")]


def keep(rows):
    """Puts rows in the place of those that the results hold of the same cases and peers."""
    same = lambda r: (r["case"], r.get("metric"), r.get("peer_name"))
    new = {same(r) for r in rows}
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([r for r in old if same(r) not in new] + rows, indent=1) + "\n")
    for r in rows:
        if "ratio" in r:
            asked = f"  (asked {r['asked']:.2f})" if "asked" in r else ""
            line = "{case:60} {metric:14} {ours:16.4g} {peer:16.4g} {peer_name:28} {ratio:6.2f}".format(**r)
            print(line + asked, flush=True)
        else:
            print(json.dumps(r), flush=True)


def main():
    named = os.environ.get("SCALESHOT_BENCH_CUDA")
    program = [str(pathlib.Path(named).resolve())] if named else build()
    bare, ceilings, compared = None, None, 0
    torch = Worker([sys.executable, "cuda_torch.py"])
    answered = torch.ask(ceilings=True)
    torch.close()
    if "ceilings" in answered:
        ceilings = answered["ceilings"]
        print(f"{answered['device']}: " + ", ".join(f"{name} {rate:.3g}/s" for name, rate in ceilings.items()), flush=True)
    else:
        print(json.dumps(answered), flush=True)
    for item in ORDER:
        if item == "cells":
            words, work = "cells", lambda: cells(os.environ["SCALESHOT"], bare)
            if not os.environ.get("SCALESHOT"):
                continue
        elif isinstance(item[2], list):
            words, work = f"{item[0]} {item[1]} largest {PRECISION} train eager", lambda: compare_largest(program, *item)
        else:
            (model, px, batch), mode, compiled = item
            side = {True: "compiled", False: "eager"}.get(compiled, compiled)
            words = f"{model} {px} {batch} {PRECISION} {mode} {side}"
            work = lambda: compare(program, ceilings, model, px, batch, mode, compiled)
        if not ONLY.search(words):
            continue
        rows = work() if time.monotonic() < DEADLINE else [dict(case=words, error="left out: the time was over")]
        keep(rows)
        compared += sum("ratio" in r for r in rows)
        if item == (MIDDLE, "train", False) and "ratio" in rows[0]:
            bare = rows[0]["ours"]
    if not compared:
        sys.exit("nothing could be compared; the lines above say why")


main()
