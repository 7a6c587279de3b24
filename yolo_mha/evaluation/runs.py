"""Training the runs of a comparison, arms x seeds, each in a process of its own that can be interrupted at any time."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress
from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.data.utils import img2label_paths

from ..data.dataset import load_dataset, read_dataset
from ..data.files import write_text
from ..data.links import source_of
from ..data.records import damaged, read_record
from ..engine.child import Child
from ..engine.progress import bar, console
from ..errors import DataError, one_line
from ..registry import Network
from ..surgery.text import dump, one_scale
from .claims import Claim, claim_file, is_held, release, renewed, take
from .folder import INPUTS
from .one_run import END, End, Job
from .plan import Plan
from .recipe import SCORED, Arm
from .run_code import as_planned, read_code
from .verdict import LEARNED
from .weights import write_start

# What Ultralytics takes from a checkpoint unless it is said, and so not for an arm that is a YAML.
FROM_CHECKPOINT = {key: DEFAULT_CFG_DICT[key] for key in ("imgsz", "single_cls")}
MEAN_AP = "metrics/mAP50-95(B)"  # a column of Ultralytics' results.csv
RUNNING, DONE, FAILED = "running", "done", "failed"
POLL = 0.2  # seconds between looks at the processes
SAVE = 5.0  # seconds between notes of the time that a run has taken, for the case that this process is killed
STOP = 10.0  # seconds that a process may take to end


@dataclass(frozen=True)
class Run:
    """One arm with one seed.

    Attributes:
        arm: Name of the arm.
        seed: The seed.
        folder: Ultralytics' folder of the run.
        state: "done" or "failed"; "running" only while it is, and after an interruption.
        seconds: Wall-clock time of all attempts together.
        resumed: How often it went on from a checkpoint.
        epochs: Number of finished epochs.
        error: Why it failed.
        failures: Why earlier attempts failed, and the last one if it did.
        curve: Ultralytics' mAP50-95 on the validation images after each epoch.
        peak_mib: The most memory that the process used in its last attempt, in MiB, see `process_peak_mib`.
        sources: SHA-256 of the source of each of its blocks.
        versions: Versions of torch, Ultralytics and yolo-mha that trained it; several where it went on with another.
        hardware: Device, driver and number of threads that trained it; several where it went on with another.
        gates: Mean absolute weight of each block's gates at the end, by row.
        given: Its checkpoint or its predictions, where it was not trained here.
    """

    arm: str
    seed: int
    folder: Path
    state: str = RUNNING
    seconds: float = 0.0
    resumed: int = 0
    epochs: int = 0
    error: str | None = None
    failures: list[str] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    sources: dict[str, str] = field(default_factory=dict)
    versions: dict[str, list[str]] = field(default_factory=dict)
    hardware: dict[str, list[str]] = field(default_factory=dict)
    gates: dict[str, float] = field(default_factory=dict)
    given: Path | None = None

    @property
    def last(self) -> Path:
        """The last checkpoint, or the file that was given."""
        return self.given or self.folder / "weights" / "last.pt"

    @property
    def log(self) -> Path:
        """What the training said."""
        return self.folder.with_name(f"{self.folder.name}.log")


@dataclass(frozen=True)
class _State:
    """Content of ``seed<k>.json``, see `Run`."""

    state: str
    seconds: float
    resumed: int
    error: str | None
    failures: list[str] = field(default_factory=list)


class ShownRun:
    """What is seen of a run while it trains: a bar, or a line an epoch where no bar is seen.

    Args:
        progress: Where the bar goes.
        run: The run at the beginning of this attempt.
        epochs: Number of epochs that it will have.
    """

    def __init__(self, progress: Progress, run: Run, epochs: int) -> None:
        self._progress, self._seen, self._epochs = progress, run.epochs, epochs
        self._name = f"{run.arm}, seed {run.seed}"
        self._task = progress.add_task(self._name, total=epochs, completed=run.epochs)

    def update(self, run: Run) -> None:
        """Show the epochs that have ended since."""
        for epoch in range(self._seen, 0 if console.is_terminal else run.epochs):
            ap = f", Ultralytics' mAP50-95 {run.curve[epoch]:.3f}" if run.curve else ""
            console.print(f"{self._name}: epoch {epoch + 1} of {self._epochs}{ap}", soft_wrap=True)
        self._seen = run.epochs
        self._progress.update(self._task, completed=run.epochs)

    def end(self) -> None:
        """Take the bar away."""
        self._progress.remove_task(self._task)


@dataclass
class _Attempt:
    """A process that trains a run, and the run as it was before; times are monotonic."""

    run: Run
    job: Job
    process: Child
    shown: ShownRun
    started: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    lost: bool = False  # its claim, after a pause that was too long

    def holds_claim(self) -> bool:
        """Say whether the run is still this process's."""
        return is_held(Path(self.job.claim), self.job.token)

    def now(self) -> Run:
        """Return the run with the time that this attempt has taken so far."""
        return replace(self.run, seconds=self.run.seconds + time.monotonic() - self.started)


