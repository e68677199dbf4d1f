"""The repository's address stands once; the bootstrap cell finds the library."""

import shutil
import subprocess
import sys

import address
import bootstrap
import nbformat
import pytest
import yaml

NEW = "https://github.com/someone/else"


@pytest.fixture
def copy(tmp_path, root):
    """Return a copy of the files that hold the address, with one notebook."""
    for name in ("pyproject.toml", "_config.yml"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])
    nbformat.write(notebook, tmp_path / "notebooks/01_a.ipynb")
    return tmp_path


def test_the_address_is_written_everywhere_once(copy):
    pyproject = copy / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace(address.address(copy), NEW))
    assert [path.name for path in address.write(copy)] == ["_config.yml", "01_a.ipynb"]
    config = yaml.safe_load((copy / "_config.yml").read_text())
    assert config["repository"]["url"] == NEW
    first = nbformat.read(copy / "notebooks/01_a.ipynb", 4).cells[0]
    assert f"git+{NEW}@v0.1.0" in first.source
    assert address.write(copy) == []


def test_a_fork_takes_the_address_from_its_environment(copy, monkeypatch):
    monkeypatch.setenv("XAI_LIB_REPOSITORY", NEW + "/")
    assert address.address(copy) == NEW


def test_the_example_address_is_known_as_one():
    assert address.is_example("https://github.com/OWNER/book")
    assert not address.is_example(NEW)


def run_cell(cwd, then):
    """Run the bootstrap cell without site-packages, so that only a path can help."""
    source = bootstrap.text(NEW, "v1") + "\n" + then
    command = [sys.executable, "-S", "-c", source]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={})


def test_the_bootstrap_cell_finds_a_checkout_above(tmp_path):
    (tmp_path / "xai_lib").mkdir()
    (tmp_path / "xai_lib/__init__.py").write_text("here = True")
    (tmp_path / "notebooks").mkdir()
    done = run_cell(tmp_path / "notebooks", "import xai_lib; print(xai_lib.here)")
    assert done.stdout == "True\n", done.stderr


def test_the_bootstrap_cell_installs_from_the_tag_when_alone(tmp_path):
    done = run_cell(tmp_path, "")
    assert done.returncode != 0
    wanted = f"'install', '-q', '--no-deps', 'git+{NEW}@v1'"
    assert wanted in done.stderr


def test_the_bootstrap_cell_is_renewed_not_repeated():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])
    assert bootstrap.put(notebook, NEW, "v1")
    assert not bootstrap.put(notebook, NEW, "v1")
    assert bootstrap.put(notebook, NEW, "v2")
    assert [cell.source for cell in notebook.cells] == [
        bootstrap.text(NEW, "v2"),
        "x = 1",
    ]
