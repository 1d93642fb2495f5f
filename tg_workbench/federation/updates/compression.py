"""How an update is made smaller on its way: not at all, to int8, or to its largest numbers.

`encode` gives safetensors bytes that name their compression and their layout; `decoded` gives the vector back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tg_workbench.federation.updates.headers import Head
from tg_workbench.federation.updates.layout import Layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tg_workbench.federation.strategies.strategy import Vector


def decoded(data: NDArray[np.uint8], head: Head, layout: Layout) -> Vector:
    """The vector that these data stand for. Raises UpdateInvalid."""
    import numpy as np

    return data.view(np.float32)
