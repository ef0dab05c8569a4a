// Hooks
var packets = 0;
var bytes = 0;
function onPacketCaptured(info) {
  packets++;
  bytes += info.length;
}
function onItemQueried(data) {
  return data;
}
function onPodEvent(event, pod) {
  console.log(event, pod);
}
function onItemCaptured(data) {
  if (data.request.path === "/pay") console.log(packets > 0, bytes > packets, typeof utils.nodeName(), data.src.port, env.TEAM, TEAM);
}
