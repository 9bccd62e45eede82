// One stream for all tabs of this browser: it opens with the first tab that listens and closes with the last.
"use strict";
const ports = new Set();
let source = null;
let address = "";
let last = null;

const tell = (message) => { for (const port of ports) port.postMessage(message); };
const open = () => {
  if (source || !ports.size) return;
  source = new EventSource(address);
  for (const name of ["hello", "tick", "changed"]) {
    source.addEventListener(name, (event) => {
      last = { name, data: JSON.parse(event.data) };
      tell(last);
    });
  }
  source.onerror = () => {
    tell({ name: "lost" });
    if (source.readyState === 2) { source = null; setTimeout(open, 5000); }
  };
};
const close = () => { if (!ports.size && source) { source.close(); source = null; } };

self.onconnect = (connect) => {
  const port = connect.ports[0];
  port.onmessage = ({ data }) => {
    if (data.name === "listen") {
      address = data.address;
      ports.add(port);
      if (last && source) port.postMessage(last);
      open();
    } else {
      ports.delete(port);
      close();
    }
  };
};
