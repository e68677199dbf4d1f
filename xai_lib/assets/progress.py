"""One line on stderr while something long runs; start and end only in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

CLEAR = "\x1b[K"  # to the end of the line


class Progress:
    """Show how far a download is, or another long task with a unit of its own.

    On a terminal the line is redrawn ten times a second at most; elsewhere there is
    one line at the start and one at the end.
    """

    def __init__(self, label: str, total: float = 0.0, unit: str = "MB"):
        self.label, self.total, self.unit = label, total, unit
        self.begun = self.drawn = time.monotonic()
        self.live = sys.stderr.isatty()
        size = f" ({total:.0f} {unit})" if total else ""
        self._write(f"{label}{size} ...", end="" if self.live else "\n")

    def show(self, n: int) -> None:
        """Redraw the line for the bytes, or units, that are done."""
        now = time.monotonic()
        if not self.live or now - self.drawn < 0.1:
            return
        self.drawn, done = now, n / 1e6 if self.unit == "MB" else n
        bar = ""
        if self.total:
            filled = min(20, round(20 * done / self.total))
            bar = f"[{'#' * filled}{'.' * (20 - filled)}] "
        took = f"{done:.1f} {self.unit}, {now - self.begun:.0f} s"
        self._write(f"\r{self.label} {bar}{took}{CLEAR}", "")

    def end(self, outcome: str) -> None:
        """Finish the line with what came of it."""
        seconds = time.monotonic() - self.begun
        text = f"{self.label}: {outcome} after {seconds:.1f} s"
        self._write(f"\r{text}{CLEAR}" if self.live else text)

    def _write(self, text: str, end: str = "\n") -> None:
        print(text, end=end, file=sys.stderr, flush=True)


class LateProgress:
    """Progress of a computation, shown only once it has run for a while."""

    SILENT_SECONDS = 2.0
    silent = False

    def __init__(self, label: str, total: int, unit: str):
        self.call, self.done, self.begun = (label, total, unit), 0, time.monotonic()
        self.line: Progress | None = None

    def more(self, n: int = 1) -> None:
        """Count n units more."""
        self.done += n
        late = time.monotonic() - self.begun > self.SILENT_SECONDS
        if self.line is None and late and not self.silent:
            self.line = Progress(*self.call)
            self.line.begun = self.begun
        if self.line is not None:
            self.line.show(self.done)

    def end(self, outcome: str = "done") -> None:
        """Finish the line, if there is one."""
        if self.line is not None:
            self.line.end(outcome)


@contextmanager
def without_late_lines() -> Iterator[None]:
    """Show no `LateProgress` for the length of a block that has a line of its own."""
    before, LateProgress.silent = LateProgress.silent, True
    try:
        yield
    finally:
        LateProgress.silent = before
