// The panel of a model that does not write text: random input through the Open Inference Protocol.

import { request } from "./api.js";
import { LineChart } from "./charts.js";
import { element, find, short } from "./dom.js";

const SHOWN = 6; // values of a step, and lines of the chart
const STYLES = ["first", "second", "third", "fourth", "fifth", "sixth"];

/** Random numbers or tokens that fit an input of the model's metadata. */
function randomInput({ name, datatype, shape }, model, steps) {
  // -1 may be anything: the batch is one sequence, the next axis is time.
  const sizes = shape.map((size, axis) => size >= 0 ? size : axis === 1 ? steps : 1);
  const count = sizes.reduce((product, size) => product * size, 1);
  const real = datatype.startsWith("FP");
  const draw = () => real ? Number((Math.random() * 2 - 1).toFixed(3)) : Math.floor(Math.random() * model.input_size);
  return { name, datatype, shape: sizes, data: Array.from({ length: count }, draw) };
}

/** The body of a request for `steps` random steps. */
export function randomBody(metadata, model, steps) {
  return { inputs: [randomInput(metadata.inputs[0], model, steps)] };
}

export class TryPanel {
  constructor(problem) {
    this.problem = problem;
    find("try").addEventListener("click", () => this.run());
    find("steps").addEventListener("keydown", event => {
      if (event.key === "Enter") this.run();
    });
  }

  open(model, metadata) {
    this.model = model;
    this.metadata = metadata;
    const { name, datatype, shape } = metadata.inputs[0];
    const what = datatype.startsWith("FP") ? "Random numbers from \u22121 to 1" : `Random tokens from 0 to ${model.input_size - 1}`;
    find("try-words").textContent = `${what} for the input \u201c${name}\u201d, ${datatype} ${JSON.stringify(shape)} (\u22121: any number).`;
    find("try-result").textContent = "";
    find("try-figure").replaceChildren();
  }

  async run() {
    if (!find("steps").reportValidity() || find("try").disabled) return;
    const { model } = this;
    this.problem(null);
    find("try").disabled = true;
    try {
      const body = randomBody(this.metadata, model, find("steps").valueAsNumber);
      const began = performance.now();
      const answer = await request(`v2/models/${encodeURIComponent(model.name)}/infer`, body);
      if (model === this.model) this.show(answer, performance.now() - began);
    } catch (error) {
      this.problem(error.message, error);
    }
    find("try").disabled = false;
    find("try").focus();
  }

  show(answer, milliseconds) {
    const { name, shape, data } = answer.outputs[0];
    find("try-result").textContent = `\u201c${name}\u201d of shape ${JSON.stringify(shape)} after ${short(milliseconds)} ms.`;
    const width = shape.at(-1) ?? 1;
    const lines = Math.min(width, SHOWN);
    const rows = Array.from({ length: Math.floor(data.length / width) }, (_, step) =>
      ({ step, row: data.slice(step * width, step * width + lines) }));
    const chart = new LineChart("Output", "", Array.from({ length: lines }, (_, k) =>
      ({ name: `${k}`, style: STYLES[k], read: ({ row }) => row[k] })));
    chart.update(rows, {
      of: ({ step }) => step,
      from: 0,
      to: rows.length - 1,
      left: "step 0",
      right: `step ${rows.length - 1}`,
      heading: "Step",
      name: ({ step }) => `${step}`,
    });
    find("try-figure").replaceChildren(chart.node);
    if (width > lines) find("try-figure").append(element("p", { class: "quiet" }, `The first ${lines} of ${width} values of each step.`));
  }
}
