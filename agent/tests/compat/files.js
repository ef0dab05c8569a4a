// Files of a script
function onItemCaptured(data) {
  if (data.index !== 0) return;
  var dir = file.mkdirTemp("work", "");
  var path = file.temp("calls", dir, "json");
  file.write(path, "1");
  file.append(path, "2");
  file.copy(path, dir + "/copy.json");
  file.move(dir + "/copy.json", dir + "/moved.json");
  file.mkdir(dir + "/a/b");
  var tar = file.tar(dir);
  console.log(tar.endsWith(".tar.gz"), path.endsWith(".json"));
  var snapshot = pcap.snapshot([data.stream]);
  file.copy(snapshot, dir + "/snapshot.pcap");
  file.write(dir + "/names.json", JSON.stringify(pcap.nameResolutionHistory()));
  file.delete(dir);
  file.delete(tar);
}
