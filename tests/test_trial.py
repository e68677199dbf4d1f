"""A trial of a reader's own network and photographs, and the page that it ends in."""

import math
import re
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
import torch
from nets import small_vit
from PIL import Image
from torch import nn

from xai_lib import show, study
from xai_lib.analyse import csc
from xai_lib.assets import load_images, own_model
from xai_lib.attribute import METHODS, channel_max_abs
from xai_lib.evaluate import (
    cascading_randomisation,
    di_full,
    faithfulness,
    random_logit,
    similarity,
)
from xai_lib.study import QUESTIONS, conclusions, overview, trial

QUICK = {"insertion": {"steps": 2}, "deletion": {"steps": 2}}
QUICK |= {"mu_fidelity": {"n_subsets": 9}}
METHOD_NAMES = ["gradient", "guided_backprop", "grad_cam", "rectgrad"]


def module(classes=4):
    """Return a small network with random weights, in train mode."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of five small images, one with a name that is markup."""
    place, g = tmp_path_factory.mktemp("photos"), torch.Generator().manual_seed(0)
    for k in range(5):
        tint = torch.eye(3)[k % 3] + 0.3 * torch.rand(3, generator=g)
        pixels = 160 * tint * torch.rand((12, 12, 3), generator=g)
        name = f"{k}.png" if k else "<img src=x>.png"
        Image.fromarray(pixels.to(torch.uint8).numpy()).save(place / name)
    return place


def coloured():
    """Return `module` with a class per colour, so that grids can be made."""
    net = module(classes=3)
    with torch.no_grad():
        for p in net.parameters():
            p *= 0.3
        for k in range(3):
            net[0].weight[k, k, 1, 1] += 1
            net[3].weight[k, k, 1, 1] += 1
            net[7].weight[k, k] += 20
    return net


@pytest.fixture(scope="module")
def net():
    names = ["red & <b>warm</b>", "green", "blue"]
    own = {"mean": (0,) * 3, "std": (1,) * 3, "name": "<script>net</script>"}
    return own_model(coloured(), size=16, classes=names, **own)


def go(net, folder, methods=METHOD_NAMES, n=5, **own):
    return trial(
        net, folder, methods, n, **{"settings": QUICK, "progress": False, **own}
    )


@pytest.fixture(scope="module")
def found(net, folder):
    return go(net, folder)


# ---- a network of one's own --------------------------------------------------------


def test_the_reader_s_module_stays_as_it_is():
    mine = module().double().train()
    before = {name: p.clone() for name, p in mine.state_dict().items()}
    net = own_model(mine, size=16, classes=list("abcd"))
    assert mine.training and all(p.requires_grad for p in mine.parameters())
    assert all(torch.equal(p, before[name]) for name, p in mine.state_dict().items())
    assert not net.model.training and net.model is not mine
    assert all(p.dtype == torch.float32 for p in net.model.parameters())
    assert not any(p.requires_grad for p in net.model.parameters())
    assert net.layers == {"input": None, "final": "4"}


def test_its_transform_is_the_one_described():
    black = torch.zeros(1, 3, 256, 256)
    net = own_model(module(), size=16, mean=(0.5,) * 3, std=(0.25,) * 3)
    assert torch.equal(net.transform(black), torch.full((1, 3, 16, 16), -2.0))
    half = torch.cat([black, black + 1], 3)[..., 128:384]  # left black, right white
    kept = own_model(module(), size=16, resize=32, mean=(0,) * 3, std=(1,) * 3)
    assert kept.transform(half)[0, 0, 8].tolist()[::15] == [0, 1]
    assert own_model(module(), lambda x: x[..., ::32, ::32]).classes[3] == "class 3"


