"""What we explain: pretrained classifiers and photographs, fetched and verified."""

from .fetch import AssetError, fetch
from .images import ImageSet, list_images, load_images
from .models import Classifier, list_models, load_model

__all__ = [
    "AssetError",
    "Classifier",
    "ImageSet",
    "fetch",
    "list_images",
    "list_models",
    "load_images",
    "load_model",
]
