// The ring of slots: a lane for each shard, so that it can be told without colours.
import { set, svg } from "./dom.js";
import { whole } from "./words.js";

const OUTER = 146, INNER = 62, CENTRE = 150;
export const LANES_MAX = 8;

export function ringPicture(root) {
  const picture = svg("svg", { viewBox: "0 0 300 300", role: "img", "aria-label": "Ring of slots" });
  root.replaceChildren(picture);
  let lanes = new Map(), chosen = null;
  const mark = () => lanes.forEach((lane, name) => lane.classList.toggle("dim", chosen !== null && chosen !== name));
  return {
    show: (ring) => {
      lanes = new Map(ring.shards.map((name, at) => [name, lane(ring, at)]));
      picture.replaceChildren(
        ...lanes.values(),
        svg("text", { x: CENTRE, y: CENTRE - 2, class: "title" }, `epoch ${whole(ring.epoch)}`),
        svg("text", { x: CENTRE, y: CENTRE + 18, class: "soft" }, `${whole(ring.slot_count)} slots`),
      );
      set(picture, "aria-label", label(ring));
      mark();
    },
    choose: (name) => {
      chosen = name;
      mark();
    },
  };
}

function lane(ring, at) {
  const count = Math.min(ring.shards.length, LANES_MAX);
  const width = (OUTER - INNER) / count;
  const radius = OUTER - width * ((at % count) + 0.5);
  const d = ring.arcs.filter((arc) => arc.shard === at).map((arc) => path(arc, ring.slot_count, radius));
  return svg("path", { d: d.join(""), class: `lane shard-${at % LANES_MAX}`, "stroke-width": width - 2 });
}

function path({ first, last }, slots, radius) {
  const end = Math.min(last + 1, first + slots * 0.9999); // a whole circle has no end
  const [a, b] = [first, end].map((slot) => (slot / slots) * 2 * Math.PI - Math.PI / 2);
  const point = (angle) => `${(CENTRE + radius * Math.cos(angle)).toFixed(2)} ${(CENTRE + radius * Math.sin(angle)).toFixed(2)}`;
  return `M${point(a)}A${radius} ${radius} 0 ${b - a > Math.PI ? 1 : 0} 1 ${point(b)}`;
}

function label(ring) {
  const slots = ring.shards.map((name, at) => {
    const arcs = ring.arcs.filter((arc) => arc.shard === at);
    return `${name} ${whole(arcs.reduce((sum, arc) => sum + arc.last - arc.first + 1, 0))} in ${whole(arcs.length)} runs`;
  });
  return `Ring of ${whole(ring.slot_count)} slots, epoch ${ring.epoch}: ${slots.slice(0, 20).join("; ")}`;
}
