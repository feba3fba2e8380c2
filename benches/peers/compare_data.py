"""bench-data: tables, decoding, batches and memory beside their peers, interleaved, as ratios.

Each round runs both sides of a case one after the other; medians over the rounds are compared, of wall time and of
processor time, which says more on a machine that others use too. Writes benches/results/data.json, a list of {case,
metric, unit, ours, peer, peer_name, ratio, better, runs}, where a ratio above 1 always means that this program is
better. Cases without a peer compare this program with itself and say so."""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
ROUNDS = int(os.environ.get("SCALESHOT_BENCH_ROUNDS", "3"))
TABLES = pathlib.Path(os.environ.get("SCALESHOT_REAL_TABLES", pathlib.Path.home() / ".cache/scaleshot/tables"))
WORKERS = len(os.sched_getaffinity(0))
PX = 224
ROWS = (10_000, 100_000, 1_000_000)
PEERS = ("torchvision", "pillow", "opencv")


def build(variable, name, *command):
    if os.environ.get(variable):
        return os.environ[variable]
    command = ["cargo", *command, "--locked", "--message-format=json"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return message["executable"]
    sys.exit(f"cargo built nothing named {name}")


def run(*command):
    words = [str(c) for c in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "RAYON_NUM_THREADS": str(WORKERS)})
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed; its error is above")
    return json.loads(done.stdout.splitlines()[-1])


rows = []


def add(case, metric, unit, ours, peer, peer_name, better, runs):
    a, b = statistics.median(ours), statistics.median(peer)
    row = dict(case=case, metric=metric, unit=unit, ours=a, peer=b, peer_name=peer_name,
               ratio=a / b if better == "higher" else b / a, better=better, runs=runs)
    rows.append(row)
    print("{case:30} {metric:16} {ours:12.3f} {peer:12.3f} {unit:10} {peer_name:44} {ratio:7.2f}".format(**row), flush=True)


def both(case, ours, peer, runs, per_image=True):
    """Wall and processor time of two lists of results."""
    for metric, key in (("throughput", "wall_s"), ("per CPU second", "cpu_s")):
        if per_image:
            rate = lambda results: [r["images"] / r[key] for r in results]
            add(case, metric, "images/s", rate(ours), rate(peer), peer[0]["version"], "higher", runs)
        else:
            name = {"wall_s": "wall time", "cpu_s": "CPU time"}[key]
            add(case, name, "s", [r[key] for r in ours], [r[key] for r in peer], peer[0]["version"], "lower", runs)


def tables(data, folder):
    if not (TABLES / "chexpert_train.csv.gz").is_file():
        print(f"left out: no real tables in {TABLES} (make real-tables)")
        return
    trees = folder / "trees"
    run(data, "trees", TABLES, trees)
    ours, peer = [], []
    for _ in range(ROUNDS):
        ours.append(run(data, "tables", trees, folder / "merged.parquet"))
        peer.append(run(sys.executable, HERE / "data_tables.py", trees))
    both("real tables to one Parquet", ours, peer, ROUNDS, per_image=False)
    memory = lambda results: [r["peak_rss_kib"] / 1024 for r in results]
    add("real tables to one Parquet", "peak memory", "MiB", memory(ours), memory(peer), peer[0]["version"], "lower", ROUNDS)


def images(data, folder):
    pictures = folder / "images"
    run(data, "images", pictures)
    for case in ("jpeg-500", "jpeg-2000", "png-1024"):
        ours, bare, peers = [], [], {p: [] for p in PEERS}
        for _ in range(ROUNDS):
            ours.append(run(data, "shards", pictures / case, folder / "shard.arrow", PX))
            bare.append({**run(data, "decode", pictures / case), "version": "our own bare decoding"})
            for peer in PEERS:
                peers[peer].append(
                    run(sys.executable, HERE / "data_images.py", "shards", peer, pictures / case, PX, WORKERS)
                )
        if any(r["lost"] for r in ours):
            sys.exit(f"{case}: images were lost")
        for peer in PEERS:
            both(f"{case} to {PX} px", ours, peers[peer], ROUNDS)
        both(f"{case} to {PX} px", ours, bare, ROUNDS)
    run(data, "shards", pictures / "jpeg-500", folder / "shard.arrow", PX)
    ours, peer = [], []
    for _ in range(ROUNDS):
        ours.append(run(data, "batches", folder / "shard.arrow", 5))
        peer.append(run(sys.executable, HERE / "data_images.py", "batches", pictures / "jpeg-500", PX, WORKERS))
    both(f"batches of 64 at {PX} px", ours, peer, ROUNDS)


