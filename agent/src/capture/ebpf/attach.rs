//! Where the programs hang, and how they get there.
//!
//! Invariants: what is attached is held here, by number of the interface or cgroup and not by name alone; a target's
//! links go with its entry, so the kernel's count of links is always that of the entries.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::cgroup_skb::CgroupSkbLink;
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, LinkOrder, Program, ProgramError, SchedClassifier,
    TcAttachType,
};
use aya::sys::SyscallError;

use super::Without;
use super::cgroup::Cgroup;
use super::clsact::Owner;
use super::error::LiveError;
use super::interface::{Framing, Interface};
use super::netlink::tc::Way;

/// How to attach to interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TcHook {
    /// tcx where the kernel has it (Linux 6.6), else clsact.
    #[default]
    Auto,
    /// tcx links: first in line, gone with the process.
    Tcx,
    /// Filters on the clsact qdisc, which is made if it is not there. They outlive a process that is killed; the next
    /// one removes them.
    Clsact,
}

/// The links of one interface.
struct OnInterface {
    name: String,
    kind: &'static str,
    tcx: Vec<SchedClassifierLink>,
    /// Filters on clsact.
    filters: usize,
}

/// The links of one cgroup, held to be dropped with it.
struct OnCgroup {
    id: u64,
    _links: Vec<CgroupSkbLink>,
}

/// The programs with their links. Dropping it detaches them; to be done in the network namespace of the interfaces.
pub(super) struct Attached {
    ebpf: Ebpf,
    /// [`TcHook::Auto`] until the kernel has shown what it knows.
    hook: TcHook,
    without: Without,
    /// Of filters on clsact, once there are any.
    owner: Option<Owner>,
    interfaces: BTreeMap<u32, OnInterface>,
    cgroups: BTreeMap<PathBuf, OnCgroup>,
}

impl Attached {
    /// With the programs loaded that [`ways`] names for what is there already. The maps that were taken out of it have
    /// to stay open as long as this: the instructions of a program that is loaded later name them by descriptor.
    pub(super) fn new(ebpf: Ebpf, hook: TcHook, without: Without) -> Self {
        Self { ebpf, hook, without, owner: None, interfaces: BTreeMap::new(), cgroups: BTreeMap::new() }
    }

    /// Targets attached to.
    pub(super) fn len(&self) -> usize {
        self.interfaces.len() + self.cgroups.len()
    }

    /// The hook for interfaces: what was asked for, or what the kernel has shown to know.
    pub(super) fn hook(&self) -> TcHook {
        self.hook
    }

