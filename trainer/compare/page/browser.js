// The responses: a list of prompts that is filtered, and for the chosen prompt what every model said and what was made of it.
"use strict";

const ROW = 46; // pixels of a prompt in the list
const MARKS = 24; // verdicts that a row of the list has room for

/** What is in the responses: items (prompts) and, for each, the places of its responses. Fields are columns, to be small. */
class Responses {
  constructor(packed) {
    Object.assign(this, packed);
    this.count = this.text.length;
    this.starts = new Uint32Array(this.items.length + 1);
    for (const item of this.item) this.starts[item + 1]++;
    for (let index = 0; index < this.items.length; index++) this.starts[index + 1] += this.starts[index];
    this.order = new Uint32Array(this.count);
    const next = this.starts.slice();
    this.item.forEach((item, place) => { this.order[next[item]++] = place; });
    this.lower = null;
  }

  /** The places of an item's responses. */
  of(item) {
    return this.order.subarray(this.starts[item], this.starts[item + 1]);
  }

  isFolded(place) {
    return this.items[this.item[place]].folded || this.verdicts[this.verdict[place]].folded;
  }

  /** All texts in lower case, made when first asked for. */
  lowered() {
    this.lower ??= {
      items: this.items.map((item) => `${item.prompt}\n${item.system}\n${item.id}`.toLowerCase()),
      texts: this.text.map((text, place) => [text, ...this.replies[place].map(([, reply]) => reply)].join("\n").toLowerCase()),
    };
    return this.lower;
  }
}

/** Which items, and which of their responses, pass the filter.
 * filter: models (set of indices), suite, situation, config, verdict (index or null), text, differ. */
function filtered(responses, filter) {
  const wanted = filter.text.toLowerCase();
  const lower = wanted ? responses.lowered() : null;
  const items = [];
  let matches = 0;
  responses.items.forEach((item, index) => {
    if ((filter.suite && item.suite !== filter.suite) || (filter.situation && item.situation !== filter.situation)) return;
    if (filter.config && item.config !== filter.config) return;
    const inPrompt = wanted && lower.items[index].includes(wanted);
    let found = 0;
    let first = null;
    let differ = false;
    for (const place of responses.of(index)) {
      if (!filter.models.has(responses.model[place])) continue;
      const verdict = responses.verdict[place];
      differ ||= first !== null && first !== verdict;
      first ??= verdict;
      if (filter.verdict !== null && verdict !== filter.verdict) continue;
      if (!wanted || inPrompt || lower.texts[place].includes(wanted)) found++;
    }
    if (!found || (filter.differ && !differ)) return;
    items.push(index);
    matches += found;
  });
  return { items, matches };
}

