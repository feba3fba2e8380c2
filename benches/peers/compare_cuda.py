"""bench-cuda: training and inference on a GPU beside PyTorch's, interleaved, as ratios.

Both sides run as workers that keep their case loaded; each round asks one for a few steps and then the other, and
medians over the rounds are compared. Writes benches/results/cuda.json (or SCALESHOT_BENCH_OUT), a list of {case,
metric, unit, ours, peer, peer_name, ratio, better, runs}, where a ratio above 1 always means that this program is
better. For shares of the card's ceilings the peer is the measured product or copy. A case that one side cannot run,
for want of memory say, has a line with its error and no ratio.

SCALESHOT_BENCH_ONLY     a regular expression that chooses cases: "bit-r50x1 224 64 bf16 train eager"
SCALESHOT_BENCH_SECONDS  no further case begins after so many seconds, 420 unless said
SCALESHOT_BENCH_ROUNDS   rounds of each case, 5 unless said
SCALESHOT_BENCH_CUDA     the compiled bench, which is built unless said
SCALESHOT                the program, for whole cells; without it they are left out"""
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
RESULTS = pathlib.Path(os.environ.get("SCALESHOT_BENCH_OUT") or HERE.parent / "results" / "cuda.json")
ROUNDS = int(os.environ.get("SCALESHOT_BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("SCALESHOT_BENCH_SECONDS", "420"))
ONLY = re.compile(os.environ.get("SCALESHOT_BENCH_ONLY", ""))
# Model, pixels, batch, images at once (none: the batch, or what fits), steps of a request. The most telling first,
# since time may run out.
CASES = [
    ("bit-r50x1", 224, 128, None, 4),
    ("bit-r26x0.25", 32, 64, None, 40),
    ("bit-r50x1", 224, 64, None, 8),
    ("bit-r50x1", 224, 256, None, 2),
    ("bit-r152x4", 224, 32, None, 1),
    ("bit-r152x4", 480, 16, None, 1),
]


def build():
    command = ["cargo", "build", "--release", "--locked", "--features", "cuda", "--bench", "cuda", "--message-format=json"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "cuda":
            return [message["executable"]]
    sys.exit("cargo built no bench named cuda")


class Worker:
    """A process that answers a line with a line."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE)

    def ask(self, **message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the worker ended; its error is above"}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def row(case, metric, unit, ours, peer, peer_name, better, runs):
    ratio = ours / peer if better == "higher" else peer / ours
    return dict(
        case=case, metric=metric, unit=unit, ours=ours, peer=peer, peer_name=peer_name, ratio=ratio, better=better, runs=runs
    )


def compare(program, ceilings, model, px, batch, micro, steps, precision, mode, compiled):
    """Rows of one case. Both workers are new, so that neither holds the other's memory from before."""
    case = f"{model} {px} px batch {batch} {precision} {mode}"
    ours, theirs = Worker(program), Worker([sys.executable, "cuda_torch.py"])
    try:
        about = dict(model=model, px=px, batch=batch, precision=precision, mode=mode)
        first, peer = ours.ask(**about, micro=micro), theirs.ask(**about, micro=micro, compiled=compiled)
        name = "PyTorch {} {}".format(peer.get("ready", ""), "compiled" if compiled else "eager")
        mine, others = [], []
        for _ in range(ROUNDS):
            mine.append(ours.ask(steps=steps) if "error" not in first else first)
            others.append(theirs.ask(steps=steps) if "error" not in peer else peer)
        if any("error" in m for m in mine + others):
            told = {side: next((m["error"] for m in of if "error" in m), None) for side, of in (("ours", mine), ("peer", others))}
            lone = {side: batch / statistics.median(m["seconds"] for m in of) for side, of in (("ours", mine), ("peer", others)) if not told[side]}
            return [dict(case=case, metric="throughput", unit="images/s", peer_name=name, error=told, **lone)]
        middle = lambda of, key: statistics.median(m[key] for m in of)
        seconds, peer_seconds = middle(mine, "seconds"), middle(others, "seconds")
        rows = [
            row(case, "throughput", "images/s", batch / seconds, batch / peer_seconds, name, "higher", ROUNDS),
            row(case, "peak memory", "bytes", mine[-1]["peak_bytes"], others[-1]["peak_bytes"], name, "lower", ROUNDS),
        ]
        if ceilings and not compiled:
            done = first["flops"] * (3 if mode == "train" else 1) / seconds
            rows.append(row(case, "convolutions", "FLOP/s", done, ceilings[precision], f"product in {precision}", "higher", ROUNDS))
        return rows
    finally:
        ours.close()
        theirs.close()


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
      precision: bf16
      device: cuda:0
      view: {{ whole: {{ px: 224 }} }}
      augment: {{ crop: {{ resize_px: 256 }} }}
"""


def cells(scaleshot, bare):
    """Steps of whole cells from shards beside the bare step's rate, which is in `bare` by (model, batch)."""
    rows = []
    for model, batch, steps in (("bit-r50x1", 128, 100),):
        if (model, batch) not in bare:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "bench.yaml"
            path.write_text(PIPELINE.format(model=model, batch=batch, steps=steps))
            run = subprocess.run([scaleshot, "run", str(path), "--store", f"{folder}/store", "--reports", f"{folder}/reports"], cwd=folder)
            if run.returncode:
                return [dict(case=f"{model} whole cells", error=f"exit code {run.returncode}")]
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
                rows.append(row(case, "throughput", "images/s", rate, bare[model, batch], "bare step", "higher", 1))
    return rows


def keep(rows):
    """Puts rows in the place of those that the results hold of the same cases and peers."""
    same = lambda r: (r["case"], r.get("metric"), r.get("peer_name"))
    new = {same(r) for r in rows}
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([r for r in old if same(r) not in new] + rows, indent=1) + "\n")
    for r in rows:
        if "ratio" in r:
            print("{case:60} {metric:14} {ours:16.4g} {peer:16.4g} {peer_name:28} {ratio:6.2f}".format(**r), flush=True)
        else:
            print(json.dumps(r), flush=True)


def main():
    named = os.environ.get("SCALESHOT_BENCH_CUDA")
    program = [str(pathlib.Path(named).resolve())] if named else build()
    begun, bare, ceilings = time.monotonic(), {}, None
    torch = Worker([sys.executable, "cuda_torch.py"])
    answered = torch.ask(ceilings=True)
    torch.close()
    if "ceilings" in answered:
        ceilings = answered["ceilings"]
        print(f"{answered['device']}: " + ", ".join(f"{name} {rate:.3g}/s" for name, rate in ceilings.items()), flush=True)
    order = [(m, c) for m in ("train", "infer") for c in (False, True)]
    for mode, compiled in order:
        for model, px, batch, micro, steps in CASES:
            # Compiling the largest models takes longer than all else together.
            if compiled and "r152" in model:
                continue
            precision = "bf16"
            words = f"{model} {px} {batch} {precision} {mode} {'compiled' if compiled else 'eager'}"
            if not ONLY.search(words):
                continue
            if time.monotonic() - begun > SECONDS:
                keep([dict(case=words, error="left out: the time was over")])
                continue
            rows = compare(program, ceilings, model, px, batch, micro, steps, precision, mode, compiled)
            keep(rows)
            if mode == "train" and "ratio" in rows[0]:
                bare[model, batch] = rows[0]["ours"]
    if os.environ.get("SCALESHOT") and time.monotonic() - begun < SECONDS + 60:
        keep(cells(os.environ["SCALESHOT"], bare))


main()
