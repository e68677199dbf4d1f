"""Recording: what is refused, what is kept, and who may write at once."""

import json
import math
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from xai_lib import study
from xai_lib.study import ledger, load_claims, record, rows, verdict


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_LIB_LEDGER", str(tmp_path / "ledger"))
    return tmp_path / "ledger"


def write(part="resnet18, signed", value=8.0, interval=(7.0, 9.0), **other):
    arguments = {"claim_id": "P4-1", "quantity": "hfr_ratio", "n": 50}
    arguments |= {"models": "resnet18"} | other
    claim, quantity = arguments.pop("claim_id"), arguments.pop("quantity")
    return record(claim, quantity, part, value, interval, **arguments)


def test_a_row_comes_back_as_it_was_written():
    row = write(
        control={"random scores": torch.tensor(2.5), "chance": 1},
        seeds=(0, 1),
        models="resnet18, mobilenet_v2",
        where="02_spectra#fig-hfr",
        note="all correctly classified photographs",
    )
    assert rows("P4-1") == [row]
    assert row["models"] == ["resnet18", "mobilenet_v2"]
    assert row["control"] == {"random scores": 2.5, "chance": 1.0}
    assert row["scale"] == "recorded"


def test_recording_again_replaces_and_leaves_the_same_file(folder):
    write(value=7.5)
    write()
    before = (folder / "P4-1.json").read_bytes()
    write()
    assert (folder / "P4-1.json").read_bytes() == before
    assert [row["value"] for row in rows("P4-1")] == [8.0]


def test_live_and_recorded_rows_stand_side_by_side():
    write(scale="live", value=8.5)
    write(scale="recorded")
    assert [row["scale"] for row in rows("P4-1")] == ["recorded", "live"]


def test_the_file_does_not_depend_on_the_order_of_writing(folder):
    for part in ("a", "b", "c"):
        write(part=part)
    first = (folder / "P4-1.json").read_bytes()
    (folder / "P4-1.json").unlink()
    for part in ("c", "a", "b"):
        write(part=part)
    assert (folder / "P4-1.json").read_bytes() == first


def test_a_tensor_is_taken_as_a_number_and_rounding_is_forgiven():
    row = write(value=torch.tensor(8.0), interval=torch.tensor([8.0 + 1e-12, 9.0]))
    assert row["interval"] == [8.0, 9.0]
    assert json.dumps(row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"claim_id": "P9-1"}, "claim must be one of P1-1, .* got 'P9-1'"),
        (
            {"quantity": "hfr"},
            "P4-1 must be one of hfr_ratio, .* got 'hfr'",
        ),
        ({"scale": "quick"}, "scale must be one of recorded, live, got 'quick'"),
        ({"value": math.nan}, "value must be finite, got nan"),
        ({"value": math.inf, "interval": (0, math.inf)}, "value must be finite"),
        ({"value": torch.ones(2)}, "value must be one number, got Tensor"),
        ({"interval": (1.0, math.nan)}, "interval must be finite, got nan"),
        ({"interval": (8.5, 9.0)}, r"contain the value 8.0, got \(8.5, 9.0\)"),
        ({"interval": (7.0, 7.5)}, "must contain the value"),
        ({"interval": (9.0, 7.0)}, r"must be \(low, high\)"),
        ({"interval": (7.0, 8.0, 9.0)}, r"must be \(low, high\)"),
        ({"n": 0}, "n must be a positive integer, got 0"),
        ({"n": True}, "n must be a positive integer, got True"),
        ({"n": 50.0}, "n must be a positive integer, got 50.0"),
        ({"models": " , "}, "at least one model"),
        ({"part": ""}, "part must be a text"),
        ({"where": ""}, "where must be a text"),
        ({"control": math.nan}, "control must be finite"),
        (
            {"control": [1, 2]},
            "control must be a number, a text .* got list",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(folder, change, message):
    with pytest.raises(ValueError, match=message):
        write(**change)
    assert not list(folder.glob("*.json"))


def test_a_reported_quantity_is_kept_but_decides_nothing():
    write(quantity="spectral_slope_gap", value=-1.0, interval=(-2.0, 0.0))
    assert len(rows("P4-1")) == 1
    assert verdict("P4-1").status == "not yet run"


@pytest.mark.skipif(os.name == "nt", reason="rights of another kind")
def test_others_may_read_it_as_the_umask_says(folder):
    before = os.umask(0o027)
    try:
        write()
        (path,) = folder.glob("P4-1.json")
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o664)
        write(value=8.5)
        assert path.stat().st_mode & 0o777 == 0o664  # as it was
    finally:
        os.umask(before)


