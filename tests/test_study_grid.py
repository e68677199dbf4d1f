"""The grid: what is in its table, what stops it, and what does not change it."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from xai_lib.analyse import high_frequency_ratio, low_pass, rectified_low_pass
from xai_lib.assets import Classifier, load_images, load_model
from xai_lib.attribute import METHODS
from xai_lib.evaluate import (
    deletion,
    faithfulness,
    insertion,
    mu_fidelity,
    random_logit,
    sensitivity_n,
    stability,
)
from xai_lib.study import CONTROLS, METRICS, PROVENANCE, Grid, read_table, run
from xai_lib.study.__main__ import main
from xai_lib.study.cluster import on_cluster
from xai_lib.study.plan import plan, resolved
from xai_lib.study.provenance import PACKAGE, versions
from xai_lib.study.scores import reason
from xai_lib.study.units import measure

QUICK = {"metrics": ["high_frequency_ratio", "deletion"], "block": 2, "n": 4}
QUICK |= {"methods": ["gradient", "random"]}
STEPS = {"deletion": {"steps": 3}, "insertion": {"steps": 3}}
FEW = STEPS | {"mu_fidelity": {"n_subsets": 20}, "stability": {"n_neighbours": 3}}
FEW |= {"sensitivity_n": {"n_subsets": 20}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of six small images without labels; the last one is black."""
    place = tmp_path_factory.mktemp("images")
    g = torch.Generator().manual_seed(0)
    for k in range(6):
        size = (8, 8, 3)
        pixels = torch.randint(256, size, generator=g, dtype=torch.uint8) * (k < 5)
        Image.fromarray(pixels.numpy()).save(place / f"{k}.png")
    return place


def tiny(name):
    """Return a small network for every sixteenth pixel; its seed is its name."""
    torch.manual_seed(int(name))
    head = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 64, 10)]
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *head).eval()
    layers = {"input": None, "middle": "0", "final": "1"}
    return Classifier(name, net, lambda x: x[..., ::16, ::16], list("ab"), layers, {})


def quick(folder, **other):
    settings = {"deletion": {"steps": 3}}
    own = {"models": ["0"], "images": folder, "settings": settings}
    return Grid(**{**own, **QUICK, **other})


def go(grid, out, load=tiny):
    return run(grid, out, progress=False, load=load)


def same(path):
    """Return a table's head and cells, but for what tells of the run."""
    lines = path.read_text().splitlines()
    head = [line for line in lines if line.startswith("#")]
    rows = csv.DictReader(lines[len(head) :])
    return head, [[v for k, v in row.items() if k not in PROVENANCE] for row in rows]


def parts(out):
    return {p: p.stat().st_mtime_ns for p in out.parent.glob(f"{out.name}.parts/[!.]*")}


def planned(folder, **other):
    return plan(quick(folder, **other), tiny)


def test_a_row_for_each_model_method_image_and_cutoff(folder, tmp_path):
    out, methods = tmp_path / "grid.csv", ["gradient", "random"]
    table = go(quick(folder), out)
    told = "model method settings kind cutoff image label target"
    told += " high_frequency_ratio deletion note"
    told += " seconds key commit versions device date"
    assert list(table) == told.split()
    cells = zip(table["method"], table["image"], table["cutoff"], strict=True)
    wanted = [
        (m, f"{k}.png", c) for m in methods for k in range(4) for c in (4, math.inf)
    ]
    assert [*cells] == wanted
    assert table["label"].isna().all() and table["note"].isna().all()
    assert table["key"].nunique() == len(parts(out)) == 4
    assert (table["seconds"] > 0).all()
    assert table["device"].str.contains("1 thread").all()
    assert set(table["versions"]) == {versions()}
    assert re.match("[0-9a-f]{12}|not in a checkout", table["commit"][0])
    assert '"seed": 0' in table.attrs["grid"]
    assert table.attrs["metrics"].endswith(
        'deletion (rectified, lower is better, {"steps": 3})'
    )
    sharp = table["cutoff"] == math.inf
    ratio = table["high_frequency_ratio"]
    assert (ratio[~sharp].values < ratio[sharp].values / 2).all()


