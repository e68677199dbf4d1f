"""Join the shards of ``alignment.py`` into the CSV files beside this script.

    python data/results/alignment.py run
    python data/results/alignment_tables.py

Rank correlations and their intervals over images are computed here, from the shards;
the other tables hold one row per image or per draw.
"""

import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from alignment import SETTINGS, SHARDS
from tables import write_table

import xai_lib
from xai_lib.analyse import alignment_law
from xai_lib.study import bootstrap

Shards = dict[tuple[str, ...], dict]
PAIRED = {"multiplier": "multiplier_chance", "product": "product_chance"}


def shards_of(stage: str) -> Shards:
    """Return a stage's arrays by (network, weights, method)."""
    found = {}
    for path in sorted((SHARDS / stage).glob("*.npz")):
        with np.load(path) as arrays:
            found[tuple(path.stem.split("~"))] = dict(arrays)
    return found


def image_rows(shards: Shards) -> Iterator[tuple]:
    """Yield each image's alignment: medians over the layers, and the input."""
    for key, a in shards.items():
        at = list(a["layers"]).index("input")
        columns = {"signal": a["signal"], "chance": a["chance"]}
        columns["excess"] = a["signal"] - a["chance"]
        for name, chance in PAIRED.items():
            columns[name] = a[name]
            columns[f"{name}_excess"] = a[name] - a[chance]
        columns["position"] = a["position"]
        values = [np.median(v, 1) for v in columns.values()]
        inputs = (a["signal"], a["position"], a["multiplier"], a["chance"])
        values += [v[:, at] for v in inputs]
        values += [a["input_centred"], a["input_magnitude"]]
        for image, row in zip(a["images"], np.stack(values, 1), strict=True):
            yield (*key, image, *(f"{v:.4f}" for v in row))


IMAGE = "model,weights,method,image,signal,chance,excess,multiplier,multiplier_excess,"
IMAGE += "product,product_excess,position,input,input_position,input_multiplier,"
IMAGE += "input_chance,input_centred,input_magnitude"
READINGS = ["signal", "chance", "multiplier", "multiplier_chance", "product"]
READINGS += ["product_chance", "position", "edge", "other_edge"]


def layer_rows(shards: Shards, most: int = 12) -> Iterator[tuple]:
    """Yield each layer's medians over images; of many layers evenly spaced ones."""
    for key, a in shards.items():
        count = len(a["layers"])
        places = np.unique(np.linspace(0, count - 1, min(most, count)).round())
        for i in places.astype(int):
            low, high = np.quantile(a["signal"][:, i], [0.25, 0.75])
            middle = [np.median(a[name][:, i]) for name in READINGS]
            numbers = (f"{v:.4f}" for v in (low, high, *middle))
            yield (*key, i, a["layers"][i], *numbers)


def law_rows(shards: Shards) -> Iterator[tuple]:
    """Yield measured and predicted cosine of each cell, the interval over its draws."""
    for a in shards.values():
        for key in (k for k in a if "|" in k):
            kind, law, d, n = key.split("|")
            wanted = alignment_law(law, int(d), int(n))
            numbers = (wanted, a[key].mean(), *bootstrap(a[key]))
            yield (kind, law, d, n, *(f"{v:.5f}" for v in numbers), len(a[key]))


def deep_rows(shards: Shards) -> Iterator[tuple]:
    """Yield every draw of the random dense nets."""
    for (width, law, method), a in shards.items():
        for key in (k for k in a if "|" in k):
            kind, depth = key.split("|")
            for draw, values in enumerate(a[key]):
                numbers = (f"{v:.6g}" for v in values)
                yield width, law, kind, method, depth, draw, *numbers


def per_image(shards: Shards, names: list[str], digits: int = 4) -> Iterator[tuple]:
    """Yield one row per image with the named arrays."""
    for key, a in shards.items():
        for i, image in enumerate(a["images"]):
            yield (*key, image, *(f"{a[name][i]:.{digits}f}" for name in names))


def ranks(values: torch.Tensor) -> torch.Tensor:
    """Return ranks along the first dimension, the mean of them for ties."""
    less = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return less + (equal - 1) / 2


