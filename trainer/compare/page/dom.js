// Making elements, and writing numbers. Text goes into the page as text alone: nothing that a model said is ever read as HTML.
"use strict";

const SVG_SPACE = "http://www.w3.org/2000/svg";

/** An HTML element; attributes that start with "on" are listeners, false and null ones are left out. */
function html(name, attributes = {}, ...children) {
  return furnish(document.createElement(name), attributes, children);
}

/** An SVG element, otherwise like `html`. */
function svg(name, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG_SPACE, name), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** A number as a person reads it: three decimals below 10, fewer above, none from a thousand on. `like` is a number whose decimals it
 * shall have. */
function written(value, like = value) {
  if (value === null) return "–";
  const size = Math.abs(like);
  if (size >= 1e6 || (size > 0 && size < 5e-4)) return value.toExponential(1);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
}

/** [value, low, high, n] as text, for tooltips. */
function interval([value, low, high, n]) {
  const between = low === null ? "" : ` (${written(low)} to ${written(high)})`;
  return `${written(value)}${between}, n = ${n.toLocaleString("en")}`;
}

/** A labelled <select>; `choose` is called with the value chosen. options: [value, text] pairs. */
function chooser(label, options, choose) {
  const select = html("select", { "aria-label": label, onchange: () => choose(select.value) }, options.map(([value, text]) => html("option", { value }, text)));
  return html("label", { class: "control" }, `${label} `, select);
}

/** A labelled checkbox. */
function checkbox(label, checked, choose) {
  const box = html("input", { type: "checkbox", checked, onchange: () => choose(box.checked) });
  return html("label", { class: "control" }, box, ` ${label}`);
}

/** What floats beside the pointer, or beside what has the focus; one for the page. */
const tooltip = {
  node: html("div", { id: "tooltip", role: "status", hidden: true }),

  show(lines, x, y) {
    this.node.replaceChildren(...lines.map((line) => html("div", {}, line)));
    this.node.hidden = false;
    const { width, height } = this.node.getBoundingClientRect();
    this.node.style.left = `${Math.max(4, Math.min(x + 14, document.documentElement.clientWidth - width - 4))}px`;
    this.node.style.top = `${y + 14 + height > innerHeight ? Math.max(4, y - height - 10) : y + 14}px`;
  },

  hide() {
    this.node.hidden = true;
  },

  /** Show the lines while the pointer or the focus is on the node. */
  on(node, lines) {
    node.addEventListener("pointermove", (event) => this.show(lines, event.clientX, event.clientY));
    node.addEventListener("pointerleave", () => this.hide());
    node.addEventListener("focus", () => {
      const { right, bottom } = node.getBoundingClientRect();
      this.show(lines, right, bottom);
    });
    node.addEventListener("blur", () => this.hide());
  },
};

/** A list of any length of which only the rows in sight are in the page. All rows are `rowHeight` pixels high; draw(index)
 * makes one. */
class VirtualList {
  constructor(node, rowHeight, draw) {
    Object.assign(this, { node, rowHeight, draw, count: 0, inner: html("div", { class: "rows" }) });
    node.replaceChildren(this.inner);
    node.addEventListener("scroll", () => requestAnimationFrame(() => this.refresh()), { passive: true });
    new ResizeObserver(() => this.refresh()).observe(node);
  }

  /** Start again at the top, with so many rows. */
  reset(count) {
    this.count = count;
    this.inner.style.height = `${count * this.rowHeight}px`;
    this.node.scrollTop = 0;
    this.refresh();
  }

  refresh() {
    const first = Math.max(0, Math.floor(this.node.scrollTop / this.rowHeight) - 3);
    const last = Math.min(this.count, Math.ceil((this.node.scrollTop + this.node.clientHeight) / this.rowHeight) + 3);
    const rows = [];
    for (let index = first; index < last; index++) {
      const row = this.draw(index);
      row.style.top = `${index * this.rowHeight}px`;
      rows.push(row);
    }
    this.inner.replaceChildren(...rows);
  }

  /** Scroll as little as it takes to have this row in sight. */
  reveal(index) {
    const top = index * this.rowHeight;
    if (top < this.node.scrollTop) this.node.scrollTop = top;
    const bottom = top + this.rowHeight - this.node.clientHeight;
    if (bottom > this.node.scrollTop) this.node.scrollTop = bottom;
    this.refresh();
  }
}
