// The server as the page sees it: requests with the token, and errors in plain words.

const KEY = "fastrnn-token";
let kept = null; // where the browser gives no storage, the token lives as long as the page

function read() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return kept;
  }
}

/** Keep the token for this tab; null forgets it. */
export function setToken(token) {
  kept = token;
  try {
    if (token === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, token);
  } catch { /* only kept in memory then */ }
}

export const hasToken = () => Boolean(read());

export class ServerError extends Error {
  /** `status`: of HTTP; 0 if there was no answer at all. */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The address of a path of the server, which may itself live below a folder. */
export const address = path => new URL(path, document.baseURI);

/** Ask the server; `body` makes it a POST of JSON. */
export async function request(path, body) {
  const headers = {};
  const token = read();
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response, text;
  try {
    response = await fetch(address(path), {
      method: body === undefined ? "GET" : "POST",
      body: body === undefined ? undefined : JSON.stringify(body),
      headers,
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(15000),
    });
    text = await response.text();
  } catch (error) {
    throw new ServerError(error.name === "TimeoutError"
      ? "The server took longer than 15 seconds." : "The server does not answer.", 0);
  }
  if (!response.ok) throw new ServerError(explain(response.status, text), response.status);
  try {
    return JSON.parse(text);
  } catch {
    throw new ServerError("The server's answer is not what this page expects.", response.status);
  }
}

function explain(status, text) {
  if (status === 401) return hasToken() ? "The server does not know this token." : "This server needs a token.";
  let said = "";
  try {
    const { error, detail } = JSON.parse(text);
    said = [error, detail].find(words => typeof words === "string") ?? "";
  } catch { /* no words from the server */ }
  const words = {
    403: "The server refused this.",
    404: "The server does not have this (any more).",
    413: "This is more than the server takes at once.",
    429: "Too many requests at the moment.",
    503: "The server is starting, stopping or busy.",
  }[status] ?? `The server answered with status ${status}.`;
  return said ? `${words} It says: ${said}` : words;
}

/** Open a WebSocket; the token travels in the list of subprotocols, as browsers allow nothing else. */
export function openSocket(path) {
  const url = address(path);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const protocols = ["fastrnn"];
  const token = read();
  if (token) {
    const bytes = String.fromCharCode(...new TextEncoder().encode(token));
    protocols.push("bearer." + btoa(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, ""));
  }
  return new WebSocket(url, protocols);
}
