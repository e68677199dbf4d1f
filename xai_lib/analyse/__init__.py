"""What is in a map: spectra, filters, convergence, alignment."""

from xai_lib.analyse.aliasing import (
    REDUCTIONS,
    backward_ratios,
    swap_composite,
    swapped_gradient,
)
from xai_lib.analyse.convergence import (
    abs_cosine,
    chance_csc,
    csc,
    csc_summary,
    whole_map_csc,
)
from xai_lib.analyse.downsample_nets import (
    DOWNSAMPLER_SWAPS,
    downsampling_steps,
    with_downsampler,
)
from xai_lib.analyse.downsample_rules import BACKWARD_SWAPS
from xai_lib.analyse.edges import gradient_magnitude
from xai_lib.analyse.filters import (
    best_cutoff,
    gaussian_smooth,
    low_pass,
    rectified_low_pass,
)
from xai_lib.analyse.input_alignment import (
    alignment,
    alignment_by_layer,
    alignment_law,
    chance_alignment,
    random_layer_alignment,
)
from xai_lib.analyse.layer_signals import (
    alignment_readings,
    backward_signals,
    carries_input,
    shuffled_alignment,
    weighted_inputs,
)
from xai_lib.analyse.matrices import MATRIX_LAWS, VGG16_CHAIN, matrix_chain
from xai_lib.analyse.noise import power_law_noise
from xai_lib.analyse.random_nets import (
    WEIGHT_LAWS,
    predicted_alignment,
    random_mlp,
    redraw_weights,
)
from xai_lib.analyse.sampling import UPSAMPLING_GAINS, tap_counts, upsampling_gain
from xai_lib.analyse.singular import singular_ratio
from xai_lib.analyse.spectrum import (
    frequency_grid,
    high_frequency_ratio,
    power_spectrum,
    radial_spectrum,
    ring_means,
    share_above,
    spectral_slope,
)

__all__ = [
    "BACKWARD_SWAPS",
    "DOWNSAMPLER_SWAPS",
    "MATRIX_LAWS",
    "REDUCTIONS",
    "UPSAMPLING_GAINS",
    "VGG16_CHAIN",
    "WEIGHT_LAWS",
    "abs_cosine",
    "alignment",
    "alignment_by_layer",
    "alignment_law",
    "alignment_readings",
    "backward_ratios",
    "backward_signals",
    "best_cutoff",
    "carries_input",
    "chance_alignment",
    "chance_csc",
    "csc",
    "csc_summary",
    "downsampling_steps",
    "frequency_grid",
    "gaussian_smooth",
    "gradient_magnitude",
    "high_frequency_ratio",
    "low_pass",
    "matrix_chain",
    "power_law_noise",
    "power_spectrum",
    "predicted_alignment",
    "radial_spectrum",
    "random_layer_alignment",
    "random_mlp",
    "rectified_low_pass",
    "redraw_weights",
    "ring_means",
    "share_above",
    "shuffled_alignment",
    "singular_ratio",
    "spectral_slope",
    "swap_composite",
    "swapped_gradient",
    "tap_counts",
    "upsampling_gain",
    "weighted_inputs",
    "whole_map_csc",
    "with_downsampler",
]
