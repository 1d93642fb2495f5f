// FederationBoard: devices and how they stand, a campaign and its rounds. It computes nothing about privacy.

const DEVICES = { training: "blue", online: "teal", offline: "muted", revoked: "red" };
const CAMPAIGNS = { active: ["Learning", "blue"], completed: ["Completed", "teal"], failed: ["Failed", "red"], cancelled: ["Cancelled", "muted"] };
const PHASES = { preparing: "muted", recruiting: "violet", training: "blue", aggregating: "amber", completed: "teal", failed: "red" };
const PARTS = { joined: ["joined", "violet"], submitted: ["submitted", "blue"], accepted: ["accepted", "teal"], rejected: ["rejected", "red"], dropped: ["dropped out", "amber"] };
const HEADS = ["Round", "Phase", "Devices", "Accuracy", "Moved by", "ε", "Took"];
const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** How many devices stand where, in figures and as one bar. */
function counted(counts = []) {
  const total = counts.reduce((sum, each) => sum + each.count, 0);
  const words = counts.map(({ status, count }) => `${count} ${status}`).join(", ");
  return [
    element("div.tgw-counts", {}, counts.map(({ status, count }) => element("div", {},
      element("b", {}, count.toLocaleString("en")), element("span.tgw-dot-label", { style: `--tgw-tone: var(--tgw-${DEVICES[status]})` }, status)))),
    total > 0 && element("div.tgw-shares", { role: "img", "aria-label": `Devices: ${words}` }, counts.filter(({ count }) => count).map(({ status, count }) =>
      element("i", { style: `flex-grow: ${count}; --tgw-tone: var(--tgw-${DEVICES[status]})` }))),
  ].filter(Boolean);
}

function tile({ id, name, status, rounds, part, samples, reason }) {
  const [word, tone] = PARTS[part] ?? ["", "muted"];
  return element("li.tgw-tile", { title: reason || id, style: `--tgw-tone: var(--tgw-${DEVICES[status] ?? "muted"})` },
    element("span.tgw-device", {}, name),
    element("small.tgw-muted", {}, `${status}, ${count(rounds, "round")}${samples ? `, ${count(samples, "row")}` : ""}`),
    part ? chip(word, tone) : null,
    reason && element("small.tgw-reason", {}, reason));
}

/** Every round as one block, in order: where the campaign stands at a glance. */
function timeline(rounds, total) {
  const words = (round) => [`round ${round.number}: ${round.phase}`, round.reason].filter(Boolean).join(". ");
  const open = Math.max(0, Math.min(total, 200) - (rounds.at(-1)?.number ?? 0));
  return element("ol.tgw-timeline", { "aria-label": "Rounds" },
    rounds.map((round) => element("li", {
      title: words(round), "data-live": String(!["completed", "failed"].includes(round.phase)),
      style: `--tgw-tone: var(--tgw-${PHASES[round.phase] ?? "muted"})`,
    }, element("span.tgw-hidden-text", {}, words(round)))),
    Array.from({ length: open }, () => element("li.tgw-to-come", { "aria-hidden": "true" })));
}

function table(rounds, isPublished) {
  const shown = [...rounds].reverse().slice(0, 50);
  const hidden = isPublished ? ["Accuracy"] : [];
  const kept = (cells) => cells.filter((_, index) => !hidden.includes(HEADS[index]));
  return grid("Rounds, the newest first", kept(HEADS), shown.map((round) => kept([
    `${round.number}`,
    element("span", {}, chip(capital(round.phase), PHASES[round.phase] ?? "muted", { dot: true, live: !["completed", "failed"].includes(round.phase) }),
      round.reason && element("small.tgw-reason", {}, round.reason)),
    element("span", {}, `${round.accepted} of ${round.members || round.target}`, round.rejected ? element("small.tgw-rejected", {}, `${round.rejected} rejected`) : null),
    round.accuracy || "–", round.moved || "–", round.epsilon || "–", round.time || "–",
  ])));
}

function promise({ kind, spent, planned, delta, unit }) {
  if (kind === "spent") return element("p", {}, "ε ", element("b", {}, spent), element("span.tgw-muted", {}, ` for each ${unit}${delta ? `, at δ = ${delta}` : ""}`));
  if (kind === "planned") return element("p", {}, "ε ", element("b", {}, planned), element("span.tgw-muted", {}, " for each device is planned, with all rounds; nothing is spent yet"));
  if (kind === "none") return element("p", {}, chip("no guarantee", "amber"), element("span.tgw-muted", {}, "  nothing bounds what an update tells about the rows it was learned from"));
  return null;
}

