"""The recorded tables of chapter 05: input alignment (P5-1 to P5-6).

    python data/results/alignment.py run --models cifar_cnn resnet18 --threads 1
    python data/results/alignment_tables.py

``run`` writes one shard per stage, network, weights and method below
``_build/results/alignment`` as it goes and skips those that are there, so it may be
stopped and started at will, and networks whose weights come later may be added.
``alignment_tables.py`` joins the shards into the CSV files beside it, each with its
provenance in the lines that start with ``#``.
"""

import argparse
import gc
import time
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from tables import current_commit, save
from torch import Tensor, nn
from torch.nn import functional as F

from xai_lib import analyse, evaluate
from xai_lib.analyse import alignment
from xai_lib.analyse.random_nets import NORMS, WEIGHTED
from xai_lib.assets import fresh_model, list_models, load_images, load_model
from xai_lib.assets.cifar_zoo import NETS, TRIGGER, paste_trigger
from xai_lib.attribute import METHODS
from xai_lib.attribute.backprop import Chain, plan, signals
from xai_lib.evaluate.sanity import PERCENTILES

HERE = Path(__file__).resolve().parent
SHARDS = HERE.parents[1] / "_build" / "results" / "alignment"
CIFAR = ["cifar_cnn", "cifar_vgg11", "cifar_vgg11_bn", "cifar_resnet"]
PHOTO = ["resnet18", "mobilenet_v2"]
FILTERS = ["guided_backprop", "rectgrad", "lrp_zplus", "deep_taylor"]
MORE = ["lrp_alpha2_beta1", "excitation_backprop", "deconvnet", "gradient"]
METHODS_HERE = [*FILTERS, *MORE, "lrp_epsilon", "deeplift"]
WEIGHTS = ["trained", "fresh", "gaussian"]
READINGS = "signal chance multiplier multiplier_chance product product_chance".split()
N_CIFAR, N_PHOTO, N_HALF, N_TRIGGERED, N_HOSTS = 128, 15, 100, 100, 4
N_CSC, N_RANDOMISED = (16, 3), (48, 8)  # images of CIFAR-10, photographs
DRAWS, DEPTHS = 20, [1, 2, 4, 8]
SETTINGS = {
    "images": "the first 128 test images of CIFAR-10, the first 15 photographs; the "
    "class explained is the one the trained net predicts",
    "fresh": "as the net's builder initialises it, seed 1",
    "gaussian": "He-normal, no biases, BatchNorm the identity, seed 1",
    "csc": "5 N(0, 1) vectors at the logits, at the input; 16 images, 3 photographs",
    "randomised": "48 images, 8 photographs; weights of seed 2",
    "edges": "absolute map, scaled up bilinearly, against Sobel's magnitude; SSIM",
    "adversarial": "10 sign-gradient steps, 4/255 (1/255 for photographs); the noise "
    "of the control has the same size and random signs; the class is the clean image's",
    "top": "|N(0, 1)| at the logits, seed 3",
    "lower": "the first half of the convolutions and dense layers He-normal, seed 5",
    "sufficiency": "100 right and 100 wrong test images of CIFAR-10, blur H/8, seed 6",
    "backdoor": "100 test images with the trigger, seed 7",
    "draws": "20 per cell, float64",
}


def network(name: str, weights: str) -> nn.Module:
    """Return a network, trained or one of the two random ones."""
    if weights == "fresh":
        return fresh_model(name, seed=1).model
    model = load_model(name).model
    return model if weights == "trained" else analyse.redraw_weights(model, seed=1)


def pictures(name: str, n: int | None = None):
    """Return a network's images, as it takes them and as one sees them."""
    if name in NETS:
        found = load_images("cifar10", n or N_CIFAR)
        return load_model(name).transform(found.x), found.x, found.names, found.y
    found = load_images("photos", n or N_PHOTO)
    x = torch.stack([load_model(name).transform(image) for image in found.x])
    return x, found.x[:, :, 16:240, 16:240], found.names, found.y


def sent_back(*call) -> dict:
    """Return `backward_signals`, and let the graph go: it refers to itself."""
    found = analyse.backward_signals(*call)
    if call[1].shape[-1] > 32:
        gc.collect()
    return found


def batch(name: str) -> int:
    """Return how many images go back together: the graph of large ones is large."""
    return 8 if name in NETS else 2


