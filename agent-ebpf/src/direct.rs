//! The packet's linear part, read where it lies. A call of `bpf_skb_load_bytes` costs 15 to 30 ns, however little it copies:
//! what nearly every packet needs is read here, and everything else by the helper.
//!
//! Offsets are constants: arithmetic with packet pointers at run time is allowed only with CAP_PERFMON. The verifier wants to
//! see that a read ends before `data_end`, and [`Linear::has`] is how it sees that. Loads are spelt out because the packet is
//! not aligned: the compiler would take it apart into bytes, where the kernel takes any address that the machine does.

use core::arch::asm;

use aya_ebpf::bindings::__sk_buff;

/// The linear part of a packet, all of it or its beginning.
#[derive(Clone, Copy)]
pub(crate) struct Linear {
    start: *const u8,
    end: *const u8,
}

macro_rules! read {
    ($name:ident, $type:ty, $size:literal) => {
        /// The integer at `AT`, as it is in memory.
        ///
        /// # Safety
        /// [`Linear::has`] said yes to a length that holds it.
        #[inline(always)]
        pub(crate) unsafe fn $name<const AT: usize>(self) -> $type {
            let value: u64;
            // SAFETY: the caller asked whether the bytes are there, which the verifier checks as well.
            unsafe {
                asm!(
                    concat!("{value} = *(", $size, " *)({start} + {at})"),
                    value = lateout(reg) value,
                    start = in(reg) self.start,
                    at = const AT,
                    options(pure, readonly, nostack),
                );
            }
            value as $type
        }
    };
}

impl Linear {
    #[inline(always)]
    pub(crate) fn of(skb: *mut __sk_buff) -> Self {
        // SAFETY: skb is the program's context; the kernel makes whole pointers of these two fields.
        unsafe {
            Self { start: (*skb).data as usize as *const u8, end: (*skb).data_end as usize as *const u8 }
        }
    }

    /// Whether there are at least `len` bytes.
    #[inline(always)]
    pub(crate) fn has(self, len: usize) -> bool {
        self.start.wrapping_add(len) <= self.end
    }

    read!(u8_at, u8, "u8");
    read!(u16_at, u16, "u16");
    read!(u32_at, u32, "u32");
    read!(u64_at, u64, "u64");
}

/// What the smallest packets have that are copied here: IPv4 and TCP without options.
const LEAST: usize = 40;
/// The most that is copied here.
pub(crate) const MOST: usize = 96;

/// Copies the first `len` bytes, at most [`MOST`], if all of them are linear; else gives false, having written some of
/// them. Up to [`MOST`] bytes are written, if the packet is longer than `len`.
///
/// # Safety
/// `to` is aligned to 8 and has [`MOST`] bytes.
#[inline(always)]
pub(crate) unsafe fn copy(skb: *mut __sk_buff, to: *mut u8, len: u32) -> bool {
    let packet = Linear::of(skb);
    macro_rules! put {
        ($read:ident, $type:ty, $at:expr) => {
            // SAFETY: has() was asked about it; `to` has room and is aligned as much as the offset is.
            unsafe { to.add($at).cast::<$type>().write(packet.$read::<{ $at }>()) }
        };
    }
    macro_rules! tail {
        ($at:expr) => {{
            if packet.has($at + 4) {
                put!(u32_at, u32, $at);
                tail!($at + 4, 2)
            } else {
                tail!($at, 2)
            }
        }};
        ($at:expr, 2) => {{
            if packet.has($at + 2) {
                put!(u16_at, u16, $at);
                tail!($at + 2, 1)
            } else {
                tail!($at, 1)
            }
        }};
        ($at:expr, 1) => {{
            if packet.has($at + 1) {
                put!(u8_at, u8, $at);
                len <= $at + 1
            } else {
                len <= $at
            }
        }};
    }
    macro_rules! words {
        ($at:literal $($more:literal)*) => {{
            if packet.has($at + 8) {
                put!(u64_at, u64, $at);
                words!($($more)*)
            } else {
                tail!($at)
            }
        }};
        () => {
            len <= MOST as u32
        };
    }
    if !packet.has(LEAST) {
        return false;
    }
    put!(u64_at, u64, 0);
    put!(u64_at, u64, 8);
    put!(u64_at, u64, 16);
    put!(u64_at, u64, 24);
    put!(u64_at, u64, 32);
    words!(40 48 56 64 72 80 88)
}
