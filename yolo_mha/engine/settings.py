"""The one place where settings are named and checked: Ultralytics' ``key=value`` habit, with helpful errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg, smart_value
from ultralytics.engine.exporter import export_formats
from ultralytics.utils.torch_utils import select_device

from ..errors import ConfigError, nearest, one_line

OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp")
CHOICES_LISTED = 3  # words that are all named where a wrong one was given
IMGSZ_FORMS = "a positive number of pixels, or [height, width]"
HIDDEN_SETTINGS = {"mode", "task", "cfg", "embed"}

TEXTS = (
    "annotations", "attention", "baseline", "data", "group", "model", "name", "other", "out", "pilot", "predictions",
    "primary", "project", "recipe", "source",
)  # fmt: skip


def _whole(value: Any, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _wholes(value: Any, least: int = 0) -> bool:
    return all(_whole(v, least) for v in (value if isinstance(value, (list, tuple)) else [value]))


def _batch(value: Any) -> bool:
    return _whole(value, 1) or value == -1 or (type(value) is float and 0 < value < 1)


# What Ultralytics takes in silence and then does something else with, or stumbles over late.
VALUE_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "imgsz": (lambda v: _wholes(v, 1) and len(v if isinstance(v, (list, tuple)) else [v]) in (1, 2), IMGSZ_FORMS),
    "batch": (_batch, "1 or more; in training also -1 or a fraction of the GPU's memory"),
    "epochs": (lambda v: _whole(v, 1), "a whole number, 1 or more"),
    "seed": (lambda v: type(v) is int, "a whole number; compare takes several, as seeds=0,1,2"),
    "workers": (_whole, "a whole number, 0 or more"),
    "time": (lambda v: type(v) in (int, float) and v > 0, "hours, more than 0"),
    "classes": (lambda v: v != [] and _wholes(v), "class indices"),
    "freeze": (lambda v: _wholes(v) or (isinstance(v, list) and all(isinstance(x, str) for x in v)), "layer numbers"),
    "line_width": (lambda v: _whole(v, 1), "1 or more pixels"),
    "vid_stride": (lambda v: _whole(v, 1), "1 or more"),
    "cache": (lambda v: v in (True, False, "ram", "disk"), "True, False, ram or disk"),
    "pretrained": (lambda v: isinstance(v, (bool, str, Path)), "True, False or a checkpoint"),
}


def parse(tokens: Iterable[str], positional: str | None = None) -> dict[str, Any]:
    """Turn ``key=value`` words into settings, with values read as Ultralytics reads them.

    Args:
        tokens: Words of the command line.
        positional: The key of an argument without ``=``, if the command accepts one.

    Raises:
        ConfigError: A word is no ``key=value``, or a key comes twice.
    """
    settings: dict[str, Any] = {}
    for token in tokens:
        key, equals, value = token.partition("=")
        if token.startswith("-"):
            raise ConfigError(
                "Settings are given as key=value.",
                given=token,
                expected=f"{key.lstrip('-')}={value or '...'}",
                fix="the only options are --json, --debug and --help",
            )
        if not equals and positional and positional not in settings:
            key, value = positional, token
        elif not equals or not key:
            raise ConfigError(
                "Settings are given as key=value.", given=token, expected="for example epochs=50", fix="see --help"
            )
        if key in settings:
            raise ConfigError(f"{key} is given twice.", given=token, expected=f"{key}={settings[key]} or {token}")
        settings[key] = _value(key, value)
    return settings


def _value(key: str, text: str) -> Any:
    """Read a value as Ultralytics does; a name such as 2024_11_23, which Python takes for a number, stays a name."""
    value = smart_value(text)
    return text if key in TEXTS and isinstance(value, (int, float)) and str(value) != text else value


def check(settings: Mapping[str, Any], own: Iterable[str] = ()) -> dict[str, Any]:
    """Check names and values of settings before anything is started.

    Args:
        settings: What the user gave.
        own: Keys of the command itself, beside those of Ultralytics.

    Returns:
        The settings that Ultralytics takes: all of them but ``own``.

    Raises:
        ConfigError: A name is unknown, or a value has the wrong type or range.
    """
    valid = {*DEFAULT_CFG_DICT.keys() - HIDDEN_SETTINGS, *own}
    for key in settings:
        if key not in valid:
            near = nearest(key, valid)
            near = near if near.startswith("did") else "a setting of this command or of Ultralytics, see --help"
            raise ConfigError(f"Unknown setting '{key}'.", given=f"{key}={settings[key]}", expected=near)
    passed = {k: v for k, v in settings.items() if k in DEFAULT_CFG_DICT}
    choices = {
        "optimizer": OPTIMIZERS,
        "split": ("train", "val", "test"),
        "format": [f for f in export_formats()["Argument"] if f != "-"],
    }
    for key, values in choices.items():
        if key in passed and str(passed[key]).lower() not in {str(v).lower() for v in values}:
            expected = nearest(passed[key], values) if len(values) > CHOICES_LISTED else f"one of {', '.join(values)}"
            raise ConfigError(f"Unknown {key}.", given=f"{key}={passed[key]}", expected=expected)
    for key, (usable, expected) in VALUE_RULES.items():
        if passed.get(key) is not None and not usable(passed[key]):
            raise ConfigError(f"{key} has an unusable value.", given=f"{key}={passed[key]}", expected=expected)
    try:
        get_cfg(overrides=dict(passed))
        if passed.get("device") is not None:
            select_device(passed["device"], verbose=False)
    except (TypeError, ValueError, SyntaxError, AssertionError) as e:
        expected = "a value that Ultralytics documents, see https://docs.ultralytics.com/usage/cfg"
        raise ConfigError("A setting has an unusable value.", given=one_line(e), expected=expected) from e
    return passed


def check_trains_on(passed: Mapping[str, Any]) -> None:
    """Make sure that ``device`` is a PyTorch device; tpu, intel and vulkan only run exported models.

    Raises:
        ConfigError: It is not.
    """
    device = passed.get("device")
    if device is not None and not isinstance(select_device(device, verbose=False), torch.device):
        raise ConfigError("This device cannot train.", given=f"device={device}", expected="cpu, mps, 0, or 0,1")


def check_images_at_once(passed: Mapping[str, Any]) -> None:
    """Make sure that ``batch`` is a number of images, as it is everywhere but in training.

    Raises:
        ConfigError: It is not.
    """
    batch = passed.get("batch")
    if batch is not None and not _whole(batch, 1):
        raise ConfigError("batch has an unusable value.", given=f"batch={batch}", expected="1 or more images")


def class_names(settings: Mapping[str, Any]) -> list[str]:
    """Return the words in ``classes``, where it has any; Ultralytics takes indices."""
    given = settings.get("classes")
    parts = given.strip("[]()").split(",") if isinstance(given, str) else given
    words = [part.strip(" '\"") for part in parts if isinstance(part, str)] if isinstance(parts, (list, tuple)) else []
    return [word for word in words if not word.isdigit()]


def not_by_name(words: Iterable[str], names: Mapping[int, str]) -> ConfigError:
    """Say which indices the classes have that were given by name.

    Args:
        words: What was given.
        names: The model's classes.
    """
    words = list(words)
    indices = {name.lower(): index for index, name in names.items()}
    known = {word: indices[word.lower()] for word in words if word.lower() in indices}
    unknown = [word for word in words if word.lower() not in indices]
    few = ", ".join(f"{index} {name}" for index, name in list(names.items())[:10])
    return ConfigError(
        "classes are given by index." if known else "The model has no such class, and classes are given by index.",
        given=f"classes={','.join(words)}",
        expected=f"indices of: {few}" if unknown else f"classes={','.join(map(str, known.values()))}",
    )


def no_such_class(unknown: Iterable[int], names: Mapping[int, str]) -> ConfigError:
    """Say which classes a model has, where another index was given.

    Args:
        unknown: The indices that it does not have.
        names: The model's classes.
    """
    known = ", ".join(f"{index} {name}" for index, name in list(names.items())[:10])
    return ConfigError("The model has no such class.", given=f"classes={unknown}", expected=f"indices of: {known}")


def imgsz_notes(given: Any, used: Any) -> list[str]:
    """Say that a model works at another image size than was given, where it does.

    Args:
        given: The setting ``imgsz``, None where it was not given.
        used: Its size, a number or [height, width].
    """
    if given is None or one_number(given) == one_number(used):
        return []
    return [f"imgsz={given} was given, and the model works at {one_number(used)}."]


def own_nms_notes(own_nms: bool) -> list[str]:
    """Say which thresholds hold where a model was exported with ``nms=True``."""
    text = (
        "The model was exported with nms=True, so the conf, iou and max_det of its export hold: here conf and max_det "
        "can only leave out more, and iou does nothing."
    )
    return [text] if own_nms else []


def one_number(imgsz: Any) -> Any:
    """Return an image size as one number where height and width are the same."""
    sides = set(imgsz) if isinstance(imgsz, (list, tuple)) else {imgsz}
    return sides.pop() if len(sides) == 1 else list(imgsz)


def in_working_directory(settings: dict[str, Any], folder: str = "runs/detect") -> dict[str, Any]:
    """Put outputs below the working directory: ``runs/detect``, or ``project`` where that is given.

    Ultralytics keeps one folder for all projects of a user in its settings file; a command's results belong where it
    was called.
    """
    project = Path(str(settings.get("project") or folder))
    return {**settings, "project": str(project if project.is_absolute() else Path.cwd() / project)}
