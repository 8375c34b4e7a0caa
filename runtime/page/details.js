// Details of one camera: a large picture, its figures and charts, and what can be asked of receiver and sender.

import { allCharts } from "./chart.js";
import { bytes, pathOf, seconds, tell } from "./format.js";
import { Picture, isDead } from "./picture.js";

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
    for (const input of [this.steps, this.realism]) {
      input.addEventListener("input", () => this.label());
      input.addEventListener("change", () => this.set());
    }
    this.button.addEventListener("click", () => this.snapshot());
    find(".before").addEventListener("click", () => step(-1));
    find(".after").addEventListener("click", () => step(1));
    find(".close").addEventListener("click", () => root.close());
    find(".full").hidden = !document.fullscreenEnabled;
    find(".full").addEventListener("click", () => find(".screen").requestFullscreen());
    root.addEventListener("keydown", (event) => {
      if (event.target.matches("input") || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
    });
    root.addEventListener("click", (event) => event.target === root && root.close()); // beside it
    root.addEventListener("close", () => {
      this.name = null;
      closed();
    });
    this.name = null;
  }
  show(name) {
    if (name === this.name) return;
    [this.name, this.samples, this.sinceMs, this.asked, this.snapshotFrame] = [name, [], 0, false, undefined];
    this.picture.clear();
    this.picture.image.alt = `Latest picture of ${name}`;
    tell(this.title, name);
    this.showMessage("");
    if (!this.root.open) this.root.showModal();
  }
  hide() {
    if (this.root.open) this.root.close();
  }
  label() {
    this.stepsNow.value = this.steps.value;
    this.realismNow.value = Number(this.realism.value).toFixed(2);
  }
  draw(stream, nowMs, maxSteps) {
    this.samples.push(...stream.samples.filter((sample) => sample.time_ms > this.sinceMs));
    this.samples = this.samples.filter((sample) => sample.time_ms > nowMs - LONGEST_MS);
    this.sinceMs = this.samples.at(-1)?.time_ms ?? this.sinceMs;
    for (const chart of this.charts) chart.draw(this.samples, nowMs);
    this.picture.draw(stream);
    this.root.classList.toggle("dead", Boolean(isDead(stream)));
    tell(this.trouble, stream.trouble ?? "");
    tell(this.facts, factsOf(stream).join(" · "));
    this.drawBudget(stream.state?.data);
    this.steps.max = maxSteps;
    this.steps.disabled = this.realism.disabled = maxSteps === 0;
    this.noFlow.hidden = maxSteps > 0;
    if (document.activeElement !== this.steps) this.steps.value = stream.steps;
    if (document.activeElement !== this.realism) this.realism.value = stream.realism;
    this.label();
    this.offer(this.download, stream.picture, "");
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
}

function factsOf(stream) {
  const { picture, state } = stream;
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
