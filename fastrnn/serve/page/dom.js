// Small helpers to make elements; text always goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const find = id => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const element = (name, attributes = {}, ...children) =>
  fill(document.createElement(name), attributes, children);

export const drawing = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

/** A table of plain cells, its first row and column being headings. */
export function table(caption, headings, rows) {
  return element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...headings.map(text => element("th", { scope: "col" }, text)))),
    element("tbody", {}, ...rows.map(([first, ...others]) => element("tr", {},
      element("th", { scope: "row" }, first), ...others.map(text => element("td", {}, text))))));
}

/** Copy a text and say so on the button for a moment. */
export async function copy(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => { button.textContent = label; }, 1500);
}

/** A number in few digits: 1234567 -> 1,234,567; 0.012345 -> 0.0123. */
export function short(number) {
  if (!Number.isFinite(number)) return "–";
  if (number !== 0 && Math.abs(number) < 1) return String(Number(number.toPrecision(3)));
  return number.toLocaleString("en", { maximumFractionDigits: Math.abs(number) < 100 ? 1 : 0 });
}
