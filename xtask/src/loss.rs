//! `cargo xtask loss`: packets removed at random from a big capture, and what `remora replay` makes of the rest held to account.
//!
//! The work is that of the test crate's program `loss`, whose options these are; both programs are built optimised.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use crate::setup::{self, Setup};
use crate::suite::steps;
use crate::sys::{Said, project, run};

/// Which captures, how much loss, how often.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct Loss {
    /// Options of the program; `--help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

/// The command.
pub(crate) fn run(options: &Loss) -> Result<()> {
    let ready = setup::prepare(&Setup::default())?;
    steps::build_release(&ready)?;
    let mut loss = run::command(project::optimised("loss"));
    loss.arg("--remora").arg(project::optimised("remora")).args(&options.options);
    let status = loss.status()?;
    // It has said why.
    if status.success() { Ok(()) } else { Err(Said(1).into()) }
}
