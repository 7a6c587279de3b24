import json
import sys
from pathlib import Path

import pytest
import torch
import ultralytics
import yaml
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, ROOT

import yolo_mha
from yolo_mha import registry
from yolo_mha.errors import CheckpointError, ConfigError, DownloadError, ModelError
from yolo_mha.paths import shipped
from yolo_mha.registry import ULTRALYTICS_TESTED

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import make_models


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A checkpoint as training leaves it: half precision, class names, settings."""
    model = ultralytics.YOLO("yolo11s.yaml")
    for module in model.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    model.model.names = {i: f"thing {i}" for i in range(80)}
    path = tmp_path_factory.mktemp("base") / "base.pt"
    model.save(path)
    return path


def rows(path: str | Path) -> list:
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return content["backbone"] + content["head"]


@pytest.mark.parametrize("at", ["P5", "P4,P5"])
def test_insert__names_its_output_after_the_places(at, tmp_path):
    name = f"yolov8-mha-{at.replace(',', '').lower()}.yaml"
    made = yolo_mha.insert("yolov8n.yaml", at)
    assert Path(made.yaml) == tmp_path / name
    assert rows(made.yaml) == rows(shipped("cfg") / "models" / name)
    assert [made.layers[i].module for i in made.new] == ["SpatialMHABlock"] * len(at.split(","))
    assert made.checkpoint is None
    assert made.identical is None


@pytest.mark.parametrize("placement", make_models.PLACEMENTS)
@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=() if f == "yolo11" else pytest.mark.slow) for f in make_models.FAMILIES]
)
def test_shipped_models__are_what_the_tool_makes(family, placement, tmp_path, monkeypatch):
    monkeypatch.setattr(make_models, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(make_models, "FOLDER", tmp_path)
    made, ships = make_models.make(family, placement), shipped("cfg") / "models" / f"{family}-mha-{placement}.yaml"
    assert rows(made) == rows(ships)
    if ultralytics.__version__ == ULTRALYTICS_TESTED:  # comments differ from version to version
        assert made.read_bytes() == ships.read_bytes()


def test_insert__into_a_yaml_that_has_blocks_and_back(tmp_path):
    yolo_mha.insert("yolo11.yaml", "P5", out="one.yaml")
    yolo_mha.insert("one.yaml", "P4", out="two.yaml")
    at_once = yolo_mha.insert("yolo11n.yaml", "P4,P5").yaml
    assert Path("two.yaml").read_text() == Path(at_once).read_text()
    back = yolo_mha.remove("two.yaml", "P4", out="back.yaml")
    assert back.removed == [7]
    assert Path("back.yaml").read_text() == Path("one.yaml").read_text()
    yolo_mha.remove("two.yaml", "layer:7,after:C2PSA", out="none.yaml")
    original = ROOT / "cfg" / "models" / "11" / "yolo11.yaml"
    assert Path("none.yaml").read_text(encoding="utf-8") == original.read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="no block at this place"):
        yolo_mha.remove("two.yaml", "P3", out="x.yaml")
    with pytest.raises(ConfigError, match="no attention block"):
        yolo_mha.remove("none.yaml", out="x.yaml")


def test_insert__into_a_checkpoint_keeps_outputs_names_and_scale(base, tmp_path):
    made = yolo_mha.insert(base, "P3,P4", out="new.pt", num_heads=4)
    assert made.identical is True
    assert (made.checkpoint, made.yaml) == ("new.pt", "new.yaml")
    old, new = ultralytics.YOLO(base), ultralytics.YOLO("new.pt")
    assert new.names == old.names
    assert new.task == "detect"
    image = torch.rand(1, 3, 96, 64)
    assert torch.equal(new.model.eval()(image)[0], old.model.eval()(image)[0])
    assert torch.load("new.pt", weights_only=False)["model"].model[0].conv.weight.dtype == torch.float16
    text = Path("new.yaml").read_text(encoding="utf-8")
    assert "# Ultralytics YOLO11 object detection model" in text
    assert yaml.safe_load(text)["scales"] == {"s": [0.5, 0.5, 1024]}
    rebuilt = yolo_mha.YOLO("new.yaml").load("new.pt")  # the YAML says what the checkpoint is
    assert torch.equal(rebuilt.model.eval()(image)[0], old.model.eval()(image)[0])
    assert made.tensors == len(old.model.state_dict())


def test_remove__from_a_checkpoint_gives_the_base_back(base, tmp_path):
    yolo_mha.insert(base, "P5,neck", out="new.pt")
    made = yolo_mha.remove("new.pt", out="back.pt")
    assert made.identical is True
    assert made.removed == [11, 18, 22, 26]
    old, back = (torch.load(p, weights_only=False)["model"] for p in (base, "back.pt"))
    assert list(old.state_dict()) == list(back.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(old.state_dict().values(), back.state_dict().values(), strict=True))
    assert rows("back.yaml") == rows(ROOT / "cfg" / "models" / "11" / "yolo11.yaml")


def test_insert__into_a_checkpoint_with_its_own_class_count(trained, tmp_path):
    made = yolo_mha.insert(trained, "neck", out="more.pt")
    content = yaml.safe_load(Path(made.yaml).read_text())
    assert content["nc"] == yolo_mha.YOLO(trained).model.yaml["nc"]
    assert rows(made.yaml) == [
        *yolo_mha.YOLO("more.pt").model.yaml["backbone"],
        *yolo_mha.YOLO("more.pt").model.yaml["head"],
    ]
    assert made.identical is True


@pytest.mark.parametrize(
    ("at", "options", "row"),
    [
        ("neck:P3", {"block": "CrossScaleMHA", "context": "P5"}, [[-1, 10], 1, "CrossScaleMHA", []]),
        pytest.param(
            "neck",
            {"block": "CrossScaleMHA", "context": "layer:4", "num_heads": 4, "position": "rope"},
            [[-1, 4], 1, "CrossScaleMHA", [{"num_heads": 4, "position": "rope"}]],
            marks=pytest.mark.slow,
        ),
        ("P3,P5", {"block": "S2Attention"}, [-1, 1, "S2Attention", []]),
        pytest.param(
            "P3",
            {"scope": "axial", "position": "sincos", "qk_norm": True},
            [-1, 1, "SpatialMHABlock", [{"scope": "axial", "position": "sincos", "qk_norm": True}]],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_insert__every_kind_of_block_keeps_outputs_and_comes_out_again(base, at, options, row, tmp_path):
    made = yolo_mha.insert(base, at, out="new.pt", **options)
    assert made.identical is True
    assert [rows(made.yaml)[i] for i in made.new] == [row] * len(made.new)
    assert made.kept == made.tensors
    rebuilt = yolo_mha.YOLO("new.yaml").load(base)  # the transfer finds its way past the blocks too
    image = torch.rand(1, 3, 96, 64)
    assert torch.equal(rebuilt.model.eval()(image)[0], ultralytics.YOLO(base).model.eval()(image)[0])
    back = yolo_mha.remove("new.pt", out="back.pt")
    assert back.identical is True
    assert rows(back.yaml) == rows(ROOT / "cfg" / "models" / "11" / "yolo11.yaml")


def test_insert__context_shifts_with_a_block_in_front_of_it(tmp_path):
    yolo_mha.insert("yolov8n.yaml", "P4,P5", out="yolov8-one.yaml")
    made = yolo_mha.insert("yolov8n-one.yaml", "neck:P3", block="CrossScaleMHA", context="P5", out="yolov8-two.yaml")
    new = rows(made.yaml)
    assert new[made.new[0]][0] == [-1, 11]
    assert new[11][2] == "SpatialMHABlock"
    both = yolo_mha.insert("yolov8n.yaml", "P3,P4", block="CrossScaleMHA", context="P2", out="yolov8-both.yaml")
    assert [rows(both.yaml)[i][0] for i in both.new] == [[-1, 2], [-1, 2]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block": "CrossScaleMHA"}, ["context is missing", "context=P5"]),
        ({"block": "CrossScaleMHA", "context": "neck"}, ["several layers", "context=neck"]),
        ({"block": "CrossScaleMHA", "context": "P9"}, ["context=P9"]),
        ({"block": "CrossScaleMHA", "context": "layer:15"}, ["must precede", "row 15"]),
        ({"block": "CrossScaleMHA", "context": "P5", "scope": "window"}, ["no such option", "scope"]),
        ({"context": "P5"}, ["no such option", "context"]),
        ({"scope": "axial", "kv_stride": 2}, ["scope=global"]),
    ],
)
def test_insert__refuses_what_does_not_go_together(options, words, tmp_path):
    with pytest.raises((ConfigError, ModelError)) as caught:
        yolo_mha.insert("yolov8n.yaml", "neck:P3", out="x.yaml", **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not Path("x.yaml").exists()


@pytest.mark.slow
def test_global_attention_at_p3__warns_with_the_numbers(caplog, tmp_path):
    LOGGER.addHandler(caplog.handler)
    try:
        yolo_mha.insert("yolov8n.yaml", "P3", out="wide.yaml")
        yolo_mha.YOLO("wide.yaml")
        warned = [m for m in caplog.messages if "attention among" in m]
        caplog.clear()
        yolo_mha.insert("yolov8n.yaml", "P4", out="p4.yaml")
        yolo_mha.insert("yolov8n.yaml", "P3", out="narrow.yaml", scope="window")
        yolo_mha.insert("yolov8n.yaml", "P3", out="pooled.yaml", kv_stride=4)
        yolo_mha.YOLO("narrow.yaml")
        quiet = [m for m in caplog.messages if "attention among" in m]
        caplog.clear()
        yolo_mha.insert("yolov8n.yaml", "neck:P3", out="cross.yaml", block="CrossScaleMHA", context="P2")
        wider = [m for m in caplog.messages if "attention among" in m]
    finally:
        LOGGER.removeHandler(caplog.handler)
    assert len(warned) == 2
    # 4 x 6400^2 x 64 channels for the whole map, 4 x 6400 x 100 x 64 in windows of 10 x 10
    assert all("6,400 positions" in w and "10.5 GFLOPs" in w and "0.2 with scope=window" in w for w in warned)
    assert quiet == []
    assert len(wider) == 1
    assert "6,400 positions and 25,600 others" in wider[0]
    assert "41.9 GFLOPs" in wider[0]


def test_insert__a_block_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "squeeze.py").write_text(
        "import torch, yolo_mha\n"
        "@yolo_mha.register\n"
        "class Halve(torch.nn.Module):\n"
        "    def __init__(self, dim, factor=0.5):\n"
        "        super().__init__()\n"
        "        self.factor = factor\n"
        "    def forward(self, x):\n"
        "        return x * self.factor\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_blocks", dict(registry._blocks))  # gone again after this test
    import squeeze  # noqa: F401

    made = yolo_mha.insert("yolov8n.yaml", "P4", block="Halve", factor=0.25)
    assert Path(made.yaml).name == "yolov8-halve-p4.yaml"
    assert rows(made.yaml)[7] == [-1, 1, "Halve", [{"factor": 0.25}]]
    with pytest.raises(ConfigError, match="Halve has no such option") as caught:
        yolo_mha.insert("yolov8n.yaml", "P4", block="Halve", num_heads=4)
    assert "factor" in caught.value.expected


def test_remove__one_block_by_two_names_is_refused(base):
    yolo_mha.insert(base, "layer:9,layer:10", out="two.pt")
    with pytest.raises(ConfigError, match="the same block"):
        yolo_mha.remove("two.pt", "layer:9,layer:10", out="o.pt")
    assert not Path("o.pt").exists()
    assert yolo_mha.remove("two.pt", "layer:10,layer:12", out="o.pt").identical


def test_remove__of_a_part_needs_a_name_and_of_all_never_takes_the_baselines(tmp_path):
    yolo_mha.insert("yolo11n.yaml", "P4,P5")
    with pytest.raises(ConfigError, match="out is missing"):
        yolo_mha.remove("yolo11n-mha-p4p5.yaml", "P4")
    assert Path(yolo_mha.remove("yolo11n-mha-p4p5.yaml").yaml).name == "yolo11-mha-p4p5-plain.yaml"


def test_insert__counts_what_it_kept(base):
    made = yolo_mha.insert(base, "P5", out="new.pt")
    assert made.kept == made.tensors == 499
    back = yolo_mha.remove("new.pt", out="back.pt")
    assert back.kept == back.tensors == 499


def test_insert__is_the_same_every_time_and_leaves_random_numbers_alone(base):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    yolo_mha.insert(base, "P5", out="one.pt")
    assert torch.rand(1) == expected
    yolo_mha.insert(base, "P5", out="two.pt")
    one, two = (torch.load(p, weights_only=False)["model"].state_dict() for p in ("one.pt", "two.pt"))
    assert all(torch.equal(one[k], two[k]) for k in one)


def _parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


def test_insert__yaml_beside_a_checkpoint_builds_the_same_model(tmp_path):
    """Without a scale letter, with other image channels, with something else lying there under the YAML's name."""
    ultralytics.YOLO("yolo11.yaml").save("noletter.pt")
    yolo_mha.insert("noletter.pt", "P5", out="x.pt")
    assert _parameters(ultralytics.YOLO("x.yaml").model) == _parameters(ultralytics.YOLO("x.pt").model)

    gray = ultralytics.YOLO("yolo11n.yaml")
    gray.model = DetectionModel("yolo11n.yaml", ch=1, verbose=False)
    gray.save("gray.pt")
    Path("yolo11n.yaml").write_text("[")
    yolo_mha.insert("gray.pt", "P5", out="g.pt")
    assert yaml.safe_load(Path("g.yaml").read_text())["channels"] == 1