def memory(data, folder):
    """Peak memory of merging tables of metadata, without and with rules that remember rows."""
    for rules in ("plain", "memory"):
        peaks = {}
        for n in ROWS:
            run(data, "rows", n, folder / "rows.parquet")
            told = [run(data, "merge", rules, folder / "rows.parquet", folder / "out.parquet") for _ in range(ROUNDS)]
            peaks[n] = [r["peak_rss_kib"] / 1024 for r in told]
        name = "merge" if rules == "plain" else "merge by patient, no copies"
        for n in ROWS[1:]:
            add(f"{name}, {n:,} rows", "peak memory", "MiB", peaks[n], peaks[ROWS[0]], f"itself at {ROWS[0]:,} rows", "lower", ROUNDS)


PIPELINE = """pipeline: memory
nodes:
  rows: { dataset: { format: parquet, root: data } }
  pixels: { images: { data: rows, size_px: 8, shard_mib: 1 } }
"""


def image_memory(data, folder):
    """Peak memory of the program that makes shards of so many images, the largest round alone."""
    program, peaks = build("SCALESHOT_BENCH_PROGRAM", "scaleshot", "build", "--release"), {}
    for n in (ROWS[0], ROWS[-1]):
        root = folder / f"packed-{n}"
        # Apart from the store, which a run changes.
        (root / "data").mkdir(parents=True)
        run(data, "packed", n, root / "data" / "train.parquet")
        (root / "x.yaml").write_text(PIPELINE)
        for node in ("rows", "pixels"):
            words = [program, "run", "x.yaml", node]
            process = subprocess.Popen(words, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            said = process.stderr.read().decode()
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit(f"{' '.join(words)} failed:\n{said}")
        peaks[n] = usage.ru_maxrss / 1024
    few, many = peaks[ROWS[0]], peaks[ROWS[-1]]
    add(f"images, {ROWS[-1]:,} rows", "peak memory", "MiB", [many], [few], f"itself at {ROWS[0]:,} rows", "lower", 1)


def near(data):
    few, many = run(data, "near", 10_000), run(data, "near", 1_000_000)
    for result in (few, many):
        if result["found"] != result["planted"]:
            sys.exit(f"near-duplicates were missed: {result}")
    print(f"near-duplicates: a million look-ups (of one orientation) in a million hashes take {many['wall_s']:.1f} s ({many['cpu_s']:.1f} s of "
          f"CPU), {many['share_of_all_pairs']:.2e} of all pairs are compared")
    add("near-duplicates in 1,000,000", "wall time", "s", [many["wall_s"]], [few["wall_s"] * 10_000], "10,000 times itself in 10,000", "lower", 1)
    key = "comparisons_per_look_up"
    add("near-duplicates in 1,000,000", "comparisons", "a look-up", [many[key]], [few[key]], "itself in 10,000", "lower", 1)


def main():
    data = build("SCALESHOT_BENCH_DATA", "data", "bench", "--bench", "data", "--no-run")
    cases = sys.argv[1:] or ["tables", "images", "memory", "image_memory", "near"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if "tables" in cases:
            tables(data, folder)
        if "images" in cases:
            images(data, folder)
        if "memory" in cases:
            memory(data, folder)
        if "image_memory" in cases:
            image_memory(data, folder)
        if "near" in cases:
            near(data)
    results = HERE.parent / "results"
    results.mkdir(exist_ok=True)
    (results / "data.json").write_text(json.dumps(rows, indent=1) + "\n")


main()
