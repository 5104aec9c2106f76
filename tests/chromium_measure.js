// Measures every frame of a sheet, and writes what it finds into <pre id="result"> as JSON.
"use strict";
const CONTRAST_MIN = 4.5; // WCAG 2.2, 1.4.3, for text of any size
const TARGET_PX_MIN = 24; // WCAG 2.2, 2.5.8

function colour(text) {
  const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
  return { rgb: [red, green, blue], alpha };
}

function over(front, behind) {
  return front.rgb.map((part, at) => part * front.alpha + behind[at] * (1 - front.alpha));
}

function background(element, view) {
  const layers = [];
  for (let one = element; one; one = one.parentElement) {
    layers.push(colour(view.getComputedStyle(one).backgroundColor));
    if (layers.at(-1).alpha === 1) break;
  }
  const canvas = view.matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  return layers.reverse().reduce((behind, layer) => over(layer, behind), canvas);
}

function luminance(rgb) {
  const [red, green, blue] = rgb.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(element, view) {
  const behind = background(element, view);
  const [light, dark] = [over(colour(view.getComputedStyle(element).color), behind), behind]
    .map(luminance).sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

function named(element) {
  return `${element.tagName.toLowerCase()} "${element.textContent.trim().slice(0, 30)}"`;
}

function look(frame) {
  const view = frame.contentWindow, page = frame.contentDocument, width = page.documentElement.clientWidth;
  const found = {
    name: frame.name, width, scheme: view.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
    texts: 0, faint: [], wide: [], small: [],
  };
  for (const element of page.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    if (!element.getClientRects().length) continue;
    if (box.right > width + 0.5 || box.left < -0.5) found.wide.push(`${named(element)} to ${Math.round(box.right)}`);
    if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth)
      found.wide.push(`${named(element)} holds ${element.scrollWidth} in ${element.clientWidth}`);
    if (element.matches("a, button") && box.height < TARGET_PX_MIN)
      found.small.push(`${named(element)} ${box.height} high`);
    if (![...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim())) continue;
    found.texts += 1;
    const ratio = contrast(element, view);
    if (ratio < CONTRAST_MIN) found.faint.push(`${named(element)} ${ratio.toFixed(2)}`);
  }
  if (page.documentElement.scrollWidth > width) found.wide.push(`page ${page.documentElement.scrollWidth}`);
  return found;
}

window.addEventListener("load", () => {
  document.getElementById("result").textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(look));
});
