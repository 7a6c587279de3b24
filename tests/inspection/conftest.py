"""One detector and one picture for the tests of this folder."""

import pytest

from yolo_mha import YOLO
from yolo_mha.data.beacons import draw
from yolo_mha.engine.video import Image
from yolo_mha.inspection.looking import Look, Looker


@pytest.fixture(scope="module")
def picture() -> Image:
    return draw(seed=1, index=0)[0]


@pytest.fixture(scope="module")
def looker() -> Looker:
    return Looker(YOLO("demo-mha.pt"))


@pytest.fixture(scope="module")
def look(looker, picture) -> Look:
    return looker(picture)
