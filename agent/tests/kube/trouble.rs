//! What goes wrong between the agent and the API server: names stay, are right again after, and the server is not asked much.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::kube::{Kube, KubeConfig};
use serde_json::json;
use testkit::fakes::kube::Cut;
use testkit::slack::{Fault, Injection};

use super::rig::{Rig, becomes, called, pod, service, wait};

fn status(code: u16, retry_after: Option<u64>) -> Fault {
    Fault::Status { code, retry_after, body: String::new() }
}

/// Ends the watches, and waits until it is watched again, or that was tried.
fn cut(rig: &Rig, how: Cut) {
    let asked = rig.api.count("watch", "pods").requests;
    rig.api.cut_watches("*", how);
    wait("asked again", || rig.api.count("watch", "pods").requests > asked);
}

#[test]
fn watches_that_end_go_on_and_lists_that_are_too_old_begin_anew() {
    let rig = Rig::new();
    rig.put(&pod("shop-0", "10.1.0.1", 1));
    let kube = rig.kube();
    let lists = kube.stats().lists;
    for (number, how) in
        [(1, Cut::Close), (2, Cut::HalfLine), (3, Cut::Break), (4, Cut::Gone), (5, Cut::Close)]
    {
        wait("watched", || rig.api.watching("pods") == 1);
        cut(&rig, how);
        let (name, ip) = (format!("shop-{number}"), format!("10.1.0.{}", number + 1));
        rig.put(&pod(&name, &ip, number + 1));
        becomes(&kube, &ip, Some(&format!("{name} - prod")));
        assert_eq!(called(&kube, "10.1.0.1").as_deref(), Some("shop-0 - prod"), "{how:?}");
        assert_eq!(kube.stats().lists > lists, number >= 4, "after Gone there is a new list: {how:?}");
    }
    // What was deleted between two lists is gone with the second.
    rig.api.fail(Injection::new("watch pods", 1, status(500, None)));
    wait("watched", || rig.api.watching("pods") == 1);
    cut(&rig, Cut::Close);
    rig.remove(&pod("shop-0", "", 1));
    rig.api.forget();
    becomes(&kube, "10.1.0.1", None);
    wait("all is well", || kube.standing().is_good());
    let stats = kube.stats();
    assert!(stats.requests < 60, "{stats:?}");
}

#[test]
fn a_server_that_does_not_stream_lists_is_asked_for_a_list() {
    let rig = Rig::new();
    rig.put(&pod("shop", "10.1.0.1", 1));
    rig.put(&service("shop", "10.96.0.1"));
    for what in ["pods", "services", "endpointslices"] {
        rig.api.fail(Injection::new(&format!("watch {what}"), 1, status(422, None)));
    }
    let kube = rig.kube();
    assert_eq!(called(&kube, "10.1.0.1").as_deref(), Some("shop - prod"));
    assert_eq!(called(&kube, "10.96.0.1").as_deref(), Some("- shop prod"));
    let requests = rig.api.requests();
    let lists: Vec<_> = requests.iter().filter(|request| request.verb == "list").collect();
    assert_eq!(lists.len(), 3);
    assert!(lists.iter().all(|list| list.query.contains("resourceVersion=0")), "out of the server's cache");
    rig.put(&pod("next", "10.1.0.2", 2));
    becomes(&kube, "10.1.0.2", Some("next - prod"));
}

#[test]
fn a_busy_server_is_waited_for_as_it_says() {
    let rig = Rig::new();
    rig.put(&pod("shop", "10.1.0.1", 1));
    let kube = rig.kube();
    wait("watched", || rig.api.watching("pods") == 1);
    let before = rig.api.count("watch", "pods").requests;
    rig.api.fail(Injection::new("watch pods", 2, status(429, Some(2))));
    let begun = Instant::now();
    cut(&rig, Cut::Close);
    rig.put(&pod("next", "10.1.0.2", 2));
    becomes(&kube, "10.1.0.2", Some("next - prod"));
    assert!(begun.elapsed() >= Duration::from_secs(4), "twice two seconds: {:?}", begun.elapsed());
    assert_eq!(rig.api.count("watch", "pods").requests - before, 3, "two refused, one taken");
}

#[test]
fn without_permission_it_says_which_and_goes_on_once_it_is_granted() {
    let rig = Rig::new();
    rig.put(&pod("shop", "10.1.0.1", 1));
    let role = |resources: &[&str]| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "remora" },
            "rules": [
                { "apiGroups": [""], "resources": resources, "verbs": ["list", "watch"] },
                { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
            ],
        })
    };
    rig.put(&role(&["services"]));
    let kube = Kube::start(rig.config()).unwrap();
    assert!(!kube.wait(Duration::from_secs(2)));
    let told = kube.standing().to_string();
    assert!(
        told.contains("pods of this node") && told.contains("forbidden") && !told.contains("services"),
        "{told}"
    );
    rig.put(&role(&["services", "pods"]));
    assert!(kube.wait(super::rig::PATIENCE), "{}", kube.standing());
    assert_eq!(called(&kube, "10.1.0.1").as_deref(), Some("shop - prod"));
    wait("all is well", || kube.standing().is_good());
    assert!(kube.stats().requests < 30, "{:?}", kube.stats());
}

