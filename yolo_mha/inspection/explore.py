"""`explore`: a page in the browser that shows what a model's detections attend to."""

from __future__ import annotations

import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from ..data.beacons import NAMES
from ..engine.model import YOLO
from ..engine.own_settings import checked
from ..engine.predict import DEMO_MODEL, sample_image
from ..errors import ConfigError, DependencyError
from ..guard import guarded, in_environment
from .asked import check_settings, chosen_blocks, detector
from .explorer import Explorer

TAKEN = ("conf", "imgsz", "device")


@checked
def explore(
    model: str | Path = DEMO_MODEL,
    *,
    other: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    trust: bool = False,
    **settings: Any,
) -> NoReturn:
    """Serve a page that shows what detections attend to, until Ctrl-C.

    Pictures that are uploaded lie in a temporary folder, which goes at the end.

    Args:
        model: Checkpoint with attention blocks; the demo's attention model if not given.
        other: A second one, shown beside it.
        host: Address that the page is served at; whoever reaches it can use the page, which asks for no password.
        port: Its port; 0 takes any that is free.
        trust: Read a checkpoint with full pickle, for files that you made yourself.
        **settings: Ultralytics' settings ``conf``, ``imgsz`` and ``device``.

    Raises:
        ConfigError: A setting is unknown or unusable, the address is taken, or the model is an exported one or has no
            attention.
        DependencyError: Gradio is missing.
        ModelError, CheckpointError: A model cannot be read.
        UnsupportedTaskError: A model is not for box detection.
    """
    passed = check_settings(settings, TAKEN, "explore")
    with (
        tempfile.TemporaryDirectory(prefix="yolo-mha-") as folder,
        in_environment(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=folder),
    ):
        try:
            import gradio  # noqa: F401
        except ImportError as e:
            raise DependencyError("Gradio is not installed.", fix="pip install 'yolo-mha[ui]'") from e
        from .explorer_page import build_page, serve

        with _listening(host, port) as listening:
            explorers = [_opened(given, trust, settings, passed) for given in (model, other) if given is not None]
            page = build_page(explorers, _sample(explorers, Path(folder)))
            address = f"[{host}]" if ":" in host else host
            print(f"open http://{address}:{listening.getsockname()[1]} (stop with Ctrl-C)", file=sys.stderr, flush=True)
            serve(page, listening)  # raises what Ctrl-C and SIGTERM raise, unless they were ignored
    raise KeyboardInterrupt


@guarded()
def _opened(model: str | Path, trust: bool, settings: dict[str, Any], passed: dict[str, Any]) -> Explorer:
    network = YOLO(model, trust=trust)
    chosen_blocks(network, None, None)
    return Explorer(detector(network, settings, passed), str(model))


def _listening(host: str, port: int) -> socket.socket:
    """Listen at an address, before any work.

    Raises:
        ConfigError: It is taken, or none of this machine.
    """
    try:
        if not isinstance(host, str) or not host:  # without one, it would be all addresses
            raise ValueError("no address")
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError, ValueError) as e:
        raise ConfigError(
            "The page cannot be served at this address.",
            given=f"host={host} port={port}: {e}",
            expected="an address of this machine and a free port",
            fix="choose another port, or port=0 for any free one",
        ) from e


def _sample(explorers: list[Explorer], folder: Path) -> Path | None:
    """Draw a picture of the demo's task, if the models know it."""
    known = all(explorer.classes == list(NAMES) for explorer in explorers)
    return sample_image(folder / "sample.png") if known else None
