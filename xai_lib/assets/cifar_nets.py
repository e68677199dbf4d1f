"""Small nets for the 32 x 32 images of CIFAR-10, with ten classes.

Each is written with one module per step, so that a rule or a hook reaches every step.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .downsample import DOWNSAMPLERS, BlurPool

CLASSES = 10


def convolution(
    n_in: int, n_out: int, number: int, batch_norm: bool = False, stride: int = 1
) -> OrderedDict[str, nn.Module]:
    """Name the steps convolution 3x3, batch norm if asked, ReLU."""
    steps = OrderedDict()
    steps[f"conv{number}"] = nn.Conv2d(
        n_in, n_out, 3, stride, padding=1, bias=not batch_norm
    )
    if batch_norm:
        steps[f"bn{number}"] = nn.BatchNorm2d(n_out)
    steps[f"relu{number}"] = nn.ReLU()
    return steps


class CNN(nn.Module):
    """Two convolutions, pool, two convolutions, pool, two dense layers.

    Parameters
    ----------
    widths : channels of the four convolutions
    hidden : units of the first dense layer

    References
    ----------
    [sixt2020]_
    """

    def __init__(self, widths=(32, 64, 128, 128), hidden: int = 1024):
        super().__init__()
        a, b, c, d = widths
        steps = convolution(3, a, 1) | convolution(a, b, 2)
        steps |= {"pool1": nn.MaxPool2d(2)}
        steps |= convolution(b, c, 3) | convolution(c, d, 4)
        steps |= {"pool2": nn.MaxPool2d(2)}
        self.features = nn.Sequential(OrderedDict(steps))
        self.classifier = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                drop1=nn.Dropout(0.5),
                fc1=nn.Linear(d * 8 * 8, hidden),
                relu=nn.ReLU(),
                drop2=nn.Dropout(0.5),
                fc2=nn.Linear(hidden, CLASSES),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (B, 128, 8, 8)

        return self.classifier(x)  # (B, 10)


class SmoothCNN(nn.Module):
    """Two strided convolutions, two dense layers, one kind of non-linearity, no pool.

    Parameters
    ----------
    activation : the module behind every layer but the last, such as `torch.nn.Tanh`

    References
    ----------
    [ancona2018]_
    """

    def __init__(self, activation: Callable[[], nn.Module]):
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 16, 5, stride=2, padding=2),
                act1=activation(),
                conv2=nn.Conv2d(16, 32, 5, stride=2, padding=2),
                act2=activation(),
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                drop=nn.Dropout(0.2),
                fc1=nn.Linear(32 * 8 * 8, 64),
                act3=activation(),
                fc2=nn.Linear(64, CLASSES),
            )
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))  # (B, 10)


class VGG11(nn.Module):
    """VGG11 without its last two convolutions, for images of 32 x 32.

    The last convolution sees 4 x 4. Behind the last max-pool the mean over positions
    and one dense layer follow, so that grids of several images fit as well.

    Parameters
    ----------
    width : channels of the first convolution; 64 in the original net
    batch_norm : put a batch norm behind each convolution

    References
    ----------
    [rao2022]_
    """

    def __init__(self, width: int = 32, batch_norm: bool = False):
        super().__init__()
        steps, n_in = {}, 3
        plan = (1, "pool", 2, "pool", 4, 4, "pool", 8, 8, "pool")
        for i, times in enumerate(plan):
            if times == "pool":
                steps[f"pool{1 + plan[:i].count('pool')}"] = nn.MaxPool2d(2)
                continue
            number = 1 + i - plan[:i].count("pool")
            steps |= convolution(n_in, times * width, number, batch_norm)
            n_in = times * width
        self.features = nn.Sequential(OrderedDict(steps))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(n_in, CLASSES)
        for module in self.features:
            if isinstance(module, nn.Conv2d):  # without it the net does not start
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (B, 8 width, 2, 2)

        return self.classifier(self.avgpool(x).flatten(1))  # (B, 10)


POOLS: dict[str, Callable[[int], nn.Module] | None] = {
    "max": DOWNSAMPLERS["max"],
    "average": DOWNSAMPLERS["average"],
    "stride": None,  # the convolution before it takes every second position itself
    "max_blur": DOWNSAMPLERS["max_blur"],
    "blur": BlurPool,  # the convolution before it has stride 1
}
"""What halves the map in a `DownNet`, by name."""


class DownNet(nn.Module):
    """Three stages of two convolutions, each halved by the same down-sampler.

    Nets of two kinds have the same parameters; they differ in what halves the map.

    Parameters
    ----------
    kind : a key of `POOLS`
    widths : channels of the three stages

    References
    ----------
    [muzellec2024]_ for the question, [zhang2019]_ for the blur
    """

    def __init__(self, kind: str, widths=(24, 48, 96)):
        super().__init__()
        pool, steps, n_in = POOLS[kind], {}, 3
        for i, n in enumerate(widths):
            steps |= convolution(n_in, n, 2 * i + 1, batch_norm=True)
            stride = 1 if pool else 2
            steps |= convolution(n, n, 2 * i + 2, batch_norm=True, stride=stride)
            if pool:
                steps[f"pool{i + 1}"] = pool(n)
            n_in = n
        self.features = nn.Sequential(OrderedDict(steps))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(n_in, CLASSES)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # (B, 96, 4, 4)

        return self.classifier(self.avgpool(x).flatten(1))  # (B, 10)


class BasicBlock(nn.Module):
    """Two convolutions 3x3 with batch norm, and the way round them."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.relu2 = nn.ReLU()
        self.downsample = nn.Sequential(
            nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))

        return self.relu2(out + self.downsample(x))