#[test]
fn what_cannot_be_used_is_refused_at_once() {
    let rig = Rig::new();
    let path = rig.folder.path().join("none");
    let config = KubeConfig { kubeconfig: Some(path), ..rig.config() };
    let Err(error) = Kube::start(config.clone()) else { panic!("was taken") };
    assert!(error.to_string().starts_with("kubeconfig "), "{error}");
    std::fs::write(config.kubeconfig.as_ref().unwrap(), "clusters: 5").unwrap();
    assert!(Kube::start(config).is_err());
}

/// Hands bytes on, while it may.
struct Wire {
    address: SocketAddr,
    up: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (up, open) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (is_up, opened) = (Arc::clone(&up), Arc::clone(&open));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !is_up.load(Ordering::Relaxed) {
                    continue;
                }
                let server = TcpStream::connect(server).unwrap();
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || {
                        let mut bytes = [0; 16_384];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            if to.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                opened.lock().unwrap().extend([client, server]);
            }
        });
        Self { address, up, open }
    }

    fn down(&self) {
        self.up.store(false, Ordering::Relaxed);
        self.open.lock().unwrap().drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    fn up(&self) {
        self.up.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_server_that_is_away_for_a_while_leaves_the_names_and_is_not_stormed() {
    let rig = Rig::new();
    rig.put(&pod("shop", "10.1.0.1", 1));
    let wire = Wire::to(rig.api.address());
    let config = rig.config();
    let path = config.kubeconfig.as_ref().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, text.replace(&rig.api.address().to_string(), &wire.address.to_string())).unwrap();
    let kube = rig.kube_with(config);
    let before = kube.stats().requests;
    wire.down();
    rig.put(&pod("next", "10.1.0.2", 2));
    rig.remove(&pod("shop", "", 1));
    wait("it is noticed", || !kube.standing().is_good());
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(called(&kube, "10.1.0.1").as_deref(), Some("shop - prod"), "what was known stays");
    let tried = kube.stats().requests - before;
    assert!(tried <= 30, "{tried} requests in 5 s");
    wire.up();
    becomes(&kube, "10.1.0.2", Some("next - prod"));
    becomes(&kube, "10.1.0.1", None);
    wait("all is well", || kube.standing().is_good());
    // Once more, and nothing happens meanwhile.
    wire.down();
    wait("it is noticed", || !kube.standing().is_good());
    wire.up();
    wait("all is well, though there is no news", || kube.standing().is_good());
}

#[test]
fn a_server_that_ends_each_watch_at_once_is_not_stormed() {
    let rig = Rig::new();
    rig.put(&pod("shop", "10.1.0.1", 1));
    let kube = rig.kube();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        rig.api.cut_watches("*", Cut::Close);
        std::thread::sleep(Duration::from_millis(20));
    }
    // 30 in 10 s, which may begin twice.
    let stats = kube.stats();
    assert!((10..=60).contains(&stats.requests), "{stats:?}");
    rig.put(&pod("next", "10.1.0.2", 2));
    becomes(&kube, "10.1.0.2", Some("next - prod"));
}

#[test]
fn a_token_that_is_replaced_is_read_again() {
    let rig = Rig::new();
    rig.put(&pod("shop", "10.1.0.1", 1));
    let config = rig.config();
    let (path, token) = (config.kubeconfig.clone().unwrap(), rig.folder.path().join("token"));
    let first = rig.api.token("remora", "remora");
    std::fs::write(&token, &first).unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    file["users"][0]["user"] = json!({ "tokenFile": token });
    std::fs::write(&path, file.to_string()).unwrap();
    let kube = rig.kube_with(config);

    // As the kubelet does it: the new one is there while the old one still holds.
    let second = rig.api.token("remora", "other");
    rig.put(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "other" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "remora" },
        "subjects": [{ "kind": "ServiceAccount", "name": "other", "namespace": "remora" }],
    }));
    std::fs::write(&token, second).unwrap();
    rig.api.revoke(&first);
    rig.api.cut_watches("*", Cut::Close);
    wait("the old one is refused", || !kube.standing().is_good());
    rig.put(&pod("next", "10.1.0.2", 2));
    let deadline = Instant::now() + Duration::from_secs(120);
    while called(&kube, "10.1.0.2").is_none() {
        assert!(Instant::now() < deadline, "{}", kube.standing());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(kube.stats().requests < 60, "{:?}", kube.stats());
}
