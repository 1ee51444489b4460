// The time, for what counts while it is looked at.
import { useEffect, useState } from "../lib.js";

// Milliseconds since 1970, renewed so often; 0 for what stands still.
export function useNow(everyMs) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!everyMs) return undefined;
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}
