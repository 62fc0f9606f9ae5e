"""A recurrent state-space model: one network that sees, remembers, predicts what it will see.

Hafner, Pasukonis, Ba, Lillicrap 2023, "Mastering diverse domains through world models"
(DreamerV3), https://arxiv.org/abs/2301.04104; the model is that of Hafner et al. 2019, "Learning
latent dynamics for planning from pixels" (PlaNet), https://arxiv.org/abs/1811.04551. Here without
convolutions, for pictures of few pixels.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from gymnasium import Space, spaces
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from lightning_rl.checkpoints.config import config_from
from lightning_rl.checkpoints.spaces import space_from_state, space_state
from lightning_rl.errors import ShapeError, SpaceError, StateError
from lightning_rl.networks.action_values import mlp
from lightning_rl.networks.encoders import is_image
from lightning_rl.settings import Settings
from lightning_rl.stats.metrics import IterationMetrics
from lightning_rl.updates import annealed_adam, check_gradients, check_loss, check_parameters
from lightning_rl.worlds.world_model import find_spaces

STATE_KEY = "recurrent_model"  # of its own entry in a checkpoint
EMBEDDING = 64  # numbers that a picture becomes before it meets the memory


@dataclass(frozen=True)
class RecurrentConfig(Settings):
    """The recurrent model's settings."""

    memory_size: int = 128  # R, units of the GRU
    num_latents: int = 8  # L, choices that say what is random or new
    num_classes: int = 8  # C, of each of them
    hidden_size: int = 128  # units of each layer of all other networks
    learning_rate: float = 2e-3
    anneal_learning_rate: bool = True  # linearly, to 0 at the end of a run of known length
    pixel_noise: float = 0.1  # σ of a pixel about what is drawn, of 1
    dynamics_weight: float = 1.0  # β_dyn of eq. 3: the prior moves towards the posterior
    representation_weight: float = 0.1  # β_rep of eq. 3: the posterior moves towards the prior
    free_nats: float = 0.1  # of the divergence cost nothing; 1 for pictures that hold more
    unimix: float = 0.01  # part of the uniform distribution in all probabilities
    max_grad_norm: float = 10.0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: naming the setting that is out of its range.
        """
        super().__post_init__()
        self.require_counts("memory_size", "num_latents", "num_classes", "hidden_size")
        self.require_positive("learning_rate", "pixel_noise", "max_grad_norm")
        self.require_not_negative("dynamics_weight", "representation_weight", "free_nats")
        self.require_fractions("unimix")


class Memory(NamedTuple):
    """What the model knows of B environments."""

    recurrent: Tensor  # (B, R) h_t, which is certain
    latent: Tensor  # (B, L C) z_t, one-hot, drawn

    @property
    def features(self) -> Tensor:
        """All of it, (B, R + L C)."""
        return torch.cat(self, dim=-1)


class RecurrentNetwork(nn.Module):
    """The parts of eq. 1 of DreamerV3, for pictures (H, W, C') and an action of A numbers.

    h_t = f(h_{t-1}, z_{t-1}, a_{t-1})     the memory
    z_t ~ q(z_t | h_t, x_t)                the posterior, from a picture
    ẑ_t ~ p(ẑ_t | h_t)                     the prior, without
    x̂_t, r̂_t, ĉ_t from h_t and z_t         what is drawn, rewarded, and final
    """

    def __init__(self, shape: tuple[int, ...], num_actions: int, config: RecurrentConfig) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        self.num_actions = num_actions
        pixels, hidden, latents = (
            math.prod(shape),
            config.hidden_size,
            config.num_latents * config.num_classes,
        )
        self.num_features = config.memory_size + latents
        self.embed = mlp((pixels, hidden, hidden, EMBEDDING), nn.SiLU)
        self.cell = nn.GRUCell(latents + num_actions, config.memory_size)
        self.prior = mlp((config.memory_size, hidden, latents), nn.SiLU)
        self.posterior = mlp((config.memory_size + EMBEDDING, hidden, latents), nn.SiLU)
        self.decoder = mlp((self.num_features, hidden, hidden, pixels), nn.SiLU)
        self.heads = mlp((self.num_features, hidden, 2), nn.SiLU)  # the reward, the end's logit

    def blank(self, count: int) -> Memory:
        """Give the memory of B environments of which nothing was seen."""
        like = next(self.parameters())
        sizes = (self.config.memory_size, self.num_features - self.config.memory_size)
        return Memory(*(like.new_zeros(count, size) for size in sizes))

    def scale(self, pictures: Tensor) -> Tensor:
        """Flatten pictures (..., H, W, C') uint8 to (..., pixels) of 0 to 1."""
        if pictures.shape[-3:] != self.shape or pictures.dtype != torch.uint8:
            raise ShapeError(
                f"got pictures of shape {tuple(pictures.shape)} and {pictures.dtype}; expected "
                f"(..., {', '.join(map(str, self.shape))}) of torch.uint8."
            )
        return pictures.to(next(self.parameters())).flatten(-3) / 255

    def probabilities(self, logits: Tensor) -> Tensor:
        """Mix a little of the uniform distribution in: (B, L C) -> (B, L, C)."""
        shaped = logits.view(-1, self.config.num_latents, self.config.num_classes)
        mixed = (1 - self.config.unimix) * shaped.softmax(-1)
        return mixed + self.config.unimix / self.config.num_classes

    def draw_latent(self, probabilities: Tensor) -> Tensor:
        """Draw one class of each latent, (B, L C); gradients go straight through the draw."""
        classes = torch.multinomial(probabilities.detach().flatten(0, 1), 1).view(
            probabilities.shape[:2]
        )
        drawn = one_hot(classes, self.config.num_classes).to(probabilities)
        return (drawn + probabilities - probabilities.detach()).flatten(1)

    def remember(self, memory: Memory, actions: Tensor) -> Tensor:
        """Go one step on, (B, R), with actions (B, A)."""
        recurrent: Tensor = self.cell(torch.cat([memory.latent, actions], -1), memory.recurrent)
        return recurrent

    def observe(
        self, memory: Memory, actions: Tensor, greys: Tensor
    ) -> tuple[Memory, Tensor, Tensor]:
        """Go one step on and look: give the memory, and the posterior's and prior's (B, L, C)."""
        recurrent = self.remember(memory, actions)
        seen = torch.cat([recurrent, self.embed(greys)], dim=-1)
        posterior = self.probabilities(self.posterior(seen))
        prior = self.probabilities(self.prior(recurrent))
        return Memory(recurrent, self.draw_latent(posterior)), posterior, prior

    def imagine(self, memory: Memory, actions: Tensor) -> Memory:
        """Go one step on without looking."""
        recurrent = self.remember(memory, actions)
        return Memory(recurrent, self.draw_latent(self.probabilities(self.prior(recurrent))))


def balanced_divergence(posterior: Tensor, prior: Tensor, config: RecurrentConfig) -> Tensor:
    """Compute what the divergence costs, (B,), of probabilities (B, L, C).

        β_dyn max(free, KL[stop(q) ‖ p]) + β_rep max(free, KL[q ‖ stop(p)])

    Reference: DreamerV3, eq. 3; the balance is of Hafner et al. 2021 (DreamerV2),
    https://arxiv.org/abs/2010.02193, the free bits of Kingma et al. 2016,
    https://arxiv.org/abs/1606.04934.

    Example:
        >>> even, sure = torch.full((1, 1, 2), 0.5), torch.tensor([[[0.9, 0.1]]])
        >>> config = RecurrentConfig(free_nats=0.0)
        >>> balanced_divergence(even, even, config).item(), config.free_nats
        (0.0, 0.0)
        >>> round(balanced_divergence(sure, even, config).item(), 3)
        0.405
    """

    def divergence(q: Tensor, p: Tensor) -> Tensor:
        return (q * (q.log() - p.log())).sum((-2, -1)).clamp(min=config.free_nats)

    dynamics = divergence(posterior.detach(), prior)
    representation = divergence(posterior, prior.detach())
    return config.dynamics_weight * dynamics + config.representation_weight * representation


class RecurrentWorldModel(LightningModule):
    """Learns from windows of pictures what will be seen, rewarded and final.

    Unlike an eye with a `WorldModel`, it learns to see and to predict at once, and remembers; so
    it needs no percepts. As with those, sizes come from the data when `fit` starts.

    Args:
        config: the settings.
        observation_space: of the pictures. Default: the training dataset's.
        action_space: Discrete, or a Box with one axis. Default: the dataset's.

    Attributes:
        network: the `RecurrentNetwork`, None until the spaces are known.

    Raises:
        SpaceError: for other spaces.

    Example:
        >>> space = spaces.Box(0, 255, (16, 16, 1), "uint8")
        >>> model = RecurrentWorldModel(observation_space=space, action_space=spaces.Discrete(2))
        >>> model.network.blank(3).features.shape
        torch.Size([3, 192])
    """

    def __init__(
        self,
        config: RecurrentConfig | dict[str, Any] = RecurrentConfig(),
        observation_space: Space | None = None,
        action_space: Space | None = None,
    ) -> None:
        super().__init__()
        config = config_from(RecurrentConfig, config)
        self.save_hyperparameters({"config": asdict(config)})
        self.config = config
        self.network: Any = None
        self.metrics = IterationMetrics()
        if observation_space is not None and action_space is not None:
            self.build(observation_space, action_space)

    def build(self, observation_space: Space, action_space: Space) -> None:
        """Make the network for these spaces, or check that it was made for them."""
        if not is_image(observation_space):
            raise SpaceError(
                f"got the observation space {observation_space}; expected pictures: a Box of uint8 "
                "with three axes, as a PictureEnv's."
            )
        if self.network is None:
            shape = observation_space.shape or ()
            self.network = RecurrentNetwork(shape, _num_actions(action_space), self.config)
            self.observation_space, self.action_space = observation_space, action_space
        if (observation_space, action_space) != (self.observation_space, self.action_space):
            raise SpaceError(
                f"the model was built for {self.observation_space} and {self.action_space}; these "
                f"are {observation_space} and {action_space}. Make a new model."
            )

    def setup(self, stage: str) -> None:
        """Take the sizes from the training data. Overriding needs `super()`."""
        if stage == "fit":
            self.trainer.fit_loop.setup_data()
            loader: Any = self.trainer.train_dataloader
            found = find_spaces(getattr(loader, "dataset", None))
            if found is not None:
                self.build(*found)
            self._check_built()

    def _check_built(self) -> None:
        if self.network is None:
            raise StateError(
                "the model has no sizes yet; expected a training dataset of pictures, such as a "
                "TrajectoryDataset of a PictureEnv, or a checkpoint."
            )

    def watch(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Follow B windows of k steps with their pictures.

        Returns:
            The greys of all pictures, (k + 1, B, pixels), the features when each was seen, and the
            posteriors' and priors' probabilities from the second on, (k, B, L, C).
        """
        self._check_built()
        network = self.network
        pictures = torch.cat([batch["observations"], batch["next_observations"][:, -1:]], dim=1)
        greys = network.scale(pictures).transpose(0, 1)
        actions = self.action_numbers(batch["actions"]).transpose(0, 1)  # (k, B, A)
        nothing = torch.zeros_like(actions[:1])
        memory, seen = network.blank(greys.shape[1]), []
        for done, grey in zip(torch.cat([nothing, actions]), greys, strict=True):
            memory, posterior, prior = network.observe(memory, done, grey)
            seen.append((memory.features, posterior, prior))
        features, posteriors, priors = (torch.stack(part) for part in zip(*seen, strict=True))
        return greys, features, posteriors[1:], priors[1:]

    def action_numbers(self, actions: Tensor) -> Tensor:
        """Give actions (...) or (..., A) as numbers (..., A): one-hot, or as they are."""
        if isinstance(self.action_space, spaces.Discrete):
            actions = one_hot(
                actions.long() - int(self.action_space.start), self.network.num_actions
            )
        return actions.to(next(self.parameters()))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the loss of B windows of k steps: eq. 2 of DreamerV3, summed over pixels.

        Returns:
            `loss`; `error`, of the pictures; `reward_error`; `termination_loss`; `kl`.
        """
        greys, features, posteriors, priors = self.watch(batch)
        drawn = self.network.decoder(features)
        error = (drawn - greys).square().sum(-1).mean()
        rewards, logits = self.network.heads(features[1:]).unbind(-1)  # (k, B)
        reward_error = (rewards - batch["rewards"].T.to(rewards)).square().mean()
        terminated = batch["terminated"].T.to(logits)
        termination_loss = binary_cross_entropy_with_logits(logits, terminated)
        kl = balanced_divergence(posteriors.flatten(0, 1), priors.flatten(0, 1), self.config).mean()
        loss = error / (2 * self.config.pixel_noise**2) + reward_error + termination_loss + kl
        return {
            "loss": loss, "error": error, "reward_error": reward_error,
            "termination_loss": termination_loss, "kl": kl,
        }  # fmt: skip

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Compute the loss of one minibatch of windows."""
        return self.loss(batch)

    def on_before_backward(self, loss: Tensor) -> None:
        """Refuse a loss that would destroy the weights, as `check_loss` does."""
        check_loss(loss)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Check and clip the gradients: a recurrent network's can be large."""
        check_gradients(self, optimizer)
        nn.utils.clip_grad_norm_(self.parameters(), self.config.max_grad_norm)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the scalars for the epoch's mean."""
        self.metrics.add_outputs(outputs)

    def on_train_epoch_end(self) -> None:
        """Log `train_loss`, `train_error`, `train_kl` and the others."""
        check_parameters(self)
        for name, mean, _ in self.metrics.pop_means():
            self.log(f"train_{name}", mean, batch_size=1, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Adam, its learning rate annealed where the run's length is known."""
        return annealed_adam(
            self, self.config.learning_rate, anneal=self.config.anneal_learning_rate
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the spaces, which say the sizes."""
        super().on_save_checkpoint(checkpoint)
        self._check_built()
        checkpoint[STATE_KEY] = {
            "observation_space": space_state(self.observation_space),
            "action_space": space_state(self.action_space),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the network for the saved spaces."""
        super().on_load_checkpoint(checkpoint)
        if STATE_KEY not in checkpoint:
            raise StateError("the checkpoint holds no recurrent model; expected one's.")
        state = checkpoint[STATE_KEY]
        self.build(
            *(space_from_state(state[f"{what}_space"]) for what in ("observation", "action"))
        )


def _num_actions(space: Space) -> int:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space.shape[0]
    raise SpaceError(f"got the action space {space}; expected Discrete or a Box of one axis.")
