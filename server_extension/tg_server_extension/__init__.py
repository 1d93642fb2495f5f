"""The Jupyter Server extension that runs and guards the workbench.

It starts the API with Jupyter, keeps it running, and hands `{base_url}tg/…` through to it for whoever is
logged in to Jupyter. Kernels find the API's socket and a key in their environment.
"""

from __future__ import annotations

from tg_server_extension.app import WorkbenchExtension


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    """What Jupyter Server asks a package for: which app to load."""
    return [{"module": "tg_server_extension.app", "app": WorkbenchExtension}]
