// <ciranda-feedback key="cirp_…" interaction="…">: two thumbs, then reasons, a comment and a correction.
// One file, no dependency. Needs `script-src` and `connect-src` for the gateway and nothing else: no inline style, no eval, no HTML
// made from text. A vote is sent at once; what is said after it is a second request that replaces the first. docs/feedback.md.

const WORDS = {
  en: {
    ask: 'Rate this answer', up: 'Good answer', down: 'Bad answer', why_up: 'What was good?', why_down: 'What was wrong?', comment: 'Anything else?',
    correction: 'What should the answer have been?', send: 'Send', close: 'Close', thanks: 'Thank you.',
    sent: 'Sent, thank you.', failed: 'This could not be sent. Please try again.',
    correct: 'Correct', helpful: 'Helpful', clear: 'Clear', wrong: 'Wrong', incomplete: 'Incomplete', outdated: 'Out of date',
    unsafe: 'Unsafe', off_topic: 'Off topic', ignored_instructions: 'Ignored instructions', unclear: 'Unclear',
  },
  pt: {
    ask: 'Avalie esta resposta', up: 'Resposta boa', down: 'Resposta ruim', why_up: 'O que estava bom?', why_down: 'O que estava errado?', comment: 'Algo mais?',
    correction: 'Qual deveria ser a resposta?', send: 'Enviar', close: 'Fechar', thanks: 'Obrigado.',
    sent: 'Enviado, obrigado.', failed: 'Não foi possível enviar. Tente de novo.',
    correct: 'Correta', helpful: 'Útil', clear: 'Clara', wrong: 'Errada', incomplete: 'Incompleta', outdated: 'Desatualizada',
    unsafe: 'Insegura', off_topic: 'Fora do assunto', ignored_instructions: 'Ignorou instruções', unclear: 'Confusa',
  },
};
const REASONS = {
  up: ['correct', 'helpful', 'clear'],
  down: ['wrong', 'incomplete', 'outdated', 'unsafe', 'off_topic', 'ignored_instructions', 'unclear'],
};
const WAITS_MS = [1000, 4000]; // before the second and the third try
const SVG = 'http://www.w3.org/2000/svg';
const THUMB = 'M7 10v11H4a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1h3Zm0 0 4-7a2.5 2.5 0 0 1 2.4 3.2L12.6 9H19a2 2 0 0 1 2 2.4l-1.5 8A2 2 0 0 1 17.5 21H7';

const SHEET = new CSSStyleSheet();
SHEET.replaceSync(`
:host { display: inline-block; max-width: 100%; font: 14px/1.45 var(--ciranda-font, system-ui, sans-serif); color: inherit;
  --accent: var(--ciranda-accent, light-dark(#1d4fd7, #7aa2ff)); --on-accent: var(--ciranda-on-accent, light-dark(#fff, #0b0e14));
  --edge: color-mix(in srgb, currentColor 22%, transparent); --line: color-mix(in srgb, currentColor 58%, transparent); --soft: color-mix(in srgb, currentColor 9%, transparent); }
:host([hidden]), :host(:not([interaction])), :host([interaction=""]), [hidden] { display: none !important; }
:host([theme=light]) { color-scheme: light; } :host([theme=dark]) { color-scheme: dark; }
* { box-sizing: border-box; font: inherit; color: inherit; }
.row { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 8px; }
button, .tag { min-height: 32px; border: 1px solid transparent; border-radius: 6px; background: none; cursor: pointer; }
button.thumb { width: 32px; padding: 0; display: grid; place-items: center; }
button:hover, .tag:hover { background: var(--soft); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
svg { width: 18px; height: 18px; fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
.down svg { transform: rotate(180deg); }
[aria-pressed=true] { border-color: currentColor; background: var(--soft); } [aria-pressed=true] svg { fill: currentColor; fill-opacity: .3; }
form { margin-top: 8px; padding: 12px; width: min(440px, 86vw); max-width: 100%; display: grid; gap: 12px; border: 1px solid var(--edge); border-radius: 10px; }
fieldset { border: 0; margin: 0; padding: 0; min-width: 0; } legend, .name { padding: 0; margin: 0 0 4px; font-weight: 600; display: block; }
.tag { display: inline-flex; align-items: center; padding: 0 10px; border-color: var(--line); border-radius: 16px; gap: 6px; }
.tag input { margin: 0; width: 14px; height: 14px; accent-color: var(--accent); }
textarea { width: 100%; min-height: 56px; padding: 6px 8px; border: 1px solid var(--line); border-radius: 6px; background: none; resize: vertical; }
.does { justify-content: flex-end; } .does button { padding: 0 14px; border-color: var(--line); }
.does .send { background: var(--accent); border-color: var(--accent); color: var(--on-accent); font-weight: 600; }
@media (pointer: coarse) { button, .tag { min-height: 44px; } button.thumb { width: 44px; } }
`);

