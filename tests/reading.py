"""How often a dataset is read."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from yolo_mha.data import dataset


@contextmanager
def counted() -> Iterator[Counter]:
    """Count how often each image is verified, with its labels."""
    counts, read = Counter(), dataset._read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "_read", lambda image, *rest: counts.update([image]) or read(image, *rest))
        yield counts
