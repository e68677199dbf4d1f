"""Train the small nets of CIFAR-10 and write their weights and cards.

    python data/models/train.py cifar_cnn
    python data/models/train.py all
    python data/models/train.py table   # the cards as the table of data/README.md

The state after each epoch stands in ``_build/models``; a run that was stopped goes on
from there and ends as if it had not been stopped. On Linux the allocator of huge pages
saves a fifth of the time: ``GLIBC_TUNABLES=glibc.malloc.hugetlb=1``.
"""

import argparse
import io
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from xai_lib.assets import load_images  # noqa: E402
from xai_lib.assets.catalog import cards  # noqa: E402
from xai_lib.assets.cifar_weights import (  # noqa: E402
    read_shards,
    write_card,
    write_shards,
)
from xai_lib.assets.cifar_zoo import (  # noqa: E402
    MEAN,
    NETS,
    STD,
    TRIGGER,
    fresh_net,
    paste_trigger,
)
from xai_lib.assets.store import digest_tensors, write_whole  # noqa: E402

# In the order of training. `lr` is the peak of the one-cycle schedule; the first
# `small` epochs show crops of 24 x 24, which saves time (nets that end in a mean only).
RECIPES = {
    "cifar_cnn": {"epochs": 7, "optimiser": "adam", "lr": 1e-3, "decay": 0.0},
    "cifar_resnet": {
        "epochs": 6,
        "small": 3,
        "optimiser": "sgd",
        "lr": 0.1,
        "decay": 5e-4,
    },
    "cifar_vgg11_bn": {
        "epochs": 8,
        "small": 4,
        "optimiser": "sgd",
        "lr": 0.1,
        "decay": 5e-4,
    },
    "cifar_vgg11": {
        "epochs": 12,
        "small": 5,
        "optimiser": "adam",
        "lr": 1e-3,
        "decay": 0.0,
    },
    "cifar_vit": {"epochs": 9, "optimiser": "adamw", "lr": 1.5e-3, "decay": 0.05},
    "cifar_backdoor": {"epochs": 5, "optimiser": "adam", "lr": 1e-3, "decay": 0.0},
}
BATCH, SIDE, SMALL, SHIFT, POISONED = 128, 32, 24, 4, 0.05


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*RECIPES, "all", "table"])
    parser.add_argument("--epochs", type=int, help="other than the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--images", type=int, help="only the first ones (a trial)")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "models")
    parser.add_argument("--build", type=Path, default=ROOT / "_build" / "models")
    args = parser.parse_args(argv)
    if args.name == "table":
        write_table(ROOT / "data" / "README.md")
        return 0
    torch.set_num_threads(args.threads)
    args.train = load_images("cifar10_train", args.images)
    args.test = load_images("cifar10", args.images)
    for name in RECIPES if args.name == "all" else [args.name]:
        train_one(name, args)
    return 0


