"""The signal that one backward pass leaves at many layers, and how to read it."""

import torch
from torch import Tensor, nn

from xai_lib._check import check_images, check_model
from xai_lib.analyse._signals import plan_of
from xai_lib.analyse.input_alignment import alignment
from xai_lib.attribute.backprop import Chain
from xai_lib.attribute.backprop.plans import unwrap
from xai_lib.attribute.registry import find_method

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
MULTIPLIERS = ("gradient", "guided_backprop", "deconvnet", "rectgrad", "pattern_net")
"""Methods whose signal holds no factor of the activation; relevance holds one."""


def weighted_inputs(model: nn.Module, x: Tensor) -> dict[str, str]:
    """Return, for each convolution and dense layer, the module whose output it reads.

    Parameters
    ----------
    model : Module in eval mode
    x : Tensor, shape (B, C, H, W); its first image is used

    Returns
    -------
    dict of weighted module to module, in the order they run; "input" is x. A reshaped
    output counts as the module's own. What comes from no module, or from one that runs
    more than once, is left out.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> weighted_inputs(net.eval(), torch.ones(1, 1, 2, 2))
    {'1': '0', '3': '2'}
    """
    check_model(model)
    check_images(x)
    owner, runs, reads, alive = {_place(x[:1]): "input"}, {}, {}, [x]

    def wrote(module, inputs, output, name):
        runs[name] = runs.get(name, 0) + 1
        if isinstance(output, Tensor):
            owner[_place(output)] = name
            alive.append(output)  # so that no later tensor takes its place

    def read(module, inputs, name):
        reads.setdefault(name, owner.get(_place(inputs[0])))

    handles = []
    for name, module in model.named_modules():
        if name:
            hook = lambda m, i, o, name=name: wrote(m, i, o, name)  # noqa: E731
            handles.append(module.register_forward_hook(hook))
        if isinstance(module, WEIGHTED):
            hook = lambda m, i, name=name: read(m, i, name)  # noqa: E731
            handles.append(module.register_forward_pre_hook(hook))
    try:
        with torch.no_grad():
            model(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    return {k: v for k, v in reads.items() if v == "input" or runs.get(v) == 1}


def _place(a: Tensor) -> tuple[int, int]:
    return a.data_ptr(), a.numel()


def carries_input(method) -> bool:
    """Return whether a method's signal is a product with the activation (relevance).

    Examples
    --------
    >>> carries_input("lrp_zplus"), carries_input("guided_backprop")
    (True, False)
    """
    return unwrap(find_method(method))[0].__name__ not in MULTIPLIERS


def backward_signals(
    model: nn.Module, x: Tensor, top: Tensor, method, layers: list[str]
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return a method's signal at layers, beside the activation there.

    Parameters
    ----------
    model, x : as for every method
    top : (B,) long, the classes explained, or (B, classes), what is put at the logits
    method : a name in METHODS or a callable that is one backward pass
    layers : names of modules that run once, or "input"

    Returns
    -------
    dict of layer to (signal, activation, change): what comes back to the layer's
    output, the output h, and what a multiplier is to be multiplied with to become the
    method's relevance: h, or for DeepLIFT h minus its value at the baseline

    Raises
    ------
    ValueError
        if the method is no single backward pass

    Notes
    -----
    One forward and one backward pass for all layers. The target's signal is 1; `lrp`
    starts with the logit instead, which changes no direction.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> x, c = torch.ones(1, 1, 2, 2), torch.tensor([0])
    >>> R, h, _ = backward_signals(net, x, c, "gradient", ["input"])["input"]
    >>> torch.equal(R.flatten(), net[1].weight[0])
    True
    """
    check_model(model)
    check_images(x)
    planned = plan_of(method, x)
    if planned is None:
        raise ValueError(f"method must be one backward pass, got {method!r}")
    composite, baseline = planned
    chain = Chain(model, x, composite, list(layers), baseline)
    logits = chain.values["output"]
    vector = top.to(logits)
    fits = top.ndim == 1 and len(top) == len(x)
    if fits and ((top < 0) | (top >= logits.shape[1])).any():
        got = f"{top.min()}..{top.max()}"
        raise ValueError(f"top must lie in 0..{logits.shape[1] - 1}, got {got}")
    if fits:
        vector = torch.zeros_like(logits).scatter_(1, top[:, None].to(x.device), 1.0)
    if vector.shape != logits.shape:
        wanted = f"top must have shape ({len(x)},) or {tuple(logits.shape)}"
        raise ValueError(f"{wanted}, got {tuple(top.shape)}")
    found = chain.back("output", vector, list(layers))
    start = {} if baseline is None else Chain(model, baseline, composite, layers).values
    values = {k: chain.values[k] for k in layers}
    return {k: (found[k], h, h - start[k] if start else h) for k, h in values.items()}


def shuffled_alignment(signal: Tensor, activation: Tensor) -> Tensor:
    """Return the exact mean of the alignment over all shuffles of the signal, (B,).

    Notes
    -----
    The mean over permutations of sum_i R_p(i) h_i is n mean(R) mean(h): no draws are
    needed, unlike in `chance_alignment`, which it is the limit of.

    Examples
    --------
    >>> h = torch.tensor([[1.0, 2.0, 3.0]])
    >>> shuffled_alignment(h - 2, h)
    tensor([0.], dtype=torch.float64)
    """
    R, h = signal.double().flatten(1), activation.double().flatten(1)
    return R.sum(1) * h.mean(1) / (R.norm(dim=1) * h.norm(dim=1))


def _shuffled_where(m: Tensor, h: Tensor, used: Tensor | None) -> Tensor:
    """Return `shuffled_alignment` over shuffles among the used units only."""
    if used is None:
        return shuffled_alignment(m, h)
    m, h, used = m.flatten(1), h.double().flatten(1), used.flatten(1)
    total = m.sum(1) * (h * used).sum(1) / used.sum(1)
    return total / (m.norm(dim=1) * h.norm(dim=1))


def alignment_readings(
    signal: Tensor, activation: Tensor, change: Tensor, product: bool
) -> dict[str, Tensor]:
    """Return the alignment of a signal, as it is and with the other convention.

    Parameters
    ----------
    signal, activation, change : Tensor, shape (B, ...), as `backward_signals` returns
    product : whether the signal is a product with the change (`carries_input`)

    Returns
    -------
    dict of Tensor, shape (B,), float64: "signal" and its "chance"; "multiplier", the
    signal without the factor (0 where the change is 0), and "multiplier_chance", which
    for a product is over shuffles among the units where the change is not 0; "product",
    with the factor, and "product_chance", the same for a multiplier that does not know
    which unit it belongs to. An empty signal has alignment 0

    Notes
    -----
    For m independent of h the product's cosine with h is close to mean(m) / rms(m),
    whatever h: any multiplier that is nearly constant is aligned. That is the chance
    level of a product; the mean runs over the units where the change is not 0. Where
    the change is not h itself (DeepLIFT, behind a layer with biases) the level is lower
    by the factor cos(change, h), so "product_chance" is then its upper bound.

    Examples
    --------
    >>> h = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> found = alignment_readings(2 * h, h, h, product=True)
    >>> round(found["product"].item(), 6), round(found["product_chance"].item(), 6)
    (1.0, 1.0)
    """
    for name, given in {"signal": signal, "h": activation, "change": change}.items():
        if not given.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    used = change != 0
    if product:
        m = torch.where(used, signal.double() / torch.where(used, change, 1.0), 0.0)
        whole = signal
    else:
        m, whole = signal.double(), signal.double() * change
    kept = torch.where(used, m, 0.0).flatten(1)
    count = used.flatten(1).sum(1)
    found = {
        "signal": alignment(signal, activation),
        "chance": shuffled_alignment(signal, activation),
        "multiplier": alignment(m, activation),
        "multiplier_chance": _shuffled_where(m, activation, used if product else None),
        "product": alignment(whole, activation),
        "product_chance": kept.sum(1) / (kept.norm(dim=1) * count.double().sqrt()),
    }
    return {k: v.nan_to_num(0.0) for k, v in found.items()}
