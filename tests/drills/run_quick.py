"""Run NAME.ipynb of this folder with the quick profile's parameters, nothing else."""

import os
import sys
import tomllib
from pathlib import Path

import papermill
from traitlets.config import Config

name, root = sys.argv[1], Path(sys.argv[2])
profiles = tomllib.loads((root / "notebooks/profiles.toml").read_text())
os.environ["XAI_LIB_LEDGER"] = str(Path.cwd() / "ledger")
papermill.execute_notebook(
    f"{name}.ipynb",
    "out.ipynb",
    parameters=profiles["quick"].get(name, {}),
    kernel_name="python3",
    config=Config({"Session": {"copy_threshold": 1 << 30}}),  # see book/chapters.py
    progress_bar=sys.stderr.isatty(),
)
