"""Grids: wiring against the plain model, scores against hand-made maps, refusals."""

import pytest
import torch
import torchvision
from nets import Residual, images, linear_net, small_cnn, small_vit
from torch import nn

from xai_lib.assets import fresh_model, list_models
from xai_lib.attribute import METHODS
from xai_lib.evaluate import (
    GridNet,
    as_scored,
    cell_shares,
    di_full,
    di_part,
    grid_maps,
    grid_pg,
    ml_att,
    stitch,
    unstitch,
)
from xai_lib.evaluate.cells import sliding
from xai_lib.evaluate.localisation import SCORES

FAST = {
    "smoothgrad": {"n_samples": 2},
    "squaregrad": {"n_samples": 2},
    "vargrad": {"n_samples": 2},
    "integrated_gradients": {"steps": 3},
    "rectgrad": {"percentile": 50},
}
BACKWARD = [m for m in METHODS if METHODS[m].family in ("gradient", "modified")]
BACKWARD += ["layer_cam"]
REPEATED, DIFFERENT = torch.tensor([[1, 2, 3, 1]]), torch.tensor([[1, 2, 3, 4]])


def grid_cells(batch=1, n=2, channels=3, height=16, width=16, **own):
    cells = images(batch * n * n, channels, height, width, **own)
    return cells.unflatten(0, (batch, n * n))


def padded_cnn(n_classes=5, seed=0):
    """A net whose head pools, with a layer at each of three sizes."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, n_classes),
    ).eval()


def dense_cnn(side=16, seed=0):
    """A net with a weight per position, as VGG."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(4 * (side // 4) ** 2, 6),
        nn.ReLU(),
        nn.Linear(6, 5),
    ).eval()


# ------------------------------------------------------------------------ scores


def test_a_uniform_map_scores_one_over_n_squared():
    for n, shape in ((2, (8, 12)), (3, (9, 15))):
        shares = cell_shares(torch.full(shape, 0.3), n)
        torch.testing.assert_close(shares, torch.full((n * n,), 1 / n**2))


def test_only_the_positive_part_counts_and_nothing_scores_zero():
    maps = torch.tensor([[[2.0, -9.0], [0.0, 6.0]], [[-1.0, -2.0], [-3.0, 0.0]]])
    assert cell_shares(maps, 2).tolist() == [[0.25, 0, 0, 0.75], [0, 0, 0, 0]]
    assert cell_shares(maps * 1e-8, 2).sum() == 0  # the guard is absolute
    assert cell_shares(maps * 1e-6, 2)[0].tolist() == [0.25, 0, 0, 0.75]


def test_cells_are_numbered_row_by_row():
    grid = torch.arange(9.0).view(3, 3).kron(torch.ones(2, 4))
    torch.testing.assert_close(cell_shares(grid, 3), torch.arange(9) / 36)


