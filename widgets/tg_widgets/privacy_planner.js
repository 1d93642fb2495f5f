// PlannerForm: what a run would cost. It reports what was filled in, half a second after the last key, and shows the answer.

const LATER_MS = 500;

class Planner {
  constructor(card, model, ask) {
    this.model = model;
    this.ask = ask;
    const field = (name, label, hint, input) =>
      element(`label.tgw-field.tgw-field-${name}`, {}, element("span", {}, label), input, element("small.tgw-muted", {}, hint));
    const number = (name, value, extra = {}) => element("input.tgw-input", { type: "number", name, value, min: 0, step: "any", ...extra });
    this.form = element(
      "form.tgw-form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          this.plan();
        },
        oninput: () => {
          this.adapt();
          clearTimeout(this.timer);
          this.timer = setTimeout(() => this.plan(), LATER_MS);
        },
      },
      field("dataset_id", "Data set", "What was spent on it counts", element("select.tgw-input", { name: "dataset_id", "aria-label": "Data set" })),
      field("size", "Examples", "A number that may be known", number("size", 10000, { min: 1, step: 1 })),
      field("batch_size", "Batch size", "Examples in a step, on average", number("batch_size", 64, { min: 1, step: 1 })),
      field("epochs", "Passes", "Over all examples", number("epochs", 10)),
      field("given", "You give", "The rest is found", element("select.tgw-input", { name: "given", "aria-label": "You give" },
        element("option", { value: "target_epsilon" }, "the target ε"),
        element("option", { value: "noise_multiplier" }, "the noise multiplier σ"))),
      field("target_epsilon", "Target ε", "At the end of the run", number("target_epsilon", 3)),
      field("noise_multiplier", "Noise multiplier σ", "Times the clipping norm", number("noise_multiplier", 1)),
    );
    this.text = element("p.tgw-plan", { role: "status", "aria-live": "polite" });
    this.problem = element("div.tgw-message", { hidden: true, role: "alert", style: "--tgw-tone: var(--tgw-red)" });
    card.append(element("h3.tgw-title", {}, "Plan a run"), this.form, this.text, this.problem);
    this.list();
    this.adapt();
  }

  /** The datasets to choose from, and the one that is chosen. */
  list() {
    const choice = this.form.elements.dataset_id;
    const kept = choice.options.length ? choice.value : this.model.get("chosen");
    const rows = this.model.get("datasets");
    const known = rows.some(({ id }) => id === kept) || !kept ? [] : [{ id: kept, text: kept }];
    choice.replaceChildren(
      ...[...known, ...rows].map(({ id, text }) => element("option", { value: id }, text)),
      element("option", { value: "" }, "None: a number of examples"),
    );
    choice.value = kept;
  }

  /** Show only the fields that mean something now. */
  adapt() {
    const { dataset_id: dataset, given } = this.form.elements;
    const use = (name, isUsed) => {
      this.form.querySelector(`.tgw-field-${name}`).hidden = !isUsed;
    };
    use("size", !dataset.value);
    use("target_epsilon", given.value === "target_epsilon");
    use("noise_multiplier", given.value === "noise_multiplier");
  }

  plan() {
    clearTimeout(this.timer);
    const { elements } = this.form;
    const numbers = ["size", "batch_size", "epochs", "target_epsilon", "noise_multiplier"];
    this.ask("plan", {
      dataset_id: elements.dataset_id.value,
      given: elements.given.value,
      ...Object.fromEntries(numbers.map((name) => [name, elements[name].valueAsNumber])),
    });
  }

  draw() {
    const { text = "", problem = "", plan = {}, is_computing: isComputing = false } = this.model.get("answer");
    this.text.textContent = isComputing ? "Computing …" : problem ? "" : text;
    this.text.dataset.fits = String(plan.fits !== false);
    this.problem.hidden = !problem || isComputing;
    this.problem.textContent = problem;
  }

  leave() {
    clearTimeout(this.timer);
  }
}

function render({ model, el, signal }) {
  const card = element("section.tgw.tgw-part.tgw-planner");
  el.classList.add("tgw-host");
  el.append(card);
  const ask = (action, values = {}) => model.send({ action, values });
  const planner = new Planner(card, model, ask);
  const draw = () => planner.draw();
  const list = () => {
    planner.list();
    planner.adapt();
  };
  model.on("change:answer", draw);
  model.on("change:datasets", list);
  signal.addEventListener("abort", () => {
    planner.leave();
    model.off("change:answer", draw);
    model.off("change:datasets", list);
  });
  draw();
  ask("ready");
  planner.plan();
}

export default { render };
