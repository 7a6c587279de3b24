"""Whatever words a command is called with, it answers, or names one fault."""

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st
from inputs import inputs
from mutations import CONTROLS, NUMBERS, WORDS
from test_commands import examples

from yolo_mha.engine.own_settings import COMMANDS

FEW, MANY = 80, 4000
FILES = inputs()
# what a command is called with at least, so that it reads something, and does not begin with what takes long
CALLS = {
    "insert": ["model=plain.yaml", "at=layer:0"],
    "remove": ["model=m.yaml"],
    "train": ["model=plain.yaml", "data=gone.yaml"],
    "val": ["predictions=n.json", "data=d.yaml"],
    "predict": ["source=images", "imgsz=32"],
    "track": ["source=images", "imgsz=32"],
    "heads": ["model=gone.pt"],
    "prune": ["model=gone.pt", "heads=5:0"],
    "export": ["model=gone.pt"],
    "benchmark": ["model=gone.pt"],
    "compare": ["recipe=r.yaml", "conclude=True"],
    "doctor": ["model=plain.yaml", "data=gone.yaml"],
    "version": [],
}
SLOW = ("train", "heads", "prune", "export", "benchmark", "doctor")  # once there is a model and a dataset
LONG = ("conclude", "dry_run")  # without the one and with the other, a comparison trains or measures
OTHERS = ["x", "epoch", "blocks", "imgsz", "batch", "device", "conf", "iou", "classes", "name", "project", "split"]
OTHERS += ["plots", "workers", "epochs", "optimizer", "lr0", "save", "save_txt", "max_det", "half", "augment", "time"]
OTHERS += ["vid_stride", "freeze", "cache"]
GIVEN = ["m.yaml", "d.yaml", "r.yaml", "n.json", "t.json", "images", "images/a.png", "P5", "layer:0", "after:Conv"]
GIVEN += ["-h"]
GIVEN += ["True", "0,1", "[0]", "(1)", "1,1", "32", "[32, 64]", "test", "cpu", "gone", "SpatialMHABlock", "Conv"]
GIVEN += ["sincos", "5:0", "0.5"]
TEXTS = [text for text in (*GIVEN, *NUMBERS, *WORDS, *CONTROLS, "a" * 300, "a/" * 3000, "''", "{}") if "\0" not in text]


@st.composite
def calls(draw: st.DrawFn) -> list[str]:
    """Return a command with settings that it takes or does not, and values that these take or do not."""
    command = draw(st.sampled_from(sorted(CALLS)))
    own = [setting.name for setting in (*COMMANDS[command].own, *COMMANDS[command].options)]
    names = st.sampled_from([name for name in own if name not in LONG] + OTHERS)
    values = st.sampled_from(TEXTS) | st.text(
        st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), max_size=8
    )
    given = draw(st.dictionaries(names, values, min_size=1, max_size=3))
    least = dict(word.split("=") for word in CALLS[command])
    words = {**given, **least} if command in SLOW else {**least, **given}
    more = draw(st.sampled_from([[]] * 12 + [["x"], ["=x"], ["x="], ["imgsz=32", "imgsz=64"], ["--x"], ["--json"]]))
    return [command, *(f"{name}={value}" for name, value in words.items()), *more]


def attempt(holds):
    """Return what is tried."""

    @given(calls())
    def once(words):
        holds(FILES, words)

    return once


def test_command__with_any_words(holds):
    examples(FEW, derandomize=True)(attempt(holds))()


@pytest.mark.slow
def test_command__with_very_many_words(holds, at_random):
    seed(at_random)(examples(MANY)(attempt(holds)))()
