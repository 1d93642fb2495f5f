"""Images: a ZIP archive of class folders as one array of pixels. All of one size, none of them moving."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tg_workbench.datasets.encoding import Encoding
from tg_workbench.datasets.files.archives import Archive, Entry
from tg_workbench.datasets.files.limits import Limits
from tg_workbench.datasets.files.targets import check_public_names, task_of
from tg_workbench.datasets.files.tensors import Shapes, TensorFile, digests_of
from tg_workbench.datasets.files.values import FileRequest, Inspection, Prepared
from tg_workbench.errors import DatasetInvalid, InvalidRequest
from tg_workbench.pictures import as_seen, orientation_of

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}
GREY = {"1", "L"}
COLOUR = {"RGB", "RGBA", "P", "LA", "PA", "CMYK", "YCbCr", "RGBX"}
AT_ONCE = 64
ON_ITS_SIDE = {5, 6, 7, 8}
"""What a camera says that was held so (EXIF)."""
BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises for bytes that are no sound image: there is no one class of it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of the archive and the name of its class."""

    entry: Entry
    class_name: str

    @property
    def where(self) -> str:
        """Its place, in words."""
        return f"file {self.entry.name}"


def prepare_images(archive: Archive, request: FileRequest, into: Path, limits: Limits) -> Prepared:
    """Look at every image's head, then write every image's pixels. Raises DatasetInvalid, InvalidRequest."""
    _check_request(request)
    pictures = _pictures(archive, limits)
    names = _class_names(pictures, request, limits)
    check_public_names(names, len(pictures), request, "class folders")
    shape = _shape(archive, pictures, limits)
    count, size = len(pictures), int(np.prod(shape))
    if count * (size + 8) > limits.decoded_bytes:
        raise DatasetInvalid(f"would become more than {limits.decoded_bytes:,} bytes of pixels")
    shapes: Shapes = {"features": ("U8", (count, *shape)), "targets": ("I64", (count,))}
    number = {name: n for n, name in enumerate(names)}
    see_through = 0
    with TensorFile(into, shapes) as file:
        file.add("targets", np.array([number[picture.class_name] for picture in pictures], dtype=np.int64))
        for pixels, count_see_through in _pixels(archive, pictures, shape, limits):
            file.add("features", pixels)
            see_through += count_see_through
    digests = digests_of(into, shapes)
    counts = Counter(picture.class_name for picture in pictures)
    return Prepared(
        inspection=Inspection(
            file_format="zip",
            kind="images",
            rows=count,
            task="classification",
            target="folder",
            class_counts={name: counts[name] for name in names},
            warnings=_warnings(pictures, see_through),
        ),
        encoding=Encoding("images", "classification", class_names=names, image_shape=shape, target="folder"),
        path=into,
        format="safetensors",
        size=count,
        tensors=file.tensors,
        digest=digests.digest,
        rows_digest=digests.rows_digest,
        plain_digest=digests.plain_digest,
    )


def _check_request(request: FileRequest) -> None:
    if task_of(request.dataset_type) not in (None, "classification"):
        raise InvalidRequest("images in class folders are for classification")
    if request.target or request.unit_column or request.text_column or request.ranges or request.categories:
        raise InvalidRequest("images have no columns: their folders are their classes")


def _pictures(archive: Archive, limits: Limits) -> list[Picture]:
    wrong: list[tuple[str, str]] = []
    found = []
    for entry in sorted(archive.entries, key=lambda entry: entry.name):
        folder = entry.path.parent.name
        if entry.path.suffix.lower() not in ENDINGS:
            wrong.append((f"file {entry.name}", f"is no image: they end in {', '.join(sorted(ENDINGS))}"))
        elif not folder:
            wrong.append((f"file {entry.name}", "lies in no class folder"))
        elif len(folder) > limits.name_length:
            wrong.append((f"file {entry.name}", f"has a class of more than {limits.name_length} characters"))
        found.append(Picture(entry, folder))
    if wrong:
        raise DatasetInvalid.of(wrong)
    if not found:
        raise DatasetInvalid("is an archive without a file in it")
    return found


