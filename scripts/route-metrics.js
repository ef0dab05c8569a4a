// Prometheus metrics by route: requests, errors and time, on the agent's own /metrics
//
// What it does
//   Counts requests by service, method, route and class of status (2xx, 5xx, none), and sums up their time. Numbers and
//   ids in a path become :id, so that /users/17 and /users/18 are one route. Past ROUTES_MOST routes all others are one.
//
// What it may have (--env KEY=VALUE, or scripting.env)
//   ROUTES_MOST        routes that are told apart; default 100

const most = Number(env.ROUTES_MOST || 100);
const routes = new Set();
const requests = new Map();
const seconds = new Map();

function routeOf(path) {
  const route = path
    .split("/")
    .map((part) => (/^\d+$|^[0-9a-f]{8}-[0-9a-f-]{27}$|^[0-9a-f]{16,}$/i.test(part) ? ":id" : part))
    .join("/");
  if (routes.has(route)) return route;
  if (routes.size >= most) return "other";
  routes.add(route);
  return route;
}

// Adds to a sum and returns it.
function add(sums, key, value) {
  const sum = (sums.get(key) || 0) + value;
  sums.set(key, sum);
  return sum;
}

hooks.on("itemCaptured", { filter: "http && request.method != ''" }, (data) => {
  const status = data.response ? Math.floor(data.response.status / 100) + "xx" : "none";
  const labels = { service: data.dst.name, method: data.request.method, route: routeOf(data.request.path), status };
  const key = Object.values(labels).join(" ");
  prometheus.metric("http_requests_total", "Requests by route.", 1, add(requests, key, 1), labels);
  const took = (data.elapsedTime || 0) / 1000;
  prometheus.metric("http_request_seconds_total", "Their time, summed up.", 1, add(seconds, key, took), labels);
});
