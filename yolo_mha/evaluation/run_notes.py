"""Notes of a report about its runs: what can be concluded, how they went, versions and hardware, gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from ..data.beacons import EMBEDDED
from ..data.labels import MAX_NAMED
from ..scoring.intervals import LEAST_UNITS, Interval
from ..scoring.power import LEAST_SEEDS
from .comparison import IMAGES, RunResult, StartCheck
from .figures import figure
from .interim import FUTILE, Stage
from .plan import Plan
from .run_code import installed
from .runs import DONE, FAILED, Run
from .verdict import LEARNED
from .verdicts import FUTILITY
from .weights import class_notes

HARDWARE = {"device": "device", "driver": "driver", "threads": "number of threads"}
FEW_SEEDS = (
    "Fewer than 3 seeds: the intervals say how these very models would do on other images. Training again may turn the "
    "sign of a small difference, so there is no verdict."
)
LEAST_CURVE = 10  # epochs; fewer do not say whether a curve still rises
MADE_TASK = "The beacons task is made so that convolution cannot solve it; it says nothing about natural images."
SAME_IMAGES = (
    "Scores are of the last checkpoint on the {images} images; nothing was chosen on them unless the recipe itself "
    "was tuned on them."
)


def run_notes(
    plan: Plan,
    runs: Sequence[Run],
    results: Sequence[RunResult],
    start: Sequence[StartCheck],
    changed: Sequence[str],
) -> list[str]:
    """Say what may and may not be concluded from the runs of a comparison.

    Args:
        plan: The plan.
        runs: All of its runs.
        results: The same with their scores.
        start: Whether the arms of each seed began alike.
        changed: The arms whose blocks have another source now than when they were trained.
    """
    notes = plan.origin_notes or [SAME_IMAGES.format(images=IMAGES[plan.recipe.split])]
    notes = [*notes, *plan.data_notes, *plan.data_check.sentences()]
    finished = [run for run in runs if run.state == DONE]
    pair = (plan.recipe.baseline, plan.recipe.primary)
    if len(set.intersection(*({run.seed for run in finished if run.arm == arm} for arm in pair))) < LEAST_SEEDS:
        notes.insert(0, FEW_SEEDS)
    if plan.recipe.data == EMBEDDED:
        notes.append(MADE_TASK)
    if resumed := [f"{run.arm} seed {run.seed}" for run in runs if run.resumed]:
        notes.append(
            f"Resumed from a checkpoint after an interruption: {', '.join(resumed)}. Ultralytics stores checkpoints in "
            "half precision, so the result differs slightly from that of an uninterrupted run."
        )
    if again := [f"{run.arm} seed {run.seed} ({'; '.join(run.failures)})" for run in finished if run.failures]:
        notes.append(
            f"Failed at first, and tried again until done: {'; '.join(again)}. If the training itself diverged, this "
            "favours its arm, which would count as AP 0 without the new attempt."
        )
    if failed := [f"{run.arm} seed {run.seed} ({run.error})" for run in runs if run.state == FAILED]:
        notes.append(
            f"Failed and left out: {'; '.join(failed)}. The same command tries them again. "
            "The mean of an arm is over its own finished seeds, a difference over the seeds that both arms finished."
        )
    other = [str(check.seed) for check in start if not check.same_batches]
    apart = sorted({arm for check in start for arm, shared in check.shared.items() if shared < check.tensors})
    notes += learning_notes(results, plan.recipe.margin)
    if other:
        notes.append(f"The first batches of seed {', '.join(other)} are not known to be the same for all arms.")
    if apart:
        notes.append(f"Started from other weights than the baseline: {', '.join(apart)}.")
    if start and not other and not apart:
        notes.append(
            "All arms of a seed started with the same weights in their common layers, and with the same batch."
        )
    if changed:
        notes.append(
            f"The source of the blocks of {', '.join(changed)} has changed since the training, so no cost was measured."
        )
    notes += [*version_notes(finished), *hardware_notes(finished), *gate_notes(finished), *class_notes(plan)]
    notes += [
        f"{name} has in row {s.row} a convolution with {s.own:,} parameters for {s.block} with "
        f"{s.parameters:,} ({s.difference:+.2%})."
        for name, arm in plan.arms.items()
        for s in arm.substitutes
    ]
    return notes + _tie_notes(results)


def learning_notes(results: Sequence[RunResult], margin: float) -> list[str]:
    """Say what the runs did not learn: classes that none of them finds, and what more epochs would have added.

    Args:
        results: All runs with their scores.
        margin: The difference that matters.
    """
    notes = []
    scores = [result.per_class for result in results if result.per_class]
    if none := [
        name for name in (scores[0] if scores else ()) if all(0 <= own[name]["AP"] < LEARNED for own in scores)
    ]:
        more = f" and {len(none) - MAX_NAMED} other classes" if len(none) > MAX_NAMED else ""
        notes.append(
            f"No run has learned {', '.join(none[:MAX_NAMED])}{more} (AP below {LEARNED:g}), which lowers AP and hides "
            "differences. Train longer, at a larger imgsz, or look at the labels."
        )
    if (rise := last_rise(results)) > margin:
        notes.append(
            f"The runs were still learning: in the last fifth of their epochs mAP50-95 on the validation images was "
            f"{rise:.3f} higher, on average, than in the fifth before it."
        )
    return notes


def last_rise(results: Sequence[RunResult]) -> float:
    """Return by how much the mean validation mAP50-95 of the last fifth of the epochs exceeds that of the fifth before.

    Args:
        results: Runs; those that failed, were given, have fewer than ten epochs or were validated only at the end
            (``val=False``) count for nothing.
    """
    rises = []
    for result in results:
        if result.state == DONE and len(curve := result.curve) >= LEAST_CURVE and any(curve[:-1]):
            part = len(curve) // 5
            rises.append(mean(curve[-part:]) - mean(curve[-2 * part : -part]))
    return mean(rises) if rises else 0.0


def interim_note(stage: Stage) -> str:
    """Say what a look before the last one means."""
    seeds = f"Look {stage.number} of {stage.looks}: {len(stage.seeds)} of {stage.planned} seeds."
    left = f"The other {stage.planned - len(stage.seeds)} seeds"
    if stage.stop == FUTILITY:
        return f"{seeds} {left} are not trained: they would settle the question with a probability below {FUTILE:.0%}."
    if stage.stop:
        return f"{seeds} {left} are not trained, because the answer is there."
    return f"{seeds} The comparison goes on to {stage.next} seeds."


def reliance_notes(without: Mapping[str, float], results: Sequence[RunResult], margin: float) -> list[str]:
    """Say how much the trained networks rely on their blocks, which tells blocks of no help from blocks of no use.

    Args:
        without: AP by arm with the blocks of its first finished seed taken out, see `score_without_blocks`.
        results: All runs with their scores.
        margin: The smallest difference that matters.
    """
    notes = []
    for arm, ap in without.items():
        run = next(result for result in results if result.arm == arm and result.metrics)
        change = ap - run.metrics["AP"]
        relies = "relies on them, which does not show that they help" if abs(change) >= margin else "hardly uses them"
        notes.append(
            f"Taking the blocks out of {arm}, seed {run.seed}, changes its AP by {figure(change, margin)}: the network "
            f"{relies}."
        )
    return notes


def gate_notes(runs: Sequence[Run]) -> list[str]:
    """Say how far the gates of each arm have opened, and which never did."""
    notes = []
    for arm in dict.fromkeys(run.arm for run in runs if run.gates):
        own = [run for run in runs if run.arm == arm and run.gates]
        rows = {row: {run.seed: run.gates[row] for run in own if row in run.gates} for row in own[0].gates}
        seeds = named_runs(own).removeprefix(f"{arm} ")
        values = "; ".join(f"row {row} {', '.join(f'{v:.4f}' for v in found.values())}" for row, found in rows.items())
        notes.append(f"Gates of {arm} at the end, mean absolute weight, {seeds}: {values}.")
        for row, found in rows.items():
            if closed := [str(seed) for seed, value in found.items() if value == 0]:
                notes.append(
                    f"The gates of the block in row {row} of {arm} are still 0 with seed {', '.join(closed)}: it has "
                    "no effect on the model."
                )
    return notes


def version_notes(runs: Sequence[Run]) -> list[str]:
    """Say in one line where versions differ among runs, or from those that are installed now."""
    said = []
    for package, now in installed().items():
        trained: dict[str, list[Run]] = {}
        for run in runs:
            if own := run.versions.get(package):
                trained.setdefault(", then ".join(own), []).append(run)
        if set(trained) <= {now}:
            continue
        *fewer, most = sorted(trained, key=lambda version: len(trained[version]))
        words = [f"{version} trained {named_runs(trained[version])}" for version in fewer]
        words.append(f"{most} {'the others' if fewer else 'trained all runs'}")
        said.append(f"{package} {', '.join(words)}, and {now} is installed now")
    return [f"Versions differ: {'; '.join(said)}."] if said else []


def hardware_notes(runs: Sequence[Run]) -> list[str]:
    """Say where arms of one seed were trained on different devices, which may make a difference of their own."""
    notes = []
    for what in HARDWARE:
        used: dict[int, dict[str, list[Run]]] = {}
        for run in runs:
            if own := run.hardware.get(what):
                used.setdefault(run.seed, {}).setdefault(", then ".join(own), []).append(run)
        mixed = {seed: kinds for seed, kinds in used.items() if len(kinds) > 1}
        if mixed:
            seed, kinds = next(iter(mixed.items()))
            said = "; ".join(f"{kind}: {', '.join(run.arm for run in own)}" for kind, own in kinds.items())
            more = f", nor were those of seed {', '.join(map(str, list(mixed)[1:]))}" if len(mixed) > 1 else ""
            notes.append(
                f"The arms of seed {seed} were not trained on the same {HARDWARE[what]} ({said}){more}. Their "
                "differences may come from that."
            )
    return notes


def uneven_groups(interval: Interval | None) -> list[str]:
    """Say where groups differ so much in size that they count as too few."""
    if interval is None or interval.effective_groups is None or interval.effective_groups >= LEAST_UNITS:
        return []
    return [
        f"The groups differ much in size: {interval.sample()} count as {interval.effective_groups:.1f} groups of equal "
        f"size. With fewer than {LEAST_UNITS} an interval may be too narrow."
    ]


def named_runs(runs: Sequence[Run]) -> str:
    """Name runs by arm: attention seeds 0, 1."""
    arms: dict[str, list[str]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(str(run.seed))
    return ", ".join(f"{arm} seed{'s' * (len(own) > 1)} {', '.join(own)}" for arm, own in arms.items())


def _tie_notes(results: Sequence[RunResult]) -> list[str]:
    """Say of which runs AP depends on the order of equal scores."""
    tied = [f"{r.arm} seed {r.seed} {r.ties}" for r in results if r.ties and r.ties.matter]
    if not tied:
        return []
    return [
        f"AP depends on the order of equal scores in {'; '.join(tied)}. Few epochs and half precision make scores "
        "equal: train longer, or score in full precision."
    ]
