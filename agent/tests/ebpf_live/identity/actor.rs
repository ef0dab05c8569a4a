//! A process in a cgroup and a namespace of the tests, which connects or listens as it is told: this very test binary.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt, socket,
    sockopt,
};
use testkit::netns::{Cgroup, NetNs};

const ROLE: &str = "REMORA_TEST_ROLE";
const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test: what an [`Actor`] does.
#[test]
#[expect(clippy::zombie_processes, reason = "a process that leaves a child behind is what is played")]
fn act() {
    let Ok(role) = std::env::var(ROLE) else { return };
    // Whoever plays for longer is left over from a test that was killed.
    nix::unistd::alarm::set(60);
    let words: Vec<&str> = role.split(' ').collect();
    let folder = PathBuf::from(words[1]);
    match (words[0], &words[2..]) {
        ("connect", [server, local]) => connects(&folder, server, local),
        ("connect-in-thread", [server, local]) => {
            let (folder, server, local) = (folder, (*server).to_owned(), (*local).to_owned());
            let thread = std::thread::Builder::new().name("helping-hand".to_owned());
            thread.spawn(move || connects(&folder, &server, &local)).unwrap().join().unwrap();
        }
        ("many", [server, count]) => {
            let count: usize = count.parse().unwrap();
            let server: SocketAddr = server.parse().unwrap();
            let all: Vec<_> = (0..count).map(|_| TcpStream::connect(server).unwrap()).collect();
            let ports: Vec<_> = all.iter().map(|s| s.local_addr().unwrap().to_string()).collect();
            ready(&folder, &ports.join(" "));
            wait_for(&folder.join("end"));
        }
        ("churn", [address, millis]) => {
            let made = churn(address.parse().unwrap(), Duration::from_millis(millis.parse().unwrap()));
            ready(&folder, &made.to_string());
        }
        ("listen", [address]) => {
            let listener = listening(address);
            ready(&folder, address);
            serve(listener.as_raw_fd());
        }
        // The listening socket goes to a child, and whoever made it goes.
        ("leave", [address]) => {
            let listener = listening(address);
            let inherited = listener.as_raw_fd();
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(ARGUMENTS).env(ROLE, format!("inherit {} {inherited}", folder.display()));
            // SAFETY: fcntl(2) is async-signal-safe and touches no memory of ours.
            unsafe {
                child.pre_exec(move || {
                    libc::fcntl(inherited, libc::F_SETFD, 0);
                    Ok(())
                });
            }
            child.stdout(Stdio::null()).stderr(Stdio::null());
            let child = child.spawn().unwrap();
            ready(&folder, &child.id().to_string());
        }
        ("inherit", [descriptor]) => serve(descriptor.parse().unwrap()),
        other => panic!("{other:?}"),
    }
}

/// Connects to itself and closes, over and over: how often within that time.
fn churn(address: SocketAddr, time: Duration) -> u64 {
    let listener = TcpListener::bind(address).unwrap();
    let until = Instant::now() + time;
    let mut made = 0;
    while Instant::now() < until {
        let client = TcpStream::connect(address).unwrap();
        let server = listener.accept().unwrap();
        // By RST, or the ports run out.
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&client, sockopt::Linger, &linger).unwrap();
        drop((client, server));
        made += 1;
    }
    made
}

fn any_socket(address: &SocketAddr) -> OwnedFd {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    socket
}

fn listening(address: &str) -> OwnedFd {
    let address: SocketAddr = address.parse().unwrap();
    let socket = any_socket(&address);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    listen(&socket, Backlog::new(64).unwrap()).unwrap();
    socket
}

/// Echoes, one connection after the other, without ever asking for a peer's address.
fn serve(listener: RawFd) {
    loop {
        // SAFETY: accept(2) may be told to give no address.
        let accepted = unsafe { libc::accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) };
        assert!(accepted >= 0);
        // SAFETY: it was just made, and is nobody else's.
        let mut stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(accepted) });
        std::thread::spawn(move || {
            let mut reader = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut reader, &mut stream);
        });
    }
}

fn connects(folder: &Path, server: &str, local: &str) {
    let (server, local): (SocketAddr, SocketAddr) = (server.parse().unwrap(), local.parse().unwrap());
    let socket = any_socket(&server);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(local)).unwrap();
    connect(socket.as_raw_fd(), &SockaddrStorage::from(server)).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"GET /r/1 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    ready(folder, &stream.local_addr().unwrap().to_string());
    wait_for(&folder.join("end"));
    // By RST: the port is free at once.
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &linger).unwrap();
}

fn ready(folder: &Path, said: &str) {
    std::fs::write(folder.join("writing"), said).unwrap();
    std::fs::rename(folder.join("writing"), folder.join("ready")).unwrap();
}

fn wait_for(file: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !file.exists() {
        assert!(Instant::now() < deadline, "{} does not come", file.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

const ARGUMENTS: [&str; 4] = ["--exact", "identity::actor::act", "--test-threads=1", "--quiet"];

/// A process that plays a role; killed when dropped.
pub(crate) struct Actor {
    child: Child,
    folder: tempfile::TempDir,
    /// What it said when it was ready.
    pub(crate) said: String,
}

impl Actor {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start(namespace: &NetNs, cgroup: &Cgroup, role: &str, arguments: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = std::env::current_exe().unwrap();
        let role = format!("{role} {} {arguments}", folder.path().display());
        let child = namespace.run(|| cgroup.spawn(&this, &ARGUMENTS, &[(ROLE, &role)])).unwrap();
        let mut actor = Self { child, folder, said: String::new() };
        wait_for(&actor.folder.path().join("ready"));
        actor.said = std::fs::read_to_string(actor.folder.path().join("ready")).unwrap();
        actor
    }

    /// A connection from `local` to `server`, on which a byte was heard.
    pub(crate) fn connect(namespace: &NetNs, cgroup: &Cgroup, server: SocketAddr, local: &str) -> Self {
        Self::start(namespace, cgroup, "connect", &format!("{server} {local}"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its own address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.said.parse().unwrap()
    }

    /// Has it close what it has, and waits until it is gone.
    pub(crate) fn end(&mut self) {
        std::fs::write(self.folder.path().join("end"), "").unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    /// Waits until it has gone by itself.
    pub(crate) fn gone(&mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
