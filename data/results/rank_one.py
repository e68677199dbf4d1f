"""The recorded tables of chapter 04: do modified backward passes collapse to rank one?

    python data/results/rank_one.py run --models cifar_cnn resnet18
    python data/results/rank_one.py tables

``run`` writes one shard per model, test and method below ``_build/results/rank_one``
and skips those that are there, so it may be stopped and started at will, and a model or
a method that comes later is added by running it again. ``tables`` joins the shards into
the CSV files beside this script, each with its provenance in the lines that start with
``#``.

Tests: ``csc`` (float64), ``ssim`` (float32), ``singular``, ``patterns``, and, without a
model, ``chains``, the simulation with random matrices.
"""

import argparse
import gc
import platform
import sys
import time
from copy import deepcopy
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from tables import current_commit, save, write_table
from torch import Tensor, nn

import xai_lib
from xai_lib.analyse import abs_cosine, chance_csc, matrix_chain, singular_ratio
from xai_lib.assets import load_images, load_model
from xai_lib.attribute import METHODS, backprop
from xai_lib.attribute.backprop import Chain, clipped_joins, plan
from xai_lib.attribute.backprop.rules import gradient, random_mask, random_switch
from xai_lib.evaluate import other_class, randomised, reduction_of, similarity

HERE = Path(__file__).resolve().parent
SHARDS = HERE.parents[1] / "_build" / "results" / "rank_one"
VECTORS, SMOOTH, REPETITIONS = 5, 50, 20
SINGULAR_VECTORS = {"cifar10": 1024, "photos": 64}
COUNTS = {"cifar10": (100, 50), "photos": (15, 15)}  # images for csc, for ssim
PATTERN_IMAGES = {"cifar10": slice(5000, 5500), "photos": slice(30, 70)}
BATCH = {"cifar10": 25, "photos": 1}
SSIM_BATCH = {"cifar10": 50, "photos": 3}
HOW, STAGES = ["fresh", "rescaled"], ["fc", "upper", "middle", "all"]
LAWS = ["vanilla", "relu", "stochastic", "positive", "non_negative"]
LAWS += ["alpha1_beta0", "alpha2_beta1", "alpha3_beta2", "alpha5_beta4"]
LAWS += ["alpha10_beta9"]


def numbered(name: str, *numbers: int) -> list[str]:
    return [name.format(n) for n in numbers]


def vgg(lowest: str = "features.relu1") -> dict:
    """Return the layers of our VGG nets, from the last hidden one down."""
    return {
        "layers": numbered("features.relu{}", 6, 5, 4, 3, 2) + [lowest],
        "head": "avgpool",
        "stages": ["classifier", "features.conv5", "features.conv3", "input"],
        "starts": numbered("features.relu{}", 5, 4, 3),
    }


NETS = {
    "cifar_cnn": {
        "layers": ["classifier.relu", *numbered("features.relu{}", 4, 3, 2, 1)],
        "head": "classifier.flatten",
        "stages": ["classifier.fc1", "features.conv4", "features.conv3", "input"],
        "starts": numbered("features.relu{}", 4, 3, 2),
    },
    "cifar_vgg11": vgg(),
    "cifar_vgg11_bn": vgg(),
    "cifar_resnet": {
        "layers": ["layer3", "layer2", "layer1", "relu"],
        "head": "avgpool",
        "stages": ["fc", "layer3", "layer2", "input"],
        "starts": ["layer2", "layer1"],
        "joins": True,
    },
    "resnet18": {
        "layers": [f"layer{s}.{b}" for s in (4, 3, 2, 1) for b in (1, 0)] + ["relu"],
        "head": "avgpool",
        "stages": ["fc", "layer4", "layer2", "input"],
        "starts": ["layer3.1", "layer2.1", "layer1.1"],
        "joins": True,
    },
    "mobilenet_v2": {
        "layers": numbered("features.{}", 18, 17, 14, 11, 7, 4, 2, 1, 0),
        "head": "classifier.0",
        "stages": ["classifier.1", "features.14", "features.7", "input"],
        "starts": numbered("features.{}", 14, 7, 4),
        "joins": True,
    },
    "efficientnet_lite0": {
        "layers": ["head", *numbered("stage{}", 7, 6, 5, 4, 3, 2, 1), "stem"],
        "head": "pool",
        "stages": ["fc", "stage6", "stage4", "input"],
        "starts": ["stage6", "stage4", "stage2"],
        "joins": True,
    },
    "resnet50_caffe": {
        "layers": ["layer4.2", "layer4.0", "layer3.3", "layer3.0", "layer2.2"]
        + ["layer2.0", "layer1.2", "layer1.0", "relu"],
        "head": "avgpool",
        "stages": ["fc", "layer4", "layer2", "input"],
        "starts": ["layer3.0", "layer1.2"],
        "joins": True,
        "images": (8, 8),
        "ssim of patterns": False,  # hours here; the paper has none on ResNet-50
    },
}
"""Layers from the last hidden one to the lowest convolution (with its ReLU), the input
of the first fully connected layer, from where the weights are made random, where else
vectors are put, whether there are residual sums, and, where they differ, the numbers
of images for csc and ssim and whether SSIM is taken of the pattern methods."""

