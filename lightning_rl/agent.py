"""The agent: a LightningModule whose data come from an environment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from lightning_rl.buffers.arrays import select, to_array
from lightning_rl.buffers.rollout import RolloutBuffer
from lightning_rl.checkpoints.agent_state import (
    STATE_KEY,
    agent_state,
    load_agent_state,
    restore_run,
)
from lightning_rl.checkpoints.fingerprints import Marks, fingerprints, kept
from lightning_rl.envs.runner import EndedEpisodes, EnvRunner, VectorStep, to_env_actions
from lightning_rl.errors import ConfigError, ShapeError
from lightning_rl.policy import PolicyModule, check_acted
from lightning_rl.ranks import Ranks
from lightning_rl.settings import count, seed_number
from lightning_rl.stats.history import EpisodeHistory
from lightning_rl.stats.metrics import IterationMetrics
from lightning_rl.updates import (
    check_gradients,
    check_loss,
    check_parameters,
    clip_norm,
    has_stopped_early,
)


class LightningAgentModule(PolicyModule):
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
        episodes: the `EpisodeHistory` of training, over all processes, too.
        ranks: the processes that train the agent together.
        replay_buffer: where `rollout` puts what happened.
        generator: the random numbers of acting and sampling, saved with the agent.
        stop_updates: set it in `training_step` to skip the iteration's remaining minibatches.

    Example:
        See `lightning_rl.ReinforceAgent`, the smallest complete agent.
    """

    default_num_envs = 16
    max_grad_norm: float | None = None  # clips where the trainer has no gradient_clip_val

    def __init__(self, network: nn.Module | None = None, rollout_steps: int = 2048) -> None:
        super().__init__(network)
        self.runner: Any = None  # the EnvRunner, once bound to an environment
        self.env_as_made: Marks = {}  # its configuration, in fingerprints
        self.replay_buffer: Any = None
        self.rollout_steps = count("rollout_steps", rollout_steps)
        self.env_steps = 0
        self.max_env_steps: int | None = None
        self.seed = 0
        self.stop_updates = False
        self.episodes = EpisodeHistory()
        self.metrics = IterationMetrics()
        self._minibatches: Iterator[Any] = iter(())
        self.env_steps_at_fit_start = 0  # env steps when this run's budget began
        self.is_fitting = False
        self.stop_asked = False  # ends a running evaluation, whose result is NaN
        self.ranks = Ranks()  # the processes that train it
        self._resumed: dict[str, Any] | None = None  # kept from loading until training starts

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
        if self.runner is None or self.runner.env is not env:
            self.env_as_made = fingerprints(env)
        self.runner = EnvRunner(env, self._record_episodes)
        self.replay_buffer = self.make_buffer(env.num_envs)

    def make_buffer(self, num_envs: int) -> RolloutBuffer:
        """Allocate the buffer that `rollout` fills."""
        self.check_bound()
        num_steps = math.ceil(self.rollout_steps / num_envs)
        return RolloutBuffer(num_steps, num_envs, self.input_space, self.action_space)

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
        if hasattr(runner.env, "roll_out"):  # a DreamOnDevice, which fills the buffer by itself
            runner.env.roll_out(self, total_step)
        for t in range(buffer.size, math.ceil(total_step / runner.num_envs)):
            inputs = self.as_input(select(buffer.observations, t))
            actions, remembered = check_acted(self.act(inputs))
            chosen = to_array(actions)
            self._check_actions(chosen.shape, buffer.actions.shape[1:])
            step = runner.step(to_env_actions(chosen, self.action_space))
            buffer.add(chosen, remembered, self._normalize(step))
        buffer.check_finite()
        if self.observation_normalizer is not None:
            self.observation_normalizer.update(self.ranks.gather)
        self.env_steps += self._over_all_ranks(runner.env_steps)

    def _normalize(self, step: VectorStep) -> VectorStep:
        normalizer = self.observation_normalizer
        if normalizer is None:
            return step
        normalizer.collect(step.observations)
        final = {index: self.prepare(last) for index, last in step.final_observations.items()}
        observations = self.prepare(step.observations)
        return step._replace(observations=observations, final_observations=final)

    def sample(self) -> Iterable[Any]:
        """Cut the rollout into the minibatches of this iteration. The default is one of all rows.

        Returns:
            Dicts of tensors, (B, ...). Those of the default, which leaves reset rows out, hold
            `observations`, `actions`, `rewards`, `next_observations` (the last ones of an episode
            where it ended), `terminated`, `truncated`, and what `act` remembered, by its names.
        """
        batch = self.replay_buffer.rows(self.device)
        batch["next_observations"] = self.replay_buffer.next_rows(self.device)
        return [select(batch, batch.pop("valid"))]

    def start_iteration(self) -> Any:
        """Make a rollout and return the first minibatch; `optimizer_step` takes the others.

        The last rollout is shortened, so that the budget is met to within `num_envs` env steps.
        """
        total_step = self.rollout_steps
        if self.max_env_steps is not None:
            left = self.env_steps_at_fit_start + self.max_env_steps - self.env_steps
            total_step = min(total_step, math.ceil(left / self.ranks.size))
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
        check_parameters(self)

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
        """Check the gradients; clip their norm as the trainer says, or else to `max_grad_norm`."""
        own = gradient_clip_val is None
        if own and "mixed" not in str(self.trainer.precision):
            clip_norm(self, optimizer, self.max_grad_norm)  # takes half the time
        else:
            check_gradients(self, optimizer)
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
        stops = self.trainer.should_stop
        stops = stops or (self.max_env_steps is not None and self.progress >= 1.0)
        if self.ranks.size > 1:  # what stops one process, such as a callback, stops all
            stops = self.trainer.strategy.reduce_boolean_decision(stops, all=False)
        self.trainer.should_stop = stops
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
        means = self.metrics.pop_means()
        over_ranks = self.ranks.means({name: m for name, m, _ in means if isinstance(m, float)})
        for name, mean, options in means:
            self.log(name, over_ranks.get(name, mean), batch_size=1, **options)

    def _record_episodes(self, ended: EndedEpisodes) -> None:
        env_step = self.env_steps + ended.env_steps * self.ranks.size
        self.episodes.extend(env_step, ended.returns, ended.lengths)

    def _over_all_ranks(self, count: int) -> int:
        """Sum env steps up, and take over the episodes that ended in the other processes."""
        if self.ranks.size == 1:
            return count
        self.episodes.join(self.ranks.gather_rows)
        return int(self.ranks.gather(np.array(count)).sum())

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
        if stage == "fit" and not self.automatic_optimization:
            raise ConfigError(
                "automatic_optimization=False; expected True: an iteration feeds its minibatches "
                "to training_step one by one, each with an optimizer step. Return the loss, and "
                "give parts of the network other settings by the optimizer's parameter groups."
            )
        self.is_fitting = stage == "fit"
        self.ranks = Ranks(self.trainer)
        if stage == "fit":  # a checkpoint, loaded after this, brings its own
            self.env_steps_at_fit_start = self.env_steps
            self.seed = self.ranks.broadcast(self.seed)
            self.ranks.check_alike(**self._facts())

    def _facts(self) -> dict[str, str]:
        """Say what must be the same in all processes."""
        facts = {
            "agent": type(self).__name__,
            "settings": str(dict(self.hparams)),
            "budget of env steps": str(self.max_env_steps),
            "observation space": str(self.observation_space),
            "action space": str(self.action_space),
        }
        return facts | {"num_envs": str(self.runner.num_envs)} if self.runner else facts

    def on_train_start(self) -> None:
        """Seed and reset the environments once, or put everything back as it was saved."""
        self.episodes.start_clock()
        if self.runner is None:
            return  # trained on a plain DataLoader
        resumed, self._resumed = self._resumed, None
        if self.trainer.ckpt_path is not None and resumed is not None:
            restore_run(self, resumed)  # as late as this: a DataLoader draws random numbers before
            self._stay_at_the_end()
        else:
            self.start_run(self.seed + self.global_rank * self.runner.num_envs)
            self.initial_rollout()

    def _stay_at_the_end(self) -> None:
        """Train nothing more if the resumed run has used up its budget, or was stopped early."""
        is_used_up = self.max_env_steps is not None and self.progress >= 1.0
        if is_used_up or has_stopped_early(self.trainer):
            self.trainer.should_stop = True

    def start_run(self, seed: int) -> None:
        """Seed the random numbers and start new episodes; sub-environment i gets `seed + i`."""
        seed = seed_number(seed)
        self.generator.manual_seed(seed)
        self.runner.reset(seed=seed)
        self.env_as_made = kept(self.env_as_made, self.runner.env)

    def extra_state(self) -> dict[str, Any]:
        """Give what a subclass wants saved beside its weights: plain values, arrays, tensors."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `extra_state` gave."""

    def __getstate__(self) -> dict[str, Any]:
        """Give what is copied and pickled: all but the trainer and the running environment."""
        state: dict[str, Any] = super().__getstate__()
        return state | {"runner": None, "_minibatches": iter(()), "ranks": Ranks()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a resumed run needs, as tensors and plain Python; refuse NaN parameters."""
        check_parameters(self, "It is not saved: go on from the last checkpoint.")
        super().on_save_checkpoint(checkpoint)
        checkpoint[STATE_KEY] = agent_state(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the network for the saved spaces and take over counters and statistics.

        An agent that has trained and is only to play, as in `trainer.test(ckpt_path=...)`, keeps
        its own counters, history and replay buffer: it takes over the weights alone.
        """
        super().on_load_checkpoint(checkpoint)
        state = load_agent_state(self, checkpoint, self.is_fitting or self.env_steps == 0)
        self._resumed = state if self.is_fitting else None
