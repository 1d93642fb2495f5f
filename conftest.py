"""What every test run starts from: one thread, no internet, no state of the person who runs it.

It lies beside `notebooks/` and `tests/`, so that running one notebook by its path finds it too.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile

import hypothesis

sys.dont_write_bytecode = False  # many processes are started, and each would compile all of this anew
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
_home = tempfile.mkdtemp(prefix="tgw-test-home-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)

_kept = os.environ.pop("TG_FLOWER_PYTHON", None)  # where a peer is that some tests compare with
for _name in list(os.environ):
    if _name.startswith(("TG_", "JUPYTER_", "VOILA_")) or _name in ("DATABASE_URL", "PORT"):
        del os.environ[_name]
if _kept:
    os.environ["TG_FLOWER_PYTHON"] = _kept

os.environ.update(
    TG_HOME=_home,
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    JUPYTER_PLATFORM_DIRS="1",
    JUPYTER_CONFIG_DIR=f"{_home}/jupyter/config",
    JUPYTER_DATA_DIR=f"{_home}/jupyter/data",
    JUPYTER_RUNTIME_DIR=f"{_home}/jupyter/runtime",
    IPYTHONDIR=f"{_home}/ipython",
)

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("ours")

pytest_plugins = ["tests.workbench_server", "tests.contracts.compatibility", "tests.told"]
