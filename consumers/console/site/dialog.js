// One dialog for everything that changes something: what is done, as whom, and what comes of it.
import { button, byId, el, setText } from "./dom.js";
import { session } from "./session.js";

// `fields`: labelled controls with names. `run(values)`: does it; a failure is shown, and may be tried again.
// Return whether it was done.
export function confirmed({ title, about = [], fields = [], deed, isGrave = false, run }) {
  const dialog = byId("dialog");
  return new Promise((resolve) => {
    let isDone = false;
    const wrong = el("p", { class: "wrong", role: "alert" });
    const yes = el("button", { type: "submit", class: isGrave ? "grave" : "deed" }, deed);
    const no = button("Cancel", () => dialog.close(), { class: "plain" });
    const who = el("p", { class: "soft" }, `You act as ${session.me.subject} (${session.me.access}); it goes on record.`);
    const submit = async (event) => {
      event.preventDefault();
      yes.disabled = true;
      setText(wrong, "");
      try {
        await run(Object.fromEntries(new FormData(form)));
        isDone = true;
        dialog.close();
      } catch (error) {
        setText(wrong, `Not done: ${error.message}`);
      }
      yes.disabled = false;
    };
    const form = el("form", { submit }, el("h2", { id: "dialog-title" }, title), about, fields, who, wrong,
      el("p", { class: "deeds" }, no, yes));
    dialog.replaceChildren(form);
    const opener = document.activeElement;
    dialog.addEventListener("close", () => {
      dialog.replaceChildren();
      if (!opener.isConnected || opener.disabled) document.querySelector("main > section:not([hidden]) h2").focus();
      resolve(isDone);
    }, { once: true });
    dialog.showModal();
  });
}

// A button for what a role may do; for others it is there, and says so.
export function deed(label, role, onClick, name) {
  const isAllowed = session.covers(role);
  return button(label, onClick, { disabled: !isAllowed, title: isAllowed ? null : `Needs the role ${role}`, "aria-label": name });
}

export function field(label, control, hint) {
  control.id = `field-${control.name}`;
  return el("p", { class: "field" }, el("label", { for: control.id }, label), control, hint && el("small", {}, hint));
}

export function choice(name, options) {
  return el("select", { name }, Object.entries(options).map(([value, text]) => el("option", { value }, text)));
}
