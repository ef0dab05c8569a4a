//! Pods of the node: targets, and what scripts are told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use agent::hooks::PodEvent;
use agent::kube::{Kube, KubeConfig, Targets};
use agent::process::PodUid;
use serde_json::{Value, json};
use testkit::fakes::kube::Cut;
use testkit::slack::{Fault, Injection};

use super::rig::{Rig, becomes, pod, uid, wait};

type Told = Arc<Mutex<Vec<(PodEvent, Arc<Value>)>>>;

fn listen(kube: &Kube) -> Told {
    let told = Told::default();
    let hears = Arc::clone(&told);
    kube.listen(Arc::new(move |event, pod| hears.lock().unwrap().push((event, Arc::clone(pod)))));
    told
}

fn words(told: &Told) -> Vec<String> {
    let told = told.lock().unwrap();
    told.iter()
        .map(|(event, pod)| format!("{} {}", event.as_str(), pod["metadata"]["name"].as_str().unwrap()))
        .collect()
}

fn labelled(name: &str, ip: &str, number: u32, app: &str) -> Value {
    let mut pod = pod(name, ip, number);
    pod["metadata"]["labels"] = json!({ "app": app });
    pod
}

#[test]
fn scripts_hear_of_pods_from_the_first_to_the_last() {
    let rig = Rig::new();
    let mut first = pod("shop-1", "10.1.0.1", 1);
    first["metadata"]["managedFields"] = json!([{ "manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {} }]);
    rig.put(&first);
    let mut elsewhere = pod("far", "10.1.1.1", 9);
    elsewhere["spec"]["nodeName"] = json!("node-2");
    rig.put(&elsewhere);
    let kube = rig.kube();
    let told = listen(&kube);
    assert_eq!(words(&told), ["ADDED shop-1"], "who listens hears of what is there");
    let whole = Arc::clone(&told.lock().unwrap()[0].1);
    assert_eq!((&whole["kind"], &whole["spec"]["nodeName"]), (&json!("Pod"), &json!("node-1")));
    assert_eq!(whole["metadata"].get("managedFields"), None);

    rig.put(&pod("shop-2", "10.1.0.2", 2));
    first["metadata"]["labels"] = json!({ "app": "other" });
    rig.put(&first);
    rig.remove(&pod("shop-2", "", 2));
    wait("told", || told.lock().unwrap().len() == 4);
    assert_eq!(words(&told)[1..], ["ADDED shop-2", "MODIFIED shop-1", "DELETED shop-2"]);

    // What happens while nobody watches is told by the next list, each thing once.
    rig.put(&pod("set-0", "10.1.0.5", 5));
    rig.put(&pod("shop-3", "10.1.0.3", 3));
    wait("told", || told.lock().unwrap().len() == 6);
    rig.api.fail(Injection::new(
        "watch pods",
        2,
        Fault::Status { code: 500, retry_after: None, body: String::new() },
    ));
    let asked = rig.api.count("watch", "pods").requests;
    rig.api.cut_watches("pods", Cut::Close);
    wait("cut", || rig.api.count("watch", "pods").requests > asked);
    rig.remove(&pod("shop-3", "", 3));
    rig.put(&pod("shop-4", "10.1.0.4", 4));
    rig.remove(&pod("set-0", "", 5));
    rig.put(&pod("set-0", "10.1.0.6", 6));
    rig.api.forget();
    wait("told", || told.lock().unwrap().len() >= 10);
    becomes(&kube, "10.1.0.4", Some("shop-4 - prod"));
    let mut rest = words(&told)[6..].to_vec();
    let of_set = |told: &String| told.ends_with("set-0");
    assert_eq!(
        rest.extract_if(.., |told| of_set(told)).collect::<Vec<_>>(),
        ["DELETED set-0", "ADDED set-0"]
    );
    rest.sort();
    assert_eq!(rest, ["ADDED shop-4", "DELETED shop-3"], "and nothing of shop-1, which is as it was");
    let gone = told
        .lock()
        .unwrap()
        .iter()
        .find(|(event, pod)| *event == PodEvent::Deleted && pod["metadata"]["name"] == "shop-3")
        .cloned();
    assert_eq!(gone.unwrap().1["metadata"]["uid"], json!(uid(3)), "as it was when it was last seen");
}

#[test]
fn targets_are_followed_and_can_be_changed() {
    let rig = Rig::new();
    rig.put(&labelled("shop-1", "10.1.0.1", 1, "shop"));
    rig.put(&labelled("cart-1", "10.1.0.2", 2, "cart"));
    let of = |app: &str| Targets {
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        ..Targets::default()
    };
    let kube = rig.kube_with(KubeConfig { targets: of("shop"), ..rig.config() });
    let told = listen(&kube);
    let pods = kube.wanted_pods();
    let wants = |number: u32| pods.wants(&PodUid::parse(&uid(number)).unwrap());
    assert_eq!((wants(1), wants(2), words(&told)), (true, false, vec!["ADDED shop-1".to_owned()]));
    assert_eq!(kube.wanted().ips, ["10.1.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(
        super::rig::called(&kube, "10.1.0.2").as_deref(),
        Some("cart-1 - prod"),
        "others have names, too"
    );

    let changes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&changes);
    pods.on_change(Box::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    rig.put(&labelled("shop-2", "10.1.0.3", 3, "shop"));
    wait("it came", || wants(3));
    wait("it is told", || changes.load(Ordering::SeqCst) == 1);
    rig.put(&labelled("shop-1", "10.1.0.1", 1, "retired"));
    wait("its label went", || !wants(1));
    wait("told", || told.lock().unwrap().len() == 3);
    assert_eq!(words(&told)[1..], ["ADDED shop-2", "DELETED shop-1"], "to scripts it is gone");

    kube.retarget(of("cart"));
    assert_eq!((wants(1), wants(2), wants(3)), (false, true, false));
    let mut rest = words(&told)[3..].to_vec();
    rest.sort();
    assert_eq!(rest, ["ADDED cart-1", "DELETED shop-2"]);
    assert_eq!(kube.stats().pods_wanted, 1);
    kube.silence();
    rig.remove(&labelled("cart-1", "", 2, ""));
    wait("it went", || !wants(2));
    assert_eq!(told.lock().unwrap().len(), 5);
}
