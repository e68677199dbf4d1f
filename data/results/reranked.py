"""The recorded tables of chapter 08: every method under every metric (P4-5, P4-6).

    XAI_LIB_MIRROR=../shared/mirror python data/results/reranked.py run \
        --models cifar_vgg11 --parts quick slow --n 100
    python data/results/reranked.py tables
    XAI_LIB_MIRROR=../shared/mirror python data/results/reranked.py restore

``run`` lets `xai_lib.study.run` compute a grid for each network and part, below
``_build/results/reranked``; it may be stopped and started at will. ``--n`` raises the
number of images later, a run without ``--methods`` adds the others. ``tables`` joins
the grids into ``reranked.csv``. ``restore`` is for a machine where ``_build`` is gone:
it writes the grids' finished units from ``reranked.csv``, and ``run`` goes on from
there. Images at even places of a row are there to choose a cutoff on, those at odd
places to judge on.
"""

import argparse
import math
from pathlib import Path

import pandas
from localisation import CIFAR, PHOTO
from tables import current_commit, head_of, write_table
from tables import read_table as raw_table

from xai_lib.assets.cifar_zoo import NETS
from xai_lib.attribute import METHODS
from xai_lib.study import METRICS, Grid, read_table, run
from xai_lib.study.grid import FAILED
from xai_lib.study.parts import part_of, save
from xai_lib.study.plan import plan
from xai_lib.study.provenance import versions
from xai_lib.study.units import Unit
from xai_lib.study.units import rows_of as rows_of_unit

HERE = Path(__file__).resolve().parent
GRIDS = HERE.parents[1] / "_build" / "results" / "reranked"
CUTOFFS = {True: [1, 4, 11, math.inf], False: [2, 15, math.inf]}
PREDICTION = [m for m in METHODS if METHODS[m].family == "prediction"]
CHANNELS = ["ablation_cam", "score_cam"]  # a pass for each of up to 2048 channels
OTHERS = [m for m in METHODS if m not in [*PREDICTION, *CHANNELS]]
FEW = ["stability", "random_logit"]  # they ask for the map of another input or class
MANY = ["faithfulness", "mu_fidelity", "sensitivity_n", "high_frequency_ratio"]
CONTROLS = ["random", "edges"]
PARTS = {
    "quick": ([*OTHERS, *CONTROLS], MANY, 200),
    "channels": (CHANNELS, MANY, 200),
    "slow": (PREDICTION, MANY, 50),
    "quick_few": ([*OTHERS, *CONTROLS], FEW, 50),
    "channels_few": (CHANNELS, FEW, 50),
    "slow_few": (PREDICTION, FEW, 10),
}
"""Methods, metrics and the number of images of each part of a network's grid."""
FINAL = {m: {"layer": "final"} for m in METHODS if METHODS[m].family == "cam"}
NOISE = {"n_samples": 15}
SETTINGS = {
    "integrated_gradients": {"steps": 20},
    "smoothgrad": NOISE,
    "squaregrad": NOISE,
    "vargrad": NOISE,
    "deletion": {"steps": 10},
    "insertion": {"steps": 10},
    "stability": {"n_neighbours": 5},
    **FINAL,
}
OWN = {
    True: {"rise": {"n_masks": 500, "grid": 4}},
    False: {"rise": {"n_masks": 500}, "occlusion": {"window": 32, "stride": 16}},
}
NOTES = {
    "images": "CIFAR-10 test images, photographs of imagenet_samples: the first ones "
    "that the network classifies correctly; the class explained is that one",
    "parts": "prediction-based methods: 50 images, 10 for stability and random_logit; "
    "all others 200, and 50; or fewer, as n says",
    "maps": "METHODS' settings but for: integrated gradients 20 steps; noise methods "
    "15 samples; CAMs at the final layer; RISE 500 masks (grid 4 on CIFAR-10); "
    "occlusion 4 / 2 on CIFAR-10, 32 / 16 on photographs",
    "controls": "'random': N(0, 1) per pixel and channel; 'edges': gradient magnitude",
    "readings": "rectified: |low-pass of |mean over channels||; signed: low-pass of "
    "the sum over channels, for sensitivity_n and high_frequency_ratio",
    "cutoff": "cycles per image, disc; inf: no filter",
    "metrics": "faithfulness is insertion (blur) minus deletion (zero), 10 steps; "
    "mu_fidelity 200 subsets of a 9 x 9 grid; sensitivity_n a tenth of the pixels, 100 "
    "subsets; stability 5 neighbours, maps of length 1; random_logit SSIM with the map "
    "of another class",
    "scores": "image by image, in 1/10000; nan where undefined",
    "time": "seconds of the processor for one map, median over images; Ablation-CAM on "
    "efficientnet_lite0 and resnet18 and occlusion on resnet50_caffe: on a processor "
    "that takes 2.5 times as long (median over methods); Score-CAM on resnet18, and "
    "Ablation-CAM and the other prediction-based methods on resnet50_caffe: 1.3 times",
}
KEPT = ["insertion", "deletion", *MANY[1:], *FEW]


