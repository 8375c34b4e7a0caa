// Figures and names as the page shows them.

export function rate(bps) {
  return bps >= 1e6 ? `${(bps / 1e6).toFixed(2)} Mbit/s` : `${(bps / 1e3).toFixed(bps < 1e4 ? 1 : 0)} kbit/s`;
}

export function bytes(count) {
  if (count >= 1e6) return count >= 1e9 ? `${(count / 1e9).toFixed(2)} GB` : `${(count / 1e6).toFixed(1)} MB`;
  return count >= 1e4 ? `${(count / 1e3).toFixed(1)} kB` : `${Math.round(count)} B`;
}

export function seconds(s) {
  if (s >= 172800) return `${Math.round(s / 86400)} days`;
  if (s >= 120) return s >= 7200 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 60)} min`;
  return s >= 10 ? `${Math.round(s)} s` : s >= 1 ? `${s.toFixed(1)} s` : `${Math.round(s * 1000)} ms`;
}

// How old a picture is: tenths below ten seconds, so that it does not jump about.
export function age(s) {
  return `${s < 10 ? `${s.toFixed(1)} s` : seconds(s)} old`;
}

// A time of the day, with its date if that is another one than today's.
export function clock(timeMs, withSeconds, nowMs) {
  const [then, now] = [new Date(timeMs), new Date(nowMs)];
  const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(withSeconds && { second: "2-digit" }) };
  const date = then.toDateString() === now.toDateString() ? {} : { day: "numeric", month: "short" };
  return then.toLocaleString("en-GB", { ...date, ...time }).replace(",", "");
}

// A time as it stands in a file's name, in UTC.
export function fileTime(timeMs) {
  return new Date(timeMs).toISOString().replace(/[-:]/g, "");
}

// Where a stream's pictures are, seen from where the page stands.
export function pathOf(name) {
  return name.split("/").map(encodeURIComponent).join("/");
}

// Sets a text only when it is another one: a screen reader reads what was set.
export function tell(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