def predicted(model: nn.Module, x: Tensor) -> Tensor:
    """Return the class that the model gives each image."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(16)])


def inputs_of(model: nn.Module, x: Tensor) -> list[str]:
    """Return the layers whose outputs the weights read, "input" first."""
    return list(dict.fromkeys(analyse.weighted_inputs(model, x).values()))


def reduced(method: str, R: Tensor) -> Tensor:
    """Return a map without channels, (B, H, W)."""
    return evaluate.reduction_of(method)(R)[:, 0]


def edge_score(method: str, R: Tensor, edges: Tensor) -> Tensor:
    """Return the SSIM of the absolute map with edges, both clipped to [0, 1]."""
    size, top = edges.shape[1:], PERCENTILES.get(method, 99.5)
    flat = reduced(method, R).abs()[:, None].float()
    grown = F.interpolate(flat, size=size, mode="bilinear", align_corners=False)
    grown = evaluate.clip_to_unit(grown, top)
    return evaluate.ssim(grown, evaluate.clip_to_unit(edges))


def layers_stage(name: str, weights: str, method: str) -> dict:
    """Measure the alignment at every layer, and the map's likeness to the edges."""
    model = network(name, weights)
    x, seen, names, _ = pictures(name)
    c, layers = predicted(load_model(name).model, x), inputs_of(model, x)
    product, edges = analyse.carries_input(method), analyse.gradient_magnitude(seen)
    parts = []
    for rows in torch.arange(len(x)).split(batch(name)):
        sent = sent_back(model, x[rows], c[rows], method, layers)
        per = [readings_of(method, *v, product) for v in sent.values()]
        own, other = edges[rows], edges.roll(1, 0)[rows]
        for one, (R, _, _) in zip(per, sent.values(), strict=True):
            small = R.ndim != 4 or min(R.shape[2:]) < 4
            nothing = torch.full((len(R),), torch.nan)
            one["edge"] = nothing if small else edge_score(method, R, own)
            one["other_edge"] = nothing if small else edge_score(method, R, other)
        joined = {k: torch.stack([one[k].double() for one in per], 1) for k in per[0]}
        R, h, _ = sent["input"]
        for key, way in (("centred", "centre"), ("magnitude", "magnitude")):
            joined[f"input_{key}"] = alignment(R, h, **{way: True}).nan_to_num(0)
        parts.append(joined)
    arrays = {k: torch.cat([part[k] for part in parts]).numpy() for k in parts[0]}
    return arrays | {"layers": layers, "images": names}


def readings_of(method: str, R: Tensor, h: Tensor, change: Tensor, product: bool):
    """Return every reading of one layer's alignment, and the one per position."""
    found = analyse.alignment_readings(R, h, change, product)
    if R.ndim == 4:
        places = alignment(R, h, "position").flatten(1).nanmedian(1).values
        found["position"] = places.nan_to_num(0)
    else:
        found["position"] = found["signal"]
    return found


def csc_stage(name: str, weights: str, method: str) -> dict:
    """Measure the convergence at the input of vectors put at the logits."""
    model = network(name, weights)
    x, _, names, _ = pictures(name, N_CSC[name not in NETS])
    places = analyse.csc(model, x, method, "output", ["input"])["input"]
    whole = analyse.whole_map_csc(model, x, method, "output", ["input"])["input"]
    return {
        "position": places.nanmedian(1).values.nanmedian(1).values.numpy(),
        "map": whole.nanmedian(1).values.numpy(),
        "images": names,
    }


def depths_of(model: nn.Module, x: Tensor, most: int) -> dict[str, str]:
    """Return first random module -> the layer it reads, evenly spaced if many."""
    reads, kept = analyse.weighted_inputs(model, x), {}
    for module, layer in reads.items():
        if layer not in kept.values():
            kept[module] = layer
    places = np.unique(np.linspace(0, len(kept) - 1, min(most, len(kept))).round())
    return {list(kept)[int(i)]: list(kept.values())[int(i)] for i in places}


def randomised_stage(name: str, weights: str, method: str) -> dict:
    """Compare the maps with those after weights were made random from a layer up."""
    model = load_model(name).model
    x, _, names, _ = pictures(name, N_RANDOMISED[name not in NETS])
    c, top = predicted(model, x), PERCENTILES.get(method, 99.5)
    depths = depths_of(model, x, 8 if name in NETS else 3)
    before = reduced(method, METHODS[method](model, x, c))
    scores = []
    for module in depths:
        other = evaluate.randomised(model, x, module, weights, seed=2)
        after = reduced(method, METHODS[method](other, x, c))
        scores.append(evaluate.similarity(before, after, percentile=top))
        gc.collect()
    layers = list(depths.values())
    return {"similarity": torch.stack(scores, 1).numpy(), "layers": layers} | {
        "modules": list(depths),
        "images": names,
    }


