"""Sanity checks: SSIM against scikit-image, maps that ignore, weights that are lost."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from nets import Idle, Residual, images, small_cnn
from torch import nn
from torchvision.models import VisionTransformer

from xai_lib.attribute import METHODS, gradient, gradient_x_input
from xai_lib.attribute.backprop import guided_backprop, rectgrad
from xai_lib.evaluate import (
    cascading_randomisation,
    clip_to_unit,
    other_class,
    random_logit,
    randomised,
    reduction_of,
    similarity,
    ssim,
)
from xai_lib.evaluate.randomise import modules_from
from xai_lib.evaluate.removal import own_seed

LABELS = torch.tensor([1, 3])


def others(x, c, seed):
    """Return the other classes that `random_logit` draws, by each image's values."""
    seeds = [own_seed(image, seed, "class") for image in x]
    return torch.cat(
        [other_class(5, k[None], s) for k, s in zip(c, seeds, strict=True)]
    )


def test_rectgrads_maps_are_clipped_nowhere():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    found = random_logit(net, x, LABELS, "rectgrad", seed=4)
    other = others(x, LABELS, seed=4)
    a, b = (METHODS["rectgrad"](net, x, c).abs().amax(1) for c in (LABELS, other))
    torch.testing.assert_close(found, similarity(a, b, percentile=100))
    assert (found - similarity(a, b)).abs().max() > 1e-4  # 99.5, as of all others


def test_a_module_that_never_runs_cannot_lose_its_weights():
    with pytest.raises(ValueError, match="run in a forward pass, got 'idle'"):
        randomised(Idle().eval(), images(), "idle")


@pytest.fixture(scope="module")
def reference():
    return np.load(Path(__file__).with_name("references") / "ssim.npz")


@pytest.mark.parametrize("window", [5, 7])
@pytest.mark.parametrize("data_range", [1, 2])
def test_ssim_against_scikit_image(reference, window, data_range):
    a, b = torch.tensor(reference["a"]), torch.tensor(reference["b"])
    wanted = torch.tensor(reference[f"window{window}_range{data_range}"])
    torch.testing.assert_close(ssim(a, b, window, data_range), wanted)
    torch.testing.assert_close(ssim(b[:, None], a, window, data_range), wanted)


def test_ssim_by_hand():
    a, b = images(2, 1, 7, 9, dtype=torch.float64)[:, 0].sigmoid()
    values = []
    for i in range(3):
        for j in range(5):
            x, y = (m[i : i + 5, j : j + 5].flatten() for m in (a, b))
            cov = torch.cov(torch.stack([x, y]))
            top = (2 * x.mean() * y.mean() + 1e-4) * (2 * cov[0, 1] + 9e-4)
            bottom = x.mean() ** 2 + y.mean() ** 2 + 1e-4
            values.append(top / (bottom * (cov[0, 0] + cov[1, 1] + 9e-4)))
    torch.testing.assert_close(ssim(a[None], b[None])[0], torch.stack(values).mean())


def test_similarity_of_what_is_the_same():
    m = images(3, 1, 20, 20, dtype=torch.float64)
    one = torch.ones(3, dtype=torch.float64)
    for twin in (m, -m, 5 * m - 3):
        torch.testing.assert_close(similarity(m, twin), one)
    flat = torch.full_like(m, 7.0)
    torch.testing.assert_close(similarity(flat, 0 * m - 2), one)
    assert similarity(flat, m).isfinite().all() and similarity(flat, m).max() < 0.1


def test_similarity_is_the_better_of_both_signs():
    a, b = (images(4, 1, 20, 20, seed=s, dtype=torch.float64) for s in (0, 1))
    b = b - 0.5 * a
    up, down = (ssim(clip_to_unit(a), clip_to_unit(s * b)) for s in (1, -1))
    assert (down > up).all()
    torch.testing.assert_close(similarity(a, b), down)
    wide = similarity(a, b, data_range=2.0)
    torch.testing.assert_close(
        wide, ssim(clip_to_unit(a), clip_to_unit(-b), data_range=2.0)
    )


def test_clip_to_unit_against_numpy():
    m = images(3, 1, 20, 20, dtype=torch.float64)
    found = clip_to_unit(m, 90)
    for i in range(3):
        low, high = np.percentile(m[i].numpy(), [10, 90])
        wanted = ((m[i, 0].numpy() - low) / (high - low)).clip(0, 1)
        torch.testing.assert_close(found[i], torch.tensor(wanted))


def test_each_method_its_reduction():
    names = {name: reduction_of(name).__name__ for name in METHODS}
    assert names["guided_backprop"] == "channel_max_abs"
    assert names["integrated_gradients"] == names["rise"] == "channel_sum"
    for method in (rectgrad, partial(rectgrad, percentile=90.0), METHODS["gradient"]):
        assert reduction_of(method).__name__ == "channel_max_abs"
    assert reduction_of(lambda *a: 0).__name__ == "channel_sum"


