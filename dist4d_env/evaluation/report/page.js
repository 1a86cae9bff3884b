// Script of a campaign's report: unpacks the episodes stored in the page, draws them from above with their time lines, and
// fills the gallery of failures and the list of episodes. Works offline; needs nothing but the page it stands in.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const ranked = data.metrics.indexOf(data.ranked);

// --- helpers

const shortName = name => name.slice(name.lastIndexOf(":") + 1);
const scoreOf = episode => ranked < 0 ? null : episode.values[ranked];
const fixed = (value, digits) => value == null ? "n/a" : value.toFixed(digits);
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flatMap((child, i) => i ? [" ", child] : [child]));  // copied and read aloud with spaces
  return element;
}

function makeSvg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** A function of one argument whose results are kept. */
function memoised(compute) {
  const results = new Map();
  return key => {
    if (!results.has(key)) results.set(key, compute(key));
    return results.get(key);
  };
}

// --- stored episodes: base64 of gzip of JSON, columns as differences

const unpack = memoised(async id => {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
});

function cumulative(column, scale) {
  let sum = 0;
  return column.map(step => (sum += step) * scale);
}

/** x, y in centimetres and heading in milliradians, then further columns in hundredths. */
const columnsOf = packed => packed.map((column, i) => cumulative(column, i === 2 ? 1e-3 : 1e-2));

const load = memoised(async index => {
  const [replay, map] = await Promise.all([unpack("e" + index), unpack("m-" + data.episodes[index].scene)]);
  const [x, y, yaw, speed, acceleration, lateral] = columnsOf(replay.ego);
  const agents = replay.agents.map(([kind, length, width, track, first, count, ...pose]) => ({
    kind, track, first, count, length: length / 100, width: width / 100, pose: columnsOf(pose),
  }));
  return {
    replay, x, y, yaw, speed, acceleration, lateral, agents,
    expert: replay.expert.map(column => cumulative(column, 0.1)),
    expertSpeed: cumulative(replay.expertSpeed, 1e-2),
    length: (x.length - 1) * replay.dt,
    paths: mapPaths(map),
  };
});

/** The front cameras' pictures: one image with a row per decision. */
const loadStrip = memoised(index => new Promise((resolve, reject) => {
  const image = new Image();
  image.onload = () => resolve(image);
  image.onerror = reject;
  image.src = "data:image/jpeg;base64," + document.getElementById("p" + index).textContent;
}));

function interpolated(column, row) {
  const low = Math.max(0, Math.min(Math.floor(row), column.length - 1)), high = Math.min(low + 1, column.length - 1);
  return column[low] + (column[high] - column[low]) * Math.max(0, Math.min(row - low, 1));
}

const decisionAt = (episode, time) => Math.max(episode.replay.steps.time.findLastIndex(t => t <= time + 1e-6), 0);

// --- drawing from above: the ego looks up the canvas

/** Draws an episode at a time; struck: tracks of agents to draw in red; closeUp: as in the gallery. */
function draw(canvas, episode, time, struck, closeUp = false) {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const c = canvas.getContext("2d"), row = time / episode.replay.dt, scale = height / (closeUp ? 46 : 62);
  const x = interpolated(episode.x, row), y = interpolated(episode.y, row), yaw = interpolated(episode.yaw, row);
  c.setTransform(1, 0, 0, 1, 0, 0);
  c.fillStyle = colour("--soft");
  c.fillRect(0, 0, width, height);
  c.translate(width / 2, height * (closeUp ? 0.62 : 0.72));
  c.scale(scale, -scale);
  c.rotate(Math.PI / 2 - yaw);
  c.translate(-x, -y);
  drawMap(c, episode.paths);
  drawLights(c, episode.replay.lights, row);
  drawLine(c, episode.expert[0], episode.expert[1], colour("--faint"), 0.25, [1.2, 0.9], Infinity);
  drawLine(c, episode.x, episode.y, colour("--accent"), 0.35, [], row);
  const present = episode.agents.flatMap(agent => {
    const local = row - agent.first;
    if (local < -0.001 || local > agent.count - 1 + 0.999) return [];
    return [{ agent, pose: agent.pose.map(column => interpolated(column, local)) }];
  });
  for (const { agent, pose } of present) {
    if (!struck.has(agent.track)) drawBox(c, pose, agent.length, agent.width, 0, colour("--agent"));
  }
  drawPlan(c, episode, time);
  const [length, wide, ahead] = episode.replay.vehicle.map(v => v / 100);
  drawBox(c, [x, y, yaw], length, wide, ahead, colour("--accent"));
  for (const { agent, pose } of present) {
    if (!struck.has(agent.track)) continue;
    drawBox(c, pose, agent.length, agent.width, 0, colour("--bad"));
    c.strokeStyle = colour("--bad");
    c.lineWidth = 0.25;
    c.beginPath();
    c.arc(pose[0], pose[1], Math.max(agent.length, agent.width) / 2 + 1, 0, 7);
    c.stroke();
  }
}

