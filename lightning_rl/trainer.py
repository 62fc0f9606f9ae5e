"""The trainer: Lightning's, with an environment in the place of the DataLoader."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from lightning_rl.agent import LightningAgentModule
from lightning_rl.callbacks import EnvStepProgressBar
from lightning_rl.controls import graceful_interrupt, quiet_notebook
from lightning_rl.envs import is_env
from lightning_rl.errors import ConfigError, StateError
from lightning_rl.live import live_in_notebook
from lightning_rl.loader import EnvDataLoader, EvaluationDataLoader

DEFAULT_MAX_ENV_STEPS = 65_536
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
            Default: 65,536, unless `max_epochs`, `max_steps` or `max_time` limits the run.
        num_envs: sub-environments to make from a name, spec or function. Default: the agent's
            (`agent.default_num_envs`).
        seed: of weights, environments and random numbers. Default: drawn from torch's random
            numbers, so that `lightning.seed_everything` fixes it; read it at `trainer.seed`.
        evaluate_every_env_steps: evaluate during `fit` in a separate environment whenever so many
            env steps have passed (rounded up to whole iterations); an epoch then has this length.
            Default: once an epoch if `fit` is given an evaluation environment, else never.
        evaluation_episodes: greedy episodes of one evaluation.
        torch_threads: CPU threads of torch while an agent is trained. The default of one is by far
            the fastest for small networks, and makes results independent of the machine's cores;
            give more for images, None to leave the number alone.
        live: show an agent's returns while it trains in a notebook, with buttons to pause and to
            stop it (`LiveReturns`, `Controls`). Elsewhere nothing is shown.
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
        seed: int | None = None,
        evaluate_every_env_steps: int | None = None,
        evaluation_episodes: int = 100,
        torch_threads: int | None = 1,
        live: bool = True,
        **trainer_options: Any,
    ) -> None:
        counts = {
            "max_env_steps": max_env_steps,
            "num_envs": num_envs,
            "evaluate_every_env_steps": evaluate_every_env_steps,
            "evaluation_episodes": evaluation_episodes,
            "torch_threads": torch_threads,
        }
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ConfigError(f"{name}={count}; expected at least 1.")
        if seed is not None and seed < 0:
            raise ConfigError(f"seed={seed}; expected 0 or more.")
        chosen = trainer_options.get("callbacks") or []
        chosen = chosen if isinstance(chosen, list) else [chosen]  # Lightning adds its own to it
        self._has_own_bar = any(isinstance(callback, ProgressBar) for callback in chosen)
        with quiet_notebook():
            super().__init__(**trainer_options)
        self.max_env_steps = max_env_steps
        self.num_envs = num_envs
        self.seed = seed
        self.evaluate_every_env_steps = evaluate_every_env_steps
        self.evaluation_episodes = evaluation_episodes
        self.torch_threads = torch_threads
        self.live = live
        limits = ("max_epochs", "max_steps", "max_time")
        self._is_limited = any(trainer_options.get(n) not in (None, -1) for n in limits)
        self._options = trainer_options

    # ---- fit ---------------------------------------------------------------------------------

    @quiet_notebook()
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
            ckpt_path: a checkpoint to go on from: same budget, same bits.
            weights_only: as in Lightning; for an agent True, so that nothing is unpickled.

        Raises:
            StateError: if an agent is given no environment.
        """
        if not isinstance(model, LightningAgentModule):
            with graceful_interrupt(self):
                super().fit(
                    model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only
                )
            return
        if train_dataloaders is None and datamodule is None:
            raise StateError(
                'fit(agent) got no environment; expected fit(agent, env), such as "CartPole-v1".'
            )
        steps_env = is_env(train_dataloaders) or isinstance(train_dataloaders, EnvDataLoader)
        has_budget = steps_env and not (self._is_limited or self._options.get("fast_dev_run"))
        evaluates = val_dataloaders is not None or self.evaluate_every_env_steps is not None
        with self._agent_defaults(model, evaluates, has_budget):
            evaluation_env = train_dataloaders if val_dataloaders is None else val_dataloaders
            train_dataloaders = self._training_loader(model, train_dataloaders)
            val_dataloaders = self._evaluation_loader(model, evaluation_env, evaluates)
            super().fit(
                model, train_dataloaders, val_dataloaders, datamodule, ckpt_path,
                True if weights_only is None else weights_only,
            )  # fmt: skip

    def _training_loader(self, agent: LightningAgentModule, env: Any) -> Any:
        budget = self.max_env_steps
        if isinstance(env, EnvDataLoader) and budget is None:
            budget = agent.max_env_steps
        if budget is None and not self._is_limited:
            budget = DEFAULT_MAX_ENV_STEPS
        if not is_env(env):
            agent.max_env_steps = budget if isinstance(env, EnvDataLoader) else None
            return env
        every = self.evaluate_every_env_steps
        iterations = math.ceil(every / agent.rollout_steps) if every else None
        return EnvDataLoader(agent, env, self.num_envs, self._draw_seed(), budget, iterations)

    def _evaluation_loader(self, agent: LightningAgentModule, env: Any, evaluates: bool) -> Any:
        if not is_env(env):
            return env
        seed = self._draw_seed() + EVALUATION_SEED_OFFSET
        loader = EvaluationDataLoader(agent, env, self.evaluation_episodes, seed)
        if evaluates:  # find out now, not in mid-run, whether the environment can be made
            loader.make_env()
        return loader

    def _draw_seed(self) -> int:
        if self.seed is None:
            self.seed = int(torch.randint(2**31 - 1, ()))
        return self.seed

    @contextmanager
    def _agent_defaults(
        self, agent: LightningAgentModule, evaluates: bool, has_budget: bool
    ) -> Iterator[None]:
        """Set what suits an agent where the user said nothing, and put it back afterwards."""
        defaults: dict[str, Any] = {}
        if not evaluates:
            defaults["limit_val_batches"] = 0
        if self._options.get("num_sanity_val_steps") is None:
            defaults["num_sanity_val_steps"] = 0  # it would evaluate an untrained agent
        if self._options.get("log_every_n_steps") is None:
            defaults["log_every_n_steps"] = math.ceil(LOG_EVERY_ROWS / agent.rollout_steps)
        before = {name: getattr(self, name) for name in defaults}
        epochs = self.fit_loop.max_epochs
        if has_budget:
            self.fit_loop.max_epochs = -1
        self._use_env_step_bar()
        for name, value in defaults.items():
            setattr(self, name, value)
        threads = torch.get_num_threads()
        torch.set_num_threads(self.torch_threads or threads)
        try:
            with graceful_interrupt(self), live_in_notebook(self, self.live):
                yield
        finally:
            torch.set_num_threads(threads)
            if has_budget:
                self.fit_loop.max_epochs = epochs
            for name, value in before.items():
                setattr(self, name, value)

    def _use_env_step_bar(self) -> None:
        bar = self.progress_bar_callback
        if not (bar is None or self._has_own_bar or isinstance(bar, EnvStepProgressBar)):
            callbacks: list[Any] = getattr(self, "callbacks")  # noqa: B009 (untyped in Lightning)
            callbacks[callbacks.index(bar)] = EnvStepProgressBar()

    # ---- validate, test, predict -------------------------------------------------------------

    @quiet_notebook()
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
        dataloaders = self._played(model, dataloaders, ckpt_path, kwargs)
        with graceful_interrupt(self):
            return super().validate(model, dataloaders, ckpt_path, *args, **kwargs)

    @quiet_notebook()
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
        dataloaders = self._played(model, dataloaders, ckpt_path, kwargs)
        with graceful_interrupt(self):
            return super().test(model, dataloaders, ckpt_path, *args, **kwargs)

    @quiet_notebook()
    def predict(self, model: Any = None, dataloaders: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Play greedy episodes in a separate copy of an environment, or predict as Lightning does.

        Returns:
            `[{"episode_return": (E,), "episode_length": (E,)}]` of E episodes; given a DataLoader
            of observations, the best actions of each batch.
        """
        dataloaders = self._played(model, dataloaders, kwargs.get("ckpt_path"), kwargs)
        with graceful_interrupt(self):
            return super().predict(model, dataloaders, *args, **kwargs)

    def _played(self, model: Any, env: Any, ckpt_path: Any, options: dict[str, Any]) -> Any:
        agent = self.lightning_module if model is None else model
        if not isinstance(agent, LightningAgentModule) or not is_env(env):
            return env
        if agent.observation_space is None and not ckpt_path:
            raise StateError(
                "the agent was neither trained nor loaded, so there is nothing to evaluate; call "
                "fit(agent, env) first, or give ckpt_path."
            )
        if ckpt_path:
            options.setdefault("weights_only", True)
        return self._evaluation_loader(agent, env, evaluates=True)