class Returns(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


BAD = {
    "a tuple": (lambda x: (x.mean((2, 3)), x), TypeError, "returned a tuple: wrap it"),
    "a map": (lambda x: x, ValueError, r"returned \(2, 3, 16, 16\) for images"),
    "one class": (
        lambda x: x.mean((1, 2, 3))[:, None],
        ValueError,
        "2 classes or more",
    ),
    "NaN": (lambda x: x.mean((2, 3)) * math.nan, ValueError, "returned NaN or infin"),
    "a softmax": (lambda x: x.mean((2, 3)).softmax(1), ValueError, "probabilities: le"),
    "its logarithm": (
        lambda x: x.mean((2, 3)).log_softmax(1),
        ValueError,
        "log-probabilities: leave out its last softmax",
    ),
    "dropout": (
        lambda x: nn.functional.dropout(x, 0.5, True).mean((2, 3)),
        ValueError,
        "the same logits for the same images",
    ),
    "the batch": (
        lambda x: x.mean((2, 3)) - x.mean((0, 2, 3)),
        ValueError,
        "must treat every image alone",
    ),
    "one answer": (
        lambda x: x.flatten(1) @ torch.zeros(3 * 16**2, 2) + torch.tensor([0.3, 1.0]),
        ValueError,
        "Returns returned the same logits for two images: is its last layer zero",
    ),
    "another size": (
        lambda x: x.flatten(1) @ torch.zeros(3 * 32**2, 2),
        ValueError,
        r"images of shape \(2, 3, 16, 16\), Returns refused them: .*\(size= sets",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_network_that_cannot_be_explained_says_why(case):
    function, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        own_model(Returns(function), size=16)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: own_model(module().state_dict()), TypeError, "load these weights in"),
        (lambda: own_model("resnet18"), TypeError, "must be a torch Module, got str"),
        (lambda: own_model(module(), classes="ab"), ValueError, "4 names.*got 'ab'"),
        (lambda: own_model(module(), classes=["a"]), ValueError, "4 names.*got 1"),
        (
            lambda: own_model(module(), layers={"final": "nine"}),
            ValueError,
            r"such as 0, 1.*got 'nine' for final",
        ),
        (
            lambda: own_model(module(), lambda x: x.numpy()),
            TypeError,
            "transform must return a floating tensor .* got ndarray",
        ),
        (
            lambda: own_model(module(), lambda x: x / 0),
            ValueError,
            "finite values, got NaN",
        ),
        (
            lambda: own_model(module(), lambda x: x.view(7)),
            ValueError,
            r"must take images of shape \(2, 3, 256, 256\), it failed",
        ),
    ],
)
def test_bad_arguments_of_own_model(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# ---- the trial ---------------------------------------------------------------------


def test_every_test_has_its_rows(found):
    assert found.methods["method"].tolist() == METHOD_NAMES
    assert found.methods["runs"].all() and (found.methods["note"] == "").all()
    assert len(found.labels) == 5 and len(set(found.labels)) == 3
    every = {*METHOD_NAMES, "random", "edges"}
    for test in ("maps", "class", "weights", "localisation"):
        assert set(found.tables[test]["method"]) == every, test
    assert set(found.tables["convergence"]["method"]) == every - {
        "grad_cam",
        "random",
        "edges",
    }
    assert set(found.notes["test"]) == {"convergence"}
    assert set(found.maps) == every and len(found.seen) == 3
    assert found.about["top"] == "7" and found.about["lowest"] == "0"


def test_the_numbers_are_those_of_the_functions(net, folder, found):
    from xai_lib.assets import load_images

    x = net.transform(load_images(folder).x)
    c = net.model(x).argmax(1)
    names = [net.classes[k] for k in c]
    assert found.labels == names
    table = found.tables["class"].set_index("method")
    for name in ("gradient", "rectgrad"):
        wanted = random_logit(net.model, x, c, name, 0)
        got = table.loc[name, "other_class"].tolist()
        assert got == pytest.approx(wanted.tolist(), abs=1e-5), name
    maps = METHODS["gradient"](net.model, x, c).mean(1, keepdim=True).abs()
    F = faithfulness(net.model, x, maps, c, steps=2)
    graded = found.tables["maps"].query("method == 'gradient' and cutoff == inf")
    assert graded["faithfulness"].tolist() == pytest.approx(F.tolist(), abs=1e-5)
    places = found.tables["localisation"].set_index("method")
    backward = places.loc[["gradient", "guided_backprop", "rectgrad"]]
    assert (backward["share"] > 0.99999).all() and set(backward["layer"]) == {"input"}
    assert set(places.loc["grad_cam", "layer"]) == {"4"}
    cells = x[[0, 1, 2, 0]][None]
    cells[:, 3] = cells[:, 3].flip(-1)
    wanted = di_full(net.model, cells, c[[0, 1, 2, 0]][None], "grad_cam", "4")
    got = places.loc["grad_cam"].query("grid == 0")["share"].tolist()
    assert got == pytest.approx(wanted[0].tolist(), abs=1e-5)


def test_the_controls_know_no_class_and_no_weights(found):
    told = conclusions(found).set_index(["method", "quantity"])
    for control in ("random", "edges"):
        for quantity in ("other_class", "top_random", "all_random"):
            assert told["value"][control, quantity] > 0.9999
        assert (told.loc[control, "told"] == "").all()
    assert told["value"]["random", "di_full"] == pytest.approx(0.25, abs=0.05)


def with_values(found, test, column, method, values):
    """Return a trial in which one method has these values."""
    table = found.tables[test].copy()
    rows = table["method"] == method
    if test == "maps":
        rows &= table["cutoff"] == math.inf
    table.loc[rows, column] = values
    return replace(found, tables=found.tables | {test: table})


def said(found, method, quantity):
    told = conclusions(found).set_index(["method", "quantity"])["told"]
    return told[method, quantity]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([0.97, 0.98, 0.99, 0.96, 1.0], "Nearly the same map with another class."),
        ([0.5, 0.6, 0.5, 0.6, 0.7], "Changes with another class, less than with the"),
        ([0.0] * 5, "Changes with another class, more than with the photograph."),
        ([0.9, 0.99, 0.99, 0.2, 0.99], "Undecided on 5 images."),
    ],
)
def test_a_sentence_needs_the_whole_interval(found, values, sentence):
    own = with_values(found, "class", "other_image", "gradient", [0.2] * 5)
    own = with_values(own, "class", "other_class", "gradient", values)
    assert said(own, "gradient", "other_class").startswith(sentence)


