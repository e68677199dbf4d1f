"""The recorded tables of chapter 02: spectra (P4-1), and what the gradient's
high-frequency part says of the decision (P4-2).

    python data/results/spectra.py run --models resnet18 mobilenet_v2 --threads 1
    python data/results/spectra.py tables

``run`` writes one shard per model and photograph below ``_build/results/spectra`` as it
goes and skips those that are there, so it may be stopped and started at will; several
processes may share the models, and two a model, one of them ``--backwards``.
``tables`` joins the shards into the CSV files beside this script, each with its
provenance in the lines that start with ``#``.
"""

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tables import current_commit, save, write_table
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional as F

import xai_lib
from xai_lib.analyse import (
    high_frequency_ratio,
    low_pass,
    power_law_noise,
    radial_spectrum,
    spectral_slope,
)
from xai_lib.assets import load_images, load_model
from xai_lib.attribute import METHODS, channel_max_abs, channel_sum, gradient
from xai_lib.attribute.noisy import noisy_gradients
from xai_lib.evaluate import deletion_curve, first_order_correlation

HERE = Path(__file__).resolve().parent
SHARDS = HERE.parents[1] / "_build" / "results" / "spectra"
MODELS = ["resnet18", "mobilenet_v2", "efficientnet_lite0"]
SETTINGS = {
    "integrated_gradients": "32 steps, Gauss-Legendre, zero baseline",
    "noise": "50 samples, standard deviation 0.15 of the range, seed 0",
    "occlusion": "window 16, stride 8, value 0",
    "rise": "200 masks, grid 7, p 0.5, seed 0",
    "grad_cam": "last layer with positions, upsampled bilinearly to 224 px",
    "spectrum": "Hann window, each map divided by its standard deviation",
    "perturbations": "32 draws per kind and size, seed 1, the same for every image",
    "deletion": "28 steps, baseline zero, cutoff 15 cycles per image",
}
REDUCTIONS = {"signed": channel_sum, "absolute": channel_max_abs}
CUTOFFS = [2, 4, 8, 15, 30, 56, 112, 1000]
KINDS = {"smooth": 2.0, "white": 0.0}
SIZES = [0.05, 0.25]
DRAWS = 32
PIXELS = 224


class RandomScores(nn.Module):
    """A network that looks at nothing: random logits for every row."""

    def __init__(self, seed: int, classes: int = 1000):
        super().__init__()
        self.classes, self.generator = classes, torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn(len(x), self.classes, generator=self.generator)


def reinitialised(model: nn.Module) -> nn.Module:
    """Return a copy of the network with fresh weights, seed 0."""
    import copy

    fresh = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in fresh.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return fresh.eval().requires_grad_(False)


