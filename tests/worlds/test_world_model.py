"""The world model: what it learns, from data whose rules are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from gymnasium import Space, spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
)
from lightning.pytorch.tuner import Tuner
from springs import FORCES, OBSERVATIONS, Steps, built, spring
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    RandomSampler,
    random_split,
)

from lightning_rl.agents.dqn import DQNAgent
from lightning_rl.agents.sac import SACAgent
from lightning_rl.errors import ConfigError, NonFiniteError, ShapeError, SpaceError, StateError
from lightning_rl.worlds.dynamics import EnsembleLinear, EnsembleNetwork
from lightning_rl.worlds.horizon import horizon_errors
from lightning_rl.worlds.world_model import WorldModel, WorldModelConfig

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a .validation_step."),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
]

CHOICES = spaces.Discrete(3, start=-1)


def trainer(folder: Path, epochs: int = 2, **options: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    more = {"enable_checkpointing": False, "accelerator": "cpu", "default_root_dir": folder}
    return lightning.Trainer(**{"max_epochs": epochs, **quiet, **more, **options})


def fitted(folder: Path, data: Any, epochs: int = 2, **config: Any) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig(**{"hidden_sizes": (32,), "num_members": 3, **config}))
    trainer(folder, epochs).fit(model, DataLoader(data, batch_size=128, shuffle=True))
    return model


# ---- what it learns --------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[FORCES, CHOICES], ids=["box", "discrete"])
def learned(request: pytest.FixtureRequest, tmp_path_factory: Any) -> WorldModel:
    data = spring(1000, action_space=request.param)
    return fitted(tmp_path_factory.mktemp("fit"), data, epochs=25, hidden_sizes=(64, 64))


def test_known_dynamics_are_recovered_many_steps_ahead(learned: WorldModel) -> None:
    windows = spring(200, seed=1, action_space=learned.action_space, window=5).steps
    errors = horizon_errors(learned, windows)
    print(errors)
    assert errors.error[0] < 0.02
    assert (errors.error < 0.1 * errors.no_change).all()
    assert (errors.error.diff() > 0).all()  # errors feed on each other


def test_rewards_and_termination_are_learned(learned: WorldModel) -> None:
    steps = spring(1000, seed=2, action_space=learned.action_space).steps
    prediction = learned.predict(steps["observations"], steps["actions"][:, None])
    guess = prediction.terminated.mean(0)[:, 0] > 0.5
    clear = (steps["next_observations"][:, 0] - 0.8).abs() > 0.05
    assert (guess == steps["terminated"])[clear].float().mean() > 0.98
    assert (prediction.rewards.mean(0)[:, 0] - steps["rewards"])[clear].abs().mean() < 0.1


def test_members_disagree_where_there_were_no_data(learned: WorldModel) -> None:
    actions = torch.zeros(200, 1, *learned.action_space.shape)
    inside = 2 * torch.rand(200, 2) - 1
    known = learned.predict(inside, actions).disagreement.mean()
    unknown = learned.predict(5 * inside.sign() + inside, actions).disagreement.mean()
    print(known, unknown)
    assert unknown > 10 * known


def test_noise_is_not_mistaken_for_a_rule(tmp_path: Path) -> None:
    data = spring(3000)
    noise = 0.1 * torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    data.steps["next_observations"] = data.steps["observations"] + noise
    network = fitted(tmp_path, data, epochs=10).network
    inputs = network.normalize_inputs(data.steps["observations"], data.steps["actions"])
    with torch.no_grad():
        outcome = network.outcome(network(inputs.expand(3, *inputs.shape)))
    assert outcome.change_std.mean() == pytest.approx(0.1, rel=0.1)


# ---- formulas --------------------------------------------------------------------------------


def test_an_ensemble_of_layers_is_those_layers_side_by_side() -> None:
    layers, inputs = EnsembleLinear(3, 4, 2), torch.randn(3, 5, 4)
    for member in range(3):
        expected = inputs[member] @ layers.weight[member] + layers.bias[member]
        torch.testing.assert_close(layers(inputs)[member], expected)
    assert (layers.weight[0] != layers.weight[1]).all()


@given(
    st.integers(2, 60), st.integers(1, 60), st.floats(-100, 100), st.floats(0.1, 50),
    st.integers(0, 99),
)  # fmt: skip
@settings(deadline=None)
def test_inputs_and_targets_are_normalised_by_the_data(
    count: int, batch_size: int, shift: float, scale: float, seed: int
) -> None:
    steps = spring(count, seed).steps
    steps["observations"] = steps["observations"] * scale + shift
    network = built().network
    parts = [values.split(batch_size) for values in steps.values()]
    network.measure(dict(zip(steps, part, strict=True)) for part in zip(*parts, strict=True))
    inputs = torch.cat([steps["observations"], steps["actions"]], -1).double()
    change = (steps["next_observations"] - steps["observations"]).double()
    torch.testing.assert_close(network.input_mean.double(), inputs.mean(0), rtol=1e-4, atol=1e-4)
    std = inputs.std(0, correction=0)
    torch.testing.assert_close(network.input_std.double(), std, rtol=1e-2, atol=1e-3)
    found = network.target_mean[:2].double()
    torch.testing.assert_close(found, change.mean(0), rtol=1e-4, atol=1e-3)
    seen = torch.cat([steps["observations"], steps["next_observations"]])
    assert torch.equal(network.lowest, seen.amin(0))
    assert torch.equal(network.highest, seen.amax(0))
    assert network.lowest_reward == steps["rewards"].min()


def test_what_never_changes_is_not_divided_by_zero() -> None:
    steps = spring(10).steps
    steps["rewards"] = torch.ones(10)
    steps["observations"][:, 1] = 3.0
    network = built().network
    network.measure([steps])
    assert network.target_std[-1] == 1
    assert network.input_std[1] == 1
    assert network.target_mean[-1] == 1


def loss_terms(model: WorldModel, steps: Steps) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    network = model.network
    inputs = network.normalize_inputs(steps["observations"], steps["actions"])
    means, log_variances, logits = network.split_outputs(network(inputs.expand(5, *inputs.shape)))
    targets = (network.targets(steps) - network.target_mean) / network.target_std
    return means, log_variances, logits, targets


def test_the_loss_is_the_negative_log_likelihood_where_beta_is_0() -> None:
    model, steps = built(variance_weight=0.0), spring(50).steps
    means, log_variances, logits, targets = loss_terms(model, steps)
    normal = torch.distributions.Normal(means, (0.5 * log_variances).exp())
    per_number = -normal.log_prob(targets) - 0.5 * np.log(2 * np.pi)  # without the constant
    bernoulli = torch.distributions.Bernoulli(logits=logits)
    expected = per_number.sum(-1).mean() - bernoulli.log_prob(steps["terminated"].float()).mean()
    torch.testing.assert_close(model.loss(steps)["loss"], expected)


def test_the_means_get_a_squared_errors_gradient_where_beta_is_1() -> None:
    model, steps = built(variance_weight=1.0), spring(50).steps
    bias = model.network.layers[-1].bias
    model.loss(steps)["loss"].backward()
    found = bias.grad[..., :3].clone()
    bias.grad = None
    means, _, _, targets = loss_terms(model, steps)
    (0.5 * (means - targets).square().sum(-1).mean()).backward()
    torch.testing.assert_close(found, bias.grad[..., :3])


@given(st.floats(-1e6, 1e6))
def test_log_variances_are_bounded(raw: float) -> None:
    _, log_variances, _ = built().network.split_outputs(torch.full((1, 7), raw))
    assert (log_variances >= -10.001).all()
    assert (log_variances <= 1.001).all()


def test_truncation_is_not_looked_at() -> None:
    model, steps = built(), spring(20).steps
    loss = model.loss(steps)["loss"]
    steps["truncated"] = torch.ones(20)
    assert model.loss(steps)["loss"] == loss
    del steps["truncated"]
    assert model.loss(steps)["loss"] == loss


def test_windows_are_learned_as_their_steps() -> None:
    model, windows = built(), spring(6, window=4).steps
    steps = {name: values.flatten(0, 1) for name, values in windows.items()}
    torch.testing.assert_close(model.loss(windows)["loss"], model.loss(steps)["loss"])


# ---- predicting ------------------------------------------------------------------------------


def test_each_member_goes_on_from_its_own_prediction() -> None:
    model, windows = built(CHOICES), spring(4, action_space=CHOICES, window=3).steps
    actions = windows["actions"]
    whole = model.predict(windows["observations"][:, 0], actions)
    first = model.predict(windows["observations"][:, 0], actions[:, :1])
    assert whole.observations.shape == (5, 4, 3, 2)
    assert whole.rewards.shape == whole.terminated.shape == (5, 4, 3)
    torch.testing.assert_close(whole.observations[:, :, :1], first.observations)
    for member in range(5):
        rest = model.predict(first.observations[member, :, 0], actions[:, 1:])
        torch.testing.assert_close(whole.observations[member, :, 1:], rest.observations[member])
    torch.testing.assert_close(whole.mean, whole.observations.mean(0))


def test_disagreement_is_in_standard_deviations_of_the_data() -> None:
    network = EnsembleNetwork(OBSERVATIONS, FORCES, 2, (4,))
    network.input_std[:2] = torch.tensor([2.0, 4.0])
    apart = torch.tensor([[[0.0, 0.0]], [[4.0, 8.0]]])  # (E, B, D): both 1 std from their mean
    assert network.disagreement(apart).tolist() == [1.0]
    assert network.disagreement(torch.ones(2, 1, 2)).tolist() == [0.0]


def test_one_member_never_disagrees() -> None:
    prediction = built(num_members=1).predict(torch.zeros(2, 2), torch.zeros(2, 4, 1))
    assert (prediction.disagreement == 0).all()


def test_horizon_errors_compare_with_a_world_that_stands_still() -> None:
    model, windows = built(), spring(8, window=3).steps
    errors = horizon_errors(model, windows)
    moved = (windows["next_observations"] - windows["observations"][:, :1]).square().mean((0, 2))
    torch.testing.assert_close(errors.no_change, moved.sqrt())


# ---- Lightning -------------------------------------------------------------------------------


def test_callbacks_loggers_and_clipping_work_as_for_any_module(tmp_path: Path) -> None:
    callbacks = [
        EarlyStopping("val_loss", patience=50),
        ModelCheckpoint(tmp_path, monitor="val_error"),
    ]
    options = {"enable_checkpointing": True, "callbacks": callbacks, "gradient_clip_val": 0.5}
    run = trainer(tmp_path, 3, **options)
    model = WorldModel()
    run.fit(model, DataLoader(spring(300), 64, shuffle=True), DataLoader(spring(100, 1), 64))
    logged = run.callback_metrics
    expected = {f"{p}_{n}" for p in ("train", "val") for n in ("loss", "error", "termination_loss")}
    assert expected <= set(logged)
    assert logged["val_error"] < 1
    best = WorldModel.load_from_checkpoint(callbacks[1].best_model_path)
    results = run.validate(best, DataLoader(spring(100, 1), 64), verbose=False)
    assert results[0]["val_error"] == pytest.approx(callbacks[1].best_model_score.item(), rel=1e-5)
    assert run.test(best, DataLoader(spring(9), 64), verbose=False)[0]["test_loss"] < 10


def test_a_checkpoint_needs_no_model_built_before(tmp_path: Path) -> None:
    """As for any module: a fresh one and `ckpt_path` are enough to validate, test and predict."""
    path, run = tmp_path / "model.ckpt", trainer(tmp_path, 1)
    model = WorldModel()
    run.fit(model, DataLoader(spring(100), 32))
    run.save_checkpoint(path)
    loader = DataLoader(spring(64, 1), 64)
    for name in ("validate", "test"):
        here, there = (
            getattr(trainer(tmp_path), name)(m, loader, ckpt_path=c, verbose=False)
            for m, c in ((model, None), (WorldModel(), path))
        )
        assert here == there
    predicted = trainer(tmp_path).predict(WorldModel(), loader, ckpt_path=path)
    assert predicted[0].mean.shape == (64, 1, 2)


def test_the_trainer_predicts_windows_as_predict_does(tmp_path: Path) -> None:
    windows = spring(6, window=5)
    model = built()
    (found,) = trainer(tmp_path).predict(model, DataLoader(windows, 6))
    expected = model(windows.steps["observations"][:, 0], windows.steps["actions"])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback")
def test_averaged_weights_are_saved(tmp_path: Path) -> None:
    """The callback copies the model before `setup`; an empty copy would be saved as the model."""
    saver = ModelCheckpoint(tmp_path)
    options = {"enable_checkpointing": True, "callbacks": [EMAWeightAveraging(decay=0.5), saver]}
    model = WorldModel()
    trainer(tmp_path, **options).fit(model, DataLoader(spring(100), 32))
    loaded = WorldModel.load_from_checkpoint(saver.best_model_path)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_the_tuner_finds_a_learning_rate(tmp_path: Path) -> None:
    model, run, loader = WorldModel(), trainer(tmp_path, 1), DataLoader(spring(1000), 32)
    found = Tuner(run).lr_find(model, loader, num_training=20, early_stop_threshold=None)
    assert model.learning_rate == found.suggestion() != WorldModelConfig().learning_rate
    run.fit(model, loader)
    assert run.lr_scheduler_configs[0].scheduler.base_lrs == [model.learning_rate]


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
def test_other_precisions_work(tmp_path: Path, precision: Any) -> None:
    model = WorldModel()
    trainer(tmp_path, fast_dev_run=2, precision=precision).fit(model, DataLoader(spring(100), 32))
    assert model.predict(torch.zeros(1, 2), torch.zeros(1, 1, 1)).mean.isfinite().all()


def test_a_run_without_an_end_is_not_annealed(tmp_path: Path) -> None:
    model = WorldModel()
    options = {"max_time": {"seconds": 1}, "limit_train_batches": 1}
    run = trainer(tmp_path, -1, **options)
    run.fit(model, DataLoader(spring(64), 64))
    assert run.optimizers[0].param_groups[0]["lr"] == model.config.learning_rate


def test_the_learning_rate_falls_to_zero(tmp_path: Path) -> None:
    model = WorldModel()
    run = trainer(tmp_path, 2)
    run.fit(model, DataLoader(spring(64), 32))
    assert run.optimizers[0].param_groups[0]["lr"] == 0


def test_spaces_are_found_in_parts_of_a_dataset(tmp_path: Path) -> None:
    part, _ = random_split(spring(100), [80, 20])
    model = fitted(tmp_path, ConcatDataset([part, spring(50)]))
    assert (model.observation_space, model.action_space) == (OBSERVATIONS, FORCES)


def test_loaders_without_batches_work(tmp_path: Path) -> None:
    data = spring(100)
    sampler = BatchSampler(RandomSampler(data), 10, drop_last=False)

    for options in ({}, {"sampler": sampler}):
        loader = DataLoader(data, batch_size=None, **options)
        model = WorldModel()
        trainer(tmp_path, 1, limit_train_batches=2).fit(model, loader)
        assert torch.equal(model.network.lowest, fitted(tmp_path, data).network.lowest)


def test_measuring_the_data_draws_no_random_number(tmp_path: Path) -> None:
    def order(model: lightning.LightningModule) -> Tensor:
        seen: list[Tensor] = []
        model.on_train_batch_start = lambda batch, _: seen.append(batch["observations"])
        torch.manual_seed(0)
        trainer(tmp_path, 1).fit(model, DataLoader(spring(100), 32, shuffle=True))
        return torch.cat(seen)

    class Unmeasured(WorldModel):
        def setup(self, stage: str) -> None:
            pass

    found = order(built())
    assert torch.equal(found, order(Unmeasured(WorldModelConfig(), OBSERVATIONS, FORCES)))


def test_a_checkpoint_gives_back_the_same_model_bit_for_bit(tmp_path: Path) -> None:
    model = WorldModel(WorldModelConfig(num_members=2, hidden_sizes=(8, 16)))
    run = trainer(tmp_path, 1)
    run.fit(model, DataLoader(spring(100, action_space=CHOICES), 32))
    run.save_checkpoint(tmp_path / "model.ckpt")
    assert torch.load(tmp_path / "model.ckpt", weights_only=True)
    loaded = WorldModel.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert loaded.config == model.config
    assert (loaded.observation_space, loaded.action_space) == (OBSERVATIONS, CHOICES)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    windows = spring(5, action_space=CHOICES, window=3).steps
    ours, theirs = (
        m.predict(windows["observations"][:, 0], windows["actions"]) for m in (model, loaded)
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_resumed_run_ends_as_the_one_that_was_never_stopped(tmp_path: Path) -> None:
    def run(ckpt_path: Path | None = None) -> WorldModel:
        torch.manual_seed(0)
        model = WorldModel(WorldModelConfig(num_members=2, hidden_sizes=(8,)))
        saver = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
        options = {"enable_checkpointing": True, "callbacks": [saver]}
        loader = DataLoader(spring(100), 32, shuffle=True)
        trainer(tmp_path, 4, **options).fit(
            model, loader, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None
        )
        return model

    whole = run()
    torch.rand(7)  # resuming owes nothing to the random numbers that happen to be
    resumed = run(tmp_path / "epoch=1.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


# ---- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observation_space", "action_space"),
    [
        (spaces.Discrete(4), FORCES),
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), FORCES),
        (spaces.Box(0, 255, (8,), np.uint8), FORCES),
        (spaces.Dict(a=OBSERVATIONS), FORCES),
        (OBSERVATIONS, spaces.MultiDiscrete([2, 2])),
        (OBSERVATIONS, spaces.Box(-1, 1, (2, 2))),
    ],
)
def test_spaces_it_cannot_learn_are_refused(observation_space: Space, action_space: Space) -> None:
    with pytest.raises(SpaceError, match="expected"):
        WorldModel(WorldModelConfig(), observation_space, action_space)


def test_another_environments_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="Make a new world model"):
        trainer(tmp_path).fit(built(CHOICES), DataLoader(spring(10, action_space=FORCES)))


def test_several_environments_data_are_refused(tmp_path: Path) -> None:
    joined = ConcatDataset([spring(10), spring(10, action_space=CHOICES)])
    with pytest.raises(SpaceError, match="several environments"):
        trainer(tmp_path).fit(WorldModel(), DataLoader(joined, 4))


@pytest.mark.filterwarnings("ignore:Total length of")
def test_no_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="hold no step"):
        trainer(tmp_path).fit(WorldModel(), DataLoader(spring(0), 4))


def test_data_without_spaces_are_refused_unless_the_model_has_them(tmp_path: Path) -> None:
    items = [spring(4)[i] for i in range(4)]
    with pytest.raises(StateError, match="observation_space"):
        trainer(tmp_path).fit(WorldModel(), DataLoader(items, 2))
    trainer(tmp_path, 1).fit(built(), DataLoader(items, 2))


def test_batches_that_are_in_no_dataset_are_learned_from(tmp_path: Path) -> None:
    class Batches:
        def __iter__(self) -> Iterator[Any]:
            return iter(DataLoader(spring(100), 25))

        def __len__(self) -> int:
            return 4

    model = built()
    trainer(tmp_path, 1).fit(model, Batches())
    assert torch.equal(model.network.lowest, fitted(tmp_path, spring(100)).network.lowest)


def test_what_was_never_built_can_neither_predict_nor_be_saved(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="no sizes yet"):
        WorldModel().predict(torch.zeros(1, 2), torch.zeros(1, 1, 1))
    with pytest.raises(StateError, match="no sizes yet"):
        trainer(tmp_path).validate(WorldModel(), DataLoader(spring(4)), verbose=False)


def test_another_modules_checkpoint_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, 1)
    run.fit(WorldModel(), DataLoader(spring(10), 5))
    run.save_checkpoint(tmp_path / "model.ckpt")
    for kind in (DQNAgent, SACAgent):
        with pytest.raises(ConfigError, match=r"Config has no settings \[.*the class"):
            kind.load_from_checkpoint(tmp_path / "model.ckpt")
    with pytest.raises(StateError, match="no world model"):
        WorldModel().on_load_checkpoint({"state_dict": {}})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"observations": torch.zeros(5, 3)}, "observations have shape"),
        ({"actions": torch.zeros(5)}, "actions have shape"),
        ({"rewards": torch.zeros(5, 1)}, "expected"),
        ({"terminated": torch.zeros(4)}, "terminated have shape"),
    ],
)
def test_batches_of_other_shapes_are_refused(change: Steps, match: str) -> None:
    with pytest.raises(ShapeError, match=match):
        built().loss(spring(5).steps | change)


def test_batches_of_other_kinds_are_refused() -> None:
    with pytest.raises(ShapeError, match="expected a dict"):
        built().loss([torch.zeros(3)])
    with pytest.raises(ShapeError, match="expected a dict"):
        built().loss({"observations": torch.zeros(3, 2)})


@pytest.mark.parametrize("name", ["observations", "next_observations", "rewards", "actions"])
def test_data_that_are_not_finite_are_refused(tmp_path: Path, name: str) -> None:
    data = spring(20)
    data.steps[name].view(-1)[7] = float("nan")
    with pytest.raises(NonFiniteError, match="finite"):
        trainer(tmp_path).fit(WorldModel(), DataLoader(data, 10))


@pytest.mark.parametrize("action", [-2, 2])
def test_actions_that_are_no_choice_are_refused(tmp_path: Path, action: int) -> None:
    data = spring(20, action_space=CHOICES)  # -1, 0 and 1
    data.steps["actions"][3] = action
    with pytest.raises(SpaceError, match="expected -1 to 1"):
        trainer(tmp_path).fit(WorldModel(), DataLoader(data, 10))
    with pytest.raises(SpaceError, match="expected -1 to 1"):
        built(CHOICES).predict(torch.zeros(1, 2), torch.full((1, 4), action))


def test_predictions_from_other_shapes_are_refused() -> None:
    model = built()
    shapes = [((4, 3), (4, 5, 1)), ((4, 2), (4, 5)), ((4, 2), (3, 5, 1)), ((4, 2), (4, 0, 1))]
    for observations, actions in shapes:
        with pytest.raises(ShapeError, match="expected"):
            model.predict(torch.zeros(observations), torch.zeros(actions))
    with pytest.raises(ShapeError, match="k ≥ 1"):
        built(CHOICES).predict(torch.zeros(4, 2), torch.zeros(4))
    with pytest.raises(ShapeError, match="windows"):
        horizon_errors(model, spring(5).steps)


@pytest.mark.parametrize(
    "change",
    [
        {"num_members": 0}, {"hidden_sizes": ()}, {"hidden_sizes": (8, 0)},
        {"learning_rate": 0.0}, {"weight_decay": -1.0}, {"variance_weight": 1.5},
        {"variance_weight": float("nan")},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        WorldModelConfig(**change)


def test_weights_are_one_tensor_a_layer() -> None:
    """So that an ensemble of five costs little more than one network."""
    assert len(list(built().parameters())) == 2 * 3
    assert all(isinstance(p, nn.Parameter) and p.shape[0] == 5 for p in built().parameters())
