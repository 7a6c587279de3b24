"""Results frame by frame: Ultralytics' predictor and trackers at work on whole frames, or on the tiles of each."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError, DependencyError, YoloMHAError, one_line, with_type
from .loader import Loader
from .model import YOLO
from .settings import no_such_class
from .slicing import Slicer
from .sources import Frame


def by_batch(
    network: YOLO, loader: Loader, tracker: str | None, /, **arguments: Any
) -> Generator[tuple[Frame, Any], None, None]:
    """Let Ultralytics' predictor, and its tracker, work through the batches of the loader."""
    with _opening(network):
        if tracker:
            results = network.track(loader, stream=True, **{**arguments, "tracker": tracker})
        else:
            results = network.predict(loader, stream=True, **arguments)
    _look_at_model(network, loader, arguments.get("classes"))
    with closing(results):
        for result in results:
            yield loader.pending.popleft(), result


def by_tile(
    network: YOLO, loader: Loader, size: Any, overlap: float, /, **arguments: Any
) -> Generator[tuple[Frame, Any], None, None]:
    """Predict the tiles of each frame."""
    with _opening(network):
        network.predict(np.zeros((32, 32, 3), np.uint8), **arguments)
    _look_at_model(network, loader, arguments.get("classes"))
    slicer = Slicer(
        lambda tile: network.predict(tile, **arguments)[0],
        size,
        overlap,
        agnostic=bool(arguments.get("agnostic_nms")),
        max_det=network.predictor.args.max_det,
    )
    for frame in loader.frames():
        yield frame, slicer(frame.image)


@contextmanager
def _opening(network: YOLO) -> Iterator[None]:
    """Say readably why a model does not start: a package is missing, or an exported model is broken."""
    try:
        yield
    except YoloMHAError:
        raise
    except ImportError as e:
        problem = f"A package that runs {network.model_name} is missing."
        raise DependencyError(problem, given=one_line(e), fix="install it; nothing is installed by itself") from e
    except Exception as e:
        if isinstance(network.model, torch.nn.Module):
            raise
        raise CheckpointError(
            f"{network.model_name} does not open as an exported model.",
            given=with_type(e),
            expected="a file that yolo-mha export or Ultralytics wrote",
        ) from e


def _look_at_model(network: YOLO, loader: Loader, classes: Any) -> None:
    """Read pictures with the model's channels, and make sure that it has the classes that were asked for."""
    backend = network.predictor.model
    loader.channels = getattr(backend, "channels", 3)
    unknown = [c for c in np.atleast_1d([] if classes is None else classes).tolist() if c not in backend.names]
    if unknown:
        raise no_such_class(unknown, backend.names)
