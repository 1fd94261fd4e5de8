// Two small charts, drawn in SVG, each with its numbers as a table.

import { drawing, element, short, table } from "./dom.js";

const WIDTH = 300, HEIGHT = 160, LEFT = 38, RIGHT = 32, TOP = 12, BOTTOM = 26;
const INNER = WIDTH - LEFT - RIGHT, DEPTH = HEIGHT - TOP - BOTTOM;

/** The next number of 1, 2, 5, 10, 20, ... from `value` on. */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return power * [1, 2, 5, 10].find(factor => factor * power >= (value || 1) * 0.999999);
}

const text = (x, y, words, anchor, name = "tick") =>
  drawing("text", { x, y, "text-anchor": anchor, class: name }, words);

/** Values from `bottom` (0 or below) to `top`, as places and as an axis. */
function valueScale(values) {
  const top = round(Math.max(...values, 0));
  const bottom = Math.min(...values) < 0 ? -round(-Math.min(...values)) : 0;
  const place = value => TOP + DEPTH * (top - value) / (top - bottom);
  const marks = [bottom, bottom ? 0 : top / 2, top].map(value => {
    const y = place(value);
    return drawing("g", {},
      drawing("line", { x1: LEFT, x2: LEFT + INNER, y1: y, y2: y, class: value ? "grid" : "base" }),
      text(LEFT - 6, y + 4, value < 10000 ? short(value) : `${short(value / 1000)}k`, "end"));
  });
  return { place, axis: drawing("g", { "aria-hidden": "true" }, ...marks) };
}

/** A figure whose drawing and table are made anew by `update`; its frame stays, so focus does too. */
class Figure {
  constructor(title) {
    this.svg = drawing("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    this.numbers = element("div");
    this.node = element("figure", {},
      element("figcaption", {}, title), this.svg,
      element("details", {}, element("summary", {}, "As a table", element("span", { class: "hidden" }, `: ${title}`)), this.numbers));
  }

  draw(words, parts, numbers) {
    this.svg.setAttribute("aria-label", words);
    this.svg.replaceChildren(...parts);
    this.numbers.replaceChildren(numbers);
  }
}

/** Lines over time or steps: `lines` are {name, style, read(sample)}; null values are gaps. */
export class LineChart extends Figure {
  constructor(title, unit, lines) {
    super(unit ? `${title} (${unit.trim()})` : title);
    Object.assign(this, { title, unit, lines });
  }

  /**
   * `samples`: the latest last. `over`: {of(sample), from, to} places them from left to right,
   * {left, right} are the ends' names, and {heading, name(sample)} those of the table's rows.
   */
  update(samples, over) {
    const values = samples.flatMap(sample => this.lines.map(({ read }) => read(sample))).filter(value => value !== null);
    const { place, axis } = valueScale(values);
    const x = sample => LEFT + INNER * (over.of(sample) - over.from) / Math.max(over.to - over.from, 1);
    const parts = [axis, text(LEFT, HEIGHT - 8, over.left, "start"), text(LEFT + INNER, HEIGHT - 8, over.right, "end")];
    const ends = [];
    for (const { name, style, read } of this.lines) {
      const points = samples.filter(sample => read(sample) !== null).map(sample => [x(sample), place(read(sample))]);
      if (!points.length) continue;
      const path = points.map(([left, top], k) => `${k ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`).join("");
      parts.push(drawing("path", { d: path, class: `line ${style}` }));
      if (points.length === 1) parts.push(drawing("circle", { cx: points[0][0], cy: points[0][1], r: 2.5, class: `dot ${style}` }));
      ends.push({ name, style, at: points.at(-1)[1] });
    }
    parts.push(...this.names(ends));
    if (!values.length) parts.push(text(LEFT + INNER / 2, TOP + DEPTH / 2, "nothing yet", "middle"));
    this.draw(this.words(samples.at(-1), values.length), parts, this.table(samples, over));
  }

  /** Each line's name where it ends, moved apart where they would overlap. */
  names(ends) {
    let last = -Infinity;
    return ends.sort((a, b) => a.at - b.at).map(({ name, style, at }) => {
      last = Math.max(at, last + 13);
      return text(LEFT + INNER + 5, last + 4, name, "start", `name ${style}`);
    });
  }

  value(sample, { read }) {
    return read(sample) === null ? "–" : short(read(sample)) + this.unit;
  }

  words(latest, some) {
    if (!some) return `${this.title}: nothing yet`;
    return `${this.title}; at the end ${this.lines.map(line => `${line.name}: ${this.value(latest, line)}`).join(", ")}`;
  }

  table(samples, over) {
    const rows = samples.slice(-12).reverse().map(sample =>
      [over.name(sample), ...this.lines.map(line => this.value(sample, line))]);
    return table("The latest, newest first", [over.heading, ...this.lines.map(({ name }) => name)], rows);
  }
}

/** Bars: `bars` are {name, label, value}, the label being what there is room for below. */
export class BarChart extends Figure {
  constructor(title, heading, unit) {
    super(title);
    Object.assign(this, { title, heading, unit });
  }

  update(bars) {
    const values = bars.map(({ value }) => value);
    const { place, axis } = valueScale(values);
    const step = INNER / Math.max(bars.length, 1);
    const parts = [axis, ...bars.flatMap(({ label, value }, k) => [
      drawing("rect", {
        x: LEFT + step * (k + 0.15), width: step * 0.7, y: place(value), height: place(0) - place(value), class: "bar",
      }),
      text(LEFT + step * (k + 0.5), HEIGHT - 10, label, "middle"),
    ])];
    const total = values.reduce((sum, value) => sum + value, 0);
    if (!total) parts.push(text(LEFT + INNER / 2, TOP + DEPTH / 2, "nothing yet", "middle"));
    const most = bars[values.indexOf(Math.max(...values))];
    const words = total ? `${short(total)} ${this.unit}, most often of size ${most.name}` : "nothing yet";
    this.draw(`${this.title}: ${words}`, parts,
      table(this.title, [this.heading, this.unit], bars.map(({ name, value }) => [name, short(value)])));
  }
}
