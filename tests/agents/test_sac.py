"""SAC: its formulas by hand and by numerical integration, and that it learns and resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from lightning.pytorch import Callback
from torch import nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from lightning_rl import AgentTrainer, EnvDataLoader, SACAgent, SACConfig, evaluate
from lightning_rl.agents.replay_agent import make_target, move_target
from lightning_rl.errors import ConfigError, ShapeError, SpaceError
from lightning_rl.networks.action_values import SoftActorCriticNetwork
from lightning_rl.networks.distributions import SquashedGaussian
from lightning_rl.testing.check_agent import check_agent
from lightning_rl.testing.probe_envs import IdentityEnv

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's

SMALL = SACConfig(
    rollout_steps=32, gradient_steps=32, batch_size=32, learning_rate=3e-3, gamma=0.9, n_steps=1,
    buffer_capacity=2000, learning_starts=64, tau=0.02, critic_learning_rate=3e-3,
    initial_temperature=0.2, target_entropy=None,
)  # fmt: skip


def trainer(max_env_steps: int, **options: Any) -> AgentTrainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return AgentTrainer(
        max_env_steps=max_env_steps, seed=0, accelerator="cpu",
        **(quiet | {"enable_checkpointing": False} | options),
    )  # fmt: skip


def small(config: SACConfig = SMALL) -> SACAgent:
    return SACAgent(SoftActorCriticNetwork((16,)), config)


def identity_env() -> IdentityEnv:
    return IdentityEnv(spaces.Box(np.float32([-1, 2]), np.float32([3, 4])))


# ---- the distribution ----------------------------------------------------------------------------


def test_the_log_probability_is_that_of_torch() -> None:
    mean, log_std = torch.randn(20, 3), torch.randn(20, 3) * 0.3
    ours = SquashedGaussian(mean, log_std)
    actions, log_probs = ours.sample_with_log_prob(torch.Generator().manual_seed(0))
    theirs = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform()])
    torch.testing.assert_close(log_probs, theirs.log_prob(actions).sum(-1), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(ours.log_prob(actions), log_probs, atol=1e-3, rtol=1e-4)


def test_the_density_integrates_to_one() -> None:
    edges = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    middles = ((edges[1:] + edges[:-1]) / 2).unsqueeze(-1)
    one = torch.ones(len(middles), 1, dtype=torch.float64)
    density = SquashedGaussian(0.3 * one, -0.5 * one).log_prob(middles).exp()
    assert (density.sum() * (edges[1] - edges[0])).item() == pytest.approx(1.0, abs=1e-3)


def test_the_correction_is_finite_and_exact_far_out() -> None:
    """log(1 - tanh² u + 1e-6), as it is often written, ends at -13.8; the truth goes on."""
    mean = torch.tensor([[50.0], [-50.0], [400.0]], requires_grad=True)
    log_std = torch.full((3, 1), -20.0)
    _, log_probs = SquashedGaussian(mean, log_std).sample_with_log_prob(
        torch.Generator().manual_seed(0)
    )
    slope = 2 * np.log(2) - 2 * mean.detach().abs().squeeze(-1)
    noise = torch.randn((3, 1), generator=torch.Generator().manual_seed(0)).squeeze(-1)
    normal = -0.5 * noise**2 + 20 - 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(log_probs.detach(), normal - slope, atol=1e-3, rtol=1e-5)
    log_probs.sum().backward()
    assert torch.isfinite(mean.grad).all()


# ---- the losses ----------------------------------------------------------------------------------


def ready() -> tuple[SACAgent, dict[str, Any]]:
    agent = small()
    EnvDataLoader(agent, SyncVectorEnv([identity_env] * 2), seed=0, max_env_steps=1000)
    agent.start_run(0)
    agent.initial_rollout()
    return agent, next(iter(agent.sample()))


def gradients(module: nn.Module) -> list[Any]:
    return [p.grad for p in module.parameters()]


def test_each_loss_reaches_its_own_parameters_only() -> None:
    agent, batch = ready()
    temperature = torch.tensor(0.5)
    agent.critic_loss(batch, temperature).backward()
    assert all(g is not None for g in gradients(agent.network.critics))
    assert all(g is None for g in gradients(agent.network.actor))
    agent.zero_grad()
    agent.actor_loss(batch["observations"], temperature)[0].backward()
    assert all(g is None for g in gradients(agent.network.critics))
    assert all(g is not None for g in gradients(agent.network.actor))
    assert agent.log_temperature.grad is None
    assert all(p.requires_grad for p in agent.network.critics.parameters())


def test_the_sum_has_each_losses_gradient() -> None:
    agent, batch = ready()
    state = agent.generator.get_state()
    agent.training_step(batch, 0)["loss"].backward()
    whole = [g.clone() for g in gradients(agent.network)]
    temperature_gradient = agent.log_temperature.grad.item()
    agent.zero_grad()
    agent.generator.set_state(state)
    move_target(agent.target_critics, agent.network.critics, agent.config.tau)
    temperature = agent.log_temperature.detach().exp()
    agent.critic_loss(batch, temperature).backward()
    loss, log_probs = agent.actor_loss(batch["observations"], temperature)
    loss.backward()
    for one, other in zip(whole, gradients(agent.network), strict=True):
        torch.testing.assert_close(one, other)
    # d/d log α of -log α (log π + H̄): α falls while the entropy is above its target of -2
    assert temperature_gradient == pytest.approx(-log_probs.mean().item() + 2.0, rel=1e-4)


def test_the_critics_target_is_soft_and_takes_the_smaller_value() -> None:
    agent, batch = ready()
    rows = len(batch["rewards"])
    with torch.no_grad():
        for parameter in agent.target_critics.parameters():
            parameter.zero_()
        agent.target_critics.last.bias.copy_(torch.tensor([5.0, 3.0]).view(2, 1, 1))
        state = agent.generator.get_state()
        loss = agent.critic_loss(batch, torch.tensor(0.5))
        agent.generator.set_state(state)
        policy = agent.policy(batch["next_observations"])
        log_probs = policy.sample_with_log_prob(agent.generator)[1]
        scaled = (batch["actions"] - torch.tensor([1.0, 3.0])) / torch.tensor([2.0, 1.0])
        values = agent.network.critics(batch["observations"], scaled)
    assert scaled.abs().max() <= 1
    target = batch["rewards"] + 0.9 * (3.0 - 0.5 * log_probs)
    want = sum(0.5 * (value - target).square().sum() / rows for value in values)
    torch.testing.assert_close(loss, want)


def test_the_target_moves_by_tau() -> None:
    network = nn.Linear(2, 1)
    target = make_target(network)
    nn.init.ones_(network.weight)
    nn.init.zeros_(target.weight)
    move_target(target, network, 0.25)
    assert target.weight.tolist() == [[0.25, 0.25]]
    move_target(target, network, 1.0)
    assert torch.equal(target.weight, network.weight)


def test_actions_are_in_the_units_of_the_environment() -> None:
    agent, _ = ready()
    space = identity_env().action_space
    for actions in (agent.random_actions(500), agent.act(torch.randn(500, 2) * 100)[0]):
        assert (actions >= torch.from_numpy(space.low)).all()
        assert (actions <= torch.from_numpy(space.high)).all()
    assert agent.random_actions(500).mean(0).tolist() == pytest.approx([1.0, 3.0], abs=0.2)


def test_it_keeps_the_contract_of_every_agent() -> None:
    check_agent(small(replace(SMALL, learning_starts=32)), "Pendulum-v1")


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_it_trains_in_half_precision(precision: str) -> None:
    agent = small()
    trainer(96, precision=precision).fit(agent, "Pendulum-v1")
    assert all(torch.isfinite(p).all() for p in agent.parameters())


def test_bad_input_is_named() -> None:
    with pytest.raises(SpaceError, match=r"SAC got the action space Discrete.*Use DQNAgent"):
        EnvDataLoader(SACAgent(), "CartPole-v1")
    agent = SACAgent()
    box = spaces.Box(-1, 1, (2,))
    with pytest.raises(SpaceError, match="finite bounds"):
        agent.bind_spaces(box, spaces.Box(-np.inf, np.inf, (2,)))
    largest = float(np.finfo(np.float32).max)
    for low, high in ((1, 1), (-largest, largest)):
        with pytest.raises(SpaceError, match="the low ones below the high ones"):
            agent.bind_spaces(box, spaces.Box(low, high, (2,)))
    with pytest.raises(SpaceError, match="one axis"):
        agent.bind_spaces(box, spaces.Box(-1, 1, (2, 2)))
    network = SoftActorCriticNetwork((8,))
    network.build(box, spaces.Box(-1, 1, (3,)))
    network.build = None  # type: ignore[assignment,method-assign]
    with pytest.raises(ShapeError, match=r"actor returned .*expected \(2, 4\)"):
        SACAgent(network).bind_spaces(box, box)
    for name in ("critic_learning_rate", "initial_temperature", "learning_rate"):
        with pytest.raises(ConfigError, match=f"{name}=0"):
            SACConfig(**{name: 0})


# ---- learning and resuming -----------------------------------------------------------------------


def test_it_learns_to_do_what_it_sees() -> None:
    agent = small()
    before = trainer(96)
    before.fit(agent, SyncVectorEnv([identity_env] * 4))
    trainer(1200).fit(agent, SyncVectorEnv([identity_env] * 4))
    assert evaluate(agent, identity_env, 20).mean > 7.4  # of 8; random actions get 5.3
    assert 0 < agent.log_temperature.exp() < 0.2


class SaveAt(Callback):
    def __init__(self, iteration: int, path: Path) -> None:
        self.iteration, self.path = iteration, path

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.iteration:
            trainer.save_checkpoint(self.path)


def test_a_resumed_run_is_the_run_that_went_on(tmp_path: Path) -> None:
    path = tmp_path / "agent.ckpt"
    agents = [small(), small()]
    trainer(256, callbacks=[SaveAt(3, path)]).fit(agents[0], "Pendulum-v1")
    trainer(256).fit(agents[1], "Pendulum-v1", ckpt_path=path)
    first, second = (agent.state_dict() for agent in agents)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert agents[0].num_updates == agents[1].num_updates == 6 * 32
    loaded = SACAgent.load_from_checkpoint(
        path, network=SoftActorCriticNetwork((16,)), weights_only=True
    )
    assert loaded(torch.zeros(2, 3)).shape == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_it_solves_pendulum_in_8000_env_steps(seed: int) -> None:
    agent = SACAgent()
    run = trainer(8_000)
    run.seed = seed
    run.fit(agent, "Pendulum-v1")
    assert evaluate(agent, "Pendulum-v1", episodes=100, seed=10_000 * (seed + 1)).mean > -200


def test_a_temperature_that_is_not_learned_stays_as_it_is() -> None:
    for learns in (False, True):
        agent = small(replace(SMALL, learn_temperature=learns))
        trainer(200).fit(agent, identity_env())
        assert (agent.log_temperature.exp().item() == pytest.approx(0.2)) != learns


def test_both_learning_rates_are_annealed_where_asked_for() -> None:
    for anneals in (False, True):
        agent = small(replace(SMALL, anneal_learning_rate=anneals))
        run = trainer(200)
        run.fit(agent, identity_env())
        rates = [group["lr"] for group in run.optimizers[0].param_groups]
        assert rates == ([0, 0] if anneals else [3e-3, 3e-3])
