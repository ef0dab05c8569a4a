// Slack by webhook and by bot
function onItemCaptured(data) {
  if (data.protocol.name == "http" && data.response.status == 500) {
    vendor.slack(SLACK_WEBHOOK_URL, "Server-side Error", JSON.stringify(data.response.status), "#ff0000");

    var files = {};
    files[data.stream + ".pcap"] = pcap.path(data.stream);
    var dump = file.temp("data", "", "json");
    file.write(dump, JSON.stringify(data, null, 2));
    files["data.json"] = dump;
    vendor.slackBot(env.SLACK_AUTH_TOKEN, SLACK_CHANNEL_ID, "Server-side Error", "It failed", "#ff0000",
      { Service: data.dst.name, Namespace: data.namespace, Node: data.node.name, "HTTP method": data.request.method }, files);
    file.delete(dump);
  }
}
