"""The recorded tables of chapter 06: GridPG, DiFull, DiPart (P3-1 to P3-4, P3-7).

    XAI_LIB_MIRROR=../shared/mirror python data/results/localisation.py run \
        --models cifar_vgg11 resnet18 --threads 1
    python data/results/localisation.py tables

``run`` writes one shard per network, setting, layer, method and part of the grids below
``_build/results/localisation`` as it goes and skips those that are there, so it may be
stopped and started at will; ``--parts 3`` asks photographs for more grids than
``--parts 1``. What stands in the published table is not run again without ``--again``,
except for more parts, which want the shards of the first one. ``tables`` joins the
shards into the CSV files beside this script. The photographs are the 70 of ``photos``
and 300 of ``imagenet_samples``.
"""

import argparse
import csv
import gc
import time
from functools import lru_cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from tables import current_commit, head_of, save, write_table
from torch import Tensor

from xai_lib.assets import load_images, load_model
from xai_lib.assets.cifar_zoo import NETS
from xai_lib.attribute import METHODS
from xai_lib.attribute.noisy import noisy_gradients
from xai_lib.evaluate.agg_att import BINS, bin_members, in_bins
from xai_lib.evaluate.cells import heads_of, stitch
from xai_lib.evaluate.grids import GridNet
from xai_lib.evaluate.localisation import (
    NOTHING,
    as_scored,
    cell_masses,
    shares_of,
)
from xai_lib.evaluate.sampling import confident, sample_grids

HERE = Path(__file__).resolve().parent
SHARDS = HERE.parents[1] / "_build" / "results" / "localisation"
CIFAR = ["cifar_vgg11", "cifar_vgg11_bn", "cifar_resnet", "cifar_vit"]
PHOTO = ["resnet18", "mobilenet_v2", "efficientnet_lite0", "resnet50_caffe"]
SETTINGS = ["grid_pg", "di_full", "di_part"]
LAYERS = ["final", "input", "middle"]
NOISY = ["smoothgrad", "squaregrad", "vargrad"]
FAMILIES = {name: method.family for name, method in METHODS.items()}
CAMS = [name for name, family in FAMILIES.items() if family == "cam"]
KEPT: dict[tuple, Tensor] = {}
LEAST = 26  # fewer maps leave a bin empty
STRIPS = [1 / 7, 2 / 7]
SEED = 0
NOTES = {
    "images": "photographs: photos (70) and imagenet_samples (300), right with softmax "
    "of at least 0.9 (GridPG) or 0.5 (DiFull, DiPart: few classes come twice); "
    "CIFAR-10: the first 4000 test images, right with at least 0.99; per network",
    "grids": "2 x 2; 3 x 3 where cells is 9; seed 0. GridPG explains every cell, "
    "DiFull and DiPart the first and the last; the two share their grids",
    "settings": "integrated gradients 20 steps; noise methods 15 samples, 0.15; "
    "RISE 1000 masks, grid 6, p 0.1; occlusion on photographs 32 / 16 at the input "
    "(the paper: 16 / 8), 5 / 2 inside; on CIFAR-10 4 / 2 at the input, 3 / 1 inside",
    "random": "N(0, 1) per pixel of the grid, seed 0: a control",
    "groups": "photographs, DiFull and DiPart: the class of each grid's pair",
    "scores": "share of the positive mass in the head's own cell, in 1/1000, grid by "
    "grid, in each of them head by head; repeated: in the other cell of that class",
    "bins": "of AggAtt, maps of all heads, each seen from its own cell; decline: the "
    "smallest drop from bin to bin; random: the bins filled at random, a control",
    "leak": "DiPart: median share of the mass outside the cell that lies within 1/7 "
    "and 2/7 of a cell's side of it; of a uniform leak 0.102 and 0.218",
}


def noisy(model, x: Tensor, target: Tensor, layer=None) -> dict[str, Tensor]:
    """Return the three moments from one set of noisy gradients."""
    found = noisy_gradients(model, x, target, layer=layer, n_samples=15)
    parts = [(g.mean(0), g.square().mean(0), g.var(0)) for g in found]
    stacked = [torch.stack(part) for part in zip(*parts, strict=True)]
    return dict(zip(NOISY, stacked, strict=True))


def noise(model, x: Tensor, target: Tensor, layer=None) -> Tensor:
    """Return random maps, a control; every grid and head has its own."""
    return torch.randn(len(x), 1, *x.shape[2:])


