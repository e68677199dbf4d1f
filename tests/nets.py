"""Small networks and inputs with known answers, for the tests."""

import torch
import torchvision
from torch import nn


def images(batch=2, channels=3, height=16, width=16, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, height, width)
    return torch.randn(shape, generator=generator, dtype=dtype)


def small_cnn(inplace=False, seed=0, relu=nn.ReLU) -> nn.Module:
    """Two convolutions, pooling, BatchNorm with real statistics, 5 classes."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        relu(inplace=inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        relu(inplace=inplace),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )
    net[1].running_mean.normal_(std=0.1)
    net[1].running_var.uniform_(0.5, 2)
    return net.eval()


class Residual(nn.Module):
    """A residual net with one ReLU module used three times."""

    def __init__(self, inplace=True, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.branch = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=inplace)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.relu(self.stem(x))
        x = self.relu(x + self.relu(self.branch(x)))
        return self.head(x.mean((2, 3)))


class Idle(nn.Module):
    """A network with a layer that never runs."""

    def __init__(self):
        super().__init__()
        self.a, self.idle = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.a(x).mean((2, 3)))


def linear_net(pixels=3 * 16 * 16, bias=False, seed=0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 5, bias=bias)).eval()


class Mixed(nn.Module):
    """Folded BatchNorms, max-pool, a residual sum, average pool, two linear maps."""

    def __init__(self, inplace=False, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.hidden, self.head = nn.Linear(16, 8), nn.Linear(8, 5)
        self.relu = nn.ReLU(inplace)
        random_statistics(self)
        self.double().eval()

    def forward(self, x):
        x = self.relu(self.norm1(self.conv1(x)))  # (B, 4, 8, 8)
        x = nn.functional.max_pool2d(x, 2)
        x = self.relu(self.norm2(self.conv2(x)) + x)
        x = nn.functional.avg_pool2d(x, 2)  # (B, 4, 2, 2)
        return self.head(self.relu(self.hidden(x.flatten(1))))


def random_statistics(model: nn.Module) -> nn.Module:
    """Give BatchNorms statistics, and all norms weights, as training would."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


def settled(model: nn.Module, size=64) -> nn.Module:
    """Give BatchNorms the statistics of noise: untrained, but no signal dies out."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
    with torch.no_grad():
        model.train()(images(8, height=size, width=size))
    return model.eval()


def small_vit(**own) -> nn.Module:
    """torchvision's vision transformer, its zero-initialised parts random."""
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 4}
    widths = {"hidden_dim": 32, "mlp_dim": 64, "num_classes": 10}
    return awakened(torchvision.models.VisionTransformer(**sizes, **widths, **own))


def awakened(vit: nn.Module) -> nn.Module:
    """Give a vision transformer's class token, biases and head random values."""
    for name, p in vit.named_parameters():
        if name == "class_token" or name.startswith("heads") or name.endswith("bias"):
            nn.init.normal_(p, std=0.1)
    return random_statistics(vit).eval()


def small_convnext() -> nn.Module:
    """torchvision's ConvNeXt with few blocks."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    blocks = [CNBlockConfig(16, 24, 2), CNBlockConfig(24, None, 2)]
    return random_statistics(ConvNeXt(blocks, layer_scale=0.5, num_classes=10)).eval()


def gap(ours, theirs) -> float:
    """Return the largest difference as a share of the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def _conv(*sizes, norm=False, **settings):
    def make(bias):
        conv = nn.Conv2d(*sizes, bias=bias, **settings)
        if not norm:
            return conv, (sizes[0], 5, 5)
        return random_statistics(nn.Sequential(conv, nn.BatchNorm2d(sizes[1]))), (
            sizes[0],
            5,
            5,
        )

    return make


LINEAR_OPERATIONS = {
    "conv": _conv(4, 5, 3, padding=1),
    "strided": _conv(4, 3, 3, stride=2),
    "grouped": _conv(4, 6, 3, padding=1, groups=2),
    "depthwise, dilated": _conv(4, 4, 3, padding=2, dilation=2, groups=4),
    "conv and norm": _conv(4, 3, 3, stride=2, padding=1, norm=True),
    "transposed": lambda bias: (nn.ConvTranspose2d(4, 3, 2, 2, bias=bias), (4, 3, 3)),
    "1-D": lambda bias: (nn.Conv1d(4, 5, 3, padding=1, bias=bias), (4, 8)),
    "linear": lambda bias: (nn.Linear(12, 7, bias=bias), (12,)),
    "tokens": lambda bias: (nn.Linear(6, 5, bias=bias), (3, 6)),
    "norm alone": lambda bias: (
        random_statistics(nn.Sequential(nn.BatchNorm2d(4))),
        (4, 4, 4),
    ),
    "average": lambda bias: (nn.AvgPool2d(2), (4, 4, 4)),
}
"""Linear layers by name: from "with bias?" to the layer and the shape of one input."""
