"""One peer over a folder of images: `shards PEER FOLDER PX WORKERS` decodes and resizes with antialiasing into one
memory-mapped uint8 array, as shards are; `batches FOLDER PX WORKERS` reads torchvision's ImageFolder in shuffled
batches of 64 as normalised f32. Prints one JSON object."""
import json
import pathlib
import resource
import sys
import tempfile
import time

import cv2
import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

GREY = ("jpeg-2000", "png-1024")


class Folder(torch.utils.data.Dataset):
    def __init__(self, folder, px, peer):
        self.files = sorted(p for c in ("a", "b") for p in (pathlib.Path(folder) / c).iterdir())
        self.px, self.grey, self.peer = px, pathlib.Path(folder).name in GREY, peer

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return i, getattr(self, self.peer)(str(self.files[i]))

    def torchvision(self, path):
        mode = torchvision.io.ImageReadMode.GRAY if self.grey else torchvision.io.ImageReadMode.RGB
        image = torchvision.io.decode_image(path, mode)
        return v2.functional.resize(image, [self.px, self.px], antialias=True).permute(1, 2, 0).numpy()

    def pillow(self, path):
        image = Image.open(path).convert("L" if self.grey else "RGB").resize((self.px, self.px), Image.BILINEAR)
        return np.asarray(image).reshape(self.px, self.px, -1)

    def opencv(self, path):
        image = cv2.imread(path, cv2.IMREAD_GRAYSCALE if self.grey else cv2.IMREAD_COLOR_RGB)
        # INTER_AREA is what OpenCV has that antialiases.
        return cv2.resize(image, (self.px, self.px), interpolation=cv2.INTER_AREA).reshape(self.px, self.px, -1)


def setup(_):
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def told(images, start, cpu, version):
    both = [resource.getrusage(r) for r in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(r.ru_utime + r.ru_stime for r in both) - cpu
    print(json.dumps({"images": images, "wall_s": time.perf_counter() - start, "cpu_s": seconds, "version": version}))


def cpu_now():
    return sum(r.ru_utime + r.ru_stime for r in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def shards(peer, folder, px, workers):
    data = Folder(folder, px, peer)
    loader = torch.utils.data.DataLoader(
        data, batch_size=16, num_workers=workers, worker_init_fn=setup, collate_fn=lambda batch: batch
    )
    with tempfile.NamedTemporaryFile() as file:
        start, cpu = time.perf_counter(), cpu_now()
        out = np.memmap(file.name, np.uint8, "w+", shape=(len(data), px, px, 1 if data.grey else 3))
        for batch in loader:
            for i, image in batch:
                out[i] = image
        out.flush()
        del loader
        version = {"torchvision": torchvision.__version__, "pillow": PIL.__version__, "opencv": cv2.__version__}[peer]
        told(len(data), start, cpu, f"{peer} {version}")


def batches(folder, px, workers):
    transform = v2.Compose([
        v2.Resize((px, px)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3),
    ])
    data = torchvision.datasets.ImageFolder(folder, transform)
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True, num_workers=workers, worker_init_fn=setup)
    start, cpu, images = time.perf_counter(), cpu_now(), 0
    for x, _ in loader:
        images += len(x)
    told(images, start, cpu, f"PyTorch {torch.__version__} ImageFolder")


def main(mode, *words):
    if mode == "shards":
        shards(words[0], words[1], int(words[2]), int(words[3]))
    else:
        batches(words[0], int(words[1]), int(words[2]))


main(*sys.argv[1:])
