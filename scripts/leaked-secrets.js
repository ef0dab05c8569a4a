// Alert on secrets in responses: keys, tokens and card numbers that a service gives away
//
// What it does
//   Looks for access keys, private keys, tokens and payment card numbers (which pass the Luhn check) in the text of
//   responses. The message says what was found, where, and the first or last four characters: never the secret itself.
//
// What it needs (--env KEY=VALUE, or scripting.env)
//   SLACK_AUTH_TOKEN   bot token (xoxb-…)
//   SLACK_CHANNEL_ID   the channel's id (C…)
// What it may have
//   LEAK_IGNORE_PATHS  path prefixes that may give secrets away, separated by commas, such as /oauth/token
//   LEAK_QUIET         seconds between two messages about one kind on one path; default 3600

const ignored = (env.LEAK_IGNORE_PATHS || "").split(",").map((path) => path.trim()).filter(Boolean);
const quiet = Number(env.LEAK_QUIET || 3600);
const longest = 256 * 1024;

const kinds = {
  "AWS access key": /\b(?:AKIA|ASIA)[0-9A-Z]{16}\b/g,
  "private key": /-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/g,
  "GitHub token": /\bgh[pousr]_[A-Za-z0-9]{36}\b/g,
  "Slack token": /\bxox[abeprs]-[A-Za-z0-9-]{10,}/g,
  "JSON web token": /\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}/g,
  "card number": /\b\d(?:[ -]?\d){12,18}\b/g,
};

// The check digit of payment cards: every second digit from the right counts double.
function isCardNumber(text) {
  const digits = text.replace(/\D/g, "");
  let sum = 0;
  for (let at = 0; at < digits.length; at++) {
    const digit = Number(digits[digits.length - 1 - at]);
    sum += at % 2 === 0 ? digit : digit * 2 - (digit > 4 ? 9 : 0);
  }
  return sum > 0 && sum % 10 === 0;
}

function find(kind, text) {
  const found = text.match(kinds[kind]) || [];
  return kind === "card number" ? found.filter(isCardNumber) : found;
}

hooks.on("itemCaptured", { filter: "http && response.content.size > 0" }, (data) => {
  const content = data.response.content;
  const path = data.request ? data.request.path : "";
  if (content.encoding === "base64" || ignored.some((prefix) => path.startsWith(prefix))) return;

  const text = content.text.slice(0, longest);
  for (const kind in kinds) {
    const found = find(kind, text);
    if (found.length === 0) continue;
    const hint = kind === "card number" ? "ends in " + found[0].slice(-4) : "begins with " + found[0].slice(0, 4);
    vendor.slackBot(
      env.SLACK_AUTH_TOKEN,
      env.SLACK_CHANNEL_ID,
      "A response holds a " + kind,
      data.dst.name + " answered " + (data.request ? data.request.method + " " : "") + path + " with it (" + hint + ")",
      "#d00000",
      { Service: data.dst.name, Found: found.length, Client: data.src.name, Status: data.response.status, Stream: data.stream },
      {},
      { key: "leak " + kind + " " + data.dst.name + path.slice(0, 200), window: quiet },
    );
  }
});
