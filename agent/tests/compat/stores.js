// Elasticsearch, InfluxDB, S3 and Google's storage
function onItemCaptured(data) {
  if (data.response.status !== 500) return;
  vendor.elastic("", "kubeshark_calls", data, "elastic", "hush", "name:ZXUud2VzdC5leGFtcGxlOjQ0MyRhYmMkZGVm", "", "", "");
  vendor.elastic("https://elastic.example:9200", "kubeshark_calls", data, "", "", "", "key:hush", "", "");
  vendor.influxdb("http://influx.example:8086", "hush", "org", "bucket", "calls", { status: data.response.status }, { path: data.request.path });
  var snapshot = pcap.snapshot();
  console.log(vendor.s3.put("captures", snapshot, "us-east-2", "AKIA1", "hush"));
  console.log(vendor.gcs.put("captures", snapshot, JSON.parse(SA_KEY)));
}
