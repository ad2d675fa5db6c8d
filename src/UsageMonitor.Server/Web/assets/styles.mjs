// Two passes over the bundled CSS: leave out the rules whose classes no page names (Tabler is 635 KB of which we use a
// twentieth), and let the theme "auto" follow the system without a script.

/** Every word in the sources: a class that is not among them cannot be on a page. */
export function wordsOf(texts) {
  return new Set(texts.flatMap((text) => text.match(/[\w-]+/g) ?? []));
}

export function pruneStyles(css, used) {
  const kept = prune(parse(css), used);
  const text = print(kept);
  return print(kept.filter((rule) => !isUnusedKeyframes(rule, text)));
}

/** Repeats every rule for the dark theme under `auto`, inside the media query for a dark system. */
export function themeFollowsSystem(css) {
  const rules = parse(css).flatMap((rule) => {
    if (!rule.head.includes("[data-bs-theme=dark]") || rule.rules) {
      return [rule];
    }

    const dark = splitSelectors(rule.head).filter((selector) => selector.includes("[data-bs-theme=dark]"));
    const auto = dark.map((selector) => selector.replaceAll("[data-bs-theme=dark]", "[data-bs-theme=auto]"));
    return [
      rule,
      { head: "@media (prefers-color-scheme:dark)", rules: [{ head: auto.join(","), body: rule.body }] },
    ];
  });
  return print(rules);
}

/** Minified CSS into rules: `{ head, body }`, or `{ head, rules }` for a conditional group. */
function parse(css) {
  const rules = [];
  let at = 0;
  while (at < css.length) {
    const open = scan(css, at, "{;");
    if (open === css.length) {
      break;
    }

    const head = css.slice(at, open).trim();
    if (css[open] === ";") {
      rules.push({ head, body: null });
      at = open + 1;
      continue;
    }

    const close = closing(css, open);
    const inside = css.slice(open + 1, close);
    rules.push(/^@(media|supports|layer|container)/.test(head) ? { head, rules: parse(inside) } : { head, body: inside });
    at = close + 1;
  }

  return rules;
}

/** The next of the wanted characters outside strings and brackets. */
function scan(css, from, wanted) {
  let depth = 0;
  for (let i = from; i < css.length; i++) {
    const c = css[i];
    if (c === "\\") {
      i++;
    } else if (c === '"' || c === "'") {
      i = endOfString(css, i);
    } else if (depth === 0 && wanted.includes(c)) {
      return i;
    } else if (c === "(" || c === "[") {
      depth++;
    } else if (c === ")" || c === "]") {
      depth--;
    }
  }

  return css.length;
}

function endOfString(css, start) {
  let i = start + 1;
  while (i < css.length && css[i] !== css[start]) {
    i += css[i] === "\\" ? 2 : 1;
  }

  return i;
}

function closing(css, open) {
  let depth = 0;
  for (let i = open; i < css.length; i++) {
    i = scan(css, i, "{}");
    depth += css[i] === "{" ? 1 : -1;
    if (depth === 0) {
      return i;
    }
  }

  throw new Error("The CSS has an opening brace without a closing one.");
}

function prune(rules, used) {
  return rules.flatMap((rule) => {
    if (rule.rules) {
      const inner = prune(rule.rules, used);
      return inner.length > 0 ? [{ ...rule, rules: inner }] : [];
    }

    if (rule.head.startsWith("@")) {
      return [rule];
    }

    const selectors = splitSelectors(rule.head).filter((selector) => isUsed(selector, used));
    return selectors.length > 0 ? [{ ...rule, head: selectors.join(",") }] : [];
  });
}

function isUsed(selector, used) {
  // What stands in :not() need not exist for the selector to match.
  const positive = selector.replace(/:not\([^()]*(\([^()]*\)[^()]*)*\)/g, "");
  const classes = positive.match(/\.-?[_a-zA-Z](?:[\w-]|\\.)*/g) ?? [];
  return classes.every((name) => used.has(name.slice(1).replaceAll("\\", "")));
}

function isUnusedKeyframes(rule, text) {
  const name = /^@(?:-webkit-)?keyframes\s+(\S+)/.exec(rule.head)?.[1];
  return name !== undefined && !new RegExp(`animation[^;}]*\\b${name}\\b`).test(text);
}

function splitSelectors(head) {
  const selectors = [];
  let at = 0;
  while (at <= head.length) {
    const comma = scan(head, at, ",");
    selectors.push(head.slice(at, comma));
    at = comma + 1;
  }

  return selectors;
}

function print(rules) {
  return rules
    .map((rule) => {
      if (rule.rules) {
        return `${rule.head}{${print(rule.rules)}}`;
      }

      return rule.body === null ? `${rule.head};` : `${rule.head}{${rule.body}}`;
    })
    .join("");
}
