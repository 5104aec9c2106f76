// Requests to the API. Every one ends: with an answer, a problem, or its time-out.
import { session } from "./session.js";

const TIMEOUT_MS = 15_000;

export class Problem extends Error {
  constructor(status, detail, retryAfterS) {
    super(detail);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

export async function ask(path, { method = "GET", data, signal, token = session.token } = {}) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const init = { method, signal: signal ? AbortSignal.any([signal, timeout]) : timeout };
  if (data !== undefined) init.body = JSON.stringify(data);
  const answer = await send(path, init, token);
  return answer.json().catch((error) => fail(error, "the answer cannot be read"));
}

// What ends a request is our own word, and the time; everything else is told in words of ours.
function fail(error, what) {
  if (error.name === "AbortError") throw error;
  throw new Problem(0, error.name === "TimeoutError" ? "no answer in time" : what);
}

// Return an answer that is good; throw a Problem for every other. The body is read by whoever asked.
export async function send(path, init, token = session.token) {
  const headers = { authorization: `Bearer ${token}`, ...(init.body ? { "content-type": "application/json" } : {}) };
  const url = new URL(`v1/${path}`, document.baseURI);
  const options = { headers, cache: "no-store", credentials: "omit", redirect: "error", ...init };
  const answer = await fetch(url, options).catch((error) => fail(error, "the server cannot be reached"));
  if (!answer.ok) throw await problemOf(answer, token);
  return answer;
}

async function problemOf(answer, token) {
  const told = await answer.json().catch(() => ({}));
  const detail = told.detail || told.title || `status ${answer.status}`;
  if (answer.status === 401 && token === session.token) session.end(detail);
  return new Problem(answer.status, detail, Number(answer.headers.get("retry-after")) || null);
}

export const inPath = encodeURIComponent;
