"""Recorded episodes: every env step with its picture, and nothing is disturbed."""

from __future__ import annotations

import copy
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation
from IPython.core.formatters import DisplayFormatter
from painter import Painter, bound
from PIL import Image, ImageSequence

from lightning_rl import DQNAgent, LightningAgentModule, PPOAgent, SACAgent
from lightning_rl.errors import ConfigError, EnvError, SpaceError, StateError
from lightning_rl.notebook.player import EpisodePlayer
from lightning_rl.notebook.recording import EDGE, EpisodeRecord, record_episode


class Unseen(Painter):
    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012


def test_every_env_step_has_its_frame_from_the_first_state_to_the_last(
    painted: EpisodeRecord,
) -> None:
    assert painted.frames.dtype == np.uint8
    assert painted.frames.shape == (6, 8, 12, 3)
    assert painted.frames[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert len(painted) == len(painted.actions) == 5
    assert painted.terminated
    assert not painted.truncated
    assert painted.fps == 20


def test_the_return_so_far_sums_the_rewards_before_each_frame(painted: EpisodeRecord) -> None:
    assert painted.rewards.tolist() == painted.actions.tolist()
    assert painted.returns_so_far.tolist() == [0.0, *np.cumsum(painted.rewards)]
    assert painted.episode_return == painted.returns_so_far[-1]


def test_an_actor_critic_shows_its_probabilities_and_values(painted: EpisodeRecord) -> None:
    agent = bound(PPOAgent(), Painter)
    observations = torch.arange(6)[:, None].expand(6, 2) / 5
    with torch.no_grad():
        logits, values = agent.network(observations)
    assert painted.probabilities is not None
    # The weights are drawn from seed 0 in both, so the two agents are the same.
    np.testing.assert_allclose(painted.probabilities, logits.softmax(-1), atol=1e-6)
    np.testing.assert_allclose(painted.values, values, atol=1e-6)
    assert painted.actions.tolist() == logits[:-1].argmax(-1).tolist()


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.MultiDiscrete([2, 3]), ("probabilities", 5, 2.0)),
        (spaces.MultiBinary(3), ("probabilities", 3, None)),
        (spaces.Box(-1, 1, (2,), np.float32), ("means", 2, None)),
        (spaces.Discrete(3, start=4), ("probabilities", 3, 1.0)),
    ],
)
def test_every_action_space_is_shown(space: Any, expected: Any) -> None:
    env = Painter(space)
    record = record_episode(bound(PPOAgent(), env), env, deterministic=False)
    name, numbers, total = expected
    assert getattr(record, name).shape == (6, numbers)
    if total is not None:
        np.testing.assert_allclose(record.probabilities.sum(-1), total, rtol=1e-5)
    assert "data:image/webp" in EpisodePlayer(record).html


def test_dqn_shows_its_action_values_and_takes_the_best() -> None:
    record = record_episode(bound(DQNAgent(), Painter), Painter)
    assert record.probabilities is None
    assert record.action_values is not None
    assert record.action_values.argmax(-1)[:-1].tolist() == record.actions.tolist()
    np.testing.assert_array_equal(record.values, record.action_values.max(-1))


def test_sac_shows_its_best_action_and_a_spread_within_the_bounds() -> None:
    env = Painter(spaces.Box(-3, 1, (2,), np.float32))
    record = record_episode(bound(SACAgent(), env), env)
    assert record.means is not None
    assert record.stds is not None
    np.testing.assert_allclose(record.actions, record.means[:-1], atol=1e-6)
    assert ((record.means > -3) & (record.means < 1)).all()
    assert ((record.stds > 0) & (record.stds < 2)).all()
    assert record.values is not None


def test_an_agent_that_says_nothing_of_itself_is_recorded_all_the_same() -> None:
    class Still(LightningAgentModule):
        def act(self, observations: Any, deterministic: bool = False) -> Any:
            return torch.zeros(len(observations), dtype=torch.int64), {}

    record = record_episode(bound(Still(), Painter), Painter)
    assert record.probabilities is record.values is record.action_values is record.means is None
    assert record.actions.tolist() == [0] * 5
    assert "data:image/webp" in EpisodePlayer(record).html


