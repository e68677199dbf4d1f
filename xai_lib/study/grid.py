"""The grid: models x methods x cutoffs x metrics x images, as one table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xai_lib._check import check_choice
from xai_lib.analyse.filters import KINDS
from xai_lib.assets import load_model
from xai_lib.assets.progress import Progress
from xai_lib.attribute import METHODS
from xai_lib.study import _grid_checks, parts
from xai_lib.study.cluster import find_dask, on_cluster
from xai_lib.study.metrics import METRICS, READINGS
from xai_lib.study.plan import plan
from xai_lib.study.recorded import read_table
from xai_lib.study.scores import reason
from xai_lib.study.units import CONTROLS, Load, Unit, measure, rows_of

if TYPE_CHECKING:
    from pandas import DataFrame

FAILED = "failed: "
"""How the note of a unit begins that will be tried again by the next start."""


@dataclass(frozen=True)
class Grid:
    """What is to be computed, as plain data.

    Parameters
    ----------
    models : names, as of `load_model`
    methods : names in METHODS, or of a control: "random" maps, "edges" of the image
    cutoffs : cycles per image, ``math.inf`` for no filter
    metrics : names in METRICS; faithfulness brings insertion and deletion along
    images : an image set's name or a folder, as for `load_images`
    n : how many images, the first ones; None for all
    only_correct : take the first n images that the model classifies as labelled, so
        models may meet different ones
    kind : of the filter, as `low_pass`
    reading : "rectified" or "signed" maps for all metrics; None for what each one wants
    settings : what differs from the defaults, by method or metric:
        ``{"rise": {"n_masks": 500}, "grad_cam": {"layer": "middle"}}``; a layer may be
        called "middle" or "final", as in a classifier's ``.layers``
    seed : of everything random
    block : images per unit of work
    threads : of the processor, for each unit
    device : "cpu", "cuda" or "cuda:1"

    Raises
    ------
    ValueError
        For what is not known, with a list of what is.

    Notes
    -----
    The class that is explained is the one the model predicts. On images of up to 64
    pixels occlusion has a window of 4 and a stride of 2, and RISE a grid of 4, if
    `settings` does not say otherwise. The number of threads belongs to the grid since
    sums in another order differ in the last digits.

    Examples
    --------
    >>> Grid(methods=["gradient", "rise"], cutoffs=[15, math.inf]).cutoffs
    (15.0, inf)
    """

    models: Sequence[str] = ("cifar_cnn",)
    methods: Sequence[str] = ("gradient", "lrp_epsilon_plus", "occlusion")
    cutoffs: Sequence[float] = (4.0, math.inf)
    metrics: Sequence[str] = ("faithfulness", "mu_fidelity", "high_frequency_ratio")
    images: str | Path = "cifar10"
    n: int | None = 8
    only_correct: bool = False
    kind: str = "disc"
    reading: str | None = None
    settings: Mapping[str, dict] = field(default_factory=dict)
    seed: int = 0
    block: int = 8
    threads: int = 1
    device: str = "cpu"

    def __post_init__(self):
        for names in ("models", "methods", "metrics"):
            self._set(names, _grid_checks.names(names, getattr(self, names)))
        for name in self.methods:
            check_choice("method", name, [*METHODS, *CONTROLS])
        for name in self.metrics:
            check_choice("metric", name, METRICS)
        brought = [m for name in self.metrics for m in (*METRICS[name].parts, name)]
        self._set("metrics", tuple(dict.fromkeys(brought)))
        self._set("settings", _grid_checks.settings(self.settings))
        self._set("cutoffs", _grid_checks.cutoffs(self.cutoffs))
        self._set("images", _grid_checks.image_set(self.images))
        check_choice("kind", self.kind, KINDS)
        if self.reading is not None:
            check_choice("reading", self.reading, READINGS)
        for count in ("block", "threads", *["n"] * (self.n is not None)):
            _grid_checks.count(count, getattr(self, count), 1)
        _grid_checks.count("seed", self.seed, 0)
        _grid_checks.device(self.device)
        _grid_checks.check_settings(self)

    def _set(self, name: str, value) -> None:
        object.__setattr__(self, name, value)


def run(
    grid: Grid,
    out: str | Path,
    *,
    cluster: str | None = None,
    progress: bool = True,
    load: Load = load_model,
) -> DataFrame:
    """Compute what is missing of a grid, and write it as one table.

    Parameters
    ----------
    grid : Grid
    out : the table, a file ``.csv``. Beside it the folder ``OUT.parts`` gets a file for
        every unit (a model, a method, a block of images) as soon as it is finished
    cluster : address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``; None for
        this process
    progress : show a line on stderr
    load : a Classifier by its name, for models that `load_model` does not know

    Returns
    -------
    pandas DataFrame
        A row for each model, method, image and cutoff, in the grid's order: ``model``,
        ``method``, ``settings`` of the method, ``kind``, ``cutoff``, ``image``,
        ``label``, ``target`` (the class explained), a column per metric, ``note`` (why
        a value is missing), ``seconds`` for one map (of the processor; by the clock on
        a GPU), ``key`` of the unit, ``commit``, ``versions``, ``device``, ``date``. Its
        ``attrs`` hold the grid.

    Raises
    ------
    ValueError
        if a model or an image set is not known, or is too small
    ImportError, OSError
        if there is no `dask.distributed`, or no cluster at the address

    Notes
    -----
    Stopped at any time and started again, it goes on where it was: what is there is not
    computed again. A unit's key is a hash of all that determines its values (weights,
    pixels, settings, seed, threads, device, versions; for models that `load_model` does
    not know also their layers, the source of their classes and what `transform` makes
    of the images), so another setting never mixes with an old one. Changes of this
    code within one version are not in it: rows name their commit.

    However it was interrupted, and wherever its units ran, the same grid gives the same
    bytes but for the columns `PROVENANCE`, on processors of one kind. A method that
    refuses a model gives rows with the reason. A unit that fails otherwise gives rows
    whose note begins with "failed: ", and the next start tries it again.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from torch import nn
    >>> from xai_lib.assets import Classifier
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256**2, 2))
    >>> def load(name):
    ...     return Classifier(name, net.eval(), lambda x: x, ["a", "b"], {}, {})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (256, 256)).save(f"{folder}/black.png")
    ...     own = {"metrics": ["high_frequency_ratio"], "images": folder, "n": 1}
    ...     grid = Grid(["mine"], ["gradient"], [8, math.inf], **own)
    ...     table = run(grid, f"{folder}/grid.csv", load=load, progress=False)
    >>> table[["model", "cutoff", "image"]].values.tolist()
    [['mine', 8.0, 'black.png'], ['mine', inf, 'black.png']]
    """
    out = Path(out)
    if out.suffix != ".csv":
        raise ValueError(f"out must be a file .csv, got {str(out)!r}")
    if cluster is not None:
        find_dask()
    else:
        _grid_checks.device_is_here(grid.device)
    units = plan(grid, load)
    left = [unit for unit in units if not parts.is_whole(out, unit)]
    left.sort(key=lambda unit: (grid.models.index(unit.model), unit.places))
    failed = _compute(left, out, cluster, load, progress)
    rows = parts.join(out, [unit.key for unit in units], failed)
    columns = list(rows_of(units[0])[0])  # a part may hold its metrics in another order
    parts.save(out, [{c: row[c] for c in columns} for row in rows], _head(grid))
    return read_table(out)


def _compute(left: list[Unit], out: Path, cluster, load, progress) -> dict:
    """Run units and write each one's part; return the rows of those that failed."""
    line = Progress(f"{out.name}", len(left), "units") if progress and left else None
    failed = {}
    done = on_cluster(left, cluster, load) if cluster and left else _here(left, load)
    for count, (unit, found) in enumerate(done, 1):
        if isinstance(found, Exception):
            failed[unit.key] = rows_of(unit, note=FAILED + reason(found))
        else:
            parts.save(parts.part_of(out, unit.key), found)
        if line:
            line.show(count)
    if line:
        line.end(f"{len(left) - len(failed)} done, {len(failed)} failed")
    return failed


def _here(units: list[Unit], load: Callable) -> Iterator:
    for unit in units:
        try:
            yield unit, measure(unit, load)
        except Exception as error:
            yield unit, error


def _head(grid: Grid) -> dict[str, str]:
    def told(name: str) -> str:
        metric = METRICS[name]
        own = {**metric.settings, **grid.settings.get(name, {})}
        better = f"{metric.better} is better" if metric.better != "neither" else ""
        told = [grid.reading or metric.reading, better, json.dumps(own) if own else ""]
        return f"{name} ({', '.join(filter(None, told))})"

    return {
        "script": "xai_lib.study.run",
        "grid": json.dumps(asdict(grid), sort_keys=True),
        "metrics": "; ".join(map(told, grid.metrics)),
        "run": f"{', '.join(parts.PROVENANCE)} tell of the run",
    }
