"""What the package's source calls, which versions it asks for, and what ordinary use touches."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

from tests.reliability.goals import Checks, Figure
from tests.reliability.proofs import ROOT

# ---- goal 24 ---------------------------------------------------------------------------------

IMPORTS = "importlib.import_module"  # which is harmless if the source itself names the module
CALLS = {"eval", "exec", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads",
         "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "yaml.load",
         "yaml.unsafe_load", "yaml.full_load", "marshal.loads", "shelve.open",
         IMPORTS}  # fmt: skip
OPTIONS = {("allow_pickle", True), ("shell", True), ("weights_only", False)}
SAVES = "save_checkpoint"  # whose `weights_only` says what is saved
# Whose code is run, where any is; nothing of it comes from a file that a user is handed.
ALLOWED = {
    ("exec", "classroom/child.py"): "a student's cells, behind walls",
    ("exec", "classroom/grading.py"): "the teacher's own cells",
    ("exec", "classroom/checking.py"): "one's own cells",
    ("exec", "classroom/verify.py"): "the teacher's own cells",
    ("pickle.loads", "experiments/worker.py"): "what its own parent sends through a pipe",
}


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangerous_calls(source: str) -> Iterator[str]:
    """Name each call in a source that runs code, or unpickles; `f(x, shell=True)` as shell=True."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = _dotted(node.func)
        names_itself = [type(argument) for argument in node.args] == [ast.Constant]
        if name in CALLS and not (name == IMPORTS and names_itself):
            yield name
        for option in node.keywords:
            value = getattr(option.value, "value", None)
            if (option.arg, value) in OPTIONS and not name.endswith(f".{SAVES}"):
                yield f"{option.arg}={value}"


def safe_by_construction(short: bool) -> Figure:
    """Look for dangerous calls in every file of the package, and let ruff look."""
    files = sorted((ROOT / "lightning_rl").rglob("*.py"))
    found = {
        (call, str(file.relative_to(ROOT / "lightning_rl")))
        for file in files
        for call in dangerous_calls(file.read_text())
    }
    more = sorted(found - set(ALLOWED))
    ruff = [sys.executable, "-m", "ruff", "check", "--select", "S", "--quiet", "lightning_rl"]
    clean = subprocess.run(ruff, cwd=ROOT, capture_output=True).returncode == 0
    words = f"{len(more)} dangerous calls in {len(files)} files {more or ''}".rstrip()
    known = f"but for {len(found & set(ALLOWED))} known places that run their owner's code"
    ruff_says = f"ruff's security rules {'hold' if clean else 'DO NOT HOLD'}"
    return Figure(f"{words}, {known}; {ruff_says}", not more and clean)


# ---- goal 25 ---------------------------------------------------------------------------------

BAD = {  # releases that were malicious, or open files unsafely, by why
    "lightning 2.6.2": "malicious", "lightning 2.6.3": "malicious",
    "lightning 2.6.5": "CVE-2026-58659", "torch 2.5.1": "CVE-2025-32434",
    "torch 2.9.1": "CVE-2026-24747",
}  # fmt: skip


def safe_versions(short: bool) -> Figure:
    """Hold the bounds that the package asks for against releases known to be bad."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = {one.name: one.specifier for one in map(Requirement, asked)}
    let_in = [bad for bad in BAD if bad.split()[1] in bounds[bad.split()[0]]]
    installed = {name: version(name) for name in ("lightning", "torch")}
    fits = all(found in bounds[name] for name, found in installed.items())
    words = f"{len(let_in)} of {len(BAD)} bad releases could be installed {let_in or ''}".rstrip()
    named = ", ".join(f"{name} {found}" for name, found in installed.items())
    return Figure(f"{words}; {named} {'fit' if fits else 'DO NOT FIT'}", fits and not let_in)


# ---- goal 27 ---------------------------------------------------------------------------------


def private_by_default(short: bool) -> Figure:
    """Watch what ordinary use touches, and search what it keeps for a key and the home's name."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "tests.reliability.private", home]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            return Figure(f"failed: {done.stderr[-500:]}", False)
        results = json.loads((Path(home) / "results.json").read_text())
    seen, kept = results["seen"], results["kept"]
    words = f"{len(seen)} sockets, programs or changes outside of the folder {seen or ''}".rstrip()
    git = f"{results['git']} questions to git"
    secrets = (
        f"{len(kept)} of {results['files']} files hold the environment's key or the home's name"
    )
    return Figure(f"{words}, but for {git}; {secrets} {kept or ''}".rstrip(), not seen and not kept)


CHECKS: Checks = [(24, safe_by_construction), (25, safe_versions), (27, private_by_default)]
