// Pools as all sending processes together see them, and limits that are changed while everything runs.
import { ask, inPath } from "./api.js";
import { button, byId, el, set } from "./dom.js";
import { choice, confirmed, field } from "./dialog.js";
import { session } from "./session.js";
import { table } from "./table.js";
import { rate, span, time, whole, words } from "./words.js";

const CIRCUITS = { closed: "● closed", half_open: "◐ half open", open: "○ open" };
const PERIODS = { 3600: "for an hour", 28800: "for eight hours", 86400: "for a day", "": "until it is taken off" };

export function poolsView({ say, report }) {
  const pools = table("Pools", [
    { head: "channel", text: ({ channel }) => (channel === "sms" ? "SMS" : "e-mail") },
    { head: "provider", text: ({ provider }) => provider },
    { head: "circuit", text: ({ circuit }) => CIRCUITS[circuit] ?? words(circuit) },
    { head: "calls under way", meter: (one) => [one.in_flight, one.limit, `${whole(one.in_flight)} of ${whole(one.limit)}`] },
    { head: "limit from – to", kind: "number", text: ({ floor, ceiling }) => `${whole(floor)} – ${whole(ceiling)}` },
    { head: "waiting", kind: "number", text: ({ waiting }) => whole(waiting) },
    { head: "messages per second", kind: "number", text: (one) => (one.rate_per_s ? `≤ ${rate(one.rate_per_s)}` : "no limit") },
    { head: "a call takes", kind: "number", text: (one) => span(one.typical_s) },
    { head: "processes", kind: "number", text: ({ processes }) => whole(processes) },
  ], { empty: "No process that sends says how it is." });
  byId("pools-now").replaceChildren(pools.element);

  const load = async () => limits.show((await ask("limits")).limits, (one) => one.key);
  const limits = limitsTable((limit, deed) => changed(limit, deed, { load, say }));
  let seen = null;
  return {
    enter: load,
    update: (overview, isShown) => {
      pools.show(overview.pools, ({ channel, provider }) => `${channel} ${provider}`);
      const now = overview.limits.map(({ key, value, set_at: at }) => `${key} ${value} ${at}`).join();
      if (isShown && seen !== null && seen !== now) load().catch(report);
      seen = now;
    },
  };
}

function limitsTable(change) {
  const limits = table("Limits", [
    { head: "limit", text: ({ key }) => key },
    { head: "in force", kind: "number", text: inForce },
    { head: "settings", kind: "number", text: ({ normal }) => (normal ? rate(normal) : "none") },
    { head: "from – to", kind: "number", text: ({ floor, ceiling }) => `${rate(floor)} – ${rate(ceiling)}` },
    { head: "unit", text: (one) => `${one.unit} ${whose(one)}` },
    { head: "set by", text: setBy },
    { head: "change", node: () => el("span", { class: "deeds" }), change: (cell, limit) => showDeeds(cell.firstChild, limit, change) },
  ], { empty: "No limit can be changed." });
  byId("limits").replaceChildren(limits.element);
  return limits;
}

// A rate is shared out among the processes that send; calls are counted in each.
const whose = ({ unit }) => (unit === "calls" ? "of each process" : "of all processes together");
const inForce = ({ value, normal }) => (value != null ? rate(value) : normal ? rate(normal) : "none");

function setBy({ set_by: by, set_at: at, left_s: left }) {
  return by ? `${by}, ${time(at)}${left == null ? "" : `, for ${span(left)} more`}` : "";
}

// Buttons stay where they are; what they do goes by the limit as it was read last.
function showDeeds(place, limit, change) {
  if (!place.firstChild) {
    const deed = (label, what, name) => button(label, () => change(place.limit, what), { "aria-label": name });
    place.append(deed("Change", "set", `Change ${limit.key}`), deed("Take off", "remove", `Take ${limit.key} off`));
  }
  place.limit = limit;
  for (const one of place.children) {
    set(one, "disabled", !session.covers("operate"));
    set(one, "title", session.covers("operate") ? null : "Needs the role operate");
  }
  set(place.lastChild, "hidden", limit.value == null);
}

function changed(limit, deed, { load, say }) {
  const rest = { after: load, say, look: "The list of limits shows what is in force." };
  const range = { min: limit.floor, max: limit.ceiling, step: "any" };
  const now = limit.value ?? (limit.normal || "");
  const value = el("input", { name: "value", type: "number", required: true, value: now, ...range });
  const about = el("p", {}, `In force: ${inForce(limit)}. Settings: ${limit.normal ? rate(limit.normal) : "none"}.`);
  const path = `limits/${inPath(limit.key)}`;
  const told = ({ away }, what) => {
    const later = away.length ? ` ${away.join(", ")} did not answer: told when back.` : "";
    return `${limit.key}: ${what} by ${session.me.subject}.${later}`;
  };
  if (deed === "remove") {
    return confirmed({
      title: `Take ${limit.key} off?`, about: [about, el("p", {}, "The settings count again.")], deed: "Take off",
      run: async () => told(await ask(path, { method: "DELETE" }), "taken off"), ...rest,
    });
  }
  return confirmed({
    title: `Change ${limit.key}?`, about, deed: "Change",
    fields: [
      field(`New value, ${limit.unit}`, value, `From ${rate(limit.floor)} to ${rate(limit.ceiling)}, ${whose(limit)}.`),
      field("How long", choice("for_s", PERIODS)),
    ],
    run: async ({ value: wanted, for_s: forS }) => {
      const data = { value: Number(wanted), for_s: forS ? Number(forS) : null };
      return told(await ask(path, { method: "PUT", data }), `set to ${rate(data.value)}`);
    },
    ...rest,
  });
}
