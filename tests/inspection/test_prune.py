"""The command `prune`: checkpoints that are smaller, and load, train on, resume and export as any other."""

import json
from pathlib import Path

import cv2
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


@pytest.mark.slow
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


@pytest.fixture
def four_heads() -> str:
    """The demo's model with a block of two heads in front, behind a gate of 0."""
    made = yolo_mha.insert("demo-mha.pt", "layer:3", num_heads=2, head_dim=8, gate_init=0.0, out="four.pt")
    return str(made.checkpoint)


@pytest.mark.slow
def test_prune__a_share_is_chosen_on_training_images(beacons, four_heads):
    result = yolo_mha.prune(four_heads, 0.75, beacons, out="small.pt", device="cpu", imgsz=96)
    assert (result.heads, result.left) == ({"4": [0, 1], "6": [0]}, {"4": 0, "6": 1}), "a gate of 0 says nothing"
    assert (result.difference < 1e-5, heads_of("small.pt")) == (True, {"5": 1})
    found = result.scores
    assert (found.data, found.split, found.images, found.lost.low) == (str(beacons), "val", 8, None)
    assert found.lost.value == pytest.approx(found.ap - found.ap_left)
    scored = yolo_mha.val(result.checkpoint, beacons, device="cpu", imgsz=96, plots=False).coco.metrics["AP"]
    assert scored == pytest.approx(found.ap_left, abs=1e-3)
    random, norm = found.controls
    assert (len(random.aps), len(norm.aps)) == (4, 1)  # there are no more than four sets of three of four heads
    assert random.gained.value == pytest.approx(found.ap_left - random.ap)
    assert [point.removed for point in result.curve] == [0, 1, 2, 3, 4]
    aps, parameters = ([getattr(point, name) for point in result.curve] for name in ("ap", "parameters"))
    assert (aps[0], aps[3]) == (found.ap, found.ap_left)
    assert aps[:3] == [aps[0]] * 3, "nothing is lost without heads behind a gate of 0"
    assert (parameters[0], parameters[3]) == (result.parameters, result.parameters_left)
    assert parameters == sorted(parameters, reverse=True)
    for point in result.curve:
        assert point.lost.value == pytest.approx(aps[0] - point.ap)
        assert point.pytorch.ms > 0 < point.onnx.ms
    assert result.picture.endswith("small-curve.png")
    assert cv2.imread(result.picture) is not None


@pytest.fixture
def no_onnx(monkeypatch):
    """As where ONNX Runtime is not installed, which saves the time of exporting."""
    monkeypatch.setattr("yolo_mha.inspection.pruning_latency.find_spec", lambda name: None)


@pytest.mark.slow
@pytest.mark.usefixtures("no_onnx")
def test_prune__auto_takes_what_ap_allows_and_reports_the_other_half(beacons, four_heads, capsys):
    rows = [f"{i:04}.png,{'abcd'[i // 2]}" for i in range(8)]
    Path("groups.csv").write_text("\n".join(["image,group", *rows]))
    words = ["prune", f"model={four_heads}", f"data={beacons}", "heads=auto", "margin=0.02", "group=groups.csv"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "out=small.pt", "device=cpu", "imgsz=96", "--json"])
    assert ended.value.code in (0, None)
    result = json.loads(capsys.readouterr().out)
    losses = [point["lost_choosing"] for point in result["curve"]]
    assert losses[:3] == [0] * 3
    number = max(n for n, lost in enumerate(losses[:-1]) if lost <= 0.02)
    assert sum(map(len, result["heads"].values())) == number >= 2
    share = f"{number} of 4 heads are removed ({number / 4:.0%})"
    assert result["notes"][0] == f"{share}, chosen on 4 images. AP is reported on the 4 other images."
    assert result["scores"]["images"] == 4
    assert result["scores"]["ap_left"] == result["curve"][number]["ap"]
    assert sum(heads_of("small.pt").values()) == 4 - number


@pytest.mark.usefixtures("no_onnx")
def test_prune__auto_that_finds_no_head_writes_nothing(beacons):
    result = yolo_mha.prune("demo-mha.pt", "auto", beacons, margin=1e-4, out="small.pt", device="cpu")
    assert (result.heads, result.checkpoint, result.scores, result.picture) == ({}, None, None, None)
    lost = result.curve[1].lost_choosing
    assert lost > 1e-4
    said = f"without head 5:0 AP falls by {lost:.4f} on the 4 images."
    assert result.notes[0] == f"No head can be removed within the margin, so nothing is written: {said}"
    assert result.notes[1].startswith("No latency in ONNX Runtime")
    assert not list(Path().glob("small*"))


