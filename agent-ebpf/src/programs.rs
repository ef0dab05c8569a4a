//! The entry points. User space attaches `ether_*` or `raw_*` by what the interface carries.

use agent_common::record::{EGRESS, INGRESS, LINK_ETHERNET, LINK_RAW};
use aya_ebpf::{
    bindings::TC_ACT_UNSPEC,
    macros::{cgroup_skb, classifier},
    programs::{SkBuffContext, TcContext},
};

use crate::capture::{Hook, capture};

/// Verdict of a `cgroup_skb` program: let it pass.
const PASS: i32 = 1;

#[cgroup_skb(ingress)]
pub(crate) fn cgroup_ingress(ctx: SkBuffContext) -> i32 {
    capture(ctx.skb.skb, Hook { link: LINK_RAW, direction: INGRESS, cgroup: true });
    PASS
}

#[cgroup_skb(egress)]
pub(crate) fn cgroup_egress(ctx: SkBuffContext) -> i32 {
    capture(ctx.skb.skb, Hook { link: LINK_RAW, direction: EGRESS, cgroup: true });
    PASS
}

#[classifier]
pub(crate) fn ether_ingress(ctx: TcContext) -> i32 {
    capture(ctx.skb.skb, Hook { link: LINK_ETHERNET, direction: INGRESS, cgroup: false });
    TC_ACT_UNSPEC
}

#[classifier]
pub(crate) fn ether_egress(ctx: TcContext) -> i32 {
    capture(ctx.skb.skb, Hook { link: LINK_ETHERNET, direction: EGRESS, cgroup: false });
    TC_ACT_UNSPEC
}

#[classifier]
pub(crate) fn raw_ingress(ctx: TcContext) -> i32 {
    capture(ctx.skb.skb, Hook { link: LINK_RAW, direction: INGRESS, cgroup: false });
    TC_ACT_UNSPEC
}

#[classifier]
pub(crate) fn raw_egress(ctx: TcContext) -> i32 {
    capture(ctx.skb.skb, Hook { link: LINK_RAW, direction: EGRESS, cgroup: false });
    TC_ACT_UNSPEC
}

/// The kernel allows GPL-only helpers only to programs that say so.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: the verifier would refuse the endless loop.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
