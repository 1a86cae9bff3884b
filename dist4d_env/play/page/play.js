// The page of play: shows what comes over the socket, says what its user wants. Needs drawing.js, cloud.js and input.js.
"use strict";

const $ = id => document.getElementById(id);
const SOURCES = { log: "recorded", dist_t: "DiST-T", dist_s: "DiST-S", splat: "splat", replay: "replay", oracle: "oracle", broken: "broken" };
const OUTCOMES = {
  collision: "Collision", off_road: "Off the road", wrong_way: "Wrong way", red_light: "Red light", horizon: "The recording ends here",
};
const INSIDE = new Set(["step", "go", "branch", "begin"]);  // what is done from inside the car, as going on is
const PEOPLE = new Set(["pedestrian", "bicycle", "motorcycle"]), THINGS = new Set(["traffic_cone", "barrier", "other"]);

let scene = null, state = null, before = null, arrived = 0;  // what the server said last
let header = null, decoding = false, pending = null, shownAt = [];  // the pictures
let paths = null, cloud = null, socket = null;
const chosen = { view: "colour", compare: false, focus: 0, put: null, planner: null };
const beside = { on: false, forward: 0, left: 0, up: 0, yaw: 0 };
const view = { scale: 62, drag: null };  // metres of map from top to bottom

// --- out

function say(name, fields = {}) {
  if (!socket || socket.readyState !== WebSocket.OPEN) return;
  if (beside.on && (INSIDE.has(name) || fields.on)) stayInside();
  socket.send(JSON.stringify({ do: name, ...fields }));
}

const saySeen = () => say("view", { view: chosen.view, compare: chosen.compare, focus: chosen.focus });
const sayWorld = (world, memory) => say("show", { world, memory });
const go = tick => { if (state) say("go", { tick: Math.max(0, Math.min(Math.round(tick), state.ticks)) }); };

function sayBeside() {
  const { forward, left, up, yaw } = beside;
  say("beside", { forward, left, up, yaw });
}

// --- in

function connect() {
  socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/[^/]*$/, "") + "drive");
  socket.binaryType = "arraybuffer";
  socket.addEventListener("message", event => {
    if (event.data instanceof ArrayBuffer) receivePictures(event.data);
    else receive(JSON.parse(event.data));
  });
  socket.addEventListener("close", () => {
    progress(null);
    if (!$("notice").dataset.last) notice("The connection is closed: load this page again once the server runs.", true);
  });
}

function receive(message) {
  if (message.type === "scene") receiveScene(message);
  else if (message.type === "state") receiveState(message);
  else if (message.type === "progress") progress(message.text, message.share);
  else {
    if (message.type === "saved") progress(null);
    notice(message.text, message.last);
  }
}

function receiveScene(message) {
  scene = message;
  state = before = header = null;
  paths = mapPaths(scene.map);
  chosen.focus = scene.front;
  options($("scene"), scene.scenes, scene.scene);
  options($("planner"), scene.planners, chosen.planner || "lane");
  $("worlds").replaceChildren(...scene.worlds.map((world, i) => button(world, () => sayWorld(world, memory()), { world, title: `press ${i + 1}` })));
  $("cameras").replaceChildren(...scene.rows.flat().map(cameraButton));
  $("cameras").style.setProperty("--cameras", String(scene.cameras.length));
  $("over").hidden = true;
  saySeen();
}

function receiveState(message) {
  before = state && Math.abs(message.tick - state.tick) === 1 ? state : message;
  state = message;
  arrived = performance.now();
  showState();
}

function receivePictures(data) {
  pending = data;
  if (!decoding) decode();
}

/** The newest pictures, decoded and shown; those that come meanwhile replace each other. */
async function decode() {
  decoding = true;
  while (pending) {
    const data = pending;
    pending = null;
    const size = new DataView(data).getUint32(0, true), parts = {};
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
    let at = 4 + size;
    for (const [name, length] of head.parts) {
      const content = data.slice(at, at + length);
      at += length;
      parts[name] = name === "depth" ? new Uint16Array(content) : await createImageBitmap(new Blob([content], { type: "image/jpeg" }));
    }
    if (!header || header.tick !== head.tick) shownAt.push(performance.now());
    header = head;
    showPictures(parts);
  }
  decoding = false;
}

