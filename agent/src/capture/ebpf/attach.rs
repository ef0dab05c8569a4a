//! Where the programs hang.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use aya::Ebpf;
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, LinkOrder, Program, ProgramError, SchedClassifier,
    TcAttachType,
};

use super::LiveConfig;
use super::cgroup::Cgroup;
use super::error::LiveError;
use super::interface::{Framing, Interface};
use super::target::Target;

/// How to attach to interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TcHook {
    /// tcx where the kernel has it (Linux 6.6), else clsact.
    #[default]
    Auto,
    /// tcx links: first in line, gone with the process.
    Tcx,
    /// A filter on the clsact qdisc, which is made if it is not there and left when done (others may use it).
    Clsact,
}

/// What to attach to, looked up and opened.
pub(super) struct Plan {
    pub(super) interfaces: Vec<Interface>,
    cgroups: Vec<Cgroup>,
}

impl Plan {
    pub(super) fn new(config: &LiveConfig) -> Result<Self, LiveError> {
        if config.interfaces.is_empty() && config.cgroups.is_empty() {
            return Err(LiveError::NoTarget);
        }
        let mut seen = HashSet::new();
        let names = config.interfaces.iter().filter(|name| seen.insert(name.as_str()));
        let interfaces = names.map(|name| Interface::find(name)).collect::<Result<_, _>>()?;
        Ok(Self { interfaces, cgroups: Cgroup::find_all(&config.cgroups)? })
    }
}

/// Loads every program, attaching none: whether the verifier takes them.
pub(super) fn load_all(ebpf: &mut Ebpf) -> Result<(), LiveError> {
    for (name, program) in ebpf.programs_mut() {
        let result = match program {
            Program::SchedClassifier(classifier) => classifier.load(),
            Program::CgroupSkb(program) => program.load(),
            _ => Ok(()),
        };
        result.map_err(|e| LiveError::kernel(format!("loading {name}"), &e))?;
    }
    Ok(())
}

/// The programs with their links. Dropping it detaches them.
pub(super) struct Attached {
    ebpf: Option<Ebpf>,
    names: Vec<String>,
    targets: Vec<Target>,
    /// The network namespace of clsact filters, which can only be taken away from within.
    namespace: Option<File>,
}

impl Attached {
    pub(super) fn new(ebpf: Ebpf, plan: Plan, hook: TcHook) -> Result<Self, LiveError> {
        let mut attached = Self { ebpf: Some(ebpf), names: Vec::new(), targets: Vec::new(), namespace: None };
        for interface in plan.interfaces {
            attached.attach_interface(&interface, hook)?;
        }
        for cgroup in plan.cgroups {
            attached.attach_cgroup(&cgroup)?;
        }
        Ok(attached)
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn targets(&mut self) -> &mut [Target] {
        &mut self.targets
    }

    fn attach_interface(&mut self, interface: &Interface, hook: TcHook) -> Result<(), LiveError> {
        use TcAttachType::{Egress, Ingress};
        let (ways, kind): (&[_], _) = match interface.framing {
            Framing::Ethernet => (&[("ether_ingress", Ingress), ("ether_egress", Egress)], "Ethernet"),
            Framing::Loopback => (&[("ether_ingress", Ingress)], "loopback"),
            Framing::Raw => (&[("raw_ingress", Ingress), ("raw_egress", Egress)], "raw IP"),
        };
        let mut used = hook;
        for &(program, way) in ways {
            used = self.attach_classifier(program, &interface.name, way, used)?;
        }
        let used = if used == TcHook::Clsact { "clsact" } else { "tcx" };
        self.names.push(format!("{} ({used}, {kind})", interface.name));
        self.targets.push(Target::interface(&interface.name, interface.index));
        Ok(())
    }

    /// Attaches one way, and says by which hook.
    fn attach_classifier(
        &mut self,
        program: &str,
        interface: &str,
        way: TcAttachType,
        hook: TcHook,
    ) -> Result<TcHook, LiveError> {
        let what = || format!("attaching {program} to interface {interface}");
        let classifier: &mut SchedClassifier = self.program(program)?;
        if classifier.fd().is_err() {
            classifier.load().map_err(|e| LiveError::kernel(format!("loading {program}"), &e))?;
        }
        if hook != TcHook::Clsact {
            // First in line: what another program drops or redirects was still on the wire.
            let options = TcAttachOptions::TcxOrder(LinkOrder::first());
            match classifier.attach_with_options(interface, way, options) {
                Ok(_) => return Ok(TcHook::Tcx),
                Err(error) if hook == TcHook::Tcx || !is_unknown(&error) => {
                    return Err(LiveError::kernel(what(), &error));
                }
                Err(error) => tracing::info!(interface, %error, "no tcx here, taking clsact"),
            }
        }
        attach_clsact(classifier, interface, way).map_err(|e| LiveError::kernel(what(), &e))?;
        if self.namespace.is_none() {
            self.namespace = File::open("/proc/thread-self/ns/net").ok();
        }
        Ok(TcHook::Clsact)
    }

    fn attach_cgroup(&mut self, cgroup: &Cgroup) -> Result<(), LiveError> {
        let ways = [
            ("cgroup_ingress", CgroupSkbAttachType::Ingress),
            ("cgroup_egress", CgroupSkbAttachType::Egress),
        ];
        for (name, way) in ways {
            let program: &mut CgroupSkb = self.program(name)?;
            if program.fd().is_err() {
                program.load().map_err(|e| LiveError::kernel(format!("loading {name}"), &e))?;
            }
            // Links are one of many by nature; AllowMultiple gives EINVAL.
            program.attach(cgroup.folder.as_fd(), way, CgroupAttachMode::Single).map_err(|e| {
                LiveError::kernel(format!("attaching {name} to cgroup {}", cgroup.path.display()), &e)
            })?;
        }
        self.names.push(format!("cgroup {}", cgroup.path.display()));
        if let Ok(metadata) = cgroup.folder.metadata() {
            self.targets.push(Target::cgroup(cgroup.path.clone(), metadata.ino()));
        }
        Ok(())
    }

    fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, LiveError>
    where
        &'a mut P: TryFrom<&'a mut Program>,
    {
        let program = self.ebpf.as_mut().and_then(|ebpf| ebpf.program_mut(name));
        program.and_then(|p| p.try_into().ok()).ok_or_else(|| LiveError::Kernel {
            what: format!("program {name}"),
            cause: String::from("not in the embedded object"),
        })
    }
}

fn attach_clsact(
    classifier: &mut SchedClassifier,
    interface: &str,
    way: TcAttachType,
) -> Result<(), ProgramError> {
    // It is mostly there already; if it cannot be made, attaching says why.
    if let Err(error) = qdisc_add_clsact(interface) {
        tracing::debug!(interface, %error, "adding the clsact qdisc");
    }
    classifier.attach_with_options(interface, way, TcAttachOptions::Netlink(NlOptions::default()))?;
    Ok(())
}

/// Whether the kernel does not know the kind of link: before Linux 6.6.
fn is_unknown(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(e) if e.io_error.raw_os_error() == Some(libc::EINVAL))
}

impl Drop for Attached {
    fn drop(&mut self) {
        let Some(ebpf) = self.ebpf.take() else {
            return;
        };
        match self.namespace.take() {
            None => drop(ebpf),
            Some(namespace) => {
                // A thread of its own, so that the caller's namespace stays as it is.
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        if let Err(error) =
                            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                        {
                            tracing::debug!(%error, "staying in this network namespace to detach");
                        }
                        drop(ebpf);
                    });
                });
            }
        }
    }
}
