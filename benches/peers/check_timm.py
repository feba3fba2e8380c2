"""Weights both ways between this program and timm: python check_timm.py PATH/TO/scaleshot

1. A BiT-R50x1 trained for a few steps here is exported under timm's names; timm loads it and gives the same logits.
2. A BiT-R50x1 with timm's random weights is saved by timm's own state dict; this program imports it and gives the same
   logits.

Pictures are generated at the network's size, so that nothing is resized on either side. Ends with 1 where the logits
differ by more than 1e-3 of their spread.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow.parquet as parquet
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

PX = 64
SET = f"{{format: fractal, categories: 3, per_category: 8, test_per_category: 8, seed: 1, size_px: {PX}}}"
PIPELINE = """
pipeline: timm
nodes:
  set: { dataset: %(set)s }
  pixels: { images: { data: set, size_px: %(px)d } }
  net:
    pretrain: { data: pixels, model: bit-r50x1, steps: 4, batch: 8, optimizer: { sgd_agc: { lr: 0.05 } } }
  weights: { export: { from: net, to: "%(folder)s/ours", names: timm } }
  judged: { evaluate: { model: net, data: pixels, leakage: report } }
  logits: { export: { from: judged.predictions, to: "%(folder)s/ours_said" } }
  theirs: { import_model: { root: "%(folder)s/theirs.safetensors", outputs: %(outputs)s } }
  judged_theirs: { evaluate: { model: theirs, data: pixels } }
  logits_theirs: { export: { from: judged_theirs.predictions, to: "%(folder)s/theirs_said" } }
"""


def network():
    return timm.create_model("resnetv2_50x1_bit", pretrained=False, num_classes=3).eval()


def random_network():
    """timm starts the head from zeros and the norms from one; here every weight must matter."""
    torch.manual_seed(0)
    net = network()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
            elif name.startswith("head"):
                p.copy_(0.05 * torch.randn_like(p))
    return net


def compare(what, net, pictures, said):
    table = parquet.read_table(next(said.glob("*.parquet"))).to_pydict()
    ours = np.stack([table[c] for c in table if c.startswith("logit:")], axis=1)
    batch = [np.asarray(Image.open(pictures / name).convert("RGB"), dtype=np.float32) for name in table["image"]]
    batch = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)
    with torch.no_grad():
        theirs = net((batch / 255 - 0.5) / 0.5).numpy()
    far, spread = np.abs(ours - theirs).max(), theirs.std()
    print(f"{what}: {ours.shape[0]} pictures, logits spread by {spread:.4f}, at most {far:.2e} apart")
    return ours.shape[0] > 0 and spread > 1e-3 and far < 1e-3 * spread


def main(program):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        run = lambda *words: subprocess.run([program, *map(str, words)], check=True, cwd=root)
        run("generate", SET, root / "pictures")
        names = sorted(p.name for p in (root / "pictures" / "test").iterdir())
        theirs = random_network()
        save_file({n: t.contiguous() for n, t in theirs.state_dict().items()}, root / "theirs.safetensors")
        text = PIPELINE % dict(set=SET, px=PX, folder=folder, outputs=str(names).replace("'", ""))
        (root / "timm.yaml").write_text(text)
        run("run", "timm.yaml", "--store", root / "store")
        ours = network()
        timm.models.load_checkpoint(ours, str(root / "ours" / "weights.safetensors"), strict=True)
        fine = [
            compare("written here, read by timm", ours, root / "pictures", root / "ours_said"),
            compare("written by timm, read here", theirs, root / "pictures", root / "theirs_said"),
        ]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main(str(pathlib.Path(sys.argv[1]).resolve())))