/** Stop lines as their traffic lights show at a row. */
function drawLights(c, lights, row) {
  for (const [x1, y1, x2, y2, ...changes] of lights) {
    let state = 0;
    for (let i = 0; i < changes.length && changes[i] <= row; i += 2) state = changes[i + 1];
    if (LIGHTS[state]) drawLine(c, [x1 / 10, x2 / 10], [y1 / 10, y2 / 10], colour(LIGHTS[state]), 0.6, [], Infinity);
  }
}

/** The poses of the plan being followed: x, y in the ego frame of the tick in which it was issued. */
function drawPlan(c, episode, time) {
  const plan = episode.replay.plans.filter(p => p[0] / 10 <= time + 0.05).pop();
  if (!plan) return;
  const row = plan[0] / 10 / episode.replay.dt, yaw = interpolated(episode.yaw, row);
  const x = interpolated(episode.x, row), y = interpolated(episode.y, row);
  c.fillStyle = colour("--accent");
  c.globalAlpha = 0.6;
  for (let i = 1; i < plan.length; i += 2) {
    const px = plan[i] / 10, py = plan[i + 1] / 10;
    c.beginPath();
    c.arc(x + px * Math.cos(yaw) - py * Math.sin(yaw), y + px * Math.sin(yaw) + py * Math.cos(yaw), 0.32, 0, 7);
    c.fill();
  }
  c.globalAlpha = 1;
}

function drawStrip(canvas, image, episode, time) {
  const width = image.naturalWidth, height = image.naturalHeight / episode.replay.steps.time.length;
  canvas.width = width;
  canvas.height = height;
  canvas.style.aspectRatio = `${width} / ${height}`;
  canvas.getContext("2d").drawImage(image, 0, decisionAt(episode, time) * height, width, height, 0, 0, width, height);
}

// --- time lines

/** A chart of lines over time as {figure, move(time)}, null where there are no values. limits: values that the axis includes. */
function chart(title, unit, episode, lines, failures, seek, limits) {
  const W = 460, H = 104, L = 34, R = 8, T = 8, B = 16, length = episode.length;
  lines = lines.filter(line => line.y.some(v => v != null));
  if (!lines.length) return null;
  const values = lines.flatMap(line => line.y).filter(v => v != null);
  let low = Math.min(...values, ...(limits || [])), high = Math.max(...values, ...(limits || []));
  if (high - low < 0.5) {
    const middle = (low + high) / 2;
    low = limits ? limits[0] : middle - 0.25;
    high = middle + 0.25;
  }
  const px = t => L + t / Math.max(length, 1e-6) * (W - L - R), py = v => T + (high - v) / (high - low) * (H - T - B);
  const svg = makeSvg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
  const text = (words, attributes) => {
    const element = makeSvg("text", attributes);
    element.textContent = words;
    svg.append(element);
  };
  const step = roundStep((high - low) / 3);
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9; v += step) {
    svg.append(makeSvg("line", { class: "grid", x1: L, x2: W - R, y1: py(v), y2: py(v) }));
    text(+v.toFixed(3), { x: L - 5, y: py(v) + 3, "text-anchor": "end" });
  }
  for (let t = 0; t <= length + 1e-6; t += length > 12 ? 5 : length > 6 ? 2 : 1) {
    text(t + " s", { x: px(t), y: H - 3, "text-anchor": "middle" });
  }
  for (const t of failures) svg.append(makeSvg("line", { class: "fail", x1: px(t), x2: px(t), y1: T, y2: H - B }));
  for (const line of lines) svg.append(linePath(line, px, py));
  const now = makeSvg("line", { class: "now", y1: T, y2: H - B });
  svg.append(now);
  svg.addEventListener("click", event => {
    const box = svg.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width * W - L) / (W - L - R) * length);
  });
  const legend = lines.map(line => make("span", {}, make("i", { style: "background:" + line.colour }), line.name));
  const move = t => { now.setAttribute("x1", px(t)); now.setAttribute("x2", px(t)); };
  return { figure: make("figure", {}, make("figcaption", {}, make("b", {}, title), unit, ...legend), svg), move };
}

function roundStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].find(factor => factor * power >= rough * 0.999) * power;
}

function linePath(line, px, py) {
  let path = "", drawing = false;
  line.y.forEach((v, i) => {
    if (v != null) path += `${drawing ? "L" : "M"}${px(line.x[i]).toFixed(1)} ${py(v).toFixed(1)}`;
    drawing = v != null;
  });
  return makeSvg("path", {
    d: path, fill: "none", stroke: line.colour, "stroke-width": 1.7, "stroke-linejoin": "round",
    ...(line.dashed ? { "stroke-dasharray": "4 3" } : {}),
  });
}

function episodeCharts(episode, failures, seek) {
  const steps = episode.replay.steps, times = episode.x.map((_, i) => i * episode.replay.dt);
  const accent = colour("--accent"), bad = colour("--bad"), purple = "#b0369a", grey = "#8b93a3", green = "#1a9a86";
  const charts = [
    chart("Speed", "m/s", episode, [
      { name: "driven", x: times, y: episode.speed, colour: accent },
      { name: "recorded ego", x: times, y: episode.expertSpeed, colour: grey, dashed: true },
      { name: "limit", x: steps.time, y: steps.speed_limit, colour: bad, dashed: true },
    ], failures, seek, [0]),
    chart("Acceleration", "m/s²", episode, [
      { name: "along", x: times, y: episode.acceleration, colour: accent },
      { name: "across", x: times, y: episode.lateral, colour: purple },
    ], failures, seek),
    chart("Time to collision", "s, at most 10", episode, [
      { name: "if all keep their velocity", x: steps.time, y: steps.time_to_contact, colour: bad },
    ], failures, seek, [0, 10]),
    chart("Beside", "m", episode, [
      { name: "left of the route", x: steps.time, y: steps.route_offset, colour: green },
      { name: "from the recorded ego", x: steps.time, y: steps.log_deviation, colour: grey, dashed: true },
    ], failures, seek),
  ];
  if (episode.replay.front.some(source => source)) {
    charts.push(chart("Trust", "0 to 1", episode, [
      { name: "in the picture", x: steps.time, y: steps.trust, colour: "#c77700" },
    ], failures, seek, [0, 1]));
  }
  return charts.filter(one => one);
}

// --- the player of one episode

function metricList(info) {
  return make("ul", { class: "facts" }, ...data.metrics.map((name, i) =>
    make("li", {}, make("span", {}, data.labels[name]), make("b", {}, fixed(info.values[i], 3)))));
}

