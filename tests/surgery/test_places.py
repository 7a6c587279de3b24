import pytest

from yolo_mha.errors import ConfigError
from yolo_mha.surgery.places import Layer, find_hosts, layers, slug

from .conftest import SHIPPED, built


@pytest.fixture(scope="module")
def described():
    cache = {}

    def describe(name):
        if name not in cache:
            cache[name] = layers(built(next(p for p in SHIPPED if p.name == name)))
        return cache[name]

    return describe


@pytest.mark.parametrize(
    ("model", "at", "hosts"),
    [
        ("yolov8.yaml", "P5", [9]),
        ("yolov8.yaml", "p2,P3, P4", [2, 4, 6]),
        ("yolov8.yaml", "neck", [15, 18, 21]),
        ("yolov8.yaml", "neck:P3,neck:p5", [15, 21]),
        ("yolov8.yaml", "after:SPPF", [9]),
        ("yolov8.yaml", "layer:0,layer:21", [0, 21]),
        ("yolov8.yaml", ["P3", "P4"], [4, 6]),
        ("yolo11.yaml", "P5", [10]),
        ("yolo26-p6.yaml", "P5,P6", [8, 12]),
        ("yolov8-p2.yaml", "neck:P2", [18]),
        ("yolov3-tiny.yaml", "P4,P5", [8, 12]),  # row 11 pads by one pixel and is at no level
        ("yolov9t.yaml", "P3,P4,P5", [4, 6, 9]),
        ("yolov8-cls.yaml", "neck", [8]),
    ],
)
def test_find_hosts(described, model, at, hosts):
    assert find_hosts(at, described(model)) == hosts


@pytest.mark.parametrize(
    ("at", "problem", "expected"),
    [
        ("P6", "no such level", "one of P2, P3, P4, P5"),
        ("P1", "no such level", "P2"),
        ("P999", "no such level", "P2"),
        ("P99999999999", "Unknown place", "P2"),
        ("layer:" + 5000 * "9", "Unknown place", "layer:9"),
        ("P\uff15", "Unknown place", "P2"),
        ({"P4": 1}, "has an unusable value", "P2"),
        ("neck:P2", "no such level", "neck:P3, neck:P4, neck:P5"),
        ("Q5", "Unknown place", "P2 to P6"),
        ("after:", "Unknown place", "after:SPPF"),
        ("after:SPFF", "no such layer", "SPPF"),
        ("after:C2f", "several C2f layers", "layer:2"),
        ("layer:22", "No block can be inserted", "layer:21"),
        ("layer:-1", "Unknown place", "layer:9"),
        ("P5,after:SPPF", "the same layer", "once"),
        ("P5,P5", "the same layer", "once"),
        ("", "has an unusable value", "P2 to P6"),
        ("P3,,P4", "has an unusable value", "P2 to P6"),
        (5, "has an unusable value", "P2 to P6"),
        ([None], "has an unusable value", "P2 to P6"),
    ],
)
def test_find_hosts__refuses(described, at, problem, expected):
    with pytest.raises(ConfigError, match=problem) as caught:
        find_hosts(at, described("yolov8.yaml"))
    assert expected in caught.value.expected


def test_find_hosts__refuses_a_layer_without_one_feature_map(described):
    world = described("yolov8-world.yaml")
    assert world[16].module == "ImagePoolingAttn"
    with pytest.raises(ConfigError, match="needs a feature map"):
        find_hosts("layer:16", world)


def test_layers__describe_each_row(described):
    row = described("yolov8.yaml")[9]
    assert row == Layer(9, "backbone", -1, "SPPF", 32, 256, 164608)


def test_slug():
    assert slug([f"layer:{i}" for i in range(38)]) == "38-places"
    assert [slug(p) for p in (["P5"], ["P3", "p4"], ["neck:P3", "after:SPPF"])] == ["p5", "p3p4", "neck-p3-after-sppf"]
