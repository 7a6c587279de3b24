import json
from dataclasses import replace

import pytest
import yaml
from data.formats import coco, instances, picture, voc
from samples import NAMES, SAMPLES, perfect, sample, truth_of

from yolo_mha.data.dataset import load_dataset, read_split
from yolo_mha.errors import DataError
from yolo_mha.scoring.coco import evaluate
from yolo_mha.scoring.truth import detections, ground_truth, read_results, read_truth


def prediction(image_id, category_id, **more) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": [5, 5, 15, 15], "score": 0.5, **more}


def test_detections__go_by_image_not_by_order():
    found = detections(SAMPLES, perfect(SAMPLES)[::-1], truth_of(SAMPLES))
    assert [(r["image_id"], r["file_name"], r["category_id"], r["category_name"]) for r in found] == [
        (2, "9.png", 0, "cat"),
        (0, "7.png", 0, "cat"),
        (0, "7.png", 1, "dog"),
    ]
    assert evaluate(ground_truth(SAMPLES, NAMES), found).metrics["AP"] == pytest.approx(1)


def test_detections__on_a_reduced_copy_are_in_pixels_of_the_image():
    half = [replace(d, boxes=d.boxes / [2, 4, 2, 4], size=(100, 25)) for d in perfect(SAMPLES)]
    assert detections(SAMPLES, half, truth_of(SAMPLES)) == detections(SAMPLES, perfect(SAMPLES), truth_of(SAMPLES))


def test_detections__refuses_other_images():
    with pytest.raises(DataError, match="not those of the ground truth"):
        detections(SAMPLES, perfect(SAMPLES)[:1], truth_of(SAMPLES))


@pytest.mark.parametrize(
    ("ids", "reading"),
    [
        ((0, 2), "images by position"),
        (("7.png", "9.png"), "images by file name"),
        (("7", "9"), "images by stem,"),
        ((7, 9), "images by stem as a number"),
    ],
)
def test_read_results__image_ids(ids, reading):
    truth = truth_of(SAMPLES)
    found = read_results([prediction(i, c) for i, c in zip(ids, (1, 0), strict=True)], truth, SAMPLES)
    assert [(r["image_id"], r["category_id"]) for r in found] == [(0, 1), (2, 0)]
    assert reading in truth.audit.prediction_ids


def test_read_results__category_ids_counted_from_one():
    truth = truth_of(SAMPLES)
    found = read_results([prediction(7, 1), prediction(7, 2)], truth, SAMPLES)
    assert [r["category_id"] for r in found] == [0, 1]
    assert truth.audit.prediction_ids.endswith("categories by class index counted from 1")
    with pytest.raises(DataError, match="category ids of the predictions are ambiguous"):
        read_results([prediction(7, 1)], truth, SAMPLES)
    for more, category in (({"category_name": "dog"}, 1), ({"file_name": "7.png"}, 0)):
        assert read_results([prediction(7, 1, **more)], truth, SAMPLES)[0]["category_id"] == category
    assert truth.audit.prediction_ids.endswith("as Ultralytics writes it")
    assert read_results([], truth, SAMPLES) == []


def test_read_results__an_ambiguous_id_is_refused_and_a_file_name_decides():
    samples = [sample(name, [], []) for name in ("1", "2", "3")]
    with pytest.raises(DataError, match="are ambiguous") as caught:
        read_results([prediction(1, 0)], truth_of(samples), samples)
    assert "image_id 1, as position or as stem as a number" in str(caught.value)
    found = read_results([prediction(1, 0, file_name="1.png")], truth_of(samples), samples)
    assert found[0]["image_id"] == 0
    assert read_results([prediction(0, 0), prediction(1, 0)], truth_of(samples), samples)[1]["image_id"] == 1
    same = [sample(name, [], []) for name in ("0", "1", "2")]
    assert read_results([prediction(1, 0)], truth_of(same), same)[0]["image_id"] == 1


def test_read_results__file_names_of_other_images_than_the_ids_are_refused():
    """Predictions of another split, whose numbers are positions in this one by chance."""
    other = [prediction(i, c, file_name=f"{i}.png") for i, c in ((0, 0), (2, 1))]
    with pytest.raises(DataError, match="have file names of other images") as caught:
        read_results(other, truth_of(SAMPLES), SAMPLES)
    assert "image_id 0 as position: file_name '0.png'" in str(caught.value)
    given = replace(truth_of(SAMPLES), given=True)
    with pytest.raises(DataError, match="have file names of other images"):
        read_results(other, given, SAMPLES)
    for right in ("7.png", "C:\\data\\7.jpg"):  # as converted elsewhere, where the name of the picture stays
        (read,) = read_results([prediction(0, 0, file_name=right, category_name="cat")], given, SAMPLES)
        assert read["image_id"] == 0


