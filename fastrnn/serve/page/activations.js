// What the cells held after each character: kept, ranked, and turned into colours.

export const LEVELS = 10; // steps of colour on either side of zero
const MINUS = "\u2212";

export const level = value => Math.round(value / 127 * LEVELS);

/** The number that a level or a byte stands for, as it is read: +0.53. */
export function inWords(value) {
  const number = value / 127;
  const sign = number > 0 ? "+" : number < 0 ? MINUS : "";
  return sign + Math.abs(number).toFixed(2);
}

function decode(base64) {
  return Int8Array.from(atob(base64), character => character.charCodeAt(0) << 24 >> 24);
}

/** Rows of `units` bytes, -127 to 127; at most `most` of them: the oldest go first. */
export class Activations {
  constructor(most) {
    this.most = most;
    this.clear(0);
  }

  clear(units) {
    this.units = units;
    this.rows = [];
    this.sum = new Float64Array(units);
    this.squares = new Float64Array(units);
    this.sizes = new Float64Array(units);
  }

  get length() {
    return this.rows.length;
  }

  /** Add a row; returns whether the oldest had to go. */
  push(base64) {
    const row = decode(base64);
    if (row.length !== this.units) this.clear(row.length);
    this.rows.push(row);
    this.count(row, 1);
    if (this.rows.length <= this.most) return false;
    this.count(this.rows.shift(), -1);
    return true;
  }

  count(row, sign) {
    for (let unit = 0; unit < this.units; unit++) {
      const value = row[unit];
      this.sum[unit] += sign * value;
      this.squares[unit] += sign * value * value;
      this.sizes[unit] += sign * Math.abs(value);
    }
  }

  /** The standard deviation, or the mean size, of each unit's activations, between 0 and 1. */
  scores(order) {
    const n = Math.max(this.length, 1);
    return Array.from({ length: this.units }, (_, unit) => order === "active"
      ? this.sizes[unit] / n / 127
      : Math.sqrt(Math.max(this.squares[unit] / n - (this.sum[unit] / n) ** 2, 0)) / 127);
  }

  /** The `count` units with the highest scores: [{unit, score}]. */
  best(order, count) {
    return this.scores(order)
      .map((score, unit) => ({ unit, score }))
      .sort((a, b) => b.score - a.score || a.unit - b.unit)
      .slice(0, count);
  }
}

/** Draw a unit's latest activations: bars up from the middle above zero, down below. */
export function drawStrip(canvas, activations, unit, colours) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const bar = 3, count = Math.floor(width / bar), middle = height / 2;
  const start = Math.max(activations.length - count, 0);
  for (let k = start; k < activations.length; k++) {
    const value = activations.rows[k][unit] / 127;
    context.fillStyle = value > 0 ? colours.positive : colours.negative;
    const size = Math.max(Math.abs(value) * middle, 0.5);
    context.fillRect((k - start) * bar, value > 0 ? middle - size : middle, bar, size);
  }
}
