"""The eye: an autoencoder that learns, from pictures alone, to say each in a few numbers.

Kingma, Welling 2014, "Auto-encoding variational Bayes" (VAE), https://arxiv.org/abs/1312.6114; the
weight of its second term is the β of Higgins et al. 2017, "β-VAE". Ha, Schmidhuber 2018, "World
models", https://arxiv.org/abs/1803.10122, call it V.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from gymnasium import Space
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from lightning_rl.checkpoints.config import config_from
from lightning_rl.checkpoints.spaces import space_from_state, space_state
from lightning_rl.errors import ShapeError, SpaceError, StateError
from lightning_rl.networks.action_values import mlp
from lightning_rl.networks.encoders import is_image
from lightning_rl.settings import Settings
from lightning_rl.stats.metrics import IterationMetrics
from lightning_rl.updates import annealed_adam, check_gradients, check_loss, check_parameters
from lightning_rl.worlds.world_model import find_spaces

STATE_KEY = "eye"  # of its own entry in a checkpoint
MEASURED_PART = 8  # codes are measured on one in so many pictures


@dataclass(frozen=True)
class EyeConfig(Settings):
    """The eye's settings."""

    num_codes: int = 4  # numbers that a picture becomes
    hidden_sizes: tuple[int, ...] = (128, 128)  # of the encoder; the decoder has them reversed
    learning_rate: float = 2e-3
    anneal_learning_rate: bool = True  # linearly, to 0 at the end of a run of known length
    blurs: int = 2  # how often a picture is blurred, 3x3, before the eye looks
    pixel_noise: float = 0.1  # σ of a pixel about what is drawn, of 1; the smaller, the sharper
    kl_weight: float = 0.01  # β: 1 is the VAE, 0 nearly a plain autoencoder

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: naming the setting that is out of its range.
        """
        super().__post_init__()
        self.require_counts("num_codes")
        self.require_positive("learning_rate", "pixel_noise")
        self.require_not_negative("blurs", "kl_weight")


class EyeNetwork(nn.Module):
    """Encoder and decoder for pictures (H, W, C), and what was measured of their K codes.

    Attributes:
        code_mean, code_std: (K,) of the codes in the data, by which they are normalised.
        change_std: of a normalised code's change from one picture to the next.
    """

    code_mean: Tensor
    code_std: Tensor
    change_std: Tensor

    def __init__(self, shape: tuple[int, ...], config: EyeConfig) -> None:
        super().__init__()
        self.shape, self.num_codes, self.blurs = shape, config.num_codes, config.blurs
        pixels, hidden = math.prod(shape), config.hidden_sizes
        self.encoder = mlp((pixels, *hidden, 2 * config.num_codes), nn.SiLU)
        for weight in self.encoder[-1].parameters():
            nn.init.zeros_(weight)
        self.straight = nn.Linear(pixels, 2 * config.num_codes)
        self.decoder = mlp((config.num_codes, *reversed(hidden), pixels), nn.SiLU)
        self.register_buffer("code_mean", torch.zeros(config.num_codes))
        self.register_buffer("code_std", torch.zeros(config.num_codes))  # until it is measured
        self.register_buffer("change_std", torch.zeros(()))

    @property
    def is_trained(self) -> bool:
        """Whether the codes were measured, which happens at the end of each epoch."""
        return bool(self.change_std > 0)

    def scale(self, pictures: Tensor) -> Tensor:
        """Bring pictures (..., H, W, C) of 0 to 255 to (B, C, H, W) of 0 to 1.

        Raises:
            ShapeError: if they have another shape or dtype than those the eye was made for.
        """
        if pictures.shape[-3:] != self.shape or pictures.dtype != torch.uint8:
            raise ShapeError(
                f"got pictures of shape {tuple(pictures.shape)} and {pictures.dtype}; this eye "
                f"expects (..., {', '.join(map(str, self.shape))}): rows, columns, channels, of "
                "torch.uint8. Make them with the PictureEnv it was trained on."
            )
        rows = pictures.to(self.code_mean.device).reshape(-1, *self.shape).movedim(-1, 1)
        return rows.to(self.code_mean.dtype) / 255

    def encode(self, greys: Tensor) -> tuple[Tensor, Tensor]:
        """Give the means and log-variances of the codes, (B, K) each, of blurred (B, C, H, W).

        Codes are to follow what moves in nearly straight lines, not to fold. So pictures are
        blurred, as what is blurred still overlaps with itself after it has moved; and there is a
        straight path beside the layers, whose part is 0 at first: the eye begins as a linear one.
        """
        for _ in range(self.blurs):
            greys = avg_pool2d(greys, 3, stride=1, padding=1)
        flat = greys.flatten(1)
        means, log_variances = (self.straight(flat) + self.encoder(flat)).chunk(2, dim=-1)
        return means, log_variances

    def decode(self, codes: Tensor) -> Tensor:
        """Draw codes (B, K) as sharp pictures, (B, C, H, W)."""
        height, width, channels = self.shape
        drawn: Tensor = self.decoder(codes).view(-1, channels, height, width)
        return drawn

    @torch.no_grad()
    def measure(self, codes: Tensor, changes: Tensor) -> None:
        """Take the statistics from codes and changes of codes, (B, K) each, not normalised."""
        std = codes.std(0, correction=0)
        self.code_mean.copy_(codes.mean(0))
        self.code_std.copy_(torch.where(std > 1e-6, std, 1.0))  # if constant
        change_std = (changes / self.code_std).std(correction=0)
        self.change_std.copy_(torch.where(change_std > 1e-6, change_std, 1.0))

    def check_trained(self) -> None:
        """Refuse to work before the codes were measured.

        Raises:
            StateError: saying what to do.
        """
        if not self.is_trained:
            raise StateError(
                "the eye was not trained, so its codes mean nothing; call "
                "lightning.Trainer(...).fit(eye, DataLoader(dataset)) or load a checkpoint first."
            )

    @torch.no_grad()
    def see(self, pictures: Tensor) -> Tensor:
        """Look at pictures (..., H, W, C) uint8: give their normalised codes, (..., K)."""
        self.check_trained()
        means, _ = self.encode(self.scale(pictures))
        return ((means - self.code_mean) / self.code_std).view(*pictures.shape[:-3], -1)

    @torch.no_grad()
    def draw(self, codes: Tensor) -> Tensor:
        """Draw normalised codes (..., K) as pictures, (..., H, W, C) uint8."""
        self.check_trained()
        if codes.shape[-1:] != (self.num_codes,):
            raise ShapeError(
                f"got codes of shape {tuple(codes.shape)}; expected (..., {self.num_codes}). Of a "
                "percept, they are the first numbers."
            )
        rows = codes.to(self.code_mean).reshape(-1, self.num_codes)
        drawn = self.decode(rows * self.code_std + self.code_mean).clamp(0, 1)
        pictures = (drawn * 255).round().to(torch.uint8).movedim(1, -1)
        return pictures.reshape(*codes.shape[:-1], *self.shape)


class Eye(LightningModule):
    """Learns to say a picture in a few numbers, from which it can be drawn again.

    It sees one picture at a time, blurred, and draws it sharp; nothing tells it what is on it. The
    codes' statistics are measured in each epoch. As with a `WorldModel`, the sizes come from the
    data when `fit` starts, and a checkpoint brings its own.

    Args:
        config: the settings.
        observation_space: of the pictures: a Box of uint8 with axes H, W and C = 1 or 3. Default:
            the training dataset's attribute of that name.

    Attributes:
        network: the `EyeNetwork`, None until the space is known.

    Raises:
        SpaceError: for another space.

    Example:
        >>> from gymnasium import spaces
        >>> eye = Eye(EyeConfig(num_codes=2), spaces.Box(0, 255, (16, 16, 1), "uint8"))
        >>> pictures = torch.zeros(8, 16, 16, 1, dtype=torch.uint8)
        >>> sorted(eye.loss({"observations": pictures}))
        ['error', 'kl', 'loss']
    """

    def __init__(
        self,
        config: EyeConfig | dict[str, Any] = EyeConfig(),
        observation_space: Space | None = None,
    ) -> None:
        super().__init__()
        config = config_from(EyeConfig, config)
        self.save_hyperparameters({"config": asdict(config)})
        self.config = config
        self.network: Any = None
        self.metrics = IterationMetrics()
        self._codes: list[Tensor] = []
        self._changes: list[Tensor] = []
        if observation_space is not None:
            self.build(observation_space)

    def build(self, observation_space: Space) -> None:
        """Make the network for pictures of this space, or check that it was made for it.

        Raises:
            SpaceError: if it was made for others, or these are no pictures.
        """
        shape = observation_space.shape or ()
        if not is_image(observation_space) or shape[-1] not in (1, 3):
            raise SpaceError(
                f"got the observation space {observation_space}; expected pictures: a Box of uint8 "
                "with the axes rows, columns, channels (1 or 3). PictureEnv makes an environment "
                "of them; a dataset of states is for a WorldModel."
            )
        if self.network is None:
            self.network, self.observation_space = EyeNetwork(shape, self.config), observation_space
        if observation_space != self.observation_space:
            raise SpaceError(
                f"the eye was built for {self.observation_space}; these pictures are of "
                f"{observation_space}. Make a new eye."
            )

    def see(self, pictures: Tensor) -> Tensor:
        """Look at pictures (..., H, W, C) uint8: give their normalised codes, (..., K).

        Raises:
            StateError: if the eye was not trained.
            ShapeError: for pictures of another shape or dtype.
        """
        codes: Tensor = self.built().see(pictures)
        return codes

    def draw(self, codes: Tensor) -> Tensor:
        """Draw normalised codes (..., K) as pictures, (..., H, W, C) uint8.

        Raises:
            StateError: if the eye was not trained.
            ShapeError: for another number of codes.
        """
        pictures: Tensor = self.built().draw(codes)
        return pictures

    def forward(self, pictures: Tensor) -> Tensor:
        """Look, as `see` does."""
        return self.see(pictures)

    def built(self) -> EyeNetwork:
        """Give the network.

        Raises:
            StateError: if it has no size yet.
        """
        if self.network is None:
            raise StateError(
                "the eye has no size yet; expected a training dataset with the attribute "
                "observation_space, such as a TrajectoryDataset of a PictureEnv. Or give it to "
                "Eye(config, observation_space), or load a checkpoint."
            )
        network: EyeNetwork = self.network
        return network

    # ---- training ----------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take the size from the training data. Overriding needs `super()`."""
        if stage == "fit":
            self.trainer.fit_loop.setup_data()
            loader: Any = self.trainer.train_dataloader
            found = find_spaces(getattr(loader, "dataset", None))
            if found is not None:
                self.build(found[0])
            self.built()

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the loss of the pictures in `observations`, (B, ..., H, W, C).

            Σ_pixels (x - x̂)² / (2 σ²) + β Σ_k ½ (μ_k² + s_k² - log s_k² - 1)

        with x̂ drawn from codes z_k = μ_k + s_k ε, σ the `pixel_noise` and β the `kl_weight`. Summed
        over pixels, not averaged: of an average, a pole's few pixels are too little to be kept.

        Returns:
            `loss`; `error`, the first sum without its factor; `kl`, the second sum.
        """
        network = self.built()
        sharp = network.scale(batch["observations"])
        means, log_variances = network.encode(sharp)
        codes = means + (0.5 * log_variances).exp() * torch.randn_like(means)
        error = (network.decode(codes) - sharp).square().sum((1, 2, 3)).mean()
        kl = 0.5 * (means.square() + log_variances.exp() - log_variances - 1).sum(-1).mean()
        loss = error / (2 * self.config.pixel_noise**2) + self.config.kl_weight * kl
        return {"loss": loss, "error": error, "kl": kl}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Compute the loss of one minibatch; keep some of its codes, to be measured."""
        self._keep_codes(batch)
        return self.loss(batch)

    @torch.no_grad()
    def _keep_codes(self, batch: dict[str, Tensor]) -> None:
        """Encode a part of the pictures, and those that followed them."""
        names = ("observations", "next_observations")
        if not isinstance(batch, dict) or not set(names) <= set(batch):
            got = list(batch) if isinstance(batch, dict) else type(batch).__name__
            raise ShapeError(
                f"got a batch of {got}; expected a dict with {list(names)}, such as those of a "
                "TrajectoryDataset."
            )
        some, network = max(len(batch["observations"]) // MEASURED_PART, 1), self.built()
        before, after = (network.encode(network.scale(batch[name][:some]))[0] for name in names)
        self._codes.append(before)
        self._changes.append(after - before)

    def on_before_backward(self, loss: Tensor) -> None:
        """Refuse a loss that would destroy the weights, as `check_loss` does."""
        check_loss(loss)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Refuse gradients that would destroy the weights, as `check_gradients` does."""
        check_gradients(self, optimizer)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the scalars for the epoch's mean."""
        self.metrics.add_outputs(outputs)

    def on_train_epoch_end(self) -> None:
        """Log `train_loss`, `train_error` and `train_kl`; measure the epoch's codes."""
        check_parameters(self)
        self.built().measure(torch.cat(self._codes), torch.cat(self._changes))
        self._codes, self._changes = [], []
        for name, mean, _ in self.metrics.pop_means():
            self.log(f"train_{name}", mean, batch_size=1, sync_dist=True)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log `val_loss`, `val_error` and `val_kl`."""
        losses = {f"val_{name}": value for name, value in self.loss(batch).items()}
        self.log_dict(losses, batch_size=len(batch["observations"]), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Adam, its learning rate annealed where the run's length is known."""
        config = self.config
        return annealed_adam(self, config.learning_rate, anneal=config.anneal_learning_rate)

    # ---- checkpoints -------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the space, which says the sizes."""
        super().on_save_checkpoint(checkpoint)
        self.built()
        checkpoint[STATE_KEY] = {"observation_space": space_state(self.observation_space)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the network for the saved space.

        Raises:
            StateError: if the checkpoint is not an eye's.
            SpaceError: if this eye was built for another.
        """
        super().on_load_checkpoint(checkpoint)
        if STATE_KEY not in checkpoint:
            raise StateError(
                "the checkpoint holds no eye; expected one that was saved while an Eye was trained."
            )
        self.build(space_from_state(checkpoint[STATE_KEY]["observation_space"]))
