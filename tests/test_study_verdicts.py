"""Verdicts from hand-made rows."""

from dataclasses import FrozenInstanceError

import pytest

from xai_lib.study import Claim, Criterion, decide


def claim(**other):
    texts = {"title": "t", "claim": "c", "paper_number": "not stated", "rule": "r"}
    texts |= {"id": "P9-1", "paper": "P9", "control": "k", "chapter": "02_spectra"}
    above = Criterion("gain", ">", 0.0, "Per model.")
    near = Criterion("gap", "within", (-1.0, 1.0), "Per model.")
    return Claim(**texts, criteria=(above, near), **other)


def row(quantity, low, high, part="net", scale="recorded"):
    row = {"quantity": quantity, "part": part, "scale": scale}
    return row | {"interval": [low, high], "value": (low + high) / 2}


def test_no_rows_is_not_yet_run():
    verdict = decide(claim(), [])
    assert verdict.status == "not yet run"
    assert [check.result for check in verdict.checks] == ["not yet run"] * 2


def test_all_checks_pass():
    verdict = decide(claim(), [row("gain", 1, 2), row("gap", -0.5, 0.5)])
    assert str(verdict) == "holds: all 2 checks pass"


def test_some_checks_pass_and_the_reason_names_all():
    rows = [row("gain", 1, 2, "a"), row("gain", -2, -1, "b"), row("gain", -1, 1, "c")]
    verdict = decide(claim(), [*rows, row("gap", 0, 0)])
    assert verdict.status == "holds in part"
    assert verdict.reason == (
        "2 of 4 checks pass; passed: gain (a), gap (net); failed: gain (b); "
        "undecided, as the interval contains the threshold: gain (c)"
    )
    results = {(c.quantity, c.part): c.result for c in verdict.checks}
    assert results["gain", "c"] == "undecided"
    assert verdict.checks[1].row == rows[1]


def test_no_check_passes():
    verdict = decide(claim(), [row("gain", -2, -1), row("gap", 2, 3)])
    assert verdict.status == "does not hold"
    assert verdict.reason == "0 of 2 checks pass; failed: gain (net), gap (net)"


def test_an_undecided_interval_never_passes():
    verdict = decide(claim(), [row("gain", -1, 1), row("gap", 0, 2)])
    assert verdict.status == "not testable here"  # nothing passes, nothing fails
    assert "undecided" in verdict.reason and "failed" not in verdict.reason
    verdict = decide(claim(), [row("gain", -1, 1), row("gap", 2, 3)])
    assert verdict.status == "does not hold"


def test_a_criterion_without_a_row_keeps_the_claim_from_holding():
    verdict = decide(claim(), [row("gain", 1, 2)])
    assert verdict.status == "holds in part"
    assert verdict.reason == "1 of 1 check passes; passed: gain (net); not yet run: gap"


def test_nothing_passed_and_a_criterion_to_come_is_not_yet_run():
    assert decide(claim(), [row("gain", -1, 1)]).status == "not yet run"
    assert decide(claim(), [row("gain", -2, -1)]).status == "not yet run"


def test_recorded_rows_decide_where_there_are_any():
    rows = [row("gain", -2, -1, scale="live"), row("gain", 1, 2), row("gap", 0, 0)]
    assert decide(claim(), rows).status == "holds"
    assert decide(claim(), [rows[0], rows[2]]).status == "holds in part"


def test_live_rows_decide_a_quantity_that_was_never_recorded():
    rows = [row("gain", 1, 2), row("gap", 2, 3, scale="live")]
    assert decide(claim(), rows).status == "holds in part"


def test_a_claim_out_of_reach_says_why():
    verdict = decide(claim(not_testable="no code"), [row("gain", 1, 2)])
    assert str(verdict) == "not testable here: no code"


def test_a_single_check_is_not_counted():
    single = Claim(**{**vars(claim()), "criteria": claim().criteria[:1]})
    assert decide(single, [row("gain", 1, 2)]).reason == "the only check passes"


def test_a_verdict_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        decide(claim(), []).status = "holds"
