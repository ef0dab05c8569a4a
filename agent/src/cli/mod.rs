//! The command line: parses, runs, and turns what happened into an exit code.

mod af_packet;
mod agent;
mod args;
#[cfg(feature = "ebpf")]
mod cores;
mod daemon;
mod doctor;
mod http;
mod kubernetes;
mod letter;
mod logging;
mod matching;
mod metrics;
mod outbox;
mod presence;
mod replay;
mod run;
mod say;
mod scripts;
mod serving;
mod settings;
mod signals;
mod stage;
mod stats;
mod stored;
mod streams;
mod tap;
pub(crate) mod units;
mod vitals;
mod watch;

use std::process::ExitCode;

use args::{Cli, Command};
pub(crate) use args::{DirectionArg, Mode, PcapMode, TcHookArg};
use clap::Parser as _;
use settings::UsageError;
pub(crate) use settings::{base_url, is_variable_name};

/// Something is forbidden to this process: exit code 3. The message says which capability or setting is missing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotPermitted(String);

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    small_pages();
    let cli = Cli::parse();
    // Held to the end: what waits is written then.
    let _log = logging::start(is_live(&cli.command));
    let result = match cli.command {
        Command::Replay(args) => replay::run(&args),
        Command::Tap(args) => tap::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Streams { command } => streams::run(&command),
        Command::Export(args) => streams::export(&args),
        Command::Scripts { command } => scripts::run(&command),
        Command::Outbox { command } => outbox::run(&command),
        Command::Doctor(args) => Ok(doctor::run(&args)),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say::err(format_args!("remora: {}", told(&error)));
            exit_code(&error)
        }
    }
}

/// Has the kernel give this process memory by the page, not two mebibytes at a time: a huge page is cleared as a whole for the little
/// that is used of it, counts as resident, and in a virtual machine is the host's to find. Where the kernel refuses, it is as it was.
fn small_pages() {
    let _ = nix::sys::prctl::set_thp_disable(true);
}

/// Whether it captures, so that it must not wait for whoever reads its log.
fn is_live(command: &Command) -> bool {
    match command {
        Command::Tap(_) => true,
        Command::Agent(args) => !args.check,
        _ => false,
    }
}

/// The error and its causes in a line, without those that the text before them tells already.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut text, cause| {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
        text
    })
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<UsageError>() {
        ExitCode::from(2)
    } else if error.is::<NotPermitted>() {
        ExitCode::from(3)
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_captures_does_not_wait_for_the_readers_of_its_log() {
        let live = |words: &str| is_live(&Cli::try_parse_from(words.split(' ')).unwrap().command);
        assert!(live("remora tap --interface lo") && live("remora agent"));
        for other in ["replay a.pcap", "agent --check", "doctor"] {
            assert!(!live(&format!("remora {other}")), "{other}");
        }
    }
}
