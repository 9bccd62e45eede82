// Trusted Types: HTML comes only from our own server through htmx, script addresses only from this page's own assets.
const shared = (window.ciranda = {});
const types = window.trustedTypes;
if (types) {
  const html = types.createPolicy("htmx", {
    createHTML: (text) => text,
    createScript: () => { throw new TypeError("no script comes in a fragment"); },
  });
  const address = types.createPolicy("ciranda", {
    createScriptURL: (url) => {
      if (new URL(url, location.href).origin !== location.origin) throw new TypeError(`not ours: ${url}`);
      return url;
    },
  });
  shared.script = (url) => address.createScriptURL(url);
  if (window.htmx) htmx.registerExtension("trust", { init: (api) => api.initSecurity(html) });
} else {
  shared.script = (url) => url;
}