def all_maps(model, folded, untrained, x: Tensor, c: Tensor, seed: int) -> dict:
    """Return every method's map of one image, the controls and the references."""
    samples = next(noisy_gradients(folded, x, c, n_samples=50, noise=0.15, seed=0))
    cam = METHODS["grad_cam"](model, x, c)
    few = dict(n_masks=200)
    scores = RandomScores(seed).eval()
    coarse = torch.randn(1, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    grow = dict(size=x.shape[2:], mode="bilinear", align_corners=False)
    return {
        "gradient": METHODS["gradient"](model, x, c),
        "gradient_x_input": METHODS["gradient_x_input"](model, x, c),
        "integrated_gradients": METHODS["integrated_gradients"](folded, x, c),
        "smoothgrad": samples.mean(0)[None],
        "squaregrad": (samples**2).mean(0)[None],
        "vargrad": samples.var(0)[None],
        "guided_backprop": METHODS["guided_backprop"](model, x, c),
        "grad_cam": F.interpolate(cam, **grow),
        "occlusion": METHODS["occlusion"](folded, x, c),
        "rise": METHODS["rise"](folded, x, c, **few),
        "gradient, untrained net": gradient(untrained, x, c),
        "occlusion, random scores": METHODS["occlusion"](scores, x, c),
        "rise, random scores": METHODS["rise"](scores, x, c, **few),
        "upsampled 7x7 noise": F.interpolate(coarse, **grow),
        "photograph": x,
        "white noise": noise,
    }


def spectra_of(maps: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Return ratio, slope and radial spectrum of every map under both reductions."""
    result = {}
    for name, one in maps.items():
        for reduction, reduce in REDUCTIONS.items():
            flat = reduce(one)
            if flat.std() == 0:  # an empty Grad-CAM: dropped, and counted in the table
                continue
            numbers = [high_frequency_ratio(flat), spectral_slope(flat)]
            values = torch.cat([*numbers, radial_spectrum(flat)[1][0]])
            result[f"spectrum|{name}|{reduction}"] = values.numpy()
    return result


def predictions_of(folded, x, c, g: Tensor, untrained: Tensor) -> dict[str, np.ndarray]:
    """Return the first-order correlation of every filtered gradient."""
    candidates = {f"low-pass {k}": low_pass(g, k) for k in CUTOFFS}
    candidates["high-pass 15"] = g - low_pass(g, 15)
    candidates["untrained net"] = untrained
    slopes = torch.stack(list(candidates.values()), 1)  # (1, G, C, H, W)
    result = {}
    for kind, exponent in KINDS.items():
        for size in SIZES:
            e = power_law_noise(DRAWS, x.shape[1:], exponent, rms=size, seed=1)
            r = first_order_correlation(folded, x, c, slopes, e)[0]
            for name, value in zip(candidates, r, strict=True):
                result[f"prediction|{kind}|{size}|{name}"] = value.numpy()
    return result


def local_shuffle(maps: Tensor, block: int = 16) -> Tensor:
    """Shuffle the pixels inside blocks: the fine pattern goes, the envelope stays."""
    patches = F.unfold(maps, block, stride=block)  # (B, block^2, L)
    generator = torch.Generator().manual_seed(5)
    order = torch.rand(patches.shape, generator=generator).argsort(1)
    shuffled = patches.gather(1, order)
    return F.fold(shuffled, maps.shape[2:], block, stride=block)


def deletions_of(folded, x, c, g: Tensor, untrained: Tensor) -> dict[str, np.ndarray]:
    """Return the deletion curve of the whole gradient, its parts and the controls."""
    high = channel_max_abs(g - low_pass(g, 15))
    ranks = {
        "gradient": channel_max_abs(g),
        "low-pass 15": channel_max_abs(low_pass(g, 15)),
        "high-pass 15": high,
        "high-pass 15, shuffled in 16 px blocks": local_shuffle(high),
        "high-pass 15, untrained net": channel_max_abs(
            untrained - low_pass(untrained, 15)
        ),
        "high-pass 15 of the photograph": channel_max_abs(x - low_pass(x, 15)),
        "random": torch.rand(high.shape, generator=torch.Generator().manual_seed(6)),
    }
    stack = torch.cat(list(ranks.values()))  # (7, 1, H, W)
    n = len(stack)
    curves = deletion_curve(folded, x.expand(n, -1, -1, -1), stack, c.expand(n))
    return {
        f"deletion|{name}": curve.numpy()
        for name, curve in zip(ranks, curves, strict=True)
    }


def run(models: list[str], limit: int | None, backwards: bool) -> None:
    """Write a shard for every correctly classified photograph of every model."""
    photos, commit = load_images("photos"), current_commit()
    for name in models:
        classifier = load_model(name)
        model, untrained = classifier.model, reinitialised(classifier.model)
        folded = fuse(model).to(memory_format=torch.channels_last).eval()
        x = torch.stack([classifier.transform(image) for image in photos.x])
        with torch.no_grad():
            logits = torch.cat([model(part) for part in x.split(8)])
            again = torch.cat([folded(part) for part in x.split(8)])
        gap = (logits - again).abs().max().item()
        right = (logits.argmax(1) == photos.y).nonzero().flatten().tolist()[:limit]
        right = right[::-1] if backwards else right
        print(f"{name}: {len(right)}/{len(x)} right, folding moves logits {gap:.1e}")
        for done, i in enumerate(right, 1):
            shard = SHARDS / name / f"{photos.names[i]}.npz".replace("/", "_")
            if shard.exists():
                continue
            start, one, c = time.time(), x[i : i + 1], photos.y[i : i + 1]
            maps = all_maps(model, folded, untrained, one, c, seed=i)
            g, g0 = maps["gradient"], maps["gradient, untrained net"]
            result = spectra_of(maps)
            result |= predictions_of(folded, one, c, g, g0)
            result |= deletions_of(folded, one, c, g, g0)
            result["seconds"], result["gap"] = time.time() - start, gap
            result["commit"] = commit
            save(shard, result)
            seconds = result["seconds"]
            print(
                f"  {done}/{len(right)} {photos.names[i]} {seconds:.0f} s", flush=True
            )


def provenance(shards: list[Path], seconds: float, commits: set[str]) -> str:
    """Return the lines that stand above every table."""
    last = max(shard.stat().st_mtime for shard in shards)
    lines = {
        "script": "data/results/spectra.py",
        "commit": " and ".join(sorted(commits)),
        "date": time.strftime("%Y-%m-%d", time.gmtime(last)),
        "versions": f"xai_lib {xai_lib.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "device": f"CPU ({platform.machine()}), 1 thread per model",
        "seconds": f"{seconds:.0f}, all shards together, two processes on a busy "
        "machine",
        "images": "photos, every correctly classified one; BatchNorm folded into the "
        "convolutions for the methods that need many passes",
        **SETTINGS,
    }
    return "".join(f"# {key}: {value}\n" for key, value in lines.items())


def tables() -> None:
    """Join the shards into the CSV files beside this script."""
    shards = sorted(SHARDS.glob("*/*.npz"))
    if not shards:
        sys.exit(f"no shards below {SHARDS}: run the script with 'run' first")
    ratios, predicted, deleted, seconds, curves = [], [], [], 0.0, {}
    commits = set()
    for shard in shards:
        model, image = shard.parent.name, shard.stem
        with np.load(shard) as arrays:
            seconds += float(arrays["seconds"])
            commits.add(str(arrays["commit"]))
            for key in arrays.files:
                kind, *rest = key.split("|")
                values = arrays[key]
                if kind == "spectrum":
                    pair = (f"{values[0]:.5g}", f"{values[1]:.4f}")
                    ratios.append((model, image, *rest, *pair))
                    curves.setdefault((model, *rest), []).append(values[2:])
                elif kind == "prediction":
                    predicted.append((model, image, *rest, f"{float(values):.4f}"))
                elif kind == "deletion":
                    curves.setdefault((model, *rest), []).append(values)
                    auc = np.trapezoid(values, dx=1 / (len(values) - 1))
                    deleted.append((model, image, *rest, f"{auc:.5f}"))
    head = provenance(shards, seconds, commits)
    write_table(
        "spectra.csv",
        head,
        "model,image,map,reduction,high_frequency_ratio,slope",
        ratios,
    )
    write_table(
        "prediction.csv", head, "model,image,noise,rms,slope,correlation", predicted
    )
    write_table("deletion.csv", head, "model,image,map,auc", deleted)
    write_curves(head, curves)


def write_curves(head: str, curves: dict[tuple, list[np.ndarray]]) -> None:
    """Write median and quartiles over images of every spectrum and deletion curve."""
    spectra, deletions = [], []
    for (model, *rest), values in curves.items():
        low, mid, high = np.quantile(np.stack(values), [0.25, 0.5, 0.75], axis=0)
        if len(rest) == 1:
            steps = np.arange(len(mid)) / (len(mid) - 1)
            rows = zip(steps, low, mid, high, strict=True)
            deletions += [
                (model, *rest, *(f"{value:.4f}" for value in row)) for row in rows
            ]
            continue
        frequency = np.arange(1, len(mid) + 1)
        keep = np.unique(np.geomspace(1, len(mid), 32).round().astype(int)) - 1
        spectra += [
            (model, *rest, frequency[k], *(f"{v[k]:.4g}" for v in (low, mid, high)))
            for k in keep
        ]
    columns = "model,map,reduction,frequency,quartile_1,median,quartile_3"
    write_table("spectra_curves.csv", head, columns, spectra)
    columns = "model,map,deleted,quartile_1,median,quartile_3"
    write_table("deletion_curves.csv", head, columns, deletions)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "tables"])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--limit", type=int, help="photographs per model, for a trial")
    parser.add_argument("--backwards", action="store_true", help="last one first")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.what == "run":
        run(chosen.models, chosen.limit, chosen.backwards)
    else:
        tables()
