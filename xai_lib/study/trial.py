"""The whole trial of a network's maps: every test, its controls, on some images."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xai_lib._check import check_choice
from xai_lib.assets import Classifier, ImageSet, load_images
from xai_lib.assets.images import count_images
from xai_lib.assets.own import check_logits, network_input
from xai_lib.assets.progress import Progress, without_late_lines
from xai_lib.attribute import METHODS
from xai_lib.evaluate import reduction_of
from xai_lib.study import trial_tests
from xai_lib.study.grid import FAILED, Grid, run
from xai_lib.study.plan import SMALL_PIXELS, resolved
from xai_lib.study.scores import reason
from xai_lib.study.trial_about import about, seen
from xai_lib.study.trial_tests import TESTS, Case
from xai_lib.study.units import CONTROLS

if TYPE_CHECKING:
    from pandas import DataFrame

TRIED = ("gradient", "integrated_gradients", "guided_backprop", "lrp_epsilon_plus")
TRIED += ("grad_cam", "layer_cam", "occlusion")
GRADED = ("faithfulness", "mu_fidelity", "high_frequency_ratio")  # what the grid scores
EXAMPLES = 3
CUTOFFS = {True: 4.0, False: 15.0}  # cycles per image, for small images and others


@dataclass(frozen=True)
class Trial:
    """What a trial found, as plain data.

    Attributes
    ----------
    methods : a row for each method: ``runs``, the ``note`` that says why not, the
        ``seconds`` for one map
    tables : by test, a row for each method, control and image: "maps" (the table of
        `run`: faithfulness, muFidelity and high-frequency ratio, with and without the
        filter), "class", "weights", "convergence", "localisation" (by grid and head)
    notes : why a test has no number for a method that runs
    maps : by method, maps of the first images without channels, (b, 1, h, w)
    seen : these images as the network sees them, (b, 3, H, W) in [0, 1]
    labels : the class explained, of every image
    about : what was run: network, images, settings, versions
    """

    methods: DataFrame
    tables: dict[str, DataFrame]
    notes: DataFrame
    maps: dict[str, Tensor] = field(repr=False)
    seen: Tensor = field(repr=False)
    labels: list[str]
    about: dict[str, str]


def trial(
    net: Classifier,
    images: str | Path = "photos",
    methods: Sequence[str] = TRIED,
    n: int = 8,
    *,
    cutoff: float | None = None,
    localisation: str = "di_full",
    settings: Mapping[str, dict] | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: bool = True,
) -> Trial:
    """Put a network's attribution maps on trial: all tests, on the first images.

    Parameters
    ----------
    net : Classifier, of `load_model` or of `own_model`
    images : an image set's name or a folder, as for `load_images` (a `Path` is always
        a folder); labels are not needed: the class explained is the one that the
        network predicts
    methods : names in METHODS
    n : how many images, the first ones; fewer if there are not so many
    cutoff : of the low-pass filter, in cycles per image; None is 15, and 4 for images
        of up to 64 pixels
    localisation : "di_full" or "grid_pg"
    settings : what differs from the defaults, by method or metric, as for `Grid`
    seed : of everything random
    out : a folder for the table of `run`, which goes on where it was stopped; None
        keeps nothing
    device : "cpu" or "cuda"
    threads : of the processor; None is what torch has
    progress : show a line on stderr

    Returns
    -------
    Trial; `conclusions` and `overview` read it, `show.report` writes it as a page

    Raises
    ------
    TypeError, ValueError
        if the network cannot be explained at all: it does not take the images, does
        not return finite logits (B, classes), or no method runs on it

    Notes
    -----
    Every test is a function of `evaluate` or `analyse`, and every method meets the same
    controls: random numbers and the edges of the image. A method that fails is listed
    with what it said; the others run on. In DiFull the last cell shows the first image
    mirrored. SSIM is measured on the method's own maps; maps smaller than 5 x 5 are
    scaled up to the image.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from torch import nn
    >>> from xai_lib.assets import own_model
    >>> net = own_model(nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), size=16)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.effect_noise((16, 16), 99).save(f"{folder}/noise.png")
    ...     found = trial(net, folder, ["gradient", "grad_cam"], progress=False)
    >>> found.methods["runs"].tolist()
    [True, False]
    >>> found.methods["note"][1]
    'model must have a layer with output (B, K, h, w), got none in Sequential'
    """
    begun = time.monotonic()
    shown, x = _inputs(net, images, n)
    small = max(x.shape[2:]) <= SMALL_PIXELS
    grid = Grid(
        models=[net.name],
        methods=_names(methods),
        cutoffs=[math.inf, CUTOFFS[small] if cutoff is None else cutoff],
        metrics=GRADED,
        images=images,
        n=len(x),
        settings=settings or {},
        seed=seed,
        threads=torch.get_num_threads() if threads is None else threads,
        device=device,
    )
    check_choice("localisation", localisation, ("di_full", "grid_pg"))
    graded = _graded(grid, net, out, progress)
    ran = _ran(graded, grid)
    case = _case(net, x, graded, grid, localisation)
    own = {
        name: resolved(grid, name, net, small)
        for name in grid.methods
        if name in CONTROLS or ran[name]["runs"]
    }
    tables, notes, maps = _tested(case, own, shown.names, progress)
    import pandas

    return Trial(
        pandas.DataFrame([ran[name] for name in grid.methods if name in METHODS]),
        {"maps": graded, **tables},
        notes,
        maps,
        seen(net, shown.x[:EXAMPLES], x[:EXAMPLES]),
        [net.classes[k] for k in case.c.tolist()],
        about(case, grid, shown.names, time.monotonic() - begun),
    )


def _names(methods: Sequence[str]) -> list[str]:
    names = [methods] if isinstance(methods, str) else list(methods)
    if not names:
        raise ValueError(f"methods must be names, at least one, got {methods!r}")
    for name in names:
        check_choice("method", name, METHODS)
    return [*names, *CONTROLS]


def _inputs(net: Classifier, images: str | Path, n: int) -> tuple[ImageSet, Tensor]:
    """Return the images, and what the network gets; refuse what cannot be explained."""
    if not isinstance(net, Classifier):
        raise TypeError(
            f"net must be a Classifier, got {type(net).__name__}: own_model makes one "
            "of a Module, load_model of a name"
        )
    there = count_images(images)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n must be a whole number of at least 1, got {n!r}")
    shown = load_images(images, min(n, there))
    x = network_input(net.transform, shown.x)
    for part in x.split(8):
        check_logits(net.model, part)
    return shown, x


def _graded(grid: Grid, net: Classifier, out, progress: bool) -> DataFrame:
    """Return the grid's table, whose methods and controls all have the same rows."""

    def load(name: str) -> Classifier:
        return net

    options = {"progress": progress, "load": load}
    if out is not None:
        return run(grid, Path(out) / "trial.csv", **options)
    with tempfile.TemporaryDirectory() as folder:
        return run(grid, Path(folder) / "trial.csv", **options)


