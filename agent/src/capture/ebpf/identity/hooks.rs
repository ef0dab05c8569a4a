//! The hooks by which processes become known, each of them optional, and the cgroups that they hang at.
//!
//! Which hooks there are is settled at start. A cgroup that comes later gets all of them or none: where some are
//! missing, a connection could be remembered that nobody sees end.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use agent_common::identity::{ENDS_ARE_SEEN, MAX_LEVELS, NO_SOCK_OPS, STATE_FIELDS, Settings};
use aya::maps::{Array, HashMap, MapData};
use aya::programs::cgroup_sock::CgroupSockLink;
use aya::programs::cgroup_sock_addr::CgroupSockAddrLink;
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::{CgroupAttachMode, Program, ProgramError};
use aya::{Ebpf, EbpfLoader};

use super::super::cgroup::{self, Cgroup};
use super::super::error::LiveError;

/// What tells of sockets and their processes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Hook {
    /// `cgroup/sock_create`: who made a socket.
    Create,
    /// `cgroup/post_bind4`, `6`: who bound it.
    Bind,
    /// `cgroup/connect4`, `6`: who asked for a connection.
    Connect,
    /// `cgroup/getpeername4`, `6`: who accepted one.
    Accept,
    /// `sock_ops`: connections that are established, and that end.
    Connections,
    /// `cgroup/sock_release`: connections that end.
    Release,
    /// The tracepoint `sock:inet_sock_set_state`, in place of `sock_ops`.
    States,
}

impl Hook {
    /// All of them, in the order in which they are attached: what sees connections end is there before what remembers
    /// them is switched on.
    pub const ALL: [Self; 7] = [
        Self::Create,
        Self::Bind,
        Self::Connect,
        Self::Release,
        Self::Connections,
        Self::States,
        Self::Accept,
    ];

    /// The kernel's name for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "sock_create",
            Self::Bind => "post_bind",
            Self::Connect => "connect",
            Self::Accept => "getpeername",
            Self::Connections => "sock_ops",
            Self::Release => "sock_release",
            Self::States => "inet_sock_set_state",
        }
    }

    const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Create => &["sock_create"],
            Self::Bind => &["post_bind4", "post_bind6"],
            Self::Connect => &["connect4", "connect6"],
            Self::Accept => &["getpeername4", "getpeername6"],
            Self::Connections => &["sock_ops"],
            Self::Release => &["sock_release"],
            Self::States => &["inet_sock_set_state"],
        }
    }
}

/// A program's link to a cgroup, held to be dropped.
#[expect(dead_code, reason = "a link is there for as long as it is held")]
enum Link {
    Socket(CgroupSockLink),
    Address(CgroupSockAddrLink),
    Operations(SockOpsLink),
}

/// A cgroup and what hangs at it.
struct OnCgroup {
    id: u64,
    links: Vec<(Hook, Link)>,
}

/// The programs, loaded and attached as far as the kernel let them.
pub(super) struct Attached {
    ebpf: Ebpf,
    pub(super) hooks: Vec<Hook>,
    /// What is not there, and why.
    pub(super) left_out: Vec<(Hook, String)>,
    /// The kernel does not tell processes' names.
    pub(super) unnamed: bool,
    cgroups: BTreeMap<PathBuf, OnCgroup>,
}

