//! A packet socket, with its ring, filter and place in a fan-out.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use super::super::bpf::Instruction;
use super::Ring;

/// How a ring's memory is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Layout {
    /// Bytes of a block, a multiple of a page.
    pub(in super::super) block_bytes: u32,
    /// Blocks.
    pub(in super::super) blocks: u32,
}

impl Layout {
    /// All of it.
    pub(in super::super) const fn bytes(&self) -> usize {
        self.block_bytes as usize * self.blocks as usize
    }
}

/// What a socket has counted since it was last asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in super::super) struct KernelTally {
    /// Packets that passed the filter, dropped ones included.
    pub(in super::super) packets: u32,
    /// Packets for which no block was free.
    pub(in super::super) drops: u32,
    /// How often no block was free, after one had been.
    pub(in super::super) freezes: u32,
}

/// A packet socket. Closed, and everything with it, when dropped.
#[derive(Debug)]
pub(in super::super) struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Makes one that sees nothing yet.
    pub(in super::super) fn new() -> io::Result<Self> {
        // SAFETY: no memory is involved; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, owned by nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Makes its ring, with `room` bytes before each link header; a block that is not full is handed over after `patience`
    /// milliseconds.
    pub(in super::super) fn ring(&self, layout: Layout, room: usize, patience: u32) -> io::Result<Ring> {
        /// Only says how many frames there might be, which nobody asks about in this version.
        const FRAME: u32 = 2048;
        self.set(libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as libc::c_int))?;
        self.set(libc::PACKET_RESERVE, &(room as libc::c_uint))?;
        let request = libc::tpacket_req3 {
            tp_block_size: layout.block_bytes,
            tp_block_nr: layout.blocks,
            tp_frame_size: FRAME,
            tp_frame_nr: layout.block_bytes / FRAME * layout.blocks,
            tp_retire_blk_tov: patience,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        self.set(libc::PACKET_RX_RING, &request)?;
        Ring::map(self.fd.as_fd(), layout)
    }

    /// Sees the packets of one interface from now on, or with 0 of all.
    pub(in super::super) fn bind(&self, interface: u32) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: interface as libc::c_int,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address outlives the call and is as long as is said.
        checked(unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length) })
    }

    /// Joins the fan-out with this number, or begins one; gives its number. A program that [`Self::fan_out_by`] sets picks
    /// the socket; sockets are counted in the order in which they joined.
    pub(in super::super) fn join(&self, group: Option<u16>) -> io::Result<u16> {
        let unique = if group.is_none() { libc::PACKET_FANOUT_FLAG_UNIQUEID } else { 0 };
        let how = libc::PACKET_FANOUT_CBPF | unique;
        self.set(libc::PACKET_FANOUT, &(how << 16 | u32::from(group.unwrap_or(0))))?;
        let joined: u32 = self.option(libc::PACKET_FANOUT)?;
        Ok(joined as u16)
    }

    /// Sets the program that picks one of the sockets of the fan-out that this one is in.
    pub(in super::super) fn fan_out_by(&self, program: &[Instruction]) -> io::Result<()> {
        let program = sock_fprog(program)?;
        self.set(libc::PACKET_FANOUT_DATA, &program.fprog())
    }

    /// Sees what the program wants from now on, and nothing else. Replaces an earlier one without a gap.
    pub(in super::super) fn filter(&self, program: &[Instruction]) -> io::Result<()> {
        attach_filter(self.fd.as_fd(), program)
    }

    /// Does not even look at what goes out. Linux 4.20.
    pub(in super::super) fn ignore_outgoing(&self) -> io::Result<()> {
        self.set(libc::PACKET_IGNORE_OUTGOING, &1_i32)
    }

    /// Puts the interface into promiscuous mode for as long as the socket lives.
    pub(in super::super) fn promiscuous(&self, interface: u32) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: interface as libc::c_int,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// What it counted since the last time.
    pub(in super::super) fn take_tally(&self) -> io::Result<KernelTally> {
        let [packets, drops, freezes]: [u32; 3] = self.option(libc::PACKET_STATISTICS)?;
        Ok(KernelTally { packets, drops, freezes })
    }

    /// The error that waits at the socket (an interface went down), which is gone then.
    pub(in super::super) fn take_error(&self) -> Option<io::Error> {
        let mut error: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: value and length outlive the call; the kernel writes at most `length` bytes.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut error).cast(),
                &raw mut length,
            )
        };
        (result == 0 && error != 0).then(|| io::Error::from_raw_os_error(error))
    }

    fn set<T: Plain>(&self, name: libc::c_int, value: &T) -> io::Result<()> {
        set(self.fd.as_fd(), libc::SOL_PACKET, name, value)
    }

    fn option<T: Plain + Default>(&self, name: libc::c_int) -> io::Result<T> {
        let mut value = T::default();
        let mut length = size_of::<T>() as libc::socklen_t;
        // SAFETY: value and length outlive the call; the kernel writes at most `length` bytes, and any bytes are a value.
        checked(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                name,
                (&raw mut value).cast(),
                &raw mut length,
            )
        })?;
        Ok(value)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Values that the kernel may read and write as they lie: any bytes are one.
///
/// # Safety
/// Plain C data without references that must hold.
unsafe trait Plain {}

// SAFETY: integers, and C structs of integers (and of a pointer that only the kernel follows, which checks it).
unsafe impl Plain for libc::c_int {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for [u32; 3] {}
// SAFETY: as above.
unsafe impl Plain for libc::tpacket_req3 {}
// SAFETY: as above.
unsafe impl Plain for libc::packet_mreq {}
// SAFETY: as above.
unsafe impl Plain for libc::sock_fprog {}

fn set<T: Plain>(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value outlives the call and is as long as is said.
    checked(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A program as the kernel takes it.
struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Valid as long as `self` lives.
    fn fprog(&self) -> libc::sock_fprog {
        libc::sock_fprog { len: self.0.len() as u16, filter: self.0.as_ptr().cast_mut() }
    }
}

fn sock_fprog(program: &[Instruction]) -> io::Result<Filter> {
    if program.len() > usize::from(u16::MAX) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let filter = |i: &Instruction| libc::sock_filter { code: i.code, jt: i.yes, jf: i.no, k: i.k };
    Ok(Filter(program.iter().map(filter).collect()))
}

/// Attaches a program to any socket.
pub(in super::super) fn attach_filter(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let program = sock_fprog(program)?;
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program.fprog())
}