async function player(place, index, from) {
  const info = data.episodes[index];
  place.replaceChildren("reading ...");
  let episode;
  try {
    episode = await load(index);
  } catch (error) {
    place.replaceChildren("This browser cannot unpack the episode (" + error + ").");
    return;
  }
  const struck = new Set(info.failures.filter(f => f.track != null).map(f => f.track));
  const canvas = make("canvas", { class: "map" }), output = make("output"), button = make("button", {}, "play");
  const slider = make("input", { type: "range", min: 0, max: episode.length, step: 0.05, "aria-label": "time" });
  let time = from ?? 0, running = false, last = 0, strip = null, frame = 0;
  const seek = t => { time = Math.max(0, Math.min(t, episode.length)); show(); };
  const charts = episodeCharts(episode, info.failures.map(f => f.at), seek);
  const left = make("div", {}, canvas), right = make("div");
  if (info.views) {
    const views = make("canvas", { class: "views" });
    left.append(views);
    loadStrip(index).then(image => { strip = { image, views }; show(); });
  }
  left.append(make("div", { class: "bar" }, button, slider, output));
  if (info.failures.length) {
    right.append(make("ul", { class: "wrong" }, ...info.failures.map(f => make("li", {}, `${f.at.toFixed(1)} s: ${f.text}`))));
  }
  const link = make("a", {}, "link to this instant");
  right.append(...charts.map(c => c.figure), metricList(info), make("p", {}, link));
  place.replaceChildren(left, right);

  function show() {
    draw(canvas, episode, time, struck);
    slider.value = time;
    const speed = interpolated(episode.speed, time / episode.replay.dt), source = episode.replay.front[decisionAt(episode, time)];
    output.textContent = `${time.toFixed(1)} s  ${speed.toFixed(1)} m/s` + (source ? "  " + source : "");
    charts.forEach(c => c.move(time));
    link.href = linkTo(info, time);
    if (strip) drawStrip(strip.views, strip.image, episode, time);
  }
  function tick(now) {
    if (!running || !place.isConnected) return;
    time += Math.min((now - last) / 1000, 0.1);
    last = now;
    if (time >= episode.length) { time = episode.length; toggle(); }
    show();
    frame = requestAnimationFrame(tick);
  }
  function toggle() {
    running = !running;
    button.textContent = running ? "pause" : "play";
    if (!running) { cancelAnimationFrame(frame); return; }
    if (time >= episode.length - 1e-3) time = 0;
    last = performance.now();
    frame = requestAnimationFrame(tick);
  }
  button.addEventListener("click", toggle);
  slider.addEventListener("input", () => seek(+slider.value));
  canvas.redraw = show;
  new ResizeObserver(show).observe(canvas);
  show();
}

// --- the list of episodes

const distinct = key => [...new Set(data.episodes.map(e => e[key]).filter(v => v))];
const planners = [["", "all planners"], ...data.planners.map(p => [p, shortName(p)])];
const families = [["", "all families"], ...distinct("family").sort().map(f => [f, f.replaceAll("_", " ")])];

function choice(label, options, changed) {
  return make("select", { "aria-label": label, onchange: changed },
    ...options.map(([value, text]) => make("option", { value }, text)));
}

/** Shows items in portions of ``size``; the button ``more`` adds the next. */
function showPages(items, place, more, size, render) {
  let next = 0;
  const add = () => {
    place.append(...items.slice(next, next + size).map(item => render(item)));
    next += size;
    more.hidden = next >= items.length;
    if (!more.hidden) more.textContent = `show more (${items.length - next})`;
  };
  place.replaceChildren();
  more.onclick = add;
  add();
}

function list() {
  const place = document.getElementById("list"), more = document.getElementById("list-more"), count = make("span");
  const outcomes = [["", "all outcomes"], ["failed", "with a failure"],
    ...distinct("outcome").map(o => [o, (data.outcomes[o] || [o])[0]])];
  const orders = [["worst", "lowest score first"], ["best", "highest score first"], ["scenario", "by scenario"]];
  const hasOutcome = e => !outcome.value || (outcome.value === "failed" ? e.failures.length : e.outcome === outcome.value);
  const value = i => scoreOf(data.episodes[i]) ?? -1;
  const label = i => [data.episodes[i].scenario, data.episodes[i].seed, data.episodes[i].planner].join("/");
  const update = () => {
    const found = data.episodes.map((_, i) => i).filter(i => {
      const e = data.episodes[i];
      return (!planner.value || e.planner === planner.value) && (!family.value || e.family === family.value) && hasOutcome(e);
    });
    const sign = order.value === "worst" ? 1 : -1;
    const byLabel = (a, b) => label(a) < label(b) ? -1 : 1, byScore = (a, b) => sign * (value(a) - value(b)) || a - b;
    found.sort(order.value === "scenario" ? byLabel : byScore);
    count.textContent = counted(found.length, "episode");
    showPages(found, place, more, 25, entry);
  };
  const planner = choice("planner", planners, update), family = choice("family", families, update);
  const outcome = choice("outcome", outcomes, update), order = choice("order", orders, update);
  document.getElementById("list-tools").append(planner, family, outcome, order, count);
  update();
}

