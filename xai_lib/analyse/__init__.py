"""What is in a map: spectra, filters."""

from xai_lib.analyse.filters import low_pass
from xai_lib.analyse.noise import power_law_noise
from xai_lib.analyse.spectrum import (
    frequency_grid,
    high_frequency_ratio,
    power_spectrum,
    radial_spectrum,
    spectral_slope,
)

__all__ = [
    "frequency_grid",
    "high_frequency_ratio",
    "low_pass",
    "power_law_noise",
    "power_spectrum",
    "radial_spectrum",
    "spectral_slope",
]