function make(tag, traits, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(traits)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function icon() {
  const svg = document.createElementNS(SVG, 'svg'), path = document.createElementNS(SVG, 'path');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  path.setAttribute('d', THUMB);
  svg.append(path);
  return svg;
}

const fresh = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

class CirandaFeedback extends HTMLElement {
  static observedAttributes = ['interaction', 'lang', 'corrections'];
  #root = this.attachShadow({ mode: 'open' });
  #line = Promise.resolve(); // one request after the other, in the order of what was done
  #thumb = '';
  #about = '';

  connectedCallback() {
    this.#root.adoptedStyleSheets = [SHEET];
    this.#draw();
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#draw();
  }

  get #words() {
    const language = this.lang || this.closest('[lang]')?.lang || document.documentElement.lang || navigator.language;
    return language.toLowerCase().startsWith('pt') ? WORDS.pt : WORDS.en;
  }

  #draw() {
    const words = this.#words, about = this.getAttribute('interaction') ?? '';
    if (about !== this.#about) this.#thumb = '';
    this.#about = about;
    const thumbs = ['up', 'down'].map((thumb) => {
      const button = make('button', { type: 'button', class: `thumb ${thumb}`, 'aria-label': words[thumb], title: words[thumb] }, icon());
      button.setAttribute('aria-pressed', String(this.#thumb === thumb));
      button.addEventListener('click', () => this.#vote(thumb));
      return button;
    });
    const row = make('div', { class: 'row', role: 'group', 'aria-label': words.ask }, ...thumbs);
    const status = make('span', { role: 'status' });
    this.#root.replaceChildren(make('div', { class: 'row' }, row, status));
  }

  #say(text) {
    this.#root.querySelector('[role=status]').textContent = text;
  }

  #press(thumb) {
    this.#thumb = thumb;
    for (const button of this.#root.querySelectorAll('.thumb')) button.setAttribute('aria-pressed', String(button.classList.contains(thumb || 'none')));
  }

  async #vote(thumb) {
    const before = this.#thumb;
    const same = before === thumb;
    if (same && this.#root.querySelector('form')) return this.#close();
    this.#press(thumb);
    this.#open(thumb);
    if (same) return;
    const about = this.#about;
    const taken = await this.#send({ thumb });
    if (about !== this.#about) return;
    this.#say(taken ? this.#words.thanks : this.#words.failed);
    if (!taken) {
      this.#press(before);
      this.#root.querySelector('form')?.remove();
    }
  }

  #open(thumb) {
    const words = this.#words;
    this.#root.querySelector('form')?.remove();
    const tags = REASONS[thumb].map((reason) => make('label', { class: 'tag' }, make('input', { type: 'checkbox', name: 'reasons', value: reason }), words[reason]));
    const text = (name) => make('label', {}, make('span', { class: 'name' }, words[name]), make('textarea', { name, rows: '2', maxlength: '8000' }));
    const close = make('button', { type: 'button' }, words.close), send = make('button', { class: 'send' }, words.send);
    const form = make('form', { 'aria-label': words[thumb] },
      make('fieldset', {}, make('legend', {}, words[`why_${thumb}`]), make('div', { class: 'row' }, ...tags)),
      ...(thumb === 'down' && this.getAttribute('corrections') !== 'off' ? [text('correction')] : []), text('comment'),
      make('div', { class: 'row does' }, close, send));
    close.addEventListener('click', () => this.#close());
    form.addEventListener('keydown', (event) => { if (event.key === 'Escape') { event.stopPropagation(); this.#close(); } });
    form.addEventListener('submit', (event) => { event.preventDefault(); this.#tell(form, send); });
    this.#root.append(form);
  }

  #close() {
    this.#root.querySelector('form')?.remove();
    this.#root.querySelector('[aria-pressed=true]')?.focus();
  }

  async #tell(form, send) {
    const given = new FormData(form), said = { thumb: this.#thumb };
    for (const name of ['correction', 'comment']) if (given.get(name)?.trim()) said[name] = given.get(name).trim();
    if (given.getAll('reasons').length) said.reasons = given.getAll('reasons');
    if (Object.keys(said).length === 1) return this.#close();
    send.disabled = true;
    const about = this.#about, taken = await this.#send(said);
    if (about !== this.#about) return;
    this.#say(taken ? this.#words.sent : this.#words.failed);
    send.disabled = false;
    if (taken && form.isConnected) this.#close();
  }

  #send(said) {
    const body = { interaction: this.#about, ...said, ...(this.getAttribute('user') ? { user: this.getAttribute('user') } : {}) };
    const sent = this.#line.then(() => this.#post(body));
    this.#line = sent;
    return sent;
  }

  async #post(body) {
    const gateway = this.getAttribute('gateway');
    const address = gateway ? `${gateway.replace(/\/$/, '')}/v1/feedback` : new URL('../v1/feedback', import.meta.url);
    const headers = { authorization: `Bearer ${this.getAttribute('key')}`, 'content-type': 'application/json', 'idempotency-key': fresh() };
    let status = 0;
    for (const wait of [...WAITS_MS, 0]) {
      try {
        const answer = await fetch(address, { method: 'POST', headers, body: JSON.stringify(body), keepalive: true, credentials: 'omit' });
        status = answer.status;
      } catch {
        status = 0; // no answer: offline, or not allowed from this page
      }
      if (status > 0 && status < 500 && status !== 429) break;
      if (wait) await pause(wait);
    }
    const taken = status === 202;
    this.dispatchEvent(new CustomEvent('ciranda-feedback', { bubbles: true, composed: true, detail: { ...body, taken, status } }));
    return taken;
  }
}

customElements.define('ciranda-feedback', CirandaFeedback);
