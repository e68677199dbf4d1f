"""Recorded tables are met again: the same grids drawn, the same units of a grid."""

import importlib.util
import re
import sys

import numpy as np
import pytest
import torch

from xai_lib._paths import DATA
from xai_lib.assets import load_images, load_model
from xai_lib.evaluate import confident, grid_pg, sample_grids
from xai_lib.evaluate.sampling import _softmax
from xai_lib.study import recorded, thousandths


def test_the_softmax_is_summed_from_the_first_class_to_the_last():
    generator = torch.Generator().manual_seed(0)
    logits = 6 * torch.randn(500, 10, generator=generator)
    exp = (logits - logits.max(1, keepdim=True).values).exp().numpy()
    wanted = np.zeros(500, dtype=np.float32)
    for column in exp.T:
        wanted += column
    assert np.array_equal(_softmax(logits).numpy(), exp / wanted[:, None])


def test_the_first_grids_of_the_recorded_table_are_drawn_on_every_machine():
    """Near 1 probabilities differ in the last digit, which once followed the CPU."""
    name, images = "cifar_vgg11", load_images("cifar10", 4000)
    net = load_model(name)
    x, y = net.transform(images.x), images.y
    kept = confident(net.model, x, y, 0.99)
    drawn = sample_grids(y[kept], 2, 6, "grid_pg", 0)
    found = grid_pg(net.model, x[kept][drawn], y[kept][drawn], "gradient_x_input")
    table = recorded("localisation")
    row = (
        (table.model == name) & (table.setting == "grid_pg") & (table["at"] == "input")
    )
    row &= (table.method == "gradient_x_input") & (table.cells == 4)
    wanted = thousandths(table.scores[row].item())[:24]
    np.testing.assert_allclose(found.flatten(), wanted, atol=0.005)


@pytest.fixture
def reranked(tmp_path, monkeypatch):
    """Return the script as a module that writes below a folder of its own."""
    for name in ("tables", "localisation", "reranked"):  # each imports those before
        path = DATA / "results" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    monkeypatch.setattr(module, "GRIDS", tmp_path)
    return module


@pytest.mark.parametrize(
    "part, units, names",
    [
        ("slow", 30, ["insertion", "deletion", "mu_fidelity", "sensitivity_n"]),
        ("slow_few", 6, ["stability", "random_logit"]),
    ],
)
def test_a_grid_goes_on_from_the_recorded_table(
    reranked, tmp_path, capsys, part, units, names
):
    held = recorded("reranked").attrs["versions"]
    if reranked.versions().split(", Python")[0] not in held:
        pytest.skip(f"the table is of {held}")
    reranked.restore(["cifar_vgg11"], [part])
    said = f"cifar_vgg11 {part}: {units} of {units} units\n"
    assert capsys.readouterr().out == said
    out = tmp_path / f"cifar_vgg11~{part}.csv"
    held = sorted((tmp_path / f"{out.name}.parts").iterdir())
    times = [path.stat().st_mtime_ns for path in held]
    grid = reranked.grid_of("cifar_vgg11", part, 50, None)
    table = reranked.run(grid, out, progress=False)
    reranked.restore(["cifar_vgg11"], [part])  # what is there stays
    assert [path.stat().st_mtime_ns for path in held] == times  # nothing computed
    if "faithfulness" in table:
        wanted = table.insertion - table.deletion
        np.testing.assert_allclose(table.faithfulness, wanted, atol=1e-6)
    published = recorded("reranked")
    mine = published[
        (published.model == "cifar_vgg11") & published.quantity.isin(names)
    ]
    mine = mine[mine.method.isin(grid.methods)].set_index(
        ["model", "method", "cutoff", "quantity"]
    )
    found = 0
    for key, rows in table.groupby(["model", "method", "cutoff"], sort=False):
        for row in reranked.rows_of(key, rows, names):
            assert mine.scores[(*key, row[3])] == row[7]
            found += 1
    assert found == len(mine) == len(grid.methods) * 4 * len(names)


