//! Asking the agent by HTTP from inside its network namespace, by curl: another's client.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::netns::NetNs;

use super::live::PATIENCE;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

fn command(inside: &NetNs, url: &str, args: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", inside.path().display()));
    command.args(["curl", "--silent", "--show-error", "--globoff", "--noproxy", "*"]).args(args).arg(url);
    command
}

/// One request, with more of curl's arguments.
#[track_caller]
pub(crate) fn ask(inside: &NetNs, url: &str, args: &[&str]) -> Answer {
    let all = [&["--max-time", "60", "--write-out", "\n%{http_code}"], args].concat();
    let output = command(inside, url, &all).output().expect("curl runs");
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    let end = output.stdout.iter().rposition(|&byte| byte == b'\n').unwrap();
    let status = std::str::from_utf8(&output.stdout[end + 1..]).unwrap().parse().unwrap();
    Answer { status, body: output.stdout[..end].to_vec() }
}

/// Asks until the answer is as it should be.
#[track_caller]
pub(crate) fn ask_until(inside: &NetNs, url: &str, good: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(inside, url, &[]);
        if good(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{url}: {} {}", answer.status, answer.text());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A curl that reads on and on; it ends with its guard.
pub(crate) struct Reading {
    child: Child,
    file: tempfile::NamedTempFile,
}

impl Reading {
    pub(crate) fn start(inside: &NetNs, url: &str, args: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let all = [&["--no-buffer", "--fail"], args].concat();
        let child = command(inside, url, &all).stdout(file.reopen().unwrap()).stderr(Stdio::null()).spawn();
        Self { child: child.expect("curl runs"), file }
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.file.path()).unwrap()
    }

    /// Waits until it has read that.
    #[track_caller]
    pub(crate) fn wait_for(&self, good: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if good(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for its end; whether it ended well.
    pub(crate) fn ended(mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
