"""What the tests of pictures share: small pictures, and an eye that was trained a little."""

from __future__ import annotations

from functools import cache
from tempfile import mkdtemp

from lightning_rl import PPOAgent, PPOConfig, TrajectoryDataset, make_random_trajectory
from lightning_rl.worlds import Eye, EyeConfig, PictureDreamConfig, PictureEnv, train_eye

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
TINY_EYE = EyeConfig(hidden_sizes=(16,))
TINY = PictureDreamConfig(
    random_steps=300, steps_per_round=60, envs_per_round=2, eye_epochs=2, model_epochs=2,
    batch_size=100, dream_steps=128, num_envs=8, horizon=20,
)  # fmt: skip


@cache
def some_pictures(env: str = "CartPole-v1") -> TrajectoryDataset:
    """Collect 300 random env steps in pictures, once."""
    return make_random_trajectory(PictureEnv(env), mkdtemp(), 300, progress=False)


@cache
def some_eye(env: str = "CartPole-v1") -> Eye:
    """Train a small eye on them, once; do not train it further."""
    return train_eye(some_pictures(env), Eye(TINY_EYE), TINY, **QUIET)


def small_ppo() -> PPOAgent:
    """Make an agent of short rollouts."""
    return PPOAgent(config=PPOConfig(rollout_steps=64, batch_size=32, update_epochs=2))
