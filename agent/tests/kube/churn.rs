//! Thousands of pods that come and go.

use std::collections::BTreeMap;

use agent_core::Timestamp;
use testkit::fakes::kube;

use super::rig::{NODE, Rig, becomes, called, now, pod, service, slice, wait};

/// Pods in all, and at a time.
const PODS: u32 = 5_000;
const AT_ONCE: u32 = 100;

/// Of each hundred half are on this node, and all are behind a service; addresses are used again by every hundred.
#[test]
fn five_thousand_pods_are_named_right_to_the_event_and_leave_nothing_behind() {
    let rig = Rig::with(kube::KubeConfig { history: 5_000, ..kube::KubeConfig::default() });
    rig.put(&service("shop", "10.96.0.1"));
    rig.put(&pod("mark", "10.2.0.1", 1_000_000));
    let kube = rig.kube();
    let begun = (kube.stats(), rig.api.counts());
    let ip = |n: u32| format!("10.1.{}.{}", n % AT_ONCE / 50, n % 50 + 1);
    let mut most = 0;
    for round in 0..PODS / AT_ONCE {
        let numbers = round * AT_ONCE..(round + 1) * AT_ONCE;
        let names: Vec<String> = numbers.clone().map(|n| format!("shop-{n}")).collect();
        let mut endpoints = Vec::new();
        let addresses: Vec<String> = numbers.clone().map(ip).collect();
        for (at, n) in numbers.clone().enumerate() {
            let here = n % 2 == 0;
            if here {
                rig.put(&pod(&names[at], &addresses[at], n));
            }
            endpoints.push((&*names[at], &*addresses[at], n, if here { NODE } else { "node-2" }));
        }
        rig.put(&slice("shop-x", "shop", &endpoints));
        // Once the events are there, none of the names of the round before is left.
        for (name, address) in names.iter().zip(&addresses) {
            becomes(&kube, address, Some(&format!("{name} shop prod")));
        }
        for (name, address) in names.iter().zip(&addresses) {
            assert_eq!(called(&kube, address), Some(format!("{name} shop prod")));
        }
        most = most.max(kube.stats().names.addresses);
        for n in numbers.filter(|n| n % 2 == 0) {
            rig.remove(&pod(&format!("shop-{n}"), "", n));
        }
        if round % 2 == 1 {
            // Every other time the slice goes, too, and nobody has the addresses.
            rig.remove(&slice("shop-x", "shop", &[]));
            wait("gone", || addresses.iter().all(|address| called(&kube, address).is_none()));
        }
    }
    let (stats, counts) = (kube.stats(), rig.api.counts());
    assert_eq!(
        (stats.pods, stats.slices, stats.services, stats.refused, stats.names.refused),
        (1, 0, 1, 0, 0)
    );
    assert!(most <= 2 + u64::from(AT_ONCE), "{most} addresses at once");
    // Past the time for which names of what is gone are remembered.
    let later = Timestamp(now().0 + 61_000_000_000);
    kube.names().expire(later, |_| false);
    assert_eq!(kube.names().stats().addresses, 2, "the service's and the one pod's");
    assert_eq!(stats.requests, begun.0.requests, "what is watched need not be asked for");
    let bytes: BTreeMap<_, _> = counts
        .iter()
        .map(|(call, count)| (call.1.clone(), count.bytes - begun.1.get(call).map_or(0, |count| count.bytes)))
        .filter(|(_, bytes)| *bytes > 0)
        .collect();
    println!("{PODS} pods: {stats:?}; bytes by resource: {bytes:?}");
}
