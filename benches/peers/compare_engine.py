"""bench-engine: many trivial cells beside DVC and Snakemake, interleaved, and bare dagrs.

A study of N cells, each a shell command that writes one small file: a full run, a run with nothing to do, and a run in
which one cell's value changed. Every tool gets the same commands and as many jobs as there are processors. What takes
longer than SCALESHOT_BENCH_LIMIT_S (two minutes) is stopped, and how far it got is told; a tool that could not do the
full run has no other. Writes benches/results/engine.json, a list of {case, metric, unit, ours, peer, peer_name, ratio,
better, runs} of medians, where a ratio above 1 always means that this program is better. Where `peer` is a target,
`peer_name` says so, and one that is missed ends the bench with 1; where no peer came to an end, `peer` is null."""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
ROUNDS = int(os.environ.get("SCALESHOT_BENCH_ROUNDS", "3"))
LIMIT_S = float(os.environ.get("SCALESHOT_BENCH_LIMIT_S", "120"))
SIZES = [int(n) for n in os.environ.get("SCALESHOT_BENCH_CELLS", "100,1000,10000").split(",")]
PLANNED = 100_000
JOBS = len(os.sched_getaffinity(0))
# A run that took longer than this is not repeated.
REPEAT_BELOW_S = 30


def build():
    if os.environ.get("SCALESHOT_BENCH_ENGINE"):
        return os.environ["SCALESHOT_BENCH_ENGINE"]
    command = ["cargo", "bench", "--locked", "--bench", "engine", "--no-run", "--message-format=json"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "engine":
            return message["executable"]
    sys.exit("cargo built no bench named engine")


class Stopped(Exception):
    pass


def timed(command, folder, env=None):
    """Wall seconds and peak MiB of a command and its children; Stopped past the limit."""
    with open(folder / "log", "wb") as log:
        began = time.monotonic()
        child = subprocess.Popen([str(c) for c in command], cwd=folder, stdout=log, stderr=log, start_new_session=True,
                                 env={**os.environ, **(env or {})})
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            wall = time.monotonic() - began
            if pid:
                break
            if wall > LIMIT_S:
                os.killpg(child.pid, 9)
                os.wait4(child.pid, 0)
                child.returncode = -9
                raise Stopped
            # Short against what is measured.
            time.sleep(min(0.02, max(0.0005, wall / 100)))
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{(folder / 'log').read_text()[-2000:]}")
    return wall, usage.ru_maxrss / 1024


class Scaleshot:
    name = "scaleshot"

    def __init__(self, program):
        self.program = program

    def write(self, folder, values):
        (folder / "study.yaml").write_text(
            "pipeline: bench\nnodes:\n  cell:\n    matrix: { i: %s }\n    command: { run: 'echo ${i} > x', "
            "outputs: { files: { type: files, path: x } } }\n" % json.dumps(values))

    def prepare(self, folder):
        pass

    def run(self, folder):
        return timed([self.program, "run", "study.yaml"], folder)

    def finished(self, folder):
        return len(list((folder / ".scaleshot/records").glob("*.json")))


class Dvc:
    name = "DVC"
    env = {"DVC_NO_ANALYTICS": "1"}

    def write(self, folder, values):
        (folder / "out").mkdir(exist_ok=True)
        (folder / "dvc.yaml").write_text(
            "stages:\n  cell:\n    foreach: %s\n    do:\n      cmd: echo ${item} > out/${item}\n      outs: ['out/${item}']\n"
            % json.dumps(values))

    def prepare(self, folder):
        timed(["dvc", "init", "--no-scm", "-q"], folder, self.env)
        timed(["dvc", "config", "core.analytics", "false"], folder, self.env)

    def run(self, folder):
        return timed(["dvc", "repro", "-q"], folder, self.env)

    def finished(self, folder):
        return len(list((folder / "out").glob("[0-9]*")))


class Snakemake:
    name = "Snakemake"

    def write(self, folder, values):
        (folder / "Snakefile").write_text(
            "VALUES = %s\nrule all:\n    input: expand('out/{i}', i=range(len(VALUES)))\n"
            "rule cell:\n    output: 'out/{i}'\n    params: value=lambda w: VALUES[int(w.i)]\n"
            "    shell: 'echo {params.value} > {output}'\n" % json.dumps(values))

    def prepare(self, folder):
        pass

    def run(self, folder):
        # The cells of this study touch no files of each other, so Snakemake may leave its waiting out.
        return timed(["snakemake", "-c", JOBS, "-q", "all", "--latency-wait", "0"], folder)

    def finished(self, folder):
        return len(list((folder / "out").glob("[0-9]*"))) if (folder / "out").exists() else 0


def version(*command):
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.split()
    return told[-1] if told else "?"


rows = []


def alone(case, metric, unit, ours, runs):
    """A row that no peer came to."""
    rows.append(dict(case=case, metric=metric, unit=unit, ours=ours, peer=None, peer_name=None, ratio=None, better="lower",
                     runs=runs))
    print(f"{case:30} {metric:12} {ours:10.3f} {'':10} {unit:5}", flush=True)


def add(case, metric, unit, ours, peer, peer_name, runs):
    row = dict(case=case, metric=metric, unit=unit, ours=ours, peer=peer, peer_name=peer_name, ratio=peer / ours,
               better="lower", runs=runs)
    rows.append(row)
    print("{case:30} {metric:12} {ours:10.3f} {peer:10.3f} {unit:5} {peer_name:30} {ratio:8.2f}".format(**row), flush=True)


def study(tool, folder, n, rounds, results):
    """One round of full, no-op and one change; False once the tool ran out of time."""
    place = folder / tool.name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    values = list(range(n))
    tool.write(place, values)
    try:
        tool.prepare(place)
        took = {"full": tool.run(place)}
        if tool.finished(place) < n:
            sys.exit(f"{tool.name} made {tool.finished(place)} of {n} cells")
        took["no-op"] = tool.run(place)
        # The first run after a full one may still settle what it left.
        took["no-op"] = min(took["no-op"], tool.run(place))
        tool.write(place, [n + 7 if v == 7 else v for v in values])
        took["one change"] = tool.run(place)
    except Stopped:
        print(f"{n} cells: {tool.name} was stopped after {LIMIT_S:.0f} s with {tool.finished(place)} cells done", flush=True)
        results.setdefault("stopped", {})[tool.name] = tool.finished(place)
        return False
    for what, measured in took.items():
        results.setdefault(what, {}).setdefault(tool.name, []).append(measured)
    return took["full"][0] < REPEAT_BELOW_S


def cells(program, tools, folder, n):
    results, open_tools = {}, list(tools)
    for _ in range(ROUNDS):
        for tool in list(open_tools):
            if not study(tool, folder, n, ROUNDS, results):
                open_tools.remove(tool)
    middle = lambda measured, which: statistics.median(m[which] for m in measured)
    for what in ("full", "no-op", "one change"):
        ours = results.get(what, {}).get("scaleshot")
        if not ours:
            continue
        if len(results[what]) == 1:
            alone(f"{n} cells, {what}", "wall time", "s", middle(ours, 0), len(ours))
            alone(f"{n} cells, {what}", "peak memory", "MiB", middle(ours, 1), len(ours))
        for tool in tools[1:]:
            peer = results[what].get(tool.name)
            if peer:
                for metric, unit, which in (("wall time", "s", 0), ("peak memory", "MiB", 1)):
                    add(f"{n} cells, {what}", metric, unit, middle(ours, which), middle(peer, which), tool.version, len(peer))
            elif tool.name in results.get("stopped", {}) and what == "full":
                done = results["stopped"][tool.name]
                name = f"{tool.version}, stopped at {done} cells"
                add(f"{n} cells, {what}", "wall time", "s", middle(ours, 0), LIMIT_S, name, 1)
    if n == 10_000 and "no-op" in results:
        add(f"{n} cells, no-op", "wall time", "s", middle(results["no-op"]["scaleshot"], 0), 1.0, "target", ROUNDS)
        add(f"{n} cells, no-op", "peak memory", "MiB", middle(results["no-op"]["scaleshot"], 1), 300.0, "target", ROUNDS)


def engine(bench, folder):
    """Cells of this process, so that no shell is counted, beside nodes of dagrs that do nothing at all."""
    for n in SIZES:
        ours, bare = [], []
        for _ in range(ROUNDS):
            place = folder / "cells"
            shutil.rmtree(place, ignore_errors=True)
            told = subprocess.run([bench, "cells", str(n), place], check=True, stdout=subprocess.PIPE, text=True).stdout
            ours.append(json.loads(told))
            told = subprocess.run([bench, "dagrs", str(n)], check=True, stdout=subprocess.PIPE, text=True).stdout
            bare.append(json.loads(told)["wall_s"])
        middle = lambda key: statistics.median(o[key] for o in ours)
        add(f"{n} cells in process, full", "wall time", "s", middle("full_s"), statistics.median(bare), "bare dagrs, empty nodes", ROUNDS)
        add(f"{n} cells in process, no-op", "wall time", "s", middle("noop_s"), statistics.median(bare), "bare dagrs, empty nodes", ROUNDS)
        add(f"{n} cells in process", "one cell", "ms", middle("cell_ms"), 2.0, "target", ROUNDS)


def planning(tool, folder):
    place = folder / "planning"
    place.mkdir()
    tool.write(place, list(range(PLANNED)))
    took = [timed([tool.program, "plan", "study.yaml", "--json"], place) for _ in range(ROUNDS)]
    wall, memory = (statistics.median(t[which] for t in took) for which in (0, 1))
    alone(f"planning {PLANNED} cells", "wall time", "s", wall, ROUNDS)
    alone(f"planning {PLANNED} cells", "peak memory", "MiB", memory, ROUNDS)


def main():
    if len(sys.argv) < 2:
        sys.exit("expected the program: compare_engine.py SCALESHOT [planning|engine|cells …]")
    program = pathlib.Path(sys.argv[1]).absolute()
    wanted = sys.argv[2:] or ["planning", "engine", "cells"]
    # The peers' commands lie beside this Python.
    os.environ["PATH"] = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    ours, dvc, snakemake = Scaleshot(program), Dvc(), Snakemake()
    dvc.version = f"DVC {version('dvc', '--version')}"
    snakemake.version = f"Snakemake {version('snakemake', '--version')}"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if "planning" in wanted:
            planning(ours, folder)
        if "engine" in wanted:
            engine(build(), folder)
        if "cells" in wanted:
            for n in SIZES:
                cells(program, [ours, dvc, snakemake], folder, n)
    results = HERE.parent / "results"
    results.mkdir(exist_ok=True)
    (results / "engine.json").write_text(json.dumps(rows, indent=1) + "\n")
    missed = [f"{r['case']}, {r['metric']}: {r['ours']:.2f} {r['unit']}" for r in rows if r["peer_name"] == "target" and r["ratio"] < 1]
    if missed:
        sys.exit("targets missed: " + "; ".join(missed))


main()
