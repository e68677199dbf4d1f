"""The recorded tables of chapter 07 on smoothing: GridPG, DiFull (P3-5, P3-6).

    XAI_LIB_MIRROR=../shared/mirror python data/results/smoothing.py run \
        --models cifar_vgg11 resnet18 --threads 1
    python data/results/smoothing.py tables

``run`` writes one shard per network, setting and part of the grids below
``_build/results/smoothing`` as it goes and skips those that are there, so it may be
stopped and started at will. ``tables`` joins the shards into ``smoothing.csv``. The
grids are those of ``localisation.py``.
"""

import argparse
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from localisation import PHOTO, drawn, listed
from tables import compute, current_commit, head_of, opened, write_table
from torch import Tensor

from xai_lib.analyse import gaussian_smooth, low_pass
from xai_lib.analyse.filters import KERNEL
from xai_lib.assets import load_model
from xai_lib.attribute import METHODS, channel_sum
from xai_lib.evaluate import GridNet, randomised, spearman, stitch
from xai_lib.evaluate.cells import heads_of
from xai_lib.evaluate.localisation import as_scored, cell_masses, shares_of

HERE = Path(__file__).resolve().parent
SHARDS = HERE.parents[1] / "_build" / "results" / "smoothing"
BATCH_NORM = {
    "cifar_cnn": False,
    "cifar_vgg11": False,
    "cifar_vit": False,  # it has layer norm
    "cifar_vgg11_bn": True,
    "cifar_resnet": True,
    "resnet18": True,
    "mobilenet_v2": True,
}
"""The networks of the table, and whether they have batch normalisation."""
WIDTHS = [9, 17, 33, 65, 129, 257]  # of the paper, on a grid of 448 px
PAPER = 448
SETTINGS = ["grid_pg", "di_full"]
GRIDS = {False: 100, True: 24}  # of CIFAR-10; of photographs, a part
PER_PASS = {False: 20, True: 4}
SEED = 0
NOTES = {
    "images": "those of localisation.csv: right with softmax of at least 0.99 "
    "(CIFAR-10), 0.9 (photographs, GridPG), 0.5 (photographs, DiFull)",
    "grids": "2 x 2, seed 0. GridPG explains every cell, DiFull the first and the last",
    "filters": "on the signed sum over channels, before the positive part is taken. "
    "smooth: Gaussian of kernel x kernel, deviation kernel / 4, zero outside; "
    "renormalise: weights at the border scaled up; disc, gaussian: low-pass at the "
    "cutoff 0.54 W / kernel cycles per grid, where the Gaussian's gain is that of the "
    "kernel",
    "width": "kernel over the grid's side; 0: no filter",
    "methods": "integrated gradients 20 steps, zero baseline; grad_cam at the final "
    "layer, unfiltered; 'untrained': all weights random (seed 0); random: N(0, 1)",
    "scores": "share of the positive mass in the head's own cell, in 1/1000, grid by "
    "grid, in each of them head by head; of the filter smooth alone",
}


def sides(photographs: bool) -> int:
    """Return the side of a grid in pixels."""
    return 448 if photographs else 64


def kernels(side: int) -> list[int]:
    """Return the paper's kernels for a grid of that side, odd."""
    return [max(1, 2 * round((k * side / PAPER - 1) / 2) + 1) for k in WIDTHS]


def filters(side: int) -> dict[tuple[str, int], callable]:
    """Return every filter by name and kernel; kernel 0 changes nothing."""
    made = {("smooth", 0): lambda maps: maps}
    for k in kernels(side):
        made["smooth", k] = partial(gaussian_smooth, kernel=k)
        made["renormalise", k] = partial(
            gaussian_smooth, kernel=k, border="renormalise"
        )
        for kind in ("disc", "gaussian"):
            made[kind, k] = partial(low_pass, cutoff=KERNEL * side / k, kind=kind)
    return made


def random_maps(model, x: Tensor, target: Tensor, layer=None) -> Tensor:
    """Return noise, a control; every grid and head has its own."""
    return torch.randn(len(x), 1, *x.shape[2:])


METHOD = {
    "integrated_gradients": partial(METHODS["integrated_gradients"], steps=20),
    "gradient_x_input": METHODS["gradient_x_input"],
}


