"""LIME and KernelSHAP, through captum: a linear model of which parts are shown."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from xai_lib._check import Target, check_call, check_positive
from xai_lib.attribute._copies import check_map, logits_of
from xai_lib.attribute._forward import (
    fixed_target,
    reference_input,
    rows_per_forward,
    split,
)
from xai_lib.attribute.features import (
    Features,
    feature_labels,
    feature_sums,
    grid_labels,
    positions_of,
    without,
)

Explain = Callable[[Callable[[Tensor], Tensor], int, int], Tensor]
"""``explain(score, K, per_pass)``: weights (K,) from a score (R,) of bits (R, K)."""


def lime(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    layer: str | None = None,
    grid: int = 8,
    features: Features | None = None,
    n_samples: int = 1000,
    width: float = 0.25,
    ridge: float = 1.0,
    baseline: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Return LIME: the weights of a ridge regression on which features are shown.

    Parameters
    ----------
    model, x, target, layer : as `gradient`
    grid : the features are rectangles, so many per side, as `grid_labels` cuts them
    features : superpixels instead, or other labels, as `feature_labels` takes them
    n_samples : random subsets of the features, each shown with a chance of 1/2
    width : of the kernel exp(-d^2 / (2 width^2)), d the cosine distance of the shown
        features from all of them: 1 - sqrt(share shown)
    ridge : penalty of the squared weights; the intercept is free
    baseline : Tensor that broadcasts to x (or to the layer's output), shown where a
        feature is not; None is zero
    seed : of the subsets; images with as many features meet the same ones

    Returns
    -------
    Tensor, signed, shape (B, 1, H, W)

    Raises
    ------
    ImportError
        if captum is not there

    Notes
    -----
    Each position of a feature gets an equal share of its weight, as in `occlusion_1`;
    captum and Xplique give the whole weight to each. What is in no feature always shows
    and gets 0. The logit is explained; the paper explains the probability.

    The defaults are those of the authors' code for images, but for its superpixels
    (quickshift) and their mean colour as the baseline. captum's are 50 samples, a width
    of 1 and the lasso; Xplique's 150, the Euclidean distance of the images with a width
    of 45, and a penalty of 2. captum draws and runs the subsets; the regression is
    solved here, so that scikit-learn is not needed. captum keeps the logits in float32.

    References
    ----------
    [ribeiro2016]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> R = lime(net, x, c, grid=2, n_samples=50, ridge=1e-6)
    >>> torch.allclose(R.flatten(), x.flatten() * net[1].weight[0], atol=1e-3)
    True
    """
    attr = _captum("lime")
    check_call(model, x, target)
    check_positive(grid=grid, n_samples=n_samples, width=width, ridge=ridge)

    def closeness(whole: Tensor, shown: Tensor, bits: Tensor, **_) -> Tensor:
        distance = 1 - bits.double().mean().sqrt()
        return (-(distance**2) / (2 * width**2)).exp()

    def explain(score, K: int, per_pass: int) -> Tensor:
        regression = _Regression(ridge)
        method = attr.Lime(score, regression, closeness)
        return _weights(method, K, n_samples, per_pass, seed)

    h, tail = split(model, x, layer)
    labels = _labels(h, grid, features, "lime", layer)
    return _explained((model, x, target), (h, tail), labels, baseline, explain)


