import assert from "node:assert/strict";
import { test } from "node:test";
import { EventReader } from "../../../../services/mendloop/gateway/page/js/sse.js";

test("an event that comes in pieces is one event", () => {
  const reader = new EventReader();
  const pieces = ["retry: 10", "00\nid: c1\n\nid: c2\nevent: mendloop.v1.Ev", 'alFailed\ndata: {"a"', ":1}\n", "\n"];
  const events = pieces.flatMap((piece) => reader.push(piece));
  assert.deepEqual(events, [{ type: "mendloop.v1.EvalFailed", data: '{"a":1}', id: "c2" }]);
});

test("an id without data moves the place and is no event", () => {
  const reader = new EventReader();
  assert.deepEqual(reader.push(": keep-alive\nid: c9\n\n"), []);
  assert.equal(reader.lastId, "c9");
});

test("lines may end in CRLF, data may have several lines", () => {
  const events = new EventReader().push("data: one\r\ndata: two\r\n\r\n");
  assert.deepEqual(events, [{ type: "message", data: "one\ntwo", id: "" }]);
});