def test_read_results__of_two_classes_of_one_name_the_id_decides():
    samples = [sample("7", [[5, 5, 20, 20], [30, 30, 60, 60]], [0, 1])]
    truth = replace(truth_of(samples), coco=ground_truth(samples, {0: "cat", 1: "cat"}))
    written = detections(samples, perfect(samples), truth)
    assert [r["category_name"] for r in written] == ["cat", "cat"]
    assert read_results(written, truth, samples) == written


def test_read_results__its_own_file_is_never_ambiguous():
    samples = [sample(name, [[5, 5, 20, 20]], [0]) for name in ("1", "2", "3")]
    samples += [sample("4", [[5, 5, 20, 20]], [1])]
    truth = truth_of(samples)
    written = [r for r in detections(samples, perfect(samples), truth) if r["image_id"] == 3]
    assert read_results(written, truth, samples) == written


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({}, "not in COCO results format"),
        ([5], "Prediction 0 is unusable"),
        ([prediction([1], 0)], "Prediction 0 is unusable"),
        ([prediction(7, 0), prediction(55, 0)], "1 of 2 image ids"),
        ([prediction("x.png", 0)], "tried: position (0, ...), file name ('7.png', ...)"),
        ([prediction(7, 3)], "category ids"),
        ([prediction(7, 0), prediction(7, 2)], "1 of 2 category ids"),
        ([prediction(7, "cat")], "category ids"),
    ],
)
def test_read_results__refuses(results, words):
    with pytest.raises(DataError) as caught:
        read_results(results, truth_of(SAMPLES), SAMPLES)
    assert words in str(caught.value)


def test_read_results__ids_of_a_coco_file_that_could_be_counted_from_one_are_refused():
    """As Ultralytics writes them, of a dataset whose own ids begin with 0."""
    truth = replace(truth_of(SAMPLES), given=True)
    assert truth.category_ids == [0, 1]
    written = prediction(7, 1, file_name="7.png")
    with pytest.raises(DataError, match="as ids of the annotations or as class index counted from 1"):
        read_results([written], truth, SAMPLES)
    named = read_results([{**written, "category_name": NAMES[0]}], truth, SAMPLES)
    assert named[0]["category_id"] == 0


