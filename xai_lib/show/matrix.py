"""One number for every pair, such as the agreement of two networks."""

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from xai_lib.show._data import as_array, as_named
from xai_lib.show.style import SIGNED, WIDE, house_style, new_figure


@house_style
def matrix_panels(
    matrices, *, names, label: str, limits: tuple[float, float] = (-1.0, 1.0)
) -> Figure:
    """Draw square matrices beside each other, the numbers written in.

    Parameters
    ----------
    matrices : dict of panel to (N, N)
        NaN stays empty, for instance above the diagonal.
    names : list of N str
        Of the rows and columns.
    label : str
        What the numbers are, for the colour bar.
    limits : (low, high)
        Of the colours; white lies in the middle.

    Returns
    -------
    Figure

    Examples
    --------
    >>> figure = matrix_panels({"final": [[1, 0.5], [0.5, 1]]}, names="ab", label="rho")
    >>> figure.axes[0].get_title()
    'final'
    """
    matrices, names = as_named(matrices, "matrices"), list(names)
    low, high = limits
    figure = new_figure(WIDE, 1.5 + 0.31 * len(names))
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04)
    axes = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
    for axis, (panel, matrix) in zip(axes, matrices.items(), strict=True):
        matrix = as_array(matrix, panel, 2)
        if matrix.shape != (len(names), len(names)):
            wanted = (len(names), len(names))
            raise ValueError(f"{panel} must have shape {wanted}, got {matrix.shape}")
        colours = {"vmin": low, "vmax": high, "cmap": SIGNED, "cbar": False}
        written = {"annot": True, "fmt": ".2f", "annot_kws": {"fontsize": 7.5}}
        lines = {"linewidths": 0.8, "linecolor": "white"}
        empty = np.isnan(matrix)
        sns.heatmap(matrix, ax=axis, mask=empty, **colours, **written, **lines)
        axis.set_title(panel, fontsize=10.5)
        axis.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90, fontsize=8.5)
        axis.set_yticks(np.arange(len(names)) + 0.5, names, rotation=0, fontsize=8.5)
        axis.tick_params(length=0)
    bar = figure.colorbar(axes[0].collections[0], ax=axes, shrink=0.7, aspect=24)
    bar.set_label(label, fontsize=10)
    bar.ax.tick_params(labelsize=9)
    bar.outline.set_visible(False)
    return figure