def test_a_failed_write_leaves_the_old_file_and_no_other(folder, monkeypatch):
    write()
    before = (folder / "P4-1.json").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(part="other")
    assert (folder / "P4-1.json").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == [".P4-1.lock", "P4-1.json"]


def test_threads_that_write_at_once_lose_nothing():
    parts = [f"part {k:02}" for k in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, parts))
    assert [row["part"] for row in rows("P4-1")] == parts


def _write_ten(start):
    for k in range(start, start + 10):
        write(part=f"part {k:02}")


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_processes_that_write_at_once_lose_nothing():
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_ten, args=(10 * k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(rows("P4-1")) == 40


def test_a_broken_file_is_named_with_its_cure(folder):
    folder.mkdir()
    (folder / "P4-1.json").write_text('[{"claim": "P4')
    with pytest.raises(ValueError, match=r"P4-1.json is no ledger file .* delete it"):
        verdict("P4-1")


def test_a_quantity_no_longer_in_the_claims_is_dropped_on_the_next_write(folder):
    write()
    old = {**rows("P4-1")[0], "quantity": "given_up"}
    (folder / "P4-1.json").write_text(json.dumps([old]))
    assert verdict("P4-1").status == "not yet run"
    write()
    assert [row["quantity"] for row in rows("P4-1")] == ["hfr_ratio"]


def test_the_ledger_lists_every_claim_in_order():
    write(interval=(2.0, 9.0), value=4.0)
    entries = ledger()
    assert [entry["id"] for entry in entries] == list(load_claims())
    by_id = {entry["id"]: entry for entry in entries}
    assert by_id["P4-1"]["rows"][0]["value"] == 4.0
    assert by_id["P4-1"]["verdict"] == verdict("P4-1")
    assert by_id["P1-1"]["verdict"].status == "not yet run"


def test_without_the_variable_the_ledger_lies_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("XAI_LIB_LEDGER")
    monkeypatch.setenv("XAI_LIB_CACHE", str(tmp_path / "cache"))
    write()
    assert (tmp_path / "cache" / "ledger" / "P4-1.json").is_file()


def test_a_summary_of_what_is_no_claim_names_those_there_are():
    for ask in (study.check_table, lambda name: study.summary([name])):
        with pytest.raises(ValueError, match="claim must be one of P1-1, .* got 'P9'"):
            ask("P9")


def test_a_chapters_verdict_counts_its_checks():
    assert study.check_table("P4-1").endswith(
        "| hfr_ratio | above 3 | not run | 0 | 0 | 0 |"
    )
    for part, value, ends in (
        ("a", 3.5, (3.1, 4)),
        ("b", 3.25, (3.1, 4)),
        ("c", 2.25, (2, 2.5)),
        ("d", 3, (2, 4)),
    ):
        record("P4-1", "hfr_ratio", part, value, ends, n=5, models="net")
    table = study.check_table("P4-1").splitlines()
    assert table[0] == "**P4-1: holds in part.**"
    assert table[-1] == "| hfr_ratio | above 3 | 2.25 to 3.5 | 2 | 1 | 1 |"
    ours, other = study.summary(["P4-1", "P4-2"]).splitlines()
    assert ours.startswith("- **P4-1, ")
    assert ours.endswith(": holds in part** (2 of 4 checks pass).")
    assert other.endswith(": not yet run** (0 of 0 checks pass).")
