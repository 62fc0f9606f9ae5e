"""The trainer: Lightning's, with an environment in the place of the DataLoader."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar
from lightning.pytorch.utilities.compile import to_uncompiled

from lightning_rl.agent import LightningAgentModule
from lightning_rl.callbacks.copies import no_bars_in_copies, without_table
from lightning_rl.callbacks.in_notebook import live_in_notebook
from lightning_rl.callbacks.interrupts import graceful_interrupt
from lightning_rl.callbacks.lightnings_own import adapted, check_callbacks
from lightning_rl.callbacks.lost_ranks import lost_ranks_named
from lightning_rl.callbacks.one_writer import one_writer
from lightning_rl.callbacks.progress_bar import EnvStepProgressBar
from lightning_rl.callbacks.run_facts import RunFacts
from lightning_rl.checkpoints.latest import last_run
from lightning_rl.datamodule import check_bound_for, early_loaders, has_validation_data
from lightning_rl.envs.vectorize import Vectorized, is_env, vectorization_mode
from lightning_rl.envs.workers import WAIT_SECONDS, check_start
from lightning_rl.errors import ConfigError, StateError
from lightning_rl.evaluation import EvaluationDataLoader
from lightning_rl.loader import EnvDataLoader
from lightning_rl.notebook.kernel import in_notebook
from lightning_rl.notices import OneLineSummary, quiet_lightning
from lightning_rl.policy import COMPILE_IN_PLACE, is_compiled
from lightning_rl.settings import count, given_count, seed_number, truth
from lightning_rl.threads import check_idle, torch_threads, trained_here

NOTHING_TRAINED = (
    "Nothing was trained: this trainer has come to its max_epochs, max_steps or max_time already. "
    "Make a new trainer, or give a budget by max_env_steps, which each fit has for itself."
)
DEFAULT_MAX_ENV_STEPS = 65_536
DEFAULT_MAX_EPOCHS = 1000  # on plain DataLoaders: Lightning's
LOG_EVERY_ROWS = 4096  # log at most once in so many rows: logging must not cost training time
EVALUATION_SEED_OFFSET = 1_000_000  # evaluation never sees an environment seeded for training


class AgentTrainer(Trainer):
    """`lightning.Trainer` that also trains agents: `trainer.fit(agent, env)`.

    It adds defaults and a budget in env steps; everything else is Lightning's, and given a module
    that is not an agent it is `lightning.Trainer`. A Lightning batch is one iteration of the agent
    and an epoch the smallest number of iterations with 10,000 rows, so checkpoints are written
    once an epoch; every logger's x-axis is in env steps. In a notebook the interrupt button ends
    a training after the iteration or batch, as if it had finished, and Lightning's notices are
    left out.

    Args:
        max_env_steps: stop after the iteration that reaches it, counted from the start of `fit`.
            Default: 65,536, unless `max_epochs`, `max_steps` or `max_time` limits the run. Another
            `fit` goes on with the agent for as many; what is annealed over a run starts anew.
        num_envs: sub-environments to make, by each process that trains, from a name, spec or
            function. Default: the agent's (`agent.default_num_envs`).
        vectorization: how they are stepped: "sync", one after the other; "async", each in a process
            of its own, which pays where a step takes longer than a millisecond; or
            "vector_entry_point", by a vector environment of the environment's author. Default: the
            last, where there is one, else "sync".
        seed: of weights, environments and random numbers. Default: drawn from torch's random
            numbers, so that `lightning.seed_everything` fixes it; read it at `trainer.seed`.
        evaluate_every_env_steps: evaluate during `fit` in a separate environment whenever so many
            env steps have passed (rounded up to whole iterations); an epoch then has this length.
            Default: once an epoch if `fit` is given an evaluation environment, else never.
        evaluation_episodes: greedy episodes of one evaluation.
        max_episode_steps: cut longer episodes of an evaluation there. Default: the environment's
            own limit cuts them, and one that goes on for more than 100,000 env steps is an error.
        env_timeout: seconds that sub-environments in other processes (an AsyncVectorEnv's) may
            take for a step or reset, before it is an error; None: for ever.
        torch_threads: CPU threads of torch while an agent, or a world model, is trained or plays.
            The default of one is by far the fastest for small networks, and makes results
            independent of the machine's cores; give more for images, None to leave the number as
            it is.
        live: show an agent's returns while it trains in a notebook, with buttons to pause and to
            stop it (`LiveReturns`, `Controls`). Elsewhere nothing is shown.
        quiet: show, log and save nothing: no live plot, progress bar, summary, logger or
            checkpoints, but for those that are given as an option or a callback.
        **trainer_options: every argument of `lightning.Trainer`.

    Raises:
        ConfigError: for a number below 1, or a negative seed.

    Example:
        >>> from lightning_rl import PPOAgent
        >>> trainer = AgentTrainer(max_env_steps=65_536, seed=0)
        >>> trainer.fit(PPOAgent(), "CartPole-v1")  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        max_env_steps: int | None = None,
        num_envs: int | None = None,
        vectorization: str | None = None,
        seed: int | None = None,
        evaluate_every_env_steps: int | None = None,
        evaluation_episodes: int = 100,
        max_episode_steps: int | None = None,
        env_timeout: float | None = WAIT_SECONDS,
        torch_threads: int | None = 1,
        live: bool = True,
        quiet: bool = False,
        **trainer_options: Any,
    ) -> None:
        self.max_env_steps = given_count("max_env_steps", max_env_steps)
        self.num_envs = given_count("num_envs", num_envs)
        self.vectorization = vectorization_mode(vectorization)
        self.seed = None if seed is None else seed_number(seed)
        every = given_count("evaluate_every_env_steps", evaluate_every_env_steps)
        self.evaluate_every_env_steps = every
        self.evaluation_episodes = count("evaluation_episodes", evaluation_episodes)
        self.max_episode_steps = given_count("max_episode_steps", max_episode_steps)
        self.env_timeout = env_timeout
        self.torch_threads = given_count("torch_threads", torch_threads)
        chosen = trainer_options.get("callbacks") or []
        chosen = chosen if isinstance(chosen, list) else [chosen]  # Lightning adds its own to it
        self.quiet = truth("quiet", quiet)
        if self.quiet:
            off = without_a_word(chosen)
            trainer_options |= {n: v for n, v in off.items() if trainer_options.get(n) is None}
        self._replaces_bar = not any(isinstance(callback, ProgressBar) for callback in chosen)
        self._replaces_summary = not any(isinstance(callback, ModelSummary) for callback in chosen)
        self._has_fitted = False
        self._fit_env: Any = None  # where `test` plays if it is given nothing else
        with quiet_lightning():
            super().__init__(**trainer_options)
        self.live = truth("live", live) and not self.quiet
        limits = ("max_epochs", "max_steps", "max_time")
        is_limited = any(trainer_options.get(n) not in (None, -1) for n in limits)
        self._is_limited = is_limited or bool(trainer_options.get("fast_dev_run"))
        self._options = trainer_options

    # ---- fit ---------------------------------------------------------------------------------

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: Any = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
    ) -> None:
        """Train an agent in an environment, or any module on its data.

        Args:
            model: a `LightningAgentModule`, or any `LightningModule`.
            train_dataloaders: an environment (what `make_vector_env` takes), or DataLoaders.
            val_dataloaders: an environment to evaluate in, or DataLoaders. Where evaluation is
                asked for and this is None, the training environment is copied.
            datamodule: as in Lightning.
            ckpt_path: a checkpoint to go on from: same budget, same bits. "last" is the newest
                undamaged one of an earlier run with the same folders; a warning says if there
                is none, and which are damaged.
            weights_only: as in Lightning; for an agent, nothing is unpickled unless it is False.

        Raises:
            StateError: if an agent is given no environment.
        """
        if is_compiled(model) and isinstance(to_uncompiled(model), LightningAgentModule):
            raise ConfigError(f"fit got what torch.compile has returned. {COMPILE_IN_PLACE}")
        if not isinstance(model, LightningAgentModule):
            with self._training_any(model):
                super().fit(
                    model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only
                )
            return
        self._use_own_callbacks()
        evaluates = val_dataloaders is not None or self.evaluate_every_env_steps is not None
        evaluates = evaluates or has_validation_data(train_dataloaders, datamodule)
        callbacks: list[Any] = getattr(self, "callbacks")  # noqa: B009 (untyped in Lightning)
        check_callbacks(callbacks, evaluates, self._is_limited)
        # Without a limit the budget of env steps ends the run, not an epoch.
        unlimited = {} if self._is_limited else {"max_epochs": -1}
        made = ExitStack()  # closes what is made here
        make_loaders = partial(self._loaders, model, evaluates, ckpt_path is None, made)
        with (
            trained_here(model, self),
            modes_kept(model),
            made,
            quiet_lightning(repeated=self._has_fitted or ckpt_path is not None or in_notebook()),
            adapted(callbacks),
            one_writer(callbacks, self),
            lost_ranks_named(callbacks),
            temporarily(self, **self._agent_defaults(model, evaluates)),
            torch_threads(self.torch_threads),
            graceful_interrupt(self, model),
            live_in_notebook(self, model, self.live),
            temporarily(self.fit_loop, **unlimited),
            early_loaders(make_loaders, train_dataloaders, val_dataloaders, datamodule) as data,
        ):
            ckpt_path = last_run(self) if ckpt_path == "last" else ckpt_path
            self._has_fitted, before = True, self.global_step
            model.torch_threads = self.torch_threads
            super().fit(model, *data, ckpt_path, weights_only)
        if self.global_step == before > 0 and ckpt_path is None:
            warnings.warn(NOTHING_TRAINED, stacklevel=2)

    @contextmanager
    def _training_any(self, model: Any) -> Iterator[None]:
        """Add what also suits a module that is no agent."""
        callbacks: list[Any] = getattr(self, "callbacks")  # noqa: B009 (untyped in Lightning)
        with (
            quiet_lightning(in_notebook()),
            lost_ranks_named(callbacks),
            torch_threads(self.torch_threads),
            graceful_interrupt(self, model),
        ):
            yield

    def _loaders(
        self,
        agent: LightningAgentModule,
        evaluates: bool,
        is_new: bool,
        made: ExitStack,
        data: Any,
        validation: Any,
    ) -> tuple[Any, Any]:
        """Make the loaders of training and of evaluation, which is in the same env by default."""
        data = self._vectorized(agent, data)
        loader = self._training_loader(agent, data)
        if loader is not data:
            made.callback(loader.close)
        if isinstance(loader, EnvDataLoader):
            check_start(loader.env, self._options.get("strategy"))
        if is_new:  # a checkpoint would bring the spaces
            check_bound_for(agent, data)
        if not evaluates:
            return loader, loader  # not looked at, but Lightning would warn if there were none
        source = env_of(loader if validation is None else validation)
        if is_env(source):
            return loader, made.enter_context(closing(self._evaluation_loader(agent, source)))
        if validation is None:
            raise StateError(
                "evaluate_every_env_steps was given, but no environment to evaluate in; expected "
                "fit(agent, env), or fit(agent, data, env)."
            )
        return loader, validation

    def _training_loader(self, agent: LightningAgentModule, data: Any) -> Any:
        """Make an environment a loader of iterations; give other data as they are."""
        self._fit_env = env_of(data)
        if is_env(data):
            every = self.evaluate_every_env_steps
            iterations = math.ceil(every / agent.rollout_steps) if every else None
            seed, timeout = self._draw_seed(), self.env_timeout
            data = EnvDataLoader(agent, data, self.num_envs, seed, None, iterations, timeout)
        if not isinstance(data, EnvDataLoader):
            agent.max_env_steps = None
            if not self._is_limited:
                self.fit_loop.max_epochs = DEFAULT_MAX_EPOCHS
            return data
        agent.max_env_steps = self._budget(data.max_env_steps)
        return data

    def _budget(self, of_loader: int | None) -> int | None:
        """Say at how many env steps to stop: the trainer's word counts before the loader's."""
        budget = of_loader if self.max_env_steps is None else self.max_env_steps
        return DEFAULT_MAX_ENV_STEPS if budget is None and not self._is_limited else budget

    def _vectorized(self, agent: LightningAgentModule, env: Any) -> Any:
        """Let an environment be stepped as `vectorization` says; give other data as they are."""
        if self.vectorization is None or isinstance(env, Vectorized) or not is_env(env):
            return env
        return Vectorized(env, self.num_envs or agent.default_num_envs, self.vectorization)

    def _evaluation_loader(self, agent: LightningAgentModule, env: Any) -> EvaluationDataLoader:
        env = self._vectorized(agent, env)
        seed = self._draw_seed() + EVALUATION_SEED_OFFSET
        limits = self.evaluation_episodes, seed, self.max_episode_steps, self.env_timeout
        loader = EvaluationDataLoader(agent, env, *limits, num_processes=self.world_size)
        loader.make_env()  # find out now, not in mid-run, whether that can be done
        return loader

    def _draw_seed(self) -> int:
        if self.seed is None:
            self.seed = int(torch.randint(2**31 - 1, ()))
        return self.seed

    def _agent_defaults(self, agent: LightningAgentModule, evaluates: bool) -> dict[str, Any]:
        """Give the trainer's attributes that suit an agent where the user said nothing."""
        rows = min(LOG_EVERY_ROWS, self.evaluate_every_env_steps or LOG_EVERY_ROWS)
        suited = {
            "num_sanity_val_steps": 0,  # it would evaluate an untrained agent
            "log_every_n_steps": math.ceil(rows / agent.rollout_steps),
        }
        defaults = {name: v for name, v in suited.items() if self._options.get(name) is None}
        return defaults if evaluates else defaults | {"limit_val_batches": 0}

    def _use_own_callbacks(self) -> None:
        """Put a bar that counts env steps and a summary of one line in the place of Lightning's.

        What a run was made of is logged, too.
        """
        callbacks: list[Any] = getattr(self, "callbacks")  # noqa: B009 (untyped in Lightning)
        if not any(isinstance(callback, RunFacts) for callback in callbacks):
            callbacks.append(RunFacts())
        for index, callback in enumerate(callbacks):
            if isinstance(callback, ProgressBar) and self._replaces_bar:
                callbacks[index] = EnvStepProgressBar()
            elif isinstance(callback, ModelSummary) and self._replaces_summary:
                callbacks[index] = OneLineSummary()
        self._replaces_bar = self._replaces_summary = False

    # ---- validate, test, predict -------------------------------------------------------------

    def validate(
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Play greedy episodes in a separate copy of an environment, or validate as Lightning does.

        Returns:
            `[{"val_episode_return": ..., "val_episode_length": ...}]`.

        Raises:
            StateError: if the agent was neither trained nor loaded.
        """
        dataloaders = self._evaluation_data(model, dataloaders, ckpt_path, kwargs)
        with self._playing(model), closed_in_the_end(dataloaders):
            kwargs = without_table(self, args, kwargs)
            return super().validate(model, dataloaders, ckpt_path, *args, **kwargs)

    def test(
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Play greedy episodes in a separate copy of an environment, or test as Lightning does.

        Returns:
            `[{"test_episode_return": ..., "test_episode_length": ...}]`.

        Raises:
            StateError: if the agent was neither trained nor loaded.
        """
        dataloaders = self._evaluation_data(model, dataloaders, ckpt_path, kwargs)
        with self._playing(model), closed_in_the_end(dataloaders):
            kwargs = without_table(self, args, kwargs)
            return super().test(model, dataloaders, ckpt_path, *args, **kwargs)

    def predict(self, model: Any = None, dataloaders: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Play greedy episodes in a separate copy of an environment, or predict as Lightning does.

        Returns:
            `[{"episode_return": (E,), "episode_length": (E,)}]` of E episodes; given a DataLoader
            of observations, the best actions of each batch.
        """
        dataloaders = self._evaluation_data(model, dataloaders, kwargs.get("ckpt_path"), kwargs)
        with self._playing(model), closed_in_the_end(dataloaders):
            return super().predict(model, dataloaders, *args, **kwargs)

    @contextmanager
    def _playing(self, model: Any) -> Iterator[None]:
        """Keep Lightning's notices away from agents and notebooks; put modes and threads back."""
        agent = self.lightning_module if model is None else model
        is_agent = isinstance(agent, LightningAgentModule)
        threads = torch_threads(self.torch_threads)
        quiet = quiet_lightning(in_notebook() or is_agent)
        callbacks: list[Any] = getattr(self, "callbacks")  # noqa: B009 (untyped in Lightning)
        lost = lost_ranks_named(callbacks)
        bars = no_bars_in_copies(self)
        with quiet, threads, modes_kept(agent), lost, bars, graceful_interrupt(self):
            yield

    def _evaluation_data(
        self, model: Any, data: Any, ckpt_path: Any, options: dict[str, Any]
    ) -> Any:
        """Make an agent's environment a loader of greedy episodes; give other data as they are."""
        agent = self.lightning_module if model is None else model
        if agent is not None:
            check_idle(agent)
        if data is None and options.get("datamodule") is None and agent is self.lightning_module:
            data = self._fit_env
        data = env_of(data)
        if not isinstance(agent, LightningAgentModule) or not is_env(data):
            return data
        if agent.observation_space is None and not ckpt_path:
            raise StateError(
                "the agent was neither trained nor loaded, so there is nothing to evaluate; call "
                "fit(agent, env) first, or give ckpt_path."
            )
        return self._evaluation_loader(agent, data)


def without_a_word(callbacks: list[Any]) -> dict[str, Any]:
    """Give the options with which Lightning shows, logs and saves nothing but by callbacks."""
    kinds = {
        "enable_checkpointing": Checkpoint,
        "enable_progress_bar": ProgressBar,
        "enable_model_summary": ModelSummary,
    }
    given = {name for name, kind in kinds.items() if any(isinstance(c, kind) for c in callbacks)}
    return {"logger": False} | {name: False for name in kinds if name not in given}


def env_of(data: Any) -> Any:
    """Give the environment that an `EnvDataLoader` was made of, and all else as it is."""
    return data.source if isinstance(data, EnvDataLoader) else data


def closed_in_the_end(data: Any) -> AbstractContextManager[Any]:
    """Close the environment that a loader made to evaluate in."""
    return closing(data) if isinstance(data, EvaluationDataLoader) else nullcontext()


@contextmanager
def temporarily(target: Any, **values: Any) -> Iterator[None]:
    """Give attributes other values, and put the old ones back afterwards."""
    before = {name: getattr(target, name) for name in values}
    for name, value in values.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)


@contextmanager
def modes_kept(model: Any) -> Iterator[None]:
    """Put the modes of a module's parts back after an error; a part made meanwhile will train."""
    modules = [] if model is None else list(model.modules())
    modes = {module: module.training for module in modules}
    try:
        yield
    except BaseException:
        for module in [] if model is None else model.modules():
            module.training = modes.get(module, True)
        raise
