"""Worker of compare_cuda.py: one line of JSON in (a case, or `steps`), one line of JSON out.

PyTorch of the same model and step on GPU 0: bf16 autocast (or f32 without TF32), channels last, cuDNN's own choice by
time, SGD with Nesterov momentum (fused; scaleshot's step clips by AGC as well, so the comparison leans to PyTorch's
side). Inputs lie on the GPU and are random and fresh for every request; outputs are filled with NaN before each
request and must be numbers after it. Times are between two device events around all steps of a request."""
import json
import sys

import torch
import torch.nn.functional as F

from bit import BiT

WARM_UP = 4
DEVICE = "cuda:0"


class Work:
    def __init__(self, case):
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.cuda.empty_cache()
        self.px, self.batch, self.train = case["px"], case["batch"], case["mode"] == "train"
        self.micro = case.get("micro") or self.batch
        self.bf16 = case["precision"] == "bf16"
        self.model = BiT(case["model"]).to(DEVICE, memory_format=torch.channels_last)
        self.run = torch.compile(self.model) if case["compiled"] else self.model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.003, momentum=0.9, nesterov=True, fused=True)
        self.out = torch.empty(self.micro, 10, device=DEVICE)
        self.steps(WARM_UP)
        # Without the workspaces that cuDNN tried while it chose.
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()

    def step(self, x, labels):
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.bf16):
            if not self.train:
                with torch.no_grad():
                    self.out.copy_(self.run(x))
                return
        self.optimizer.zero_grad(set_to_none=True)
        for first in range(0, self.batch, self.micro):
            n = min(self.micro, self.batch - first)
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.bf16):
                logits = self.run(x[:n]).float()
            (F.cross_entropy(logits, labels[:n], reduction="sum") / self.batch).backward()
            self.out[:n].copy_(logits.detach())
        self.optimizer.step()

    def steps(self, count):
        x = torch.randn(self.micro, 3, self.px, self.px, device=DEVICE).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(0, 10, (self.micro,), device=DEVICE)
        self.out.fill_(float("nan"))
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(count):
            self.step(x, labels)
        end.record()
        end.synchronize()
        if not torch.isfinite(self.out).all():
            raise RuntimeError("an output is no number")
        return begin.elapsed_time(end) / 1e3


def timed(work, count):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(count):
        work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / count


def ceilings():
    """Operations a second of a bf16 and of an f32 product, and bytes a second of a copy (read and written)."""
    rates = {}
    for name, dtype in (("bf16", torch.bfloat16), ("f32", torch.float32)):
        a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=dtype) for _ in range(2))
        timed(lambda: a @ b, 3)
        rates[name] = 2 * 8192**3 / timed(lambda: a @ b, 10)
    x = torch.empty(1 << 28, device=DEVICE)
    y = torch.empty_like(x)
    timed(lambda: y.copy_(x), 3)
    rates["copy"] = 2 * x.numel() * 4 / timed(lambda: y.copy_(x), 10)
    return rates


def answer(work, asked):
    if "ceilings" in asked:
        return work, {"ceilings": ceilings(), "device": torch.cuda.get_device_name(0)}
    if "model" in asked:
        work = None
        return Work(asked), {"ready": torch.__version__}
    seconds = work.steps(asked["steps"])
    return work, {"seconds": seconds / asked["steps"], "peak_bytes": torch.cuda.max_memory_allocated()}


def main():
    work = None
    for line in sys.stdin:
        try:
            work, out = answer(work, json.loads(line))
        except Exception as e:  # told to whoever asked, who goes on with the next case
            work, out = None, {"error": f"{type(e).__name__}: {str(e).splitlines()[0][:300]}"}
            torch.cuda.empty_cache()
        print(json.dumps(out), flush=True)


main()
