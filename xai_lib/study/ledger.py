"""The ledger: one JSON file of recorded numbers per claim."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from xai_lib import _paths
from xai_lib.study import _row
from xai_lib.study._files import locked, write_atomically
from xai_lib.study.claims import Claim, load_claims
from xai_lib.study.verdicts import Verdict, decide

SCALES = ("recorded", "live")


def record(
    claim_id: str,
    quantity: str,
    part: str,
    value: float,
    interval: Sequence[float],
    *,
    n: int,
    models: str | Sequence[str],
    seeds: Sequence[int] = (0,),
    control: _row.Control = None,
    scale: str = "recorded",
    where: str | None = None,
    note: str = "",
) -> dict:
    """Write one number for a claim into the ledger and return it as a row.

    Parameters
    ----------
    claim_id, quantity : str
        As in `data/claims.toml`; an unknown one is refused.
    part : str
        What the number is about: a model, or a model and a method.
    value : float
        The number.
    interval : (float, float)
        Its interval, usually `bootstrap`'s; must contain the value.
    n : int
        Number of images (or grids, or draws) behind it.
    models : str or sequence of str
        Models involved; a string is split at commas.
    seeds : sequence of int
        Seeds of everything random.
    control : number, str or mapping of name to number or str, optional
        What the control gave, shown beside the value.
    scale : "recorded" or "live"
        The full table in `data/results`, or the run inside the chapter.
    where : str, optional
        Where it was decided: "02_spectra" or "02_spectra#heading-or-figure-name".
    note : str
        Anything a reader needs to know about this number.

    Notes
    -----
    Rows are keyed by (claim, quantity, part, scale): recording again replaces. The
    ledger is the folder `XAI_LIB_LEDGER`, else `ledger` in the cache folder. Writes
    are atomic, and several processes may record at once.

    Examples
    --------
    >>> import os, tempfile
    >>> from unittest.mock import patch
    >>> folder = tempfile.mkdtemp()
    >>> with patch.dict(os.environ, XAI_LIB_LEDGER=folder):
    ...     row = record("P4-1", "hfr_ratio", "resnet18, signed", 8.1, (6.9, 9.4),
    ...                  n=50, models="resnet18")
    ...     print(verdict("P4-1"))
    holds: the only check passes
    """
    claim = _claim(claim_id)
    value = _row.number("value", value)
    row = {
        "claim": claim_id,
        "quantity": _row.choice(f"quantity of {claim_id}", quantity, claim.quantities),
        "part": _row.name("part", part),
        "value": value,
        "interval": _row.interval(value, interval),
        "n": _row.count("n", n),
        "models": _row.models(models),
        "seeds": [int(seed) for seed in seeds],
        "control": _row.control(control),
        "scale": _row.choice("scale", scale, SCALES),
        "where": where if where is None else _row.name("where", where),
        "note": note,
    }
    _store(claim, row)
    return row


def rows(claim_id: str) -> list[dict]:
    """Return the recorded rows of a claim, in the order of its quantities."""
    return _load(_file(_claim(claim_id)))


def verdict(claim_id: str) -> Verdict:
    """Return the verdict on a claim from what the ledger holds.

    Parameters
    ----------
    claim_id : str
        As in `data/claims.toml`.

    Returns
    -------
    Verdict
        With ``.status``, ``.reason`` and ``.checks``; see `decide` for the rule.
    """
    return decide(_claim(claim_id), rows(claim_id))


def ledger() -> list[dict]:
    """Return every claim with its verdict and rows, in the order of the claims file.

    Returns
    -------
    list of dict
        Keys ``id``, ``claim`` (a Claim), ``verdict`` (a Verdict) and ``rows`` (list of
        dict).
    """
    entries = []
    for claim in load_claims().values():
        found = rows(claim.id)
        entry = {"id": claim.id, "claim": claim}
        entries.append({**entry, "verdict": decide(claim, found), "rows": found})
    return entries


def _claim(claim_id: str) -> Claim:
    claims = load_claims()
    return claims[_row.choice("claim", claim_id, claims)]


def _file(claim: Claim) -> Path:
    chosen = os.environ.get("XAI_LIB_LEDGER")
    folder = Path(chosen).expanduser() if chosen else _paths.cache_dir() / "ledger"
    return folder / f"{claim.id}.json"


def _load(path: Path) -> list[dict]:
    if not path.is_file():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        advice = "delete it and run the chapter again"
        raise ValueError(f"{path} is no ledger file ({error}): {advice}") from None


def _store(claim: Claim, row: dict) -> None:
    path = _file(claim)
    with locked(path.with_name(f".{path.stem}.lock")):
        kept = [old for old in _load(path) if _key(old) != _key(row)]
        order = {quantity: place for place, quantity in enumerate(claim.quantities)}
        kept = [old for old in kept if old["quantity"] in order] + [row]
        kept.sort(key=lambda r: (order[r["quantity"]], r["scale"] == "live", r["part"]))
        write_atomically(path, json.dumps(kept, indent=1, allow_nan=False) + "\n")


def _key(row: dict) -> tuple[str, str, str]:
    return row["quantity"], row["part"], row["scale"]
