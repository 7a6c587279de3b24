"""`explain data=...`: whether the maps of a model may be believed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.beacons import EMBEDDED
from ..data.dataset import load_dataset, read_dataset
from ..data.files import write_text
from ..data.groups import read_groups
from ..engine.model import YOLO
from ..engine.own_settings import checked
from ..engine.predict import DEMO_MODEL
from ..engine.progress import with_bar
from ..engine.run_folder import run_folder
from ..errors import run_failed
from ..guard import guarded
from ..result import Result
from ..scoring.val import class_order
from .asked import DETECTING, check_settings, chosen_blocks, detector
from .beacon_hits import BeaconHits, beacon_hits
from .faithful import BesideDRISE, Judgement, MapScores, measure_faithfulness
from .page import write_page

TAKEN = (*DETECTING, "split", "project", "name", "exist_ok")


@dataclass(frozen=True)
class Faithfulness(Result):
    """Whether the maps of a model may be believed, and where it is written.

    Attributes:
        save_dir: The run's folder.
        model: What was measured.
        data: The dataset.
        split: Its part.
        images: Number of images with a detection that was measured.
        groups: Number of groups of these images, where ``group`` was given.
        detections: Number of these detections.
        no_effect: Number of those on which attention has no effect.
        maps: How each kind of map fares; empty where nothing was detected.
        judgements: Whether the effect map and the attention map may be believed.
        beside_drise: How they fare beside D-RISE, on one detection of each of some images.
        beacon_hits: How often maps hit the beacon, for the demo's dataset; None for any other.
        notes: What else is good to know.
        outputs: File of each kind of output.
    """

    save_dir: str
    model: str
    data: str
    split: str
    images: int
    groups: int | None
    detections: int
    no_effect: int
    maps: dict[str, MapScores]
    judgements: dict[str, Judgement]
    beside_drise: dict[str, BesideDRISE]
    beacon_hits: BeaconHits | None
    notes: list[str]
    outputs: dict[str, str]


@checked
@guarded()
def faithfulness(
    model: str | Path = DEMO_MODEL,
    data: str | Path = EMBEDDED,
    *,
    layer: Any = None,
    head: int | Iterable[int] | None = None,
    detections: int = 200,
    drise: int = 30,
    group: str | Path | None = None,
    trust: bool = False,
    **settings: Any,
) -> Faithfulness:
    """Measure whether maps of attention are true: `explain` with a dataset in place of pictures.

    The positions that a map marks most are blanked, or shown alone, and the score of the detection is followed; beside
    a random map, a centre prior, the box itself and LayerCAM, with 95 % intervals over images. A map is to be believed
    only if it is better than the first two and changes with the weights of attention.

    Args:
        model: Checkpoint with attention blocks.
        data: Dataset, see `load_dataset`; "beacons" is the demo's, on which the truth is known.
        layer: As for `explain`.
        head: As for `explain`.
        detections: Of how many detections, four of an image at most.
        drise: Of how many images one detection is compared with D-RISE, a map from outputs alone that takes 500 passes;
            0 leaves it out.
        group: Images that are not independent and are resampled together, see `read_groups`.
        trust: Read a checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' settings ``split`` ("val" if not given), ``conf``, ``imgsz``, ``iou``, ``classes``,
            ``max_det``, ``agnostic_nms``, ``nms``, ``rect``, ``device``, ``project``, ``name`` and ``exist_ok``.

    Returns:
        The measures, which are also written to the run's folder as ``faithfulness.json`` and ``report.html``.

    Raises:
        ConfigError: A setting is unknown or unusable, or the model is an exported one or has no attention.
        DataError: The dataset is missing or broken, or has other classes than the model.
        ModelError, CheckpointError: The model cannot be read.
        UnsupportedTaskError: The model is not for box detection.
    """
    passed = check_settings(settings, TAKEN, "explain")
    network = YOLO(model, trust=trust)
    layers, heads = chosen_blocks(network, layer, head)
    looker = detector(network, settings, passed)
    split = passed.get("split") or "val"
    dataset = load_dataset(data, with_bar)
    order = class_order(network.names, dataset)
    samples = read_dataset(dataset, [split], progress=with_bar).samples[split]
    images = [sample.image for sample in samples]
    groups = read_groups(group, images)
    try:
        with run_folder(passed, "faithfulness", "runs/explain") as folder:
            mixed = [samples[i] for i in np.random.default_rng(0).permutation(len(samples))]
            found = measure_faithfulness(
                looker,
                ((sample, looker.read(sample)) for sample in mixed),
                detections,
                order or list(range(len(network.names))),
                layers,
                heads,
                drise_images=drise,
                groups=None if groups is None else dict(zip(images, groups, strict=True)),
                progress=with_bar,
            )
            pictures = ((sample, looker.read(sample)) for sample in samples)
            hits = beacon_hits(looker, pictures) if str(data) == EMBEDDED else None
            result = Faithfulness(
                save_dir=str(folder),
                model=str(network.model_name),
                data=str(dataset.source),
                split=split,
                images=found.images if found else 0,
                groups=found.groups if found else None,
                detections=found.detections if found else 0,
                no_effect=found.no_effect if found else 0,
                maps=found.maps if found else {},
                judgements=found.judgements if found else {},
                beside_drise=found.beside_drise if found else {},
                beacon_hits=hits,
                notes=[],
                outputs={"report": str(folder / "report.html"), "numbers": str(folder / "faithfulness.json")},
            )
            if found is None:
                note = "Nothing was detected in these images, so there is no map to measure; a lower conf finds more."
                result = replace(result, notes=[note])
            elif found.detections < detections:
                note = f"There were {found.detections} detections, four of an image at most, in place of {detections}."
                result = replace(result, notes=[note])
            write_page("faithfulness.html.j2", folder / "report.html", result=result)
            write_text(folder / "faithfulness.json", json.dumps(result.as_dict(), indent=2))
            return result
    except Exception as e:  # whatever Ultralytics meets
        raise run_failed("Measuring", e) from e
