// Every request to Splunk: one event for each item, by the HTTP Event Collector
//
// What it does
//   Sends who asked whom for what, and what came of it, as an event. deploy/splunk has a dashboard for them.
//
// What it needs (--env KEY=VALUE, or scripting.env)
//   SPLUNK_URL         such as https://splunk:8088
//   SPLUNK_TOKEN       the collector's token
// What it may have
//   SPLUNK_INDEX       index; default the token's own
//   ITEMS_FILTER       which items (docs/kfl.md); default http

if (!env.SPLUNK_URL || !env.SPLUNK_TOKEN) throw new Error("SPLUNK_URL and SPLUNK_TOKEN must be set");

/** @type {SplunkOptions} */
const options = { sourcetype: "remora:item" };
if (env.SPLUNK_INDEX) options.index = env.SPLUNK_INDEX;

hooks.on("itemCaptured", { filter: env.ITEMS_FILTER || "http" }, (data) => {
  const item = JSON.parse(JSON.stringify(data));
  if (item.request && item.request.postData) item.request.postData = null;
  if (item.response) item.response.content.text = "";
  vendor.splunk(env.SPLUNK_URL, env.SPLUNK_TOKEN, item, options);
});
