"""Images in class folders: one size, one frame each, and told by their file when they are not."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.datasets.files.bombs import archive
from tests.unit.datasets.files.conftest import Desk
from tg_workbench.datasets.files import Limits
from tg_workbench.errors import InvalidRequest

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (6, 5, 3)).astype(np.uint8)


def image(kind: str = "PNG", pixels: Any = PIXELS, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


def moving(kind: str) -> bytes:
    file = io.BytesIO()
    frames = [Image.fromarray(PIXELS ^ np.uint8(n)) for n in (0, 255)]
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


GOOD = [("cat/1.png", image()), ("dog/2.png", image(pixels=255 - PIXELS))]


def test_folders_are_classes_and_pixels_are_kept(desk: Desk) -> None:
    outcome = desk.take("t.zip", archive(GOOD))
    assert outcome.tensors["features"].dtype == np.uint8
    assert np.array_equal(outcome.tensors["features"][0], PIXELS.transpose(2, 0, 1))
    assert outcome.tensors["targets"].tolist() == [0, 1]
    encoding = outcome.prepared.encoding
    assert (encoding.class_names, encoding.input_shape) == (("cat", "dog"), (3, 6, 5))
    for name in ("digest", "rows_digest", "plain_digest", "tensors", "size"):
        assert getattr(outcome.prepared, name) == getattr(outcome.content, name)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_every_kind_is_read_below_any_folder(desk: Desk, kind: str) -> None:
    ending = kind.lower()
    data = archive([(f"set/cat/1.{ending}", image(kind)), (f"set/dog/2.{ending}", image(kind))])
    assert desk.take("t.zip", data).prepared.inspection.class_counts == {"cat": 1, "dog": 1}


def test_grey_images_have_one_channel_until_one_has_colour(desk: Desk) -> None:
    grey = image(pixels=PIXELS[:, :, 0])
    assert desk.take(
        "t.zip", archive([("a/1.png", grey), ("b/1.png", grey)])
    ).prepared.encoding.input_shape == (1, 6, 5)
    mixed = desk.take("t.zip", archive([("a/1.png", grey), ("b/1.png", image())]))
    assert mixed.prepared.encoding.input_shape == (3, 6, 5)


@pytest.mark.parametrize(
    ("name", "data", "where", "problem"),
    [
        ("cat/3.png", image(pixels=PIXELS[:5]), "file cat/3.png", "is not 5×6 pixels"),
        ("cat/3.png", b"\x89PNG no image", "file cat/3.png", "no image that can be read"),
        ("cat/3.png", image()[:-40], "file cat/3.png", "damaged or cut off"),
        ("cat/3.png", b"", "file cat/3.png", "no image that can be read"),
        ("cat/3.gif", moving("GIF"), "file cat/3.gif", "moves"),
        ("cat/3.png", moving("PNG"), "file cat/3.png", "moves"),
        ("cat/3.webp", moving("WEBP"), "file cat/3.webp", "moves"),
        ("cat/3.png", image(pixels=PIXELS[:, :, 0].astype(np.uint16)), "file cat/3.png", "more than 8 bits"),
        ("cat/3.png", image("TIFF"), "file cat/3.png", "no image that can be read"),
        ("cat/3.svg", b"<svg/>", "file cat/3.svg", "is no image"),
        ("3.png", image(), "file 3.png", "lies in no class folder"),
    ],
    ids=range(11),
)
def test_an_image_that_cannot_be_is_told_by_its_file(
    desk: Desk, name: str, data: bytes, where: str, problem: str
) -> None:
    (found,) = desk.refuse("t.zip", archive([*GOOD, (name, data)]))
    assert found["where"] == where
    assert problem in found["problem"]


def on_its_side(kind: str) -> bytes:
    """The same picture as a camera that was turned writes it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(PIXELS).transpose(Image.Transpose.ROTATE_90)
    file = io.BytesIO()
    lying.save(file, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_an_image_of_a_turned_camera_is_stood_upright(desk: Desk, kind: str) -> None:
    data = archive([*GOOD, (f"dog/3.{kind.lower()}", on_its_side(kind))])
    read = desk.take("t.zip", data).tensors["features"]
    assert read.shape == (3, 3, 6, 5)
    if kind != "JPEG":  # which loses a little
        assert np.array_equal(read[2], read[0])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_see_through_is_laid_on_white_and_told(desk: Desk, mode: str) -> None:
    drawing = Image.new("RGBA", (5, 6), (0, 0, 0, 0))
    drawing.putpixel((2, 3), (0, 0, 0, 255))
    file = io.BytesIO()
    drawing.convert(mode).save(file, "PNG")
    found = desk.take("t.zip", archive([*GOOD, ("dog/3.png", file.getvalue())]))
    seen = found.tensors["features"][2]
    assert seen[:, 3, 2].tolist() == [0, 0, 0]
    assert int((seen == 255).sum()) == 3 * (5 * 6 - 1)
    assert found.prepared.inspection.warnings == (
        "1 image(s) are see-through in places: they are laid on white",
    )


def test_an_image_that_hides_nothing_is_read_as_it_is(desk: Desk) -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert("RGBA").save(file, "PNG")
    found = desk.take("t.zip", archive([*GOOD, ("dog/3.png", file.getvalue())]))
    assert np.array_equal(found.tensors["features"][2], PIXELS.transpose(2, 0, 1))
    assert not found.prepared.inspection.warnings


def test_a_folder_for_each_image_names_people_not_classes(desk: Desk) -> None:
    data = archive([(f"person {n}/1.png", image()) for n in range(4)])
    (found,) = desk.refuse("t.zip", data)
    assert found["where"] == "class folders"
    assert "counts as public" in found["problem"]
    assert desk.take("t.zip", data, classes=tuple(f"person {n}" for n in range(4))).prepared.size == 4
    assert desk.take("t.zip", data, privacy="public").prepared.size == 4


def test_folders_are_held_to_what_was_declared(desk: Desk) -> None:
    assert desk.take("t.zip", archive(GOOD), classes=("dog", "cat", "cow")).tensors["targets"].tolist() == [
        1,
        0,
    ]
    (found,) = desk.refuse("t.zip", archive(GOOD), classes=("dog", "cow"))
    assert found["where"] == "file cat/1.png"
    assert "one class folder only" in desk.refuse("t.zip", archive(GOOD[:1]))[0]["problem"]
    wrong: list[dict[str, Any]] = [{"dataset_type": "regression"}, {"unit_column": "who"}, {"target": "x"}]
    for said in wrong:
        with pytest.raises(InvalidRequest):
            desk.take("t.zip", archive(GOOD), **said)


def test_sizes_are_bounded(desk: Desk) -> None:
    for small in (Limits(image_side=5), Limits(entry_bytes=50), Limits(decoded_bytes=200)):
        assert desk.refuse("t.zip", archive(GOOD), small)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_any_damage_is_a_refusal(desk: Desk, kind: str) -> None:
    whole = image(kind)
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(256)
        try:
            desk.take("t.zip", archive([("cat/1.png", bytes(data)), ("dog/2.png", whole)]))
        except InvalidRequest:
            continue
