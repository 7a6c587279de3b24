"""Random ground truths and detections in COCO's layout."""

import numpy as np

Case = tuple[dict, list[dict]]


def made_up(rng: np.random.Generator, images: int, classes: int, *, objects: int = 8, ties: bool = True) -> Case:
    """Draw boxes of all sizes, some of them crowds or ignored, and detections on and beside them.

    Args:
        rng: Random numbers.
        images: Number of images of 640 x 640.
        classes: Number of classes.
        objects: The most boxes in one image.
        ties: Whether scores may be equal.
    """
    truth: dict = {
        "images": [{"id": 10 + 3 * i, "width": 640, "height": 640} for i in range(images)],
        "categories": [{"id": 2 * k + 1, "name": f"class {k}"} for k in range(classes)],
        "annotations": [],
    }
    results: list[dict] = []

    def detect(image: dict, category: int, box: list[float]) -> None:
        score = float(rng.integers(1, 20) / 20) if ties else float(rng.random())
        results.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": score})

    for image in truth["images"]:
        for _ in range(rng.integers(objects + 1)):
            category = int(2 * rng.integers(classes) + 1)
            width, height = np.exp(rng.uniform(1.5, 5.5, 2))
            box = [*rng.uniform(0, 400, 2), width, height]
            mark = {"iscrowd": 1} if rng.random() < 0.08 else {"iscrowd": 0, "ignore": int(rng.random() < 0.08)}
            area = float(width * height * rng.uniform(0.5, 1))  # of an outline
            truth["annotations"].append(
                {"id": len(truth["annotations"]), "image_id": image["id"], "category_id": category}
                | {"bbox": [float(v) for v in box], "area": area, **mark}
            )
            for _ in range(rng.integers(3)):
                shift = rng.normal(0, 0.08, 4) * [width, height, width, height]
                near = np.maximum(np.array(box) + shift, 0.5)
                detect(image, category if rng.random() < 0.9 else 1, [float(v) for v in near])
        for _ in range(rng.integers(4)):
            detect(image, int(2 * rng.integers(classes) + 1), [float(v) for v in rng.uniform(1, 300, 4)])
    return truth, results
