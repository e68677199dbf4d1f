"""The claims file: complete, well formed, and not changed unnoticed."""

import hashlib
import tomllib
from pathlib import Path

import pytest

from xai_lib import _paths
from xai_lib.study import Criterion, load_claims, load_papers

FROZEN = Path(__file__).parent / "references" / "criteria.txt"
COUNTS = {"P1": 5, "P2": 8, "P3": 7, "P4": 7, "P5": 6}
CHAPTERS = {
    "01_one_framework",
    "02_spectra",
    "03_aliasing",
    "04_rank_one",
    "05_alignment",
    "06_difull",
    "07_low_pass",
    "08_reranked",
}
GOOD = """
[[paper]]
id = "P9"
key = "someone2000"
[[claim]]
id = "P9-1"
paper = "P9"
title = "t"
claim = "c"
paper_number = "not stated"
rule = "r"
control = "k"
chapter = "02_spectra"
[[claim.criteria]]
quantity = "q"
op = ">"
threshold = 1
meaning = "m"
"""


def fingerprint() -> list[str]:
    """Return a line per claim and per criterion, with a digest of what they say."""
    lines = []
    for claim in load_claims().values():
        said = f"{claim.claim} {claim.rule} {claim.control}".encode()
        lines.append(f"{claim.id} {hashlib.sha256(said).hexdigest()[:10]}")
        for c in claim.criteria:
            digest = hashlib.sha256(c.meaning.encode()).hexdigest()[:10]
            lines.append(f"{claim.id} {c.quantity} {c.op} {c.threshold} {digest}")
    return lines


def load(tmp_path, text):
    path = tmp_path / "claims.toml"
    path.write_text(text)
    return load_claims(path)


def test_every_claim_of_the_five_papers_is_listed_once():
    ids = list(load_claims())
    wanted = [f"P{p}-{k}" for p in range(1, 6) for k in range(1, 9)]
    wanted = [i for i in wanted if int(i[3:]) <= COUNTS[i[:2]] - (i[:2] == "P4")]
    wanted.insert(wanted.index("P4-6") + 1, "P4-C")
    assert ids == wanted
    assert len(ids) == 33


def test_every_claim_names_a_known_paper_and_chapter():
    papers = load_papers()
    for claim in load_claims().values():
        assert papers[claim.paper]["key"]
        assert claim.id.startswith(claim.paper)
        assert claim.chapter in CHAPTERS, claim.id


def test_no_claim_quotes_an_unverified_source():
    text = (_paths.DATA / "claims.toml").read_text()
    for word in ("UNKNOWN", "[MEM]", "[DESIGN]", "[RUN]"):
        assert word not in text


def test_every_meaning_says_over_which_parts_it_is_judged():
    for claim in load_claims().values():
        for criterion in claim.criteria:
            text = criterion.meaning
            known = ("Per ", "per ", "The same", "That ", "On one ", "Fully random")
            assert any(word in text for word in known), (claim.id, text)


def test_a_pass_rule_cannot_move_unnoticed():
    frozen = FROZEN.read_text().splitlines()
    changed = sorted(set(frozen) ^ set(fingerprint()))
    assert not changed, (
        "a pass rule differs from tests/references/criteria.txt. Keep the old rule and "
        "the reason in [[claim.history]], then update that file: " + "; ".join(changed)
    )


def test_the_rules_of_the_first_chapter_are_the_ones_fixed_before_the_run():
    claims = load_claims()
    (first,) = claims["P4-1"].criteria
    assert (first.quantity, first.op, first.threshold) == ("hfr_ratio", ">", 3.0)
    assert [(c.quantity, c.op, c.threshold) for c in claims["P4-2"].criteria] == [
        ("smooth_prediction_gain", ">", -0.02),
        ("white_prediction_gain", ">", -0.02),
        ("hf_deletion_gap", "within", (-0.02, 0.02)),
    ]


@pytest.mark.parametrize(
    ("op", "threshold", "low", "high", "result"),
    [
        (">", 3.0, 3.1, 4.0, "pass"),
        (">", 3.0, 3.0, 4.0, "undecided"),
        (">", 3.0, 2.0, 3.1, "undecided"),
        (">", 3.0, 2.0, 3.0, "fail"),
        ("<", 3.0, 2.0, 2.9, "pass"),
        ("<", 3.0, 2.0, 3.1, "undecided"),
        ("<", 3.0, 3.0, 3.1, "fail"),
        ("within", (-1.0, 1.0), -1.0, 1.0, "pass"),
        ("within", (-1.0, 1.0), -1.1, 0.0, "undecided"),
        ("within", (-1.0, 1.0), 0.9, 1.1, "undecided"),
        ("within", (-1.0, 1.0), -2.0, 2.0, "undecided"),
        ("within", (-1.0, 1.0), 1.1, 2.0, "fail"),
        ("within", (-1.0, 1.0), -2.0, -1.1, "fail"),
    ],
)
def test_an_interval_passes_only_as_a_whole(op, threshold, low, high, result):
    assert Criterion("q", op, threshold, "m").judge(low, high) == result


def test_conditions_read_as_words():
    assert Criterion("q", "<", 0.01, "m").condition == "below 0.01"
    assert Criterion("q", "within", (-0.5, 2), "m").condition == "between -0.5 and 2"


def test_a_file_is_read_again_after_it_changed(tmp_path):
    assert load(tmp_path, GOOD)["P9-1"].criteria[0].threshold == 1.0
    changed = GOOD.replace("threshold = 1", "threshold = 2")
    assert load(tmp_path, changed)["P9-1"].criteria[0].threshold == 2.0


def test_history_and_reported_are_read(tmp_path):
    more = """
[[claim.history]]
rule = "old"
changed = "2026-01-01"
reason = "why"
[[claim.reported]]
quantity = "beside"
meaning = "m"
"""
    claim = load(tmp_path, GOOD + more)["P9-1"]
    assert claim.history[0].reason == "why"
    assert claim.quantities == ("q", "beside")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('rule = "r"\n', "", "lacks rule"),
        ('rule = "r"', 'rule = " "', "empty rule"),
        ('rule = "r"', 'rule = "r"\nverdict = "holds"', "unknown keys verdict"),
        ('op = ">"', 'op = ">="', "op must be one of"),
        ('op = ">"', 'op = "within"', "within wants"),
        ("threshold = 1", "threshold = [2, 1]", "must be a number"),
        (
            'op = ">"\nthreshold = 1',
            'op = "within"\nthreshold = [2, 1]',
            "within wants",
        ),
        ("threshold = 1", "threshold = nan", "must be a number"),
        ('meaning = "m"', "", "wrong or no"),
    ],
)
def test_a_malformed_claim_is_refused(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, GOOD.replace(old, new))


def test_the_same_id_or_quantity_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unique"):
        load(tmp_path, GOOD + GOOD[GOOD.index("[[claim]]") :])
    with pytest.raises(ValueError, match="names a quantity twice"):
        load(tmp_path, GOOD + GOOD[GOOD.index("[[claim.criteria]]") :])


def test_the_sample_itself_is_well_formed(tmp_path):
    assert tomllib.loads(GOOD)["claim"]
    assert load(tmp_path, GOOD)["P9-1"].note == ""