@pytest.mark.usefixtures("no_onnx")
def test_prune__where_there_is_no_ap_to_lose(beacons, trained):
    look = {"out": "small.pt", "device": "cpu", "imgsz": 64}
    said = "The model scores AP 0.000 here, so nothing could be lost that matters."
    result = yolo_mha.prune(trained, "auto", beacons, **look)
    assert (result.heads, result.checkpoint, result.scores) == ({}, None, None)
    assert result.notes == [f"{said} No head is chosen, and nothing is written."]
    assert not list(Path().glob("small*"))
    named = yolo_mha.prune(trained, "5:0", beacons, **look)
    assert (named.heads, named.scores.sentence) == ({"5": [0]}, said)


def test_prune__tunes_afterwards(beacons, tiny):
    result = yolo_mha.prune("demo-mha.pt", "5:0", beacons, out="small.pt", **tiny)
    assert (result.tuned.epochs, heads_of(result.tuned.checkpoint)) == (1, {"5": 1})
    scored = yolo_mha.val(result.tuned.checkpoint, beacons, device="cpu", imgsz=64, plots=False).coco.metrics["AP"]
    assert scored == pytest.approx(result.tuned.ap, abs=1e-9)
    assert result.tuned.lost.value == pytest.approx(result.scores.ap - result.tuned.ap)
    assert heads_of("small.pt") == {"5": 1}, "which stays as it was pruned"
    assert YOLO("small.pt").ckpt["epoch"] == -1


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ("5:2", "There is no such head.*\n.*5:2\n.*5:0 to 5:1"),
        ("4:0", "This row has no attention block.*\n.*row 4\n.*one of 5"),
        ("5:0,5:1", "No head would be left"),
        ("5:0,5:0", "A head is named twice"),
        ("5", "heads has an unusable value"),
        (1.5, "heads has an unusable value"),
        (True, "heads has an unusable value"),
        (0.5, "needs data, to choose heads.*\n.*heads=0.5 without data"),
        ("auto", "needs data, to choose heads"),
    ],
    ids=str,
)
def test_prune__unusable_heads(heads, said):
    with pytest.raises(ConfigError, match=said):
        yolo_mha.prune("demo-mha.pt", heads, out="small.pt")
    assert not list(Path().glob("small*"))


def test_prune__bad_input(beacons):
    with pytest.raises(ConfigError, match=r"would remove none of the 2 heads.*\n.*heads=0\.1\n.*from 0\.5 to 0\.5"):
        yolo_mha.prune("demo-mha.pt", 0.1, beacons)
    with pytest.raises(ConfigError, match="measured on the training images"):
        yolo_mha.prune("demo-mha.pt", 0.5, beacons, split="train")
    for given, said in (
        ({"group": "image"}, "group needs data"),
        ({"epochs": 3}, "epochs needs data"),
        ({"epochs": -1}, "epochs must be a whole number"),
        ({"margin": 0}, "margin, the AP that may be lost"),
        ({"margin": True}, "margin, the AP that may be lost"),
        ({"lr0": 0.1}, "prune does not take lr0"),
        ({"epochs": 3, "resume": True}, "prune does not take resume"),
    ):
        with pytest.raises(ConfigError, match=said):
            yolo_mha.prune("demo-mha.pt", "5:0", **given)
    with pytest.raises(ConfigError, match="8 of 8 images do not match group"):
        yolo_mha.prune("demo-mha.pt", "5:0", beacons, group="(writer)")
    with pytest.raises(ConfigError, match="The model has no attention heads"):
        yolo_mha.prune(opened("demo-baseline.yaml", "plain.pt"), "5:0")
    with pytest.raises(ConfigError, match="prune needs a checkpoint"):
        yolo_mha.prune("demo-mha.yaml", "5:0")
    with pytest.raises(UnsupportedTaskError, match="prune scores box detection only"):
        yolo_mha.prune(opened("yolo11n-seg.yaml", "seg.pt"), "5:0")
    with pytest.raises(CheckpointError, match="Model not found"):
        yolo_mha.prune("gone.pt", "5:0")
    Path("taken.pt").write_bytes(b"")
    with pytest.raises(ConfigError, match="exists already"):
        yolo_mha.prune("demo-mha.pt", 0.5, beacons, out="taken.pt")
    Path("new-curve.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"new-curve\.png exists already"):
        yolo_mha.prune("demo-mha.pt", 0.5, beacons, out="new.pt")
    files = {p.name for p in Path().iterdir()} - {"runs"}  # of the dataset's mirror
    assert files == {"new-curve.png", "plain.pt", "seg.pt", "taken.pt"}
