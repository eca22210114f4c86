// Two plots in SVG: safety against what it cost, and losses over steps. They are drawn anew when their width changes.
"use strict";

const MARKERS = [
  "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0", // circle
  "M-4.5,-4.5h9v9h-9z", // square
  "M0,-6L5.5,4.5h-11z", // triangle
  "M0,-6.5L5.5,0L0,6.5L-5.5,0z", // diamond
  "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z", // plus
  "M0,6L5.5,-4.5h-11z", // triangle, upside down
];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const COLOURS = 8; // --c0 to --c7 in the style sheet
const LETTER = 6.3; // pixels that one takes in a label, about

const colour = (index) => `var(--c${index % COLOURS})`;
const marker = (index) => MARKERS[index % MARKERS.length];
const dash = (index) => DASHES[Math.floor(index / COLOURS) % DASHES.length] || null;

/** Round numbers that divide a range, about `count` of them. */
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const found = [];
  for (let index = Math.ceil(low / step); index * step <= high + step * 1e-9; index++) found.push(index * step);
  return found.map((value) => Number(value.toPrecision(12)));
}

/** Powers of ten, and their halves and fifths where there are few. */
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of Math.log10(high / low) > 2.5 ? [1] : [1, 2, 5]) found.push(Number((factor * 10 ** power).toPrecision(6)));
  }
  return found.filter((value) => value >= low && value <= high);
}

function tickText(value) {
  const size = Math.abs(value);
  return size >= 1e5 || (size > 0 && size < 1e-3) ? value.toExponential().replace("e+", "e") : value.toLocaleString("en", { maximumFractionDigits: 4 });
}

/** A range with a margin, also where it is a single point. */
function widened(values, share) {
  const [low, high] = values.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
  const margin = high > low ? (high - low) * share : Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin];
}

/** An empty plot of a width: its <svg>, the scales x and y (value -> pixel) and the rectangle that they span.
 * x, y: [value at the left or bottom, value at the right or top]; log: whether y is logarithmic. */
