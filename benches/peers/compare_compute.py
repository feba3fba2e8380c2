"""bench-compute: this program's training and inference beside PyTorch's, interleaved, as ratios.

Each round runs both sides of a case one after the other; medians over the rounds are compared. Writes
benches/results/compute.json, a list of {case, metric, unit, ours, peer, peer_name, ratio, better, runs}, where a ratio
above 1 always means that this program is better."""
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
ROUNDS = int(os.environ.get("SCALESHOT_BENCH_ROUNDS", "5"))
THREADS = len(os.sched_getaffinity(0))
# Model, pixels, batch, repeats a round.
CASES = [("bit-r26x0.25", 32, 64, 10), ("bit-r50x1", 128, 16, 2), ("bit-r50x1", 224, 16, 1)]


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


def ours(executable, model, px, batch, repeats, precision):
    command = [executable, model, str(px), str(batch), str(repeats), precision]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {row["mode"]: row for row in map(json.loads, lines)}


def main():
    executable, rows = build(), []
    for model, px, batch, repeats in CASES:
        for precision in ("f32", "bf16"):
            for compiled in (False, True):
                workers = {}
                try:
                    for mode in ("train", "infer"):
                        workers[mode] = Torch(
                            model=model, px=px, batch=batch, mode=mode, precision=precision, compiled=compiled, threads=THREADS
                        )
                    mine, theirs, memory = {"train": [], "infer": []}, {"train": [], "infer": []}, {"ours": [], "peer": []}
                    for _ in range(ROUNDS):
                        result = ours(executable, model, px, batch, repeats, precision)
                        memory["ours"].append(result["train"]["peak_rss_mib"] * 2**20)
                        for mode, worker in workers.items():
                            mine[mode].append(result[mode]["images_per_s"])
                            steps = [worker.ask({"step": 1}) for _ in range(repeats)]
                            theirs[mode].append(batch / statistics.median(s["seconds"] for s in steps))
                            if mode == "train":
                                memory["peer"].append(steps[-1]["peak_bytes"])
                finally:
                    for worker in workers.values():
                        worker.close()
                name = f"PyTorch {workers['train'].version} " + ("compiled" if compiled else "eager")
                case = f"{model} {px} px batch {batch} {precision}"
                for mode in ("train", "infer"):
                    a, b = statistics.median(mine[mode]), statistics.median(theirs[mode])
                    rows.append(dict(case=f"{case} {mode}", metric="throughput", unit="images/s", ours=a, peer=b,
                                     peer_name=name, ratio=a / b, better="higher", runs=ROUNDS))
                a, b = statistics.median(memory["ours"]), statistics.median(memory["peer"])
                rows.append(dict(case=f"{case} train", metric="peak memory", unit="bytes", ours=a, peer=b,
                                 peer_name=name, ratio=b / a, better="lower", runs=ROUNDS))
                for row in rows[-3:]:
                    print("{case:48} {metric:12} {ours:14.1f} {peer:14.1f} {peer_name:28} {ratio:6.2f}".format(**row), flush=True)
    results = HERE.parent / "results"
    results.mkdir(exist_ok=True)
    (results / "compute.json").write_text(json.dumps(rows, indent=1) + "\n")


main()