def by_hand(folder, cutoff):
    """Return every metric of the gradient of two images, from the functions alone."""
    net = tiny("0")
    x = net.transform(load_images(folder, 2).x)
    c = net.model(x).argmax(1)
    whole = cutoff == math.inf

    def read(maps):
        if whole:
            return maps.mean(1, keepdim=True).abs()
        return rectified_low_pass(maps, cutoff)

    raw = METHODS["gradient"](net.model, x, c)
    total = raw.sum(1, keepdim=True)
    total = total if whole else low_pass(total, cutoff)
    call = net.model, x, read(raw), c

    def method(model, x, target, **_):
        return read(METHODS["gradient"](model, x, target))

    return {
        "deletion": deletion(*call, steps=3),
        "insertion": insertion(*call, steps=3),
        "faithfulness": faithfulness(*call, steps=3),
        "mu_fidelity": mu_fidelity(*call, n_subsets=20),
        "stability": stability(net.model, x, c, method, 3, normalise=True),
        "sensitivity_n": sensitivity_n(net.model, x, c, total, 26, n_subsets=20),
        "random_logit": torch.cat(
            [random_logit(net.model, x[[i]], c[[i]], method) for i in range(len(x))]
        ),
        "high_frequency_ratio": high_frequency_ratio(total),
    }


def test_metrics_are_those_of_the_functions(folder, tmp_path):
    own = {"methods": ["gradient"], "metrics": [*METRICS], "n": 2, "settings": FEW}
    table = go(quick(folder, **own), tmp_path / "grid.csv")
    for cutoff in (4, math.inf):
        mine, wanted = table[table["cutoff"] == cutoff], by_hand(folder, cutoff)
        assert set(wanted) == set(METRICS)
        for name, values in wanted.items():
            assert mine[name].tolist() == pytest.approx(values.tolist(), abs=2e-6), name


@pytest.mark.parametrize("name", ["mu_fidelity", "sensitivity_n"])
def test_methods_share_the_passes(name):
    class Counted(nn.Linear):
        rows = 0

        def forward(self, x):
            self.rows += len(x)
            return super().forward(x.flatten(1))

    net, x, c = Counted(192, 3).eval(), torch.rand(1, 3, 8, 8), torch.tensor([1])
    maps = torch.randn(2, 1, 8, 8)
    function = METRICS[name].function
    together = function(net, x.expand(2, -1, -1, -1), maps, c.expand(2), n_subsets=9)
    before = net.rows
    alone = [function(net, x, R[None], c, n_subsets=9) for R in maps]
    assert net.rows == before > 0
    assert torch.equal(torch.cat(alone), together)
    function(net, x, maps[:1], c, n_subsets=9, seed=1)
    assert net.rows > before


def test_what_is_there_is_not_computed_again(folder, tmp_path):
    out, grid = tmp_path / "grid.csv", quick(folder)
    go(grid, out)
    first, made = same(out), parts(out)
    text = out.read_bytes()
    go(grid, out)
    assert parts(out) == made and out.read_bytes() == text
    for path in [*made][::2]:
        path.unlink()
    go(grid, out)
    now = parts(out)
    kept = [path for path in [*made][1::2] if now[path] == made[path]]
    assert same(out) == first and len(kept) == len(made) // 2


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"settings": {"deletion": {"steps": 4}}},
        {"cutoffs": [5, math.inf]},
        {"reading": "signed"},
        {"threads": 2},
        {"kind": "gaussian"},
    ],
)
def test_another_setting_has_another_key(folder, change):
    before, after = (planned(folder, **own) for own in ({}, change))
    common = {u.key for u in before} & {u.key for u in after}
    methods = {u.method for u in before if u.key in common}
    unseeded = {"gradient"} if "seed" in change else set()
    assert len(before) == len(after) == 4 and methods == unseeded


def test_other_weights_and_pixels_have_other_keys(folder, tmp_path):
    (before, *_) = planned(folder)
    (after, *_) = planned(folder, models=["1"])
    assert before.weights != after.weights and before.pixels == after.pixels
    image = Image.open(folder / "1.png").rotate(90)
    for name in ("0.png", "1.png", "2.png", "3.png"):
        Image.open(folder / name).save(tmp_path / name)
    (moved, *_) = planned(tmp_path)
    image.save(tmp_path / "1.png")
    (turned, *_) = planned(tmp_path)
    assert moved.key == before.key != turned.key


