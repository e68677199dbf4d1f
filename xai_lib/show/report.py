"""A trial as one page that can be saved, sent and printed: no script, no request."""

from __future__ import annotations

import base64
import math
import string
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from xai_lib.show.frames import _encode
from xai_lib.show.intervals import interval_plot
from xai_lib.show.maps import show_maps
from xai_lib.show.style import method_label
from xai_lib.study import CONTROLS, QUESTIONS, Trial, conclusions
from xai_lib.study._files import write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame

QUANTITIES = {
    "other_class": "SSIM, another class",
    "top_random": "SSIM, last layer random",
    "all_random": "SSIM, all weights random",
    "csc": "|cosine|",
    "high_frequency_ratio": "share of fast waves",
    "faithfulness": "F",
    "faithfulness_filtered": "F, filtered",
    "gain": "gain by the filter",
    "mu_fidelity": "muFidelity",
    "di_full": "DiFull",
    "grid_pg": "GridPG",
}
CONTROL_LABELS = {"random": "random numbers", "edges": "edges of the image"}
ABOUT = {
    "network": "network",
    "weights": "size",
    "input": "input",
    "images": "images",
    "files": "files",
    "settings": "settings that differ from the defaults",
    "seed": "seed",
    "versions": "versions",
    "packages": "packages",
    "commit": "commit of xai_lib",
    "device": "device",
    "date": "date",
    "seconds": "seconds for the whole trial",
}
MAPS = 3  # photographs drawn
_CSS = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
_PAGE = string.Template(
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<link rel="icon" href="data:,">\n<title>$title</title>\n<style>\n$css</style>\n'
    "</head>\n<body>\n<main>\n<h1>$title</h1>\n$body\n</main>\n</body>\n</html>\n"
)