COMPOSITE = ["lrp_epsilon_plus", "lrp_epsilon_alpha2_beta1"]
SIXTEEN = ["gradient", "guided_backprop", "deconvnet", "rectgrad", "deep_taylor"]
SIXTEEN += ["excitation_backprop", "lrp_epsilon", "lrp_zplus", "lrp_alpha2_beta1"]
SIXTEEN += ["lrp_alpha5_beta4", *COMPOSITE, "deeplift", "deeplift_reveal_cancel"]
SIXTEEN += ["deeplift_ablation"]
PATTERNS = ["pattern_net", "pattern_attribution"]
FROM_LOGITS = ["gradient", "lrp_epsilon", "lrp_zplus", *COMPOSITE]
FROM_ANYWHERE = ["gradient", "lrp_zplus"]
SETTINGS = {
    "csc": f"float64, {VECTORS} vectors, seed = number of the image; value = 1 minus "
    "the median over positions and pairs; whole = 1 minus the median over pairs of the "
    "cosine of whole signals",
    "images": f"correctly classified, the first {COUNTS['cifar10']} test images of "
    f"CIFAR-10 and {COUNTS['photos']} photographs (csc, ssim); "
    + ", ".join(f"{k} {v['images']}" for k, v in NETS.items() if "images" in v),
    "deeplift": "baseline zero in the network's input space",
    "deep_taylor": "box of each image and channel",
    "patterns": "estimated on 500 other test images, or 40 photographs; of random "
    "networks anew",
    "smoothgrad": f"{SMOOTH} samples, noise 0.15 of the range",
    "ssim": "window 5, data range 1, percentiles 0.5 and 99.5 (RectGrad 0 and 100); "
    "float32; the pattern methods float64 on photographs and on cifar_resnet",
    "random weights": "PyTorch's own, seed 0, one random network per model",
    "singular": "float32; every unit, or 1024 random orthonormal vectors (photographs: "
    "64) where there are more, at the last hidden layer and at the logits",
    "chains": f"{REPETITIONS} repetitions, 32 vectors",
}


def correct_images(name: str, net, n: int):
    """Return (x, y, numbers) of the first n images that the net classifies right."""
    first = 150 if name == "cifar10" else 30
    images = load_images(name, first)
    x = torch.stack([net.transform(image) for image in images.x])
    with torch.no_grad():
        top = torch.cat([net.model(part).argmax(1) for part in x.split(10)])
    kept = (top == images.y).nonzero().flatten()[:n]
    return x[kept], images.y[kept], kept.tolist()


def pattern_images(name: str, net) -> Tensor:
    chosen = PATTERN_IMAGES[name]
    x = load_images(name, chosen.stop).x[chosen]
    return torch.stack([net.transform(image) for image in x])


