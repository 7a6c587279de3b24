"""What a comparison found; its JSON Schema is ``compare.schema.json`` beside this file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..data.data_check import DataCheck
from ..profiling.cost import Cost
from ..result import Result
from ..scoring.intervals import Interval
from ..scoring.ties import Ties
from .declared import Declaration
from .interim import Stage
from .looks import Look
from .recipe import Recipe
from .verdict import Verdict

SCHEMA_VERSION = 1
IMAGES = {"val": "validation", "test": "test"}  # the images of a split, in words
ESTIMAND = (
    "The result is the expected difference in AP between two arms that are trained with this recipe on these training "
    "images, over training randomness (the seed: initial weights, order and augmentation of the images). Scored is "
    "the last checkpoint, on images of the distribution that the {images} images are a sample of. {further}Other "
    "training images, another recipe or images of another kind may give another difference."
)
GIVEN_ESTIMAND = (
    "The result is the expected difference in AP between two arms, over what varies between the runs of an arm. It is "
    "due to the arms if all else was the same for both and no run was chosen by its result. Scored are the given "
    "{kind}, on images of the distribution that the {images} images are a sample of. Other training images, another "
    "training or images of another kind may give another difference."
)
FURTHER = (
    "Training begins with the weights of {file}: the seeds vary this further training, not the training that made that "
    "file. "
)
METHOD = (
    "Seeds and images are crossed: all models are scored on the same images. AP is recomputed on {resamples:,} "
    "resamples of the images, drawn once for all models. The 95 % interval joins the spread over seeds, with Student's "
    "t, and the share of the images that all seeds have in common (two-way random model; Howe 1974). With fewer than 3 "
    "seeds it covers the choice of images alone."
)
INDEPENDENT = (
    " Images are assumed to be independent. If they are not, such as frames of a video, intervals are too narrow; "
    "group= resamples groups of them. With fewer than 10 images that hold an object of a kind there is no interval."
)
GROUPED = (
    " Images are resampled in groups (group={group}), because those of a group are not independent; groups of unequal "
    "size count as fewer (effective number of groups, Carter et al. 2017). With fewer than 10 groups that hold an "
    "object of a kind there is no interval."
)


@dataclass(frozen=True)
class RunResult:
    """One arm with one seed.

    Attributes:
        arm: Name of the arm.
        seed: The seed.
        state: "done", "failed", or "unfinished" where it is not trained to its end and others were concluded alone.
        error: Why it failed.
        weights: The scored checkpoint, below the comparison's folder: the last one, so that none was chosen on the
            images it is scored on. Of a given run the full path of its checkpoint or predictions.
        metrics: The twelve COCO numbers; empty for a failed run.
        per_class: By class AP, AP50, AP by size, and the number of objects.
        epochs: Number of finished epochs; of a given run this and the next four are 0 or empty.
        seconds: Wall-clock time of the training process, all attempts together.
        resumed: How often it went on after an interruption.
        peak_mib: The most memory that the training process held, in MiB.
        curve: Ultralytics' mAP50-95 on the validation images after each epoch.
        ties: How AP depends on the order of equal scores.
        sources: SHA-256 of the source of each of its blocks.
        versions: Versions of torch, Ultralytics and yolo-mha that trained it; several where it went on with another.
        hardware: Device, driver and number of threads that trained it; several where it went on with another.
        gates: Mean absolute weight of each block's gates at the end, by row; at 0 a block changes nothing.
        failures: Why attempts to train it failed.
    """

    arm: str
    seed: int
    state: str
    error: str | None
    weights: str
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    epochs: int
    seconds: float
    resumed: int
    peak_mib: float
    curve: list[float]
    ties: Ties | None = None
    sources: dict[str, str] = field(default_factory=dict)
    versions: dict[str, list[str]] = field(default_factory=dict)
    hardware: dict[str, list[str]] = field(default_factory=dict)
    gates: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ArmResult:
    """One arm over its finished seeds.

    Attributes:
        model: What was trained, in the words of the command line; or which runs were given.
        metrics: Means over seeds of the twelve COCO numbers; -1 where there is no object of that size.
        per_class: Means over seeds of the numbers by class.
        cost: Parameters, operations, latency and memory; None where no seed finished, and for predictions.
        train_seconds: Mean wall-clock time of a training.
        without_blocks: AP of the first finished seed with its blocks taken out, all other weights kept; None where
            there are none, or the baseline has some itself.
    """

    model: str
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    cost: Cost | None
    train_seconds: float
    without_blocks: float | None = None


@dataclass(frozen=True)
class Contrast:
    """The difference between two arms.

    Attributes:
        arm: The one.
        against: The other, which is subtracted.
        primary: Whether this is the contrast that the comparison was made for.
        seeds: Seeds that both finished.
        effects: Difference by metric: AP, AP50, APsmall, APmedium, APlarge, and ``metric``; None where it is not
            defined. Their intervals are not corrected for looks or for other contrasts.
        per_class: Difference in AP by class.
        verdict: On ``metric``.
        with_failures: Difference over all seeds that were tried, with AP 0 for a failed run; None where none failed.
        rare: Classes of ``metric`` that are on fewer than ten test images, or groups of these.
        without_rare: Difference without these classes; None where there are none, or no others.
        metric: What the verdict is about.
        named: Whether it was named before the run, as the primary one is; everything else is exploratory.
        deltas: The difference of each seed.
        best: The metric of the better arm, the mean over seeds.
        judged: The interval that the verdict is read from, where it was corrected.
    """

    arm: str
    against: str
    primary: bool
    seeds: list[int]
    effects: dict[str, Interval | None]
    per_class: dict[str, Interval | None]
    verdict: Verdict
    with_failures: Interval | None = None
    rare: list[str] = field(default_factory=list)
    without_rare: Interval | None = None
    metric: str = "AP"
    named: bool = False
    deltas: list[float] = field(default_factory=list)
    best: float = 0.0
    judged: Interval | None = None

    @property
    def effect(self) -> Interval | None:
        """The difference that the verdict is about."""
        return self.effects[self.metric]

    @property
    def interval(self) -> Interval | None:
        """The difference with the interval that the verdict is read from."""
        return self.judged or self.effect

    @property
    def counted(self) -> list[Interval]:
        """The differences that have to give one answer, uncorrected: also with failed runs and without rare classes."""
        return [interval for interval in (self.effect, self.with_failures, self.without_rare) if interval]

    @property
    def role(self) -> str:
        return "primary" if self.primary else "named" if self.named else "exploratory"

    def __str__(self) -> str:
        return f"{self.arm} - {self.against}" + (f", {self.metric}" if self.metric != "AP" else "")


@dataclass(frozen=True)
class Win:
    """An image that speaks for one of two arms.

    Attributes:
        image: The file.
        arm: The arm that is compared with the baseline.
        influence: By how much the difference in AP, arm less baseline, falls when this image is left out; below zero
            it speaks for the baseline.
    """

    image: str
    arm: str
    influence: float


@dataclass(frozen=True)
class StartCheck:
    """Whether the arms of a seed began alike.

    Attributes:
        seed: The seed.
        first_batch: SHA-256 of the first training batch, images and labels, by arm.
        same_batches: Whether it is the same for all arms.
        shared: How many of the baseline's tensors each arm began with, bit by bit.
        weights: SHA-256 over those tensors of each arm that stand where the baseline has its own.
        tensors: Number of the baseline's tensors.
    """

    seed: int
    first_batch: dict[str, str]
    same_batches: bool
    shared: dict[str, int]
    weights: dict[str, str]
    tensors: int


@dataclass(frozen=True)
class Summary:
    """The answer in plain words.

    Attributes:
        question: What the comparison was made for.
        answer: In a few words.
        finding: What was found, with its figures.
        next_step: What to do next.
        command: The command for it; None where none does it.
    """

    question: str
    answer: str
    finding: str
    next_step: str
    command: str | None


@dataclass(frozen=True)
class Comparison(Result):
    """All arms and seeds of a comparison.

    Attributes:
        schema_version: Of this layout.
        recipe: What was run, as stated before the run.
        estimand: What the intervals are about.
        method: How they were computed.
        arms: Results by arm name, the baseline first.
        runs: Every arm with every seed.
        contrasts: The primary contrast, those that are named, each arm against the baseline, and the primary arm
            against the others.
        wins: The images that speak most for an arm, and most for the baseline.
        start: Whether the arms of each seed began alike.
        declaration: The plan that was concluded, with its date and hash.
        objections: Why there is no verdict although there are intervals: the plan was changed after a look at the
            results, or declared seeds are not trained yet.
        looks: When this comparison was concluded and under which plan, this time too.
        settings: Evaluation settings that the numbers depend on.
        notes: What may and may not be concluded.
        environment: Versions and machine.
        commands: What to type to get the same.
        save_dir: Folder of the comparison: ``compare.json``, ``report.html``, ``report.md``, ``recipe.yaml``,
            ``plan.json``, ``looks.json``, ``arms/``, and by split ``val/`` and ``test/``.
        summary: The answer in plain words, and what to do next.
        data_check: Faults of the images and labels, and what was done about them, the same for all arms; the list is
            also ``bad.csv`` in the folder.
        evidence: The files that the numbers were computed from, below the comparison's folder, with their SHA-256: the
            predictions and the ground truth of each run; and ``resamples.json``, with the primary contrast's metric of
            each run on each resample of the images, null where it is not defined, and the group of each image. The
            resamples are ``numpy.random.default_rng(0).multinomial(n, [1 / n] * n, size=1000)`` over the n images in
            the order of the ground truth, or over the sorted groups.
        headline: Whether the primary arm is better than the baseline and than its matched control, in a sentence;
            empty where it has no such control, or neither is known.
        stage: Which of the declared looks this is; None between them.
    """

    schema_version: int
    recipe: Recipe
    estimand: str
    method: str
    arms: dict[str, ArmResult]
    runs: list[RunResult]
    contrasts: list[Contrast]
    wins: list[Win]
    start: list[StartCheck]
    declaration: Declaration
    objections: list[str]
    looks: list[Look]
    settings: dict[str, Any]
    notes: list[str]
    environment: dict[str, str]
    commands: list[str]
    save_dir: str
    summary: Summary
    data_check: DataCheck = field(default_factory=DataCheck)
    evidence: dict[str, str] = field(default_factory=dict)
    headline: str = ""
    stage: Stage | None = None

    @property
    def baseline(self) -> str:
        return next(iter(self.arms))

    @property
    def failed(self) -> list[RunResult]:
        return [run for run in self.runs if run.state == "failed"]

    @property
    def ok(self) -> bool:
        return not self.failed

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "recipe": self.recipe.as_dict()}
