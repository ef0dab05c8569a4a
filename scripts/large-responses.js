// Alert on large responses: answers of more bytes than anyone should need
//
// What it does
//   Posts a message about each response whose body is larger than LARGE_BYTES, one for each path in LARGE_QUIET seconds.
//
// What it needs (--env KEY=VALUE, or scripting.env)
//   SLACK_AUTH_TOKEN   bot token (xoxb-…)
//   SLACK_CHANNEL_ID   the channel's id (C…)
// What it may have
//   LARGE_BYTES        bytes of a body as they were sent; default 10485760 (10 MiB)
//   LARGE_QUIET        seconds between two messages about one path; default 3600

const limit = Number(env.LARGE_BYTES || 10 * 1024 * 1024);
const quiet = Number(env.LARGE_QUIET || 3600);

hooks.on("itemCaptured", { filter: "http && response.bodySize > " + limit }, (data) => {
  const asked = data.request ? data.request.method + " " + data.request.path : "a request that was not captured";
  vendor.slackBot(
    env.SLACK_AUTH_TOKEN,
    env.SLACK_CHANNEL_ID,
    "A large response from " + data.dst.name,
    asked + " was answered with " + (data.response.bodySize / 1024 / 1024).toFixed(2) + " MiB",
    "#e0a000",
    { Service: data.dst.name, Client: data.src.name, Type: data.response.content.mimeType, Stream: data.stream },
    {},
    { key: "large " + data.dst.name + (data.request ? data.request.path.slice(0, 200) : ""), window: quiet },
  );
});
