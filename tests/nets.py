"""Small networks and inputs with known answers, for the tests."""

import torch
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


def linear_net(pixels=3 * 16 * 16, bias=False, seed=0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 5, bias=bias)).eval()
