// <xai-frames>: a slider over pictures that were drawn beforehand. No kernel, no network.
(() => {
  if (customElements.get("xai-frames")) return;

  const css = `
    xai-frames { display: block; max-width: 100%; margin: 1rem 0; }
    xai-frames figure { margin: 0; }
    xai-frames figcaption { margin-top: .4rem; font-size: .9em; }
    xai-frames .xai-bar { display: grid; grid-template-columns: auto minmax(0, 22rem) auto 1fr;
      column-gap: .6rem; align-items: center; margin: 0 0 .4rem; color: inherit; }
    xai-frames .xai-bar label { display: contents; }
    xai-frames .xai-name { grid-column: 1 / -1; font-variant-numeric: tabular-nums; }
    xai-frames .xai-name output { font-weight: 600; }
    xai-frames .xai-end { font-size: .85em; opacity: .8; white-space: nowrap; }
    xai-frames input[type=range] { width: 100%; height: 2.5rem; margin: 0; cursor: pointer;
      accent-color: var(--pst-color-primary, #0b6e99); touch-action: pan-y; }
    xai-frames input[type=range]:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
    @media print { xai-frames input[type=range], xai-frames .xai-end { display: none; } }`;

  const make = (tag, className, text) =>
    Object.assign(document.createElement(tag), { className, textContent: text ?? "" });

  class XaiFrames extends HTMLElement {
    connectedCallback() {
      if (this.querySelector("script[type='application/json']")) this.start();
      else if (document.readyState === "loading") // the parser has not reached it yet
        document.addEventListener("DOMContentLoaded", () => this.start(), { once: true });
      else setTimeout(() => this.start());
    }

    start() {
      const source = this.querySelector("script[type='application/json']");
      if (this.slider || !source) return; // moved within the page, or incomplete
      if (!document.querySelector("style[data-xai-frames]")) {
        const style = make("style", "", css);
        style.dataset.xaiFrames = "";
        document.head.append(style);
      }
      const { name, start, frames } = JSON.parse(source.textContent);
      this.picture = this.querySelector("img");
      frames[start].src = this.picture.getAttribute("src"); // sent once, in the img
      this.frames = frames;
      this.loaded = frames.map((frame) => { // decoded now, so that no step flickers
        const image = new Image();
        image.src = frame.src;
        image.decode?.().catch(() => {});
        return image;
      });
      this.build(name, start);
    }

    build(name, start) {
      const last = this.frames.length - 1;
      const label = make("label");
      const title = make("span", "xai-name", name + ": ");
      this.output = make("output");
      this.output.setAttribute("aria-live", "off"); // the slider's value text is read out
      title.append(this.output);
      this.slider = Object.assign(make("input"), { type: "range", min: 0, max: last, step: 1 });
      this.slider.value = start;
      this.slider.setAttribute("aria-label", name);
      this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
      label.append(title, make("span", "xai-end", this.frames[0].short), this.slider,
        make("span", "xai-end", this.frames[last].short));
      const bar = this.querySelector(".xai-bar");
      bar.replaceChildren(label);
      this.show(start);
    }

    show(index) {
      const frame = this.frames[index];
      this.picture.src = frame.src;
      this.picture.alt = frame.alt;
      this.output.textContent = frame.label;
      this.slider.setAttribute("aria-valuetext", frame.label);
    }
  }
  customElements.define("xai-frames", XaiFrames);
})();
