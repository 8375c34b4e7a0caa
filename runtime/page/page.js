// Live page: a wall of all cameras, and the details of one. Asks for streams.json each second while somebody looks, and
// fetches a picture only when there is another one and it can be seen.

import { Details } from "./details.js";
import { EventList } from "./events.js";
import { tell } from "./format.js";
import { Tile } from "./tile.js";

const POLL_MS = 1000;
const PATIENCE_MS = 15000;
const ORDERS = {
  name: () => 0,
  trouble: (one, other) => other.isTrouble - one.isTrouble,
  newest: (one, other) => ageOf(one) - ageOf(other),
};
const [wall, summary, nothing] = ["wall", "summary", "nothing"].map((id) => document.getElementById(id));
const [find, sort, view, theme] = ["find", "sort", "view", "theme"].map((id) => document.getElementById(id));
const tiles = new Map();
let last = null; // the overview that came last, and when
let lastMs = 0;
let wasPushed = false; // whether "back" leads from the details to the wall
let isLeaving = false;

const details = new Details(document.getElementById("details"), { step, closed });

const events = new EventList(document.getElementById("events"), { visit: (event) => {
  if (!tiles.has(event.stream)) return;
  location.hash = tiles.get(event.stream).link.hash;
  follow();
  details.visit(event);
} });

// The cameras that somebody sees: only these need to send.
function seen() {
  if (details.name) return [details.name];
  return [...tiles.values()].filter((tile) => tile.isSeen).map((tile) => tile.name);
}

function ageOf(tile) {
  return tile.stream.picture?.age_s ?? Infinity;
}

function words() {
  return find.value.toLowerCase().split(/\s+/).filter(Boolean);
}

// The tiles that the search leaves, in their order; by name where it says nothing else.
function ordered() {
  const wanted = words();
  return [...tiles.values()].filter((tile) => tile.matches(wanted))
    .sort((one, other) => ORDERS[sort.value](one, other) || (one.name < other.name ? -1 : 1));
}

function arrange() {
  const shown = ordered();
  for (const tile of tiles.values()) tile.root.hidden = !shown.includes(tile);
  const focused = document.activeElement;
  shown.forEach((tile, index) => {
    if (wall.children[index] !== tile.root) wall.insertBefore(tile.root, wall.children[index] ?? null);
  });
  if (focused !== document.activeElement && wall.contains(focused)) focused.focus({ preventScroll: true });
  nothing.hidden = shown.length > 0 || !last || wall.hidden;
  tell(nothing, tiles.size ? "No camera matches." : "No camera is heard yet: start one with edgesem send.");
}

function draw(overview) {
  for (const stream of overview.streams) {
    if (!tiles.has(stream.name)) tiles.set(stream.name, new Tile(wall, stream.name));
    tiles.get(stream.name).draw(stream);
    if (stream.name === details.name) details.draw(stream, overview);
  }
  const names = new Set(overview.streams.map((one) => one.name));
  for (const [name, tile] of tiles) {
    if (names.has(name)) continue;
    tile.remove();
    tiles.delete(name);
  }
  if (details.name && !names.has(details.name)) details.hide();
  arrange();
  const troubled = [...tiles.values()].filter((tile) => tile.isTrouble).length;
  return `${tiles.size} ${tiles.size === 1 ? "camera" : "cameras"}` + (troubled ? `, ${troubled} in trouble` : "") +
    (overview.connected ? "" : " · no connection to the broker");
}

// The overview that came last, as old as it is by now: a receiver that is silent makes all pictures older.
function grown(overview, byS) {
  return {
    ...overview,
    streams: overview.streams.map((one) => ({
      ...one, samples: [], heard_s: one.heard_s === null ? null : one.heard_s + byS,
      picture: one.picture && { ...one.picture, age_s: one.picture.age_s + byS },
    })),
  };
}

async function refresh() {
  const samples = details.name ?? "";
  try {
    const query = new URLSearchParams({ since: details.name ? details.sinceMs : 0, samples });
    for (const name of seen()) query.append("view", name);
    const answer = await fetch(`streams.json?${query}`, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    [last, lastMs] = [await answer.json(), performance.now()];
    const text = draw(last);
    tell(summary, text);
    summary.className = last.connected ? "" : "bad";
  } catch (error) {
    if (last) draw(grown(last, (performance.now() - lastMs) / 1000));
    tell(summary, `the receiver does not answer (${error.message})`);
    summary.className = "bad";
  }
  follow();
  events.draw();
}

// Asks again in a second, unless nobody looks.
let timer = 0;
function schedule(delayMs) {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    if (!document.hidden) {
      await refresh();
      schedule(POLL_MS);
    }
  }, delayMs);
}
document.addEventListener("visibilitychange", () => schedule(0));

// The fragment of the address names the camera whose details are shown, so that they can be linked to and left with "back".
function follow() {
  if (isLeaving) return;
  let name = "";
  try {
    name = decodeURIComponent(location.hash.slice(1));
  } catch {
    // no name that we gave
  }
  if (tiles.has(name) && name !== details.name) {
    details.show(name);
    details.draw({ ...tiles.get(name).stream, samples: [] }, last);
    schedule(0);
  } else if (!name) {
    details.hide();
  }
}
addEventListener("hashchange", (event) => {
  if (!new URL(event.oldURL).hash) wasPushed = true;
  isLeaving = false;
  follow();
});

function step(by) {
  const names = ordered().map((tile) => tile.name);
  const next = names[(names.indexOf(details.name) + by + names.length) % names.length];
  if (next) location.replace(tiles.get(next).link.href);
}

function closed() {
  const shown = location.hash;
  if (shown && wasPushed) {
    isLeaving = true; // until the address has changed
    history.back();
  }
  if (shown && !wasPushed) history.replaceState(null, "", location.pathname + location.search);
  wasPushed = false;
  [...tiles.values()].find((tile) => tile.link.hash === shown)?.link.focus();
}

// How somebody likes to see it is kept by the browser, where it lets us.
function keep(select, apply) {
  const name = `edgesem-${select.id}`;
  try {
    select.value = localStorage.getItem(name) ?? select.value;
  } catch {
    // then not
  }
  if (select.selectedIndex < 0) select.selectedIndex = 0;
  apply();
  select.addEventListener("change", () => {
    apply();
    try {
      localStorage.setItem(name, select.value);
    } catch {
      // then not
    }
  });
}
keep(sort, arrange);
keep(view, () => {
  wall.classList.toggle("list", view.value === "list");
  wall.hidden = view.value === "events";
  events.show(wall.hidden ? "" : null);
  events.draw();
  arrange();
});
keep(theme, () => (document.documentElement.dataset.theme = theme.value));
find.addEventListener("input", () => {
  arrange();
  events.find(words());
});
const whole = document.getElementById("whole");
whole.hidden = !document.fullscreenEnabled;
whole.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()));
schedule(0);