/// Makes the maps.
pub(super) fn load(connections: u32) -> Result<Ebpf, LiveError> {
    let size = connections.max(1);
    EbpfLoader::new()
        .btf(None)
        .map_max_entries("CONNECTIONS", size)
        .map_max_entries("PEERS", size)
        .load(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/remora-identity")))
        .map_err(|e| LiveError::kernel("loading the maps of the identity programs", &e))
}

impl Attached {
    /// Attaches to `cgroups` every hook but those in `without`.
    pub(super) fn new(ebpf: Ebpf, cgroups: &[Cgroup], without: &[Hook]) -> Result<Self, LiveError> {
        let mut attached = Self {
            ebpf,
            hooks: Vec::new(),
            left_out: Vec::new(),
            unnamed: false,
            cgroups: cgroups
                .iter()
                .map(|cgroup| (cgroup.path.clone(), OnCgroup { id: cgroup.id, links: Vec::new() }))
                .collect(),
        };
        for hook in Hook::ALL {
            // It costs the whole machine a little, and tells nothing that sock_ops does not.
            if hook == Hook::States && attached.has(Hook::Connections) {
                continue;
            }
            if without.contains(&hook) {
                attached.left_out.push((hook, String::from("switched off")));
                continue;
            }
            match attached.attach(hook, cgroups) {
                Ok(()) => attached.hooks.push(hook),
                Err(error) => {
                    attached.detach(hook);
                    attached.left_out.push((hook, error.to_string()));
                }
            }
        }
        attached.set()?;
        Ok(attached)
    }

    pub(super) fn has(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook)
    }

    /// Paths of the cgroups attached to, and their ids.
    pub(super) fn cgroups(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.cgroups.iter().map(|(path, on)| (path.as_path(), on.id))
    }

    /// Attaches to one more cgroup: every hook that there is, or none.
    pub(super) fn attach_cgroup(&mut self, cgroup: &Cgroup) -> Result<(), LiveError> {
        if self.has(Hook::States) {
            self.watch(cgroup.id)?;
        }
        self.cgroups.insert(cgroup.path.clone(), OnCgroup { id: cgroup.id, links: Vec::new() });
        let all = self.set().and_then(|()| {
            let cgroups = std::slice::from_ref(cgroup);
            // In their order: see `Hook::ALL`.
            self.hooks.clone().into_iter().try_for_each(|hook| self.link(hook, cgroups))
        });
        if all.is_err() {
            self.detach_cgroup(&cgroup.path);
        }
        all
    }

    /// Detaches from a cgroup; its id, if it was attached to.
    pub(super) fn detach_cgroup(&mut self, path: &Path) -> Option<u64> {
        let OnCgroup { id, links } = self.cgroups.remove(path)?;
        drop(links);
        if self.has(Hook::States) {
            let forgotten = self
                .watched()
                .and_then(|mut watched| watched.remove(&id).map_err(|e| LiveError::map("WATCHED", &e)));
            if let Err(error) = forgotten.and_then(|()| self.set()) {
                tracing::debug!(%error, "a cgroup that is gone stays on the tracepoint's list");
            }
        }
        Some(id)
    }

    /// Tells the programs what they are to do.
    fn set(&mut self) -> Result<(), LiveError> {
        let seen = [Hook::Connections, Hook::Release, Hook::States].iter().any(|hook| self.has(*hook));
        let sock_ops = self.has(Hook::Connections);
        let settings = Settings {
            flags: if seen { ENDS_ARE_SEEN } else { 0 } | if sock_ops { 0 } else { NO_SOCK_OPS },
            levels: if self.has(Hook::States) { levels(self.cgroups.keys()) } else { 0 },
        };
        let mut map: Array<_, Settings> = self
            .ebpf
            .map_mut("IDENTITY")
            .and_then(|map| map.try_into().ok())
            .ok_or_else(|| absent("IDENTITY"))?;
        map.set(0, settings, 0).map_err(|e| LiveError::map("IDENTITY", &e))
    }

    fn attach(&mut self, hook: Hook, cgroups: &[Cgroup]) -> Result<(), LiveError> {
        if hook == Hook::States {
            cgroups.iter().try_for_each(|cgroup| self.watch(cgroup.id))?;
            check_record()?;
        }
        for name in hook.programs() {
            let (program, named) = load_either(&mut self.ebpf, name)?;
            self.unnamed |= !named;
            if let Program::TracePoint(tracepoint) = program {
                tracepoint
                    .attach("sock", name)
                    .map_err(|e| LiveError::kernel(format!("attaching to sock:{name}"), &e))?;
            }
        }
        self.link(hook, cgroups)
    }

    /// Links a hook's loaded programs to cgroups; nothing for the tracepoint, which has none.
    fn link(&mut self, hook: Hook, cgroups: &[Cgroup]) -> Result<(), LiveError> {
        if hook == Hook::States {
            return Ok(());
        }
        for name in hook.programs() {
            let program = loaded(&mut self.ebpf, name)?;
            for cgroup in cgroups {
                let link = attach_to(program, cgroup).map_err(|e| {
                    LiveError::kernel(format!("attaching {name} to cgroup {}", cgroup.path.display()), &e)
                })?;
                if let Some(on) = self.cgroups.get_mut(&cgroup.path) {
                    on.links.push((hook, link));
                }
            }
        }
        Ok(())
    }

    /// Takes back what was attached of a hook that is not whole.
    fn detach(&mut self, hook: Hook) {
        for on in self.cgroups.values_mut() {
            on.links.retain(|(of, _)| *of != hook);
        }
        let names = hook.programs().iter().flat_map(|name| [(*name).to_owned(), unnamed(name)]);
        for name in names {
            let unloaded = match self.ebpf.program_mut(&name) {
                Some(Program::CgroupSock(program)) => program.unload(),
                Some(Program::CgroupSockAddr(program)) => program.unload(),
                Some(Program::SockOps(program)) => program.unload(),
                Some(Program::TracePoint(program)) => program.unload(),
                _ => Ok(()),
            };
            if let Err(error) = unloaded {
                tracing::debug!(%error, "{name} was not loaded");
            }
        }
    }

    /// Tells the tracepoint of a watched cgroup.
    fn watch(&mut self, id: u64) -> Result<(), LiveError> {
        self.watched()?.insert(id, 1, 0).map_err(|e| LiveError::map("WATCHED", &e))
    }

    fn watched(&mut self) -> Result<HashMap<&mut MapData, u64, u32>, LiveError> {
        self.ebpf.map_mut("WATCHED").and_then(|map| map.try_into().ok()).ok_or_else(|| absent("WATCHED"))
    }
}

/// What the kernel takes of the programs.
pub(super) struct Trial {
    /// What it refuses, and why.
    pub(super) refused: Vec<(Hook, LiveError)>,
    /// It does not tell processes' names.
    pub(super) unnamed: bool,
}

