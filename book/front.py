"""The figure of the front page: one photograph, ten maps, ten spectra."""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from xai_lib.analyse import radial_spectrum
from xai_lib.assets import load_images, load_model
from xai_lib.attribute import METHODS, channel_sum, percentile_scale
from xai_lib.show import SIGNED, method_colour, signed_norm

WIDTH, HEIGHT = 11.1, 4.75  # inches
PHOTOGRAPH = "imagenet_17_22.jpg"
CHAPTERS = [
    "gradient", "gradient_x_input", "integrated_gradients", "smoothgrad", "squaregrad",
    "vargrad", "guided_backprop", "grad_cam", "occlusion", "rise",
]  # fmt: skip
FEWER = {"rise": {"n_masks": 400}, "smoothgrad": {"n_samples": 24}}
FEWER |= {name: FEWER["smoothgrad"] for name in ("squaregrad", "vargrad")}


def compute():
    """Return the photograph and, by method, its signed map and radial spectrum."""
    photos, net = load_images("photos"), load_model("resnet18")
    i = photos.names.index(PHOTOGRAPH)
    x, c = net.transform(photos.x[i : i + 1]), photos.y[i : i + 1]
    maps = {}
    for name in CHAPTERS:
        one = channel_sum(METHODS[name](net.model, x, c, **FEWER.get(name, {})))
        one = F.interpolate(one, size=x.shape[2:], mode="bilinear", align_corners=False)
        centred = one - one.mean() if name == "rise" else one  # RISE has no sign
        maps[name] = percentile_scale(centred)[0, 0], radial_spectrum(one)
    shown = photos.x[i].permute(1, 2, 0)[16:240, 16:240]  # what the network sees
    return shown, maps


def _axes(figure, left, bottom, width, height):
    """Add axes at a place given in inches."""
    box = (left / WIDTH, bottom / HEIGHT, width / WIDTH, height / HEIGHT)
    return figure.add_axes(box)


def draw(path: Path) -> None:
    """Draw the figure into a PNG file."""
    torch.manual_seed(0)
    shown, maps = compute()
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    photo = _axes(figure, 0, 0.65, 3.1, 3.1)
    photo.imshow(shown)
    photo.set_title("What did the network look at?", fontsize=13)
    photo.axis("off")
    for k, (name, (one, spectrum)) in enumerate(maps.items()):
        left, bottom = 3.35 + 1.55 * (k % 5), (3.05, 0.95)[k // 5]
        top = _axes(figure, left, bottom, 1.4, 1.4)
        top.imshow(one, cmap=SIGNED, norm=signed_norm())
        top.set_title(METHODS[name].label, fontsize=10, pad=3)
        top.set(xticks=[], yticks=[])
        _spectrum(_axes(figure, left, bottom - 0.48, 1.4, 0.42), name, *spectrum, k)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _spectrum(axis, name, frequency, power, k) -> None:
    colour = method_colour(name)
    axis.loglog(frequency, power[0], color=colour, linewidth=1.4)
    axis.fill_between(frequency, 1e-6, power[0], color=colour, alpha=0.15)
    axis.set(xlim=(1, 112), ylim=(1e-5, 2e4), yticks=[], xticks=[1, 10, 100])
    axis.set_xticklabels(["1", "10", "100"] if k >= 5 else [], fontsize=8)
    axis.minorticks_off()
    axis.spines[["top", "right"]].set_visible(False)
    if k == 7:
        axis.set_xlabel("power against frequency, cycles per image", fontsize=9)
