"""Files with a pickle in them that were valid until something was changed."""

import io
import pickletools
import zipfile

from hypothesis import strategies as st

# steps of a pickle: they name things, call them, make objects, give these a state, or put values there
NAMES = ["posix\nsystem", "builtins\nexec", "builtins\nopen", "builtins\ngetattr", "builtins\nbytearray", "torch\nload"]
NAMES += ["torch\nSize", "torch.nn.modules.linear\nIdentity", "numpy\nndarray", "ultralytics.nn.tasks\nDetectionModel"]
NAMES += ["torch._utils\n_rebuild_tensor_v2", "collections\nOrderedDict", "torch.FloatStorage", "pathlib\nPosixPath"]
NAMED = [f"c{name}\n".encode() for name in NAMES]
VALUES = [b"N", b"\x88", b")", b"]", b"}", b"K\xff", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f"]
VALUES += [b"h\x00"]
VALUES += [b"U\x03ran", b"X\x0a\x00\x00\x00__reduce__", b"X\x07\x00\x00\x00forward", b"X\x08\x00\x00\x00_modules"]
VALUES += [b"h\xff"]
STEPS = [b"R", b"\x81", b"b", b"\x93", b"0", b"1", b"2", b"(", b"t", b"u", b"s", b"e", b"a", b"\x85", b"\x86", b"Q"]
STEPS += [b"."]
STEPS += [b"iposix\nsystem\n", b"o", b"\x92", b"\x82\x01", b"P0\n", b"q\x00", b"X\xff\xff\xff\x7f"]
STEPS += [b"\x8e" + b"\xff" * 8]
CALLS = [name + b"U\x03ran\x85R" for name in NAMED] + [name + b")\x81}b" for name in NAMED]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Return bytes of which some were changed, taken out, doubled, or replaced by others."""
    for _ in range(draw(st.integers(1, 3))):
        start, other = draw(st.tuples(*[st.integers(0, len(content))] * 2))
        end = min(len(content), start + draw(st.sampled_from([1, 4, 64])))
        flipped = bytes(byte ^ 1 << other % 8 for byte in content[start : start + 1])
        new = [b"", content[start:end] * 2, content[other : other + end - start], flipped + content[start + 1 : end]]
        content = content[:start] + draw(st.sampled_from(new)) + content[end:]
        if draw(st.integers(0, 9)) == 0:
            content = content[:other]
    return content


@st.composite
def other_steps(draw: st.DrawFn, content: bytes) -> bytes:
    """Return a pickle of which some steps were taken out, doubled, exchanged, or replaced by such as call things."""
    places = [place for _, _, place in pickletools.genops(content)]
    steps = [content[a:b] for a, b in zip(places, [*places[1:], None], strict=True)]
    for _ in range(draw(st.integers(1, 4))):
        at, other = draw(st.tuples(*[st.integers(0, len(steps) - 1)] * 2))
        new = draw(st.sampled_from([b"", steps[other], *NAMED, *VALUES, *STEPS, *CALLS]))
        steps[at] = draw(st.sampled_from([new, steps[at] + new, new + steps[at]]))
    return b"".join(steps)


@st.composite
def checkpoint(draw: st.DrawFn, entries: dict[str, bytes]) -> bytes:
    """Return an archive as `torch.save` writes it, with another pickle, or damaged, renamed or lacking entries."""
    entries = dict(entries)
    how = draw(st.sampled_from(["pickle", "pickle", "pickle", "gone", "renamed", "damaged", "archive"]))
    name = draw(st.sampled_from(sorted(entries)))
    if how == "pickle":
        name = next(name for name in entries if name.endswith("data.pkl"))
        entries[name] = draw(other_steps(entries[name]))
    elif how == "gone":
        del entries[name]
    elif how == "renamed":
        entries[draw(st.sampled_from(sorted(entries)))] = entries.pop(name)
    elif how == "damaged":
        entries[name] = draw(damaged(entries[name]))
    content = packed(entries)
    return draw(damaged(content)) if how == "archive" else content


def packed(entries: dict[str, bytes]) -> bytes:
    """Return an archive with these entries."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        for name, content in entries.items():
            written.writestr(name, content)
    return archive.getvalue()
