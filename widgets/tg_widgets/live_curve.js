// LiveCurve: keeps what the kernel appends and redraws once per animation frame, however many messages came.

const TONES = ["blue", "violet", "teal", "amber", "red"];

/** Grow-only pairs of numbers, without copying the whole for every message. */
class Points {
  constructor() {
    this.x = new Float64Array(1024);
    this.y = new Float64Array(1024);
    this.length = 0;
  }
  append(x, y) {
    const length = this.length + x.length;
    if (length > this.x.length) {
      for (const axis of ["x", "y"]) {
        const grown = new Float64Array(Math.max(length, 2 * this[axis].length));
        grown.set(this[axis].subarray(0, this.length));
        this[axis] = grown;
      }
    }
    this.x.set(x, this.length);
    this.y.set(y, this.length);
    this.length = length;
  }
}

const floats = (view) => new Float64Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

function receive(store, message, buffers) {
  if (message.type === "replay") store.clear();
  else if (message.type !== "append" || !store.isSynced) return false;
  store.isSynced = true;
  message.series.forEach((name, index) => {
    if (!store.has(name)) store.set(name, new Points());
    store.get(name).append(floats(buffers[2 * index]), floats(buffers[2 * index + 1]));
  });
  return true;
}

/** A copy that a line can be drawn from: null where there is nothing to draw. */
function drawable(y, length, isLog) {
  const values = new Array(length);
  for (let i = 0; i < length; i++) values[i] = Number.isFinite(y[i]) && !(isLog && y[i] <= 0) ? y[i] : null;
  return values;
}

/** One x for all series. Series that were measured at the same steps, as most are, need no costly join. */
function aligned(tables) {
  const [x] = tables.reduce((longest, table) => (table[0].length > longest[0].length ? table : longest));
  const fits = ([own]) => !own.length || (own.length === x.length && own.every((value, index) => value === x[index]));
  if (!tables.every(fits)) return uPlot.join(tables);
  return [x, ...tables.map(([own, values]) => (own.length ? values : new Array(x.length).fill(null)))];
}

function smoothed(values, weight) {
  let mean = 0;
  let seen = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    seen = weight * seen + 1 - weight; // so that the first values are not pulled towards zero
    return mean / seen;
  });
}

const shown = (value, { digits, round_up: up }) =>
  value === null || value === undefined
    ? "–"
    : up
      ? (Math.ceil(value * 10 ** digits - 1e-9) / 10 ** digits).toFixed(digits)
      : Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 10 ** -digits)
      ? value.toExponential(2)
      : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

class CurveView {
  constructor(model, store, el, signal) {
    this.model = model;
    this.store = store;
    this.frame = 0;
    this.isZoomed = false;
    this.build(el);
    const redraw = () => this.redraw();
    const rebuild = () => this.rebuild();
    model.on("change:log_scale change:smoothing change:height change:series", rebuild);
    model.on("change:marks", redraw);
    model.on("change:title change:note change:empty_text", () => this.words());
    onThemeChange(rebuild, signal);
    const resizes = new ResizeObserver(() => this.resize());
    resizes.observe(this.plotNode);
    signal.addEventListener("abort", () => {
      resizes.disconnect();
      cancelAnimationFrame(this.frame);
      this.plot?.destroy();
    });
    this.words();
  }

  build(el) {
    const toggle = (name, value, text, title) =>
      element(
        "button.tgw-button.small",
        { type: "button", title, onclick: () => this.set(name, this.model.get(name) ? value[0] : value[1]) },
        text,
      );
    this.title = element("h3.tgw-title");
    this.note = element("span.tgw-chip.tgw-note");
    this.whole = element(
      "button.tgw-button.small",
      { type: "button", hidden: true, onclick: () => this.follow() },
      "Show all",
    );
    this.smooth = toggle("smoothing", [0, 0.9], "Smooth", "Draw a running mean over the measured values");
    this.log = toggle("log_scale", [false, true], "Log", "Logarithmic scale");
    this.readout = element("ul.tgw-readout");
    this.empty = element(
      "div.tgw-empty",
      {},
      element("svg", { viewBox: "0 0 46 26", "aria-hidden": "true" }, element("path", { d: "M2 4C10 20 16 20 44 23" })),
      (this.emptyText = element("span")),
    );
    this.plotNode = element("div.tgw-plot", { role: "img" }, this.empty);
    this.card = element(
      "section.tgw.tgw-curve",
      {},
      element("header", {}, this.title, this.note, element("div.tgw-tools", {}, this.whole, this.smooth, this.log)),
      this.readout,
      this.plotNode,
    );
    el.classList.add("tgw-host");
    el.append(this.card);
  }

  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  words() {
    this.title.textContent = this.model.get("title");
    this.note.textContent = this.model.get("note");
    this.note.hidden = !this.model.get("note");
    this.emptyText.textContent = this.model.get("empty_text");
  }

