"""Script of a campaign's report, second half: the lists, their filters and the gallery of failures."""

LISTS = r"""
// Lists.
function choice(label, options, changed) {
  const select = make("select", { "aria-label": label, onchange: changed },
    ...options.map(([value, text]) => make("option", { value }, text)));
  return select;
}
const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
const distinct = key => [...new Set(data.episodes.map(e => e[key]).filter(v => v))];
const planners = [["", "all planners"], ...data.planners.map(p => [p, short(p)])];
const families = [["", "all families"], ...distinct("family").sort().map(f => [f, f.replaceAll("_", " ")])];

function pages(items, place, more, size, render) {
  place.replaceChildren(); let next = 0;
  const add = () => {
    place.append(...items.slice(next, next + size).map(item => render(item))); next += size;
    more.hidden = next >= items.length;
    if (!more.hidden) more.textContent = `show more (${items.length - next})`;
  };
  more.onclick = add; add();
}

function list() {
  const place = document.getElementById("list"), more = document.getElementById("list-more"), said = make("span");
  const outcomes = [["", "all outcomes"], ["failed", "with a failure"],
    ...distinct("outcome").map(o => [o, (data.outcomes[o] || [o])[0]])];
  const update = () => {
    let found = data.episodes.map((e, i) => i).filter(i => { const e = data.episodes[i];
      return (!who.value || e.planner === who.value) && (!family.value || e.family === family.value) &&
        (!how.value || (how.value === "failed" ? e.failures.length : e.outcome === how.value)); });
    const value = i => score(data.episodes[i]) ?? -1;
    const text = i => { const e = data.episodes[i]; return e.scenario + "/" + e.seed + "/" + e.planner; };
    found.sort(order.value === "scenario" ? (a, b) => text(a) < text(b) ? -1 : 1
      : (a, b) => (order.value === "worst" ? 1 : -1) * (value(a) - value(b)) || a - b);
    said.textContent = counted(found.length, "episode");
    pages(found, place, more, 25, entry);
  };
  const who = choice("planner", planners, update), family = choice("family", families, update);
  const how = choice("outcome", outcomes, update);
  const orders = [["worst", "lowest score first"], ["best", "highest score first"], ["scenario", "by scenario"]];
  const order = choice("order", orders, update);
  document.getElementById("list-tools").append(who, family, how, order, said);
  update();
}
function entry(index) {
  const e = data.episodes[index], [text] = data.outcomes[e.outcome] || [e.outcome];
  const place = make("div", { class: "player" });
  const chip = make("span", { class: "chip " + (e.outcome === "horizon" ? "good" : "bad") }, text);
  const summary = make("summary", {}, make("b", {}, short(e.planner)), make("span", { class: "wide" }, e.scenario || e.scene),
    make("span", {}, "seed " + e.seed), make("b", {}, fixed(score(e), 3)), make("span", {}, chip));
  const details = make("details", { class: "episode", "data-index": index }, summary, place);
  if (!e.drawn) place.textContent = "Not kept in this page; the episode's log has it.";
  details.addEventListener("toggle", () => {
    if (!e.drawn) return;
    if (details.open) player(place, index, details.from);
    else place.replaceChildren();
  });
  return details;
}
function open(index, from) {
  const place = document.getElementById("list");
  let found = place.querySelector(`details[data-index="${index}"]`);
  if (!found) { found = entry(index); place.prepend(found); }
  found.from = from; found.open = false; found.open = true;
  found.scrollIntoView({ block: "start" });
  found.querySelector("summary").focus({ preventScroll: true });
}

function gallery() {
  const place = document.getElementById("gallery");
  if (!place) return;
  const all = data.episodes.flatMap((e, index) => e.failures.map(f => ({ index, f, e })));
  all.sort((a, b) => b.e.drawn - a.e.drawn);  // those without a drawing last, as words alone
  const more = document.getElementById("gallery-more"), said = make("span");
  const kinds = [["", "all kinds"], ...Object.entries(data.kinds).filter(([k]) => all.some(({ f }) => f.kind === k))];
  const watcher = new IntersectionObserver(seen => seen.filter(s => s.isIntersecting).forEach(async s => {
    watcher.unobserve(s.target);
    const { index, f } = s.target.shot, e = { ...await load(index) };
    e.struck = new Set(f.track == null ? [] : [f.track]);
    draw(s.target, e, f.at, true);
    if (s.target.views) see(s.target.views, await strip(index), e, f.at);
  }), { rootMargin: "300px" });
  const card = ({ index, f, e }) => {
    const canvas = make("canvas", { class: "above" }), views = e.drawn && e.views ? make("canvas", { class: "seen" }) : null;
    canvas.shot = { index, f }; canvas.views = views;
    if (e.drawn) watcher.observe(canvas);
    const words = make("div", {}, make("b", {}, `${short(e.planner)}, ${f.at.toFixed(1)} s`), make("span", {}, f.text),
      make("span", {}, `${e.scenario || e.scene}, seed ${e.seed}`));
    return make("button", { class: "shot", onclick: () => open(index, Math.max(0, f.at - 2)) },
      ...[views, e.drawn ? canvas : null].filter(c => c), words);
  };
  const update = () => {
    const found = all.filter(({ e, f }) => (!who.value || e.planner === who.value) && (!kind.value || f.kind === kind.value) &&
      (!family.value || e.family === family.value));
    said.textContent = counted(found.length, "failure");
    pages(found, place, more, 12, card);
  };
  const who = choice("planner", planners, update), family = choice("family", families, update);
  const kind = choice("kind", kinds, update);
  document.getElementById("gallery-tools").append(who, kind, family, said);
  update();
}
gallery();
list();
const wanted = location.hash.match(/^#episode-(\d+)(?:@([\d.]+))?$/);
if (wanted && data.episodes[+wanted[1]]) open(+wanted[1], wanted[2] ? +wanted[2] : 0);
document.documentElement.dataset.ready = "yes";
"""
