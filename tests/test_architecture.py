"""The design, kept by a test: layers, sizes, public names, and how much PPO takes to read."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import lightning_rl

ROOT = Path(lightning_rl.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py"))
# A module imports only from rows above its own.
LAYERS = (
    ("errors",),
    ("functional", "distributions"),
    ("networks", "envs"),
    ("buffers", "history", "metrics", "checkpoint"),
    ("normalization", "storage"),
    ("replay",),
    ("prioritized",),
    ("agent",),
    ("loader",),
    ("plotting", "recording", "trajectory_files"),
    ("trajectory_recorder",),
    ("trajectories",),
    ("minari_format", "dynamics"),
    ("world_model",),
    ("world_model_plots",),
    ("callbacks", "controls", "doctor", "player"),
    ("live",),
    ("trainer",),
    ("agents.replay_agent",),
    ("agents", "agents.dqn", "agents.ppo", "agents.reinforce", "agents.sac"),
    ("dream",),
    ("testing",),
    ("",),  # the package itself
    ("__main__",),
)
# From `trainer.fit(agent, env)` to `optimizer.step()`, in the order of the calls.
PPO_PATH = {
    "trainer.py": ["AgentTrainer.fit", "AgentTrainer._training_loader"],
    "loader.py": ["EnvDataLoader.__iter__"],
    "agent.py": [
        "LightningAgentModule.next_minibatches",
        "LightningAgentModule.rollout",
        "LightningAgentModule.optimizer_step",
        "LightningAgentModule._update",
        "LightningAgentModule.on_before_backward",
        "LightningAgentModule.configure_gradient_clipping",
    ],
    "agents/ppo.py": [
        "PPOAgent.act",
        "PPOAgent.rollout",
        "PPOAgent.sample",
        "PPOAgent.compute_advantages",
        "PPOAgent.next_values",
        "PPOAgent.training_step",
        "PPOAgent.evaluate_actions",
        "PPOAgent.configure_optimizers",
    ],
    "networks.py": ["TwinLinear", "ActorCriticNetwork"],
    "functional.py": ["gae", "_discounted_sums", "ppo_policy_loss", "ppo_value_loss", "normalize"],
}
# What the path calls upon to hold and bring its data, and to draw an action.
PPO_DATA = {
    "envs.py": ["EnvRunner.step"],
    "buffers.py": ["RolloutBuffer.start", "RolloutBuffer.add", "RolloutBuffer.tensors"],
    "distributions.py": ["Categorical"],
    "metrics.py": ["check_loss"],
}

# What DQN and SAC have in common, and each its own.
REPLAY_PATH = {
    **{file: PPO_PATH[file] for file in ("trainer.py", "loader.py")},
    "agent.py": [name for name in PPO_PATH["agent.py"] if not name.endswith(".rollout")],
    "envs.py": ["EnvRunner.step"],
    "metrics.py": ["check_loss"],
    "replay.py": [
        f"ReplayBuffer.{name}"
        for name in (
            "start", "current", "add", "_advance", "minibatches", "_draw", "_gather",
            "_sum_rewards", "_as_tensors",
        )
    ],
    "agents/replay_agent.py": [
        "ReplayAgentModule.initial_rollout",
        "ReplayAgentModule.rollout",
        "ReplayAgentModule.sample",
        "move_target",
        "n_step_target",
    ],
}  # fmt: skip
DQN_PATH = REPLAY_PATH | {
    "agents/dqn.py": [
        f"DQNAgent.{name}"
        for name in (
            "act", "random_actions", "rollout", "td_targets", "training_step",
            "configure_optimizers",
        )
    ],
    "networks.py": ["QNetwork", "perceptron"],
}  # fmt: skip
SAC_PATH = REPLAY_PATH | {
    "agents/sac.py": [
        f"SACAgent.{name}"
        for name in (
            "act", "policy", "random_actions", "training_step", "critic_loss", "actor_loss",
            "configure_optimizers",
        )
    ] + ["frozen"],
    "networks.py": ["SoftActorCriticNetwork", "TwinCritic", "TwinLinear", "perceptron"],
    "distributions.py": ["SquashedGaussian"],
}  # fmt: skip


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def row_of(module: str) -> int:
    rows = [row for row, names in enumerate(LAYERS) if module in names]
    assert rows, f"{module!r} is in no layer: add it to LAYERS, where the design puts it"
    return rows[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> set[str]:
    """Collect every module that a file imports from, with full names."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]


