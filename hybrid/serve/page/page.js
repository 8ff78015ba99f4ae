// Records or reads speech, sends it through the websocket, and shows what comes back.

const AHEAD = 8;            // messages of a file that may be under way
const LATE = 10;            // seconds of a recording that may wait to be sent
const ALTERNATIVES = 10;
const START = "Record something, choose a file, or drop one here.";

const part = (id) => document.getElementById(id);
const said = part("said"), partial = part("partial"), status = part("status");
let rate = 16000;
let running = null;         // what is being recorded or read: {stop()}

function tell(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function pcm(samples) {
  const whole = new DataView(new ArrayBuffer(2 * samples.length));
  samples.forEach((x, k) => whole.setInt16(2 * k, Math.max(-32768, Math.min(32767, Math.round(32768 * x))), true));
  return whole.buffer;
}

// ------------------------------------------------------------------ what was said

const seconds = (time) => (time === null ? "" : time.toFixed(2));

function band(conf) {
  return conf === null ? "" : conf > 0.9 ? "c3" : conf > 0.75 ? "c2" : conf > 0.5 ? "c1" : "c0";
}

function hint(word) {
  const time = word.start === null ? "" : `${seconds(word.start)} to ${seconds(word.end)} s`;
  return word.conf === null ? time : `${time}, confidence ${word.conf.toFixed(2)}`;
}

function table(caption, heads, rows) {
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col", textContent: text })));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell) =>
    element("td", { textContent: cell, className: typeof cell === "string" && /^[\d.]*$/.test(cell) ? "number" : "" }))));
  return element("table", {}, element("caption", { textContent: caption }), head, ...body);
}

function showUtterance(result) {
  partial.replaceChildren();
  if (!result.words.length) return;
  const words = element("p", { className: "words" });
  for (const word of result.words) {
    words.append(element("span", { className: band(word.conf), title: hint(word), textContent: word.word }), " ");
  }
  const known = result.words.some((word) => word.conf !== null);
  const details = element("details", {}, element("summary", { textContent: "Alternatives and times" }));
  if (result.nbest.length) {
    details.append(table("Most probable texts, and by how much each costs more than the first", ["cost", "text"],
      result.nbest.map((other) => [(other.cost - result.nbest[0].cost).toFixed(2), other.text])));
  }
  const heads = ["word", "from (s)", "to (s)", ...(known ? ["confidence"] : [])];
  details.append(table("Words", heads, result.words.map((word) => [word.word, seconds(word.start), seconds(word.end),
    ...(known ? [word.conf === null ? "" : word.conf.toFixed(2)] : [])])));
  said.append(element("li", {}, words, details));
  part("after").hidden = false;
  if (known) part("legend").hidden = false;
}

function showPartial(result) {
  const words = result.words.map((word) => word.word);
  partial.replaceChildren(
    element("span", { textContent: words.slice(0, result.agreed).join(" ") }), " ",
    element("span", { className: "open", textContent: words.slice(result.agreed).join(" ") }));
}

// ------------------------------------------------------------------ the connection

// Resolves to {send(samples), end(), waiting(), closed} once the websocket is open. closed: resolves when it is over.
function connect(sampleRate) {
  const address = new URL("/", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  let sent = 0, answered = 0, problem = "";
  let wake = () => {};
  const closed = new Promise((resolve, reject) => {
    socket.onclose = (event) => {
      wake();
      partial.replaceChildren();
      if (problem || event.code !== 1000) {
        reject(new Error(problem || event.reason || `the connection was lost (${event.code})`));
      } else {
        resolve();
      }
    };
  });
  closed.catch(() => {});
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.error) {
      problem = message.error + (message.remedy ? `: ${message.remedy}` : "");
    } else if (message.final) {
      showUtterance(message);
    } else {
      showPartial(message);
      answered += 1;
      wake();
    }
  };
  const connection = {
    closed,
    waiting: () => sent - answered,
    // What may go on once fewer than AHEAD messages are under way.
    room: async () => {
      while (sent - answered >= AHEAD && socket.readyState === WebSocket.OPEN) {
        await new Promise((resolve) => { wake = resolve; });
      }
      return socket.readyState === WebSocket.OPEN;
    },
    send: (samples) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      socket.send(pcm(samples));
      sent += 1;
    },
    end: () => { if (socket.readyState === WebSocket.OPEN) socket.send('{"eof": 1}'); },
    close: () => socket.close(1000),
  };
  return new Promise((resolve, reject) => {
    socket.onopen = () => {
      socket.send(JSON.stringify({
        config: { format: "hybrid", sample_rate: sampleRate, max_alternatives: ALTERNATIVES },
      }));
      resolve(connection);
    };
    socket.onerror = () => reject(new Error("the server cannot be reached"));
  });
}