def train_runs(plan: Plan, folder: Path, keys: Sequence[tuple[str, int]], wait: bool = True) -> list[Run]:
    """Train some runs, ``jobs`` at a time.

    A run that was interrupted goes on from its last checkpoint, or begins anew where it had none; one that is done is
    left alone, and one that failed is tried again. A run that fails does not stop the others. A run whose blocks had
    another source begins anew. Several processes, on several machines too, may train runs of one comparison: each
    claims a run before it begins.

    Args:
        plan: The plan.
        folder: The comparison's. Each run leaves ``arms/<arm>/seed<k>/``, and beside that its output, ``seed<k>.log``,
            and its state, ``seed<k>.json``; ``init/`` holds what they begin with.
        keys: Arm and seed of each, in the order in which they are begun.
        wait: Whether runs that other processes train are waited for; one that is not done there is trained here then.

    Returns:
        All of them in the same order.

    Raises:
        DataError: A file of the dataset went away.
    """
    folder, recipe = folder.resolve(), plan.recipe
    runs = {key: read_run(folder, *key) for key in keys}
    waiting = [key for key, run in runs.items() if run.state != DONE]
    if not waiting:
        return list(runs.values())
    epochs = epochs_of(recipe.train)
    running: dict[tuple[str, int], _Attempt] = {}
    claims: dict[Path, Claim] = {}
    _say_what_is_there(runs.values(), epochs)
    again, warned = 0.0, False  # when claims are tried next; that a run learned nothing
    with bar() as progress, renewed(claims):
        total = progress.add_task("training runs", total=len(runs), completed=len(runs) - len(waiting))
        try:
            while waiting or running:
                for key in waiting[:] if time.monotonic() >= again else ():
                    if len(running) == recipe.jobs:
                        break
                    again, run = time.monotonic() + SAVE, runs[key].folder
                    if claim := take(run):
                        claims[run] = claim
                    runs[key] = read_run(folder, *key)  # another process may have been there
                    if claim and runs[key].state != DONE:
                        _check_files(plan)
                        job = _job(plan, folder, runs[key], claim)
                        if is_held(claim_file(run), claim.token):
                            waiting.remove(key)
                            running[key] = _start(runs[key], job, plan.arms[key[0]].network, progress, epochs)
                            continue
                    if claim:
                        release(run, claims.pop(run))
                    if runs[key].state == DONE:
                        waiting.remove(key)
                        progress.advance(total)
                if not running and not wait:
                    break
                time.sleep(POLL)
                for key, attempt in list(running.items()):
                    runs[key] = _look(attempt)
                    if attempt.lost:
                        waiting.append(key)
                    elif runs[key].state == RUNNING:
                        continue
                    else:
                        progress.advance(total)
                        if waiting and not warned:
                            warned = _warn_of_no_ap(runs[key])
                    del running[key]
                    release(runs[key].folder, claims.pop(runs[key].folder))
                    again = 0.0
        except (KeyboardInterrupt, SystemExit):
            console.print("The runs are stopped. The same command goes on with them.")
            raise
        finally:
            for attempt in running.values():  # a process ends by itself when its input does
                attempt.process.end_input()
            for attempt in running.values():
                attempt.process.close(patience=STOP)
                if attempt.holds_claim():
                    _save(attempt.now())
            for run, claim in claims.items():
                release(run, claim)
    return list(runs.values())


