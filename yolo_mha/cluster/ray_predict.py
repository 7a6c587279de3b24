"""`predict engine=ray`: large folders of pictures, shard by shard, on a Ray cluster."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from ..data.files import clear_unfinished, sha256_of_lines, unfinished, write_text
from ..data.pictures import MOST_PIXELS
from ..data.records import read_record
from ..engine import settings as config
from ..engine.loader import Loader
from ..engine.outputs import Outputs
from ..engine.own_settings import checked
from ..engine.predict import DEMO_MODEL, FILE_SETTINGS, Delivery, check_prediction, look, open_model
from ..engine.progress import bar
from ..engine.run_folder import run_folder
from ..engine.sources import Source, find
from ..errors import ConfigError, DataError, RunError, YoloMHAError, one_line
from ..guard import guarded
from ..result import Result
from .ray_cluster import AUTO, Resources, joined, packed, unpacked, workers

SHARD = 256  # pictures
SHARDS, PLAN = "shards", "predict.json"
NOT_ON_RAY = (*FILE_SETTINGS, "save_csv", "show", "stream_buffer", "vid_stride", "exist_ok")


class _Done(TypedDict):
    """Content of ``00001.json``, beside ``00001.jsonl``, when a shard is done."""

    images: int
    found: dict[str, int]
    skipped: list[str]


@dataclass(frozen=True)
class BulkPrediction(Result):
    """What was found in a large folder.

    Attributes:
        save_dir: Folder of all that was written.
        shards: Folder with JSON Lines by shard, each line as in `PredictResult.predictions`; names are those of a
            shard.
        shards_done: Number of shards that this call predicted.
        shards_found: Number of shards that an earlier call had finished.
        images: Number of pictures in all shards.
        found: Number of detections by class name.
        skipped: Files that could not be read.
        exit_code: 0; 1 where something was skipped.
    """

    save_dir: str
    shards: str
    shards_done: int
    shards_found: int
    images: int
    found: dict[str, int]
    skipped: list[str]
    exit_code: int = 0


@checked
@guarded()
def predict_on_ray(
    model: str | Path = DEMO_MODEL,
    source: str | Path | list[str | Path] | None = None,
    *,
    address: str = AUTO,
    gpus_per_worker: float = 1,
    cpus_per_worker: int = 1,
    shard: int = SHARD,
    trust: bool = False,
    **settings: Any,
) -> BulkPrediction:
    """Detect objects in many pictures on a Ray cluster that is running.

    All machines see pictures, model and results under the same paths. Each worker opens the model once. A shard is
    written when it is whole; one that is lost with its machine is predicted again elsewhere. The same call with the
    same name skips the shards that are done.

    Args:
        model: As for `predict`.
        source: Pictures as for `predict`; no videos.
        address: "auto" for the cluster that this machine belongs to, or host:port of its head.
        gpus_per_worker: Number of GPUs of a worker: 1, a part of one, or 0 for the CPU.
        cpus_per_worker: Number of its CPU cores and threads.
        shard: Number of pictures in a shard.
        trust: As for `predict`.
        **settings: As for `predict`, without those of files; ``name`` is "bulk" if not given.

    Raises:
        ConfigError: A setting is unusable, there is no such cluster, no machine has enough CPUs or GPUs, a machine sees
            other files, or the folder has results of another call.
        DataError: The source is missing, or is not pictures alone.
        DependencyError: Ray is missing.
        ModelError, CheckpointError, UnsupportedTaskError: As `predict`.
        RunError: The workers failed.
    """
    if idle := [key for key in NOT_ON_RAY if key in settings]:
        raise ConfigError(
            f"{idle[0]} is not for engine=ray.",
            given=f"{idle[0]}={settings[idle[0]]}",
            expected="JSON Lines of detections, by shard",
            fix="predict what is to be drawn without engine=ray",
        )
    resources, names = Resources(cpus_per_worker, gpus_per_worker, "worker"), config.class_names(settings)
    resources.check(settings.get("device"))
    passed = check_prediction(None, **{key: value for key, value in settings.items() if key != "classes" or not names})
    pictures = _pictures(source, settings.get("max_pixels", MOST_PIXELS))
    open_model(model, trust, "predict", passed, names)
    parts = [pictures[start : start + shard] for start in range(0, len(pictures), shard)]
    kept = {key: value for key, value in settings.items() if key not in ("project", "name", "batch")}
    plan = {"model": _stamp([model]), "pictures": _stamp(pictures), "shard": shard, "settings": _plain(kept)}
    with joined(address):
        most = workers(resources)
        with run_folder({**passed, "exist_ok": True}, "bulk") as folder:
            _enter(plan, folder)
            before = {number for number in range(len(parts)) if _done(folder, number)}
            left = {number: part for number, part in enumerate(parts) if number not in before}
            if left:
                _predict(packed(str(model), trust, settings, passed, resources), folder, left, resources, most)
        done = [_done(folder, number) for number in range(len(parts))]
    found: Counter[str] = Counter()
    for each in done:
        found.update(each["found"])
    skipped = [name for each in done for name in each["skipped"]]
    return BulkPrediction(
        save_dir=str(folder),
        shards=str(folder / SHARDS),
        shards_done=len(parts) - len(before),
        shards_found=len(before),
        images=sum(each["images"] for each in done),
        found=dict(found),
        skipped=skipped,
        exit_code=int(bool(skipped)),
    )


def _pictures(source: Any, max_pixels: int) -> list[str]:
    """Return the pictures of a source.

    Raises:
        DataError: It has something else.
    """
    found = find(source, max_pixels)
    if found.videos or found.stream:
        raise DataError(
            "A cluster predicts pictures only.",
            given=found.stream or f"{len(found.videos)} videos, such as {found.videos[0]}",
            expected="a folder, a glob or a list of pictures",
            fix="videos: without engine=ray",
        )
    return sorted({*found.pictures, *found.missing})


def _stamp(files: list[Any]) -> str:
    """Return a hash of names, sizes and dates of files, and of those in folders."""
    known = [each for file in map(Path, files) for each in ([file] if not file.is_dir() else sorted(file.rglob("*")))]
    stats = [(each, each.stat() if each.exists() else None) for each in known]
    return sha256_of_lines(f"{each} {stat and (stat.st_size, stat.st_mtime_ns)}" for each, stat in stats)


def _plain(settings: dict[str, Any]) -> Any:
    return json.loads(json.dumps(settings, default=str, sort_keys=True))


def _enter(plan: dict[str, Any], folder: Path) -> None:
    """Write down what is predicted in a folder.

    Raises:
        ConfigError: Something else was.
    """
    before = read_record(folder / PLAN, dict[str, Any])
    if before is not None and before != plan:
        changed = [key for key in plan if before.get(key) != plan[key]]
        raise ConfigError(
            "The folder has results of another call.",
            given=f"{folder}: other {', '.join(changed)}",
            expected="the same model, pictures and settings, of which the shards that are done are skipped",
            fix="name=another",
        )
    (folder / SHARDS).mkdir(exist_ok=True)
    write_text(folder / PLAN, json.dumps(plan, indent=2))


def _done(folder: Path, number: int) -> Any:
    """Return what is known of a shard; None if it is not done."""
    return read_record(_file(folder, number, "json"), _Done)


def _file(folder: Path, number: int, kind: str) -> Path:
    return folder / SHARDS / f"{number:05d}.{kind}"


def _predict(content: bytes, folder: Path, parts: dict[int, list[str]], resources: Resources, most: int) -> None:
    """Predict shards on the cluster, with so many workers at most.

    Raises:
        YoloMHAError: What a worker raised.
        RunError: The workers failed.
    """
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    items = [{"number": number, "files": part} for number, part in parts.items()]
    rows = ray.data.from_items(items, override_num_blocks=len(items))
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=min(len(items), most))
    done = rows.map(
        _Worker,
        fn_constructor_args=(content, str(folder)),
        compute=pool,
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
    )
    try:
        with bar("images") as progress:
            task = progress.add_task("predicting", total=sum(map(len, parts.values())))
            for row in done.iter_rows():
                progress.update(task, advance=row["files"])
    except ray.exceptions.RayError as e:
        raise _cause(e) from e
    clear_unfinished(folder / SHARDS, own=True)  # of workers that were lost


def _cause(error: BaseException) -> YoloMHAError:
    """Return the error of ours that is behind one of Ray's, or one that says what Ray says."""
    reason: BaseException | None = error
    while reason is not None:
        if isinstance(reason, YoloMHAError):
            return reason
        reason = getattr(reason, "cause", None) or reason.__cause__
    return RunError("Prediction failed on the cluster.", given=one_line(error), fix="call it again; shards are kept")


