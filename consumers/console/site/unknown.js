// Messages of unknown outcome, and a person's word about what became of one.
import { ask, inPath } from "./api.js";
import { button, byId, el, facts, set, setText } from "./dom.js";
import { choice, confirmed, deed, field } from "./dialog.js";
import { session } from "./session.js";
import { table } from "./table.js";
import { missing, since, time, whole, words } from "./words.js";

const STATES = { unknown: "unknown", abandoned: "abandoned" };
const ENDS = { accepted: "it was sent: accepted", abandoned: "give it up: abandoned", pending: "send it, perhaps a second time: pending" };

export function unknownView({ say, report, findOrder }) {
  const state = choice("state", STATES);
  set(state, "id", "unknown-state");
  let turns = 0;
  const gaps = el("p", { class: "gaps" });
  const list = table("Unknown effects", [
    { head: "order", node: (one) => button(one.order_id, () => findOrder(one.order_id), { class: "plain" }) },
    { head: "message", text: ({ kind }) => words(kind) },
    { head: "owed for", text: (one) => since(one.created_at) },
    { head: "claimed (UTC)", text: (one) => time(one.claimed_at) },
    { head: "tries", kind: "number", text: ({ attempts }) => whole(attempts) },
    { head: "provider", text: ({ provider }) => provider },
    { head: "reason", kind: "long", text: ({ reason }) => words(reason) },
    { head: "shard", text: ({ shard }) => shard },
    { head: "resolve", node: (one) => deed("Resolve", "operate", () => resolve(one), `Resolve ${one.kind} ${one.effect_id}`) },
  ], { empty: "No message is in this state." });
  const bar = el("div", { class: "bar" }, el("p", {}, el("label", { for: "unknown-state" }, "State"), state),
    button("Refresh", () => load().catch(report), { class: "plain" }));
  byId("unknown-list").replaceChildren(bar, list.element, gaps);
  state.addEventListener("change", () => load().catch(report));

  async function load() {
    const turn = (turns += 1);
    const found = await ask(`effects?state=${state.value}&limit=200`);
    if (turn !== turns) return;
    list.show([], () => "");
    list.show(found.effects, (one) => one.effect_id);
    setText(gaps, missing(found, found.effects.length));
  }

  function resolve(one) {
    const to = choice("to", Object.fromEntries(Object.entries(ENDS).filter(([end]) => end !== one.state)));
    confirmed({
      title: `Resolve ${words(one.kind)} of order ${one.order_id}?`, deed: "Resolve",
      about: facts([["message", one.effect_id], ["state", one.state], ["provider", one.provider], ["claimed (UTC)", time(one.claimed_at)]]),
      fields: [
        field("What became of it", to),
        field("How you know", line("because", true), "Kept with the message: no personal data."),
        field("The provider's id", line("provider_id", false), "When it was accepted, if you have it."),
      ],
      run: async ({ to: end, because, provider_id: providerId }) => {
        const data = { seen: one.state, to: end, because, provider_id: providerId || null };
        await ask(`effects/${inPath(one.effect_id)}/resolution`, { method: "POST", data });
        return `${words(one.kind)} of order ${one.order_id}: ${end} by ${session.me.subject}.`;
      },
      look: "Refresh the list: a message that was resolved is no longer in it.", after: load, say,
    });
  }

  return { enter: load };
}

const line = (name, required) => el("input", { name, required, maxlength: 200, autocomplete: "off" });
