"""The agent: a LightningModule whose data come from an environment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from gymnasium import Space
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from lightning_rl.buffers.arrays import select, to_array, to_tensor
from lightning_rl.buffers.rollout import RolloutBuffer
from lightning_rl.checkpoints.agent_state import (
    STATE_KEY,
    agent_state,
    load_agent_state,
    restore_run,
)
from lightning_rl.checkpoints.module import CheckpointedModule
from lightning_rl.envs.runner import EndedEpisodes, EnvRunner, VectorStep, to_env_actions
from lightning_rl.errors import ConfigError, ShapeError, SpaceError, StateError
from lightning_rl.settings import count, seed_number
from lightning_rl.stats.history import EpisodeHistory
from lightning_rl.stats.metrics import IterationMetrics
from lightning_rl.stats.normalization import ObservationNormalizer
from lightning_rl.updates import check_loss, clip_norm


class LightningAgentModule(CheckpointedModule):
    """Base class of all agents. An author writes three methods; the rest can be overridden.

    - `act(observations, deterministic)`: the actions, and what to remember about them;
    - `training_step(batch, batch_idx)`: the loss of one minibatch, or a dict with `"loss"` and
      further scalars, which are averaged over the iteration and logged once;
    - `configure_optimizers()`.

    An iteration is `rollout()` (act, fill the buffer), `sample()` (cut it into minibatches) and an
    optimizer step for each minibatch. It takes one Lightning batch, so Lightning's `global_step`
    counts iterations; `env_steps` counts what the agent has seen.

    Args:
        network: any `nn.Module`; one with a `build(observation_space, action_space)` method takes
            its sizes from the environment.
        rollout_steps: rows of one rollout, over all sub-environments (env steps and reset rows).

    Attributes:
        env_steps: env steps learned from so far, over all sub-environments and processes.
        episodes: the `EpisodeHistory` of training.
        replay_buffer: where `rollout` puts what happened.
        generator: the random numbers of acting and sampling, saved with the agent.
        stop_updates: set it in `training_step` to skip the iteration's remaining minibatches.

    Example:
        See `lightning_rl.ReinforceAgent`, the smallest complete agent.
    """

    default_num_envs = 16
    max_grad_norm: float | None = None  # clips where the trainer has no gradient_clip_val

    def __init__(self, network: nn.Module | None = None, rollout_steps: int = 2048) -> None:
        super().__init__()
        self.network: Any = network
        self.runner: Any = None  # the EnvRunner, once bound to an environment
        self.replay_buffer: Any = None
        self.rollout_steps = count("rollout_steps", rollout_steps)
        self.env_steps = 0
        self.max_env_steps: int | None = None
        self.seed = 0
        self.stop_updates = False
        self.episodes = EpisodeHistory()
        self.generator = torch.Generator()
        self.observation_space: Any = None  # the spaces of one sub-environment, once bound
        self.action_space: Any = None
        self.observation_normalizer: ObservationNormalizer | None = None
        self.metrics = IterationMetrics()
        self._minibatches: Iterator[Any] = iter(())
        self.env_steps_at_fit_start = 0  # env steps when this run's budget began
        self.is_fitting = False
        self._world_size = 1
        self._resumed: dict[str, Any] | None = None  # kept from loading until training starts

    # ---- what an author writes ---------------------------------------------------------------

    def act(
        self, observations: Any, deterministic: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Choose an action for each of N sub-environments.

        Args:
            observations: (N, ...) tensor, or a dict of them, on the agent's device.
            deterministic: choose the best action instead of drawing one.

        Returns:
            Actions (N,) or (N, A), and what the buffer shall remember: name -> (N, ...).
        """
        raise NotImplementedError("an agent must define act(observations, deterministic=False)")

    def assess(self, observations: Any) -> dict[str, Tensor]:
        """Say what the agent makes of N observations, for an `EpisodePlayer`. Default: nothing.

        Returns:
            Any of: action_parameters (N, P), which make an `action_distribution`; means and stds
            (N, A); action_values (N, n); values (N,).
        """
        return {}

    # ---- the environment ---------------------------------------------------------------------

    def bind_env(self, env: VectorEnv, seed: int = 0) -> None:
        """Check the spaces, build the network for them and allocate the buffer.

        Args:
            env: the vector environment to train on; it is reset when training starts.
            seed: of the network's weights, the environments and the agent's random numbers.

        Raises:
            SpaceError: if the agent was built for other spaces, or cannot take these.
        """
        self.bind_spaces(env.single_observation_space, env.single_action_space, seed)
        self.seed = seed_number(seed)
        self.runner = EnvRunner(env, self._record_episodes)
        self.replay_buffer = self.make_buffer(env.num_envs)

    def bind_spaces(self, observation_space: Space, action_space: Space, seed: int = 0) -> None:
        """Build the network for these spaces, or check that it was built for them."""
        if self.observation_space is not None:
            if (observation_space, action_space) != (self.observation_space, self.action_space):
                raise SpaceError(
                    f"the agent was built for {self.observation_space} and {self.action_space}; "
                    f"this environment has {observation_space} and {action_space}. Make a new "
                    "agent for it."
                )
            return
        build = getattr(self.network, "build", None)
        if build is not None:
            with torch.random.fork_rng(devices=[]):  # leave the caller's random numbers alone
                torch.manual_seed(seed)
                build(observation_space, action_space)
        self.observation_space, self.action_space = observation_space, action_space
        self.check_network()

    def check_bound(self) -> None:
        """Check that the agent knows its spaces.

        Raises:
            StateError: if it was never trained, loaded or bound.
        """
        if self.observation_space is None:
            raise StateError(
                "the agent has not met an environment yet; call trainer.fit(agent, env) or load a "
                "checkpoint first."
            )

    def check_network(self) -> None:
        """Check the network's outputs, once bound. The default accepts everything."""

    def make_buffer(self, num_envs: int) -> RolloutBuffer:
        """Allocate the buffer that `rollout` fills."""
        self.check_bound()
        num_steps = math.ceil(self.rollout_steps / num_envs)
        return RolloutBuffer(num_steps, num_envs, self.input_space, self.action_space)

    def prepare(self, observations: Any) -> Any:
        """Turn raw observations (N, ...) into what the network sees: normalised, if asked for."""
        normalizer = self.observation_normalizer
        return observations if normalizer is None else normalizer(observations)

    @property
    def input_space(self) -> Any:
        """The space of what the network sees: real numbers, where integers were normalised."""
        normalizer = self.observation_normalizer
        return self.observation_space if normalizer is None else normalizer.space

    def as_input(self, observations: Any) -> Any:
        """Put prepared observations on the agent's device, in the network's dtype."""
        return to_tensor(observations, self.device, self.dtype)

    def _check_actions(self, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if got != expected:
            raise ShapeError(
                f"act returned actions of shape {got}; expected {expected}: one action of "
                f"{self.action_space} for each sub-environment."
            )

    # ---- one iteration -----------------------------------------------------------------------

    def initial_rollout(self) -> None:
        """Warm up before the first iteration, such as by prefilling a replay buffer."""

    @torch.no_grad()
    def rollout(self, total_step: int) -> None:
        """Act in the environment and fill the buffer.

        Args:
            total_step: rows to collect, over all sub-environments (rounded up to full steps).

        Raises:
            NonFiniteError: if a reward or observation is NaN or infinite.
        """
        runner, buffer = self.runner, self.replay_buffer
        runner.env_steps = 0
        runner.skip_reset_rows()
        if self.observation_normalizer is not None:
            self.observation_normalizer.forget_pending()
        buffer.start(self.prepare(runner.observations))
        for t in range(math.ceil(total_step / runner.num_envs)):
            actions, remembered = self.act(self.as_input(select(buffer.observations, t)))
            chosen = to_array(actions)
            self._check_actions(chosen.shape, buffer.actions.shape[1:])
            step = runner.step(to_env_actions(chosen, self.action_space))
            if self.observation_normalizer is not None:
                step = self._normalize(step, self.observation_normalizer)
            buffer.add(chosen, remembered, step)
        buffer.check_finite()
        if self.observation_normalizer is not None:
            self.observation_normalizer.update()
        self.env_steps += self._over_all_processes(runner.env_steps)

    def _normalize(self, step: VectorStep, normalizer: ObservationNormalizer) -> VectorStep:
        normalizer.collect(step.observations)
        final = {index: self.prepare(last) for index, last in step.final_observations.items()}
        observations = self.prepare(step.observations)
        return step._replace(observations=observations, final_observations=final)

    def sample(self) -> Iterable[Any]:
        """Cut the rollout into the minibatches of this iteration. The default is one of all rows.

        Returns:
            Dicts of tensors, (B, ...); reset rows are left out.
        """
        batch = self.replay_buffer.rows(self.device)
        return [select(batch, batch.pop("valid"))]

    def start_iteration(self) -> Any:
        """Make a rollout and return the first minibatch; `optimizer_step` takes the others.

        The last rollout is shortened, so that the budget is met to within `num_envs` env steps.
        """
        total_step = self.rollout_steps
        if self.max_env_steps is not None:
            left = self.env_steps_at_fit_start + self.max_env_steps - self.env_steps
            total_step = min(total_step, math.ceil(left / self._world_size))
        self.rollout(max(total_step, 1))
        self._minibatches = iter(self.sample())
        return next(self._minibatches)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Make the iteration's updates: one optimizer step for each minibatch.

        The first is Lightning's own; the others go through the same strategy, so precision,
        clipping and DDP act on every one of them.
        """
        self.stop_updates = False
        with self.metrics.recording():
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            for batch in self._minibatches:
                if self.stop_updates:
                    break
                optimizer.step(partial(self._update, epoch, batch, batch_idx, optimizer))

    @torch.enable_grad()
    def _update(self, epoch: int, batch: Any, batch_idx: int, optimizer: Any) -> Tensor | None:
        """Compute the gradients of one further minibatch, as Lightning does for the first."""
        outputs: Any = self.trainer.strategy.training_step(batch, batch_idx)
        self.metrics.add_outputs(outputs)
        loss: Tensor | None = outputs["loss"] if isinstance(outputs, dict) else outputs
        self.optimizer_zero_grad(epoch, batch_idx, optimizer)
        if loss is not None:
            self.trainer.strategy.backward(loss, optimizer)
        return loss

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        """Drop the gradients, without the profiler record that makes `zero_grad()` slow."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient's norm as the trainer says, or else to `max_grad_norm`."""
        own = gradient_clip_val is None
        if own and self.max_grad_norm is not None and "mixed" not in str(self.trainer.precision):
            clip_norm(optimizer, self.max_grad_norm)  # takes half the time
        else:
            clip_value = self.max_grad_norm if own else gradient_clip_val
            self.clip_gradients(optimizer, clip_value, gradient_clip_algorithm)

    def on_before_backward(self, loss: Tensor) -> None:
        """Refuse a loss that would destroy the weights, as `check_loss` does."""
        check_loss(loss)

    # ---- counting and logging ----------------------------------------------------------------

    @property
    def progress(self) -> float:
        """The part of this run's budget that is used up, from 0 to 1; for annealing.

        The budget is `max_env_steps`, or the trainer's `max_epochs` or `max_steps`.
        """
        if self.max_env_steps is not None:
            return min(1.0, (self.env_steps - self.env_steps_at_fit_start) / self.max_env_steps)
        if not self.is_fitting:
            return 0.0
        return min(1.0, self.trainer.global_step / self.trainer.estimated_stepping_batches)

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log as in any LightningModule; in an update, the mean over the iteration is logged."""
        if self.metrics.is_recording:
            self.metrics.add(name, value, *args, **kwargs)
        else:
            super().log(name, value, *args, **kwargs)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the iteration and stop when the budget is used up. Overriding it needs `super()`."""
        self.metrics.add_outputs(outputs)
        if self.max_env_steps is not None and self.progress >= 1.0:
            self.trainer.should_stop = True
        every = getattr(self.trainer, "log_every_n_steps", 1)
        due = every > 0 and self.trainer.global_step % every == 0
        if due or self.trainer.should_stop or self.trainer.is_last_batch:
            self._log_iteration()

    def _log_iteration(self) -> None:
        learning_rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        # `step` is the x-axis of every logger.
        scalars = {"step": float(self.env_steps), "learning_rate": learning_rate}
        if len(self.episodes):
            scalars["episode_return"] = self.episodes.mean_return()
            scalars["episode_length"] = self.episodes.mean_length()
        for name, value in scalars.items():
            self.log(name, value, batch_size=1)
        for name, mean, options in self.metrics.pop_means():
            self.log(name, mean, batch_size=1, **options)

    def _record_episodes(self, ended: EndedEpisodes) -> None:
        env_step = self.env_steps + ended.env_steps * self._world_size
        self.episodes.extend(env_step, ended.returns, ended.lengths)

    def _over_all_processes(self, count: int) -> int:
        if self._world_size == 1:
            return count
        counts = torch.tensor(count, device=self.device)
        return int(self.trainer.strategy.reduce(counts, reduce_op="sum"))

    # ---- evaluation --------------------------------------------------------------------------

    def forward(self, observations: Any) -> Tensor:
        """Choose the best actions (N, ...) for prepared observations."""
        return self.act(observations, deterministic=True)[0]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the returns of evaluation episodes as `val_episode_return`."""
        self._log_evaluation("val", batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the returns of evaluation episodes as `test_episode_return`."""
        self._log_evaluation("test", batch)

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """Return the evaluation episodes; for a batch of observations, the best actions."""
        return batch if isinstance(batch, dict) and "episode_return" in batch else self(batch)

    def _log_evaluation(self, stage: str, batch: dict[str, Tensor]) -> None:
        scalars = {"step": float(self.env_steps)}
        for name in ("episode_return", "episode_length"):
            scalars[f"{stage}_{name}"] = batch[name].mean().item()
        self.log_dict(scalars, batch_size=1, sync_dist=True)

    # ---- Lightning's hooks: start, save, resume ----------------------------------------------

    def setup(self, stage: str) -> None:
        """Check the trainer's settings and begin this run's budget. Overriding needs `super()`."""
        super().setup(stage)
        if stage == "fit" and self.trainer.accumulate_grad_batches != 1:
            raise ConfigError(
                f"accumulate_grad_batches={self.trainer.accumulate_grad_batches}; expected 1, as "
                "a Lightning batch is a whole iteration of updates. Use a larger batch_size in the "
                "agent's config: the gradient of a larger minibatch is what accumulation computes."
            )
        self.is_fitting = stage == "fit"
        self._world_size = self.trainer.world_size
        if stage == "fit":  # a checkpoint, loaded after this, brings its own
            self.env_steps_at_fit_start = self.env_steps

    def on_train_start(self) -> None:
        """Seed and reset the environments once, or put everything back as it was saved."""
        self.episodes.start_clock()
        if self.runner is None:
            return  # trained on a plain DataLoader
        resumed, self._resumed = self._resumed, None
        if self.trainer.ckpt_path is not None and resumed is not None:
            restore_run(self, resumed)  # as late as this: a DataLoader draws random numbers before
        else:
            self.start_run(self.seed + self.global_rank * self.runner.num_envs)
            self.initial_rollout()

    def start_run(self, seed: int) -> None:
        """Seed the random numbers and start new episodes; sub-environment i gets `seed + i`."""
        seed = seed_number(seed)
        self.generator.manual_seed(seed)
        self.runner.reset(seed=seed)

    def extra_state(self) -> dict[str, Any]:
        """Give what a subclass wants saved beside its weights: plain values, arrays, tensors."""
        normalizer = self.observation_normalizer
        return {} if normalizer is None else {"observations": normalizer.moments.state_dict()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `extra_state` gave."""
        if self.observation_normalizer is not None:
            self.observation_normalizer.moments.load_state_dict(state["observations"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a resumed run needs, as tensors and plain Python."""
        checkpoint[STATE_KEY] = agent_state(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the network for the saved spaces and take over counters and statistics."""
        self._resumed = load_agent_state(self, checkpoint)
