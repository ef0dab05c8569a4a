//! A FIN that cannot be seen: at a socket that has closed first the other end's does not pass.

use super::*;

/// As seen at the client's own socket.
fn at_client(b: &mut Bench, seg: &Seg, cgroup: u64) {
    b.at_ms += 1;
    let data = seg.ipv4();
    let direction = if seg.from_client { Direction::Egress } else { Direction::Ingress };
    b.raw(&seen_at(packet(LinkType::RAW, &data, b.at_ms), direction, cgroup));
}

/// An exchange, or only its request, and the client's FIN with its acknowledgement.
fn closed_by_client(cgroup: u64, answered: bool) -> Bench {
    let mut b = Bench::new();
    let next = 101 + REQUEST.len() as u32;
    at_client(&mut b, &Seg::c2s(100, 0, SYN, b""), cgroup);
    at_client(&mut b, &Seg::s2c(500, 101, SYN | ACK, b""), cgroup);
    at_client(&mut b, &Seg::c2s(101, 501, ACK, REQUEST), cgroup);
    let mut server = 501;
    if answered {
        at_client(&mut b, &Seg::s2c(501, next, ACK, RESPONSE), cgroup);
        server += RESPONSE.len() as u32;
    }
    at_client(&mut b, &Seg::c2s(next, server, FIN | ACK, b""), cgroup);
    at_client(&mut b, &Seg::s2c(server, next + 1, ACK, b""), cgroup);
    b
}

#[test]
fn a_stream_whose_last_fin_cannot_be_seen_is_closed_by_what_is_known() {
    let mut b = closed_by_client(7, true);
    b.pass(Duration::from_secs(59));
    assert!(b.closed.is_empty());
    b.pass(Duration::from_secs(2));
    assert_eq!((b.closed.len(), b.closed[0].reason.as_str(), b.items.len()), (1, "fin", 1));
}

#[test]
fn where_it_could_be_seen_or_an_answer_is_due_it_is_waited_for() {
    for (cgroup, answered) in [(0, true), (7, false)] {
        let mut b = closed_by_client(cgroup, answered);
        b.pass(Duration::from_secs(120));
        assert!(b.closed.is_empty(), "cgroup {cgroup}, answered: {answered}");
        if !answered {
            let next = 102 + REQUEST.len() as u32;
            at_client(&mut b, &Seg::s2c(501, next, ACK, RESPONSE), cgroup);
            assert!(b.items.len() == 1 && b.items[0].error.is_none());
            // Now nothing is.
            b.pass(Duration::from_secs(62));
            assert_eq!(b.closed.len(), 1);
        }
    }
}
