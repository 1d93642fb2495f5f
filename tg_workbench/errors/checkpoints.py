"""What can go wrong with a state that was kept."""

from __future__ import annotations

from tg_workbench.errors.families import NotFound, WorkbenchError


class ArtifactNotFound(NotFound):
    """No artifact has this id."""

    def __init__(self) -> None:
        super().__init__("there is no artifact with this id")


class CheckpointInvalid(WorkbenchError):
    """A checkpoint that cannot be loaded. The training client is as it was before."""


class CheckpointMismatch(CheckpointInvalid):
    """A sound checkpoint of another model."""


class SealBroken(CheckpointInvalid):
    """Decryption failed: the bytes were edited, or they belong to somebody else."""

    def __init__(self, what: str = "the checkpoint") -> None:
        super().__init__(f"{what} was edited, damaged or made elsewhere: its seal does not hold")
