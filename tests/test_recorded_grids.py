"""Recorded tables are met again: the same grids drawn, the same units of a grid."""

import importlib.util
import sys

import numpy as np
import pytest
import torch

from xai_lib._paths import DATA
from xai_lib.assets import load_images, load_model
from xai_lib.evaluate import confident, grid_pg, sample_grids
from xai_lib.evaluate.sampling import _softmax
from xai_lib.study import recorded


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
    wanted = [float(v) / 1000 for v in table.scores[row].item().split()[:24]]
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


def test_a_grid_goes_on_from_the_recorded_table(reranked, tmp_path, capsys):
    reranked.restore(["cifar_vgg11"], ["slow_few"])
    assert capsys.readouterr().out == "cifar_vgg11 slow_few 6 of 6 units\n"
    grid = reranked.grid_of("cifar_vgg11", "slow_few", 10, None)
    before = sorted((tmp_path / "cifar_vgg11~slow_few.csv.parts").iterdir())
    times = [path.stat().st_mtime_ns for path in before]
    table = reranked.run(grid, tmp_path / "cifar_vgg11~slow_few.csv", progress=False)
    assert [path.stat().st_mtime_ns for path in before] == times  # nothing computed
    again = {row[:4]: row for row in rows_of(reranked, table)}
    published = recorded("reranked")
    mine = published[published.model == "cifar_vgg11"]
    mine = mine[mine.quantity.isin(reranked.FEW) & mine.method.isin(grid.methods)]
    assert len(mine) == len(again) == len(grid.methods) * 4 * 2
    for row in mine.itertuples():
        key = row.model, row.method, f"{row.cutoff:g}", row.quantity
        assert again[key][7] == row.scores


def rows_of(reranked, table):
    for key, part in table.groupby(["model", "method", "cutoff"], sort=False):
        yield from reranked.rows_of(key, part, reranked.FEW)


def test_a_table_of_other_versions_is_not_gone_on_from(reranked, monkeypatch):
    other = "xai_lib 0.0.0, torch 1.0, Python 3.11"
    monkeypatch.setattr(reranked, "versions", lambda: other)
    with pytest.raises(SystemExit, match="versions must be the table's"):
        reranked.restore(["cifar_vgg11"], ["slow_few"])
