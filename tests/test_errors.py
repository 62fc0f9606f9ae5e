"""Counts: at least 1, and None only where it stands for what was not given."""

from __future__ import annotations

import dataclasses
import sys
from importlib import import_module
from typing import Any

import pytest

from lightning_rl import DQNConfig, PPOConfig, ReinforceConfig, SACConfig
from lightning_rl.errors import ConfigError, check_counts, check_given_counts, needs_extra
from lightning_rl.worlds import DreamConfig, WorldModelConfig


@pytest.mark.parametrize("count", [0, -3, 0.5, float("nan"), None])
def test_what_is_no_count_is_refused_by_its_name(count: Any) -> None:
    with pytest.raises(ConfigError, match=f"num_envs={count}; expected at least 1"):
        check_counts(batch_size=8, num_envs=count)


def test_what_was_not_given_is_no_wrong_count() -> None:
    check_given_counts(max_env_steps=None, num_envs=8)
    with pytest.raises(ConfigError, match="num_envs=0; expected at least 1"):
        check_given_counts(max_env_steps=None, num_envs=0)


COUNTS = [
    (kind, field.name)
    for kind in (PPOConfig, ReinforceConfig, DQNConfig, SACConfig, WorldModelConfig, DreamConfig)
    for field in dataclasses.fields(kind)
    if type(field.default) is int and field.default > 0
]


@pytest.mark.parametrize(
    ("kind", "name"), COUNTS, ids=lambda value: getattr(value, "__name__", value)
)
def test_no_config_takes_none_for_a_count(kind: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=None"):
        kind(**{name: None})


def test_an_extra_that_is_not_installed_is_named_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    words = r'^imageio_ffmpeg is not installed; .* to film\. .* "lightning_rl\[video\]"\.$'
    with pytest.raises(ConfigError, match=words), needs_extra("video", "to film"):
        import_module("imageio_ffmpeg")
    with pytest.raises(KeyError), needs_extra("video", "to film"):  # no other error is changed
        {}["frame"]
