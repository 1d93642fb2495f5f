from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest

from tg_workbench.privacy import SecureRandom


def test_two_generators_never_agree() -> None:
    assert SecureRandom().bytes(32) != SecureRandom().bytes(32)


def test_uniforms_lie_from_zero_to_below_one() -> None:
    drawn = SecureRandom().uniforms(100_000)
    assert drawn.dtype == np.float64
    assert 0.0 <= drawn.min() < 0.001
    assert 0.999 < drawn.max() < 1.0


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_generator_cannot_be_copied_or_saved(copier: object) -> None:
    with pytest.raises(TypeError, match="never come twice"):
        copier(SecureRandom())  # type: ignore[operator]


def test_forked_process_draws_other_numbers() -> None:
    generator = SecureRandom()
    generator.bytes(16)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, generator.bytes(32))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 32) != bytes(generator.bytes(32))
    os.close(reading)
    os.close(writing)
