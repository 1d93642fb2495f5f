"""Pictures as people see them: upright as their camera says (EXIF), and see-through ones laid on white.

Rows are made of a picture by this, and questions to a model: or it would be asked about other pixels than it
has learned from.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

ORIENTATION, UPRIGHT = 0x0112, 1


def orientation_of(picture: Image.Image) -> int:
    """As the file's head says it, 1 to 8 (EXIF). Some PNG say it after their pixels: those stay as they lie.

    Raises what Pillow does for a head that cannot be read.
    """
    if picture.format == "PNG" and "exif" not in picture.info:
        return UPRIGHT
    return int(picture.getexif().get(ORIENTATION, UPRIGHT))


def as_seen(picture: Image.Image) -> tuple[Image.Image, bool]:
    """The picture upright and on white, and whether the white is seen.

    What lies under see-through pixels is mostly black: a black drawing would be gone.
    Raises what Pillow does.
    """
    upright = picture if orientation_of(picture) == UPRIGHT else ImageOps.exif_transpose(picture)
    if not upright.has_transparency_data:
        return upright, False
    layer = upright.convert("RGBA")
    is_see_through = np.asarray(layer.getchannel("A")).min() < 255
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer), bool(is_see_through)