    /// Number and name of the interfaces attached to.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = (u32, &str)> {
        self.interfaces.iter().map(|(index, on)| (*index, on.name.as_str()))
    }

    /// Paths of the cgroups attached to.
    pub(super) fn cgroups(&self) -> impl Iterator<Item = &Path> {
        self.cgroups.keys().map(PathBuf::as_path)
    }

    pub(super) fn has_interface(&self, index: u32) -> bool {
        self.interfaces.contains_key(&index)
    }

    pub(super) fn has_cgroup(&self, path: &Path, id: u64) -> bool {
        self.cgroups.get(path).is_some_and(|on| on.id == id)
    }

    /// The interface as told to a person: `veth0 (tcx, Ethernet)`.
    pub(super) fn words(&self, index: u32) -> Option<String> {
        let on = self.interfaces.get(&index)?;
        let hook = if on.filters > 0 { "clsact" } else { "tcx" };
        Some(format!("{} ({hook}, {})", on.name, on.kind))
    }

    /// Attaches to an interface, all ways or none.
    pub(super) fn attach_interface(&mut self, interface: &Interface) -> Result<(), LiveError> {
        let kind = match interface.framing {
            Framing::Ethernet => "Ethernet",
            Framing::Loopback => "loopback",
            Framing::Raw => "raw IP",
        };
        let mut on = OnInterface { name: interface.name.clone(), kind, tcx: Vec::new(), filters: 0 };
        let result = ways(interface.framing).iter().try_for_each(|&(program, way)| {
            self.load_late(program)?;
            let link = self.attach_classifier(program, interface, way)?;
            match link {
                Some(link) => on.tcx.push(link),
                None => on.filters += 1,
            }
            Ok(())
        });
        if let Err(error) = result {
            self.detach_filters(interface.index, on.filters);
            return Err(error);
        }
        self.interfaces.insert(interface.index, on);
        Ok(())
    }

    /// Loads a program for which there was no interface when capture began.
    fn load_late(&mut self, name: &str) -> Result<(), LiveError> {
        let classifier: &mut SchedClassifier = self.program(name)?;
        if classifier.fd().is_ok() {
            return Ok(());
        }
        classifier.load().map_err(|e| LiveError::kernel(format!("loading {name}"), &e))
    }

    /// Attaches one way: a tcx link, or none for a filter on clsact.
    fn attach_classifier(
        &mut self,
        program: &str,
        interface: &Interface,
        way: TcAttachType,
    ) -> Result<Option<SchedClassifierLink>, LiveError> {
        let name = interface.name.as_str();
        let what = || format!("attaching {program} to interface {name}");
        let (hook, without_tcx) = (self.hook, self.without.tcx);
        let classifier: &mut SchedClassifier = self.program(program)?;
        if hook != TcHook::Clsact {
            // First in line: what another program drops or redirects was still on the wire.
            let options = TcAttachOptions::TcxOrder(LinkOrder::first());
            let attached =
                if without_tcx { Err(unknown()) } else { classifier.attach_with_options(name, way, options) };
            match attached {
                Ok(id) => {
                    let link = classifier.take_link(id).map_err(|e| LiveError::kernel(what(), &e))?;
                    // The name is looked up once more in there; the number is what is meant.
                    if nix::net::if_::if_nametoindex(name) != Ok(interface.index) {
                        return Err(LiveError::Kernel {
                            what: what(),
                            cause: String::from("it has just gone"),
                        });
                    }
                    self.hook = TcHook::Tcx;
                    return Ok(Some(link));
                }
                Err(error) if hook == TcHook::Tcx || !is_unknown(&error) => {
                    return Err(LiveError::kernel(what(), &error));
                }
                Err(error) => {
                    tracing::info!(interface = name, %error, "no tcx in this kernel, taking clsact");
                }
            }
        }
        self.attach_filter(program, interface.index, way).map_err(|e| LiveError::kernel(what(), &e))?;
        self.hook = TcHook::Clsact;
        Ok(None)
    }

    fn attach_filter(&mut self, program: &str, interface: u32, way: TcAttachType) -> std::io::Result<()> {
        let owner = match &mut self.owner {
            Some(owner) => owner,
            none => none.insert(Owner::new()?),
        };
        let loaded = self.ebpf.program(program).and_then(|p| <&SchedClassifier>::try_from(p).ok());
        let fd = loaded.and_then(|classifier| classifier.fd().ok());
        let fd = fd.ok_or_else(|| std::io::Error::other("the program is not loaded"))?;
        let way = if matches!(way, TcAttachType::Ingress) { Way::In } else { Way::Out };
        owner.attach(interface, way, fd.as_fd(), program)
    }

    fn detach_filters(&mut self, interface: u32, filters: usize) {
        if filters == 0 {
            return;
        }
        if let Some(Err(error)) = self.owner.as_mut().map(|owner| owner.detach(interface)) {
            // Mostly gone with its interface.
            tracing::debug!(interface, %error, "removing filters from clsact");
        }
    }

    /// Detaches from an interface that is gone, or no longer meant; its name.
    pub(super) fn detach_interface(&mut self, index: u32) -> Option<String> {
        let on = self.interfaces.remove(&index)?;
        self.detach_filters(index, on.filters);
        Some(on.name)
    }

    /// Numbers of interfaces whose filters on clsact somebody else removed.
    pub(super) fn stripped(&mut self) -> Vec<u32> {
        let Some(owner) = &mut self.owner else {
            return Vec::new();
        };
        let clsact = self.interfaces.iter().filter(|(_, on)| on.filters > 0);
        clsact.filter(|(index, on)| !owner.holds(**index, on.filters)).map(|(index, _)| *index).collect()
    }

    /// Attaches to a cgroup, both ways or none.
    pub(super) fn attach_cgroup(&mut self, cgroup: &Cgroup) -> Result<(), LiveError> {
        let ways = [
            ("cgroup_ingress", CgroupSkbAttachType::Ingress),
            ("cgroup_egress", CgroupSkbAttachType::Egress),
        ];
        let mut links = Vec::new();
        for (name, way) in ways {
            let program: &mut CgroupSkb = self.program(name)?;
            // Links are one of many by nature; AllowMultiple gives EINVAL.
            let link = program
                .attach(cgroup.folder.as_fd(), way, CgroupAttachMode::Single)
                .and_then(|id| program.take_link(id));
            links.push(link.map_err(|e| {
                LiveError::kernel(format!("attaching {name} to cgroup {}", cgroup.path.display()), &e)
            })?);
        }
        self.cgroups.insert(cgroup.path.clone(), OnCgroup { id: cgroup.id, _links: links });
        Ok(())
    }

    /// Detaches from a cgroup; whether it was attached to.
    pub(super) fn detach_cgroup(&mut self, path: &Path) -> bool {
        self.cgroups.remove(path).is_some()
    }

    fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, LiveError>
    where
        &'a mut P: TryFrom<&'a mut Program>,
    {
        self.ebpf.program_mut(name).and_then(|p| p.try_into().ok()).ok_or_else(|| LiveError::Kernel {
            what: format!("program {name}"),
            cause: String::from("not in the embedded object"),
        })
    }
}

/// The programs for an interface, and the way each looks.
pub(super) fn ways(framing: Framing) -> &'static [(&'static str, TcAttachType)] {
    use TcAttachType::{Egress, Ingress};
    match framing {
        Framing::Ethernet => &[("ether_ingress", Ingress), ("ether_egress", Egress)],
        Framing::Loopback => &[("ether_ingress", Ingress)],
        Framing::Raw => &[("raw_ingress", Ingress), ("raw_egress", Egress)],
    }
}

/// What a kernel says that does not know tcx.
fn unknown() -> ProgramError {
    let io_error = std::io::Error::from_raw_os_error(libc::EINVAL);
    ProgramError::SyscallError(SyscallError { call: "bpf_link_create", io_error })
}

/// Whether the kernel does not know the kind of link: before Linux 6.6.
fn is_unknown(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(e) if e.io_error.raw_os_error() == Some(libc::EINVAL))
}

impl Drop for Attached {
    fn drop(&mut self) {
        for (index, on) in std::mem::take(&mut self.interfaces) {
            self.detach_filters(index, on.filters);
        }
    }
}
