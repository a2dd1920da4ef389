// As much of a browser as the page needs, for node: elements, a form, an app of `total` objects that notes what it is
// asked. The page's script and what a user does are appended to it.
"use strict";
const total = 130, questions = [];

class Element {
  constructor(tag) { Object.assign(this, { tag, children: [], dataset: {}, value: "", disabled: false }); }
  setAttribute(name, value) { if (name.startsWith("data-")) this.dataset[name.slice(5)] = String(value); else this[name] = value; }
  append(...made) { this.children.push(...made); }
  replaceChildren(...made) { this.children = made; document.activeElement = null; }
  querySelectorAll() { return []; }
  focus() { document.activeElement = this; }
  blur() { document.activeElement = null; }
}

const named = {}, fields = ["sort", "queries", "window", "grade"];
const document = {
  activeElement: null,
  createElement: tag => new Element(tag),
  getElementById: id => named[id] ??= new Element(id),
};
const form = document.getElementById("ask");
form.elements = Object.fromEntries(fields.map(name => [name, form[name] = new Element(name)]));
const location = { search: "" }, history = { replaceState() {} }, scrollTo = () => {};
const getComputedStyle = () => ({ gridTemplateColumns: "1px ".repeat(7).trim() });
class FormData { *[Symbol.iterator]() { for (const name of fields) yield [name, form[name].value]; } }

async function fetch(path) {
  const { pathname, searchParams: asked } = new URL(path, "http://127.0.0.1");
  let found = { sorts: ["magnitude", "object", "similarity"], grades: { A: "a lens", X: "no lens" }, workdir: "w" };
  if (pathname === "/api/objects") {
    questions.push(asked);
    const first = Number(asked.get("start")), count = Math.min(Number(asked.get("count")), total - first);
    found = { total, objects: Array.from({ length: count }, (_, i) => ({ object: first + i, grade: "", status: "ok" })) };
  }
  return { ok: true, json: async () => found };
}

const rest = () => new Promise(resolve => setTimeout(resolve));  // until everything that was asked is answered
const press = key => document.activeElement.onkeydown({ key, preventDefault() {} });
