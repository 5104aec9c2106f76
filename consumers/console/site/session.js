// Who is signed in. The token is kept in this tab alone, and is never part of a URL.
const KEY = "postorder.token";
const ROLES = ["read", "operate", "admin"];

class Session extends EventTarget {
  #token = sessionStorage.getItem(KEY) ?? "";
  me = null;

  get token() {
    return this.#token;
  }

  begin(token, me) {
    this.#token = token;
    this.me = me;
    sessionStorage.setItem(KEY, token);
    this.dispatchEvent(new Event("begun"));
  }

  // `why`: said to whoever has to sign in again; empty when that was the wish.
  end(why) {
    if (!this.#token) return;
    this.#token = "";
    this.me = null;
    sessionStorage.removeItem(KEY);
    this.dispatchEvent(new CustomEvent("ended", { detail: why }));
  }

  covers(role) {
    return this.me !== null && ROLES.indexOf(this.me.access) >= ROLES.indexOf(role);
  }
}

export const session = new Session();
