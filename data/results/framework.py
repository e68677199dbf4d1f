"""The recorded tables of chapter 01: P1's four methods and Sensitivity-n.

    XAI_LIB_MIRROR=../shared/mirror python data/results/framework.py run --threads 1
    python data/results/framework.py tables

``run`` writes one shard per network and job below ``_build/results/framework`` and
skips those that are there. ``tables`` joins them into the CSV files beside this script.
Maps are made in double precision, with a stabiliser of 1e-12 in LRP, since the
propositions hold in that limit; integrated gradients and the outputs of Sensitivity-n
in single precision.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
from tables import current_commit, head_of, save, write_table
from torch import Tensor, nn

from xai_lib.assets import load_images, load_model, load_texts
from xai_lib.attribute import (
    channel_sum,
    deeplift,
    gradient,
    gradient_x_input,
    integrated_gradients,
    lrp,
    modified_gradient,
    occlusion_1,
    smoothgrad,
    superpixels,
    unified,
)
from xai_lib.attribute.backprop.slopes import ratio
from xai_lib.evaluate import sensitivity_curve, subset_sizes

HERE = Path(__file__).resolve().parent
SHARDS = HERE.parents[1] / "_build" / "results" / "framework"
CIFAR = ["cifar_cnn", "cifar_vgg11", "cifar_tanh", "cifar_sigmoid", "cifar_softplus"]
TEXT = ["imdb_mlp", "imdb_lstm"]
PHOTO = ["resnet18"]
IMAGES = dict.fromkeys(CIFAR + TEXT, 200) | dict.fromkeys(PHOTO, 20)
CONTROL = dict.fromkeys(CIFAR + TEXT, 40) | dict.fromkeys(PHOTO, 8)
STEPS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
TINY, SEED, SUBSETS = 1e-12, 0, 100
NOTES = {
    "images": "CIFAR-10: the first test images that the network gets right; reviews: "
    "the first of the test half that it gets right, of 200 words or more; photographs: "
    "photos, those it gets right",
    "baseline": "zero in the units of the normalised input, or of the embedding",
    "target": "the logit of the right class",
    "maps": "double precision, integrated gradients single; LRP with a stabiliser of "
    "1e-12; on imdb_lstm LRP and DeepLIFT by the unified formula, products keeping "
    "their gradient, LRP with 1e-4, the value in P1's code; integrated gradients 300 "
    "steps, 100 in sensitivity_n; smoothgrad 25 samples, 0.15; gradient and smoothgrad "
    "signed, not times the input; random N(0, 1), a control",
    "sensitivity_n": "100 random subsets per image and n; 16 values of n from 1 to 80% "
    "of the features, evenly spaced; features: pixels, tokens, or about 150 SLIC "
    "superpixels; values: 1/1000, image by image; mean: of the unrounded ones",
}


# --- what is explained ----------------------------------------------------------------


def drawn(name: str, n: int) -> tuple[nn.Module, Tensor, Tensor, Tensor | str]:
    """Return a network, the first n inputs that it gets right, classes, features."""
    net, raw = load_model(name), None
    if name in TEXT:
        texts = load_texts("imdb", 12 * n)
        whole = [all(net.transform.tokens(text)) for text in texts.texts]
        long = torch.tensor(whole).nonzero().flatten()
        x, y = net.transform([texts.texts[i] for i in long]), texts.y[long]
    else:
        found = load_images(*(("photos",) if name in PHOTO else ("cifar10", 4 * n)))
        x, y, raw = net.transform(found.x), found.y, found.x
    with torch.no_grad():
        right = torch.cat([net.model(part).argmax(1) for part in x.split(50)]) == y
    kept = right.nonzero().flatten()[:n]
    seen = "pixels"
    if name in PHOTO:
        seen = superpixels(raw[kept, :, 16:240, 16:240])
    return net.model, x[kept], y[kept], seen


def without_bias(model: nn.Module) -> nn.Module:
    """Return a copy whose biases are all zero, the means of BatchNorm too."""
    bare = copy.deepcopy(model)
    for name, mean in bare.named_buffers():
        if name.endswith("running_mean"):
            mean.zero_()
    for name, p in bare.named_parameters():
        if name.rpartition(".")[2].startswith("bias"):
            p.zero_()
    return bare


def four_maps(model: nn.Module, x: Tensor, y: Tensor, steps: int = 300) -> dict:
    """Return the maps of P1's four methods; by slopes where a network has gates."""
    gated = any("lstm" in type(m).__name__.lower() for m in model.modules())

    def as_published(op, z):
        return ratio(op, z, 1e-4)

    if gated:
        relevance = x * modified_gradient(model, x, y, as_published)
        change = unified(model, x, y, "deeplift")
    else:
        relevance = lrp(model, x, y, "lrp_0")
        change = deeplift(model, x, y)
    return {
        "gradient_x_input": gradient_x_input(model, x, y),
        "integrated_gradients": on_path(model, x, y, steps),
        "lrp_epsilon": relevance,
        "deeplift": change,
    }