def test_the_order_of_operations_is_that_of_the_paper():
    """Channels cancel before clamping, and signs mix in the upsampling."""
    maps = torch.tensor([[[[3.0, -1.0]], [[-1.0, -1.0]]]])  # (1, 2, 1, 2): 2, -2
    grown = as_scored(maps, "gradient_x_input", (4, 4))
    want = torch.nn.functional.interpolate(
        torch.tensor([[[[2.0, -2.0]]]]), (4, 4), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(grown, want)
    assert as_scored(maps, "gradient", (1, 2)).flatten().tolist() == [4, 2]
    clamped_first = (
        want.clamp(min=0).sum()
        < torch.nn.functional.interpolate(
            torch.tensor([[[[2.0, 0.0]]]]), (4, 4), mode="bilinear", align_corners=False
        )
        .clamp(min=0)
        .sum()
    )
    assert clamped_first  # so the other order is another score


@pytest.mark.parametrize("bad", [torch.ones(3), torch.ones(5, 4), [1.0]])
def test_shares_refuse_what_is_no_grid(bad):
    with pytest.raises(ValueError, match="maps"):
        cell_shares(bad, 2)
    with pytest.raises(ValueError, match="finite, got NaN"):
        cell_shares(torch.full((2, 2), torch.nan), 2)


# ------------------------------------------------------------------------ wiring


def test_stitch_and_unstitch_are_inverse_also_for_oblong_cells():
    cells = grid_cells(2, 3, 2, 5, 7)
    grid = stitch(cells)
    assert grid.shape == (2, 2, 15, 21)
    torch.testing.assert_close(unstitch(grid, 3), cells)
    torch.testing.assert_close(grid[:, :, 5:10, 14:21], cells[:, 5])


NETS = {
    "pooling head": (padded_cnn, ["0", "1", "2", "4"]),
    "dense head": (dense_cnn, ["0", "2"]),
    "skip connections": (lambda: Residual().eval(), ["stem"]),
    "odd sizes": (small_cnn, ["2", "3", "5"]),
}


@pytest.mark.parametrize("n, height, width", [(2, 16, 16), (3, 16, 16), (2, 16, 24)])
@pytest.mark.parametrize("kind", NETS)
def test_di_full_heads_are_the_plain_model(kind, n, height, width):
    make, layers = NETS[kind]
    if kind == "dense head" and width != height:
        return
    net = make().double()
    cells = grid_cells(2, n, height=height, width=width, dtype=torch.float64)
    for layer in [None, *layers]:
        grid = GridNet(net, cells.shape[2:], n, "di_full", layer)
        h = grid.before(stitch(cells))
        for head in (0, n, n * n - 1):
            grid.head = head
            for wanted in (True, False):  # with a graph, and from memory
                own = h.clone().requires_grad_(wanted)
                with torch.set_grad_enabled(wanted):
                    logits = grid(own)
                torch.testing.assert_close(
                    logits, net(cells[:, head]), rtol=1e-9, atol=1e-12
                )


@pytest.mark.parametrize("name", [n for n in list_models() if n.startswith("cifar_")])
def test_di_full_heads_are_our_own_nets(name):
    net = fresh_model(name)
    cells = grid_cells(1, 2, height=32, width=32)
    for layer in net.layers.values():
        grid = GridNet(net.model, (3, 32, 32), 2, "di_full", layer)
        h = grid.before(stitch(cells))
        grid.head = 3
        with torch.no_grad():
            gap = (grid(h) - net.model(cells[:, 3])).abs().max()
        assert gap < 1e-5


IMAGENET = ["resnet18", "mobilenet_v2", "efficientnet_lite0", "resnet50_caffe"]


@pytest.mark.parametrize("name", IMAGENET)
def test_the_imagenet_architectures_can_be_cut_at_their_named_layers(name):
    net = fresh_model(name)
    cells = grid_cells(1, 2, height=64, width=64)
    for layer in net.layers.values():
        for setting in SCORES:
            grid = GridNet(net.model, (3, 64, 64), 2, setting, layer)
            with torch.no_grad():
                logits = grid(grid.before(stitch(cells)))
                if setting == "di_full":
                    want = net.model(cells[:, 0])
                elif setting == "grid_pg":
                    want = net.model(stitch(cells))
                else:
                    continue
            gap = (logits - want).abs().max() / want.abs().max()
            assert gap < 1e-5, (layer, setting)


@pytest.mark.parametrize("layer", [None, "0", "2"])
def test_grid_pg_runs_the_grid_where_the_head_pools(layer):
    net, cells = padded_cnn(), grid_cells(2)
    grid = GridNet(net, (3, 16, 16), 2, "grid_pg", layer)
    torch.testing.assert_close(grid(grid.before(stitch(cells))), net(stitch(cells)))


def test_grid_pg_slides_a_dense_head():
    """As the dense layers rewritten as convolutions, averaged over all places."""
    net, cells = dense_cnn(), grid_cells(2)
    grid = GridNet(net, (3, 16, 16), 2, "grid_pg")
    first, second = net[4], net[6]
    h = net[:3](stitch(cells))  # (2, 4, 8, 8)
    kernel = first.weight.view(6, 4, 4, 4)
    h = nn.functional.conv2d(h, kernel, first.bias).relu()
    h = nn.functional.conv2d(h, second.weight[:, :, None, None], second.bias)
    torch.testing.assert_close(grid(stitch(cells)), h.mean((2, 3)))
    inside = GridNet(net, (3, 16, 16), 2, "grid_pg", "2")
    torch.testing.assert_close(inside(inside.before(stitch(cells))), h.mean((2, 3)))


def test_sliding_windows_come_row_by_row():
    h = torch.arange(12.0).view(1, 1, 3, 4)
    assert sliding(h, (2, 3)).shape == (1, 4, 1, 2, 3)
    assert sliding(h, (2, 3))[0, :, 0, 0, 0].tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize("make", [padded_cnn, dense_cnn])
@pytest.mark.parametrize("layer", [None, "1"])
def test_di_part_pools_one_quadrant_of_the_grids_features(make, layer):
    net, cells = make(), grid_cells(2)
    grid = GridNet(net, (3, 16, 16), 2, "di_part", layer)
    h = grid.before(stitch(cells))
    features, head = (net[:5], net[5:]) if make is padded_cnn else (net[:3], net[3:])
    whole = features(stitch(cells))
    half = whole.shape[2] // 2
    for head_of, corner in (
        (0, whole[:, :, :half, :half]),
        (3, whole[:, :, half:, half:]),
    ):
        grid.head = head_of
        torch.testing.assert_close(grid(h), head(corner))
        with torch.no_grad():
            torch.testing.assert_close(grid(h), head(corner))


def test_tokens_are_places_too():
    """Our ViT sees a grid with resized positions; DiPart pools a cell's tokens."""
    vit = fresh_model("cifar_vit").model
    cells = grid_cells(1, height=32, width=32)
    part = GridNet(vit, (3, 32, 32), 2, "di_part")
    assert part._last == "norm"
    grid = stitch(cells)
    kept = []  # the tokens of the whole grid, its position vectors resized
    with torch.no_grad():
        handle = vit.norm.register_forward_hook(lambda *call: kept.append(call[2]))
        vit(grid)
        handle.remove()
        corner = kept[0].unflatten(1, (16, 16))[:, 8:, 8:].flatten(1, 2)
        part.head = 3
        torch.testing.assert_close(part(grid), vit.head(corner.mean(1)))
    inside = GridNet(vit, (3, 32, 32), 2, "di_full", "blocks.1")
    h = inside.before(stitch(cells))
    assert h.shape == (1, 96, 16, 16)
    assert di_full(vit, cells, REPEATED, "gradient", "blocks.1").min() > 0.8


def test_an_image_of_its_own_size_leaves_the_vit_as_it_was():
    vit = fresh_model("cifar_vit").model
    assert vit._resized(8, 8) is vit.position
    assert vit._resized(16, 16).shape == (1, 256, 96)
    constant = vit.position.mean(1, keepdim=True).expand(-1, 64, -1)
    other = fresh_model("cifar_vit").model
    other.position = nn.Parameter(constant.clone(), requires_grad=False)
    torch.testing.assert_close(
        other._resized(16, 24), constant[:, :1].expand(-1, 384, -1)
    )


def test_the_model_stays_as_it_was():
    net = padded_cnn()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    grid_maps("di_part", net, grid_cells(), REPEATED, "lrp_epsilon_plus", "2")
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())
    assert all(p.requires_grad for p in net.parameters()) and not net.training
    for k, v in net.state_dict().items():
        assert torch.equal(v, before[k])


