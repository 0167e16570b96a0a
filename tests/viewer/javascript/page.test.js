// Unit tests of the parts of the page that need no document.
import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseAttention, decodeHeads, headEdges, matrixFlow } from "../../../lightning_attnflow/viewer/static/attention.js";
import { decodeArray, decodeEdges, decodeSentence, fromHalf, rolloutEdges } from "../../../lightning_attnflow/viewer/static/data.js";
import { direction, describeChange, describeStep, describeView, explained } from "../../../lightning_attnflow/viewer/static/describe.js";
import { runNames } from "../../../lightning_attnflow/viewer/static/header.js";
import { flips, isWrong, sortedSentences } from "../../../lightning_attnflow/viewer/static/overview.js";
import { Loader } from "../../../lightning_attnflow/viewer/static/panels.js";
import { commonScale, formatValue, ink, niceMaximum, shade } from "../../../lightning_attnflow/viewer/static/scale.js";
import { neighbours, strongestEdges, traceNode } from "../../../lightning_attnflow/viewer/static/trace.js";

function pack(dtype, shape, numbers) {
  const size = { f4: 4, f2: 2, u2: 2, u1: 1 }[dtype];
  const view = new DataView(new ArrayBuffer(size * numbers.length));
  numbers.forEach((number, index) => (dtype === "u1" ? view.setUint8(index, number) : dtype === "f4" ? view.setFloat32(4 * index, number, true) : view.setUint16(2 * index, number, true)));
  return { dtype, shape, data: Buffer.from(view.buffer).toString("base64") };
}

function step(number, rows, { words = ["the", "film"], name = "positive", probability = 0.9, target = name, kind = "conductance" } = {}) {
  const flow = { signed: kind === "conductance", unit: "log probability", layers: rows.map((_, row) => row), values: pack("f4", [rows.length, words.length], rows.flat()), target };
  return { step: number, words, special: words.map(() => 0), flows: { [kind]: flow }, prediction: { class: name, probability } };
}

const sentence = (...steps) => decodeSentence({ name: "probe_00", steps }).steps;

test("float16 numbers, with zeros, subnormals, infinities and NaN", () => {
  const cases = [[0x0000, 0], [0x3c00, 1], [0xc000, -2], [0x3555, 0.333251953125], [0x0001, 2 ** -24], [0x7bff, 65504], [0x7c00, Infinity], [0xfc00, -Infinity]];
  for (const [bits, value] of cases) assert.equal(fromHalf(bits), value);
  assert.ok(Number.isNaN(fromHalf(0x7e00)));
});

test("arrays of each type", () => {
  assert.deepEqual([...decodeArray(pack("f4", [2], [0.5, -3]))], [0.5, -3]);
  assert.deepEqual([...decodeArray(pack("u2", [3], [0, 7, 65535]))], [0, 7, 65535]);
  assert.deepEqual([...decodeArray(pack("f2", [2], [0x3c00, 0xc000]))], [1, -2]);
  assert.throws(() => decodeArray({ dtype: "f8", shape: [0], data: "" }), /unknown type of numbers f8/);
});

test("dense edges are sorted by their strength, and zeros are left out", () => {
  const packed = { dense: pack("f2", [1, 2, 2], [0x3c00, 0, 0xc000, 0x3800]), coverage: [1] };
  const [layer] = decodeEdges(packed, 2);
  assert.deepEqual([...layer.value], [-2, 1, 0.5]);
  assert.deepEqual([...layer.query], [1, 0, 1]);
  assert.deepEqual([...layer.key], [0, 0, 1]);
});

test("sparse edges are split by layer", () => {
  const packed = { n: [1, 2], query: pack("u2", [3], [0, 1, 1]), key: pack("u2", [3], [1, 0, 1]), value: pack("f2", [3], [0x3c00, 0x4000, 0x3800]), coverage: [0.9, 0.8] };
  const layers = decodeEdges(packed, 2);
  assert.deepEqual(layers.map((layer) => [...layer.value]), [[1], [2, 0.5]]);
  assert.equal(layers[1].coverage, 0.8);
});

