"""MNIST, the handwritten digits, as a LightningDataModule: a bundled subset, or all 70,000 images.

The images are Yann LeCun's and Corinna Cortes's, under CC BY-SA 3.0: see LICENSE-MNIST.md.
"""

from __future__ import annotations

import gzip
import hashlib
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, TensorDataset, random_split

Images = NDArray[np.uint8]  # (N, 28, 28), 0 is paper and 255 is ink
Labels = NDArray[np.uint8]  # (N,), the digit, 0 to 9

SUBSET = Path(__file__).parent / "mnist_subset.npz"
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
# The original files: the MD5 of each as it is, and of its .gz as the mirrors have it.
CHECKSUMS = {
    "train-images-idx3-ubyte": (
        "6bbc9ace898e44ae57da46a324031adb",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ),
    "train-labels-idx1-ubyte": (
        "a25bea736e30d166cdddb491f175f624",
        "d53e105ee54ea40749a09fcbcd1e9432",
    ),
    "t10k-images-idx3-ubyte": (
        "2646ac647ad5339dbf082846283269ea",
        "9fb629c4189551a2d022fa330f9573f3",
    ),
    "t10k-labels-idx1-ubyte": (
        "27ae3e4e09519cfbb04c329615203637",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
}


class MNISTError(Exception):
    """The images are missing or damaged; the message says which file and what to do."""


class MNISTDataModule(LightningDataModule):
    """Training, validation and test images of handwritten digits.

    Args:
        full: all 60,000 + 10,000 images; else the bundled 5,000 + 1,000.
        folder: where the four original files lie, raw or as `.gz`, or are to be downloaded to.
        batch_size: images of a batch.
        validation_part: the part of the training images that is kept apart for validation.

    Raises:
        MNISTError: from `setup`, if images are missing or damaged.
    """

    def __init__(
        self,
        full: bool = False,
        folder: str | Path = "mnist",
        batch_size: int = 64,
        validation_part: float = 0.1,
    ) -> None:
        super().__init__()
        self.full, self.folder, self.batch_size = full, Path(folder), batch_size
        self.validation_part = validation_part

    def prepare_data(self) -> None:
        """Download what is missing; Lightning calls this once, in one process."""
        if self.full:
            for name in CHECKSUMS:
                find_or_download(name, self.folder)

    def setup(self, stage: str | None = None) -> None:
        """Load the images and keep some apart for validation; called in every process."""
        if self.full:
            train, test = load_full(self.folder, "train"), load_full(self.folder, "t10k")
        else:
            train, test = load_subset("train"), load_subset("test")
        parts = [1 - self.validation_part, self.validation_part]
        cut = torch.Generator().manual_seed(0)  # the same images in every run and process
        self.train, self.validation = random_split(to_dataset(*train), parts, cut)
        self.test = to_dataset(*test)

    def train_dataloader(self) -> DataLoader[Any]:
        """Give shuffled batches of images (B, 1, 28, 28) in [0, 1] and labels (B,)."""
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Give the validation images in batches."""
        return DataLoader(self.validation, batch_size=1000)

    def test_dataloader(self) -> DataLoader[Any]:
        """Give the test images in batches."""
        return DataLoader(self.test, batch_size=1000)


def to_dataset(images: Images, labels: Labels) -> TensorDataset:
    """Turn bytes into what a network eats: (N, 1, 28, 28) in [0, 1], and (N,) int64."""
    pixels = torch.from_numpy(images).unsqueeze(1).float() / 255
    return TensorDataset(pixels, torch.from_numpy(labels).long())


def load_subset(part: str, path: Path = SUBSET) -> tuple[Images, Labels]:
    """Load the bundled `"train"` or `"test"` images and labels.

    Raises:
        MNISTError: if the file is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MNISTError(
            f"{path} is missing or damaged ({error}); expected the bundled images. Get the file "
            "anew from the repository, or make it with make_subset.py."
        ) from error
    return _checked(images, labels, path)


def load_full(folder: str | Path, part: str) -> tuple[Images, Labels]:
    """Load all `"train"` (60,000) or `"t10k"` (10,000) images and labels from `folder`.

    Raises:
        MNISTError: if a file is missing or damaged.
    """
    images = _read_idx(find(f"{part}-images-idx3-ubyte", Path(folder)))
    labels = _read_idx(find(f"{part}-labels-idx1-ubyte", Path(folder)))
    return _checked(images, labels, Path(folder))


def find(name: str, folder: Path) -> bytes:
    """Read an original file from `folder`, raw or as `.gz`, and check that it is the original.

    Raises:
        MNISTError: if it is not there, or is damaged.
    """
    raw, packed = folder / name, folder / f"{name}.gz"
    raw_md5, packed_md5 = CHECKSUMS[name]
    if raw.is_file():
        return _original(raw.read_bytes(), raw_md5, raw)
    if packed.is_file():
        return gzip.decompress(_original(packed.read_bytes(), packed_md5, packed))
    raise MNISTError(f"{folder} has neither {name} nor {name}.gz; expected MNIST's original files.")


def find_or_download(name: str, folder: Path) -> None:
    """Download an original file into `folder`, from the first mirror that has it, where missing.

    Raises:
        MNISTError: if no mirror gives the original.
    """
    if (folder / name).is_file() or (folder / f"{name}.gz").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for mirror in MIRRORS:
        url = f"{mirror}{name}.gz"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 (fixed addresses)
                content = _original(answer.read(), CHECKSUMS[name][1], url)
        except (OSError, MNISTError) as error:
            failures.append(f"{url}: {error}")
            continue
        partial = folder / f"{name}.gz.part"
        partial.write_bytes(content)
        partial.replace(folder / f"{name}.gz")  # so that a broken run leaves no half a file
        return
    raise MNISTError(
        f"{name} could not be downloaded; without the internet, put MNIST's four original files "
        f"into {folder}, or leave --full out.\n" + "\n".join(failures)
    )


def _original(content: bytes, md5: str, where: Path | str) -> bytes:
    got = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if got != md5:
        raise MNISTError(
            f"{where} is damaged: its MD5 is {got}, the original's {md5}. Delete it and try again."
        )
    return content


def _read_idx(content: bytes) -> NDArray[np.uint8]:
    """Read LeCun's IDX format: 0, 0, type (8: bytes), dimensions; their sizes, big-endian; data."""
    shape = np.frombuffer(content, dtype=">u4", count=content[3], offset=4)
    data = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * len(shape))
    return data.reshape(shape).copy()  # a copy: torch wants memory that may be written


def _checked(images: Images, labels: Labels, where: Path) -> tuple[Images, Labels]:
    if images.shape != (len(labels), 28, 28) or len(labels) == 0 or labels.max() > 9:
        raise MNISTError(
            f"{where} holds images {images.shape} and labels {labels.shape}; expected "
            "(N, 28, 28) and (N,), digits from 0 to 9."
        )
    return images, labels
