// One order, customer or invoice by its id; an order with the timeline of its messages.
import { ask, inPath } from "./api.js";
import { button, byId, el, facts, set } from "./dom.js";
import { session } from "./session.js";
import { table } from "./table.js";
import { plural, size, span, time, whole, words } from "./words.js";

export function ordersView({ go }) {
  const found = byId("found");
  const shown = { orders: orderOf, customers: customerOf, invoices: invoicesOf };
  let asking = null;

  async function find(by, id) {
    asking?.abort();
    const mine = (asking = new AbortController());
    set(found, "aria-busy", "true");
    try {
      const parts = await shown[by](id, mine.signal);
      if (mine.signal.aborted) return;
      found.replaceChildren(...parts);
      found.querySelector("h3").focus();
    } catch (error) {
      if (mine.signal.aborted) return;
      const why = error.status === 404 ? "Nothing is known by this id." : `Not found out: ${error.message}`;
      found.replaceChildren(el("p", { class: "wrong", role: "alert" }, why));
    }
    set(found, "aria-busy", null);
  }

  function forget() {
    asking?.abort();
    found.replaceChildren();
    byId("search").reset();
  }

  function findOrder(id) {
    go("orders");
    byId("search-by").value = "orders";
    byId("search-id").value = id;
    find("orders", id);
  }

  async function orderOf(id, signal) {
    const path = `orders/${inPath(id)}`;
    const questions = [path, `${path}/timeline`].map((one) => ask(one, { signal }));
    const [{ order, invoices, messages, served }, timeline] = await Promise.all(questions);
    return [
      el("h3", { tabindex: -1 }, "Order ", id),
      order ? orderFacts(order) : el("p", { class: "notice" }, "Only its invoices have come so far."),
      cut(), ...part("Messages", messagesTable(messages)), ...part("Timeline", timelineTable(timeline.entries)),
      ...part("Invoices", invoiceTable(invoices)), order && lines(order), servedBy(served),
    ].filter(Boolean);
  }

  async function customerOf(id, signal) {
    const { person, opted_out: out, orders, more, served } = await ask(`customers/${inPath(id)}`, { signal });
    const list = table("Orders", [
      { head: "order", node: (one) => button(one.order_id, () => findOrder(one.order_id), { class: "plain" }) },
      { head: "number", text: ({ number }) => number },
      { head: "total", kind: "number", text: money },
      { head: "processed (UTC)", text: (one) => time(one.processed_at) },
    ]);
    list.show(orders, (one) => one.order_id);
    const wishes = out.length ? `none by ${out.join(", ")}` : "";
    return [
      el("h3", { tabindex: -1 }, "Customer ", id), facts([...personFacts(person ?? {}), ["wants messages", wishes]]), cut(),
      ...part(more ? `The latest ${plural(orders.length, "order")}` : "Orders", list), servedBy(served),
    ];
  }

  async function invoicesOf(id, signal) {
    const { invoices, served } = await ask(`invoices/${inPath(id)}`, { signal });
    const deeds = invoices.map((one) => el("li", {}, button(`Order ${one.order_id}`, () => findOrder(one.order_id), { class: "plain" })));
    const list = part("Found", invoiceTable(invoices));
    return [el("h3", { tabindex: -1 }, "Invoice ", id), ...list, el("ul", { class: "ids" }, deeds), servedBy(served)];
  }

  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    find(byId("search-by").value, byId("search-id").value.trim());
  });
  return { findOrder, forget };
}

const money = ({ total, currency }) => `${total} ${currency}`;
const cut = () => (session.covers("operate") ? null : el("p", { class: "soft" }, "Names, addresses and numbers are cut short for the role read."));
const part = (title, list) => [el("h4", {}, title), list.element];

function personFacts({ name, email, phone, locale, country }) {
  return [["name", name], ["e-mail", email], ["phone", phone], ["language", locale], ["country", country]];
}

function orderFacts(order) {
  return facts([
    ["number", order.number], ["total", money(order)], ["customer", order.customer.id], ...personFacts(order.customer),
    ["processed (UTC)", time(order.processed_at)], ["stored (UTC)", time(order.recorded_at, 23)], ["slot", whole(order.slot)],
    ["event", `${order.event_id} of ${order.source}`],
  ]);
}

function messagesTable(messages) {
  const list = table("Messages", [
    { head: "message", text: ({ kind }) => words(kind) },
    { head: "state", text: ({ state }) => state },
    { head: "tries", kind: "number", text: ({ attempts }) => whole(attempts) },
    { head: "accepted (UTC)", text: (one) => time(one.accepted_at, 23) },
    { head: "provider", text: (one) => [one.provider, one.provider_id].filter(Boolean).join(" ") },
    { head: "reason", text: ({ reason }) => words(reason) },
  ], { empty: "None is owed." });
  list.show(messages, (one) => one.effect_id);
  return list;
}

function timelineTable(entries) {
  const list = table("Timeline", [
    { head: "time (UTC)", text: ({ at }) => time(at, 23) },
    { head: "about", text: ({ about }) => words(about) },
    { head: "what", text: ({ what }) => words(what) },
    { head: "detail", kind: "long", text: ({ detail }) => detail },
    { head: "by", text: ({ by }) => by },
  ]);
  list.show(entries.map((entry, at) => ({ ...entry, key: at })), ({ key }) => key);
  return list;
}

function invoiceTable(invoices) {
  const list = table("Invoices", [
    { head: "invoice", text: (one) => one.invoice_id },
    { head: "order", text: (one) => one.order_id },
    { head: "total", kind: "number", text: money },
    { head: "issued (UTC)", text: (one) => time(one.issued_at) },
    { head: "document", text: (one) => [words(one.media_type), one.document_bytes != null && size(one.document_bytes)].filter(Boolean).join(", ") },
    { head: "goes with", text: (one) => (one.effect_id ? `message ${one.effect_id.slice(0, 8)}` : "waits") },
  ], { empty: "None has come." });
  list.show(invoices, (one) => `${one.order_id} ${one.invoice_id}`);
  return list;
}

function lines(order) {
  const text = el("pre", { tabindex: 0, "aria-label": "Lines" }, JSON.stringify(order.lines, null, 2));
  return el("details", {}, el("summary", {}, plural(order.lines.length, "line")), text);
}

function servedBy(served) {
  const told = served.map(({ shard, role, ms }) => `${shard} (${role}) in ${span(ms / 1000)}`);
  return el("p", { class: "soft" }, `Answered by ${told.join(", ")}.`);
}