def test_rows_seen_without_a_graph_are_not_run_again():
    """Occlusion asks for the same grids once per head."""
    net, cells = padded_cnn(), grid_cells()
    rows = []
    net.register_forward_hook(lambda m, args, out: rows.append(len(args[0])))

    def passes(setting, targets):
        rows.clear()
        SCORES[setting](net, cells, targets, METHODS["occlusion"])
        return sum(rows)

    heads, windows = 4, 9  # of 16 with stride 8 over 32 x 32
    assert passes("grid_pg", DIFFERENT) < heads * windows
    one = METHODS["occlusion"](net, stitch(cells), DIFFERENT[:, 2])
    maps = grid_maps("grid_pg", net, cells, DIFFERENT, "occlusion")
    torch.testing.assert_close(maps[:, 2], one[:, 0])


# ------------------------------------------------------------------------ oracles


@pytest.mark.parametrize("n, height, width", [(2, 16, 16), (3, 16, 16), (2, 16, 24)])
@pytest.mark.parametrize("name", BACKWARD)
def test_nothing_lies_outside_the_cell_in_di_full(name, n, height, width):
    net = padded_cnn(n_classes=10).double()
    cells = grid_cells(2, n, height=height, width=width, dtype=torch.float64)
    targets = torch.arange(n * n).repeat(2, 1)
    targets[:, -1] = targets[:, 0]

    def method(*call, **own):
        return METHODS[name](*call, **{**FAST.get(name, {}), **own})

    maps = grid_maps("di_full", net, cells, targets, method)  # (2, 2, n H, n W)
    for place, head in enumerate((0, n * n - 1)):
        parts = unstitch(maps[:, place, None], n)[:, :, 0]
        others = [i for i in range(n * n) if i != head]
        assert parts[:, others].abs().max() == 0
    assert maps.abs().max() > 0


@pytest.mark.parametrize("name", BACKWARD)
def test_a_negative_logit_or_a_positive_one_both_stay_inside(name):
    net = padded_cnn(n_classes=10).double()
    targets = torch.tensor([[1, 2, 3, 1], [5, 6, 7, 5]])
    cells = grid_cells(2, dtype=torch.float64)
    scores = di_full(net, cells, targets, partial_of(name))
    assert bool(((scores == 1) | (scores == 0)).all())


