// What every widget's script starts with (it is put in front of it): elements, colours, and being told of a new theme.

/** An element with attributes (`on…` are listeners, `false` and `null` leave one out) and children. */
function element(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const namespace = ["svg", "path", "g", "defs", "pattern", "line", "circle"].includes(tag);
  const node = namespace
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(key, value === true ? "" : value);
    }
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The value of a colour of `theme.css` where `node` stands, as a canvas understands it. */
function colour(node, name) {
  const probe = element("span", { style: `color: var(--tgw-${name}); display: none` });
  node.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** Call back when the notebook or the reader's system changes between light and dark, until `signal` aborts. */
function onThemeChange(callback, signal) {
  let later;
  const changed = () => {
    callback();
    clearTimeout(later);
    later = setTimeout(callback, 300); // a theme's style sheet may arrive after its name
  };
  const observer = new MutationObserver(changed);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", changed);
  signal.addEventListener("abort", () => {
    observer.disconnect();
    system.removeEventListener("change", changed);
    clearTimeout(later);
  });
}