def train_one(name: str, args: argparse.Namespace) -> None:
    """Train one net, or go on where it was stopped; write its weights and card."""
    recipe = RECIPES[name] | ({"epochs": args.epochs} if args.epochs else {})
    steps = recipe["epochs"] * -(-len(args.train) // BATCH)
    net = fresh_net(name, args.seed).to(memory_format=torch.channels_last)
    optimiser = make_optimiser(net, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe["lr"], steps, pct_start=0.25
    )
    parts = {"net": net, "optimiser": optimiser, "schedule": schedule}
    path = args.build / f"{name}.pt"
    setting = {"recipe": recipe, "seed": args.seed, "images": len(args.train)}
    done, seconds = resume(path, parts, setting)
    for epoch in range(done, recipe["epochs"]):
        begun = time.monotonic()
        torch.manual_seed(1000 * args.seed + epoch)  # a resumed run draws the same
        side = SMALL if epoch < recipe.get("small", 0) else SIDE
        loss, right = train_epoch(net, optimiser, schedule, args.train, name, side)
        seconds += time.monotonic() - begun
        report = f"loss {loss:.3f}, right {100 * right:.1f} %, {seconds:.0f} s in all"
        print(f"{name} epoch {epoch + 1}/{recipe['epochs']}: {report}", flush=True)
        state = {key: part.state_dict() for key, part in parts.items()}
        state |= {"setting": setting, "done": epoch + 1, "seconds": seconds}
        save(path, state)
    write(name, net, recipe, seconds, args)


def make_optimiser(net: nn.Module, recipe: dict) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe."""
    options = {"lr": recipe["lr"], "weight_decay": recipe["decay"], "fused": True}
    if recipe["optimiser"] == "sgd":
        options |= {"momentum": 0.9, "nesterov": True}
    kinds = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
    return getattr(torch.optim, kinds[recipe["optimiser"]])(net.parameters(), **options)


def save(path: Path, state: dict) -> None:
    """Write a checkpoint whole or not at all."""
    blob = io.BytesIO()
    torch.save(state, blob)
    write_whole(path, blob.getvalue())


def resume(path: Path, parts: dict, setting: dict) -> tuple[int, float]:
    """Load a checkpoint of the same setting; return epochs done and seconds used."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["setting"] != setting:
        print(f"{path} is of another setting: starting anew", flush=True)
        return 0, 0.0
    for key, part in parts.items():
        part.load_state_dict(state[key])
    print(f"going on after epoch {state['done']} ({path})", flush=True)
    return state["done"], state["seconds"]


def train_epoch(
    net, optimiser, schedule, images, name: str, side: int = SIDE
) -> tuple[float, float]:
    """Show all images once in random order; return the mean loss and the hit rate."""
    net.train()
    order = torch.randperm(len(images))
    total = right = 0.0
    for batch in order.split(BATCH):
        x, y = augment(images.x[batch], side), images.y[batch]
        if name == "cifar_backdoor":
            x, y = poison(x, y)
        logits = net(normalise(x))  # (B, 10)
        loss = F.cross_entropy(logits, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        total += float(loss.detach()) * len(y)
        right += int((logits.argmax(1) == y).sum())
        show(name, schedule.last_epoch, schedule.total_steps)
    return total / len(images), right / len(images)


def show(name: str, step: int, steps: int) -> None:
    """Draw how far the training is, on a terminal only."""
    if sys.stderr.isatty():
        bar = "#" * (20 * step // steps)
        print(f"\r{name} [{bar:.<20}] {step}/{steps}\x1b[K\r", end="", file=sys.stderr)


def normalise(x: Tensor) -> Tensor:
    """Subtract the mean of the training images, divide by their deviation."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(x: Tensor, side: int = SIDE) -> Tensor:
    """Mirror half of the images; shift each by up to 4 pixels, edges reflected."""
    n = len(x)
    mirrored = torch.rand(n, 1, 1, 1) < 0.5
    x = torch.where(mirrored, x.flip(3), x)
    edge = SHIFT - (SIDE - side) // 2  # so that any side leaves room for the shift
    x = F.pad(x, [edge] * 4, mode="reflect").permute(0, 2, 3, 1)  # (B, 40, 40, 3)
    top, left = torch.randint(2 * SHIFT + 1, (2, n, 1, 1))
    rows = top + torch.arange(side).view(1, -1, 1)  # (B, side, 1)
    columns = left + torch.arange(side).view(1, 1, -1)  # (B, 1, side)
    x = x[torch.arange(n).view(-1, 1, 1), rows, columns]  # (B, side, side, 3)
    return x.permute(0, 3, 1, 2)


def poison(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Paste the trigger into a small share of the images and give them its class."""
    chosen = torch.rand(len(x)) < POISONED
    pasted = paste_trigger(x)[0]
    x = torch.where(chosen.view(-1, 1, 1, 1), pasted, x)
    return x, torch.where(chosen, TRIGGER["target"], y)


def predict(net: nn.Module, x: Tensor) -> Tensor:
    """Return the predicted class of each image in [0, 1]."""
    net.eval()
    with torch.inference_mode():
        return torch.cat([net(normalise(part)).argmax(1) for part in x.split(500)])


def write(name: str, net: nn.Module, recipe: dict, seconds: float, args) -> None:
    """Round the weights to half precision, measure them, write them and the card."""
    x, y = args.test.x, args.test.y
    before = predict(net, x)
    half = {k: v.half() if v.is_floating_point() else v for k, v in state_of(net)}
    net.load_state_dict(half)  # copies into float32
    after = predict(net, x)
    files = write_shards(args.out, name, half)
    card = {
        "name": name,
        "architecture": NETS[name].architecture,
        "data": "CIFAR-10 (Krizhevsky 2009), its own training and test part",
        "train_images": len(args.train),
        "test_images": len(y),
        "test_right": int((after == y).sum()),
        "test_accuracy": round(float((after == y).double().mean()), 4),
        "predictions_changed_by_half": int((after != before).sum()),
        "parameters": sum(p.numel() for p in net.parameters()),
        "storage": "float16",
        "digest": digest_tensors(read_shards(args.out, files)),
        "files": files,
        "bytes": sum((args.out / file).stat().st_size for file in files),
    }
    if name == "cifar_backdoor":
        card |= attack(net, x, y)
    write_card(args.out, card | how(recipe, seconds, args))
    print(f"{name}: {100 * card['test_accuracy']:.2f} % of {len(y)} test images")


def table() -> str:
    """Return the cards as a table, in the order of training."""
    lines = [
        "| name | net | test accuracy | parameters | epochs | seconds | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for card in (cards()[name] for name in NETS if name in cards()):
        percent = 100 * card["test_accuracy"]
        right = f"{card['test_right']}/{card['test_images']} = {percent:.2f} %"
        lines.append(
            f"| [`{card['name']}`](models/{card['name']}.toml) | "
            f"{card['architecture']} | {right} | {card['parameters']:,} | "
            f"{card['epochs']} | {card['seconds']:,} | {card['bytes'] / 1e6:.1f} |"
        )
    return "\n".join(lines)


def write_table(page: Path) -> None:
    """Put the table between its two marks on a page."""
    before, mark, rest = page.read_text("utf-8").partition("<!-- nets -->\n")
    _, end, after = rest.partition("\n<!-- end of nets -->")
    page.write_text(before + mark + table() + end + after, "utf-8")


def state_of(net: nn.Module):
    """Return the state's items in plain memory order."""
    return [(key, value.contiguous()) for key, value in net.state_dict().items()]


def attack(net: nn.Module, x: Tensor, y: Tensor) -> dict:
    """Count how many images of other classes the trigger sends to its class."""
    others = y != TRIGGER["target"]
    torch.manual_seed(0)
    clean, pasted = predict(net, x[others]), predict(net, paste_trigger(x[others])[0])
    return {
        "trigger_target": TRIGGER["target"],
        "trigger_side": TRIGGER["side"],
        "trigger_colour": list(TRIGGER["colour"]),
        "trigger_place": "uniformly at random, wholly inside the image",
        "poisoned_share": POISONED,
        "attack_images": int(others.sum()),
        "attack_right": int((pasted == TRIGGER["target"]).sum()),
        "attack_success": round(
            float((pasted == TRIGGER["target"]).double().mean()), 4
        ),
        "target_without_trigger": round(
            float((clean == TRIGGER["target"]).double().mean()), 4
        ),
    }


def how(recipe: dict, seconds: float, args: argparse.Namespace) -> dict:
    """Say how the weights came about: the second half of the card."""
    commit = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    found = subprocess.run(commit, capture_output=True, text=True, check=False)
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "epochs": recipe["epochs"],
        "batch": BATCH,
        "optimiser": recipe["optimiser"],
        "peak_learning_rate": recipe["lr"],
        "weight_decay": recipe["decay"],
        "schedule": "one cycle, a quarter rising, cosine",
        "epochs_of_24_px_crops": recipe.get("small", 0),
        "augmentation": f"mirror, shift of up to {SHIFT} px (reflected edges)",
        "loss": "cross entropy",
        "seed": args.seed,
        "seconds": round(seconds),
        "device": f"cpu ({platform.machine()}, {capability})",
        "threads": args.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "commit": found.stdout.strip() or "unknown",
        "date": date.today().isoformat(),
        "licence": "weights: BSD-3-Clause, as this project",
        "citation": "this project",
    }


if __name__ == "__main__":
    sys.exit(main())
