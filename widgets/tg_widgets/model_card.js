// ModelCard: what the kernel tells of a model. It computes nothing about privacy.

const SHIELD = "M12 2.5 4.5 5.5v6c0 4.8 3.2 8 7.5 10 4.3-2 7.5-5.2 7.5-10v-6L12 2.5Z";

function head({ name, id, version, aliases = [], type, created_at: made, connection }) {
  const isAway = connection !== "connected";
  return element(
    "div.tgw-line",
    {},
    element("h3.tgw-title.tgw-name", { title: id }, name ?? id),
    version ? element("span.tgw-muted", {}, `version ${version}`) : null,
    aliases.map((alias) => chip(`@${alias}`, "violet")),
    element("span.tgw-spring"),
    isAway && chip(connection === "looking" ? "Connecting" : "Not connected", connection === "looking" ? "muted" : "red", { dot: true }),
    made && element("span.tgw-muted", {}, clock(made)),
    type && chip(type, "blue"),
  );
}

function privacy({ privacy: told, meaning }) {
  if (!told) return [];
  if (told.kind === "none") {
    return [
      element(
        "div.tgw-message.tgw-no-guarantee",
        { role: "note" },
        element("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, element("path", { d: SHIELD }), element("path", { d: "m8.5 8.5 7 7m0-7-7 7" })),
        element("div", {}, element("b", {}, "No guarantee"), element("p", {}, meaning.replace(/^No guarantee: ?/, "").replace(/^./, (first) => first.toUpperCase()))),
      ),
    ];
  }
  const words = `ε ${told.spent} spent${told.target ? ` of ${told.target}` : ""}`;
  return [
    partTitle("Privacy"),
    element("div.tgw-line", {}, element("span.tgw-epsilon", {}, "ε ", element("b", {}, told.spent)), told.target && element("span.tgw-muted", {}, `spent of ${told.target}`)),
    told.share !== null && bar(told.share, "Privacy spent", words, "teal"),
    element("p.tgw-muted", {}, meaning),
    factList(told.facts),
  ];
}

function performance({ performance: figures, measured_on: on, note, is_hidden: isHidden }) {
  if (isHidden) return [partTitle("Performance"), element("p.tgw-muted", {}, "Not shown: it was measured on rows that are not known to be public, and ε does not cover it.")];
  if (!figures?.length) return [];
  return [
    partTitle("Performance", note),
    element("div.tgw-figures", {}, figures.map(({ label, text, share }) =>
      element("div", {}, element("span.tgw-muted", {}, label), element("b", {}, text), share !== null && element("div.tgw-bar", { "aria-hidden": "true" }, element("i", { style: `width: ${share * 100}%; --tgw-tone: var(--tgw-violet)` }))))),
    on && element("p.tgw-muted", {}, `Measured on ${on}.`),
  ];
}

function inputs({ inputs: list = [], more_inputs: more, classes = [], more_classes: moreClasses }) {
  const cells = list.map(({ name, type, holds }) => [name, type, holds]);
  return [
    list.length ? partTitle("Inputs") : null,
    list.length ? grid("Inputs", ["Column", "Type", "May be"], cells) : null,
    more > 0 && element("p.tgw-muted", {}, `and ${more.toLocaleString("en")} more`),
    classes.length ? partTitle("Classes") : null,
    classes.length ? element("p.tgw-class-list", {}, classes.map((name) => chip(name, "violet"))) : null,
    moreClasses > 0 && element("p.tgw-muted", {}, `and ${moreClasses.toLocaleString("en")} more`),
  ];
}

function versions({ versions: list = [], id }) {
  if (list.length < 2) return [];
  const named = (one) => element("span", {}, `${one.version}`, one.id === id ? element("span.tgw-muted", {}, " (this one)") : null, one.aliases.flatMap((alias) => [" ", chip(`@${alias}`, "violet")]));
  return [partTitle("Versions"), grid("Versions", ["Version", "Performance", "Privacy", "Made"], list.map((one) => [named(one), one.figure || "–", one.cost, clock(one.created_at)]))];
}

function render(context) {
  const live = new Live(context, "tgw-model-card");
  const body = element("div");
  live.card.append(live.messages, body);
  let drawn = "";
  live.follow(() => {
    const shown = live.model.get("shown");
    live.drawMessages(shown);
    const key = JSON.stringify(shown);
    if (key === drawn) return;
    drawn = key;
    const open = body.querySelector("details")?.open ?? false;
    const focused = [...body.querySelectorAll("[tabindex], summary")].indexOf(document.activeElement);
    body.replaceChildren(
      ...[
        head(shown),
        ...privacy(shown),
        ...(shown.architecture ? performance(shown) : []),
        shown.architecture && partTitle("Architecture"),
        shown.architecture && factList(shown.architecture),
        ...inputs(shown),
        ...versions(shown),
        shown.lineage?.length && element("details.tgw-more", { open }, element("summary", {}, "Where it comes from"), factList(shown.lineage),
          shown.export && element("p.tgw-muted", {}, "Weights as files: ", element("code", {}, shown.export))),
      ].filter(Boolean),
    );
    [...body.querySelectorAll("[tabindex], summary")][focused]?.focus();
  });
}

export default { render };