def partial_of(name):
    own = METHODS[name]
    return type(own)(
        name, own.label, own.function, own.family, "", own.settings | FAST.get(name, {})
    )


def test_guided_backprop_passes_di_full_in_a_net_that_has_learned_nothing():
    net = fresh_model("cifar_vgg11").model
    cells = grid_cells(1, height=32, width=32)
    assert di_full(net, cells, REPEATED, "guided_backprop").tolist() == [[1, 1]]


def test_grad_cam_marks_the_second_image_of_its_class():
    """Its weight is pooled over the grid: two equal images are equally bright."""
    net = padded_cnn()
    cells = grid_cells()
    cells[:, 3] = cells[:, 0]
    shares = cell_shares(
        grid_maps("di_full", net, cells, REPEATED, "grad_cam", "4"), 2
    )[0]
    torch.testing.assert_close(shares[0], shares[1])
    torch.testing.assert_close(shares[0, 0], shares[0, 3], rtol=0.02, atol=0)
    by_place = cell_shares(
        grid_maps("di_full", net, cells, REPEATED, "layer_cam", "0"), 2
    )[0]
    assert by_place[0, 3] == 0 and by_place[1, 0] == 0


def test_behind_a_mean_the_gradient_is_the_same_everywhere():
    scores = grid_pg(padded_cnn(), grid_cells(), DIFFERENT, "gradient", "4")
    torch.testing.assert_close(scores, torch.full((1, 4), 0.25))


def test_di_part_leaks_across_a_border_as_far_as_the_net_sees():
    maps = grid_maps("di_part", padded_cnn(), grid_cells(), REPEATED, "gradient")
    first = maps[0, 0]
    assert first[:, :16].abs().max() > 0
    # two 3x3 convolutions around a max-pool of 2 see 1 + 2 pixels further, and one
    # more for the pool
    assert first[20:].abs().max() == 0 and first[:, 20:].abs().max() == 0
    assert first[16:20, :16].abs().max() > 0


def test_ml_att_is_every_method_at_every_layer():
    net, layers = padded_cnn(), {"input": None, "middle": "0", "final": "4"}
    methods = ["gradient_x_input", "grad_cam", "occlusion"]
    cells = grid_cells()
    scores = ml_att("di_full", net, cells, REPEATED, methods[:2], layers)
    assert list(scores) == [(a, m) for a in layers for m in methods[:2]]
    want = di_full(net, cells, REPEATED, "grad_cam", "4")
    torch.testing.assert_close(scores["final", "grad_cam"], want)
    callable_ = ml_att("di_full", net, cells, REPEATED, [METHODS["gradient"]], layers)
    assert ("final", "gradient") in callable_


def test_occlusion_takes_the_papers_window_at_layers():
    asked = {}

    def spy(model, x, target, *, layer=None, **own):
        asked.update(own, layer=layer)
        return torch.ones(len(x), 1, *x.shape[2:])

    own = METHODS["occlusion"]
    method = type(own)(
        "occlusion", own.label, spy, own.family, "", own.settings, own.inside
    )
    di_full(padded_cnn(), grid_cells(), REPEATED, method, "0")
    assert asked == {"window": 5, "stride": 2, "value": 0.0, "layer": "input"}
    di_full(padded_cnn(), grid_cells(), REPEATED, method)
    assert asked["window"] == 16
    method(padded_cnn(), images(), torch.tensor([0, 1]), layer="0")
    assert asked["window"] == 5 and asked["layer"] == "0"


def test_relevance_goes_through_the_wiring():
    """Relevance: conserved from the head's logit to the input of a bias-free net."""
    net = padded_cnn().double()
    for module in net:
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    cells = grid_cells(dtype=torch.float64)
    for setting, targets in (("di_part", REPEATED), ("grid_pg", DIFFERENT)):
        maps = grid_maps(setting, net, cells, targets, "lrp_zplus", heads=(0,))
        grid = GridNet(net, (3, 16, 16), 2, setting)
        logit = grid(grid.before(stitch(cells)))[0, targets[0, 0]]
        torch.testing.assert_close(maps.sum(), logit, rtol=1e-4, atol=0)