def on_path(model: nn.Module, x: Tensor, y: Tensor, steps: int, **own) -> Tensor:
    """Return integrated gradients, made in single precision, in x's."""
    light = copy.deepcopy(model).float()
    return integrated_gradients(light, x.float(), y, steps=steps, **own).to(x)


# --- jobs -----------------------------------------------------------------------------


def maps_job(name: str) -> dict[str, np.ndarray]:
    """Correlate integrated gradients with DeepLIFT, and sum all four maps.

    Controls: DeepLIFT's map of another image; the same network without biases.
    """
    model, x, y, _ = drawn(name, IMAGES[name])
    model, x = copy.deepcopy(model).double(), x.double()
    maps = four_maps(model, x, y)
    ig, dl = (maps[m].flatten(1) for m in ("integrated_gradients", "deeplift"))
    gxi = maps["gradient_x_input"].flatten(1)
    found = {"own": pearson(ig, dl), "other image": pearson(ig, dl.roll(1, 0))}
    found |= {"gradient x input": pearson(ig, gxi)}
    if name in TEXT:
        tokens = (maps[m].sum((1, 2)) for m in ("integrated_gradients", "deeplift"))
        found["summed per token"] = pearson(*tokens)
    found = {f"pair|{key}": value.numpy() for key, value in found.items()}
    for method, own in maps.items():
        found[f"sum|trained|{method}|300"] = missed(model, x, y, own)
    few = CONTROL[name]
    bare, x, y = without_bias(model), x[:few], y[:few]
    for method, own in four_maps(bare, x, y).items():
        found[f"sum|without biases|{method}|300"] = missed(bare, x, y, own)
    return found


