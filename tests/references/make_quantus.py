"""Make quantus.npz: a small net, images, maps, and Quantus's SensitivityN of them.

Needs Quantus (made with 0.6.0), which the library does not:

    python tests/references/make_quantus.py
"""

from pathlib import Path

import numpy as np
import quantus
import torch
from torch import nn

draw = np.random.default_rng(0)
x = draw.normal(size=(7, 3, 6, 6)).round(3).astype(np.float32)
maps = draw.normal(size=x.shape).round(6).astype(np.float32)
labels = draw.integers(0, 3, len(x))
weights = draw.normal(size=(8, 108)).round(2), draw.normal(size=(3, 8)).round(2)
net = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
with torch.no_grad():
    for layer, weight in zip((net[1], net[3]), weights, strict=True):
        layer.weight.copy_(torch.from_numpy(0.2 * weight))
        layer.bias.zero_()
values = {}
for step in (1, 4):
    own = {"features_in_step": step, "return_aggregate": False}
    metric = quantus.SensitivityN(**own, disable_warnings=True)
    values[f"step{step}"] = metric(net, x, labels, maps, device="cpu")
one = {"x": x, "maps": maps, "labels": labels, "first": weights[0]}
path = Path(__file__).with_name("quantus.npz")
np.savez_compressed(path, **one, second=weights[1], **values)
