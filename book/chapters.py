"""Run the chapters: each under papermill, only when something it depends on changed."""

import ast
import json
import multiprocessing
import os
import re
import sys
import threading
import time
import tomllib
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue

import nbformat
from nbclient.exceptions import DeadKernelError
from places import StepError, digest, environment, library_files, seconds, versions
from traitlets.config import Config

# A live widget's output is sent back to the kernel; above 64 kB without a copy, which
# gets lost (nbclient 0.11 with jupyter_client 8.10), and the chapter would hang.
COPYING = {"Session": {"copy_threshold": 1 << 30}}
AT_ONCE = 2  # chapters; a kernel takes 2 to 4 GB
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def tagged(notebook, tag):
    """Return the cells that carry a tag."""
    return [c for c in notebook.cells if tag in c.metadata.get("tags", [])]


def parameter_names(notebook):
    """Return the names that the notebook's parameters cell declares."""
    cells = tagged(notebook, "parameters")
    lines = ast.parse(cells[0].source).body if cells else []
    return [line.target.id for line in lines if isinstance(line, ast.AnnAssign)]


def key_of(source, root, parameters):
    """Return the hash of everything that a chapter's result depends on."""
    files = [source, *library_files(root)]
    return digest(files, root, sorted(parameters.items()), versions())


def _files(source, places):
    """Return where an executed chapter lies, and the note under which key it ran."""
    return places.executed / source.name, places.executed / f"{source.stem}.json"


def _recorded(source, places):
    """Return a hash of what a chapter has recorded."""
    there = [path for path in ledger_files(source, places) if path.exists()]
    return digest(there, places.ledger)


def unchanged(source, places, parameters):
    """Return whether a chapter ran as it stands, and say so."""
    done, note = _files(source, places)
    before = json.loads(note.read_text()) if done.exists() and note.exists() else {}
    if before.get("key") != key_of(source, places.root, parameters):
        return False
    if before.get("recorded") != _recorded(source, places):
        return False
    took = seconds(before["seconds"])
    print(f"  {source.stem}: unchanged since it ran ({took} then)")
    return True


def ledger_files(source, places):
    """Return the ledger's files of the claims that a chapter decides."""
    path = places.root / "data/claims.toml"
    claims = tomllib.loads(path.read_text())["claim"] if path.exists() else []
    mine = [claim["id"] for claim in claims if claim["chapter"] == source.stem]
    return [places.ledger / f"{name}.json" for name in mine]


def run(source, places, parameters, line=0):
    """Run one chapter unless its key is unchanged; return the executed notebook's path.

    Parameters
    ----------
    source : Path
        The notebook as it stands in the repository.
    places : Places
    parameters : dict
        What the profile sets; every name must stand in the parameters cell.
    line : int
        Of the terminal, for the progress bar.

    Raises
    ------
    StepError
        With the number of the cell that failed, its source and the traceback.
    """
    name, (done, note) = source.stem, _files(source, places)
    if unchanged(source, places, parameters):
        return done
    key = key_of(source, places.root, parameters)
    _say(f"  {name}: running")
    for stale in [note, *ledger_files(source, places)]:  # parts may be gone
        stale.unlink(missing_ok=True)
    start = time.time()
    _execute(source, done, places, parameters, line)
    took = time.time() - start
    about = {"key": key, "seconds": took, "parameters": parameters}
    note.write_text(json.dumps(about | {"recorded": _recorded(source, places)}))
    _say(f"  {name}: {seconds(took)}")
    return done


def run_all(jobs, places):
    """Run the chapters that changed, some side by side; return where they lie.

    Each has its share of the processor's threads, unless OMP_NUM_THREADS says
    otherwise. If one fails, those that run come to their end and no other begins.

    Parameters
    ----------
    jobs : list of (source, parameters), as for `run`
    places : Places

    Raises
    ------
    StepError
        As `run`, of the first one that failed.
    """
    left = [job for job in jobs if not unchanged(job[0], places, job[1])]
    if left:
        _side_by_side(left, places, min(AT_ONCE, len(left)))
    return [_files(source, places)[0] for source, _ in jobs]


