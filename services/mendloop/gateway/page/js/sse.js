// Reads text/event-stream as the WHATWG HTML standard defines it. Knows bytes and lines; knows no network.

export class EventReader {
  #rest = "";
  #data = [];
  #type = "";
  lastId = "";

  // Takes the next text of a stream and returns the events that it completes: [{type, data, id}].
  push(text) {
    const events = [];
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === "") this.#finish(events);
      else this.#field(line);
    }
    return events;
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment keeps the connection alive
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.lastId = value;
  }

  #finish(events) {
    if (this.#data.length) events.push({ type: this.#type || "message", data: this.#data.join("\n"), id: this.lastId });
    this.#data = [];
    this.#type = "";
  }
}
