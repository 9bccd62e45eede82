// The page of the example: ask our own server, show the answer, and put the feedback widget beside it.

const said = document.getElementById('said');
const form = document.getElementById('ask');

function line(who, text) {
  const item = document.createElement('li');
  const words = document.createElement('p');
  item.className = who;
  words.textContent = text; // an answer is text, never HTML
  item.append(words);
  said.append(item);
  return item;
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = form.elements.text.value;
  form.reset();
  line('user', text);
  const answer = await fetch('/ask', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ text }) });
  const told = await answer.json();
  const item = line('model', told.text);
  if (!told.interaction) return;
  const widget = document.createElement('ciranda-feedback');
  widget.setAttribute('key', document.body.dataset.publicKey);
  widget.setAttribute('interaction', told.interaction);
  item.append(widget);
});
