"""Script of a campaign's report, first half: packed episodes, drawn on a canvas with their time lines."""

DRAWING = r"""
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const ranked = data.metrics.indexOf(data.ranked);
const short = name => name.slice(name.lastIndexOf(":") + 1);
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
};
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const score = e => ranked < 0 ? null : e.values[ranked];
const fixed = (value, digits) => value == null ? "n/a" : value.toFixed(digits);

// Packed numbers: base64 of gzip of JSON, columns as differences.
const cache = new Map();
async function unpack(id) {
  if (!cache.has(id)) cache.set(id, (async () => {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent), c => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  })());
  return cache.get(id);
}
const summed = (column, scale) => { let at = 0; return column.map(step => (at += step) * scale); };
const ready = new Map();
function load(index) {
  if (!ready.has(index)) ready.set(index, (async () => {
    const [r, map] = await Promise.all([unpack("e" + index), unpack("m-" + data.episodes[index].scene)]);
    const [x, y, yaw, speed, accel, lateral] = r.ego.map((column, i) => summed(column, i === 2 ? 1e-3 : 1e-2));
    const agents = r.agents.map(([kind, length, width, track, first, count, ...pose]) => ({
      kind, track, first, count, length: length / 100, width: width / 100,
      pose: pose.map((column, i) => summed(column, i === 2 ? 1e-3 : 1e-2)),
    }));
    const expert = r.expert.map(column => summed(column, 0.1));
    return { r, map, x, y, yaw, speed, accel, lateral, agents, expert, expertSpeed: summed(r.expertSpeed, 1e-2),
      length: (x.length - 1) * r.dt, path: paths(map) };
  })());
  return ready.get(index);
}
function paths(map) {
  const made = {};
  for (const [style, lines] of Object.entries(map)) {
    const path = new Path2D();
    for (const line of lines) {
      path.moveTo(line[0] / 10, line[1] / 10);
      for (let i = 2; i < line.length; i += 2) path.lineTo(line[i] / 10, line[i + 1] / 10);
      if (style !== "divider") path.closePath();
    }
    made[style] = path;
  }
  return made;
}
function at(column, row) {
  const low = Math.max(0, Math.min(Math.floor(row), column.length - 1)), high = Math.min(low + 1, column.length - 1);
  return column[low] + (column[high] - column[low]) * Math.max(0, Math.min(row - low, 1));
}

// Seen from above: the ego looks up the canvas, a quarter of its height from the bottom.
function draw(canvas, e, time, hit) {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const c = canvas.getContext("2d"), row = time / e.r.dt, scale = height / (hit === undefined ? 62 : 46);
  const x = at(e.x, row), y = at(e.y, row), yaw = at(e.yaw, row);
  c.setTransform(1, 0, 0, 1, 0, 0);
  c.fillStyle = colour("--soft"); c.fillRect(0, 0, width, height);
  c.translate(width / 2, height * (hit === undefined ? 0.72 : 0.62)); c.scale(scale, -scale); c.rotate(Math.PI / 2 - yaw);
  c.translate(-x, -y);
  c.fillStyle = colour("--road"); c.fill(e.path.road, "nonzero");
  c.fillStyle = colour("--crossing"); c.fill(e.path.crossing, "evenodd");
  c.strokeStyle = colour("--divider"); c.lineWidth = 0.15; c.stroke(e.path.divider);
  const line = (xs, ys, style, thick, dash, until) => {
    c.strokeStyle = style; c.lineWidth = thick; c.setLineDash(dash); c.beginPath();
    for (let i = 0; i < xs.length && i <= until; i++) i ? c.lineTo(xs[i], ys[i]) : c.moveTo(xs[i], ys[i]);
    c.stroke(); c.setLineDash([]);
  };
  line(e.expert[0], e.expert[1], colour("--faint"), 0.25, [1.2, 0.9], Infinity);
  line(e.x, e.y, colour("--accent"), 0.35, [], row);
  const rectangle = (px, py, heading, length, wide, ahead, fill) => {
    c.save(); c.translate(px, py); c.rotate(heading); c.fillStyle = fill;
    c.beginPath();
    if (c.roundRect) c.roundRect(ahead - length / 2, -wide / 2, length, wide, Math.min(0.35, wide / 4));
    else c.rect(ahead - length / 2, -wide / 2, length, wide);
    c.fill();
    if (length > 1.2) { c.fillStyle = colour("--card"); c.globalAlpha = 0.65;
      c.fillRect(ahead + length * 0.18, -wide * 0.38, length * 0.12, wide * 0.76); }
    c.restore();
  };
  const struck = [];
  for (const agent of e.agents) {
    const local = row - agent.first;
    if (local < -0.001 || local > agent.count - 1 + 0.999) continue;
    const [ax, ay, heading] = agent.pose.map(column => at(column, local));
    if (e.struck && e.struck.has(agent.track)) struck.push([ax, ay, heading, agent]);
    else rectangle(ax, ay, heading, agent.length, agent.width, 0, colour("--agent"));
  }
  const issued = e.r.plans.filter(p => p[0] / 10 <= time + 0.05).pop();
  if (issued) {
    const from = issued[0] / 10 / e.r.dt, ex = at(e.x, from), ey = at(e.y, from), turn = at(e.yaw, from);
    c.fillStyle = colour("--accent"); c.globalAlpha = 0.6;
    for (let i = 1; i < issued.length; i += 2) {
      const px = issued[i] / 10, py = issued[i + 1] / 10;
      const gx = ex + px * Math.cos(turn) - py * Math.sin(turn), gy = ey + px * Math.sin(turn) + py * Math.cos(turn);
      c.beginPath(); c.arc(gx, gy, 0.32, 0, 7); c.fill();
    }
    c.globalAlpha = 1;
  }
  const [length, wide, ahead] = e.r.vehicle.map(v => v / 100);
  rectangle(x, y, yaw, length, wide, ahead, colour("--accent"));
  for (const [ax, ay, heading, agent] of struck) {
    rectangle(ax, ay, heading, agent.length, agent.width, 0, colour("--bad"));
    c.strokeStyle = colour("--bad"); c.lineWidth = 0.25;
    c.beginPath(); c.arc(ax, ay, Math.max(agent.length, agent.width) / 2 + 1, 0, 7); c.stroke();
  }
}

// What the front cameras saw: a strip with a row per decision.
const strips = new Map();
function strip(index) {
  if (!strips.has(index)) strips.set(index, new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image); image.onerror = failed;
    image.src = "data:image/jpeg;base64," + document.getElementById("p" + index).textContent;
  }));
  return strips.get(index);
}
const decided = (e, time) => Math.max(e.r.steps.time.findLastIndex(t => t <= time + 1e-6), 0);
function see(canvas, image, e, time) {
  const wide = image.naturalWidth, each = image.naturalHeight / e.r.steps.time.length;
  canvas.width = wide; canvas.height = each;
  canvas.getContext("2d").drawImage(image, 0, decided(e, time) * each, wide, each, 0, 0, wide, each);
}

// Time lines.
const svgNames = "http://www.w3.org/2000/svg";
const node = (tag, attributes) => {
  const element = document.createElementNS(svgNames, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
function chart(title, unit, length, lines, fails, seek, limits) {
  const W = 460, H = 104, L = 34, R = 8, T = 8, B = 16;
  lines = lines.filter(l => l.y.some(v => v != null));
  if (!lines.length) return null;
  let values = lines.flatMap(l => l.y).filter(v => v != null);
  let low = Math.min(...values, ...(limits || [])), high = Math.max(...values, ...(limits || []));
  if (high - low < 0.5) { const middle = (low + high) / 2; low = limits ? limits[0] : middle - 0.25; high = middle + 0.25; }
  const px = t => L + t / Math.max(length, 1e-6) * (W - L - R), py = v => T + (high - v) / (high - low) * (H - T - B);
  const svg = node("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
  const raw = (high - low) / 3, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find(f => f * power >= raw * 0.999) * power;
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9; v += step) {
    svg.append(node("line", { class: "grid", x1: L, x2: W - R, y1: py(v), y2: py(v) }));
    const text = node("text", { x: L - 5, y: py(v) + 3, "text-anchor": "end" });
    text.textContent = +v.toFixed(3); svg.append(text);
  }
  for (let t = 0; t <= length + 1e-6; t += length > 12 ? 5 : length > 6 ? 2 : 1) {
    const text = node("text", { x: px(t), y: H - 3, "text-anchor": "middle" }); text.textContent = t + " s"; svg.append(text);
  }
  for (const t of fails) svg.append(node("line", { class: "fail", x1: px(t), x2: px(t), y1: T, y2: H - B }));
  for (const l of lines) {
    let path = "", down = false;
    l.y.forEach((v, i) => { if (v == null) { down = false; return; }
      path += `${down ? "L" : "M"}${px(l.x[i]).toFixed(1)} ${py(v).toFixed(1)}`; down = true; });
    svg.append(node("path", { d: path, fill: "none", stroke: l.colour, "stroke-width": 1.7, "stroke-linejoin": "round",
      ...(l.dash ? { "stroke-dasharray": "4 3" } : {}) }));
  }
  const now = node("line", { class: "now", y1: T, y2: H - B }); svg.append(now);
  svg.addEventListener("click", event => {
    const r = svg.getBoundingClientRect();
    seek(((event.clientX - r.left) / r.width * W - L) / (W - L - R) * length);
  });
  const caption = make("figcaption", {}, make("b", {}, title), " " + unit,
    ...lines.map(l => make("span", {}, make("i", { style: "background:" + l.colour }), l.name)));
  const move = t => { now.setAttribute("x1", px(t)); now.setAttribute("x2", px(t)); };
  return { figure: make("figure", {}, caption, svg), move };
}

async function player(place, index, from) {
  const info = data.episodes[index];
  place.replaceChildren("reading ...");
  let e;
  try { e = { ...await load(index) }; }
  catch (error) { place.replaceChildren("This browser cannot unpack the episode (" + error + ")."); return; }
  e.struck = new Set(info.failures.filter(f => f.track != null).map(f => f.track));
  const fails = info.failures.map(f => f.at), canvas = make("canvas", { class: "map" }), output = make("output");
  const slider = make("input", { type: "range", min: 0, max: e.length, step: 0.05, "aria-label": "time" });
  const button = make("button", {}, "play");
  const s = e.r.steps, times = e.x.map((_, i) => i * e.r.dt);
  let time = from ?? 0, running = false, last = 0, image = null, raf = 0;
  const seek = t => { time = Math.max(0, Math.min(t, e.length)); show(); };
  const B = colour("--accent"), P = "#b0369a", G = "#8b93a3", K = "#1a9a86", D = colour("--bad");
  const charts = [
    chart("Speed", "m/s", e.length, [{ name: "driven", x: times, y: e.speed, colour: B },
      { name: "recorded ego", x: times, y: e.expertSpeed, colour: G, dash: 1 },
      { name: "limit", x: s.time, y: s.speed_limit, colour: D, dash: 1 }], fails, seek, [0]),
    chart("Acceleration", "m/s²", e.length, [{ name: "along", x: times, y: e.accel, colour: B },
      { name: "across", x: times, y: e.lateral, colour: P }], fails, seek),
    chart("Time to collision", "s, at most 10", e.length,
      [{ name: "if all keep their velocity", x: s.time, y: s.time_to_collision, colour: D }], fails, seek, [0, 10]),
    chart("Beside", "m", e.length, [{ name: "left of the route", x: s.time, y: s.route_offset, colour: K },
      { name: "from the recorded ego", x: s.time, y: s.expert_deviation, colour: G, dash: 1 }], fails, seek),
    e.r.front.some(f => f) ? chart("Trust", "0 to 1", e.length,
      [{ name: "in the picture", x: s.time, y: s.trust, colour: "#c77700" }], fails, seek, [0, 1]) : null,
  ].filter(c => c);
  const left = make("div", {}, canvas);
  if (info.views) {
    const views = make("canvas", { class: "views" });
    left.append(views);
    strip(index).then(found => { image = { found, views }; show(); });
  }
  left.append(make("div", { class: "bar" }, button, slider, output));
  const right = make("div");
  if (info.failures.length) right.append(make("ul", { class: "wrong" }, ...info.failures.map(f =>
    make("li", {}, `${f.at.toFixed(1)} s: ${f.text}`))));
  right.append(...charts.map(c => c.figure), make("ul", { class: "facts" }, ...data.metrics.map((name, i) =>
    make("li", {}, make("span", {}, data.labels[name]), make("b", {}, fixed(info.values[i], 3))))));
  place.replaceChildren(left, right);
  function show() {
    draw(canvas, e, time); slider.value = time;
    const row = time / e.r.dt, made = e.r.front[decided(e, time)];
    output.textContent = `${time.toFixed(1)} s  ${at(e.speed, row).toFixed(1)} m/s` + (made ? "  " + made : "");
    charts.forEach(c => c.move(time));
    if (image) see(image.views, image.found, e, time);
  }
  function tick(now) {
    if (!running || !place.isConnected) return;
    time += Math.min((now - last) / 1000, 0.1); last = now;
    if (time >= e.length) { time = e.length; toggle(); }
    show(); raf = requestAnimationFrame(tick);
  }
  function toggle() {
    running = !running; button.textContent = running ? "pause" : "play";
    if (running) { if (time >= e.length - 1e-3) time = 0; last = performance.now(); raf = requestAnimationFrame(tick); }
    else cancelAnimationFrame(raf);
  }
  button.addEventListener("click", toggle);
  slider.addEventListener("input", () => seek(+slider.value));
  new ResizeObserver(show).observe(canvas);
  show();
}

"""