def explained(method: str, ours: bool, layer: str):
    """Return the function of a job with the settings of this table."""
    if method == "noisy":
        return noisy
    if method == "random":
        return noise
    own = {
        "integrated_gradients": {"steps": 20},
        "rise": {"n_masks": 1000, "grid": 6, "p": 0.1},
        "occlusion": {"window": 32, "stride": 16},
    }.get(method, {})
    if method == "occlusion" and ours:
        own = {"window": 4, "stride": 2}
    if method == "occlusion" and layer != "input":
        own = {"window": 3, "stride": 1} if ours else {"window": 5, "stride": 2}
    return partial(METHODS[method], **own)


@lru_cache(maxsize=1)
def pool(name: str, threshold: float):
    """Return a network's inputs that it is sure about, and their classes."""
    net = load_model(name)
    if name in NETS:
        found = load_images("cifar10", 4000)
        x, y = net.transform(found.x), found.y
    else:
        sets = [load_images("photos"), load_images("imagenet_samples")]
        x = torch.cat([net.transform(one.x) for one in sets])
        y = torch.cat([one.y for one in sets])
    kept = confident(net.model, x, y, threshold)
    return x[kept], y[kept]


def drawn(name: str, setting: str, n: int, grids: int) -> tuple[Tensor, Tensor]:
    """Return the cells (B, n*n, C, H, W) of grids and their classes (B, n*n)."""
    whole = setting == "grid_pg"
    threshold = 0.99 if name in NETS else (0.9 if whole else 0.5)
    x, y = pool(name, threshold)
    members = sample_grids(y, n, grids, setting, SEED)
    return x[members], y[members]


def grids_of(name: str, method: str, layer: str, n: int) -> int:
    """Return how many DiFull grids a part of a job gets; GridPG gets half of them."""
    slow = FAMILIES.get(method) == "prediction"
    if name in NETS:
        return 50 if slow else (200 if n == 2 else 90)
    per_channel = method in ("ablation_cam", "score_cam")
    if layer == "final":
        return 26 if slow or per_channel else 100
    if slow and name == "resnet50_caffe":  # some minutes a map
        return 2
    return 4 if slow or (per_channel and layer == "middle") else 12


def measure(
    name: str, setting: str, n: int, layer: str, method: str, part: int
) -> dict:
    """Return the positive masses of all cells, (grids, heads, n*n), by method."""
    net, ours = load_model(name), name in NETS
    count = grids_of(name, method, layer, n)
    count = (count + 1) // 2 if setting == "grid_pg" else count
    start = part * count
    heads = heads_of(setting, n)
    cells, classes = (own[start:] for own in drawn(name, setting, n, start + count))
    size = tuple(n * k for k in cells.shape[3:])
    function = explained(method, ours, layer)
    wired = GridNet(net.model, cells.shape[2:], n, setting, net.layers[layer])
    wired.heads, found = heads, {}
    torch.manual_seed(SEED)  # of the random maps
    for rows in torch.arange(count).split(40 if ours else 4):
        key = (name, setting, n, layer, start + int(rows[0]), len(rows))
        h = before(wired, cells[rows], key)
        for head in heads:
            wired.head = head
            maps = function(wired, h, classes[rows, head], layer="input")
            maps = maps if isinstance(maps, dict) else {method: maps}
            for one, signed in maps.items():
                grown = as_scored(signed, one, size)[:, 0]  # (B, n*H, n*W)
                entry = found.setdefault(one, {"masses": [], "strips": []})
                entry["masses"].append(cell_masses(grown, n))
                entry["strips"].append(strips(grown, n, head))
        gc.collect()
    result = {"grids": count, "classes": classes[:, 0].numpy()}
    for one, parts in found.items():
        for key, values in parts.items():
            parted = torch.cat(values)  # heads inside each part of the grids
            result[f"{one}|{key}"] = by_grid(parted, count, len(heads), ours)
    return result


def before(wired: GridNet, cells: Tensor, key: tuple) -> Tensor:
    """Return the layer's output; kept for the next methods at the same layer."""
    if wired.layer is None:
        return wired.before(stitch(cells))
    for old in [k for k in KEPT if k[:4] != key[:4]]:
        del KEPT[old]
    if key not in KEPT:
        KEPT[key] = wired.before(stitch(cells))
    wired.known.clear()
    return KEPT[key]


def by_grid(values: Tensor, grids: int, heads: int, ours: bool) -> np.ndarray:
    """Bring values from part, head, grid to (grids, heads, ...)."""
    sizes = [len(part) for part in torch.arange(grids).split(40 if ours else 4)]
    parts = values.split([size * heads for size in sizes])
    whole = [part.unflatten(0, (heads, -1)).transpose(0, 1) for part in parts]
    return torch.cat(whole).numpy()


