"""Train a classifier of handwritten digits: Lightning in sixty lines.

python3 main.py          5,000 bundled images, under half a minute
python3 main.py --full   all 60,000, from the folder --data, downloaded to it where missing
"""

import argparse
import warnings

import lightning
import torch
from curves import plot_accuracy
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from mnist import MNISTDataModule
from torch import Tensor, nn

warnings.filterwarnings("ignore", ".*does not have many workers.*")  # the images are in memory


class DigitClassifier(lightning.LightningModule):
    """The science: a network, its loss, its optimizer."""

    def __init__(self, learning_rate: float = 2e-3) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.network = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(),  # (B, 1, 28, 28) -> (B, 16, 12, 12)
            nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),  # -> (B, 32, 5, 5)
            nn.Flatten(), nn.Dropout(0.25), nn.Linear(800, 10),  # -> (B, 10), a score a digit
        )  # fmt: skip

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Give the loss that Lightning shall reduce."""
        return self.loss(batch, "train")

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Measure on images that are never trained on, after every epoch."""
        self.loss(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Measure on the test images, once, at the end."""
        self.loss(batch, "test")

    def loss(self, batch: list[Tensor], stage: str) -> Tensor:
        """Compare the scores of a batch of images with its labels, and log how well they fit."""
        images, labels = batch
        scores = self.network(images)
        loss = nn.functional.cross_entropy(scores, labels)
        accuracy = (scores.argmax(dim=1) == labels).float().mean()
        metrics = {f"{stage}_loss": loss, f"{stage}_accuracy": accuracy}
        self.log_dict(metrics, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Say how the weights are moved."""
        return torch.optim.Adam(self.parameters(), self.learning_rate)


def main() -> None:
    """Train, test with the best weights, and say where everything is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="train on all 60,000 images")
    parser.add_argument("--data", default="mnist", help="where MNIST's four original files lie")
    parser.add_argument("--epochs", type=int, default=10, help="at most so many (default: 10)")
    options = parser.parse_args()

    lightning.seed_everything(0)
    data = MNISTDataModule(options.full, options.data)
    best = ModelCheckpoint(monitor="val_loss")  # keeps the weights of the best epoch
    patience = EarlyStopping(monitor="val_loss", patience=3)  # stops when it gets no better
    logger = CSVLogger("lightning_logs", name="mnist")  # writes metrics.csv
    trainer = lightning.Trainer(  # the engineering: loops, devices, logs, checkpoints
        max_epochs=options.epochs, callbacks=[best, patience], logger=logger
    )
    trainer.fit(DigitClassifier(), data)
    results = trainer.test(ckpt_path="best", datamodule=data, weights_only=True)
    print(f"test accuracy {results[0]['test_accuracy']:.3f}")
    print(f"curves        {plot_accuracy(logger.log_dir)}")
    print(f"weights       {best.best_model_path}")


if __name__ == "__main__":
    main()
