"""The cells of Snakefile in PyTorch: the same network, data, steps, optimiser, clipping and schedule as study.yaml.

Images are decoded once a process and kept in memory, which is the fastest a script can do with so few of them."""
import argparse
import csv
import json
import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.utils.agc import adaptive_clip_grad

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from bit import BiT

BATCH = 64


def images(root, split):
    """uint8 images, channels last in memory, and labels by the order of the class folders."""
    pixels, labels = [], []
    for label, folder in enumerate(sorted((pathlib.Path(root) / split).iterdir())):
        for path in sorted(folder.iterdir()):
            pixels.append(np.asarray(Image.open(path).convert("RGB")))
            labels.append(label)
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2), torch.tensor(labels)


def scaled(pixels):
    return (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def clipped(model):
    """What the published code clips: all but weights whose first dimension is the number of classes."""
    classes = model.head.out_features
    return [p for p in model.parameters() if not (p.dim() in (2, 4) and p.shape[0] == classes)]


def fit(model, pixels, labels, steps, lr, weight_decay, seed):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    order = torch.empty(0, dtype=torch.long)
    model.train()
    for step in range(steps):
        while len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(pixels), generator=generator)])
        chosen, order = order[:BATCH], order[BATCH:]
        x = pixels[chosen]
        flips = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(flips[:, None, None, None], x.flip(3), x)
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(scaled(x)), labels[chosen]).backward()
        adaptive_clip_grad(clipped(model), clip_factor=0.1)
        optimizer.step()


def accuracy(model, pixels, labels):
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(scaled(part)).argmax(1) for part in pixels.split(256)])
    return (found == labels).float().mean().item()


def pretrain(args):
    pixels, labels = images(args.data, "train")
    torch.manual_seed(0)
    model = BiT("bit-r26x0.25", int(labels.max()) + 1).to(memory_format=torch.channels_last)
    fit(model, pixels, labels, 10 * len(pixels) // BATCH, 0.1, 1e-4, 0)
    torch.save(model.state_dict(), args.out)


def transfer(args):
    pixels, labels = images(args.data, "train")
    if args.shots != "full":
        generator = torch.Generator().manual_seed(args.seed)
        order = torch.randperm(len(pixels), generator=generator)
        chosen = torch.cat([order[labels[order] == label][: int(args.shots)] for label in labels.unique()])
        pixels, labels = pixels[chosen], labels[chosen]
    state = torch.load(args.model)
    model = BiT("bit-r26x0.25", int(labels.max()) + 1).to(memory_format=torch.channels_last)
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.")}, strict=False)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    fit(model, pixels, labels, 100, args.lr, 0, args.seed)
    result = {"shots": args.shots, "seed": args.seed, "accuracy": accuracy(model, *images(args.data, "test"))}
    pathlib.Path(args.out).write_text(json.dumps(result))


def scores(args):
    out = csv.DictWriter(sys.stdout, ["shots", "seed", "accuracy"])
    out.writeheader()
    out.writerows(json.loads(pathlib.Path(path).read_text()) for path in args.results)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    for name, function, words in (
        ("pretrain", pretrain, ["data", "out"]),
        ("transfer", transfer, ["data", "model", "out"]),
    ):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        for word in words:
            command.add_argument(word)
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("--lr", type=float)
        command.add_argument("--shots")
        command.add_argument("--seed", type=int)
    command = commands.add_parser("scores")
    command.set_defaults(function=scores, threads=1)
    command.add_argument("results", nargs="+")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.function(args)


main()
