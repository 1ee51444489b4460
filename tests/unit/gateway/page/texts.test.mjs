import assert from "node:assert/strict";
import { test } from "node:test";
import { diffWords } from "../../../../services/mendloop/gateway/page/js/diff.js";
import * as format from "../../../../services/mendloop/gateway/page/js/format.js";

const rebuilt = (parts, without) => parts.filter((part) => part.kind !== without).map((part) => part.text).join("");

test("a diff gives back both texts", () => {
  const texts = ["I_RUN I_JUMP", "I_JUMP", "", "a b c d e", "a x c  y e", "same"];
  for (const a of texts) {
    for (const b of texts) {
      const parts = diffWords(a, b);
      assert.equal(rebuilt(parts, "added"), a);
      assert.equal(rebuilt(parts, "removed"), b);
    }
  }
});

test("a diff marks only what changed", () => {
  assert.deepEqual(diffWords("turn left jump", "turn right jump"), [
    { kind: "same", text: "turn " }, { kind: "removed", text: "left" }, { kind: "added", text: "right" }, { kind: "same", text: " jump" },
  ]);
});

test("two long texts without a common word are compared in bounded memory", () => {
  const parts = diffWords("a ".repeat(5000), "b ".repeat(5000));
  assert.deepEqual(parts.map((part) => part.kind).slice(0, 2), ["removed", "added"]);
});

test("numbers read as people write them", () => {
  assert.equal(format.percent(0.934), "93.4\u202f%");
  assert.equal(format.percent(null), "–");
  assert.equal(format.points(-0.0123), "−1.2");
  assert.equal(format.points(0.00001), "±0.0");
  assert.equal(format.pValue(0.00001), "< 0.0001");
  assert.equal(format.duration(59.7), "60\u202fs");
  assert.equal(format.duration(3725), "1\u202fh 2\u202fmin");
  assert.equal(format.words("EOS_MASKED"), "EOS masked");
  assert.equal(format.words("waiting-approval"), "Waiting for approval");
});
