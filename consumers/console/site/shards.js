// Shards: who owns which slots, how far replicas are behind, and what moves.
import { ask } from "./api.js";
import { button, byId, el, set } from "./dom.js";
import { LANES_MAX, ringPicture } from "./ring.js";
import { table } from "./table.js";
import { counted, share, since, size, span, whole } from "./words.js";

const SLOTS = 4096;
const AGAIN_MS = 5_000;

export function shardsView() {
  const picture = ringPicture(byId("ring"));
  let chosen = null, drawn = null, names = [];
  const choose = (event) => {
    const { name } = event.currentTarget.dataset;
    chosen = chosen === name ? null : name;
    for (const one of byId("shards-now").querySelectorAll("button")) set(one, "aria-pressed", one.dataset.name === chosen);
    picture.choose(chosen);
  };
  const nameOf = ({ name }) => {
    const lane = names.indexOf(name) % LANES_MAX;
    const swatch = el("span", { class: `swatch shard-${lane}`, "aria-hidden": "true" });
    return button([swatch, name], choose, { class: "plain tag", "aria-pressed": "false", "data-name": name, title: `Lane ${lane + 1} of the ring, from outside` });
  };
  const shards = table("Shards", [
    { head: "shard", node: nameOf },
    { head: "state", text: stateOf },
    { head: "slots", kind: "number", text: ({ slots }) => `${whole(slots)} (${share(slots / SLOTS)})` },
    { head: "events a minute", kind: "number", text: (one) => whole(one.events_per_min) },
    { head: "replicas", text: ({ replicas }) => replicas.map(replicaOf).join("; ") || "none" },
    { head: "due", kind: "number", text: ({ due }) => counted(due) },
    { head: "unknown", kind: "number", text: ({ unknown }) => counted(unknown) },
    { head: "held", kind: "number", text: ({ held }) => counted(held) },
  ]);
  byId("shards-now").replaceChildren(shards.element);
  const moves = movesTable();
  const draw = (epoch) => {
    drawn = epoch;
    const again = () => setTimeout(() => (drawn = null), AGAIN_MS);
    ask("ring").then((ring) => {
      picture.show(ring);
      if (ring.epoch < epoch) again(); // of another instance, whose map is behind
    }).catch(again);
  };
  return {
    update: (overview) => {
      names = overview.shards.map(({ name }) => name).sort();
      shards.show(overview.shards.map((one) => ({ ...one, inForce: overview.epoch })), ({ name }) => name);
      moves.show(overview.moves, (move) => move.move_id);
      if (drawn !== overview.epoch) draw(overview.epoch);
    },
  };
}

function movesTable() {
  const moves = table("Moves", [
    { head: "from", text: ({ source }) => source },
    { head: "to", text: ({ target }) => target },
    { head: "slots moved", meter: ({ moved, slots }) => [moved ?? 0, slots, `${moved === null ? "?" : whole(moved)} of ${whole(slots)}`] },
    { head: "step", text: ({ step }) => step },
    { head: "state", text: ({ state }) => state },
    { head: "for", text: (move) => since(move.started_at) },
  ], { empty: "No slots are moving." });
  byId("moves").replaceChildren(moves.element);
  return moves;
}

function stateOf(shard) {
  if (!shard.is_reachable) return "✕ away";
  if (!shard.is_settled) return "↔ slots come or go";
  return shard.epoch && shard.epoch !== shard.inForce ? `map of epoch ${shard.epoch}` : "✓ in order";
}

function replicaOf({ name, state, sync_state: sync, lag_bytes: bytes, lag_s: seconds }) {
  return `${name} ${state}, ${sync}: ${size(bytes)}, ${span(seconds)} behind`;
}
