"""The recorded tables of chapter 03: down-sampling and the gradient (P4-3).

    XAI_LIB_MIRROR=../shared/mirror python data/results/aliasing.py run --threads 1
    python data/results/aliasing.py tables

``run`` writes one shard per network below ``_build/results/aliasing`` and skips those
that are there, so it may be stopped and started at will. ``tables`` joins the shards
into the CSV files beside this script.
"""

import argparse
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tables import compute, current_commit, head_of, opened, write_table
from torch import Tensor, nn

from xai_lib.analyse import (
    BACKWARD_SWAPS,
    backward_ratios,
    downsampling_steps,
    high_frequency_ratio,
    radial_spectrum,
    swapped_gradient,
    with_downsampler,
)
from xai_lib.assets import fresh_model, load_images, load_model
from xai_lib.assets.cifar_nets import POOLS
from xai_lib.assets.cifar_zoo import NETS, SEEDS
from xai_lib.attribute import channel_max_abs, channel_sum, gradient

HERE = Path(__file__).resolve().parent
SHARDS = HERE.parents[1] / "_build" / "results" / "aliasing"
FIVE = [f"cifar_{kind}_{seed}" for seed in SEEDS for kind in POOLS]
CIFAR = ["cifar_cnn", "cifar_vgg11", "cifar_vgg11_bn", "cifar_resnet"]
PHOTO = ["resnet18", "mobilenet_v2", "efficientnet_lite0", "resnet50_caffe"]
REDUCTIONS = {"signed": channel_sum, "absolute": channel_max_abs}
FORWARD = ("average", "max_blur", "blur")
LAYERS_BY = ("own", "all_average", "all_blur")
IMAGES = {True: 300, False: 60}  # of CIFAR-10, of photographs
TESTED = 2000
BATCH = {True: 100, False: 10}
NOTES = {
    "images": "CIFAR-10: the first 300 test images that the network classifies "
    "correctly, the same for the five nets of a seed; photographs: the first 60 of "
    "photos, likewise; untrained networks explain the images of the trained one",
    "ratio": "high-frequency ratio of the gradient of the label's logit, above 0.25 "
    "cycles per pixel, Hann window, image by image; signed: summed over channels; "
    "absolute: largest absolute value over channels",
    "how": "own: the plain gradient; a name of BACKWARD_SWAPS: other down-sampling on "
    "the way back alone; 'network with ...': in both directions, with_downsampler",
    "initial": "random weights of the seed the network was trained from; first stage: "
    "its two convolutions and batch norms come from the other of the two",
    "layers": "of the backward signal at a layer's output, mean of the channels' power "
    "spectra, above 0.25 cycles per position of that layer",
    "right": f"CIFAR-10: of the first {TESTED} test images; photographs: of all 70",
}


def images_of(name: str) -> tuple[Tensor, Tensor]:
    """Return a network's inputs and labels, before any are left out."""
    net, ours = load_model(name), name in NETS
    images = load_images("cifar10", TESTED) if ours else load_images("photos")
    return net.transform(images.x), images.y


