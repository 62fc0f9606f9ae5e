"""Make mnist_subset.npz, the bundled images, from MNIST's original files.

    python3 make_subset.py FOLDER   # with the four files, raw or as .gz; missing ones are fetched

It takes 500 training and 100 test images of every digit, drawn with a fixed seed and shuffled, so
that the classes are balanced (in the whole of MNIST they are nearly so).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from mnist import CHECKSUMS, SUBSET, Images, Labels, find_or_download, load_full

SEED = 0


def balanced(images: Images, labels: Labels, per_digit: int) -> tuple[Images, Labels]:
    """Draw `per_digit` images of every digit, in random order."""
    generator = np.random.default_rng(SEED)
    order = generator.permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == digit][:per_digit] for digit in range(10)])
    generator.shuffle(chosen)
    return images[chosen], labels[chosen]


def make_subset(folder: Path) -> dict[str, Images]:
    """Give the arrays of the bundled file, made from the originals in `folder`."""
    train_images, train_labels = balanced(*load_full(folder, "train"), per_digit=500)
    test_images, test_labels = balanced(*load_full(folder, "t10k"), per_digit=100)
    return {
        "train_images": train_images,
        "train_labels": train_labels,
        "test_images": test_images,
        "test_labels": test_labels,
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name in CHECKSUMS:
        find_or_download(name, folder)
    np.savez_compressed(SUBSET, allow_pickle=False, **make_subset(folder))
    print(f"wrote {SUBSET.name}, {SUBSET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
