"""From an image in [0, 1] to what a net wants."""

from dataclasses import dataclass

import torch
import torchvision.transforms.v2.functional as F
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Transform:
    """Resize, crop and normalise; differentiable for tensors.

    Called with a floating tensor in [0, 1] of shape (3, H, W) or (N, 3, H, W), or with
    a PIL image, it returns (3, crop, crop) or (N, 3, crop, crop): the short side is
    resized to `resize` (antialiased), the centre is cropped, the mean is subtracted and
    the result divided by std, per channel in RGB order. An input of exactly crop x crop
    is only normalised. A PIL image goes through `as_rgb` first.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    resize: int = 256
    crop: int = 224
    interpolation: InterpolationMode = InterpolationMode.BILINEAR

    def __call__(self, image: Tensor | Image.Image) -> Tensor:
        if isinstance(image, Image.Image):
            image = F.to_dtype(F.pil_to_tensor(as_rgb(image)), scale=True)
        check_image(image)
        if image.shape[-2:] != (self.crop, self.crop):
            image = F.resize(image, [self.resize], self.interpolation, antialias=True)
            image = F.center_crop(image, [self.crop, self.crop])
        return F.normalize(image, self.mean, self.std)

    def invert(self, x: Tensor) -> Tensor:
        """Return the image in [0, 1] from a normalised input of the same size."""
        mean, std = (x.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return x * std + mean


def check_image(image: Tensor) -> None:
    """Refuse what is not a floating RGB tensor in [0, 1]."""
    wanted = "image must be a PIL image or a floating tensor (3, H, W) or (N, 3, H, W)"
    if not isinstance(image, Tensor):
        raise TypeError(f"{wanted}, got {type(image).__name__}")
    if not image.is_floating_point():
        raise TypeError(f"{wanted}, got {image.dtype}")
    if image.ndim not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape:
        raise ValueError(f"{wanted}, got {tuple(image.shape)}")
    low, high = (float(v) for v in torch.aminmax(image.detach()))
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        raise ValueError(f"image must lie in [0, 1], got [{low:.4g}, {high:.4g}]")


def as_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB, as its camera was held; transparent parts are white.

    An image of 16 bits or of numbers is refused: its range is not known.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"mode {image.mode} is not supported: save it with 8 bits")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
