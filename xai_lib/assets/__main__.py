"""``python -m xai_lib.assets``: list, fetch, and check the assets."""

import argparse
import sys

import torch

from .._paths import cache_dir
from .catalog import Asset, cards, catalog
from .cifar_zoo import NETS
from .fetch import AssetError, fetch, find
from .images import load_images
from .models import load_model


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    args = _parser().parse_args(argv)
    try:
        if args.verb == "fetch":
            _fetch(args)
        elif args.verb == "accuracy":
            _accuracy(args.images)
        else:
            _list()
    except (AssetError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xai_lib.assets", description=__doc__
    )
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("list", help="what there is (the default)")
    one = verbs.add_parser("fetch", help="bring assets into the cache")
    one.add_argument("names", nargs="*", metavar="NAME")
    one.add_argument(
        "--all-registry", action="store_true", help="all that a package registry has"
    )
    top1 = verbs.add_parser("accuracy", help="top-1 of the models on labelled images")
    top1.add_argument("--images", default="photos", help="image set or folder")
    return parser


def _on_registry(asset: Asset) -> bool:
    """Tell whether every part of the asset can come from a package registry."""
    parts = {source.part for source in asset.sources}
    return parts == {s.part for s in asset.sources if s.kind in ("pypi", "npm")}


def _list() -> None:
    print(f"cache: {cache_dir()}")
    for asset in catalog().values():
        here = "cached" if asset.path.exists() else "not cached"
        print(f"\n{asset.name}  [{asset.kind}, {asset.megabytes:g} MB, {here}]")
        for source in asset.sources:
            print(f"  from     {source}")
        print(f"  licence  {asset.licence}")
    for name, card in cards().items():
        print(f"\n{name}  [model, {card['bytes'] / 1e6:.1f} MB, comes with xai_lib]")
        print(f"  licence  {card['licence']}")
    print("\nand every classifier of torchvision, from torchvision's own download")


def _fetch(args: argparse.Namespace) -> None:
    names = args.names
    if args.all_registry:
        names = names + [n for n, a in catalog().items() if _on_registry(a)]
    if not names:
        raise ValueError("fetch wants names or --all-registry, got neither")
    ours = cards()
    wanted = [None if name in ours else find(name) for name in names]  # or refuse all
    for name, asset in zip(names, wanted, strict=True):
        print(f"{name}: {fetch(asset.name) if asset else 'comes with xai_lib'}")


def _accuracy(images: str) -> None:
    photos = load_images(images)
    if photos.y is None:
        raise ValueError(f"accuracy wants labelled images, got {images} without labels")
    small = photos.x.shape[-1] == 32  # CIFAR-10 is for our own nets
    fetched = [n for n, a in catalog().items() if a.kind == "model"]
    ours = [name for name in cards() if name in NETS]
    print(f"{'model':<20} {'top-1 on ' + images:<24} top-1, as reported")
    for name in ours if small else fetched:
        net = load_model(name)
        with torch.no_grad():
            logits = [net.model(net.transform(x)) for x in photos.x.split(10)]
        right = int((torch.cat(logits).argmax(1) == photos.y).sum())
        share = f"{right}/{len(photos)} = {100 * right / len(photos):.1f} %"
        reported = f"{net.card['reported_top1']} % ({net.card['reported_by']})"
        print(f"{name:<20} {share:<24} {reported}")


if __name__ == "__main__":
    sys.exit(main())
