// Alert on open doors: administration paths that answer a request without any credentials
//
// What it does
//   A request for an administration path that has neither an Authorization header, nor a cookie, nor an API key, and is
//   answered with 2xx, is told to a Slack channel.
//
// What it needs (--env KEY=VALUE, or scripting.env)
//   SLACK_AUTH_TOKEN   bot token (xoxb-…)
//   SLACK_CHANNEL_ID   the channel's id (C…)
// What it may have
//   ADMIN_PATHS        path prefixes, separated by commas; default /admin,/actuator,/debug,/console,/manager,/internal
//   ADMIN_QUIET        seconds between two messages about one path; default 3600

const prefixes = (env.ADMIN_PATHS || "/admin,/actuator,/debug,/console,/manager,/internal")
  .split(",").map((path) => path.trim()).filter(Boolean);
const quiet = Number(env.ADMIN_QUIET || 3600);
const credentials = ["authorization", "cookie", "x-api-key"];

function isAdmin(path) {
  return prefixes.some((prefix) => path === prefix || path.startsWith(prefix.replace(/\/$/, "") + "/"));
}

hooks.on("itemCaptured", { filter: "http && response.status >= 200 && response.status < 300" }, (data) => {
  if (!data.request || !isAdmin(data.request.path)) return;
  // Values of these headers are redacted in items; whether they are there is not.
  if (credentials.some((name) => data.request.headers[name] !== undefined)) return;

  vendor.slackBot(
    env.SLACK_AUTH_TOKEN,
    env.SLACK_CHANNEL_ID,
    "Administration without credentials",
    data.request.method + " " + data.request.path + " on " + data.dst.name + " was answered with " + data.response.status,
    "#d00000",
    { Service: data.dst.name, Namespace: data.namespace, Client: data.src.name + " (" + data.src.ip + ")", Stream: data.stream },
    {},
    { key: "open " + data.dst.name + data.request.path.slice(0, 200), window: quiet },
  );
});
