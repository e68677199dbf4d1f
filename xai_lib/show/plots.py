"""Curves by method: one colour per method, dashes by family."""

import numpy as np
from matplotlib.figure import Figure

from xai_lib.show._axes import (
    family_key,
    label_ends,
    log_scales,
    printed_names,
    rulers,
)
from xai_lib.show._data import as_array, as_bands, as_curves, as_named
from xai_lib.show.style import (
    SOFT,
    WIDTH,
    house_style,
    line_style,
    method_colour,
    new_figure,
    readable,
)


def _references(axis, x, references) -> list:
    """Draw grey reference lines; a number is drawn across."""
    ends = []
    dashes = ["--", ":", "-.", (0, (6, 2, 1, 2, 1, 2))]
    for i, (label, values) in enumerate((references or {}).items()):
        values = as_array(values, f"references[{label!r}]")
        values = np.full(len(x), values) if values.ndim == 0 else values
        values = as_curves({label: values}, len(x), "references")[label]
        style = dashes[i % len(dashes)]
        axis.plot(x, values, color=SOFT, linestyle=style, linewidth=1.4, zorder=1.5)
        ends.append((label, x, values, SOFT))
    return ends


def _curves(axis, x, curves, bands, labels, references) -> None:
    ends = _references(axis, x, references)
    for i, (name, values) in enumerate(curves.items()):
        colour = method_colour(name, i)
        if name in bands:
            axis.fill_between(x, *bands[name], color=colour, alpha=0.2, linewidth=0)
        axis.plot(x, values, color=colour, linestyle=line_style(name))
        ends.append((labels[name], x, values, readable(colour)))
    label_ends(axis, ends)


@house_style
def curve_plot(
    x,
    curves,
    *,
    bands=None,
    xlabel: str,
    ylabel: str,
    references=None,
    labels=None,
    marks=None,
    log: str = "",
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """Draw named curves over one x axis, each labelled at its end.

    Parameters
    ----------
    x : (K,)
    curves : dict of name to (K,)
        A name in ``METHODS`` gets its colour, its dashes (by family) and its label.
    bands : dict of name to (low, high), each (K,), optional
        Intervals, shaded.
    xlabel, ylabel : str
        With units.
    references : dict of label to a number or (K,), optional
        Grey dashed lines, for instance a control.
    labels : dict of name to str, optional
        Printed names, where they differ from the methods' own.
    marks : dict of label to x, optional
        Vertical rulers.
    log : str
        The axes on a log scale: "", "x", "y" or "xy".
    ylim : (low, high), optional
        The same in every frame of a slider, so that only the curves move.

    Returns
    -------
    Figure, not known to pyplot: let it be the last expression of a cell.

    Examples
    --------
    >>> figure = curve_plot([1, 2], {"a": [0.1, 0.3]}, xlabel="cutoff", ylabel="r")
    >>> figure.axes[0].get_xlabel()
    'cutoff'
    """
    x = as_array(x, "x", 1)
    curves = as_curves(as_named(curves, "curves"), len(x), "curves")
    bands = as_bands(bands, curves, len(x))
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f'log must be "", "x", "y" or "xy", got {log!r}')
    figure = new_figure(WIDTH, 4.3)
    axis = figure.subplots()
    axis.grid(True, zorder=0)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    log_scales(axis, log)
    axis.set_xlim(x.min(), x.max())
    if ylim is not None:  # set_ylim(None) would stop the automatic limits
        axis.set_ylim(*ylim)
    rulers(axis, marks)
    _curves(axis, x, curves, bands, printed_names(labels, curves), references)
    family_key(axis, curves)
    return figure


def spectra_plot(
    frequency,
    power_by_method,
    *,
    bands=None,
    references=None,
    labels=None,
    marks=None,
    ylim: tuple[float, float] | None = None,
    xlabel: str = "spatial frequency (cycles per image)",
    ylabel: str = "power (white noise = 1)",
) -> Figure:
    """Draw radial power spectra on log-log axes.

    Parameters
    ----------
    frequency : (K,), cycles per image
        Zero has no place on a log axis and is left out.
    power_by_method : dict of name to (K,)
        For instance the mean over images of what `radial_spectrum` returns.
    bands, references, labels, marks, ylim, xlabel, ylabel
        As in `curve_plot`.

    Returns
    -------
    Figure

    Examples
    --------
    >>> figure = spectra_plot([0, 1, 2], {"a": [1.0, 0.5, 0.1]})
    >>> figure.axes[0].get_yscale()
    'log'
    """
    frequency = as_array(frequency, "frequency", 1)
    keep = frequency > 0
    if not keep.any():
        raise ValueError("frequency must reach above 0, got none that does")

    def cut(values, name):
        values = as_array(values, name)
        return values if values.ndim == 0 else _cut(values, keep, name)

    power = as_named(power_by_method, "power_by_method")
    return curve_plot(
        frequency[keep],
        {k: cut(v, f"power_by_method[{k!r}]") for k, v in power.items()},
        bands={k: [cut(s, "bands") for s in v] for k, v in (bands or {}).items()},
        references={k: cut(v, "references") for k, v in (references or {}).items()},
        labels=labels,
        marks=marks,
        ylim=ylim,
        xlabel=xlabel,
        ylabel=ylabel,
        log="xy",
    )


def _cut(values: np.ndarray, keep: np.ndarray, name: str) -> np.ndarray:
    """Keep a curve where the frequency is positive; powers of zero become gaps."""
    if values.shape != keep.shape:
        raise ValueError(f"{name} must have shape {keep.shape}, got {values.shape}")
    return np.where(values > 0, values, np.nan)[keep]