def _side_by_side(left, places, count):
    processes, lines = multiprocessing.get_context("spawn"), SimpleQueue()
    lock, threads = processes.RLock(), max(1, (os.cpu_count() or 1) // count)
    stopped = threading.Event()
    for line in range(count):
        lines.put(line)

    def one(source, parameters):
        if stopped.is_set():
            return
        line, (here, there) = lines.get(), processes.Pipe(duplex=False)
        given = (source, places, parameters, line, lock, threads, there)
        process = processes.Process(target=_in_a_process, args=given)
        process.start()
        there.close()  # so its end is seen here
        try:
            failed = here.recv()
        except EOFError:
            failed = ""
        process.join()
        lines.put(line)
        if process.exitcode and not failed:
            failed = f"{source.stem}: its process ended with status {process.exitcode}"
        if failed:
            stopped.set()
            raise StepError(failed)

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(one, *job) for job in left]
        try:
            for done in as_completed(running):
                done.result()
        finally:
            stopped.set()


def _in_a_process(source, places, parameters, line, lock, threads, end):
    """Run one chapter, and send what failed."""
    from tqdm.auto import tqdm

    tqdm.set_lock(lock)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    try:
        run(source, places, parameters, line)
    except StepError as error:
        end.send(str(error))
    except KeyboardInterrupt:
        os._exit(130)  # the kernel has ended; no traceback from its sockets


def _say(text):
    """Print a line above the progress bars."""
    from tqdm.auto import tqdm

    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def _execute(source, done, places, parameters, line):
    os.environ.update(environment(places))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import papermill
    cwd = places.site / "notebooks"
    for folder in (done.parent, places.ledger, cwd):
        folder.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(source, 4)
    set_parameters(notebook, parameters, source.stem)
    running = done.with_suffix(".running.ipynb")
    nbformat.write(notebook, running)
    try:
        papermill.execute_notebook(
            str(running),
            str(running),
            kernel_name="python3",
            cwd=str(cwd),
            progress_bar={
                "desc": f"  {source.stem}",
                "position": line,
                "leave": False,
                "disable": None,  # where no one looks
            },
            extra_arguments=["--log-level=ERROR"],  # not its note on local sockets
            config=Config(COPYING),
        )
    except papermill.PapermillExecutionError as error:
        raise StepError(_report(source.stem, error)) from None
    except DeadKernelError:
        raise StepError(
            f"{source.stem}: the kernel died, most often for want of memory; "
            f"how far it came stands in {running}"
        ) from None
    running.replace(done)


def _report(name, error):
    trace = ANSI.sub("", "\n".join(error.traceback))
    lines = [
        f"{name} failed in cell {error.cell_index}: {error.ename}",
        "",
        "the cell:",
    ]
    lines += ["    " + line for line in error.source.splitlines()]
    return "\n".join([*lines, "", "the traceback:", trace])


def set_parameters(notebook, parameters, name):
    """Write a profile's values into the lines `name: type = value  # meaning`.

    Not papermill's injected cell: so the page shows the values behind its figures, and
    cells keep their numbers.
    """
    unknown = set(parameters) - set(parameter_names(notebook))
    if unknown:
        raise StepError(
            f"{name}: profiles.toml sets {', '.join(sorted(unknown))}, "
            f"the parameters cell has {', '.join(parameter_names(notebook))}"
        )
    for cell in tagged(notebook, "parameters"):
        for key, value in parameters.items():
            line = re.compile(rf"^({key}: [^=]+ = )(.*?)(\s*#.*)?$", re.MULTILINE)
            new = repr(value).replace("'", '"')
            cell.source = line.sub(
                lambda m, v=new: m[1] + v + (m[3] or ""), cell.source
            )


def clean(notebook):
    """Return the executed notebook as a page: without papermill, widgets, stderr."""
    notebook = nbformat.from_dict(notebook)
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    injected = tagged(notebook, "injected-parameters")
    notebook.cells = [cell for cell in notebook.cells if cell not in injected]
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return notebook


def complaints(notebook):
    """Return what the chapter's cells wrote to standard error, by cell."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                last = output.text.strip().splitlines()[-1:]
                found.append(f"cell {number} wrote to stderr: {''.join(last)[:160]}")
    return found
