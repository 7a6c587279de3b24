import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.utils import ROOT as ULTRALYTICS

import yolo_mha
from yolo_mha.data.dataset import load_dataset
from yolo_mha.errors import ConfigError, DataError, ModelError, YoloMHAError
from yolo_mha.evaluation.recipe import read_recipe
from yolo_mha.paths import shipped
from yolo_mha.yaml_files import MOST_BYTES, MOST_DEPTH, load_yaml, read_yaml

MODEL = "nc: 1\nbackbone: [[-1, 1, Conv, [16, 3, 2]]]\nhead: [[[0], 1, Detect, [nc]]]\n"
DATA = "train: images\nval: images\nnames: {0: a}\n"
RECIPE = "data: beacons\narms: {a: yolo11n.yaml, b: yolo11s.yaml}\n"
LAUGHS = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
READERS = [
    (MODEL, "m.yaml", yolo_mha.YOLO, ModelError),
    (DATA, "d.yaml", load_dataset, DataError),
    (RECIPE, "r.yaml", lambda path: read_recipe(path, {}), ConfigError),
]
reader = pytest.mark.parametrize(("text", "name", "read", "error"), READERS, ids=["model", "data", "recipe"])


@reader
@pytest.mark.parametrize("twice", ["extra: 1\nextra: 2\n", "extra: {a: {1: x, 0x1: y}}\n", "extra: [{a: 1, 'a': 2}]\n"])
def test_read_yaml__refuses_a_key_that_comes_twice_wherever_it_stands(tmp_path, text, name, read, error, twice):
    (tmp_path / name).write_text(text + twice)
    with pytest.raises(error, match=f"comes twice in .*{name}") as caught:
        read(tmp_path / name)
    assert "lines" in str(caught.value)


BOMBS = {
    "aliases": LAUGHS,
    "a list of aliases": "a: &a [" + "1, " * 1000 + "]\nb: [" + "*a, " * 1000 + "]\n",
    "merged mappings": "m: &m {" + ", ".join(f"k{i}: 1" for i in range(300)) + "}\nn: [" + "{<<: *m}, " * 1000 + "]\n",
    "an alias within itself": "a: &a [*a]\n",
    "a mapping within itself": "a: &a {b: {c: *a}}\n",
    "depth": "a: " + "[" * 100_000 + "\n",
    "depth in blocks": "".join(f"{' ' * i}a:\n" for i in range(MOST_DEPTH + 10)),
    "bytes": "a: " + "x" * 5 * MOST_BYTES + "\n",
    "rows": "a:\n" + "  - [-1, 1, Conv, [64, 3, 2]]\n" * 30_000,
    "a long number": "a: " + "9" * 100_000 + "\n",
}


@reader
@pytest.mark.parametrize("bomb", BOMBS)
def test_read_yaml__refuses_what_would_eat_time_and_memory_at_once(tmp_path, text, name, read, error, bomb):
    (tmp_path / name).write_text(text + BOMBS[bomb])
    started = time.process_time()
    with pytest.raises(error, match=name) as caught:
        read(tmp_path / name)
    assert time.process_time() - started < 1
    assert len(str(caught.value)) < 1000


def test_read_yaml__takes_aliases_merges_and_many_names():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: [*a, *a]\nnames:\n" + "".join(
        f"  {i}: n{i}\n" for i in range(21843)
    )
    content = load_yaml(text, "x.yaml", ConfigError)
    assert content["b"] == {"x": 3, "y": 2}
    assert content["c"] == [content["a"]] * 2
    assert len(content["names"]) == 21843


def test_read_yaml__takes_every_file_that_ships():
    files = [*(ULTRALYTICS / "cfg").rglob("*.yaml"), *shipped("cfg").rglob("*.yaml")]
    assert len(files) > 100
    for file in files:
        assert read_yaml(file, ConfigError, "")


@pytest.mark.parametrize(
    "value", ["!!timestamp a", "!!bool a", "!!int ''", "!!float a", "!!python/object/apply:os.abort []"]
)
def test_load_yaml__refuses_a_value_that_is_not_what_its_tag_says(value):
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_yaml(f"a: {value}", "x.yaml", ConfigError)


def test_read_yaml__refuses_what_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="is not a file"):
        read_yaml(tmp_path, ConfigError, "")


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab01-:[]{},&*<!|>'\"#\n \t?~.", max_size=60) | st.text(max_size=30))
def test_load_yaml__gives_what_yaml_gives_or_one_error(text):
    try:
        content = load_yaml(text, "x.yaml", ConfigError)
    except YoloMHAError:
        return
    assert repr(content) == repr(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
