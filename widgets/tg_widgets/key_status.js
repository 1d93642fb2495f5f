// KeyStatus: what may be known of the devices' keys. A key itself is never here.

const STATES = { active: ["Good", "teal"], rotating: ["New ones due", "amber"], retired: ["Retired", "muted"], revoked: ["Revoked", "red"], expired: ["Expired", "red"] };
const HEADS = ["Device", "Keys", "Status", "Age", "Good until"];

function render(context) {
  const live = new Live(context, "tgw-key-status");
  const body = element("div");
  live.card.append(live.messages, body);
  let drawn = "";
  const lifetime = ({ age, left, share, status }) => element("span", {}, left || "–",
    share !== null && bar(share, "Lifetime", `${age} old, ends ${left}`, STATES[status]?.[1] ?? "muted"));
  const button = ({ device, name }, doing) => element("button.tgw-button.small", {
    type: "button", "data-action": "rotate", "aria-label": `Rotate the keys of ${name}`, "aria-disabled": String(doing.includes(`rotate ${device}`)),
    onclick: () => doing.includes(`rotate ${device}`) || live.ask("rotate", { id: device }),
  }, "Rotate");
  const cells = (row, doing, isPublished) => [
    ...(isPublished ? [] : [element("span", { title: row.device }, row.name)]),
    element("span", {}, row.version, element("small.tgw-muted", {}, row.kinds), row.is_known_to_server && element("small.tgw-server-made", {}, "made by the server")),
    chip(...(STATES[row.status] ?? [row.status, "muted"]), { dot: true }),
    row.age || "–", lifetime(row),
    ...(isPublished ? [] : [row.actions.includes("rotate") ? button(row, doing) : ""]),
  ];
  live.follow(() => {
    const shown = live.model.get("shown");
    live.drawMessages(shown);
    const key = JSON.stringify(shown);
    if (key === drawn) return;
    drawn = key;
    const { connection, rows = [], more = 0, published, doing = [] } = shown;
    const isAway = connection !== "connected";
    const heads = published ? HEADS.slice(1) : [...HEADS, element("span.tgw-hidden-text", {}, "What can be done")];
    const spots = "[tabindex], button";
    const focused = [...body.querySelectorAll(spots)].indexOf(document.activeElement);
    const at = body.querySelector(".tgw-scroll")?.scrollTop ?? 0;
    body.replaceChildren(...[
      element("div.tgw-line", {}, element("h3.tgw-title.tgw-name", {}, "Keys"),
        isAway && chip(connection === "looking" ? "Connecting" : "Not connected", connection === "looking" ? "muted" : "red", { dot: true }),
        shown.due && chip(shown.is_due ? "Next rotation is due" : `Next rotation ${shown.due}`, shown.is_due ? "amber" : "blue")),
      shown.interval_days > 0 && factList([
        ["Next rotation", clock(shown.next_rotation) || "–"], ["Interval", `${shown.interval_days} days`], ["Server's keys", shown.server_version || "none yet"],
      ]),
      rows.length > 0 && grid("Keys of devices, the newest first", heads, rows.map((row) => cells(row, doing, published)), { isNamed: !published }),
      more > 0 && element("p.tgw-muted", {}, `and ${more.toLocaleString("en")} more`),
      !isAway && !rows.length && element("p.tgw-muted.tgw-nothing", {}, published ? "There are no keys yet." : "There are no keys yet: wb.devices.enrollment_token(\"…\") lets a device in."),
    ].filter(Boolean));
    [...body.querySelectorAll(spots)][focused]?.focus();
    const region = body.querySelector(".tgw-scroll");
    if (region) region.scrollTop = at;
  });
}

export default { render };
