// Tells of every failed request, with all names
function onItemCaptured(data) {
  if (!data.response || data.response.status < 500) return;
  var files = {};
  files[data.stream + ".pcap"] = pcap.path(data.stream);
  var name = function (end) { return [end.namespace, end.pod, end.service, end.name].join("|"); };
  vendor.slackBot(
    SLACK_AUTH_TOKEN, SLACK_CHANNEL_ID, "A request failed", data.request.method + " " + data.request.path, "#d00000",
    {
      Node: data.node.name, NodeIp: data.node.ip, Src: data.src.ip + ":" + data.src.port, Dst: data.dst.ip + ":" + data.dst.port,
      SrcName: name(data.src), DstName: name(data.dst), SrcContainer: data.src.containerId || "", DstContainer: data.dst.containerId || "",
      Namespace: data.namespace, Timestamp_ms: data.timestamp, Source: data.capture.source
    },
    files
  );
}
