import { set, svg } from "./dom.js";
import { WINDOW_MS } from "./history.js";
import { rate } from "./words.js";

const WIDTH = 240, HEIGHT = 44, EDGE = 3;
const WINDOW_MS_MIN = 60_000;
const GAP_MS = 90_000; // more than a hidden tab leaves: nothing is known of the time between

export function sparkline(name) {
  const line = svg("path", { class: "line" });
  const end = svg("circle", { r: 2.5, class: "end" });
  const picture = svg(
    "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "spark", role: "img", "aria-label": name }, line, end,
  );
  return { element: picture, show: (history) => draw(history.points(), name, { picture, line, end }) };
}

function draw(points, name, { picture, line, end }) {
  if (!points.length) return;
  const [last, now] = points.at(-1);
  const top = Math.max(1, ...points.map(([, value]) => value));
  const shown = Math.min(WINDOW_MS, Math.max(WINDOW_MS_MIN, last - points[0][0]));
  const x = (time) => WIDTH - EDGE - ((last - time) / shown) * (WIDTH - 2 * EDGE);
  const y = (value) => HEIGHT - EDGE - (value / top) * (HEIGHT - 2 * EDGE);
  const path = points.map(([time, value], at) => {
    const isGap = at === 0 || time - points[at - 1][0] > GAP_MS;
    return `${isGap ? "M" : "L"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  set(line, "d", path.join(""));
  set(end, "cx", x(last).toFixed(1));
  set(end, "cy", y(now).toFixed(1));
  const minutes = Math.max(1, Math.round((last - points[0][0]) / 60_000));
  const lowest = Math.min(...points.map(([, value]) => value));
  const peak = Math.max(...points.map(([, value]) => value));
  const label = `${name}, over the last ${minutes} min: from ${rate(lowest)} to ${rate(peak)}, now ${rate(now)}`;
  set(picture, "aria-label", label);
}