def method_of(name: str, model: nn.Module, sample):
    """Return a method, with the patterns of this network where it needs them."""
    if name not in PATTERNS:
        return METHODS[name]
    patterns = backprop.estimate_patterns(model, sample())
    return partial(getattr(backprop, name), patterns=patterns)


def composite_of(name: str, model: nn.Module, sample) -> tuple[list, bool]:
    """Return a method's rules, and whether they compare x with a baseline."""
    if name not in PATTERNS:
        found = plan(METHODS[name])
        return found.composite, found.paired
    patterns = backprop.estimate_patterns(model, sample())
    attribution = name == "pattern_attribution"
    return backprop.pattern_composite(patterns, attribution), False


def variants(joins: bool) -> dict[str, list]:
    """Return the composites that are no methods: other masks, clipped joins."""
    gates = ("relu", "max_pool")
    zplus = [p for p in backprop.COMPOSITES["zplus"] if p[0] not in gates]
    own = [("relu", gradient), ("max_pool", gradient)]
    drawn = [("relu", random_mask(0)), ("max_pool", random_switch(0))]
    result = {
        "z+, own masks": own + zplus,
        "z+, random masks": drawn + zplus,
        "gradient, random masks": [*drawn, ("any", gradient)],
    }
    if joins:
        for name in ("zplus", "alpha2_beta1", "alpha5_beta4"):
            result[f"lrp_{name}, clipped joins"] = clipped_joins(name)
    return result


def draw(images: int, numbers: list[int], shape) -> Tensor:
    """Return (V, B, ...) vectors; those of `csc` for one image and its own seed."""
    each = [
        torch.randn((VECTORS, *shape), generator=torch.Generator().manual_seed(n))
        for n in numbers[:images]
    ]
    return torch.stack(each, dim=1)


def gaps(R: Tensor) -> Tensor:
    """Return (2, B) for signals (V, B, C, ...): 1 - median |cos|, and of the whole."""
    i, j = torch.triu_indices(len(R), len(R), 1)
    near = abs_cosine(R[i], R[j], dim=2)  # (pairs, B, positions or nothing)
    whole = abs_cosine(R.flatten(2)[i], R.flatten(2)[j])  # (pairs, B)
    flat = near.transpose(0, 1).flatten(1)  # (B, pairs * positions)
    return 1 - torch.stack([flat.nanquantile(0.5, 1), whole.nanquantile(0.5, 0)])


def csc_shard(model, x, numbers, composite, baseline, sent: dict, size: int) -> dict:
    """Return {"start|layer": (2, B) gaps} for the layers below each start."""
    names = list(dict.fromkeys([*sent, *(k for below in sent.values() for k in below)]))
    parts: dict[str, list] = {}
    for at in range(0, len(x), size):
        part, own = x[at : at + size], numbers[at : at + size]
        base = None if baseline is None else torch.zeros_like(part)
        chain = Chain(model, part, composite, names, base)
        for start, below in sent.items():
            shape = chain.values[start].shape[1:]
            vectors = draw(len(part), own, shape).to(part)
            rows = [chain.back(start, v, below) for v in vectors]
            for layer in below:
                R = torch.stack([row[layer] for row in rows])
                parts.setdefault(f"{start}|{layer}", []).append(gaps(R).cpu())
        del chain
        gc.collect()  # graphs that refer to themselves, large ones for photographs
    return {key: torch.cat(value, 1).numpy() for key, value in parts.items()}


def sent_from(name: str, net: dict) -> dict[str, list[str]]:
    """Return for each start the layers to look at."""
    layers, lowest = [*net["layers"], "input"], net["layers"][-1]
    sent = {layers[0]: layers}
    if name in FROM_ANYWHERE:
        for start in net["starts"]:
            sent[start] = layers[layers.index(start) :]
    if name in FROM_LOGITS:
        sent["output"] = ["output", net["head"], *layers]
    if name not in SIXTEEN + PATTERNS:
        sent = {layers[0]: [lowest, "input"]}
    return sent