class ResNet(nn.Module):
    """Stem 3x3 at full size, then three basic blocks that halve it, down to 4 x 4.

    References
    ----------
    [he2016]_
    """

    def __init__(self, width: int = 32):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = BasicBlock(width, 2 * width, 2)
        self.layer2 = BasicBlock(2 * width, 4 * width, 2)
        self.layer3 = BasicBlock(4 * width, 8 * width, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))  # (B, width, 32, 32)

        x = self.layer2(self.layer1(x))  # (B, 4 width, 8, 8)
        x = self.layer3(x)  # (B, 8 width, 4, 4)

        return self.fc(self.avgpool(x).flatten(1))  # (B, 10)


class EncoderBlock(nn.Module):
    """Self-attention and a dense net of two layers, norm first."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.gelu = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)  # (B, T, width)
        x = x + self.attention(h, h, h, need_weights=False)[0]

        return x + self.fc2(self.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """Vision transformer on 8 x 8 tokens, with a convolutional stem and a mean pool.

    An image of another size gives as many tokens as its stem has positions; their
    position vectors are those of the 8 x 8, bilinearly resized.

    References
    ----------
    [dosovitskiy2021]_
    """

    def __init__(self, width: int = 96, depth: int = 4, heads: int = 3):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(width // 2, width, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, 1, 1),
        )
        self.position = nn.Parameter(torch.randn(1, 64, width) * 0.02)
        blocks = [EncoderBlock(width, heads, 2 * width) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (B, width, 8, 8)
        position = self._resized(*x.shape[2:])
        x = x.flatten(2).transpose(1, 2)  # (B, 64, width)

        x = self.norm(self.blocks(x + position))
        return self.head(x.mean(1))  # (B, 10)

    def _resized(self, height: int, width: int) -> Tensor:
        if (height, width) == (8, 8):
            return self.position
        plane = self.position.transpose(1, 2).unflatten(2, (8, 8))
        plane = F.interpolate(
            plane, (height, width), mode="bilinear", align_corners=False
        )
        return plane.flatten(2).transpose(1, 2)  # (1, height * width, width of a token)
