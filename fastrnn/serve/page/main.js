// The page: which model is shown, whether the server is there, and what went wrong.

import { hasToken, request, setToken } from "./api.js";
import { find, element } from "./dom.js";
import { examples } from "./examples.js";
import { Panel } from "./generate.js";
import { ModelList, facts } from "./models.js";
import { TryPanel, randomBody } from "./other.js";
import { Statistics } from "./statistics.js";

const EVERY = 5000; // ms between looks at the models

let reached = null; // whether the last request was answered
let timer = null;

/** Say what went wrong; null takes it away again. */
function problem(words, error = null) {
  find("alert").replaceChildren(...(words ? [element("p", { class: "alert" }, words)] : []));
  if (error?.status === 401) askToken(words);
}

function askToken(words) {
  const form = find("token-form");
  if (!form.hidden) return;
  setToken(null);
  statistics.stop();
  clearTimeout(timer);
  panel.leave();
  for (const id of ["columns", "alert"]) find(id).hidden = true;
  form.hidden = false;
  serverIs("waiting", words);
  find("token").focus();
}

function serverIs(state, words) {
  find("light").className = state;
  if (find("server-words").textContent !== words) find("server-words").textContent = words;
}

/** Hear of each regular request: null, or its error. */
function told(error) {
  if (error?.status === 401) return askToken(error.message);
  if (error) serverIs("away", `${error.message} Trying again.`);
  else if (reached !== true) serverIs("here", "Connected");
  reached = !error;
}

// --- models -----------------------------------------------------------------------------------

async function look() {
  clearTimeout(timer);
  let delay = EVERY;
  try {
    const { models } = await request("v2/fastrnn/models");
    list.update(models);
    find("columns").hidden = find("alert").hidden = false;
    told(null);
  } catch (error) {
    told(error);
    if (error.status === 401) return;
    delay = EVERY / 2;
  }
  timer = setTimeout(() => document.hidden || look(), delay);
}

async function open(model) {
  const text = model.kind === "text";
  document.title = `${model.name} – fastrnn`;
  problem(null);
  find("text-model").hidden = !text;
  find("other-model").hidden = true;
  find("program").hidden = !text;
  if (text) {
    find("text-title").textContent = model.name;
    find("text-facts").textContent = facts(model);
    panel.open(model);
    find("examples").replaceChildren(...examples(model, null, hasToken()));
    return;
  }
  panel.leave();
  find("other-title").textContent = model.name;
  find("other-facts").textContent = facts(model);
  try {
    const metadata = await request(`v2/models/${encodeURIComponent(model.name)}`);
    if (model.name !== list.current?.name) return; // another one has been chosen
    tryPanel.open(model, metadata);
    find("examples").replaceChildren(...examples(model, randomBody(metadata, model, 2), hasToken()));
    find("other-model").hidden = find("program").hidden = false;
  } catch (error) {
    problem(error.message, error);
  }
}

// --- start ------------------------------------------------------------------------------------

const panel = new Panel(problem);
const tryPanel = new TryPanel(problem);
const statistics = new Statistics(told);
const list = new ModelList(open, model => {
  find("text-facts").textContent = find("other-facts").textContent = facts(model);
  panel.changed(model);
});

function start() {
  reached = null;
  look();
  statistics.start();
}

find("token-form").addEventListener("submit", event => {
  event.preventDefault();
  setToken(find("token").value.trim());
  find("token").value = "";
  find("token-form").hidden = true;
  start();
});
document.addEventListener("visibilitychange", () => document.hidden || find("token-form").hidden && look());
addEventListener("pagehide", () => panel.leave());
start();
