// The last figures of one thing, as many as fit: a page that is open for a day holds no more than after an hour.
export const WINDOW_MS = 600_000;
const POINTS = 640;

export class History {
  #times = new Float64Array(POINTS);
  #values = new Float64Array(POINTS);
  #next = 0;
  #count = 0;

  get size() {
    return this.#count;
  }

  push(timeMs, value) {
    const last = (this.#next + POINTS - 1) % POINTS;
    if (this.#count && timeMs <= this.#times[last]) return; // the same figures again, or a server's clock set back
    this.#times[this.#next] = timeMs;
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) % POINTS;
    this.#count = Math.min(POINTS, this.#count + 1);
  }

  // Points [time, value] of the window that ends with the last one, the oldest first.
  points() {
    const found = [];
    for (let at = 0; at < this.#count; at += 1) {
      const place = (this.#next - this.#count + at + POINTS) % POINTS;
      found.push([this.#times[place], this.#values[place]]);
    }
    const end = found.at(-1)?.[0] ?? 0;
    return found.filter(([time]) => time >= end - WINDOW_MS);
  }
}
