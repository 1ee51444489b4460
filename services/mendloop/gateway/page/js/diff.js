// What changed between two short texts, word by word (longest common subsequence). Pure.

const MOST_CELLS = 400_000; // above it the table would take more memory than the answer is worth

// [{kind: "same" | "added" | "removed", text}]: removed stands only in before, added only in after.
export function diffWords(before, after) {
  const a = before.match(/\s+|[^\s]+/g) || [];
  const b = after.match(/\s+|[^\s]+/g) || [];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let endA = a.length;
  let endB = b.length;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) {
    endA -= 1;
    endB -= 1;
  }
  const parts = [];
  add(parts, "same", a.slice(0, start));
  middle(parts, a.slice(start, endA), b.slice(start, endB));
  add(parts, "same", a.slice(endA));
  return parts;
}

function middle(parts, a, b) {
  if (a.length * b.length > MOST_CELLS) {
    add(parts, "removed", a);
    add(parts, "added", b);
    return;
  }
  const width = b.length + 1;
  const lengths = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      const at = i * width + j;
      lengths[at] = a[i] === b[j] ? lengths[at + width + 1] + 1 : Math.max(lengths[at + width], lengths[at + 1]);
    }
  }
  walk(parts, a, b, lengths, width);
}

function walk(parts, a, b, lengths, width) {
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      add(parts, "same", [a[i]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])) {
      add(parts, "removed", [a[i]]);
      i += 1;
    } else {
      add(parts, "added", [b[j]]);
      j += 1;
    }
  }
}

function add(parts, kind, words) {
  if (!words.length) return;
  const last = parts[parts.length - 1];
  if (last && last.kind === kind) last.text += words.join("");
  else parts.push({ kind, text: words.join("") });
}
