"""Every method as data: its name, family, colour, and its paper's settings."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from xai_lib.attribute.backprop import (
    deconvnet,
    deep_taylor,
    deeplift,
    excitation_backprop,
    guided_backprop,
    lrp,
    pattern_attribution,
    pattern_net,
    rectgrad,
)
from xai_lib.attribute.cam import (
    ablation_cam,
    grad_cam,
    grad_cam_pp,
    layer_cam,
    score_cam,
)
from xai_lib.attribute.cells import hsic, sobol
from xai_lib.attribute.gradients import (
    gradient,
    gradient_x_input,
    integrated_gradients,
)
from xai_lib.attribute.masks import rise
from xai_lib.attribute.noisy import smoothgrad, squaregrad, vargrad
from xai_lib.attribute.occlude import occlusion
from xai_lib.attribute.surrogates import kernel_shap, lime


@dataclass(frozen=True)
class Method:
    """A method with its settings; called like its function, which it passes them to."""

    name: str
    label: str
    function: Callable[..., Tensor]
    family: str  # "gradient", "modified", "cam" or "prediction"
    colour: str
    settings: dict = field(default_factory=dict)
    inside: dict = field(default_factory=dict)  # what differs at a layer

    def __call__(self, model, x, target, **own) -> Tensor:
        at_layer = own.get("layer") not in (None, "input")
        settings = self.settings | (self.inside if at_layer else {})
        return self.function(model, x, target, **{**settings, **own})


_NOISE = {"n_samples": 50, "noise": 0.15}
_LINEAR = {"grid": 8, "n_samples": 1000}


def _lrp(composite: str, label: str, colour: str) -> Method:
    settings = {"composite": composite}
    return Method(f"lrp_{composite}", label, lrp, "modified", colour, settings)


def _deeplift(rule: str, label: str, colour: str, name: str = "") -> Method:
    name = name or f"deeplift_{rule}"
    return Method(name, label, deeplift, "modified", colour, {"rule": rule})


_TABLE = [
    Method("gradient", "Gradient", gradient, "gradient", "#08306b"),
    Method(
        "gradient_x_input", "Gradient x Input", gradient_x_input, "gradient", "#2171b5"
    ),
    Method(
        "integrated_gradients",
        "Integrated Gradients",
        integrated_gradients,
        "gradient",
        "#4fb3e8",
        {"steps": 32},
    ),
    Method("smoothgrad", "SmoothGrad", smoothgrad, "gradient", "#0b7a75", _NOISE),
    Method("squaregrad", "SquareGrad", squaregrad, "gradient", "#35b0a2", _NOISE),
    Method("vargrad", "VarGrad", vargrad, "gradient", "#93d3c6", _NOISE),
    Method("guided_backprop", "Guided BP", guided_backprop, "modified", "#6a3d9a"),
    Method("deconvnet", "Deconvnet", deconvnet, "modified", "#e377c2"),
    Method("rectgrad", "RectGrad", rectgrad, "modified", "#17202a", {"percentile": 98}),
    Method("deep_taylor", "Deep Taylor", deep_taylor, "modified", "#7f0000"),
    Method(
        "excitation_backprop",
        "Excitation BP",
        excitation_backprop,
        "modified",
        "#9a9a1f",
    ),
    _lrp("epsilon", "LRP ε", "#1f9e89"),
    _lrp("zplus", "LRP z+", "#d62728"),
    _lrp("alpha2_beta1", "LRP α2β1", "#f4743b"),
    _lrp("alpha5_beta4", "LRP α5β4", "#e8a87c"),
    _lrp("epsilon_plus", "LRP ε, z+", "#a61c3c"),
    _lrp("epsilon_alpha2_beta1", "LRP ε, α2β1", "#dd7788"),
    _lrp("epsilon_gamma_box", "LRP ε, γ, box", "#8c6d31"),
    _deeplift("rescale", "DeepLIFT", "#1b7837", name="deeplift"),
    _deeplift("reveal_cancel", "DeepLIFT RevealCancel", "#7fbf7b"),
    _deeplift("ablation", "DeepLIFT without cross terms", "#8c510a"),
    Method("grad_cam", "Grad-CAM", grad_cam, "cam", "#d6338a"),
    Method("grad_cam_pp", "Grad-CAM++", grad_cam_pp, "cam", "#f29bbf"),
    Method("layer_cam", "LayerCAM", layer_cam, "cam", "#8e0f5a"),
    Method("ablation_cam", "Ablation-CAM", ablation_cam, "cam", "#b07aa1"),
    Method("score_cam", "Score-CAM", score_cam, "cam", "#5f4b66"),
    Method(
        "occlusion",
        "Occlusion",
        occlusion,
        "prediction",
        "#c2410c",
        {"window": 16, "stride": 8, "value": 0.0},
        {"window": 5, "stride": 2},
    ),
    Method(
        "rise",
        "RISE",
        rise,
        "prediction",
        "#f0a30a",
        {"n_masks": 1000, "grid": 7, "p": 0.5},
    ),
    Method(
        "sobol", "Sobol", sobol, "prediction", "#4c362a", {"grid": 8, "n_designs": 32}
    ),
    Method("hsic", "HSIC", hsic, "prediction", "#996554", {"grid": 8, "n_masks": 500}),
    Method("lime", "LIME", lime, "prediction", "#bf6d0a", _LINEAR),
    Method("kernel_shap", "KernelSHAP", kernel_shap, "prediction", "#e6e67e", _LINEAR),
]

METHODS: dict[str, Method] = {method.name: method for method in _TABLE}
"""Every method of the library by name, but for `NEED_PATTERNS`.

LIME and KernelSHAP want captum, an extra, and say so where it is absent.
"""

NEED_PATTERNS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("pattern_net", "PatternNet", pattern_net, "modified", "#d9b800"),
        Method(
            "pattern_attribution",
            "PatternAttribution",
            pattern_attribution,
            "modified",
            "#5c4b00",
        ),
    )
}
"""Methods that also want ``patterns=``, which `estimate_patterns` takes from data."""


def find_method(method: str | Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a method from its name, or the callable itself.

    Examples
    --------
    >>> find_method("rise").settings["n_masks"]
    1000
    """
    if callable(method):
        return method
    if method not in METHODS:
        raise ValueError(
            f"method must be a callable or one of {', '.join(METHODS)}, got {method!r}"
        )
    return METHODS[method]