def run_csc(model_name: str, kind: str) -> None:
    """Write CSC shards: every method and variant of one network."""
    classifier, net = load_model(model_name), NETS[model_name]
    count, _ = net.get("images", COUNTS[kind])
    x, _, numbers = correct_images(kind, classifier, count)
    model, x = classifier.model.double(), x.double()
    jobs = {name: None for name in SIXTEEN + PATTERNS if available(name)}
    jobs |= variants(net.get("joins", False))
    for name, composite in jobs.items():
        with shard(model_name, "csc", name) as done:
            if done is None:
                continue
            paired = False
            if composite is None:
                sample = partial(pattern_sample, kind, classifier, torch.float64)
                composite, paired = composite_of(name, model, sample)
            done |= {"numbers": numbers}
            base = x if paired else None
            sent = sent_from(name, net)
            done |= csc_shard(model, x, numbers, composite, base, sent, BATCH[kind])


def pattern_sample(kind, classifier, dtype) -> Tensor:
    return pattern_images(kind, classifier).to(dtype)


def available(name: str) -> bool:
    """Tell whether the library has this method, and say so if not."""
    there = hasattr(backprop, name) if name in PATTERNS else name in METHODS
    if not there:
        print(f"  no {name} yet", flush=True)
    return there


def explain(method, model, x: Tensor, y: Tensor, reduce, size: int) -> Tensor:
    """Return reduced maps, batch by batch."""
    pairs = zip(x.split(size), y.split(size), strict=True)
    return torch.cat([reduce(method(model, a, c)) for a, c in pairs])


def precise(name: str, *parts: nn.Module | Tensor) -> list:
    """Return copies in float64 for the pattern methods, whose signals overflow."""
    return [deepcopy(one).double() if name in PATTERNS else one for one in parts]


def run_ssim(model_name: str, kind: str) -> None:
    """Write SSIM shards: another class, another image, random weights."""
    classifier, net = load_model(model_name), NETS[model_name]
    size = SSIM_BATCH[kind]
    _, count = net.get("images", COUNTS[kind])
    images, y, numbers = correct_images(kind, classifier, count)
    other = other_class(len(classifier.classes), y, seed=0)
    copies = {
        f"{stage}, {how}": cache(
            partial(randomised, classifier.model, images, layer, how)
        )
        for how in HOW
        for stage, layer in zip(STAGES, net["stages"], strict=True)
    }
    patterns = PATTERNS if net.get("ssim of patterns", True) else []
    names = [n for n in [*SIXTEEN, *patterns, "smoothgrad"] if available(n)]
    for name in names:
        with shard(model_name, "ssim", name) as done:
            if done is None:
                continue
            reduce = reduction_of(name)
            model, x = precise(name, classifier.model, images)
            sample = partial(pattern_sample, kind, classifier, x.dtype)
            score = partial(similarity, percentile=100 if name == "rectgrad" else 99.5)
            maps = partial(explain, x=x, reduce=reduce, size=size)
            method = method_of(name, model, sample)
            own = maps(method, model, y=y)
            done |= {"numbers": numbers}
            done["other class"] = score(own, maps(method, model, y=other)).numpy()
            swapped = maps(method, model, x=x.roll(1, 0), y=y)
            done["other image"] = score(own, swapped).numpy()
            if name == "smoothgrad":
                continue
            for test, make in copies.items():
                (copy,) = precise(name, make())
                theirs = maps(method_of(name, copy, sample), copy, y=y)
                done[test] = score(own, theirs).numpy()


def run_singular(model_name: str, kind: str) -> None:
    """Write the ratio of the second to the first singular value of three chains."""
    classifier, net = load_model(model_name), NETS[model_name]
    n = 25 if kind == "cifar10" else 4
    x, _, numbers = correct_images(kind, classifier, n)
    hidden, lowest = net["layers"][0], net["layers"][-1]
    for name in ("lrp_zplus", "gradient", "lrp_alpha2_beta1"):
        with shard(model_name, "singular", name) as done:
            if done is None:
                continue
            done |= {"numbers": numbers}
            for start in (hidden, "output"):
                ratios = singular_ratio(
                    classifier.model, x, name, start, lowest, SINGULAR_VECTORS[kind]
                )
                done[f"{start}|{lowest}"] = ratios.numpy()


