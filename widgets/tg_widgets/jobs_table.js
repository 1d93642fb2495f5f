// JobsTable: a row for each job. Rows stay where they are and change in place, so nothing slips from under a finger.

const STATES = {
  queued: ["Queued", "muted"],
  running: ["Running", "blue"],
  stopping: ["Stopping", "amber"],
  completed: ["Completed", "teal"],
  failed: ["Failed", "red"],
  cancelled: ["Cancelled", "muted"],
};
const FILTERS = { "": "All jobs", queued: "Queued", running: "Running", completed: "Completed", failed: "Failed", cancelled: "Cancelled" };
const HEADS = ["Job", "Status", "Progress", "Learning", "Privacy", "Started"];
const TONES = ["blue", "violet"];
const [WIDE, HIGH] = [84, 26];

function spark(values, tone) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (index) => 2 + ((WIDE - 4) * index) / Math.max(1, values.length - 1);
  const y = (value) => (high > low ? HIGH - 3 - ((HIGH - 6) * (value - low)) / (high - low) : HIGH / 2);
  const points = values.map((value, index) => `${x(index).toFixed(1)} ${y(value).toFixed(1)}`);
  const [end, last] = [values.length - 1, values.at(-1)];
  return element("g", { style: `--tgw-tone: var(--tgw-${tone})` },
    values.length > 1 && element("path", { d: `M ${points.join(" L ")}` }),
    element("circle", { cx: x(values.length > 1 ? end : 0), cy: y(last), r: 2 }));
}