def report(found: Trial, path: str | Path = "report.html") -> Path:
    """Write a trial as one HTML file, with nothing to fetch: tables, figures, words.

    Parameters
    ----------
    found : of `study.trial`
    path : the file, ending in ``.html``; one that is there is replaced

    Returns
    -------
    Path, absolute

    Raises
    ------
    ValueError
        If the file does not end in ``.html``.

    Notes
    -----
    The page follows the reader's light or dark theme and fits a phone; wide tables
    scroll in their own box. Figures are WebP pictures inside the file.

    Examples
    --------
    >>> import tempfile
    >>> from xai_lib.assets import load_model
    >>> from xai_lib.study import trial
    >>> net = load_model("cifar_cnn")
    >>> found = trial(net, "cifar10", ["gradient"], n=1, progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report(found, f"{folder}/report.html").read_text()
    >>> page.splitlines()[0]
    '<!DOCTYPE html>'
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"path must be a file .html, got {str(path)!r}")
    if not isinstance(found, Trial):
        got = type(found).__name__
        raise TypeError(f"found must be a Trial, of study.trial, got {got}")
    told, labels = conclusions(found), _labels(found)
    parts = [_opening(found), _overview(found, told, labels), _examples(found, labels)]
    for test in dict.fromkeys([*_tests(found), *told["test"]]):
        parts.append(_section(found, told[told["test"] == test], test, labels))
    parts.append(_about(found))
    title = f"Attribution on trial: {found.about['network']}"
    page = _PAGE.substitute(title=escape(title), css=_CSS, body="\n".join(parts))
    write_atomically(path.absolute(), page)
    return path.absolute()


def _labels(found: Trial) -> dict[str, str]:
    names = {name: method_label(name) for name in found.methods["method"]}
    return names | CONTROL_LABELS


def _tests(found: Trial) -> list[str]:
    """Return the tests in order; of the two localisations the one that was asked."""
    other = {"di_full", "grid_pg"} - {found.about["localisation"]}
    return [test for test in QUESTIONS if test not in other]


def _opening(found: Trial) -> str:
    n = len(found.labels)
    luck = f"{2 / 2**n:.0%}" if n < 10 else "less than 1%"
    return (
        f"<p>{escape(found.about['network'])}, on {escape(found.about['images'])}. "
        "Each map explains the logit of the class that the network predicts.</p>\n"
        "<p>Every number stands beside its control and, for 4 images and more, with a "
        "95% bootstrap interval over images. The sentences are computed from the "
        f"numbers and hold for this network and these {n} images. On {n} images a "
        "comparison comes out on one side in all of them by luck alone in "
        f"{luck} of the cases: with fewer than ten, read the sentences as hints.</p>"
    )


def _overview(found: Trial, told: DataFrame, labels: dict[str, str]) -> str:
    quantities = [q for q in QUANTITIES if q in set(told["quantity"])]
    head = ["method", "runs", "s per map", *(QUANTITIES[q] for q in quantities)]
    values = told.set_index(["method", "quantity"])["value"].to_dict()
    about = found.methods.set_index("method")
    rows = []
    for name, label in labels.items():
        control = name in CONTROLS
        runs = "control" if control else "yes" if about["runs"][name] else "no"
        seconds = math.nan if control else about["seconds"][name]
        numbers = [_number(values.get((name, q), math.nan)) for q in quantities]
        rows.append((name, [label, runs, _number(seconds, 3), *numbers]))
    failed = found.methods[~found.methods["runs"]]
    said = "".join(
        f"<li>{escape(labels[row.method])}: {escape(row.note)}</li>"
        for row in failed.itertuples()
    )
    not_run = f"<p>Not run on this network:</p><ul>{said}</ul>" if said else ""
    return f"<h2>All methods</h2>\n{_table('All methods', head, rows)}\n{not_run}"


def _examples(found: Trial, labels: dict[str, str]) -> str:
    maps = {labels[name]: one[:MAPS] for name, one in found.maps.items()}
    seen = found.seen[:MAPS]
    rows = found.labels[: len(seen)]
    figure = show_maps(seen, maps, rows=rows, columns=5)
    words = (
        "Photographs as the network sees them, the class explained, and the maps. "
        "Red counts for the class, blue against it; every map has its own scale."
    )
    names = ", ".join(maps)
    alt = f"{len(seen)} photographs, each with a map by {names}."
    return f"<h2>Maps</h2>\n{_figure(figure, alt, words)}"


def _section(found: Trial, told: DataFrame, test: str, labels: dict[str, str]) -> str:
    question = QUESTIONS[test]
    blank = dict.fromkeys(("start", "lowest", "chance", "top"), "-")
    asks = question.asks.format(**blank | found.about)
    parts = [f"<h2>{escape(question.title)}</h2>", f"<p>{escape(asks)}</p>"]
    if len(told):
        parts.append(_drawn(told, question.title, labels))
    for quantity, rows in told.groupby("quantity", sort=False):
        parts += [f"<h3>{QUANTITIES[quantity]}</h3>", _says(rows, labels)]
    parts.append(_missing(found, test, labels))
    limit = f"<strong>What it cannot say.</strong> {escape(question.limit)}"
    chapter = f"Explained in chapter {question.chapter[:2]} of Attribution on Trial."
    parts.append(f'<p>{limit}</p>\n<p class="soft">{chapter}</p>')
    return "\n".join(parts)


def _says(told: DataFrame, labels: dict[str, str]) -> str:
    """Return one quantity by method: value, interval, control, sentence."""
    rows = []
    for row in told.itertuples():
        known = row.low == row.low  # not NaN
        interval = f"{_number(row.low)} to {_number(row.high)}" if known else "none"
        cells = [labels[row.method], _number(row.value), interval]
        cells.append(row.control.replace(" -", " −"))
        rows.append((row.method, [*cells, row.told]))
    head = ["method", "value", "95% interval", "control", "says"]
    return _table(QUANTITIES[told["quantity"].iloc[0]], head, rows)


def _drawn(told: DataFrame, title: str, labels: dict[str, str]) -> str:
    """Return the numbers of a test as a figure, a marker per quantity."""
    quantities = list(dict.fromkeys(told["quantity"]))
    values: dict[str, dict] = {}
    for row in told.itertuples():
        known = row.low == row.low  # not NaN
        ends = (min(row.low, row.value), max(row.high, row.value)) if known else None
        triple = (row.value, *(ends or (row.value, row.value)))
        values.setdefault(row.method, {})[QUANTITIES[row.quantity]] = triple
    groups = [QUANTITIES[q] for q in quantities]
    own = {name: labels[name] for name in values}
    if len(groups) == 1:
        values = {name: one[groups[0]] for name, one in values.items()}
        figure = interval_plot(values, xlabel=groups[0], labels=own)
    else:
        figure = interval_plot(values, groups=groups, xlabel="value", labels=own)
    alt = f"{title} A line per method with its value and interval; the table has them."
    return _figure(figure, alt, "Values and 95% intervals, as in the table.")


def _missing(found: Trial, test: str, labels: dict[str, str]) -> str:
    """Return why methods that run have no number here, reason by reason."""
    notes = found.notes
    asked = "localisation" if test in ("di_full", "grid_pg") else test
    mine = notes[(notes["test"] == asked) & ~notes["method"].isin(list(CONTROLS))]
    said = [
        f"<li>{escape(', '.join(labels[name] for name in rows['method']))}: "
        f"{escape(note)}</li>"
        for note, rows in mine.groupby("note", sort=False)
    ]
    return f"<p>No number for:</p><ul>{''.join(said)}</ul>" if said else ""


def _about(found: Trial) -> str:
    rows = [
        f"<dt>{escape(label)}</dt><dd>{escape(found.about[key])}</dd>"
        for key, label in ABOUT.items()
    ]
    classes = escape(", ".join(found.labels))
    rows.insert(5, f"<dt>classes explained</dt><dd>{classes}</dd>")
    return f"<h2>What was run</h2>\n<dl>{''.join(rows)}</dl>"


def _table(name: str, head: list[str], rows: list[tuple[str, list[str]]]) -> str:
    """Return rows (method, cells) as a table that scrolls in its own box."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = []
    for method, (first, *cells) in rows:
        kind = ' class="control"' if method in CONTROLS else ""
        line = "".join(f"<td{_kind(cell)}>{escape(cell)}</td>" for cell in cells)
        body.append(f'<tr{kind}><th scope="row">{escape(first)}</th>{line}</tr>')
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _kind(cell: str) -> str:
    if cell.lstrip("-−+").replace(".", "").isdecimal():
        return ' class="number"'
    if " to " in cell and len(cell) < 18:
        return ' class="span"'
    return ' class="words"' if len(cell) > 24 else ""


def _number(value: float, digits: int = 2) -> str:
    """Return a number as it is printed; nothing for NaN."""
    if value != value:
        return ""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def _figure(figure: Figure, alt: str, caption: str) -> str:
    data, (width, height) = _encode(figure, 90)
    src = "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
    return (
        f'<figure><img src="{src}" alt="{escape(alt)}" width="{width}" '
        f'height="{height}"><figcaption>{escape(caption)}</figcaption></figure>'
    )
