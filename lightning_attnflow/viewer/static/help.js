// The panel "How to read this".
import { el } from "./dom.js";

const TOPICS = [
  ["What is drawn", "Every row is a layer, with the words at the bottom and the prediction on top. A node is a word's position after that layer; an edge is what flows along the attention and the residual stream from one layer to the next."],
  ["Conductance", "How the prediction flows from the words to the readout, in units of its log probability. Blue supports the explained class, orange opposes it. Every layer sums to the same total: the prediction for the sentence minus that for the masked sentence. The error of this sum is measured and shown."],
  ["Attention flow", "The Shapley value of the maximum-flow game on the attention network, with the range over all maximum flows. It is about where information can come from, not about the class. Hatched rows are saturated, or their range covers nearly everything: do not read them as importance."],
  ["Rollout and attention", "Rollout multiplies the attention of all layers. Attention is what each position attends to: the mean of the heads with the residual stream, or one head without it. Choose one layer to see which word attends to which. All of these ignore the class."],
  ["Colours", "One absolute scale for all rows, steps and compared runs. Signed values: from orange through the background to blue. Shares: the background is the uniform share or less, the strongest colour is eight times the uniform share."],
  ["Special tokens", "[CLS], [SEP] and the like are in italics. They often hold much of the flow in the middle layers: the model gathers the words there."],
  ["Keys", "← → steps · ↑ ↓ sentences · 1 to 4 views · Esc releases a node · ? this panel. The address holds the state of the page: copy it to share a view."],
];

export function helpPanel(close) {
  return el(
    "div",
    { class: "help", role: "dialog", "aria-label": "How to read this", onclick: (event) => event.target.classList.contains("help") && close() },
    el(
      "div",
      { class: "help-card" },
      el("header", {}, el("h2", {}, "How to read this"), el("button", { class: "quiet", "aria-label": "Close", onclick: close }, "✕")),
      el("dl", {}, TOPICS.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)))),
    ),
  );
}