function learning({ curves, note }) {
  if (!curves.length) return [element("span.tgw-muted", {}, "–")];
  const words = curves.map(({ label, values, last }) => `${label} ${last} after ${values.length} points, from ${values[0].toPrecision(3)}`).join("; ");
  return [
    element("div.tgw-curves", {},
      element("svg.tgw-spark", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": words }, curves.map(({ values }, index) => spark(values, TONES[index]))),
      element("div.tgw-measures", {}, curves.map(({ label, last }, index) =>
        element("span", {}, element("i.tgw-swatch", { style: `--tgw-tone: var(--tgw-${TONES[index]})`, "aria-hidden": "true" }), `${label} `, element("b", {}, last))))),
    note && element("small.tgw-muted", {}, note),
  ].filter(Boolean);
}

function privacy({ kind, spent, target, share }) {
  if (kind === "none") return [chip("no guarantee", "amber")];
  if (kind === "unknown") return [element("span.tgw-muted", {}, "–")];
  const words = `ε ${spent} spent${target ? ` of ${target}` : ""}`;
  return [
    element("span", {}, "ε ", element("b", {}, spent), target ? element("span.tgw-muted", {}, ` of ${target}`) : null),
    share !== null && bar(share, "Privacy spent", words, "teal"),
  ].filter(Boolean);
}

/** One job: its row, and under it its log while that is open. */
class JobRow {
  constructor(id, table) {
    this.id = id;
    this.table = table;
    const cell = (name) => (this[name] = element(`td.tgw-cell-${name}`));
    this.name = element("th.tgw-cell-name", { scope: "row" });
    this.node = element("tr", {}, this.name, ...["status", "progress", "learning", "privacy", "started", "actions"].map(cell));
    this.lines = element("pre.tgw-lines", { tabindex: 0, role: "log", id: `tgw-log-${id}` });
    this.log = element("tr.tgw-log", { hidden: true }, element("td", { colspan: HEADS.length + 1 }, this.lines));
    this.told = {};
  }

  /** Fill a cell, if what it shows is new. */
  fill(name, shows, draw) {
    const key = JSON.stringify(shows);
    if (this.told[name] === key) return;
    this.told[name] = key;
    this[name].replaceChildren(...draw());
  }

  draw(row, doing) {
    const [word, tone] = STATES[row.status] ?? [row.status, "muted"];
    const isLive = ["running", "stopping"].includes(row.status);
    this.fill("name", [row.name, row.model, row.dataset], () => [
      element("span.tgw-job", { title: this.id }, row.name),
      element("small.tgw-muted", { title: row.dataset }, row.model === row.name ? row.dataset : `${row.model} · ${row.dataset}`),
    ]);
    this.fill("status", [row.status, row.reason], () => [
      chip(word, tone, { live: isLive, dot: true }),
      row.reason && element("small.tgw-reason", {}, row.reason),
    ].filter(Boolean));
    this.fill("progress", [row.progress, row.epoch, row.epochs, row.time, row.status], () => this.progressOf(row, tone));
    this.fill("learning", [row.curves, row.note], () => learning(row));
    this.fill("privacy", row.epsilon, () => privacy(row.epsilon));
    this.fill("started", [row.started_at, row.is_started], () => [row.is_started ? clock(row.started_at) : element("span.tgw-muted", {}, `submitted ${clock(row.started_at)}`)]);
    this.drawActions(row, doing);
  }

  progressOf({ progress, epoch, epochs, time, status }, tone) {
    const told = [epochs ? `epoch ${epoch} of ${epochs}` : "", `${progress} %`];
    return [
      bar(progress / 100, "Progress", told.filter(Boolean).join(", "), status === "running" ? "blue" : tone),
      element("div.tgw-line", {}, told.map((words) => element("span", {}, words))),
      time && element("small.tgw-muted", {}, time),
    ].filter(Boolean);
  }

  /** Buttons keep the keyboard's focus when those beside them come and go. */
  drawActions({ actions, name }, doing) {
    const isOpen = this.table.openLog === this.id;
    this.actions.hidden = this.table.isPublished;
    const key = JSON.stringify([actions, isOpen, doing]);
    if (this.told.actions === key) return;
    this.told.actions = key;
    const focused = this.actions.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    const isAsked = (action) => doing.includes(`${action} ${this.id}`); // not `disabled`: that would drop the focus
    const button = (action, text, more = {}) => {
      const { kind = "", ...attributes } = more;
      return element(`button.tgw-button.small${kind}`, {
        type: "button", "data-action": action, "aria-label": `${text} ${name}`, "aria-disabled": String(isAsked(action)),
        onclick: () => isAsked(action) || this.table.live.ask(action === "log" && isOpen ? "close_log" : action, { id: this.id }), ...attributes,
      }, text);
    };
    this.actions.replaceChildren(element("div.tgw-buttons", {},
      actions.includes("stop") && button("stop", "Stop", { kind: ".danger" }),
      actions.includes("restart") && button("restart", "Restart"),
      actions.includes("log") && button("log", isOpen ? "Close log" : "Log", { "aria-expanded": String(isOpen), "aria-controls": this.lines.id })));
    if (focused) (this.actions.querySelector(`[data-action="${focused}"]`) ?? this.actions.querySelector("button"))?.focus();
  }

  /** The last lines; it goes on to the newest unless somebody has scrolled up to read. */
  drawLog({ id, lines = [] }) {
    this.log.hidden = id !== this.id;
    if (this.log.hidden) return;
    const key = `${lines.length} ${lines.at(-1)?.at}`;
    if (this.told.log === key) return;
    this.told.log = key;
    const isAtEnd = this.lines.scrollHeight - this.lines.scrollTop - this.lines.clientHeight < 30;
    this.lines.replaceChildren(...(lines.length ? lines.map(({ at, level, text }) =>
      element(`span.tgw-log-line`, { "data-level": level }, `${clock(at)}  ${level.padEnd(7)} ${text}\n`)) : ["It has written nothing yet."]));
    if (isAtEnd) this.lines.scrollTop = this.lines.scrollHeight;
  }
}

class Table {
  constructor(live) {
    this.live = live;
    this.rows = new Map();
    this.state = chip("", "muted", { dot: true });
    this.count = element("span.tgw-muted");
    this.filter = element("select.tgw-input", { "aria-label": "Show", onchange: () => {
      live.model.set("status", this.filter.value);
      live.model.save_changes();
    } }, Object.entries(FILTERS).map(([value, text]) => element("option", { value }, text)));
    this.body = element("tbody");
    this.empty = element("p.tgw-muted.tgw-nothing");
    this.lastHead = element("th", { scope: "col" }, element("span.tgw-hidden-text", {}, "What can be done"));
    this.region = element("div.tgw-scroll", { tabindex: 0, role: "region", "aria-label": "Jobs" }, element("table.tgw-grid.tgw-jobs", {},
      element("caption.tgw-hidden-text", {}, "Jobs, the newest first"),
      element("thead", {}, element("tr", {}, HEADS.map((head) => element("th", { scope: "col" }, head)), this.lastHead)),
      this.body));
    live.card.append(
      element("div.tgw-line.tgw-head", {}, element("h3.tgw-title.tgw-name", {}, "Jobs"), this.state, this.count, element("span.tgw-spring"), this.filter),
      live.messages, this.region, this.empty,
    );
  }

  draw() {
    const shown = this.live.model.get("shown");
    const log = this.live.model.get("log");
    const rows = shown.rows ?? [];
    this.openLog = log.id;
    this.isPublished = Boolean(shown.published);
    this.live.drawMessages(shown);
    this.drawHead(shown, rows);
    const known = new Set(rows.map(({ id }) => id));
    for (const [id, row] of this.rows) {
      if (known.has(id)) continue;
      row.node.remove();
      row.log.remove();
      this.rows.delete(id);
    }
    rows.forEach((row, index) => {
      if (!this.rows.has(row.id)) this.rows.set(row.id, new JobRow(row.id, this));
      const one = this.rows.get(row.id);
      one.draw(row, shown.doing ?? []);
      one.drawLog(log);
      const before = this.body.children[2 * index];
      if (before !== one.node) {
        this.body.insertBefore(one.log, before ?? null);
        this.body.insertBefore(one.node, one.log);
      }
    });
  }

  drawHead({ connection, limit, published }, rows) {
    const isAway = connection !== "connected";
    const active = rows.filter(({ status }) => ["queued", "running", "stopping"].includes(status)).length;
    const [text, tone] = isAway
      ? connection === "looking" ? ["Connecting", "muted"] : ["Not connected", "red"]
      : active ? [`${active} active`, "blue"] : ["All quiet", "muted"];
    this.state.textContent = text;
    this.state.style.setProperty("--tgw-tone", `var(--tgw-${tone})`);
    this.state.dataset.live = String(!isAway && active > 0);
    this.count.textContent = rows.length >= limit ? `the newest ${limit}` : "";
    this.filter.value = this.live.model.get("status");
    this.lastHead.hidden = published;
    this.region.hidden = !rows.length;
    this.empty.hidden = rows.length > 0;
    this.empty.textContent = isAway ? (connection === "looking" ? "Looking for the workbench …" : "") : this.filter.value
      ? "No job stands there now." : "There are no jobs yet: wb.jobs.submit(\"mlp\", dataset) starts one.";
  }
}

function render(context) {
  const live = new Live(context, "tgw-jobs-card");
  const table = new Table(live);
  live.follow(() => table.draw());
}

export default { render };
