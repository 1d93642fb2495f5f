// PanelPart: the bar and the details of a training panel. It shows what it is told and reports what was asked for.

const ICONS = {
  train: "M4 2.5v11l9-5.5-9-5.5Z",
  pause: "M4 3h3v10H4V3Zm5 0h3v10H9V3Z",
  resume: "M4 2.5v11l9-5.5-9-5.5Z",
  stop: "M3.5 3.5h9v9h-9v-9Z",
  save: "M8 10.5 3.8 6.3l1.1-1.1L7.2 7.5V2h1.6v5.5l2.3-2.3 1.1 1.1L8 10.5ZM2.5 12h11v1.6h-11V12Z",
};
const STATES = {
  none: ["No client", "muted"],
  initializing: ["Starting", "amber"],
  ready: ["Ready", "teal"],
  busy: ["Busy", "blue"],
  training: ["Training", "blue"],
  paused: ["Paused", "amber"],
  error: ["Failed", "red"],
  terminated: ["Terminated", "muted"],
};
const MODELS = {
  mlp: "mlp · rows of numbers",
  cnn: "cnn · small images",
  "tiny-llama": "tiny-llama · text, for trying out",
  "smollm2-135m": "smollm2-135m · text",
};
const WRITES_TEXT = (model) => !["mlp", "cnn", "resnet18", "resnet50"].includes(model);
const short = (id) => (id && id.length > 14 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id);

