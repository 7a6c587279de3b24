"""Is the dataset what its author thinks it is? Faults that `read_dataset` does not refuse, as training runs on."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from ..data.data_check import STOP, DataCheck
from ..data.dataset import Dataset, Sample, image_files, read_dataset
from ..data.files import sha256
from ..data.labels import MAX_NAMED, refuse_shared_labels, unmatched
from ..data.progress import Progress
from ..errors import DataError
from .check import Check, failed


def check_data(
    dataset: Dataset, splits: Sequence[str], progress: Progress, bad: str = STOP
) -> tuple[list[Check], list[Sample]]:
    """Check images, labels, classes and splits.

    Args:
        dataset: From `load_dataset`.
        splits: The splits that training will use, that to train on first.
        progress: See `read_dataset`.
        bad: See `read_dataset`.

    Returns:
        The checks, and the samples to train on; empty where they cannot be read.
    """
    samples: dict[str, list[Sample]] = {}
    checks = []
    for split in dict.fromkeys(splits):
        try:
            images = image_files(dataset, split)
            refuse_shared_labels(images, split)
            read = read_dataset(dataset, [split], bad, progress)
            samples[split] = read.samples[split]
            checks.append(_labels(split, samples[split]))
            checks += [_faults(split, read.check)] if read.check.faults else []
        except DataError as e:
            checks.append(failed(f"{split} images and labels", e))
    train = samples.get(splits[0], [])
    if train:
        checks.append(_classes(dataset, splits[0], train))
    if len(samples) > 1:
        checks.append(leaks(samples))
    return checks, train


def _labels(split: str, samples: Sequence[Sample]) -> Check:
    missing, orphans = unmatched([s.image for s in samples])
    objects = sum(len(s.classes) for s in samples)
    details = {"images": len(samples), "objects": objects, "without_labels": len(missing), "orphans": len(orphans)}
    message, fix = f"{len(samples)} images with {objects} objects", None
    if missing:
        share = len(missing) / len(samples)
        message += f", {len(missing)} ({share:.0%}) without a label file, such as {missing[0].name}"
        fix = "nothing, if these are background; otherwise put their label files there"
    if orphans:
        message += f", {len(orphans)} label files without an image, such as {orphans[0].name}"
        fix = fix or "put their images there, or remove these labels"
    return Check(f"{split} images and labels", "warning" if fix else "ok", f"{message}.", fix, details)


def _faults(split: str, check: DataCheck) -> Check:
    message = " ".join(check.sentences())
    return Check(f"{split} faults", "warning", message, "nothing, if that is what you want", vars(check))


def _classes(dataset: Dataset, split: str, samples: Sequence[Sample]) -> Check:
    counts = Counter(int(c) for s in samples for c in s.classes)
    by_name = {name: counts[i] for i, name in dataset.names.items()}
    absent = [name for name, n in by_name.items() if not n]
    most, least = max(by_name.values()), min(by_name.values())
    if absent:
        named = ", ".join(absent[:MAX_NAMED]) + (", ..." if len(absent) > MAX_NAMED else "")
        message = f"{len(absent)} of {len(by_name)} classes have no object in {split}: {named}."
        return Check("classes", "warning", message, "add images of these classes, or take them out of names:", by_name)
    message = f"Classes: {len(by_name)}, with {least} to {most} objects each."
    return Check("classes", "ok", message, details=by_name)


def leaks(samples: dict[str, list[Sample]]) -> Check:
    """Look for the same file in two splits, byte for byte; files of different size need not be read."""
    train, *others = samples
    by_size = defaultdict(list)
    for sample in samples[train]:
        by_size[sample.image.stat().st_size].append(sample.image)

    digest = functools.cache(sha256)
    leaked = [
        (s.image, split)
        for split in others
        for s in samples[split]
        if any(digest(twin) == digest(s.image) for twin in by_size[s.image.stat().st_size])
    ]
    stems = {s.image.stem for s in samples[train]}
    same_stem = sum(s.image.stem in stems for split in others for s in samples[split])
    details = {"same_content": len(leaked), "same_stem": same_stem}
    if leaked:
        image, split = leaked[0]
        message = f"{len(leaked)} {split} images are also in {train}, such as {image.name}, so scores will be too good."
        return Check("splits", "warning", message, f"take them out of {train} or of {split}", details)
    message = f"No {' or '.join(others)} file is, byte for byte, also in {train}; yolo-mha data finds near duplicates."
    return Check("splits", "ok", message, details=details)


def class_layers(known: Mapping[int, str], own: Mapping[int, str], by_name: bool = True) -> str | None:
    """Say what Ultralytics makes of a checkpoint's class layers when it lays them over a model for a dataset.

    It matches names without regard to case and outer spaces. Where none matches, and where either side's names are
    only the numbers of the classes, it takes over all tensors of the same shape.

    Args:
        known: The checkpoint's classes.
        own: The dataset's classes.
        by_name: Whether classes are matched by name at all, Ultralytics' ``cls_remap``.

    Returns:
        Half a sentence; None where the classes are the same, in the same order.
    """
    theirs, ours = ([str(name).strip().lower() for name in names.values()] for names in (known, own))
    if theirs == ours:
        return None
    numbers = any(all(str(index) == str(name) for index, name in names.items()) for names in (known, own))
    if by_name and not numbers and (shared := sum(name in theirs for name in ours)):
        return f"the last layers of the head begin anew, apart from those of classes with the same name, {shared}"
    if len(theirs) == len(ours):
        return "the class layers are taken over as they are, in the order of the classes, although the names differ"
    return "the last layers of the head begin anew"
