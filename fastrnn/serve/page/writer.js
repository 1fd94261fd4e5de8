// The conversation with a character model: one WebSocket, opened when it is first needed.

import { openSocket, request } from "./api.js";

const LOST = {
  1001: "The server ended the connection.",
  1008: "The server ended the connection.",
  1009: "This is more than the server takes at once.",
  1011: "The server met an error of its own.",
  1012: "The server is being restarted.",
  1013: "The server has no room at the moment; try again later.",
};

/**
 * `on` has the functions ready(message), token(message), done(message), refused(words) for something
 * that the server did not take, and lost(words, error) when the connection ended unasked.
 */
export class Writer {
  constructor(model, on) {
    this.model = model;
    this.on = on;
    this.socket = null;
    this.said = ""; // the server's last error message
  }

  get connected() {
    return this.socket !== null && this.socket.readyState === WebSocket.OPEN;
  }

  /** Generate text; with `fresh` from the beginning, else from where it stopped. */
  generate(options, fresh) {
    const messages = fresh ? [{ type: "reset" }] : [];
    messages.push({ type: "generate", ...options });
    if (this.connected) this.send(...messages);
    else this.open(messages);
  }

  stop() {
    if (this.connected) this.send({ type: "stop" });
    else this.close();
  }

  close() {
    const socket = this.socket;
    this.socket = null;
    if (socket) socket.close(1000);
  }

  send(...messages) {
    for (const message of messages) this.socket.send(JSON.stringify(message));
  }

  open(messages) {
    this.close();
    this.said = "";
    const socket = openSocket(`v2/models/${encodeURIComponent(this.model)}/generate`);
    this.socket = socket;
    let ready = false;
    socket.onmessage = event => {
      if (socket !== this.socket) return;
      const message = JSON.parse(event.data);
      if (message.type === "ready") {
        ready = true;
        this.on.ready(message);
        this.send(...messages);
      } else {
        this.handle(message);
      }
    };
    socket.onclose = event => {
      if (socket !== this.socket) return; // closed by us
      this.socket = null;
      this.explain(event.code, ready);
    };
  }

  handle(message) {
    if (message.type === "token") this.on.token(message);
    else if (message.type === "done") this.on.done(message);
    else if (message.type === "error") {
      this.said = message.message;
      if (message.code === "bad_argument" || message.code === "busy") this.on.refused(message.message);
    }
  }

  /** A browser does not tell why a connection was refused: a request tells. */
  async explain(code, ready) {
    let words = [LOST[code] ?? "The connection was lost.", this.said].filter(Boolean).join(" ");
    let cause = null;
    if (!ready && !this.said) {
      try {
        await request("v2/fastrnn/models");
        words = "The server refused the connection.";
      } catch (error) {
        words = error.message;
        cause = error;
      }
    }
    this.on.lost(words, cause);
  }
}