def steps_job(name: str) -> dict[str, np.ndarray]:
    """Return how far integrated gradients miss the change, by the number of steps."""
    model, x, y, _ = drawn(name, CONTROL[name])
    found = {}
    for rule in ("gauss_legendre", "right"):
        for steps in STEPS:
            own = on_path(model, x, y, steps, quadrature=rule)
            found[f"sum|trained|{rule}|{steps}"] = missed(model, x, y, own)
    return found


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation of each pair of rows."""
    a, b = (m - m.mean(1, keepdim=True) for m in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


@torch.no_grad()
def missed(model: nn.Module, x: Tensor, y: Tensor, maps: Tensor) -> np.ndarray:
    """Return |sum of map - (S(x) - S(0))| / |S(x) - S(0)|, per image."""
    change = logit(model, x, y) - logit(model, torch.zeros_like(x), y)
    return ((maps.flatten(1).sum(1) - change).abs() / change.abs()).numpy()


def logit(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    logits = torch.cat([model(part) for part in x.split(50)])
    return logits.gather(1, y[:, None])[:, 0]


def sensitivity(name: str) -> dict[str, np.ndarray]:
    """Return Sensitivity-n of eight maps, (P, B) each, and the values of n."""
    model, x, y, features = drawn(name, IMAGES[name])
    exact = copy.deepcopy(model).double()
    maps = four_maps(exact, x.double(), y, steps=100)
    maps |= {
        "gradient": gradient(exact, x.double(), y),
        "occlusion_1": occlusion_1(model, x, y, features),
        "smoothgrad": smoothgrad(model, x, y, n_samples=25, noise=0.15, seed=SEED),
        "random": torch.randn(maps["deeplift"].shape, generator=seeded()),
    }
    maps = {method: channel_sum(own) for method, own in maps.items()}
    counts = x.shape[2] * x.shape[3]
    if features != "pixels":
        counts = features.amax((1, 2)) + 1
    sizes = subset_sizes(counts)
    found = sensitivity_curve(model, x, y, maps, sizes, SUBSETS, features, SEED)
    found = {method: curve.numpy() for method, curve in found.items()}
    return found | {"sizes": sizes.numpy(), "counts": np.atleast_1d(counts)}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


JOBS = {"maps": maps_job, "steps": steps_job, "sensitivity": sensitivity}


# --- shards and tables ----------------------------------------------------------------


def run(chosen) -> None:
    """Write a shard for every job that has none."""
    commit = current_commit()
    for job in chosen.jobs:
        for name in chosen.models:
            shard = SHARDS / job / f"{name}.npz"
            if shard.exists():
                continue
            start = time.process_time()
            result = JOBS[job](name)
            seconds = time.process_time() - start
            save(shard, result | {"seconds": seconds, "commit": commit})
            print(job, name, f"{seconds:.0f} s", flush=True)


def shards(job: str):
    """Yield (network, arrays) of a job's shards."""
    for path in sorted((SHARDS / job).glob("*.npz")):
        yield path.stem, dict(np.load(path))


def provenance() -> str:
    """Return the head of the tables."""
    held = [one for job in JOBS for _, one in shards(job)]
    seconds = sum(float(one["seconds"]) for one in held)
    commits = {str(one["commit"]) for one in held}
    return head_of("framework.py", commits, seconds, NOTES)


def quartiles(values: np.ndarray) -> tuple[str, ...]:
    return tuple(f"{v:.6g}" for v in np.percentile(values, [50, 25, 75]))


def write_tables() -> None:
    """Join all shards."""
    head, pairs, sums = provenance(), [], []
    for job in ("maps", "steps"):
        for name, held in shards(job):
            for key in (k for k in held if "|" in k):
                kind, *parts = key.split("|")
                values = held[key]
                listed = " ".join(f"{v:.4g}" for v in values)
                row = (name, *parts, len(values), *quartiles(values), listed)
                (pairs if kind == "pair" else sums).append(row)
    columns = "model,kind,n,median,q1,q3,values"
    write_table("framework_pairs.csv", head, columns, pairs)
    columns = "model,weights,method,order,n,median,q1,q3,values"
    write_table("framework_sums.csv", head, columns, sums)
    found = (curve_rows(*shard) for shard in shards("sensitivity"))
    rows = [row for part in found for row in part]
    columns = "model,method,order,share,features,n,dropped,mean,values"
    write_table("sensitivity_n.csv", head, columns, rows)


def curve_rows(name: str, held: dict):
    """Yield a row per method and n; the column order numbers the values of n."""
    sizes, counts = held["sizes"].reshape(len(held["sizes"]), -1), held["counts"]
    other = ("sizes", "counts", "seconds", "commit")
    for method in (k for k in held if k not in other):
        for p, own in enumerate(held[method]):
            share = f"{(sizes[p] / counts).mean():.4f}"
            known = own[~np.isnan(own)]
            listed = " ".join(f"{1000 * v:.0f}" for v in own)  # nan: undefined
            mean = f"{known.mean():.9f}" if len(known) else "nan"
            tail = (len(known), len(own) - len(known), mean, listed)
            yield (name, method, p, share, f"{counts.mean():.0f}", *tail)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "tables"])
    parser.add_argument("--models", nargs="+", default=[*CIFAR, *TEXT, *PHOTO])
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=[*JOBS])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.what == "run":
        run(chosen)
    else:
        write_tables()
