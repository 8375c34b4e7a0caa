"use strict";
// Live page: a tile for each stream. Polls /streams.json each second and draws what is new. A picture is fetched only
// when there is another one, so a page of many streams needs no more than the browser's few connections.

const POLL_MS = 1000;
const LONGEST_MS = 300000;
const SHORTEST_MS = 60000;
const DEAD_S = 60;
const CHARTS = [
  ["capacity_bps", "capacity", rate],
  ["budget_bytes", "budget", bytes],
  ["size_bytes", "bytes a frame", bytes],
  ["delay_s", "delay", seconds],
];
const wall = document.getElementById("wall");
const summary = document.getElementById("summary");
const tiles = new Map();
let since = 0;

function rate(bps) {
  return bps >= 1e6 ? `${(bps / 1e6).toFixed(2)} Mbit/s` : `${(bps / 1e3).toFixed(bps < 1e4 ? 1 : 0)} kbit/s`;
}
function bytes(count) {
  return count >= 1e4 ? `${(count / 1e3).toFixed(1)} kB` : `${Math.round(count)} B`;
}
function seconds(s) {
  if (s >= 172800) return `${Math.round(s / 86400)} days`;
  if (s >= 120) return s >= 7200 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 60)} min`;
  return s >= 10 ? `${Math.round(s)} s` : s >= 1 ? `${s.toFixed(1)} s` : `${Math.round(s * 1000)} ms`;
}
function pathOf(name) {
  return "/" + name.split("/").map(encodeURIComponent).join("/");
}

class Chart {
  constructor(parent, [key, label, format]) {
    const node = document.getElementById("chart").content.cloneNode(true);
    [this.key, this.format] = [key, format];
    this.now = node.querySelector(".now");
    this.top = node.querySelector(".top");
    this.area = node.querySelector(".area");
    this.line = node.querySelector(".line");
    node.querySelector(".label").textContent = label;
    node.querySelector("svg").setAttribute("aria-label", `${label}, the last minutes`);
    parent.append(node);
  }
  draw(samples, nowMs, spanMs) {
    const points = samples.filter((sample) => sample[this.key] !== undefined);
    const last = points.at(-1);
    this.now.textContent = last ? this.format(last[this.key]) : "unknown";
    if (!last) return;
    const max = Math.max(...points.map((sample) => sample[this.key]), 1e-9);
    this.top.textContent = `max ${this.format(max)}`;
    const drawn = points.map((sample) => {
      const x = 300 * (1 - (nowMs - sample.time_ms) / spanMs);
      return `${x.toFixed(1)},${(48 - 32 * Math.max(0, sample[this.key]) / max).toFixed(1)}`;
    });
    this.line.setAttribute("d", `M${drawn.join("L")}`);
    const [first, end] = [drawn[0].split(",")[0], drawn.at(-1).split(",")[0]];
    this.area.setAttribute("d", `M${first},48L${drawn.join("L")}L${end},48Z`);
  }
}

class Tile {
  constructor(name) {
    this.name = name;
    const node = document.getElementById("tile").content.cloneNode(true);
    this.root = node.querySelector("article");
    this.root.dataset.stream = name;
    const find = (selector) => this.root.querySelector(selector);
    [this.image, this.age, this.facts] = [find("img"), find(".age"), find(".facts")];
    [this.steps, this.realism, this.button, this.answer] = [find(".steps"), find(".realism"), find(".snapshot"), find(".answer")];
    [this.trouble, this.download, this.snapshotLink] = [find(".trouble"), find(".download"), find(".download-snapshot")];
    [this.stepsNow, this.realismNow] = [find(".steps-now"), find(".realism-now")];
    find("h2").textContent = name;
    this.image.alt = `latest picture of ${name}`;
    this.charts = CHARTS.map((chart) => new Chart(find(".charts"), chart));
    this.samples = [];
    this.shown = 0;
    for (const input of [this.steps, this.realism]) {
      input.addEventListener("input", () => this.label());
      input.addEventListener("change", () => this.set());
    }
    this.button.addEventListener("click", () => this.snapshot());
    wall.append(node);
  }
  label() {
    this.stepsNow.value = this.steps.value;
    this.realismNow.value = Number(this.realism.value).toFixed(2);
  }
  draw(stream, nowMs, maxSteps) {
    this.samples.push(...stream.samples);
    this.samples = this.samples.filter((sample) => sample.time_ms > nowMs - LONGEST_MS);
    const spanMs = Math.max(SHORTEST_MS, nowMs - (this.samples[0]?.time_ms ?? nowMs));
    this.charts.forEach((chart) => chart.draw(this.samples, nowMs, spanMs));
    this.steps.max = maxSteps;
    this.steps.disabled = maxSteps === 0;
    this.realism.disabled = maxSteps === 0;
    this.steps.title = maxSteps ? "steps of the flow decoder" : "this bundle has no flow decoder";
    if (document.activeElement !== this.steps) this.steps.value = stream.steps;
    if (document.activeElement !== this.realism) this.realism.value = stream.realism;
    this.label();
    const state = stream.state;
    const link = !state ? "" : !state.up ? "sender is gone" : state.paused ? "paused" :
      `sent ${state.frames}, skipped ${state.skipped}` + (state.promised_waiting ? `, ${state.promised_waiting} promised wait` : "");
    this.trouble.textContent = stream.trouble ?? "";
    const dead = (state && !state.up) || stream.heard_s === null || stream.heard_s > DEAD_S;
    this.root.classList.toggle("dead", Boolean(dead));
    this.offer(this.snapshotLink, stream.snapshot, "?promised");
    if (this.asked && stream.snapshot && stream.snapshot.frame !== this.snapshotFrame) this.showMessage("snapshot is here");
    this.snapshotFrame = stream.snapshot?.frame;
    const picture = stream.picture;
    this.offer(this.download, picture, "");
    if (!picture) {
      this.age.textContent = "no picture yet";
      this.facts.textContent = link;
      return;
    }
    if (picture.number !== this.shown) {
      this.shown = picture.number;
      this.image.src = `${pathOf(this.name)}.jpg?${picture.epoch}-${picture.number}`;
    }
    this.age.textContent = `${seconds(picture.age_s)} old`;
    this.age.className = `age ${picture.age_s > 60 ? "bad" : picture.age_s > 10 ? "old" : ""}`;
    this.facts.textContent = [
      `frame ${picture.frame}`, `${picture.width}×${picture.height}`, bytes(picture.size_bytes),
      `${picture.layers} ${picture.layers === 1 ? "layer" : "layers"}`, `steps ${picture.steps}`,
      `decoded in ${seconds(picture.decode_s)}`, picture.promised ? "promised" : "", link,
    ].filter(Boolean).join(" · ");
  }
  offer(link, picture, query) {
    link.hidden = !picture;
    if (!picture) return;
    link.href = `${pathOf(this.name)}.jpg${query}`;
    link.download = `${this.name.replaceAll("/", "_")}-${picture.frame}.jpg`;
  }
  showMessage(text, bad = false) {
    this.answer.textContent = text;
    this.answer.classList.toggle("bad", bad);
  }
  async post(path, what) {
    const answer = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ stream: this.name, ...what }),
    });
    const result = await answer.json();
    if (!answer.ok) throw new Error(result.error);
    return result;
  }
  async set() {
    try {
      const result = await this.post("/settings", { steps: Number(this.steps.value), realism: Number(this.realism.value) });
      this.showMessage(`steps ${result.steps}, realism ${result.realism}`);
    } catch (error) {
      this.showMessage(error.message, true);
    }
  }
  async snapshot() {
    this.button.disabled = true;
    this.asked = true;
    try {
      await this.post("/snapshot", {});
      this.showMessage("snapshot asked for");
    } catch (error) {
      this.showMessage(error.message, true);
    }
    this.button.disabled = false;
  }
}

function draw(overview) {
  const nowMs = overview.time_ms;
  for (const one of overview.streams) {
    if (!tiles.has(one.name)) tiles.set(one.name, new Tile(one.name));
    tiles.get(one.name).draw(one, nowMs, overview.max_steps);
  }
  const names = new Set(overview.streams.map((one) => one.name));
  for (const [name, tile] of tiles) {
    if (!names.has(name)) {
      tile.root.remove();
      tiles.delete(name);
    }
  }
  // By name, whenever a stream came or went.
  const sorted = [...tiles.keys()].sort();
  sorted.forEach((name, index) => {
    if (wall.children[index] !== tiles.get(name).root) wall.insertBefore(tiles.get(name).root, wall.children[index] ?? null);
  });
  since = overview.streams.flatMap((one) => one.samples).reduce((last, sample) => Math.max(last, sample.time_ms), since);
  const count = overview.streams.length;
  summary.textContent = `${count} ${count === 1 ? "stream" : "streams"}` + (overview.connected ? "" : " · no connection to the broker");
  summary.className = overview.connected ? "" : "bad";
}

async function refresh() {
  try {
    const answer = await fetch(`/streams.json?since=${since}`);
    if (!answer.ok) throw new Error(answer.status);
    draw(await answer.json());
  } catch (error) {
    summary.textContent = `the receiver does not answer (${error.message})`;
    summary.className = "bad";
  }
  setTimeout(refresh, POLL_MS);
}
refresh();
