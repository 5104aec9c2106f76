// The overview as it goes on. A page that is looked at reads the stream; a hidden one asks twice a minute.
import { ask, Problem, send } from "./api.js";
import { session } from "./session.js";

const HIDDEN_MS = 30_000;
const SILENT_MS = 10_000; // an overview comes every second
const CROWDED_MS = 5_000;
const BACKOFF_MS_MAX = 30_000;
const HIDDEN = "hidden";
const EVENT_CHARS_MAX = 8_000_000;

export class Feed {
  #stopping = null;
  #wake = () => {};
  #failures = 0;

  // onState: told "live", "polled", "hidden" or "away", and why it is away.
  constructor({ onOverview, onState }) {
    this.onOverview = onOverview;
    this.onState = onState;
    document.addEventListener("visibilitychange", () => this.#wake());
  }

  start() {
    this.stop();
    this.#stopping = new AbortController();
    this.#failures = 0;
    this.#run(this.#stopping.signal);
  }

  stop() {
    this.#stopping?.abort();
  }

  async #run(stopped) {
    while (!stopped.aborted) {
      try {
        await (document.hidden ? this.#look("hidden", HIDDEN_MS, stopped) : this.#follow(stopped));
      } catch (error) {
        if (stopped.aborted || error.status === 401) return;
        await this.#retreat(error, stopped);
      }
    }
  }

  async #retreat(error, stopped) {
    this.#failures += 1;
    const most = Math.min(BACKOFF_MS_MAX, 1_000 * 2 ** (this.#failures - 1));
    const delay = Math.max((error.retryAfterS ?? 0) * 1_000, most * (0.5 + Math.random() / 2));
    this.onState("away", error.message);
    await this.#pause(delay, stopped);
  }

  async #look(state, delay, stopped) {
    this.#take(await ask("overview", { signal: stopped }), state);
    if (state !== "hidden" || document.hidden) await this.#pause(delay, stopped);
  }

  async #follow(stopped) {
    try {
      await this.#stream(stopped);
    } catch (error) {
      if (error.status !== 429) throw error;
      await this.#look("polled", CROWDED_MS, stopped); // too many pages of one subject follow already
    }
  }

  #take(overview, state) {
    this.#failures = 0;
    this.onState(state);
    this.onOverview(overview);
  }

  async #stream(stopped) {
    const ending = new AbortController();
    const signal = AbortSignal.any([stopped, ending.signal]);
    let timer;
    const stillThere = () => {
      clearTimeout(timer);
      timer = setTimeout(() => ending.abort(new Problem(0, "the stream is silent")), SILENT_MS);
    };
    this.#wake = () => document.hidden && ending.abort(HIDDEN);
    try {
      stillThere();
      const { body } = await send("overview/stream", { signal });
      for await (const { event, data } of eventsOf(body)) {
        stillThere();
        if (event === "overview") this.#take(data, "live");
        if (event === "end") return ended(data.reason);
      }
      throw new Problem(0, "the stream broke off");
    } catch (error) {
      if (!ending.signal.aborted) throw error instanceof Problem ? error : new Problem(0, "the stream broke off");
      if (ending.signal.reason !== HIDDEN) throw ending.signal.reason;
    } finally {
      clearTimeout(timer);
      ending.abort();
      this.#wake = () => {};
    }
  }

  #pause(delay, stopped) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#wake = () => {};
        stopped.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, delay);
      this.#wake = () => document.hidden || done();
      stopped.addEventListener("abort", done);
    });
  }
}

function ended(reason) {
  if (reason === "token") session.end("the token has ended");
  else if (reason !== "time") throw new Problem(0, reason === "stopping" ? "the server stops" : "the server is busy");
}

// Events of a stream as they come, with their data read; longer ones than fit are an error.
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      held += part.value;
      if (held.length > EVENT_CHARS_MAX) throw new Problem(0, "an event of the stream is too large");
      const whole = held.split("\n\n");
      held = whole.pop();
      yield* whole.map(eventOf).filter((one) => one.event);
    }
  } finally {
    reader.cancel().catch(() => {}); // it may be cut off already
  }
}

function eventOf(text) {
  const fields = Object.fromEntries(text.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
  return { event: fields.event, data: fields.data ? JSON.parse(fields.data) : null };
}
