// Puts the page together: sign-in, views, and what is told of the connection.
import { ask } from "./api.js";
import { byId, set, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { nowView } from "./now.js";
import { ordersView } from "./orders.js";
import { poolsView } from "./pools.js";
import { processesView, recordView } from "./processes.js";
import { quarantineView } from "./quarantine.js";
import { session } from "./session.js";
import { shardsView } from "./shards.js";
import { unknownView } from "./unknown.js";
import { clock, counted } from "./words.js";

const STATES = { live: "Live", polled: "Every 5 s", hidden: "Hidden: every 30 s", away: "Away" };
const STALE_MS = 15_000;
const ENDING_S = 120;
const TICK_MS = 1_000;
const AGAIN_MS = 5_000;
const SAID_MS = 20_000;
const TOLD_MS = 10_000;
const VIEWS = ["now", "orders", "quarantine", "unknown", "pools", "shards", "processes", "record"];

let views = null, view = "now", latest = null, connection = "off", readAt = 0, saidAt = 0, isWarned = false, who = null;
let told = "", toldAt = 0;

function say(text) {
  told = text;
  toldAt = Date.now();
  setText(byId("said"), text);
  saidAt = Date.now();
}

// What comes and goes is often what somebody has just done: it does not take the place of what they were told of that.
function sayNews(text) {
  setText(byId("said"), told && Date.now() - toldAt < TOLD_MS ? `${told} ${text}` : text);
  saidAt = Date.now();
}

function report(error) {
  if (error.name !== "AbortError" && error.status !== 401) say(`Not done: ${error.message}`);
}

function go(name) {
  if (location.hash === `#${name}`) enter();
  else location.hash = name;
}

function enter() {
  const wanted = location.hash.slice(1);
  if (!VIEWS.includes(wanted) && wanted) return; // a link inside the page
  view = wanted || "now";
  for (const name of VIEWS) {
    set(byId(name), "hidden", name !== view);
    set(document.querySelector(`nav a[href="#${name}"]`), "aria-current", name === view ? "page" : null);
  }
  document.title = `${byId(`${view}-title`).textContent} – Postorder`;
  byId(`${view}-title`).focus();
  Promise.resolve(views[view].enter?.()).catch(report);
}

function take(overview) {
  latest = overview;
  readAt = Date.now();
  setText(byId("badge-quarantine"), overview.held ? counted(overview.held) : "");
  const unknown = overview.unknown.sms + overview.unknown.email;
  setText(byId("badge-unknown"), unknown ? counted(unknown) : "");
  for (const [name, one] of Object.entries(views)) {
    try {
      one.update?.(overview, name === view);
    } catch (error) {
      console.error(`${name} is not shown`, error); // one view that cannot be shown hides no other
    }
  }
}

function onState(state, why = "") {
  if (connection === state) return;
  if (connection !== "off" && state === "away") say(`Not connected: ${why}. Trying again.`);
  if (connection === "away") say("Connected again.");
  connection = state;
}

function tick() {
  if (!session.me) return;
  const isStale = latest && Date.now() - readAt > STALE_MS && !document.hidden;
  const at = latest ? `, figures of ${clock(Date.parse(latest.at))}` : "";
  setText(byId("connection"), `${STATES[connection] ?? "Connecting"}${at}`);
  set(byId("connection"), "data-state", connection);
  document.body.classList.toggle("stale", Boolean(isStale));
  if (saidAt && Date.now() - saidAt > SAID_MS) say(""), saidAt = 0;
  const leftS = session.me.expires_at - Date.now() / 1000;
  if (leftS < ENDING_S && !isWarned) {
    isWarned = true;
    say("Your token ends in two minutes or less; you will be asked for a new one.");
  }
}

const feed = new Feed({ onOverview: take, onState });

function showSignIn(why) {
  feed.stop();
  if (byId("dialog").open) byId("dialog").close();
  connection = "off";
  setText(byId("connection"), "Signed out");
  set(byId("connection"), "data-state", "off");
  setText(byId("who"), "");
  for (const id of ["nav", "sign-out", ...VIEWS]) set(byId(id), "hidden", true);
  set(byId("sign-in"), "hidden", false);
  setText(byId("sign-in-why"), why);
  set(byId("sign-in-why"), "hidden", !why);
  byId("token").focus();
}

function showViews() {
  if (who && (who.subject !== session.me.subject || who.access !== session.me.access)) return location.reload();
  who = session.me;
  views ??= madeViews();
  isWarned = false;
  setText(byId("who"), `${who.subject}, ${who.access}`);
  set(byId("nav-record"), "hidden", !session.covers("admin"));
  for (const id of ["nav", "sign-out"]) set(byId(id), "hidden", false);
  set(byId("sign-in"), "hidden", true);
  if (location.hash === "#record" && !session.covers("admin")) location.hash = "now";
  enter();
  feed.start();
}

function madeViews() {
  const tools = { go, say, report, findOrder: (id) => views.orders.findOrder(id) };
  return {
    now: nowView({ go, say: sayNews }), orders: ordersView(tools), quarantine: quarantineView(tools), unknown: unknownView(tools),
    pools: poolsView(tools), shards: shardsView(), processes: processesView(), record: recordView(tools),
  };
}

async function signIn(token, isPasted) {
  try {
    session.begin(token, await ask("me", { token }));
  } catch (error) {
    showSignIn(error.message);
    if (!isPasted) setTimeout(() => session.token && !session.me && signIn(session.token), AGAIN_MS);
  }
}

byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("token").value.trim();
  byId("token").value = "";
  signIn(token, true);
});
byId("sign-out").addEventListener("click", () => session.end(""));
addEventListener("hashchange", () => session.me && enter());
session.addEventListener("begun", showViews);
session.addEventListener("ended", ({ detail: why }) => {
  if (!why) return location.reload(); // nothing of what was shown stays
  Object.values(views ?? {}).forEach((one) => one.forget?.());
  showSignIn(why);
});
setInterval(tick, TICK_MS);
if (session.token) signIn(session.token);
else showSignIn("");
