"""The recorded table of chapter 07 on the low-pass filter (P4-4, P4-C, P4-5).

    XAI_LIB_MIRROR=../shared/mirror python data/results/low_pass.py run \
        --models cifar_cnn resnet18 --threads 1
    python data/results/low_pass.py tables

``run`` writes one shard per network and image below ``_build/results/low_pass`` as it
goes and skips those that are there, so it may be stopped and started at will; several
processes may share the networks, and two a network, one of them ``--backwards``.
``centre`` does so for the spot in the middle alone. ``tables`` joins the shards into
``low_pass.csv``. The cutoff is chosen by the reader of the table: images at even places
of a row are there to choose on, those at odd places to judge on.
"""

import argparse
import math
from functools import partial
from itertools import groupby, product
from pathlib import Path

import numpy as np
import torch
from tables import compute, current_commit, head_of, opened, write_table
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional as F

from xai_lib.analyse import best_cutoff, gradient_magnitude
from xai_lib.assets import load_images, load_model
from xai_lib.assets.cifar_nets import POOLS
from xai_lib.assets.cifar_zoo import NETS, SEEDS
from xai_lib.attribute import METHODS
from xai_lib.attribute.noisy import noisy_gradients
from xai_lib.evaluate import faithfulness, randomised
from xai_lib.evaluate.mu_fidelity import region_falls, region_rank_correlation
from xai_lib.study.metrics import READINGS

HERE = Path(__file__).resolve().parent
SHARDS = HERE.parents[1] / "_build" / "results" / "low_pass"
CIFAR = ["cifar_cnn", "cifar_vgg11", "cifar_vgg11_bn", "cifar_resnet", "cifar_vit"]
FIVE = [f"cifar_{kind}_{seed}" for seed in SEEDS for kind in POOLS]
PHOTO = ["resnet18", "mobilenet_v2"]
IMAGES = 100
MORE = 300  # of CIFAR-10, judged at the chosen cutoff alone
CUTOFFS = {
    True: [1, 2, 3, 4, 6, 8, 11, math.inf],
    False: [1, 2, 4, 8, 15, 30, 60, math.inf],
}
NOISY = {"smoothgrad": 0, "squaregrad": 1, "vargrad": 2}
GRADIENT_BASED = ["gradient", "gradient_x_input", "integrated_gradients", *NOISY]
GRADIENT_BASED += ["guided_backprop", "deconvnet"]
FOR_RELUS = ["guided_backprop", "deconvnet"]  # others have none to modify
OTHERS = ["grad_cam", "occlusion", "rise"]
UNTRAINED = ", untrained"
STEPS = 10  # the default of Xplique, which P4 comes from
SIGNED = ["cifar_vgg11", "cifar_resnet"]
SEED = 0
NOTES = {
    "images": "CIFAR-10: the first 100 test images that the network classifies "
    "correctly; photographs: the first 100 of imagenet_samples, likewise",
    "maps": "integrated gradients 20 steps, zero baseline; noise methods 15 samples, "
    "standard deviation 0.15 of the range; occlusion 4 / 2 on CIFAR-10, 32 / 16 on "
    "photographs; RISE 500 masks, grid 7 (4 on CIFAR-10), p 0.5, seed 0; grad_cam at "
    "the final layer, upsampled bilinearly",
    "controls": "'random': N(0, 1) per pixel and channel; 'edges': gradient magnitude "
    "of the image; 'centre': one spot for all images, a Gaussian of a quarter of the "
    "width in the middle; ', untrained': the method's map from the network with all "
    "weights random (seed 0), judged on the trained one, held-out images only",
    "reading": "rectified: |low-pass of |mean over channels||, as P4's public code; "
    "signed: low-pass of the sum over channels, of two networks; pixels are ranked by "
    "the result",
    "cutoff": "cycles per image, inf: no filter; disc, or gaussian with half the power "
    "at the cutoff (methods that have gradients; held-out images)",
    "nets": "of the five that differ in the down-sampler: methods that have gradients, "
    "and random, rectified disc alone",
    "scores": "image by image, in 1/10000: faithfulness (insertion, blur baseline, "
    "minus deletion, zero baseline; softmax probability, 10 steps) and mu_fidelity "
    "(200 subsets of a 9 x 9 grid, 0.2; Spearman, logit; nan where undefined)",
    "halves": "images at even places are for the choice of the cutoff, odd ones for "
    "the judgement; more: the next 300 of CIFAR-10, for the judgement. Photographs at "
    "odd places and more meet a method at its chosen cutoff and without a filter alone",
}


def own_settings(ours: bool) -> dict[str, dict]:
    """Return what differs from a method's defaults."""
    window = (4, 2) if ours else (32, 16)
    return {
        "integrated_gradients": {"steps": 20},
        "occlusion": dict(zip(("window", "stride"), window, strict=True)),
        "rise": {"n_masks": 500, "grid": 4 if ours else 7},
    }


