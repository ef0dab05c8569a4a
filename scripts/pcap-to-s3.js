// Keep the evidence: the PCAP of every stream with a failed request goes to an S3 bucket
//
// What it does
//   Remembers streams in which a response was 5xx, or a request had none. When such a stream is over, its packets are put
//   into the bucket, as NODE/STREAM.pcap. The packets are raw: they hold what items redact.
//
// What it needs (--env KEY=VALUE, or scripting.env)
//   S3_BUCKET          the bucket, or bucket/some/folder
//   S3_REGION          its region, such as eu-central-1
// What it may have
//   S3_KEY_ID          access key; without one the environment's or the pod's role is used
//   S3_ACCESS_KEY      its secret
//   S3_MAX_BYTES       larger PCAPs are left out; default 104857600 (100 MiB)

const largest = Number(env.S3_MAX_BYTES || 100 * 1024 * 1024);
const failed = new Set();

if (!env.S3_BUCKET || !env.S3_REGION) throw new Error("S3_BUCKET and S3_REGION must be set");

hooks.on("itemCaptured", { filter: "http && (response == null || response.status >= 500)" }, (data) => {
  if (failed.size >= 10000) failed.clear();
  failed.add(data.stream);
});

/** @param {PcapFile} info */
function onPcapReady(info) {
  if (!failed.delete(info.stream)) return;
  if (info.size > largest) {
    console.warn("stream " + info.stream + " is left out: its PCAP has " + info.size + " bytes");
    return;
  }
  const url = vendor.s3.put(env.S3_BUCKET, info.path, env.S3_REGION, env.S3_KEY_ID, env.S3_ACCESS_KEY);
  console.log("stream " + info.stream + " goes to " + url);
}