def test_other_class_is_uniform_over_the_others():
    c = torch.arange(4).repeat(5000)
    other = other_class(4, c)
    counts = torch.zeros(4, 4).index_put((c, other), torch.ones(()), accumulate=True)
    assert (counts.diagonal() == 0).all()
    assert ((counts + 1667 * torch.eye(4)) / 1667 - 1).abs().max() < 0.1
    with pytest.raises(ValueError, match="2 classes"):
        other_class(1, c)


def test_random_logit_of_a_net_that_ignores_the_class():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    row = net[-1].weight[:1].detach().clone()
    net[-1].weight.data = row * torch.tensor([[1.0], [-2], [3], [-4], [5]])
    one = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(random_logit(net, x, LABELS, "gradient"), one)
    torch.testing.assert_close(random_logit(net, x, LABELS, gradient_x_input), one)


def test_random_logit_by_hand():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    found = random_logit(net, x, lambda logits: logits.argmax(1), "gradient", seed=4)
    c = net(x).argmax(1)
    a, b = (gradient(net, x, k).abs().amax(1) for k in (c, others(x, c, seed=4)))
    torch.testing.assert_close(found, similarity(a, b))
    assert found.max() < 0.95


def test_random_logit_of_a_batch_is_that_of_its_images():
    net, x = small_cnn().double(), images(4, dtype=torch.float64)
    c = torch.tensor([0, 1, 2, 3])
    found = random_logit(net, x, c, "gradient")
    each = zip(x.split(1), c.split(1), strict=True)
    alone = [random_logit(net, a, k, "gradient") for a, k in each]
    torch.testing.assert_close(found, torch.cat(alone))


def test_a_score_and_a_reduction_of_ones_own_are_used():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    own = {
        "reduce": lambda maps: maps[:, :1],
        "score": lambda a, b: (a - b).sum((1, 2, 3)),
    }
    found = random_logit(net, x, LABELS, "gradient", seed=4, **own)
    a, b = (gradient(net, x, c)[:, :1] for c in (LABELS, others(x, LABELS, seed=4)))
    torch.testing.assert_close(found, (a - b).sum((1, 2, 3)))


def test_the_cascade_asks_a_target_function_once():
    net, x, asked = small_cnn().double(), images(dtype=torch.float64), []

    def target(logits):
        asked.append(len(logits))
        return logits.argmax(1)

    cascading_randomisation(net, x, target, "gradient", ["8", "4"])
    assert asked == [2]


def test_maps_of_a_few_pixels_are_not_taken_for_nothing():
    a, b = torch.zeros(2, 1, 64, 64).unbind(0)
    a[:, 3:6, 3:6], b[:, 50:53, 50:53] = 1, 1  # 9 of 4096 pixels each
    assert similarity(a, a) == 1 > 0.99 > similarity(a, b)


def test_ssim_of_bytes():
    a = images(2, 1, dtype=torch.float64).mul(60).add(128).clamp(0, 255)[:, 0].round()
    b = a.flip(1)
    wanted = ssim(a, b, data_range=255)
    found = ssim(a.byte(), b.byte(), data_range=255)
    torch.testing.assert_close(found, wanted)
    assert found.dtype == torch.double and similarity(a.half(), a.half()).min() > 0.999


def test_a_map_that_knows_no_weights_survives_every_randomisation():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    edges = lambda model, x, target, **own: x  # noqa: E731
    scores = cascading_randomisation(net, x, LABELS, edges, ["8", "4", "0"])
    assert list(scores) == ["8", "4", "0"]
    for score in scores.values():
        torch.testing.assert_close(score, torch.ones(2, dtype=torch.float64))
    lost = cascading_randomisation(net, x, LABELS, gradient, ["8", "4", "0"])
    assert all((score < 0.9).all() for score in lost.values())


def test_cascade_by_hand():
    net, x = small_cnn().double(), images(dtype=torch.float64)
    for how in ("fresh", "rescaled"):
        found = cascading_randomisation(
            net, x, LABELS, guided_backprop, ["4"], how, seed=2
        )["4"]
        copy = randomised(net, x, "4", how, seed=2)
        a, b = (guided_backprop(m, x, LABELS).abs().amax(1) for m in (net, copy))
        torch.testing.assert_close(found, similarity(a, b))


@pytest.mark.parametrize("how", ["fresh", "rescaled"])
def test_the_model_and_the_random_state_are_untouched(how):
    net, x = small_cnn(), images()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    cascading_randomisation(net, x, LABELS, "gradient", ["4", "0"], how)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(state, torch.get_rng_state()) and not net.training
    hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in net.modules()]
    assert not any(any(pair) for pair in hooks)


