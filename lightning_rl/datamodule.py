"""What an agent is trained on, where it is no environment: a LightningDataModule, DataLoaders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_rl.agent import LightningAgentModule
from lightning_rl.envs.vectorize import EXPECTED
from lightning_rl.errors import CheckpointError, EnvError, StateError
from lightning_rl.loader import EnvDataLoader


class EnvDataModule(LightningDataModule):
    """An environment, by name, as a LightningDataModule: what `LightningCLI` asks for.

    Args:
        env: name of a registered environment to train in.
        evaluation_env: one to evaluate in, once an epoch, and to test in. Default: as `env`.

    Example:
        A script of four lines, `train.py`:

            from lightning.pytorch.cli import LightningCLI
            from lightning_rl import AgentTrainer, PPOAgent
            from lightning_rl.datamodule import EnvDataModule
            LightningCLI(PPOAgent, EnvDataModule, trainer_class=AgentTrainer)

        which `python train.py fit --data.env CartPole-v1 --trainer.max_env_steps 65536` runs, and
        `python train.py fit --print_config > settings.yaml`, `python train.py fit --config
        settings.yaml`.

        >>> EnvDataModule("CartPole-v1").train_dataloader()
        'CartPole-v1'
    """

    def __init__(self, env: str = "CartPole-v1", evaluation_env: str | None = None) -> None:
        super().__init__()
        self.env, self.evaluation_env = env, evaluation_env

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> Any:
        """Refuse: a file may not say which environment is made, nor by what.

        Raises:
            CheckpointError: always.
        """
        raise CheckpointError(
            "an EnvDataModule is not made from a checkpoint, as a file may name any environment; "
            "name it yourself: EnvDataModule(env)."
        )

    def train_dataloader(self) -> str:
        """Give the environment to train in, which `AgentTrainer` makes a loader of."""
        return self.env

    def val_dataloader(self) -> str:
        """Give the environment to evaluate in."""
        return self.evaluation_env or self.env

    def test_dataloader(self) -> str:
        """Give the environment to test in."""
        return self.evaluation_env or self.env


Loaders = tuple[Any, Any, LightningDataModule | None]  # of training, of evaluation, or of both


def has_validation_data(*data: Any) -> bool:
    """Tell whether one of them is a datamodule that says what to validate on."""
    modules = (part for part in data if isinstance(part, LightningDataModule))
    return any(is_overridden("val_dataloader", module) for module in modules)


def check_bound_for(agent: LightningAgentModule, data: Any) -> None:
    """Check that an agent's network has been built, as plain data bring it no spaces.

    Raises:
        EnvError: if it was not; perhaps the data were meant as an environment.
    """
    if agent.observation_space is None and hasattr(agent.network, "build"):
        raise EnvError(
            f"fit got a {type(data).__name__} for an agent that has met no environment, so its "
            f"network has no weights yet; expected an environment: {EXPECTED}. For DataLoaders, "
            "bind the agent first: EnvDataLoader(agent, env)."
        )


@contextmanager
def early_loaders(
    make: Callable[[Any, Any], tuple[Any, Any]], data: Any, validation: Any, datamodule: Any
) -> Iterator[Loaders]:
    """Make the loaders that Lightning's `fit` takes; a datamodule's as soon as it is set up.

    Lightning asks a datamodule for them only after it has made the optimizers, but an agent's
    network takes its sizes from the environment.

    Args:
        make: makes two loaders of training data, such as an environment, and of validation data.
        data: the former, or a datamodule.
        validation: the latter, or None.
        datamodule: its `train_dataloader` and `val_dataloader` may return environments.

    Raises:
        StateError: if there are no data at all.
    """
    if isinstance(data, LightningDataModule):  # Lightning takes it there, too
        data, datamodule = None, data
    if datamodule is not None:
        with _loaders_at_setup(datamodule, make):
            yield None, None, datamodule
    elif data is not None:
        yield *make(data, validation), None
    else:
        raise StateError(
            'fit(agent) got no environment; expected fit(agent, env), such as "CartPole-v1".'
        )


@contextmanager
def _loaders_at_setup(module: Any, make: Callable[[Any, Any], tuple[Any, Any]]) -> Iterator[None]:
    setup, train, validation = module.setup, module.train_dataloader, module.val_dataloader
    validates = has_validation_data(module)
    loaders: list[Any] = []

    @wraps(setup)
    def early_setup(stage: str) -> None:
        setup(stage)
        loaders[:] = make(train(), validation() if validates else None)

    @wraps(train)
    def kept_train() -> Any:  # a plain loader may be made anew each epoch
        return loaders[0] if isinstance(loaders[0], EnvDataLoader) else train()

    own = {"setup": early_setup, "train_dataloader": kept_train}
    vars(module).update(own, val_dataloader=lambda: loaders[1])
    try:
        yield
    finally:
        for name in (*own, "val_dataloader"):
            del vars(module)[name]
