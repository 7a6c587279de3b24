import threading

import pytest
from PIL import Image

from yolo_mha.data.pictures import open_picture, size_and_mode


def test_size_and_mode__of_a_large_picture_leaves_the_limit_of_others_alone(tmp_path, monkeypatch):
    """Before, the limit was lifted for the whole process, and threads could leave it lifted."""
    Image.new("1", (200, 100)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    seen = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            seen.add(Image.MAX_IMAGE_PIXELS)

    thread = threading.Thread(target=watch)
    thread.start()
    assert {size_and_mode(tmp_path / "x.png") for _ in range(50)} == {((200, 100), "1")}
    ended.set()
    thread.join()
    assert seen == {50}


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp", "gif", "jp2"])
def test_open_picture__is_as_pillow_opens_it(tmp_path, suffix):
    Image.new("RGB", (30, 20), "red").save(tmp_path / f"x.{suffix}")
    with open_picture(tmp_path / f"x.{suffix}") as own, Image.open(tmp_path / f"x.{suffix}") as theirs:
        assert (own.format, own.size, own.mode) == (theirs.format, theirs.size, theirs.mode)
        assert own.convert("RGB").tobytes() == theirs.convert("RGB").tobytes()


def test_open_picture__refuses_what_is_none(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(OSError, match=r"x\.png"):
        open_picture(tmp_path / "x.png")