def code_lines(node: ast.FunctionDef) -> int:
    """Count a function's lines without its docstring."""
    docstring = ast.get_docstring(node, clean=False)
    total = (node.end_lineno or 0) - node.lineno + 1
    return total - (docstring.count("\n") + 1 if docstring else 0)


def depth(node: ast.AST) -> int:
    """Count how deep blocks are nested within a function."""
    blocks = (ast.If, ast.For, ast.While, ast.With, ast.Try)
    inner = max((depth(child) for child in ast.iter_child_nodes(node)), default=0)
    return inner + isinstance(node, blocks) - _is_elif(node)


def _is_elif(node: ast.AST) -> int:
    """An `elif` is an `if` within an `else`, but reads as no deeper."""
    return int(
        isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
    )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_import_only_from_rows_above(path: Path) -> None:
    own = row_of(name_of(path))
    for module in imports(path):
        if module.split(".")[0] == "lightning_rl":
            imported = module.removeprefix("lightning_rl").removeprefix(".")
            assert row_of(imported) < own, f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_private_name_of_a_library_is_used(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            private = [name for name in names if name.startswith("_")]
            assert not private, f"{private} of {node.module}"
    # Our own classes may use their own private names, but never another object's.
    foreign = re.findall(r"(?:trainer|strategy|env|runner|optimizer)\._[a-z]\w*", path.read_text())
    assert not foreign


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
    for node in functions(path):
        assert code_lines(node) <= 50, node.name
        assert depth(node) <= 3, node.name


def test_most_functions_are_under_15_lines() -> None:
    lengths = sorted(code_lines(node) for path in MODULES for node in functions(path))
    assert lengths[len(lengths) * 3 // 4] < 15


def test_there_are_at_most_30_public_names_and_each_is_documented() -> None:
    assert len(lightning_rl.__all__) <= 30
    for name in lightning_rl.__all__:
        assert (getattr(lightning_rl, name).__doc__ or "").strip(), name


def lines_read(path: dict[str, list[str]]) -> int:
    total = 0
    for file, names in path.items():
        nodes = {}
        for node in tree_of(ROOT / file).body:
            nodes[getattr(node, "name", "")] = node
            for part in getattr(node, "body", []):
                nodes[f"{getattr(node, 'name', '')}.{getattr(part, 'name', '')}"] = part
        total += sum((nodes[n].end_lineno or 0) - nodes[n].lineno + 1 for n in names)
    return total


def test_ppo_is_read_from_fit_to_optimizer_step_in_650_lines_and_6_files() -> None:
    assert len(PPO_PATH) <= 6
    assert lines_read(PPO_PATH) + lines_read(PPO_DATA) <= 650


@pytest.mark.parametrize("path", [DQN_PATH, SAC_PATH], ids=["dqn", "sac"])
def test_replay_agents_are_read_from_fit_to_optimizer_step_in_650_lines(
    path: dict[str, list[str]],
) -> None:
    assert lines_read(path) <= 650


def test_importing_the_package_needs_no_optional_library() -> None:
    optional = {"pandas", "tensorboard", "stable_baselines3", "wandb", "minari", "pytest"}
    for path in MODULES:
        top = {
            name.split(".")[0]
            for node in tree_of(path).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            )
            if name
        }
        assert not top & optional, path.name