def gradient_maps(model: nn.Module, x: Tensor, c: Tensor, ours: bool) -> dict:
    """Return the maps of the gradient-based methods of one image, all channels."""
    g = next(noisy_gradients(model, x, c, n_samples=15, noise=0.15, seed=SEED))
    moments = [g.mean(0), g.square().mean(0), g.var(0)]
    own = own_settings(ours)
    relus = any(isinstance(m, (nn.ReLU, nn.ReLU6)) for m in model.modules())
    return {
        name: moments[NOISY[name]][None]
        if name in NOISY
        else METHODS[name](model, x, c, **own.get(name, {}))
        for name in GRADIENT_BASED
        if relus or name not in FOR_RELUS
    }


def all_maps(net, folded, x: Tensor, c: Tensor, ours: bool, seed: int) -> dict:
    """Return every method's map of one image and the controls, at its size."""
    own, size = own_settings(ours), x.shape[2:]
    maps = gradient_maps(folded, x, c, ours)
    g = torch.Generator().manual_seed(seed)
    maps["random"] = torch.randn(x.shape, generator=g)
    if net.name in FIVE:
        return maps
    for name in OTHERS:
        model = net.model if name == "grad_cam" else folded
        layer = {"layer": net.layers["final"]} if name == "grad_cam" else {}
        raw = METHODS[name](model, x, c, **layer, **own.get(name, {}))
        maps[name] = F.interpolate(raw, size, mode="bilinear", align_corners=False)
    maps["edges"] = gradient_magnitude(x)
    return {name: m if m.ndim == 4 else m[:, None] for name, m in maps.items()}


def plan(net: str, method: str, place: int, chosen: dict[str, float]):
    """Yield (reading, kind, cutoff) of every version of a map that is judged."""
    cutoffs = few = CUTOFFS[net in NETS]
    base = method.removesuffix(UNTRAINED)
    if base in chosen:
        few = sorted({chosen[base], math.inf})
    if chosen:  # the choice is made; random numbers meet every method at its cutoff
        cutoffs = sorted({*chosen.values(), math.inf}) if base == "random" else few
    yield from (("rectified", "disc", c) for c in (cutoffs if base == method else few))
    if net in FIVE or method not in [*GRADIENT_BASED, "random"]:
        return
    if held_out(place):
        yield from (("rectified", "gaussian", c) for c in few[:-1])
    if net in SIGNED and place < IMAGES:
        yield from (("signed", "disc", c) for c in cutoffs)


def held_out(place: int) -> bool:
    """Tell whether an image is there to judge on."""
    return place % 2 == 1 or place >= IMAGES


def judge(model, x, c, maps: dict[str, Tensor], versions_of) -> dict:
    """Return F and muFidelity of every version of every map of one image."""
    keys, versions = [], []
    for name, raw in maps.items():
        for reading, kind, cutoff in versions_of(name):
            keys.append(f"{name}|{reading}|{kind}|{cutoff:g}")
            versions.append(READINGS[reading](raw, cutoff, kind))
    stack = torch.cat(versions)  # (M, 1, H, W)
    n = len(stack)
    score = faithfulness(model, x.expand(n, -1, -1, -1), stack, c.expand(n), STEPS)
    regions, falls = region_falls(model, x, c, seed=SEED)
    mu = region_rank_correlation(stack[:, 0], regions, falls)
    return dict(zip(keys, torch.stack([score, mu], 1).double().numpy(), strict=True))


def measure(
    net, folded, untrained, x, c, ours, place: int, chosen: dict[str, float]
) -> dict[str, np.ndarray]:
    """Return the scores of one image; to judge on: with the untrained net's maps."""
    maps = all_maps(net, folded, x, c, ours, seed=place)
    if held_out(place) and net.name not in FIVE:
        other = gradient_maps(untrained, x, c, ours)
        maps |= {name + UNTRAINED: m for name, m in other.items()}
    versions_of = partial(plan, net.name, place=place, chosen=chosen)
    return judge(folded, x, c, maps, versions_of)


def spot(size: torch.Size) -> Tensor:
    """Return a Gaussian in the middle of the image, a quarter of its width."""
    y, x = (torch.linspace(-1, 1, n) for n in size)
    return torch.exp(-2 * (y[:, None] ** 2 + x**2))[None, None]  # (1, 1, H, W)


def measure_spot(folded, x: Tensor, y: Tensor) -> dict[str, np.ndarray]:
    """Return the scores of the spot, (images, 2)."""
    versions_of = partial(dict.get, {"centre": [("rectified", "disc", math.inf)]})
    maps = {"centre": spot(x.shape[2:])}
    found = [
        judge(folded, one[None], c[None], maps, versions_of)
        for one, c in zip(x, y, strict=True)
    ]
    return {key: np.stack([one[key] for one in found]) for key in found[0]}