// --- pictures

function paint(canvas, bitmap) {
  if (!bitmap) return;
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) { canvas.width = bitmap.width; canvas.height = bitmap.height; }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}

function showPictures(parts) {
  progress(null);
  const focus = header.focus, compared = Boolean(parts.truth), cloudy = header.view === "cloud";
  paint($("world"), parts[`camera${focus}`]);
  paint($("truth"), parts.truth);
  paint($("difference"), parts.difference);
  $("pane-truth").hidden = $("pane-difference").hidden = !compared;
  $("cloud").hidden = !cloudy;
  $("stage").classList.toggle("cloudy", cloudy);
  $("stage").classList.toggle("compared", compared);
  caption("pane-world", cloudy ? "all cameras as points: drag to turn" : `${cameraName(focus)}, ${SOURCES[header.source[focus]] || header.source[focus]}`);
  caption("pane-truth", "truth");
  if (compared) {
    const { psnr, depthError } = header.compared;
    const apart = psnr === null ? "none" : `x 2, PSNR ${psnr.toFixed(1)} dB`;
    caption("pane-difference", header.view === "depth" ? `depth is off by ${(100 * depthError).toFixed(1)} %` : `difference: ${apart}`);
  }
  [...$("cameras").children].forEach(element => {
    const camera = Number(element.dataset.camera), made = element.querySelector(".made");
    paint(element.querySelector("canvas"), parts[`camera${camera}`]);
    made.textContent = SOURCES[header.source[camera]] || header.source[camera];
    made.dataset.made = header.source[camera];
    element.setAttribute("aria-pressed", String(camera === focus));
  });
  if (cloudy) showCloud(parts);
  showTrust();
  showRates();
  if (header.noTruth) { chosen.compare = false; saySeen(); notice("There is no truth to compare with here: only the built-in town knows it."); }
  document.documentElement.dataset.shown = `${header.world} ${header.memory} ${header.tick}`;
}

function showCloud(parts) {
  cloud = cloud || makeCloud($("cloud"));
  if (!cloud) { notice("This browser has no WebGL, which the point cloud needs."); return; }
  const [height, width] = header.size, canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const c = canvas.getContext("2d", { willReadFrequently: true });
  const pictures = scene.cameras.map((_, camera) => {
    c.drawImage(parts[`camera${camera}`], 0, 0);
    return c.getImageData(0, 0, width, height).data;
  });
  const points = pointsOf(pictures, parts.depth, scene, height, width);
  cloud.set(points.places, points.tints);
  cloud.draw();
}

function showTrust() {
  const trust = header.trust;
  $("trust").className = trust > 0.6 ? "" : trust > 0.3 ? "some" : "little";
  $("trust").querySelector("u").style.width = `${100 * trust}%`;
  $("trust").querySelector("b").textContent = trust.toFixed(2);
  const away = header.deviation < 1 ? `${(100 * header.deviation).toFixed(0)} cm` : `${header.deviation.toFixed(1)} m`;
  $("trust").title = `how far the picture is to be believed; ${away} off the path it was made for`;
}

function showRates() {
  const now = performance.now();
  shownAt = shownAt.filter(at => now - at < 3000);
  const rate = shownAt.length > 1 ? 1000 * (shownAt.length - 1) / (now - shownAt[0]) : 0;
  $("rates").textContent = `${state && state.running ? `${rate.toFixed(1)} pictures/s of ` : ""}${header.size.join(" x ")}`;
  $("rates").title = `this one took ${header.ms} ms`;
}

const caption = (pane, text) => { $(pane).querySelector("figcaption").textContent = text; };
const cameraName = camera => scene.cameras[camera].replace("CAM_", "").replaceAll("_", " ").toLowerCase();

// --- state

const memory = () => state ? state.look.memory : "log";

