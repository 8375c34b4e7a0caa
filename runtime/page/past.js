// The last hours of a camera: a strip that is scrubbed. A picture is asked for when the one before has come, and only
// the one that is looked at then.

import { clock, pathOf, tell } from "./format.js";

const REFRESH_MS = 30000;
const PARTS = 288; // of the strip; 24 hours in steps of five minutes
const HOUR_MS = 3600000;

export class Past {
  // `moved` is called when another time is looked at: with null when it is the present again.
  constructor(root, picture, { moved }) {
    [this.root, this.picture, this.moved] = [root, picture, moved];
    const find = (selector) => root.querySelector(selector);
    [this.when, this.at, this.span, this.live] = [find(".when"), find(".at"), find(".span"), find(".live")];
    [this.kept, this.marks, this.ticks] = [find(".kept"), find(".marks"), find(".ticks")];
    this.when.max = PARTS;
    this.when.addEventListener("input", () => this.scrub());
    this.span.addEventListener("change", () => this.window(this.atMs));
    this.live.addEventListener("click", () => this.leave());
    find(".earlier").addEventListener("click", () => this.step(-1));
    find(".later").addEventListener("click", () => this.step(1));
    this.clear(null);
  }
  // Begins with another camera, at present; null: with none.
  clear(name) {
    [this.name, this.atMs, this.shownMs, this.frames, this.events] = [name, null, null, [], []];
    [this.fetchedMs, this.sinceMs, this.untilMs] = [-Infinity, 0, 0];
    this.span.selectedIndex = 0;
    this.root.hidden = true;
    this.release();
  }
  get partMs() {
    return (this.untilMs - this.sinceMs) / PARTS;
  }
  // Called each second: the strip ends now, unless somebody looks at what was.
  draw(nowMs, hasArchive) {
    this.nowMs = nowMs;
    this.root.hidden = !hasArchive;
    if (hasArchive && this.atMs === null && performance.now() - this.fetchedMs > REFRESH_MS) this.window(null);
  }
  // Shows the strip around a time, or up to now.
  async window(atMs) {
    const [lengthMs, name] = [Number(this.span.value) * 1000, this.name];
    const untilMs = Math.round(atMs === null ? this.nowMs : Math.min(this.nowMs, atMs + lengthMs / 2));
    [this.fetchedMs, this.untilMs, this.sinceMs] = [performance.now(), untilMs, untilMs - lengthMs];
    this.label();
    const query = new URLSearchParams({ stream: name, since: this.sinceMs, until: untilMs, count: PARTS });
    try {
      const answer = await fetch(`archive.json?${query}`);
      const told = await answer.json();
      if (!answer.ok || name !== this.name || told.until_ms !== this.untilMs) return;
      this.frames = told.frames.map((frame) => frame.time_ms);
    } catch {
      return; // the page says already that the receiver does not answer
    }
    this.label();
  }
  // Events are lines in the strip, those too that come after it.
  mark(events) {
    if (events === this.events) return;
    this.events = events;
    if (this.untilMs) this.label();
  }
  // The strip: where pictures are kept, where events were, and what time it is.
  label() {
    const place = (timeMs) => PARTS * (timeMs - this.sinceMs) / (this.untilMs - this.sinceMs);
    this.kept.setAttribute("d", this.frames.map((ms) => `M${Math.floor(place(ms))},0h1v10h-1z`).join(""));
    const marked = this.events.filter((event) => event.time_ms >= this.sinceMs && event.time_ms < this.untilMs);
    this.marks.setAttribute("d", marked.map((event) => `M${place(event.time_ms).toFixed(1)},0v10`).join(""));
    [...this.ticks.children].forEach((tick, index, { length }) => {
      tell(tick, clock(this.sinceMs + index * (this.untilMs - this.sinceMs) / length, this.partMs < 10000, this.nowMs));
    });
    this.when.value = this.atMs === null ? PARTS : Math.round(place(this.atMs));
    this.say();
  }
  say() {
    const isLive = this.atMs === null;
    const late = this.shownMs !== null && this.atMs - this.shownMs > 2 * this.partMs + 1000;
    const shown = this.shownMs === null ? "…" : clock(this.shownMs, true, this.nowMs);
    const text = isLive ? "live" : this.trouble || (late ? `${shown}, none after it until ${clock(this.atMs, true, this.nowMs)}` : shown);
    tell(this.at, text);
    this.when.ariaValueText = isLive ? "live" : clock(this.atMs, true, this.nowMs);
    this.live.disabled = isLive;
    this.picture.past = isLive ? null : shown;
  }
  scrub() {
    const value = Number(this.when.value);
    if (value === PARTS && this.nowMs - this.untilMs < this.partMs + 2 * REFRESH_MS) this.leave();
    else this.look(this.sinceMs + value * this.partMs);
  }
  // The picture before or after the one that is shown, as far as the strip tells them apart.
  step(by) {
    const now = this.atMs ?? this.untilMs;
    const next = by < 0 ? this.frames.findLast((ms) => ms < now - 1) : this.frames.find((ms) => ms > now + 1);
    if (next !== undefined) this.look(next);
    else if (by > 0 && this.nowMs - this.untilMs < HOUR_MS / 60) this.leave();
    else {
      this.look(by < 0 ? this.sinceMs - 1 : this.untilMs + this.partMs);
      this.window(this.atMs);
    }
  }
  // Looks at a time, such as that of an event, closely.
  visit(atMs) {
    this.span.selectedIndex = this.span.options.length - 1;
    this.look(atMs);
    this.window(atMs);
  }
  leave() {
    if (this.atMs === null) return;
    [this.atMs, this.shownMs] = [null, null];
    this.release();
    this.window(null);
    this.moved(null);
  }
  look(atMs) {
    this.atMs = Math.round(Math.min(atMs, this.nowMs));
    this.picture.past = "…";
    this.label();
    this.moved(this.atMs);
    this.load();
  }
  async load() {
    if (this.loading) return;
    this.loading = true;
    let asked;
    while (this.atMs !== null && asked !== `${this.name} ${this.atMs}`) {
      const [name, atMs] = [this.name, this.atMs];
      asked = `${name} ${atMs}`;
      let [trouble, blob, capturedMs] = ["", null, null];
      try {
        const answer = await fetch(`${pathOf(name)}.jpg?${new URLSearchParams({ at: atMs, near: Math.round(this.partMs) })}`);
        if (answer.ok) [blob, capturedMs] = [await answer.blob(), Math.round(1000 * answer.headers.get("X-Timestamp"))];
        else trouble = (await answer.json()).error;
      } catch (error) {
        trouble = error.message;
      }
      if (name !== this.name || this.atMs === null) continue;
      [this.trouble, this.shownMs] = [trouble, capturedMs];
      this.release();
      if (blob) this.picture.image.src = this.url = URL.createObjectURL(blob);
      this.say();
      this.moved(this.atMs);
    }
    this.loading = false;
  }
  release() {
    if (this.url) URL.revokeObjectURL(this.url);
    [this.url, this.trouble] = ["", ""];
    this.picture.past = null;
    this.picture.clear();
  }
}
