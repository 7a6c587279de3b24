"""What the page of `explore` shows, computed without the page."""

import re
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from networks import opened
from PIL import Image

from yolo_mha import YOLO, DataError
from yolo_mha.inspection.explorer import OWN, SHOWN_SIDE, Change, Explorer, View
from yolo_mha.inspection.looking import Looker


@pytest.fixture(scope="module")
def path(picture, tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("pictures") / "street.png"
    cv2.imwrite(str(file), picture)
    return str(file)


@pytest.fixture
def explorer(looker) -> Explorer:
    return Explorer(looker, "demo")


@pytest.fixture
def closed() -> Explorer:
    """The demo's model with its gate at 0."""
    network = YOLO("demo-mha.pt")
    gate = network.model.model[5].gate
    torch.nn.init.zeros_(gate.weight)
    torch.nn.init.zeros_(gate.bias)
    return Explorer(Looker(network, conf=0.05), "closed")


def test_explorer__names_views_and_heads(explorer):
    assert [str(view) for view in explorer.views] == [
        "all blocks",
        "row 5, all heads",
        "row 5, head 0",
        "row 5, head 1",
    ]
    assert explorer.heads == ["5:0", "5:1"]


def test_detections__are_those_of_predict_by_score(explorer, path):
    assert explorer.detections(path)[:2] == ["1: beacon 0.95", "2: night 0.91"]
    assert len(explorer.detections(path)) == 6


def test_picture__marks_the_chosen_detection(explorer, path):
    first, second = explorer.picture(path, 0), explorer.picture(path, 1)
    assert first.shape == (SHOWN_SIDE, SHOWN_SIDE, 3)
    x1, y1, _, y2 = (explorer._seen(path)[1].corners[1] * SHOWN_SIDE / 192).round().int().tolist()
    assert (second[(y1 + y2) // 2, x1] == OWN).all()
    assert (first[(y1 + y2) // 2, x1] != OWN).any()


def test_map__depends_on_detection_view_and_kind(explorer, path):
    asked = [(0, View(), True), (1, View(), True), (1, View("5", 0), True), (1, View("5", 1), True)]
    asked += [(1, View("5", 0), False)]
    answers = [explorer.map(path, *question) for question in asked]
    assert len({sentence for _, sentence in answers}) == len(asked)
    assert len({picture.tobytes() for picture, _ in answers}) == len(asked)
    assert answers[1][1].startswith("0 % of the effect lies inside the box, ")
    assert " of the attention lies inside the box" in answers[4][1]


def test_map__is_the_sum_of_its_heads(explorer, path):
    each = [explorer._heat(path, 1, View("5", head), True)[0] for head in (0, 1)]
    assert torch.allclose(explorer._heat(path, 1, View("5"), True)[0], sum(each))


def test_map__says_no_effect_where_the_gate_is_0(closed, path):
    assert closed.detections(path)
    for view in closed.views:
        picture, sentence = closed.map(path, 0, view, effect=True)
        assert sentence == "No effect: what is read here moves the logit of this detection by less than 0.01."
        assert (picture == closed.blanked(path, 0, view, True, 0.1)[0]).all()
        assert "nothing that could be blanked" in closed.blanked(path, 0, view, True, 0.1)[1]
        assert closed.map(path, 0, view, effect=False)[1].endswith(sentence)


def test_blanked__hits_the_score_harder_than_chance(explorer, path):
    picture, sentence = explorer.blanked(path, 1, View(), True, 0.1)
    pattern = r"Score ([\d.]+). With the (\d+) .*?: ([\d.]+)\. .*?: ([\d.]+) on"
    before, share, after, average = re.match(pattern, sentence).groups()
    assert (before, share) == ("0.91", "10")
    assert float(after) < 0.1 < 0.7 < float(average)
    grey = (picture == 114).all(2).mean()
    assert 0.08 < grey < 0.12


def test_blanked__leaves_padding_alone(picture, tmp_path):
    file = str(tmp_path / "wide.png")
    cv2.imwrite(file, np.hstack([picture] * 2)[:, 60:])
    explorer = Explorer(Looker(YOLO("demo-mha.pt"), rect=False), "demo")
    shown, sentence = explorer.blanked(file, 0, View(), True, 0.5)
    assert "With the 50 % of the picture blanked" in sentence
    assert 0.42 < (shown == 114).all(2).mean() < 0.58
    assert shown.shape == (round(SHOWN_SIDE * 192 / 324), SHOWN_SIDE, 3)


def test_without__turns_the_class_where_the_beacon_is_out_of_sight(explorer, path):
    changes = explorer.without(path, explorer.heads)
    assert changes[1] == Change("2: night 0.91", "day 0.57", same_class=False)
    assert [change.same_class for change in changes] == [True] + [False] * 5


def test_without__no_head_is_no_change_and_the_model_stays_as_it_is(explorer, path):
    before = explorer.map(path, 1, View(), True)[1]
    explorer.without(path, explorer.heads)
    assert explorer.map(path, 2, View(), True)  # the graph of the pass is still whole
    assert explorer.map(path, 1, View(), True)[1] == before
    changes = explorer.without(path, [])
    assert [change.before.split(": ")[1] for change in changes] == [change.after for change in changes]


def test_without__lost_and_new(path):
    explorer = Explorer(Looker(YOLO("demo-mha.pt"), conf=0.7), "demo")
    assert [change.after for change in explorer.without(path, explorer.heads)] == [None] * 5
    changes = explorer.without(path, ["5:0"])
    assert [change.before is None for change in changes] == [False] * 5 + [True]
    assert changes[-1] == Change(None, "night 0.82")


def test_explorer__several_at_once_get_the_same_answers(looker, path):
    questions = [(i % 6, view, effect) for i in range(6) for view in (View(), View("5", 1)) for effect in (True, False)]
    alone = [Explorer(looker, "demo").map(path, *question)[1] for question in questions]
    explorer = Explorer(looker, "demo")
    with ThreadPoolExecutor(8) as pool:
        silent = [pool.submit(explorer.without, path, explorer.heads) for _ in range(4)]
        together = list(pool.map(lambda question: explorer.map(path, *question)[1], questions))
    assert together == alone
    assert all(future.result()[1].after == "day 0.57" for future in silent)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov8n-mha-p3.yaml", "yolov8n-mha-p4kv-p5.yaml", "yolov8n-mha-cross.yaml"])
def test_explorer__several_blocks_and_scales(name, path):
    explorer = Explorer(Looker(YOLO(opened(name)), conf=1e-7, max_det=2, imgsz=128), name)
    for view in explorer.views:
        assert "the attention lies" in explorer.map(path, 0, view, False)[1]
        assert "blanked at random" in explorer.blanked(path, 0, view, False, 0.1)[1]
    assert explorer.without(path, explorer.heads[:1])


@pytest.mark.parametrize("kind", ["text.png", "cut.jpg", "empty.png", "float.tiff", "gone.png"])
def test_detections__a_broken_picture_is_refused(kind, explorer, picture, tmp_path):
    file = tmp_path / kind
    if kind == "cut.jpg":
        file.write_bytes(cv2.imencode(".jpg", picture)[1].tobytes()[:2000])
    elif kind == "float.tiff":
        cv2.imwrite(str(file), picture.astype(np.float32))
    elif kind != "gone.png":
        file.write_text("no picture" if kind == "text.png" else "")
    with pytest.raises(DataError, match="cannot be read as a picture"):
        explorer.detections(str(file))


def test_detections__unusual_pictures(explorer, picture, tmp_path, path):
    files = {name: str(tmp_path / name) for name in ("one.png", "line.png", "deep.png", "clear.png", "still.gif")}
    cv2.imwrite(files["one.png"], picture[:1, :1])
    cv2.imwrite(files["line.png"], picture[:1].repeat(20, 1))
    cv2.imwrite(files["deep.png"], picture.astype(np.uint16) * 257)
    cv2.imwrite(files["clear.png"], cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA))
    Image.fromarray(picture[..., ::-1]).save(files["still.gif"])
    assert [len(explorer.detections(file)) for file in files.values()] == [0, 0, 6, 6, 6]
    assert explorer.picture(files["line.png"], None).shape == (1, SHOWN_SIDE, 3)
    assert explorer.detections(files["deep.png"]) == explorer.detections(path)
