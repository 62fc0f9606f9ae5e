"""The actor-critic network: sized by any environment, checked when bound."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from all_spaces import ACTION_SPACES, BOX, OBSERVATION_SPACES, B, batch, built, observing
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.testing import assert_close

from lightning_rl.agents.ppo import PPOAgent
from lightning_rl.errors import ShapeError, SpaceError
from lightning_rl.networks.actor_critic import (
    ActorCriticNetwork,
    FastTanh,
    check_actor_critic_outputs,
)
from lightning_rl.networks.distributions import num_action_parameters
from lightning_rl.networks.encoders import orthogonal

acting = pytest.mark.parametrize("action_space", ACTION_SPACES.values(), ids=ACTION_SPACES.keys())


@observing
@acting
def test_any_spaces_give_parameters_and_values(
    observation_space: Space, action_space: Space
) -> None:
    """(B, P) action parameters and (B,) values, float32; `policy` gives the former alone."""
    network, observations = built(observation_space, action_space), batch(observation_space)
    parameters, values = network(observations)
    assert parameters.shape == (B, num_action_parameters(action_space))
    assert values.shape == (B,)
    assert parameters.dtype == values.dtype == torch.float32
    assert_close(network.policy(observations), parameters)


@observing
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_network_of_another_precision_takes_every_observation(
    observation_space: Space, dtype: torch.dtype
) -> None:
    network = built(observation_space).to(dtype)
    assert [output.dtype for output in network(batch(observation_space))] == [dtype, dtype]


@pytest.mark.parametrize("gain", [0.01, 1.0, 2.0])
def test_orthogonal_layer_has_its_gain_and_no_bias(gain: float) -> None:
    layer = orthogonal(nn.Linear(6, 4), gain)
    assert_close(layer.weight @ layer.weight.T, gain**2 * torch.eye(4))
    assert not layer.bias.any()


def test_network_starts_with_orthogonal_layers_of_the_usual_gains() -> None:
    """√2 in the hidden layers, 0.01 for the policy, 1 for the values."""
    network = built(BOX, spaces.Discrete(3))
    hidden = network.hidden[0].weight  # (policy and values, 4 inputs, 8 outputs)
    for weight, gain in ((hidden[0], math.sqrt(2)), (hidden[1], math.sqrt(2)),
                         (network.actor.weight, 0.01), (network.critic.weight, 1.0)):  # fmt: skip
        assert_close(weight @ weight.T, gain**2 * torch.eye(len(weight)))
    assert not torch.equal(hidden[0], hidden[1])


def test_tanh_equals_torchs() -> None:
    inputs = torch.linspace(-20, 20, 1001)
    assert_close(FastTanh()(inputs), inputs.tanh(), atol=1e-6, rtol=0)


@acting
def test_new_policy_is_close_to_uniform(action_space: Space) -> None:
    """Its head is 100 times smaller than the value function's (Andrychowicz et al. 2021)."""
    parameters = built(BOX, action_space).policy(batch(BOX))
    outputs = parameters[:, :2] if isinstance(action_space, spaces.Box) else parameters
    assert outputs.abs().max() < 0.05


@pytest.mark.parametrize(
    ("low", "high", "center", "reach"),
    [
        (-1, 1, 0, 1), (0, 100, 50, 50), (-1000, 1000, 0, 1000), (0, 1e-3, 5e-4, 5e-4),
        (-math.inf, math.inf, 0, 1), (0, math.inf, 0, 1), (-1e30, 1e30, 0, 1), (3, 3, 0, 1),
    ],
)  # fmt: skip
def test_means_and_spread_are_in_the_units_of_the_bounds_where_there_are_some(
    low: float, high: float, center: float, reach: float
) -> None:
    """As if the environment were wrapped in RescaleAction(-1, 1); the state changes no spread."""
    usual = built(BOX, spaces.Box(-1, 1, (2,)))(batch(BOX))[0][:, :2]
    parameters = built(BOX, spaces.Box(low, high, (2,)))(batch(BOX))[0]
    assert_close(parameters[:, :2], center + reach * usual)
    assert_close(parameters[:, 2:], torch.full((B, 2), math.log(reach)))


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_a_box_of_integers_has_the_scale_of_its_bounds(dtype: str) -> None:
    network = built(BOX, spaces.Box(0, 10, (1,), dtype))
    assert (network.actor.center.item(), network.actor.reach.item()) == (5, 5)


def test_all_weights_are_trained() -> None:
    network = built(OBSERVATION_SPACES["dict"], ACTION_SPACES["box"])
    parameters, values = network(batch(OBSERVATION_SPACES["dict"]))
    (parameters.sum() + values.sum()).backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_no_hidden_layers_is_a_linear_policy() -> None:
    network = ActorCriticNetwork(hidden_sizes=())
    network.build(BOX, spaces.Discrete(2))
    observations = batch(BOX)
    assert_close(network.policy(2 * observations), 2 * network.policy(observations))


class ReturnsConstant(nn.Module):
    """A user's network, without `build`, that returns what it was told to."""

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, observations: Tensor) -> Any:
        return self.outputs


WRONG_OUTPUTS: dict[str, tuple[Any, str]] = {
    "column_of_values": ((torch.zeros(2, 3), torch.zeros(2, 1)), r"values have shape \(2, 1\)"),
    "scalar_value": ((torch.zeros(2, 3), torch.zeros(())), r"values have shape \(\)"),
    "wrong_number": ((torch.zeros(2, 4), torch.zeros(2)), r"parameters have shape \(2, 4\)"),
    "no_batch_axis": ((torch.zeros(3), torch.zeros(2)), r"parameters have shape \(3,\)"),
    "not_a_tuple": (torch.zeros(2, 3), "expected a tuple of two tensors"),
    "three": ((torch.zeros(2, 3), torch.zeros(2), 0), "expected a tuple of two tensors"),
    "no_tensor": ((torch.zeros(2, 3), None), "expected a tuple of two tensors"),
}


@pytest.mark.parametrize(("outputs", "message"), WRONG_OUTPUTS.values(), ids=WRONG_OUTPUTS.keys())
def test_wrong_outputs_are_refused_when_bound(outputs: Any, message: str) -> None:
    agent = PPOAgent(ReturnsConstant(outputs))
    with pytest.raises(ShapeError, match=message):
        agent.bind_spaces(BOX, spaces.Discrete(3))


@acting
def test_right_outputs_are_accepted(action_space: Space) -> None:
    outputs = torch.zeros(B, num_action_parameters(action_space)), torch.zeros(B)
    check_actor_critic_outputs(outputs, B, action_space)


UNSUPPORTED: dict[str, Space] = {
    "tuple": spaces.Tuple([BOX]),
    "text": spaces.Text(5),
    "sequence": spaces.Sequence(BOX),
    "nested_dict": spaces.Dict({"outer": spaces.Dict({"inner": BOX})}),
    "dict_of_tuple": spaces.Dict({"outer": spaces.Tuple([BOX])}),
}


@pytest.mark.parametrize("space", UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_unsupported_observation_space_says_what_to_do(space: Space) -> None:
    with pytest.raises(SpaceError, match=r"not supported.*FlattenObservation"):
        built(space)