function icon(name) {
  return ICONS[name] && element("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, element("path", { d: ICONS[name] }));
}

function button(name, text, press, attributes = {}) {
  const { kind = "", ...others } = attributes;
  return element(`button.tgw-button${kind}`, { type: "button", "data-action": name, onclick: press, ...others }, icon(name), text);
}

/** A button that asks back: only its second press, within four seconds, counts. */
function cautious(name, text, question, press) {
  let armed = 0;
  const node = button(name, text, () => {
    if (armed) {
      clearTimeout(armed);
      armed = 0;
      press();
    } else {
      node.lastChild.textContent = question;
      armed = setTimeout(() => {
        armed = 0;
        node.lastChild.textContent = text;
      }, 4000);
    }
  }, { kind: ".danger" });
  return node;
}

// ------------------------------------------------------------------------------------------------ the bar
class Bar {
  constructor(card, ask) {
    this.ask = ask;
    this.drawn = "";
    this.title = element("h3.tgw-title.tgw-name");
    this.state = element("span.tgw-chip.tgw-state", { role: "status" });
    this.about = element("span.tgw-muted.tgw-about");
    this.picker = element("select.tgw-input.tgw-picker", {
      "aria-label": "Training client",
      onchange: () => (this.picker.value ? ask("attach", { client_id: this.picker.value }) : ask("new")),
    });
    this.steps = element("input.tgw-input.tgw-steps", { type: "number", min: 1, step: 1, value: 100, "aria-label": "Steps to train" });
    this.buttons = element("div.tgw-buttons", { role: "toolbar", "aria-label": "What the client can do" });
    this.fill = element("i");
    this.progress = element("div.tgw-progress", { role: "progressbar", "aria-label": "Progress of this run" }, this.fill);
    this.count = element("span.tgw-muted.tgw-count");
    this.message = element("div.tgw-message", { hidden: true });
    this.work = element("div.tgw-line.tgw-work", {}, this.buttons, element("span.tgw-spring"), this.count);
    card.append(
      element("div.tgw-line", {}, this.title, this.state, this.about, element("span.tgw-spring"), this.picker),
      this.work,
      this.progress,
      this.message,
    );
  }

  draw(now, { clients = [] }) {
    const isAway = now.connection !== "connected";
    const state = now.is_training && now.status === "busy" ? "training" : now.status;
    const [text, tone] = isAway
      ? [now.connection === "looking" ? "Connecting" : "Not connected", now.connection === "looking" ? "muted" : "red"]
      : (STATES[state] ?? [state, "muted"]);
    this.title.textContent = now.title;
    this.state.textContent = text;
    this.state.style.setProperty("--tgw-tone", `var(--tgw-${tone})`);
    this.state.dataset.live = String(!isAway && ["training", "busy", "initializing"].includes(state));
    this.about.textContent = now.client_id ? [now.model_ref, short(now.client_id)].filter(Boolean).join(" · ") : "";
    this.about.title = now.client_id;
    this.drawPicker(now, clients);
    this.drawButtons(now);
    this.drawProgress(now);
    this.drawMessage(now, isAway);
  }

  drawPicker(now, clients) {
    const rows = clients.filter(({ id, status }) => id === now.client_id || !["terminated"].includes(status));
    const key = JSON.stringify([rows.map(({ id, status }) => [id, status]), now.client_id, now.read_only]);
    this.picker.hidden = !rows.length || (now.read_only && now.bound);
    if (key === this.pickerKey) return;
    this.pickerKey = key;
    const option = (value, text) => element("option", { value, selected: value === now.client_id }, text);
    this.picker.replaceChildren(
      ...(now.read_only ? [] : [option("", "New client …")]),
      ...rows.map(({ id, model_ref, status }) => option(id, `${model_ref} · ${short(id)} · ${status}`)),
    );
    this.picker.value = now.client_id || "";
  }

  /** Draw something anew under the keyboard's focus without dropping it. */
  keepFocus(place, redraw) {
    const focused = place.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    redraw();
    if (!focused) return;
    const twin = { pause: "resume", resume: "pause" }[focused];
    const free = (name) => place.querySelector(`[data-action="${name}"]:not(:disabled)`);
    (free(focused) ?? free(twin) ?? place.querySelector("button:not(:disabled)"))?.focus();
  }

  drawButtons(now) {
    const actions = now.connection === "connected" || now.client_id ? (now.actions ?? []) : [];
    const key = actions.join();
    if (key !== this.drawn) {
      this.drawn = key;
      const can = (name) => actions.includes(name);
      const isAlive = actions.length > 0 && !can("create");
      const plain = (name, text, kind) => button(name, text, () => this.ask(name), { kind, disabled: !can(name) });
      const buttons = () => this.buttons.replaceChildren(
        ...(isAlive
          ? [
              button("train", "Train", () => this.ask("train", { steps: this.steps.valueAsNumber }), { kind: ".primary", disabled: !can("train") }),
              element("label.tgw-for", {}, this.steps, "steps"),
              can("resume") ? plain("resume", "Resume", ".primary") : plain("pause", "Pause", ""),
              plain("stop", "Stop", ""),
              plain("save", "Save", ""),
              cautious("terminate", "Terminate", "Terminate for good?", () => this.ask("terminate")),
            ]
          : now.client_id && can("create")
            ? [button("new", "New client", () => this.ask("new"), { kind: ".primary" }), ...(can("terminate") ? [plain("terminate", "Terminate", ".danger")] : [])]
            : []),
      );
      this.keepFocus(this.buttons, buttons);
    }
    const planned = now.config?.max_steps;
    if (planned && this.planned !== now.client_id) {
      this.planned = now.client_id;
      this.steps.value = Math.max(1, planned - (now.step ?? 0)) || planned;
    }
  }

  drawProgress(now) {
    const share = now.total_steps ? Math.min(1, now.done_steps / now.total_steps) : 0;
    this.progress.hidden = !now.client_id;
    this.fill.style.width = `${share * 100}%`;
    this.progress.setAttribute("aria-valuemin", "0");
    this.progress.setAttribute("aria-valuemax", String(now.total_steps ?? 0));
    this.progress.setAttribute("aria-valuenow", String(now.done_steps ?? 0));
    const run = now.total_steps ? `${now.done_steps.toLocaleString("en")} of ${now.total_steps.toLocaleString("en")} in this run · ` : "";
    this.work.hidden = !now.client_id && !now.doing;
    this.count.textContent = now.doing || (now.client_id ? `${run}step ${(now.step ?? 0).toLocaleString("en")}` : "");
  }

  drawMessage(now, isAway) {
    const [tone, title, text, press] = now.error
      ? ["red", "That did not work.", now.error, ["dismiss", "Dismiss"]]
      : isAway && now.connection !== "looking"
        ? ["red", "Not connected to a workbench.", now.connection_text, ["retry", "Try again"]]
        : now.status === "error"
          ? ["red", "This client cannot go on.", now.reason ?? "", null]
          : now.notice
            ? [now.alarm ? "red" : "teal", "", now.notice, ["dismiss", "Dismiss"]]
            : now.reason
              ? ["amber", "", now.reason, null]
              : ["", "", "", null];
    const key = [tone, title, text].join("|");
    if (key === this.said) return;
    this.said = key;
    this.message.hidden = !tone;
    this.message.style.setProperty("--tgw-tone", `var(--tgw-${tone})`);
    this.message.setAttribute("role", tone === "red" ? "alert" : "status");
    this.message.replaceChildren(
      element("span", {}, title ? element("b", {}, `${title} `) : "", text),
      press ? button(press[0], press[1], () => this.ask(press[0]), { kind: ".small" }) : "",
    );
  }
}

// -------------------------------------------------------------------------------------------- the details
class Details {
  constructor(card, ask) {
    this.card = card;
    this.ask = ask;
    this.form = null;
    this.hasChosen = false; // a data set; until then the newest one is suggested
  }

  draw(now, { datasets = [], checkpoints = [] }) {
    const shape = now.client_id ? "client" : now.connection === "connected" ? "form" : "nothing";
    const key = JSON.stringify(
      shape === "form" ? [shape, datasets.map(({ id }) => id)] : [shape, now, shape === "client" && checkpoints],
    );
    if (key === this.key) {
      if (shape === "form") this.retell(datasets);
      return;
    }
    this.key = key;
    this.card.hidden = shape === "nothing";
    this.card.parentElement.style.order = shape === "form" ? 1 : 3;
    if (shape === "form") this.drawForm(datasets);
    else if (shape === "client") this.card.replaceChildren(...this.client(now, checkpoints));
  }

  /** What a data set has spent changes while somebody fills in the form: its words change, and nothing else. */
  retell(datasets) {
    for (const option of this.form.elements.dataset_id.options) {
      const text = datasets.find(({ id }) => id === option.value)?.text;
      if (text && option.textContent !== text) option.textContent = text;
    }
  }

  /** The form keeps what was typed when the list of data sets changes under it. */
  drawForm(datasets) {
    const typed = this.form ? Object.fromEntries(new FormData(this.form)) : {};
    this.form = this.buildForm(datasets);
    for (const [name, value] of Object.entries(typed)) if (this.form.elements[name]) this.form.elements[name].value = value;
    const suggested = datasets.find(({ is_public }) => !is_public) ?? datasets[0];
    if (!this.hasChosen && suggested) this.form.elements.dataset_id.value = suggested.id;
    this.adapt(datasets);
    this.card.replaceChildren(element("h3.tgw-title", {}, "New training client"), this.form);
  }

  buildForm(datasets) {
    const field = (name, label, hint, input) =>
      element(`label.tgw-field.tgw-field-${name}`, {}, element("span", {}, label), input, element("small.tgw-muted", {}, hint));
    const number = (name, value, extra = {}) => element("input.tgw-input", { type: "number", name, value, required: true, ...extra });
    const choose = (name, options) => element("select.tgw-input", { name }, options.map(([value, text]) => element("option", { value }, text)));
    return element(
      "form.tgw-form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          this.ask("create", this.values());
        },
        oninput: () => {
          if (!this.hasTyped) this.ask("touched");
          this.hasTyped = true;
        },
        onchange: (event) => {
          this.hasChosen ||= event.target.name === "dataset_id";
          this.adapt(datasets);
        },
      },
      field("model_ref", "Model", "A name, or the path of a local model folder", element("div", {},
        element("input.tgw-input", { name: "model_ref", list: "tgw-models", value: "mlp", required: true, autocomplete: "off" }),
        element("datalist", { id: "tgw-models" }, Object.entries(MODELS).map(([value, text]) => element("option", { value }, text))))),
      field("dataset_id", "Data set", "", choose("dataset_id", [...datasets.map(({ id, text }) => [id, text]), ["", "None: my code sends the rows"]])),
      field("steps", "Steps", "The plan the noise is chosen for", number("steps", 300, { min: 1, step: 1 })),
      field("batch_size", "Batch size", "Examples in a step, on average", number("batch_size", 64, { min: 1, step: 1 })),
      field("learning_rate", "Learning rate", "AdamW", number("learning_rate", 0.001, { min: 0, step: "any" })),
      field("target_epsilon", "Target ε", "", number("target_epsilon", 3, { min: 0, step: "any" })),
      field("max_grad_norm", "Clipping norm", "Bound on one example's gradient", number("max_grad_norm", 1, { min: 0, step: "any" })),
      field("lora_rank", "LoRA rank", "Adapters of this rank are trained", number("lora_rank", 16, { min: 1, step: 1 })),
      element("div.tgw-submit", {}, button("create", "Create client", null, { kind: ".primary", type: "submit" })),
    );
  }

  dataset(datasets) {
    return datasets.find(({ id }) => id === this.form.elements.dataset_id.value);
  }

  /** Show only the fields that mean something for this model on these data. */
  adapt(datasets) {
    const data = this.dataset(datasets);
    const isPublic = Boolean(data?.is_public);
    const field = (name) => this.form.querySelector(`.tgw-field-${name}`);
    const use = (name, isUsed) => {
      field(name).hidden = !isUsed;
      this.form.elements[name].disabled = !isUsed;
    };
    use("lora_rank", WRITES_TEXT(this.form.elements.model_ref.value));
    use("target_epsilon", !isPublic);
    use("max_grad_norm", !isPublic);
    field("dataset_id").querySelector("small").textContent = isPublic
      ? "Public: trained without a privacy guarantee"
      : data
        ? "Protected: every step is noised and charged"
        : "Private too, but without amplification by sampling";
    field("target_epsilon").querySelector("small").textContent = data?.delta ? `at δ = ${data.delta.toExponential(1)}, set by the data` : "at the workbench's δ";
    this.isPrivate = !isPublic;
  }

  values() {
    const { elements } = this.form;
    const numbers = ["steps", "batch_size", "learning_rate", "target_epsilon", "max_grad_norm", "lora_rank"];
    return {
      model_ref: elements.model_ref.value,
      dataset_id: elements.dataset_id.value,
      private: this.isPrivate,
      ...Object.fromEntries(numbers.filter((name) => !elements[name].disabled).map((name) => [name, elements[name].valueAsNumber])),
    };
  }

  client(now, checkpoints) {
    this.form = null;
    this.hasTyped = false;
    const config = now.config ?? {};
    const settings = [
      ["Model", now.model_ref],
      ["Optimizer", config.optimizer?.name],
      ["Learning rate", config.optimizer?.learning_rate],
      ["Batch size", config.batch_size],
      ["Planned steps", config.max_steps],
      ["Clipping norm", config.dp_config?.max_grad_norm],
      ["LoRA rank", config.lora_config?.rank],
      ["Data set", short(config.dataset_id)],
    ].filter(([, value]) => value !== null && value !== undefined && value !== "");
    const canLoad = (now.actions ?? []).includes("load");
    return [
      element(
        "div.tgw-columns",
        {},
        element(
          "div",
          {},
          element("h3.tgw-title", {}, "Checkpoints"),
          checkpoints.length
            ? element("ul.tgw-checkpoints", {}, checkpoints.map((one) => this.checkpoint(one, canLoad)))
            : element("p.tgw-muted", {}, "None yet. Save writes one, encrypted; training writes some by itself."),
        ),
        element(
          "div",
          {},
          element("h3.tgw-title", {}, "Settings"),
          element("dl.tgw-settings", {}, settings.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(value))))),
        ),
      ),
    ];
  }

  checkpoint({ id, step, automatic, created_at }, canLoad) {
    const when = created_at ? new Date(created_at) : null;
    return element(
      "li",
      { title: id },
      element("b", {}, step === null ? "–" : `Step ${step.toLocaleString("en")}`),
      element("span.tgw-muted", {}, [when && !Number.isNaN(+when) ? when.toLocaleTimeString("en-GB") : "", automatic ? "automatic" : "saved"].filter(Boolean).join(" · ")),
      element("span.tgw-spring"),
      button("load", "Load", () => this.ask("load", { artifact_id: id }), { kind: ".small", disabled: !canLoad }),
    );
  }
}

function render({ model, el, signal }) {
  const part = model.get("part");
  const card = element(`section.tgw.tgw-part.tgw-${part}`);
  el.classList.add("tgw-host");
  el.append(card);
  const ask = (action, values = {}) => model.send({ action, values });
  const view = part === "bar" ? new Bar(card, ask) : new Details(card, ask);
  let frame = 0;
  const draw = () => {
    frame = 0;
    view.draw(model.get("now"), model.get("lists"));
  };
  model.on("change:now change:lists", () => (frame ||= requestAnimationFrame(draw)));
  signal.addEventListener("abort", () => {
    cancelAnimationFrame(frame);
    if (part !== "bar") return;
    try {
      ask("gone");
    } catch {
      // The kernel went first, and the panel with it: there is nobody to be told.
    }
  });
  draw();
  if (part === "bar") ask("ready");
}

export default { render };