def test_recording_leaves_the_agent_the_environment_and_all_random_numbers_alone() -> None:
    env = gym.make("CartPole-v1")
    agent = bound(PPOAgent(), env)
    agent.train()
    agent.network.actor.eval()
    agent.runner.reset(seed=3)
    observation = copy.deepcopy(agent.runner.observations)
    own, everyones = agent.generator.get_state(), torch.get_rng_state()
    record_episode(agent, env, deterministic=False, max_steps=3)
    assert torch.equal(own, agent.generator.get_state())
    assert torch.equal(everyones, torch.get_rng_state())
    assert agent.training
    assert not agent.network.actor.training
    np.testing.assert_allclose(env.unwrapped.state, observation[0], rtol=1e-6)
    assert env.render_mode is None


def test_drawn_actions_are_the_seeds_alone() -> None:
    agent = bound(PPOAgent(), Painter)
    first = record_episode(agent, Painter, seed=1, deterministic=False)
    agent.act(torch.zeros(1, 2))  # draws a random number
    again = record_episode(agent, Painter, seed=1, deterministic=False)
    seeds = [record_episode(agent, Painter, seed=s, deterministic=False) for s in range(6)]
    assert first.actions.tolist() == again.actions.tolist()
    assert len({tuple(record.actions.tolist()) for record in seeds}) > 1


def test_what_the_user_changed_on_an_environment_is_recorded_too() -> None:
    env = Painter()
    env.start = 2
    record = record_episode(bound(PPOAgent(), env), env)
    assert record.frames[:, 0, 0, 0].tolist() == [20, 30, 40, 50]


def test_max_steps_ends_a_long_episode() -> None:
    record = record_episode(bound(PPOAgent(), Painter), Painter, max_steps=2)
    assert len(record) == 2
    assert not record.terminated
    assert not record.truncated


def test_an_endless_episode_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_rl.notebook.recording.MAX_FRAME_BYTES", 3 * 8 * 12 * 3)
    agent = bound(PPOAgent(), Painter)
    message = "the episode did not end within 2 env steps, whose frames take .* it is cut there"
    with pytest.warns(UserWarning, match=message):
        record = record_episode(agent, Painter)
    assert (len(record), record.terminated, record.truncated) == (2, False, False)
    assert len(record_episode(agent, Painter, max_steps=4)) == 4  # as the user wants


def test_the_wrapper_that_normalises_shows_the_agent_what_it_was_trained_on() -> None:
    agent = bound(PPOAgent(), lambda: NormalizeObservation(Painter()))
    agent.start_run(0)
    agent.rollout(64)
    seen: list[Any] = []
    agent.prepare = lambda observations: seen.append(observations) or observations
    record_episode(agent, lambda: NormalizeObservation(Painter()), max_steps=1)
    statistics = agent.runner.env.envs[0].obs_rms
    expected = (0 - statistics.mean) / np.sqrt(statistics.var + 1e-8)
    np.testing.assert_allclose(seen[0][0], expected, rtol=1e-5)


