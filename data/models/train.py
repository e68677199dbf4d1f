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
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

from report import commit, normalise, write, write_table  # noqa: E402

from xai_lib.assets import load_images, paste_trigger  # noqa: E402
from xai_lib.assets.cifar_nets import POOLS  # noqa: E402
from xai_lib.assets.cifar_zoo import NETS, SEEDS, TRIGGER, fresh_net  # noqa: E402
from xai_lib.assets.store import write_whole  # noqa: E402

# In the order of training. `lr` is the peak of the one-cycle schedule; the first
# `small` epochs show crops of 24 x 24, which saves time (nets that end in a mean only).
RECIPES = {
    "cifar_cnn": {"epochs": 7, "optimiser": "adam", "lr": 1e-3, "decay": 0.0},
    "cifar_resnet": {
        "epochs": 10,
        "small": 5,
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
        "epochs": 24,
        "small": 10,
        "optimiser": "adam",
        "lr": 1e-3,
        "decay": 0.0,
    },
    "cifar_vit": {"epochs": 14, "optimiser": "adamw", "lr": 1.5e-3, "decay": 0.05},
    "cifar_backdoor": {"epochs": 5, "optimiser": "adam", "lr": 1e-3, "decay": 0.0},
    "cifar_tanh": {"epochs": 30, "optimiser": "adam", "lr": 2e-3, "decay": 0.0},
    "cifar_sigmoid": {"epochs": 30, "optimiser": "adam", "lr": 5e-3, "decay": 0.0},
    "cifar_softplus": {"epochs": 30, "optimiser": "adam", "lr": 2e-3, "decay": 0.0},
} | {
    f"cifar_{kind}_{seed}": {
        "epochs": 8,
        "small": 4,
        "optimiser": "sgd",
        "lr": 0.1,
        "decay": 5e-4,
    }
    for seed in SEEDS
    for kind in POOLS
}
BATCH, SIDE, SMALL, SHIFT, POISONED = 128, 32, 24, 4, 0.05


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*RECIPES, "all", "table"])
    parser.add_argument("--epochs", type=int, help="other than the recipe's")
    parser.add_argument("--seed", type=int, help="other than the net's own")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--images", type=int, help="only the first ones (a trial)")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "models")
    parser.add_argument("--build", type=Path, default=ROOT / "_build" / "models")
    args = parser.parse_args(argv)
    if args.name == "table":
        write_table(ROOT / "data" / "README.md")
        return 0
    torch.set_num_threads(args.threads)
    args.commit = commit()  # now: others may commit while this runs
    args.train = load_images("cifar10_train", args.images)
    args.test = load_images("cifar10", args.images)
    for name in RECIPES if args.name == "all" else [args.name]:
        seed = NETS[name].seed if args.seed is None else args.seed
        train_one(name, argparse.Namespace(**vars(args) | {"seed": seed}))
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
    recipe |= {"batch": BATCH, "shift": SHIFT, "poisoned": POISONED}
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


if __name__ == "__main__":
    sys.exit(main())
