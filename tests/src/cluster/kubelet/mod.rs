//! A kubelet and container runtime small enough for tests: runs a pod's one container as its template says, by crun.
//!
//! What decides what the process may do is all from the template: user, capabilities, seccomp profile, namespaces, mounts,
//! variables, arguments. Not enforced: limits of memory and CPU. What is not understood is refused ([`spec`]).

mod env;
mod fields;
mod oci;
mod probe;
mod run;
pub mod seccomp;
pub mod spec;
mod volumes;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use run::{Container, Wish, start};
pub use seccomp::Profile;

/// Who a pod is.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its node's name.
    pub node: String,
    /// Its node's address.
    pub host_ip: IpAddr,
    /// Its own.
    pub ip: IpAddr,
}

/// An image, unpacked.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its root.
    pub root: PathBuf,
    /// What is run where a pod does not say.
    pub entrypoint: Vec<String>,
    /// As whom, where a pod does not say.
    pub user: (u32, u32),
}

/// What a pod needs to speak to the API server.
#[derive(Clone, Debug)]
pub struct Account {
    /// The service account's token.
    pub token: String,
    /// The server's authority, PEM.
    pub ca: String,
}

/// Folders.
pub(crate) struct Places<'a> {
    /// The pod's own.
    pub(crate) pod: &'a Path,
    /// What is the root of the node's file system to it.
    pub(crate) node: &'a Path,
    pub(crate) account: Option<&'a Account>,
}