def test_faithfulness_is_compared_with_random_numbers_image_by_image(found):
    rows = found.tables["maps"].query("method == 'random' and cutoff == inf")
    noise = rows["faithfulness"].values
    for shift, sentence in ((0.1, "More"), (-0.1, "Less"), (0, "Not told from")):
        args = ("maps", "faithfulness", "gradient", noise + shift)
        own = with_values(found, *args)
        assert said(own, "gradient", "faithfulness").startswith(sentence)


def with_shares(found, setting, shares):
    """Return a trial in which gradient has these shares, a grid for each row."""
    rows = [
        {"method": "gradient", "grid": i, "head": k, "share": share, "layer": "input"}
        for i, row in enumerate(shares)
        for k, share in enumerate(row)
    ]
    table = type(found.tables["localisation"])(rows)
    about = found.about | {"localisation": setting}
    return replace(found, tables=found.tables | {"localisation": table}, about=about)


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        ([[0.6, 0.5, 0.7, 0.4]] * 3, "Undecided on 3 grids."),
        ([[0.6, 0.5, 0.7, 0.4]] * 4, "Points at the photograph of its class"),
        ([[0.1, 0.2, 0.1, 0.0]] * 4, "Points away from"),
        ([[1.0, 0.0, 0.0, 0.0]] * 8, "Undecided on 8 grids."),  # the median is 0
    ],
)
def test_where_a_map_points_is_a_mean_over_enough_grids(found, shares, sentence):
    own = with_shares(found, "grid_pg", shares)
    assert said(own, "gradient", "grid_pg").startswith(sentence)


def test_a_method_that_fails_on_all_images_at_once_is_noted(net, tmp_path, monkeypatch):
    method = METHODS["gradient"]
    for k in range(9):  # the grid takes eight at a time
        Image.new("RGB", (16, 16), (25 * k, 9 * k, 200)).save(tmp_path / f"{k}.png")

    def narrow(model, x, target, **own):
        if len(x) > 8:
            raise RuntimeError("out of memory")
        return method.function(model, x, target, **own)

    monkeypatch.setitem(METHODS, "gradient", replace(method, function=narrow))
    found = go(net, tmp_path, ["gradient", "grad_cam"], 9)
    assert set(found.maps) == {"grad_cam", "random", "edges"}
    own = found.notes[found.notes["test"] == "maps"]
    assert own[["method", "note"]].values.tolist() == [["gradient", "out of memory"]]
    assert show.report(found, tmp_path / "page.html").is_file()


