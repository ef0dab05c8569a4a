// Webhooks with a body and with a form
function onItemCaptured(data) {
  if (data.response.status !== 500) return;
  var answer = vendor.webhook("POST", "http://hooks.example/a", JSON.stringify({ path: data.request.path }));
  console.log("answered", answer);
  vendor.webhookForm("PUT", "http://hooks.example/b", { status: data.response.status, path: data.request.path });
  try {
    var nothing;
    vendor.webhook("POST", nothing, "");
  } catch (error) {
    console.error(error);
  }
}