def choose(name: str, places: range) -> dict[str, float]:
    """Return the cutoff of the best mean F over the even places, by method."""
    shards = [np.load(SHARDS / name / f"{place:03d}.npz") for place in places[::2]]
    cutoffs, found = CUTOFFS[name in NETS], {}
    for method in dict.fromkeys(key.split("|")[0] for key in shards[0].files):
        keys = [f"{method}|rectified|disc|{c:g}" for c in cutoffs]
        if keys[0] in shards[0].files:
            values = torch.full((len(keys), 2 * len(shards)), math.nan).double()
            rows = [[round(one[key][0], 4) for one in shards] for key in keys]
            values[:, ::2] = torch.tensor(rows, dtype=torch.float64)
            found[method] = best_cutoff(values, cutoffs).cutoff
    return found


def folded_of(model: nn.Module, ours: bool) -> nn.Module:
    """Fold BatchNorm into the convolutions where that is possible, for speed."""
    try:
        return fuse(model).to(memory_format=torch.channels_last).eval()
    except Exception:  # a network that cannot be traced runs as it is
        return model


def right_ones(net, ours: bool) -> tuple[Tensor, Tensor]:
    """Return the first images that the network classifies correctly."""
    images = load_images("cifar10", 1200) if ours else load_images("imagenet_samples")
    x = net.transform(images.x)
    with torch.no_grad():
        top = torch.cat([net.model(part).argmax(1) for part in x.split(16)])
    kept = (top == images.y).nonzero().flatten()[: IMAGES + MORE * ours]
    return x[kept], images.y[kept]


def run(chosen) -> None:
    """Write a shard for every image of every network."""
    commit = current_commit()
    for name in chosen.models:
        net, ours = load_model(name), name in NETS
        x, y = right_ones(net, ours)
        folded = folded_of(net.model, ours)
        untrained = randomised(folded, x[:16], "input")
        if name not in FIVE:
            job = partial(measure_spot, folded, x, y)
            compute(SHARDS / "centre" / f"{name}.npz", commit, job)
        if chosen.what == "centre":
            continue
        places = range(IMAGES)[: chosen.limit]
        parts = [places] if ours else [places[::2], places[1::2]]
        parts += [range(IMAGES, len(x))] if name in CIFAR and not chosen.limit else []
        for k, part in enumerate(parts):
            cutoffs = choose(name, places) if k > 0 else {}
            for place in reversed(part) if chosen.backwards else part:
                one = slice(place, place + 1)
                call = (net, folded, untrained, x[one], y[one], ours, place, cutoffs)
                shard = SHARDS / name / f"{place:03d}.npz"
                compute(shard, commit, partial(measure, *call))


def row_of(name: str, key: str, half: str, values: np.ndarray) -> tuple:
    """Return the row of a version of a map; values (images, 2)."""
    mean = (f"{v:.4f}" for v in np.nanmean(values, 0))
    listed = (" ".join(f"{v * 1e4:.0f}" for v in col) for col in values.T)
    return name, *key.split("|"), half, len(values), *mean, *listed


def tables() -> None:
    """Join finished networks: one row per network and version of a map."""
    folders = [f for f in SHARDS.glob("*") if f.name != "centre"]
    found = {folder.name: [*folder.glob("*.npz")] for folder in folders}
    for name, paths in found.items():
        if len(paths) < IMAGES:
            print(f"{name}: {len(paths)} of {IMAGES} images, left out")
    whole = [p for paths in found.values() for p in paths if len(paths) >= IMAGES]
    rows, (held, commits, seconds) = [], opened(whole)
    for name, group in groupby(held.items(), lambda one: one[0].parent.name):
        shards = [one for _, one in group]
        if len(shards) < IMAGES + MORE:
            shards = shards[:IMAGES]
        keys = dict.fromkeys(k for one in shards for k in one.files if "|" in k)
        for key, more in product(keys, [False, True]):
            part = shards[IMAGES:] if more else shards[:IMAGES]
            places = [i for i, one in enumerate(part) if key in one.files]
            if not places:
                continue
            half = "more" if more else "all" if len(places) == IMAGES else "odd"
            half = "even" if half == "odd" and places[0] == 0 else half
            values = np.stack([part[i][key] for i in places])
            rows.append(row_of(name, key, half, values))
        if (centre := SHARDS / "centre" / f"{name}.npz").exists():
            key = "centre|rectified|disc|inf"
            values = np.load(centre)[key]
            rows.append(row_of(name, key, "all", values[:IMAGES]))
            if len(shards) > IMAGES:
                rows.append(row_of(name, key, "more", values[IMAGES:]))
    head = head_of("low_pass.py", commits, seconds, NOTES)
    columns = "model,method,reading,kind,cutoff,half,n,mean_f,mean_mu"
    columns += ",faithfulness,mu_fidelity"
    write_table("low_pass.csv", head, columns, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "centre", "tables"])
    parser.add_argument("--models", nargs="+", default=[*CIFAR, *PHOTO, *FIVE])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--limit", type=int, help="images per network, for a trial")
    parser.add_argument("--backwards", action="store_true", help="last image first")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.what == "tables":
        tables()
    else:
        run(chosen)