def test_a_model_of_ones_own_is_known_by_more_than_its_weights(folder):
    kept = tiny("0")

    def changed(pool=None, transform=kept.transform):
        net = nn.Sequential(*kept.model)
        net[2] = pool or net[2]
        made = replace(kept, model=net.eval(), transform=transform)
        return plan(quick(folder), lambda name: made)[0].key

    keys = [
        changed(),
        changed(nn.AvgPool2d(2)),
        changed(nn.MaxPool2d(2, ceil_mode=True)),
    ]
    keys += [changed(transform=lambda x: kept.transform(x) - 0.4)]
    assert len({*keys}) == 4 and changed() == keys[0] == planned(folder)[0].key

    class Halved(nn.MaxPool2d):
        def forward(self, x):
            return super().forward(x) / 2

    class Doubled(nn.MaxPool2d):
        def forward(self, x):
            return super().forward(x) * 2

    Doubled.__name__ = "Halved"  # the same words in repr
    assert changed(Halved(2)) != changed(Doubled(2))


def test_metrics_in_another_order_keep_their_columns(folder, tmp_path):
    names, free = ["deletion", "high_frequency_ratio"], {"methods": ["gradient"]}
    whole = go(quick(folder, metrics=names, **free), tmp_path / "whole.csv")
    out = tmp_path / "grid.csv"
    go(quick(folder, metrics=names, n=2, **free), out)
    table = go(quick(folder, metrics=names[::-1], **free), out)
    assert [c for c in table if c in names] == names[::-1]
    assert table[names].equals(whole[names])


@pytest.mark.parametrize("left", [0, 1, 200, -1, -40])
def test_a_part_that_was_cut_short_is_computed_again(folder, tmp_path, left):
    out, grid = tmp_path / "grid.csv", quick(folder)
    go(grid, out)
    first, (path, *_) = same(out), parts(out)
    text = path.read_bytes()
    path.write_bytes(text[:left])
    go(grid, out)
    assert same(out) == first and path.read_bytes().count(b"\n") == text.count(b"\n")


def test_a_commit_that_looks_like_a_number_stays_a_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("# script: s.py\ncommit,key,value\n5335011e6732,012345678901,1.5\n")
    table = read_table(path)
    assert table.iloc[0].tolist() == ["5335011e6732", "012345678901", 1.5]


def test_a_worker_with_other_weights_or_images_says_so(folder):
    (unit, *_) = planned(folder)
    for what in ("weights", "pixels", "versions"):
        with pytest.raises(
            RuntimeError, match=f"{what} here must be as planned, other"
        ):
            measure(replace(unit, **{what: "other"}), tiny)


def command(folder, out, *more, subsets=10):
    options = ["--models", "cifar_cnn", "--methods", "gradient", "edges", "random"]
    options += ["--set", str(folder), "--images", "6", "--block", "1", "--cutoffs", "4"]
    options += ["--metrics", "mu_fidelity", "deletion", "--out", str(out)]
    options += ["--settings", json.dumps(few(subsets)), *more]
    return [sys.executable, "-m", "xai_lib.study", *options]


def few(subsets):
    return {"mu_fidelity": {"n_subsets": subsets}, "deletion": {"steps": 8}}


def grid_of_command(folder, subsets=10):
    own = {"methods": ["gradient", "edges", "random"], "cutoffs": [4], "block": 1}
    own |= {"metrics": ["mu_fidelity", "deletion"], "settings": few(subsets), "n": 6}
    return Grid(images=folder, **own)


