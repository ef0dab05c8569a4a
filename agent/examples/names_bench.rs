//! What a name costs a worker: `cargo run --release -p agent --example names_bench`.
//!
//! 50,000 addresses of pods; one thread looks names up in an order that no cache foresees, alone and while another thread changes
//! a hundred names a second.
#![expect(clippy::print_stdout, reason = "that is its output")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent::captured::Known;
use agent::resolve::{Called, Names};
use agent_core::Timestamp;

const PODS: u32 = 50_000;
const LOOKUPS: u32 = 5_000_000;

fn ip(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a80_0000 + number))
}

fn called(number: u32, round: u32) -> Called {
    let known = Known::pod(&format!("backend-{number}-{round}"), "prod");
    Called { known: Some(Arc::new(known)), ports: Vec::new() }
}

/// Nanoseconds for each.
fn look_up(names: &Names) -> f64 {
    let (begun, mut number, mut found) = (Instant::now(), 1_u32, 0_u32);
    for _ in 0..LOOKUPS {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let known = names.of_address(ip((number >> 8) % PODS), 80, Timestamp(1));
        found += u32::from(known.is_some());
    }
    assert_eq!(found, LOOKUPS, "each address has a name");
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(LOOKUPS)
}

fn main() {
    let names = Names::default();
    let begun = Instant::now();
    names.change(Timestamp(0), (0..PODS).map(|number| (ip(number), called(number, 0))));
    println!("{PODS} names entered at once in {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    println!("a look-up: {:.0} ns", look_up(&names));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let (mut spent, mut changes) = (Duration::ZERO, 0_u32);
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                names.change(Timestamp(1), [(ip(changes * 7919 % PODS), called(changes, 1))]);
                spent += begun.elapsed();
                changes += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            spent / changes.max(1)
        });
        println!("a look-up while names change: {:.0} ns", look_up(&names));
        over.store(true, Ordering::Relaxed);
        println!("a change: {:?}", changing.join().unwrap_or_default());
    });
}