class Board {
  constructor(live) {
    this.live = live;
    this.told = {};
    this.title = element("h3.tgw-title.tgw-name");
    this.state = chip("", "muted", { dot: true });
    this.choice = element("select.tgw-input", { "aria-label": "Campaign", onchange: () => {
      live.model.set("campaign_id", this.choice.value);
      live.model.save_changes();
    } });
    this.cancel = element("button.tgw-button.small.danger", { type: "button", "data-action": "cancel", onclick: () => this.isAsked || live.ask("cancel", { id: this.id }) }, "Cancel");
    const part = (name) => (this[name] = element(`div.tgw-part-${name}`));
    live.card.append(
      element("div.tgw-line", {}, this.title, this.state, element("span.tgw-spring"), this.choice, this.cancel),
      live.messages, ...["counts", "devices", "campaign", "rounds"].map(part),
    );
  }

  /** Fill a part, if what it shows is new; who scrolled a table stays where they were. */
  fill(name, shows, draw) {
    const key = JSON.stringify(shows);
    if (this.told[name] === key) return;
    this.told[name] = key;
    const at = this[name].querySelector(".tgw-scroll")?.scrollTop ?? 0;
    this[name].replaceChildren(...draw().filter(Boolean));
    const region = this[name].querySelector(".tgw-scroll");
    if (region) region.scrollTop = at;
  }

  draw() {
    const shown = this.live.model.get("shown");
    const { campaign, rounds = [], devices = [], more_devices: more = 0, published } = shown;
    this.live.drawMessages(shown);
    this.drawHead(shown);
    this.fill("counts", shown.counts, () => counted(shown.counts));
    this.fill("devices", [devices, more], () => [
      devices.length > 0 && element("ul.tgw-tiles", { "aria-label": "Devices", tabindex: 0 }, devices.map(tile)),
      devices.length > 0 && more > 0 && element("p.tgw-muted", {}, `and ${more.toLocaleString("en")} more`),
    ]);
    this.fill("campaign", [campaign, rounds.map(({ phase }) => phase), shown.epsilon], () => campaign ? [
      partTitle(campaign.name || campaign.id),
      element("p.tgw-muted", {}, `${campaign.model} by ${campaign.strategy}, model ${campaign.version}, ${campaign.done} of ${count(campaign.rounds, "round")} done`),
      timeline(rounds, campaign.rounds),
      campaign.reason && element("p.tgw-reason", {}, campaign.reason),
      promise(shown.epsilon),
    ] : [shown.connection === "connected" && element("p.tgw-muted.tgw-nothing", {}, published ? "Nothing is learned yet." : "Nothing is learned yet: wb.federation.start(\"mlp\") asks the devices to.")]);
    this.fill("rounds", [rounds, published], () => rounds.length ? [table(rounds, published)] : []);
  }

  drawHead({ title, connection, campaign, campaigns = [], doing = [] }) {
    const isAway = connection !== "connected";
    const [text, tone] = isAway
      ? connection === "looking" ? ["Connecting", "muted"] : ["Not connected", "red"]
      : CAMPAIGNS[campaign?.status] ?? ["All quiet", "muted"];
    this.title.textContent = title;
    this.state.textContent = text;
    this.state.style.setProperty("--tgw-tone", `var(--tgw-${tone})`);
    this.state.dataset.live = String(!isAway && campaign?.status === "active");
    this.id = campaign?.id;
    this.isAsked = doing.includes(`cancel ${this.id}`);
    this.cancel.setAttribute("aria-disabled", String(this.isAsked));
    this.cancel.hidden = !campaign?.actions.includes("cancel");
    const chosen = this.live.model.get("campaign_id");
    const known = [["", "The newest campaign"], ...campaigns.map(({ id, name }) => [id, name || id])];
    if (chosen && !known.some(([id]) => id === chosen)) known.push([chosen, campaign?.name || chosen]);
    const key = JSON.stringify(known);
    if (this.told.choice !== key) {
      this.told.choice = key;
      this.choice.replaceChildren(...known.map(([value, words]) => element("option", { value }, words)));
    }
    this.choice.value = chosen;
    this.choice.hidden = campaigns.length < 2;
  }
}

function render(context) {
  const live = new Live(context, "tgw-federation");
  const board = new Board(live);
  live.follow(() => board.draw());
}

export default { render };
