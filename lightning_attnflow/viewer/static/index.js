// Entry point of the TensorBoard plugin: TensorBoard loads this module in a frame and calls `render`.
import { mount } from "./app.js";
import { httpSource } from "./data.js";

export async function render() {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("./viewer.css", import.meta.url).href;
  document.head.append(style);
  document.title = "Attention Flow";
  await mount(document.body, httpSource(new URL("../data/", import.meta.url).href));
}
