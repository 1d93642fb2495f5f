"""The model card: what a model is, in Markdown, for whoever is handed it.

Of the data it tells the names and types of columns and the names of classes, which are treated as public; of
the rows nothing but figures that its owner may see, and it says which of those ε does not cover.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tg_workbench.models.tables import Model

MOST_LISTED = 50
"""So many columns or classes are named; of more, how many there are."""
CONFIG_FIRST = ("dataset_id", "epochs", "batch_size", "optimizer", "learning_rate")
PRIVACY = (
    *("mode", "unit", "relation", "accountant", "spent_epsilon", "delta", "target_epsilon"),
    *("noise_multiplier", "sample_rate", "max_grad_norm"),
)
LIMITS = """- It knows what its data knew: on other kinds of rows it may be wrong and sound sure.
- Nobody has looked for unequal errors between groups; do so before it decides about people.
- A confidence is the model's own, and not a probability that was checked."""


def card_of(model: Model) -> str:
    """The card of a model."""
    parts = (
        _head(model),
        _section("Data", _data(model)),
        _section("Training", _table(_in_words(_first(model.training_config, CONFIG_FIRST)))),
        _section("Performance", _performance(model)),
        _section("Privacy", _privacy(model)),
        _section("Inputs and classes", _inputs(model)),
        _section("How to call it", _call(model)),
        _section("Limits", LIMITS.splitlines()),
    )
    return "\n".join(parts)


def meaning(privacy: Mapping[str, Any]) -> str:
    """What a model's privacy means, in one sentence."""
    epsilon, delta = privacy.get("spent_epsilon"), privacy.get("delta")
    if privacy.get("guarantee", "none") == "none" or epsilon is None:
        return (
            "No guarantee: this model was trained without differential privacy, and its weights may tell "
            "anything about the rows it learned from."
        )
    unit = privacy.get("unit") or "example"
    factor = f"{math.exp(epsilon):.3g}" if epsilon < 50 else "e^ε"
    return (
        f"Whatever anybody concludes from these weights would be at most {factor} times as likely, or as "
        f"unlikely, had any one {plain(unit)} been left out of the data or put in, "
        f"but for a chance of {_number(delta)}."
    )


def plain(text: Any) -> str:
    """Somebody's text as one line that Markdown and HTML show as it is."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", html.escape(line, quote=False))


def _head(model: Model) -> str:
    made = datetime.fromtimestamp(model.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    size = model.architecture.get("parameters")
    counted = f" with {size:,} parameters" if isinstance(size, int) else ""
    title = (
        plain(model.name) if model.name != model.family else f"{plain(model.name)}, version {model.version}"
    )
    what = f"A network of type {plain(model.model_ref)}{counted}, for {plain(model.task)}. Made {made}."
    return f"# {title}\n\n{what}\n\nId: `{model.id}`\n"


def _data(model: Model) -> Iterator[str]:
    if model.dataset_id is None:
        yield "Rows that its owner sent while it was trained; no dataset of this workbench."
        return
    version = "" if model.dataset_version is None else f", version {model.dataset_version}"
    yield f"Dataset `{plain(model.dataset_id)}`{version}. Its rows are not part of this model's files."


def _performance(model: Model) -> Iterator[str]:
    if all(figure is None for figure in model.performance.values()):
        yield "It was not measured."
        return
    yield from _table(model.performance)
    if model.is_private:
        yield ""
        yield (
            "**Not covered by epsilon.** These figures were measured on private rows, without noise: they "
            "are for the owner of those rows, and to be left out where the model is passed on."
        )


def _privacy(model: Model) -> Iterator[str]:
    yield meaning(model.privacy)
    if model.is_private:
        yield ""
        yield from _table(
            {name: model.privacy[name] for name in PRIVACY if model.privacy.get(name) is not None}
        )


def _inputs(model: Model) -> Iterator[str]:
    columns = (model.encoding or {}).get("columns") or []
    shape = model.architecture.get("input_shape")
    if columns:
        named = (f"{plain(column['name'])} ({plain(column['type'])})" for column in columns)
        yield f"- Columns, in order: {_listed(named, len(columns))}"
    elif shape:
        yield f"- Rows of shape {' × '.join(map(str, shape))}"
    else:
        yield "- Text"
    scale = model.architecture.get("target_scale")
    if scale:
        target = plain((model.encoding or {}).get("target") or "a number")
        yield (
            f"- Answers: {target}, in its own unit. It was learned as (value - {scale['center']:.6g}) / "
            f"{scale['scale']:.6g}, and the loss is the mean squared error of that."
        )
    if model.class_names:
        yield f"- Classes: {_listed(map(plain, model.class_names), len(model.class_names))}"


def _call(model: Model) -> Iterator[str]:
    yield "```"
    yield f"POST /models/{model.id}/predict"
    yield '{"input": …}      one row, or {"inputs": [ …, … ]} for several'
    yield "```"
    if model.onnx_blob is not None:
        yield ""
        yield (
            "`model.onnx` reads `features`, 32-bit floats, any number of rows at a time, and gives `scores`. "
            "`encoding.json` says how raw columns become features; the bytes of pixels are divided by 255."
        )


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join((f"## {title}", "", *lines, ""))


def _table(values: Mapping[str, Any]) -> Iterator[str]:
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        yield "Nothing was noted."
        return
    yield "| | |"
    yield "|---|---|"
    for name, value in known.items():
        yield f"| {plain(name)} | {_number(value)} |"


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The same, with these names first."""
    return {name: values[name] for name in names if name in values} | dict(values)


def _in_words(config: Mapping[str, Any]) -> dict[str, str]:
    """A configuration without what says nothing, its parts as people write them."""
    return {name.replace("_", " "): said for name, value in config.items() if (said := _said(value))}


def _said(value: Any) -> str:
    """A value in words: `step: size 3, factor 0.5` for a part that has a name."""
    if isinstance(value, Mapping):
        rest = ", ".join(f"{name} {said}" for name, said in _in_words(value).items() if name != "name")
        return ": ".join(filter(None, (_said(value.get("name")), rest)))
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(_said, value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else plain(value)


def _listed(texts: Iterable[str], count: int) -> str:
    if count > MOST_LISTED:
        return f"{count} of them"
    return ", ".join(texts)
