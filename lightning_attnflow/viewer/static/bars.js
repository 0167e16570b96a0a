// The values of an explanation with one row: a bar for every word, with its interval.
import { el, shorten, svg, textWidth } from "./dom.js";
import { legend } from "./network.js";
import { formatValue } from "./scale.js";

/** Draw one bar per word, in the order of the text. */
export function renderBars(container, panel, state) {
  const { step, flow, scale } = panel;
  const drawing = el("div", { class: "drawing" });
  container.append(drawing);
  const shown = state.window(step.n);
  const width = Math.min(860, Math.max(320, drawing.clientWidth || 700));
  const indices = Array.from({ length: shown.count }, (_, place) => shown.start + place);
  const names = indices.map((index) => shorten(step.words[index], 26));
  const gutter = Math.min(220, Math.max(70, ...names.map((name) => textWidth(name)))) + 16;
  const ends = indices.flatMap((index) => [flow.at(0, index), ...(flow.range(0, index) ?? [])]);
  const reach = flow.signed ? Math.max(scale, ...ends.map(Math.abs)) : Math.max(...ends, 1e-9);
  const plot = width - gutter - 84;
  const zero = flow.signed ? gutter + plot / 2 : gutter;
  const x = (value) => zero + (value / reach) * (flow.signed ? plot / 2 : plot);
  const row = Math.max(16, Math.min(30, (state.height - 80) / shown.count));
  const parts = indices.map((index, place) => {
    const value = flow.at(0, index);
    const range = flow.range(0, index);
    const y = 8 + place * row;
    const tone = flow.signed ? (value >= 0 ? "support" : "oppose") : "flow";
    return [
      svg("text", { x: gutter - 12, y: y + row / 2 + 4, class: `word end${step.special[index] ? " special" : ""}` }, names[place]),
      svg("rect", { x: Math.min(zero, x(value)), y: y + row * 0.2, width: Math.max(1, Math.abs(x(value) - zero)), height: row * 0.6, rx: 3, class: `bar-value ${tone}`, "data-index": index, "data-value": value }),
      range && svg("path", { d: `M${x(range[0])},${y + row / 2}H${x(range[1])}`, class: "whisker" }),
      svg("text", { x: width - 4, y: y + row / 2 + 4, class: "word end number" }, formatValue(value, flow, 4)),
    ];
  });
  const height = 16 + shown.count * row;
  drawing.append(svg("svg", { width, height, class: "canvas", role: "img", "aria-label": `values of ${step.n} words` }, svg("line", { x1: zero, x2: zero, y1: 4, y2: height - 4, class: "axis" }), parts));
  const note = flow.lower ? `The thin line is the ${flow.rangeName}.` : "";
  drawing.append(el("div", { class: "below" }, el("div", { class: "tip" }, note), legend(flow, scale)));
}
