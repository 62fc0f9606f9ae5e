"""What W&B has written offline, read back by its own command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def wandb_records(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read each run below a folder: its name -> its records, in the order they were written."""
    runs = {}
    for path in folder.rglob("*.wandb"):
        reader = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json"]
        said = subprocess.run([*reader, str(path)], capture_output=True, text=True, check=True)
        records = [json.loads(line) for line in said.stdout.splitlines()]
        (begun,) = of_kind(records, "run")
        runs[begun["display_name"]] = records
    return runs


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in records if record["type"] == kind]


def step_metrics(records: list[dict[str, Any]]) -> dict[str, str]:
    """Give the x-axis of each name, as `define_metric` has set it."""
    metrics = of_kind(records, "metric")
    return {m["glob_name"]: m["step_metric"] for m in metrics if "step_metric" in m}


def curve(records: list[dict[str, Any]], x: str, y: str) -> list[tuple[float, float]]:
    rows = [item["item"] for item in of_kind(records, "history")]
    return [(row[x], row[y]) for row in rows if y in row]


def config(records: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for update in of_kind(records, "config"):
        merged |= update["update"]
    return merged
