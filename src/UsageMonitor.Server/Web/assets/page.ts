// What every page has: the theme without a round trip, menus that close, snippets that copy, forms that are sent once.

const themeAgeSeconds = 365 * 24 * 60 * 60;

for (const form of document.querySelectorAll<HTMLFormElement>("[data-theme-form]")) {
  form.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!(button instanceof HTMLButtonElement)) {
      return;
    }

    event.preventDefault();
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `theme=${button.value}; Path=/; Max-Age=${themeAgeSeconds}; SameSite=Lax${secure}`;
    document.documentElement.dataset["bsTheme"] = button.value;
    for (const other of form.querySelectorAll("button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }

    document.dispatchEvent(new Event("themechange"));
  });
}

const menus = [...document.querySelectorAll<HTMLDetailsElement>("[data-menu]")];

document.addEventListener("pointerdown", (event) => {
  for (const menu of menus) {
    if (menu.open && !menu.contains(event.target as Node)) {
      menu.open = false;
    }
  }
});

document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" ? menus.find((menu) => menu.open) : undefined;
  if (open) {
    open.open = false;
    open.querySelector("summary")?.focus();
  }
});

for (const snippet of document.querySelectorAll("[data-copy]")) {
  const button = snippet.querySelector("button");
  // The clipboard is there on https and on localhost only; elsewhere the text can still be selected.
  if (!button || !("clipboard" in navigator)) {
    continue;
  }

  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(snippet.querySelector("code")?.textContent ?? "");
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2_000);
  });
}

for (const form of document.querySelectorAll<HTMLFormElement>("[data-submit-once]")) {
  form.addEventListener("submit", () => {
    const button = form.querySelector<HTMLButtonElement>("button:not([type=button])");
    if (button) {
      button.setAttribute("aria-disabled", "true");
    }
  });
  form.addEventListener("submit", (event) => {
    if (form.dataset["sent"] === "yes") {
      event.preventDefault();
    }

    form.dataset["sent"] = "yes";
  });
}

// A page restored by the back button may send its form again.
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll<HTMLFormElement>("[data-submit-once]")) {
    delete form.dataset["sent"];
    form.querySelector("button[aria-disabled]")?.removeAttribute("aria-disabled");
  }
});

// A page that shows a secret once answers a POST; reloading it must not make another.
if (document.querySelector("[data-shown-once]")) {
  history.replaceState(null, "", location.href);
}

// Whoever makes an enterprise is likely to sit where it does.
const zone = document.querySelector<HTMLInputElement>("[data-time-zone]");
if (zone && zone.value === "") {
  zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
}