function entry(index) {
  const e = data.episodes[index], [text] = data.outcomes[e.outcome] || [e.outcome];
  const place = make("div", { class: "player" });
  const chip = make("span", { class: "chip " + (e.outcome === "horizon" ? "good" : "bad") }, text);
  const summary = make("summary", {}, make("b", {}, shortName(e.planner)), make("span", { class: "wide" }, e.scenario || e.scene),
    make("span", {}, "seed " + e.seed), make("b", {}, fixed(scoreOf(e), 3)), make("span", {}, chip));
  const details = make("details", { class: "episode", "data-index": index }, summary, place);
  if (!e.drawn) place.textContent = "Not kept in this page; the episode's log has it.";
  details.addEventListener("toggle", () => {
    if (!e.drawn) return;
    if (details.open) {
      history.replaceState(null, "", linkTo(e, details.from));
      player(place, index, details.from);
    }
    else place.replaceChildren();
  });
  return details;
}

function openEpisode(index, from) {
  const place = document.getElementById("list");
  let found = place.querySelector(`details[data-index="${index}"]`);
  if (!found) {
    found = entry(index);
    place.prepend(found);
  }
  found.from = from;
  found.open = false;
  found.open = true;
  found.scrollIntoView({ block: "start" });
  found.querySelector("summary").focus({ preventScroll: true });
}

// --- the gallery of failures

function gallery() {
  const place = document.getElementById("gallery");
  if (!place) return;
  const all = data.episodes.flatMap((e, index) => e.failures.map(failure => ({ index, failure, e })));
  all.sort((a, b) => b.e.drawn - a.e.drawn);  // those without a drawing last, as words alone
  const more = document.getElementById("gallery-more"), count = make("span");
  const kinds = [["", "all kinds"], ...Object.entries(data.kinds).filter(([k]) => all.some(({ failure }) => failure.kind === k))];
  const drawShot = async canvas => {  // at once, not when it is scrolled to: a print has its pictures
    const { index, failure } = canvas.shot, episode = await load(index);
    canvas.redraw = () => draw(canvas, episode, failure.at, new Set(failure.track == null ? [] : [failure.track]), true);
    requestAnimationFrame(canvas.redraw);
    if (canvas.views) drawStrip(canvas.views, await loadStrip(index), episode, failure.at);
  };
  const card = ({ index, failure, e }) => {
    const canvas = make("canvas", { class: "above" }), views = e.drawn && e.views ? make("canvas", { class: "front" }) : null;
    canvas.shot = { index, failure };
    canvas.views = views;
    if (e.drawn) drawShot(canvas);
    const words = make("div", {}, make("b", {}, `${shortName(e.planner)}, ${failure.at.toFixed(1)} s`),
      make("span", {}, failure.text), make("span", {}, `${e.scenario || e.scene}, seed ${e.seed}`));
    return make("button", { class: "shot", onclick: () => openEpisode(index, Math.max(0, failure.at - 2)) },
      ...[views, e.drawn ? canvas : null].filter(c => c), words);
  };
  const update = () => {
    const found = all.filter(({ e, failure }) => (!planner.value || e.planner === planner.value) &&
      (!kind.value || failure.kind === kind.value) && (!family.value || e.family === family.value));
    count.textContent = counted(found.length, "failure");
    showPages(found, place, more, 12, card);
  };
  const planner = choice("planner", planners, update), family = choice("family", families, update);
  const kind = choice("kind", kinds, update);
  document.getElementById("gallery-tools").append(planner, kind, family, count);
  update();
}

// --- links to an episode, and printing

const linkTo = (info, time) => `#episode=${encodeURIComponent(info.name)}` + (time ? `@${time.toFixed(1)}` : "");

function followLink() {
  const wanted = location.hash.match(/^#episode=(.+?)(?:@([\d.]+))?$/);
  const index = wanted ? data.episodes.findIndex(e => e.name === decodeURIComponent(wanted[1])) : -1;
  if (index >= 0) openEpisode(index, +(wanted[2] || 0));
}

gallery();
list();
followLink();
addEventListener("hashchange", followLink);
matchMedia("print").addEventListener("change", () => document.querySelectorAll("canvas").forEach(c => c.redraw && c.redraw()));
document.documentElement.dataset.ready = "yes";
