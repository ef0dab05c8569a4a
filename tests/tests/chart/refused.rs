//! Values that are wrong: Helm says so, by key, before anything reaches a cluster.

use testkit::helm::Helm;

#[test]
fn wrong_values_are_refused_by_key() {
    let Some(helm) = Helm::find("wrong_values_are_refused_by_key").unwrap() else { return };
    for (values, words) in [
        ("confg: {}", &["confg"][..]),
        ("config: {capture: {portz: [80]}}", &["/config/capture", "portz"]),
        ("config: {capture: {ports: [0]}}", &["/config/capture/ports/0"]),
        ("config: {capture: {ports: ['80']}}", &["/config/capture/ports/0"]),
        ("config: {capture: {mode: fast}}", &["/config/capture/mode", "af-packet"]),
        ("config: {capture: {nets: [shop]}}", &["/config/capture/nets/0"]),
        ("config: {capture: {exclude: [10.0.0.7]}}", &["/config/capture/exclude/0"]),
        ("config: {capture: {workers: 65}}", &["/config/capture/workers"]),
        ("config: {store: {maxBytes: 4X}}", &["/config/store/maxBytes"]),
        // YAML as Helm reads it takes a bare off for false.
        ("config: {store: {mode: off}}", &["/config/store/mode"]),
        ("config: {drainTimeout: soon}", &["/config/drainTimeout"]),
        ("config: {slackApiUrl: slack.com}", &["/config/slackApiUrl"]),
        ("config: {metrics: {listen: '9899'}}", &["/config/metrics/listen"]),
        ("config: {metrics: {listen: 'off'}}", &["config.metrics.listen", "probes"]),
        ("config: {metrics: {listen: '127.0.0.1:9899'}}", &["config.metrics.listen", "probes"]),
        ("config: {metrics: {listen: '[::1]:9899'}}", &["config.metrics.listen", "probes"]),
        ("config: {api: {token: hush}}", &["/config/api/token"]),
        ("config: {api: {maxClients: 0}}", &["/config/api/maxClients"]),
        ("config: {dataDir: /x}", &["/config", "dataDir"]),
        ("config: {targets: {namespaces: [shop]}}", &["/config", "targets"]),
        ("config: {capture: {cgroups: []}}", &["nothing to capture on", "config.capture"]),
        ("config: {capture: {mode: af-packet}}", &["config.capture.cgroups needs eBPF"]),
        ("scripts: {files: {'a/b.js': x}}", &["propertyName 'a/b.js'"]),
        ("scripts: {files: {a.txt: x}}", &["propertyName 'a.txt'"]),
        ("scripts: {modules: {a.js: x}}", &["scripts.modules"]),
        ("scripts: {files: {a.js: x}, modules: {a.js: z}}", &["a.js is in scripts.files"]),
        ("scripts: {files: {a.js: x}, existingConfigMap: {name: own, run: [z.js]}}", &["not both"]),
        ("scripts: {existingConfigMap: {name: own}}", &["existingConfigMap.run"]),
        ("env: {values: {A-B: x}}", &["propertyName 'A-B'"]),
        ("env: {values: {PORT: 80}}", &["/env/values/PORT"]),
        ("data: {type: pvc}", &["/data/type", "hostPath"]),
        ("data: {hostPath: relative}", &["/data/hostPath"]),
        ("securityContext: {extraCapabilities: [ALL]}", &["/securityContext/extraCapabilities/0"]),
        ("securityContext: {extraCapabilities: [CAP_BPF]}", &["/securityContext/extraCapabilities/0"]),
        ("securityContext: {privileged: true}", &["/securityContext", "privileged"]),
        ("securityContext: {seccompProfile: {type: Localhost}}", &["localhostProfile"]),
        // Two agents on one node would work on one data folder.
        ("updateStrategy: {rollingUpdate: {maxSurge: 1}}", &["/updateStrategy/rollingUpdate", "maxSurge"]),
        ("image: {digest: abc}", &["/image/digest"]),
    ] {
        let said = helm.template(values, &[]).unwrap().expect_err(values);
        for word in words {
            assert!(said.contains(word), "{values}: {word:?} is not in {said}");
        }
    }
}