def test_few_images_decide_nothing(net, folder):
    few = go(net, folder, ["gradient"], 2)
    told = conclusions(few)
    own = told[(told["method"] == "gradient") & (told["test"] != "di_full")]
    assert own["low"].isna().all() and own["told"].str.startswith("Undecided").all()
    wanted = "a grid needs images of 3 classes, the network sees 2 in 2 images"
    assert wanted in set(few.notes["note"])
    alone = go(net, folder, "gradient", 1)
    assert alone.tables["class"]["other_image"].isna().all()
    assert show.report(alone, folder.parent / "alone.html").is_file()


def test_the_overview_has_a_row_for_each_method_and_control(found):
    table = overview(found)
    assert table["method"].tolist() == [*METHOD_NAMES, "random", "edges"]
    assert table["csc"].notna().tolist() == [True, True, False, True, False, False]


def test_a_transformer_is_explained_by_those_that_can(folder):
    net = own_model(small_vit(), size=32, name="vit")
    names = ["gradient", "guided_backprop", "occlusion"]
    own = QUICK | {"occlusion": {"window": 16, "stride": 16}}
    found = go(net, folder, names, 2, settings=own)
    runs = found.methods.set_index("method")
    assert runs["runs"].tolist() == [True, False, True]
    assert "ReLU" in runs["note"]["guided_backprop"]
    page = show.report(found, folder.parent / "vit.html").read_text()
    assert f"<li>Guided BP: {escape(runs['note']['guided_backprop'])}</li>" in page


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"net": module()}, TypeError, "own_model makes one of a Module"),
        ({"images": "nowhere"}, ValueError, "or the path of a folder, got 'nowhere'"),
        ({"n": 0}, ValueError, "n must be a whole number of at least 1, got 0"),
        ({"methods": ["gradeint"]}, ValueError, "method must be one of .*'gradeint'"),
        ({"methods": []}, ValueError, "methods must be names, at least one, got"),
        ({"cutoff": 0}, ValueError, "cutoffs must be above 0, at least one, got"),
        ({"threads": 0}, ValueError, "threads must be a whole number of at least 1"),
        ({"localisation": "di"}, ValueError, "localisation must be one of di_full"),
        ({"settings": {"rise": {}}}, ValueError, "settings must be one of"),
        ({"methods": ["guided_backprop"]}, ValueError, "no method runs on linear: gui"),
    ],
)
def test_bad_input(change, kind, message, folder):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16**2, 2))
    own = {"net": own_model(linear, size=16, name="linear"), "images": folder, "n": 2}
    own |= {"methods": ["gradient"], "progress": False, "settings": QUICK} | change
    with pytest.raises(kind, match=message):
        trial(**own)


def test_a_folder_called_like_a_set_is_a_folder_if_it_is_a_path(
    net, folder, tmp_path, monkeypatch
):
    (tmp_path / "cifar10").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    found = go(net, Path("cifar10"), ["gradient"], 1)
    assert found.about["images"].endswith(folder.name)
    assert study.Grid(images="cifar10").images == "cifar10"


def test_a_folder_without_images(net, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(ValueError, match="holds no image"):
        go(net, tmp_path)


def test_a_network_that_breaks_on_the_photographs_only(net, folder):
    broken = Returns(lambda x: x.mean((2, 3)) / (x.std() < 0.1))
    with pytest.raises(ValueError, match="NaN or infinity"):
        go(replace(net, model=broken.eval()), folder)


def test_it_goes_on_where_it_was_stopped_and_shows_where_it_is(
    net, folder, tmp_path, capsys
):
    own = {"out": tmp_path, "progress": True}
    first = go(net, folder, ["gradient"], 4, **own)
    parts = {p: p.stat().st_mtime_ns for p in tmp_path.glob("trial.csv.parts/*")}
    again = go(net, folder, ["gradient"], 4, **own)
    assert parts and parts == {p: p.stat().st_mtime_ns for p in parts}
    assert first.tables["maps"].equals(again.tables["maps"])
    assert "tests: 10 done, 2 without a number" in capsys.readouterr().err


# ---- the page ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(found, tmp_path_factory):
    return show.report(
        found, tmp_path_factory.mktemp("page") / "trial.html"
    ).read_text()


def test_the_page_holds_all_that_was_found(found, page):
    for test, question in QUESTIONS.items():
        asked = test != "grid_pg"
        assert (question.title in page) == asked, test
    told = conclusions(found)
    for sentence in set(told["told"]) - {""}:
        assert sentence in page
    for name in METHOD_NAMES:
        assert METHODS[name].label in page
    assert page.count('<th scope="row">Gradient</th>') == 1 + len(
        told[told["method"] == "gradient"]
    )
    for key in ("versions", "packages", "commit", "device", "date", "seed"):
        assert found.about[key] in page


def test_the_page_needs_nothing_from_outside_and_no_script(page):
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert "<script" not in page and "url(" not in page and "@import" not in page
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) >= 6
    assert all(re.search(r'alt="[^"]{10,}"', one) for one in pictures)


