// PredictBox: a form of a model's inputs and its answers. What is filled in stays when an answer comes.

const PIECES = { number: "decimal", word: "text", date: "numeric" };
let made = 0;

/** A picture as the bytes that a model of this shape reads: channels, then rows. */
async function pixelsOf(file, [channels, high, wide]) {
  const picture = await createImageBitmap(file);
  const canvas = element("canvas", { width: wide, height: high });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, wide, high);
  context.drawImage(picture, 0, 0, wide, high);
  picture.close();
  const { data } = context.getImageData(0, 0, wide, high);
  const bytes = new Uint8Array(channels * high * wide);
  for (let place = 0; place < high * wide; place++) {
    const [red, green, blue] = data.subarray(4 * place, 4 * place + 3);
    if (channels === 1) bytes[place] = Math.round(0.299 * red + 0.587 * green + 0.114 * blue);
    else [red, green, blue].forEach((value, channel) => (bytes[channel * high * wide + place] = value));
  }
  return { bytes, canvas };
}

class Box {
  constructor(live) {
    this.live = live;
    this.id = `tgw-predict-${++made}`;
    this.head = element("div.tgw-line");
    this.form = element("form.tgw-form", { novalidate: true, "aria-label": "What to ask the model about", onsubmit: (event) => {
      event.preventDefault();
      this.predict();
    } });
    this.newest = element("div.tgw-answer", { "aria-live": "polite" });
    this.past = element("div");
    live.card.append(this.head, live.messages, this.form, this.newest, this.past);
  }

  draw() {
    const shown = this.live.model.get("shown");
    this.shown = shown;
    this.live.drawMessages(shown);
    this.drawHead(shown);
    this.drawForm(shown.form);
    const isBusy = (shown.doing ?? []).length > 0;
    if (this.button) {
      this.button.textContent = isBusy ? "Asking …" : "Predict";
      this.button.setAttribute("aria-disabled", String(isBusy));
    }
    this.drawWrong(shown.wrong ?? {});
    this.drawAnswers(this.live.model.get("answers"));
  }

  drawHead({ name, id, version, type, connection }) {
    const key = JSON.stringify([name, id, version, connection]);
    if (key === this.headKey) return;
    this.headKey = key;
    const isAway = connection !== "connected";
    this.head.replaceChildren(...[
      element("h3.tgw-title.tgw-name", { title: id }, `Ask ${name ?? id}`),
      version ? element("span.tgw-muted", {}, `version ${version}`) : null,
      element("span.tgw-spring"),
      isAway && chip(connection === "looking" ? "Connecting" : "Not connected", connection === "looking" ? "muted" : "red", { dot: true }),
      type && chip(type, "blue"),
    ].filter(Boolean));
  }

  /** The form is made once: nobody likes to lose what was typed. */
  drawForm(form) {
    const key = JSON.stringify(form ?? null);
    if (!form || key === this.formKey) return;
    this.formKey = key;
    this.controls = {};
    this.picture = null;
    this.button = element("button.tgw-button.primary", { type: "submit", "data-action": "predict" }, "Predict");
    this.form.dataset.kind = form.kind;
    this.form.replaceChildren(...form.fields.map((field, index) => this.field(field, `${this.id}-${index}`, form)), element("div.tgw-submit", {}, this.button));
  }

  field(field, id, form) {
    const problem = element("small.tgw-problem", { id: `${id}-problem`, role: "alert" });
    const hint = field.hint ? element("small.tgw-muted", { id: `${id}-hint` }, field.hint) : null;
    const attributes = { id, "aria-describedby": `${id}-problem${hint ? ` ${id}-hint` : ""}` };
    const control = this.control(field, attributes, form);
    this.controls[field.name] = { control, problem };
    const label = element("label", { for: id }, field.label, field.optional ? element("span.tgw-muted", {}, " optional") : null);
    return element(`div.tgw-field${["text", "image"].includes(field.kind) ? ".tgw-wide" : ""}`, {}, label, control, problem, hint, field.kind === "image" ? (this.preview = element("div.tgw-preview")) : null);
  }

  control({ kind, values, optional }, attributes, { shape }) {
    if (kind === "choice") {
      return element("select.tgw-input", attributes, optional ? element("option", { value: "" }, "–") : null, values.map((value) => element("option", { value }, value)));
    }
    if (kind === "text") {
      return element("textarea.tgw-input", { ...attributes, rows: 3, onkeydown: (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        this.predict();
      } });
    }
    if (kind === "image") {
      return element("input.tgw-input", { ...attributes, type: "file", accept: "image/*", onchange: (event) => this.take(event.target.files[0], shape) });
    }
    return element("input.tgw-input", { ...attributes, type: kind === "date" ? "date" : "text", inputmode: PIECES[kind] ?? "text", autocomplete: "off", spellcheck: "false" });
  }

  async take(file, shape) {
    this.picture = null;
    this.preview.replaceChildren();
    if (!file) return;
    try {
      const { bytes, canvas } = await pixelsOf(file, shape);
      this.picture = bytes;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", "The picture as the model will see it");
      this.preview.replaceChildren(canvas);
      this.drawWrong({});
    } catch {
      this.drawWrong({ image: "This file is no picture that the browser can read." });
    }
  }

  predict() {
    if ((this.shown.doing ?? []).length) return;
    const said = Object.entries(this.controls).filter(([, { control }]) => control.type !== "file").map(([name, { control }]) => [name, control.value]);
    this.live.ask("predict", { fields: Object.fromEntries(said) }, this.picture ? [this.picture.buffer] : []);
  }

  /** What is wrong stands beside its field, and the keyboard goes there. */
  drawWrong(wrong) {
    const key = JSON.stringify(wrong);
    if (key === this.wrongKey) return;
    this.wrongKey = key;
    const controls = Object.entries(this.controls ?? {});
    for (const [name, { control, problem }] of controls) {
      problem.textContent = wrong[name] ?? "";
      if (wrong[name]) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    }
    const first = controls.find(([name]) => wrong[name]);
    if (first && this.form.contains(document.activeElement)) first[1].control.focus();
  }

  drawAnswers(answers) {
    const key = JSON.stringify(answers);
    if (key === this.answersKey) return;
    this.answersKey = key;
    const [newest, ...past] = answers;
    this.newest.replaceChildren(...(newest ? this.answer(newest) : []));
    this.past.replaceChildren(...(past.length ? [partTitle("Before"), element("ol.tgw-past", {}, past.map((one) => this.line(one)))] : []));
  }

  answer({ label, value, bars = [] }) {
    return [
      element("div.tgw-label", {}, label ?? value),
      element("ul.tgw-bars", {}, bars.map(({ name, share, is_rest }) => {
        const words = `${(share * 100).toFixed(1)} %`;
        return element("li", {}, element("span.tgw-class-name", {}, name), element("div.tgw-bar", { "aria-hidden": "true" }, element("i", { style: `width: ${share * 100}%; --tgw-tone: var(--tgw-${is_rest ? "muted" : "violet"})` })), element("b", {}, words));
      })),
    ];
  }

  line({ label, value, confidence, said }) {
    return element("li", {}, element("b", {}, label ?? value), confidence === undefined ? null : element("span", {}, `${(confidence * 100).toFixed(1)} %`), element("span.tgw-muted", { title: said }, said));
  }
}

function render(context) {
  const live = new Live(context, "tgw-predict-box");
  const box = new Box(live);
  live.follow(() => box.draw());
}

export default { render };
