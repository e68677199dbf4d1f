"""Spectra as pictures: power over both frequencies."""

import numpy as np
from matplotlib.figure import Figure

from xai_lib.show._data import as_array, as_named
from xai_lib.show.style import WIDE, house_style, method_label, new_figure


@house_style
def spectrum_image(power, *, centred: bool = True, decades: float = 6.0) -> Figure:
    """Draw power spectra as pictures, zero frequency in the middle, log scale.

    Parameters
    ----------
    power : Tensor, shape (H, W), or dict of name to such
        Power per frequency, not its logarithm.
    centred : bool
        True: zero frequency at (H // 2, W // 2), as `power_spectrum` returns it.
        False: at [0, 0], as the FFT leaves it.
    decades : float above 0
        How far below its own maximum each picture reaches.

    Returns
    -------
    Figure

    Examples
    --------
    >>> spectrum_image(np.random.rand(8, 8)).axes[0].get_xlabel()
    'cycles per image'
    """
    power = power if isinstance(power, dict) else {"": power}
    power = as_named(power, "power")
    if not decades > 0:
        raise ValueError(f"decades must be above 0, got {decades}")
    cell = min(WIDE / (len(power) + 0.25), 3.6)
    figure = new_figure(cell * (len(power) + 0.25), cell + 0.45)
    axes = figure.subplots(1, len(power), squeeze=False)[0]
    for axis, (name, values) in zip(axes, power.items(), strict=True):
        values = as_array(values, f"power[{name!r}]", 2)
        if values.min() < 0 or not values.max() > 0:
            raise ValueError(f"power[{name!r}] must be non-negative and not all zero")
        values = values if centred else np.fft.fftshift(values)
        picture = _panel(axis, values / values.max(), decades)
        axis.set(title=method_label(name), xlabel="cycles per image")
    for axis in axes[1:]:
        axis.tick_params(left=False, labelleft=False)
    axes[0].set_ylabel("cycles per image")
    bar = figure.colorbar(picture, ax=list(axes), shrink=0.95, aspect=24, pad=0.02)
    bar.set_label("log10 (power / maximum)", fontsize=10)
    bar.outline.set_visible(False)
    return figure


def _panel(axis, power: np.ndarray, decades: float):
    """Draw one centred spectrum whose maximum is 1."""
    height, width = power.shape
    top, left = -(height // 2) - 0.5, -(width // 2) - 0.5
    with np.errstate(divide="ignore"):
        log = np.maximum(np.log10(power), -decades)
    extent = (left, left + width, top + height, top)
    axis.set_xticks([-(width // 4), 0, width // 4])
    axis.set_yticks([-(height // 4), 0, height // 4])
    return axis.imshow(log, cmap="mako", vmin=-decades, vmax=0, extent=extent)
