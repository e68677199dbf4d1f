"""What we explain: pretrained classifiers and photographs, fetched and verified."""

from .cifar_zoo import paste_trigger
from .fetch import AssetError, fetch
from .images import ImageSet, list_images, load_images
from .models import Classifier, fresh_model, list_models, load_model

__all__ = [
    "AssetError",
    "Classifier",
    "ImageSet",
    "fetch",
    "fresh_model",
    "list_images",
    "list_models",
    "load_images",
    "load_model",
    "paste_trigger",
]