def spearman(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the rank correlation over the first dimension."""
    a, b = (ranks(v).double() for v in (x, y))
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / ((a**2).sum(0) * (b**2).sum(0)).sqrt()


def with_interval(statistic, images: int) -> tuple[float, float, float]:
    """Return a statistic of image indices and its interval over the images."""
    value = float(statistic(torch.arange(images)[None])[0])
    low, high = bootstrap(torch.arange(images), statistic, n_resamples=1000)
    return value, min(low, value), max(high, value)


def medians(points: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return (P, R) medians of (P, N) points over each row of image indices."""
    return points[:, rows.long()].quantile(0.5, dim=-1)


def edge_rows(shards: Shards) -> Iterator[tuple]:
    """Yield P5-2's rank correlation per network, over methods and layers."""
    for model, weights in sorted({k[:2] for k in shards if k[1] == "trained"}):
        parts = {k[2]: a for k, a in shards.items() if k[:2] == (model, weights)}
        layers = list(next(iter(parts.values()))["layers"])
        all_points = {
            name: torch.tensor(np.stack([a[name] for a in parts.values()]))
            for name in ("signal", "edge", "other_edge")
        }  # (M, N, L) each
        kept = ~all_points["edge"].isnan().any(0).any(0)
        sets = {"all": kept, "input": torch.tensor([k == "input" for k in layers])}
        for what in ("edge", "other_edge"):
            for name, chosen in sets.items():
                x, y = (
                    all_points[k][..., chosen].permute(0, 2, 1).flatten(0, 1)
                    for k in ("signal", what)
                )

                def statistic(rows, x=x, y=y):
                    return spearman(medians(x, rows), medians(y, rows))

                value = with_interval(statistic, x.shape[1])
                numbers = (f"{v:.4f}" for v in value)
                yield what, model, weights, name, *numbers, x.shape[1], len(x)


def joined(layers: Shards, shards: Shards, model: str, how: str):
    """Return methods, modules, and (M, D, N) alignment and similarity."""
    parts = {k[2]: a for k, a in shards.items() if k[:2] == (model, how)}
    x, y = [], []
    for method, a in parts.items():
        at = layers[model, "trained", method]
        places = [list(at["layers"]).index(layer) for layer in a["layers"]]
        x.append(at["signal"][: len(a["images"]), places].T)
        y.append(a["similarity"].T)
    first = next(iter(parts.values()))
    return list(parts), first, torch.tensor(np.stack(x)), torch.tensor(np.stack(y))


def off_the_line(x: torch.Tensor, y: torch.Tensor, odd: int) -> torch.Tensor:
    """Return how far method odd lies from the others' line, in residual deviations.

    x, y : (M, D, R) medians; the distance is the mean over the D depths.
    """
    other = [m for m in range(len(x)) if m != odd]
    a, b = (v[other].flatten(0, 1).double() for v in (x, y))
    slope = ((a - a.mean(0)) * (b - b.mean(0))).sum(0) / ((a - a.mean(0)) ** 2).sum(0)
    start = b.mean(0) - slope * a.mean(0)
    spread = (((b - start - slope * a) ** 2).sum(0) / (len(a) - 2)).sqrt()
    return (y[odd] - start - slope * x[odd]).mean(0).abs() / spread


def randomised_rows(layers: Shards, shards: Shards) -> Iterator[tuple]:
    """Yield P5-3's rank correlation and Deconvnet's distance, per network and kind."""
    for model, how in sorted({key[:2] for key in shards}):
        methods, _, x, y = joined(layers, shards, model, how)
        shape, odd = x.shape[:2], methods.index("deconvnet")
        a, b = x.flatten(0, 1), y.flatten(0, 1)

        def correlation(rows, a=a, b=b):
            return spearman(medians(a, rows), medians(b, rows))

        def distance(rows, a=a, b=b, shape=shape, odd=odd):
            pair = (medians(v, rows).unflatten(0, shape) for v in (a, b))
            return off_the_line(*pair, odd)

        for name, one in (("similarity", correlation), ("deconvnet", distance)):
            numbers = (f"{v:.4f}" for v in with_interval(one, a.shape[1]))
            yield name, model, how, "all", *numbers, a.shape[1], len(a)


def point_rows(layers: Shards, shards: Shards) -> Iterator[tuple]:
    """Yield each method and depth of P5-3."""
    for model, how in sorted({key[:2] for key in shards}):
        methods, first, x, y = joined(layers, shards, model, how)
        for m, method in enumerate(methods):
            for d, module in enumerate(first["modules"]):
                pair = (x[m, d].quantile(0.5), y[m, d].quantile(0.5))
                numbers = (f"{v:.4f}" for v in pair)
                yield model, how, method, d, module, first["layers"][d], *numbers


def provenance(stages: list[Shards], files: list[Path]) -> str:
    """Return the lines that stand above every table."""
    arrays = [a for shards in stages for a in shards.values()]
    commits = sorted({str(a["commit"])[:12] for a in arrays})
    seconds = sum(float(a["seconds"]) for a in arrays)
    last = max(file.stat().st_mtime for file in files)
    lines = {
        "script": "data/results/alignment.py and alignment_tables.py",
        "commit": " and ".join(commits),
        "date": time.strftime("%Y-%m-%d", time.gmtime(last)),
        "versions": f"xai_lib {xai_lib.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "device": f"CPU ({platform.machine()}), 1 thread",
        "seconds": f"{seconds:.0f} of processor time, all tables together",
        **SETTINGS,
    }
    return "".join(f"# {key}: {value}\n" for key, value in lines.items())


CHANGES = "random_top adversarial noise fooled lower_random lower_random_input".split()
KEPT = ["right", "probability", "nothing", "area 0.1", "kept 0.1", "moved 0.1"]
KEPT += ["area 0.5", "kept 0.5", "moved 0.5", "kept 0.9", "moved 0.9"]
KEPT += ["transplanted", "transplanted, moved"]
BACK = ["trigger", "elsewhere", "area", "fooled", "kept by the trigger"]
BACK += ["kept elsewhere", "kept by the key"]


def named(columns: list[str]) -> str:
    return ",".join(c.replace(", ", "_").replace(" ", "_") for c in columns)


def main() -> None:
    """Write every table."""
    files = sorted(SHARDS.glob("*/*.npz"))
    if not files:
        sys.exit(f"no shards below {SHARDS}: run alignment.py first")
    names = "layers csc randomised predictions sufficiency backdoor law deep".split()
    found = {name: shards_of(name) for name in names}
    head, layers = provenance(list(found.values()), files), found["layers"]
    key, moved = "model,weights,method,image,", found["randomised"]
    write_table("alignment.csv", head, IMAGE, image_rows(layers))
    columns = "model,weights,method,place,layer,quartile_1,quartile_3,"
    columns += ",".join(READINGS)
    write_table("alignment_layers.csv", head, columns, layer_rows(layers))
    columns = "kind,weighting,d,n,predicted,measured,low,high,draws"
    write_table("alignment_law.csv", head, columns, law_rows(found["law"]))
    columns = "width,law,input,method,depth,draw,cosine,absolute,magnitude,csc"
    write_table("alignment_deep.csv", head, columns, deep_rows(found["deep"]))
    rows = [*edge_rows(layers), *randomised_rows(layers, moved)]
    columns = "quantity,model,weights,points,value,low,high,images,count"
    write_table("alignment_ranks.csv", head, columns, rows)
    columns = "model,how,method,depth,module,layer,alignment,similarity"
    write_table("alignment_depths.csv", head, columns, point_rows(layers, moved))
    for name, stage, columns in (
        ("csc", "csc", ["position", "map"]),
        ("changes", "predictions", CHANGES),
        ("sufficiency", "sufficiency", KEPT),
        ("backdoor", "backdoor", BACK),
    ):
        rows = per_image(found[stage], columns, 6 if name == "csc" else 4)
        write_table(f"alignment_{name}.csv", head, key + named(columns), rows)


if __name__ == "__main__":
    main()
