//! Where a run's packets are kept: how the store is opened, and what is written beside the packets.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use agent_core::Origin;
use anyhow::Context as _;

use super::args::PcapMode;
use super::settings::PcapLimits;
use crate::captured::{Known, Source};
use crate::pcap::{InterfaceInfo, Mode, Overflow, PcapAppender, SegmentStore, StoreConfig};
use crate::pipeline::Told;

/// Names that wait to be written into the store.
const NAMES_WAITING: usize = 4096;

/// Has names written into the store as they are used, so that exports bear them; not by the workers, which must not wait for
/// a disk. One for which there is no room is told again when a stream is new to another worker.
pub(super) fn note_names(store: Arc<SegmentStore>) -> anyhow::Result<Arc<Told>> {
    let (names, waiting) = std::sync::mpsc::sync_channel::<(IpAddr, Arc<Known>)>(NAMES_WAITING);
    std::thread::Builder::new()
        .name(String::from("names"))
        .spawn(move || {
            for (ip, known) in waiting {
                if let Some(name) = known.name() {
                    store.name(ip, &format!("{name}.{}", known.namespace));
                }
            }
        })
        .context("starting the thread that notes names")?;
    Ok(Arc::new(move |ip, known| {
        // Err: full, or over.
        let _ = names.try_send((ip, Arc::clone(known)));
    }))
}

/// The store, and an appender for each worker.
pub(super) type Opened = (Option<Arc<SegmentStore>>, Vec<Box<dyn PcapAppender>>);

/// Bytes of extracted files that even a small store may have.
const LEAST_EXTRACTED: u64 = 16 << 20;

/// Opens the store in a folder, with an appender for each worker.
pub(super) fn open_store(
    dir: &Path,
    limits: PcapLimits,
    workers: u16,
    source: Source,
) -> anyhow::Result<Opened> {
    let mut config = StoreConfig::new(dir);
    config.mode = if limits.mode == PcapMode::Matched { Mode::Matched } else { Mode::All };
    config.max_bytes = limits.max_bytes;
    // Files that scripts ask for are beside the packets: a small store has a small share for them.
    config.extracted_bytes = config.extracted_bytes.min((limits.max_bytes / 4).max(LEAST_EXTRACTED));
    config.max_age = limits.max_age;
    config.reserve_bytes = limits.reserve;
    config.overflow = if source == Source::Pcap { Overflow::Wait } else { Overflow::Refuse };
    config.interfaces = Some(Arc::new(move |origin| interface(source, origin)));
    let (store, appenders) = SegmentStore::open(config, workers.into())
        .with_context(|| format!("opening the PCAP store in {}", dir.display()))?;
    Ok((Some(store), appenders))
}

/// What is known of an interface that packets come from. Its name only where it was opened in our own network namespace:
/// the number that a socket's packet bears is of the socket's, where it may well be another one's.
fn interface(source: Source, origin: &Origin) -> InterfaceInfo {
    let number = origin.interface;
    let name = || nix::net::if_::if_indextoname(number).ok()?.into_string().ok();
    let (name, description) = match source {
        Source::Pcap => (None, format!("interface {number} of a capture file")),
        Source::AfPacket => (name(), format!("AF_PACKET on interface {number}")),
        Source::Ebpf if origin.at_socket => {
            (None, format!("eBPF at sockets of a cgroup, interface {number} of their network namespace"))
        }
        Source::Ebpf => (name(), format!("eBPF on interface {number}")),
    };
    InterfaceInfo { name, description: Some(description) }
}