# ------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "call, said",
    [
        (
            lambda: grid_pg(linear_net(), grid_cells(), DIFFERENT, "gradient"),
            "got none in Sequential",
        ),
        (
            lambda: di_full(padded_cnn(), grid_cells(), REPEATED, "gradient", "6"),
            r"a grid needs a layer with a map.*got \(1, 8\) from 6",
        ),
        (
            lambda: di_full(
                padded_cnn(),
                [[torch.zeros(3, 16, 16)] * 3 + [torch.zeros(3, 16, 20)]],
                REPEATED,
                "gradient",
            ),
            r"must have one size, got \[\(3, 16, 16\), \(3, 16, 20\)\]",
        ),
        (
            lambda: stitch([[torch.zeros(3, 8, 8)] * 4, [torch.zeros(3, 8, 8)] * 3]),
            "as many cells",
        ),
        (lambda: stitch(torch.zeros(1, 3, 3, 8, 8)), "4, 9, 16, ... cells, got 3"),
        (lambda: stitch(torch.zeros(4, 3, 8, 8)), r"shape \(B, n\*n, C, H, W\)"),
        (lambda: unstitch(torch.zeros(1, 3, 9, 8), 2), "divisible into 2 x 2"),
        (
            lambda: grid_pg(padded_cnn(), grid_cells(), REPEATED, "gradient"),
            r"classes of a grid_pg grid must differ, got \[1, 2, 3, 1\] in grid 0",
        ),
        (
            lambda: di_full(
                padded_cnn(), grid_cells(), torch.tensor([[1, 2, 2, 1]]), "gradient"
            ),
            r"the first and the last cell may share theirs\), got \[1, 2, 2, 1\]",
        ),
        (
            lambda: di_part(
                padded_cnn(), grid_cells(), torch.tensor([[1, 2, 4, 2]]), "gradient"
            ),
            "must differ",
        ),
        (
            lambda: di_full(padded_cnn(), grid_cells(), REPEATED[0], "gradient"),
            r"shape \(1, 4\), the class of every cell, got \(4,\)",
        ),
        (
            lambda: di_full(
                Residual().eval(), grid_cells(), REPEATED, "gradient", "branch"
            ),
            "every path goes through, got 'branch', which a skip connection",
        ),
        (
            lambda: grid_pg(
                small_vit(), grid_cells(height=32, width=32), DIFFERENT, "gradient"
            ),
            r"grid_pg shows the model the whole grid, \d+ x \d+, and VisionTransformer",
        ),
        (
            lambda: grid_maps("grid", padded_cnn(), grid_cells(), REPEATED, "rise"),
            "setting must be one of grid_pg, di_full, di_part",
        ),
        (
            lambda: di_full(padded_cnn(), grid_cells(), REPEATED, "gradient", "nope"),
            "a module's name",
        ),
    ],
)
def test_refusals_say_what_was_wanted_and_what_came(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_targets_must_be_class_indices():
    with pytest.raises(TypeError, match="class indices"):
        di_full(padded_cnn(), grid_cells(), REPEATED.float(), "gradient")


def test_a_vit_of_one_size_can_still_be_asked_in_di_full():
    vit = small_vit()
    size = vit.image_size
    cells = grid_cells(height=size, width=size)
    assert di_full(vit, cells, REPEATED, "gradient").tolist() == [[1, 1]]


def test_torchvisions_vgg_slides_its_head():
    net = torchvision.models.vgg11(num_classes=5, init_weights=False).eval()
    grid = GridNet(net, (3, 64, 64), 2, "grid_pg")
    assert grid._last == "features" and grid._own == (2, 2)


def test_halves_do_not_overflow_in_a_cell():
    found = cell_shares(torch.ones(1, 448, 448).half(), 2)
    torch.testing.assert_close(found, torch.full((1, 4), 0.25))


def test_rectgrad_goes_through_a_sliding_head():
    body = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    net = nn.Sequential(*body, nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 5)).eval()
    cells, classes = images(8, 3, 16, 16).unflatten(0, (2, 4)), torch.arange(4)
    maps = grid_maps("grid_pg", net, cells, classes.repeat(2, 1), "rectgrad")
    assert maps.shape[-2:] == (32, 32) and maps.any()


def test_di_part_refuses_a_map_that_does_not_divide():
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)]
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 4), *head).eval()  # 17 -> 4, 34 -> 8
    GridNet(net, (3, 17, 17), 2, "di_part")
    with pytest.raises(ValueError, match="di_part needs a map .*, 4 x 4, got 9 x 9"):
        GridNet(net, (3, 18, 18), 2, "di_part")  # 18 -> 4, 36 -> 9


def test_remembered_logits_are_in_no_graph():
    net = small_cnn()
    grid = GridNet(net, (3, 16, 16), 2, "di_full")
    h = grid.before(images(1, 3, 32, 32))
    grid(h)
    assert not any(row.requires_grad for row in grid.known.values())