def test_names_are_text_not_markup(page):
    assert "&lt;script&gt;net&lt;/script&gt;" in page and "<img src=x>" not in page
    assert "&lt;img src=x&gt;.png" in page
    assert "red &amp; &lt;b&gt;warm&lt;/b&gt;" in page and "<b>" not in page


def test_a_report_is_a_page_of_a_trial(found, tmp_path):
    with pytest.raises(ValueError, match="must be a file .html, got 'report.pdf'"):
        show.report(found, "report.pdf")
    with pytest.raises(TypeError, match="must be a Trial.*got DataFrame"):
        show.report(found.methods, tmp_path / "a.html")
    assert not list(tmp_path.iterdir())
    assert "trial" in study.__all__ and "report" in show.__all__


def test_the_other_numbers_are_those_of_the_functions(net, folder, found):
    x = net.transform(load_images(folder).x)
    c = net.model(x).argmax(1)
    R = channel_max_abs(METHODS["gradient"](net.model, x, c))
    layers = {"top_random": found.about["top"], "all_random": "input"}
    lost = cascading_randomisation(net.model, x, c, "gradient", [*layers.values()])
    start, lowest = found.about["start"], found.about["lowest"]
    cosines = csc(net.model, x, "gradient", start, [lowest])[lowest]
    wanted = {("class", "other_image"): similarity(R, R.roll(1, 0))}
    wanted |= {("weights", k): lost[layer] for k, layer in layers.items()}
    wanted |= {("convergence", "csc"): cosines.flatten(1).nanmedian(1).values}
    for (test, column), values in wanted.items():
        rows = found.tables[test].query("method == 'gradient'")
        assert rows[column].tolist() == pytest.approx(values.tolist(), abs=1e-5), column
    assert (lost["7"] - lost["input"]).abs().min() > 0.01  # told apart


@pytest.mark.parametrize(
    ("test", "column", "value", "sentence"),
    [
        (
            "weights",
            "top_random",
            0.92,
            "Nearly the same map with a random last layer.",
        ),
        ("weights", "all_random", 0.88, "Changes with random weights throughout"),
        ("convergence", "csc", 0.995, "Rank one"),
        ("convergence", "csc", 0.985, "Not rank one"),
    ],
)
def test_each_test_has_its_threshold(found, test, column, value, sentence):
    own = with_values(found, test, column, "gradient", [value] * 5)
    assert said(own, "gradient", column).startswith(sentence)


@pytest.mark.parametrize(
    ("share", "sentence"),
    [(0.996, "All in its cell, as it must be"), (0.94, "Puts 6% where the output has")],
)
def test_mass_outside_the_cell_is_told(found, share, sentence):
    own = with_shares(found, "di_full", [[share] * 2] * 4)
    assert said(own, "gradient", "di_full").startswith(sentence)


def test_grain_influence_and_gain_are_told_beside_random_numbers(found):
    whole = found.tables["maps"].query("cutoff == inf").set_index("method")
    grain = whole["high_frequency_ratio"]["random"].mean() / 2
    mu = whole["mu_fidelity"]["random"].to_numpy()
    F = whole["faithfulness"]["gradient"].to_numpy()
    for quantity, column, values, sentence in (
        ("high_frequency_ratio", "high_frequency_ratio", [0.9 * grain] * 5, "Smooth"),
        ("high_frequency_ratio", "high_frequency_ratio", [1.1 * grain] * 5, "Grainy"),
        ("mu_fidelity", "mu_fidelity", mu + 0.1, "More attribution means"),
        ("mu_fidelity", "mu_fidelity", mu - 0.1, "Less so than"),
        ("gain", "faithfulness", F - 2, "The filter helps this map more"),
        ("gain", "faithfulness", F + 2, "The filter helps random numbers more"),
    ):
        own = with_values(found, "maps", column, "gradient", values)
        told = said(own, "gradient", quantity)
        assert told.startswith(sentence), (quantity, sentence)
