// The page: what is chosen, the controls, and the views.
import { el, shorten } from "./dom.js";
import { decodeEdges, decodeSentence, rolloutEdges } from "./data.js";
import { colour, commonScale, formatValue, ink, kindName, percent, rowName, shade } from "./scale.js";
import { describeChange, describeStep } from "./describe.js";
import { renderNetwork } from "./network.js";
import { renderBars } from "./bars.js";
import { renderHeatmap } from "./heatmap.js";
import { renderTraining } from "./training.js";
import { flips, renderOverview, sortedSentences } from "./overview.js";
import { helpPanel } from "./help.js";

const VIEWS = { values: "Values", network: "Flow network", layers: "Layers", training: "Over training", run: "Run" };
const FITTING_WORDS = 56;
const RELOAD_MILLISECONDS = 5000;
const STATE_KEYS = ["run", "name", "step", "kind", "view", "layer", "share", "otherRun", "otherStep", "order", "start", "count", "theme"];
const NUMBERS = ["step", "layer", "share", "otherStep", "start", "count"];

/** The state of the page in its own address. */
const OWN_ADDRESS = {
  read: () => location.hash.slice(1),
  write: (state) => {
    try {
      history.replaceState(null, "", `#${state}`);
    } catch {
      // frames of notebooks have no address of their own
    }
  },
};

/** Show the runs of a source in an element; `address` reads and writes the state of the page. */
export async function mount(root, source, address = OWN_ADDRESS) {
  const app = new App(root, source, address);
  await app.start();
  return app;
}

class App {
  constructor(root, source, address) {
    Object.assign(this, { root, source, address, cache: new Map(), pinned: null, helping: false, drawing: 0 });
    this.readAddress();
    this.root.classList.add("attnflow");
  }