def _class_names(pictures: list[Picture], request: FileRequest, limits: Limits) -> tuple[str, ...]:
    there = {picture.class_name for picture in pictures}
    names = request.classes or tuple(sorted(there))
    if len(names) > limits.classes:
        raise DatasetInvalid(f"has more than {limits.classes:,} class folders")
    strays = [picture.where for picture in pictures if picture.class_name not in names]
    if strays:
        raise DatasetInvalid("lies in a folder that is none of the declared classes", *strays)
    if len(names) < 2 or len(there) < 2:
        raise DatasetInvalid("has one class folder only: there is nothing to tell apart")
    return names


def _shape(archive: Archive, pictures: list[Picture], limits: Limits) -> tuple[int, int, int]:
    """Channels, height and width, the same for all."""
    wrong: list[tuple[str, str]] = []
    sizes: list[tuple[int, int]] = []
    channels = 1
    for picture in pictures:
        try:
            size, depth = _head(archive.read(picture.entry, limits.entry_bytes), limits)
            channels = max(channels, depth)
        except _Refusal as refusal:
            wrong.append((picture.where, str(refusal)))
            size = (0, 0)
        sizes.append(size)
        if len(wrong) >= DatasetInvalid.MOST:
            break
    if wrong:
        raise DatasetInvalid.of(wrong)
    (width, height), _ = Counter(sizes).most_common(1)[0]
    others = [p.where for p, size in zip(pictures, sizes, strict=True) if size != (width, height)]
    if others:
        raise DatasetInvalid(f"is not {width}×{height} pixels, as most are: make them one size", *others)
    return channels, height, width


class _Refusal(ValueError):
    """Why an image is not taken."""


def _head(data: bytes, limits: Limits) -> tuple[tuple[int, int], int]:
    """Width, height and channels, from what an image says of itself."""
    with _opened(data) as image:
        width, height = image.size
        if max(width, height) > limits.image_side:
            raise _Refusal(f"is larger than {limits.image_side:,} pixels on a side")
        if getattr(image, "is_animated", False):
            raise _Refusal("moves: an image must have one frame")
        if image.mode not in GREY | COLOUR:
            raise _Refusal("has more than 8 bits for a pixel's channel")
        size = (height, width) if _orientation(image) in ON_ITS_SIDE else (width, height)
        return size, 1 if image.mode in GREY else 3


def _pixels(
    archive: Archive, pictures: list[Picture], shape: tuple[int, int, int], limits: Limits
) -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
    """Some images at a time, each channels × height × width, and how many of them are see-through."""
    mode = "L" if shape[0] == 1 else "RGB"
    for start in range(0, len(pictures), AT_ONCE):
        part = pictures[start : start + AT_ONCE]
        pixels = np.empty((len(part), *shape), dtype=np.uint8)
        see_through = 0
        for place, picture in enumerate(part):
            try:
                with _opened(archive.read(picture.entry, limits.entry_bytes)) as image:
                    decoded, is_see_through = _decoded(image, mode)
                    pixels[place] = decoded.reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1)
                    see_through += is_see_through
            except _Refusal as refusal:
                raise DatasetInvalid(str(refusal), picture.where) from None
        yield pixels, see_through


def _opened(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except BROKEN as failure:
        raise _Refusal("is no image that can be read, or is far too large") from failure


def _orientation(image: Image.Image) -> int:
    try:
        return orientation_of(image)
    except BROKEN as failure:
        raise _Refusal("says in no way that can be read how it is to be turned") from failure


def _decoded(image: Image.Image, mode: str) -> tuple[npt.NDArray[np.uint8], bool]:
    """The pixels as people see them, and whether white is seen through them."""
    try:
        seen, is_see_through = as_seen(image)
        return np.asarray(seen.convert(mode), dtype=np.uint8), is_see_through
    except BROKEN as failure:
        raise _Refusal("is damaged or cut off") from failure


def _warnings(pictures: list[Picture], see_through: int) -> tuple[str, ...]:
    above = {str(picture.entry.path.parent.parent) for picture in pictures}
    said = [f"the class folders of {len(above)} folders are read as one set"] if len(above) > 1 else []
    if see_through:
        said.append(f"{see_through} image(s) are see-through in places: they are laid on white")
    return tuple(said)
