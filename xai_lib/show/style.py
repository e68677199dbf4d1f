"""One house style: sizes, colours of methods, and the two colour maps of maps."""

import functools
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex, to_rgb
from matplotlib.figure import Figure

WIDTH = 6.6  # inches of a plot: at 100 dpi 660 px, letters still readable on a phone
WIDE = 7.4  # inches of a grid of pictures, just inside a page column of 760 px
INK, SOFT = "#222222", "#5f6368"  # text and axes; references and rulers

SIGNED = LinearSegmentedColormap.from_list(
    "xai_signed",
    ["#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#ffffff"]
    + ["#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"],
    N=257,  # odd, so that one entry, the middle one, is exactly white
)
"""Blue below zero, white at zero, red above."""

ABSOLUTE = LinearSegmentedColormap.from_list(
    "xai_absolute",
    ["#ffffff", "#e2dff0", "#bcbddc", "#9a94c7"]
    + ["#796eb2", "#5b3495", "#3f007d", "#1d0440"],
    N=257,
)
"""White at zero, violet to near black above."""

FAMILY_DASHES = {
    "gradient": "-",
    "modified": (0, (5, 1.6)),
    "cam": (0, (5, 1.4, 1, 1.4)),
    "prediction": (0, (1.2, 1.2)),
}
FAMILY_LABELS = {
    "gradient": "gradient",
    "modified": "modified backpropagation",
    "cam": "CAM",
    "prediction": "prediction",
}

_RC = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "figure.figsize": (WIDTH, 4.0),
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.06,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: same pixels anywhere
    "font.size": 11,
    "axes.labelsize": 11.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "regular",
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "axes.linewidth": 0.9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.8,
    "image.interpolation": "nearest",
}
_STYLE = (
    sns.plotting_context("notebook")
    | sns.axes_style("ticks")
    | _RC
    | {"axes.prop_cycle": plt.cycler(color=sns.color_palette("colorblind"))}
)


def use_style() -> None:
    """Set the book's style for every figure drawn from here on.

    Notes
    -----
    White background, because figures are pictures and the page around them may be
    dark; letters of 10 to 11.5 points on 6.6 inches, which at the width of a phone
    are still half as high as its text.

    Examples
    --------
    >>> use_style()
    >>> plt.rcParams["figure.dpi"]
    100.0
    """
    plt.rcParams.update(_STYLE)


def house_style(draw: Callable) -> Callable:
    """Run a plotting function in the house style, whatever style is set outside."""

    @functools.wraps(draw)
    def styled(*args, **kwargs):
        with plt.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float = WIDTH, height: float = 4.0) -> Figure:
    """Open a figure that pyplot forgets at once.

    A notebook shows an open pyplot figure at the end of its cell, and shows a returned
    one as the cell's value: a figure that is both is drawn twice. This one is only
    returned.
    """
    figure = plt.figure(figsize=(width, height))
    plt.close(figure)
    return figure


def signed_norm(limit: float = 1.0) -> Normalize:
    """Return the norm that puts zero in the middle of ``SIGNED``.

    Parameters
    ----------
    limit : float above 0
        The value at either end.

    Examples
    --------
    >>> SIGNED(signed_norm(3.0)(0.0))[:3] == (1.0, 1.0, 1.0)
    True
    """
    if not limit > 0:
        raise ValueError(f"limit must be above 0, got {limit}")
    return Normalize(-limit, limit)


def _method(name: str):
    from xai_lib.attribute import METHODS, NEED_PATTERNS

    return METHODS.get(name) or NEED_PATTERNS.get(name)


def method_label(name: str) -> str:
    """Return the printed name of a method; any other name comes back unchanged."""
    method = _method(name)
    return method.label if method else name


CONTROL_COLOURS = {"random": "#949494", "edges": "#ca9161"}


def method_colour(name: str, index: int = 0) -> str:
    """Return a method's or a control's colour in the whole book, as "#rrggbb".

    Parameters
    ----------
    name : str
        In ``METHODS`` or ``NEED_PATTERNS`` of ``xai_lib.attribute``, a control of
        `xai_lib.study` ("random", "edges"), or any other.
    index : int
        Which colour of the colour-blind-safe palette a name outside the table gets.
    """
    if method := _method(name):
        return method.colour
    palette = sns.color_palette("colorblind").as_hex()
    return CONTROL_COLOURS.get(name, palette[index % len(palette)])


def line_style(name: str) -> str | tuple:
    """Return the dashes of a method's family, the second code beside its colour."""
    method = _method(name)
    return FAMILY_DASHES.get(method.family, "-") if method else "-"


def families(names) -> list[str]:
    """Return the families among the named methods, in the order of their dashes."""
    present = {method.family for name in names if (method := _method(name))}
    return [family for family in FAMILY_DASHES if family in present]


def readable(colour: str, contrast: float = 4.5) -> str:
    """Darken a colour until letters in it have that contrast on white."""
    rgb = np.array(to_rgb(colour))
    for share in np.linspace(1, 0, 51):
        linear = np.where(
            rgb * share <= 0.04045,
            rgb * share / 12.92,
            ((rgb * share + 0.055) / 1.055) ** 2.4,
        )
        if 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= contrast:
            break
    return to_hex(rgb * share)
