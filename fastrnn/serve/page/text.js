// The generated text, one element for each character, coloured by the activations of a cell.

import { LEVELS, inWords, level } from "./activations.js";
import { element } from "./dom.js";

const NAMES = { "\n": "line end", " ": "space", "\t": "tab" };
const MOVES = { ArrowRight: 1, ArrowLeft: -1, PageDown: 50, PageUp: -50, Home: -Infinity, End: Infinity };
const START = "Point at a character, or use the arrow keys in the text, for what the cell holds after it.";

/** Control characters have no shape: their pictures stand for them. */
function visible(character) {
  const code = character.codePointAt(0);
  if (code < 32 && character !== "\n" && character !== "\t") return String.fromCharCode(0x2400 + code);
  return code >= 0x7f && code < 0xa0 ? "\ufffd" : character;
}

const colour = value => {
  const step = level(value);
  return step === 0 ? "" : (step > 0 ? "p" : "n") + Math.min(Math.abs(step), LEVELS);
};

/** The legend: a box for each colour. */
export function scale() {
  return Array.from({ length: 2 * LEVELS + 1 }, (_, k) =>
    element("span", { class: colour((k - LEVELS) / LEVELS * 127) }));
}

export class TextView {
  /** `box` shows the text, `note` tells of a character; `activations` has a row for each. */
  constructor(box, note, activations) {
    this.box = box;
    this.note = note;
    this.activations = activations;
    this.clear("");
    box.addEventListener("keydown", event => this.move(event));
    box.addEventListener("pointerover", event => this.point(event));
    box.addEventListener("pointerdown", event => this.point(event));
  }

  clear(prompt) {
    this.unit = null;
    this.place = -1;
    this.text = []; // the generated characters
    this.spans = [];
    this.prompt = prompt;
    this.box.replaceChildren();
    if (this.note.textContent !== START) this.note.textContent = START;
    if (prompt) this.box.append(element("b", { title: "the prompt" }, prompt));
  }

  /** The text as it is, with its prompt. */
  get plain() {
    return this.prompt + this.text.join("");
  }

  /** Append characters, whose activations are kept already; the oldest leave with theirs. */
  append(characters, dropped) {
    const following = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40;
    const spans = characters.map(character => element("span", {}, visible(character)));
    this.text.push(...characters);
    this.spans.push(...spans);
    if (dropped) this.drop(dropped);
    this.paint(Math.max(this.spans.length - spans.length, 0));
    this.box.append(...spans.slice(-this.spans.length));
    if (following) this.box.scrollTop = this.box.scrollHeight;
  }

  drop(count) {
    this.box.querySelector("b")?.remove();
    this.prompt = "";
    this.text.splice(0, count);
    for (const span of this.spans.splice(0, count)) span.remove();
    this.place = Math.max(this.place - count, -1);
  }

  /** Colour by another cell. */
  choose(unit) {
    this.unit = unit;
    this.paint(0);
    if (this.place >= 0) this.tell(this.place);
  }

  paint(from) {
    const { rows } = this.activations;
    for (let k = from; k < this.spans.length; k++) {
      const span = this.spans[k], row = rows[k];
      const classes = [row && this.unit !== null ? colour(row[this.unit]) : "",
        this.text[k] === "\n" ? "end" : "", k === this.place ? "here" : ""];
      span.className = classes.filter(Boolean).join(" ");
    }
  }

  tell(place) {
    this.spans[this.place]?.classList.remove("here");
    this.place = place;
    this.spans[place].classList.add("here");
    const character = this.text[place], row = this.activations.rows[place];
    const name = NAMES[character] ?? `\u201c${visible(character)}\u201d`;
    const value = row && this.unit !== null ? `: cell ${this.unit} holds ${inWords(row[this.unit])}` : "";
    this.note.textContent = `Character ${place + 1} of ${this.spans.length}, ${name}${value}`;
  }

  move(event) {
    if (!(event.key in MOVES) || event.ctrlKey || event.altKey || event.metaKey || !this.spans.length) return;
    event.preventDefault();
    this.tell(Math.min(Math.max(this.place + MOVES[event.key], 0), this.spans.length - 1));
    this.spans[this.place].scrollIntoView({ block: "nearest" });
  }

  point(event) {
    if (event.target.parentNode === this.box && event.target.tagName === "SPAN") {
      this.tell(this.spans.indexOf(event.target));
    }
  }
}
