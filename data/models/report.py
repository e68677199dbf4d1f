"""Measure a trained net, write its weights and card, and the table of all cards."""

import argparse
import platform
import subprocess
from datetime import date
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from xai_lib.assets.catalog import cards
from xai_lib.assets.cifar_weights import read_shards, write_card, write_shards
from xai_lib.assets.cifar_zoo import MEAN, NETS, STD, TRIGGER, paste_trigger
from xai_lib.assets.store import digest_tensors

ROOT = Path(__file__).resolve().parents[2]


def normalise(x: Tensor) -> Tensor:
    """Subtract the mean of the training images, divide by their deviation."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


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
        card |= attack(net, x, y) | {"poisoned_share": recipe["poisoned"]}
    write_card(args.out, card | how(recipe, seconds, args))
    print(f"{name}: {100 * card['test_accuracy']:.2f} % of {len(y)} test images")


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
        "attack_images": int(others.sum()),
        "attack_right": int((pasted == TRIGGER["target"]).sum()),
        "attack_success": round(
            float((pasted == TRIGGER["target"]).double().mean()), 4
        ),
        "target_without_trigger": round(
            float((clean == TRIGGER["target"]).double().mean()), 4
        ),
    }


def commit() -> str:
    """Return the commit that is checked out."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def how(recipe: dict, seconds: float, args: argparse.Namespace) -> dict:
    """Say how the weights came about: the second half of the card."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "epochs": recipe["epochs"],
        "batch": recipe["batch"],
        "optimiser": recipe["optimiser"],
        "peak_learning_rate": recipe["lr"],
        "weight_decay": recipe["decay"],
        "schedule": "one cycle, a quarter rising, cosine",
        "epochs_of_24_px_crops": recipe.get("small", 0),
        "augmentation": f"mirror, shift of up to {recipe['shift']} px, edges reflected",
        "loss": "cross entropy",
        "seed": args.seed,
        "seconds": round(seconds),
        "device": f"cpu ({platform.machine()}, {capability})",
        "threads": args.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "commit": args.commit,
        "date": date.today().isoformat(),
        "licence": "weights: BSD-3-Clause, as this project",
        "citation": "this project",
    }


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
    if not (mark and end):
        raise ValueError(f"{page} must hold the marks nets and end of nets")
    page.write_text(before + mark + table() + end + after, "utf-8")
