// Figures, times and sizes as text. Times are UTC, as in log lines and on the command line.
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const SHARE = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const SIZES = ["B", "kB", "MB", "GB", "TB"];
const SPANS = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];

export const whole = (value) => WHOLE.format(value ?? 0);
export const share = (value) => SHARE.format(value ?? 0);
export const rate = (value) => (value >= 100 ? WHOLE : SHORT).format(value ?? 0);
// Of rows 100,000 at most are counted.
export const counted = (value) => (value >= 100_000 ? "100,000 or more" : whole(value));

export function plural(count, one, many = `${one}s`) {
  return `${whole(count)} ${count === 1 ? one : many}`;
}

export function size(bytes) {
  const step = bytes >= 1 ? Math.min(SIZES.length - 1, Math.floor(Math.log10(bytes) / 3)) : 0;
  return `${SHORT.format(bytes / 1000 ** step)} ${SIZES[step]}`;
}

export function span(seconds) {
  if (seconds == null) return "";
  if (seconds < 0.001) return "0 s";
  if (seconds < 1) return `${SHORT.format(seconds * 1000)} ms`;
  if (seconds < 10) return `${SHORT.format(seconds)} s`;
  const at = SPANS.findIndex(([unit]) => seconds >= unit);
  const [unit, name] = SPANS[at];
  const rest = at + 1 < SPANS.length ? Math.floor((seconds % unit) / SPANS[at + 1][0]) : 0;
  return `${Math.floor(seconds / unit)} ${name}${rest ? ` ${rest} ${SPANS[at + 1][1]}` : ""}`;
}

export function time(text, digits = 19) {
  const at = new Date(text ?? NaN);
  return Number.isNaN(at.getTime()) ? "" : at.toISOString().slice(0, digits).replace("T", " ");
}

export const clock = (milliseconds) => `${new Date(milliseconds).toISOString().slice(11, 19)} UTC`;
export const since = (text) => span((Date.now() - new Date(text).getTime()) / 1000);
export const silent = (shards) => `${shards.join(", ")} ${shards.length === 1 ? "does" : "do"} not answer`;
// What a list leaves out: what is beyond its first so many, and what is on shards that do not answer.
export function missing({ more, away }, count) {
  const rest = more ? `These are the first ${whole(count)}; there are more.` : "";
  const gone = away?.length ? `${silent(away)}: what is there is missing here.` : "";
  return [rest, gone].filter(Boolean).join(" ");
}

export const words = (name) => String(name ?? "").replaceAll("_", " ");
