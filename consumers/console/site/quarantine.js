// Deliveries in quarantine: listed, looked at, published again, given up.
import { ask, inPath } from "./api.js";
import { button, byId, el, facts, set, setText } from "./dom.js";
import { choice, confirmed, deed } from "./dialog.js";
import { session } from "./session.js";
import { table } from "./table.js";
import { missing, plural, silent, size, time, whole, words } from "./words.js";

const STATES = { held: "held", redriven: "published again", dropped: "dropped" };
const BODY_CHARS_MAX = 20_000;
const IDS_MAX = 100;
const IDS_SHOWN = 10;

export function quarantineView({ say, report }) {
  const chosen = new Set();
  let turns = 0, looks = 0; // an answer to an earlier question is not shown
  const state = choice("state", STATES);
  set(state, "id", "quarantine-state");
  const redrive = button("Publish again", () => act("redrive"), { class: "deed" });
  const drop = button("Drop", () => act("drop"), { class: "grave" });
  const note = el("p", { class: "soft" });
  const gaps = el("p", { class: "gaps" });
  const tick = ({ currentTarget: box }) => {
    chosen[box.checked ? "add" : "delete"](box.value);
    allow();
  };
  const list = table("Quarantine", [
    { head: "choose", node: (one) => checkbox(one, tick) },
    { head: "last seen (UTC)", text: (one) => time(one.last_seen_at) },
    { head: "reason", text: ({ reason }) => words(reason) },
    { head: "detail", kind: "long", text: ({ detail }) => detail },
    { head: "queue", text: ({ queue }) => queue },
    { head: "shard", text: ({ shard }) => shard },
    { head: "size", kind: "number", text: (one) => size(one.body_bytes) },
    { head: "seen", kind: "number", text: ({ seen }) => `${whole(seen)}×` },
    { head: "look", node: (one) => deed("Show", "operate", () => show(one).catch(report), `Show ${one.quarantine_id}`) },
  ], { empty: "No delivery is in this state." });
  const bar = el("div", { class: "bar" },
    el("p", {}, el("label", { for: "quarantine-state" }, "State"), state),
    button("Refresh", () => load().catch(report), { class: "plain" }), redrive, drop);
  byId("quarantine-list").replaceChildren(bar, note, list.element, gaps);
  state.addEventListener("change", () => load().catch(report));

  function allow() {
    const isFit = chosen.size > 0 && chosen.size <= IDS_MAX;
    set(redrive, "disabled", !isFit || !session.covers("operate"));
    set(drop, "disabled", !isFit || !session.covers("admin"));
    const needs = [
      !session.covers("operate") && "To look and publish again needs the role operate.",
      !session.covers("admin") && "To drop needs admin.",
    ];
    const many = chosen.size > IDS_MAX ? `${IDS_MAX} at once at most.` : "";
    setText(note, [`${plural(chosen.size, "delivery", "deliveries")} chosen.`, many, ...needs].filter(Boolean).join(" "));
  }

  async function load() {
    const turn = (turns += 1);
    forget();
    const found = await ask(`quarantine?state=${state.value}&limit=200`);
    if (turn !== turns) return;
    chosen.clear();
    list.show([], () => ""); // ticks go with the choice
    list.show(found.deliveries, (one) => one.quarantine_id);
    allow();
    setText(gaps, missing(found, found.deliveries.length));
  }

  function forget() {
    looks += 1;
    byId("delivery").replaceChildren();
  }

  async function show({ quarantine_id: id }) {
    const look = (looks += 1);
    const found = await ask(`quarantine/${inPath(id)}`);
    if (look !== looks) return;
    byId("delivery").replaceChildren(...deliveryOf(found));
    byId("delivery").querySelector("h3").focus();
  }

  function act(what) {
    const ids = [...chosen];
    const isDrop = what === "drop";
    const about = el("p", {}, isDrop
      ? "They are given up: nobody will be told of these orders and invoices. Their rows stay until retention."
      : "They go to their queue as they came. What is still no valid event is held again.");
    confirmed({
      title: `${isDrop ? "Drop" : "Publish"} ${plural(ids.length, "delivery", "deliveries")}${isDrop ? "" : " again"}?`,
      about: [about, idList(ids)],
      deed: isDrop ? "Drop" : "Publish again", isGrave: isDrop,
      run: async () => {
        const found = await ask(`quarantine/${what}`, { method: "POST", data: { ids } });
        const told = `${plural(ids.length, "delivery", "deliveries")} ${isDrop ? "dropped" : "published again"}`;
        return [`${whole(found.done)} of ${told} by ${session.me.subject}.`, ...remainder(found, ids.length, isDrop)].join(" ");
      },
      look: "Refresh the list: what is no longer held was done.", after: load, say,
    });
  }

  return { enter: load, forget };
}

// Why not all are gone. What is published again counts as done, also when it is held still; what is dropped does not.
function remainder({ done, still_held: held, problems, away }, asked, isDrop) {
  const others = asked - done - problems.length - (isDrop ? held : 0);
  const gone = away.length ? `${silent(away)}: what is there is as it was.` : "";
  return [
    held && `${isDrop ? "" : "Of these "}${whole(held)} ${held === 1 ? "is" : "are"} held still: came again, or on the move.`,
    gone || (others > 0 && `${whole(others)} ${others === 1 ? "was" : "were"} no longer held.`),
    ...problems,
  ].filter(Boolean);
}

function checkbox({ quarantine_id: id, state }, tick) {
  return el("input", { type: "checkbox", value: id, change: tick, disabled: state !== "held", "aria-label": `Choose ${id}` });
}

function idList(ids) {
  const rest = ids.length > IDS_SHOWN ? el("li", {}, `and ${ids.length - IDS_SHOWN} more`) : null;
  return el("ul", { class: "ids" }, ids.slice(0, IDS_SHOWN).map((id) => el("li", {}, id)), rest);
}

function deliveryOf(found) {
  const bytes = Uint8Array.from(atob(found.body_base64), (sign) => sign.charCodeAt(0));
  const text = new TextDecoder().decode(bytes);
  const isCut = text.length > BODY_CHARS_MAX;
  const headers = JSON.stringify(found.headers, null, 2);
  return [
    el("h3", { tabindex: -1 }, "Delivery ", found.quarantine_id),
    facts([
      ["reason", words(found.reason)], ["detail", found.detail], ["shard", found.shard], ["queue", found.queue],
      ["exchange", found.exchange], ["routing key", found.routing_key], ["content type", found.content_type],
      ["message id", found.message_id], ["first seen (UTC)", time(found.first_seen_at)],
      ["last seen (UTC)", time(found.last_seen_at)], ["seen", `${whole(found.seen)}×`],
    ]),
    el("h4", {}, "Headers"), el("pre", { tabindex: 0, "aria-label": "Headers" }, headers),
    el("h4", {}, `Body, ${size(bytes.length)}${isCut ? `; its first ${whole(BODY_CHARS_MAX)} characters` : ""}`),
    el("pre", { tabindex: 0, "aria-label": "Body", class: "body" }, text.slice(0, BODY_CHARS_MAX)),
  ];
}