const layer = (edges, coverage = 1) => ({ query: edges.map(([query]) => query), key: edges.map(([, key]) => key), value: edges.map(([, , value]) => value), coverage });

test("the strongest edges carry the wanted share", () => {
  const layers = [layer([[0, 0, -6], [0, 1, 3], [1, 1, 1]])];
  assert.deepEqual(strongestEdges(layers, 0.6).edges.map((edge) => edge.value), [-6]);
  const chosen = strongestEdges(layers, 0.61);
  assert.deepEqual(chosen.edges.map((edge) => edge.value), [-6, 3]);
  assert.equal(chosen.shown, 0.9);
  assert.equal(strongestEdges(layers, 1).edges.length, 3);
});

test("edges to words outside the view are counted, not drawn", () => {
  const chosen = strongestEdges([layer([[0, 0, 6], [0, 1, 4]], 0.8)], 1, (index) => index === 0);
  assert.equal(chosen.edges.length, 1);
  assert.ok(Math.abs(chosen.outside - 0.4) < 1e-12);
  assert.ok(Math.abs(chosen.stored - 0.8) < 1e-12);
});

test("a trace follows the flow down and up in proportion", () => {
  const layers = [layer([[0, 0, 1], [0, 1, -3], [1, 1, 2]]), layer([[0, 0, 2], [1, 0, 2], [1, 1, 5]])];
  const { weights, edgeWeights } = traceNode(layers, 1, 0, 2);
  assert.deepEqual([...weights[0]], [0.25, 0.75]);
  assert.deepEqual([...weights[2]], [0.5, 0.5]);
  assert.deepEqual([...edgeWeights[0]], [0.25, 0.75, 0]);
  assert.deepEqual([...edgeWeights[1]], [0.5, 0.5, 0]);
});

test("neighbours are sorted by strength", () => {
  const layers = [layer([[0, 0, 1], [0, 1, -3]]), layer([[1, 0, 2]])];
  const { inflows, outflows } = neighbours(layers, 1, 0);
  assert.deepEqual(inflows, [{ index: 1, value: -3 }, { index: 0, value: 1 }]);
  assert.deepEqual(outflows, [{ index: 1, value: 2 }]);
});

test("rollout sends the flow of the upper row down", () => {
  const [{ flows }] = sentence(step(0, [[0.5, 0.5], [0.25, 0.75]], { kind: "rollout" }));
  const [edges] = rolloutEdges([layer([[0, 0, 1], [1, 0, 0.5]])], flows.rollout);
  assert.deepEqual(edges.value, [0.25, 0.375]);
});

test("scales are rounded up to 1, 2 or 5 times a power of ten", () => {
  assert.deepEqual([0.3, 0.5, 0.51, 1, 1.2, 30, 0].map(niceMaximum), [0.5, 0.5, 1, 1, 2, 50, 1]);
});

test("one scale serves all steps, and special tokens do not set it", () => {
  const steps = sentence(step(0, [[0.1, 0.2]]), step(1, [[-0.4, 3]]));
  assert.equal(commonScale(steps, "conductance"), 5);
  steps.forEach((one) => (one.special = [0, 1]));
  assert.equal(commonScale(steps, "conductance"), 0.5);
  assert.equal(commonScale(sentence(step(0, [[0.001, 0.002]])), "conductance"), 0.1);
});

test("shares are coloured against the uniform share", () => {
  const flow = { signed: false, n: 10 };
  assert.equal(shade(0.1, flow).strength, 0);
  assert.equal(shade(0.05, flow).strength, 0);
  assert.equal(shade(0.8, flow).strength, 1);
  assert.ok(Math.abs(shade(0.2, flow).strength - 1 / 3) < 1e-12);
});

test("values have a sign, and no negative zero", () => {
  const signed = { signed: true };
  assert.deepEqual([0.126, -0.5, -0.001].map((value) => formatValue(value, signed)), ["+0.13", "−0.50", "+0.00"]);
  assert.equal(formatValue(0.1234, { signed: false }), "12.3%");
  assert.equal(formatValue(NaN, signed), "n/a");
});

test("a step is described by its leading words", () => {
  const [one] = sentence(step(0, [[0.5, -0.25]]));
  assert.equal(describeStep(one, one.flows.conductance, 0), "For “positive”: “the” +0.50; against it: “film” −0.25 (log probability).");
});

