"""``python -m xai_lib.study``: models x methods x cutoffs x metrics x images, as CSV.

Without options a small grid, in about half a minute. Stopped and started again with the
same options it goes on where it was; other options never mix with what is there.
"""

import argparse
import json
import sys

from xai_lib.analyse.filters import KINDS
from xai_lib.assets import AssetError, list_images
from xai_lib.assets.catalog import cards, catalog
from xai_lib.assets.text_nets import NETS as TEXT_NETS
from xai_lib.attribute import METHODS
from xai_lib.study.grid import FAILED, Grid, run
from xai_lib.study.metrics import METRICS, READINGS
from xai_lib.study.units import CONTROLS

FIELDS = ("models", "methods", "cutoffs", "metrics", "images", "n", "only_correct")
FIELDS += ("kind", "reading", "settings", "seed", "block", "threads", "device")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    args = _parser().parse_args(argv)
    try:
        given = {name: getattr(args, name) for name in FIELDS}
        for name, table in (("methods", METHODS), ("metrics", METRICS)):
            if given[name] == ["all"]:
                given[name] = list(table)
        table = run(Grid(**given), args.out, cluster=args.cluster)
    except (AssetError, ImportError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on with {args.out}", file=sys.stderr)
        return 130
    return _tell(table, args.out)


def _tell(table, out: str) -> int:
    """Print the means over images; return 1 if a unit failed, not just refused."""
    metrics = [name for name in METRICS if name in table]
    groups = table.groupby(["model", "method", "cutoff"], sort=False)
    means = groups[[*metrics, "seconds"]].mean()
    print(f"mean over images\n{means.to_string(float_format='%.3f', na_rep='-')}")
    notes = table["note"].dropna().astype(str)
    for (model, method), said in notes.groupby([table["model"], table["method"]]):
        print(f"{model}, {method}: {len(said)} rows with a note: {said.iloc[0]}")
    print(f"{out}: {len(table)} rows")
    failed = int(notes.str.startswith(FAILED).sum())
    if failed:
        again = "the same command tries them again"
        print(f"{failed} rows failed; {again}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    small, head = Grid(), argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m xai_lib.study",
        description=__doc__.replace("``", ""),
        epilog=_known(),
        formatter_class=head,
    )

    def add(name: str, meaning: str, **how) -> None:
        default = how.setdefault("default", getattr(small, how.get("dest", name), None))
        shown = (
            default if not isinstance(default, tuple) else " ".join(map(_g, default))
        )
        text = meaning if shown in (None, False, {}) else f"{meaning} ({shown})"
        parser.add_argument(f"--{name.replace('_', '-')}", help=text, **how)

    several = {"nargs": "+", "metavar": "NAME"}
    add("models", "what is explained", **several)
    add("methods", "methods and controls, or all", **several)
    cutoffs = "of the low-pass filter, in cycles per image; inf for none"
    add("cutoffs", cutoffs, nargs="+", type=float, metavar="CYCLES")
    add("metrics", "what a map is judged by, or all", **several)
    add("set", "image set, or a folder", dest="images", metavar="NAME")
    add("images", "how many, the first ones, or all", dest="n", type=_n, metavar="N")
    correct = "only images that the model classifies as labelled"
    add("only_correct", correct, action="store_true")
    add("kind", "of the filter", choices=list(KINDS))
    add("reading", "of maps for all metrics", choices=list(READINGS))
    example = """as JSON: '{"rise": {"n_masks": 500}}'"""
    add("settings", f"of methods and metrics, {example}", type=_json, metavar="JSON")
    add("seed", "of everything random", type=int, metavar="N")
    add("block", "images per unit of work", type=int, metavar="N")
    add("threads", "of the processor per unit", type=int, metavar="N")
    add("device", "cpu, cuda or cuda:1", metavar="NAME")
    add("out", "the table", default="grid.csv", metavar="FILE")
    where = "run on a Dask cluster: its scheduler, tcp://HOST:8786"
    add("cluster", where, metavar="ADDRESS")
    return parser


def _g(value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _n(text: str) -> int | None:
    try:
        return None if text == "all" else int(text)
    except ValueError:
        wanted = "must be a whole number or all"
        raise argparse.ArgumentTypeError(f"{wanted}, got {text!r}") from None


def _json(text: str) -> dict:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be JSON, got {text!r}: {error}"
        ) from None


def _known() -> str:
    """Return the names that the options take."""
    ours = [name for name, asset in catalog().items() if asset.kind == "model"]
    ours += [name for name in cards() if name not in TEXT_NETS]
    lists = {
        "models": [*ours, "and every classifier of torchvision"],
        "methods": METHODS,
        "controls": CONTROLS,
        "metrics": METRICS,
        "image sets": list_images(),
    }
    return "\n\n".join(f"{what}: {', '.join(names)}" for what, names in lists.items())


if __name__ == "__main__":
    sys.exit(main())
