// Tells of every failed request, with all names, and keeps an account of all
function onItemCaptured(data) {
  if (!data.response) return;
  if (data.response.status >= 500) alert(data);
  // What is in here was taken: an alert is queued once the call has returned.
  file.append("seen.txt", data.request.path + " " + data.response.status + " " + data.src.ip + ":" + data.src.port + " " + name(data.src) + "\n");
}

function name(end) {
  return [end.namespace, end.pod, end.service, end.name].join("|");
}

function alert(data) {
  var files = {};
  files[data.stream + ".pcap"] = pcap.path(data.stream);
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
