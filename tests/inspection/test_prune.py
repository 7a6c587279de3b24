"""The command `prune`: checkpoints that are smaller, and load, train on, resume and export as any other."""

import json
from pathlib import Path

import pytest
import yaml
from networks import opened

import yolo_mha
from yolo_mha import YOLO, CheckpointError, ConfigError, UnsupportedTaskError
from yolo_mha.cli import main
from yolo_mha.inspection.silencing import silenced
from yolo_mha.surgery.heads import attentions


def heads_of(file: str | Path) -> dict[str, int]:
    return {name: attention.num_heads for name, attention in attentions(YOLO(file).model).items()}


def test_prune__named_heads(beacons, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["prune", "model=demo-mha.pt", "heads=5:0", "out=small.pt", "--json"])
    assert ended.value.code in (0, None)
    result = json.loads(capsys.readouterr().out)
    assert (result["heads"], result["left"], result["scores"]) == ({"5": [0]}, {"5": 1}, None)
    assert result["difference"] < 1e-5
    assert result["parameters_left"] == result["parameters"] - 3 * 32 * 65 - 32 * 64
    row = yaml.safe_load(Path("small.yaml").read_text())["backbone"][5]
    assert row == [-1, 1, "SpatialMHABlock", [{"gate_init": 0.1, "num_heads": 1, "head_dim": 32}]]
    assert heads_of("small.pt") == {"5": 1}
    assert YOLO("small.yaml").load("small.pt").transfer is None
    assert Path("small.pt").stat().st_size < Path(YOLO("demo-mha.pt").ckpt_path).stat().st_size
    scored = yolo_mha.val("small.pt", beacons, device="cpu", plots=False).coco.metrics
    whole = YOLO("demo-mha.pt")
    with silenced(whole.model, {"5": [0]}):
        whole.save("silenced.pt")
    expected = yolo_mha.val("silenced.pt", beacons, device="cpu", plots=False).coco.metrics
    assert scored == pytest.approx(expected, abs=1e-3)


def test_prune__trains_on_resumes_and_exports(beacons, tiny):
    small = yolo_mha.prune("demo-mha.pt", "5:1").checkpoint
    assert small.endswith("demo-mha-pruned.pt")
    trained = yolo_mha.train(small, beacons, **{**tiny, "epochs": 2}, save_period=1)
    assert heads_of(trained.best) == {"5": 1}
    first = Path(trained.best).parent / "epoch0.pt"
    resumed = yolo_mha.train(resume=first, device="cpu")
    assert heads_of(resumed.best) == {"5": 1}
    exported = yolo_mha.export(small, imgsz=64, format="onnx")
    assert exported.ok


def test_prune__a_share_is_chosen_on_training_images(beacons):
    made = yolo_mha.insert("demo-mha.pt", "layer:3", num_heads=3, head_dim=8, gate_init=0.0, out="five.pt")
    result = yolo_mha.prune(made.checkpoint, 0.6, beacons, out="small.pt", device="cpu")
    assert (result.heads, result.left) == ({"4": [0, 1, 2]}, {"4": 0, "6": 2}), "behind a gate of 0 no head matters"
    assert result.difference < 1e-5
    assert heads_of("small.pt") == {"5": 2}
    two = yolo_mha.prune(made.checkpoint, 0.8, beacons, out="smaller.pt", device="cpu")
    assert two.heads == {"4": [0, 1, 2], "6": [0]}
    for pruned in (result, two):
        found = pruned.scores
        assert (found.data, found.split, found.lost.low) == (str(beacons), "val", None)
        assert found.lost.value == pytest.approx(found.ap - found.ap_left)
        scored = yolo_mha.val(pruned.checkpoint, beacons, device="cpu", plots=False).coco.metrics["AP"]
        assert scored == pytest.approx(found.ap_left, abs=1e-3)
    assert result.scores.lost.value == 0, "and nothing is lost without them"
    assert (two.difference < 1e-5, heads_of("smaller.pt")) == (True, {"5": 1})


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ("5:2", "There is no such head.*\n.*5:2\n.*5:0 to 5:1"),
        ("4:0", "no attention block in this row.*\n.*row 4\n.*one of 5"),
        ("5:0,5:1", "No head would be left"),
        ("5:0,5:0", "A head is named twice"),
        ("5", "heads has an unusable value"),
        (1.5, "heads has an unusable value"),
        (True, "heads has an unusable value"),
        (0.5, "A share of the heads is chosen on training images"),
    ],
    ids=str,
)
def test_prune__unusable_heads(heads, said):
    with pytest.raises(ConfigError, match=said):
        yolo_mha.prune("demo-mha.pt", heads, out="small.pt")
    assert not list(Path().glob("small*"))


def test_prune__bad_input(beacons):
    with pytest.raises(ConfigError, match=r"This is no head of 2.*\n.*heads=0\.1\n.*from 0\.5 to 0\.5"):
        yolo_mha.prune("demo-mha.pt", 0.1, beacons)
    with pytest.raises(ConfigError, match="chosen on the training images"):
        yolo_mha.prune("demo-mha.pt", 0.5, beacons, split="train")
    with pytest.raises(ConfigError, match="The model has no heads"):
        yolo_mha.prune(opened("demo-baseline.yaml", "plain.pt"), "5:0")
    with pytest.raises(ConfigError, match="cut out of a checkpoint"):
        yolo_mha.prune("demo-mha.yaml", "5:0")
    with pytest.raises(UnsupportedTaskError, match="prune scores box detection only"):
        yolo_mha.prune(opened("yolo11n-seg.yaml", "seg.pt"), "5:0")
    with pytest.raises(CheckpointError, match="Model not found"):
        yolo_mha.prune("gone.pt", "5:0")
    Path("taken.pt").write_bytes(b"")
    with pytest.raises(ConfigError, match="exists already"):
        yolo_mha.prune("demo-mha.pt", 0.5, beacons, out="taken.pt")
    assert sorted(p.name for p in Path().glob("*")) == ["plain.pt", "seg.pt", "taken.pt"]
