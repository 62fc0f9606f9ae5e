"""The picture of a run, from the metrics that Lightning's CSVLogger wrote."""

import csv
from pathlib import Path

from matplotlib.figure import Figure


def plot_accuracy(folder: str | Path) -> Path:
    """Draw `metrics.csv`'s accuracies in training and validation against the epochs.

    Args:
        folder: the logger's `log_dir`; the picture is written there too.

    Returns:
        The path of the picture.
    """
    with (Path(folder) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="accuracy")
    for name in ("train_accuracy", "val_accuracy"):
        points = [(int(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.legend()
    picture = Path(folder) / "accuracy.png"
    figure.savefig(picture, dpi=120)
    return picture
