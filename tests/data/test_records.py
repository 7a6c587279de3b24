import json
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pytest

from yolo_mha.data.records import read_record
from yolo_mha.errors import ConfigError


@dataclass
class Dated:
    date: str
    plan: dict[str, Any]
    seeds: list[int] = field(default_factory=list)


class Measured(TypedDict):
    seconds: float
    error: str | None
    gates: dict[str, float]


MEASURED = {"seconds": 1, "error": None, "gates": {"3": float("nan")}}  # gates of a training that diverged


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        ([], list[Dated]),
        ([{"date": "x", "plan": {"a": [1]}}, {"date": "y", "plan": {}, "seeds": [0]}], list[Dated]),
        (MEASURED, Measured),
        ({"a": "b"}, dict[str, str]),
    ],
)
def test_read_record__gives_what_was_written(tmp_path, content, shape):
    assert read_record(tmp_path / "x.json", shape) is None
    (tmp_path / "x.json").write_text(json.dumps(content))
    assert json.dumps(read_record(tmp_path / "x.json", shape)) == json.dumps(content)


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        ({}, list[Dated]),
        (None, list[Dated]),
        ([1], list[Dated]),
        ([{"date": "x"}], list[Dated]),
        ([{"date": 1, "plan": {}}], list[Dated]),
        ([{"date": "x", "plan": []}], list[Dated]),
        ([{"date": "x", "plan": {}, "seeds": [True]}], list[Dated]),
        ([{"date": "x", "plan": {}, "more": 1}], list[Dated]),
        ([], Measured),
        ({}, Measured),
        ({**MEASURED, "seconds": "1"}, Measured),
        ({**MEASURED, "seconds": True}, Measured),
        ({**MEASURED, "seconds": 10**400}, Measured),
        ({**MEASURED, "error": 1}, Measured),
        ({**MEASURED, "gates": {"3": None}}, Measured),
        ({"a": 1}, dict[str, str]),
    ],
)
def test_read_record__refuses_another_shape(tmp_path, content, shape):
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="damaged") as caught:
        read_record(tmp_path / "x.json", shape)
    assert "x.json" in caught.value.given


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 10**6, b"9" * 5000])
def test_read_record__refuses_what_is_no_json(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ConfigError, match="damaged"):
        read_record(tmp_path / "x.json", dict[str, str])
