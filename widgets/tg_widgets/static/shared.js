// What every widget's script starts with (it is put in front of it): elements, colours, and being told of a new theme.

/** An element with attributes (`on…` are listeners, `false` and `null` leave one out) and children. */
function element(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const namespace = ["svg", "path", "g", "defs", "pattern", "line", "circle"].includes(tag);
  const node = namespace
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(key, value === true ? "" : value);
    }
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The value of a colour of `theme.css` where `node` stands, as a canvas understands it. */
function colour(node, name) {
  const probe = element("span", { style: `color: var(--tgw-${name}); display: none` });
  node.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** Call back when the notebook or the reader's system changes between light and dark, until `signal` aborts. */
function onThemeChange(callback, signal) {
  let later;
  const changed = () => {
    callback();
    clearTimeout(later);
    later = setTimeout(callback, 300); // a theme's style sheet may arrive after its name
  };
  const observer = new MutationObserver(changed);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", changed);
  signal.addEventListener("abort", () => {
    observer.disconnect();
    system.removeEventListener("change", changed);
    clearTimeout(later);
  });
}

/** What a live card's script is made of: it draws what the kernel shows, and tells whether anybody can see it. */
class Live {
  constructor({ model, el, signal }, name) {
    this.model = model;
    this.signal = signal;
    this.card = element(`section.tgw.tgw-card.${name}`);
    this.messages = element("div.tgw-messages", { "aria-live": "polite" });
    el.classList.add("tgw-host");
    el.append(this.card);
  }

  /** Ask the kernel for something. */
  ask(action, values = {}, buffers = []) {
    this.model.send({ action, values }, undefined, buffers);
  }

  /** Call `draw` now and, once a frame at most, whenever a trait changes. */
  follow(draw) {
    let frame = 0;
    const soon = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        draw();
      });
    };
    this.model.on("change", soon);
    this.signal.addEventListener("abort", () => {
      cancelAnimationFrame(frame);
      this.model.off("change", soon);
    });
    draw();
    this.watch();
  }

  /** The kernel looks at the workbench only while somebody can see what it finds. */
  watch() {
    let [isNear, isTold] = [true, false];
    const tell = (isSeen) => {
      if (isSeen === isTold) return;
      isTold = isSeen;
      try {
        this.ask(isSeen ? "ready" : "gone");
      } catch {
        // The kernel went first: there is nobody to be told.
      }
    };
    const look = () => tell(isNear && document.visibilityState !== "hidden");
    const observer = new IntersectionObserver(([{ isIntersecting }]) => {
      isNear = isIntersecting;
      look();
    }, { rootMargin: "200px" });
    observer.observe(this.card);
    document.addEventListener("visibilitychange", look);
    this.signal.addEventListener("abort", () => {
      observer.disconnect();
      document.removeEventListener("visibilitychange", look);
      tell(false);
    });
    look();
  }

  /** What stands in the way, in words; drawn anew only when it changes, so that it is read out once. */
  drawMessages({ connection, problem, error }) {
    const key = JSON.stringify([connection, problem, error]);
    if (key === this.told) return;
    this.told = key;
    const message = (text, label, action, tone) =>
      element("div.tgw-message", { style: `--tgw-tone: var(--tgw-${tone})` }, element("span", {}, text),
        element("button.tgw-button.small", { type: "button", "data-action": action, onclick: () => this.ask(action) }, label));
    this.messages.replaceChildren(
      ...[
        problem && connection !== "connected" && connection !== "looking" && message(problem, "Look again", "retry", "red"),
        error && message(error, "Dismiss", "dismiss", "red"),
      ].filter(Boolean),
    );
  }
}

/** A word about how something stands. */
function chip(text, tone, { live = false, dot = false } = {}) {
  return element(`span.tgw-chip${dot ? ".tgw-state" : ""}`, { style: `--tgw-tone: var(--tgw-${tone})`, "data-live": String(live) }, text);
}

/** A bar from 0 to 1 with words for those who do not see it. */
function bar(share, label, words, tone = "blue") {
  return element(
    "div.tgw-bar",
    { role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(share * 100), "aria-valuetext": words },
    element("i", { style: `width: ${Math.max(0, Math.min(1, share)) * 100}%; --tgw-tone: var(--tgw-${tone})` }),
  );
}

/** Labels and values. */
function factList(pairs) {
  return element("dl.tgw-facts", {}, pairs.map(([label, value, hint]) => element("div", { title: hint ?? null }, element("dt", {}, label), element("dd", {}, String(value)))));
}

/** A table: its name for screen readers, heads, rows of cells; the first cell of a row names it if `isNamed`. */
function grid(name, heads, rows, { right = [], isNamed = true } = {}) {
  const place = (index) => (right.includes(index) ? ".tgw-right" : "");
  const cell = (value, index) =>
    index === 0 && isNamed ? element("th", { scope: "row" }, value) : element(`td${place(index)}`, {}, value);
  return element(
    "div.tgw-scroll",
    { tabindex: 0, role: "region", "aria-label": name },
    element(
      "table.tgw-grid",
      {},
      element("caption.tgw-hidden-text", {}, name),
      element("thead", {}, element("tr", {}, heads.map((head, index) => element(`th${place(index)}`, { scope: "col" }, head)))),
      element("tbody", {}, rows.map((cells) => element("tr", {}, cells.map(cell)))),
    ),
  );
}

/** The head of a part of a card, with a remark. */
function partTitle(text, note = "") {
  return element("div.tgw-part-title", {}, element("h4", {}, text), note && element("span.tgw-chip.tgw-warning", {}, note));
}

/** A time as the reader's clock has it. */
function clock(iso) {
  const when = new Date(iso ?? NaN);
  if (Number.isNaN(+when)) return "";
  const isToday = when.toDateString() === new Date().toDateString();
  return isToday ? when.toLocaleTimeString("en-GB") : when.toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}
