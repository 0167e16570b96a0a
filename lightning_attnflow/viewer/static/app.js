// The page: loads what is chosen, and draws the controls and the views.
import { OWN_ADDRESS, formatState, parseState } from "./address.js";
import { chooseAttention, decodeHeads } from "./attention.js";
import { renderBars } from "./bars.js";
import { decodeEdges, decodeSentence, rolloutEdges } from "./data.js";
import { el } from "./dom.js";
import { renderHeader, renderList, renderVerdicts } from "./header.js";
import { renderHeadline, renderMinimap, renderToolbar } from "./headline.js";
import { renderHeatmap } from "./heatmap.js";
import { helpPanel } from "./help.js";
import { renderNetwork } from "./network.js";
import { renderOverview, sortedSentences } from "./overview.js";
import { commonScale, percent } from "./scale.js";
import { renderTraining } from "./training.js";

const FITTING_WORDS = 56;
const RELOAD_MILLISECONDS = 5000;
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
    const shown = { flow, ...(await this.edges(run, name, step, state.kind)) };
    return { id, run, index, document: sentence, step, kind: state.kind, kinds, ...shown };
  }

  async edges(run, name, step, kind) {
    const { state } = this;
    const isChosen = kind === "attention" && state.view === "layers" && step.flows.attention.hasEdges;
    if (state.view !== "network" && !isChosen) return { edges: null };
    const packed = await this.load(`edges ${run} ${name} ${step.step}`, () => this.source.edges(run, name, step.step));
    const decode = (of) => (packed[of] ? decodeEdges(packed[of], step.n) : null);
    const attention = decode("attention");
    if (kind === "attention") {
      const heads = packed.heads ? decodeHeads(packed.heads) : null;
      return { ...chooseAttention(step.flows.attention, attention, heads, state), neutralEdges: true, nLayers: attention?.length ?? 0 };
    }
    if (packed[kind]) return { edges: decode(kind) };
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
        renderHeader(this, panel),
        renderVerdicts(this, panel),
        el("div", { class: several ? "body with-list" : "body" }, several && renderList(this, panel), el("main", {}, renderHeadline(this, panels), renderToolbar(this, panel), frame)),
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
    if (step.n > FITTING_WORDS && state.view !== "run") view.append(renderMinimap(this, panels[0]));
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
    this.state = parseState(this.address.read());
  }

  writeAddress() {
    this.written = formatState(this.state);
    this.address.write(this.written);
  }
}

/** The step asked for, or the last one before it, or the last of all. */
function nearest(steps, wanted) {
  if (wanted === undefined) return steps[steps.length - 1];
  return steps.findLast((step) => step.step <= wanted) ?? steps[0];
}
