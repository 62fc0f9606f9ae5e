"""The policy: what an agent needs to play, whether it is trained or not."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from gymnasium import Space
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_rl.buffers.arrays import to_tensor
from lightning_rl.checkpoints.module import CheckpointedModule
from lightning_rl.errors import ConfigError, ShapeError, SpaceError, StateError
from lightning_rl.prediction import predict_action
from lightning_rl.stats.normalization import ObservationNormalizer

COMPILE_IN_PLACE = (
    "Expected the module itself: compile an agent in place, by agent.compile() before fit, so that "
    "checkpoints can be loaded without compiling."
)


class PolicyModule(CheckpointedModule):
    """The half of an agent that plays: its network, the spaces it was built for, its actions.

    `LightningAgentModule` adds the half that learns, and says what an author writes.

    Args:
        network: any `nn.Module`; one with a `build(observation_space, action_space)` method takes
            its sizes from the environment.
    """

    env_steps: int = 0  # learned from so far
    logs_hyperparameters = True  # as `save_hyperparameters` was told

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Say where settings and compiled networks go, before Python finds them unexpected."""
        if any(is_compiled(part) for part in (*args, *options.values())):
            raise ConfigError(f"the network was given to torch.compile. {COMPILE_IN_PLACE}")
        known = inspect.signature(cls.__init__).parameters
        unknown = [name for name in options if name not in known]
        takes_all = any(known[name].kind is inspect.Parameter.VAR_KEYWORD for name in known)
        if unknown and not takes_all:
            raise ConfigError(
                f"{cls.__name__} got {unknown}; expected some of {[*known][1:]}. Settings go into "
                f"the config: {cls.__name__}(config={{{unknown[0]!r}: ...}})."
            )
        return super().__new__(cls)

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network: Any = network
        self.generator = torch.Generator()
        self.observation_space: Any = None  # the spaces of one sub-environment, once bound
        self.action_space: Any = None
        self.observation_normalizer: ObservationNormalizer | None = None
        self._compiling: dict[str, Any] | None = None  # torch.compile's options, if it shall be
        self.torch_threads: int | None = 1  # of the last fit; all playing uses as many

    def save_hyperparameters(
        self, *args: Any, frame: Any = None, logger: bool = True, **options: Any
    ) -> None:
        """Save them as any LightningModule does, and note whether they may be logged."""
        self.logs_hyperparameters = logger
        caller = inspect.currentframe()
        frame = frame or (caller and caller.f_back)
        super().save_hyperparameters(*args, frame=frame, logger=logger, **options)

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

    def compile(self, **options: Any) -> None:
        """Compile what the agent learns with, in place, before `fit` or after.

        Checkpoints and copies are those of an agent that is not compiled. Whether it pays is to be
        measured: on a CPU, with small networks, it does not.

        Args:
            **options: of `torch.compile`, such as `mode="reduce-overhead"` (CUDA graphs).

        Example:
            >>> from lightning_rl import PPOAgent
            >>> agent = PPOAgent()
            >>> agent.compile(dynamic=True)  # then: trainer.fit(agent, env)
        """
        self._compiling = options
        if self.observation_space is not None:
            self._compile_parts()

    def compiled_parts(self) -> list[nn.Module]:
        """Give the modules, once built, that `compile` compiles. Default: the network."""
        return [self.network]

    def _compile_parts(self) -> None:
        if self._compiling is not None:
            for part in self.compiled_parts():
                part.compile(**self._compiling)

    # ---- the spaces --------------------------------------------------------------------------

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
        self._build_network(observation_space, action_space, seed)
        self.observation_space, self.action_space = observation_space, action_space
        self.check_network()
        self._compile_parts()

    def _build_network(self, observation_space: Space, action_space: Space, seed: int) -> None:
        """Give the network its sizes; one that another agent has built is copied as it is."""
        build, spaces = getattr(self.network, "build", None), (observation_space, action_space)
        if build is None:
            return
        if (built_for := getattr(self.network, "built_for", None)) is not None:
            if built_for != spaces:
                raise SpaceError(
                    f"the network was built for {built_for}, by another agent; this environment "
                    f"has {spaces}. Give each agent a network of its own."
                )
            self.network = copy.deepcopy(self.network)  # each goes on learning for itself
            return
        with torch.random.fork_rng(devices=[]):  # leave the caller's random numbers alone
            torch.manual_seed(seed)
            build(observation_space, action_space)
        self.network.built_for = spaces

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

    # ---- playing -----------------------------------------------------------------------------

    def predict(self, observation: Any, deterministic: bool = True) -> NDArray[Any]:
        """Choose the action that an environment shall be given, as `evaluate` plays.

        What the environment shows goes in as it is (it is normalised here, as while training), and
        what it takes comes out: clipped to a Box's bounds, shifted by a Discrete's `start`.

        Args:
            observation: one observation, or a batch (N, ...): an array, or a dict of them.
            deterministic: choose the best action; else draw one, from `generator`.

        Returns:
            The action, or a batch (N, ...) of them.

        Raises:
            StateError: if the agent was never trained, loaded or bound.
            ShapeError: if the observation is not of the space the agent was built for.

        Example:
            >>> import gymnasium as gym
            >>> from lightning_rl import PPOAgent
            >>> agent = PPOAgent.load_from_checkpoint("agent.ckpt")  # doctest: +SKIP
            >>> env = gym.make("CartPole-v1")
            >>> observation, _ = env.reset(seed=0)
            >>> terminated = truncated = False
            >>> while not (terminated or truncated):  # doctest: +SKIP
            ...     action = agent.predict(observation)
            ...     observation, reward, terminated, truncated, _ = env.step(action)
        """
        return predict_action(self, observation, deterministic)

    def forward(self, observations: Any) -> Tensor:
        """Choose the best actions (N, ...) for prepared observations; `predict` takes raw ones.

        Raises:
            ShapeError: if they are no batch of tensors.
        """
        shape = getattr(self.observation_space, "shape", None)  # a Dict has none
        fits = isinstance(observations, dict) if shape is None else is_batch(observations, shape)
        if self.observation_space is not None and not fits:
            raise ShapeError(
                f"the agent was called with {type(observations).__name__} of shape "
                f"{getattr(observations, 'shape', None)}; expected a batch of tensors (N, ...) of "
                f"{self.observation_space}. For what an environment shows, call agent.predict."
            )
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

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load weights, and what observations are normalised by, into an agent that knows its env.

        Raises:
            StateError: if its network has no sizes yet.
        """
        if self.observation_space is None and hasattr(self.network, "build"):
            raise StateError(
                "the agent has no sizes yet, as it has not met its environment; expected "
                "EnvDataLoader(agent, env) before load_state_dict. Or keep checkpoints, and load "
                f"them with {type(self).__name__}.load_from_checkpoint."
            )
        return super().load_state_dict(state_dict, strict, assign)


def check_acted(outputs: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Check that `act` returned actions, and a dict of what the buffer shall remember.

    Raises:
        ShapeError: if it returned something else.
    """
    if not isinstance(outputs, tuple) or len(outputs) != 2 or not isinstance(outputs[1], dict):
        got = [type(part).__name__ for part in outputs] if isinstance(outputs, tuple) else outputs
        raise ShapeError(
            f"act returned {got!r}; expected a tuple: the actions, and a dict of what the buffer "
            "shall remember of them. If that is nothing, return actions, {}."
        )
    return outputs


def is_compiled(module: Any) -> bool:
    """Tell whether a module was wrapped by `torch.compile`, which has no public name for that."""
    return type(module).__name__ == "OptimizedModule"


def is_batch(observations: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether these are tensors (N, *shape)."""
    return isinstance(observations, Tensor) and tuple(observations.shape[1:]) == shape
