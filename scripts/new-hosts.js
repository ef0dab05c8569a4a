// Alert on new outbound hosts: the first request to a host that nobody has called before
//
// What it does
//   Learns which hosts outside the private networks are called, and posts a message about each that is new once it has
//   learned for a while. What it knows is in a file of its data folder: with --data-dir it survives restarts.
//
// What it needs (--env KEY=VALUE, or scripting.env)
//   SLACK_AUTH_TOKEN   bot token (xoxb-…)
//   SLACK_CHANNEL_ID   the channel's id (C…)
// What it may have
//   HOSTS_LEARN        seconds from its very first request in which hosts are only learned; default 3600
//   HOSTS_KNOWN        hosts that never alert, separated by commas; .example.com stands for all below it
//   HOSTS_PRIVATE      true: hosts in private networks too

const learn = Number(env.HOSTS_LEARN || 3600) * 1000;
const allowed = (env.HOSTS_KNOWN || "").split(",").map((host) => host.trim().toLowerCase()).filter(Boolean);
const everywhere = env.HOSTS_PRIVATE === "true";
const most = 10000;

// The first line is the time from which on it has known enough; the others are hosts.
const known = new Set();
let learned = 0;
try {
  const [first, ...hosts] = file.read("hosts.txt").trim().split("\n");
  learned = Number(first);
  hosts.forEach((host) => known.add(host));
} catch (error) {
  console.log("no hosts are known yet: learning for " + learn / 1000 + " s");
}

function isPrivate(ip) {
  return /^(10\.|127\.|169\.254\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|::1$|f[cd]|fe80:)/.test(ip);
}

function isAllowed(host) {
  return allowed.some((entry) => host === entry || (entry.startsWith(".") && host.endsWith(entry)));
}

hooks.on("itemCaptured", { filter: "http && request.method != ''" }, (data) => {
  if (!everywhere && isPrivate(data.dst.ip)) return;
  const host = (data.request.headers.host || data.dst.ip).toLowerCase().slice(0, 255);
  if (known.has(host) || isAllowed(host) || known.size >= most) return;
  if (learned === 0) {
    learned = data.timestamp + learn;
    file.write("hosts.txt", learned + "\n");
  }
  known.add(host);
  file.append("hosts.txt", host + "\n");
  if (data.timestamp < learned) return;

  vendor.slackBot(
    env.SLACK_AUTH_TOKEN,
    env.SLACK_CHANNEL_ID,
    "A new host is called: " + host,
    data.src.name + " sent " + data.request.method + " " + data.request.path + " to " + host,
    "#e0a000",
    { From: data.src.name, Process: data.src.processName, To: data.dst.ip + ":" + data.dst.port, Stream: data.stream },
    {},
    { key: "host " + host, window: 86400 },
  );
});
