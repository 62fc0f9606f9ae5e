"""Promises of `AgentTrainer` and agents: "it is a Lightning Trainer"."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import gymnasium as gym
import lightning
import pytest
import torch
from gymnasium.vector import VectorEnv
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric

from lightning_rl import (
    AgentTrainer,
    EnvDataLoader,
    LightningAgentModule,
    PPOAgent,
    PPOConfig,
    ReinforceAgent,
    evaluate,
)
from lightning_rl.errors import ConfigError
from lightning_rl.trainer import EVALUATION_SEED_OFFSET

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's

UPDATES = 4  # in an iteration of CONFIG: two minibatches, twice
CONFIG = PPOConfig(rollout_steps=128, batch_size=64, update_epochs=2)
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
FOUR: dict[str, Any] = {"max_env_steps": None, "max_steps": 4}  # iterations, all of them full
EPOCHS_OF_2: dict[str, Any] = {"limit_train_batches": 2, "max_env_steps": 700}  # 3 epochs

MakeTrainer = Callable[..., AgentTrainer]


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """Make a quiet trainer whose files go to `tmp_path`."""

    def make(**options: Any) -> AgentTrainer:
        defaults = {"max_env_steps": 500, "num_envs": 4, "seed": 0, "logger": False}
        more = {"log_every_n_steps": 1, "enable_checkpointing": False, "default_root_dir": tmp_path}
        return AgentTrainer(**{**QUIET, **defaults, **more, **options})

    return make


def ppo() -> PPOAgent:
    return PPOAgent(config=CONFIG)


def weights(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    """Tell whether two lists of tensors have the same bits."""
    return len(left) == len(right) > 0 and all(map(torch.equal, left, right))


class Probe(Callback):
    """Counts what happens, and looks at the gradients before and after clipping."""

    def __init__(self) -> None:
        self.iterations = 0
        self.env_steps: list[int] = []
        self.backwards = 0
        self.raw: list[list[Tensor]] = []  # gradients of each update, before clipping
        self.clipped: list[list[Tensor]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        def after_step(optimizer: Any, *_: Any) -> None:
            self.clipped.append(self.gradients(pl_module))

        self.handle = trainer.optimizers[0].register_step_post_hook(after_step)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        self.backwards += 1

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.raw.append(self.gradients(pl_module))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.iterations += 1
        self.env_steps.append(pl_module.env_steps)

    @staticmethod
    def gradients(module: nn.Module) -> list[Tensor]:
        return [p.grad.clone() for p in module.parameters() if p.grad is not None]

    @staticmethod
    def norm(gradients: list[Tensor]) -> float:
        return float(torch.cat([g.flatten() for g in gradients]).norm())


class TinyAgent(LightningAgentModule):
    """An agent of 3 updates an iteration; the test says what an update returns."""

    default_num_envs = 2

    def __init__(self, step: Callable[[TinyAgent], Any]) -> None:
        super().__init__(nn.Linear(4, 2), rollout_steps=8)
        self.step, self.updates = step, 0

    def act(
        self, observations: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self.network(observations).argmax(-1), {}

    def sample(self) -> list[Any]:
        return super().sample() * 3

    def loss(self) -> Tensor:
        return self.network.bias.sum()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.updates += 1
        return self.step(self)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


# ---- callbacks that watch a metric -----------------------------------------------------------


@pytest.mark.parametrize("monitor", ["episode_return", "val_episode_return"])
def test_model_checkpoint_keeps_the_best_epoch(
    make_trainer: MakeTrainer, tmp_path: Path, monitor: str
) -> None:
    class Scores(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            scores.append(float(trainer.callback_metrics[monitor]))

    scores: list[float] = []
    best = ModelCheckpoint(tmp_path, monitor=monitor, mode="max", save_top_k=1)
    options = {**EPOCHS_OF_2, "callbacks": [Scores(), best], "enable_checkpointing": True}
    if monitor.startswith("val"):
        options |= {"evaluate_every_env_steps": 256, "evaluation_episodes": 2}
    make_trainer(**options).fit(ppo(), "CartPole-v1")
    assert len(scores) >= 3
    assert best.best_model_score is not None
    assert float(best.best_model_score) == max(scores)
    assert [Path(best.best_model_path)] == list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize("monitor", ["episode_return", "val_episode_return"])
def test_early_stopping_stops_before_the_budget(make_trainer: MakeTrainer, monitor: str) -> None:
    agent = ppo()
    stop = EarlyStopping(monitor, mode="max", stopping_threshold=1.0)
    options = {**EPOCHS_OF_2, "callbacks": [stop]}
    if monitor.startswith("val"):
        options |= {"evaluate_every_env_steps": 256, "evaluation_episodes": 2}
    make_trainer(**options).fit(agent, "CartPole-v1")
    assert stop.stopped_epoch == 0
    assert 0 < agent.env_steps <= 256


def test_early_stopping_waits_for_its_patience(make_trainer: MakeTrainer) -> None:
    agent = ppo()
    stop = EarlyStopping("learning_rate", mode="max", patience=2)  # annealed: it never improves
    make_trainer(**EPOCHS_OF_2 | {"max_env_steps": 5000}, callbacks=[stop]).fit(
        agent, "CartPole-v1"
    )
    assert stop.stopped_epoch == 2
    assert agent.env_steps <= 3 * 2 * 128


def test_callback_metrics_hold_the_last_iteration(make_trainer: MakeTrainer) -> None:
    agent = ppo()
    trainer = make_trainer()
    trainer.fit(agent, "CartPole-v1")
    metrics = trainer.callback_metrics
    assert float(metrics["step"]) == agent.env_steps
    assert float(metrics["episode_return"]) == pytest.approx(agent.episodes.mean_return())
    assert float(metrics["episode_length"]) == pytest.approx(agent.episodes.mean_length())
    assert {"loss", "policy_loss", "value_loss", "entropy", "approx_kl"} <= metrics.keys()


# ---- loggers ---------------------------------------------------------------------------------


def read_csv(logger: CSVLogger) -> list[dict[str, str]]:
    with open(Path(logger.log_dir) / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_logger_has_env_steps_on_its_x_axis(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    logger, probe = CSVLogger(tmp_path), Probe()
    make_trainer(logger=logger, callbacks=[probe]).fit(ppo(), "CartPole-v1")
    rows = read_csv(logger)
    assert [int(row["step"]) for row in rows] == probe.env_steps
    assert all(row["loss"] for row in rows)


def test_evaluations_are_logged_at_their_env_step(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    logger, probe = CSVLogger(tmp_path), Probe()
    trainer = make_trainer(
        logger=logger, callbacks=[probe], evaluate_every_env_steps=256, evaluation_episodes=2
    )
    trainer.fit(ppo(), "CartPole-v1")
    logged = [int(row["step"]) for row in read_csv(logger) if row["val_episode_return"]]
    assert logged == [*probe.env_steps[1:-1:2], probe.env_steps[-1]]


def test_frequent_evaluations_are_logged_each_and_no_warning_is_raised(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    trainer = AgentTrainer(
        **QUIET, max_env_steps=1024, seed=0, logger=logger, enable_checkpointing=False,
        evaluate_every_env_steps=256, evaluation_episodes=1, log_every_n_steps=None,
    )  # fmt: skip
    trainer.fit(ppo(), "CartPole-v1")  # Lightning would say that it does not log within an epoch
    rows = read_csv(logger)
    assert len([row for row in rows if row["loss"]]) >= 4
    assert len([row for row in rows if row["val_episode_return"]]) >= 4


def test_tensorboard_logger_has_env_steps_on_its_x_axis(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger, probe = TensorBoardLogger(tmp_path), Probe()
    make_trainer(logger=logger, callbacks=[probe]).fit(ppo(), "CartPole-v1")
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    for name in ("loss", "approx_kl", "learning_rate"):
        assert [event.step for event in events.Scalars(name)] == probe.env_steps


def test_learning_rate_monitor_sees_the_annealing(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    logger = CSVLogger(tmp_path)
    with pytest.warns(UserWarning, match="an agent logs its learning_rate by itself"):
        make_trainer(logger=logger, callbacks=[LearningRateMonitor()]).fit(ppo(), "CartPole-v1")
    rates = [float(row["lr-Adam"]) for row in read_csv(logger) if row["lr-Adam"]]
    assert len(rates) >= 4
    assert rates[0] == CONFIG.learning_rate
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < CONFIG.learning_rate / 2


# ---- every update is Lightning's -------------------------------------------------------------


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_clipping_by_norm_acts_on_every_update(make_trainer: MakeTrainer, precision: Any) -> None:
    probe = Probe()
    options = FOUR | {"precision": precision, "gradient_clip_val": 0.01}
    make_trainer(**options, callbacks=[probe]).fit(ppo(), "CartPole-v1")
    assert len(probe.clipped) == UPDATES * 4
    assert all(probe.norm(gradients) > 0.011 for gradients in probe.raw)
    assert all(probe.norm(gradients) <= 0.0101 for gradients in probe.clipped)


def test_clipping_by_value_acts_on_every_update(make_trainer: MakeTrainer) -> None:
    probe = Probe()
    options = FOUR | {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"}
    make_trainer(**options, callbacks=[probe]).fit(ppo(), "CartPole-v1")
    assert len(probe.clipped) == UPDATES * 4
    assert all(max(g.abs().max() for g in gradients) > 1.1e-3 for gradients in probe.raw)
    assert all(max(g.abs().max() for g in gradients) <= 1.001e-3 for gradients in probe.clipped)


def test_without_gradient_clip_val_ppo_clips_as_its_config_says(make_trainer: MakeTrainer) -> None:
    probe = Probe()
    agent = PPOAgent(config=PPOConfig(128, 64, 2, max_grad_norm=0.02))
    make_trainer(**FOUR, callbacks=[probe]).fit(agent, "CartPole-v1")
    assert len(probe.clipped) == UPDATES * 4
    assert all(probe.norm(gradients) > 0.021 for gradients in probe.raw)
    assert all(probe.norm(gradients) <= 0.0202 for gradients in probe.clipped)


def test_hooks_of_all_callbacks_fire_for_every_update(make_trainer: MakeTrainer) -> None:
    probes = [Probe(), Probe()]
    make_trainer(**FOUR, callbacks=list(probes)).fit(ppo(), "CartPole-v1")
    for probe in probes:
        assert probe.backwards == len(probe.raw) == UPDATES * probe.iterations == UPDATES * 4


def test_global_step_counts_iterations(make_trainer: MakeTrainer) -> None:
    probe = Probe()
    trainer = make_trainer(callbacks=[probe])
    trainer.fit(ppo(), "CartPole-v1")
    assert trainer.global_step == probe.iterations >= 4


class DtypeAgent(PPOAgent):
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        observations = batch["observations"]
        parameters = self.network.policy(observations)
        seen.append((next(self.parameters()).dtype, observations.dtype, parameters.dtype))
        return super().training_step(batch, batch_idx)


seen: list[tuple[torch.dtype, ...]] = []


@pytest.mark.parametrize(
    ("precision", "dtypes"),
    [
        ("bf16-mixed", (torch.float32, torch.float32, torch.bfloat16)),
        ("64-true", (torch.float64, torch.float64, torch.float64)),
        ("bf16-true", (torch.bfloat16, torch.bfloat16, torch.bfloat16)),
    ],
)
def test_precision_acts_on_every_update(
    make_trainer: MakeTrainer, precision: Any, dtypes: tuple[torch.dtype, ...]
) -> None:
    seen.clear()
    agent, probe = DtypeAgent(config=CONFIG), Probe()
    make_trainer(**FOUR, precision=precision, callbacks=[probe]).fit(agent, "CartPole-v1")
    assert seen == [dtypes] * UPDATES * 4
    assert all(torch.isfinite(p).all() for p in agent.parameters())


def test_double_precision_reaches_dict_observations(make_trainer: MakeTrainer) -> None:
    def make_env() -> gym.Env:
        env = gym.make("CartPole-v1")
        space = gym.spaces.Dict({"state": env.observation_space})
        return gym.wrappers.TransformObservation(env, lambda state: {"state": state}, space)

    agent = ppo()
    make_trainer(precision="64-true").fit(agent, make_env)
    assert {p.dtype for p in agent.parameters()} == {torch.float64}
    assert agent.env_steps >= 500


def test_accumulate_grad_batches_is_refused_with_the_reason(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(accumulate_grad_batches=2)
    with pytest.raises(ConfigError, match=r"accumulate_grad_batches=2.*whole iteration of updates"):
        trainer.fit(ppo(), "CartPole-v1")


# ---- limits ----------------------------------------------------------------------------------


def test_max_time_stops_a_run_that_has_no_other_limit(make_trainer: MakeTrainer) -> None:
    agent = ppo()
    trainer = make_trainer(max_env_steps=None, max_time=timedelta(milliseconds=300))
    trainer.fit(agent, "CartPole-v1")
    assert agent.max_env_steps is None
    assert 0 < agent.env_steps < 1_000_000


def test_limit_train_batches_is_iterations_in_an_epoch(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_env_steps=None, limit_train_batches=3, max_epochs=2)
    trainer.fit(ppo(), "CartPole-v1")
    assert (trainer.global_step, trainer.current_epoch) == (6, 2)


def test_max_steps_is_iterations(make_trainer: MakeTrainer) -> None:
    agent, trainer = ppo(), make_trainer(max_env_steps=None, max_steps=3)
    trainer.fit(agent, "CartPole-v1")
    assert trainer.global_step == 3
    assert agent.progress == 1.0


@pytest.mark.parametrize(("fast_dev_run", "iterations"), [(True, 1), (3, 3)])
def test_fast_dev_run_makes_a_few_iterations_and_no_files(
    tmp_path: Path, fast_dev_run: int | bool, iterations: int
) -> None:
    probe = Probe()
    trainer = AgentTrainer(
        **QUIET, fast_dev_run=fast_dev_run, callbacks=[probe], default_root_dir=tmp_path
    )
    trainer.fit(ppo(), "CartPole-v1")
    assert probe.iterations == iterations
    assert list(tmp_path.iterdir()) == []


def test_simple_profiler_measures_every_iteration(make_trainer: MakeTrainer) -> None:
    probe = Probe()
    trainer = make_trainer(profiler="simple", callbacks=[probe])
    trainer.fit(ppo(), "CartPole-v1")
    durations = trainer.profiler.recorded_durations  # type: ignore[attr-defined]
    assert len(durations["run_training_batch"]) == probe.iterations


@pytest.mark.parametrize("num_envs", [1, 3, 8])
@pytest.mark.parametrize("budget", [1, 128, 300])
def test_the_budget_is_met_to_within_num_envs(
    make_trainer: MakeTrainer, num_envs: int, budget: int
) -> None:
    agent = ppo()
    make_trainer(max_env_steps=budget, num_envs=num_envs).fit(agent, "CartPole-v1")
    assert budget <= agent.env_steps < budget + num_envs


class StopAtOnce(Callback):
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.should_stop = True


def test_a_bare_agent_trainer_has_a_default_budget(tmp_path: Path) -> None:
    agent = ppo()
    trainer = AgentTrainer(
        **QUIET, default_root_dir=tmp_path, callbacks=[StopAtOnce()], logger=False
    )
    trainer.fit(agent, "CartPole-v1")
    assert agent.max_env_steps == 65_536
    assert trainer.global_step <= 1


# ---- plain modules ---------------------------------------------------------------------------


class Regression(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = (self.layer(batch[0]) - batch[1]).square().mean()
        self.log("loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", (self.layer(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


def loader(shuffle: bool = False) -> DataLoader[Any]:
    data = torch.arange(60.0).view(20, 3) / 60
    return DataLoader(TensorDataset(data, data.sum(1, keepdim=True)), 4, shuffle=shuffle)


class Data(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return loader(shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return loader()


def fit_with_loader(trainer: lightning.Trainer, module: LightningModule) -> None:
    trainer.fit(module, loader(shuffle=True), loader())


def fit_with_datamodule(trainer: lightning.Trainer, module: LightningModule) -> None:
    trainer.fit(module, datamodule=Data())


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("fit", [fit_with_loader, fit_with_datamodule])
def test_a_plain_module_trains_as_with_lightnings_trainer(fit: Callable[..., None]) -> None:
    results = []
    for trainer_class in (lightning.Trainer, AgentTrainer):
        torch.manual_seed(1)
        module = Regression()
        trainer = trainer_class(
            **QUIET, max_epochs=3, log_every_n_steps=1, logger=False, enable_checkpointing=False
        )
        fit(trainer, module)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        results.append((weights(module), metrics, trainer.global_step, trainer.current_epoch))
    (plain, *facts), (ours, *our_facts) = results
    assert equal(ours, plain)
    assert our_facts == facts


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_plain_module_without_a_limit_gets_lightnings_warning(tmp_path: Path) -> None:
    trainer = AgentTrainer(
        **QUIET, default_root_dir=tmp_path, callbacks=[StopAtOnce()], log_every_n_steps=1,
        logger=False, enable_checkpointing=False,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="`max_epochs` was not set. Setting it to 1000") as warned:
        fit_with_loader(trainer, Regression())
    assert sum("max_epochs" in str(warning.message) for warning in warned) == 1
    fit_with_loader(trainer, Regression())  # Lightning warns once


@pytest.mark.parametrize(("of_trainer", "of_loader"), [(200, None), (None, 200), (200, 9999)])
def test_a_loaders_run_ends_with_the_budget_of_trainer_or_loader(
    make_trainer: MakeTrainer, of_trainer: int | None, of_loader: int | None
) -> None:
    agent = ppo()
    environment = EnvDataLoader(agent, "CartPole-v1", 4, max_env_steps=of_loader)
    make_trainer(max_env_steps=of_trainer).fit(agent, environment)
    assert 200 <= agent.env_steps < 204


def test_plain_lightning_trainer_trains_an_agent_alike(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    ours, plain = ppo(), ppo()
    make_trainer(max_env_steps=400).fit(ours, "CartPole-v1")
    trainer = lightning.Trainer(
        **QUIET, max_epochs=-1, log_every_n_steps=1, logger=False, default_root_dir=tmp_path
    )
    environment = EnvDataLoader(plain, "CartPole-v1", num_envs=4, seed=0, max_env_steps=400)
    with pytest.warns(UserWarning, match="`validation_step` but have no `val_dataloader`"):
        trainer.fit(plain, environment)
    assert equal(weights(plain), weights(ours))
    assert plain.env_steps == ours.env_steps


# ---- what a training_step may do -------------------------------------------------------------


def update_number(agent: TinyAgent) -> float:
    return float(agent.updates)


def log_plain(agent: TinyAgent) -> Tensor:
    agent.log("x", update_number(agent))
    return agent.loss()


def log_on_epoch(agent: TinyAgent) -> Tensor:
    agent.log("x", torch.tensor(update_number(agent)), on_epoch=True, on_step=False)
    return agent.loss()


def log_prog_bar(agent: TinyAgent) -> Tensor:
    agent.log("x", update_number(agent), True)  # positional: prog_bar
    return agent.loss()


def log_dict(agent: TinyAgent) -> Tensor:
    agent.log_dict({"x": update_number(agent), "y": -update_number(agent)}, batch_size=4)
    return agent.loss()


def log_loss_dict(agent: TinyAgent) -> dict[str, Tensor]:
    return {"loss": agent.loss(), "x": torch.tensor(update_number(agent))}


@pytest.mark.parametrize("step", [log_plain, log_prog_bar, log_dict, log_loss_dict])
def test_what_is_logged_in_updates_is_averaged_over_the_iteration(
    make_trainer: MakeTrainer, step: Callable[[TinyAgent], Any]
) -> None:
    trainer = make_trainer(max_env_steps=None, max_steps=2)
    trainer.fit(TinyAgent(step), "CartPole-v1")
    assert float(trainer.callback_metrics["x"]) == 5.0  # the mean of updates 4, 5 and 6
    assert ("x" in trainer.progress_bar_metrics) == (step is log_prog_bar)


def test_what_is_logged_on_epoch_is_averaged_over_the_epoch(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_env_steps=None, max_epochs=1, limit_train_batches=2)
    trainer.fit(TinyAgent(log_on_epoch), "CartPole-v1")
    assert float(trainer.callback_metrics["x"]) == 3.5  # the mean of updates 1 to 6


def test_a_torchmetrics_metric_can_be_logged(make_trainer: MakeTrainer) -> None:
    def log_metric(agent: TinyAgent) -> Tensor:
        agent.metric.update(update_number(agent))
        agent.log("x", agent.metric, on_step=False, on_epoch=True)
        return agent.loss()

    agent = TinyAgent(log_metric)
    agent.metric = MeanMetric()
    trainer = make_trainer(max_env_steps=None, max_epochs=1, limit_train_batches=2)
    trainer.fit(agent, "CartPole-v1")
    assert float(trainer.callback_metrics["x"]) == 3.5


@pytest.mark.parametrize("step", [lambda agent: agent.loss(), lambda agent: {"loss": agent.loss()}])
def test_training_step_may_return_a_loss_or_a_dict(
    make_trainer: MakeTrainer, step: Callable[[TinyAgent], Any]
) -> None:
    agent = TinyAgent(step)
    trainer = make_trainer(max_env_steps=None, max_steps=2)
    torch.nn.init.zeros_(agent.network.bias)
    trainer.fit(agent, "CartPole-v1")
    assert agent.network.bias.tolist() == [-3.0, -3.0]  # 6 SGD steps of 0.5
    assert float(trainer.callback_metrics["loss"]) == -4.0  # of -3, -4 and -5


def test_training_step_may_return_none_to_skip_an_update(make_trainer: MakeTrainer) -> None:
    agent = TinyAgent(lambda agent: agent.loss() if agent.updates % 3 == 2 else None)
    torch.nn.init.zeros_(agent.network.bias)
    with pytest.warns(UserWarning, match="`training_step` returned `None`"):
        make_trainer(max_env_steps=None, max_steps=2).fit(agent, "CartPole-v1")
    assert agent.updates == 6
    assert agent.network.bias.tolist() == [-1.0, -1.0]  # 2 SGD steps of 0.5


def test_stop_updates_skips_the_rest_of_the_iteration(make_trainer: MakeTrainer) -> None:
    def stop_after_two(agent: TinyAgent) -> Tensor:
        agent.stop_updates = agent.updates % 2 == 0
        return agent.loss()

    agent = TinyAgent(stop_after_two)
    trainer = make_trainer(max_env_steps=None, max_steps=3)
    trainer.fit(agent, "CartPole-v1")
    assert (trainer.global_step, agent.updates) == (3, 6)


# ---- on-policy means on-policy ---------------------------------------------------------------


class RememberingPPO(PPOAgent):
    """Remembers the weights that made each rollout, and what the first minibatch of each said."""

    def __init__(self) -> None:
        super().__init__(config=CONFIG)
        self.acted_with: list[list[Tensor]] = []
        self.after_updates: list[list[Tensor]] = []
        self.first_outputs: list[dict[str, float]] = []
        self.is_first = False

    def rollout(self, total_step: int) -> None:
        self.acted_with.append(weights(self))
        super().rollout(total_step)
        self.is_first = True

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        outputs = super().training_step(batch, batch_idx)
        if self.is_first:
            self.first_outputs.append({name: value.item() for name, value in outputs.items()})
        self.is_first = False
        return outputs

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.after_updates.append(weights(self))


@pytest.mark.parametrize(
    "options",
    [{}, EPOCHS_OF_2, {"evaluate_every_env_steps": 128, "evaluation_episodes": 2}],
    ids=["one epoch", "several epochs", "with evaluation"],
)
def test_every_rollout_is_made_by_the_updated_policy(
    make_trainer: MakeTrainer, options: dict[str, Any]
) -> None:
    agent = RememberingPPO()
    make_trainer(**options).fit(agent, "CartPole-v1")
    assert len(agent.acted_with) == len(agent.after_updates) >= 4
    for before, after in zip(agent.acted_with[1:], agent.after_updates, strict=False):
        assert equal(before, after)
    for earlier, later in zip(agent.acted_with, agent.acted_with[1:], strict=False):
        assert not equal(earlier, later)


def test_the_first_minibatch_has_ratio_one(make_trainer: MakeTrainer) -> None:
    agent = RememberingPPO()
    make_trainer().fit(agent, "CartPole-v1")
    assert len(agent.first_outputs) >= 4
    for outputs in agent.first_outputs:
        assert outputs["approx_kl"] == pytest.approx(0.0, abs=1e-6)
        assert outputs["clip_fraction"] == 0.0


# ---- fit, then more --------------------------------------------------------------------------


@pytest.mark.parametrize("same_trainer", [True, False])
def test_a_second_fit_goes_on_with_a_budget_of_its_own(
    make_trainer: MakeTrainer, same_trainer: bool
) -> None:
    agent, trainer = ppo(), make_trainer(max_env_steps=256)
    trainer.fit(agent, "CartPole-v1")
    steps, before, episodes = agent.env_steps, weights(agent), len(agent.episodes)
    again = trainer if same_trainer else make_trainer(max_env_steps=256)
    again.fit(agent, "CartPole-v1")
    assert 256 <= agent.env_steps - steps < 260
    assert not equal(weights(agent), before)
    assert len(agent.episodes) > episodes


@pytest.mark.parametrize("same_trainer", [True, False])
def test_a_second_fit_anneals_anew(make_trainer: MakeTrainer, same_trainer: bool) -> None:
    class Rates(Callback):
        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    rates: list[float] = []
    agent = ppo()
    trainers = [make_trainer(max_env_steps=256, callbacks=[Rates()]) for _ in range(2)]
    trainers[0].fit(agent, "CartPole-v1")
    first, rates = rates, []
    trainers[0 if same_trainer else 1].fit(agent, "CartPole-v1")
    assert first[0] == rates[0] == CONFIG.learning_rate
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_a_saved_agent_plays_as_the_trained_one(
    make_trainer: MakeTrainer, tmp_path: Path, stage: str
) -> None:
    def play(trainer: AgentTrainer, agent: PPOAgent | None, **options: Any) -> Any:
        return getattr(trainer, stage)(agent, "CartPole-v1", **options)

    agent = ppo()

    def with_checkpoints() -> AgentTrainer:
        best = ModelCheckpoint(tmp_path, monitor="step", mode="max")
        return make_trainer(callbacks=[best], evaluation_episodes=3, enable_checkpointing=True)

    trainer = with_checkpoints()
    trainer.fit(agent, "CartPole-v1")
    steps, expected = agent.env_steps, play(trainer, agent)
    path = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    for result in (
        play(trainer, agent, ckpt_path="best"),
        play(with_checkpoints(), PPOAgent(), ckpt_path=path),
        play(with_checkpoints(), PPOAgent.load_from_checkpoint(path)),
    ):
        assert str(result) == str(expected)
    assert agent.env_steps == steps


def test_the_checkpoint_may_be_given_by_position(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    agent, trainer = ppo(), make_trainer(evaluation_episodes=2)
    trainer.fit(agent, "CartPole-v1")
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    fresh = make_trainer(evaluation_episodes=2)
    expected = trainer.test(agent, "CartPole-v1")
    assert fresh.test(ppo(), "CartPole-v1", str(tmp_path / "saved.ckpt")) == expected


def test_without_an_environment_test_plays_where_fit_has_trained(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "enable_checkpointing": True,
        "callbacks": [ModelCheckpoint(tmp_path)],
    }
    trainer, agent = make_trainer(evaluation_episodes=3, **options), ppo()
    trainer.fit(agent, "CartPole-v1")
    expected = evaluate(agent, "CartPole-v1", 3, trainer.seed + EVALUATION_SEED_OFFSET)
    for given in ({"model": agent}, {"ckpt_path": "best"}):
        (result,) = trainer.test(**given)
        assert result["test_episode_return"] == pytest.approx(expected.mean)


def test_predict_gives_the_episodes_and_test_their_mean(make_trainer: MakeTrainer) -> None:
    agent, trainer = ppo(), make_trainer(evaluation_episodes=3)
    trainer.fit(agent, "CartPole-v1")
    episodes = trainer.predict(agent, "CartPole-v1")[0]
    scores = trainer.test(agent, "CartPole-v1")[0]
    assert episodes["episode_return"].shape == episodes["episode_length"].shape == (3,)
    assert scores["test_episode_return"] == pytest.approx(float(episodes["episode_return"].mean()))


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_predict_on_a_dataloader_of_observations_gives_the_best_actions(
    make_trainer: MakeTrainer,
) -> None:
    agent, trainer = ppo(), make_trainer()
    trainer.fit(agent, "CartPole-v1")
    observations = torch.linspace(-1, 1, 40).view(10, 4)
    actions = torch.cat(trainer.predict(agent, DataLoader(observations, batch_size=5)))
    with torch.no_grad():
        assert torch.equal(actions, agent.network(observations)[0].argmax(-1))


def settings(trainer: AgentTrainer) -> dict[str, Any]:
    names = ("limit_val_batches", "num_sanity_val_steps", "log_every_n_steps", "max_epochs")
    return {name: getattr(trainer, name) for name in names}


@pytest.mark.parametrize("fails", [False, True])
def test_settings_changed_for_an_agent_are_put_back(tmp_path: Path, fails: bool) -> None:
    class Fails(StopAtOnce):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            super().on_train_start(trainer, pl_module)
            inside.append(settings(trainer))
            if fails:
                raise RuntimeError("on purpose")

    inside: list[dict[str, Any]] = []
    trainer = AgentTrainer(**QUIET, default_root_dir=tmp_path, callbacks=[Fails()], logger=False)
    before = settings(trainer)
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            trainer.fit(ppo(), "CartPole-v1")
    else:
        trainer.fit(ppo(), "CartPole-v1")
    assert settings(trainer) == before
    assert inside != [before]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_one_trainer_serves_both_worlds() -> None:
    trainer = AgentTrainer(
        **QUIET, max_epochs=1, limit_train_batches=2, log_every_n_steps=1, logger=False,
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(ppo(), "CartPole-v1")
    trainer.fit_loop.max_epochs = 3
    fit_with_loader(trainer, Regression())
    assert "val_loss" in trainer.callback_metrics


# ---- rows that are no env steps --------------------------------------------------------------


class TwoStepEnv(VectorEnv):
    """Two sub-environments whose episodes take two steps, ended at the same time."""

    def __init__(self) -> None:
        import numpy as np
        from gymnasium import spaces

        self.num_envs, self.row = 2, 0
        self.single_observation_space = spaces.Box(-1, 1, (4,))
        self.single_action_space = spaces.Discrete(2)
        self.zeros = np.zeros((2, 4), dtype=np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.row = 0
        return self.zeros, {}

    def step(self, actions: Any) -> Any:
        import numpy as np

        self.row = (self.row + 1) % 3  # 0: the reset row
        ended = np.full(2, self.row == 2)
        rewards = np.full(2, float(self.row != 0), dtype=np.float32)
        return self.zeros, rewards, ended, np.zeros(2, dtype=bool), {}


@pytest.mark.parametrize("agent_class", [PPOAgent, ReinforceAgent, None])
def test_a_rollout_always_holds_something_to_learn_from(
    make_trainer: MakeTrainer, agent_class: Any
) -> None:
    if agent_class is PPOAgent:
        agent: Any = PPOAgent(config=PPOConfig(rollout_steps=4, batch_size=4, update_epochs=1))
    elif agent_class is ReinforceAgent:
        agent = ReinforceAgent(config={"rollout_steps": 4})
    else:
        agent = TinyAgent(lambda agent: agent.loss())
        agent.rollout_steps = 4
    make_trainer(max_env_steps=6).fit(agent, TwoStepEnv())
    # The rollouts are two rows, which end the episodes, and one: not the reset row, but the next.
    assert agent.env_steps == (8 if agent_class is ReinforceAgent else 6)
    assert agent.episodes["episode_return"].tolist()[:2] == [2.0, 2.0]
    assert all(torch.isfinite(p).all() for p in agent.parameters())


def rows_of(minibatches: Iterator[dict[str, Any]]) -> list[int]:
    return [len(minibatch["actions"]) for minibatch in minibatches]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_no_minibatch_is_empty(make_trainer: MakeTrainer, batch_size: int) -> None:
    class CountRows(PPOAgent):
        def sample(self) -> Any:
            minibatches = list(super().sample())
            rows.extend(rows_of(iter(minibatches)))
            return minibatches

    rows: list[int] = []
    agent = CountRows(config=PPOConfig(128, batch_size, 1))
    make_trainer(max_env_steps=250).fit(agent, "CartPole-v1")
    assert min(rows) >= 1
    assert max(rows) <= batch_size
    assert sum(rows) == agent.env_steps or batch_size == 1


def test_reinforce_learns_to_the_end_of_its_budget(make_trainer: MakeTrainer) -> None:
    agent = ReinforceAgent(config={"rollout_steps": 512})
    make_trainer(max_env_steps=1200).fit(agent, "CartPole-v1")  # 200 and some are left in the end
    assert 1200 <= agent.env_steps < 1200 + 512


# ---- a quiet trainer -------------------------------------------------------------------------


def test_a_quiet_trainer_shows_logs_and_saves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], notebook: list[Any]
) -> None:
    trainer = AgentTrainer(
        max_env_steps=200, seed=0, quiet=True, default_root_dir=tmp_path, accelerator="cpu"
    )
    trainer.fit(ppo(), "CartPole-v1")
    assert notebook == []
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_quiet_trainer_does_what_it_is_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "kept")
    trainer = AgentTrainer(
        max_env_steps=200, seed=0, quiet=True, default_root_dir=tmp_path, accelerator="cpu",
        callbacks=checkpoint, logger=CSVLogger(tmp_path), enable_model_summary=True,
    )  # fmt: skip
    trainer.fit(ppo(), "CartPole-v1")
    assert "parameters" in capfd.readouterr().out
    assert list((tmp_path / "kept").glob("*.ckpt"))
    assert list(tmp_path.rglob("metrics.csv"))


# ---- an agent and data that no environment gives ---------------------------------------------


class Imitates(PPOAgent):
    """Learns by rote which action belongs to an observation."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        log_probs, *_ = self.evaluate_actions(*batch)
        return -log_probs.mean()


