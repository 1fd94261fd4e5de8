// How to call a model from a program, to be copied.

import { address } from "./api.js";
import { copy, element } from "./dom.js";

const python = value => JSON.stringify(value).replace(/\btrue\b/g, "True").replace(/\bnull\b/g, "None");

function infer(model, body) {
  const url = address(`v2/models/${model.name}/infer`).href;
  return [["curl", `curl ${url} \\
  -H "Content-Type: application/json"TOKEN_CURL \\
  -d '${JSON.stringify(body)}'`],
  ["Python", `import json
import urllib.request

request = urllib.request.Request(
    "${url}",
    json.dumps(${python(body)}).encode(),
    {"Content-Type": "application/json"TOKEN_PYTHON},
)
with urllib.request.urlopen(request) as answer:
    print(json.load(answer)["outputs"])`]];
}

function generate(model) {
  const url = address(`v2/models/${model.name}/generate`).href.replace(/^http/, "ws");
  return [["Python", `# pip install websockets
import json
from websockets.sync.client import connect

with connect("${url}"TOKEN_HEADERS) as stream:
    stream.recv()  # {"type": "ready", ...}
    stream.send(json.dumps(
        {"type": "generate", "prompt": "The ", "temperature": 0.7, "max_tokens": 200}
    ))
    for message in map(json.loads, stream):
        if message["type"] != "token":
            break
        print(message["text"], end="", flush=True)`]];
}

function withToken(code, token) {
  const added = token ? {
    TOKEN_CURL: ` \\\n  -H "Authorization: Bearer $FASTRNN_TOKEN"`,
    TOKEN_PYTHON: `, "Authorization": "Bearer " + os.environ["FASTRNN_TOKEN"]`,
    TOKEN_HEADERS: `, additional_headers={"Authorization": "Bearer " + os.environ["FASTRNN_TOKEN"]}`,
  } : { TOKEN_CURL: "", TOKEN_PYTHON: "", TOKEN_HEADERS: "" };
  const filled = code.replace(/TOKEN_(CURL|PYTHON|HEADERS)/g, name => added[name]);
  return token ? filled.replace("import json\n", "import json\nimport os\n") : filled;
}

/** Elements with the examples; `token`: whether the server wants one. The token itself never shows. */
export function examples(model, body, token) {
  const all = model.kind === "text" ? generate(model) : infer(model, body);
  return all.map(([language, code]) => {
    const filled = withToken(code, token);
    const button = element("button", { type: "button", "aria-label": `Copy the ${language} example` }, "Copy");
    button.addEventListener("click", () => copy(button, filled));
    return element("figure", { class: "code" },
      element("figcaption", {}, language, button),
      element("pre", { tabindex: "0", role: "region", "aria-label": `${language} example` }, element("code", {}, filled)));
  });
}