def test_insert__scale_of_a_yaml_is_said_or_written(tmp_path):
    made = yolo_mha.insert("yolo11s.yaml", "P5")
    assert made.open_as == "yolo11s-mha-p5.yaml"
    made = yolo_mha.insert("yolo11s.yaml", "P5", out="foo.yaml")
    assert made.open_as == "foo.yaml"
    assert yaml.safe_load(Path("foo.yaml").read_text())["scales"] == {"s": [0.5, 0.5, 1024]}
    Path("my2stage.yaml").write_text("nc: 1\nbackbone:\n- [-1, 1, Conv, [8, 3, 2]]\nhead:\n- [[0], 1, Detect, [nc]]\n")
    assert Path(yolo_mha.insert("my2stage.yaml", "layer:0", num_heads=1).yaml).name == "my2stage-mha-layer-0.yaml"


def test_insert__finds_shipped_checkpoints(tmp_path):
    assert yolo_mha.insert("demo-baseline.pt", "neck", num_heads=2).identical


def test_insert__trust_is_a_yes_or_no(tmp_path):
    """Any other word would be true, and true means full pickle."""

    class Bomb:
        def __reduce__(self):
            return Path.touch, (Path("ran"),)

    torch.save({"model": Bomb()}, "bomb.pt")
    for trust in ("no", "off", 0, None):
        with pytest.raises(ConfigError, match="must be True or False"):
            yolo_mha.insert("bomb.pt", "P5", trust=trust)
        with pytest.raises(ConfigError, match="must be True or False"):
            yolo_mha.remove("bomb.pt", trust=trust)
    with pytest.raises(CheckpointError, match="may run code"):
        yolo_mha.insert("bomb.pt", "P5")
    assert not Path("ran").exists()