function showState() {
  const running = state.running;
  $("run").textContent = running ? "stop" : "go";
  $("run").setAttribute("aria-pressed", String(running));
  $("time").max = state.ticks;
  if (document.activeElement !== $("time") || running) $("time").value = state.tick;
  $("clock").textContent = `${(state.tick * scene.tick).toFixed(1)} of ${(state.ticks * scene.tick).toFixed(1)} s`;
  $("pace").value = String(state.pace);
  $("memory").textContent = `memory: ${state.look.memory}`;
  for (const element of $("worlds").children) element.setAttribute("aria-pressed", String(element.dataset.world === state.look.world));
  const byHand = state.driver === "hand";
  $("hand").textContent = byHand ? "hand over" : "take back";
  $("hand").setAttribute("aria-pressed", String(!byHand));
  $("speed").querySelector("b").textContent = (3.6 * state.ego[3]).toFixed(0);
  $("speed").querySelector("span").textContent = byHand ? "" : `· ${state.driver} drives`;
  $("branches").replaceChildren(...state.branches.map((ticks, number) =>
    button(`branch ${number + 1} (${(ticks * scene.tick).toFixed(1)} s)`, () => say("branch", { number }), {})));
  showMetrics();
  showOver();
  showChoices();
  if (header) showRates();
  document.documentElement.dataset.tick = state.tick;
}

function showMetrics() {
  const m = state.metrics, number = (value, unit, digits = 1) => value == null ? "n/a" : `${value.toFixed(digits)} ${unit}`;
  const facts = [
    ["progress", number(m.route_progress, "m"), false],
    ["speed limit", number(m.speed_limit == null ? null : 3.6 * m.speed_limit, "km/h", 0), m.speeding > 0.3],
    ["off the route", number(m.route_offset == null ? null : Math.abs(m.route_offset), "m"), Math.abs(m.route_offset) > 2],
    ["off the log", number(m.log_deviation, "m"), false],
    ["to collision", number(m.time_to_contact, "s"), m.time_to_contact != null && m.time_to_contact < 1.5],
    ["acceleration", number(state.ego[4], "m/s²"), false],
    ["off the road", m.off_road ? "yes" : "no", m.off_road > 0],
    ["wrong way", m.wrong_way ? "yes" : "no", m.wrong_way > 0],
  ];
  $("metrics").replaceChildren(...facts.flatMap(([name, text, bad]) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = text;
    dd.className = bad ? "bad" : "";
    return [dt, dd];
  }));
}

function showOver() {
  if (!state) return;
  const over = $("over");
  const fresh = state.ticks === 0 && !state.running && !beside.on && !chosen.compare && chosen.view === "colour";
  over.hidden = !state.endedBy && !fresh;
  if (over.hidden) return;
  const title = document.createElement("b"), text = document.createElement("p");
  if (state.endedBy) {
    const pdms = state.final.pdms_v1;
    title.textContent = OUTCOMES[state.endedBy] || state.endedBy;
    text.textContent = `PDMS ${pdms == null ? "n/a" : pdms.toFixed(2)} over the whole drive. Begin again (R), or go a second back ([).`;
  } else {
    const thumbs = getComputedStyle($("pads")).display !== "none";
    title.textContent = thumbs ? "Push the right pad up to drive" : "Press ↑ to drive";
    text.textContent = `Arrow keys${thumbs ? ", the pads" : ""} or a gamepad. ? lists all keys.`;
  }
  over.replaceChildren(title, text);
}

function showChoices() {
  for (const element of document.querySelectorAll("[data-view]")) element.setAttribute("aria-pressed", String(element.dataset.view === chosen.view));
  for (const element of document.querySelectorAll("[data-put]")) element.setAttribute("aria-pressed", String(element.dataset.put === chosen.put));
  $("compare").setAttribute("aria-pressed", String(chosen.compare));
  $("beside").setAttribute("aria-pressed", String(beside.on));
  $("elsewhere").hidden = !beside.on;
  $("hint").hidden = !chosen.put;
  $("map").classList.toggle("putting", Boolean(chosen.put));
}

// --- from above: the ego looks up the canvas

