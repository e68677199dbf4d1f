"""Makes maps: ``method(model, x, target, *, layer=None, **own)``.

Every map is signed, unreduced and unnormalised, on x's device and in its dtype.
"""

from xai_lib.attribute.backprop import (
    SLOPES,
    UNIFIED,
    deconvnet,
    deep_taylor,
    deeplift,
    estimate_patterns,
    excitation_backprop,
    guided_backprop,
    layer_recursion,
    lrp,
    modified_gradient,
    pattern_attribution,
    pattern_net,
    rectgrad,
    relevance_budget,
    unified,
)
from xai_lib.attribute.cam import (
    ablation_cam,
    grad_cam,
    grad_cam_pp,
    layer_cam,
    score_cam,
)
from xai_lib.attribute.cells import hsic, sobol
from xai_lib.attribute.features import feature_labels, grid_labels, superpixels
from xai_lib.attribute.gradients import (
    gradient,
    gradient_x_input,
    integrated_gradients,
)
from xai_lib.attribute.masks import rise, rise_masks
from xai_lib.attribute.noisy import smoothgrad, squaregrad, vargrad
from xai_lib.attribute.occlude import occlusion, occlusion_1
from xai_lib.attribute.reduce import channel_max_abs, channel_sum, percentile_scale
from xai_lib.attribute.registry import METHODS, NEED_PATTERNS, Method, find_method
from xai_lib.attribute.surrogates import kernel_shap, lime

__all__ = [
    "METHODS",
    "NEED_PATTERNS",
    "SLOPES",
    "UNIFIED",
    "Method",
    "ablation_cam",
    "channel_max_abs",
    "channel_sum",
    "deconvnet",
    "deep_taylor",
    "deeplift",
    "estimate_patterns",
    "excitation_backprop",
    "feature_labels",
    "find_method",
    "grad_cam",
    "grad_cam_pp",
    "gradient",
    "gradient_x_input",
    "grid_labels",
    "guided_backprop",
    "hsic",
    "integrated_gradients",
    "kernel_shap",
    "layer_cam",
    "layer_recursion",
    "lime",
    "lrp",
    "modified_gradient",
    "occlusion",
    "occlusion_1",
    "pattern_attribution",
    "pattern_net",
    "percentile_scale",
    "rectgrad",
    "relevance_budget",
    "rise",
    "rise_masks",
    "score_cam",
    "smoothgrad",
    "sobol",
    "squaregrad",
    "superpixels",
    "unified",
    "vargrad",
]
