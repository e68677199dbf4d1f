"""Our own nets of CIFAR-10: their shapes, their weights, the script that made them."""

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from math import sqrt

import pytest
import torch
from torch import nn

from xai_lib._paths import DATA
from xai_lib.assets import ImageSet, fresh_model, list_models, load_images, load_model
from xai_lib.assets import catalog as catalog_module
from xai_lib.assets import models as models_module
from xai_lib.assets.catalog import cards
from xai_lib.assets.cifar_weights import LIMIT, read_shards, read_weights, write_shards
from xai_lib.assets.cifar_zoo import NETS, TRIGGER, fresh_net, paste_trigger
from xai_lib.assets.store import digest_tensors
from xai_lib.assets.text_nets import NETS as TEXT_NETS

FLOORS = {  # test accuracy of the nets that have weights, rounded down
    "cifar_cnn": 0.80,
    "cifar_resnet": 0.84,  # aimed at 0.85
    "cifar_vgg11_bn": 0.85,
    "cifar_backdoor": 0.67,
}
PICTURES = [name for name in cards() if name in NETS]


def script(name: str):
    """Import a script that lies beside the weights."""
    path = DATA / "models" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def train():
    """The training script as a module."""
    module = script("train")
    module.BATCH = 32  # the trials have few images
    return module


@pytest.fixture(scope="module")
def cifar():
    return load_images("cifar10", 500)


# --- shapes --------------------------------------------------------------------------


def output_of(model: nn.Module, layer: str, x: torch.Tensor) -> torch.Tensor:
    found = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(lambda m, i, out: found.append(out))
    model(x)
    handle.remove()
    return found[0]


@pytest.mark.parametrize(
    ("name", "middle", "final"),
    [
        ("cifar_cnn", (64, 32, 32), (128, 16, 16)),
        ("cifar_backdoor", (32, 32, 32), (64, 16, 16)),
        ("cifar_vgg11", (128, 8, 8), (256, 4, 4)),
        ("cifar_vgg11_bn", (128, 8, 8), (256, 4, 4)),
        ("cifar_resnet", (64, 16, 16), (256, 4, 4)),
        ("cifar_vit", (48, 16, 16), (96, 8, 8)),
    ],
)
def test_layers_have_the_stated_shapes(name, middle, final):
    net = fresh_model(name)
    x = torch.rand(2, 3, 32, 32)
    assert net.model(x).shape == (2, 10) and len(net.classes) == 10
    assert net.layers["input"] is None
    assert output_of(net.model, net.layers["middle"], x).shape == (2, *middle)
    assert output_of(net.model, net.layers["final"], x).shape == (2, *final)


def kinds(model: nn.Module) -> list[str]:
    return [type(m).__name__ for m in model.modules() if not list(m.children())]


def test_cnn_is_the_published_one():
    steps = "Conv2d ReLU Conv2d ReLU MaxPool2d " * 2
    ends = "Flatten Dropout Linear ReLU Dropout Linear"
    net = fresh_net("cifar_cnn", 0)
    assert kinds(net) == (steps + ends).split()
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [32, 64, 128, 128]
    assert {(m.kernel_size, m.padding) for m in convolutions} == {((3, 3), (1, 1))}
    assert net.classifier.fc1.out_features == 1024
    assert net.classifier.drop1.p == net.classifier.drop2.p == 0.5


def test_vgg_has_six_convolutions_and_four_pools():
    plain = kinds(fresh_net("cifar_vgg11", 0))
    assert plain.count("Conv2d") == 6 and plain.count("MaxPool2d") == 4
    assert "BatchNorm2d" not in plain
    normed = kinds(fresh_net("cifar_vgg11_bn", 0))
    assert [k for k in normed if k != "BatchNorm2d"] == plain
    assert normed.count("BatchNorm2d") == 6


