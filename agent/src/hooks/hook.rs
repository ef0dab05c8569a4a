//! The hooks by name.

/// The hooks that can be called.
pub(crate) const CALLED: [&str; 8] = [
    "onItemCaptured",
    "onStreamClosed",
    "onPcapReady",
    "onPacketCaptured",
    "onItemQueried",
    "onJobPassed",
    "onJobFailed",
    "onPodEvent",
];
/// Those of them that nothing in this version gives rise to: a script that defines one is told.
pub(crate) const WITHOUT_SOURCE: [Hook; 1] = [Hook::ItemQueried];
/// A hook that is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hook {
    ItemCaptured,
    StreamClosed,
    PcapReady,
    PacketCaptured,
    ItemQueried,
    JobPassed,
    JobFailed,
    PodEvent,
}

impl Hook {
    pub(crate) const ALL: [Self; CALLED.len()] = [
        Self::ItemCaptured,
        Self::StreamClosed,
        Self::PcapReady,
        Self::PacketCaptured,
        Self::ItemQueried,
        Self::JobPassed,
        Self::JobFailed,
        Self::PodEvent,
    ];

    pub(crate) const fn name(self) -> &'static str {
        CALLED[self as usize]
    }
}