class Browser {
  constructor(responses) {
    this.responses = responses;
    this.filter = { models: new Set(responses.models.keys()), suite: "", situation: "", config: "", verdict: null, text: "", differ: false };
    this.unfold = false;
    this.chosen = 0; // place in this.items
    this.count = html("p", { class: "note", "aria-live": "polite" });
    const list = html("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": "prompts", onkeydown: (event) => this.onKey(event) });
    this.list = new VirtualList(list, ROW, (index) => this.row(index));
    this.detail = html("div", { class: "detail", tabindex: "0", role: "region", "aria-label": "responses to the prompt" });
    this.node = html("div", { id: "browser" }, this.controls(), this.count, html("div", { class: "split" }, list, this.detail));
    this.apply();
  }

  controls() {
    const { responses, filter } = this;
    const set = (key) => (value) => { filter[key] = value; this.apply(); };
    const choices = (field) => [...new Set(responses.items.map((item) => item[field]).filter(Boolean))].sort(collator.compare);
    const select = (label, key, field) => {
      const values = choices(field);
      return values.length ? chooser(label, [["", "all"], ...values.map((value) => [value, value])], set(key)) : null;
    };
    const verdicts = responses.verdicts.map(({ name, sign }, index) => [index, `${sign} ${name}`]);
    let waiting = 0;
    const search = html("input", { type: "search", "aria-label": "search", placeholder: "in prompts, responses and replies", oninput: () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => set("text")(search.value), 200);
    } });
    return html("div", { class: "controls" },
      this.modelChooser(),
      select("suite", "suite", "suite"), select("situation", "situation", "situation"), select("config", "config", "config"),
      chooser("verdict", [["", "all"], ...verdicts], (value) => set("verdict")(value === "" ? null : Number(value))),
      html("label", { class: "control" }, "search ", search),
      responses.models.length > 1 ? checkbox("only where models differ", false, set("differ")) : null,
      checkbox("show all folded text", false, (on) => { this.unfold = on; this.list.refresh(); this.showDetail(); }));
  }

  modelChooser() {
    const { models } = this.filter;
    const names = this.responses.models;
    const summary = html("summary");
    const write = () => { summary.textContent = `models: ${models.size} of ${names.length}`; };
    const set = (index, on) => (on ? models.add(index) : models.delete(index));
    const changed = () => { write(); this.apply(); };
    const boxes = names.map((name, index) => checkbox(name, true, (on) => { set(index, on); changed(); }));
    const all = (on) => html("button", { type: "button", onclick: () => {
      boxes.forEach((label, index) => { label.querySelector("input").checked = on; set(index, on); });
      changed();
    } }, on ? "all" : "none");
    const menu = html("details", { class: "control menu" }, summary, html("div", { class: "choices" }, html("div", {}, all(true), " ", all(false)), boxes));
    document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
    write();
    return menu;
  }

  apply() {
    const { items, matches } = filtered(this.responses, this.filter);
    this.items = items;
    const number = (value) => value.toLocaleString("en");
    this.count.textContent = `${number(items.length)} of ${number(this.responses.items.length)} prompts, ${number(matches)} of ${number(this.responses.count)} responses`;
    this.chosen = 0;
    this.list.reset(items.length);
    this.showDetail();
  }

  row(index) {
    const { responses, filter } = this;
    const item = responses.items[this.items[index]];
    const places = [...responses.of(this.items[index])].filter((place) => filter.models.has(responses.model[place]));
    const marks = places.slice(0, MARKS).map((place) => {
      const verdict = responses.verdicts[responses.verdict[place]];
      return html("i", { class: `verdict ${verdict.kind}`, title: `${responses.models[responses.model[place]]}: ${verdict.name}` }, verdict.sign);
    });
    const hides = item.folded && !this.unfold;
    const prompt = hides ? html("span", { class: "hidden-text" }, "prompt folded") : item.prompt;
    const about = [item.suite, item.situation, item.config, item.id].filter(Boolean).join(" · ");
    return html("div", { class: "prompt", role: "option", "aria-selected": String(index === this.chosen), onclick: () => this.choose(index) },
      html("div", { class: "line" }, prompt),
      html("div", { class: "line about" }, html("span", {}, about), html("span", { class: "marks" }, marks, places.length > MARKS ? "…" : "")));
  }

  choose(index) {
    this.chosen = Math.max(0, Math.min(this.items.length - 1, index));
    this.list.reveal(this.chosen);
    this.showDetail();
  }

  onKey(event) {
    const page = Math.floor(this.list.node.clientHeight / ROW);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !this.items.length) return;
    event.preventDefault();
    this.choose(this.chosen + step);
  }

  showDetail() {
    this.detail.scrollTop = 0;
    if (!this.items.length) return this.detail.replaceChildren(html("p", { class: "empty" }, "No response passes the filter."));
    const { responses, filter } = this;
    const index = this.items[this.chosen];
    const item = responses.items[index];
    const places = [...responses.of(index)].filter((place) => filter.models.has(responses.model[place]));
    const asked = filter.verdict;
    if (asked !== null) places.sort((a, b) => (responses.verdict[b] === asked) - (responses.verdict[a] === asked));
    const about = [item.suite, item.split, item.situation, item.config, item.id].filter(Boolean).join(" · ");
    this.detail.replaceChildren(
      html("p", { class: "about" }, about),
      this.text("prompt", item.prompt, item.folded),
      item.system ? this.text("safety config", item.system, false) : "",
      html("div", { class: "answers" }, places.map((place) => this.response(place))));
  }

  /** A titled text; folded behind a click where it may harm. */
  text(title, text, folded) {
    const body = html("div", { class: "text" }, text || "(empty)");
    if (!folded) return html("div", { class: "said" }, html("div", { class: "title" }, title), body);
    return html("details", { class: "said folded", open: this.unfold }, html("summary", {}, `${title}, folded: may be harmful`), body);
  }

  response(place) {
    const { responses } = this;
    const verdict = responses.verdicts[responses.verdict[place]];
    const rating = responses.rating[place];
    const facts = [rating === null ? "" : `helpfulness ${rating} of 5`, ...responses.risks[responses.risk[place]]].filter(Boolean).join(" · ");
    const replies = responses.replies[place].map(([judge, reply]) => [html("dt", {}, responses.judges[judge]), html("dd", {}, reply)]);
    return html("article", {},
      html("h4", {}, responses.models[responses.model[place]], " ", html("span", { class: `badge ${verdict.kind}` }, html("i", {}, verdict.sign), ` ${verdict.name}`)),
      facts ? html("p", { class: "about" }, facts) : null,
      this.text("response", responses.text[place], responses.isFolded(place)),
      replies.length ? html("details", { class: "said" }, html("summary", {}, `what the judge said (${replies.length})`), html("dl", { class: "text" }, replies)) : null);
  }
}