def run_patterns(model_name: str, kind: str) -> None:
    """Write sigma1 / sigma2 of each layer's W * A and W, and of the chains' links."""
    with shard(model_name, "patterns", "ratios") as done:
        if done is None or not available(PATTERNS[0]):
            return
        classifier = load_model(model_name)
        sample = pattern_sample(kind, classifier, torch.float32)
        found = backprop.estimate_patterns(classifier.model, sample)
        ones = {name: torch.ones_like(w) for name, w in found.weights.items()}
        plain = backprop.Patterns(ones, found.weights)
        layers = [name for name, w in found.weights.items() if w[0].numel() > 9]
        for matrix, patterns in {"W * A": found, "W": plain}.items():
            if NETS[model_name].get("joins"):
                chains = [[name] for name in layers]
            else:
                chains = [layers]
            for chain in chains:
                single, links = backprop.pattern_singular_ratios(patterns, chain)
                done |= {f"{matrix}|{k}|": v for k, v in single.items()}
                done |= {f"{matrix}|{a}|{b}": v for (a, b), v in links.items()}


def run_chains() -> None:
    """Write the simulation: random vectors through random matrices."""
    for law in LAWS:
        with shard("none", "chains", law) as done:
            if done is not None:
                runs = [matrix_chain(law, seed=i) for i in range(REPETITIONS)]
                done["cosines"] = torch.stack(runs).numpy()


class shard:
    """A shard to be filled in the block and written at its end; None if it is there."""

    def __init__(self, model: str, kind: str, name: str):
        self.path = SHARDS / model / kind / f"{name}.npz"
        self.label = f"{model} {kind} {name}"

    def __enter__(self):
        self.done = None if self.path.exists() else {}
        self.began = time.process_time()
        return self.done

    def __exit__(self, error, *_):
        if error or not self.done:
            return
        seconds = time.process_time() - self.began
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save(self.path, {"seconds": seconds, "commit": current_commit()} | self.done)
        print(f"{self.label}: {seconds:.0f} s", flush=True)


def read(kind: str):
    """Yield (model, name, arrays) of every shard of a kind, in a fixed order."""
    for model in [*NETS, "none"]:
        for path in sorted((SHARDS / model / kind).glob("[!.]*.npz")):
            with np.load(path) as arrays:
                yield model, path.stem, dict(arrays)


def places(model_name: str) -> dict[str, tuple[int, int]]:
    """Return each layer's (convolutions and linear maps up to it, channels)."""
    model, found = load_model(model_name).model, {"input": (0, 3)}
    count = 0
    for name, module in model.named_modules():
        weighted = isinstance(module, (nn.Conv2d, nn.Linear))
        weighted = weighted and "downsample" not in name

        def note(module, inputs, output, name=name or "output", weighted=weighted):
            nonlocal count
            count += weighted
            found.setdefault(name, (count, output.shape[1]))

        module.register_forward_hook(note)
    side = 32 if model_name.startswith("cifar") else 224
    model(torch.zeros(1, 3, side, side))
    return found


def tables() -> None:
    """Join the shards into the CSV files beside this script."""
    head = provenance()
    per_image, per_layer = [], []
    found: dict[str, dict] = {}
    for model, name, arrays in read("csc"):
        if model not in found:
            found[model] = places(model)
        place = found[model]
        layers = NETS[model]["layers"]
        keep = {layers[-1], NETS[model]["head"]}
        for key in arrays:
            if "|" not in key:
                continue
            start, layer = key.split("|")
            gap, whole = arrays[key]
            ends = [np.nanquantile(a, [0.25, 0.5, 0.75]) for a in (gap, whole)]
            ends = [f"{v:.3e}" for v in np.concatenate(ends)]
            here = (model, name, start, layer)
            passed = place[start][0] - place[layer][0]
            chance = f"{1 - chance_csc(place[layer][1]):.4f}"
            per_layer.append((*here, passed, len(gap), *ends, chance))
            curve = name == "lrp_zplus" and start == layers[0]
            if layer in keep and start in (layers[0], "output") or curve:
                per_image += [
                    (model, n, name, start, layer, f"{g:.3e}", f"{w:.3e}")
                    for n, g, w in zip(arrays["numbers"], gap, whole, strict=True)
                ]
    columns = "model,image,method,start,layer,gap,whole"
    write_table("rank_one.csv", head, columns, per_image)
    columns = (
        "model,method,start,layer,passed,n,gap_1,gap,gap_3,whole_1,whole,whole_3,chance"
    )
    write_table("rank_one_layers.csv", head, columns, per_layer)
    write_others(head)