def kernel_shap(
    model: nn.Module,
    x: Tensor,
    target: Target,
    *,
    layer: str | None = None,
    grid: int = 8,
    features: Features | None = None,
    n_samples: int = 1000,
    baseline: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Return KernelSHAP: Shapley values of the features, estimated by regression.

    Parameters
    ----------
    model, x, target, layer, grid, features, baseline : as `lime`
    n_samples : subsets of the features, above their number; the first two are all and
        none, the others come with the Shapley kernel as their distribution
    seed : of the subsets; images with as many features meet the same ones

    Returns
    -------
    Tensor, signed, shape (B, 1, H, W); sums to S_c(x) - S_c(baseline), to about 1e-4

    Raises
    ------
    ImportError
        if captum is not there
    ValueError
        if an image has fewer than 2 features, or not fewer than n_samples

    Notes
    -----
    Each position of a feature gets an equal share of its value, as in `lime`, where
    captum's part and its float32 are described too. captum's default is 50 subsets,
    Xplique's 800. captum holds the two ends with a weight of 1e6 instead of exactly.

    References
    ----------
    [lundberg2017]_

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.rand(1, 1, 2, 2), torch.tensor([0])
    >>> R = kernel_shap(net, x, c, grid=2, n_samples=50)
    >>> torch.allclose(R.flatten(), x.flatten() * net[1].weight[0], atol=1e-4)
    True
    """
    attr = _captum("kernel_shap")
    check_call(model, x, target)
    check_positive(grid=grid, n_samples=n_samples)

    def explain(score, K: int, per_pass: int) -> Tensor:
        if not 2 <= K < n_samples:
            wanted = f"at least 2 features and fewer than n_samples = {n_samples}"
            raise ValueError(f"kernel_shap needs {wanted}, got {K}")
        method = attr.KernelShap(score)
        method.interpretable_model = _Regression(0)
        return _weights(method, K, n_samples, per_pass, seed)

    h, tail = split(model, x, layer)
    labels = _labels(h, grid, features, "kernel_shap", layer)
    return _explained((model, x, target), (h, tail), labels, baseline, explain)


def _captum(name: str):
    try:
        from captum import attr
    except ImportError as missing:
        hint = f"{name} needs captum: pip install captum, or the extra xai_lib[peers]"
        raise ImportError(hint) from missing
    return attr


def _labels(h: Tensor, grid: int, features, name: str, layer: str | None):
    check_map(h, name, layer)
    cut = grid_labels(tuple(h.shape[2:]), grid) if features is None else features
    return feature_labels(h, cut)


def _explained(call, cut, labels, baseline, explain: Explain) -> Tensor:
    """Explain each image's logit as a function of bits, and spread the weights."""
    (model, x, target), (h, tail), (labels, counts) = call, cut, labels
    start = reference_input(h, baseline)
    c, per_pass = fixed_target(model, x, target), rows_per_forward(model, x)
    R = torch.empty_like(h[:, 0])  # (B, H, W)
    for i, K in enumerate(counts.tolist()):

        def score(bits: Tensor, i=i) -> Tensor:  # (R, K) -> (R,)
            gone = positions_of(bits.to(h.device) == 0, labels[i])  # (R, H, W)
            return logits_of(tail, without(h[i], gone, start[i]), i, c).cpu()

        size = feature_sums(torch.ones_like(R[i].flatten()), labels[i])
        weights = explain(score, K, per_pass).to(h)
        R[i] = positions_of(weights / size, labels[i])
    return R[:, None]


def _weights(method, K: int, n_samples: int, per_pass: int, seed: int) -> Tensor:
    """Return captum's weights (K,); the input is K ones, which is every feature shown.

    captum draws from torch's global generator, on the CPU; its state is put back.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not the GPU's
        found = method.attribute(
            torch.ones(1, K),
            n_samples=n_samples,
            perturbations_per_eval=per_pass,
            return_input_shape=False,
        )
    return found.flatten()


class _Regression:
    """A weighted ridge regression with a free intercept, in the form captum calls."""

    def __init__(self, ridge: float):
        self.ridge = ridge

    def fit(self, data) -> None:
        bits, y, w = (part.cpu().double() for part in next(iter(data)))
        mean, level = (w @ bits) / w.sum(), (w @ y) / w.sum()
        X, z = w.sqrt()[:, None] * (bits - mean), w.sqrt() * (y - level)
        penalty = self.ridge**0.5 * torch.eye(X.shape[1], dtype=X.dtype)
        X, z = torch.cat([X, penalty]), torch.cat([z, z.new_zeros(len(penalty))])
        self.weights = torch.linalg.lstsq(X, z[:, None], driver="gelsd").solution[:, 0]

    def representation(self) -> Tensor:
        return self.weights
