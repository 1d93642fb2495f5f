"""The training panel on a page, as a person sees it and presses it; and the notebook around it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator

from tests.widgets.lab import Visit

SECONDS = 60.0

_WATCH = """() => {
  const seen = (window.seenOfTheCurve = []);
  const look = () => {
    const panel = [...document.querySelectorAll(".tgw-panel")].at(-1);
    const canvas = panel?.querySelector(".tgw-curve canvas");
    const words = panel?.querySelector(".tgw-readout")?.textContent.replaceAll(",", "");
    const step = Number(words?.match(/step (\\d+)/)?.[1]);
    if (!canvas?.width || !step || step === seen.at(-1)?.step) return;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let coloured = 0;
    for (let i = 0; i < data.length; i += 4) {
      const colours = data.subarray(i, i + 3);
      if (data[i + 3] > 128 && Math.max(...colours) - Math.min(...colours) > 60) coloured++;
    }
    seen.push({ step, coloured });
  };
  clearInterval(window.looking);
  window.looking = setInterval(look, 50);
}"""

_TIME = """([action, states]) => {
  const panel = [...document.querySelectorAll(".tgw-panel")].at(-1);
  const state = panel.querySelector(".tgw-state");
  window.answered = new Promise((resolve) =>
    panel.querySelector(`[data-action=${action}]`).addEventListener("click", async () => {
      const asked = performance.now();
      while (!states.includes(state.textContent)) await new Promise(requestAnimationFrame);
      resolve((performance.now() - asked) / 1000);
    }),
  );
}"""

_END_OF_NOTEBOOK = """() => {
  const notebook = window.jupyterapp.shell.currentWidget;
  const cells = notebook.content.widgets.map(({ model }) => model).filter(({ type }) => type === "code");
  const shown = cells.flatMap(({ outputs }) => outputs.toJSON());
  const errors = shown.filter(({ output_type: kind }) => kind === "error");
  if (errors.length) return errors.map(({ ename, evalue }) => `${ename}: ${evalue}`);
  const isIdle = notebook.sessionContext.session.kernel.status === "idle";
  return isIdle && cells.every(({ executionCount }) => executionCount) ? [] : null;
}"""


class Panel:
    """The newest training panel on the page of a visit."""

    def __init__(self, visit: Visit) -> None:
        """Wait until it is there."""
        self.visit = visit
        self.page = visit.page
        self.whole: Locator = self.page.locator(".tgw-panel").last
        self.whole.wait_for(timeout=SECONDS * 1000)

    def part(self, selector: str, **which: Any) -> Locator:
        """A part of it."""
        return self.whole.locator(selector, **which)

    # ------------------------------------------------------------------------------- what is seen
    def shows(self, *states: str, seconds: float = SECONDS) -> None:
        """Wait until it says that its client is in one of these states."""
        text = re.compile("|".join(f"^{state}$" for state in states))
        self.part(".tgw-state", has_text=text).wait_for(timeout=seconds * 1000)

    def says(self, words: str, seconds: float = SECONDS) -> str:
        """Wait until its message has these words, and read all of it."""
        message = self.part(".tgw-message", has_text=words)
        message.wait_for(timeout=seconds * 1000)
        return message.inner_text()

    @property
    def message(self) -> str:
        """What its message says now."""
        message = self.part(".tgw-message")
        return message.inner_text() if message.is_visible() else ""

    @property
    def step(self) -> int:
        """The step that its curve has come to."""
        found = re.search(r"step ([\d,]+)", self.part(".tgw-readout").inner_text())
        return int(found[1].replace(",", "")) if found else 0

    @property
    def spent(self) -> float:
        """The ε that its gauge shows."""
        return float(self.part(".tgw-gauge [role=meter]").get_attribute("aria-valuenow") or 0)

    def reaches(self, step: int, seconds: float = SECONDS) -> None:
        """Wait until the curve has come to this step."""
        reached = """(step) => {
          const readout = [...document.querySelectorAll(".tgw-panel .tgw-readout")].at(-1);
          return Number(readout?.textContent.replaceAll(",", "").match(/step (\\d+)/)?.[1]) >= step;
        }"""
        self.page.wait_for_function(reached, arg=step, timeout=seconds * 1000)

    def coloured(self, selector: str) -> int:
        """How many coloured pixels are seen of a part of it."""
        return self.visit.picture(self.part(selector))[0]

    def is_seen(self, fits: Callable[[int, float], bool], seconds: float = 20.0) -> None:
        """Wait until its coloured pixels and its lightness fit: a theme's colours come one by one."""
        self.visit.sees(self.whole, fits, seconds)

    # ------------------------------------------------------------------------------- what is pressed
    def press(self, action: str) -> None:
        """Press a button."""
        self.part(f"[data-action={action}]:enabled").click(timeout=SECONDS * 1000)

    def seconds_until(self, *states: str, after: str) -> float:
        """Press a button; how long it takes, on the page's clock, until one of these states is shown."""
        self.part(f"[data-action={after}]:enabled").wait_for(timeout=SECONDS * 1000)
        self.page.evaluate(_TIME, [after, states])
        self.press(after)
        return float(self.page.evaluate("window.answered"))

    def answers_within_a_second(self, *states: str, after: str, undo: Callable[[], object]) -> bool:
        """Whether one of these states is shown so soon after a button is pressed, in one of five tries.

        Others may be at work on the machine. `undo` leads back to where the button can be pressed.
        """
        for _ in range(5):
            if self.seconds_until(*states, after=after) < 1.0:
                return True
            undo()
        return False

    def stops_within_a_second(self) -> bool:
        """The same of a run that is stopped; it is begun anew for another try."""

        def train() -> None:
            self.part(".tgw-steps").fill("10000")
            self.press("train")
            self.shows("Training")

        return self.answers_within_a_second("Ready", after="stop", undo=train)


class Watch:
    """Looks at the newest panel's curve, twenty times a second, from now on."""

    def __init__(self, visit: Visit) -> None:
        self._page = visit.page
        self._page.evaluate(_WATCH)

    @property
    def seen(self) -> list[tuple[int, int]]:
        """Each step that the curve had come to at some look, and its coloured pixels then."""
        return [(one["step"], one["coloured"]) for one in self._page.evaluate("window.seenOfTheCurve")]

    def saw_it_grow(self, times: int = 3) -> None:
        """Wait until the curve was drawn at so many looks; fail unless it grew longer and longer."""
        deadline = time.monotonic() + 20
        while len(self.seen) < times and time.monotonic() < deadline:
            self._page.wait_for_timeout(100)
        steps, coloured = zip(*self.seen, strict=True) if self.seen else ((), ())
        assert len(steps) >= times, f"the curve did not grow: {self.seen}"
        assert list(steps) == sorted(steps)
        assert min(coloured[1:]) > 200, f"the curve was blank: {self.seen}"


def errors_of_the_notebook(visit: Visit, seconds: float = 120.0) -> list[str]:
    """Wait until the open notebook's cells have run, or one has failed; the errors they show."""
    handle = visit.page.wait_for_function(_END_OF_NOTEBOOK, timeout=seconds * 1000)
    return [str(error) for error in handle.json_value()]
