"""Files of settings: plain values only; nothing they name is imported, made or called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_rl.errors import ConfigError
from lightning_rl.settings_files import without_files


def as_options(tmp_path: Path, text: str, option: str = "--settings") -> list[str]:
    (tmp_path / "settings.yaml").write_text(text)
    return without_files(["ppo", option, str(tmp_path / "settings.yaml"), "--seed", "1"])[1:-2]


def test_each_setting_becomes_an_option(tmp_path: Path) -> None:
    text = "gamma: 0.5\ntarget_kl: null\nanneal_learning_rate: false\nsizes: [64, 32]\nname: a b"
    assert as_options(tmp_path, text) == [
        "--settings.gamma=0.5",
        "--settings.target_kl=null",
        "--settings.anneal_learning_rate=false",
        "--settings.sizes=[64, 32]",
        "--settings.name=a b",
    ]


def test_a_config_holds_the_settings_as_a_part(tmp_path: Path) -> None:
    content = {"env": "ALE/Pong-v5", "settings": {"gamma": 0.5}, "agent": {"gamma": 0.25}}
    options = ["--env=ALE/Pong-v5", "--settings.gamma=0.5", "--agent.gamma=0.25"]
    assert as_options(tmp_path, json.dumps(content), "--config") == options
    assert without_files([f"--config={json.dumps(content)}"]) == options
    assert without_files(["--conf", json.dumps(content)]) == options
    assert without_files(["--seed", "1", "--settings.gamma", "0.5"])[2:] == [
        "--settings.gamma",
        "0.5",
    ]


REFUSED = {
    "a class": "class_path: evil.Foo",
    "a class with arguments": "class_path: evil.Foo\ninit_args: {}",
    "a class by its name": "evil.Foo",
    "a class in a class's place": "gamma: {class_path: evil.Foo}",
    "an environment of a module": 'env: "evil:CartPole-v1"',
    "a path elsewhere": "buffer_directory: /home/teacher",
    "a path up": "buffer_directory: runs/../../..",
    "a path home": "buffer_directory: ~/runs",
    "a file of settings": "settings: evil.yaml",
    "a python tag": "!!python/object/apply:os.system ['echo']",
    "a python name": "gamma: !!python/name:os.system",
    "a dict of dicts": "a: {b: {c: 1}}",
    "a name that is an option": "gamma --output_dir: 5",
    "a number for a name": "1: 5",
    "no YAML": "{[",
    "deep": "[" * 500,
    "a list": "[1, 2]",
    "nothing": "",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("option", ["--settings", "--config"])
def test_all_else_is_refused(tmp_path: Path, text: str, option: str) -> None:
    with pytest.raises(ConfigError, match=r"the settings .*(expected|can't be read)"):
        as_options(tmp_path, text, option)


def test_a_part_of_a_config_may_be_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of numbers and text"):
        as_options(tmp_path, "settings: evil.Foo", "--config")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for source in (str(tmp_path), str(tmp_path / "none.yaml"), "evil.Foo", ""):
        with pytest.raises(ConfigError, match="can't be read"):
            without_files(["--settings", source])


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 65536"):
        as_options(tmp_path, "a: 1\n" * 100_000)