def wait_for(out, count, process, seconds=60):
    """Wait until so many parts are there."""
    end = time.monotonic() + seconds
    while len(parts(out)) < count:
        assert process.poll() is None, "ended too early"
        assert time.monotonic() < end, "took too long"
        time.sleep(0.002)


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_in_the_middle_and_started_again_it_is_the_same_table(folder, tmp_path):
    whole, out = tmp_path / "whole.csv", tmp_path / "killed.csv"
    grid = grid_of_command(folder, subsets=60)  # slow enough not to end before the kill
    go(grid, whole, load_model)
    call = command(folder, out, subsets=60)
    process = subprocess.Popen(call, stderr=subprocess.DEVNULL)
    wait_for(out, 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = parts(out)
    assert 2 <= len(made) < 18 and not out.exists()
    table = go(grid, out, load_model)
    assert same(out) == same(whole)
    assert not table.duplicated(["model", "method", "cutoff", "image"]).any()
    assert made.items() <= parts(out).items()


def test_a_refusal_is_a_row_with_its_reason(folder, tmp_path):
    settings = {"occlusion": {"window": 64}, "deletion": {"steps": 3}}
    grid = quick(folder, methods=["occlusion", "gradient"], settings=settings)
    table = go(grid, tmp_path / "grid.csv").groupby("method", sort=False)
    refused, other = table.get_group("occlusion"), table.get_group("gradient")
    assert set(refused["note"]) == {"window must be at most 16, got 64"}
    assert refused["deletion"].isna().all() and refused["seconds"].isna().all()
    assert len(refused) == len(other) == 8 and other["deletion"].notna().all()
    assert len(parts(tmp_path / "grid.csv")) == 4  # a refusal is final


class Flaky(nn.Module):
    """A network without gradients of two images, until a file is there."""

    def __init__(self, path):
        super().__init__()
        torch.manual_seed(0)
        self.path, self.head = path, nn.Linear(3, 2)

    def forward(self, x):
        if x.requires_grad and len(x) > 1 and not self.path.exists():
            raise RuntimeError("out of\nmemory")
        return self.head(x.mean((2, 3)))


def test_a_failure_is_tried_again(folder, tmp_path, capsys):
    out = tmp_path / "grid.csv"
    net = Flaky(tmp_path / "now").eval()

    def load(name):
        return Classifier(name, net, lambda x: x[..., :16, :16], ["a", "b"], {}, {})

    grid = quick(folder, models="mine")
    table = run(grid, out, load=load)
    assert set(table["note"].dropna()) == {"failed: out of memory"}
    assert set(table["method"][table["note"].notna()]) == {"gradient"}
    assert len(parts(out)) == 2
    assert "grid.csv: 2 done, 2 failed" in capsys.readouterr().err
    (tmp_path / "now").touch()
    table = go(grid, out, load)
    assert len(parts(out)) == 4 and len(table) == 16
    assert not table["note"].astype(str).str.contains("failed").any()


def test_what_is_undefined_is_empty_and_noted_image_by_image(folder, tmp_path):
    metrics = ["high_frequency_ratio", "mu_fidelity", "deletion"]
    own = {"methods": ["edges"], "metrics": metrics, "n": 6, "block": 6}
    table = go(quick(folder, **own), tmp_path / "grid.csv")
    black = table["image"] == "5.png"
    assert black.sum() == 2 and table["note"].notna().equals(black)
    for note in table["note"][black]:
        assert "high_frequency_ratio: maps must vary to have a spectrum" in note
        assert "mu_fidelity: undefined" in note
    assert table[metrics[:2]].isna().all(axis=1).equals(black)
    assert table["deletion"].notna().all()


def test_a_reason_is_one_short_line_without_this_machines_path():
    error = ValueError(f"no\nrule ({PACKAGE / 'assets'}{os.sep}nets.py) " + "x" * 300)
    said = reason(error)
    assert said.startswith(f"no rule (xai_lib{os.sep}assets{os.sep}nets.py) xx")
    assert len(said) == 200 and said.endswith("...")


def test_only_what_the_model_classifies_correctly(folder, tmp_path):
    free = go(quick(folder, methods=["edges"], n=5), tmp_path / "a.csv")
    classes = free.groupby("image")["target"].first()
    for name in classes.index:
        Image.open(folder / name).save(tmp_path / name)
    wrong = {"0.png": 1, "3.png": 1}
    lines = [f"{k},{(c + wrong.get(k, 0)) % 10}" for k, c in classes.items()]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    own = {"methods": ["edges"], "only_correct": True}
    table = go(quick(tmp_path, n=2, **own), tmp_path / "b.csv")
    assert table["image"].unique().tolist() == ["1.png", "2.png"]
    assert (table["label"] == table["target"]).all()
    (unit,) = planned(tmp_path, n=1, **own)  # four images are enough, of five
    assert (unit.read, unit.places, unit.names) == (4, (1,), ("1.png",))
    with pytest.raises(ValueError, match="at least, got 3 of 5 that 0 class"):
        go(quick(tmp_path, n=4, **own), tmp_path / "b.csv")
    with pytest.raises(ValueError, match="needs labelled images"):
        planned(folder, only_correct=True)


def test_settings_come_from_the_method_the_grid_and_the_size():
    net = tiny("0")
    own = {"grad_cam": {"layer": "middle"}, "rise": {"n_masks": 9}}
    own |= {"occlusion": {"layer": "final"}}
    grid = Grid(methods=["grad_cam", "rise", "occlusion"], settings=own, seed=3)
    found = {name: resolved(grid, name, net, True) for name in grid.methods}
    assert found["grad_cam"] == {"layer": "0"}
    assert found["rise"] == {"n_masks": 9, "grid": 4, "p": 0.5, "seed": 3}
    inside = {"window": 5, "stride": 2, "value": 0.0, "layer": "1"}
    assert found["occlusion"] == inside
    assert (
        resolved(Grid(methods=["occlusion"]), "occlusion", net, False)["window"] == 16
    )


def test_random_maps_differ_by_image_and_seed_and_know_no_model():
    x = torch.rand(3, 3, 8, 8)
    R = CONTROLS["random"](None, x, None, seed=0)
    assert torch.equal(CONTROLS["random"](None, x[1:2], None, seed=0), R[1:2])
    assert not torch.equal(CONTROLS["random"](None, x, None, seed=1), R)
    assert (R[0] - R[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["grad"]}, "method must be one of gradient, .* got 'grad'"),
        ({"methods": []}, "methods must be names, at least one, got"),
        ({"methods": ["rise", "rise"]}, "methods must differ, got 'rise' twice"),
        ({"metrics": ["auc"]}, "metric must be one of deletion, .* got 'auc'"),
        ({"cutoffs": [0]}, "cutoffs must be above 0"),
        ({"cutoffs": ["x"]}, "cutoffs must be numbers"),
        ({"cutoffs": [4, 4.0]}, "cutoffs must differ, got 4.0 twice"),
        ({"n": 0}, "n must be a whole number of at least 1, got 0"),
        ({"block": 2.0}, "block must be a whole number of at least 1, got 2.0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"kind": "box"}, "kind must be one of disc, gaussian, kernel, got 'box'"),
        ({"reading": "abs"}, "reading must be one of rectified, signed, got 'abs'"),
        ({"device": "tpu"}, "device must be 'cpu', 'cuda' or 'cuda:1', got 'tpu'"),
        ({"device": "cuda:x"}, "device must be 'cpu', 'cuda' or .* got 'cuda:x'"),
        ({"settings": 5}, "settings must be a dict, got 5"),
        ({"settings": ["rise"]}, r"settings must be a dict, got \['rise'\]"),
        ({"settings": {"rise": {}}}, "settings must be one of gradient, .* got 'rise'"),
        (
            {"settings": {"gradient": {"steps": 1}}},
            "settings of gradient must be one of layer, got 'steps'",
        ),
        (
            {"settings": {"faithfulness": {"steps": 1}}, "metrics": ["faithfulness"]},
            "settings must be those of insertion and deletion, got faithfulness's",
        ),
        ({"settings": {"gradient": 1}}, "settings of gradient must be a dict, got 1"),
        (
            {"settings": {"gradient": {"layer": torch.ones(1)}}},
            "settings must be plain: .* Tensor",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Grid(**change)


def test_what_cannot_be_run_is_refused_and_nothing_is_written(folder, tmp_path):
    out = tmp_path / "grid.csv"
    bad = [
        ({"models": ["cifar_nn"]}, "model must be one of resnet18, .* got 'cifar_nn'"),
        ({"models": ["imdb_mlp"]}, "model must be one of resnet18, .* got 'imdb_mlp'"),
        ({"images": tmp_path / "none"}, "images must be one of photos, .* got"),
        ({"n": 7}, "n must be in 1..6"),
    ]
    if not torch.cuda.is_available():
        bad.append(({"device": "cuda"}, "device must be 'cpu' here, got 'cuda'"))
    calls = [
        (quick(folder, **{"models": ["cifar_cnn"], **own}), out, message)
        for own, message in bad
    ]
    calls.append(
        (quick(folder), out.with_suffix(".parquet"), "out must be a file .csv")
    )
    for grid, path, message in calls:
        with pytest.raises(ValueError, match=message):
            run(grid, path)
    assert not [*tmp_path.iterdir()]


def test_without_dask_a_cluster_is_refused_with_the_cure(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        ImportError, match=r"needs dask.distributed: pip .*lib\[cluster\]"
    ):
        run(quick(folder), tmp_path / "grid.csv", cluster="tcp://127.0.0.1:8786")


def test_no_scheduler_at_the_address(folder):
    pytest.importorskip("distributed")
    units = planned(folder, n=2)
    with pytest.raises(OSError, match="must be the address of a Dask scheduler.*:9'"):
        next(on_cluster(units, "tcp://127.0.0.1:9", load_model, wait=0.2))


def test_the_command_line(folder, tmp_path, capsys):
    out = tmp_path / "grid.csv"
    assert main(command(folder, out, "--images", "2", "--block", "2")[3:]) == 0
    said = capsys.readouterr()
    assert "mean over images" in said.out and "grid.csv: 6 rows" in said.out
    assert "3 done, 0 failed" in said.err
    assert len(read_table(out)) == 6
    every = ["--images", "all", "--kind", "gaussian", "--methods", "gradient"]
    assert main(command(folder, out, *every, "--block", "6")[3:]) == 0
    capsys.readouterr()
    table = read_table(out)
    assert len(table) == 6 and set(table["kind"]) == {"gaussian"}
    with pytest.raises(SystemExit):
        main(["--images", "few"])
    assert "must be a whole number or all, got 'few'" in capsys.readouterr().err
    assert main(["--methods", "nothing"]) == 1
    assert "method must be one of gradient, " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--settings", "{"])
    assert "must be JSON, got '{'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    for known in ("lrp_zplus", "mu_fidelity", "imagenet_samples", "cifar_vit", "edges"):
        assert known in told


@pytest.fixture
def cluster(tmp_path):
    """Start a scheduler and two workers, processes of their own; yield all three."""
    pytest.importorskip("distributed")
    file, started = tmp_path / "scheduler.json", []

    def start(*options):
        call = [sys.executable, "-m", "dask", *options, "--scheduler-file", str(file)]
        env = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(call, env=env, cwd=tmp_path, **quiet))

    where = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    start("scheduler", *where)
    for _ in range(2):
        start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard")
    end = time.monotonic() + 60
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.1)
    address = re.search(r'"address": "(tcp://[^"]+)"', file.read_text())[1]
    yield address, started[1:]
    for process in reversed(started):
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True], ids=["two workers", "one killed"])
def test_on_a_cluster_it_is_the_same_table(folder, tmp_path, cluster, kill):
    from distributed import Client

    address, workers = cluster
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    whole, out = tmp_path / "whole.csv", tmp_path / "cluster.csv"
    go(grid_of_command(folder, 200), whole, load_model)
    asked = command(folder, out, "--cluster", address, subsets=200)
    process = subprocess.Popen(asked, stderr=subprocess.PIPE, text=True)
    wait_for(out, 2, process)
    if kill:
        workers[0].send_signal(signal.SIGKILL)
        workers[0].wait()
        assert len(parts(out)) < 18  # it was at work
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    assert "18 done, 0 failed" in said
    assert same(out) == same(whole)
    table = read_table(out)
    assert not table.duplicated(["model", "method", "cutoff", "image"]).any()


@pytest.mark.slow
def test_a_cluster_that_has_lost_its_workers_says_so(folder, cluster):
    address, workers = cluster
    units = plan(grid_of_command(folder, 200), load_model)
    found = on_cluster(units, address, load_model, wait=5)
    next(found)
    for worker in workers:
        worker.kill()
    with pytest.raises(OSError, match="no worker is left, and .* units are to do"):
        list(found)
