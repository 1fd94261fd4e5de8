// The list of the cells that vary most or are most active, each with a strip of its activations.

import { drawStrip } from "./activations.js";
import { element } from "./dom.js";

const SHOWN = 12;
const SETTLED = 60; // characters after which the colours no longer change by themselves

export class CellList {
  /** `parts`: {list, order, any, shown} elements; `choose(unit)` is called for a new choice. */
  constructor(parts, activations, choose) {
    Object.assign(this, parts);
    this.activations = activations;
    this.choose = choose;
    this.unit = null; // the chosen one
    this.own = false; // whether a person chose it
    this.order.addEventListener("change", () => this.rank());
    this.list.addEventListener("change", event => this.pick(Number(event.target.value)));
    this.any.addEventListener("change", () => this.pickAny());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  clear() {
    this.list.replaceChildren();
    this.rows = [];
  }

  /** For a model of so many units; the choice is forgotten. */
  reset(units) {
    this.clear();
    this.unit = null;
    this.own = false;
    this.any.value = "";
    this.any.disabled = units === 0;
    this.any.max = Math.max(units - 1, 0);
  }

  pick(unit) {
    this.own = true;
    this.select(unit);
  }

  pickAny() {
    if (!this.any.value || !this.any.reportValidity()) return;
    this.pick(this.any.valueAsNumber);
    this.rank();
  }

  select(unit) {
    this.unit = unit;
    for (const row of this.rows) row.radio.checked = row.unit === unit;
    this.choose(unit);
  }

  /** Whether somebody is at the list: then nothing may move away from under them. */
  get busy() {
    return this.list.matches(":focus-within, :hover");
  }

  /** Order the list anew. Where nobody has chosen, the first of a text's beginning colours it. */
  rank() {
    const best = this.activations.length ? this.activations.best(this.order.value, SHOWN) : [];
    if (!best.length) return;
    const settled = this.own || (this.unit !== null && this.activations.length > SETTLED);
    const first = settled ? this.unit : best[0].unit;
    if (!best.some(({ unit }) => unit === first)) {
      const score = this.activations.scores(this.order.value)[first];
      best.splice(-1, 1, { unit: first, score });
    }
    if (best.length !== this.rows.length) this.build(best.length);
    best.forEach(({ unit, score }, k) => {
      const row = this.rows[k];
      row.unit = unit;
      row.radio.value = unit;
      row.name.textContent = `Cell ${unit}`;
      row.score.textContent = score.toFixed(2);
      row.radio.checked = unit === first;
    });
    if (first !== this.unit) this.select(first);
    this.draw();
  }

  build(count) {
    this.clear();
    for (let k = 0; k < count; k++) {
      const radio = element("input", { type: "radio", name: "cell", id: `cell-${k}` });
      const name = element("span", { class: "name" });
      const strip = element("canvas", { width: 360, height: 28, "aria-hidden": "true" });
      const score = element("span", { class: "score" });
      const label = element("label", { for: radio.id }, name, strip, score);
      this.list.append(element("li", {}, radio, label));
      this.rows.push({ radio, name, strip, score });
    }
  }

  draw() {
    const style = getComputedStyle(this.list);
    const colours = {
      positive: style.getPropertyValue("--positive-solid"),
      negative: style.getPropertyValue("--negative-solid"),
    };
    for (const row of this.rows) drawStrip(row.strip, this.activations, row.unit, colours);
  }
}