const blend = (a, b, share) => a + (b - a) * share;
const turn = (a, b, share) => a + Math.atan2(Math.sin(b - a), Math.cos(b - a)) * share;

/** The ego and agents between the last two ticks, so that ten ticks a second look smooth. */
function blended() {
  const gap = 100 / (state.pace || 1), share = state.running ? Math.min((performance.now() - arrived) / gap, 1) : 1;
  const was = new Map(before.agents.map(agent => [agent[0], agent]));
  const pose = (from, to, at) => [blend(from[at], to[at], share), blend(from[at + 1], to[at + 1], share), turn(from[at + 2], to[at + 2], share)];
  const agents = state.agents.map(agent => [...agent.slice(0, 2), ...pose(was.get(agent[0]) || agent, agent, 2), ...agent.slice(5)]);
  return { ego: pose(before.ego, state.ego, 0), agents };
}

function placeMap(canvas, [x, y, yaw]) {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const c = canvas.getContext("2d"), scale = height / view.scale;
  c.setTransform(1, 0, 0, 1, 0, 0);
  c.fillStyle = colour("--soft");
  c.fillRect(0, 0, width, height);
  c.translate(width / 2, height * 0.72);
  c.scale(scale, -scale);
  c.rotate(Math.PI / 2 - yaw);
  c.translate(-x, -y);
  return c;
}

function drawAbove() {
  requestAnimationFrame(drawAbove);
  if (!state || !paths) return;
  const { ego, agents } = blended(), c = placeMap($("map"), ego);
  drawMap(c, paths);
  const even = (list, odd) => list.filter((_, i) => i % 2 === odd);
  drawLine(c, even(scene.route, 0), even(scene.route, 1), colour("--route"), 0.7, [], Infinity);
  scene.stopLines.forEach((line, i) => {
    const light = LIGHTS[state.lights[i]];
    if (light) drawLine(c, even(line, 0), even(line, 1), colour(light), 0.6, [], Infinity);
  });
  const touched = new Set(state.touched);
  for (const [token, kind, x, y, yaw, length, width] of agents) {
    const name = touched.has(token) ? "--bad" : PEOPLE.has(kind) ? "--people" : THINGS.has(kind) ? "--thing" : "--agent";
    drawBox(c, [x, y, yaw], length, width, 0, colour(name));
  }
  drawLine(c, [ego[0], ...even(state.plan, 0)], [ego[1], ...even(state.plan, 1)], colour("--plan"), 0.3, [], state.plan.length ? Infinity : -1);
  drawBox(c, ego, scene.vehicle[0], scene.vehicle[1], scene.vehicle[2], colour("--ego"));
  if (beside.on) drawViewer(c, ego);
  if (view.drag) drawLine(c, [view.drag.from[0], view.drag.to[0]], [view.drag.from[1], view.drag.to[1]], colour("--warn"), 0.35, [], Infinity);
}

function drawViewer(c, [x, y, yaw]) {
  const cos = Math.cos(yaw), sin = Math.sin(yaw), at = [x + cos * beside.forward - sin * beside.left, y + sin * beside.forward + cos * beside.left];
  c.fillStyle = colour("--warn");
  c.beginPath();
  c.moveTo(...at);
  for (const side of [-0.5, 0.5]) c.lineTo(at[0] + 5 * Math.cos(yaw + beside.yaw + side), at[1] + 5 * Math.sin(yaw + beside.yaw + side));
  c.globalAlpha = 0.5;
  c.fill();
  c.globalAlpha = 1;
}

/** Where on the ground a pointer is, relative to the scene's origin: on the map as it is drawn now. */
function groundAt(event) {
  const canvas = $("map"), box = canvas.getBoundingClientRect(), [x, y, yaw] = blended().ego, scale = box.height / view.scale;
  const right = (event.clientX - box.left - box.width / 2) / scale, ahead = (box.height * 0.72 - (event.clientY - box.top)) / scale;
  return [x + Math.cos(yaw) * ahead + Math.sin(yaw) * right, y + Math.sin(yaw) * ahead - Math.cos(yaw) * right];
}

