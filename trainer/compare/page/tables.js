// Tables that are sorted by a click on a heading, and the sections that are tables or lists.
"use strict";

const FIRST_ROWS = 25; // of a long table; a button shows the rest
const OPEN_ROWS = 6; // longer lists of notes and runs are folded
const collator = new Intl.Collator("en", { numeric: true });

/** A table of rows, in the order given until a heading is clicked.
 * columns: {title, text(row) or cell(row), sort(row): number, text or null, numeric, note}. Rows without a value come last. */
function sortable(caption, columns, rows) {
  const state = { column: null, descending: false, all: false };
  const body = html("tbody");
  const headings = columns.map((column) => {
    const button = html("button", { type: "button", title: column.note, onclick: () => sortBy(column) }, column.title);
    return html("th", { scope: "col", class: column.numeric ? "number" : null }, column.sort ? button : column.title);
  });
  const more = html("button", { type: "button", class: "more", onclick: () => { state.all = true; draw(); } });

  function sortBy(column) {
    state.descending = state.column === column ? !state.descending : Boolean(column.numeric);
    state.column = column;
    draw();
  }

  function ordered() {
    if (!state.column) return rows;
    const keyed = rows.map((row) => [state.column.sort(row), row]);
    const present = keyed.filter(([key]) => key !== null && key !== undefined);
    present.sort(([a], [b]) => (typeof a === "number" ? a - b : collator.compare(a, b)) * (state.descending ? -1 : 1));
    return [...present, ...keyed.filter(([key]) => key === null || key === undefined)].map(([, row]) => row);
  }

  function draw() {
    const shown = state.all ? ordered() : ordered().slice(0, FIRST_ROWS);
    body.replaceChildren(...shown.map((row) => html("tr", {}, columns.map((column, index) => {
      const content = column.cell ? column.cell(row) : column.text(row);
      return html(index ? "td" : "th", { scope: index ? null : "row", class: column.numeric ? "number" : null }, content);
    }))));
    headings.forEach((heading, index) => {
      if (columns[index] !== state.column) heading.removeAttribute("aria-sort");
      else heading.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    });
    more.hidden = state.all || rows.length <= FIRST_ROWS;
    more.textContent = `show all ${rows.length.toLocaleString("en")} rows`;
  }

  draw();
  const table = html("table", {}, html("caption", {}, caption), html("thead", {}, html("tr", {}, headings)), body);
  return html("div", {}, html("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table), more);
}

/** What was left out, and what was not measured. */
function notesSection({ notes }) {
  const list = html("ul", {}, notes.map((note) => html("li", {}, note)));
  return notes.length <= OPEN_ROWS ? list : html("details", {}, html("summary", {}, `${notes.length} notes: what is left out or was not measured`), list);
}

/** What all runs share, and a table of what they do not. */
function provenanceSection(overview) {
  const alike = overview.provenance.filter(({ values }) => values.every((value) => value === values[0]));
  const other = overview.provenance.filter((fact) => !alike.includes(fact));
  const shared = html("dl", { class: "facts" }, alike.map(({ name, values }) => [html("dt", {}, name), html("dd", {}, values[0] || "–")]));
  const rows = overview.runs.map((run, index) => ({ run, index }));
  const columns = [
    { title: "run", text: ({ run }) => run, sort: ({ run }) => run },
    ...other.map(({ name, values }) => ({ title: name, text: ({ index }) => values[index] || "–", sort: ({ index }) => values[index] })),
  ];
  if (rows.length === 1) return [shared];
  const table = sortable("what the runs are, where they differ", columns, rows);
  return [shared, html("details", { open: rows.length <= OPEN_ROWS }, html("summary", {}, `the ${rows.length} runs`), table)];
}

const ARROW = { up: "\u00a0↑", down: "\u00a0↓" };

/** One row per model, one column per metric; a mark below each number shows where it lies, and its interval. */
function metricsSection(overview) {
  const place = html("div");
  const draw = (all) => place.replaceChildren(metricTable(overview, all));
  draw(false);
  const few = overview.metrics.every((metric) => metric.headline);
  return [few ? null : html("div", { class: "controls" }, checkbox("all metrics", false, draw)), place];
}

function metricTable(overview, all) {
  const rows = overview.models.map((model, index) => ({ model, values: overview.values[index] }));
  const columns = overview.metrics.flatMap((metric, index) => {
    if (!all && !metric.headline) return [];
    const found = rows.map((row) => row.values[index]).filter((cell) => cell && cell.of[0] !== null).map((cell) => cell.of);
    if (!found.length) return [];
    const ends = found.flatMap(([value, low, high]) => [low ?? value, high ?? value]);
    const range = [Math.min(...ends), Math.max(...ends)];
    const values = found.map(([value]) => value);
    const isOne = metric.direction && new Set(values).size > 1; // where all are alike none is best
    const best = isOne ? (metric.direction === "up" ? Math.max : Math.min)(...values) : null;
    return [{
      title: metric.title + (ARROW[metric.direction] || ""),
      note: [metric.name, metric.note].filter(Boolean).join(": "),
      numeric: true,
      sort: (row) => (row.values[index] ? row.values[index].of[0] : null),
      cell: (row) => metricCell(row.model, metric, row.values[index], range, best),
    }];
  });
  const first = { title: "model", text: ({ model }) => model.name, sort: ({ model }) => model.name };
  return sortable("metrics, with 95% intervals; the best of a column is bold", [first, ...columns], rows);
}

function metricCell(model, metric, cell, [least, most], best) {
  if (!cell) return "–";
  const [value, low, high] = cell.of;
  if (value === null) return html("span", { title: cell.missing.length ? `not measured: ${cell.missing.join(", ")}` : null }, "–");
  const at = (number) => 2 + (96 * (number - least)) / (most - least || 1);
  const mark = svg("svg", { class: "whisker", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    low === null ? null : svg("line", { x1: at(low), x2: at(high), y1: 4, y2: 4 }),
    svg("rect", { x: at(value) - 1.5, y: 0.5, width: 3, height: 7 }));
  const text = html("span", { class: value === best ? "best" : null }, written(value),
    low === null ? null : html("small", {}, ` ±${written((high - low) / 2, value)}`));
  const node = html("div", { class: "metric" }, text, mark);
  const over = cell.over ? ` ${cell.over}` : "";
  tooltip.on(node, [model.name, `${metric.name}: ${interval(cell.of)}${over}`, ...cell.runs.map(([run, ...of]) => `${run}: ${interval(of)}`)]);
  return node;
}

/** Differences between two models, over prompts or seeds, with p as it is and after Holm's correction. */
function testsSection(overview) {
  const place = html("div");
  const state = { metric: "", model: "" };
  const plain = (title, key) => ({ title, text: (test) => test[key], sort: (test) => test[key] });
  const number = (title, key, text) => ({ title, numeric: true, text: (test) => text(test[key]), sort: (test) => test[key] });
  const count = (value) => (value === null ? "–" : value.toLocaleString("en"));
  const columns = [
    plain("metric", "metric"), plain("a", "a"), plain("b", "b"),
    { title: "b − a", numeric: true, sort: (test) => test.difference,
      cell: ({ difference, low, high }) => [signed(difference), low === null ? null : html("small", {}, ` (${signed(low)} to ${signed(high)})`)] },
    number("n", "n", count), number("only a", "only_a", count), number("only b", "only_b", count),
    plain("over", "over"), plain("test", "test"), number("p", "p", chance),
    { title: "p, Holm", numeric: true, sort: (test) => test.p_holm,
      cell: ({ p_holm: p }) => html("span", { class: p !== null && p < 0.05 ? "best" : null }, chance(p)) },
  ];
  const draw = () => {
    const isShown = (test) => (!state.metric || test.metric === state.metric) && (!state.model || [test.a, test.b].includes(state.model));
    place.replaceChildren(sortable("paired tests; bold: below .05 after Holm's correction", columns, overview.tests.filter(isShown)));
  };
  const choose = (label, key, values) => {
    const options = [...new Set(values)].map((value) => [value, value]);
    return options.length > 1 ? chooser(label, [["", "all"], ...options], (value) => { state[key] = value; draw(); }) : null;
  };
  draw();
  return [
    html("div", { class: "controls" },
      choose("metric", "metric", overview.tests.map((test) => test.metric)),
      choose("model", "model", overview.tests.flatMap((test) => [test.a, test.b]))),
    place,
  ];
}

function signed(value) {
  return value > 0 ? `+${written(value)}` : written(value);
}

function chance(p) {
  return p === null ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3);
}

/** The keys in which the configs differ, one column per setting (runs that differ in their seed alone). */
function differencesSection(overview) {
  const { settings, keys, values } = overview.differences;
  const rows = keys.map((key, index) => ({ key, values: values[index] }));
  const columns = [
    { title: "key", text: ({ key }) => key, sort: ({ key }) => key },
    ...settings.map((setting, index) => ({ title: setting, text: ({ values: found }) => found[index] })),
  ];
  return [sortable("keys of the config whose values differ", columns, rows)];
}