/// Loads each program, attaching none.
pub(super) fn try_all() -> Result<Trial, LiveError> {
    let mut ebpf = load(64)?;
    let mut trial = Trial { refused: Vec::new(), unnamed: false };
    for hook in Hook::ALL {
        for name in hook.programs() {
            match load_either(&mut ebpf, name) {
                Ok((_, named)) => trial.unnamed |= !named,
                Err(error) => {
                    trial.refused.push((hook, error));
                    break;
                }
            }
        }
    }
    Ok(trial)
}

/// Loads a program, or the one that does the same without a process' name. Gives it, and whether it tells the name.
fn load_either<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<(&'a mut Program, bool), LiveError> {
    let fail = |e| LiveError::kernel(format!("loading {name}"), &e);
    let unnamed = unnamed(name);
    let first = load_program(ebpf.program_mut(name).ok_or_else(|| absent(name))?);
    let (name, named) = match first {
        Ok(()) => (name, true),
        Err(error) => {
            let other = ebpf.program_mut(&unnamed).ok_or_else(|| fail(error))?;
            load_program(other).map_err(fail)?;
            (unnamed.as_str(), false)
        }
    };
    Ok((ebpf.program_mut(name).ok_or_else(|| absent(name))?, named))
}

/// The program that [`load_either`] has loaded.
fn loaded<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, LiveError> {
    let named = ebpf.program(name).is_some_and(|program| program.fd().is_ok());
    let name = if named { name.to_owned() } else { unnamed(name) };
    ebpf.program_mut(&name).ok_or_else(|| absent(&name))
}

fn unnamed(name: &str) -> String {
    format!("{name}_unnamed")
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::TracePoint(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn attach_to(program: &mut Program, cgroup: &Cgroup) -> Result<Link, ProgramError> {
    // Links are one of many by nature; AllowMultiple gives EINVAL.
    let (folder, mode) = (cgroup.folder.as_fd(), CgroupAttachMode::Single);
    match program {
        Program::CgroupSock(program) => {
            let id = program.attach(folder, mode)?;
            program.take_link(id).map(Link::Socket)
        }
        Program::CgroupSockAddr(program) => {
            let id = program.attach(folder, mode)?;
            program.take_link(id).map(Link::Address)
        }
        Program::SockOps(program) => {
            let id = program.attach(folder, mode)?;
            program.take_link(id).map(Link::Operations)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The levels of the tree that have a watched cgroup, a bit each; the root is level 0.
fn levels<'a>(cgroups: impl Iterator<Item = &'a PathBuf>) -> u32 {
    let Some(mount) = cgroup::mount_point() else { return 0 };
    cgroups
        .filter_map(|path| path.strip_prefix(&mount).ok().map(|below| below.components().count()))
        .filter_map(|depth| u32::try_from(depth).ok().filter(|depth| *depth < MAX_LEVELS))
        .fold(0, |levels, depth| levels | 1 << depth)
}

/// Fails unless the tracepoint's record is as the program reads it.
fn check_record() -> Result<(), LiveError> {
    let what = "the tracepoint sock:inet_sock_set_state";
    let fail = |cause: String| LiveError::Kernel { what: what.to_owned(), cause };
    let format = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .find_map(|root| {
            std::fs::read_to_string(format!("{root}/events/sock/inet_sock_set_state/format")).ok()
        })
        .ok_or_else(|| fail(String::from("no tracefs here; mount -t tracefs tracefs /sys/kernel/tracing")))?;
    for (name, offset, size) in STATE_FIELDS {
        if !has_field(&format, name, offset, size) {
            return Err(fail(format!("its field {name} is not where Linux 5.6 and later have it")));
        }
    }
    Ok(())
}

/// `\tfield:__u16 sport;\toffset:24;\tsize:2;\tsigned:0;`
fn has_field(format: &str, name: &str, offset: usize, size: usize) -> bool {
    format.lines().any(|line| {
        let mut parts = line.trim().split(';').map(str::trim);
        let declared = parts.next().and_then(|field| field.strip_prefix("field:"));
        let declared = declared.and_then(|field| field.rsplit([' ', '*']).next());
        declared.map(|field| field.split('[').next().unwrap_or(field)) == Some(name)
            && parts.next() == Some(&format!("offset:{offset}"))
            && parts.next() == Some(&format!("size:{size}"))
    })
}

fn absent(name: &str) -> LiveError {
    LiveError::Kernel { what: name.to_owned(), cause: String::from("not in the embedded object") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: inet_sock_set_state\nID: 1500\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:int oldstate;\toffset:16;\tsize:4;\tsigned:1;\n\
        \tfield:__u16 sport;\toffset:24;\tsize:2;\tsigned:0;\n\
        \tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;\n";

    #[test]
    fn fields_of_a_record_are_found_where_they_are() {
        assert!(has_field(FORMAT, "skaddr", 8, 8));
        assert!(has_field(FORMAT, "sport", 24, 2));
        assert!(has_field(FORMAT, "saddr_v6", 40, 16));
        assert!(!has_field(FORMAT, "sport", 26, 2));
        assert!(!has_field(FORMAT, "saddr_v6", 40, 8));
        assert!(!has_field(FORMAT, "protocol", 30, 2));
    }
}
