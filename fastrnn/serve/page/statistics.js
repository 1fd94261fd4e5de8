// What the server did lately: asked for every two seconds while the page is seen.

import { request } from "./api.js";
import { BarChart, LineChart } from "./charts.js";
import { element, find, short } from "./dom.js";

const EVERY = 2000, SPAN = 60000; // ms

/** Sizes that a count by powers of two is of: 1, 2, 3–4, 5–8, ... */
const range = size => size <= 2 ? `${size}` : `${size / 2 + 1}–${size}`;
const KINDS = { infer: "Requests", stream: "Stream messages", generate: "Characters" };

export class Statistics {
  /** `told(error)` hears of each answer: null, or what went wrong. */
  constructor(told) {
    this.told = told;
    this.samples = [];
    this.timer = null;
    this.latency = new LineChart("Time to an answer", " ms", [
      { name: "p50", style: "first", read: ({ most }) => most?.p50_ms ?? null },
      { name: "p99", style: "second", read: ({ most }) => most?.p99_ms ?? null },
    ]);
    this.batches = new BarChart("Sessions in one step (up to)", "Sessions", "batches");
    find("charts").append(this.latency.node, this.batches.node);
    document.addEventListener("visibilitychange", () => this.schedule(0));
  }

  start() {
    this.schedule(0);
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
  }

  schedule(delay) {
    this.stop();
    if (!document.hidden) this.timer = setTimeout(() => this.ask(), delay);
  }

  async ask() {
    let failed = null;
    try {
      this.show(await request("v2/fastrnn/stats"));
      find("statistics").hidden = false;
    } catch (error) {
      failed = error;
    }
    this.told(failed);
    if (failed?.status !== 401) this.schedule(failed ? 2 * EVERY : EVERY);
  }

  show(answer) {
    const time = Date.now();
    const asked = answer.latency.filter(({ count }) => count).sort((a, b) => b.count - a.count);
    this.samples.push({ time, most: asked[0] }); // the times are those of what is asked for most
    this.samples = this.samples.filter(sample => time - sample.time <= SPAN);
    this.latency.update(this.samples, {
      of: sample => sample.time,
      from: time - SPAN,
      to: time,
      left: `${SPAN / 1000} s ago`,
      right: "now",
      heading: "When",
      name: sample => `${Math.round((time - sample.time) / 1000)} s ago`,
    });
    this.batches.update(answer.batch_sizes.map((value, k) => ({ name: range(2 ** k), label: `${2 ** k}`, value })));
    const numbers = [["Sessions", answer.sessions], ["Steps a second", answer.steps_per_s], ["Steps waiting", answer.pending_steps]];
    for (const { what, count } of asked) numbers.push([KINDS[what] ?? what, count]);
    find("counts").replaceChildren(...numbers.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, short(value)))));
  }
}
