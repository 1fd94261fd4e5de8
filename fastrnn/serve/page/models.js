// The list of models; the address' fragment says which one is shown.

import { element, find, short } from "./dom.js";

const KINDS = { text: "writes text", tokens: "takes tokens", float32: "takes numbers" };

/** What a model is, in a line: its kind and sizes. */
export function facts(model) {
  const sizes = model.kind === "text" ? `${short(model.characters)} characters`
    : `${short(model.input_size)} in, ${short(model.output_size)} out`;
  return `${model.layers}; ${sizes}, ${short(model.parameters)} parameters`;
}

const sessions = model => model.streams
  ? `${short(model.sessions)} session${model.sessions === 1 ? "" : "s"}` : "whole sequences only";

export class ModelList {
  /** `open(model)` is called for the model to show, `changed(model)` for a new version of it. */
  constructor(open, changed) {
    Object.assign(this, { open, changed });
    this.models = [];
    this.current = null;
    addEventListener("hashchange", () => this.follow());
  }

  update(models) {
    const names = models.map(({ name }) => name).join("\n");
    const changed = names !== this.models.map(({ name }) => name).join("\n");
    this.models = models;
    if (changed) this.build();
    models.forEach((model, k) => {
      const [kind, more, count] = this.items[k].words;
      kind.textContent = KINDS[model.kind] ?? model.kind;
      more.textContent = facts(model);
      count.textContent = sessions(model);
    });
    find("models").hidden = !models.length;
    this.follow();
  }

  build() {
    this.items = this.models.map(({ name }) => {
      const words = ["kind", "quiet facts", "quiet"].map(style => element("span", { class: style }));
      const link = element("a", { href: `#model=${encodeURIComponent(name)}` }, element("strong", {}, name), ...words);
      return { link, words };
    });
    find("model-list").replaceChildren(...this.items.map(({ link }) => element("li", {}, link)));
  }

  /** Show the model that the address names; without one, the first that writes text. */
  follow() {
    const named = new URLSearchParams(location.hash.slice(1)).get("model");
    const wanted = named ?? this.current?.name; // the skip link's fragment names none
    const model = this.models.find(({ name }) => name === wanted)
      ?? this.models.find(({ kind }) => kind === "text") ?? this.models[0];
    this.models.forEach(({ name }, k) => {
      if (name === model?.name) this.items[k].link.setAttribute("aria-current", "page");
      else this.items[k].link.removeAttribute("aria-current");
    });
    const before = this.current;
    this.current = model ?? null;
    if (!model) return;
    if (before?.name !== model.name || before.kind !== model.kind) this.open(model);
    else if (before.version !== model.version) this.changed(model);
  }
}
