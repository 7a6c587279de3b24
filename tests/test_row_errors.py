"""Rows of Ultralytics' own modules that cannot be built."""

import time
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ultralytics.nn.modules import Conv

import yolo_mha
from yolo_mha.errors import ModelError, YoloMHAError
from yolo_mha.registry import build, check_rows

CONV = "arguments [c2, k=1, s=1, p=None, g=1, d=1, act=True]"
TEXT = """\
# a model
nc: 2
backbone:
  # [from, repeats, module, args]
  - [-1, 1, Conv, [8, 3, 2]]
  - {row}
  - [-1, 1, Conv, [8, 3, 2]]
head:
  - [[2], 1, Detect, [nc]]
"""


def model(row: str) -> Path:
    Path("m.yaml").write_text(TEXT.format(row=row))
    return Path("m.yaml")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("[7, 1, Conv, [8]]", ["Conv reads a layer that is not before it", "from: 7", "nearest is 0"]),
        ("[1, 1, Conv, [8]]", ["not before it", "nearest is 0"]),
        ("[-2, 1, Conv, [8]]", ["not before it", "nearest is -1"]),
        ("[[-1, 4], 1, Concat, [1]]", ["Concat reads", "from: 4"]),
        ("[0.5, 1, Conv, [8]]", ["unusable 'from'"]),
        ("[[], 1, Concat, [1]]", ["unusable 'from'"]),
        ("[true, 1, Conv, [8]]", ["unusable 'from'"]),
        ("[-1, 0, Conv, [8]]", ["repeats: 0", "nearest is 1"]),
        ("[-1, -3, C2f, [8]]", ["repeats: -3", "nearest is 1"]),
        ("[-1, 1000000, C2f, [8]]", ["repeats: 1000000", "nearest is 100"]),
        ("[-1, many, C2f, [8]]", ["repeats: many"]),
        ("[-1, 1, Conv, 8]", ["no list of arguments"]),
        ("[-1, 1, Conv, {c2: 8}]", ["no list of arguments"]),
        ("[-1, 1, Conv]", ["is not a row"]),
        ("[-1, 1, Conv, []]", ["Conv lacks c2", CONV]),
        ("[-1, 1, HGBlock, [8]]", ["HGBlock lacks c2", "arguments [cm, c2, k=3"]),
        ("[-1, 1, ResNetLayer, [8, 8, 1]]", ["nearest that builds is [8, 8, 1, False]"]),
        ("[-1, 1, Conv, [8, 3, 2, 1, 1, 1, true, 4]]", ["takes fewer arguments", CONV, "[8, 3, 2, 1, 1, 1, True]"]),
        ("[-1, 1, Conv, [0, 3]]", ["c2=1"]),
        ("[-1, 1, Conv, [-64, 3]]", [CONV, "c2=64"]),
        ("[-1, 1, Conv, [1000000000000, 3]]", [CONV, "nearest that builds is c2="]),
        ("[-1, 1, Conv, [9" + "0" * 40 + "]]", ["nearest that builds is c2="]),
        ("[-1, 1, Conv, [many, 3]]", [CONV, "c2=64"]),
        ("[-1, 1, Conv, [null, 3]]", ["c2=64"]),
        ("[-1, 1, Conv, [[8], 3]]", ["c2=64"]),
        ("[-1, 1, Conv, [.inf, 3]]", ["c2=64"]),
        ("[-1, 1, Conv, ['((', 3]]", ["c2=64"]),
        ("[-1, 1, Conv, [8, three]]", ["k=1"]),
        ("[-1, 1, Conv, [8, 0]]", ["k=1"]),
        ("[-1, 1, RepNCSPELAN4, [8, 8, 8, 100000000]]", ["arguments [c2, c3, c4, n=1]", "n="]),
        ("[-1, 1, Concat, [1]]", ["arguments [dimension=1]", "'from' [-1]"]),
        ("[[-1, 0], 1, Conv, [8]]", ["'from' -1"]),
        ("[-1, 1, TorchVision, [8, nothing]]", ["arguments [c2, model, weights='DEFAULT'", "Unknown model"]),
        ("[-1, 1, Conv, [8, 3, 0]]", ["fails on its input", "8x128x128", "stride", CONV]),
        ("[-1, 1, nn.Conv2d, [99, 8, 3]]", ["fails on its input", "99 channels"]),
        ("[-1, 1, nn.Convolution, [8]]", ["unknown module", "did you mean"]),
        ("[-1, 1, deepcopy, []]", ["unknown module"]),
        ("[-1, 1, DetectionModel, []]", ["unknown module"]),
    ],
)
def test_wrong_row__is_named_with_its_line_and_what_its_module_takes(row, words):
    path = model(row)
    started = time.process_time()
    with pytest.raises(ModelError) as caught:
        yolo_mha.YOLO(path)
    text = str(caught.value)
    assert "Row 1 of m.yaml, line 6" in text
    assert all(word in text for word in words), text
    assert time.process_time() - started < 20