def strips(maps: Tensor, n: int, head: int) -> Tensor:
    """Return the positive mass outside the cell, near it and in all, (B, 3)."""
    H, W = (k // n for k in maps.shape[1:])
    rows = torch.arange(n * H)[:, None] - head // n * H
    columns = torch.arange(n * W)[None] - head % n * W
    off = [(-rows).clamp(min=0), (rows - H + 1).clamp(min=0)]
    off += [(-columns).clamp(min=0), (columns - W + 1).clamp(min=0)]
    away = off[0] + off[1]
    across = off[2] + off[3]
    far = torch.maximum(away.expand(n * H, n * W), across.expand(n * H, n * W))
    mass = maps.clamp(min=0)
    near = [(mass * ((far > 0) & (far <= w * H))).sum((1, 2)) for w in STRIPS]
    return torch.stack([*near, (mass * (far > 0)).sum((1, 2))], 1)


def jobs(chosen):
    """Yield (network, setting, n, layer, method, part) for all that can be run."""
    methods = ["noisy" if m == "smoothgrad" else m for m in METHODS]
    methods = [m for m in [*methods, "random"] if m not in [*NOISY, *chosen.without]]
    methods = [m for m in methods if not chosen.methods or m in chosen.methods]
    groups = {
        "slow": [m for m in methods if FAMILIES.get(m) == "prediction"],
        "quick": [m for m in methods if FAMILIES.get(m) != "prediction"],
    }
    wanted = (chosen.cells, range(chosen.parts), chosen.models, chosen.layers)
    for n, part, name, layer in product(*wanted):
        once = name in NETS or layer == "final"
        if once and part:
            continue
        for group, setting in product(chosen.groups, chosen.settings):
            yield from ((name, setting, n, layer, m, part) for m in groups[group])


def shard_of(name: str, setting: str, n: int, layer: str, method: str, part: int):
    """Return where a job's result lies."""
    suffix = f"~{part}" if part else ""
    return SHARDS / name / f"{setting}~{n}~{layer}~{method}{suffix}.npz"


def run(chosen) -> None:
    """Write a shard for every job that has none."""
    commit, there = current_commit(), in_table()
    for job in jobs(chosen):
        shard = shard_of(*job)
        published = job[:-1] in there and not job[-1] and not chosen.again
        if shard.exists() or published:
            continue
        start = time.process_time()
        try:
            result = measure(*job)
        except ValueError as error:  # the method refuses this network or layer
            result = {"refused": str(error)}
        seconds = time.process_time() - start
        save(shard, result | {"seconds": seconds, "commit": commit})
        told = result.get("refused", f"{result.get('grids')} grids")
        print(*job, f"{seconds:.0f} s", told[:90], flush=True)


def in_table() -> set[tuple]:
    """Return the jobs of the published table, whose shards may be gone."""
    path = HERE / "localisation.csv"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {
        (
            *(row["model"], row["setting"], round(int(row["cells"]) ** 0.5), row["at"]),
            "noisy" if row["method"] in NOISY else row["method"],
        )
        for row in rows
    }


def joined(paths: list[Path]) -> dict[str, np.ndarray]:
    """Return the parts of one job, one behind the other."""
    parts = [np.load(path) for path in paths]
    if "refused" in parts[0]:
        return {"refused": str(parts[0]["refused"])}
    whole = [k for k in parts[0] if "|" in k or k == "classes"]
    return {k: np.concatenate([part[k] for part in parts]) for k in whole}


def rows_of(key: tuple, paths: list[Path]):
    """Return a job's rows: scores, and bins of AggAtt."""
    name, setting, n, layer, method = key
    held, n = joined(paths), int(n)
    key = (name, setting, layer, n * n)
    if "refused" in held:
        named = NOISY if method == "noisy" else [method]
        return [(*key, one, 0, *[""] * 9, held["refused"]) for one in named], []
    scores, bins = [], []
    heads = heads_of(setting, n)
    pairs = name not in NETS and setting != "grid_pg"
    groups = " ".join(map(str, held["classes"])) if pairs else ""
    for one in (k.split("|")[0] for k in held if k.endswith("|masses")):
        masses = held[f"{one}|masses"]  # (grids, heads, n*n)
        part = shares_of(torch.tensor(masses)).numpy()
        own = np.stack([part[:, i, head] for i, head in enumerate(heads)], 1)
        other, repeated = "", ""
        if setting != "grid_pg":
            other = np.stack([part[:, 0, -1], part[:, 1, 0]], 1)
            keep = layer == "final" and one in CAMS
            repeated = listed(other) if keep else ""
            other = f"{np.median(other):.4f}"
        leak = leaks(held[f"{one}|strips"]) if setting == "di_part" else ("", "")
        quartiles = (f"{v:.4f}" for v in np.percentile(own, [50, 25, 75]))
        row = (*key, one, own.size, *quartiles, other, *leak)
        scores.append((*row, groups, listed(own), repeated, ""))
        if (setting, layer) in (("grid_pg", "input"), ("di_full", "final")):
            bins += [(*key, one, *row) for row in bins_of(masses, heads)]
    return scores, bins


def leaks(near: np.ndarray) -> list[str]:
    """Return the median shares of the leak within the two strips."""
    leaked = near[near[..., 2] > NOTHING]
    if not len(leaked):
        return ["", ""]
    return [f"{np.median(leaked[:, k] / leaked[:, 2]):.4f}" for k in (0, 1)]


def listed(values: np.ndarray) -> str:
    """Return numbers as thousandths; "1000*80" where all are the same."""
    whole = np.round(values.ravel() * 1000).astype(int)
    if (whole == whole[0]).all():
        return f"{whole[0]}*{len(whole)}"
    return " ".join(map(str, whole))


def bins_of(masses: np.ndarray, heads: list[int]):
    """Yield (order, bin, maps, own, low, high, repeated, low, high) of the bins' means.

    Maps of all heads count, each seen from its own cell. The bin "decline" holds the
    smallest drop of the own share from one bin to the next. Intervals: 95%, grids
    drawn anew.
    """
    own = np.stack([masses[:, i, head] for i, head in enumerate(heads)], 1)
    other = np.stack([masses[:, i, -1 - head] for i, head in enumerate(heads)], 1)
    values = np.stack([own, other, masses.sum(-1)], -1)  # (grids, heads, 3)
    if len(own) * len(heads) < LEAST:
        return
    g = np.random.default_rng(SEED)
    for order in ("score", "random"):
        found = bin_shares(values, order, g)
        again = [
            bin_shares(values[g.integers(len(values), size=len(values))], order, g)
            for _ in range(300)
        ]
        low, high = np.percentile(again, [2.5, 97.5], axis=0)
        names = [f"{a:g}-{b:g}" for a, b in BINS] + ["decline"]
        parts = np.stack([found, np.minimum(low, found), np.maximum(high, found)], -1)
        for name, pair in zip(names, parts, strict=True):
            yield order, name, own.size, *(f"{v:.4f}" for v in pair.ravel())


def bin_shares(values: np.ndarray, order: str, g: np.random.Generator) -> np.ndarray:
    """Return the own and the repeated share of each bin's mean map, and the decline."""
    values = torch.tensor(values).reshape(-1, 3)
    own, whole = values[:, 0], values[:, 2]
    if order == "score":
        members = bin_members(shares_of(torch.stack([own, whole - own], 1))[:, 0], own)
    else:
        members = in_bins(torch.tensor(g.permutation(len(own))))
    sums = torch.stack([values[part].sum(0) for part in members]).numpy()
    found = sums[:, :2] / np.maximum(sums[:, 2:], NOTHING)  # (bins, 2)
    return np.vstack([found, -np.diff(found, axis=0).max(0)])


def write_tables() -> None:
    """Join all shards."""
    scores, bins, commits, seconds, found = [], [], set(), 0.0, {}
    for path in sorted(SHARDS.glob("*/*.npz")):
        held = np.load(path)
        commits.add(str(held["commit"]))
        seconds += float(held["seconds"])
        setting, n, layer, method = path.stem.split("~")[:4]
        found.setdefault((path.parent.name, setting, n, layer, method), []).append(path)
    for key, paths in found.items():
        if len(paths[0].stem.split("~")) > 4:
            print(f"{key}: its first part is gone, the table's row stays")
            continue
        of_scores, of_bins = rows_of(key, paths)
        scores += of_scores
        bins += of_bins
    head = head_of("localisation.py", commits, seconds, NOTES)
    columns = "model,setting,at,cells,method,n,median,q1,q3,repeated,leak_1_7,leak_2_7"
    columns += ",groups,scores,repeated_scores,refused"
    write_table("localisation.csv", head, columns, scores)
    columns = "model,setting,at,cells,method,order,bin,maps,own,own_low,own_high"
    columns += ",repeated,repeated_low,repeated_high"
    write_table("localisation_bins.csv", head, columns, bins)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "tables"])
    parser.add_argument("--models", nargs="+", default=[*CIFAR, *PHOTO])
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    parser.add_argument("--settings", nargs="+", default=SETTINGS)
    parser.add_argument("--cells", nargs="+", type=int, default=[2])
    parser.add_argument("--groups", nargs="+", default=["quick", "slow"])
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=[], help="these alone")
    parser.add_argument("--without", nargs="+", default=[], help="methods left out")
    again = "run also what stands in the published table"
    parser.add_argument("--again", action="store_true", help=again)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.what == "run":
        with torch.no_grad():
            run(chosen)
    else:
        write_tables()
