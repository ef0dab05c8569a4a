//! The maps, by the names under which user space finds them, and counting.

use core::ptr;

use agent_common::identity::{
    CONNECTIONS as MOST, Connection, End, Ends, MAX_WATCHED, PENDING as MOST_PENDING, Peer, Process,
    Settings, Socket, TALLIES as COUNT, Tally,
};
use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray},
    macros::btf_map,
};

/// `BPF_MAP_TYPE_SK_STORAGE` whose values a listening socket hands on to its children, which aya's own does not.
#[repr(C)]
pub(crate) struct Inherited<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the fields are placeholders that carry types to the loader; nothing reads or writes them.
unsafe impl<T> Sync for Inherited<T> {}

impl<T> Inherited<T> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// What the helper calls the map.
    pub(crate) fn as_ptr(&self) -> *mut core::ffi::c_void {
        ptr::from_ref(self).cast_mut().cast()
    }
}

/// What is known of each socket, for as long as it lives.
#[btf_map]
pub(crate) static SOCKETS: Inherited<Socket> = Inherited::new();

/// Established connections by their ends, and those that have ended, until newer ones displace them.
#[btf_map]
pub(crate) static CONNECTIONS: LruHashMap<Ends, Connection, { MOST as usize }> = LruHashMap::new();

/// Accepted connections by their remote end.
#[btf_map]
pub(crate) static PEERS: LruHashMap<End, Peer, { MOST as usize }> = LruHashMap::new();

/// By the socket's address: who asked for a connection that is not established yet. Only the tracepoint needs it.
#[btf_map]
pub(crate) static PENDING: LruHashMap<u64, Process, { MOST_PENDING as usize }> = LruHashMap::new();

/// Ids of the watched cgroups, for the tracepoint.
#[btf_map]
pub(crate) static WATCHED: HashMap<u64, u32, { MAX_WATCHED as usize }> = HashMap::new();

#[btf_map]
pub(crate) static IDENTITY: Array<Settings, 1> = Array::new();

/// By [`Tally`].
#[btf_map]
pub(crate) static TALLIES: PerCpuArray<u64, { COUNT as usize }> = PerCpuArray::new();

/// The flags of the settings; none until user space has set them.
#[inline(always)]
pub(crate) fn settings() -> Settings {
    IDENTITY.get(0).copied().unwrap_or_default()
}

/// Counts one. An interrupt between load and store may undo a count of the interrupted program on this CPU.
#[inline(always)]
pub(crate) fn count(tally: Tally) {
    if let Some(counter) = TALLIES.get_ptr_mut(tally as u32) {
        // SAFETY: this CPU's map value.
        unsafe { *counter += 1 };
    }
}
