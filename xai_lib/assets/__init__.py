"""What we explain: pretrained classifiers, photographs, texts; fetched and verified."""

from .cifar_zoo import paste_trigger
from .fetch import AssetError, fetch
from .images import ImageSet, list_images, load_images
from .models import Classifier, fresh_model, list_models, load_model
from .own import own_model
from .text import tokenize
from .texts import TextSet, list_texts, load_texts

__all__ = [
    "AssetError",
    "Classifier",
    "ImageSet",
    "TextSet",
    "fetch",
    "fresh_model",
    "list_images",
    "list_models",
    "list_texts",
    "load_images",
    "load_model",
    "load_texts",
    "own_model",
    "paste_trigger",
    "tokenize",
]
