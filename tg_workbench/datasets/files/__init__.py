"""Files as they were uploaded: checked, described and turned into what training reads.

What is named here is light. `files.preparing.prepare` needs Polars, Pillow and NumPy: workers import it, the
API never does.
"""

from tg_workbench.datasets.files.limits import LIMITS, Limits
from tg_workbench.datasets.files.values import Column, FileRequest, Inspection, Prepared

__all__ = ["LIMITS", "Column", "FileRequest", "Inspection", "Limits", "Prepared"]
