"""The design, kept by a test: who imports whom, sizes, public names, how much PPO takes to read."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import lightning_rl

ROOT = Path(lightning_rl.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py"))
FOLDERS = sorted({path.parent for path in MODULES} - {ROOT})
# A file or folder imports only from rows above its own; within a folder there are no circles.
ROWS = (
    ("errors",),
    ("tuned",),
    ("settings", "regular_files", "ranks"),
    ("functional", "envs", "locks", "networks", "checkpoints", "threads", "updates"),
    ("buffers", "settings_files"),
    ("stats", "prediction"),
    ("policy",),
    ("agent",),
    ("loader", "evaluation", "export", "agents"),
    ("datamodule", "notebook", "trajectories"),
    ("callbacks", "notices"),
    ("trainer",),
    ("experiments",),
    ("worlds", "testing", "classroom"),
    ("__init__",),  # the package's own face
    ("__main__",),
)
# Private names used on something else than `self`: a copy of the same class, and the one guarded
# exception, for ipykernel, which has no public way yet.
OWN_OR_GUARDED = {"view._choose", "widget.comm._reply_subshell_for"}
# From `trainer.fit(agent, env)` to `optimizer.step()`, in the order of the calls.
PPO_PATH = {
    "trainer.py": ["AgentTrainer.fit", "AgentTrainer._training_loader"],
    "loader.py": ["EnvDataLoader.__iter__"],
    "agent.py": [
        "LightningAgentModule.start_iteration",
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
    "networks/actor_critic.py": ["TwinLinear", "ActorCriticNetwork"],
    "functional.py": ["gae", "_discounted_sums", "ppo_policy_loss", "ppo_value_loss", "normalize"],
}
# What the path calls upon to hold and bring its data, and to draw an action.
PPO_DATA = {
    "envs/runner.py": ["EnvRunner.step"],
    "buffers/rollout.py": ["RolloutBuffer.start", "RolloutBuffer.add", "RolloutBuffer.tensors"],
    "networks/distributions.py": ["Categorical"],
    "updates.py": ["check_loss"],
}

# What DQN and SAC have in common, and each its own.
REPLAY_PATH = {
    **{file: PPO_PATH[file] for file in ("trainer.py", "loader.py")},
    "agent.py": [name for name in PPO_PATH["agent.py"] if not name.endswith(".rollout")],
    "envs/runner.py": ["EnvRunner.step"],
    "updates.py": ["check_loss"],
    "functional.py": ["n_step_target"],
    "buffers/replay.py": [
        f"ReplayBuffer.{name}"
        for name in (
            "start", "current", "add", "_advance", "minibatches", "_draw", "_gather",
            "_sum_rewards",
        )
    ],
    "agents/replay_agent.py": [
        "ReplayAgentModule.initial_rollout",
        "ReplayAgentModule.rollout",
        "ReplayAgentModule.sample",
        "move_target",
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
    "networks/action_values.py": ["QNetwork", "mlp"],
}  # fmt: skip
SAC_PATH = REPLAY_PATH | {
    "agents/sac.py": [
        f"SACAgent.{name}"
        for name in (
            "act", "policy", "random_actions", "training_step", "critic_loss", "actor_loss",
            "configure_optimizers",
        )
    ] + ["frozen"],
    "networks/action_values.py": ["SoftActorCriticNetwork", "TwinCritic", "mlp"],
    "networks/actor_critic.py": ["TwinLinear"],
    "networks/distributions.py": ["SquashedGaussian"],
}  # fmt: skip

# From the state drawn as a picture to the reward that is dreamt of it.
PICTURE_PATH = {
    "worlds/pictures.py": ["PictureEnv.observations", "draw_cartpole", "_apart", "_inside"],
    "worlds/eye.py": [
        *(f"EyeNetwork.{name}" for name in ("scale", "encode", "decode", "measure", "see")),
        *(f"Eye.{name}" for name in ("loss", "training_step", "_keep_codes")),
    ],
    "worlds/percepts.py": [
        "join_percepts", "action_numbers", "look", "PerceivedEnv.step", "PerceivedEnv.follow",
        "perceive",
    ],
    "worlds/picture_chain.py": ["known_percepts", "make_picture_dream", "learn_from_pictures"],
    "worlds/world_model.py": ["WorldModel.loss"],
    "worlds/dynamics.py": [
        f"EnsembleNetwork.{name}"
        for name in ("targets", "normalize_inputs", "forward", "split_outputs", "outcome")
    ],
    "worlds/dream_env.py": ["DreamEnv.step", "DreamEnv._sample_step"],
}  # fmt: skip


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def row_of(place: str) -> int:
    rows = [row for row, places in enumerate(ROWS) if place in places]
    assert rows, f"{place!r} is in no row: add it to ROWS, where the design puts it"
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


def imported_names(path: Path) -> set[str]:
    """Collect what a file imports by name from modules."""
    nodes = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in nodes for alias in node.names}


def own_imports(path: Path) -> set[str]:
    """Collect the files of the package that a file imports from, as `name_of` calls them."""
    own = {m for m in imports(path) if m.split(".")[0] == "lightning_rl"}
    names = {module.removeprefix("lightning_rl").removeprefix(".") for module in own}
    faces = {name for name in names if (ROOT / name.replace(".", "/")).is_dir()}
    return (names - faces) | {f"{face}.__init__".removeprefix(".") for face in faces}


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> list[Function]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, Function)]


def code_lines(node: Function) -> int:
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
def test_folders_import_only_from_rows_above(path: Path) -> None:
    place = name_of(path).split(".")[0]
    row = row_of(place)
    for imported in own_imports(path):
        above = imported.split(".")[0]
        assert above == place or row_of(above) < row, f"{path} imports {imported}"


def test_a_file_opened_in_the_packages_own_folder_still_finds_pythons_modules() -> None:
    """Python looks for `import statistics` beside the script first, and so would Lightning."""
    assert not {path.stem for path in ROOT.iterdir()} & sys.stdlib_module_names


def test_files_import_each_other_without_circles() -> None:
    graph = {name_of(path): own_imports(path) for path in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the circle


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_name_is_imported_from_the_file_that_defines_it(path: Path) -> None:
    """So that a reader finds it at once. Faces are for users."""
    faces = {name for name in own_imports(path) if name.endswith("__init__")}
    assert not faces or name_of(path) in ("__init__", "__main__")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_folder_has_a_face_that_says_what_lives_there_and_what_does_not(folder: Path) -> None:
    face = importlib.import_module(f"lightning_rl.{folder.name}")
    lives, not_here = (face.__doc__ or "").strip().split("\n\n")
    assert "\n" not in lives
    assert "\n" not in not_here
    own = own_imports(folder / "__init__.py")
    assert {name.split(".")[0] for name in own} == {folder.name}
    for name in face.__all__:
        assert (getattr(face, name).__doc__ or "").strip(), name


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_private_name_of_a_library_is_used(path: Path) -> None:
    names = {*imports(path), *imported_names(path)} - {"__future__"}
    assert not [name for name in names if re.search(r"(^|\.)_", name)]
    # Our own classes may use their own private names, but never another object's.
    used = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)]
    private = {ast.unparse(node) for node in used if re.match("_[^_]", node.attr)}
    own = re.compile(r"(self|cls|super\(\))\._\w+|.*\._(replace|repr_\w+_)")
    assert {name for name in private if not own.fullmatch(name)} <= OWN_OR_GUARDED


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 450
    for node in functions(path):
        assert code_lines(node) <= 50, node.name
        assert depth(node) <= 3, node.name


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_file_has_one_subject(path: Path) -> None:
    """Its docstring's first line says it without "and"; a face says what a whole folder holds."""
    subject = (ast.get_docstring(tree_of(path)) or "").partition("\n")[0]
    assert subject.endswith((".", "?"))
    assert path.name == "__init__.py" or not re.search(r"\band\b|&", subject), subject


def test_the_tests_mirror_the_package_folder_by_folder() -> None:
    tests = Path(__file__).parent
    tested = {path.parent.name for path in tests.glob("*/test_*.py")}
    assert tested == {folder.name for folder in FOLDERS}
    for test in tests.glob("*/test_*.py"):
        module = ROOT / test.parent.name / test.name.removeprefix("test_")
        assert module.exists() or test.stem == "test_in_a_kernel", f"{test} tests no file"


def test_no_two_files_of_tests_have_one_name() -> None:
    """Pytest imports them by their names alone."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


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


def test_a_dream_of_pictures_is_read_from_picture_to_reward_in_500_lines() -> None:
    assert lines_read(PICTURE_PATH) <= 500


def test_importing_the_package_needs_no_optional_library() -> None:
    optional = {
        "pandas",
        "tensorboard",
        "stable_baselines3",
        "wandb",
        "optuna",
        "ray",
        "minari",
        "pytest",
        "nbgrader",
    }
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
