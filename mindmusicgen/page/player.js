// Plays a piece while it is made. The server hands out 16 bit samples second by second; each becomes a buffer of a
// context that runs at the piece's own rate, begun at the very sample where the one before it ends: there are no seams.
const AHEAD = 0.1; // seconds between a decision to begin and the sound
const PATIENT = 1.2; // seconds that a first chunk waits for a second, which says whether sound comes faster than it goes
let now = null; // what is playing

function fresh(name) {
  return { name, clicked: window.mindmusicgenClicked || performance.now(), rate: 0, channels: 0, samples: 0, start: 0,
           peaks: [], arrivals: [], underruns: 0, sources: [], waiting: [], over: false };
}

function context(rate) {
  const kept = window.mindmusicgenContext;
  if (kept && kept.sampleRate === rate) { if (kept.state === "suspended") kept.resume(); return kept; }
  if (kept) kept.close();
  return (window.mindmusicgenContext = new AudioContext({ sampleRate: rate }));
}

function unpacked(text, channels) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const values = new Int16Array(bytes.buffer), each = values.length / channels, lines = [];
  for (let c = 0; c < channels; c++) {
    const line = new Float32Array(each);
    for (let i = 0; i < each; i++) line[i] = values[i * channels + c] / 32767;
    lines.push(line);
  }
  return lines;
}

// Takes a chunk; the first one waits for a second, but not for long.
function take(piece, lines) {
  piece.waiting.push(lines);
  for (let p = 0; p < 20; p++) { // peaks for the picture, twenty a chunk
    const line = lines[0];
    let peak = 0;
    for (let i = Math.floor((p * line.length) / 20); i < ((p + 1) * line.length) / 20; i++) peak = Math.max(peak, Math.abs(line[i] || 0));
    piece.peaks.push(peak);
  }
  if (piece.waiting.length > 1 || piece.samples) release(piece);
  else setTimeout(() => release(piece), PATIENT * 1000);
}

function release(piece) {
  if (!piece.over) piece.waiting.splice(0).forEach((lines) => sound(piece, lines));
}

// Sounds a chunk at its place in the piece. A chunk that comes too late moves the rest of the piece.
function sound(piece, lines) {
  const player = context(piece.rate), length = lines[0].length;
  const buffer = player.createBuffer(piece.channels, length, piece.rate);
  lines.forEach((line, c) => buffer.copyToChannel(line, c));
  const soonest = Math.ceil((player.currentTime + 0.005) * piece.rate);
  if (!piece.samples) {
    piece.start = Math.ceil((player.currentTime + AHEAD) * piece.rate);
    piece.first = performance.now() - piece.clicked + AHEAD * 1000;
  } else if (piece.start + piece.samples < soonest) {
    piece.underruns += 1;
    piece.start = soonest + Math.ceil(AHEAD * piece.rate) - piece.samples;
  }
  const source = player.createBufferSource();
  source.buffer = buffer;
  source.connect(player.destination);
  source.start((piece.start + piece.samples) / piece.rate);
  piece.sources.push(source);
  piece.samples += length;
}

function silence() {
  if (!now) return;
  now.over = true;
  now.sources.forEach((one) => { try { one.stop(); } catch (e) { /* has ended */ } });
}

async function follow(name) {
  silence();
  const piece = (now = fresh(name));
  element.querySelector(".live").hidden = false;
  let taken = 0;
  while (!piece.over) {
    let said;
    try {
      said = await server.listen([name, taken]);
    } catch (e) { // a line that was cut: ask again
      await new Promise((done) => setTimeout(done, 500));
      continue;
    }
    for (const text of said.chunks) {
      if (piece.over) return;
      piece.rate = said.rate;
      piece.channels = said.channels;
      piece.arrivals.push(performance.now() - piece.clicked);
      take(piece, unpacked(text, said.channels));
      taken += 1;
    }
    if (said.ended) break;
  }
  release(piece);
  piece.complete = true;
}

function heard() {
  const player = window.mindmusicgenContext;
  if (!now || !now.samples || !player) return 0;
  return Math.max(0, Math.min(now.samples, player.currentTime * now.rate - now.start));
}

function draw() {
  const box = element.querySelector(".live"), canvas = box && box.querySelector("canvas");
  if (canvas && now && now.samples && !box.hidden) {
    const pen = canvas.getContext("2d"), wide = (canvas.width = canvas.clientWidth || 600), high = (canvas.height = 56);
    const style = getComputedStyle(box), done = heard() / now.samples, each = wide / Math.max(now.peaks.length, 60);
    now.peaks.forEach((peak, i) => {
      const tall = Math.max(2, Math.min(1, peak * 1.6) * high), past = i / now.peaks.length < done;
      pen.fillStyle = style.getPropertyValue(past ? "--color-accent" : "--border-color-primary") || "#888";
      pen.fillRect(i * each, (high - tall) / 2, Math.max(1, each - 1), tall);
    });
    const clock = (samples) => { const s = samples / now.rate; return `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`; };
    box.querySelector(".clock").textContent = `${clock(heard())} / ${clock(now.samples)}`;
    Object.assign(box.dataset, { first: Math.round(now.first), underruns: now.underruns, made: now.samples / now.rate,
      heard: heard() / now.rate, complete: !!now.complete, arrivals: now.arrivals.map(Math.round).join(" ") });
    if (now.complete && heard() >= now.samples) box.hidden = true;
  }
}
setInterval(draw, 100); // ten times a second: what draws and what makes music may share their cores

element.addEventListener("click", (event) => {
  const player = window.mindmusicgenContext;
  if (!player || !event.target.closest("button")) return;
  const running = player.state === "running";
  running ? player.suspend() : player.resume();
  event.target.closest("button").dataset.paused = running;
});
// A sound may begin only after somebody has touched the page.
document.addEventListener("click", (event) => {
  if (event.target.closest("#make, #again, #variation, #further")) {
    window.mindmusicgenClicked = performance.now();
    if (!window.mindmusicgenContext) context(32000);
    window.mindmusicgenContext.resume();
  }
}, true);
document.addEventListener("play", () => { silence(); const box = element.querySelector(".live"); if (box) box.hidden = true; }, true);
watch("value", () => {
  const name = props.value;
  if (name === "") { silence(); element.querySelector(".live").hidden = true; }
  else if (name && (!now || now.name !== name)) follow(name);
});
