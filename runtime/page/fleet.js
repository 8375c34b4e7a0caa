// The fleet page: asks every few seconds how all cameras are, and shows those first that need attention.

import { age, bytes, rate, seconds, tell } from "./format.js";

const EVERY_MS = 3000;
const URGENT = 50; // from here on somebody should look soon; below, it can wait
const [summary, body, find, group, ill, nothing] = ["summary", "fleet", "find", "group", "ill", "nothing"].map((id) =>
  id === "fleet" ? document.querySelector("#fleet tbody") : document.getElementById(id));
const NAMES = ["", "Newest picture", "Link", "Frame", "Data left", "Promised", "Program", "Bundle", "Last event"];
const rows = new Map();
let cameras = [];

const known = (value, show) => (value === null ? "" : show(value));

function texts(camera) {
  const since = camera.said_s ?? 0;
  return [
    camera.attention || "ok",
    known(camera.age_s, (s) => age(s + since)),
    known(camera.link_bps, rate),
    known(camera.budget_bytes, bytes),
    known(camera.data_left_bytes, bytes),
    known(camera.promised_waiting, (count) => (count ? `${count} wait` : "none wait")),
    camera.version ?? "",
    camera.bundle ?? "",
    known(camera.event, (words) => `${words}, ${seconds(camera.event_s)} ago`),
  ];
}

function rowOf(stream) {
  if (!rows.has(stream)) {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = stream;
    row.append(head, ...NAMES.map((name) => {
      const cell = document.createElement("td");
      if (name) cell.dataset.name = name;
      else cell.className = "attention";
      return cell;
    }));
    rows.set(stream, row);
  }
  return rows.get(stream);
}

function shown(camera) {
  if (ill.checked && !camera.urgency) return false;
  if (group.value && !camera.groups.includes(group.value)) return false;
  const words = find.value.trim().toLowerCase();
  return !words || [camera.stream, ...texts(camera), ...camera.groups].some((text) => text.toLowerCase().includes(words));
}

function draw() {
  const wanted = cameras.filter(shown).map((camera) => {
    const row = rowOf(camera.stream);
    row.className = camera.urgency >= URGENT ? "urgent" : camera.urgency ? "ill" : "";
    texts(camera).forEach((text, place) => tell(row.cells[place + 1], text));
    return row;
  });
  // Rows that stay where they are keep the reader's place and focus.
  wanted.forEach((row, place) => {
    if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
  });
  while (body.rows.length > wanted.length) body.lastElementChild.remove();
  nothing.hidden = wanted.length > 0;
}

function fillGroups() {
  const names = [...new Set(cameras.flatMap((camera) => camera.groups))].sort();
  const have = [...group.options].slice(1).map((option) => option.value);
  if (names.join("\n") === have.join("\n")) return;
  const before = group.value;
  group.replaceChildren(group.options[0], ...names.map((name) => new Option(name, name)));
  group.value = names.includes(before) ? before : "";
}

async function ask() {
  try {
    const answer = await fetch("fleet.json", { signal: AbortSignal.timeout(10_000) });
    if (!answer.ok) throw new Error(`answer ${answer.status}`);
    const told = await answer.json();
    cameras = told.cameras;
    const there = new Set(cameras.map((camera) => camera.stream));
    for (const stream of [...rows.keys()]) if (!there.has(stream)) rows.delete(stream);
    const count = cameras.filter((camera) => camera.urgency).length;
    tell(summary, told.trouble ? `no broker: ${told.trouble}` : `${cameras.length} cameras, ${count} need attention`);
    summary.classList.toggle("bad", Boolean(told.trouble));
    fillGroups();
    draw();
  } catch (error) {
    tell(summary, `no answer: ${error.message}`);
    summary.classList.add("bad");
  }
  setTimeout(ask, EVERY_MS);
}

for (const control of [find, group, ill]) control.addEventListener("input", draw);
ask();
