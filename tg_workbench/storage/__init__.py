"""Where bytes live: the database, and files named by their content. It knows no meaning.

Pitfalls: `Database.read()` sessions must not write; a reader that turns writer halfway is refused by SQLite
at once instead of being made to wait. Never await anything while a `write()` session is open: it holds the
lock.
"""

from tg_workbench.storage.blobs import Blobs, BlobWriter
from tg_workbench.storage.database import Database
from tg_workbench.storage.left_blobs import LeftBlobs
from tg_workbench.storage.partial_files import Appended, PartialFile

__all__ = ["Appended", "BlobWriter", "Blobs", "Database", "LeftBlobs", "PartialFile"]
