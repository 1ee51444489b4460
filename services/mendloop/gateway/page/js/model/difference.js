// The difference of two proportions with an interval made of theirs. Pure.

// later - earlier and its 95 % interval by the method of variance estimates recovery (Zou & Donner 2008; with score
// intervals it is Newcombe's method 10). It takes both as independent: on the same items the true interval is narrower.
export function difference(earlier, later) {
  if (!earlier?.n || !later?.n) return null;
  const [a, b] = [earlier, later];
  const value = b.accuracy - a.accuracy;
  return {
    value,
    low: value - Math.hypot(b.accuracy - b.low, a.high - a.accuracy),
    high: value + Math.hypot(b.high - b.accuracy, a.accuracy - a.low),
  };
}