test("what is explained has the name of the class, and the output of a model with one is the score", () => {
  assert.equal(explained({ unit: "log probability", target: "positive" }), "log probability of positive");
  assert.equal(explained({ unit: "logit", target: "toxicity" }), "logit of toxicity");
  assert.equal(explained({ unit: "logit", target: "score" }), "score");
  assert.equal(explained({ unit: "share of the flow", target: null }), "share of the flow");
});

test("a saturated layer is not described as importance", () => {
  const [one] = sentence(step(0, [[0.5, 0.5]], { kind: "attention_flow" }));
  one.flows.attention_flow.saturation = [0.9];
  assert.match(describeStep(one, one.flows.attention_flow, 0), /saturated/);
});

test("a flip and the word that changed most are described", () => {
  const [before, after] = sentence(step(50, [[0.31, 0.69]], { name: "negative" }), step(99, [[0.04, 0.96]]));
  assert.equal(
    describeChange(before, after, "conductance", 0),
    "From step 50 to 99 the prediction turned from negative to positive; “the” fell from 31% to 4% of the flow.",
  );
});

test("without a change it says so", () => {
  const steps = sentence(step(0, [[0.5, -0.5]]), step(9, [[0.5, -0.5]], { probability: 0.901 }));
  assert.equal(
    describeChange(...steps, "conductance", 0),
    "From step 0 to 9 the probability of positive stayed at 90%; no word's share of the flow changed by more than 2 points.",
  );
});

test("runs are named without their common folders, and by both ends if they are long", () => {
  assert.deepEqual(runNames(["logs/tune/version_0", "logs/tune/version_1"]), ["version_0", "version_1"]);
  assert.deepEqual(runNames(["a", "a/b"]), ["a", "a/b"]);
  assert.deepEqual(runNames(["logs/only"]), ["logs/only"]);
  assert.deepEqual(runNames([`x/first-${"y".repeat(40)}-0`, "x/second"]), ["first-yyyyy…yyyyyyyy-0", "second"]);
});

test("words from right to left keep the numbers behind them, and give the sentence its direction", () => {
  const words = ["[CLS]", "رائع", "film"];
  const [only] = sentence(step(0, [[0, 0.7, 0.1]], { words }));
  only.special = [1, 0, 0];
  assert.match(describeStep(only, only.flows.conductance, 0), /“\u2068رائع\u2069” \+0\.70, “film” \+0\.10/);
  assert.equal(direction(only), "rtl");
  assert.equal(direction({ words: ["[CLS]", "1", "film", "רע"], special: [1, 0, 0, 0] }), "ltr");
  assert.equal(direction({ words: ["?"], special: [0] }), "ltr");
});

test("a view is described with its rows and the quantity of the flow", () => {
  const flow = { kind: "conductance" };
  assert.equal(describeView("training", { ...flow, rows: 1 }), "A column is a validation. A cell is how much of the prediction flows through a word at a layer.");
  const layered = { kind: "conductance", rows: 3, layers: [0, 1, 2] };
  assert.match(describeView("training", layered), /at a layer, here at the words\.$/);
  assert.match(describeView("training", layered, 2), /at a layer, here at layer 2\.$/);
  assert.match(describeView("layers", { kind: "attention", single: true }), /^Each row is a word/);
  assert.equal(describeView("run", flow) + describeView("values", { kind: "shapley" }), "");
});

test("the state is completed, and steps between those of a sentence are those before", async () => {
  const document = { name: "probe_00", steps: [step(0, [[0.5, 0.5]]), step(10, [[0.1, 0.9]])] };
  const index = { sentences: [{ name: "probe_00", predictions: [], numbers: [], steps: [0, 10] }], steps: [] };
  let calls = 0;
  const loader = new Loader({ runs: async () => ["a", "b"], index: async () => ((calls += 1), index), sentence: async () => document, edges: async () => ({}) });
  const state = { view: "network", order: "change", otherRun: "a", otherStep: 7 };
  const panels = await loader.panels(state);
  assert.deepEqual([state.run, state.name, state.step, state.otherStep, state.kind], ["b", "probe_00", 10, 0, "conductance"]);
  assert.deepEqual(panels.map((panel) => [panel.id, panel.step.step, panel.scale]), [["a", 10, 1], ["b", 0, 1]]);
  await loader.panels(state);
  assert.equal(calls, 2);
});