// ------------------------------------------------------------------ recording

async function openMicrophone() {
  if (!navigator.mediaDevices || !window.AudioWorkletNode) {
    throw new Error("the browser lets no page record here: open this one as localhost, or over https");
  }
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true },
  });
  let context;
  try {
    context = new AudioContext({ sampleRate: rate });
    return { stream, context, source: context.createMediaStreamSource(stream) };
  } catch {                 // a browser that does not resample a microphone: the server does
    if (context) context.close();
    context = new AudioContext();
    return { stream, context, source: context.createMediaStreamSource(stream) };
  }
}

async function record() {
  const { stream, context, source } = await openMicrophone();
  let connection, node;
  const release = () => {
    stream.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") context.close();
    part("level").hidden = true;
  };
  try {
    await context.audioWorklet.addModule("/recorder.js");
    connection = await connect(context.sampleRate);
    node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1 });
  } catch (error) {
    release();
    throw error;
  }
  let over = false;
  const stop = (late) => {
    if (over) return;
    over = true;
    node.port.onmessage = null;
    release();
    tell(late ? "The server is too slow: stopped." : "Waiting for the last words ...");
    connection.end();
  };
  node.port.onmessage = ({ data }) => {
    part("level").value = Math.min(1, 4 * Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length));
    connection.send(data);
    if (connection.waiting() > 10 * LATE) stop(true);
  };
  source.connect(node);
  stream.getTracks()[0].onended = () => stop(false);
  part("level").hidden = false;
  tell("Listening ...");
  running = { stop: () => stop(false) };
  try {
    await connection.closed;
  } finally {
    over = true;
    node.port.onmessage = null;
    release();
  }
}

// ------------------------------------------------------------------ a file

async function read(file) {
  tell(`Reading ${file.name} ...`);
  const decoder = new OfflineAudioContext(1, 1, rate);
  let decoded;
  try {
    decoded = await decoder.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`the browser cannot read ${file.name} as audio`);
  }
  if (!decoded.length) throw new Error(`${file.name} holds no sound`);
  const mixer = new OfflineAudioContext(1, decoded.length, rate);     // all channels as one
  const source = new AudioBufferSourceNode(mixer, { buffer: decoded });
  source.connect(mixer.destination);
  source.start();
  const samples = (await mixer.startRendering()).getChannelData(0);
  const connection = await connect(rate);
  const progress = part("progress");
  progress.hidden = false;
  tell(`Recognising ${file.name} (${decoded.duration.toFixed(1)} s) ...`);
  running = { stop: () => connection.close() };
  const step = Math.round(rate / 2);
  try {
    for (let begin = 0; begin < samples.length && await connection.room(); begin += step) {
      connection.send(samples.subarray(begin, begin + step));
      progress.value = Math.min(1, (begin + step) / samples.length);
    }
    connection.end();
    await connection.closed;
  } finally {
    progress.hidden = true;
  }
}

// ------------------------------------------------------------------ controls

function setRunning(on) {
  part("record").setAttribute("aria-pressed", String(on));
  part("record-label").textContent = on ? "Stop" : "Record";
  part("choose").disabled = on;
}

async function doing(work) {
  if (running) return;
  running = { stop: () => {} };
  setRunning(true);
  const before = said.children.length;
  try {
    await work();
    tell(said.children.length > before ? "Done." : "No words were heard.");
  } catch (error) {
    tell(error.name === "NotAllowedError" ? "The microphone may not be used: the browser's settings let it." :
      `${error.message[0].toUpperCase()}${error.message.slice(1)}.`, true);
  } finally {
    running = null;
    setRunning(false);
  }
}

part("record").onclick = () => (running ? running.stop() : doing(record));
part("choose").onclick = () => part("file").click();
part("file").onchange = (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) doing(() => read(file));
};
part("clear").onclick = () => {
  said.replaceChildren();
  part("after").hidden = part("legend").hidden = true;
  tell(START);
};
part("copy").onclick = async () => {
  const lines = [...said.querySelectorAll(".words")].map((line) => line.textContent.trim());
  try {
    await navigator.clipboard.writeText(lines.join("\n"));
    tell("Copied.");
  } catch {
    tell("The browser does not let the page copy.", true);
  }
};
document.body.ondragover = (event) => { event.preventDefault(); document.body.classList.add("dropping"); };
document.body.ondragleave = () => document.body.classList.remove("dropping");
document.body.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file) doing(() => read(file));
};

try {
  const about = await (await fetch("/healthz")).json();
  rate = about.sampling_rate;
  part("about").textContent = `${about.system}, ${about.sampling_rate} Hz`;
} catch {
  tell("The server does not answer.", true);
}
