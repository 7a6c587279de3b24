"""`explain`: where each detection of a model looked."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from ultralytics.engine.results import Results

from ..data.files import whole_file, write_text
from ..data.pictures import MOST_PIXELS
from ..engine import settings as config
from ..engine.model import YOLO
from ..engine.outputs import Drawn, Item, Names
from ..engine.own_settings import checked
from ..engine.predict import DEMO_MODEL, SAMPLE, nothing_read, sample_image
from ..engine.progress import bar
from ..engine.run_folder import run_folder
from ..engine.signals import held_back, stopped_code
from ..engine.sources import Frame, Skipped, find, read
from ..errors import ConfigError, run_failed, with_type
from ..guard import guarded
from ..result import Result
from .asked import DETECTING, check_settings, chosen_blocks, detector, numbers
from .explanation import Explained, explained
from .looking import Look, Looker, selected
from .maps import detection_maps
from .page import write_page
from .recorder import CHUNK_BYTES
from .sheet import draw_sheet, overlay

TAKEN = (*DETECTING, "vid_stride", "line_width", "project", "name", "exist_ok")
MIB = 2**20


@dataclass(frozen=True)
class Explanation(Result):
    """Where detections looked, and where it is written.

    Attributes:
        save_dir: The run's folder.
        model: What was explained.
        images: Number of images and frames.
        detections: Each detection that was explained.
        outputs: File or folder of each kind of output that there is.
        notes: What else is good to know.
        skipped: Files that could not be read, and files with the frames that were lost.
        skipped_count: Number of these files and frames.
        interrupted: Whether Ctrl-C or SIGTERM ended it. What was written up to there is complete.
        exit_code: 0; 1 where something was skipped; 2 after an error; 130 or 143 after an interruption.
    """

    save_dir: str
    model: str
    images: int
    detections: list[Explained]
    outputs: dict[str, str]
    notes: list[str]
    skipped: list[str]
    skipped_count: int
    interrupted: bool = False
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON holds it."""
        return {**vars(self), "detections": [detection.as_dict() for detection in self.detections]}


@checked
@guarded()
def explain(
    model: str | Path = DEMO_MODEL,
    source: str | Path | int | list[str | Path] | None = None,
    *,
    layer: Any = None,
    head: int | Iterable[int] | None = None,
    box: Iterable[float] | None = None,
    sheets: int = 10,
    max_pixels: int = MOST_PIXELS,
    trust: bool = False,
    **settings: Any,
) -> Explanation:
    """Say and draw where each detection looked: per block, per head and together.

    Args:
        model: Checkpoint with attention blocks; the demo's attention model if not given.
        source: As for `predict`.
        layer: Rows of the blocks, such as 10, or several; all blocks if not given.
        head: Indices of the heads, from 0; all if not given.
        box: x1, y1, x2, y2 in pixels: explains only the detection whose box overlaps this one most.
        sheets: Of how many detections of each picture, those with the highest scores, a sheet is drawn.
        max_pixels: Larger pictures are skipped; 0 reads all.
        trust: Read a checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' settings ``conf``, ``imgsz``, ``iou``, ``classes``, ``max_det``, ``agnostic_nms``,
            ``nms``, ``rect``, ``device``, ``vid_stride``, ``line_width``, ``project``, ``name`` and ``exist_ok``.

    Returns:
        The numbers, which are also written to the run's folder as ``explain.json``, with ``report.html``, a sheet of
        each detection in a picture, and pictures and videos with all effects laid over them.

    Raises:
        ConfigError: A setting is unknown or unusable, or the model is an exported one.
        ModelError, CheckpointError: The model cannot be read, or has no attention that can be recorded.
        DataError: The source is missing, or nothing in it can be read.
        UnsupportedTaskError: The model is not for box detection.
        KeyboardInterrupt, SystemExit: It was interrupted by Ctrl-C or SIGTERM; what was done is complete, and the
            exception holds it as ``result``.
    """
    passed = check_settings(settings, TAKEN, "explain")
    wanted = numbers("box", box, "x1,y1,x2,y2 in pixels", float)
    if wanted is not None and not (len(wanted) == 4 and wanted[0] < wanted[2] and wanted[1] < wanted[3]):
        raise ConfigError("box has an unusable value.", given=f"box={box}", expected="x1,y1,x2,y2 in pixels")
    if source is None and str(model) == DEMO_MODEL:
        source = sample_image(SAMPLE.absolute())
    found = find(source, max_pixels)
    network = YOLO(model, trust=trust)
    layers, heads = chosen_blocks(network, layer, head)
    looker = detector(network, settings, passed)
    stride = passed.get("vid_stride") or 1
    skipped = Skipped()
    try:
        with run_folder(passed, "explain", "runs/explain") as folder:
            found.require_outside(folder)
            frames = read(found, skipped, stride=stride, channels=looker.channels, max_pixels=max_pixels)
            run = _Run(looker, folder, sheets, layers, heads, wanted, stride, passed.get("line_width"))
            try:
                with closing(frames), closing(run.drawn), bar("images") as progress:
                    task = progress.add_task("explaining", total=found.total(stride))
                    for frame in chain.from_iterable(frames):
                        if not frame.silent:
                            with held_back():  # what is counted is in every file
                                run.explain(frame)
                        progress.update(task, advance=1)
                if not run.images:
                    raise nothing_read(source, skipped, stride)
                return run.written(network, skipped)
            except (KeyboardInterrupt, SystemExit) as stop:
                if run.images:
                    stop.result = run.written(network, skipped, stop)  # type: ignore[union-attr]
                raise
            except Exception as e:
                if run.images:
                    with suppress(Exception):  # such as a full disk; the first error is the one to report
                        run.written(network, skipped, e)
                raise
    except Exception as e:  # whatever Ultralytics or the source's backend meets
        raise run_failed("Explaining", e) from e