test("flips come first, then drift", () => {
  const make = (name, classes, drift) => ({ name, predictions: classes.map((one) => (one ? { class: one } : null)), numbers: [{ drift_from_start: drift }] });
  const list = [make("calm", ["a", "a"], 0.1), make("drifted", ["a", "a"], 0.9), make("flipped", ["a", null, "b", "a"], 0.2)];
  assert.deepEqual(list.map(flips), [0, 0, 2]);
  assert.deepEqual(sortedSentences(list, "change").map(({ name }) => name), ["flipped", "drifted", "calm"]);
  assert.deepEqual(sortedSentences(list, "order").map(({ name }) => name), ["calm", "drifted", "flipped"]);
});

test("text on a cell is light or dark, whichever has the higher contrast in the theme", () => {
  assert.equal(ink({ strength: 0.5, tone: "--flow" }), "var(--ink)");
  assert.equal(ink({ strength: 0.9, tone: "--support" }), "var(--on-strong)");
  assert.equal(ink({ strength: 0.65, tone: "--support" }), "light-dark(var(--ink), var(--on-strong))");
  assert.equal(ink({ strength: 1, tone: "--oppose" }), "light-dark(var(--ink), var(--on-strong))");
});

test("an even flow is not described as no flow", () => {
  const words = Array(200).fill("word");
  const [even, none] = sentence(step(0, [Array(200).fill(0.25)], { words }), step(1, [Array(200).fill(0.00001)], { words }));
  assert.match(describeStep(even, even.flows.conductance, 0), /No word stands out/);
  assert.match(describeStep(none, none.flows.conductance, 0), /Nothing flows/);
});

const packedHeads = () => decodeHeads({ shape: [1, 2, 2], mask: pack("u1", [1], [0b10110110]), value: pack("u1", [5], [255, 51, 204, 102, 153]), coverage: 0.95 });

test("heads are decoded from the mask and the stored values", () => {
  const decoded = packedHeads();
  assert.deepEqual([...decoded.values].map((value) => Number(value.toFixed(6))), [1, 0, 0.2, 0.8, 0, 0.4, 0.6, 0]);
  const [layer] = headEdges(decoded, 1);
  assert.deepEqual([[...layer.query], [...layer.key], layer.coverage], [[1, 0], [0, 1], 0.95]);
});

test("one head and one layer of the attention are flows of shares", () => {
  const [{ flows }] = sentence(step(0, [[0.5, 0.5], [1, 0]], { kind: "attention" }));
  const mean = [layer([[0, 0, 0.5], [0, 1, 0.5], [1, 1, 1]])];
  const rounded = (flow) => [...flow.values].map((value) => Number(value.toFixed(6)));
  assert.equal(chooseAttention(flows.attention, mean, null, { head: 1 }).flow, flows.attention);
  const head = chooseAttention(flows.attention, mean, packedHeads(), { head: 0 });
  assert.deepEqual(rounded(head.flow), [0.6, 0.4, 1, 0]);
  assert.match(head.caption, /head 1, without the residual stream/);
  const one = chooseAttention(flows.attention, mean, null, { only: 1 });
  assert.deepEqual(rounded(one.flow), [0.25, 0.75, 0.5, 0.5]);
  assert.deepEqual(one.flow.rowNames, ["attended to", "attending"]);
  const matrix = matrixFlow(one.flow, one.edges[0], ["the", "film"], { start: 0, count: 2 });
  assert.deepEqual([rounded(matrix), matrix.rowNames], [[0, 1, 0.5, 0.5], ["film", "the"]]);
});

test("a prediction is wrong if the label is known and another one", () => {
  assert.ok(isWrong({ class: "a" }, "b"));
  assert.ok(!isWrong({ class: "a" }, "a") && !isWrong({ class: "a" }, null) && !isWrong(null, "a"));
});