def lower_half(model: nn.Module) -> list[str]:
    """Return the lower half of the weighted layers and the norms among them."""
    names = [k for k, m in model.named_modules() if isinstance(m, WEIGHTED + NORMS)]
    weighted = [k for k in names if isinstance(model.get_submodule(k), WEIGHTED)]
    return names[: names.index(weighted[(len(weighted) + 1) // 2])]


@lru_cache(maxsize=1)
def attacked(name: str) -> tuple[Tensor, Tensor]:
    """Return a network's images changed by the attack, and by noise of its size."""
    classifier, x = load_model(name), pictures(name)[0]
    std = torch.tensor(classifier.transform.std).view(1, 3, 1, 1)
    size = (4 if name in NETS else 1) / 255 / std
    c, g = predicted(classifier.model, x), torch.Generator().manual_seed(4)
    signs = torch.randint(0, 2, x.shape, generator=g).mul(2).sub(1)
    changed = evaluate.sign_gradient_attack(classifier.model, x, c, size)
    return changed, x + size * signs


def predictions_stage(name: str, weights: str, method: str) -> dict:
    """Measure random top vectors, adversarial images and random lower layers."""
    classifier = load_model(name)
    model, (x, _, names, _) = classifier.model, pictures(name)
    c, product = predicted(model, x), analyse.carries_input(method)
    changed, noisy = attacked(name)
    g = torch.Generator().manual_seed(3)
    top = torch.randn(len(x), len(classifier.classes), generator=g).abs()

    def map_of(net, images, top):
        parts = torch.arange(len(x)).split(batch(name))
        found = [
            sent_back(net, images[r], top[r], method, ["input"])["input"] for r in parts
        ]
        return torch.cat([R for R, _, _ in found])

    own = map_of(model, x, c)
    lower = analyse.redraw_weights(model, layers=lower_half(model), seed=5)
    layers, readings = inputs_of(model, x), []
    for r in torch.arange(len(x)).split(batch(name)):
        sent = sent_back(lower, x[r], c[r], method, layers)
        part = [
            analyse.alignment_readings(*v, product)["signal"] for v in sent.values()
        ]
        readings.append(torch.stack(part, 1))
    found = {
        "random_top": alignment(map_of(model, x, top), own),
        "adversarial": alignment(map_of(model, changed, c), own),
        "noise": alignment(map_of(model, noisy, c), own),
        "fooled": (predicted(model, changed) != c).double(),
        "lower_random": torch.cat(readings).median(1).values,
        "lower_random_input": torch.cat(readings)[:, layers.index("input")],
    }
    return {k: v.nan_to_num(0).numpy() for k, v in found.items()} | {"images": names}


def region_source(method: str, model, x: Tensor, c: Tensor, seen: Tensor) -> Tensor:
    """Return a method's reduced map, or one of the two controls."""
    if method == "edges":
        return analyse.gradient_magnitude(seen)
    if method == "random":
        shape = (len(x), *x.shape[2:])
        return torch.randn(shape, generator=torch.Generator().manual_seed(6))
    return reduced(method, METHODS[method](model, x, c))


def sufficiency_stage(name: str, weights: str, method: str) -> dict:
    """Measure both candidates on right and wrong images, for the predicted class."""
    model = network(name, weights)
    x, seen, names, y = pictures(name, 4000)
    c = predicted(model, x)
    right, wrong = ((c == y) == k for k in (True, False))
    kept = [k.nonzero().flatten()[:N_HALF] for k in (right, wrong)]
    hosts, rows = x[kept[0][:N_HOSTS]], torch.cat(kept)
    x, seen, c = x[rows], seen[rows], c[rows]
    maps = region_source(method, model, x, c, seen)
    found = {"right": (c == y[rows]).double()}
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(50)])
    found["logit"] = logits.gather(1, c[:, None])[:, 0]
    found["probability"] = logits.softmax(1).gather(1, c[:, None])[:, 0]
    for share in (0.1, 0.5, 0.9):
        region = evaluate.key_region(maps, share)
        there = evaluate.moved(region, seed=6)
        found[f"area {share}"] = region.double().mean((1, 2))
        found[f"kept {share}"] = evaluate.key_sufficiency(model, x, region, c)
        found[f"moved {share}"] = evaluate.key_sufficiency(model, x, there, c)
        if share == 0.5:
            rate = partial(evaluate.transplant_rate, model, x)
            found["transplanted"] = rate(region, c, hosts)
            found["transplanted, moved"] = rate(there, c, hosts)
    nothing = torch.zeros(len(x), *x.shape[2:], dtype=torch.bool)
    found["nothing"] = evaluate.key_sufficiency(model, x, nothing, c)
    names = [names[i] for i in rows]
    return {k: v.numpy() for k, v in found.items()} | {"images": names}


def backdoor_stage(name: str, weights: str, method: str) -> dict:
    """Measure how much of the map lies on the trigger."""
    model, classifier = load_model("cifar_backdoor").model, load_model(name)
    images = load_images("cifar10", 1000)
    chosen = (images.y != TRIGGER["target"]).nonzero().flatten()[:N_TRIGGERED]
    g = torch.Generator().manual_seed(7)
    seen, inside = paste_trigger(images.x[chosen], g)
    x = classifier.transform(seen)
    c = torch.full((len(x),), TRIGGER["target"])
    fooled = predicted(model, load_model("cifar_backdoor").transform(seen)) == c
    net = classifier.model
    if weights != "trained":
        net = evaluate.randomised(net, x, "classifier.fc1", "fresh", seed=2)
    mass = region_source(method, net, x, c, seen).clamp(min=0)
    whole, there = mass.sum((1, 2)), evaluate.moved(inside, seed=7)
    region = evaluate.key_region(mass, 0.5)
    found = {
        "trigger": (mass * inside).sum((1, 2)) / whole,
        "elsewhere": (mass * there).sum((1, 2)) / whole,
        "area": inside.double().mean((1, 2)),
        "fooled": fooled.double(),
        "kept by the trigger": evaluate.key_sufficiency(net, x, inside, c),
        "kept elsewhere": evaluate.key_sufficiency(net, x, there, c),
        "kept by the key": evaluate.key_sufficiency(net, x, region, c),
    }
    names = [images.names[i] for i in chosen]
    return {k: v.nan_to_num(0).numpy() for k, v in found.items()} | {"images": names}


GRID = [(27, 64), (27, 512), (27, 4096), (64, 64), (64, 1000)]
GRID += [(576, 64), (576, 512), (3072, 1024)]
RATIOS = [0.1, 0.3, 1, 3, 10, 30, 100]
WIDTHS = [16, 64, 256, 1024, 4096]
SIDES = [3, 5, 7, 11, 32]
LAWS = ["equal", "activation", "positive", "signed"]


def one_layer(n: int, side: int, seed: int) -> float:
    """Measure guided backpropagation on one random convolution and a real patch."""
    g = torch.Generator().manual_seed(seed)
    image = load_images("cifar10", 200).x[seed : seed + 1]
    i, j = torch.randint(33 - side, (2,), generator=g).tolist()
    x = fresh_model("cifar_cnn").transform(image)[..., i : i + side, j : j + side]
    net = nn.Sequential(nn.Conv2d(3, n, side, bias=False), nn.ReLU()).double().eval()
    net = analyse.redraw_weights(net.requires_grad_(False), seed=1000 + seed)
    v = torch.randn(1, 1, n, 1, 1, generator=g, dtype=torch.float64).abs()
    sent = signals(net, x.double(), "guided_backprop", "1", ["input"], v)["input"][0]
    return alignment(sent, x.double()).item()


def law_stage(name: str, weights: str, method: str) -> dict:
    """Measure one random layer against the law, every draw."""
    found = {}
    for law in LAWS:
        ratio = [(300, max(1, round(300 * r))) for r in RATIOS]
        for kind, cells in (("grid", GRID), ("ratio", ratio)):
            for d, n in cells:
                v = analyse.random_layer_alignment(law, d, n, DRAWS, seed=n)
                found[f"{kind}|{law}|{d}|{n}"] = v.numpy()
    for n in WIDTHS:
        v = [one_layer(n, 3, seed) for seed in range(DRAWS)]
        found[f"width|positive|27|{n}"] = np.array(v)
    for side in SIDES:
        v = [one_layer(512, side, seed) for seed in range(DRAWS)]
        found[f"filter|positive|{3 * side**2}|512"] = np.array(v)
    return found


def deep_stage(name: str, weights: str, method: str) -> dict:
    """Measure alignment and convergence in random dense nets of eight layers.

    name : the width; weights : the law of the weights
    """
    function = METHODS[method]
    if method == "rectgrad":  # 2 percent of so few units are too few
        function = partial(function.function, percentile=80.0)
    composite, found = plan(function).composite, {}
    layers = [str(2 * depth) for depth in DEPTHS]
    for draw in range(DRAWS):
        net = analyse.random_mlp([100] + 8 * [int(name)], weights, seed=draw)
        g = torch.Generator().manual_seed(500 + draw)
        x = torch.randn(1, 100, 1, 1, generator=g, dtype=torch.float64)
        pair = torch.randn(2, 1, int(name), generator=g, dtype=torch.float64)
        for kind, image in (("signed", x), ("positive", x.abs())):
            chain = Chain(net, image, composite, layers)
            for depth, layer in zip(DEPTHS, layers, strict=True):
                maps = [chain.back(layer, v, ["input"])["input"] for v in pair]
                cosines = torch.cat([alignment(R, image) for R in maps])
                sizes = torch.cat([alignment(R, image, magnitude=True) for R in maps])
                alike = analyse.abs_cosine(*torch.cat(maps).flatten(1))
                values = (
                    cosines.mean(),
                    cosines.abs().mean(),
                    sizes.abs().mean(),
                    alike,
                )
                found.setdefault(f"{kind}|{depth}", []).append(values)
    return {key: np.array(v, dtype=float) for key, v in found.items()}


STAGES = {
    "layers": layers_stage,
    "csc": csc_stage,
    "randomised": randomised_stage,
    "predictions": predictions_stage,
    "sufficiency": sufficiency_stage,
    "backdoor": backdoor_stage,
    "law": law_stage,
    "deep": deep_stage,
}


def jobs(models: list[str]):
    """Yield (stage, network, weights, method) for all that can be run."""
    yield "law", "none", "none", "none"
    dense = [*FILTERS[:3], "lrp_alpha2_beta1", "deconvnet", "gradient"]
    for width, laws in (("2000", ["gaussian"]), ("400", list(analyse.WEIGHT_LAWS))):
        yield from (("deep", width, law, m) for law in laws for m in dense)
    methods = [m for m in METHODS_HERE if m in METHODS]
    controls = ["random", "edges"]
    for name in models:
        if name not in list_models():
            print(f"{name}: no weights yet, left out")
            continue
        if name == "cifar_backdoor":
            for net, weights in ((name, "trained"), (name, "random upper layers")):
                yield from (("backdoor", net, weights, m) for m in methods + controls)
            yield from (("backdoor", "cifar_cnn", "trained", m) for m in methods)
            continue
        ours = name in NETS
        weights = WEIGHTS if ours else WEIGHTS[:2]
        yield from (("layers", name, w, m) for w in weights for m in methods)
        yield from (("predictions", name, "trained", m) for m in methods)
        if name != "mobilenet_v2":  # on this net each pass takes long
            yield from (("csc", name, w, m) for w in WEIGHTS[:2] for m in methods)
            for how in ("fresh", "rescaled"):
                yield from (("randomised", name, how, m) for m in methods)
        if ours:
            named = [*FILTERS, "deconvnet", "gradient", *controls]
            yield from (("sufficiency", name, "trained", m) for m in named)


def run(models: list[str], stages: list[str]) -> None:
    """Write a shard for every job that has none."""
    commit = current_commit()
    for stage, *job in jobs(models):
        shard = SHARDS / stage / f"{'~'.join(job)}.npz"
        if stage not in stages or shard.exists():
            continue
        start = time.process_time()
        with torch.no_grad():
            result = STAGES[stage](*job)
        gc.collect()  # graphs refer to their rules and back
        seconds = time.process_time() - start
        save(shard, result | {"seconds": seconds, "commit": commit})
        print(f"{stage} {' '.join(job)} {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run"])
    parser.add_argument("--models", nargs="+", default=[*CIFAR, *PHOTO])
    parser.add_argument("--stages", nargs="+", default=list(STAGES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.what == "run":
        run(chosen.models, chosen.stages)
