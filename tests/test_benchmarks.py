"""The benchmark's machinery on a tiny net: its pairs, its differences, its table."""

import importlib
from dataclasses import replace

import pytest
import torch
from nets import images, settled
from torch import nn

from xai_lib.assets.nets import build
from xai_lib.attribute._forward import rows_per_forward


@pytest.fixture(scope="module")
def bench(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "tests" / "benchmarks"))
        yield importlib.import_module("bench")


@pytest.fixture(scope="module")
def cases(bench):
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(6, 6, 3)]
    head = [nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(*body, *head, nn.Linear(6, 4)).eval().requires_grad_(False)
    sizes = {"steps": 4, "samples": 2, "masks": 8, "window": 8}
    target = torch.tensor([0, 3])
    return bench.all_cases(net, torch.randn(2, 3, 16, 16), target, "2", sizes)


@pytest.fixture(scope="module")
def rows(bench, cases):
    return [bench.measure(case, most=2) for case in cases]


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:captum")


def test_every_case_is_measured(rows):
    assert [row.case.name.split(",")[0] for row in rows] == [
        "gradient",
        "integrated_gradients",
        "smoothgrad",
        "guided_backprop",
        "grad_cam",
        "rise",
        "occlusion",
    ]
    assert all(row.seconds > 0 and row.ours_to_raw > 0 for row in rows)
    assert rows[-1].case.passes == 5  # four windows and the image


def test_values_agree_with_captum_where_definitions_do(rows):
    pytest.importorskip("captum")
    gaps = {row.case.name.split(",")[0]: row.difference for row in rows}
    assert gaps.pop("rise") is None and gaps.pop("smoothgrad") is None
    assert max(gaps.values()) < 1e-5, gaps


@pytest.mark.slow
def test_relevance_rows_agree_with_zennit(bench):
    pytest.importorskip("zennit")
    relevance = importlib.import_module("relevance")
    torch.manual_seed(0)
    net = settled(build("resnet18"), 32).requires_grad_(False)
    x, target = images(height=32, width=32), torch.tensor([1, 3])
    for case in relevance.relevance_cases(net, x, target):
        assert case.gap() < 1e-10 and case.ours().shape == case.peer().shape
    case = relevance.csc_case(net, x)
    case.raw()
    assert set(case.ours()) == set(relevance.STARTS)


def test_the_di_full_row_scores_one_everywhere(bench):
    localisation = importlib.import_module("localisation")
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(*parts, nn.Linear(4, 6)).eval().requires_grad_(False)
    case = localisation.grid_case(net, images(8))
    case.raw()
    scores = case.ours()
    assert case.passes == 44 and scores.shape == (6, 8, 2)
    assert torch.equal(scores, torch.ones(6, 8, 2))


def test_the_sensitivity_rows_count_their_passes(bench):
    sensitivity = importlib.import_module("sensitivity")
    rows = []
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)).eval()
    net.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    net.requires_grad_(False)
    own = net, images(8), torch.tensor([0, 1, 2, 3] * 2)
    for case in (
        sensitivity.sensitivity_case(*own, "net", 10, 3),
        sensitivity.quantus_case(*own, "net"),
    ):
        rows.clear()
        case.raw()
        assert sum(rows) == 8 * case.passes
        rows.clear()
        curves = case.ours()
        assert sum(rows) == 8 * case.passes + 8  # and the images themselves
        assert len(curves) == sensitivity.MAPS


def test_the_fidelity_rows_count_their_passes(bench):
    fidelity = importlib.import_module("fidelity")
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)).eval()
    net.requires_grad_(False)
    own = net, images(8), torch.tensor([0, 1, 2, 3] * 2), "net"
    rows_per_forward(net, own[1])  # asks the model once
    rows = []
    net.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    cases = [
        *(
            fidelity.curve_case(f, *own)
            for f in (fidelity.deletion, fidelity.insertion)
        ),
        fidelity.flipping_case(*own),
        fidelity.mu_case(*own, 40),
    ]
    assert [case.passes for case in cases] == [29, 29, 25, 41]
    for case in cases:
        found = []
        for run in (case.raw, case.ours):
            rows.clear()
            scores = run()
            found.append(sum(rows))
        images_run = 1 if case is cases[-1] else 8
        assert found == [images_run * case.passes] * 2
        assert scores.shape == (fidelity.MAPS if case is cases[-1] else 8,)


@pytest.mark.slow
def test_quantus_runs_one_pass_fewer(bench):
    pytest.importorskip("quantus")
    fidelity = importlib.import_module("fidelity")
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)).eval()
    rows = []
    net.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    case = fidelity.flipping_case(net, images(8), torch.tensor([0, 1, 2, 3] * 2), "net")
    assert case.peer().shape == (8, 24) and rows == [8] * (case.passes - 1)


def test_a_wrong_value_is_seen(bench, cases):
    pytest.importorskip("captum")
    wrong = replace(cases[0], ours=lambda: 1.01 * cases[0].peer())
    assert bench.measure(wrong, most=2).difference == pytest.approx(0.01, rel=1e-3)


def test_turns_are_interleaved_and_the_median_ratio_is_taken(bench, monkeypatch):
    clock, order = [0.0], []

    def takes(name, *seconds):
        left = list(seconds)

        def run():
            order.append(name)
            clock[0] += left.pop(0)

        return run

    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock[0])
    raw, ours = takes("raw", 1, 2, 4), takes("ours", 1.5, 3, 40)
    row = bench.measure(bench.Case("x", 1, raw, ours), budget=10)
    assert order == ["raw", "ours"] * 3 and row.turns == 3
    assert row.ours_to_raw == 1.5 and row.seconds == 3
    assert row.peer_to_raw is None and row.difference is None


def test_table_says_what_is_met(bench):
    case = bench.Case("IG", 32, None, None, print, mark=1.1)
    good = bench.Row(case, 2.0, 3, 1.05, 1.4, 3e-7)
    bad = bench.Row(replace(case, name="IG slow"), 2.0, 3, 1.2, 1.4, 3e-4)
    alone = bench.Row(replace(case, name="RISE", mark=None), 1.0, 3, 1.0, None, None)
    lines = bench.table([good, bad, alone]).splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines) == 5
    first, second, third = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]
    )
    assert first[4:10] == ["1.050", "1.10", "yes", "33.6", "44.8", "1.33"]
    assert first[10:] == ["3.0e-07", "yes"]
    assert second[6] == "NO" and second[11] == "NO"
    assert third[5:7] == ["", ""] and third[8:] == [""] * 4
