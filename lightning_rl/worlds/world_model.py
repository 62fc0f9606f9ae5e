"""World models: an ensemble of networks that learns from stored steps what an environment does.

Chua, Calandra, McAllister, Levine 2018, "Deep reinforcement learning in a handful of trials using
probabilistic dynamics models" (PETS), https://arxiv.org/abs/1805.12114; Janner, Fu, Zhang, Levine
2019, "When to trust your model: model-based policy optimization" (MBPO),
https://arxiv.org/abs/1906.08253.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from gymnasium import Space
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, IterableDataset

from lightning_rl.checkpoints.config import config_from
from lightning_rl.checkpoints.module import CheckpointedModule
from lightning_rl.checkpoints.spaces import space_from_state, space_state
from lightning_rl.errors import ConfigError, ShapeError, SpaceError, StateError
from lightning_rl.settings import Settings
from lightning_rl.stats.metrics import IterationMetrics
from lightning_rl.updates import annealed_adam, check_gradients, check_loss, check_parameters
from lightning_rl.worlds.dynamics import EnsembleNetwork

STATE_KEY = "world_model"  # of its own entry in a checkpoint
STATISTICS_ROWS = 8192  # rows read at once to measure the data


@dataclass(frozen=True)
class WorldModelConfig(Settings):
    """The world model's settings."""

    num_members: int = 5  # networks in the ensemble
    hidden_sizes: tuple[int, ...] = (64, 64)  # units of each hidden layer of each member
    learning_rate: float = 1e-2  # high, because it is annealed
    anneal_learning_rate: bool = True  # linearly, to 0 at the end of a run of known length
    weight_decay: float = 1e-5  # L2 penalty within Adam
    variance_weight: float = 0.5  # β of the loss: 0 is the likelihood, 1 a squared error

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: naming the setting that is out of its range.
        """
        super().__post_init__()
        self.require_counts("num_members")
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ConfigError(f"hidden_sizes={self.hidden_sizes}; expected units of each layer.")
        self.require_positive("learning_rate")
        self.require_not_negative("weight_decay")
        self.require_fractions("variance_weight")


class Prediction(NamedTuple):
    """What each of E members expects of B sequences of k actions; each member rolls its own way."""

    observations: Tensor  # (E, B, k, D) after each action
    rewards: Tensor  # (E, B, k)
    terminated: Tensor  # (E, B, k) probability that the step ends the episode
    mean: Tensor  # (B, k, D) of the members' observations
    disagreement: Tensor  # (B, k) as `EnsembleNetwork.disagreement`


class WorldModel(CheckpointedModule):
    """Learns from stored steps how observations change, what is rewarded, and what is final.

    It predicts whether a step terminates, never whether a limit truncates it, which is no
    property of the state. Nothing about the environment is assumed: rewards and termination are
    learned. All members see the same minibatches and differ by their first weights.

    The members' sizes and the statistics that normalise inputs and targets come from the data
    when `fit` starts, so `WorldModel()` needs no arguments; a checkpoint brings its own.

    Args:
        config: the settings.
        observation_space: a Box of real numbers with one axis. Default: the training dataset's
            attribute of that name.
        action_space: Discrete or a Box with one axis. Default: the dataset's.

    Attributes:
        network: the `EnsembleNetwork`, None until the spaces are known.
        learning_rate: the config's, unless Lightning's `Tuner` has found another.

    Raises:
        SpaceError: for other spaces.

    Example:
        >>> from gymnasium import spaces
        >>> model = WorldModel(WorldModelConfig(num_members=3))
        >>> model.build(spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
        >>> prediction = model.predict(torch.zeros(8, 4), torch.zeros(8, 10))
        >>> prediction.observations.shape, prediction.disagreement.shape
        (torch.Size([3, 8, 10, 4]), torch.Size([8, 10]))

    References: Chua et al. 2018 (PETS); Janner et al. 2019 (MBPO). The loss is the β-NLL of Seitzer
    et al. 2022, "On the pitfalls of heteroscedastic uncertainty estimation with probabilistic
    neural networks", https://arxiv.org/abs/2203.09168.
    """

    def __init__(
        self,
        config: WorldModelConfig | dict[str, Any] = WorldModelConfig(),
        observation_space: Space | None = None,
        action_space: Space | None = None,
    ) -> None:
        super().__init__()
        config = config_from(WorldModelConfig, config)
        self.save_hyperparameters({"config": asdict(config)})
        self.config = config
        self.learning_rate = config.learning_rate
        self.network: Any = None
        self.metrics = IterationMetrics()
        self._random_state: Tensor | None = None  # kept from loading until training goes on
        if observation_space is not None and action_space is not None:
            self.build(observation_space, action_space)

    def build(self, observation_space: Space, action_space: Space) -> None:
        """Make the members for these spaces, or check that they were made for them.

        Raises:
            SpaceError: if they were made for others, or there is no world model of these.
        """
        if self.network is None:
            sizes = (self.config.num_members, self.config.hidden_sizes)
            self.network = EnsembleNetwork(observation_space, action_space, *sizes)
            self.observation_space, self.action_space = observation_space, action_space
        if (observation_space, action_space) != (self.observation_space, self.action_space):
            raise SpaceError(
                f"the world model was built for {self.observation_space} and {self.action_space}; "
                f"these data have {observation_space} and {action_space}. Make a new world model."
            )

    # ---- training ----------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take the sizes and the statistics from the training data. Overriding needs `super()`."""
        super().setup(stage)
        if stage != "fit":
            return  # a checkpoint may bring the sizes after this
        loader = self._build_for_data()
        dataset = getattr(loader, "dataset", None)
        self._check_built()
        if dataset is not None and not isinstance(dataset, IterableDataset):
            # In order, so that no random number is drawn; a loader without batches joins no items.
            collate = None if loader.batch_sampler is None else loader.collate_fn
            generator = torch.Generator()
            loader = DataLoader(dataset, STATISTICS_ROWS, collate_fn=collate, generator=generator)
        self.network.measure(loader)

    def _build_for_data(self) -> Any:
        """Make the members for the training data's spaces, if it has any; give its loader."""
        self.trainer.fit_loop.setup_data()
        loader: Any = self.trainer.train_dataloader
        found = find_spaces(getattr(loader, "dataset", None))
        if found is not None:
            self.build(*found)
        return loader

    def configure_model(self) -> None:
        """Make the members where they are wanted before `setup`: by callbacks that copy them."""
        try:
            is_fitting = self.trainer.training
        except RuntimeError:  # without a trainer: a checkpoint is being loaded
            return
        if is_fitting and self.network is None:
            self._build_for_data()

    def _check_built(self) -> None:
        if self.network is None:
            raise StateError(
                "the world model has no sizes yet; expected a training dataset with the attributes "
                "observation_space and action_space, such as a TrajectoryDataset. Or give both to "
                "WorldModel(config, observation_space, action_space), or load a checkpoint."
            )

    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Compute the loss of B steps, summed over what is predicted, averaged over members.

            ½ Σ_d stop(σ_d^2β) ((y_d - μ_d)² / σ_d² + log σ_d²) - log p(terminated)

        with y the normalised changes and the reward, and β the config's `variance_weight`: with
        β = 0, the likelihood, the gradients of what is nearly certain drown all others.

        Returns:
            `loss`; `error`, the mean squared error of y; `termination_loss`, the last term.
        """
        self._check_built()
        network = self.network
        rows = network.flatten_batch(batch)
        inputs = network.normalize_inputs(rows["observations"], rows["actions"])
        outputs = network(inputs.expand(network.num_members, *inputs.shape))
        means, log_variances, logits = network.split_outputs(outputs)
        targets = (network.targets(rows) - network.target_mean) / network.target_std
        errors = (targets - means).square()  # (E, B, D + 1)
        likelihood = errors * (-log_variances).exp() + log_variances
        weights = (self.config.variance_weight * log_variances.detach()).exp()
        terminated = rows["terminated"].expand_as(logits)
        termination_loss = binary_cross_entropy_with_logits(logits, terminated)
        loss = 0.5 * (weights * likelihood).sum(-1).mean() + termination_loss
        return {"loss": loss, "error": errors.mean(), "termination_loss": termination_loss}

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Compute the loss of one minibatch."""
        return self.loss(batch)

    def on_before_backward(self, loss: Tensor) -> None:
        """Refuse a loss that would destroy the weights, as `check_loss` does."""
        check_loss(loss)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Refuse gradients that would destroy the weights, as `check_gradients` does."""
        check_gradients(self, optimizer)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the scalars for the epoch's mean; logging each would cost as much as training."""
        self.metrics.add_outputs(outputs)

    def on_train_epoch_end(self) -> None:
        """Log `train_loss`, `train_error` and `train_termination_loss`; refuse NaN parameters."""
        check_parameters(self)
        for name, mean, _ in self.metrics.pop_means():
            self.log(f"train_{name}", mean, batch_size=1, sync_dist=True)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log `val_loss`, `val_error` and `val_termination_loss`."""
        losses = {f"val_{name}": value for name, value in self.loss(batch).items()}
        self.log_dict(losses, batch_size=batch["rewards"].numel(), sync_dist=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log `test_loss`, `test_error` and `test_termination_loss`."""
        losses = {f"test_{name}": value for name, value in self.loss(batch).items()}
        self.log_dict(losses, batch_size=batch["rewards"].numel(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Adam, its learning rate annealed where the run's length is known."""
        config = self.config
        return annealed_adam(
            self, self.learning_rate, config.weight_decay, config.anneal_learning_rate
        )

    # ---- predicting --------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, observations: Tensor, actions: Tensor) -> Prediction:
        """Roll k steps ahead, open loop: each member goes on from its own mean predictions.

        Args:
            observations: (B, D) to start from.
            actions: (B, k), or (B, k, A) if they are a Box's, as the environment takes them.

        Raises:
            StateError: if the model has no sizes yet.
            ShapeError: if the arguments have other shapes.
            SpaceError: if an action is none of the choices.
        """
        self._check_built()
        network = self.network
        size: tuple[int, ...] = () if network.num_choices else self.action_space.shape or ()
        observations = observations.to(network.lowest)
        expected = (len(observations), *actions.shape[1:2], *size)
        fits = observations.shape[1:] == (network.num_observed,) and actions.shape == expected
        if not fits or actions.ndim < 2 or actions.shape[1] == 0:
            raise ShapeError(
                f"got observations {tuple(observations.shape)} and actions "
                f"{tuple(actions.shape)}; expected (B, {network.num_observed}) and "
                f"{('B', 'k', *size)}, k ≥ 1."
            )
        network.check_choices(actions)
        state = observations.expand(network.num_members, *observations.shape)  # (E, B, D)
        steps = []
        for action in actions.to(network.lowest.device).unbind(1):
            chosen = action.expand(network.num_members, *action.shape)
            outcome = network.outcome(network(network.normalize_inputs(state, chosen)))
            state = state + outcome.change
            steps.append((state, outcome.reward, outcome.termination_logit.sigmoid()))
        found, rewards, terminated = (torch.stack(part, dim=2) for part in zip(*steps, strict=True))
        return Prediction(found, rewards, terminated, found.mean(0), network.disagreement(found))

    def forward(self, observations: Tensor, actions: Tensor) -> Prediction:
        """Roll ahead, as `predict` does."""
        return self.predict(observations, actions)

    def predict_step(self, batch: Any, batch_idx: int) -> Prediction:
        """Predict windows (B, k, ...), open loop; single steps (B, ...) are windows of one."""
        if batch["rewards"].ndim == 1:
            batch = {name: values.unsqueeze(1) for name, values in batch.items()}
        return predict_windows(self, batch)

    # ---- checkpoints -------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the spaces, which say the sizes, and the random numbers that shuffle the data."""
        super().on_save_checkpoint(checkpoint)
        self._check_built()
        checkpoint[STATE_KEY] = {
            "observation_space": space_state(self.observation_space),
            "action_space": space_state(self.action_space),
            "torch_rng": torch.get_rng_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the members for the saved spaces.

        Raises:
            StateError: if the checkpoint is not a world model's.
            SpaceError: if this world model was built for others.
        """
        super().on_load_checkpoint(checkpoint)
        if STATE_KEY not in checkpoint:
            raise StateError(
                "the checkpoint holds no world model; expected one that was saved while a "
                "WorldModel was trained."
            )
        state = checkpoint[STATE_KEY]
        self.build(
            space_from_state(state["observation_space"]), space_from_state(state["action_space"])
        )
        self._random_state = state["torch_rng"]

    def on_train_start(self) -> None:
        """Shuffle as the run would have that is resumed, if it was saved at an epoch's end."""
        if self.trainer.ckpt_path is not None and self._random_state is not None:
            torch.set_rng_state(self._random_state)
            # Each pass of a DataLoader begins with a draw; this one began before the restoring.
            torch.empty((), dtype=torch.int64).random_()
        self._random_state = None


def predict_windows(model: WorldModel, windows: dict[str, Tensor]) -> Prediction:
    """Predict windows (B, k, ...) from their first observations and their actions."""
    if windows["rewards"].ndim != 2:
        raise ShapeError(
            f"got rewards of shape {tuple(windows['rewards'].shape)}; expected windows (B, k), "
            "such as dataset.with_window(20)[[0, 1, 2]]."
        )
    return model.predict(windows["observations"][:, 0], windows["actions"])


def find_spaces(dataset: Any) -> tuple[Space, Space] | None:
    """Look for a dataset's spaces, within a `Subset` or the parts of a `ConcatDataset` too.

    Raises:
        SpaceError: if its parts are of several environments.
    """
    if dataset is None:
        return None
    if hasattr(dataset, "observation_space"):
        return dataset.observation_space, dataset.action_space
    parts = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    found = [spaces for part in parts if (spaces := find_spaces(part)) is not None]
    if any(spaces != found[0] for spaces in found):
        raise SpaceError(
            f"the dataset joins steps of several environments: {found}; expected one's. Train a "
            "world model on each."
        )
    return found[0] if found else None