function readMap() {
  const canvas = $("map");
  canvas.addEventListener("pointerdown", event => {
    if (!chosen.put || !state || event.button) return;
    if (state.running) say("run", { on: false });
    canvas.setPointerCapture(event.pointerId);
    view.drag = { from: groundAt(event), to: groundAt(event) };
  });
  canvas.addEventListener("pointercancel", () => { view.drag = null; });
  canvas.addEventListener("pointermove", event => { if (view.drag) view.drag.to = groundAt(event); });
  canvas.addEventListener("pointerup", () => {
    if (!view.drag) return;
    const { from, to } = view.drag, length = Math.hypot(to[0] - from[0], to[1] - from[1]), moves = length > 1.5;
    const heading = moves ? Math.atan2(to[1] - from[1], to[0] - from[0]) : null;
    say("insert", { category: chosen.put, x: from[0], y: from[1], heading, speed: moves ? Math.min(length / 2, chosen.put === "pedestrian" ? 2.5 : 15) : 0 });
    view.drag = null;
    put(null);
  });
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    view.scale = Math.max(25, Math.min(view.scale * Math.exp(event.deltaY * 0.001), 180));
  }, { passive: false });
}

// --- small things

function notice(text, last = false) {
  const element = $("notice");
  if (element.dataset.last) return;
  element.textContent = text;
  element.hidden = false;
  if (last) element.dataset.last = "yes";
  clearTimeout(notice.timer);
  if (!last) notice.timer = setTimeout(() => { element.hidden = true; }, 6000);
}

function progress(text, share) {
  $("progress").hidden = text === null;
  if (text === null) return;
  $("progress").querySelector("span").textContent = text;
  $("progress").querySelector("i").hidden = share === undefined;
  $("progress").querySelector("u").style.width = `${100 * (share || 0)}%`;
}

function button(text, act, { title = "", ...data }) {
  const element = document.createElement("button");
  element.textContent = text;
  element.title = title;
  Object.assign(element.dataset, data);
  element.addEventListener("click", act);
  return element;
}

function cameraButton(camera) {
  const element = button("", () => { chosen.focus = camera; saySeen(); }, { camera, title: "show this one large" });
  const name = document.createElement("span"), made = document.createElement("span");
  name.className = "tag";
  name.textContent = cameraName(camera);
  made.className = "tag made";
  element.append(document.createElement("canvas"), name, made);
  return element;
}

function options(select, values, value) {
  select.replaceChildren(...values.map(text => new Option(text, text)));
  select.value = value;
}

function put(category) {
  chosen.put = category;
  showChoices();
}

// --- what users do

const act = {
  run: () => say("run", { on: !state.running }),
  step: () => say("step"),
  back: () => go(state.tick - 10),
  forth: () => go(state.tick + 10),
  begin: () => { leave(false); say("begin", { scene: "" }); },
  save: () => say("save"),
  hand: () => say("planner", { name: state.driver === "hand" ? $("planner").value : "" }),
  memory: () => sayWorld(state.look.world, memory() === "log" ? "history" : "log"),
  compare: () => { chosen.compare = !chosen.compare; saySeen(); showChoices(); showOver(); },
  view: () => look({ colour: "depth", depth: "cloud", cloud: "colour" }[chosen.view]),
  put: () => put({ null: "car", car: "pedestrian", pedestrian: "traffic_cone", traffic_cone: "barrier", barrier: null }[String(chosen.put)]),
  slower: () => say("pace", { pace: { 0: 1, 1: 0.5, 0.5: 0.25, 0.25: 0.25 }[state.pace] }),
  faster: () => say("pace", { pace: { 0.25: 0.5, 0.5: 1, 1: 0, 0: 0 }[state.pace] }),
  beside: () => leave(!beside.on),
  help: () => $("keys").showModal(),
};
const KEYS = {
  " ": "run", ".": "step", "[": "back", "]": "forth", r: "begin", f: "save", p: "hand", m: "memory", c: "compare", v: "view", i: "put",
  "-": "slower", "+": "faster", "=": "faster", b: "beside", "?": "help",
};