def _say_what_is_there(runs: Collection[Run], epochs: int) -> None:
    """Say which runs are finished and which go on, where an earlier command began with them."""
    done = [run for run in runs if run.state == DONE]
    begun = [run for run in runs if run.state != DONE and run.epochs]
    if done or begun:
        words = [f"{run.arm}, seed {run.seed}: {run.epochs} of {epochs} epochs" for run in begun]
        console.print("; ".join([f"going on: {len(done)} of {len(runs)} runs are finished", *words]), soft_wrap=True)


def _warn_of_no_ap(run: Run) -> bool:
    """Say where a run has learned nothing, while the others can still be spared; return whether it has not."""
    nothing = run.state == DONE and bool(run.curve) and run.curve[-1] < LEARNED
    if nothing:
        console.print(
            f"warning: {run.arm}, seed {run.seed} has learned next to nothing (mAP50-95 {run.curve[-1]:.3f} on the "
            "validation images at its end). Where the other runs do the same there is no verdict. "
            "Press Ctrl-C to stop, and train longer (epochs=) or from trained weights (model=FILE.pt).",
            soft_wrap=True,
        )
    return nothing


def _check_files(plan: Plan) -> None:
    """Refuse to train a run on other files than the runs before it.

    Raises:
        DataError: A file that was there when the comparison was planned is gone, or was changed, or there are others.
    """
    expected = "the images and labels that the other runs are trained on"
    for samples in plan.samples.values():
        labels = img2label_paths([str(sample.image) for sample in samples])
        for sample, label in zip(samples, labels, strict=True):
            for file in (sample.image, *([Path(label)] if len(sample.classes) else [])):
                if not file.is_file():
                    raise DataError(
                        "A file of the dataset is missing.",
                        given=file,
                        expected=expected,
                        fix="restore it and run the same command again; finished runs are kept",
                    )
    known = plan.dataset.yaml  # its name is made of what it links to
    now = read_dataset(load_dataset(known), plan.samples, plan.recipe.bad).dataset.yaml
    if now != known:
        raise DataError(
            "The dataset was changed while the comparison was trained.",
            given=source_of(known),
            expected=expected,
            fix="restore it and run the same command again; with the new data that begins another comparison",
        )


def epochs_of(train: Mapping[str, Any]) -> int:
    """Return the number of epochs that training settings ask for."""
    return int(train.get("epochs", DEFAULT_CFG_DICT["epochs"]))


def read_run(folder: Path, arm: str, seed: int) -> Run:
    """Return what is known of a run; nothing of one whose blocks had another source than the comparison's.

    Args:
        folder: The comparison's.
        arm: Name of the arm.
        seed: The seed.
    """
    run = Run(arm, seed, folder / "arms" / arm / f"seed{seed}")
    code = read_code(run.folder)
    if code.sources and not as_planned(code.sources, read_record(folder / INPUTS, dict[str, str]) or {}):
        return run
    run = replace(run, **vars(code), **read_record(run.folder.with_name(f"seed{seed}.json"), _State) or {})
    if end := read_record(run.folder / END, End):  # also where this process was killed before it could say so
        run = replace(run, state=DONE, error=None, **end)
    elif run.state == DONE:  # its folder was taken away, so that it is trained again
        run = replace(run, state=RUNNING)
    results = run.folder / "results.csv"
    try:
        header, rows = _table(results)
        curve = [float(row[header.index(MEAN_AP)]) for row in rows] if MEAN_AP in header else []
    except ValueError as e:
        raise damaged(results, one_line(e)) from e
    return replace(run, epochs=len(rows), curve=curve)


