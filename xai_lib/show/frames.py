"""A slider over figures drawn beforehand: it needs no kernel and no network."""

import base64
import html
import io
import json
import string
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from xai_lib.show.style import house_style, method_label

MAX_FRAMES = 9
_JS = Path(__file__).with_name("frames.js").read_text(encoding="utf-8")


class Frames:
    """Draw one figure per value and show them behind a slider.

    The same output works in Jupyter, in Colab, on the static site and from a file:
    pictures, script and text travel together. Without JavaScript the start figure
    stays, with its value, its alt text and its caption.

    Parameters
    ----------
    name : str
        What the slider moves, for instance "cutoff".
    values : sequence of 2 to 9 numbers or strings
        A method's name is printed as its label.
    draw : callable
        ``draw(value)`` returns a Figure; all of them must have one size.
    alt : str
        What is seen, as a format string with ``{value}`` (the formatted value) or
        ``{label}`` (the value with its unit).
    caption : str, optional
        Plain text below the figure.
    unit : str
        Written after the value.
    fmt : str
        Format of a number.
    start : int, optional
        Index of the figure shown first; the middle one by default.
    dpi : int
        Dots per inch; 90 makes a figure of 7.4 inches 666 pixels wide.

    Raises
    ------
    TypeError, ValueError
        In one line: what was wanted, what came.

    Notes
    -----
    The same figures give the same bytes: the pictures are WebP without metadata.

    Examples
    --------
    >>> def draw(cutoff):
    ...     figure = Figure((2, 1))
    ...     figure.text(0.5, 0.5, cutoff)
    ...     return figure
    >>> Frames("cutoff", [4, 8], draw, alt="Cut at {label}", unit="cycles per image")
    <Frames 'cutoff': 4, 8 cycles per image>
    """

    def __init__(
        self,
        name: str,
        values: Sequence,
        draw: Callable[..., Figure],
        *,
        alt: str,
        caption: str | None = None,
        unit: str = "",
        fmt: str = "{:g}",
        start: int | None = None,
        dpi: int = 90,
    ):
        values = list(values)
        if not 2 <= len(values) <= MAX_FRAMES:
            raise ValueError(f"values must be 2 to {MAX_FRAMES}, got {len(values)}")
        _check_alt(alt)
        self.name, self.unit, self.caption = str(name), unit, caption
        self.start = len(values) // 2 if start is None else start
        if self.start not in range(len(values)):
            raise ValueError(f"start must lie in 0 to {len(values) - 1}, got {start}")
        self.frames: list[dict[str, str]] = []
        self.size: tuple[int, int] | None = None  # pixels
        for value in values:
            short = method_label(value) if isinstance(value, str) else fmt.format(value)
            label = f"{short} {unit}".strip()
            words = alt.format(value=short, label=label)
            src = self._picture(draw, value, dpi)
            frame = {"label": label, "short": short, "alt": words, "src": src}
            self.frames.append(frame)

    def _picture(self, draw: Callable, value, dpi: int) -> str:
        """Return one figure as a data address, and hold all of them to one size."""
        data, size = _encode(house_style(draw)(value), dpi)
        if self.size not in (None, size):
            wanted = f"draw must return figures of one size, {self.size} pixels"
            raise ValueError(f"{wanted}, got {size} for {value}")
        self.size = size
        return "data:image/webp;base64," + base64.b64encode(data).decode("ascii")

    def __repr__(self) -> str:
        values = ", ".join(frame["short"] for frame in self.frames)
        return f"<Frames {self.name!r}: {f'{values} {self.unit}'.strip()}>"

    def _repr_html_(self) -> str:
        first = self.frames[self.start]
        frames = [dict(frame) for frame in self.frames]
        del frames[self.start]["src"]  # it stands in the img
        content = {"name": self.name, "start": self.start, "frames": frames}
        words = {
            "label": html.escape(f"{self.name}: {first['label']}"),
            "src": first["src"],
            "alt": html.escape(first["alt"]),
            "width": self.size[0],
            "height": self.size[1],
            "json": _script_safe(json.dumps(content)),
            "caption": _figcaption(self.caption),
            "js": _JS,
        }
        return _HTML.substitute(words)


_HTML = string.Template(
    '<xai-frames><figure><div class="xai-bar">$label</div>'
    '<img src="$src" alt="$alt" width="$width" height="$height" '
    'style="max-width:100%;height:auto;background:#fff;border-radius:4px">'
    "$caption</figure>"
    '<script type="application/json">$json</script></xai-frames>\n'
    "<script>$js</script>"
)


def _check_alt(alt: str) -> None:
    if not isinstance(alt, str):
        raise TypeError(f"alt must be a format string, got {type(alt).__name__}")
    fields = {field for _, field, _, _ in string.Formatter().parse(alt)} - {None}
    if not fields or not fields <= {"value", "label"}:
        got = ", ".join(f"{{{field}}}" for field in sorted(fields)) or "neither"
        raise ValueError(f"alt must hold {{value}} or {{label}}, got {got}")


def _script_safe(text: str) -> str:
    """Escape what could end a script element; JSON reads it back unchanged."""
    return text.replace("<", "\\u003c")


def _figcaption(caption: str | None) -> str:
    return f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""


def _encode(figure: Figure, dpi: int) -> tuple[bytes, tuple[int, int]]:
    """Return a figure as WebP, with its size in pixels, and close it."""
    if not isinstance(figure, Figure):
        got = type(figure).__name__
        raise TypeError(f"draw must return a matplotlib Figure, got {got}")
    plt.close(figure)
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=dpi, facecolor="white")
    picture = Image.open(raw).convert("RGB")
    best = io.BytesIO()
    picture.save(best, "WEBP", quality=88, method=6, use_sharp_yuv=True)
    return best.getvalue(), picture.size
