"""The live partner of the slider, for Jupyter and Colab."""

import io
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
    The figure is drawn into an image widget, not captured as output: ``interact`` draws
    a pyplot figure twice, and its captured output hangs papermill when it is large. A
    slider calls back when it is let go, not on the way. It needs a running kernel;
    `Frames` is the form for a page without one.
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

    widget = ipywidgets.interactive.widget_from_abbrev
    chosen = {name: widget(abbreviation) for name, abbreviation in controls.items()}
    picture = ipywidgets.Image(format="png")

    def redraw(*_) -> None:
        picture.value = _png(draw(**{name: one.value for name, one in chosen.items()}))

    for name, control in chosen.items():
        control.description = control.description or name
        if hasattr(control, "continuous_update"):
            control.continuous_update = False
        control.observe(redraw, "value")
    redraw()
    display(ipywidgets.VBox([*chosen.values(), picture]))


def _png(figure: Figure) -> bytes:
    if not isinstance(figure, Figure):
        got = type(figure).__name__
        raise TypeError(f"draw must return a matplotlib Figure, got {got}")
    plt.close(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90)
    return file.getvalue()
