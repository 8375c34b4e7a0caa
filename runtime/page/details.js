// Details of one camera: a large picture, its figures and charts, and what can be asked of receiver and sender.

import { allCharts } from "./chart.js";
import { EventList } from "./events.js";
import { bytes, fileTime, pathOf, seconds, tell } from "./format.js";
import { Limits } from "./limits.js";
import { Mask } from "./mask.js";
import { Part } from "./part.js";
import { Past } from "./past.js";
import { Picture, isDead } from "./picture.js";
import { Sketch } from "./sketch.js";

const LONGEST_MS = 300000;

export class Details {
  // `step` is called with -1 or 1 for the camera before or after, `closed` when nothing is shown any more.
  constructor(root, { step, closed }) {
    this.root = root;
    const find = (selector) => root.querySelector(selector);
    [this.title, this.trouble, this.facts, this.answer] = [find("h2"), find(".trouble"), find(".facts"), find(".answer")];
    [this.budget, this.budgetText, this.gauge] = [find(".budget"), find(".budget-text"), find(".gauge")];
    [this.spent, this.forecast] = [find(".spent"), find(".forecast")];
    [this.steps, this.realism, this.button] = [find(".steps"), find(".realism"), find(".snapshot")];
    [this.stepsNow, this.realismNow, this.noFlow] = [find(".steps-now"), find(".realism-now"), find(".no-flow")];
    [this.download, this.snapshotLink] = [find(".download"), find(".download-snapshot")];
    this.picture = new Picture(root);
    this.charts = allCharts(find(".charts"));
    this.past = new Past(find(".past"), this.picture, { moved: () => this.moved() });
    this.events = new EventList(find(".events"), { visit: (event) => this.visit(event) });
    this.sketch = new Sketch(find(".sketch"), find(".sketch-said"));
    const tools = { say: (text, bad) => this.showMessage(text, bad), redraw: () => this.sketch.draw() };
    this.part = new Part(find(".part"), { ask: (path, what) => this.post(path, what), ...tools });
    this.mask = new Mask(find(".mask"), tools);
    this.limits = new Limits(find(".limits"), { ask: (path, what) => this.post(path, what), ...tools });
    this.eventButton = find(".make-event");
    this.eventButton.addEventListener("click", () => this.makeEvent());
    this.partButton = find(".choose-part");
    this.maskButton = find(".draw-mask");
    this.partButton.addEventListener("click", () => this.use(this.part));
    this.maskButton.addEventListener("click", () => this.use(this.mask));
    for (const input of [this.steps, this.realism]) {
      input.addEventListener("input", () => this.label());
      input.addEventListener("change", () => this.set());
    }
    this.button.addEventListener("click", () => this.snapshot());
    find(".before").addEventListener("click", () => step(-1));
    find(".after").addEventListener("click", () => step(1));
    find(".close").addEventListener("click", () => root.close());
    find(".full").hidden = !document.fullscreenEnabled;
    find(".full").addEventListener("click", () => find(".look").requestFullscreen());
    root.addEventListener("keydown", (event) => {
      if (event.target.closest("input, select, textarea, .sketch") || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
    });
    root.addEventListener("click", (event) => event.target === root && root.close()); // beside it
    root.addEventListener("cancel", (event) => { // Escape lays down the tool first
      if (!this.sketch.tool) return;
      event.preventDefault();
      this.use(this.sketch.tool);
    });
    root.addEventListener("close", () => {
      this.name = null;
      this.begin();
      closed();
    });
    this.name = null;
  }
  show(name) {
    if (name === this.name) return;
    [this.name, this.samples, this.sinceMs, this.asked, this.snapshotFrame] = [name, [], 0, false, undefined];
    this.begin();
    tell(this.title, name);
    this.showMessage("");
    if (!this.root.open) this.root.showModal();
  }
  // All parts begin anew, with the camera of that name or with none.
  begin() {
    this.stream = null;
    this.use(null);
    this.past.clear(this.name);
    this.events.show(this.name);
    this.part.clear(this.name);
    this.mask.clear(this.name);
    this.limits.clear();
    this.picture.image.alt = `Latest picture of ${this.name}`;
  }
  // Takes up a tool for drawing on the picture; again, or null: lays it down.
  use(tool) {
    const next = tool === this.sketch.tool ? null : tool;
    for (const [one, button] of [[this.part, this.partButton], [this.mask, this.maskButton]]) {
      one.root.hidden = one !== next;
      button.ariaPressed = String(one === next);
    }
    const label = next === this.part ? "Choose a part: arrow keys move the cross, Enter sets two corners"
      : "Draw a mask: arrow keys move the cross, Enter sets a point, Backspace takes one back";
    this.sketch.use(next, label);
    this.root.classList.toggle("drawing", Boolean(next));
    this.sketch.svg.classList.toggle("masking", next === this.mask);
    if (next) this.sketch.svg.focus({ preventScroll: true });
  }
  // Looks at the time of an event; where nothing is archived, at the event's own picture.
  visit(event) {
    if (this.past.root.hidden) window.open(event.picture, "_blank", "noopener");
    else this.past.visit(event.time_ms);
    this.root.scrollTo({ top: 0 });
  }
  // Another time is looked at, or the picture of that time has come.
  moved() {
    const { atMs, shownMs, url } = this.past;
    const isLive = atMs === null;
    this.picture.image.alt = isLive ? `Latest picture of ${this.name}` : `Archived picture of ${this.name}`;
    if (this.stream) {
      this.picture.draw(this.stream);
      this.root.classList.toggle("dead", isLive && Boolean(isDead(this.stream)));
    }
    if (isLive || !url) return;
    this.download.href = url;
    this.download.download = `${this.name.replaceAll("/", "_")}-${fileTime(shownMs)}.jpg`;
  }
  hide() {
    if (this.root.open) this.root.close();
  }
  label() {
    this.stepsNow.value = this.steps.value;
    this.realismNow.value = Number(this.realism.value).toFixed(2);
  }
  draw(stream, { time_ms: nowMs, max_steps: maxSteps, archive }) {
    this.stream = stream;
    this.samples.push(...stream.samples.filter((sample) => sample.time_ms > this.sinceMs));
    this.samples = this.samples.filter((sample) => sample.time_ms > nowMs - LONGEST_MS);
    this.sinceMs = this.samples.at(-1)?.time_ms ?? this.sinceMs;
    for (const chart of this.charts) chart.draw(this.samples, nowMs);
    this.picture.draw(stream);
    this.past.draw(nowMs, archive);
    this.events.draw().then(() => this.past.mark(this.events.events));
    this.part.draw(stream);
    this.mask.draw(stream);
    this.root.classList.toggle("elsewhere", Boolean(stream.elsewhere));
    if (stream.picture?.width) this.sketch.resize(stream.picture.width, stream.picture.height);
    this.root.classList.toggle("dead", this.past.atMs === null && Boolean(isDead(stream)));
    tell(this.trouble, stream.trouble ?? "");
    tell(this.facts, factsOf(stream).join(" · "));
    this.drawBudget(stream.state?.data);
    this.limits.draw(stream.state);
    this.eventButton.hidden = !stream.state?.makes_events;
    this.steps.max = maxSteps;
    this.steps.disabled = this.realism.disabled = maxSteps === 0;
    this.noFlow.hidden = maxSteps > 0;
    if (document.activeElement !== this.steps) this.steps.value = stream.steps;
    if (document.activeElement !== this.realism) this.realism.value = stream.realism;
    this.label();
    if (this.past.atMs === null) this.offer(this.download, stream.picture, "");
    this.offer(this.snapshotLink, stream.snapshot, "?promised");
    if (this.asked && stream.snapshot && stream.snapshot.frame !== this.snapshotFrame) {
      this.asked = false;
      this.showMessage("snapshot is here");
    }
    this.snapshotFrame = stream.snapshot?.frame;
  }
  drawBudget(data) {
    this.budget.hidden = !data;
    if (!data) return;
    const limit = Math.max(1, data.spent_bytes + data.left_bytes);
    const text = `${bytes(data.spent_bytes)} of ${bytes(limit)} spent, ${bytes(data.left_bytes)} left, ` +
      `${bytes(data.forecast_bytes)} forecast`;
    tell(this.budgetText, text);
    this.gauge.ariaValueMax = String(limit);
    this.gauge.ariaValueNow = String(data.spent_bytes);
    this.gauge.ariaValueText = text;
    this.gauge.classList.toggle("old", data.left_bytes < 0.1 * limit);
    this.spent.style.width = `${100 * data.spent_bytes / limit}%`;
    this.forecast.style.left = `${Math.min(100, 100 * data.forecast_bytes / limit)}%`;
  }
  offer(link, picture, query) {
    link.hidden = !picture;
    if (!picture) return;
    link.href = `${pathOf(this.name)}.jpg${query}`;
    link.download = `${this.name.replaceAll("/", "_")}-${picture.frame}.jpg`;
  }
  showMessage(text, bad = false) {
    tell(this.answer, text);
    this.answer.classList.toggle("bad", bad);
  }
  async post(path, what) {
    const name = this.name;
    try {
      const answer = await fetch(path, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ stream: name, ...what }),
      });
      const result = await answer.json();
      if (!answer.ok) throw new Error(result.error);
      return name === this.name ? result : null;
    } catch (error) {
      if (name === this.name) this.showMessage(error.message, true);
      return null;
    }
  }
  async set() {
    const result = await this.post("settings", { steps: Number(this.steps.value), realism: Number(this.realism.value) });
    if (result) this.showMessage(`steps ${result.steps}, realism ${result.realism}`);
  }
  async snapshot() {
    this.button.disabled = true;
    if (await this.post("snapshot", {})) {
      this.asked = true;
      this.showMessage("snapshot asked for");
    }
    this.button.disabled = false;
  }
  async makeEvent() {
    if (await this.post("ask", { kind: "event" })) this.showMessage("event asked for");
  }
}

function factsOf(stream) {
  const { picture, state } = stream;
  if (stream.elsewhere) {
    return [
      "not heard by this receiver: pictures are the catalogue's, and the receiver that hears it can be asked",
      `frame ${picture.frame}`, bytes(picture.size_bytes), picture.promised && "promised",
    ].filter(Boolean);
  }
  const ofPicture = !picture ? [] : [
    `frame ${picture.frame}`, `${picture.width}×${picture.height}`, bytes(picture.size_bytes),
    `${picture.layers} ${picture.layers === 1 ? "layer" : "layers"}`, `steps ${picture.steps}`,
    `decoded in ${seconds(picture.decode_s)}`, picture.promised && "promised",
  ];
  const ofSender = !state ? [] : [
    `sent ${state.frames}, skipped ${state.skipped}`, state.promised_waiting && `${state.promised_waiting} promised wait`,
    state.left_out && `${state.left_out} unreadable`,
  ];
  return [...ofPicture, ...ofSender].filter(Boolean);
}
