"""Pictures that are not broken and not usual either."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import yolo_mha
from yolo_mha.errors import ConfigError, DataError


@pytest.fixture
def pictures() -> Path:
    """A folder of an ordinary picture, a line, two in CMYK, and one of 400 x 400 pixels."""
    Path("in").mkdir()
    small = np.full((64, 64, 3), 90, np.uint8)
    cv2.imwrite("in/a.png", small)
    cv2.imwrite("in/line.png", np.zeros((1, 2000, 3), np.uint8))
    cv2.imwrite("in/large.png", np.zeros((400, 400, 3), np.uint8))
    for name in ("cmyk.jpg", "cmyk.tif"):
        Image.fromarray(small).convert("CMYK").save(f"in/{name}")
    return Path("in")


def test_predict__names_unusual_pictures_and_skips_those_above_the_limit(pictures):
    result = yolo_mha.predict(source=pictures, imgsz=64, save=False, max_pixels=100_000)
    assert result.images == 4
    assert (result.skipped_count, result.exit_code) == (1, 1)
    assert "large.png: 400 x 400 pixels; max_pixels=100000" in result.skipped[0]
    notes = "\n".join(result.notes)
    assert "line.png: 2000 x 1 pixels" in notes
    assert "cmyk.jpg: CMYK" in notes
    assert "cmyk.tif: CMYK" in notes
    assert "a.png" not in notes
    assert yolo_mha.predict(source=pictures, imgsz=64, save=False, max_pixels=0).images == 5
    assert yolo_mha.predict(source=pictures, imgsz=64, save=False).images == 5


@pytest.mark.parametrize("slice", [{}, {"slice": 64}])
def test_predict__a_picture_above_the_limit_is_one_error_at_once(slice):
    Image.new("1", (20_000, 20_000)).save("huge.png")
    started = time.process_time()
    with pytest.raises(DataError, match=r"20000 x 20000 pixels; max_pixels=150000000 .* max_pixels=0"):
        yolo_mha.predict(source="huge.png", imgsz=64, **slice)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("value", [-1, 1.5, "many", True])
def test_predict__max_pixels_is_a_whole_number(value):
    with pytest.raises(ConfigError, match="max_pixels must be a whole number"):
        yolo_mha.predict(source="x.png", max_pixels=value)
