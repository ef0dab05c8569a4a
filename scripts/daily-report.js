// A daily report to Slack: what each service answered, how often it failed, how long it took
//
// What it does
//   Counts all day, and posts a message with a line for each service at the time of REPORT_CRON; then it begins anew.
//
// What it needs (--env KEY=VALUE, or scripting.env)
//   SLACK_AUTH_TOKEN   bot token (xoxb-…)
//   SLACK_CHANNEL_ID   the channel's id (C…)
// What it may have
//   REPORT_CRON        six fields, seconds first, UTC; default "0 0 8 * * *", eight in the morning
//   REPORT_SERVICES    services that are named, the busiest first; default 20

const most = Number(env.REPORT_SERVICES || 20);
let services = new Map();
let since = new Date();

hooks.on("itemCaptured", { filter: "http" }, (data) => {
  // The services that there are on a day fit; addresses that somebody scans for need not.
  if (services.size >= 10000 && !services.has(data.dst.name)) return;
  const counts = services.get(data.dst.name) || { requests: 0, errors: 0, unanswered: 0, time: 0 };
  services.set(data.dst.name, counts);
  counts.requests++;
  if (!data.response) counts.unanswered++;
  else if (data.response.status >= 500) counts.errors++;
  counts.time += data.elapsedTime || 0;
});

jobs.schedule("daily report", env.REPORT_CRON || "0 0 8 * * *", () => {
  const busiest = [...services].sort(([, a], [, b]) => b.requests - a.requests);
  const lines = busiest.slice(0, most).map(([name, counts]) => {
    const answered = counts.requests - counts.unanswered;
    const mean = answered > 0 ? (counts.time / answered).toFixed(1) + " ms" : "-";
    return name + ": " + counts.requests + " requests, " + counts.errors + " errors, " + counts.unanswered
      + " unanswered, " + mean + " on average";
  });
  if (busiest.length > most) lines.push("and " + (busiest.length - most) + " more services");

  vendor.slackBot(
    env.SLACK_AUTH_TOKEN,
    env.SLACK_CHANNEL_ID,
    "Traffic on " + utils.nodeName() + " since " + since.toISOString(),
    lines.join("\n") || "No requests were seen.",
    busiest.some(([, counts]) => counts.errors > 0) ? "#e0a000" : "good",
  );
  services = new Map();
  since = new Date();
});