class _Run:
    """Frames on their way to numbers and pictures."""

    def __init__(
        self,
        looker: Looker,
        folder: Path,
        sheets: int,
        layers: list[str] | None,
        heads: list[int] | None,
        box: list[float] | None,
        stride: int,
        line_width: int | None,
    ) -> None:
        self.looker, self.folder, self.sheets, self.line_width = looker, folder, sheets, line_width
        self.layers, self.heads, self.box = layers, heads, box
        self.drawn = Drawn(folder, stride)
        self.detections: list[Explained] = []
        self.images = self.without = self.without_sheet = 0
        self.mib = 0.0
        self.idle: set[str] = set()  # blocks that do not run
        self._names = Names()

    def explain(self, frame: Frame) -> None:
        """Explain the detections of a picture or a frame."""
        look = self.looker(frame.image)
        chosen = selected(look, self.box)
        done: list[Explained] = []
        result = Results(frame.image, path=frame.source, names=self.looker.names, boxes=_picked(look, chosen))
        item = Item(frame, result, self._names.base(frame), {"line_width": self.line_width})
        total = torch.zeros(1, 1, device=look.input.device)
        for number, i in enumerate(chosen):
            maps = detection_maps(look, i, self.layers, self.heads)
            found = explained(look, i, maps, self.looker.names, frame.source, frame.index)
            total = total + (0.0 if found.together.no_effect else maps.effect)
            if frame.fps is None and number < self.sheets:
                file = self.folder / "sheets" / f"{item.name}_{number}.png"
                with whole_file(file) as temporary:
                    temporary.write_bytes(draw_sheet(frame.image, look, i, maps, found))
                found = replace(found, sheet=str(file))
            done.append(found)
        shown = overlay(frame.image, look.placement, total)
        self.drawn.write(replace(item, drawing={**item.drawing, "img": shown}))
        self.idle |= {name for name, block in look.recorder.blocks.items() if not block.ran}
        for block in filter(lambda block: block.ran, look.recorder.blocks.values()):
            self.mib = max(self.mib, min(CHUNK_BYTES, block.memory(math.prod(block.size))) / MIB)
        self.detections += done  # only here: a picture that fails on the way does not count
        self.images += 1
        self.without += not chosen
        self.without_sheet += sum(frame.fps is None and found.sheet is None for found in done)

    def notes(self) -> list[str]:
        """Say what was not found or not drawn."""
        notes = []
        if self.without:
            what = "no detection overlaps the box" if self.box else "nothing was detected"
            notes.append(f"In {self.without} of {self.images} images or frames {what}. A lower conf detects more.")
        if self.without_sheet:
            notes.append(
                f"Only the first {self.sheets} detections of each picture have a sheet. The other {self.without_sheet} "
                "are in explain.json. sheets= draws more, and box= selects one."
            )
        if self.idle:
            notes.append(f"Attention that does not run in prediction has no maps: row {', '.join(sorted(self.idle))}.")
        if self.mib >= 1:
            notes.append(f"Computing the maps takes {self.mib:.0f} MiB, for any number of detections.")
        return [*notes, *config.imgsz_notes(self.looker.args.imgsz, self.looker.imgsz)]

    def written(self, network: YOLO, skipped: Skipped, stop: BaseException | None = None) -> Explanation:
        """Write the page and the numbers of what was done, up to an interruption or an error."""
        folder, failed = self.folder, isinstance(stop, Exception)
        outputs = {"report": str(folder / "report.html"), "numbers": str(folder / "explain.json")}
        if self.drawn.path is not None:
            outputs["overlays"] = str(self.drawn.path)
        if any(detection.sheet for detection in self.detections):
            outputs["sheets"] = str(folder / "sheets")
        notes = [*self.notes(), *skipped.remarks]
        if stop and failed:
            notes.insert(0, f"An error ended it after {self.images} images or frames. {with_type(stop)}")
        result = Explanation(
            save_dir=str(folder),
            model=str(network.model_name),
            images=self.images,
            detections=self.detections,
            outputs=outputs,
            notes=notes,
            skipped=skipped.names,
            skipped_count=skipped.count,
            interrupted=stop is not None and not failed,
            exit_code=2 if failed else stopped_code(stop) if stop else int(skipped.count > 0),
        )
        page = {"model": result.model, "detections": result.detections, "notes": result.notes}
        write_page("explain.html.j2", folder / "report.html", **page)
        write_text(folder / "explain.json", json.dumps(result.as_dict(), indent=2))
        return result


def _picked(look: Look, chosen: list[int]) -> torch.Tensor:
    return torch.cat([look.corners, look.boxes[:, 4:]], 1)[chosen].cpu()
