"""One line on stderr while a download runs; start and end only in a log."""

import sys
import time

CLEAR = "\x1b[K"  # to the end of the line


class Progress:
    """Show how far a download is.

    On a terminal the line is redrawn ten times a second at most; elsewhere there is
    one line at the start and one at the end.
    """

    def __init__(self, label: str, megabytes: float = 0.0):
        self.label, self.total = label, megabytes
        self.begun = self.drawn = time.monotonic()
        self.live = sys.stderr.isatty()
        size = f" ({megabytes:.0f} MB)" if megabytes else ""
        self._write(f"{label}{size} ...", end="" if self.live else "\n")

    def show(self, n_bytes: int) -> None:
        """Redraw the line for the bytes that are here."""
        now = time.monotonic()
        if not self.live or now - self.drawn < 0.1:
            return
        self.drawn, done = now, n_bytes / 1e6
        bar = ""
        if self.total:
            filled = min(20, round(20 * done / self.total))
            bar = f"[{'#' * filled}{'.' * (20 - filled)}] "
        self._write(
            f"\r{self.label} {bar}{done:.1f} MB, {now - self.begun:.0f} s{CLEAR}", ""
        )

    def end(self, outcome: str) -> None:
        """Finish the line with what came of it."""
        seconds = time.monotonic() - self.begun
        text = f"{self.label}: {outcome} after {seconds:.1f} s"
        self._write(f"\r{text}{CLEAR}" if self.live else text)

    def _write(self, text: str, end: str = "\n") -> None:
        print(text, end=end, file=sys.stderr, flush=True)