def test_what_is_random_and_what_is_not():
    net, x = small_cnn(), images()
    top, all_of_it = randomised(net, x, "4"), randomised(net, x, "input")
    for name, value in net.state_dict().items():
        below = int(name.split(".")[0]) < 4
        assert torch.equal(top.state_dict()[name], value) == below
        if not below:  # one random net for every depth
            assert torch.equal(top.state_dict()[name], all_of_it.state_dict()[name])
    assert all_of_it[1].running_mean.eq(0).all() and all_of_it[1].weight.eq(1).all()
    again, other = randomised(net, x, "4"), randomised(net, x, "4", seed=1)
    assert torch.equal(top[8].weight, again[8].weight)
    assert not torch.equal(top[8].weight, other[8].weight)
    assert not top.training


def test_order_is_that_of_the_forward_pass():
    net, x = Residual().eval(), images()
    assert modules_from(net, x, "branch") == ["branch", "head"]
    assert modules_from(net, x, "input") == ["stem", "branch", "head"]
    assert modules_from(net, x, "relu") == ["branch", "head"]


def outputs(net, x):
    found, handles = {}, []
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):

            def keep(module, inputs, output, name=name):
                found[name] = output.std().item()

            handles.append(module.register_forward_hook(keep))
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("make", [small_cnn, lambda: Residual().eval()])
def test_rescaled_weights_keep_the_size_of_every_output(make):
    net, x = make().double(), images(5, dtype=torch.float64)
    for p in net.parameters():
        p.data *= 3
    first = next(name for name, _ in net.named_modules() if name)
    wanted = outputs(net, x)
    fresh, same = (
        outputs(randomised(net, x, first, h), x) for h in ("fresh", "rescaled")
    )
    assert same == pytest.approx(wanted, rel=1e-9)
    assert fresh != pytest.approx(wanted, rel=0.1)
    weights = [randomised(net, x, first, h).state_dict() for h in ("fresh", "rescaled")]
    for name, a in weights[0].items():
        if name.endswith("weight"):  # the same direction
            cos = torch.cosine_similarity(a.flatten(), weights[1][name].flatten(), 0)
            assert cos.item() == pytest.approx(1)


def transformer():
    torch.manual_seed(0)
    net = VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=3).eval()
    for p in net.parameters():
        p.data.normal_()
    return net


def test_a_transformer_is_forgotten_altogether():
    net, x = transformer(), images()
    names = modules_from(net, x, "encoder.layers.encoder_layer_1")
    assert all("layer_0" not in n for n in names) and "heads.head" in names
    inner = [n for n in names if n.endswith("self_attention")]
    assert f"{inner[0]}.out_proj" in names  # its parent calls it
    for how in ("fresh", "rescaled"):
        copy = randomised(net, x, "input", how)
        assert copy(x).isfinite().all()
        for (name, a), b in zip(net.named_parameters(), copy.parameters(), strict=True):
            assert not torch.equal(a, b), name
    torch.testing.assert_close(
        copy.class_token.flatten().sort().values,
        net.class_token.flatten().sort().values,
    )


def spread_of_attention(net, x):
    found = []
    for module in net.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.register_forward_hook(lambda m, i, out: found.append(out[0].std()))
    with torch.no_grad():
        net(x)
    return torch.stack(found)


def test_rescaled_weights_keep_the_size_of_attention():
    net, x = transformer(), images()
    fresh, same = (randomised(net, x, "input", how) for how in ("fresh", "rescaled"))
    wanted = spread_of_attention(net, x)
    torch.testing.assert_close(spread_of_attention(same, x), wanted)
    assert (spread_of_attention(fresh, x) < wanted / 2).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ssim(torch.ones(1, 8, 8), torch.ones(1, 8, 9)), "one shape"),
        (lambda: ssim(torch.ones(1, 8, 8), torch.ones(1, 8, 8), 4), "window must be"),
        (lambda: ssim(torch.ones(1, 4, 8), torch.ones(1, 4, 8)), "window must be"),
        (lambda: ssim(torch.ones(1, 8, 8), torch.ones(1, 8, 8), 5, 0), "data_range"),
        (lambda: clip_to_unit(torch.ones(1, 8, 8), 50), "percentile must lie"),
        (lambda: randomised(small_cnn(), images(), "head"), "layer must be"),
        (lambda: randomised(small_cnn(), images(), "4", "all"), "how must be one of"),
        (lambda: random_logit(small_cnn(), images(), LABELS, "none"), "method must be"),
    ],
)
def test_sanity_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
