"""The nets that torchvision does not build as their weights want them.

EfficientNet-Lite0 is EfficientNet-B0 without squeeze-and-excitation and with ReLU6
for swish. `resnet50_caffe` is the original ResNet-50: the stride sits in the first
1x1 convolution of a stage, not in its 3x3.
"""

import torchvision
from torch import Tensor, nn


def same_padding(kernel: int, stride: int) -> nn.ZeroPad2d:
    """Pad as TensorFlow's SAME does for inputs that the stride divides."""
    total = kernel - stride
    left, right = total // 2, total - total // 2
    return nn.ZeroPad2d((left, right, left, right))


def convolution(
    n_in: int, n_out: int, kernel: int = 1, stride: int = 1, *, groups=1, act=True
) -> nn.Sequential:
    """Convolution, batch norm (eps 1e-3) and, if asked, ReLU6."""
    layers = nn.Sequential()
    if kernel > 1:
        layers.add_module("pad", same_padding(kernel, stride))
    layers.add_module(
        "conv", nn.Conv2d(n_in, n_out, kernel, stride, groups=groups, bias=False)
    )
    layers.add_module("bn", nn.BatchNorm2d(n_out, eps=1e-3))
    if act:
        layers.add_module("act", nn.ReLU6())
    return layers


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter per channel, narrow by 1x1; add the input if it fits."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, widen: int):
        super().__init__()
        wide = n_in * widen
        self.expand = convolution(n_in, wide) if widen > 1 else nn.Identity()
        self.depthwise = convolution(wide, wide, kernel, stride, groups=wide)
        self.project = convolution(wide, n_out, act=False)
        self.residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))

        return x + out if self.residual else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 for 1000 classes and inputs whose sides are multiples of 32.

    References
    ----------
    [tan2019]
    """

    STAGES = (  # channels, blocks, kernel, stride, widening
        (16, 1, 3, 1, 1),
        (24, 2, 3, 2, 6),
        (40, 2, 5, 2, 6),
        (80, 3, 3, 2, 6),
        (112, 3, 5, 1, 6),
        (192, 4, 5, 2, 6),
        (320, 1, 3, 1, 6),
    )

    def __init__(self):
        super().__init__()
        self.stem = convolution(3, 32, 3, 2)
        width = 32
        for i, (n_out, blocks, kernel, stride, widen) in enumerate(self.STAGES, 1):
            stage = nn.Sequential()
            for k in range(blocks):
                step = stride if k == 0 else 1
                stage.append(InvertedResidual(width, n_out, kernel, step, widen))
                width = n_out
            self.add_module(f"stage{i}", stage)
        self.head = convolution(width, 1280)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (B, 32, H/2, W/2)

        for i in range(1, len(self.STAGES) + 1):
            x = getattr(self, f"stage{i}")(x)
        x = self.head(x)  # (B, 1280, H/32, W/32)

        return self.fc(self.pool(x).flatten(1))  # (B, 1000)


def resnet50_caffe() -> nn.Module:
    """Build the original ResNet-50: stride in the first 1x1, batch norm eps 1e-3."""
    net = torchvision.models.resnet50(weights=None)
    for stage in (net.layer2, net.layer3, net.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    return net


def build(architecture: str, crop: int = 224) -> nn.Module:
    """Build a net by name, ours or torchvision's, as its weights want it."""
    ours = {"efficientnet_lite0": EfficientNetLite0, "resnet50_caffe": resnet50_caffe}
    if architecture in ours:
        return ours[architecture]()
    options = {}
    if architecture in ("googlenet", "inception_v3"):  # weights ported from TensorFlow
        options = {"transform_input": True, "init_weights": False}
    elif architecture.startswith("vit_"):
        options = {"image_size": crop}
    return torchvision.models.get_model(architecture, weights=None, **options)
