"""Worker of bench-compute: one line of JSON in (a case, or `step`), one line of JSON out.

Same model as scaleshot's, and the same step but one part: softmax cross-entropy, backward, SGD with Nesterov momentum.
scaleshot's step clips gradients by AGC as well, which PyTorch has not, so the comparison leans to PyTorch's side.
Inputs are random; every call makes a fresh batch, outside of the timing."""
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F

from bit import BiT


def main():
    model = step = None
    for line in sys.stdin:
        case = json.loads(line)
        if "model" in case:
            torch.set_num_threads(case["threads"])
            torch.manual_seed(0)
            size, batch, train = case["px"], case["batch"], case["mode"] == "train"
            model = BiT(case["model"]).to(memory_format=torch.channels_last)
            run = torch.compile(model) if case["compiled"] else model
            optimizer = torch.optim.SGD(model.parameters(), lr=0.003, momentum=0.9, nesterov=True)
            bf16 = case["precision"] == "bf16"
            labels = torch.randint(0, 10, (batch,))

            def step():
                x = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
                start, cpu = time.perf_counter(), time.process_time()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                    if train:
                        optimizer.zero_grad(set_to_none=True)
                        F.cross_entropy(run(x).float(), labels).backward()
                        optimizer.step()
                    else:
                        with torch.no_grad():
                            run(x)
                return time.perf_counter() - start, time.process_time() - cpu

            step()
            step()
            print(json.dumps({"ready": torch.__version__}), flush=True)
        else:
            seconds, cpu_seconds = step()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak}), flush=True)


main()