def test_cartpole_is_drawn_without_a_display_and_shrunk(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    agent = bound(PPOAgent(), "CartPole-v1")
    record = record_episode(agent, "CartPole-v1", max_steps=3)
    assert record.frames.shape == (4, 200, 300, 3)
    assert not np.array_equal(record.frames[0], record.frames[-1])
    whole = record_episode(agent, gym.spec("CartPole-v1"), max_steps=3, height=400)
    assert whole.frames.shape == (4, 400, 600, 3)
    assert capfd.readouterr().err == ""


def test_an_environment_that_draws_no_arrays_is_refused() -> None:
    with pytest.raises(EnvError, match=r"render modes are \['ansi'\]; expected 'rgb_array'"):
        record_episode(bound(PPOAgent(), Unseen), Unseen)


@pytest.mark.parametrize("frame", [None, np.zeros((8, 12)), "text"])
def test_a_frame_that_is_no_picture_is_refused(frame: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Painter, "render", lambda _: frame)
    with pytest.raises(EnvError, match=r"expected an array \(H, W, 3\)"):
        record_episode(bound(PPOAgent(), Painter), Painter)


def test_other_misuses_are_named() -> None:
    agent = bound(PPOAgent(), "CartPole-v1")
    with pytest.raises(StateError, match="not met an environment"):
        record_episode(PPOAgent(), "CartPole-v1")
    with pytest.raises(EnvError, match="expected a single one"):
        record_episode(agent, gym.make_vec("CartPole-v1", num_envs=2))
    with pytest.raises(EnvError, match="NoSuchEnv"):
        record_episode(agent, "NoSuchEnv-v0")
    with pytest.raises(SpaceError):
        record_episode(agent, Painter)
    with pytest.raises(ConfigError, match="max_steps=0"):
        record_episode(agent, "CartPole-v1", max_steps=0)
    with pytest.raises(ConfigError, match="no environment"):
        EpisodePlayer(agent)


@pytest.mark.parametrize("name", ["episode.gif", "episode.png"])
def test_moving_pictures_hold_every_frame_at_the_right_speed(
    painted: EpisodeRecord, name: str, tmp_path: Path
) -> None:
    painted.save(tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        frames = [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(picture)]
        assert picture.info["duration"] == 50  # ms: 20 frames a second
        assert picture.info["loop"] == 0
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 10, 20, 30, 40, 50]


def test_a_gif_is_never_so_fast_that_browsers_slow_it_down(
    painted: EpisodeRecord, tmp_path: Path
) -> None:
    replace(painted, fps=125).save(tmp_path / "episode.gif")
    with Image.open(tmp_path / "episode.gif") as picture:
        assert picture.info["duration"] == 20


@pytest.mark.parametrize("ending", ["gif", "png", "mp4"])
def test_a_folder_that_does_not_exist_is_named(
    painted: EpisodeRecord, tmp_path: Path, ending: str
) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder .*nowhere"):
        painted.save(tmp_path / "nowhere" / f"episode.{ending}")


def test_an_mp4_needs_a_library_and_says_which(
    painted: EpisodeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ConfigError, match=r"write episode.mp4, .*lightning_rl\[video\]"):
        painted.save(tmp_path / "episode.mp4")
    with pytest.raises(ConfigError, match=r"expected \.gif, \.png or \.mp4"):
        painted.save(tmp_path / "episode.avi")


def test_an_mp4_is_written_where_the_library_is_installed(
    painted: EpisodeRecord, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    odd = replace(painted, frames=painted.frames[:, 1:, 1:])  # the codec wants even sizes
    odd.save(tmp_path / "episode.mp4")
    assert caplog.messages == []
    frames, seconds = ffmpeg.count_frames_and_secs(str(tmp_path / "episode.mp4"))
    assert frames == 6
    assert seconds == pytest.approx(0.3, abs=0.05)


def test_jupyter_and_github_show_a_contact_sheet(painted: EpisodeRecord) -> None:
    bundle, _ = DisplayFormatter().format(painted)
    with Image.open(io.BytesIO(bundle["image/png"])) as sheet:
        assert sheet.size == (4 * 12, 2 * 8)
        assert np.asarray(sheet)[-2, -2].tolist() == [50, 50, 50]
        assert np.asarray(sheet)[[0, 7, 8, -1], [0, 11, 12, -1]].tolist() == [list(EDGE)] * 4
    player, _ = DisplayFormatter().format(EpisodePlayer(painted))
    assert player["image/png"] == bundle["image/png"]
    assert player["text/html"].startswith("<div")
    assert player["text/plain"] == f"EpisodePlayer({painted!r})"
