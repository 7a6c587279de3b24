"""The trackers of Ultralytics: which there are, and what they need."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils import ROOT as ULTRALYTICS_ROOT

from ..errors import ConfigError, DependencyError, nearest
from ..yaml_files import read_yaml


def find_tracker(tracker: str | Path | None) -> str:
    """Find a tracker's YAML before anything is started.

    Args:
        tracker: Path of a YAML, or the name of one of Ultralytics', with its ending or without; None for its default.

    Returns:
        Its path.

    Raises:
        DependencyError: The package ``lap`` is missing.
        ConfigError: There is no such tracker, or its YAML lacks a value or has one of another kind.
    """
    if find_spec("lap") is None:
        raise DependencyError(
            "lap is not installed; Ultralytics' trackers need it.", fix="pip install 'yolo-mha[track]'"
        )
    from ultralytics.trackers.track import TRACKER_MAP  # looks for lap when it is imported

    own = {p.stem: p for p in (ULTRALYTICS_ROOT / "cfg" / "trackers").glob("*.yaml")}
    tracker = DEFAULT_CFG_DICT["tracker"] if tracker is None else tracker
    path = Path(str(tracker))
    if not path.is_file():
        name = str(tracker).removesuffix(".yaml")
        if name not in own:
            raise ConfigError(
                "Unknown tracker.", given=f"tracker={tracker}", expected=nearest(name, own), fix="or name a YAML file"
            )
        path = own[name]
    content = read_yaml(path, ConfigError, expected="tracker_type and its thresholds")
    kind = content.get("tracker_type")
    if not isinstance(kind, str) or kind not in TRACKER_MAP:
        raise ConfigError(
            f"{path} names an unknown tracker.", given=f"tracker_type: {kind}", expected=nearest(kind, TRACKER_MAP)
        )
    stock, core = (read_yaml(own.get(name, path), ConfigError, expected="thresholds") for name in (kind, "bytetrack"))
    _check_values(path, content, {name: value for name, value in stock.items() if name in {*content, *core}})
    return str(path)


def _check_values(path: Path, content: dict[str, Any], stock: dict[str, Any]) -> None:
    """Refuse what lacks one of these values, or has one of another kind."""
    for name, value in stock.items():
        kind: Any = (int, float) if isinstance(value, int | float) else type(value)
        if not isinstance(content.get(name), kind):
            raise ConfigError(
                f"{path} has no usable {name}.",
                given=f"{name}: {content[name]}" if name in content else "nothing",
                expected=f"such as {name}: {value}",
                fix=f"begin with a copy of Ultralytics' {content['tracker_type']}.yaml",
            )
