// DatasetCard: what the kernel tells of a dataset. It computes nothing about privacy.

const STATES = { processing: ["Being read", "blue"], ready: ["Ready", "teal"], failed: ["Failed", "red"] };
const TONES = { calm: "teal", watchful: "amber", nearly_spent: "red" };

function head({ name, id, version, status, is_public, connection, summary = [], description }) {
  const [word, tone] = STATES[status] ?? [connection === "looking" ? "Connecting" : "Not connected", connection === "looking" ? "muted" : "red"];
  return [
    element(
      "div.tgw-line",
      {},
      element("h3.tgw-title.tgw-name", { title: id }, name ?? id),
      version ? element("span.tgw-muted", {}, `version ${version}`) : null,
      status === "processing" && element("span.tgw-spinner", { "aria-hidden": "true" }),
      element("span", { role: "status" }, chip(word, tone, { live: status === "processing", dot: status !== "processing" })),
      name && chip(is_public ? "Public" : "Protected", is_public ? "amber" : "teal"),
    ),
    summary.length ? element("p.tgw-muted.tgw-summary", {}, summary.join(" · ")) : null,
    description && element("p", {}, description),
  ];
}

function gauge({ spent, cap, left, share, level }) {
  if (spent === undefined) return null;
  const tone = TONES[level] ?? "teal";
  const words = `ε ${spent}${cap ? ` of ${cap}` : ""} spent`;
  return element(
    "div.tgw-budget",
    { title: "Everything ever trained on this data set adds up; nothing lowers it." },
    element("div.tgw-line", {}, element("span", {}, "ε ", element("b", {}, spent), ` spent${cap ? ` of ${cap}` : ""}`), element("span.tgw-spring"), left && element("span.tgw-muted", {}, `${left} left`)),
    share !== null && bar(share, "Privacy spent of the cap", words, tone),
  );
}

function columns({ columns: list, more_columns: more, note, is_open: isOpen }) {
  if (!list?.length) return [];
  const named = ({ name, is_target }) => [name, is_target ? element("span.tgw-chip.tgw-target", {}, "target") : null].filter(Boolean);
  const heads = isOpen ? ["Column", "Type", "Missing", "Holds"] : ["Column", "Type"];
  const rows = list.map((one) => {
    const cells = [element("span", {}, named(one)), one.type];
    return isOpen ? [...cells, one.missing ? one.missing.toLocaleString("en") : element("span.tgw-muted", {}, "none"), one.holds] : cells;
  });
  return [
    partTitle("Columns", note),
    grid("Columns", heads, rows, { right: isOpen ? [2] : [] }),
    more > 0 && element("p.tgw-muted", {}, `and ${more.toLocaleString("en")} more columns`),
  ];
}

function classes({ classes: list, note }) {
  if (!list?.length) return [];
  if (list[0].count === undefined) return [partTitle("Classes"), element("p", {}, list.map(({ name }) => name).join(", "))];
  return [
    partTitle("Classes", note),
    element("ul.tgw-classes", {}, list.map(({ name, count, share }) =>
      element("li", {}, element("span.tgw-class-name", {}, name), element("div.tgw-bar", { "aria-hidden": "true" }, element("i", { style: `width: ${share * 100}%; --tgw-tone: var(--tgw-violet)` })),
        element("span", {}, `${count.toLocaleString("en")} · ${(share * 100).toFixed(1)} %`)))),
  ];
}

function preview({ preview: shown }) {
  return shown?.rows?.length ? [partTitle("First rows"), grid("First rows", shown.columns, shown.rows, { isNamed: false })] : [];
}

function failure({ problem_with: problem }) {
  return problem?.text && element("div.tgw-message", { role: "alert" }, element("div", {}, problem.where && element("b", {}, problem.where), problem.where ? element("br") : null, problem.text));
}

/** The same elements stay while what they show stays: a scrolled table keeps its place. */
function render(context) {
  const live = new Live(context, "tgw-dataset-card");
  const body = element("div");
  live.card.append(live.messages, body);
  let drawn = "";
  live.follow(() => {
    const shown = live.model.get("shown");
    live.drawMessages(shown);
    const key = JSON.stringify(shown);
    if (key === drawn) return;
    drawn = key;
    const scrolled = [...body.querySelectorAll(".tgw-scroll")].map(({ scrollTop, scrollLeft }) => [scrollTop, scrollLeft]);
    const focused = [...body.querySelectorAll(".tgw-scroll")].indexOf(document.activeElement);
    body.replaceChildren(
      ...[
        ...head(shown),
        failure(shown),
        shown.status === "processing" && element("p.tgw-muted", {}, "Its file is being read and checked. A job may be submitted meanwhile."),
        shown.gauge && gauge(shown.gauge),
        shown.is_public && element("p.tgw-muted", {}, "Public: trained on without a privacy guarantee."),
        shown.facts && factList(shown.facts),
        ...classes(shown),
        ...columns(shown),
        ...(shown.warnings ?? []).map((text) => element("div.tgw-message.tgw-warning", {}, text)),
        ...preview(shown),
      ].filter(Boolean),
    );
    const regions = [...body.querySelectorAll(".tgw-scroll")];
    scrolled.forEach(([top, left], index) => regions[index]?.scrollTo(left, top));
    regions[focused]?.focus();
  });
}

export default { render };
