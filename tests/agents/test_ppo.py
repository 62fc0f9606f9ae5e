"""Promises of `PPOAgent`: the right rows, the right numbers, the right updates."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import Space, spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from torch import Tensor, nn

from lightning_rl import AgentTrainer, EnvDataLoader, PPOAgent, PPOConfig, evaluate
from lightning_rl.errors import ConfigError, ShapeError
from lightning_rl.networks import GaussianHead
from lightning_rl.testing.probe_envs import CountingEnv, IdentityEnv

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's

SETTINGS: dict[str, Any] = {  # all of them: the defaults are tuned elsewhere
    "rollout_steps": 64, "batch_size": 16, "update_epochs": 2, "learning_rate": 1e-3,
    "gamma": 0.5, "gae_lambda": 0.5, "clip_range": 0.2, "value_clip_range": None,
    "value_coef": 0.5, "entropy_coef": 0.01, "max_grad_norm": 0.5, "target_kl": None,
    "anneal_learning_rate": False, "anneal_clip_range": False, "normalize_advantages": True,
    "normalize_observations": False, "normalize_rewards": False,
}  # fmt: skip
NEXT_STEP, SAME_STEP = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP
both_modes = pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])

ACTION_SPACES: dict[str, Space] = {
    "discrete": spaces.Discrete(3, start=2),
    "multi_discrete": spaces.MultiDiscrete([3, 2]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(-1, 1, (2,)),
}
OBSERVATION_SPACES: dict[str, Space] = {
    "box": spaces.Box(-1, 1, (2, 2)),
    "image": spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "discrete": spaces.Discrete(3, start=4),
    "multi_discrete": spaces.MultiDiscrete([3, 2], start=[-5, 7]),
    "multi_binary": spaces.MultiBinary(3),
    "dict": spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(3, start=2)}),
}


def make_agent(network: nn.Module | None = None, cls: Any = PPOAgent, **changes: Any) -> Any:
    return cls(network, PPOConfig(**(SETTINGS | changes)))


def bound(env: VectorEnv, network: nn.Module | None = None, cls: Any = PPOAgent, **c: Any) -> Any:
    """Make an agent that is ready for its first rollout."""
    agent = make_agent(network, cls, **c)
    EnvDataLoader(agent, env)
    agent.start_run(seed=0)
    return agent


def counting(*lengths: list[int], mode: Any = NEXT_STEP, truncation: float = 0.0) -> VectorEnv:
    """Sub-environment i counts its episodes from 1000 i."""
    return SyncVectorEnv(
        [
            lambda i=i, own=own: CountingEnv(own, truncation, first_episode=1000 * i)
            for i, own in enumerate(lengths)
        ],
        autoreset_mode=mode,
    )


def endless(num_envs: int = 4, make: Callable[[], gym.Env] | None = None) -> VectorEnv:
    """SAME_STEP, so that every row is an env step."""
    maker = make or (lambda: IdentityEnv(spaces.Box(-1, 1, (2,))))
    return SyncVectorEnv([maker] * num_envs, autoreset_mode=SAME_STEP)


def fit(agent: Any, env: Any, folder: Path, **options: Any) -> AgentTrainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    more = {"enable_checkpointing": False, "default_root_dir": folder, "log_every_n_steps": 1}
    trainer = AgentTrainer(**{**quiet, **more, "accelerator": "cpu", "seed": 0, **options})
    trainer.fit(agent, env)
    return trainer


def places(batch: dict[str, Any]) -> list[tuple[int, int]]:
    """Give (episode, step) of each row of a batch from a CountingEnv."""
    return [(int(e), int(t)) for e, t in batch["observations"].tolist()]


class RecordingPPO(PPOAgent):
    """Keeps the minibatches of each iteration, and counts the updates made from them."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.iterations: list[list[dict[str, Tensor]]] = []
        self.updates: list[int] = []
        self.rates: list[tuple[float, float]] = []  # learning rate, clip range

    def sample(self) -> Any:
        self.iterations.append(list(super().sample()))
        self.updates.append(0)
        return self.iterations[-1]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.updates[-1] += 1
        self.rates.append((self.optimizers().param_groups[0]["lr"], self.clip_range))
        return super().training_step(batch, batch_idx)