def write_others(head: str) -> None:
    """Write the tables of SSIM, singular values and the simulation."""
    tests = ["other class", "other image"]
    tests += [f"{stage}, {how}" for how in HOW for stage in STAGES]
    rows = []
    for model, name, arrays in read("ssim"):
        for i, number in enumerate(arrays["numbers"]):
            values = [f"{arrays[t][i]:.4f}" if t in arrays else "" for t in tests]
            rows.append((model, number, name, *values))
    columns = ["model", "image", "method", *(t.replace(", ", "_") for t in tests)]
    columns = ",".join(columns).replace(" ", "_")
    write_table("rank_one_ssim.csv", head, columns, rows)
    rows = [
        (model, number, name, *key.split("|"), f"{ratio:.4e}")
        for model, name, arrays in read("singular")
        for key in arrays
        if "|" in key
        for number, ratio in zip(arrays["numbers"], arrays[key], strict=True)
    ]
    columns = "model,image,method,start,layer,ratio"
    write_table("rank_one_singular.csv", head, columns, rows)
    rows = [
        (model, *key.split("|"), f"{float(ratio):.4g}")
        for model, _, arrays in read("patterns")
        for key, ratio in arrays.items()
        if "|" in key
    ]
    columns = "model,matrix,layer,next,ratio"
    write_table("rank_one_patterns.csv", head, columns, rows)
    rows = [
        (law, step, len(arrays["cosines"]), *(f"{v:.3e}" for v in ends))
        for _, law, arrays in read("chains")
        for step, ends in enumerate(
            np.nanquantile(1 - arrays["cosines"], [0.25, 0.5, 0.75], axis=0).T
        )
    ]
    columns = "law,factors,n,gap_1,gap,gap_3"
    write_table("rank_one_chains.csv", head, columns, rows)


def provenance() -> str:
    """Return the lines that stand above every table."""
    shards = sorted(SHARDS.glob("*/*/[!.]*.npz"))
    if not shards:
        sys.exit(f"no shards below {SHARDS}: run the script with 'run' first")
    loaded = [np.load(path) for path in shards]
    commits = sorted({str(arrays["commit"])[:12] for arrays in loaded})
    seconds = sum(float(arrays["seconds"]) for arrays in loaded)
    last = max(path.stat().st_mtime for path in shards)
    lines = {
        "script": "data/results/rank_one.py",
        "commit": " and ".join(commits),
        "date": time.strftime("%Y-%m-%d", time.gmtime(last)),
        "versions": f"xai_lib {xai_lib.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "device": f"CPU ({platform.machine()}), 1 thread",
        "seconds": f"{seconds:.0f} of processor time, all shards together",
        **SETTINGS,
    }
    return "".join(f"# {key}: {value}\n" for key, value in lines.items())


RUNS = {
    "csc": run_csc,
    "ssim": run_ssim,
    "singular": run_singular,
    "patterns": run_patterns,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "tables"])
    parser.add_argument("--models", nargs="+", choices=NETS, default=list(NETS)[:6])
    parser.add_argument("--tests", nargs="+", choices=[*RUNS, "chains"], default=RUNS)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.what == "tables":
        tables()
        sys.exit()
    if "chains" in chosen.tests:
        run_chains()
    for test, run in RUNS.items():
        for model in chosen.models if test in chosen.tests else []:
            run(model, "cifar10" if model.startswith("cifar") else "photos")
