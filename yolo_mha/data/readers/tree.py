"""The files of a folder, walked once: images by name, all others by suffix, and which split a path speaks of."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path, PurePath, PurePosixPath

from ultralytics.data.utils import IMG_FORMATS

SPLIT_WORDS = {"train": "train", "training": "train", "trainval": "train", "test": "test", "testing": "test"}
SPLIT_WORDS |= dict.fromkeys(("val", "valid", "validation", "dev"), "val")
JUNK = "__MACOSX"  # of archives made on a Mac


class Tree:
    """The files below a folder; hidden ones are left out, and ``runs`` of the working directory, where results go.

    Attributes:
        root: The folder.
        images: Its images, sorted.

    Args:
        source: The folder, or a data YAML in it; or an annotation file, which then is the only one, with the images
            beside it, or else in the folder above.
    """

    def __init__(self, source: Path) -> None:
        source = source.resolve()
        self.root = source if source.is_dir() else source.parent
        self._walk()
        if source.is_file() and source.suffix not in (".yaml", ".yml"):
            if not self.images:
                self.root = source.parent.parent
                self._walk()
            self._others.clear()
            self._others[source.suffix.lower()] = [source]
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for image in self.images:
            self._by_name[image.name.lower()].append(image)
            self._by_name[image.stem.lower()].append(image)

    def _walk(self) -> None:
        self.images: list[Path] = []
        self._others: dict[str, list[Path]] = defaultdict(list)
        seen = {os.path.realpath("runs")}
        for folder, inner, names in os.walk(self.root, followlinks=True):
            real = os.path.realpath(folder)
            inner[:] = [] if real in seen else sorted(n for n in inner if not n.startswith(".") and n != JUNK)
            if real in seen:
                continue
            seen.add(real)
            for path in (Path(folder, name) for name in names if not name.startswith(".")):
                suffix = path.suffix.lower()
                (self.images if suffix[1:] in IMG_FORMATS else self._others[suffix]).append(path)
        self.images.sort()

    def files(self, suffix: str) -> list[Path]:
        """Return the files with a suffix, such as ``.json``, sorted."""
        return sorted(self._others.get(suffix, []))

    @property
    def suffixes(self) -> list[str]:
        """The suffixes of files that are no images, sorted."""
        return sorted(self._others)

    def find(self, name: str, near: Path, split: str | None = None) -> Path | None:
        """Find the image that an annotation file names.

        Of several with one name that is taken which agrees with most of the path that is given, has capitals where the
        name has some, lies in the folder of the annotations, or is of the same split.

        Args:
            name: A file name or a path, with its suffix or without. A suffix may be that of another kind of image.
            near: The annotation file.
            split: The split that it states for the image, if any.

        Returns:
            The image; None where there is none, or several that fit as well.
        """
        given = PurePosixPath(name.replace("\\", "/"))
        found = self._by_name.get(given.name.lower(), [])
        if not found and given.suffix[1:].lower() in IMG_FORMATS:
            found = self._by_name.get(given.stem.lower(), [])
        if len(found) < 2:
            return found[0] if found else None
        split = split or self.split_of(near, of_file=True)
        ranks = [
            (
                agreeing(given, path),
                given.name == path.name,
                path.stem in (given.name, given.stem),
                path.parent == near.parent,
                bool(split) and self.split_of(path) == split,
            )
            for path in found
        ]
        best = [path for path, rank in zip(found, ranks, strict=True) if rank == max(ranks)]
        return best[0] if len(best) == 1 else None

    def split_of(self, path: Path, of_file: bool = False) -> str | None:
        """Say which split the folders of a path below the root name, such as valid/ or train2017/.

        Args:
            path: The path.
            of_file: Whether the file's own name counts too, as that of ``instances_val.json`` does.
        """
        try:
            inner = path.relative_to(self.root).parts
        except ValueError:
            inner = path.parts[-1:]
        return split_named(inner if of_file else inner[:-1])


def split_named(parts: Iterable[str]) -> str | None:
    """Return the split that the last of some names speaks of, such as "val" for ``valid`` and ``instances_val2017``."""
    words = [word for part in parts for word in re.split(r"[\W_\d]+", part.lower())]
    stems = [word.removesuffix("set") for word in words]  # trainset
    return next((SPLIT_WORDS[stem] for stem in reversed(stems) if stem in SPLIT_WORDS), None)


def agreeing(given: PurePath, path: Path) -> int:
    """Count the last folders of a path that are as given."""
    pairs = zip(reversed(given.parts[:-1]), reversed(path.parts[:-1]), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].lower() == pair[1].lower(), pairs))
