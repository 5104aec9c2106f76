// Processes as they last reported themselves, and the record of who did what.
import { ask, inPath } from "./api.js";
import { button, byId, el, set, setText } from "./dom.js";
import { table } from "./table.js";
import { plural, rate, share, size, span, time, whole } from "./words.js";

const SILENT_S = 10;
const LISTENS = new Set(["public", "api"]); // in the first worker alone
const ENTRIES = 100;
const ENTRIES_MAX = 1000;

export function processesView() {
  const processes = table("Processes", [
    { head: "process", text: (one) => one.process_id },
    { head: "roles", text: ({ roles }) => roles.join(", ") },
    { head: "state", text: (one) => (one.age_s > SILENT_S ? `✕ silent for ${span(one.age_s)}` : "✓ reports") },
    { head: "up since (UTC)", text: (one) => time(one.started_at) },
    { head: "events in memory", meter: (one) => [one.held, one.held_max, one.held_max ? `${whole(one.held)}, ${share(one.held / one.held_max)}` : "takes none"] },
    { head: "prefetch", kind: "number", text: (one) => whole(one.prefetch) },
    { head: "cores", kind: "number", text: (one) => rate(one.cpu_cores) },
    { head: "loop late by", kind: "number", text: (one) => span(one.loop_lag_s) },
    { head: "memory", kind: "number", text: (one) => size(one.rss_bytes) },
    { head: "map", kind: "number", text: ({ epoch }) => whole(epoch) },
  ], { empty: "No process reports itself." });
  byId("processes-now").replaceChildren(processes.element);
  const cut = el("p", {}), list = el("ul", {});
  byId("allocator").replaceChildren(cut, list);
  return {
    update: ({ processes: found, process_count: count }) => {
      processes.show(found, (one) => one.process_id);
      const told = allocatorsOf(found);
      setText(cut, count > found.length ? `${whole(found.length)} of ${whole(count)} processes are shown.` : "");
      while (list.children.length > told.length) list.lastChild.remove();
      told.forEach((text, at) => setText(list.children[at] ?? list.appendChild(el("li", {})), text));
      set(byId("allocator"), "hidden", !told.length && !cut.textContent);
    },
  };
}

// What each supervisor decided last, by the latest word of a worker of its own: two of one host have other roles.
function allocatorsOf(found) {
  const latest = new Map();
  for (const one of found) {
    const host = one.process_id.split(":", 1)[0];
    const roles = one.roles.filter((role) => !LISTENS.has(role)).join(", ");
    const key = JSON.stringify([host, roles]);
    const before = latest.get(key);
    if (one.decision && one.age_s <= SILENT_S && !(before?.one.age_s <= one.age_s)) latest.set(key, { host, roles, one });
  }
  const all = [...latest].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value);
  return all.map(({ host, roles, one }) => {
    const whose = all.filter((other) => other.host === host).length > 1 ? `${host}, ${roles}` : host;
    return `Allocator of ${whose}: ${plural(one.workers, "worker")}, bottleneck ${one.bottleneck || "none"}: ${one.decision}`;
  });
}

export function recordView({ report }) {
  const entries = table("Record", [
    { head: "time (UTC)", text: ({ at }) => time(at, 23) },
    { head: "who", text: ({ actor }) => actor },
    { head: "what", text: ({ what }) => what },
    { head: "to", kind: "long", text: ({ target }) => target },
    { head: "outcome", text: ({ outcome }) => outcome },
    { head: "detail", kind: "long", text: ({ detail }) => detail },
  ], { empty: "Nobody has done anything." });
  let shown = [];
  const load = async (before) => {
    const found = await ask(`audit?limit=${ENTRIES}${before ? `&before=${inPath(before)}` : ""}`);
    shown = before ? [...shown, ...found.entries].slice(-ENTRIES_MAX) : found.entries;
    entries.show(shown, (entry) => entry.entry_id);
    set(older, "hidden", !found.next);
    older.dataset.next = found.next ?? "";
  };
  const older = button("Older", () => load(older.dataset.next).catch(report), { class: "plain", hidden: true });
  const refresh = button("Refresh", () => load().catch(report), { class: "plain" });
  byId("record-list").replaceChildren(el("div", { class: "bar" }, refresh), entries.element, older);
  return { enter: () => load() };
}