function look(kind) {
  chosen.view = kind;
  saySeen();
  showChoices();
  showOver();
}

/** Out of the car, or back into it. */
function leave(on) {
  if (on === beside.on) return;
  if (!on) { go(state.tick); return; }
  beside.on = true;
  sayBeside();
  showChoices();
  showOver();
}

/** The camera is in the car again: whatever is said next shows it from there. */
function stayInside() {
  Object.assign(beside, { on: false, forward: 0, left: 0, up: 0, yaw: 0 });
  moveSliders();
  showChoices();
  showOver();
}

function move(change) {
  for (const slider of document.querySelectorAll("#elsewhere input")) {
    const name = slider.dataset.of;
    if (name in change) beside[name] = Math.max(Number(slider.min), Math.min(beside[name] + change[name], Number(slider.max)));
  }
  moveSliders();
  sayBeside();
}

function moveSliders() {
  for (const slider of document.querySelectorAll("#elsewhere input")) slider.value = beside[slider.dataset.of];
}

function readKeys() {
  document.addEventListener("keydown", event => {
    const key = event.key.toLowerCase(), inField = event.target.closest("select, dialog[open]");
    if (event.ctrlKey || event.metaKey || event.altKey || inField || !state) return;
    const drives = DRIVING[key];
    if (drives) {
      event.preventDefault();
      if (!beside.on) held.add(drives);
      else move({ faster: { forward: 0.4 }, slower: { forward: -0.4 }, left: { left: 0.3 }, right: { left: -0.3 } }[drives]);
      return;
    }
    if (event.repeat) return;
    if (/^[1-9]$/.test(key) && scene.worlds[key - 1]) sayWorld(scene.worlds[key - 1], memory());
    else if (KEYS[key]) act[KEYS[key]]();
    else return;
    event.preventDefault();
  });
  document.addEventListener("keyup", event => held.delete(DRIVING[event.key.toLowerCase()]));
  window.addEventListener("blur", () => held.clear());
}

function readStage() {
  const canvas = $("world");
  let from = null;
  canvas.addEventListener("pointerdown", event => { if (beside.on) { from = [event.clientX, event.clientY]; canvas.setPointerCapture(event.pointerId); } });
  canvas.addEventListener("pointermove", event => {
    if (!from) return;
    const dx = event.clientX - from[0], dy = event.clientY - from[1];
    from = [event.clientX, event.clientY];
    move({ yaw: dx * 0.004, forward: dy * 0.02 });
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { from = null; });
}

function readButtons() {
  for (const id of ["run", "step", "back", "begin", "save", "hand", "memory", "compare", "beside", "help"]) {
    $(id).addEventListener("click", () => { if (state || id === "help") act[id](); });
  }
  $("return").addEventListener("click", () => leave(false));
  for (const element of document.querySelectorAll("[data-view]")) element.addEventListener("click", () => look(element.dataset.view));
  for (const element of document.querySelectorAll("[data-put]")) {
    element.addEventListener("click", () => put(chosen.put === element.dataset.put ? null : element.dataset.put));
  }
  for (const slider of document.querySelectorAll("#elsewhere input")) {
    slider.addEventListener("input", () => { beside[slider.dataset.of] = Number(slider.value); sayBeside(); });
  }
  $("scene").addEventListener("change", () => { leave(false); say("begin", { scene: $("scene").value }); $("scene").blur(); });
  $("planner").addEventListener("change", () => { chosen.planner = $("planner").value; $("planner").blur(); });
  $("pace").addEventListener("change", () => { say("pace", { pace: Number($("pace").value) }); $("pace").blur(); });
  $("time").addEventListener("input", () => go(Number($("time").value)));
  $("time").addEventListener("change", () => $("time").blur());
}

readKeys();
readButtons();
readMap();
readStage();
readPad($("pad-wheel"), "wheel");
readPad($("pad-pedal"), "pedal");
readInput((pedal, wheel) => say("control", { pedal, wheel }), () => {
  if (state && !state.running && !state.endedBy && !beside.on) say("run", { on: true });
});
connect();
requestAnimationFrame(drawAbove);