  async start() {
    window.addEventListener("hashchange", () => {
      if (this.written === this.address.read()) return;
      this.readAddress();
      this.draw();
    });
    window.addEventListener("keydown", (event) => this.key(event));
    let timer = 0;
    window.addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.draw(), 120);
    });
    await this.draw();
    if (this.source.live) setInterval(() => this.reload(), RELOAD_MILLISECONDS);
  }

  /** Fetch once; failures are not kept. */
  async load(key, fetch) {
    if (!this.cache.has(key)) {
      const promise = fetch();
      promise.catch(() => this.cache.delete(key));
      this.cache.set(key, promise);
    }
    return this.cache.get(key);
  }

  /** Look for new steps; follow them if the last step is shown. */
  async reload() {
    if (document.hidden || this.reloading) return;
    this.reloading = true;
    try {
      const runs = await this.source.runs();
      const known = await this.load("runs", () => this.source.runs()).catch(() => []);
      const { run } = this.state;
      const fresh = run ? await this.source.index(run) : null;
      const old = run ? await this.load(`index ${run}`, () => this.source.index(run)).catch(() => null) : null;
      const changed = JSON.stringify(runs) !== JSON.stringify(known) || JSON.stringify(fresh) !== JSON.stringify(old);
      if (!changed && !this.failed) return;
      const last = old?.steps.at(-1)?.step;
      this.cache.clear();
      if (this.state.step === last) delete this.state.step;
      await this.draw();
    } catch {
      // TensorBoard was stopped or is loading; the next attempt may succeed
    } finally {
      this.reloading = false;
    }
  }

  set(changes) {
    Object.assign(this.state, changes);
    return this.draw();
  }

  async draw() {
    const ticket = ++this.drawing;
    try {
      const panels = await this.panels();
      if (ticket !== this.drawing) return;
      this.failed = false;
      this.paint(panels);
    } catch (error) {
      if (ticket !== this.drawing) return;
      this.failed = true;
      this.root.replaceChildren(el("div", { class: "empty" }, el("h1", {}, "Attention Flow"), el("p", { class: "error" }, String(error.message ?? error)), this.otherRuns()));
    }
  }

  /** The way back from a run that cannot be shown. */
  otherRuns() {
    const others = (this.runs ?? []).filter((run) => run !== this.state.run);
    const show = (run) => this.set({ run, otherRun: undefined, step: undefined, name: undefined });
    return el("p", {}, others.map((run) => [el("button", { "data-run": run, onclick: () => show(run) }, run), " "]));
  }

  /** Load what the state names, complete the state, and return the panels to draw. */
  async panels() {
    const { state } = this;
    const runs = await this.load("runs", () => this.source.runs());
    this.runs = runs;
    if (!runs.length) return [];
    if (!runs.includes(state.run)) state.run = runs[runs.length - 1];
    const first = await this.panel(state.run, state.step, "a");
    if (!first) return [];
    state.step = first.step.step;
    if (state.otherRun !== undefined && !runs.includes(state.otherRun)) delete state.otherRun;
    const second = state.otherRun === undefined ? null : await this.panel(state.otherRun, state.otherStep, "b");
    const panels = second ? [first, second] : [first];
    if (second) state.otherStep = second.step.step;
    const scale = commonScale(panels.flatMap((panel) => panel.document.steps), first.kind);
    panels.forEach((panel) => (panel.scale = scale));
    return panels;
  }

  async panel(run, wanted, id) {
    const { state } = this;
    const index = await this.load(`index ${run}`, () => this.source.index(run));
    if (!index.sentences.length) return null;
    const names = index.sentences.map((sentence) => sentence.name);
    if (!names.includes(state.name)) {
      if (id === "b") throw new Error(`The run ${run} has no sentence ${state.name}.`);
      state.name = sortedSentences(index.sentences, state.order)[0].name;
    }
    const { name } = state;
    const sentence = await this.load(`sentence ${run} ${name}`, async () => decodeSentence(await this.source.sentence(run, name)));
    const step = nearest(sentence.steps, wanted);
    const kinds = Object.keys(step.flows);
    if (!kinds.includes(state.kind)) state.kind = kinds.includes("conductance") ? "conductance" : kinds[0];
    const flow = step.flows[state.kind];
    const edges = await this.edges(run, name, step, state.kind);
    return { id, run, index, document: sentence, step, flow, kind: state.kind, kinds, ...edges };
  }

  async edges(run, name, step, kind) {
    if (this.state.view !== "network") return { edges: null };
    const packed = await this.load(`edges ${run} ${name} ${step.step}`, () => this.source.edges(run, name, step.step));
    const decode = (of) => (packed[of] ? decodeEdges(packed[of], step.n) : null);
    if (packed[kind]) return { edges: decode(kind), neutralEdges: kind === "attention" };
    const attention = decode("attention");
    if (kind === "rollout" && attention) return { edges: rolloutEdges(attention, step.flows.rollout) };
    return { edges: kind === "attention_flow" ? attention : null, neutralEdges: kind === "attention_flow" };
  }

  /** The row of a flow that colours the sentence: the input of a signed flow, otherwise the last readable layer. */
  row(flow) {
    const wanted = flow.layers.indexOf(this.state.layer);
    if (wanted >= 0) return wanted;
    if (flow.signed || flow.rows < 3) return 0;
    return flow.rows - 2;
  }

  /** The words that are drawn: all of a short sentence, otherwise a part that can be moved and resized. */
  window(n, most = n) {
    const count = Math.max(1, Math.min(n, most, this.state.count ?? (n > FITTING_WORDS ? 32 : n)));
    const start = Math.max(0, Math.min(n - count, this.state.start ?? 0));
    return { start, count };
  }

  paint(panels) {
    this.writeAddress();
    if (this.state.theme) document.documentElement.dataset.theme = this.state.theme;
    if (!panels.length) {
      const text = this.source.live
        ? "No run in this log directory was recorded by AttentionFlowMonitor yet. Add the callback to the trainer; the page updates while training goes on."
        : "This file holds no record.";
      this.root.replaceChildren(el("div", { class: "empty" }, el("h1", {}, "Attention Flow"), el("p", {}, text)));
      return;
    }
    const [panel] = panels;
    const several = panel.index.sentences.length > 1;
    const view = el("div", { class: "view" });
    const frame = el("div", { class: "views" }, view);
    const focused = document.activeElement?.dataset?.control;
    const scroll = this.root.querySelector(".sentence-list")?.scrollTop ?? 0;
    const help = this.helping ? helpPanel(() => this.help(false)) : null;
    this.root.replaceChildren(
      ...[
        this.header(panel),
        this.verdicts(panel),
        el("div", { class: several ? "body with-list" : "body" }, several && this.list(panel), el("main", {}, this.headline(panels), this.tabs(panel), frame)),
        help,
      ].filter(Boolean),
    );
    const list = this.root.querySelector(".sentence-list");
    if (list) list.scrollTop = scroll;
    if (focused) this.root.querySelector(`[data-control="${focused}"]`)?.focus();
    this.views(view, panels);
  }

  views(view, panels) {
    const { state } = this;
    const height = Math.max(380, window.innerHeight - view.getBoundingClientRect().top - 24);
    const context = {
      share: state.share, order: state.order, name: state.name, pinned: this.pinned,
      height: panels.length > 1 && state.view !== "run" ? Math.max(330, height / 1.15) : height,
      window: (n, most) => this.window(n, most), row: (flow) => this.row(flow),
    };
    const actions = {
      step: (step) => this.set({ step }),
      layer: (layer) => this.set({ layer }),
      sentence: (name) => this.set({ name, view: state.view === "run" ? "network" : state.view, start: undefined, count: undefined }),
      pin: (pinned) => { this.pinned = pinned; this.draw(); },
    };
    const draw = { values: renderBars, network: renderNetwork, layers: renderHeatmap, training: renderTraining, run: renderOverview }[state.view];
    const [{ step }] = panels;
    if (step.n > FITTING_WORDS && state.view !== "run") view.append(this.minimap(panels[0]));
    if (panels.length === 1 || state.view === "run") {
      draw(view, panels[0], context, actions);
      return;
    }
    const pair = el("div", { class: "pair" });
    view.append(pair);
    const [left, right] = panels;
    const inOrder = left.run === right.run && left.step.step > right.step.step ? [right, left] : panels;
    const columns = inOrder.map((panel) => el("section", {}, el("h2", { class: "panel-title" }, `${panel.run}, step ${panel.step.step}`, panel.step.prediction && el("small", {}, `${panel.step.prediction.class} ${percent(panel.step.prediction.probability, 1)}`))));
    pair.append(...columns);
    inOrder.forEach((panel, place) => draw(columns[place], panel, context, actions));
  }

  header(panel) {
    const { state } = this;
    const steps = panel.document.steps;
    const place = steps.findIndex((step) => step.step === state.step);
    const { epoch } = panel.index.steps.find((step) => step.step === state.step) ?? {};
    const go = (change) => this.set({ step: steps[Math.max(0, Math.min(steps.length - 1, place + change))].step });
    const stepper = steps.length > 1 && el(
      "div",
      { class: "stepper" },
      el("button", { "aria-label": "Previous step", "data-control": "previous", disabled: place === 0, onclick: () => go(-1) }, "‹"),
      el("input", { type: "range", min: 0, max: steps.length - 1, value: place, "aria-label": "Step", "data-control": "step", oninput: (event) => this.set({ step: steps[Number(event.target.value)].step }) }),
      el("button", { "aria-label": "Next step", "data-control": "next", disabled: place === steps.length - 1, onclick: () => go(1) }, "›"),
      el("span", { class: "where" }, state.step === 0 ? "before training" : `step ${state.step}`, epoch !== null && epoch !== undefined && state.step !== 0 && el("small", {}, `epoch ${epoch}`)),
    );
    const select = (control, label, options, value, change) => el("label", {}, label, el("select", { "data-control": control, onchange: (event) => change(event.target.value) }, options.map(([key, text]) => el("option", { value: key, selected: String(key) === String(value) }, text))));
    const runs = this.runs.map((run) => [run, shorten(run, 34)]);
    const canCompare = this.runs.length > 1 || steps.length > 1;
    const comparing = state.otherRun !== undefined;
    return el(
      "header",
      { class: "bar" },
      el("h1", {}, el("i", { class: "mark", "aria-hidden": "true" }), "Attention Flow"),
      this.runs.length > 1 && select("run", "run", runs, state.run, (run) => this.set({ run, step: undefined })),
      stepper,
      canCompare && select("other-run", "compare with", [["", "nothing"], ...runs], state.otherRun ?? "", (run) => this.set(run ? { otherRun: run, otherStep: run === state.run ? steps[0].step : undefined } : { otherRun: undefined, otherStep: undefined })),
      comparing && this.otherSteps(select),
      el("span", { class: "spring" }),
      el("button", { class: "quiet", "data-control": "theme", title: "Light or dark", "aria-label": "Light or dark", onclick: () => this.toggleTheme() }, "◐"),
      el("button", { class: "quiet", "data-control": "help", onclick: () => this.help(true) }, "How to read this"),
    );
  }

  otherSteps(select) {
    const { state } = this;
    const holder = el("span", { class: "holder" });
    this.load(`index ${state.otherRun}`, () => this.source.index(state.otherRun)).then((index) => {
      const sentence = index.sentences.find(({ name }) => name === state.name);
      if (sentence) holder.append(select("other-step", "at step", sentence.steps.map((step) => [step, String(step)]), state.otherStep, (step) => this.set({ otherStep: Number(step) })));
    });
    return holder;
  }

  verdicts(panel) {
    const verdicts = panel.index.steps.find((step) => step.step === this.state.step)?.verdicts ?? [];
    if (!verdicts.length) return null;
    return el("div", { class: "verdicts", role: "status" }, verdicts.map((verdict) => el("details", { class: `verdict ${verdict.level ?? "warning"}` }, el("summary", {}, verdict.text), el("p", {}, verdict.rule))));
  }

  list(panel) {
    const { state } = this;
    const sentences = sortedSentences(panel.index.sentences, state.order);
    const items = sentences.map((sentence) => {
      const place = Math.max(0, sentence.steps.indexOf(state.step));
      const prediction = sentence.predictions[place];
      const changes = flips(sentence);
      return el(
        "li",
        { class: sentence.name === state.name ? "current" : "", "data-name": sentence.name },
        el("button", { "aria-current": sentence.name === state.name ? "true" : null, onclick: () => this.set({ name: sentence.name, start: undefined, count: undefined }) },
          el("span", { class: "sentence-text" }, shorten(sentence.text, 120)),
          el("span", { class: "sentence-note" }, prediction ? `${prediction.class} ${percent(prediction.probability)}` : "", changes > 0 && el("b", {}, changes === 1 ? "prediction flipped" : `flipped ${changes} times`)),
        ),
      );
    });
    const order = el("select", { "aria-label": "Order of the sentences", "data-control": "order", onchange: (event) => this.set({ order: event.target.value }) },
      [["change", "flips, then drift"], ["drift", "drift from start"], ["order", "as logged"]].map(([key, text]) => el("option", { value: key, selected: key === state.order }, text)));
    return el("nav", { class: "list" }, el("div", { class: "list-head" }, el("h2", {}, `${sentences.length} sentences`), order), el("ol", { class: "sentence-list" }, items));
  }

  headline(panels) {
    const [{ step, flow, scale, document: sentence, kind }] = panels;
    const row = this.row(flow);
    const shown = step.n > 160 ? this.window(step.n) : { start: 0, count: step.n };
    const words = [];
    for (let index = shown.start; index < shown.start + shown.count; index += 1) {
      const tone = shade(flow.at(row, index), flow, scale);
      const range = flow.range(row, index);
      words.push(el("span", { class: `token${step.special[index] ? " special" : ""}`, "data-value": flow.at(row, index), title: formatValue(flow.at(row, index), flow, 4) + (range ? `, ${flow.rangeName} ${formatValue(range[0], flow, 4)} to ${formatValue(range[1], flow, 4)}` : ""), style: { background: colour(tone), color: ink(tone) } }, step.words[index]), " ");
    }
    const { prediction } = step;
    const before = sentence.steps[0];
    const other = panels[1]?.step;
    const texts = [describeStep(step, flow, row)];
    if (other && panels[0].run === panels[1].run && other.step !== step.step) {
      const [early, late] = other.step < step.step ? [other, step] : [step, other];
      texts.push(describeChange(early, late, kind, row));
    } else if (!other && before.step !== step.step) texts.push(describeChange(before, step, kind, row));
    return el(
      "section",
      { class: "headline" },
      el("p", { class: "words", "data-role": "words", dir: "auto" }, words, shown.count < step.n && el("span", { class: "muted" }, ` words ${shown.start + 1} to ${shown.start + shown.count} of ${step.n}`)),
      prediction && el("div", { class: "prediction", "data-role": "prediction" }, el("b", {}, prediction.class), el("span", { class: "probability" }, percent(prediction.probability, 1)), el("i", { class: "meter plain", style: { width: `${100 * prediction.probability}%` } })),
      el("p", { class: "description", "data-role": "description" }, texts.filter(Boolean).join(" ")),
    );
  }

  tabs(panel) {
    const { state } = this;
    const many = panel.document.steps.length > 1;
    const layered = panel.flow.rows > 1;
    const present = { values: !layered, network: layered, layers: layered, training: many, run: many || panel.index.sentences.length > 1 };
    const views = Object.entries(VIEWS).filter(([view]) => present[view]);
    if (!present[state.view]) state.view = views[0][0];
    const kinds = panel.kinds.length > 1 && state.view !== "run" && el("label", {}, el("select", { "data-control": "kind", "aria-label": "Flow", onchange: (event) => this.set({ kind: event.target.value, layer: undefined }) }, panel.kinds.map((kind) => el("option", { value: kind, selected: kind === panel.kind }, kindName(kind)))));
    const row = this.row(panel.flow);
    const layer = panel.flow.rows > 1 && state.view !== "run" && el("label", {}, "colour words by", el("select", { "data-control": "layer", onchange: (event) => this.set({ layer: Number(event.target.value) }) }, panel.flow.layers.map((number, place) => el("option", { value: number, selected: place === row }, rowName(panel.flow, place)))));
    const share = state.view === "network" && panel.edges && el("label", { class: "share" }, "edges", el("input", { type: "range", min: 0.3, max: 1, step: 0.01, value: state.share, "data-control": "share", oninput: (event) => this.set({ share: Number(event.target.value) }) }), el("output", {}, percent(state.share)));
    return el(
      "div",
      { class: "toolbar" },
      el("div", { class: "tabs", role: "tablist" }, views.map(([view, name]) => el("button", { role: "tab", "aria-selected": String(view === state.view), "data-view": view, onclick: () => this.set({ view }) }, name))),
      el("div", { class: "controls" }, kinds, layer, share),
    );
  }

  /** All words of a long sentence in one strip, with the visible part as a frame that can be moved and resized. */
  minimap(panel) {
    const { step, flow, scale } = panel;
    const shown = this.window(step.n);
    const row = this.row(flow);
    const cells = [];
    for (let index = 0; index < step.n; index += 1) cells.push(el("i", { style: { background: colour(shade(flow.at(row, index), flow, scale)) } }));
    const frame = el("b", { style: { left: `${(100 * shown.start) / step.n}%`, width: `${(100 * shown.count) / step.n}%` } });
    const move = (event) => {
      const box = strip.getBoundingClientRect();
      const middle = ((event.clientX - box.left) / box.width) * step.n;
      this.set({ start: Math.max(0, Math.min(step.n - shown.count, Math.round(middle - shown.count / 2))) });
    };
    const strip = el("div", { class: "strip", "data-control": "strip", onpointerdown: (event) => move(event), onpointermove: (event) => event.buttons && move(event) }, cells, frame);
    const zoom = (factor) => {
      const count = Math.max(6, Math.min(step.n, Math.round(shown.count * factor)));
      this.set({ count, start: Math.max(0, Math.min(step.n - count, Math.round(shown.start + (shown.count - count) / 2))) });
    };
    return el("div", { class: "minimap" }, strip, el("div", { class: "zoom" }, el("button", { "aria-label": "Fewer words", "data-control": "zoom-in", onclick: () => zoom(0.5) }, "+"), el("button", { "aria-label": "More words", "data-control": "zoom-out", onclick: () => zoom(2) }, "−"), el("span", {}, `words ${shown.start + 1} to ${shown.start + shown.count} of ${step.n}`)));
  }

  help(shown) {
    this.helping = shown;
    this.draw();
  }

  toggleTheme() {
    const dark = (this.state.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    this.set({ theme: dark ? "light" : "dark" });
  }

  async key(event) {
    if (event.target.matches?.("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "?") return this.help(!this.helping);
    if (event.key === "Escape") {
      this.helping = false;
      this.pinned = null;
      return this.draw();
    }
    const { state } = this;
    const views = [...this.root.querySelectorAll("[data-view]")];
    if (/^[1-4]$/.test(event.key) && views[event.key - 1]) return views[event.key - 1].click();
    if (!event.key.startsWith("Arrow") || !state.run) return undefined;
    event.preventDefault();
    const index = await this.load(`index ${state.run}`, () => this.source.index(state.run));
    const change = event.key === "ArrowLeft" || event.key === "ArrowUp" ? -1 : 1;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const { steps } = index.sentences.find(({ name }) => name === state.name);
      return this.set({ step: steps[Math.max(0, Math.min(steps.length - 1, steps.indexOf(state.step) + change))] });
    }
    const names = sortedSentences(index.sentences, state.order).map(({ name }) => name);
    return this.set({ name: names[Math.max(0, Math.min(names.length - 1, names.indexOf(state.name) + change))], start: undefined, count: undefined });
  }

  readAddress() {
    this.state = { view: "network", share: 0.8, order: "change" };
    for (const [key, value] of new URLSearchParams(this.address.read())) {
      if (STATE_KEYS.includes(key)) this.state[key] = NUMBERS.includes(key) ? Number(value) : value;
    }
  }

  writeAddress() {
    const parameters = new URLSearchParams();
    for (const key of STATE_KEYS) if (this.state[key] !== undefined && this.state[key] !== null) parameters.set(key, String(this.state[key]));
    this.written = String(parameters);
    this.address.write(this.written);
  }
}

/** The step asked for, or the last one before it, or the last of all. */
function nearest(steps, wanted) {
  if (wanted === undefined) return steps[steps.length - 1];
  return steps.findLast((step) => step.step <= wanted) ?? steps[0];
}