class _Worker:
    """A process that has the model, and predicts one shard after the other."""

    def __init__(self, content: bytes, folder: str) -> None:
        self.folder = Path(folder)
        model, trust, self.settings, self.passed, resources = unpacked(content, self.folder)
        resources.take()
        with guarded():
            self.network = open_model(model, trust, "predict", self.passed)

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        """Predict a shard, write it when it is whole, and return how many files it had."""
        files, number = list(row["files"]), int(row["number"])
        most = self.settings.get("max_pixels", MOST_PIXELS)
        loader = Loader(Source(pictures=files), self.passed.get("batch") or 1, 1, False, most)
        delivery = Delivery(loader, False)
        with guarded(), tempfile.TemporaryDirectory(dir=self.folder / SHARDS, prefix=unfinished()) as aside:
            outputs = Outputs(Path(aside), {"save": False})
            results = look(self.network, loader, None, self.folder, self.settings, self.passed)
            with closing(loader), closing(results):
                delivery.write(outputs, delivery.delivered(results), len(files))
            found = delivery.answer(outputs)
            os.replace(found.predictions, _file(self.folder, number, "jsonl"))
        done = _Done(images=found.images, found=found.found, skipped=found.skipped)
        write_text(_file(self.folder, number, "json"), json.dumps(done))
        return {"files": len(files)}
