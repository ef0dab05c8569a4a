//! What every task needs of the machine: the project's paths, processes, namespaces, signals, the terminal.

pub(crate) mod calm;
pub(crate) mod interrupt;
pub(crate) mod netns;
pub(crate) mod project;
pub(crate) mod run;
pub(crate) mod term;

/// What cannot be done for want of a permission; the process then exits with 3, as `remora` does.
#[derive(Debug)]
pub(crate) struct NotPermitted(pub(crate) String);

impl std::fmt::Display for NotPermitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotPermitted {}

/// A failure about which everything has been said; only its exit code is left.
#[derive(Debug)]
pub(crate) struct Said(pub(crate) u8);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for Said {}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