def _ran(graded: DataFrame, grid: Grid) -> dict[str, dict]:
    """Return by method whether it has any number, and what it said if not."""
    ran = {}
    for name, rows in graded.groupby("method", sort=False):
        runs = bool(rows[list(GRADED)].notna().any(axis=None))
        said = [*rows["note"].dropna().unique()]
        ran[name] = {
            "method": name,
            "runs": runs,
            "seconds": float(rows["seconds"].mean()) if runs else math.nan,
            "note": "" if runs else said[0].removeprefix(FAILED),
            "settings": rows["settings"].iloc[0],
        }
    tried = [row for name, row in ran.items() if name in METHODS]
    if not any(row["runs"] for row in tried):
        said = "; ".join(f"{row['method']}: {row['note']}" for row in tried)
        raise ValueError(f"no method runs on {grid.models[0]}: {said}")
    return ran


def _case(net: Classifier, x: Tensor, graded, grid: Grid, localisation: str) -> Case:
    rows = graded[(graded["method"] == "random") & (graded["cutoff"] == math.inf)]
    c = torch.tensor(rows["target"].tolist(), device=grid.device)
    if grid.device != "cpu":
        net = replace(net, model=deepcopy(net.model).to(grid.device))
    return Case(net, x.to(grid.device), c, grid.seed, localisation)


def _tested(case: Case, own: dict[str, dict], names: list[str], progress: bool):
    """Return every test's table, why some numbers are missing, and maps to look at."""
    import pandas

    line = Progress("tests", len(own) * len(TESTS), "tests") if progress else None
    found = {test: [] for test in TESTS}
    notes, maps, done = [], {}, 0
    for name, settings in own.items():
        explain = trial_tests.asked(case, name, settings)
        for test, function in TESTS.items():
            try:
                with without_late_lines():
                    rows = function(case, name, settings, explain)
                found[test] += [{"method": name} | row for row in rows]
            except Exception as error:
                notes.append({"test": test, "method": name, "note": reason(error)})
            done += 1
            if line:
                line.show(done)
        try:
            R = explain(case.net.model, case.x, case.c)
            maps[name] = reduction_of(name)(R[:EXAMPLES]).cpu()
        except Exception as error:
            notes.append({"test": "maps", "method": name, "note": reason(error)})
    if line:
        line.end(f"{done - len(notes)} done, {len(notes)} without a number")
    tables = {test: _table(rows, names) for test, rows in found.items()}
    columns = ["test", "method", "note"]
    return tables, pandas.DataFrame(notes, columns=columns), maps


def _table(rows: list[dict], names: list[str]) -> DataFrame:
    import pandas

    table = pandas.DataFrame(rows, columns=list(rows[0]) if rows else ["method"])
    if "image" in table:
        table["image"] = [names[k] for k in table["image"]]
    return table