# ---- 1. the right rows -----------------------------------------------------------------------


@both_modes
@pytest.mark.parametrize("rows", [8, 9, 10])
def test_every_env_step_is_in_one_minibatch_of_each_epoch_and_no_reset_row_ever(
    mode: AutoresetMode, rows: int
) -> None:
    """Over rollouts that cut the episodes anywhere, nothing is lost, doubled or made up.

    CleanRL's loop trains on reset rows (https://github.com/vwxyzjn/cleanrl/issues/499), and so
    does Gymnasium's own A2C tutorial; Bolts resets the environment after each rollout.
    """
    lengths, epochs = [[1, 3, 2], [4], [2, 5]], 3
    agent = bound(counting(*lengths, mode=mode, truncation=0.5), rollout_steps=3 * rows,
                  batch_size=7, update_epochs=epochs)  # fmt: skip
    seen: list[tuple[int, int]] = []
    for _ in range(6):
        agent.rollout(3 * rows)
        minibatches = [places(batch) for batch in agent.sample()]
        in_epoch = len(minibatches) // epochs
        shuffled = [
            list(chain(*minibatches[i * in_epoch : (i + 1) * in_epoch])) for i in range(epochs)
        ]
        assert sorted(shuffled[0]) == sorted(shuffled[1]) == sorted(shuffled[2])
        assert shuffled[0] != shuffled[1]
        assert max(map(len, minibatches)) - min(map(len, minibatches)) <= 1
        assert max(map(len, minibatches)) <= 7
        seen += shuffled[0]
    assert len(seen) == agent.env_steps
    for i, own in enumerate(lengths):
        steps = [(1000 * i + e, t) for e in range(60) for t in range(own[e % len(own)])]
        column = sorted(place for place in seen if place[0] // 1000 == i)
        assert column == steps[: len(column)]
        assert len(column) > 3 * rows


@both_modes
def test_the_end_of_an_episode_is_carried_to_the_next_rollout(mode: AutoresetMode) -> None:
    agent = bound(counting([4], [9], mode=mode), rollout_steps=8, batch_size=8)
    valid = []
    for _ in range(2):
        agent.rollout(8)
        valid.append(agent.replay_buffer.valid[0].tolist())
    assert valid == [[True, True], [mode == SAME_STEP, True]]
    assert places(agent.compute_advantages())[0] == ((1, 0) if mode == SAME_STEP else (1000, 4))


# ---- 2. the right numbers --------------------------------------------------------------------


class Lookup(nn.Module):
    """Values a CountingEnv's steps 0 to 3 as it is told, whatever the episode."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        return observations.new_zeros(len(observations), 2), self.values[observations[:, 1].long()]


def advantages(agent: Any) -> dict[tuple[int, int], float]:
    batch = agent.compute_advantages()
    assert torch.equal(batch["returns"], batch["advantages"] + batch["values"])
    return dict(zip(places(batch), batch["advantages"].tolist(), strict=True))


BY_HAND = {  # rewards 1, 2, 3 and values 8, 4, 2, 16 with γ = λ = ½; δ_0 = -5, δ_1 = -1
    "terminated": [-5.1875, -0.75, 1.0],  # δ_2 = 3 - 2
    "truncated": [-4.6875, 1.25, 9.0],  # δ_2 = 3 + ½ 16 - 2
}


@both_modes
@pytest.mark.parametrize("end", BY_HAND)
def test_advantages_are_those_computed_by_hand(mode: AutoresetMode, end: str) -> None:
    """The value after a time limit counts, of the true last observation; after an end it doesn't.

    One `done` for both is the most copied bug there is: https://github.com/DLR-RM/
    stable-baselines3/issues/633, https://github.com/vwxyzjn/cleanrl/issues/198,
    https://github.com/Toni-SM/skrl/issues/224, Lightning's own Fabric example.
    """
    env = counting([3], [3], mode=mode, truncation=float(end == "truncated"))
    agent = bound(env, Lookup(8.0, 4.0, 2.0, 16.0), rollout_steps=16)
    agent.rollout(16)
    for episode in (0, 1, 1000, 1001):
        assert [advantages(agent)[episode, t] for t in range(3)] == BY_HAND[end]


@both_modes
def test_a_rollout_that_ends_in_mid_episode_bootstraps(mode: AutoresetMode) -> None:
    agent = bound(counting([3], mode=mode), Lookup(8.0, 4.0, 2.0, 16.0), rollout_steps=2,
                  batch_size=2)  # fmt: skip
    agent.rollout(2)
    assert advantages(agent) == {(0, 0): -5.25, (0, 1): -1.0}


def test_an_end_that_is_also_truncated_is_an_end() -> None:
    """https://github.com/DLR-RM/stable-baselines3/pull/1276"""

    class BothEnv(CountingEnv):
        def step(self, action: Any) -> Any:
            *result, terminated, truncated, info = super().step(action)
            return *result, terminated or truncated, terminated or truncated, info

    env = SyncVectorEnv([lambda: BothEnv([3])])
    agent = bound(env, Lookup(8.0, 4.0, 2.0, 16.0), rollout_steps=16)
    agent.rollout(16)
    assert [advantages(agent)[0, t] for t in range(3)] == BY_HAND["terminated"]


def test_both_autoreset_modes_give_the_same_advantages() -> None:
    """SAME_STEP takes the last observation from `final_obs`, NEXT_STEP from the next row."""
    found = []
    for mode in (NEXT_STEP, SAME_STEP):
        agent = bound(counting([1, 3, 2], [3], [], mode=mode, truncation=0.5),
                      rollout_steps=150, batch_size=50)  # fmt: skip
        agent.rollout(150)
        known = advantages(agent)
        open_ends = {max(place for place in known if place[0] // 1000 == i)[0] for i in range(3)}
        found.append({place: a for place, a in known.items() if place[0] not in open_ends})
    shared = found[0].keys() & found[1].keys()
    assert len(shared) > 80
    assert [found[0][k] for k in shared] == pytest.approx([found[1][k] for k in shared], abs=1e-5)


@pytest.mark.parametrize("space", ACTION_SPACES.values(), ids=ACTION_SPACES)
@pytest.mark.parametrize("normalizes", [False, True])
def test_the_first_minibatch_has_ratio_one_and_no_kl(space: Space, normalizes: bool) -> None:
    """Against the distribution that acted, which is remembered here step by step."""

    class Remembering(PPOAgent):
        def act(self, observations: Any, deterministic: bool = False) -> Any:
            actions, _ = super().act(observations, deterministic)
            return actions, {"acted": self.evaluate_actions(observations, actions)[0]}

    observed = spaces.Box(-1, 1, (3,))
    agent = bound(SyncVectorEnv([lambda: RandomEnv(observed, space)] * 4), cls=Remembering,
                  normalize_observations=normalizes)  # fmt: skip
    for _ in range(2):
        agent.rollout(64)
        buffer, batch = agent.replay_buffer, agent.compute_advantages()
        acted = torch.from_numpy(buffer.remembered["acted"][buffer.valid])
        assert torch.allclose(batch["log_probs"], acted, atol=1e-6)
        outputs = agent.training_step(next(agent.sample()), 0)
        assert outputs["approx_kl"].item() == pytest.approx(0, abs=1e-6)
        assert outputs["clip_fraction"] == 0
        assert outputs["policy_loss"].item() == pytest.approx(0, abs=1e-6)  # -mean of normalised A


def test_a_clipped_value_loss_is_the_larger_one_and_keeps_its_scale() -> None:
    """LB3 takes only the clipped one; SheepRL's ½ comes and goes with the clip."""
    agent = bound(counting([3]), Lookup(8.0, 4.0, 2.0, 16.0), rollout_steps=16)
    agent.rollout(16)
    batch = agent.compute_advantages()
    batch["values"] = batch["values"] - 1.0  # so the network has moved by 1 since
    losses = {}
    for clip in (None, 0.25, 100.0):
        agent.config = PPOConfig(**(SETTINGS | {"value_clip_range": clip}))
        losses[clip] = agent.training_step(batch, 0)["value_loss"].item()
    new, old, targets = batch["values"] + 1, batch["values"], batch["returns"]
    squares = torch.maximum((new - targets) ** 2, (old + 0.25 - targets) ** 2)
    unclipped = 0.5 * (new - targets).square().mean().item()
    assert [losses[None], losses[100.0]] == pytest.approx([unclipped] * 2)
    assert losses[0.25] == pytest.approx(0.5 * squares.mean().item())
    assert losses[0.25] > losses[None]


# ---- 3. the right updates --------------------------------------------------------------------


def reference_loss(network: nn.Module, batch: Any, kind: str, settings: dict) -> Tensor:
    """PPO's loss (Schulman et al. 2017, eq. 9) with nothing but torch."""
    parameters, values = network(batch["observations"])
    if kind == "discrete":
        policy: Any = torch.distributions.Categorical(logits=parameters)
    else:
        mean, log_std = parameters.chunk(2, dim=-1)
        normal = torch.distributions.Normal(mean, log_std.exp())
        policy = torch.distributions.Independent(normal, 1)
    a = batch["advantages"]
    a = (a - a.mean()) / (a.std() + 1e-8)
    ratio = (policy.log_prob(batch["actions"]) - batch["log_probs"]).exp()
    clip = settings["clip_range"]
    surrogate = torch.min(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a).mean()
    value_loss = 0.5 * (values - batch["returns"]).pow(2).mean()
    entropy = policy.entropy().mean()
    return -surrogate + settings["value_coef"] * value_loss - settings["entropy_coef"] * entropy


def differences(network: nn.Module, other: nn.Module) -> float:
    pairs = zip(network.parameters(), other.parameters(), strict=True)
    return max((p - q).abs().max().item() for p, q in pairs)


@pytest.mark.parametrize("batch_size", [64, 16])
@pytest.mark.parametrize("kind", ["discrete", "box"])
def test_the_updates_of_an_iteration_equal_plain_pytorch(
    tmp_path: Path, kind: str, batch_size: int
) -> None:
    space = spaces.Discrete(3) if kind == "discrete" else ACTION_SPACES["box"]
    agent = make_agent(cls=RecordingPPO, batch_size=batch_size, update_epochs=3)
    env = endless(make=lambda: IdentityEnv(space))
    loader = EnvDataLoader(agent, env, seed=0)
    plain = copy.deepcopy(agent.network)
    fit(agent, loader, tmp_path, max_steps=1)
    assert agent.updates == [3 * 64 // batch_size]
    adam = torch.optim.Adam(plain.parameters(), SETTINGS["learning_rate"], eps=1e-5)
    before = differences(agent.network, plain)
    for batch in agent.iterations[0]:
        adam.zero_grad()
        reference_loss(plain, batch, kind, SETTINGS).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), SETTINGS["max_grad_norm"])
        adam.step()
    assert differences(agent.network, plain) < 1e-6 < 1e-3 < before


def make_sb3(env: gym.Env, **options: Any) -> Any:
    """Make Stable-Baselines3's PPO, or skip the test."""
    sb3 = pytest.importorskip("stable_baselines3", reason="the extra 'bench' is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sb3.PPO("MlpPolicy", env, device="cpu", **options)
    model.set_logger(sb3.common.logger.Logger(None, []))
    return model


def matching(network: Any, policy: Any) -> list[tuple[Tensor, Tensor]]:
    """Pair the weights of an ActorCriticNetwork with those of SB3's policy."""
    pairs = []
    for half, net in enumerate((policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net)):
        for layer, linear in zip(network.hidden, net[::2], strict=True):
            pairs += [(layer.weight[half].T, linear.weight), (layer.bias[half, 0], linear.bias)]
    actor = network.actor
    if isinstance(actor, GaussianHead):
        pairs.append((actor.log_std, policy.log_std))
        actor = actor.linear
    for ours, theirs in ((actor, policy.action_net), (network.critic, policy.value_net)):
        pairs += [(ours.weight, theirs.weight), (ours.bias, theirs.bias)]
    assert len(pairs) == len(list(policy.parameters()))
    return pairs


def sb3_buffer(buffer: Any, data: dict[str, Tensor], batch: dict[str, Tensor]) -> None:
    """Fill SB3's rollout buffer with one of ours, of one sub-environment."""
    starts = torch.cat([torch.ones(1, 1, dtype=torch.bool), data["terminated"]]).numpy()
    for t in range(len(batch["values"])):
        buffer.add(
            data["observations"][t].numpy(), data["actions"][t].reshape(1, -1).numpy(),
            data["rewards"][t].numpy(), starts[t], batch["values"][t : t + 1],
            batch["log_probs"][t : t + 1],
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["discrete", "box"])
def test_the_updates_of_an_iteration_equal_stable_baselines3(tmp_path: Path, kind: str) -> None:
    """From the same weights and the same rollout: advantages and weights agree.

    The value loss of Stable-Baselines3 has no ½, so its coefficient is half of ours.
    """
    action_space = ACTION_SPACES["box"] if kind == "box" else spaces.Discrete(3)

    def make() -> gym.Env:
        return RandomEnv(spaces.Box(-1, 1, (3,)), action_space)

    model = make_sb3(
        make(), n_steps=64, batch_size=64, n_epochs=3, learning_rate=1e-3, gamma=0.5,
        gae_lambda=0.5, clip_range=0.2, ent_coef=0.01, vf_coef=0.25, max_grad_norm=0.5,
    )  # fmt: skip
    agent = make_agent(cls=RecordingPPO, batch_size=64, update_epochs=3)
    loader = EnvDataLoader(agent, endless(1, make), seed=0)
    with torch.no_grad():
        for ours, theirs in matching(agent.network, model.policy):
            theirs.copy_(ours)
    fit(agent, loader, tmp_path, max_steps=1)
    batch, data = agent.iterations[0][0], agent.replay_buffer.tensors()
    sb3_buffer(model.rollout_buffer, data, batch)
    with torch.no_grad():
        last_values = model.policy.predict_values(data["observations"][-1])
    model.rollout_buffer.compute_returns_and_advantage(last_values, data["terminated"][-1].numpy())
    assert np.allclose(model.rollout_buffer.advantages[:, 0], batch["advantages"], atol=1e-6)
    before = [(a - b).abs().max().item() for a, b in matching(agent.network, model.policy)]
    model.train()
    after = [(a - b).abs().max().item() for a, b in matching(agent.network, model.policy)]
    assert max(after) < 1e-6 < 1e-3 < max(before)


@pytest.mark.parametrize(("target_kl", "updates"), [(1e-9, 2), (1e9, 8), (None, 8)])
def test_target_kl_stops_the_updates_of_an_iteration_but_not_the_run(
    tmp_path: Path, target_kl: float | None, updates: int
) -> None:
    """The first minibatch has no KL, the second has; then the others are skipped.

    Where it ends the epoch instead, Lightning never evaluates again.
    """
    agent = make_agent(cls=RecordingPPO, target_kl=target_kl)
    trainer = fit(agent, endless(), tmp_path, max_env_steps=192, evaluate_every_env_steps=64,
                  evaluation_episodes=1)  # fmt: skip
    assert agent.updates == [updates] * 3
    assert trainer.global_step == 3
    assert "val_episode_return" in trainer.callback_metrics


@pytest.mark.parametrize("anneals", [False, True])
def test_learning_rate_and_clip_range_are_annealed_once_an_iteration(
    tmp_path: Path, anneals: bool
) -> None:
    agent = make_agent(cls=RecordingPPO, anneal_learning_rate=anneals, anneal_clip_range=anneals)
    fit(agent, endless(), tmp_path, max_env_steps=256)
    parts = [1.0, 0.75, 0.5, 0.25] if anneals else [1.0] * 4
    expected = [(1e-3 * part, 0.2 * part) for part in parts for _ in range(8)]
    assert np.allclose(agent.rates, expected, rtol=1e-6)


def test_evaluating_during_training_changes_nothing(tmp_path: Path) -> None:
    """Bolts' DQN refills the replay buffer in `trainer.test`; a normaliser is easily updated."""
    settings = {"normalize_observations": True, "normalize_rewards": True}
    agents = [make_agent(**settings) for _ in range(2)]
    fit(agents[0], "CartPole-v1", tmp_path, max_env_steps=300)
    fit(agents[1], "CartPole-v1", tmp_path, max_env_steps=300, evaluate_every_env_steps=64,
        evaluation_episodes=3)  # fmt: skip
    assert differences(agents[0], agents[1]) == 0
    assert agents[0].env_steps == agents[1].env_steps
    assert agents[0].episodes["episode_return"].tolist() == agents[1].episodes[
        "episode_return"
    ].tolist()  # fmt: skip


# ---- normalisation ---------------------------------------------------------------------------


def test_observations_are_scaled_by_what_was_known_before_the_rollout() -> None:
    class PushLeft(PPOAgent):  # always, so that the same observations come
        def act(self, observations: Any, deterministic: bool = False) -> Any:
            return torch.zeros(len(observations), dtype=torch.int64), {}

    plain, scaled = (
        bound(gym.make_vec("CartPole-v1", 2), None, PushLeft, rollout_steps=100,
              normalize_observations=normalizes)
        for normalizes in (False, True)
    )  # fmt: skip
    seen: list[Any] = []
    for _ in range(3):
        for agent in (plain, scaled):
            agent.rollout(100)
        raw = plain.replay_buffer.observations
        history = np.concatenate(seen) if seen else np.zeros((0, 4))
        mean = history.mean(0) if seen else 0.0
        deviation = np.sqrt((history.var(0) if seen else 1.0) + 1e-8)
        expected = ((raw - mean) / deviation).clip(-10, 10)
        assert np.allclose(scaled.replay_buffer.observations[1:], expected[1:], atol=1e-4)
        seen.append(raw[1:].reshape(-1, 4).copy())
    evaluate(scaled, "CartPole-v1", episodes=3)
    moments = scaled.observation_normalizer.moments
    assert np.allclose(moments.mean, np.concatenate(seen).mean(0))
    assert moments.count == 300


@both_modes
def test_rewards_are_scaled_by_the_deviation_of_returns_and_histories_are_not(
    mode: AutoresetMode,
) -> None:
    plain, scaled = (
        bound(counting([1, 3, 2], [4], mode=mode), normalize_rewards=n) for n in (False, True)
    )
    returns: list[float] = []
    running = [0.0, 0.0]
    for rows in (64, 20, 64, 1):  # a shortened rollout leaves old rows in the buffer
        for agent in (plain, scaled):
            agent.rollout(rows)
        raw, valid = plain.replay_buffer, plain.replay_buffer.valid.copy()
        valid[raw.size :] = False
        for t in range(raw.size):
            for i in range(2):
                if valid[t, i]:
                    running[i] = 0.5 * running[i] + float(raw.rewards[t, i])
                    returns.append(running[i])
                if raw.terminated[t, i] or not valid[t, i]:
                    running[i] = 0.0
        expected = raw.rewards / np.sqrt(np.var(returns) + 1e-8)
        assert np.allclose(scaled.replay_buffer.rewards[valid], expected[valid], rtol=1e-5)
    before = scaled.reward_scaler.state_dict()
    result = evaluate(scaled, CountingEnv([4]), episodes=2)
    assert str(scaled.reward_scaler.state_dict()) == str(before)
    assert result.returns.tolist() == [10.0, 10.0]
    assert set(scaled.episodes["episode_return"].tolist()) == {1.0, 6.0, 3.0, 10.0}


# ---- all spaces and networks -----------------------------------------------------------------


class RandomEnv(gym.Env):
    """Observes random numbers, pays random rewards, and terminates after 5 env steps."""

    def __init__(self, observation_space: Space, action_space: Space) -> None:
        self.observation_space, self.action_space = observation_space, copy.deepcopy(action_space)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        assert self.action_space.contains(action)
        return self.observation_space.sample(), self.np_random.normal(), self.t == 5, False, {}


@pytest.mark.parametrize(
    ("observations", "actions"),
    [*((space, ACTION_SPACES["discrete"]) for space in OBSERVATION_SPACES.values()),
     *((OBSERVATION_SPACES["box"], space) for space in ACTION_SPACES.values())],
    ids=[*(f"observes {name}" for name in OBSERVATION_SPACES), *ACTION_SPACES],
)  # fmt: skip
def test_every_space_trains(tmp_path: Path, observations: Space, actions: Space) -> None:
    agent = make_agent()
    loader = EnvDataLoader(agent, lambda: RandomEnv(observations, actions), num_envs=4)
    before = copy.deepcopy(agent.network)
    trainer = fit(agent, loader, tmp_path, max_steps=1)
    assert 0 < differences(agent.network, before) < 0.1
    assert all(math.isfinite(value) for value in trainer.callback_metrics.values())


class Custom(nn.Module):
    """A user's network that knows nothing of this package."""

    def __init__(self, value_axis: bool = False) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 16), nn.Linear(16, 3)
        self.value_axis = value_axis

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.head(torch.relu(self.body(observations)))
        return outputs[:, :2], outputs[:, 2:] if self.value_axis else outputs[:, 2]


def test_any_module_serves_as_network(tmp_path: Path) -> None:
    agent = make_agent(Custom())
    before = copy.deepcopy(agent.network)
    fit(agent, "CartPole-v1", tmp_path, max_env_steps=100)
    assert differences(agent.network, before) > 0


def test_values_with_an_axis_too_many_are_refused() -> None:
    """(B, 1) - (B,) is (B, B): so the critics of Lightning's and Bolts' examples learn the mean.

    https://github.com/Lightning-Universe/lightning-bolts/blob/master/src/pl_bolts/models/rl/
    ppo_model.py, lines 272 to 274, and again in 2026: https://github.com/RLinf/RLinf/issues/1568
    """
    with pytest.raises(ShapeError, match=r"values have shape \(2, 1\); expected \(2,\)"):
        EnvDataLoader(make_agent(Custom(value_axis=True)), "CartPole-v1")


def test_actions_with_an_axis_too_many_are_refused() -> None:
    """lightning-baselines3 stores (B, 1) discrete actions, whose log-probabilities are (B, B)."""

    class ColumnPPO(PPOAgent):
        def act(self, observations: Any, deterministic: bool = False) -> Any:
            actions, remembered = super().act(observations, deterministic)
            return actions[:, None], remembered

    agent = bound(gym.make_vec("CartPole-v1", 2), cls=ColumnPPO)
    with pytest.raises(ShapeError, match=r"actions of shape \(2, 1\); expected \(2,\)"):
        agent.rollout(64)


def test_advantages_can_be_normalised_by_the_rollouts_of_all_processes() -> None:
    whole = {"normalize_advantages": False, "normalize_whole_rollout": True}
    agent = bound(counting([4], [9]), rollout_steps=8, batch_size=8, **whole)
    agent.rollout(8)
    alone = agent.compute_advantages()["advantages"]
    torch.testing.assert_close(alone.mean(), torch.tensor(0.0), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(alone.std(correction=0), torch.tensor(1.0))
    raw, other = torch.tensor([0.0, 1.0, 2.0]), np.array([1.0, 8.0, 0.0])  # another's: one of 8
    agent.ranks.gather = lambda own: np.stack([own, other])
    shared = agent.standardized({"advantages": raw})["advantages"]
    everything = np.array([0.0, 1.0, 2.0, 8.0])
    expected = (everything[:3] - everything.mean()) / everything.std()
    np.testing.assert_allclose(shared, expected, rtol=1e-6)


@pytest.mark.parametrize("normalizes", [True, False])
def test_the_policy_loss_is_of_advantages_as_the_settings_say(normalizes: bool) -> None:
    agent = PPOAgent(config=PPOConfig(normalize_advantages=normalizes, normalize_rewards=False))
    loader = EnvDataLoader(agent, "CartPole-v1", num_envs=2, seed=0)
    agent.start_run(seed=0)
    agent.rollout(64)
    batch = next(iter(agent.sample()))
    batch["advantages"] = advantages = torch.linspace(1.0, 3.0, len(batch["actions"]))
    loss = agent.training_step(batch, 0)["policy_loss"]
    loader.close()  # the ratio is 1, so the loss is minus the advantages' mean
    assert loss.item() == pytest.approx(0.0 if normalizes else -advantages.mean().item(), abs=1e-5)


def test_advantages_are_normalised_once() -> None:
    with pytest.raises(ConfigError, match="expected one of the two"):
        PPOConfig(normalize_whole_rollout=True)


def test_statistics_of_rewards_are_kept_when_the_agent_goes_on_in_other_environments() -> None:
    agent = PPOAgent(config=PPOConfig(**(SETTINGS | {"normalize_rewards": True})))
    for num_envs in (2, 3):
        trainer = AgentTrainer(max_env_steps=64, num_envs=num_envs, quiet=True)
        trainer.fit(agent, "CartPole-v1")
        moments = agent.reward_scaler.moments
        EnvDataLoader(agent, "CartPole-v1", num_envs=5)
        assert agent.reward_scaler.moments is moments