class ComparesWithData(PPOAgent):
    """Learns in its environment, and is judged by what others have done."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        log_probs, *_ = self.evaluate_actions(*batch)
        self.log("val_loss", -log_probs.mean())


def demonstrations() -> DataLoader[Any]:
    observations = torch.rand(64, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    return DataLoader(TensorDataset(observations, (observations[:, 2] > 0).long()), 16)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:You defined a .validation_step.")
@pytest.mark.parametrize("kind", [lightning.Trainer, AgentTrainer])
@pytest.mark.parametrize("has_env", [False, True])
def test_an_agent_learns_from_demonstrations(kind: Any, has_env: bool) -> None:
    agent = Imitates(config=PPOConfig(learning_rate=1e-2))
    if has_env:
        EnvDataLoader(agent, "CartPole-v1").close()
    else:
        env = gym.make_vec("CartPole-v1")
        agent.bind_spaces(env.single_observation_space, env.single_action_space)
    trainer = kind(
        **QUIET, max_epochs=20, log_every_n_steps=1, logger=False, enable_checkpointing=False
    )
    trainer.fit(agent, demonstrations())
    assert agent.env_steps == 0
    observations, actions = next(iter(demonstrations()))
    assert (agent.predict(observations.numpy()) == actions.numpy()).all()


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_an_agent_may_be_validated_on_data() -> None:
    trainer = AgentTrainer(
        max_env_steps=512, evaluate_every_env_steps=256, num_envs=4, seed=0, quiet=True
    )
    trainer.fit(ComparesWithData(), "CartPole-v1", demonstrations())
    assert 0 < trainer.callback_metrics["val_loss"] < 1