def test_insert__refuses_a_block_that_changes_the_shape(tmp_path, monkeypatch):
    (tmp_path / "shrinking.py").write_text(
        "import torch, yolo_mha\n"
        "@yolo_mha.register\n"
        "class Shrink(torch.nn.Module):\n"
        "    def __init__(self, dim):\n"
        "        super().__init__()\n"
        "    def forward(self, x):\n"
        "        return x[..., ::2, ::2]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_blocks", dict(registry._blocks))  # gone again after this test
    import shrinking  # noqa: F401

    with pytest.raises(ModelError, match="Shrink changes the shape") as caught:
        yolo_mha.insert("yolov8n.yaml", "layer:0", block="Shrink")
    assert "row 0" in caught.value.given
    assert not list(tmp_path.glob("*.yaml"))


@pytest.mark.parametrize(
    ("words", "error", "problem"),
    [
        ({"model": "yolov8n.yaml", "at": "P9"}, ConfigError, "no such level"),
        ({"model": "yolov8n.yaml", "at": "P5", "num_hedas": 4}, ConfigError, "no such option"),
        ({"model": "yolov8n.yaml", "at": "P5", "num_heads": 7}, ModelError, "Row 10"),
        ({"model": "yolov8n.yaml", "at": "P5", "block": "SpatialMHSA"}, ModelError, "No such block"),
        ({"model": "yolov8n.yaml", "at": "P5", "out": "x.pt"}, ConfigError, "same file type"),
        ({"model": "yolov8n.yaml", "at": "P5", "out": "taken.yaml"}, ConfigError, "exists already"),
        ({"model": "yolov9q.yaml", "at": "P5"}, ModelError, "not found"),
        ({"model": "x.onnx", "at": "P5"}, ConfigError, "not a model"),
        ({"model": "none.pt", "at": "P5"}, CheckpointError, "not found"),
        ({"model": "broken.pt", "at": "P5"}, CheckpointError, "not a PyTorch checkpoint"),
        ({"model": "BASE", "at": "P5", "out": "x.yaml"}, ConfigError, "same file type"),
        ({"model": "BASE", "at": "P5", "out": "yolo11x-mine.pt"}, ConfigError, "another scale"),
        ({"model": "BASE", "at": "P5", "out": "BASE", "exist_ok": True}, ConfigError, "exists already"),
        ({"model": "BASE", "at": "P5", "out": "taken.pt"}, ConfigError, "taken.yaml exists already"),
        (
            {"model": "yolov8n.yaml", "at": "P5", "out": "taken.yaml", "exist_ok": "no"},
            ConfigError,
            "must be True or False",
        ),
        ({"model": "yolov8n.yaml", "at": "P5", "out": "dir.yaml", "exist_ok": True}, ConfigError, "is a folder"),
        ({"model": "BASE", "at": "P5", "out": "dir.pt"}, ConfigError, "dir.yaml is a folder"),
        ({"model": "yolov8n.yaml", "at": "P5", "out": "taken.yaml/x.yaml"}, ConfigError, "cannot be written"),
        ({"model": "yolov8n.yaml", "at": "P5", "out": 300 * "x" + ".yaml"}, ConfigError, "not a path"),
        ({"model": "yolov8n.yaml", "at": "P5", "out": "/proc/x.yaml"}, ConfigError, "cannot be written"),
        ({"model": "taken8n.yaml", "at": "P5", "out": "taken8.yaml", "exist_ok": True}, ConfigError, "exists already"),
        ({"model": "yolov8n.yaml", "at": "P5", "block": [1]}, ModelError, "No such block"),
        ({"model": "list.pt", "at": "P5", "trust": True}, CheckpointError, "not a YOLO checkpoint"),
        ({"model": "yolo11-cls-resnet18.yaml", "at": "P5"}, DownloadError, "Files are not downloaded"),
    ],
    ids=lambda v: str(v)[:60],
)
def test_insert__refuses_and_writes_nothing(base, tmp_path, words, error, problem):
    Path("taken.yaml").write_text("mine")
    Path("broken.pt").write_text("no zip")
    Path("dir.yaml").mkdir()
    torch.save([1], "list.pt")
    Path("taken8.yaml").write_text("nc: 1\nbackbone:\n- [-1, 1, Conv, [32, 3, 32]]\nhead:\n- [[0], 1, Detect, [nc]]\n")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(error, match=problem):
        yolo_mha.insert(**{k: str(base) if v == "BASE" else v for k, v in words.items()})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
    assert not any(Path("dir.yaml").iterdir())


def test_insert__replaces_a_file_only_when_asked(tmp_path):
    Path("taken.yaml").write_text("mine")
    yolo_mha.insert("yolov8n.yaml", "P5", out="taken.yaml", exist_ok=True)
    assert len(rows("taken.yaml")) == 24


def test_insert__world_model_opens_in_ultralytics_own_class(tmp_path):
    made = yolo_mha.insert("yolov8s-worldv2.yaml", "P4")
    world = ultralytics.YOLOWorld(made.yaml.replace("yolov8-", "yolov8s-"))
    assert type(world.model.model[7]).__name__ == "SpatialMHABlock"
    assert json.dumps(made.as_dict())


def test_insert__writes_known_records_of_plain_values_only(trained, tmp_path):
    content = torch.load(trained, weights_only=False)
    extra = {"note": torch.zeros(1), "license": {"x": torch.zeros(1)}}
    torch.save({**content, **extra}, tmp_path / "x.pt")
    made = torch.load(yolo_mha.insert(tmp_path / "x.pt", at="P3", out="out.pt").checkpoint, weights_only=False)
    assert made["train_args"] == content["train_args"]
    assert {"note", "license"}.isdisjoint(made)
