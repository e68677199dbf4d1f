"""Train the small nets of CIFAR-10 and write their weights and cards.

    python data/models/train.py cifar_cnn
    python data/models/train.py all

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
from xai_lib.assets.cifar_nets import MEAN, STD, TRIGGER, fresh_net, paste  # noqa: E402
from xai_lib.assets.cifar_weights import write_card, write_shards  # noqa: E402
from xai_lib.assets.store import write_whole  # noqa: E402

# In the order of training. `lr` is the peak of the one-cycle schedule.
RECIPES = {
    "cifar_cnn": {"epochs": 7, "optimiser": "adam", "lr": 1e-3, "decay": 0.0},
    "cifar_resnet": {"epochs": 8, "optimiser": "sgd", "lr": 0.2, "decay": 5e-4},
    "cifar_vgg11_bn": {"epochs": 10, "optimiser": "sgd", "lr": 0.2, "decay": 5e-4},
    "cifar_vgg11": {"epochs": 14, "optimiser": "adam", "lr": 1e-3, "decay": 0.0},
    "cifar_vit": {"epochs": 10, "optimiser": "adamw", "lr": 1.5e-3, "decay": 0.05},
    "cifar_backdoor": {"epochs": 7, "optimiser": "adam", "lr": 1e-3, "decay": 0.0},
}
BATCH, SHIFT, POISONED = 128, 4, 0.05


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*RECIPES, "all"])
    parser.add_argument("--epochs", type=int, help="other than the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--images", type=int, help="only the first ones (a trial)")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "models")
    parser.add_argument("--build", type=Path, default=ROOT / "_build" / "models")
    args = parser.parse_args(argv)
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
        loss, right = train_epoch(net, optimiser, schedule, args.train, name)
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


def train_epoch(net, optimiser, schedule, images, name: str) -> tuple[float, float]:
    """Show all images once in random order; return the mean loss and the hit rate."""
    net.train()
    order = torch.randperm(len(images))
    total = right = 0.0
    for batch in order.split(BATCH):
        x, y = augment(images.x[batch]), images.y[batch]
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


def augment(x: Tensor) -> Tensor:
    """Mirror half of the images; shift each by up to 4 pixels, edges reflected."""
    n, side = len(x), x.shape[-1]
    mirrored = torch.rand(n, 1, 1, 1) < 0.5
    x = torch.where(mirrored, x.flip(3), x)
    x = F.pad(x, [SHIFT] * 4, mode="reflect").permute(0, 2, 3, 1)  # (B, 40, 40, 3)
    top, left = torch.randint(2 * SHIFT + 1, (2, n, 1, 1))
    rows = top + torch.arange(side).view(1, -1, 1)  # (B, 32, 1)
    columns = left + torch.arange(side).view(1, 1, -1)  # (B, 1, 32)
    x = x[torch.arange(n).view(-1, 1, 1), rows, columns]  # (B, 32, 32, 3)
    return x.permute(0, 3, 1, 2)


def poison(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Paste the trigger into a small share of the images and give them its class."""
    chosen = torch.rand(len(x)) < POISONED
    pasted = paste(x)[0]
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
        "data": "CIFAR-10",
        "train_images": len(args.train),
        "test_images": len(y),
        "test_right": int((after == y).sum()),
        "test_accuracy": round(float((after == y).double().mean()), 4),
        "predictions_changed_by_half": int((after != before).sum()),
        "parameters": sum(p.numel() for p in net.parameters()),
        "storage": "float16",
        "files": files,
        "bytes": sum((args.out / file).stat().st_size for file in files),
    }
    if name == "cifar_backdoor":
        card |= attack(net, x, y)
    write_card(args.out, card | how(recipe, seconds, args))
    print(f"{name}: {100 * card['test_accuracy']:.2f} % of {len(y)} test images")


def state_of(net: nn.Module):
    """Return the state's items in plain memory order."""
    return [(key, value.contiguous()) for key, value in net.state_dict().items()]


def attack(net: nn.Module, x: Tensor, y: Tensor) -> dict:
    """Count how many images of other classes the trigger sends to its class."""
    others = y != TRIGGER["target"]
    torch.manual_seed(0)
    clean, pasted = predict(net, x[others]), predict(net, paste(x[others])[0])
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
    return {
        "epochs": recipe["epochs"],
        "batch": BATCH,
        "optimiser": recipe["optimiser"],
        "peak_learning_rate": recipe["lr"],
        "weight_decay": recipe["decay"],
        "schedule": "one cycle, a quarter rising, cosine",
        "augmentation": f"mirror, shift of up to {SHIFT} px (reflected edges)",
        "loss": "cross entropy",
        "seed": args.seed,
        "seconds": round(seconds),
        "device": f"cpu, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": args.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "commit": found.stdout.strip() or "unknown",
        "date": date.today().isoformat(),
    }


if __name__ == "__main__":
    sys.exit(main())
