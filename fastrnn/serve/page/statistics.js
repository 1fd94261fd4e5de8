// What the server did lately: asked for every two seconds while the page is seen.

import { request } from "./api.js";
import { BarChart, LineChart } from "./charts.js";
import { element, find, short } from "./dom.js";

const EVERY = 2000, SPAN = 60000; // ms

/** Sizes that a count by powers of two is of: 1, 2, 3–4, 5–8, ... */
const range = size => size <= 2 ? `${size}` : `${size / 2 + 1}–${size}`;

export class Statistics {
  /** `told(error)` hears of each answer: null, or what went wrong. */
  constructor(told) {
    this.told = told;
    this.samples = [];
    this.model = null;
    this.timer = null;
    this.latency = new LineChart("Time to an answer", " ms", [
      { name: "p50", style: "first", read: ({ latency }) => latency.p50 },
      { name: "p99", style: "second", read: ({ latency }) => latency.p99 },
    ]);
    this.batches = new BarChart("Sessions in one step (up to)", "Sessions", "batches");
    find("charts").append(this.latency.node, this.batches.node);
    document.addEventListener("visibilitychange", () => this.schedule(0));
  }

  /** Show another model's. */
  of(model) {
    if (this.model === model.name) return;
    this.model = model.name;
    this.samples = [];
    find("statistics-title").textContent = `${model.name}, last minute`;
    this.schedule(0);
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
      const answer = await request("v2/fastrnn/stats");
      if (answer[this.model]) this.show(answer[this.model]);
      find("statistics").hidden = !answer[this.model];
    } catch (error) {
      failed = error;
    }
    this.told(failed);
    if (failed?.status !== 401) this.schedule(failed ? 2 * EVERY : EVERY);
  }

  show({ sessions, pending_steps: pending, latency, batches }) {
    const time = Date.now();
    this.samples.push({ time, latency });
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
    this.batches.node.hidden = !batches.sizes.length; // the model does not stream
    this.batches.update(batches.sizes.map((size, k) =>
      ({ name: range(size), label: `${size}`, value: batches.counts[k] })));
    const numbers = [["Sessions", sessions], ["Answers", latency.answers], ["Steps waiting", pending]];
    find("counts").replaceChildren(...numbers.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, short(value)))));
  }
}
