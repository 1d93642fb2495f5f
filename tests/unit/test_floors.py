"""Imports point down: one ranked list, no exceptions, lazy imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = [
    {"__main__"},
    {"main"},
    {"app"},
    {"contracts"},
    {"webhooks", "observability", "notifications"},
    {"federation"},
    {"training"},
    {"models"},
    {"security", "datasets"},
    {"identity"},
    {"events", "execution", "outbox"},
    {"storage"},
    {"engine"},
    {"crypto", "privacy"},
    {"settings"},
    {"home"},
    {"errors", "pictures"},
]
FRONT_DOOR = "tg_workbench"  # the names that `tg_workbench/__init__.py` exports
STRATEGIES = "federation.strategies"
UPDATES = "federation.updates"
FLOWER = "federation.flower"  # a simulation on a device's machine has Flower's strategies and process too
DEVICE = "device"
MAY_IMPORT = {room: set[str]().union(*FLOORS[n + 1 :]) for n, floor in enumerate(FLOORS) for room in floor}
MAY_IMPORT["__main__"] |= {DEVICE}
MAY_IMPORT["federation"] |= {STRATEGIES, UPDATES, FLOWER}
MAY_IMPORT["contracts"] |= {STRATEGIES, UPDATES, FLOWER}
MAY_IMPORT["__main__"].add(DEVICE)
MAY_IMPORT |= {  # those that stand beside the building
    FRONT_DOOR: {"sdk", "errors"},
    "sdk": {"errors", "pictures", DEVICE},
    STRATEGIES: {"privacy", "crypto", "errors"},
    UPDATES: {STRATEGIES, "privacy", "crypto", "errors"},
    FLOWER: {"settings", "errors", STRATEGIES},
    DEVICE: {"sdk", "engine", "privacy", "crypto", "errors", STRATEGIES, UPDATES, FLOWER},
    "tg_server_extension": {"settings", "home", "errors"},
    "tg_widgets": {FRONT_DOOR, "sdk", "errors"},
}


def room_of(name: str) -> str:
    """`tg_workbench.storage.database` lies in `storage`; what is no room is a name at the front door."""
    for pure in (STRATEGIES, UPDATES, FLOWER):
        if name.startswith(f"tg_workbench.{pure}"):
            return pure
    package, room, *_ = [*name.split("."), FRONT_DOOR]
    return room if package == "tg_workbench" and room in MAY_IMPORT else package


def imports(module: str, source: str) -> Iterator[str]:
    """The dotted names that a module imports, anywhere in it; `import_module("…")` counts."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=origin, names=names, level=level):
                start = module.split(".")[:-level] if level else []
                path = [*start, *([origin] if origin else [])]
                yield from (".".join([*path, alias.name]) for alias in names)
            case ast.Call(
                func=ast.Name("import_module") | ast.Attribute(_, "import_module"), args=[name, *_]
            ):
                yield ast.unparse(name).strip("'\"")


def climbs(module: str, source: str) -> list[str]:
    """The imports of a module that do not point down."""
    mine = room_of(module)
    ours = (name for name in imports(module, source) if name.split(".")[0] in MAY_IMPORT)
    return [
        f"{module} ({mine}) may not import {name} ({room_of(name)})"
        for name in ours
        if room_of(name) not in MAY_IMPORT[mine] | {mine} and name != "tg_workbench.__version__"
    ]


def modules() -> Iterator[tuple[str, Path]]:
    """Every module we ship, by its dotted name; a package's own is `package.__init__`."""
    for folder in (ROOT, ROOT / "server_extension", ROOT / "widgets"):
        for package in ("tg_workbench", "tg_server_extension", "tg_widgets"):
            for path in sorted((folder / package).rglob("*.py")):
                yield ".".join(path.relative_to(folder).with_suffix("").parts), path


def test_every_import_points_down() -> None:
    found = [climb for module, path in modules() for climb in climbs(module, path.read_text())]
    assert not found, "\n".join(found)


def test_every_module_stands_on_a_floor() -> None:
    rooms = {module.split(".")[1] for module, _ in modules() if module.startswith("tg_workbench.")}
    assert rooms - {"__init__"} <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tg_workbench.storage.blobs", "from tg_workbench.training import Jobs"),
        ("tg_workbench.storage.blobs", "def later():\n    import tg_workbench.app"),
        ("tg_workbench.storage.blobs", "import_module('tg_workbench.contracts.route')"),
        ("tg_workbench.storage.blobs", "from tg_workbench import Workbench"),
        ("tg_workbench.storage.blobs", "from ..identity import Principal"),
        ("tg_workbench.storage.__init__", "from ..identity import Principal"),
        ("tg_workbench.security.keys", "from tg_workbench import datasets"),
        ("tg_workbench.privacy.noise", "import tg_widgets"),
        ("tg_workbench.sdk.client", "from tg_workbench.settings import Settings"),
        ("tg_workbench.__init__", "from tg_workbench.engine import Trainer"),
        ("tg_workbench.federation.strategies.fedavg", "from tg_workbench.federation.devices import rounds"),
        ("tg_workbench.federation.strategies.fedavg", "from tg_workbench.federation.devices import updates"),
        ("tg_workbench.federation.updates.layout", "from tg_workbench.storage import blobs"),
        ("tg_workbench.federation.flower.process", "from tg_workbench.federation.rounds import specs"),
        ("tg_server_extension.proxy", "from tg_workbench.sdk import Workbench"),
        ("tg_widgets.curve", "from tg_workbench.training import Jobs"),
    ],
)
def test_an_import_that_climbs_is_found(module: str, source: str) -> None:
    assert len(climbs(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tg_workbench.training.worker", "from tg_workbench.privacy.accounting import Odometer"),
        ("tg_workbench.federation.rounds", "from tg_workbench.federation.strategies import fedavg"),
        ("tg_workbench.federation.updates.reading", "from tg_workbench.federation.strategies import Update"),
        ("tg_workbench.training.jobs", "from .clients import TrainingClients"),
        ("tg_workbench.app", "from tg_workbench import __version__, contracts"),
        ("tg_workbench.__init__", "from tg_workbench.sdk import Workbench"),
        ("tg_widgets.curve", "from tg_workbench import Workbench\nimport tg_workbench.sdk"),
    ],
)
def test_an_import_that_points_down_passes(module: str, source: str) -> None:
    assert climbs(module, source) == []