def grid_of(model: str, part: str, n: int | None, only: list[str] | None) -> Grid:
    """Return the grid of one part of a network, or of some of its methods."""
    ours = model in NETS
    methods, metrics, most = PARTS[part]
    methods = [m for m in methods if only is None or m in only]
    known = {*methods, *metrics, *(p for m in metrics for p in METRICS[m].parts)}
    settings = SETTINGS | OWN[ours]
    settings = {name: own for name, own in settings.items() if name in known}
    return Grid(
        models=[model],
        methods=methods,
        cutoffs=CUTOFFS[ours],
        metrics=metrics,
        images="cifar10" if ours else "imagenet_samples",
        n=min(n or most, most),
        only_correct=True,
        settings=settings,
        block=10,
    )


def run_all(chosen) -> None:
    """Compute every grid that was asked for."""
    failed = 0
    for model in chosen.models:
        for part in chosen.parts:
            table = GRIDS / f"{model}~{part}.csv"
            table.parent.mkdir(parents=True, exist_ok=True)
            grid = grid_of(model, part, chosen.n, chosen.methods)
            failed += failures(run(grid, table))
    if failed:
        raise SystemExit(f"{failed} rows failed; the same command tries them again")


def failures(held: pandas.DataFrame) -> int:
    """Return how many rows of a grid are of units that failed."""
    return int(held["note"].astype(str).str.startswith(FAILED).sum())


def restore(models: list[str], chosen: list[str]) -> None:
    """Write the grids' finished units from the table, on a machine without them."""
    table = read_table(HERE / "reranked.csv")
    if versions().split(", Python")[0] not in table.attrs["versions"]:
        held = table.attrs["versions"]
        raise SystemExit(f"versions must be the table's, {held}, got {versions()}")
    for name in ("images", "maps", "readings", "cutoff", "metrics"):
        if (held := table.attrs.get(name)) != NOTES[name]:
            wanted = f"the table was made with other {name}: {held}"
            raise SystemExit(f"{wanted}; here {NOTES[name]}")
    for model in models:
        for part in chosen:
            methods, metrics, _ = PARTS[part]
            names = [*METRICS[metrics[0]].parts, *metrics, "all"]
            mine = table[table.method.isin(methods) & table.quantity.isin(names)]
            mine = mine[mine.model == model]
            if len(mine):
                whole, units = restore_part(model, part, mine)
                print(f"{model} {part}: {whole} of {units} units", flush=True)


def restore_part(model: str, part: str, rows: pandas.DataFrame) -> tuple[int, int]:
    """Write the units that rows hold whole; return how many, and of how many."""
    n = max(len(text.split()) for text in rows.scores.fillna(""))
    grid = grid_of(model, part, max(n, 1), [*rows.method.unique()])
    known = {name: rows.attrs[name] for name in ("commit", "device", "date")}
    units, places, whole = plan(grid), dict.fromkeys(grid.methods, 0), 0
    for unit in units:
        path = part_of(GRIDS / f"{model}~{part}.csv", unit.key)
        first = places[unit.method]
        places[unit.method] += len(unit.places)
        mine = rows[rows.method == unit.method]
        found = restored(unit, mine[mine.quantity != "all"], first)
        if not path.is_file() and (found or (mine.quantity == "all").all()):
            why = mine.refused.fillna("").iloc[0]
            made = rows_of_unit(unit, found, mine.seconds.iloc[0], why)
            save(path, [row | known for row in made])
        whole += path.is_file()
    return whole, len(units)