  /** Aligned columns for uPlot: x, then one column per series, then a running mean per left series if wanted. */
  columns() {
    const isLog = this.model.get("log_scale");
    const tables = this.model.get("series").map(({ name, axis }) => {
      const points = this.store.get(name) ?? new Points();
      return [
        points.x.subarray(0, points.length),
        drawable(points.y, points.length, isLog && axis === "left"),
      ];
    });
    const weight = this.model.get("smoothing");
    if (!weight) return aligned(tables);
    // Of each series' own points: in joined columns there are holes wherever another series has an x of its own.
    const means = this.model.get("series").flatMap(({ axis }, index) =>
      axis === "left" ? [[tables[index][0], smoothed(tables[index][1], weight)]] : [],
    );
    return aligned([...tables, ...means]);
  }

  /** How uPlot shall draw: our colours, one grid, the second axis only where a series asks for it. */
  options(width) {
    const lines = this.model.get("series");
    const weight = this.model.get("smoothing");
    const tone = (index) => colour(this.card, TONES[index % TONES.length]);
    const faint = (index) => tone(index).replace(/^rgb\((.*)\)$/, "rgba($1, 0.28)");
    const [ink, grid] = [colour(this.card, "muted"), colour(this.card, "grid")];
    const font = `11px ${getComputedStyle(this.card).fontFamily}`;
    const line = (index, stroke, lineWidth, scale) =>
      ({ scale, stroke, width: lineWidth, spanGaps: false, points: { show: (u) => u.data[0].length < 2 } });
    const axis = (extra) => ({ stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { show: false }, ...extra });
    const size = (_, values) => 18 + 6.6 * Math.max(2, ...(values ?? []).map((value) => String(value ?? "").length));
    const padded = (isLog) => (u, low, high) => {
      if (low === null || high === null) return [isLog ? 0.1 : 0, 1];
      if (isLog) return [low / 1.25, high * 1.25];
      const room = (high - low || Math.abs(high) || 1) * 0.08;
      return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
    };
    const isLog = this.model.get("log_scale");
    const right = lines.findIndex((one) => one.axis === "right");
    this.hasRight = this.holdsRight();
    const hasRight = this.hasRight;
    return {
      width,
      height: this.plotNode.clientHeight,
      padding: [10, hasRight ? 4 : 12, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false } },
      scales: {
        x: { time: false, range: (u, low, high) => (low === null ? [0, 1] : low === high ? [low - 1, high + 1] : [low, high]) },
        left: { distr: isLog ? 3 : 1, range: padded(isLog) },
        right: { range: (u, low, high) => [0, (high || 1) * 1.08] },
      },
      axes: [
        axis({ label: this.model.get("x_label"), labelFont: font, labelSize: 18, labelGap: 0, size: 28,
               grid: { show: false }, incrs: [1, 2, 5].flatMap((m) => [...Array(12).keys()].map((e) => m * 10 ** e)).sort((a, b) => a - b) }),
        axis({ scale: "left", size }),
        ...(hasRight ? [axis({ scale: "right", side: 1, size, grid: { show: false }, stroke: tone(right) })] : []),
      ],
      series: [
        {},
        ...lines.map((one, index) => line(index, weight && one.axis === "left" ? faint(index) : tone(index), weight && one.axis === "left" ? 1 : 2, one.axis)),
        ...(weight ? lines.flatMap((one, index) => (one.axis === "left" ? [line(index, tone(index), 2.25, "left")] : [])) : []),
      ],
      hooks: {
        setCursor: [() => this.showValues()],
        setSelect: [(u) => u.select.width > 0 && this.zoomed()],
        draw: [(u) => this.drawMarks(u)],
      },
    };
  }

  /** A new plot, because what it looks like has changed; it shows the same stretch of x as the one before. */
  rebuild() {
    const { min, max } = this.plot?.scales.x ?? {};
    this.kept = this.isZoomed ? { min, max } : null;
    this.plot?.destroy();
    this.plot = null;
    this.redraw();
  }

  redraw() {
    if (!this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.draw();
      });
    }
  }

  draw() {
    this.plotNode.style.minHeight = `${this.model.get("height")}px`;
    const width = this.plotNode.clientWidth;
    if (!width) return; // hidden; the resize that shows it draws it
    this.smooth.setAttribute("aria-pressed", String(this.model.get("smoothing") > 0));
    this.log.setAttribute("aria-pressed", String(this.model.get("log_scale")));
    const data = this.columns();
    if (this.plot && this.hasRight !== this.holdsRight()) {
      this.plot.destroy();
      this.plot = null;
    }
    const isEmpty = !data[0].length;
    if (!this.plot) {
      this.plot = new uPlot(this.options(width), data, this.plotNode);
      this.plot.over.addEventListener("dblclick", () => this.follow());
      if (this.kept) this.plot.setScale("x", this.kept);
      this.kept = null;
    } else if (this.isZoomed) {
      this.plot.setData(data, false);
      this.plot.redraw();
    } else {
      this.plot.setData(data);
    }
    this.empty.hidden = !isEmpty;
    this.plot.root.style.visibility = isEmpty ? "hidden" : "visible";
    this.showValues();
  }

  /** Whether the axis on the right has anything to measure. */
  holdsRight() {
    return this.model.get("series").some(({ name, axis }) => axis === "right" && this.store.get(name)?.length);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.plotNode;
    if (!this.plot) this.redraw();
    else if (width && (width !== this.plot.width || height !== this.plot.height)) this.plot.setSize({ width, height });
  }

  zoomed() {
    this.isZoomed = true;
    this.whole.hidden = false;
  }

  follow() {
    this.isZoomed = false;
    this.whole.hidden = true;
    this.redraw();
  }

  /** The values under the pointer, or the newest ones. */
  showValues() {
    const lines = this.model.get("series");
    const hovered = this.plot?.cursor.idx;
    const at = (index) => {
      const points = this.store.get(lines[index].name);
      if (hovered !== null && hovered !== undefined) return this.plot.data[index + 1][hovered];
      return points?.length ? points.y[points.length - 1] : null; // the newest, which may be older than `x`
    };
    const x = hovered !== null && hovered !== undefined ? this.plot.data[0][hovered] : this.lastX();
    this.readout.replaceChildren(
      ...lines.flatMap(({ name, label }, index) =>
        !this.store.get(name)?.length ? [] : element(
          "li",
          { style: `--tgw-tone: var(--tgw-${TONES[index % TONES.length]})` },
          element("span.tgw-swatch"),
          element("span.tgw-muted", {}, label || name),
          element("b", {}, shown(at(index), lines[index])),
        ),
      ),
      ...(x === null ? [] : [element("li.tgw-muted", {}, `${this.model.get("x_label")} ${x.toLocaleString("en")}`)]),
    );
    if (hovered === null || hovered === undefined) this.describe(lines, at, x);
  }

  describe(lines, at, x) {
    const values = lines.flatMap(({ name, label }, index) =>
      this.store.get(name)?.length ? [`${label || name} ${shown(at(index), lines[index])}`] : [],
    );
    this.plotNode.setAttribute(
      "aria-label",
      x === null ? this.model.get("empty_text") : `${values.join(", ")} at ${this.model.get("x_label")} ${x}`,
    );
  }

  lastX() {
    const ends = [...this.store.values()].filter((points) => points.length).map((points) => points.x[points.length - 1]);
    return ends.length ? Math.max(...ends) : null;
  }

  /** Upright lines where something happened: {x, label, tone}. */
  drawMarks(u) {
    const { ctx } = u;
    const ratio = devicePixelRatio || 1;
    const marks = this.model.get("marks").filter(({ x }) => x >= u.scales.x.min && x <= u.scales.x.max);
    ctx.save();
    ctx.font = `${10.5 * ratio}px ${getComputedStyle(this.card).fontFamily}`;
    ctx.lineWidth = ratio;
    ctx.setLineDash([3 * ratio, 3 * ratio]);
    let freeFrom = -Infinity;
    for (const { x, label, tone } of marks) {
      const left = Math.round(u.valToPos(x, "x", true)) + 0.5;
      ctx.strokeStyle = ctx.fillStyle = colour(this.card, tone ?? "muted");
      ctx.beginPath();
      ctx.moveTo(left, u.bbox.top);
      ctx.lineTo(left, u.bbox.top + u.bbox.height);
      ctx.stroke();
      const width = ctx.measureText(label ?? "").width + 6 * ratio;
      if (label && left > freeFrom && left + width < u.bbox.left + u.bbox.width) {
        ctx.fillText(label, left + 4 * ratio, u.bbox.top + 10 * ratio);
        freeFrom = left + width;
      }
    }
    ctx.restore();
  }
}

export default () => {
  const store = new Map();
  const views = new Set();
  return {
    initialize({ model }) {
      model.on("msg:custom", (message, buffers) => {
        if (receive(store, message, buffers)) views.forEach((view) => view.redraw());
      });
      model.send({ type: "ready" });
    },
    render({ model, el, signal }) {
      const view = new CurveView(model, store, el, signal);
      views.add(view);
      signal.addEventListener("abort", () => views.delete(view));
      view.redraw();
    },
  };
};
