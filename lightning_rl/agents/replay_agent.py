"""What agents with a replay buffer share: collecting into it, warming up, drawing, saving it."""

from __future__ import annotations

import contextlib
import copy
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback, Timer
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lightning_rl.agent import LightningAgentModule
from lightning_rl.buffers.arrays import to_array
from lightning_rl.buffers.replay import ReplayBuffer
from lightning_rl.envs.runner import to_env_actions
from lightning_rl.errors import ConfigError, NonFiniteError, StateError
from lightning_rl.policy import check_acted
from lightning_rl.settings import Settings, local_path

CHECKPOINT_BYTES = 1e9  # of a replay buffer in a checkpoint: more is said before the first is saved


@dataclass(frozen=True)
class ReplayConfig(Settings):
    """The settings of every agent with a replay buffer."""

    rollout_steps: int = 64  # env steps of an iteration, over all sub-environments
    gradient_steps: int = 64  # updates of an iteration
    batch_size: int = 256  # transitions of a minibatch
    learning_rate: float = 3e-4
    gamma: float = 0.99  # discount factor
    n_steps: int = 1  # rewards summed before the bootstrap
    buffer_capacity: int = 1_000_000  # transitions, over all sub-environments
    buffer_directory: str | None = local_path()  # keep them in this folder, not in memory
    learning_starts: int = 1000  # env steps of random actions before the first update
    tau: float = 0.005  # the target networks' step towards the networks; 1: they are copied

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: naming the setting that is out of its range.
        """
        super().__post_init__()
        self.require_counts(
            "rollout_steps",
            "gradient_steps",
            "batch_size",
            "n_steps",
            "buffer_capacity",
            "learning_starts",
        )
        if not self.batch_size <= self.learning_starts <= self.buffer_capacity:
            raise ConfigError(
                f"learning_starts={self.learning_starts}; expected at least "
                f"batch_size={self.batch_size}, so that the first minibatch can be drawn, and at "
                f"most buffer_capacity={self.buffer_capacity}."
            )
        self.require_positive("learning_rate")
        self.require_fractions("gamma")
        if not 0 < self.tau <= 1:
            raise ConfigError(f"tau={self.tau}; expected a number in (0, 1].")


class ReplayAgentModule(LightningAgentModule):
    """Base class of agents that learn from a `ReplayBuffer`, such as `DQNAgent` and `SACAgent`.

    An iteration collects `rollout_steps` env steps with the policy as it is and then makes
    `gradient_steps` updates: the ratio of the two is the paper's, their order is in blocks, because
    a Lightning batch costs as much as several env steps. Before the first iteration,
    `learning_starts` env steps are made with random actions; they count as env steps.

    An author writes, besides the three methods of every agent, `random_actions(count)`.

    Args:
        network: as for `LightningAgentModule`.
        config: the settings.
    """

    default_num_envs = 8
    replay_buffer: ReplayBuffer

    def __init__(self, network: nn.Module, config: ReplayConfig) -> None:
        super().__init__(network, config.rollout_steps)
        self.config: Any = config
        self.num_updates = 0
        self.is_warming_up = False
        self._saved_buffer: dict[str, Any] | None = None  # loaded before there is a buffer

    def random_actions(self, count: int) -> Tensor:
        """Draw (count, ...) actions uniformly from `generator`."""
        raise NotImplementedError("a replay agent must define random_actions(count)")

    @property
    def progress(self) -> float:
        """As for every agent; without another budget, `max_time` is one, so that ε falls by it."""
        progress = super().progress
        if self.max_env_steps is None and self.is_fitting:
            callbacks: Any = getattr(self.trainer, "callbacks")  # noqa: B009 (untyped in Lightning)
            for timer in callbacks:
                if isinstance(timer, Timer) and (left := timer.time_remaining()) is not None:
                    passed = timer.time_elapsed()
                    progress = max(progress, min(1.0, passed / (passed + left)))
        return progress

    # ---- collecting --------------------------------------------------------------------------

    def make_buffer(self, num_envs: int) -> ReplayBuffer:  # type: ignore[override]
        """Allocate the replay buffer; one that fits is kept, with what it holds."""
        self.check_bound()
        buffer: ReplayBuffer | None = self.replay_buffer
        if buffer is None or buffer.num_envs != num_envs:
            buffer = self.new_buffer(
                self.config.buffer_capacity,
                num_envs,
                self.observation_space,
                self.action_space,
                n_steps=self.config.n_steps,
                gamma=self.config.gamma,
                directory=self.config.buffer_directory,
            )
        buffer.reopen()
        saved, self._saved_buffer = self._saved_buffer, None
        if saved is not None:
            try:
                buffer.load_state_dict(saved)
            except StateError as error:
                warnings.warn(
                    f"{error} The agent goes on with an empty buffer, and fills it anew.",
                    stacklevel=2,
                )
        return buffer

    def new_buffer(self, *args: Any, **options: Any) -> ReplayBuffer:
        """Make a buffer of the kind this agent learns from."""
        return ReplayBuffer(*args, **options)

    def setup(self, stage: str) -> None:
        """Check the trainer's settings."""
        if self.config.buffer_directory is not None and self.trainer.world_size > 1:
            raise ConfigError(
                f"buffer_directory={self.config.buffer_directory!r} with "
                f"{self.trainer.world_size} processes; expected 1, as they would overwrite each "
                "other's transitions. Keep the buffers in memory."
            )
        super().setup(stage)
        if stage == "fit" and self.replay_buffer is not None:
            self._say_what_checkpoints_take()
        if stage == "fit" and not self.trainer.ckpt_path:  # a checkpoint brings a buffer
            self._check_budget(0 if self.replay_buffer is None else len(self.replay_buffer))

    def _say_what_checkpoints_take(self) -> None:
        """Warn before a buffer in memory makes checkpoints that may fill the disk."""
        buffer, trainer = self.replay_buffer, self.trainer
        if buffer.folder is not None or not trainer.checkpoint_callbacks:
            return
        capacity = buffer.num_envs * (buffer.num_rows - 1)
        held = min(self.max_env_steps or capacity, capacity)
        size, each = buffer.nbytes * held / capacity, buffer.nbytes / capacity
        if size > CHECKPOINT_BYTES:
            folder = Path(trainer.default_root_dir).absolute()
            free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
            warnings.warn(
                f"each checkpoint holds the replay buffer: up to {size / 1e9:.1f} GB of {held} "
                f"transitions, {each / 1e3:.1f} MB for each 1,000; "
                f"{free / 1e9:.1f} GB of the disk are free. Set buffer_directory in the agent's "
                "config to keep it in a folder beside them, which is written once.",
                stacklevel=2,
            )

    def _check_budget(self, num_held: int) -> None:
        """Refuse a budget that the first random actions would use up."""
        budget, random_steps = self.max_env_steps, self.config.learning_starts - num_held
        if budget is not None and random_steps >= budget:
            raise ConfigError(
                f"max_env_steps={budget}, and learning_starts={self.config.learning_starts}, so "
                f"the next {random_steps} actions are random and nothing would be learned; "
                f"expected a larger budget, or a smaller learning_starts in the agent's config."
            )

    def initial_rollout(self) -> None:
        """Fill the buffer by random actions up to `learning_starts` transitions."""
        wanted = max(self.config.batch_size, self.config.learning_starts // self.ranks.size)
        if len(self.replay_buffer) < wanted:
            self.is_warming_up = True
            self.rollout(wanted - len(self.replay_buffer))
            self.is_warming_up = False

    @torch.no_grad()
    def rollout(self, total_step: int) -> None:
        """Act for `total_step` env steps (rounded up to full rows) and append them to the buffer.

        Raises:
            NonFiniteError: if a reward or observation is NaN or infinite.
        """
        runner, buffer = self.runner, self.replay_buffer
        if runner.num_calls == 0:  # it was reset: what came before is another episode
            buffer.start(runner.observations)
        runner.env_steps = 0
        while runner.env_steps < total_step:
            if self.is_warming_up:
                actions = self.random_actions(runner.num_envs)
            else:
                actions, _ = check_acted(self.act(self.as_input(buffer.current())))
            chosen = to_array(actions)
            self._check_actions(chosen.shape, buffer.actions.shape[1:])
            step = runner.step(to_env_actions(chosen, self.action_space))
            buffer.add(chosen, {}, step)
        buffer.check_finite()
        self.env_steps += self._over_all_ranks(runner.env_steps)

    def sample(self) -> Iterator[dict[str, Any]]:
        """Draw this iteration's minibatches: `gradient_steps` of `batch_size` transitions."""
        config = self.config
        return self.replay_buffer.minibatches(
            config.gradient_steps, config.batch_size, self.generator, self.device, self.dtype
        )

    # ---- saving ------------------------------------------------------------------------------

    def teardown(self, stage: str) -> None:
        """Save a buffer's folder, and let others have it. Overriding needs `super()`."""
        super().teardown(stage)
        buffer: ReplayBuffer | None = self.replay_buffer
        if stage == "fit" and buffer is not None:
            buffer.close()

    def configure_callbacks(self) -> list[Callback]:
        """Save the folder after an error, too. Overriding needs `super()`."""
        return [SavesFolder()]

    def extra_state(self) -> dict[str, Any]:
        """Save the buffer and the count of updates too."""
        state = super().extra_state() | {"num_updates": self.num_updates}
        buffer: ReplayBuffer | None = self.replay_buffer
        return state if buffer is None else state | {"replay_buffer": buffer.state_dict()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Load the buffer and the count of updates too."""
        super().load_extra_state(state)
        self.num_updates = state["num_updates"]
        self._saved_buffer = state.get("replay_buffer")
        if self._saved_buffer is not None and self.runner is not None:
            self.replay_buffer = self.make_buffer(self.runner.num_envs)


class SavesFolder(Callback):
    """Saves the folder of a buffer when `fit` ends in an error, which calls no `teardown`."""

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave out what was not checked, save the rest, and let others have the folder."""
        buffer: ReplayBuffer | None = getattr(pl_module, "replay_buffer", None)
        if buffer is not None:
            with contextlib.suppress(NonFiniteError):
                buffer.check_finite()
            buffer.close()


def make_target(network: nn.Module) -> nn.Module:
    """Copy a network; the copy is saved with the agent, but not trained."""
    return copy.deepcopy(network).requires_grad_(False)


def move_target(target: nn.Module, network: nn.Module, tau: float) -> None:
    """Move a target network: θ' ← τ θ + (1 - τ) θ'; its buffers are copied.

    Reference: Lillicrap et al. 2016, "Continuous control with deep RL", algorithm 1; τ = 1 is the
    copying of Mnih et al. 2015.
    """
    move: Any = get_ema_multi_avg_fn(1.0 - tau)  # type: ignore[no-untyped-call]  # all in one call
    move(list(target.parameters()), list(network.parameters()), None)
    for old, new in zip(target.buffers(), network.buffers(), strict=True):
        old.copy_(new)
