"""Training the arms of a comparison, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from ..engine.progress import bar
from ..errors import RunError
from ..registry import block_modules
from .recipe import Recipe

# Imports the modules of all registered blocks, so that a block of the user's is known in the process as well. The
# working directory, which -c puts first on the path, may be a stranger's.
CHILD = """
import sys
if sys.path[0] == "":
    del sys.path[0]
import importlib
start = sys.argv.index("train")
for name in sys.argv[1:start]:
    importlib.import_module(name)
from yolo_mha.cli import main
main(sys.argv[start:])
"""


def train_arms(plan: Recipe, data: Path, folder: Path) -> dict[str, float]:
    """Train every arm in a process of its own, ``jobs`` at a time.

    Args:
        plan: The recipe.
        data: The dataset YAML.
        folder: Where the runs and their logs go.

    Returns:
        Wall-clock seconds by arm.

    Raises:
        RunError: An arm failed; the others are stopped.
    """
    epochs = int(plan.train.get("epochs", 100))
    waiting = list(plan.arms)
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    seconds: dict[str, float] = {}
    folder.mkdir(parents=True)
    with bar() as progress:
        tasks = {arm: progress.add_task(f"training {arm}", total=epochs, start=False) for arm in plan.arms}
        try:
            while waiting or running:
                while waiting and len(running) < plan.jobs:
                    arm = waiting.pop(0)
                    running[arm] = (_start(plan, arm, data, folder), time.monotonic())
                    progress.start_task(tasks[arm])
                time.sleep(0.5)
                for arm, (process, started) in list(running.items()):
                    progress.update(tasks[arm], completed=len(curve(folder / arm / "results.csv")))
                    if process.poll() is None:
                        continue
                    del running[arm]
                    if process.returncode:
                        raise RunError(
                            f"The training of '{arm}' failed.",
                            given=_error(folder / f"{arm}.log"),
                            fix=f"the whole output is in {folder / f'{arm}.log'}",
                        )
                    seconds[arm] = time.monotonic() - started
        finally:
            for process, _ in running.values():
                process.terminate()
                process.wait()
    return seconds


def _start(plan: Recipe, arm: str, data: Path, folder: Path) -> subprocess.Popen[bytes]:
    words = {
        **plan.train,
        **plan.arms[arm],
        "data": data,
        "project": folder,
        "name": arm,
        "exist_ok": True,  # the log file lies there already
    }
    with (folder / f"{arm}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, *sorted(block_modules()), "train", *(f"{k}={v}" for k, v in words.items())],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )


def _error(log: Path) -> str:
    """Return what a training's output says went wrong, or else its last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for i in reversed(range(len(lines))):
        if "error: " in lines[i]:
            return " ".join(line.removeprefix("given:").strip() for line in lines[i : i + 2])
    return lines[-1] if lines else "no output"


def curve(results: Path) -> list[float]:
    """Read mAP50-95 after each finished epoch from Ultralytics' ``results.csv``."""
    if not results.exists():
        return []
    header, *rows = [line.split(",") for line in results.read_text(encoding="utf-8").splitlines()] or [[]]
    names = [h.strip() for h in header]
    column = names.index("metrics/mAP50-95(B)") if "metrics/mAP50-95(B)" in names else None
    return [float(row[column]) for row in rows if len(row) == len(names)] if column is not None else []