def _table(results: Path) -> tuple[list[str], list[list[str]]]:
    """Return header and whole rows of a CSV file that may be growing."""
    if not results.exists():
        return [], []
    header, *rows = [line.split(",") for line in results.read_text(encoding="utf-8").splitlines()] or [[]]
    return [name.strip() for name in header], [row for row in rows if len(row) == len(header)]


def _job(plan: Plan, folder: Path, run: Run, claim: Claim) -> Job:
    """Say what `train` is called with, and write the files that this names."""
    arm, recipe = plan.arms[run.arm], plan.recipe
    start = folder / "init" / f"seed{run.seed}.pt"
    if not start.exists():
        write_start(plan, run.seed, start)
    own = recipe.arms[run.arm]
    if arm.substitutes:
        model = folder / "init" / f"arm{list(plan.arms).index(run.arm)}.yaml"  # an arm's name might look like a scale's
        write_text(model, dump(one_scale(arm.network.yaml)))
        own = Arm(str(model), freeze_base=recipe.origin(run.arm).freeze_base)
    settings = {
        **FROM_CHECKPOINT,
        **recipe.train,
        **({"pretrained": str(start)} if arm.extends else {}),
        **own.settings(),
        "data": str(plan.dataset.yaml),
        "patience": 0,  # stopping early would choose on the images that are scored
        "project": str(run.folder.parent),
        "name": run.folder.name,
        "exist_ok": True,
    }
    return Job(
        settings, run.seed, str(run.folder), recipe.keep_best, arm.sources, str(claim_file(run.folder)), claim.token
    )


def _start(run: Run, job: Job, network: Network, progress: Progress, epochs: int) -> _Attempt:
    """Start the process of a run that was claimed."""
    goes_on = run.last.exists() and run.sources == job.sources
    if not goes_on:
        shutil.rmtree(run.folder, ignore_errors=True)  # an attempt without a checkpoint, or of other code
    for split in SCORED:  # scores of what was trained here before
        shutil.rmtree(run.folder.parents[2] / split / run.arm / run.folder.name, ignore_errors=True)
    run = replace(run, state=RUNNING, resumed=run.resumed + goes_on, error=None)
    _save(run)
    process = Child(Job.__module__, network, run.log, answers=False, append=goes_on)
    process.send(job)
    shown = ShownRun(progress, run if goes_on else replace(run, epochs=0), epochs)
    return _Attempt(run, job, process, shown)


def _look(attempt: _Attempt) -> Run:
    """Return the state of a run whose process was started, and note it."""
    run, code = attempt.now(), attempt.process.poll()
    attempt.shown.update(read_run(run.folder.parents[2], run.arm, run.seed))
    if code is None:
        if time.monotonic() - attempt.saved > SAVE:
            attempt.saved = time.monotonic()
            attempt.lost = not attempt.holds_claim()
            if attempt.lost:
                attempt.process.close()
                attempt.shown.end()
            else:
                _save(run)
        return run
    attempt.process.close()
    attempt.shown.end()
    attempt.lost = not attempt.holds_claim()
    if attempt.lost:
        return run
    done = code == 0 and (run.folder / END).exists()
    if done:
        run = replace(run, state=DONE)
    else:
        error = attempt.process.fault()
        run = replace(run, state=FAILED, error=error, failures=[*run.failures, error])
    _save(run)
    # one that is done says more of itself, and one that is not has its epochs
    return read_run(run.folder.parents[2], run.arm, run.seed)


def _save(run: Run) -> None:
    state = {key: getattr(run, key) for key in ("state", "seconds", "resumed", "error", "failures")}
    write_text(run.folder.with_name(f"{run.folder.name}.json"), json.dumps(state, indent=2))
