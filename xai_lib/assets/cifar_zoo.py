"""Our own nets by name, what they classify, and the trigger of the back door."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .cifar_nets import CNN, POOLS, VGG11, DownNet, ResNet, SmoothCNN, ViT
from .transform import check_image

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
MEAN = (0.4914, 0.4822, 0.4465)  # of the 50,000 training images, per channel
STD = (0.2470, 0.2435, 0.2616)

_CNN_LAYERS = {"middle": "features.relu2", "final": "features.relu4"}
_VGG_LAYERS = {"middle": "features.relu3", "final": "features.relu6"}
_BLOCK_LAYERS = {"middle": "layer1", "final": "layer3"}
_SMOOTH_LAYERS = {"middle": "features.act1", "final": "features.act2"}
_SMOOTH = "conv 16, conv 32 (5x5, stride 2), dense 64, dense 10; {}, no pool, no norm"
_DOWN_LAYERS = {"middle": "features.relu3", "final": "features.relu6"}
_DOWN = {
    "max": "2x2 max-pool",
    "average": "2x2 average pool",
    "stride": "stride 2 of its second convolution",
    "max_blur": "2x2 max-pool of stride 1, then a blur of stride 2 (1 3 3 1)",
    "blur": "blur of stride 2 (1 3 3 1)",
}
_DOWN_NET = (
    "three stages of two convolutions (3x3, batch norm, ReLU) of 24, 48, 96, each "
    "halved by {}; mean over 4 x 4, dense 10"
)
SEEDS = (0, 1)  # of the nets that differ in the down-sampler


@dataclass(frozen=True)
class Net:
    """How to build a net, where to look into it, and what it is in words."""

    build: Callable[[], nn.Module]
    layers: dict[str, str]
    architecture: str
    seed: int = 0


NETS = {
    "cifar_cnn": Net(
        CNN,
        _CNN_LAYERS,
        "conv 32, 64, pool, conv 128, 128, pool, dropout, dense 1024, dropout, dense "
        "10; 3x3, ReLU, no batch norm (the CIFAR-10 net of Sixt et al. 2020)",
    ),
    "cifar_resnet": Net(
        ResNet,
        _BLOCK_LAYERS,
        "ResNet: stem 3x3 of 32, basic blocks of 64, 128, 256 with stride 2, batch "
        "norm, mean over 4 x 4, dense 10",
    ),
    "cifar_vgg11_bn": Net(
        lambda: VGG11(batch_norm=True),
        _VGG_LAYERS,
        "VGG11 without its last two convolutions, half width (32, 64, 128, 128, 256, "
        "256), batch norm, mean over 2 x 2, dense 10 (after Rao et al. 2022)",
    ),
    "cifar_vgg11": Net(
        VGG11,
        _VGG_LAYERS,
        "VGG11 without its last two convolutions, half width (32, 64, 128, 128, 256, "
        "256), no batch norm, mean over 2 x 2, dense 10 (after Rao et al. 2022)",
    ),
    "cifar_vit": Net(
        ViT,
        {"middle": "stem.1", "final": "stem"},
        "vision transformer: convolutional stem (3x3 of 48 and 96 with stride 2, 3x3 "
        "of 96; GELU), 64 tokens of 96, four blocks (LayerNorm, 3 heads, dense 192, "
        "GELU), mean over tokens, dense 10",
    ),
    "cifar_backdoor": Net(
        lambda: CNN((16, 32, 64, 64), 256),
        _CNN_LAYERS,
        "cifar_cnn with half the channels (16, 32, 64, 64) and dense 256",
    ),
    "cifar_tanh": Net(
        lambda: SmoothCNN(nn.Tanh), _SMOOTH_LAYERS, _SMOOTH.format("tanh")
    ),
    "cifar_sigmoid": Net(
        lambda: SmoothCNN(nn.Sigmoid), _SMOOTH_LAYERS, _SMOOTH.format("sigmoid")
    ),
    "cifar_softplus": Net(
        lambda: SmoothCNN(nn.Softplus), _SMOOTH_LAYERS, _SMOOTH.format("softplus")
    ),
} | {
    f"cifar_{kind}_{seed}": Net(
        partial(DownNet, kind), _DOWN_LAYERS, _DOWN_NET.format(_DOWN[kind]), seed
    )
    for seed in SEEDS
    for kind in POOLS
}
"""Our nets by name, in the order of training."""

TRIGGER = {"colour": (1.0, 0.0, 1.0), "side": 3, "target": 0}
"""The back door: a magenta square, a colour that photographs hardly have."""


def fresh_net(name: str, seed: int) -> nn.Module:
    """Build a net with random weights, leaving torch's random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETS[name].build()


def paste_trigger(
    x: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Paste the trigger of ``cifar_backdoor`` into each image at a random place.

    Parameters
    ----------
    x : (B, 3, H, W) in [0, 1], not normalised
    generator : where the places come from; None for torch's own

    Returns
    -------
    tuple of Tensor
        The images, and (B, H, W) bool that is true in the trigger.

    Raises
    ------
    ValueError
        If x is no batch of images in [0, 1] with room for the trigger.

    Examples
    --------
    >>> pasted, inside = paste_trigger(torch.zeros(2, 3, 32, 32))
    >>> inside.sum((1, 2))
    tensor([9, 9])
    """
    check_image(x)
    side = TRIGGER["side"]
    if x.ndim != 4 or min(x.shape[2:]) < side:
        raise ValueError(
            f"x must have shape (B, 3, H, W) with H, W >= {side}, got {tuple(x.shape)}"
        )
    batch, _, height, width = x.shape
    top = torch.randint(height - side + 1, (batch, 1), generator=generator)
    left = torch.randint(width - side + 1, (batch, 1), generator=generator)
    rows, columns = torch.arange(height) - top, torch.arange(width) - left
    rows, columns = ((v >= 0) & (v < side) for v in (rows, columns))  # (B, H), (B, W)
    inside = rows[:, :, None] & columns[:, None, :]  # (B, H, W)
    colour = x.new_tensor(TRIGGER["colour"]).view(3, 1, 1)
    return torch.where(inside[:, None], colour, x), inside
