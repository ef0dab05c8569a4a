// Alert on a burst of errors: many 5xx of one service within a short time
//
// What it does
//   Counts the responses of each service in spans of BURST_SECONDS. When at least BURST_ERRORS of them are 5xx, and at
//   least BURST_SHARE of all, it posts one message. A service that goes on failing is told of again after BURST_QUIET
//   seconds, with the number of messages that were held back.
//
// What it needs (--env KEY=VALUE, or scripting.env)
//   SLACK_AUTH_TOKEN   bot token (xoxb-…)
//   SLACK_CHANNEL_ID   the channel's id (C…)
// What it may have
//   BURST_SECONDS      length of a span; default 60
//   BURST_ERRORS       errors in a span that alert; default 10
//   BURST_SHARE        share of errors in a span that alerts; default 0.05
//   BURST_QUIET        seconds between two messages about one service; default 600

const span = Number(env.BURST_SECONDS || 60) * 1000;
const fewest = Number(env.BURST_ERRORS || 10);
const share = Number(env.BURST_SHARE || 0.05);
const quiet = Number(env.BURST_QUIET || 600);

const services = new Map();

hooks.on("itemCaptured", { filter: "http && response.status > 0" }, (data) => {
  const name = data.dst.name;
  let counts = services.get(name);
  if (!counts || data.timestamp - counts.since >= span) {
    if (services.size >= 1000) services.clear();
    counts = { since: data.timestamp, all: 0, errors: 0 };
    services.set(name, counts);
  }
  counts.all++;
  if (data.response.status < 500) return;
  counts.errors++;
  if (counts.errors < fewest || counts.errors / counts.all < share) return;

  vendor.slackBot(
    env.SLACK_AUTH_TOKEN,
    env.SLACK_CHANNEL_ID,
    "Many errors from " + name,
    counts.errors + " of " + counts.all + " responses within " + span / 1000 + " s were 5xx; the last one to "
      + (data.request ? data.request.method + " " + data.request.path : "a request that was not captured"),
    "#d00000",
    { Service: name, Namespace: data.namespace, Node: data.node.name },
    {},
    { key: "burst " + name, window: quiet },
  );
  services.delete(name);
});