def test_wrong_row__that_reads_layers_which_do_not_fit_names_their_shapes():
    with pytest.raises(ModelError, match=r"Row 2 of m\.yaml.*Concat fails on its input") as caught:
        yolo_mha.YOLO(model("[-1, 1, Conv, [8, 3, 2]]\n  - [[-1, 0], 1, Concat, [1]]"))
    assert "8x64x64 and 8x128x128" in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        "[-1, 1, nn.Upsample, [None, 40, nearest]]",
        "[-1, 1, nn.Upsample, [[100000, 100000], None, nearest]]",
        "[-1, 1, AIFI, [1024, 8]]",
        "[-1, 1, Conv, [32, 3, 2, 20000]]",
    ],
)
def test_wrong_row__that_makes_huge_maps_is_refused_before_it_does(row):
    start = time.perf_counter()
    for use in (yolo_mha.YOLO, lambda file: build(check_rows(yaml.safe_load(file.read_text())))):
        with pytest.raises(ModelError, match=r"fails on its input(.|\n)*a map of shape"):
            use(model(row))
    assert time.perf_counter() - start < 10


def test_wrong_row__is_named_beside_blocks_and_where_no_file_is_known():
    rows = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "SpatialMHABlock", []], [-1, 1, "Conv", [-8]]]
    with pytest.raises(ModelError, match="Row 2 of the model YAML: Conv") as caught:
        build({"nc": 1, "backbone": rows, "head": [[[2], 1, "Detect", ["nc"]]]})
    assert "c2=8" in str(caught.value)


def test_wrong_row__leaves_the_activation_of_later_models_alone():
    before = Conv.default_act
    path = model("[-1, 1, Conv, [-8]]")
    path.write_text(path.read_text() + "activation: nn.ReLU()\n")
    with pytest.raises(ModelError, match="Row 1"):
        yolo_mha.YOLO(path)
    assert Conv.default_act is before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nc: 0", "nc of m.yaml"),
        ("nc: many", "nc of m.yaml"),
        ("nc: 1000000000", "Row 3"),
        ("nc: 1\nchannels: -3", "channels of m.yaml"),
        ("nc: 1\nscales: {n: [0.5, 0.25]}", "scale of m.yaml is unusable"),
        ("nc: 1\nscales: {n: [0.5, -1, 1024]}", "scale of m.yaml is unusable"),
        ("nc: 1\nscales: [0.5, 0.25, 1024]", "scale of m.yaml is unusable"),
        ("nc: 1\ndepth_multiple: wide", "scale of m.yaml is unusable"),
        ("nc: 1\nwidth_multiple: 1000000000", "Row 0"),
    ],
)
def test_model_yaml__what_stands_beside_the_rows_is_checked(line, words):
    Path("m.yaml").write_text(TEXT.format(row="[-1, 2, C2f, [8]]").replace("nc: 2", line))
    with pytest.raises(ModelError, match=words):
        yolo_mha.YOLO("m.yaml")


def test_model_yaml__that_lacks_the_scale_of_its_name_says_so():
    Path("yolo11x-own.yaml").write_text(TEXT.format(row="[-1, 1, Conv, [8]]") + "scales: {n: [1, 1, 1024]}\n")
    with pytest.raises(ModelError, match=r"no such scale.*\n.*scale x.*\n.*one of n"):
        yolo_mha.YOLO("yolo11x-own.yaml")


VALUES = st.one_of(
    st.integers(-3, 40),
    st.sampled_from(
        [10**9, -(10**9), 10**30, 0.5, float("inf"), None, True, "nc", "None", "x", "(", "nn.ReLU()", [], {}]
    ),
)
MODULES = ["Conv", "C2f", "C3k2", "SPPF", "Concat", "DWConv", "Bottleneck", "nn.Identity", "nn.Conv2d", "Focus", "Nope"]
ROWS = st.tuples(VALUES | st.lists(st.integers(-4, 4), max_size=3), VALUES, st.sampled_from(MODULES), st.lists(VALUES))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=ROWS.map(list))
def test_rows__build_or_are_one_error(row):
    """A row of any values, checked and parsed; a network that runs out of bounds would take minutes."""
    content = {"nc": 1, "backbone": [[-1, 1, "Conv", [8, 3, 8]], row], "head": [[[0], 1, "Detect", ["nc"]]]}
    try:
        check_rows(content)
        torch.manual_seed(0)
        build(content)
    except YoloMHAError as e:
        assert "Row" in str(e)  # noqa: PT017
        assert yaml.safe_dump(row)