def top_of(model, x: Tensor, size: int) -> Tensor:
    """Return the predicted classes."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(size)])


def by_batches(function, x: Tensor, y: Tensor, size: int) -> Tensor:
    """Join the results of a function of inputs and labels."""
    pairs = zip(x.split(size), y.split(size), strict=True)
    return torch.cat([function(a, b) for a, b in pairs])


def spectra_of(maps: Tensor, key: str) -> dict[str, np.ndarray]:
    """Return ratios and the median spectrum under both reductions."""
    found = {}
    for reduction, reduce in REDUCTIONS.items():
        flat = reduce(maps)
        found[f"ratio|{key}|{reduction}"] = high_frequency_ratio(flat).numpy()
        power = radial_spectrum(flat)[1]
        found[f"spectrum|{key}|{reduction}"] = power.quantile(
            torch.tensor([0.25, 0.5, 0.75]), dim=0
        ).numpy()
    return found


def layers_of(model, x, y, size: int, kind: str, key: str) -> dict[str, np.ndarray]:
    """Return the ratios of all layers, from the last to the input."""
    pairs = zip(x.split(size), y.split(size), strict=True)
    parts = [backward_ratios(model, a, b, kind=kind) for a, b in pairs]
    return {
        f"layer|{key}|{place:02d} {name}": torch.cat([p[name] for p in parts]).numpy()
        for place, name in enumerate(parts[0])
    }


def with_first_stage(model: nn.Module, other: nn.Module) -> nn.Module:
    """Return a copy of a net of `FIVE` with the first two convolutions of another."""
    mixed, state = deepcopy(model), other.state_dict()
    first = {k: v for k, v in state.items() if k.split(".")[1][-1] in "12"}
    if len(first) != 12:  # two convolutions, two batch norms of five
        raise ValueError(f"the first stage must have 12 tensors, got {list(first)}")
    mixed.load_state_dict(state | mixed.state_dict() | first)
    return mixed


def measure(name: str) -> dict[str, np.ndarray]:
    """Return everything about one network."""
    net, ours = load_model(name).model, name in NETS
    x, y = images_of(name)
    size, top = BATCH[ours], top_of(net, x, BATCH[ours])
    found = {"right|trained": np.array([int((top == y).sum()), len(y)])}
    right = top == y
    if name in FIVE:  # the same images for the five nets of a seed
        for other in (n for n in FIVE if n[-1] == name[-1] and n != name):
            right &= top_of(load_model(other).model, x, size) == y
    kept = right.nonzero().flatten()[: IMAGES[ours]]
    steps = set(downsampling_steps(net).values())
    a, b = x[kept], y[kept]
    for kind in BACKWARD_SWAPS:
        maps = by_batches(
            lambda p, q, k=kind: swapped_gradient(net, p, q, k), a, b, size
        )
        found |= spectra_of(maps, f"trained|{kind}")
    for kind in FORWARD if steps else ():
        try:
            other = with_downsampler(net, kind)
        except ValueError as error:  # this net has no such step
            print(name, kind, error, flush=True)
            continue
        right = int((top_of(other, x, size) == y).sum())
        found[f"right|network with {kind}"] = np.array([right, len(y)])
        maps = by_batches(lambda p, q, m=other: gradient(m, p, q), a, b, size)
        found |= spectra_of(maps, f"trained|network with {kind}")
    for kind in LAYERS_BY:
        found |= layers_of(net, a[:60], b[:60], size, kind, f"trained|{kind}")
    if name in FIVE:
        fresh = fresh_model(name, NETS[name].seed).model
        maps = by_batches(lambda p, q: gradient(fresh, p, q), a, b, size)
        found |= spectra_of(maps, "initial|own")
        found |= layers_of(fresh, a[:60], b[:60], size, "own", "initial|own")
        for key, (whole, stage) in {
            "trained, first stage initial": (net, fresh),
            "initial, first stage trained": (fresh, net),
        }.items():
            mixed = with_first_stage(whole, stage)
            maps = by_batches(lambda p, q, m=mixed: gradient(m, p, q), a, b, size)
            found |= spectra_of(maps, f"{key}|own")
    found |= spectra_of(a, "image|none")
    return found | {"steps": " ".join(sorted(steps))}


def run(chosen) -> None:
    """Write a shard for every network that has none."""
    commit = current_commit()
    for name in chosen.models:
        compute(SHARDS / f"{name}.npz", commit, partial(measure, name))


def ratio_rows(values: np.ndarray):
    """Yield the row of a set of ratios: number, geometric mean, each image's."""
    mean = np.exp(np.log(values).mean())
    yield len(values), f"{mean:.4g}", " ".join(f"{v:.3g}" for v in values)


def curve_rows(values: np.ndarray):
    """Yield a row per frequency, about 32 of them, even on a log axis."""
    count = values.shape[1]
    for k in np.unique(np.geomspace(1, count, 32).round().astype(int)):
        yield k, *(f"{v:.4g}" for v in values[:, k - 1])


def layer_rows(values: np.ndarray):
    """Yield the row of a layer, if its signal had a spectrum for any image."""
    count = int(np.isfinite(values).sum())
    if count:
        q = np.nanquantile(values, [0.25, 0.5, 0.75])
        yield count, *(f"{v:.4f}" for v in q)


def right_rows(values: np.ndarray):
    """Yield how many images were right, and of how many."""
    yield tuple(values)


TABLES = {
    "ratio": ("aliasing", "weights,how,reduction,n,geometric_mean,ratios", ratio_rows),
    "spectrum": (
        "aliasing_curves",
        "weights,how,reduction,frequency,quartile_1,median,quartile_3",
        curve_rows,
    ),
    "layer": (
        "aliasing_layers",
        "weights,how,place,at,n,quartile_1,median,quartile_3",
        layer_rows,
    ),
    "right": ("aliasing_right", "how,right,n", right_rows),
}
"""By the first word of a shard's keys: file, columns behind "model", rows."""


def tables() -> None:
    """Join all shards."""
    shards, commits, seconds = opened(SHARDS.glob("*.npz"))
    head = head_of("aliasing.py", commits, seconds, NOTES)
    for what, (file, columns, rows_of) in TABLES.items():
        rows = []
        for path, held in shards.items():
            for key in (k for k in held.files if k.startswith(f"{what}|")):
                names = key.split("|")[1:]
                if what == "layer":  # its last name is "place layer"
                    names[-1:] = names[-1].split(" ", 1)
                rows += [(path.stem, *names, *row) for row in rows_of(held[key])]
        write_table(f"{file}.csv", head, f"model,{columns}", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "tables"])
    parser.add_argument("--models", nargs="+", default=[*FIVE, *CIFAR, *PHOTO])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.what == "run":
        run(chosen)
    else:
        tables()
