"""Whatever a command does with a dataset, the dataset stays as it is, to the byte."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from data.damage import KINDS, damaged
from data.formats import voc
from reading import state
from ultralytics.data.utils import IMG_FORMATS

import yolo_mha
from yolo_mha.cli import main
from yolo_mha.data.beacons import generate
from yolo_mha.data.dataset import load_dataset, read_dataset
from yolo_mha.engine.model import YOLO
from yolo_mha.scoring.val import score


@pytest.fixture
def jpegs(tmp_path) -> Path:
    """A dataset of JPEGs that Ultralytics would write anew: half of them have bytes behind their end."""
    data = generate(tmp_path / "data", train=8, val=8)
    for i, image in enumerate(sorted((tmp_path / "data" / "images").glob("*/*.png"))):
        content = cv2.imencode(".jpg", cv2.imread(str(image)))[1].tobytes()
        image.with_suffix(".jpg").write_bytes(content + b"more" * (i % 2))
        image.unlink()
    for folder in (tmp_path / "data").rglob("*/"):
        folder.chmod(0o555)  # a superuser may write all the same
    yield data
    for folder in (tmp_path / "data").rglob("*/"):
        folder.chmod(0o755)


# Of `doctor` and `compare` their own tests make sure.
COMMANDS = {
    "train": lambda data, tiny: yolo_mha.train("demo-mha.pt", data, cache="disk", **tiny),
    "train on repaired": lambda data, tiny: yolo_mha.train("demo-mha.pt", data, bad="repair", **tiny),
    "val": lambda data, tiny: yolo_mha.val("demo-mha.pt", data, imgsz=64, device="cpu"),
    "export": lambda data, tiny: yolo_mha.export("demo-mha.pt", data=data, imgsz=64, int8=True),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_command__leaves_the_dataset_as_it_is(jpegs, tiny, command):
    before = state(jpegs.parent)
    COMMANDS[command](jpegs, tiny)
    assert state(jpegs.parent) == before


def test_val__of_voc_leaves_the_dataset_as_it_is(tmp_path):
    folder = voc(tmp_path / "pets")
    before = state(folder)
    yolo_mha.val(predictions=_none(tmp_path), data=folder)
    assert state(folder) == before


def _none(folder: Path) -> Path:
    (folder / "none.json").write_text("[]")
    return folder / "none.json"


def test_val__gives_the_same_with_a_mirror_as_without(jpegs, tmp_path):
    """Without one Ultralytics reads the dataset itself, of clean images."""
    own = tmp_path / "own"
    shutil.copytree(jpegs.parent, own)
    for image in own.rglob("*.jpg"):
        image.write_bytes(image.read_bytes().removesuffix(b"more"))
    read = read_dataset(load_dataset(jpegs), ["val"])
    with_mirror = yolo_mha.val("demo-mha.pt", jpegs, imgsz=192, device="cpu", plots=False)
    dataset = load_dataset(own / "data.yaml")
    samples = [replace(s, image=own / s.image.relative_to(jpegs.parent), link=None) for s in read.samples["val"]]
    without = score(YOLO("demo-mha.pt"), dataset, samples, "val", imgsz=192, device="cpu", plots=False)
    assert with_mirror.coco.metrics == without.coco.metrics
    assert with_mirror.coco.metrics["AP"] > 0.5
    assert Path(with_mirror.predictions).read_text() == Path(without.predictions).read_text()


def test_read_dataset__a_jpeg_with_more_behind_its_end_has_the_same_pixels(jpegs):
    (samples,) = read_dataset(load_dataset(jpegs), ["val"]).samples.values()
    assert any(not s.link.is_symlink() for s in samples)
    for sample in samples:
        assert sample.link.suffix[1:] in IMG_FORMATS
        assert sample.link.read_bytes().endswith(b"\xff\xd9")
        assert np.array_equal(cv2.imread(str(sample.image)), cv2.imread(str(sample.link)))


def test_val__says_what_was_left_out_and_where_the_list_is(tmp_path, capsys):
    """On the screen and as JSON; without bad= it stops, and says how to go on."""
    kinds = {name: KINDS[name] for name in ("cut off", "mixed", "twice", "good")}
    data = damaged(tmp_path / "signs", kinds, times=3)
    words = ["val", f"predictions={_none(tmp_path)}", f"data={data}", "plots=False"]
    before = state(data.parent)
    codes, outputs = [], []
    for more in ([], ["bad=skip"], ["bad=repair", "--json"], ["bad=ignore"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        codes.append(ended.value.code or 0)
        outputs.append(capsys.readouterr())
    assert codes == [2, 0, 0, 2]
    stopped, skipped, repaired, refused = outputs
    assert "6 of 12 val images have faults" in stopped.err
    assert "image cut off: 3, boxes and polygons in one label file: 3" in stopped.err
    assert "bad=repair, which uses repaired copies (3 images can be repaired)" in stopped.err
    assert "with bad=skip: left out: 6" in skipped.out
    assert str(data.parent / "images" / "cut off 0.jpg") in skipped.out
    check = json.loads(repaired.out)["data_check"]
    assert check["actions"] == {"left out": 3, "polygons made boxes": 3}
    assert check["harmless"] == {"labels given twice": 3}
    assert Path(check["file"]).read_text().count("\n") == 1 + 6
    assert "stop, skip, repair" in refused.err
    assert state(data.parent) == before


def test_train__goes_on_with_the_images_it_began_with(tmp_path, tiny, monkeypatch):
    """The data of a resumed run are those of its mirror, with the same images left out."""
    data = damaged(tmp_path / "signs", {"cut off": KINDS["cut off"]}, good=8)

    def stop(trainer) -> None:
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    settings = {**tiny, "epochs": 2, "bad": "skip", "callbacks": {"on_train_epoch_start": stop}}
    with pytest.raises(KeyboardInterrupt):
        yolo_mha.train("demo-mha.yaml", data, **settings)
    (last,) = Path("runs").rglob("last.pt")
    result = yolo_mha.train(resume=last)
    assert result.epochs == 2
    assert (result.data_check.bad, result.data_check.actions) == ("skip", {"left out": 2})
