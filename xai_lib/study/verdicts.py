"""From recorded numbers to a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

from xai_lib.study.claims import Claim, Criterion

STATUSES = (
    "holds",
    "holds in part",
    "does not hold",
    "not testable here",
    "not yet run",
)


@dataclass(frozen=True)
class Check:
    """A criterion judged on one part: result is "pass", "fail" or "undecided"."""

    criterion: Criterion
    part: str
    result: str
    row: dict | None = None

    @property
    def quantity(self) -> str:
        """The quantity that was judged."""
        return self.criterion.quantity


@dataclass(frozen=True)
class Verdict:
    """The status of a claim, the reason in a sentence, and every check behind it."""

    status: str
    reason: str
    checks: tuple[Check, ...] = ()

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}"


def decide(claim: Claim, rows: Sequence[dict]) -> Verdict:
    """Return the verdict on a claim from its recorded rows.

    Parameters
    ----------
    claim : Claim
    rows : sequence of dict
        As `record` returns them. Of each criterion the rows of scale "recorded"
        decide; where there is none, those of scale "live".

    Returns
    -------
    Verdict
        "holds" if every check passes, "holds in part" if some do, "does not hold" if
        none does and one at least fails; "not yet run" where a criterion has no row and
        none passes, as it is open then; "not testable here" if the claim says so, or if
        every check is undecided.

    Notes
    -----
    A check passes when its whole interval lies on the passing side. An interval that
    contains the threshold is undecided: it does not pass, and the reason names it. A
    criterion without a row counts as not passed and is named in the reason.
    """
    if claim.not_testable:
        return Verdict("not testable here", claim.not_testable)
    checks = tuple(check for c in claim.criteria for check in _checks(c, rows))
    judged = [check for check in checks if check.result != "not yet run"]
    if not judged:
        return Verdict("not yet run", "no number has been recorded", checks)
    passed = sum(check.result == "pass" for check in judged)
    if passed == len(checks):
        status = "holds"
    elif passed:
        status = "holds in part"
    elif len(judged) < len(checks):
        status = "not yet run"
    elif any(check.result == "fail" for check in judged):
        status = "does not hold"
    else:
        status = "not testable here"
    return Verdict(status, _reason(checks, passed, len(judged)), checks)


def _checks(criterion: Criterion, rows: Sequence[dict]) -> list[Check]:
    mine = [row for row in rows if row["quantity"] == criterion.quantity]
    recorded = [row for row in mine if row["scale"] == "recorded"]
    return [
        Check(criterion, row["part"], criterion.judge(*row["interval"]), row)
        for row in recorded or mine
    ] or [Check(criterion, "", "not yet run")]


def _reason(checks: Sequence[Check], passed: int, judged: int) -> str:
    if passed == len(checks):
        return f"all {judged} checks pass" if judged > 1 else "the only check passes"
    text = f"{passed} of {judged} check{'s' * (judged > 1)} pass{'es' * (judged == 1)}"
    for result, label in (
        ("pass", "passed"),
        ("fail", "failed"),
        ("undecided", "undecided, as the interval contains the threshold"),
        ("not yet run", "not yet run"),
    ):
        if names := _names(checks, result):
            text += f"; {label}: {names}"
    return text


def _names(checks: Sequence[Check], result: str) -> str:
    parts: dict[str, list[str]] = {}
    for check in checks:
        if check.result == result:
            parts.setdefault(check.quantity, []).append(check.part)
    return ", ".join(
        f"{quantity} ({'; '.join(names)})" if any(names) else quantity
        for quantity, names in parts.items()
    )
