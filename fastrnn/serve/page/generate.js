// The panel of a character model: from the form to the coloured text.

import { Activations } from "./activations.js";
import { CellList } from "./cells.js";
import { copy, find, short } from "./dom.js";
import { TextView, scale } from "./text.js";
import { Writer } from "./writer.js";

const MOST = 10000; // characters shown, with their activations
const RANKED_EVERY = 700; // ms, while text comes

export class Panel {
  /** `problem(words, error)` shows an error, or removes it: null. */
  constructor(problem) {
    this.problem = problem;
    this.activations = new Activations(MOST);
    this.view = new TextView(find("text"), find("note"), this.activations);
    this.cells = new CellList(
      { list: find("cell-list"), order: find("order"), any: find("any-cell") }, this.activations,
      unit => this.show(unit));
    this.writer = null;
    this.running = false;
    this.waiting = []; // tokens that came since the last frame
    this.listen();
  }

  listen() {
    find("scale").append(...scale());
    find("temperature").addEventListener("input", () => this.tellTemperature());
    find("generate").addEventListener("submit", event => {
      event.preventDefault();
      this.start(true);
    });
    find("continue").addEventListener("click", () => {
      if (this.valid()) this.start(false);
    });
    find("stop").addEventListener("click", () => this.stop());
    find("clear").addEventListener("click", () => {
      this.clear("");
      find("prompt").focus();
    });
    find("copy").addEventListener("click", event => copy(event.target, this.view.plain));
    find("plain").addEventListener("toggle", () => this.tellPlain());
    find("text-model").addEventListener("keydown", event => {
      if (event.key === "Escape" && this.running) this.stop();
      if (event.key === "Enter" && event.ctrlKey && !this.running) find("generate").requestSubmit();
    });
    this.tellTemperature();
  }

  /** Show another model. */
  open(model) {
    this.leave();
    this.model = model;
    this.writer = new Writer(model.name, {
      ready: message => this.ready(message),
      token: message => this.token(message),
      done: message => this.done(message),
      refused: words => this.refused(words),
      lost: (words, error) => this.lost(words, error),
    });
    this.cells.reset(0);
    this.clear("");
  }

  /** There is a new version: it writes the next text; this one is finished by the old. */
  changed(model) {
    this.model = model;
  }

  /** Stop, and give the session back. */
  leave() {
    this.writer?.close();
    this.writer = null;
    this.setRunning(false);
  }

  // --- asking ----------------------------------------------------------------------------------

  valid() {
    const form = find("generate");
    if (form.checkValidity()) return true;
    if (find("more").querySelector(":invalid")) find("more").open = true; // else nobody sees why
    return form.reportValidity();
  }

  options(fresh) {
    const number = id => find(id).value === "" ? null : Number(find(id).value);
    return {
      prompt: fresh ? find("prompt").value : null,
      temperature: number("temperature"),
      top_k: number("top-k"),
      top_p: number("top-p"),
      max_tokens: number("length"),
      seed: fresh ? number("seed") : null,
      rate: number("pace"),
      activations: true,
    };
  }

  start(fresh) {
    if (this.running || !this.writer || !this.valid()) return;
    this.problem(null);
    find("prompt").removeAttribute("aria-invalid");
    if (fresh && this.version !== this.model.version) this.writer.close();
    if (fresh) this.clear(find("prompt").value);
    this.setRunning(true);
    this.progress("Generating");
    this.writer.generate(this.options(fresh), fresh);
    if (matchMedia("(max-width: 50rem)").matches) find("results").scrollIntoView({ block: "start" });
  }

  stop() {
    if (!this.running) return;
    this.writer.stop();
    if (!this.writer.connected) this.end("Stopped before it began.");
  }

  // --- answers ---------------------------------------------------------------------------------

  ready({ units, version }) {
    this.version = version;
    if (units !== this.activations.units) this.activations.clear(units);
    this.cells.any.disabled = units === 0;
    this.cells.any.max = units - 1;
  }

  token(message) {
    if (!this.waiting.length) requestAnimationFrame(() => this.flush());
    this.waiting.push(message);
    if (this.waiting.length >= 1000) this.flush(); // a hidden tab gets no frames
  }

  flush() {
    if (!this.waiting.length) return;
    const tokens = this.waiting;
    this.waiting = [];
    let dropped = 0;
    for (const { h } of tokens) dropped += this.activations.push(h);
    this.view.append(tokens.map(({ text }) => text), dropped);
    const now = performance.now();
    if (!(now - this.ranked < RANKED_EVERY) && !this.cells.busy) {
      this.ranked = now;
      this.cells.rank();
    } else {
      this.cells.draw();
    }
  }

  done({ reason, tokens, seed }) {
    const words = { length: "Done", stopped: "Stopped", draining: "The server is being stopped" }[reason] ?? reason;
    const again = seed === null || seed === undefined ? "" : `, seed ${seed}`;
    this.end(`${words}: ${short(tokens)} character${tokens === 1 ? "" : "s"}${again}`);
  }

  /** The server says what is wrong with the request: "prompt: ...". */
  refused(words) {
    this.end("Nothing generated.", words);
    const [field] = words.split(":");
    if (field !== "prompt") return;
    this.clear("");
    find("prompt").setAttribute("aria-invalid", true);
    find("prompt").focus();
  }

  lost(words, error) {
    const count = this.view.text.length + this.waiting.length;
    if (this.running) this.end(count ? "Cut off." : "", words, error);
    find("continue").disabled = true; // the state is gone with the connection
  }

  end(progress, words = null, error = null) {
    this.flush();
    this.cells.rank();
    this.setRunning(false);
    this.progress(progress);
    if (words) this.problem(words, error);
    this.tellPlain();
  }

  // --- showing ---------------------------------------------------------------------------------

  clear(prompt) {
    this.waiting = [];
    this.ranked = 0;
    this.activations.clear(this.activations.units);
    const { unit } = this.cells;
    this.cells.clear();
    this.view.clear(prompt);
    if (unit !== null) this.view.unit = unit;
    this.progress("");
    this.tellPlain();
    this.setRunning(this.running);
  }

  show(unit) {
    this.view.choose(unit);
    find("shown-cell").textContent = `Cell ${unit}`;
  }

  setRunning(running) {
    const hadFocus = document.activeElement;
    this.running = running;
    const some = this.view.text.length > 0;
    find("start").disabled = running;
    find("stop").disabled = !running;
    find("continue").disabled = running || !some || !this.writer?.connected;
    find("copy").disabled = find("clear").disabled = running || !some;
    find("text").setAttribute("aria-busy", running);
    find("text-model").classList.toggle("running", running);
    // A disabled button loses the focus: the one that takes its place gets it.
    if (running && [find("start"), find("continue")].includes(hadFocus)) find("stop").focus();
    if (!running && hadFocus === find("stop")) find("start").focus();
  }

  progress(words) {
    find("progress").textContent = words;
  }

  tellTemperature() {
    find("temperature-value").textContent = Number(find("temperature").value).toFixed(2);
  }

  tellPlain() {
    find("plain").hidden = !this.view.plain;
    find("plain-text").textContent = find("plain").open ? this.view.plain : "";
  }
}
