"""Ratios of running times: our methods, the raw passes they need, and their peers'.

    python tests/benchmarks/bench.py [--write table.md] [--only sensitivity di_full]

The contestants of a row take turns (A B C A B C ...) on the same images, and the median
of the ratios within a turn is printed, so that a busy machine disturbs all alike.
Nothing is asserted about time.
"""

import argparse
import statistics
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from cases import FULL, Case, all_cases, captum
from fidelity import fidelity_cases
from localisation import grid_case
from relevance import csc_case, relevance_cases, zennit
from sensitivity import quantus, sensitivity_cases
from table import table
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """What one case measured; times in seconds, None where there is no peer."""

    case: Case
    seconds: float
    turns: int
    ours_to_raw: float
    peer_to_raw: float | None
    difference: float | None


def measure(case: Case, budget: float = 15.0, least: int = 2, most: int = 15) -> Row:
    """Let the contestants take turns; return the median ratios and the difference.

    Turns go on until ``budget`` seconds are spent: ``least`` to ``most`` of them.
    """
    contestants = {"raw": case.raw, "ours": case.ours}
    if case.peer:
        contestants["peer"] = case.peer
    turns, results = [], {}
    begun = time.perf_counter()
    while len(turns) < least or (
        len(turns) < most and time.perf_counter() - begun < budget
    ):
        turn = {}
        for name, run in contestants.items():
            start = time.perf_counter()
            results[name] = run()
            turn[name] = time.perf_counter() - start
        turns.append(turn)

    def ratio(name: str) -> float:
        return statistics.median(turn[name] / turn["raw"] for turn in turns)

    difference = case.gap() if case.peer and case.gap else None
    if case.peer and case.comparable and difference is None:
        wanted = results["peer"].detach()
        gap = (case.factor * results["ours"] - wanted).abs().max()
        difference = (gap / wanted.abs().max()).item()
    seconds = statistics.median(turn["ours"] for turn in turns)
    peer = ratio("peer") if case.peer else None
    return Row(case, seconds, len(turns), ratio("ours"), peer, difference)


def describe(model_name: str, x: Tensor) -> str:
    """Return what was measured, on what, in one paragraph."""
    versions = f"torch {torch.__version__}"
    for peer, found in dict(captum=captum, zennit=zennit, quantus=quantus).items():
        versions += f", {peer} {version(peer)}" if found else ""
    shape = " x ".join(map(str, x.shape))
    threads = torch.get_num_threads()
    return (
        f"{model_name}, {shape}, float32, {threads} threads, {versions}. A pass is a "
        "forward and backward pass to the input, for rise, occlusion, deletion, "
        "insertion, mu_fidelity and sensitivity_n a forward pass (the last two in "
        "parts as large as their own), for csc the same signals from repeated images, "
        "for di_full a pass of the one cell that a head sees. The peer is captum, for "
        "lrp zennit on the network with its BatchNorms folded, for deletion and "
        "sensitivity_n Quantus, whose PixelFlipping runs the batch at once too. "
        "Differences are shares of the peer's largest value, for lrp in float64."
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure resnet18 on eight photographs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of rows' names")
    chosen = parser.parse_args(arguments)
    from xai_lib.assets import load_images, load_model

    net = load_model("resnet18")
    x = net.transform(load_images("photos", n=8).x)
    with torch.no_grad():
        target = net.model(x).argmax(1)
    warnings.filterwarnings("ignore", module="captum")
    rows = []
    cases = [
        *all_cases(net.model, x, target, "layer4", FULL),
        *relevance_cases(net.model, x, target),
        csc_case(net.model, x[:2]),
        grid_case(net.model, x),
        *sensitivity_cases(net.model, x, target),
        *fidelity_cases(net.model, x, target),
    ]
    for case in (c for c in cases if any(part in c.name for part in chosen.only)):
        rows.append(measure(case))
        print(f"... {case.name}: {rows[-1].ours_to_raw:.3f}", flush=True)
    if not rows:
        parser.error(f"--only must be part of {', '.join(c.name for c in cases)}")
    text = f"{describe('resnet18', x)}\n\n{table(rows)}\n"
    print(f"\n{text}")
    if chosen.write:
        chosen.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
