"""DQN: its targets by hand, its values where they are known, and that it learns and resumes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import lightning
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Timer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_rl import AgentTrainer, DQNAgent, DQNConfig, EnvDataLoader, evaluate
from lightning_rl.agents.replay_agent import ReplayAgentModule
from lightning_rl.buffers.prioritized import PrioritizedReplayBuffer
from lightning_rl.errors import ConfigError, ShapeError, SpaceError, StateError
from lightning_rl.networks.action_values import QNetwork
from lightning_rl.testing.check_agent import check_agent
from lightning_rl.testing.probe_envs import IdentityEnv, TwoStateEnv

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's

SMALL = DQNConfig(
    rollout_steps=32, gradient_steps=32, batch_size=32, learning_rate=1e-2, gamma=0.9, n_steps=1,
    buffer_capacity=2000, learning_starts=64, target_update_interval=8, tau=1.0, double_q=True,
    exploration_fraction=1.0, final_epsilon=0.5, anneal_learning_rate=True,
)  # fmt: skip


def trainer(max_env_steps: int | None, **options: Any) -> AgentTrainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return AgentTrainer(
        max_env_steps=max_env_steps, seed=0, accelerator="cpu",
        **(quiet | {"enable_checkpointing": False} | options),
    )  # fmt: skip


def bound(env: Any = "CartPole-v1", config: DQNConfig = SMALL, **options: Any) -> DQNAgent:
    agent = DQNAgent(QNetwork((16,)), config)
    agent.max_env_steps = 1000
    EnvDataLoader(agent, env, seed=0, max_env_steps=1000, **options)
    return agent


class Table(nn.Module):
    """Gives fixed values for every observation."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, observations: Tensor) -> Tensor:
        return self.values.expand(len(observations), -1)


# ---- the formulas --------------------------------------------------------------------------------


@pytest.mark.parametrize(("double_q", "value"), [(True, 3.0), (False, 9.0)])
def test_double_q_chooses_by_one_network_and_values_by_the_other(
    double_q: bool, value: float
) -> None:
    agent = DQNAgent(Table(5.0, 1.0), replace(SMALL, double_q=double_q))
    EnvDataLoader(agent, "CartPole-v1", num_envs=1)
    agent.target_network = Table(3.0, 9.0)
    batch = {
        "next_observations": torch.zeros(3, 4),
        "rewards": torch.tensor([1.0, 1.0, 1.0]),
        "terminated": torch.tensor([False, True, False]),
        "discounts": torch.tensor([0.9, 0.9, 0.81]),
    }
    want = torch.tensor([1 + 0.9 * value, 1.0, 1 + 0.81 * value])
    torch.testing.assert_close(agent.td_targets(batch), want)


def test_the_target_network_follows_only_every_so_many_updates() -> None:
    agent = bound()
    agent.start_run(0)
    agent.initial_rollout()
    batch = next(iter(agent.sample()))
    nn.init.ones_(agent.network.layers[0].weight)
    agent.training_step(batch, 0)  # update 0: copied
    nn.init.zeros_(agent.network.layers[0].weight)
    for _ in range(7):
        agent.training_step(batch, 0)
        assert agent.target_network.layers[0].weight.unique().tolist() == [1.0]
    agent.training_step(batch, 0)  # update 8
    assert agent.target_network.layers[0].weight.unique().tolist() == [0.0]
    assert not any(p.requires_grad for p in agent.target_network.parameters())
    assert any(name.startswith("target_network") for name in agent.state_dict())


def test_epsilon_falls_linearly_and_greedy_acting_ignores_it() -> None:
    agent = bound(config=replace(SMALL, exploration_fraction=0.5, final_epsilon=0.1))
    agent.start_run(0)
    for env_steps, epsilon in ((0, 1.0), (250, 0.55), (500, 0.1), (900, 0.1)):
        agent.env_steps = env_steps
        agent.rollout(1)
        assert agent.epsilon == pytest.approx(epsilon)
    agent.epsilon = 1.0
    actions, remembered = agent.act(torch.zeros(500, 4), deterministic=True)
    assert len(actions.unique()) == 1
    assert not remembered
    assert agent.act(torch.zeros(500, 4))[0].unique().tolist() == [0, 1]


