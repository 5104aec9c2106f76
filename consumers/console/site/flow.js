// The flow as a picture: where events and messages are, how fast they go, and how full each stage is.
import { el, set, setText, svg } from "./dom.js";
import { counted, rate, share, whole } from "./words.js";

const NODES = {
  broker: { title: "Broker", waits: "ready" },
  intake: { title: "Intake", waits: "in memory" },
  shards: { title: "Shards", waits: "being written" },
  outbox: { title: "Outbox", waits: "due" },
  sms: { title: "SMS", waits: "in the pool" },
  email: { title: "E-mail", waits: "in the pool" },
  quarantine: { title: "Quarantine", waits: "held", isAside: true },
  unknown: { title: "Unknown", waits: "of unknown outcome", isAside: true },
};
const EDGES = [
  ["broker", "intake"], ["intake", "shards"], ["shards", "outbox"], ["outbox", "sms"], ["outbox", "email"],
  ["intake", "quarantine"], ["outbox", "unknown"],
];
// Where nodes are, by their upper left corner; edges from a side to a side.
const WIDE = {
  box: [980, 320], node: [164, 96],
  at: {
    broker: [2, 62], intake: [205, 62], shards: [408, 62], outbox: [611, 62], sms: [814, 2], email: [814, 122],
    quarantine: [205, 222], unknown: [611, 222],
  },
  sides: { quarantine: ["bottom", "top"], unknown: ["bottom", "top"] },
};
const TALL = {
  box: [340, 568], node: [158, 88],
  at: {
    broker: [2, 2], intake: [2, 120], shards: [2, 238], outbox: [2, 356], sms: [2, 474], email: [180, 474],
    quarantine: [180, 120], unknown: [180, 356],
  },
  sides: {
    intake: ["bottom", "top"], shards: ["bottom", "top"], outbox: ["bottom", "top"], sms: ["bottom", "top"],
    email: ["bottom", "top"], quarantine: ["right", "left"], unknown: ["right", "left"],
  },
};

export function flowPicture(root) {
  const isNarrow = matchMedia("(max-width: 720px)");
  let drawn = null, latest = null;
  const show = (overview) => {
    latest = overview;
    drawn ??= drawnIn(root, isNarrow.matches ? TALL : WIDE);
    update(drawn, stagesOf(overview));
  };
  isNarrow.addEventListener("change", () => {
    drawn = null;
    if (latest) show(latest);
  });
  return { show };
}

export function stagesOf(overview) {
  const found = Object.fromEntries(overview.stages.map((stage) => [stage.name, stage]));
  found.quarantine = { waiting: overview.held };
  found.unknown = { waiting: overview.unknown.sms + overview.unknown.email };
  return found;
}

export const stageTitle = (name) => NODES[name]?.title ?? name;
export const stageWaits = (name) => NODES[name]?.waits ?? "waiting";

function drawnIn(root, layout) {
  const edges = EDGES.map(([from, to]) => ({ to, path: edge(from, to, layout) }));
  const nodes = Object.fromEntries(Object.keys(NODES).map((name) => [name, node(name, layout)]));
  const picture = svg(
    "svg", { viewBox: `0 0 ${layout.box.join(" ")}`, role: "img", "aria-label": "Flow" },
    svg("defs", {}, svg(
      "marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9,
        markerUnits: "userSpaceOnUse", orient: "auto" }, svg("path", { d: "M0 0L8 4L0 8Z", class: "tip" }),
    )),
    edges.map((one) => one.path), Object.values(nodes).map((one) => one.group),
  );
  root.replaceChildren(picture);
  return { picture, edges, nodes };
}

function node(name, layout) {
  const [[x, y], [width, height], { title, isAside }] = [layout.at[name], layout.node, NODES[name]];
  const figure = svg("text", { x: 12, y: 51, class: "figure" });
  const waiting = svg("text", { x: 12, y: isAside ? 72 : 70, class: "soft" });
  const [room, fill] = ["room", "fill"].map((kind) =>
    svg("rect", { x: 12, y: height - 12, width: width - 24, height: 5, rx: 2.5, class: kind }));
  const percent = svg("text", { x: width - 12, y: 22, class: "soft percent" });
  const parts = [svg("rect", { width, height, rx: 8, class: "box" }), svg("text", { x: 12, y: 22, class: "title" }, title)];
  const group = svg("g", { transform: `translate(${x} ${y})`, class: isAside ? "node aside" : "node" },
    parts, figure, waiting, room, fill, percent);
  return { group, figure, waiting, room, fill, percent, width: width - 24 };
}

function edge(from, to, layout) {
  const [start, end] = layout.sides[to] ?? ["right", "left"];
  const [a, b] = [side(from, start, layout), side(to, end, layout)];
  const d = start === "right" && end === "left"
    ? `M${a}C${a[0] + 20} ${a[1]} ${b[0] - 20} ${b[1]} ${b}`
    : `M${a}C${a[0]} ${(a[1] + b[1]) / 2} ${b[0]} ${(a[1] + b[1]) / 2} ${b}`;
  return svg("path", { d, class: NODES[to].isAside ? "edge aside" : "edge", "marker-end": "url(#arrow)" });
}

function side(name, which, { at, node: [width, height] }) {
  const [x, y] = at[name];
  return {
    left: [x - 2, y + height / 2], right: [x + width + 1, y + height / 2],
    top: [x + width / 2, y - 2], bottom: [x + width / 2, y + height + 1],
  }[which];
}

function update({ picture, edges, nodes }, stages) {
  const told = [];
  for (const [name, parts] of Object.entries(nodes)) {
    const stage = stages[name];
    if (stage) told.push(fillIn(name, parts, stage));
  }
  for (const { to, path } of edges) {
    const perS = stages[to]?.per_s ?? 0;
    set(path, "stroke-width", (1.5 + Math.log10(1 + perS)).toFixed(1));
    path.classList.toggle("flows", perS > 0);
  }
  set(picture, "aria-label", `Flow. ${told.join("; ")}`);
}

function fillIn(name, parts, stage) {
  const { title, waits, isAside } = NODES[name];
  const waiting = isAside ? counted(stage.waiting) : whole(stage.waiting);
  const figure = isAside ? waiting : `${rate(stage.per_s)}/s`;
  setText(parts.figure, figure);
  setText(parts.waiting, isAside ? waits : `${waiting} ${waits}`);
  parts.group.classList.toggle("some", Boolean(isAside && stage.waiting));
  const isKnown = stage.fill != null;
  for (const part of [parts.room, parts.fill]) set(part, "visibility", isKnown ? null : "hidden");
  set(parts.fill, "width", ((stage.fill ?? 0) * parts.width).toFixed(1));
  parts.fill.classList.toggle("high", stage.fill >= 0.8);
  setText(parts.percent, isKnown ? share(stage.fill) : "");
  return `${title} ${isAside ? "" : `${rate(stage.per_s)} a second, `}${waiting} ${waits}${isKnown ? `, ${share(stage.fill)} full` : ""}`;
}