def restored(unit: Unit, rows: pandas.DataFrame, first: int) -> list:
    """Return what `judge` would for each image; nothing if some scores are missing."""
    held = {}
    for cutoff, name, text in zip(rows.cutoff, rows.quantity, rows.scores, strict=True):
        scores = [float(one) / 1e4 for one in text.split()]
        held[name, cutoff] = scores[first : first + len(unit.places)]
    parts = [p for m in unit.metrics for p in METRICS[m].parts or (m,)]
    wanted = {(m, cutoff) for m in parts for cutoff in unit.cutoffs}
    if not wanted <= {*held} or any(len(s) < len(unit.places) for s in held.values()):
        return []

    def value(name: str, cutoff: float, i: int) -> float:
        if parts := METRICS[name].parts:
            return value(parts[0], cutoff, i) - value(parts[1], cutoff, i)
        return held[name, cutoff][i]

    notes = [""] * len(unit.cutoffs)
    return [
        ({m: [value(m, k, i) for k in unit.cutoffs] for m in unit.metrics}, notes)
        for i in range(len(unit.places))
    ]


def tables() -> None:
    """Join all grids: one row per network, method, cutoff and metric."""
    rows, seconds = [], 0.0
    about = {name: set() for name in ("commit", "date", "versions", "device")}
    for path in sorted(GRIDS.glob("*.csv")):
        held = read_table(path)
        if bad := failures(held):
            raise SystemExit(f"{path.name}: {bad} rows failed; run it again")
        for name, of in about.items():
            of |= {c for text in held[name].dropna() for c in text.split(" and ")}
        once = held.drop_duplicates(["method", "image"])
        seconds += once["seconds"].sum()
        there = [name for name in KEPT if name in held]
        for key, part in held.groupby(["model", "method", "cutoff"], sort=False):
            rows += rows_of(key, part, there)
    columns = "model,method,cutoff,quantity,n,mean,seconds,scores,refused"
    refuse_fewer(rows, columns.split(","))
    found = {name: " and ".join(sorted(about[name])) for name in ("date", "device")}
    found["versions"] = "; ".join(sorted(about["versions"]))
    notes = NOTES | {"seconds": f"{seconds:.0f} of processor time, for the maps alone"}
    commits = about["commit"] or {current_commit()}
    head = head_of("reranked.py", commits, seconds, notes, **found)
    once = dict.fromkeys(rows)  # a refusal stands in two parts of a network
    write_table("reranked.csv", head, columns, once)


def refuse_fewer(rows: list[tuple], columns: list[str]) -> None:
    """Refuse rows of fewer images than the published table's."""
    _, before = raw_table(HERE / "reranked.csv", columns)
    old = {tuple(row[:4]): len(row[7].split()) for row in before}
    for *key, _, _, _, scores, _ in rows:
        if len(scores.split()) < (there := old.get(tuple(key), 0)):
            wanted = f"{', '.join(key)} must keep its {there} images"
            got = len(scores.split())
            raise SystemExit(f"{wanted}, got {got}: restore, then run with more")


def rows_of(key: tuple, part: pandas.DataFrame, metrics: list[str]):
    """Yield the rows of one map's version; one row if the method refuses."""
    model, method, cutoff = key
    nothing = bool(part[metrics].isna().to_numpy().all())
    if refused := str(part["note"].iloc[0]) if nothing else "":
        yield model, method, f"{cutoff:g}", "all", 0, "", "", "", refused
        return
    for name in metrics:
        values = part[name].to_numpy()
        listed = " ".join("nan" if v != v else f"{v * 1e4:.0f}" for v in values)
        mean, took = part[name].mean(), part["seconds"].median()
        yield (
            *(model, method, f"{cutoff:g}", name, int(part[name].notna().sum())),
            *(f"{mean:.4f}", f"{took:.3f}", listed, ""),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "tables", "restore"])
    parser.add_argument("--models", nargs="+", default=[*CIFAR, *PHOTO])
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=[*PARTS])
    parser.add_argument("--n", type=int, help="images at most; all by default")
    parser.add_argument("--methods", nargs="+", help="of each part; all by default")
    chosen = parser.parse_args()
    if chosen.what == "run":
        run_all(chosen)
    elif chosen.what == "restore":
        restore(chosen.models, chosen.parts)
    else:
        tables()
