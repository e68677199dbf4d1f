"""Units on an existing Dask cluster: a lost worker costs a retry."""

import time
from collections.abc import Callable, Iterator, Sequence

from xai_lib.study.units import Unit, measure

WAIT = 30  # seconds for the scheduler to answer, and for a first worker
RETRIES = 3


def find_dask():
    """Return `dask.distributed`, or say how to install it."""
    try:
        import distributed
    except ImportError as missing:
        hint = "pip install distributed, or the extra xai_lib[cluster]"
        raise ImportError(f"a cluster needs dask.distributed: {hint}") from missing
    return distributed


def on_cluster(
    units: Sequence[Unit], address: str, load: Callable, wait: float = WAIT
) -> Iterator[tuple[Unit, list[dict] | Exception]]:
    """Yield every unit as it is finished, with its rows or what became of it.

    Parameters
    ----------
    units : what to run
    address : of the scheduler, such as ``tcp://10.0.0.1:8786``
    load : as `measure`; the workers must be able to import it
    wait : seconds for the scheduler to answer, and for a first worker to be there

    Raises
    ------
    ImportError
        without `dask.distributed`
    OSError
        if there is no scheduler at the address, or no worker with it; later, if no unit
        is finished for so long and no worker is left

    Notes
    -----
    Each unit is one task, run again on another worker when its worker dies, as often as
    the scheduler allows (its ``allowed-failures``, 3), and when it fails. The rows come
    back here: workers need no common folder, but the same versions of xai_lib and
    torch, and a way to the weights and images.
    """
    dask = find_dask()
    with _client(dask, address, wait) as client:
        own = {"retries": RETRIES, "pure": False}
        tasks = {
            client.submit(measure, unit, load, key=f"xai_lib-{unit.key}", **own): unit
            for unit in units
        }
        done = dask.as_completed(list(tasks), loop=client.loop)
        while tasks:
            _wait_for_one(done, client, wait)
            task = next(done)
            yield tasks.pop(task), _outcome(task)


def _wait_for_one(done, client, wait: float) -> None:
    """Wait until a task is finished; raise if no worker is left to finish one."""
    since = time.monotonic()
    while not done.has_ready():
        time.sleep(0.02)
        if time.monotonic() - since < wait:
            continue
        if not client.scheduler_info()["workers"]:
            left = f"no worker is left, and {done.count()} units are to do"
            raise OSError(f"{left}; the same command goes on")
        since = time.monotonic()


def _outcome(task) -> list[dict] | Exception:
    try:
        return task.result()
    except Exception as error:
        return error


def _client(dask, address: str, wait: float):
    try:
        client = dask.Client(address, timeout=wait, set_as_default=False)
    except (OSError, ValueError) as error:
        wanted = "cluster must be the address of a Dask scheduler that runs"
        raise OSError(f"{wanted}, got {address!r}: {error}") from error
    try:
        client.wait_for_workers(1, timeout=wait)
    except TimeoutError:
        client.close()
        start = f"start one with: dask worker {address} --nthreads 1"
        raise OSError(f"no worker at {address} after {wait:g} s; {start}") from None
    return client
