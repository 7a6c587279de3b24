import cv2
import numpy as np

from yolo_mha.data.near_duplicates import MOST_BITS, near_duplicates, perceptual_hash


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 12), dtype=np.uint8)
    return cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC).astype(np.float32)


def test_perceptual_hash__is_that_of_a_smaller_darker_and_compressed_copy():
    image = picture(0)
    ok, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])
    copies = [cv2.resize(image, (111, 90)), image * 0.6 + 20, cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)]
    hashes = [perceptual_hash(c.astype(np.float32)) for c in (image, *copies, picture(1))]
    assert ok
    found = {(p.first, p.second) for p in near_duplicates(hashes)}
    assert found == {(i, j) for i in range(4) for j in range(i + 1, 4)}


def test_perceptual_hash__flat_images_are_like_no_other():
    flat = perceptual_hash(np.full((20, 40), 90, np.float32))
    assert flat is None
    assert near_duplicates([flat, flat]) == []


def test_near_duplicates__are_all_pairs_within_the_bound():
    """Against counting bits pair by pair, over more images than are compared at once."""
    rng = np.random.default_rng(0)
    hashes = list(rng.random((2500, 64)) < 0.5)
    for i in range(0, 2500, 5):
        flipped = rng.permutation(64)[: i % 12]
        hashes[(i + 2100) % 2500] = hashes[i] ^ np.isin(np.arange(64), flipped)
    hashes[7] = None
    found = {(p.first, p.second): p.bits for p in near_duplicates(hashes)}
    bits = np.array([h if h is not None else rng.random(64) < 0.5 for h in hashes])
    expected = {}
    for i in range(2500):
        apart = (bits[i] ^ bits[i + 1 :]).sum(axis=1)
        expected |= {(i, i + 1 + int(j)): int(apart[j]) for j in np.flatnonzero(apart <= MOST_BITS)}
    assert found == {pair: n for pair, n in expected.items() if 7 not in pair}
    assert len(found) > 40