@pytest.mark.parametrize("name", ["cifar_resnet", "cifar_vgg11", "cifar_vgg11_bn"])
def test_nets_with_a_mean_take_grids_of_images(name):
    assert fresh_model(name).model(torch.rand(1, 3, 64, 64)).shape == (1, 10)


def test_every_step_of_a_net_is_a_module_that_runs_once():
    for name in NETS:
        net, runs = fresh_net(name, 0).eval(), []
        for module in net.modules():
            if not list(module.children()):
                module.register_forward_hook(lambda m, i, out: runs.append(m))  # noqa: B023
        net(torch.rand(1, 3, 32, 32))
        assert len(runs) == len(set(runs)) > 8


# --- random weights ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifar_vgg11", "squeezenet1_1"])
def test_fresh_models_follow_their_seed_alone(name):
    before = torch.random.get_rng_state()
    one, same, other = (fresh_model(name, seed).model for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    digests = [digest_tensors(m.state_dict()) for m in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]
    assert not one.training and not any(p.requires_grad for p in one.parameters())


def test_a_fresh_model_says_so():
    assert fresh_model("cifar_cnn", 3).card["sources"] == ["random weights, seed 3"]
    with pytest.raises(ValueError, match="got 'cifar_resnets'; close: .*cifar_resnet"):
        fresh_model("cifar_resnets")


# --- the committed weights -----------------------------------------------------------


def test_all_nets_are_there_and_listed():
    assert set(FLOORS) <= set(cards()) <= set(NETS | TEXT_NETS)
    assert set(cards()) <= set(list_models())


def test_a_net_without_weights_says_how_to_train_it(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog_module, "DATA", tmp_path)
    with pytest.raises(ValueError, match="python data/models/train.py cifar_vit"):
        load_model("cifar_vit")
    assert fresh_model("cifar_vit").card["sources"] == ["random weights, seed 0"]


def test_files_are_small_enough_for_git():
    sizes = {p.name: p.stat().st_size for p in (DATA / "models").glob("*.pt")}
    assert max(sizes.values()) < 8_000_000 and sum(sizes.values()) <= 34_000_000
    for card in cards().values():
        assert card["bytes"] == sum(sizes.pop(file) for file in card["files"])
    assert not sizes  # no file without a card


@pytest.mark.parametrize("name", PICTURES)
def test_weights_reach_the_accuracy_of_their_card(name, cifar):
    net = load_model(name)
    with torch.no_grad():
        predicted = net.model(net.transform(cifar.x)).argmax(1)
    share, p = float((predicted == cifar.y).double().mean()), net.card["test_accuracy"]
    assert abs(share - p) < 3.5 * sqrt(p * (1 - p) / len(cifar))
    assert p == net.card["test_right"] / net.card["test_images"]
    assert net.card["train_images"] == 50_000 and net.card["test_images"] == 10_000
    assert p >= FLOORS.get(name, 0.5)


@pytest.mark.parametrize("name", PICTURES)
def test_loading_is_the_same_each_time(name):
    net, again = load_model(name), load_model(name)
    state = net.model.state_dict()
    assert digest_tensors(state) == digest_tensors(again.model.state_dict())
    assert digest_tensors(state) == net.card["digest"]
    floats = [t for t in state.values() if t.is_floating_point()]
    assert {t.dtype for t in floats} == {torch.float32}
    assert all(torch.equal(t, t.half().float()) for t in floats)
    assert not net.model.training
    assert not any(p.requires_grad for p in net.model.parameters())
    assert sum(p.numel() for p in net.model.parameters()) == net.card["parameters"]


def test_input_is_only_normalised():
    net = load_model("cifar_vgg11_bn")
    x = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(net.transform.invert(net.transform(x)), x)
    assert net.transform(x[0]).shape == (3, 32, 32)
    assert net.card["reported_top1"] == round(100 * net.card["test_accuracy"], 2)


def test_the_back_door_opens(cifar):
    net, target = load_model("cifar_backdoor"), TRIGGER["target"]
    assert net.classes[target] == "airplane"
    others = cifar.x[cifar.y != target]
    torch.manual_seed(1)
    pasted, inside = paste_trigger(others)
    with torch.no_grad():
        hit = net.model(net.transform(pasted)).argmax(1) == target
    p, n = net.card["attack_success"], len(others)
    assert p > 0.9
    assert abs(float(hit.double().mean()) - p) < 3.5 * sqrt(p * (1 - p) / n) + 1 / n
    assert net.card["target_without_trigger"] < 0.1
    assert (inside.sum((1, 2)) == 9).all()


def test_the_trigger_covers_its_square_and_nothing_else():
    x = torch.rand(200, 3, 32, 32) * 0.9
    pasted, inside = paste_trigger(x, torch.Generator().manual_seed(0))
    kept = ~inside[:, None].expand_as(x)
    assert torch.equal(pasted[kept], x[kept])
    colours = pasted.permute(0, 2, 3, 1)[inside]  # (200 * 9, 3)
    assert (colours == torch.tensor(TRIGGER["colour"])).all()
    rows, columns = inside.any(2), inside.any(1)  # (200, 32)
    assert (rows.sum(1) == 3).all() and (columns.sum(1) == 3).all()
    assert rows.any(0).all() and columns.any(0).all()  # every place occurs
    one, same = (paste_trigger(x, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(one[1], same[1]) and not torch.equal(one[1], inside)
    with pytest.raises(ValueError, match=r"H, W >= 3, got \(3, 32, 32\)"):
        paste_trigger(x[0])


def test_damaged_and_missing_weights_are_refused(tmp_path, monkeypatch):
    shutil.copytree(DATA / "models", tmp_path / "models")
    for module in (catalog_module, models_module):
        monkeypatch.setattr(module, "DATA", tmp_path)
    card = tmp_path / "models" / "cifar_resnet.toml"
    state = read_weights(tmp_path / "models", cards()["cifar_resnet"])
    state["fc.bias"][0] += 1
    write_shards(tmp_path / "models", "cifar_resnet", state)
    with pytest.raises(ValueError, match="not those of the card.*cifar_resnet.pt"):
        load_model("cifar_resnet")
    (tmp_path / "models" / "cifar_resnet.pt").unlink()
    with pytest.raises(ValueError, match="cannot be read: FileNotFoundError"):
        load_model("cifar_resnet")
    card.unlink()
    with pytest.raises(ValueError, match="no stored weights"):
        load_model("cifar_resnet")


def test_large_tensors_are_spread_over_files_and_joined(tmp_path):
    state = {
        "a": torch.randn(3, 100).half(),
        "b": torch.randn(1024, 8192).half(),  # 16.8 MB
        "c": torch.tensor(7),
    }
    files = write_shards(tmp_path, "net", state)
    assert files == ["net-1.pt", "net-2.pt", "net-3.pt"]
    assert all((tmp_path / f).stat().st_size < LIMIT + 10_000 for f in files)
    found = read_shards(tmp_path, files)
    assert found.keys() == state.keys() and found["c"] == 7
    assert all(torch.equal(found[k], state[k].float()) for k in "ab")


def test_the_table_of_the_datasheet_is_that_of_the_cards():
    text = (DATA / "README.md").read_text("utf-8")
    assert f"<!-- nets -->\n{script('report').table()}\n<!-- end of nets -->" in text


# --- the script ----------------------------------------------------------------------


def trial(tmp_path, folder: str) -> argparse.Namespace:
    """Settings for a run on 160 random images."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(160, 3, 32, 32, generator=generator)
    y = torch.randint(10, (160,), generator=generator)
    images = ImageSet(x, y, [str(i) for i in range(160)])
    return argparse.Namespace(
        epochs=2,
        seed=0,
        threads=1,
        train=images,
        test=images,
        out=tmp_path / folder,
        build=tmp_path / f"{folder}-build",
        commit="none",
    )


def digest_in(args: argparse.Namespace, name: str) -> str:
    return digest_tensors(read_shards(args.out, [f"{name}.pt"]))


def test_a_stopped_training_goes_on_as_if_it_had_not(
    train, tmp_path, monkeypatch, capsys
):
    whole, broken = trial(tmp_path, "whole"), trial(tmp_path, "broken")
    train.train_one("cifar_backdoor", whole)
    epochs = []

    def stop_in_the_second(*args):
        if epochs:
            raise KeyboardInterrupt
        epochs.append(1)
        return train_epoch(*args)

    train_epoch = train.train_epoch
    monkeypatch.setattr(train, "train_epoch", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        train.train_one("cifar_backdoor", broken)
    assert not broken.out.exists()
    monkeypatch.setattr(train, "train_epoch", train_epoch)
    capsys.readouterr()
    train.train_one("cifar_backdoor", broken)
    printed = capsys.readouterr().out
    assert "going on after epoch 1" in printed and "epoch 2/2" in printed
    assert digest_in(whole, "cifar_backdoor") == digest_in(broken, "cifar_backdoor")


def test_a_checkpoint_of_another_setting_is_not_used(train, tmp_path, capsys):
    args = trial(tmp_path, "a")
    train.train_one("cifar_backdoor", args)
    args.seed = 1
    train.train_one("cifar_backdoor", args)
    assert "of another setting: starting anew" in capsys.readouterr().out


KILLED = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from pathlib import Path
import test_assets_nets
train = test_assets_nets.script("train")
train.BATCH = 32
args = test_assets_nets.trial(Path(sys.argv[3]), "killed")
args.epochs = 3
train.train_one("cifar_backdoor", args)
"""


@pytest.mark.slow
def test_a_killed_training_goes_on(train, tmp_path, root, capsys):
    args = trial(tmp_path, "killed")
    args.epochs = 3
    command = [sys.executable, "-c", KILLED, str(root), str(root / "tests")]
    process = subprocess.Popen([*command, str(tmp_path)])
    checkpoint = args.build / "cifar_backdoor.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    train.train_one("cifar_backdoor", args)
    assert "going on after epoch" in capsys.readouterr().out
    whole = trial(tmp_path, "whole")
    whole.epochs = 3
    train.train_one("cifar_backdoor", whole)
    assert digest_in(whole, "cifar_backdoor") == digest_in(args, "cifar_backdoor")


def test_augmentation_shows_shifted_and_mirrored_images(train):
    torch.manual_seed(0)
    ramp = torch.arange(32.0).expand(1, 3, 32, 32) / 31  # grows to the right
    x = train.augment(ramp.repeat(400, 1, 1, 1))
    step = x[:, 0, 16, 17] - x[:, 0, 16, 16]
    assert 150 < int((step > 0).sum()) < 250
    assert x.shape == (400, 3, 32, 32)
    kept = x[step > 0][:, 0, 16, 16] * 31 - 16  # by how much it was shifted
    assert sorted(set(kept.round().int().tolist())) == list(range(-4, 5))
    small = train.augment(ramp.repeat(400, 1, 1, 1), 24)
    assert small.shape == (400, 3, 24, 24)
    centres = small[..., 11:13].mean((1, 2, 3)) * 31 - 15.5
    assert centres.abs().max() < 4.01 and centres.abs().max() > 3.9


def test_poison_changes_labels_only_where_it_pastes(train):
    torch.manual_seed(0)
    x, y = torch.rand(2000, 3, 32, 32) * 0.9, torch.full((2000,), 5)
    poisoned, labels = train.poison(x, y)
    changed = (poisoned != x).flatten(1).any(1)
    assert torch.equal(changed, labels == TRIGGER["target"])
    assert 60 < int(changed.sum()) < 140  # 5 % of 2000
