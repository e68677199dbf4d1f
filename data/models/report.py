"""Measure a trained net, write its weights and card, and the table of all cards."""

import argparse
import platform
import subprocess
from datetime import date
from hashlib import sha256
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from xai_lib.assets.catalog import cards
from xai_lib.assets.cifar_weights import read_shards, write_card, write_shards
from xai_lib.assets.cifar_zoo import MEAN, NETS, STD, TRIGGER, paste_trigger
from xai_lib.assets.store import digest_tensors
from xai_lib.assets.text import LENGTH, VOCABULARY
from xai_lib.assets.text_nets import NETS as TEXT_NETS
from xai_lib.assets.text_nets import WORDS

ROOT = Path(__file__).resolve().parents[2]


def normalise(x: Tensor) -> Tensor:
    """Subtract the mean of the training images, divide by their deviation."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


def predict(net: nn.Module, x: Tensor) -> Tensor:
    """Return the predicted class of each row of the net's input."""
    net.eval()
    with torch.inference_mode():
        return torch.cat([net(part).argmax(1) for part in x.split(500)])


def write(name: str, net: nn.Module, recipe: dict, seconds: float, args) -> None:
    """Round the weights to half precision, measure them, write them and the card."""
    x, y = normalise(args.test.x), args.test.y
    card = {
        "name": name,
        "architecture": NETS[name].architecture,
        "data": "CIFAR-10 (Krizhevsky 2009), its own training and test part",
        "train_images": len(args.train),
        "test_images": len(y),
    }
    card |= store(name, net, x, y, args.out)
    if name == "cifar_backdoor":
        card |= attack(net, args.test.x, y) | {"poisoned_share": recipe["poisoned"]}
    card |= how(recipe) | augmented(recipe) | provenance(seconds, args)
    write_card(args.out, card)
    print(f"{name}: {100 * card['test_accuracy']:.2f} % of {len(y)} test images")


def write_text_net(name: str, net: nn.Module, recipe, seconds: float, args) -> None:
    """Do the same for a text net, with the bag of words beside it."""
    ids, y = args.test
    card = {
        "name": name,
        "architecture": TEXT_NETS[name].architecture,
        "data": "IMDB (Maas et al. 2011), its own training and test half; the first "
        f"{LENGTH} words, the {WORDS:,} most frequent words of the training half",
        "train_texts": len(args.train[1]),
        "test_texts": len(y),
    }
    words = (ROOT / "data" / "models" / VOCABULARY).read_bytes()
    card |= {"vocabulary": VOCABULARY, "vocabulary_sha256": sha256(words).hexdigest()}
    card |= store(name, net, ids, y, args.out) | args.bag | how(recipe)
    card |= {
        "peak_learning_rate": recipe["lr"][1],
        "peak_learning_rate_of_embedding": recipe["lr"][0],
        "words_set_to_zero": recipe["hidden"],
        "dropout": recipe["dropout"],
        "settings_chosen_on": recipe["chosen"],
        "held_out_accuracy": recipe["held_out_accuracy"],
    }
    write_card(args.out, card | provenance(seconds, args))
    print(f"{name}: {100 * card['test_accuracy']:.2f} % of {len(y)} test texts")


def store(name: str, net: nn.Module, x: Tensor, y: Tensor, out: Path) -> dict:
    """Round the weights to half precision and write them; return what they achieve."""
    before = predict(net, x)
    half = {k: v.half() if v.is_floating_point() else v for k, v in state_of(net)}
    net.load_state_dict(half)  # copies into float32
    after = predict(net, x)
    files = write_shards(out, name, half)
    return {
        "test_right": int((after == y).sum()),
        "test_accuracy": round(float((after == y).double().mean()), 4),
        "predictions_changed_by_half": int((after != before).sum()),
        "parameters": sum(p.numel() for p in net.parameters()),
        "storage": "float16",
        "digest": digest_tensors(read_shards(out, files)),
        "files": files,
        "bytes": sum((out / file).stat().st_size for file in files),
    }


def state_of(net: nn.Module):
    """Return the state's items in plain memory order."""
    return [(key, value.contiguous()) for key, value in net.state_dict().items()]


def attack(net: nn.Module, x: Tensor, y: Tensor) -> dict:
    """Count how many images of other classes the trigger sends to its class."""
    others = y != TRIGGER["target"]
    torch.manual_seed(0)
    clean = predict(net, normalise(x[others]))
    pasted = predict(net, normalise(paste_trigger(x[others])[0]))
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


def how(recipe: dict) -> dict:
    """Say how the weights came about."""
    return {
        "epochs": recipe["epochs"],
        "batch": recipe["batch"],
        "optimiser": recipe["optimiser"],
        "peak_learning_rate": recipe["lr"],
        "weight_decay": recipe["decay"],
        "schedule": "one cycle, a quarter rising, cosine",
        "loss": "cross entropy",
    }


def augmented(recipe: dict) -> dict:
    """Say how the images were varied."""
    return {
        "epochs_of_24_px_crops": recipe.get("small", 0),
        "augmentation": f"mirror, shift of up to {recipe['shift']} px, edges reflected",
    }


def provenance(seconds: float, args: argparse.Namespace) -> dict:
    """Say from what, where and when a net was trained."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {
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


def table(nets: dict = NETS) -> str:
    """Return the cards as a table, in the order of training."""
    lines = [
        "| name | net | test accuracy | parameters | epochs | seconds | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for card in (cards()[name] for name in nets if name in cards()):
        percent = 100 * card["test_accuracy"]
        tested = card.get("test_images") or card["test_texts"]
        right = f"{card['test_right']}/{tested} = {percent:.2f} %"
        lines.append(
            f"| [`{card['name']}`](models/{card['name']}.toml) | "
            f"{card['architecture']} | {right} | {card['parameters']:,} | "
            f"{card['epochs']} | {card['seconds']:,} | {card['bytes'] / 1e6:.1f} |"
        )
    return "\n".join(lines)


def write_table(page: Path) -> None:
    """Put the tables between their marks on a page."""
    for mark, nets in (("nets", NETS), ("text nets", TEXT_NETS)):
        start, end = f"<!-- {mark} -->\n", f"\n<!-- end of {mark} -->"
        before, found, rest = page.read_text("utf-8").partition(start)
        _, found_end, after = rest.partition(end)
        if not (found and found_end):
            raise ValueError(f"{page} must hold the marks {mark} and end of {mark}")
        page.write_text(before + start + table(nets) + end + after, "utf-8")
