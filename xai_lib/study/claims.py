"""The claims on trial, read from `data/claims.toml`."""

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from xai_lib import _paths

_OPS = (">", "<", "within")
_TEXTS = ("title", "claim", "paper_number", "rule", "control", "chapter")
_KEYS = {"id", "paper", *_TEXTS, "note", "not_testable"}
_KEYS |= {"criteria", "reported", "history"}


@dataclass(frozen=True)
class Criterion:
    """One condition: a quantity, a side, a threshold, and what they mean."""

    quantity: str
    op: str
    threshold: float | tuple[float, float]
    meaning: str

    def judge(self, low: float, high: float) -> str:
        """Return "pass", "fail" or "undecided" for the interval [low, high]."""
        if self.op == "within":
            floor, ceiling = self.threshold
            passes, fails = (
                floor <= low and high <= ceiling,
                high < floor or ceiling < low,
            )
        elif self.op == ">":
            passes, fails = low > self.threshold, high <= self.threshold
        else:
            passes, fails = high < self.threshold, low >= self.threshold
        return "pass" if passes else "fail" if fails else "undecided"

    @property
    def condition(self) -> str:
        """The condition in words: "above 3", "below 0.01", "between -0.02 and 0.02"."""
        if self.op == "within":
            return "between {:g} and {:g}".format(*self.threshold)
        return f"{'above' if self.op == '>' else 'below'} {self.threshold:g}"


@dataclass(frozen=True)
class Revision:
    """A pass rule that was given up, when, and why."""

    rule: str
    changed: str
    reason: str


@dataclass(frozen=True)
class Claim:
    """A claim of a paper in our words, with the rule that decides it."""

    id: str
    paper: str
    title: str
    claim: str
    paper_number: str
    rule: str
    control: str
    chapter: str
    criteria: tuple[Criterion, ...]
    reported: tuple[tuple[str, str], ...] = ()
    history: tuple[Revision, ...] = ()
    note: str = ""
    not_testable: str = ""

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names that may be recorded: those that decide, then those reported."""
        return (*(c.quantity for c in self.criteria), *(q for q, _ in self.reported))


def load_claims(path: str | Path | None = None) -> dict[str, Claim]:
    """Return all claims by id, in the order of the file.

    Parameters
    ----------
    path : path, optional
        A file laid out like `data/claims.toml`, which is the default.

    Returns
    -------
    dict of str to Claim

    Raises
    ------
    ValueError
        If a claim lacks a key, has an unknown one, or a malformed criterion.

    Examples
    --------
    >>> load_claims()["P4-1"].criteria[0].condition
    'above 3'
    """
    tables = _read(_path(path))["claim"]
    claims = [_claim(table) for table in tables]
    by_id = {claim.id: claim for claim in claims}
    if len(by_id) < len(claims):
        raise ValueError("claim ids must be unique, got one twice")
    return by_id


def load_papers(path: str | Path | None = None) -> dict[str, dict[str, str]]:
    """Return the papers by id: key of the bibliography, short and full title."""
    return {paper["id"]: dict(paper) for paper in _read(_path(path))["paper"]}


def _path(path: str | Path | None) -> Path:
    return Path(path) if path is not None else _paths.DATA / "claims.toml"


def _read(path: Path) -> dict:
    return _parse(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _parse(path: Path, _modified: int) -> dict:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _claim(table: dict) -> Claim:
    name = table.get("id", "?")
    missing = {"id", "paper", *_TEXTS, "criteria"} - table.keys()
    if missing:
        raise ValueError(f"claim {name} lacks {', '.join(sorted(missing))}")
    if unknown := table.keys() - _KEYS:
        raise ValueError(f"claim {name} has unknown keys {', '.join(sorted(unknown))}")
    if blank := [key for key in _TEXTS if not table[key].strip()]:
        raise ValueError(f"claim {name} has empty {', '.join(blank)}")
    lists = {
        "criteria": tuple(_criterion(name, row) for row in table["criteria"]),
        "reported": tuple(
            (r["quantity"], r["meaning"]) for r in table.get("reported", ())
        ),
        "history": tuple(Revision(**row) for row in table.get("history", ())),
    }
    claim = Claim(**{**table, **lists})
    if len(set(claim.quantities)) < len(claim.quantities):
        raise ValueError(f"claim {name} names a quantity twice")
    return claim


def _criterion(claim: str, row: dict) -> Criterion:
    if wrong := row.keys() ^ {"quantity", "op", "threshold", "meaning"}:
        raise ValueError(f"claim {claim}: criterion has wrong or no {sorted(wrong)}")
    if row["op"] not in _OPS:
        raise ValueError(f"claim {claim}: op must be one of {_OPS}, got {row['op']!r}")
    return Criterion(**{**row, "threshold": _threshold(claim, row)})


def _threshold(claim: str, row: dict) -> float | tuple[float, float]:
    given = row["threshold"]
    if row["op"] == "within":
        pair = tuple(map(float, given)) if isinstance(given, list) else ()
        if len(pair) != 2 or not pair[0] <= pair[1]:
            raise ValueError(f"claim {claim}: within wants [low, high], got {given}")
        return pair
    if not isinstance(given, int | float) or given != given:
        raise ValueError(f"claim {claim}: threshold must be a number, got {given}")
    return float(given)
