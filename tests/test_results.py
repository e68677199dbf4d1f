"""The published tables: their writer, and what stands in the folder."""

import importlib.util

import pytest

from xai_lib._paths import DATA
from xai_lib.study import recorded

HEAD = "# script: s.py\n# commit: {}\n# date: 2026-01-0{}\n# seconds: {}\n"
COLUMNS = "model,method,image,value"
RESULTS = sorted((DATA / "results").glob("*.csv"))


@pytest.fixture
def tables(tmp_path, monkeypatch):
    path = DATA / "results" / "tables.py"
    spec = importlib.util.spec_from_file_location("tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def body(path):
    return [line for line in path.read_text().splitlines() if line[0] != "#"]


def test_a_later_run_adds_and_replaces_but_never_loses(tables, tmp_path):
    first = [("a", "x", 0, 1.0), ("a", "x", 1, 2.0), ("a", "y", 0, 3.0)]
    tables.write_table("t.csv", HEAD.format("c1", 1, 10), COLUMNS, first)
    again = [("a", "x", 0, 5.0), ("b", "x, z", 0, 6.0)]
    tables.write_table("t.csv", HEAD.format("c2", 2, 20), COLUMNS, again)
    path = tmp_path / "t.csv"
    assert body(path) == [COLUMNS, "a,x,0,5.0", "a,y,0,3.0", 'b,"x, z",0,6.0']
    head = path.read_text()
    assert "# commit: c1 and c2\n" in head
    assert "# date: 2026-01-01 and 2026-01-02\n" in head
    said = "1 of earlier ones, in a table whose last run took 10 s"
    assert f"# runs: 2 rows of the last run, {said}\n" in head
    assert not list(tmp_path.glob(".*"))


def test_a_table_of_other_columns_is_written_anew(tables, tmp_path):
    head = HEAD.format("c1", 1, 10)
    tables.write_table("t.csv", head, COLUMNS, [("a", "x", 0, 1.0)])
    tables.write_table("t.csv", head, COLUMNS + ",more", [("a", "x", 1, 2.0, 3)])
    assert body(tmp_path / "t.csv") == [COLUMNS + ",more", "a,x,1,2.0,3"]


def test_a_run_that_fails_leaves_the_old_table(tables, tmp_path):
    tables.write_table("t.csv", HEAD.format("c1", 1, 10), COLUMNS, [("a", "x", 0, 1.0)])
    before = (tmp_path / "t.csv").read_text()

    def rows():
        yield "a", "x", 0, 2.0
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        tables.write_table("t.csv", HEAD.format("c2", 2, 1), COLUMNS, rows())
    assert (tmp_path / "t.csv").read_text() == before


def test_a_commit_is_shortened_and_its_changes_are_told(tables):
    whole = "0123456789abcdef0123456789abcdef01234567"
    made = {whole, f"{whole}+changes", f"{whole[:12]}+changes", "not in a checkout"}
    head = tables.head_of("s.py", made, 1.0, {}, device="GPU")
    commits = f"{whole[:12]} and {whole[:12]}+changes and not in a checkout"
    assert f"# commit: {commits}\n" in head and "# device: GPU\n" in head


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_table_says_where_it_comes_from(path):
    table = recorded(path.stem)
    assert {"script", "commit", "date", "versions", "device"} <= set(table.attrs)
    scripts = table.attrs["script"].split(" and ")
    assert all((DATA / "results" / s.split("/")[-1]).is_file() for s in scripts)
    assert len(table) and not table.duplicated().any()
