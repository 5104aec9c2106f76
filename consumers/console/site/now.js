// The first view: what needs a look, the four KPIs, and the flow.
import { byId, button, el, set, setText } from "./dom.js";
import { flowPicture, stagesOf, stageTitle, stageWaits } from "./flow.js";
import { History } from "./history.js";
import { sparkline } from "./sparkline.js";
import { table } from "./table.js";
import { counted, plural, rate, share, span, whole } from "./words.js";

const KPIS = { orders: "Orders", invoices: "Invoices", sms: "SMS", email: "E-mails" };
const LAG_S_MAX = 10;
const ALIKE_MAX = 4;
const UNCLAIMED_S_MAX = 60;

export function nowView({ go, say }) {
  const kpis = Object.entries(KPIS).map(([key, title]) => kpiOf(key, title));
  byId("kpis").replaceChildren(...kpis.map((kpi) => kpi.element));
  const flow = flowPicture(byId("flow"));
  const stages = table("Stages", [
    { head: "stage", text: (one) => stageTitle(one.name) },
    { head: "out per second", kind: "number", text: (one) => (one.per_s == null ? "" : rate(one.per_s)) },
    { head: "waiting", kind: "number", text: (one) => `${counted(one.waiting)} ${stageWaits(one.name)}` },
    { head: "full", kind: "number", text: (one) => (one.fill == null ? "" : share(one.fill)) },
  ]);
  const queues = table("Queues", [
    { head: "queue", text: (one) => one.name },
    { head: "ready", kind: "number", text: (one) => whole(one.messages) },
    { head: "consumers", kind: "number", text: (one) => whole(one.consumers) },
  ], { empty: "The broker does not answer." });
  byId("stages").replaceChildren(stages.element);
  byId("queues").replaceChildren(queues.element);
  const attention = attentionList(go, say);
  return {
    update: (overview) => {
      const at = Date.parse(overview.at);
      kpis.forEach((kpi) => kpi.show(at, overview.kpis));
      flow.show(overview);
      const found = Object.entries(stagesOf(overview)).map(([name, stage]) => ({ ...stage, name }));
      stages.show(found, (one) => one.name);
      queues.show(overview.queues, (one) => one.name);
      attention(overview);
    },
  };
}

function kpiOf(key, title) {
  const history = new History();
  const line = sparkline(`${title} a minute`);
  const figure = el("span", { class: "big", id: `kpi-${key}` }, "–");
  const told = el("p", {}, figure, el("span", { class: "soft" }, " a minute"));
  const element = el("div", { class: "kpi" }, el("p", { class: "name" }, title), told, line.element);
  return {
    element,
    show: (at, kpis) => {
      history.push(at, kpis[key]);
      setText(figure, whole(kpis[key]));
      line.show(history);
    },
  };
}

// What needs a look. Lines are kept by their key; only what comes and goes is said aloud, no figure that changes.
function attentionList(go, say) {
  const list = el("ul", {});
  const fine = el("p", { class: "fine" }, "Nothing needs a look.");
  byId("attention").replaceChildren(list, fine);
  const lines = new Map();
  let before = null;
  return (overview) => {
    const found = new Map(causesOf(overview).map((cause) => [cause.key, cause]));
    for (const [key, { line }] of lines) if (!found.has(key) && lines.delete(key)) line.remove();
    for (const [key, cause] of found) {
      if (!lines.has(key)) list.append((lines.set(key, lineOf(cause, go)).get(key)).line);
      setText(lines.get(key).words, cause.text);
    }
    set(fine, "hidden", found.size > 0);
    if (before) tellChanges(before, found, say);
    before = found;
  };
}

function lineOf({ key, view, mark }, go) {
  const id = `cause-${key.replaceAll(/[^a-z0-9-]/gi, "-")}`;
  const words = el("span", { id });
  const look = view !== "now" && button("Look", () => go(view), { class: "plain", "aria-describedby": id });
  return { words, line: el("li", { class: mark }, words, look || null) };
}

function tellChanges(before, found, say) {
  const come = [...found.values()].filter(({ key }) => !before.has(key)).map(({ text }) => text);
  const gone = [...before.values()].filter(({ key }) => !found.has(key)).map(({ text }) => `Over: ${text}`);
  if (come.length + gone.length) say([...come, ...gone].join(". "));
}

function causesOf(overview) {
  const { shards, pools, unknown, problems, moves, limits } = overview;
  const sick = together(shards.flatMap(sicknessOf));
  const unread = problems.filter(({ about }) => !shards.some(({ name }) => name === about))
    .map(({ about, what }) => ({ key: `problem ${about}`, view: "now", mark: "bad", text: `${about}: ${what}` }));
  const cut = pools.filter(({ circuit }) => circuit !== "closed").map(({ provider, circuit }) => (
    { key: `circuit ${provider}`, view: "pools", mark: "bad", text: `${provider}: the circuit is ${circuit.replace("_", " ")}` }));
  const count = unknown.sms + unknown.email;
  const rest = [
    count && { key: "unknown", view: "unknown", mark: "warn", text: `${plural(count, "message")} of unknown outcome` },
    overview.held && { key: "held", view: "quarantine", mark: "warn", text: `${counted(overview.held)} in quarantine` },
    overview.unclaimed_s > UNCLAIMED_S_MAX && { key: "unclaimed", view: "pools", mark: "warn", text: "Messages are due for more than a minute" },
    moves.length && { key: "moves", view: "shards", mark: "info", text: `Slots are moving: ${plural(moves.length, "move")}` },
    limits.length && { key: "limits", view: "pools", mark: "info", text: `${plural(limits.length, "limit")} set by operators` },
  ].filter(Boolean);
  return [...unread, ...sick, ...cut, ...rest];
}

// Many shards with the same trouble are one line.
function together(sick) {
  return [...Map.groupBy(sick, ({ what }) => what).values()].flatMap((alike) => {
    const [{ what, words }] = alike;
    const text = `${plural(alike.length, "shard")}: ${words}`;
    return alike.length > ALIKE_MAX ? [{ ...alike[0], key: `${what} many`, text }] : alike;
  });
}

function sicknessOf({ name, is_reachable: isReachable, replicas }) {
  const cause = (what, words, mark) => [{ key: `${what} ${name}`, what, words, view: "shards", mark, text: `${name}: ${words}` }];
  if (!isReachable) return cause("away", "the primary does not answer", "bad");
  if (!replicas.length) return cause("alone", "no replica follows", "warn");
  const worst = Math.max(...replicas.map((one) => one.lag_s));
  return worst > LAG_S_MAX ? cause("lag", `a replica is more than ${span(LAG_S_MAX)} behind`, "warn") : [];
}
