"""The live partner of the slider, for Jupyter and Colab."""

from collections.abc import Callable

import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def explore(draw: Callable[..., Figure], **controls) -> None:
    """Redraw a figure as its controls move.

    Parameters
    ----------
    draw : callable
        Takes the controls by keyword and returns a Figure.
    **controls
        What ``ipywidgets.interact`` takes: (low, high, step), a list of choices, a
        bool, a text, or a widget.

    Returns
    -------
    None, so that a notebook does not show the controls twice.

    Raises
    ------
    ImportError
        Without ipywidgets.

    Notes
    -----
    The figure is displayed once and closed: ``interact`` on a function that returns a
    pyplot figure draws it twice. A slider calls back when it is let go, not on the way.
    It needs a running kernel; `Frames` is the form for a page without one.
    """
    try:
        import ipywidgets
        from IPython.display import display
    except ImportError as error:
        raise ImportError(
            "explore needs ipywidgets in a notebook (pip install ipywidgets); "
            "the slider above needs neither"
        ) from error
    if not controls:
        raise ValueError("explore needs at least one control, got none")

    def redraw(**values) -> None:
        figure = draw(**values)
        if not isinstance(figure, Figure):
            got = type(figure).__name__
            raise TypeError(f"draw must return a matplotlib Figure, got {got}")
        plt.close(figure)
        display(figure)

    panel = ipywidgets.interactive(redraw, **controls)
    for control in panel.children[:-1]:
        if hasattr(control, "continuous_update"):
            control.continuous_update = False
    display(panel)
