// What Node programs use most: timers, workers, files, children, sockets and its thread pool. One line each, the same on every kernel.
const { Worker } = require("worker_threads"), fs = require("fs"), http = require("http"), net = require("net"), path = require("path");
const { spawn, spawnSync, fork } = require("child_process"), crypto = require("crypto"), zlib = require("zlib"), dgram = require("dgram"), dns = require("dns");
const { once } = require("events"), { promisify } = require("util"), sleep = promisify(setTimeout);

async function timers() {
    const order = [], begin = process.hrtime.bigint(), later = ms => sleep(ms).then(() => order.push("timeout " + ms));
    const both = [later(40), later(1)], immediate = new Promise(done => setImmediate(done));
    process.nextTick(() => order.push("tick")), Promise.resolve().then(() => order.push("promise"));
    const five = new Promise(done => { let n = 0; const every = setInterval(() => { if (++n === 5) clearInterval(every), done(n) }, 3) });
    await Promise.all(both), await immediate;
    return [order, await five, process.hrtime.bigint() - begin >= 39000000n];
}

async function workers() {
    const shared = new SharedArrayBuffer(8), cells = new Int32Array(shared);
    const code = `const { parentPort, workerData } = require("worker_threads"), cells = new Int32Array(workerData);
        for (let i = 0; i < 20000; i++) Atomics.add(cells, 0, 1);
        parentPort.postMessage("ready"); Atomics.wait(cells, 1, 0); parentPort.postMessage(Atomics.load(cells, 0));`;
    const all = Array.from({ length: 4 }, () => new Worker(code, { eval: true, workerData: shared }));
    const said = await Promise.all(all.map(async w => (await once(w, "message"))[0]));
    const sums = Promise.all(all.map(async w => (await once(w, "message"))[0])), ends = Promise.all(all.map(async w => (await once(w, "exit"))[0]));
    Atomics.store(cells, 1, 1), Atomics.notify(cells, 1);
    const endless = new Worker("for (;;);", { eval: true });
    await once(endless, "online");
    return [said, await sums, await ends, await endless.terminate()];
}

async function files() {
    const dir = fs.mkdtempSync("/tmp/node-"), seen = new Set(), watcher = fs.watch(dir, (_, name) => seen.add(name));
    await Promise.all(Array.from({ length: 50 }, (_, i) => fs.promises.writeFile(path.join(dir, "f" + i), "x".repeat(i))));
    const sizes = await Promise.all((await fs.promises.readdir(dir)).map(async f => (await fs.promises.stat(path.join(dir, f))).size));
    fs.renameSync(dir + "/f7", dir + "/renamed"), fs.symlinkSync("renamed", dir + "/link"), fs.appendFileSync(dir + "/link", "more");
    const out = fs.createWriteStream(dir + "/big");
    for (let i = 0; i < 64; i++) if (!out.write(Buffer.alloc(65536, i))) await once(out, "drain");
    out.end(), await once(out, "finish");
    const hash = crypto.createHash("sha256");
    for await (const piece of fs.createReadStream(dir + "/big")) hash.update(piece);
    while (!seen.has("big")) await sleep(5);
    watcher.close();
    const text = fs.readFileSync(dir + "/renamed", "latin1");
    fs.rmSync(dir, { recursive: true });
    let missing; try { fs.readFileSync(dir + "/f1") } catch (e) { missing = e.code }
    return [sizes.reduce((a, b) => a + b), text, hash.digest("hex").slice(0, 16), missing];
}

async function children() {
    const sync = spawnSync("sh", ["-c", "cat; echo bad >&2; exit 3"], { input: "in" });
    const child = spawn("sh", ["-c", "while read x; do echo got $x; done"]), parts = [];
    child.stdout.on("data", d => parts.push(d)), child.stdin.write("one\n"), child.stdin.end("two\n");
    const [code] = await once(child, "close");
    const asleep = spawn("sleep", ["100"]), end = once(asleep, "exit");
    asleep.kill();
    const other = fork(__filename, ["child"]), answer = once(other, "message");
    other.send({ numbers: [1, 2, 3] });
    const gone = once(other, "exit"), late = spawnSync("sleep", ["100"], { timeout: 50 });
    let lost; spawn("/nowhere").on("error", e => lost = e.code);
    const many = await Promise.all(Array.from({ length: 12 }, async (_, i) => (await once(spawn("sh", ["-c", "exit " + i]), "exit"))[0]));
    const own = once(process, "SIGUSR2"); process.kill(process.pid, "SIGUSR2");
    return [sync.stdout + "", sync.stderr + "", sync.status, Buffer.concat(parts) + "", code, (await end)[1], (await answer)[0], (await gone)[0], late.signal, lost, many, (await own)[0]];
}

async function web() {
    const server = http.createServer((request, response) => {
        const pieces = [];
        request.on("data", d => pieces.push(d)).on("end", () => response.end(request.method + request.url + Buffer.concat(pieces).length));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const agent = new http.Agent({ keepAlive: true, maxSockets: 8 }), port = server.address().port;
    const ask = (url, body) => new Promise((done, fail) => http.request({ port, host: "localhost", family: 4, path: url, method: "POST", agent }, async r => {
        let text = ""; for await (const piece of r) text += piece; done(text) }).on("error", fail).end(body));
    const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => ask("/" + i, Buffer.alloc(i * 4000))));
    agent.destroy(), server.close(), await once(server, "close");
    const refused = await ask("/", "").catch(e => e.code);
    const echo = net.createServer(s => s.pipe(s)).listen("/tmp/node" + process.pid);
    await once(echo, "listening");
    const peer = net.connect("/tmp/node" + process.pid); peer.end("through a unix socket");
    let back = ""; for await (const piece of peer) back += piece;
    echo.close();
    const one = dgram.createSocket("udp4"), two = dgram.createSocket("udp4");
    await new Promise(done => one.bind(0, "127.0.0.1", done)), two.send("datagram", one.address().port, "127.0.0.1");
    const [message] = await once(one, "message"); one.close(), two.close();
    const fetched = typeof fetch === "function" ? await (async () => { const s = http.createServer((_, r) => r.end("fetched")).listen(0, "127.0.0.1"); await once(s, "listening");
        const text = await (await fetch("http://127.0.0.1:" + s.address().port)).text(); s.closeAllConnections(), s.close(); return text })() : "fetched";
    return [answers[7], answers[99], new Set(answers).size, refused, back, message + "", fetched, (await dns.promises.lookup("localhost", { family: 4 })).address];
}

async function pool() {
    const keys = await Promise.all(Array.from({ length: 8 }, (_, i) => promisify(crypto.pbkdf2)("word", "salt" + i, 2000, 8, "sha256")));
    const packed = await promisify(zlib.gzip)(Buffer.alloc(1 << 20, "text "));
    return [keys.map(k => k.toString("hex")).join().length, keys[3].toString("hex"), (await promisify(zlib.gunzip)(packed)).length];
}

if (process.argv[2] === "child") process.once("message", m => { process.send({ sum: m.numbers.reduce((a, b) => a + b) }), process.disconnect() });
else (async () => { const awake = setInterval(() => {}, 1000); for (const part of [timers, workers, files, children, web, pool]) console.log(part.name, JSON.stringify(await part())); clearInterval(awake) })();
