"""Pictures: what is drawn, from what, and what can't be."""

from __future__ import annotations

import copy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import NormalizeObservation

from lightning_rl import AgentTrainer, PPOAgent, PPOConfig, evaluate, record_episode
from lightning_rl.errors import ConfigError, EnvError, StateError
from lightning_rl.worlds import PictureEnv
from lightning_rl.worlds.pictures import draw_cartpole, draw_pendulum, find_painter, shrink

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def cartpole(x: float = 0.0, angle: float = 0.0, height: int = 16, width: int = 16) -> np.ndarray:
    return draw_cartpole(np.array([[x, 0.0, angle, 0.0]]), height, width)[0]


def centre(grey: np.ndarray) -> tuple[float, float]:
    """Find the row and the column about which a picture balances."""
    rows, columns = np.indices(grey.shape)
    return float((rows * grey).sum() / grey.sum()), float((columns * grey).sum() / grey.sum())


def test_the_cart_stands_where_its_state_says_and_the_pole_leans_as_it_says() -> None:
    middle = centre(cartpole())[1]
    assert middle == pytest.approx(7.5, abs=1e-4)
    assert centre(cartpole(x=1.0))[1] == pytest.approx(middle + 6 / 2.4, abs=0.01)
    upper = slice(0, 10)
    assert centre(cartpole(angle=0.1)[upper])[1] > middle > centre(cartpole(angle=-0.1)[upper])[1]
    pole = cartpole()[upper].sum()
    assert cartpole(x=2.4)[upper].sum() == pytest.approx(pole, rel=1e-3)  # it is not cut off


def test_greys_hold_what_is_smaller_than_a_pixel() -> None:
    assert centre(cartpole(x=0.01))[1] - centre(cartpole())[1] == pytest.approx(0.025, abs=0.005)


def test_a_picture_shows_the_same_at_every_size() -> None:
    large = cartpole(0.5, 0.1, 64, 64).reshape(16, 4, 16, 4).mean((1, 3))
    assert np.abs(large - cartpole(0.5, 0.1)).max() < 0.25  # only edges differ
    assert cartpole(height=16, width=24).shape == (16, 24)


def test_a_pendulum_stands_hangs_and_turns() -> None:
    up, down, left = draw_pendulum(np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0]]), 16, 16)
    assert centre(up)[0] < 6
    assert centre(down)[0] > 9
    assert centre(left)[1] < 6  # its angle grows counterclockwise, as Gymnasium draws it


def test_a_pendulum_is_drawn_as_gymnasium_draws_it() -> None:
    env = gym.make("Pendulum-v1", render_mode="rgb_array")
    states, _ = env.reset(seed=3)
    theirs = 1 - shrink(env.render(), 16, 16) / 255.0  # type: ignore[arg-type]
    ours = draw_pendulum(states[None], 16, 16)[0]
    assert centre(theirs) == pytest.approx(centre(ours), abs=1.5)  # theirs is shorter


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_observations_are_pictures_and_the_rest_stays(name: str) -> None:
    plain, drawn = gym.make_vec(name, 3), PictureEnv(name, 3)
    states, _ = plain.reset(seed=5)
    pictures, _ = drawn.reset(seed=5)
    actions = plain.action_space.sample()
    (states, *rest), (pictures, *same) = plain.step(actions), drawn.step(actions)
    assert pictures in drawn.observation_space
    assert pictures.dtype == np.uint8
    assert all((a == b).all() for a, b in zip(rest[:3], same[:3], strict=True))
    paint = find_painter(plain)
    assert paint is not None
    assert (pictures[..., 0] == (paint(states, 16, 16) * 255).round()).all()


def test_any_environment_that_renders_is_shrunk_and_made_grey() -> None:
    env = PictureEnv("MountainCar-v0", 2, 24, 36)
    pictures, _ = env.reset(seed=0)
    assert pictures.shape == (2, 24, 36, 1)
    assert pictures.std() > 0
    assert env.render()[0].shape[-1] == 3
    frame = np.zeros((4, 4, 3), np.uint8)
    frame[:2] = 200
    assert shrink(frame, 2, 2).tolist() == [[200, 200], [0, 0]]


def test_observations_that_were_changed_are_not_drawn_from() -> None:
    changed = SyncVectorEnv([lambda: NormalizeObservation(gym.make("CartPole-v1"))])
    assert find_painter(changed) is None
    assert find_painter(SyncVectorEnv([lambda: gym.make("CartPole-v1")])) is draw_cartpole


def test_a_single_environment_is_one_of_one() -> None:
    env = PictureEnv(gym.make("CartPole-v1"))
    assert env.num_envs == 1
    assert env.reset(seed=0)[0].shape == (1, 16, 16, 1)
    rendering = PictureEnv(gym.make("Acrobot-v1", render_mode="rgb_array"))
    assert rendering.reset(seed=0)[0].std() > 0


def test_a_function_may_draw() -> None:
    env = PictureEnv("Acrobot-v1", 2, 4, 4, paint=lambda states, h, w: np.ones((len(states), h, w)))
    assert env.reset(seed=0)[0].min() == 255


def test_people_see_a_larger_picture_of_the_same() -> None:
    env = PictureEnv("CartPole-v1", 1)
    with pytest.raises(StateError, match="reset"):
        env.render()
    small = env.reset(seed=0)[0][0, :, :, 0] / 255.0
    large = env.render()[0][..., 0] / 255.0
    assert large.shape == (192, 192)
    assert centre(large.reshape(16, 12, 16, 12).mean((1, 3))) == pytest.approx(
        centre(small), abs=0.1
    )


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(EnvError, match="render_mode='rgb_array'"):
        PictureEnv(gym.make_vec("Acrobot-v1", num_envs=2))
    with pytest.raises(EnvError, match="can't be drawn"):
        PictureEnv(gym.make("CliffWalking-v1"))
    with pytest.raises(ConfigError, match="height=0"):
        PictureEnv("CartPole-v1", height=0)
    same_step = gym.make_vec(
        "CartPole-v1",
        num_envs=2,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    with pytest.raises(ConfigError, match="NEXT_STEP"):
        PictureEnv(same_step)


def test_agents_take_it_as_any_environment() -> None:
    env = PictureEnv("CartPole-v1", 4)
    agent = PPOAgent(config=PPOConfig(rollout_steps=64, batch_size=32, update_epochs=1))
    AgentTrainer(max_env_steps=64, logger=False, enable_checkpointing=False).fit(agent, env)
    before = copy.deepcopy(env.render())
    assert len(evaluate(agent, env, episodes=4).returns) == 4
    assert (np.stack(before) == np.stack(env.render())).all()  # a copy was stepped
    record = record_episode(agent, PictureEnv("CartPole-v1", 1), max_steps=3)
    assert record.frames.shape == (4, 192, 192, 3)
    with pytest.raises(EnvError, match="of 4"):
        record_episode(agent, env)


class Blind(gym.Wrapper):
    """Renders what is no picture."""

    def __init__(self, shown: object) -> None:
        super().__init__(gym.make("Acrobot-v1", render_mode="rgb_array"))
        self.shown = shown

    def render(self) -> object:
        return self.shown


@pytest.mark.parametrize("shown", [None, "ansi", np.zeros((8, 8), np.uint8)])
def test_an_environment_that_renders_no_picture_is_refused(shown: object) -> None:
    with pytest.raises(EnvError, match="rendered"):
        PictureEnv(SyncVectorEnv([lambda: Blind(shown)])).reset(seed=0)
