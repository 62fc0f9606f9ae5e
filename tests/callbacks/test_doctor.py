"""The doctor finds what was broken on purpose, and leaves healthy runs in peace."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.demos.boring_classes import BoringModel

from lightning_rl import (
    AgentTrainer,
    LightningAgentModule,
    PPOAgent,
    PPOConfig,
    ReinforceAgent,
    ReinforceConfig,
)
from lightning_rl.callbacks.doctor import TUTORIAL, Doctor, entropy_left
from lightning_rl.networks.distributions import Categorical, DiagonalGaussian

pytestmark = pytest.mark.filterwarnings(
    "ignore:.isinstance.treespec:FutureWarning",  # Lightning's
    "ignore:The .*dataloader. does not have many workers:UserWarning",
)

# Small rollouts: as many iterations in fewer env steps.
SMALL = {"rollout_steps": 512, "batch_size": 128, "anneal_learning_rate": False}


def examine(
    agent: LightningAgentModule, env: Any, env_steps: int, seed: int = 0, **options: Any
) -> Doctor:
    doctor = Doctor()
    options = {"quiet": True} | options
    trainer = AgentTrainer(max_env_steps=env_steps, seed=seed, callbacks=[doctor], **options)
    trainer.fit(agent, env)
    return doctor


def small_run(agent: PPOAgent, iterations: int) -> list[str]:
    doctor = examine(agent, "CartPole-v1", 512 * iterations, num_envs=8, log_every_n_steps=1)
    return [finding.name for finding in doctor.findings]


# ---- runs that were broken on purpose ----------------------------------------------------------


class FlippedAdvantages(PPOAgent):
    def compute_advantages(self) -> dict[str, Any]:
        batch = super().compute_advantages()
        return batch | {"advantages": -batch["advantages"]}


class DetachedCritic(PPOAgent):
    def evaluate_actions(self, observations: Any, actions: Any) -> Any:
        log_probs, distribution, values = super().evaluate_actions(observations, actions)
        return log_probs, distribution, values.detach()


class DetachedPolicy(PPOAgent):
    def evaluate_actions(self, observations: Any, actions: Any) -> Any:
        _, distribution, values = super().evaluate_actions(observations, actions)
        detached = Categorical(distribution.logits.detach())  # type: ignore[attr-defined]
        return detached.log_prob(actions), detached, values


class EntropyPenalty(PPOAgent):
    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        outputs = super().training_step(batch, batch_idx)
        _, distribution, _ = self.evaluate_actions(batch["observations"], batch["actions"])
        return outputs | {"loss": outputs["loss"] + 10 * distribution.entropy().mean()}


class ComparedWithItself(PPOAgent):
    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        log_probs, _, _ = self.evaluate_actions(batch["observations"], batch["actions"])
        return super().training_step(batch | {"log_probs": log_probs.detach()}, batch_idx)


def test_a_learning_rate_far_too_high_is_a_kl_spike() -> None:
    assert small_run(PPOAgent(config=PPOConfig(**SMALL | {"learning_rate": 1.0})), 3)[0] == (
        "KL spike"
    )


def test_flipped_advantages_make_the_return_fall() -> None:
    assert "falling return" in small_run(FlippedAdvantages(config=PPOConfig(**SMALL)), 16)


def test_a_return_that_was_won_and_lost_again_is_told() -> None:
    class Forgetful(PPOAgent):
        def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
            outputs = super().training_step(batch, batch_idx)
            sign = -1 if self.env_steps > 5_000 else 1
            return outputs | {"loss": sign * outputs["policy_loss"]}

    agent = Forgetful(config=PPOConfig(**SMALL))
    doctor = examine(agent, "CartPole-v1", 10_240, num_envs=8, log_every_n_steps=1)
    (fall,) = [f for f in doctor.findings if f.name == "falling return"]
    assert fall.env_step > 5_000


def test_a_critic_cut_off_from_the_loss_explains_nothing_and_has_dead_gradients() -> None:
    found = small_run(DetachedCritic(config=PPOConfig(**SMALL)), 20)
    assert "explained variance" in found
    assert "dead gradients" in found


def test_a_policy_cut_off_from_the_loss_has_dead_gradients_and_never_moves() -> None:
    doctor = examine(
        DetachedPolicy(config=PPOConfig(**SMALL)), "CartPole-v1", 512 * 7, log_every_n_steps=1
    )
    names = [finding.name for finding in doctor.findings]
    assert names == ["dead gradients", "clip fraction zero"]
    assert "network.actor.weight" in doctor.findings[0].sentence
    assert "critic" not in doctor.findings[0].sentence


def test_a_penalty_on_entropy_makes_it_collapse() -> None:
    assert "entropy collapse" in small_run(EntropyPenalty(config=PPOConfig(**SMALL)), 16)


def test_an_entropy_that_is_not_logged_is_not_judged_but_all_else_is() -> None:
    class Silent(EntropyPenalty):
        def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
            outputs = super().training_step(batch, batch_idx)
            return {name: value for name, value in outputs.items() if name != "entropy"}

    config = PPOConfig(**SMALL | {"learning_rate": 1.0})
    assert small_run(EntropyPenalty(config=config), 3) == ["KL spike", "entropy collapse"]
    assert small_run(Silent(config=config), 3) == ["KL spike"]


def test_a_tiny_clip_range_clips_too_much() -> None:
    agent = PPOAgent(config=PPOConfig(**SMALL | {"clip_range": 1e-4}))
    assert "clip fraction high" in small_run(agent, 8)


def test_a_tiny_learning_rate_clips_nothing() -> None:
    agent = PPOAgent(config=PPOConfig(**SMALL | {"learning_rate": 1e-7}))
    assert small_run(agent, 8) == ["clip fraction zero"]


def test_a_policy_compared_with_itself_is_found_even_while_the_return_rises() -> None:
    assert "clip fraction zero" in small_run(ComparedWithItself(config=PPOConfig(**SMALL)), 8)


# ---- healthy runs ------------------------------------------------------------------------------


def test_a_healthy_run_is_left_in_peace() -> None:
    assert examine(PPOAgent(), "CartPole-v1", 16_384).findings == []


def test_values_that_are_switched_off_are_not_dead() -> None:
    without = ReinforceAgent(config=ReinforceConfig(rollout_steps=256, baseline=False))
    assert examine(without, "CartPole-v1", 256 * 8).findings == []
    assert small_run(PPOAgent(config=PPOConfig(**SMALL | {"value_coef": 0.0})), 7) == []


def test_one_update_an_iteration_can_not_clip_and_that_is_fine() -> None:
    whole = {"rollout_steps": 512, "batch_size": 512, "update_epochs": 1, "learning_rate": 1e-3}
    assert small_run(PPOAgent(config=PPOConfig(**whole)), 7) == []


def test_episodes_longer_than_the_first_readings_are_waited_for() -> None:
    doctor = examine(PPOAgent(), "Pendulum-v1", 8_192, log_every_n_steps=1)
    assert doctor.findings == []


def test_weights_outside_of_the_optimizer_need_no_gradient() -> None:
    class WithTarget(PPOAgent):
        def bind_spaces(self, *args: Any, **options: Any) -> None:
            super().bind_spaces(*args, **options)
            self.target = copy.deepcopy(self.network)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.network.parameters(), 1e-3)

    assert small_run(WithTarget(config=PPOConfig(**SMALL)), 7) == []


@pytest.mark.slow
@pytest.mark.parametrize("log_every", [None, 1])
@pytest.mark.parametrize("seed", range(10))
def test_healthy_runs_of_ppo_are_left_in_peace(log_every: int | None, seed: int) -> None:
    agent = PPOAgent()
    doctor = examine(agent, "CartPole-v1", 65_536, seed, log_every_n_steps=log_every)
    assert agent.episodes.mean_return() > 300, "the run was not healthy"
    assert doctor.findings == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_other_healthy_runs_are_left_in_peace(seed: int) -> None:
    assert examine(PPOAgent(), "Acrobot-v1", 65_536, seed).findings == []
    assert examine(ReinforceAgent(), "CartPole-v1", 100_000, seed).findings == []


@pytest.mark.slow
def test_unscaled_rewards_of_pendulum_are_told_and_scaled_ones_are_not() -> None:
    (finding,) = examine(PPOAgent(), "Pendulum-v1", 40_960).findings
    assert finding.name == "explained variance"
    assert "normalize_rewards" in finding.sentence
    config = PPOConfig(normalize_rewards=True, normalize_observations=True, learning_rate=1e-3)
    assert examine(PPOAgent(config=config), "Pendulum-v1", 40_960).findings == []


# ---- how it speaks -----------------------------------------------------------------------------


@pytest.mark.parametrize("bar", [False, True])
def test_each_finding_is_one_line_on_stdout_once_and_says_where_to_read_on(
    bar: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = PPOAgent(config=PPOConfig(**SMALL | {"learning_rate": 1.0}))
    options = {"num_envs": 8, "log_every_n_steps": 1, "enable_progress_bar": bar}
    doctor = examine(agent, "CartPole-v1", 512 * 12, **options)
    shown = capsys.readouterr()
    assert "Doctor" not in shown.err
    lines = [line for line in shown.out.replace("\r", "\n").splitlines() if "Doctor" in line]
    assert lines == [finding.sentence for finding in doctor.findings]
    names = [finding.name for finding in doctor.findings]
    assert len(set(names)) == len(names) >= 2
    for finding in doctor.findings:
        assert finding.sentence.startswith(f"Doctor, at env step {finding.env_step:,}: ")
        assert finding.sentence.endswith(f" ({TUTORIAL}: {finding.name}).")
    steps = [finding.env_step for finding in doctor.findings]
    assert 0 < steps[0] <= 512


def test_of_a_healthy_run_it_is_said_that_nothing_ill_was_seen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    examine(PPOAgent(config=PPOConfig(**SMALL)), "CartPole-v1", 2048, num_envs=8)
    assert capsys.readouterr().out == "Doctor: nothing ill was seen.\n"


def test_a_new_fit_is_a_new_patient() -> None:
    doctor = Doctor()
    for rate, expected in ((1.0, 1), (1e-3, 0)):
        agent = PPOAgent(config=PPOConfig(**SMALL | {"learning_rate": rate}))
        AgentTrainer(max_env_steps=1024, seed=0, callbacks=[doctor], quiet=True).fit(
            agent, "CartPole-v1"
        )
        assert len(doctor.findings) == expected


def test_a_low_entropy_is_fine_once_the_target_is_reached() -> None:
    doctor = Doctor(target_return=5.0)  # the same run without a target is told above
    options = {"max_env_steps": 512 * 16, "num_envs": 8, "log_every_n_steps": 1, "quiet": True}
    trainer = AgentTrainer(seed=0, callbacks=[doctor], **options)
    trainer.fit(EntropyPenalty(config=PPOConfig(**SMALL)), "CartPole-v1")
    assert "entropy collapse" not in [finding.name for finding in doctor.findings]


def test_the_doctor_changes_nothing() -> None:
    weights = []
    for callbacks in ([], [Doctor()]):
        agent = PPOAgent(config=PPOConfig(**SMALL))
        trainer = AgentTrainer(max_env_steps=2048, seed=0, callbacks=callbacks, quiet=True)
        trainer.fit(agent, "CartPole-v1")
        weights.append(torch.cat([p.flatten() for p in agent.parameters()]))
    assert torch.equal(*weights)


def test_a_module_that_is_no_agent_is_not_examined() -> None:
    doctor = Doctor()
    options = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 0}
    AgentTrainer(callbacks=[doctor], log_every_n_steps=1, **options, quiet=True).fit(BoringModel())
    assert doctor.findings == []


@settings(deadline=None)
@given(st.floats(0.01, 1.0), st.integers(1, 5))
def test_of_a_gaussian_the_part_of_its_deviation_is_left(part: float, numbers: int) -> None:
    wide, narrow = (
        DiagonalGaussian(torch.zeros(1, numbers), torch.full((1, numbers), math.log(deviation)))
        for deviation in (2.0, 2.0 * part)
    )
    box = spaces.Box(-1, 1, (numbers,))
    left = entropy_left(narrow.entropy().item(), wide.entropy().item(), box)
    assert left == pytest.approx(part, rel=1e-3)
