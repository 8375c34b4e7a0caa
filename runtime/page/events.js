// Events of one camera or of all: what caused them, their picture, clip and contact sheet.

import { age, clock, tell } from "./format.js";

const REFRESH_MS = 10000;
const MOST = 50;

export class EventList {
  // `visit(event)` is called to look at the time of an event.
  constructor(root, { visit }) {
    [this.root, this.visit] = [root, visit];
    [this.list, this.none] = [root.querySelector("ul"), root.querySelector(".no-events")];
    this.words = [];
    this.show(null);
  }
  // Shows the events of a camera, "" of all; null: none.
  show(stream) {
    [this.stream, this.shown, this.fetchedMs, this.events] = [stream, "", -Infinity, []];
    this.list.replaceChildren();
    this.root.hidden = true;
  }
  async draw() {
    if (this.stream === null) return;
    this.tellAges();
    if (performance.now() - this.fetchedMs < REFRESH_MS) return;
    this.fetchedMs = performance.now();
    const { stream } = this;
    try {
      const answer = await fetch(`events?${new URLSearchParams({ limit: MOST, ...(stream && { stream }) })}`);
      if (!answer.ok) return;
      const told = await answer.json();
      if (stream !== this.stream) return;
      this.fill(told.events, told.time_ms);
    } catch {
      // the page says already that the receiver does not answer
    }
  }
  fill(events, nowMs) {
    this.events = events;
    this.aheadMs = nowMs - performance.now();
    this.root.hidden = Boolean(this.stream) && !events.length;
    const shown = JSON.stringify(events);
    if (shown !== this.shown) { // else the focus stays where it is
      this.shown = shown;
      this.list.replaceChildren(...events.map((event) => this.item(event, nowMs)));
      this.find(this.words);
    }
    this.tellAges();
  }
  tellAges() {
    const nowMs = this.aheadMs + performance.now();
    [...this.list.children].forEach((item, index) => {
      const event = this.events[index];
      tell(item.querySelector(".at"), [
        !this.stream && event.stream, clock(event.time_ms, true, nowMs), age((nowMs - event.time_ms) / 1000),
        event.phase !== "complete" && "still coming",
      ].filter(Boolean).join(" · "));
    });
  }
  // Leaves those of which all words are in cause, label or camera.
  find(words) {
    this.words = words;
    let left = 0;
    [...this.list.children].forEach((item, index) => {
      const { cause, label, stream } = this.events[index];
      const text = `${cause} ${label} ${stream}`.toLowerCase();
      item.hidden = !words.every((word) => text.includes(word));
      left += !item.hidden;
    });
    this.none.hidden = left > 0;
    tell(this.none, this.events.length ? "No event matches." : "No events are kept.");
  }
  item(event, nowMs) {
    const root = document.getElementById("event").content.cloneNode(true).querySelector("li");
    const find = (selector) => root.querySelector(selector);
    const what = event.label || event.cause;
    find(".what").textContent = what;
    find("button").addEventListener("click", () => this.visit(event));
    const image = find("img");
    if (event.picture) image.src = event.picture;
    else image.remove();
    for (const [selector, href, name] of [[".clip", event.clip, "Clip"], [".sheet", event.sheet, "Sheet"]]) {
      const link = find(selector);
      link.hidden = !href;
      if (href) [link.href, link.ariaLabel] = [href, `${name} of ${what}, ${clock(event.time_ms, true, nowMs)}`];
    }
    return root;
  }
}
