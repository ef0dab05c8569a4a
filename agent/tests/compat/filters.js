// Filters, tests and metrics
if (!kfl.validate("http && status_code == 500")) throw new Error("a good filter");
if (kfl.validate("http and", true)) throw new Error("a bad filter");

var failed = 0;
function onItemCaptured(data) {
  if (kfl.match('http && status_code == 500 && path == "/pay"', data)) {
    failed++;
    prometheus.metric("failed_payments", "Payments that failed", 1, failed, { service: data.dst.name });
    return test.fail(data);
  }
  console.log(utils.json2Yaml(JSON.stringify({ path: data.request.path })).trim());
  return test.pass(data);
}
