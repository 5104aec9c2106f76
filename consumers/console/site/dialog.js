// One dialog for everything that changes something: what is done, as whom, and what comes of it.
import { button, byId, el, setText } from "./dom.js";
import { session } from "./session.js";

// `fields`: labelled controls with names. `run(values)`: does it and returns what to say of it; a failure is shown, and
// may be tried again. `look`: where to see what became of it when that is not known. `after`: reads the list again.
export function confirmed({ title, about = [], fields = [], deed, isGrave = false, run, look, after, say }) {
  const dialog = byId("dialog");
  const wrong = el("p", { class: "wrong", role: "alert" });
  const yes = el("button", { type: "submit", class: isGrave ? "grave" : "deed" }, deed);
  const no = button("Cancel", () => dialog.close(), { class: "plain" });
  let isRunning = false; // who closes the dialog meanwhile hears of the end in the page, and keeps the next dialog
  const who = el("p", { class: "soft" }, `You act as ${session.me.subject} (${session.me.access}); it goes on record.`);
  const submit = async (event) => {
    event.preventDefault();
    yes.disabled = isRunning = true;
    setText(wrong, "");
    try {
      const told = await run(Object.fromEntries(new FormData(form)));
      say(told);
      await after().catch((error) => say(`${told} What is shown is from before: ${error.message}`));
      if (form.isConnected) dialog.close();
    } catch (error) {
      const outcome = outcomeOf(error, look);
      if (form.isConnected) setText(wrong, outcome);
      else say(`${deed}: ${outcome}`);
    }
    yes.disabled = isRunning = false;
  };
  const form = el("form", { submit }, el("h2", { id: "dialog-title" }, title), about, fields, who, wrong,
    el("p", { class: "deeds" }, no, yes));
  dialog.replaceChildren(form);
  const opener = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.replaceChildren();
    if (isRunning) say(`${deed}: under way. What comes of it is said here.`);
    if (!opener.isConnected || opener.disabled) document.querySelector("main > section:not([hidden]) h2").focus();
  }, { once: true });
  dialog.showModal();
}

// Only a refusal says that nothing was done. Without an answer, or when the server gave up, it may have been.
function outcomeOf({ status, message }, look) {
  if (status >= 400 && status < 500) return `Not done: ${message}`;
  const record = session.covers("admin") ? " The Record has how it ended." : "";
  return `It is not known whether this was done: ${message}. ${look}${record}`;
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