def explained(net, untrained) -> dict[str, tuple]:
    """Return (model, function, layer) by the name of the row."""
    jobs = {name: (net.model, f, "input") for name, f in METHOD.items()}
    jobs |= {f"{n}, untrained": (untrained, f, "input") for n, f in METHOD.items()}
    jobs["random"] = net.model, random_maps, "input"
    jobs["grad_cam"] = net.model, METHODS["grad_cam"], "final"
    return jobs


def measure(name: str, setting: str, part: int) -> dict[str, np.ndarray]:
    """Return the own cell's share, (grids, heads), by method, filter and kernel."""
    net, photographs = load_model(name), name in PHOTO
    count, heads = GRIDS[photographs], heads_of(setting, 2)
    start = part * count
    cells, classes = (own[start:] for own in drawn(name, setting, 2, start + count))
    size, side = cells.shape[2:], 2 * cells.shape[-1]
    untrained = randomised(net.model, cells[0], "input")
    torch.manual_seed(SEED + part)  # of the random maps
    found: dict[str, list] = {}
    for what, (model, function, layer) in explained(net, untrained).items():
        wired = GridNet(model, size, 2, setting, net.layers[layer])
        wired.heads = heads
        passed = filters(side) if layer == "input" else {("smooth", 0): lambda m: m}
        for rows in torch.arange(count).split(PER_PASS[photographs]):
            h = wired.before(stitch(cells[rows]))
            shares = {key: [] for key in passed}
            for head in heads:
                wired.head = head
                maps = function(wired, h, classes[rows, head], layer="input")
                if layer == "input":
                    maps = channel_sum(maps)  # (B, 1, side, side)
                else:
                    maps = as_scored(maps, what, (side, side))
                for key, smooth in passed.items():
                    masses = cell_masses(smooth(maps)[:, 0], 2)
                    shares[key].append(shares_of(masses)[:, head])
            for (kind, k), values in shares.items():
                key = f"{what}|{kind}|{k}"
                found.setdefault(key, []).append(torch.stack(values, 1))
    return {key: torch.cat(parts).numpy() for key, parts in found.items()}


def run(chosen) -> None:
    """Write a shard for every job that has none."""
    commit = current_commit()
    for name, setting in product(chosen.models, chosen.settings):
        for part in range(chosen.parts if name in PHOTO else 1):
            job = partial(measure, name, setting, part)
            compute(SHARDS / name / f"{setting}~{part}.npz", commit, job)


def ranked_alike(a: np.ndarray, b: np.ndarray) -> float:
    """Return the rank correlation of two sets of scores."""
    a, b = (torch.tensor(v).double().flatten() for v in (a, b))
    return float(spearman(a, b))


def tables() -> None:
    """Join all shards."""
    rows, found = [], {}
    shards, commits, seconds = opened(SHARDS.glob("*/*.npz"))
    for path, held in shards.items():
        setting = path.stem.split("~")[0]
        found.setdefault((path.parent.name, setting), []).append(held)
    for (name, setting), parts in found.items():
        side = sides(name in PHOTO)
        keys = [key for key in parts[0].files if "|" in key]
        held = {key: np.concatenate([part[key] for part in parts]) for key in keys}
        cam = held["grad_cam|smooth|0"]
        for key, scores in held.items():
            method, kind, kernel = key.split("|")
            quartiles = (f"{v:.4f}" for v in np.percentile(scores, [50, 25, 75]))
            rows.append(
                (
                    name,
                    setting,
                    method,
                    kind,
                    kernel,
                    f"{int(kernel) / side:.4f}",
                    scores.size,
                    *quartiles,
                    f"{ranked_alike(scores, cam):.4f}",
                    listed(scores) if kind == "smooth" else "",
                )
            )
    head = head_of("smoothing.py", commits, seconds, NOTES)
    columns = "model,setting,method,kind,kernel,width_of_grid,n,median,q1,q3"
    columns += ",spearman_grad_cam,scores"
    write_table("smoothing.csv", head, columns, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "tables"])
    parser.add_argument("--models", nargs="+", default=list(BATCH_NORM))
    parser.add_argument("--settings", nargs="+", default=SETTINGS)
    parser.add_argument("--parts", type=int, default=2, help="of 24 grids, photographs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.what == "run":
        with torch.no_grad():
            run(chosen)
    else:
        tables()
