// BudgetGauge: draws what the kernel has put into words and shares; it computes nothing about privacy.

const WORDS = {
  empty: "nothing spent",
  calm: "within budget",
  watchful: "over half spent",
  nearly_spent: "nearly spent",
  spent: "budget spent",
  none: "no guarantee",
};
const ARC = "M 35.6 165.4 A 78 78 0 1 1 164.4 165.4"; // 251 degrees round (100, 121.4)
const SHIELD = "M12 2.5 4.5 5.5v6c0 4.8 3.2 8 7.5 10 4.3-2 7.5-5.2 7.5-10v-6L12 2.5Z";

function dial(face) {
  const part = (name, share) =>
    share > 0.002 && element(`path.${name}`, { d: ARC, pathLength: 100, "stroke-dasharray": `${share * 100} 200` });
  return element(
    "div.tgw-dial",
    {},
    element(
      "svg",
      { viewBox: "12 32 176 146", "aria-hidden": "true" },
      element("path.tgw-track", { d: ARC }),
      part("tgw-reserved", face.reserved ?? 0),
      part("tgw-spent", face.spent ?? 0),
    ),
    element(
      "div.tgw-middle",
      {},
      element("div.tgw-number", {}, element("small", {}, "ε"), face.number ?? "–"),
      element("div.tgw-muted", {}, face.of ?? ""),
    ),
    element("div.tgw-foot.tgw-muted", {}, face.percent ? `${face.percent} spent` : ""),
  );
}

function facts(rows) {
  return element(
    "dl.tgw-facts",
    {},
    rows.map(({ label, value, hint }) => element("div", { title: hint }, element("dt", {}, label), element("dd", {}, value))),
  );
}

function dataset({ spent, text }) {
  return element(
    "div.tgw-dataset",
    { title: "Everything ever trained on this data set adds up; nothing lowers it." },
    element("p", {}, element("span.tgw-muted", {}, "Data set, over all runs"), element("b", {}, text)),
    element("div.tgw-bar", {}, element("i", { style: `width: ${Math.max(spent * 100, 1)}%` })),
  );
}

function alarm(text) {
  const [title, ...rest] = text.split(". ");
  return element(
    "div.tgw-alarm",
    { role: "alert" },
    element(
      "svg",
      { viewBox: "0 0 24 24", "aria-hidden": "true" },
      element("path", { d: SHIELD }),
      element("path", { d: "m8.5 8.5 7 7m0-7-7 7" }),
    ),
    element("strong", {}, title),
    element("p", {}, rest.join(". ")),
  );
}

function render({ model, el, signal }) {
  const card = element("section.tgw.tgw-gauge");
  el.classList.add("tgw-host");
  el.append(card);
  const draw = () => {
    const [level, face, text] = ["level", "face", "text"].map((name) => model.get(name));
    const hasGuarantee = level !== "none" && level !== "empty";
    const meter = {
      role: hasGuarantee ? "meter" : "group",
      "aria-label": model.get("title"),
      "aria-valuemin": hasGuarantee && 0,
      "aria-valuemax": hasGuarantee ? (face.max ?? null) : null,
      "aria-valuenow": hasGuarantee ? face.now : null,
      "aria-valuetext": hasGuarantee && text,
    };
    card.dataset.level = level;
    card.replaceChildren(
      element(
        "header",
        {},
        element("h3.tgw-title", {}, model.get("title")),
        element("span.tgw-chip", {}, WORDS[level] ?? level),
      ),
      level === "none"
        ? alarm(text)
        : element(
            "div.tgw-body",
            {},
            element("div", meter, dial(face)),
            element(
              "div",
              {},
              level === "empty" ? element("p.tgw-muted", {}, text) : facts(model.get("facts")),
              face.dataset ? dataset(face.dataset) : null,
            ),
          ),
      face.note ? element("p.tgw-remark", {}, face.note) : "",
    );
  };
  let frame = 0;
  const soon = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      draw();
    });
  };
  model.on("change", soon);
  signal.addEventListener("abort", () => cancelAnimationFrame(frame));
  draw();
}

export default { render };