function frame(width, height, { x, y, log, titles, label }) {
  const box = { left: 58, right: width - 14, top: 12, bottom: height - 46 };
  const across = ([low, high], from, to) => (value) => from + ((to - from) * (value - low)) / (high - low);
  const steps = across(x, box.left, box.right);
  const plain = log ? across(y.map(Math.log10), box.bottom, box.top) : across(y, box.bottom, box.top);
  const scale = { x: steps, y: log ? (value) => plain(Math.log10(value)) : plain };
  const node = svg("svg", { class: "plot", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const range = ([from, to]) => [Math.min(from, to), Math.max(from, to)];
  for (const value of ticks(...range(x), Math.max(2, Math.floor(width / 110)))) {
    node.append(svg("line", { class: "grid", x1: scale.x(value), x2: scale.x(value), y1: box.top, y2: box.bottom }),
      svg("text", { x: scale.x(value), y: box.bottom + 16, "text-anchor": "middle" }, tickText(value)));
  }
  for (const value of log ? logTicks(...y) : ticks(...range(y), Math.max(3, Math.floor(height / 60)))) {
    node.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: scale.y(value), y2: scale.y(value) }),
      svg("text", { x: box.left - 7, y: scale.y(value) + 4, "text-anchor": "end" }, tickText(value)));
  }
  const middle = (box.top + box.bottom) / 2;
  node.append(svg("text", { class: "axis", x: (box.left + box.right) / 2, y: height - 8, "text-anchor": "middle" }, titles[0]),
    svg("text", { class: "axis", x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})` }, titles[1]));
  return { node, scale, box };
}

/** Draw into the node now, and again whenever it has another width. */
function redrawn(node, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (node.clientWidth && node.clientWidth !== width) {
      width = node.clientWidth;
      draw(width);
    }
  }).observe(node);
  return () => width && draw(width);
}

/** A legend whose entries are switched on and off. entries: {key, text, sample}; `hidden` is the set of keys that are off. */
function legend(entries, hidden, changed) {
  const buttons = entries.map(({ key, text, sample }) => {
    const button = html("button", { type: "button", "aria-pressed": String(!hidden.has(key)) }, sample, ` ${text}`);
    button.addEventListener("click", () => {
      if (!hidden.delete(key)) hidden.add(key);
      button.setAttribute("aria-pressed", String(!hidden.has(key)));
      changed();
    });
    return button;
  });
  return html("div", { class: "legend" }, buttons);
}

/** The points of one pair of metrics: the front in colour with its line, what it dominates in grey, the knee in a ring. */
function paretoSection(overview) {
  const place = html("div");
  const draw = (index) => place.replaceChildren(...paretoPlot(overview, overview.pareto[index]));
  draw(0);
  const options = overview.pareto.map((plot, index) => [index, `${plot.y.title} against ${plot.x.title}`]);
  return [options.length > 1 ? html("div", { class: "controls" }, chooser("axes", options, draw)) : null, place];
}

function paretoPlot(overview, plot) {
  const groups = [...new Set(plot.points.map((point) => overview.models[point.model].group))];
  const hidden = new Set();
  const place = html("div", { class: "figure" });
  const isTurned = (axis) => axis.direction === "down"; // so that up and right are better, whatever is measured
  const turned = (axis, [low, high]) => (isTurned(axis) ? [high, low] : [low, high]);
  const name = (axis) => `${axis.title}${ARROW[axis.direction] || ""}${isTurned(axis) ? ", axis turned" : ""}`;

  function draw(width) {
    const points = plot.points.filter((point) => !hidden.has(overview.models[point.model].group));
    const ends = (axis) => points.flatMap((point) => point[axis].slice(0, 3).filter((value) => value !== null));
    if (!points.length) return place.replaceChildren(html("p", { class: "empty" }, "every group is switched off"));
    const height = Math.min(480, Math.max(300, width * 0.6));
    const { node, scale, box } = frame(width, height, {
      x: turned(plot.x, widened(ends("x"), 0.07)), y: turned(plot.y, widened(ends("y"), 0.09)), titles: [name(plot.x), name(plot.y)],
      label: `${points.length} models by ${plot.x.title} and ${plot.y.title}; the table of metrics has the same numbers`,
    });
    const at = (point) => [scale.x(point.x[0]), scale.y(point.y[0])];
    const front = points.filter((point) => !point.dominated).sort((a, b) => a.x[0] - b.x[0]);
    node.append(svg("path", { class: "front", d: staircase(front, plot, at) }));
    const bars = points.map((point) => errorBars(point, scale));
    const marks = [...points].sort((a, b) => b.dominated - a.dominated).map((point) => paretoMark(overview.models[point.model], plot, point, groups, at(point)));
    node.append(...bars, ...marks, ...labels(points, front, overview, at, box));
    place.replaceChildren(node);
  }

  const again = redrawn(place, draw);
  const sample = (index) => svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14" }, svg("path", { d: marker(index), fill: colour(index) }));
  const entries = groups.map((group, index) => ({ key: group, text: group, sample: sample(index) }));
  const knee = plot.points.find((point) => point.knee);
  const said = [
    "On the line, in colour: no other model is at least as good in both and better in one; of the grey ones, another is. Bars: 95% intervals.",
    knee ? `In the ring, the knee of the front: ${overview.models[knee.model].name}.` : "",
    plot.hypervolume === null ? "" : `Hypervolume of the front: ${written(plot.hypervolume)}.`,
  ];
  return [place, groups.length > 1 ? legend(entries, hidden, again) : null, html("p", { class: "note" }, said.filter(Boolean).join(" "))].filter(Boolean);
}

/** The border of what the front dominates: between two points it turns where both axes are the worse of the two. */
function staircase(front, plot, at) {
  const worse = (axis, a, b) => (plot[axis].direction === "down" ? Math.max : Math.min)(a[axis][0], b[axis][0]);
  return front.map((point, index) => {
    if (!index) return `M${at(point)}`;
    const corner = { x: [worse("x", front[index - 1], point)], y: [worse("y", front[index - 1], point)] };
    return `L${at(corner)}L${at(point)}`;
  }).join("");
}

function errorBars(point, scale) {
  const [x, y] = [scale.x(point.x[0]), scale.y(point.y[0])];
  const bar = ([, low, high], of) => (low === null ? [] : [of(low), of(high)]);
  const [left, right] = bar(point.x, scale.x);
  const [bottom, top] = bar(point.y, scale.y);
  const lines = [left === undefined ? "" : `M${left},${y}H${right}`, bottom === undefined ? "" : `M${x},${bottom}V${top}`];
  return svg("path", { class: point.dominated ? "bars dominated" : "bars", d: lines.join("") });
}

function paretoMark(model, plot, point, groups, [x, y]) {
  const index = groups.indexOf(model.group);
  const mark = svg("g", { class: point.dominated ? "mark dominated" : "mark", transform: `translate(${x} ${y})`, tabindex: "0", role: "img", "aria-label": model.name },
    point.knee ? svg("circle", { class: "knee", r: 11 }) : null,
    svg("path", { d: marker(index), fill: point.dominated ? null : colour(index) }));
  const standing = point.knee ? "on the front, its knee" : point.dominated ? "dominated" : "on the front";
  tooltip.on(mark, [model.name, `${plot.y.title}: ${interval(point.y)}`, `${plot.x.title}: ${interval(point.x)}`, standing]);
  return mark;
}

/** Names beside the points, those of the front first, as far as there is room. */
function labels(points, front, overview, at, box) {
  const taken = points.map((point) => { const [x, y] = at(point); return [x - 7, y - 7, x + 7, y + 7]; });
  const wanted = [...front, ...points.filter((point) => point.dominated)].slice(0, Math.max(front.length, 16));
  return wanted.flatMap((point) => {
    const [x, y] = at(point);
    const text = overview.models[point.model].name;
    const width = text.length * LETTER;
    const away = point.knee ? 15 : 9;
    // Beside the bars first, then over them.
    const sides = [[away, 4, "start"], [-away, 4, "end"], [0, -away - 2, "middle"], [0, away + 11, "middle"]];
    const corners = [[away, -7, "start"], [away, 15, "start"], [-away, -7, "end"], [-away, 15, "end"]];
    for (const [dx, dy, anchor] of [...corners, ...sides]) {
      const left = x + dx - (anchor === "end" ? width : anchor === "middle" ? width / 2 : 0);
      const area = [left, y + dy - 11, left + width, y + dy + 3];
      const isFree = taken.every((other) => area[2] < other[0] || area[0] > other[2] || area[3] < other[1] || area[1] > other[3]);
      if (isFree && area[0] >= box.left && area[2] <= box.right && area[1] >= box.top && area[3] <= box.bottom) {
        taken.push(area);
        return [svg("text", { class: point.dominated ? "name dominated" : "name", x: x + dx, y: y + dy, "text-anchor": anchor }, text)];
      }
    }
    return [];
  });
}

/** One panel per stage, side by side, one line per run. Runs that differ in their seed alone have one colour, and are switched on and
 * off together, in all panels. */
function curvesSection(overview) {
  const unique = (values) => [...new Set(values)];
  const settings = unique(overview.curves.map((curve) => curve.setting));
  const metrics = unique(overview.curves.map((curve) => curve.metric));
  const stages = unique(overview.curves.map((curve) => curve.stage));
  const state = { metric: metrics[0], stage: "", log: false };
  const hidden = new Set();
  const panels = html("div", { class: "panels" });
  let drawings = [];

  function arrange() {
    const shown = overview.curves.filter((curve) => curve.metric === state.metric && (!state.stage || curve.stage === state.stage));
    const figures = unique(shown.map((curve) => curve.stage)).map((stage) => {
      const place = html("div", { class: "figure" });
      const curves = shown.filter((curve) => curve.stage === stage);
      const draw = (width) => place.replaceChildren(curvePanel(curves.filter((curve) => !hidden.has(curve.setting)), settings, state, stage, width));
      return { node: html("figure", {}, html("figcaption", {}, stage), place), again: redrawn(place, draw) };
    });
    drawings = figures.map(({ again }) => again);
    panels.replaceChildren(...figures.map(({ node }) => node));
  }

  const choose = (key) => (value) => { state[key] = value; arrange(); };
  const sample = (index) => svg("svg", { width: 22, height: 10 },
    svg("line", { x1: 0, x2: 22, y1: 5, y2: 5, stroke: colour(index), "stroke-width": 2.5, "stroke-dasharray": dash(index) }));
  const entries = settings.map((setting, index) => ({ key: setting, text: setting, sample: sample(index) }));
  arrange();
  return [
    html("div", { class: "controls" },
      metrics.length > 1 ? chooser("metric", metrics.map((metric) => [metric, metric]), choose("metric")) : null,
      stages.length > 1 ? chooser("stage", [["", "all, side by side"], ...stages.map((stage) => [stage, stage])], choose("stage")) : null,
      checkbox("logarithmic", false, choose("log"))),
    panels,
    legend(entries, hidden, () => drawings.forEach((draw) => draw())),
  ];
}

function curvePanel(curves, settings, state, stage, width) {
  const isDrawn = (value) => value !== null && (!state.log || value > 0);
  const values = curves.flatMap((curve) => curve.values.filter(isDrawn));
  if (!values.length) return html("p", { class: "empty" }, "nothing to draw here");
  const steps = curves.flatMap((curve) => curve.steps);
  const [low, high] = widened(state.log ? values.map(Math.log10) : values, 0.05);
  const { node, scale, box } = frame(width, 300, {
    x: widened(steps, 0), y: state.log ? [10 ** low, 10 ** high] : [low, high], log: state.log, titles: ["step", state.metric],
    label: `${state.metric} over the steps of ${stage}, ${curves.length} runs`,
  });
  const path = (curve) => curve.values.map((value, index) => {
    if (!isDrawn(value)) return "";
    return `${index && isDrawn(curve.values[index - 1]) ? "L" : "M"}${scale.x(curve.steps[index]).toFixed(1)},${scale.y(value).toFixed(1)}`;
  }).join("");
  const lines = curves.map((curve) => {
    const index = settings.indexOf(curve.setting);
    return svg("path", { class: "curve", d: path(curve), stroke: colour(index), "stroke-dasharray": dash(index) });
  });
  const cursor = svg("line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" });
  node.append(...lines, cursor);
  node.addEventListener("pointermove", (event) => {
    const pointer = event.clientX - node.getBoundingClientRect().left;
    const near = curves.map((curve) => ({ curve, index: nearest(curve.steps, (step) => Math.abs(scale.x(step) - pointer)) }));
    const step = near.map(({ curve, index }) => curve.steps[index]).sort((a, b) => Math.abs(scale.x(a) - pointer) - Math.abs(scale.x(b) - pointer))[0];
    cursor.setAttribute("x1", scale.x(step));
    cursor.setAttribute("x2", scale.x(step));
    cursor.setAttribute("visibility", "visible");
    const height = event.clientY - node.getBoundingClientRect().top;
    const away = ({ curve, index }) => (curve.values[index] === null ? Infinity : Math.abs(scale.y(curve.values[index]) - height));
    const sorted = near.sort((a, b) => away(a) - away(b));
    tooltip.show([`step ${step}`, ...sorted.slice(0, 10).map(({ curve, index }) => `${curve.run}: ${written(curve.values[index])}`)], event.clientX, event.clientY);
    lines.forEach((line, index) => line.classList.toggle("far", sorted.length > 1 && curves[index] !== sorted[0].curve));
  });
  node.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    lines.forEach((line) => line.classList.remove("far"));
    tooltip.hide();
  });
  return node;
}

function nearest(values, distance) {
  return values.reduce((best, value, index) => (distance(value) < distance(values[best]) ? index : best), 0);
}
