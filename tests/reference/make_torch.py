"""Numbers of PyTorch, torchvision and Pillow for torch.json: python tests/reference/make_torch.py > tests/reference/torch.json

Pictures are given by a formula, so that the file holds results only.
"""

import hashlib
import json

import numpy as np
import torch
import torchvision
import torchvision.transforms.functional as F
from PIL import Image, __version__ as pillow
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import RandAugment, _apply_op


def picture(height, width, channels):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    return ((x * x * 3 + y * 7 + x * y * 5 + c * 50 + (x // 3 + y // 2) % 2 * 90) % 256).astype(np.uint8)


def pil(height, width, channels=3):
    a = picture(height, width, channels)
    return Image.fromarray(a[:, :, 0] if channels == 1 else a)


def flat(image):
    return np.asarray(image).reshape(-1).tolist()


def adamw():
    out = []
    for case in [
        dict(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1),
        dict(lr=0.003, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.0),
    ]:
        generator = torch.Generator().manual_seed(1)
        weight = torch.randn(3, 2, 2, 2, generator=generator)
        gradients = [torch.randn(3, 2, 2, 2, generator=generator) * s for s in (1.0, 0.01, 3.0, 0.0, 1.0)]
        parameter = torch.nn.Parameter(weight.clone())
        betas = (case["beta1"], case["beta2"])
        optimizer = torch.optim.AdamW([parameter], lr=case["lr"], betas=betas, eps=case["eps"],
                                      weight_decay=case["weight_decay"])
        after = []
        for step, gradient in enumerate(gradients):
            optimizer.param_groups[0]["lr"] = case["lr"] / (1 + step)
            parameter.grad = gradient.clone()
            optimizer.step()
            after.append(parameter.detach().flatten().tolist())
        out.append(dict(case, shape=[3, 2, 2, 2], weight=weight.flatten().tolist(),
                        gradients=[g.flatten().tolist() for g in gradients], after=after))
    return out


def linear():
    out = []
    for seed, inputs, outputs in [(0, 6, 3), (7, 2048, 2), (123, 33, 5)]:
        torch.manual_seed(seed)
        layer = torch.nn.Linear(inputs, outputs)
        weight = layer.weight.detach().flatten()
        out.append(dict(seed=seed, inputs=inputs, outputs=outputs, first=weight[:10].tolist(),
                        last=weight[-5:].tolist(), sum=weight.double().sum().item(), bias=layer.bias.tolist()))
    return out


def resized():
    out = []
    for height, width, channels, h, w in [(9, 13, 3, 4, 5), (8, 8, 3, 10, 10), (40, 24, 1, 16, 12), (7, 15, 3, 16, 9)]:
        image = pil(height, width, channels).resize((w, h), Image.BILINEAR)
        out.append(dict(size=[height, width, channels], to=[h, w], levels=flat(image)))
    return out


def centre():
    out = []
    for height, width, resize, crop in [(20, 30, 16, 8), (31, 17, 20, 9)]:
        image = F.center_crop(F.resize(pil(height, width), resize, InterpolationMode.BILINEAR), crop)
        out.append(dict(size=[height, width, 3], resize=resize, crop=crop, levels=flat(image)))
    return out


def crops():
    """BiT's: resized to a square, cut out, and (the last) mirrored; and torchvision's resized_crop."""
    out = []
    for height, width, resize, top, left, crop, mirror in [(20, 30, 24, 3, 8, 10, False), (8, 8, 10, 0, 2, 8, True)]:
        image = F.crop(pil(height, width).resize((resize, resize), Image.BILINEAR), top, left, crop, crop)
        image = F.hflip(image) if mirror else image
        out.append(dict(size=[height, width, 3], resize=resize, top=top, left=left, crop=crop, mirror=mirror,
                        levels=flat(image)))
    boxes = []
    for height, width, top, left, h, w, px in [(32, 40, 5, 3, 20, 26, 9), (24, 24, 0, 11, 9, 13, 12)]:
        image = F.resized_crop(pil(height, width), top, left, h, w, [px, px], InterpolationMode.BILINEAR)
        boxes.append(dict(size=[height, width, 3], box=[top, left, h, w], px=px, levels=flat(image)))
    return out, boxes


def affine():
    """Interior points only: what torchvision fills with black is mirrored here."""
    out = []
    for angle, scale, right, down in [(30, 1.0, 0, 0), (-12, 1.1, 3, -2), (45, 0.9, -4, 5), (0, 1.0, 7, 4)]:
        grey = torch.from_numpy(picture(16, 20, 1)).permute(2, 0, 1).float()
        both = torch.cat([grey, torch.ones_like(grey)])
        # torchvision turns clockwise, this program counter-clockwise.
        moved = F.affine(both, -angle, [right, down], scale, [0.0, 0.0], InterpolationMode.BILINEAR)
        inside = moved[1] > 0.9999
        out.append(dict(size=[16, 20, 1], degrees=angle, scale=scale, right=right, down=down,
                        inside="".join(str(int(i)) for i in inside.flatten()), levels=[round(v, 3) for v in moved[0].flatten().tolist()]))
    return out


def operations():
    names = {"Identity": "identity", "ShearX": "shear_x", "ShearY": "shear_y", "TranslateX": "translate_x",
             "TranslateY": "translate_y", "Rotate": "rotate", "Brightness": "brightness", "Color": "color",
             "Contrast": "contrast", "Sharpness": "sharpness", "Posterize": "posterize", "Solarize": "solarize",
             "AutoContrast": "auto_contrast", "Equalize": "equalize"}
    out = []
    for height, width, strengths in [(12, 16, (0, 9, 30)), (33, 20, (4, 17))]:
        for m in strengths:
            space = RandAugment()._augmentation_space(31, (height, width))
            assert set(space) == set(names)
            for name, (magnitudes, signed) in space.items():
                magnitude = float(magnitudes[m].item()) if magnitudes.ndim > 0 else 0.0
                for sign in (1, -1) if signed and m else (1,):
                    image = pil(height, width)
                    if name in ("AutoContrast", "Equalize"):
                        image = image.point(lambda level: 60 + level // 3)
                    image = _apply_op(image, name, sign * magnitude, InterpolationMode.NEAREST, None)
                    out.append(dict(name=names[name], m=m, size=[height, width, 3], magnitude=magnitude, sign=sign,
                                    first=flat(image)[:9], sha256=hashlib.sha256(image.tobytes()).hexdigest()))
    return out


bit, box = crops()
versions = dict(torch=torch.__version__, torchvision=torchvision.__version__, pillow=pillow)
print(json.dumps(dict(versions=versions, adamw=adamw(), linear=linear(), resized=resized(), centre=centre(), bit_crop=bit,
                      resized_crop=box, affine=affine(), rand_augment=operations()), separators=(",", ":")))
