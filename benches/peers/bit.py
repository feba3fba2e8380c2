"""BiT ResNet-v2 (Kolesnikov et al. 2020) in PyTorch: the peer of src/model/bit.rs, same blocks, same order."""
import re

import torch
import torch.nn as nn
import torch.nn.functional as F

UNITS = {14: [1, 1, 1, 1], 26: [2, 2, 2, 2], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}


class StdConv2d(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        v, m = torch.var_mean(w, dim=[1, 2, 3], keepdim=True, unbiased=False)
        return F.conv2d(x, (w - m) / torch.sqrt(v + 1e-10), self.bias, self.stride, self.padding)


def conv(i, o, k, s=1):
    return StdConv2d(i, o, k, s, k // 2, bias=False)


def norm(c):
    groups = min(32, c)
    return nn.GroupNorm(groups, c)


class Unit(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        mid = cout // 4
        self.gn1, self.conv1 = norm(cin), conv(cin, mid, 1)
        self.gn2, self.conv2 = norm(mid), conv(mid, mid, 3, stride)
        self.gn3, self.conv3 = norm(mid), conv(mid, cout, 1)
        self.downsample = conv(cin, cout, 1, stride) if stride != 1 or cin != cout else None

    def forward(self, x):
        y = F.relu(self.gn1(x))
        residual = self.downsample(y) if self.downsample is not None else x
        y = self.conv1(y)
        y = self.conv2(F.relu(self.gn2(y)))
        y = self.conv3(F.relu(self.gn3(y)))
        return y + residual


class BiT(nn.Module):
    def __init__(self, name, classes=10):
        super().__init__()
        depth, width = re.fullmatch(r"bit-r(\d+)x([\d.]+)", name).groups()
        root = int(64 * float(width))
        self.root = conv(3, root, 7, 2)
        layers, cin = [], root
        for stage, units in enumerate(UNITS[int(depth)]):
            cout = root * 4 * 2**stage
            for unit in range(units):
                layers.append(Unit(cin, cout, 2 if stage and unit == 0 else 1))
                cin = cout
        self.body, self.gn, self.head = nn.Sequential(*layers), norm(cin), nn.Linear(cin, classes)

    def forward(self, x):
        x = F.max_pool2d(F.pad(self.root(x), (1, 1, 1, 1)), 3, 2)
        x = F.relu(self.gn(self.body(x)))
        return self.head(x.mean(dim=(2, 3)))