def test_read_truth__of_a_coco_dataset_has_original_ids_crowds_and_areas(tmp_path):
    dataset = load_dataset(coco(tmp_path / "pets"))
    samples = read_split(dataset, "val")
    truth = read_truth(dataset, "val", samples)
    assert sorted(truth.image_ids) == [7, 9, 42]
    assert truth.category_ids == [5, 7]
    assert {a["area"] for a in truth.coco["annotations"]} == {3.5}
    audit = truth.audit
    assert (audit.images, audit.objects, audit.crowd, audit.ignored) == (3, 5, 1, 1)
    assert "2 boxes extend more than a pixel beyond their image" in " ".join(audit.notes)
    results = detections(samples, perfect(samples), truth)
    assert set(results[0]) == {"image_id", "category_id", "bbox", "score"}
    assert read_results(results, truth, samples) == results
    names = {42: "one/a.png", 7: "images/a.png", 9: "b.png"}
    by_name = [{**r, "image_id": names[r["image_id"]], "category_id": (r["category_id"] - 5) // 2} for r in results]
    assert read_results(by_name, truth, samples) == results
    assert truth.audit.prediction_ids == "images by file name, categories by class index"


def test_read_truth__annotations_of_a_yolo_dataset(tmp_path):
    """The COCO file knows two of three images, and one more; its categories come in another order."""
    for stem in "abc":
        picture(tmp_path / "images" / f"{stem}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{stem}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    boxes = [(11, 7, [1, 1, 9, 9], {}), (12, 5, [0, 0, 9, 9], {"iscrowd": 1}), (13, 5, [0, 0, 5, 5], {})]
    path = instances(tmp_path / "val.json", [(11, "far/a.png"), (12, "b.png"), (13, "z.png")], boxes)
    content = {"train": "images", "val": "images", "names": ["dog", "cat"], "annotations": {"val": "val.json"}}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    dataset = load_dataset(tmp_path / "data.yaml")
    samples = read_split(dataset, "val")
    truth = read_truth(dataset, "val", samples)
    assert truth.image_ids == [11, 12, None]
    assert truth.category_ids == [7, 5]
    assert [a["image_id"] for a in truth.coco["annotations"]] == [11, 12]
    assert (truth.audit.images_without_truth, truth.audit.truth_without_image) == (1, 1)
    assert [r["image_id"] for r in detections(samples, perfect(samples), truth)] == [11, 12]
    kept = read_results([prediction(i, 7) for i in (11, 13)], truth, samples)
    assert [r["image_id"] for r in kept] == [11]
    assert "1 predictions are on images that are not scored" in truth.audit.notes[-2]
    named = read_results([prediction(11, 7, file_name="b.png", category_name="cat")], truth, samples)
    assert [(r["image_id"], r["category_id"]) for r in named] == [(12, 5)]  # names decide over ids that are known too

    instances(path, [(11, "z.png")], [])
    with pytest.raises(DataError, match="has none of the images"):
        read_truth(dataset, "val", samples)
    instances(path, [(11, "a.png")], [(11, 5, [0, 0, 1, 1], {})], ("cow", "dog"))
    with pytest.raises(DataError, match="only in names: cat; only in the COCO file: cow"):
        read_truth(dataset, "val", samples)
    instances(path, [(11, "one/a.png"), (12, "two/a.png")], [])
    with pytest.raises(DataError, match="several images of one name"):
        read_truth(dataset, "val", samples)


def test_read_truth__of_voc_ignores_difficult_objects_when_scored(tmp_path):
    dataset = load_dataset(voc(tmp_path / "pets"))
    samples = read_split(dataset, "val")
    truth = read_truth(dataset, "val", samples)
    assert (truth.audit.objects, truth.audit.ignored, truth.audit.format) == (2, 2, "Pascal VOC")
    results = [prediction(i, 1, bbox=[0, 0, 20, 10]) for i in ("c", "d")]
    results += [prediction(i, 0, bbox=[10, 5, 20, 15]) for i in ("c", "d")]
    scores = evaluate(truth.coco, read_results(results, truth, samples))
    assert scores.metrics["AP"] == pytest.approx(1)
    assert (scores.objects, scores.per_class["ant"]["AP"]) == (2, -1)


def test_read_truth__of_labels_counts_missing_and_lonely_files(tmp_path):
    for stem in "ab":
        picture(tmp_path / "images" / f"{stem}.png")
    (tmp_path / "labels").mkdir()
    for stem in "az":
        (tmp_path / "labels" / f"{stem}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"train": "images", "val": "images", "names": ["cat"]}))
    dataset = load_dataset(tmp_path / "data.yaml")
    audit = read_truth(dataset, "val", read_split(dataset, "val")).audit
    assert (audit.images_without_truth, audit.truth_without_image, audit.objects) == (1, 1, 1)
    assert "b.png" in audit.notes[0]
    assert "z.txt" in audit.notes[1]


def test_ground_truth__of_coco_images(test_data):
    """Labels of COCO val2017 as perfect detections score 1 everywhere."""
    dataset = load_dataset(test_data / "coco-val128" / "data.yaml")
    samples = read_split(dataset, "val")
    truth = read_truth(dataset, "val", samples)
    scores = evaluate(ground_truth(samples, dataset.names), detections(samples, perfect(samples), truth))
    assert scores.images == 128
    assert scores.metrics["AP"] == pytest.approx(1)
    assert scores.metrics["APsmall"] == pytest.approx(1)


def test_read_results__as_ultralytics_writes_them(test_data):
    """COCO file names are numbers, and ``save_json`` counts classes from 1."""
    dataset = load_dataset(test_data / "coco-val128" / "data.yaml")
    samples = read_split(dataset, "val")
    truth = read_truth(dataset, "val", samples)
    own = detections(samples, perfect(samples), truth)
    assert 79 not in {r["category_id"] for r in own}  # so that neither the first id nor the last tells
    written = [
        {
            "image_id": int(samples[r["image_id"]].image.stem),
            "file_name": samples[r["image_id"]].image.name,
            "category_id": r["category_id"] + 1,
            "bbox": r["bbox"],
            "score": r["score"],
        }
        for r in own
    ]
    read = read_results(json.loads(json.dumps(written)), truth, samples)
    assert [(r["image_id"], r["category_id"]) for r in read] == [(r["image_id"], r["category_id"]) for r in own]
    for r in written:
        del r["file_name"]
    with pytest.raises(DataError, match="are ambiguous"):
        read_results(written, truth, samples)