def test_epsilon_falls_by_the_clock_where_time_is_the_budget(monkeypatch: Any) -> None:
    class StopSoon(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == 2

    for name in ("time_elapsed", "time_remaining"):
        monkeypatch.setattr(Timer, name, lambda *_: 300.0)
    agent = DQNAgent(QNetwork((16,)), SMALL)
    options = {"max_env_steps": None, "max_time": {"minutes": 10}, "callbacks": [StopSoon()]}
    trainer(**options).fit(agent, "CartPole-v1")
    assert agent.epsilon == 0.75


# ---- an iteration --------------------------------------------------------------------------------


@pytest.mark.parametrize("num_envs", [1, 3])
def test_env_steps_and_updates_are_counted_without_reset_rows(num_envs: int) -> None:
    agent = DQNAgent(QNetwork((16,)), SMALL)
    trainer(320, num_envs=num_envs).fit(agent, "CartPole-v1")
    assert 320 <= agent.env_steps < 320 + 10 * num_envs
    assert len(agent.replay_buffer) == agent.env_steps
    assert agent.num_updates == 8 * 32  # the first 64 env steps are the warm-up


def test_the_warm_up_is_random_and_made_once() -> None:
    agent = DQNAgent(Table(1.0, 0.0), SMALL)
    trainer(96).fit(agent, "CartPole-v1")
    first = agent.replay_buffer
    assert first.actions[:8].mean() == pytest.approx(0.5, abs=0.2)
    trainer(32).fit(agent, "CartPole-v1")  # what was learned from is kept
    assert agent.replay_buffer is first
    assert 128 <= agent.env_steps < 128 + 3 * agent.default_num_envs


def test_evaluation_leaves_the_buffer_alone() -> None:
    """pl_bolts' test_dataloader refilled it (pl_bolts/models/rl/dqn_model.py, lines 319-333)."""
    agent = DQNAgent(QNetwork((16,)), SMALL)
    run = trainer(96)
    run.fit(agent, "CartPole-v1")
    head, held = agent.replay_buffer.head, agent.replay_buffer.observations.copy()
    run.test(agent, "CartPole-v1")
    evaluate(agent, "CartPole-v1", episodes=2)
    assert agent.replay_buffer.head == head
    assert (agent.replay_buffer.observations == held).all()


def test_it_keeps_the_contract_of_every_agent() -> None:
    check_agent(DQNAgent(QNetwork((16,)), replace(SMALL, learning_starts=32)), "CartPole-v1")
    config = replace(SMALL, priority_exponent=0.6, n_steps=3, learning_starts=32)
    check_agent(DQNAgent(QNetwork((16,)), config), "CartPole-v1")


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_it_trains_in_half_precision_and_is_clipped(precision: str) -> None:
    agent = DQNAgent(QNetwork((16,)), SMALL)
    trainer(96, precision=precision).fit(agent, "CartPole-v1")
    assert all(torch.isfinite(p).all() for p in agent.parameters())


# ---- bad input -----------------------------------------------------------------------------------


def test_bad_input_is_named() -> None:
    with pytest.raises(SpaceError, match=r"DQN got the action space Box.*Use SACAgent"):
        EnvDataLoader(DQNAgent(), "Pendulum-v1")
    with pytest.raises(ShapeError, match=r"expected \(2, 2\)"):
        EnvDataLoader(DQNAgent(Table(1.0, 2.0, 3.0)), "CartPole-v1")
    with pytest.raises(ConfigError, match="learning_starts=10; expected at least batch_size=64"):
        DQNConfig(learning_starts=10)
    with pytest.raises(ConfigError, match="at most buffer_capacity=500"):
        DQNConfig(buffer_capacity=500)
    for name in ("tau", "target_update_interval", "final_epsilon", "gamma", "max_grad_norm"):
        with pytest.raises(ConfigError, match=f"{name}=-1"):
            DQNConfig(**{name: -1})
    with pytest.raises(StateError, match="batch of 32, but the buffer holds 0"):
        list(bound().sample())


def test_several_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    agent = DQNAgent(QNetwork((16,)), replace(SMALL, buffer_directory=str(tmp_path)))
    agent.trainer = trainer(10)
    agent.setup("fit")
    type(agent.trainer).world_size, before = property(lambda _: 2), type(agent.trainer).world_size
    try:
        with pytest.raises(ConfigError, match="overwrite each other"):
            agent.setup("fit")
    finally:
        type(agent.trainer).world_size = before


# ---- learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("priority_exponent", [0.0, 0.6])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_it_finds_the_values_of_two_states(mode: AutoresetMode, priority_exponent: float) -> None:
    """Episodes are truncated after 8 steps, where the bootstrap must go on."""
    env = SyncVectorEnv([TwoStateEnv] * 4, autoreset_mode=mode)
    config = replace(SMALL, priority_exponent=priority_exponent, learning_rate=0.1)
    agent = DQNAgent(QNetwork(()), config)  # a table: the observation is one of two
    trainer(1000).fit(agent, env)
    v_1 = 1 / (1 - 0.9)
    v_0 = 0.9 * v_1 - 0.5
    want = torch.tensor([[0.9 * v_0, v_0], [0.9 * v_0, v_1]])
    got = agent.network(torch.tensor([0, 1]))
    torch.testing.assert_close(got.detach(), want, atol=0.3, rtol=0)
    assert isinstance(agent.replay_buffer, PrioritizedReplayBuffer) == bool(priority_exponent)


def test_it_learns_from_dicts_and_offset_actions() -> None:
    class Shifted(gym.Wrapper):
        noise = spaces.Box(-1, 1, (2,))
        observation_space = spaces.Dict({"cue": spaces.Discrete(3), "noise": noise})
        action_space = spaces.Discrete(3, start=5)

        def reset(self, **options: Any) -> Any:
            cue, info = self.env.reset(**options)
            return {"cue": cue, "noise": self.noise.sample()}, info

        def step(self, action: Any) -> Any:
            cue, *rest = self.env.step(action - 5)
            return {"cue": cue, "noise": self.noise.sample()}, *rest

    agent = DQNAgent(QNetwork((32,)), SMALL)
    env = SyncVectorEnv([lambda: Shifted(IdentityEnv(spaces.Discrete(3)))] * 4)
    trainer(1200).fit(agent, env)
    assert evaluate(agent, lambda: Shifted(IdentityEnv(spaces.Discrete(3))), 10).mean > 7.5


# ---- resuming ------------------------------------------------------------------------------------


class SaveAt(Callback):
    def __init__(self, iteration: int, path: Path) -> None:
        self.iteration, self.path = iteration, path

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.iteration:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(
    "options", [{}, {"priority_exponent": 0.6, "n_steps": 3}, {"buffer_capacity": 150}]
)
def test_a_resumed_run_is_the_run_that_went_on(tmp_path: Path, options: dict[str, Any]) -> None:
    config = replace(SMALL, **options)
    path = tmp_path / "agent.ckpt"
    agents = [DQNAgent(QNetwork((16,)), config) for _ in range(2)]
    trainer(320, callbacks=[SaveAt(4, path)]).fit(agents[0], "CartPole-v1")
    trainer(320).fit(agents[1], "CartPole-v1", ckpt_path=path)
    first, second = (agent.state_dict() for agent in agents)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert agents[0].num_updates == agents[1].num_updates
    assert agents[0].env_steps == agents[1].env_steps
    batches = [agent.replay_buffer.sample(20, torch.Generator()) for agent in agents]
    assert torch.equal(batches[0]["observations"], batches[1]["observations"])


def test_a_loaded_agent_acts_alike_and_brings_its_buffer(tmp_path: Path) -> None:
    agent = DQNAgent(config=SMALL)
    run = trainer(96)
    run.fit(agent, "CartPole-v1")
    run.save_checkpoint(tmp_path / "agent.ckpt")
    loaded = DQNAgent.load_from_checkpoint(tmp_path / "agent.ckpt", weights_only=True)
    observations = torch.randn(50, 4)
    assert torch.equal(agent(observations), loaded(observations))
    EnvDataLoader(loaded, "CartPole-v1")
    assert len(loaded.replay_buffer) == len(agent.replay_buffer)


def test_a_folder_of_transitions_serves_a_resumed_run(tmp_path: Path) -> None:
    folder, path = tmp_path / "replay", tmp_path / "agent.ckpt"
    config = replace(SMALL, buffer_directory=str(folder))

    class Copy(SaveAt):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            super().on_train_batch_end(trainer)
            if trainer.global_step == self.iteration:
                shutil.copytree(folder, tmp_path / "then")

    agents = [DQNAgent(QNetwork((16,)), config) for _ in range(2)]
    trainer(192, callbacks=[Copy(2, path)]).fit(agents[0], "CartPole-v1")
    assert path.stat().st_size < 60_000  # it refers to the folder, which was not copied into it
    shutil.rmtree(folder)
    (tmp_path / "then").rename(folder)
    trainer(192).fit(agents[1], "CartPole-v1", ckpt_path=path)
    first, second = (agent.state_dict() for agent in agents)
    assert all(torch.equal(first[name], second[name]) for name in first)


# ---- the proof -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_it_solves_cartpole_in_50000_env_steps_by_default(seed: int) -> None:
    agent = DQNAgent()
    run = trainer(50_000)
    run.seed = seed
    run.fit(agent, "CartPole-v1")
    assert evaluate(agent, "CartPole-v1", episodes=100, seed=1000 + seed).mean >= 475


@pytest.mark.parametrize("budget", [50, 64])
def test_a_budget_that_random_actions_use_up_is_refused(budget: int) -> None:
    agent = DQNAgent(QNetwork((16,)), SMALL)
    trainer = make_budget_trainer(budget)
    with pytest.raises(ConfigError, match=f"max_env_steps={budget}, and learning_starts=64"):
        trainer.fit(agent, "CartPole-v1")
    assert agent.env_steps == 0
    make_budget_trainer(100).fit(agent, "CartPole-v1")
    trainer.fit(agent, "CartPole-v1")  # the buffer is filled by now
    assert agent.num_updates > 0


def make_budget_trainer(budget: int) -> AgentTrainer:
    return AgentTrainer(
        max_env_steps=budget, seed=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def test_a_checkpoint_does_not_say_where_to_write(tmp_path: Path) -> None:
    """Its `buffer_directory` is left out with a warning; the user's own is taken."""
    folder, path = tmp_path / "replay", tmp_path / "agent.ckpt"
    run = trainer(96)
    run.fit(DQNAgent(config=replace(SMALL, buffer_directory=str(folder))), "CartPole-v1")
    run.save_checkpoint(path)
    shutil.rmtree(folder)
    with pytest.warns(UserWarning, match=r"buffer_directory=.* is left out"):
        loaded = DQNAgent.load_from_checkpoint(path)
    assert loaded.config.buffer_directory is None
    assert not folder.exists()


def test_a_run_without_checkpoints_leaves_its_transitions_in_the_folder(tmp_path: Path) -> None:
    config = replace(SMALL, buffer_directory=str(tmp_path))
    agents = [DQNAgent(QNetwork((16,)), config) for _ in range(2)]
    make_budget_trainer(192).fit(agents[0], "CartPole-v1")
    EnvDataLoader(agents[1], "CartPole-v1")
    assert len(agents[1].replay_buffer) == len(agents[0].replay_buffer) > 0


class Fails(Callback):
    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3:
            raise KeyError("in mid-run")


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
@pytest.mark.parametrize("plain", [False, True])
def test_a_run_that_fails_leaves_its_transitions_in_the_folder(tmp_path: Path, plain: bool) -> None:
    """At once, while the agent is still there, and under any trainer."""
    agent = bound(config=replace(SMALL, buffer_directory=str(tmp_path)))
    options: dict[str, Any] = {"callbacks": [Fails()], "logger": False, "accelerator": "cpu"}
    options |= {"enable_checkpointing": False, "enable_progress_bar": False}
    options["enable_model_summary"] = False
    data: Any = EnvDataLoader(agent, "CartPole-v1") if plain else "CartPole-v1"
    kind: Any = lightning.Trainer if plain else AgentTrainer
    with pytest.raises(KeyError, match="in mid-run"):
        kind(max_steps=9, **options).fit(agent, data)
    size = len(agent.replay_buffer)
    assert size >= SMALL.learning_starts
    again = bound(config=replace(SMALL, buffer_directory=str(tmp_path)))
    assert len(again.replay_buffer) == size


def test_a_large_buffer_in_checkpoints_is_said_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_rl.agents.replay_agent.CHECKPOINT_BYTES", 1000)
    config = replace(SMALL, buffer_capacity=1000)
    options: dict[str, Any] = {"default_root_dir": tmp_path, "enable_checkpointing": True}
    with pytest.warns(UserWarning, match=r"0\.0 GB of 600 .* 0\.0 MB .* buffer_directory"):
        trainer(600, **options).fit(DQNAgent(config=config), "CartPole-v1")
    in_folder = replace(config, buffer_directory=str(tmp_path / "buffer"))
    options["default_root_dir"] = tmp_path / "other"
    trainer(600, **options).fit(DQNAgent(config=in_folder), "CartPole-v1")
    trainer(600).fit(DQNAgent(config=config), "CartPole-v1")


@pytest.mark.parametrize("anneals", [True, False])
def test_the_learning_rate_is_annealed_only_where_that_is_asked_for(anneals: bool) -> None:
    agent = DQNAgent(config=replace(SMALL, learning_rate=0.01, anneal_learning_rate=anneals))
    rates: list[float] = []

    class Looks(Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    AgentTrainer(max_env_steps=400, num_envs=1, quiet=True, callbacks=[Looks()]).fit(
        agent, "CartPole-v1"
    )
    assert rates[0] <= 0.01
    assert (rates[-1] < rates[0]) == anneals
    assert anneals or set(rates) == {0.01}


def test_a_replay_agent_without_random_actions_is_told_to_define_them() -> None:
    with pytest.raises(NotImplementedError, match=r"define random_actions\(count\)"):
        ReplayAgentModule.random_actions(DQNAgent(), 4)


def test_a_run_that_fails_before_it_has_a_buffer_raises_its_own_error(tmp_path: Path) -> None:
    env, agent = gym.make_vec("CartPole-v1"), DQNAgent(config=SMALL)
    agent.bind_spaces(env.single_observation_space, env.single_action_space)

    class Absent(Callback):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            raise RuntimeError("before the first rollout")

    trainer = AgentTrainer(max_env_steps=200, callbacks=[Absent()], quiet=True)
    with pytest.raises(RuntimeError, match="before the first rollout"):
        trainer.fit(agent, DataLoader(range(4)))