def test_a_table_of_other_settings_is_not_gone_on_from(reranked, monkeypatch):
    monkeypatch.setitem(reranked.NOTES, "maps", "integrated gradients 50 steps")
    with pytest.raises(SystemExit, match="made with other maps: METHODS' settings"):
        reranked.restore(["cifar_vgg11"], ["slow_few"])


def test_a_published_row_keeps_its_images(reranked, tmp_path):
    columns = "model,method,cutoff,quantity,n,mean,seconds,scores,refused".split(",")
    held = recorded("reranked")
    row = held[(held.model == "cifar_vgg11") & (held.n == 100)].iloc[0]
    key = row.model, row.method, f"{row.cutoff:g}", row.quantity
    reranked.refuse_fewer([(*key, 100, 0.1, 0.1, row.scores, "")], columns)
    fewer = " ".join(row.scores.split()[:10])
    with pytest.raises(SystemExit, match="must keep its 100 images, got 10: restore"):
        reranked.refuse_fewer([(*key, 10, 0.1, 0.1, fewer, "")], columns)


def test_units_that_failed_are_not_published(reranked, tmp_path, monkeypatch):
    monkeypatch.setattr(reranked, "HERE", tmp_path)
    monkeypatch.setattr(sys.modules["tables"], "HERE", tmp_path)
    published = tmp_path / "reranked.csv"
    published.write_bytes((DATA / "results" / "reranked.csv").read_bytes())
    monkeypatch.setattr(reranked, "GRIDS", tmp_path / "grids")
    (tmp_path / "grids").mkdir()
    grid = reranked.grid_of("cifar_vgg11", "slow_few", 10, ["rise"])
    reranked.restore(["cifar_vgg11"], ["slow_few"])
    out = tmp_path / "grids" / "cifar_vgg11~slow_few.csv"
    assert reranked.failures(reranked.run(grid, out, progress=False)) == 0
    reranked.tables()
    again, before = reranked.read_table(published), recorded("reranked")
    assert again.equals(before)  # what was restored is what was published
    known = ("commit", "versions", "maps")
    assert all(
        set(before.attrs[k].split()) <= set(again.attrs[k].split()) for k in known
    )
    lines = out.read_text().splitlines()
    names = next(line for line in lines if line.startswith("model,")).split(",")
    with open(out, "a", newline="") as file:
        row = dict.fromkeys(names, "") | {"model": "cifar_vgg11", "method": "rise"}
        row |= {"note": "failed: out of memory", "commit": "abc", "cutoff": "inf"}
        file.write(",".join(row.values()) + "\n")
    with pytest.raises(SystemExit, match="few.csv: 1 rows failed; run it again"):
        reranked.tables()


def test_a_table_of_other_versions_is_not_gone_on_from(reranked, monkeypatch):
    other = "xai_lib 0.0.0, torch 1.0, Python 3.11"
    monkeypatch.setattr(reranked, "versions", lambda: other)
    with pytest.raises(SystemExit, match="versions must be the table's"):
        reranked.restore(["cifar_vgg11"], ["slow_few"])


def test_the_readme_says_how_long_the_recorded_tables_took():
    """The tables of one script state one time, that of the script."""
    took = {}
    for path in sorted((DATA / "results").glob("*.csv")):
        head = "\n".join(re.findall("^# .*", path.read_text("utf-8"), re.MULTILINE))
        script = re.search(r"^# script: (\S+)", head, re.MULTILINE)[1]
        seconds = re.search(r"^# seconds: (\d+)", head, re.MULTILINE)[1]
        took.setdefault(script, set()).add(int(seconds))
    hours = sum(map(sum, took.values())) / 3600
    text = (DATA.parent / "README.md").read_text("utf-8")
    stated = int(re.search(r"about (\d+) hours of\s+one core", text)[1])
    assert stated == round(hours), took
