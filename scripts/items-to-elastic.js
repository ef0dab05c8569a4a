// Every request to Elasticsearch or OpenSearch: one document for each item, without bodies
//
// What it does
//   Sends each item that ITEMS_FILTER matches to an index or a data stream. Bodies are left out unless ITEMS_BODIES is true.
//   deploy/elastic has an index template and dashboards for them.
//
// What it needs (--env KEY=VALUE, or scripting.env)
//   ELASTIC_URL        such as https://elastic:9200
// What it may have
//   ELASTIC_INDEX      index or data stream; default remora-items
//   ELASTIC_API_KEY    "id:key", or that in base64
//   ELASTIC_USERNAME   in place of it, with
//   ELASTIC_PASSWORD
//   ITEMS_FILTER       which items (docs/kfl.md); default http
//   ITEMS_BODIES       true: with bodies

const index = env.ELASTIC_INDEX || "remora-items";
const withBodies = env.ITEMS_BODIES === "true";

if (!env.ELASTIC_URL) throw new Error("ELASTIC_URL must be set");

hooks.on("itemCaptured", { filter: env.ITEMS_FILTER || "http" }, (data) => {
  const item = JSON.parse(JSON.stringify(data));
  if (!withBodies) {
    if (item.request && item.request.postData) item.request.postData = null;
    if (item.response) item.response.content.text = "";
  }
  vendor.elastic(
    env.ELASTIC_URL,
    index,
    item,
    env.ELASTIC_USERNAME,
    env.ELASTIC_PASSWORD,
    undefined, // no cloud ID
    env.ELASTIC_API_KEY,
  );
});
