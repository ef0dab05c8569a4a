// Alert on slow services: the 99th percentile of response times, over the latest requests of each
//
// What it does
//   Keeps the response times of the last SLOW_REQUESTS requests of each service. When so many are there, and their 99th
//   percentile is above SLOW_MS, it posts a message and begins to collect anew.
//
// What it needs (--env KEY=VALUE, or scripting.env)
//   SLACK_AUTH_TOKEN   bot token (xoxb-…)
//   SLACK_CHANNEL_ID   the channel's id (C…)
// What it may have
//   SLOW_MS            milliseconds that are too long; default 1000
//   SLOW_REQUESTS      requests that are looked at together; default 200
//   SLOW_QUIET         seconds between two messages about one service; default 600

const limit = Number(env.SLOW_MS || 1000);
const many = Number(env.SLOW_REQUESTS || 200);
const quiet = Number(env.SLOW_QUIET || 600);

const services = new Map();

hooks.on("itemCaptured", { filter: "http && elapsedTime >= 0.0" }, (data) => {
  const name = data.dst.name;
  if (services.size >= 1000 && !services.has(name)) services.clear();
  const times = services.get(name) || [];
  services.set(name, times);
  times.push(data.elapsedTime);
  if (times.length < many) return;

  services.delete(name);
  times.sort((a, b) => a - b);
  const p99 = times[Math.ceil(times.length * 0.99) - 1];
  if (p99 <= limit) return;
  const median = times[Math.floor(times.length / 2)];

  vendor.slackBot(
    env.SLACK_AUTH_TOKEN,
    env.SLACK_CHANNEL_ID,
    name + " is slow",
    "1 in 100 of the last " + times.length + " requests took " + p99.toFixed(1) + " ms or more",
    "#e0a000",
    { Service: name, Namespace: data.namespace, Median: median.toFixed(1) + " ms", Slowest: times[times.length - 1].toFixed(1) + " ms" },
    {},
    { key: "slow " + name, window: quiet },
  );
});
