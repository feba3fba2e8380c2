"""bench-compute: this program's training and inference beside PyTorch's, interleaved, as ratios.

Each round runs both sides of a case one after the other; medians over the rounds are compared, of wall times and of
processor seconds (a busy machine changes the latter less; PyTorch's threads spin while they wait, which counts as its
own). Writes benches/results/compute.json, a list of {case, metric, unit, ours, peer, peer_name, ratio, better, runs},
where a ratio above 1 always means that this program is better. For operators the peer is a matrix product of the same
kernel family, and the ratio is the share of its speed that an operator reaches.

SCALESHOT_BENCH_ONLY   a regular expression that chooses cases by name: "bit-r50x1 224 f32 eager", "... compiled",
                       "... operators"; what was measured before stays in the results
SCALESHOT_BENCH_ROUNDS rounds of each case, 5 unless said
SCALESHOT_BENCH_THREADS threads of both sides, all of the machine unless said
SCALESHOT_BENCH_PROGRAM the compiled bench, which is built unless said"""
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
RESULTS = HERE.parent / "results" / "compute.json"
ROUNDS = int(os.environ.get("SCALESHOT_BENCH_ROUNDS", "5"))
THREADS = int(os.environ.get("SCALESHOT_BENCH_THREADS") or len(os.sched_getaffinity(0)))
ONLY = re.compile(os.environ.get("SCALESHOT_BENCH_ONLY", ""))
# Model, pixels, batch, repeats a round. The last is the largest that fits beside PyTorch's copy in 24 GiB.
CASES = [
    ("bit-r26x0.25", 32, 64, 10),
    ("bit-r50x1", 128, 16, 2),
    ("bit-r50x1", 224, 16, 1),
    ("bit-r101x3", 128, 4, 1),
]


def build():
    command = ["cargo", "build", "--release", "--locked", "--bench", "compute", "--message-format=json"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "compute":
            return message["executable"]
    sys.exit("cargo built no bench named compute")


class Torch:
    """The worker of compute_torch.py with one case loaded."""

    def __init__(self, **case):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "compute_torch.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self.ask(case)["ready"]

    def ask(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the PyTorch worker ended; its error is above")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ours(executable, *words):
    environment = dict(os.environ, RAYON_NUM_THREADS=str(THREADS))
    command = [executable, *map(str, words)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout.splitlines()
    return [json.loads(line) for line in lines]


def row(case, metric, unit, a, b, peer, better, runs):
    # Too short for the processor clock: no ratio rather than a made-up one.
    ratio = None if min(a, b) == 0 else a / b if better == "higher" else b / a
    return dict(case=case, metric=metric, unit=unit, ours=a, peer=b, peer_name=peer, ratio=ratio, better=better, runs=runs)


def compare(executable, model, px, batch, repeats, precision, compiled):
    """Rows of one case: images a second, processor seconds a step and peak memory, in training and inference."""
    workers, rows = {}, []
    mine, theirs = ({mode: [] for mode in ("train", "infer")} for _ in range(2))
    try:
        for mode in mine:
            workers[mode] = Torch(
                model=model, px=px, batch=batch, mode=mode, precision=precision, compiled=compiled, threads=THREADS
            )
        for _ in range(ROUNDS):
            for result in ours(executable, model, px, batch, repeats, precision):
                mine[result["mode"]].append((result["median_s"], result["cpu_s"], result["peak_rss_mib"] * 2**20))
            for mode, worker in workers.items():
                steps = [worker.ask({"step": 1}) for _ in range(repeats)]
                middle = lambda key: statistics.median(s[key] for s in steps)
                theirs[mode].append((middle("seconds"), middle("cpu_seconds"), steps[-1]["peak_bytes"]))
    finally:
        for worker in workers.values():
            worker.close()
    peer = f"PyTorch {workers['train'].version} " + ("compiled" if compiled else "eager")
    for mode in mine:
        case = f"{model} {px} px batch {batch} {precision} {mode}"
        (wall, cpu, memory), (peer_wall, peer_cpu, peer_memory) = (
            [statistics.median(run[i] for run in runs[mode]) for i in range(3)] for runs in (mine, theirs)
        )
        rows.append(row(case, "throughput", "images/s", batch / wall, batch / peer_wall, peer, "higher", ROUNDS))
        rows.append(row(case, "processor time", "s/step", cpu, peer_cpu, peer, "lower", ROUNDS))
        # This program infers in the process that trained, so its peak says nothing about inference.
        if mode == "train":
            rows.append(row(case, "peak memory", "bytes", memory, peer_memory, peer, "lower", ROUNDS))
    return rows


def operators(executable, model, px, batch, precision):
    """Rows of every operator that is a product, with the share of the peak, and of the time of all."""
    *results, total = ours(executable, "operators", model, px, batch, 5, precision)
    peer = "gemm crate" if precision == "f32" else "own matrix product"
    case, peak, rows = f"{model} {px} px batch {batch} {precision} operators", total["peak_gflops"], []
    for r in results:
        name = f"{r['operator']} {r['shape']}"
        if r["gflops"]:
            # The root is f32 in either precision, and measured against that.
            beside = r["gflops"] / r["share_of_peak"]
            rows.append(row(case, name, "GFLOP/s of processor time", r["gflops"], beside, peer, "higher", 5))
        else:
            rows.append(row(case, name, "ms of processor time, beside all operators", r["cpu_ms"], total["cpu_ms"], "", "lower", 5))
    rows.append(row(case, "all products", "GFLOP/s of processor time", total["gflops"], peak, peer, "higher", 5))
    return rows


def keep(rows):
    """Puts rows in the place of those that the results hold of the same cases and peers."""
    same = lambda r: (r["case"], r["metric"], r["peer_name"])
    new = {same(r) for r in rows}
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([r for r in old if same(r) not in new] + rows, indent=1) + "\n")


def main():
    executable = os.environ.get("SCALESHOT_BENCH_PROGRAM") or build()
    for model, px, batch, repeats in CASES:
        for precision in ("f32", "bf16"):
            for mode in ("eager", "compiled", "operators"):
                if not ONLY.search(f"{model} {px} {precision} {mode}"):
                    continue
                if mode == "operators":
                    rows = operators(executable, model, px, batch, precision)
                else:
                    rows = compare(executable, model, px, batch, repeats, precision, mode == "compiled")
                keep(rows)
                for r in rows:
                    ratio = "      " if r["ratio"] is None else f"{r['ratio']:6.2f}"
                    print("{case:48} {metric:52} {ours:14.3f} {peer:14.3f} {peer_name:24} ".format(**r) + ratio, flush=True)


main()
