// Entry point of the TensorBoard plugin: TensorBoard loads this module in a frame and calls `render`.
import { mount } from "./app.js";
import { httpSource } from "./data.js";

const PREFIX = "p.attention_flow.";

/** The state of the page in the address of TensorBoard, which keeps parameters that start with "p.". */
function outerAddress() {
  const outer = window.parent;
  const others = () => outer.location.hash.slice(1).split("&").filter((part) => part && !part.startsWith(PREFIX));
  return {
    read: () => outer.location.hash.split("&").filter((part) => part.startsWith(PREFIX)).map((part) => part.slice(PREFIX.length)).join("&"),
    write: (state) => {
      if (others()[0] !== "attention_flow") return;
      const parts = [...others(), ...state.split("&").filter(Boolean).map((part) => PREFIX + part)];
      outer.history.replaceState(outer.history.state, "", `#${parts.join("&")}`);
    },
  };
}

/** Follow the light or dark mode of TensorBoard. */
function followTheme() {
  const { body } = window.parent.document;
  const apply = () => (document.documentElement.dataset.theme = body.classList.contains("dark-mode") ? "dark" : "light");
  new MutationObserver(apply).observe(body, { attributeFilter: ["class"] });
  apply();
}

export async function render() {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("./viewer.css", import.meta.url).href;
  const styled = new Promise((resolve) => (style.onload = resolve));
  document.head.append(style);
  document.title = "Attention Flow";
  followTheme();
  await styled;
  await mount(document.body, httpSource(new URL("../data/", import.meta.url).href), outerAddress());
}
