import pytest

from yolo_mha.errors import ConfigError
from yolo_mha.paths import can_be_path, given_path

LONG = "\u00e9" * 128  # 256 bytes


@pytest.mark.parametrize("text", ["a", "a b/c.txt", "..", "/", LONG[:-1], "/".join([LONG[:-1]] * 15), "\udcff"])
def test_can_be_path__knows_what_a_file_could_be_called(text):
    assert can_be_path(text)
    assert str(given_path(text, "data")) == text


@pytest.mark.parametrize("text", ["", " ", "a\0b", LONG, f"a/{LONG}/b", "a/" * 2001, "\ud800"])
def test_given_path__refuses_what_no_file_could_be_called(text):
    with pytest.raises(ConfigError, match="data is not a path"):
        given_path(text, "data")
