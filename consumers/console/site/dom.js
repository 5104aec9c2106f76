// Elements, made without a parser of markup: whatever came from outside is a text node, and can be nothing else.
const SVG = "http://www.w3.org/2000/svg";
// Control characters, and those that turn the order of text round: shown as what they are.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

export const byId = (id) => document.getElementById(id);

export function printable(text) {
  return String(text).replace(HIDDEN, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export function el(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) set(node, name, value);
  node.append(...children.flat().filter((one) => one != null && one !== "").map(asNode));
  return node;
}

function asNode(child) {
  return child instanceof Node ? child : document.createTextNode(printable(child));
}

// Functions are listeners; true and false put an attribute there or take it off.
export function set(node, name, value) {
  if (typeof value === "function") node.addEventListener(name, value);
  else if (value === false || value == null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? "" : value);
}

export function setText(node, text) {
  const shown = printable(text ?? "");
  if (node.textContent !== shown) node.textContent = shown;
}

export function button(label, onClick, attributes) {
  return el("button", { type: "button", click: onClick, ...attributes }, label);
}

export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value != null && value !== "");
  return el("dl", { class: "facts" }, shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}
