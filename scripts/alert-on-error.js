// Alert on HTTP errors: a Slack message with the stream's PCAP and the item
//
// What it does
//   For each HTTP response with a status of 500 or more it posts a message into a Slack channel. In the message's
//   thread are two files: the capture of the whole TCP stream, to be opened in Wireshark, and the request with its
//   response as JSON. Secrets in headers are redacted in the JSON; the capture is raw.
//
// What it needs (--env KEY=VALUE, or scripting.env)
//   SLACK_AUTH_TOKEN   bot token (xoxb-…) of a Slack app with the scopes chat:write, chat:write.public and files:write
//   SLACK_CHANNEL_ID   the channel's id (C…), not its name
// What it may have
//   ALERT_MIN_STATUS   lowest status that alerts; default 500
//   ALERT_MAX_STATUS   highest status that alerts; default 599
//   ALERT_NAMESPACES   only these Kubernetes namespaces, separated by commas; default all
//   ALERT_IGNORE_PATHS path prefixes that never alert, separated by commas, such as /healthz

const lowest = number("ALERT_MIN_STATUS", 500);
const highest = number("ALERT_MAX_STATUS", 599);
const namespaces = list("ALERT_NAMESPACES");
const ignoredPaths = list("ALERT_IGNORE_PATHS");

for (const name of ["SLACK_AUTH_TOKEN", "SLACK_CHANNEL_ID"]) {
  if (!env[name]) throw new Error(name + " is not set: pass it with --env " + name + "=…");
}

function onItemCaptured(data) {
  if (data.protocol.name !== "http" || !isAlarming(data)) return;

  const status = data.response.status;
  const server = data.dst.name + ":" + data.dst.port;
  // A response may have come without its request, if that was not captured.
  const asked = data.request ? data.request.method + " " + data.request.path : "a request that was not captured";

  /** @type {Record<string, string>} */
  const attachments = {};
  attachCapture(attachments, data.stream);
  const json = file.temp("item", "", "json");
  file.write(json, JSON.stringify(data, null, 2));
  attachments["item-" + data.id + ".json"] = json;

  try {
    vendor.slackBot(
      env.SLACK_AUTH_TOKEN,
      env.SLACK_CHANNEL_ID,
      "HTTP " + status + " from " + server,
      asked + " was answered with " + status + " " + (data.response.statusText || ""),
      status >= 500 ? "danger" : "warning",
      {
        "From": data.src.name + ":" + data.src.port,
        "To": server,
        "Namespace": data.namespace,
        "Node": data.node.name,
        "Took": data.elapsedTime === null ? "" : data.elapsedTime + " ms",
      },
      attachments,
    );
  } finally {
    // The message has its own copy by now.
    file.delete(json);
  }
}

// Whether the item is worth an alert.
function isAlarming(data) {
  const response = data.response;
  if (!response || !(response.status >= lowest && response.status <= highest)) return false;
  if (namespaces.length > 0 && !namespaces.includes(data.namespace)) return false;
  const path = data.request ? data.request.path : "";
  return !ignoredPaths.some((prefix) => path.startsWith(prefix));
}

// The alert goes out without the capture rather than not at all.
function attachCapture(attachments, stream) {
  try {
    attachments["stream-" + stream + ".pcap"] = pcap.path(stream);
  } catch (error) {
    console.warn("no capture for the alert:", error.message);
  }
}

function number(name, fallback) {
  const value = env[name] ? Number(env[name]) : fallback;
  if (!Number.isFinite(value)) throw new Error(name + " must be a number, not " + env[name]);
  return value;
}

function list(name) {
  return (env[name] || "").split(",").map((part) => part.trim()).filter((part) => part !== "");
}
