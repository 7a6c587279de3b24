"""`compare engine=ray`: each run of a comparison is a task of a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..engine.own_settings import checked
from ..engine.progress import bar
from ..evaluation.compare import run_comparison
from ..evaluation.comparison import Comparison
from ..evaluation.plan import Plan
from ..evaluation.runs import DONE, FAILED, STOP, Run, ShownRun, epochs_of, read_run, train_runs
from ..guard import guarded
from .ray_cluster import AUTO, Resources, joined, packed, unpacked, workers
from .single import recipe_to_train

LOSSES = 10  # how often a run may lose its worker, before it has failed
POLL = 1.0  # seconds between looks at the runs


@checked
@guarded()
def compare_on_ray(
    recipe: str | Path | None = None,
    *,
    address: str = AUTO,
    gpus_per_run: float = 1,
    cpus_per_run: int = 1,
    project: str | Path | None = None,
    **settings: Any,
) -> Comparison:
    """Run a comparison on a Ray cluster that is running, and score and report it here.

    All machines see the results, the data and the models under the same paths. A run whose worker is lost begins again
    elsewhere, from its last checkpoint. The same call after an interruption goes on where it was. How many runs go at
    the same time follows from what each takes of the machines, not from ``jobs``.

    Args:
        recipe: A recipe YAML; or None.
        address: "auto" for the cluster that this machine belongs to, or host:port of its head.
        gpus_per_run: Number of GPUs that a run takes: 1, a part of one where runs share it, or 0 to train on the CPU.
        cpus_per_run: Number of CPU cores that a run takes, and of its threads.
        project: Folder for the folders of all comparisons; ``runs/compare`` if not given.
        **settings: As for `compare`, or beside a recipe as for `run_recipe`.

    Returns:
        The comparison.

    Raises:
        ConfigError: There is no such cluster, no machine has enough CPUs or GPUs, a machine sees other files; and as
            `compare`.
        DependencyError: Ray is missing.
        ModelError, CheckpointError, DataError, UnsupportedTaskError, RunError: As `compare`.
    """
    wanted, resources = recipe_to_train(recipe, settings), Resources(cpus_per_run, gpus_per_run, "run")
    resources.check(wanted.train.get("device"))

    def train(plan: Plan, folder: Path, keys: Sequence[tuple[str, int]]) -> list[Run]:
        return _train_runs(plan, folder, keys, resources)

    with joined(address):
        workers(resources)
        return run_comparison(wanted, project, train)


def _train_runs(plan: Plan, folder: Path, keys: Sequence[tuple[str, int]], resources: Resources) -> list[Run]:
    """Train some runs on the cluster; see `train_runs`, which each task calls for one of them."""
    import ray

    folder = folder.resolve()
    runs = {key: read_run(folder, *key) for key in keys}
    task = ray.remote(_train_run).options(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=LOSSES)
    content = ray.put(packed(plan))
    tasks = {task.remote(content, str(folder), key, resources): key for key, run in runs.items() if run.state != DONE}
    shown: dict[tuple[str, int], ShownRun] = {}
    with bar() as progress:
        total = progress.add_task("training runs", total=len(runs), completed=len(runs) - len(tasks))
        try:
            while tasks:
                ended, going = ray.wait(list(tasks), timeout=POLL)
                for each in (*ended, *going):
                    known = read_run(folder, *(key := tasks[each]))
                    if key not in shown and known.folder.exists():
                        shown[key] = ShownRun(progress, runs[key], epochs_of(plan.recipe.train))
                    if key in shown:
                        shown[key].update(known)
                for each in ended:
                    key = tasks.pop(each)
                    runs[key] = _ended(each, folder, key)
                    progress.advance(total)
                    if key in shown:
                        shown[key].end()
        finally:
            for each in tasks:
                ray.cancel(each)
            if tasks:  # which end their trainings, and say how long these have taken
                ray.wait(list(tasks), num_returns=len(tasks), timeout=STOP)
    return list(runs.values())


def _ended(task: Any, folder: Path, key: tuple[str, int]) -> Run:
    """Return a run whose task has ended.

    Raises:
        YoloMHAError: What the task raised: the machine has other files, or a file of the dataset is gone.
    """
    import ray

    try:
        ray.get(task)
    except ray.exceptions.RayTaskError as e:
        raise e.cause from None
    except ray.exceptions.RayError:
        error = f"its worker was lost {LOSSES + 1} times"
        return replace(read_run(folder, *key), state=FAILED, error=error)
    return read_run(folder, *key)


def _train_run(content: bytes, folder: str, key: tuple[str, int], resources: Resources) -> None:
    """Train one run, in a worker; one that is trained elsewhere is waited for."""
    resources.take()
    (plan,) = unpacked(content, Path(folder))
    with guarded():
        train_runs(plan, Path(folder), [key])
