//! `remora scripts …`: what can be said of a script without traffic, and what it does on a capture without sending.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Given;
use super::replay;
use super::run::Run;
use super::say;
use super::settings::Settings;
use super::stage::{Stage, Telling};
use crate::hooks::{self, Finding, Outline, ScriptFailure, Severity};

/// `remora scripts …`.
#[derive(Debug, Subcommand)]
pub(super) enum ScriptsCommand {
    /// Compile scripts, look for mistakes, say which hooks and helpers each uses and which variables it takes.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Run scripts on a capture file as `remora replay` does, and print their calls, console lines and what they would
    /// send, where to. Nothing is sent.
    #[command(after_help = TEST_EXAMPLES)]
    Test(Test),
    /// Print the types of all that scripts can see, for editors: save them as remora.d.ts beside a script.
    Types,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  remora scripts check alert.js
  remora scripts check --strict --json scripts/*.js | jq -r .findings[].message
Exit codes: 0 fine, maybe with warnings; 1 errors, or warnings with --strict; 2 bad usage.";

const TEST_EXAMPLES: &str = "\
Examples:
  remora scripts test alert.js --pcap shop.pcap --env-file slack.env
  remora scripts test alert.js --pcap shop.pcap --filter 'status_code >= 500' --brief
  remora scripts test enrich.js --pcap shop.pcap --webhook-answer '{\"team\":\"shop\"}'
  remora scripts test alert.js --pcap shop.pcap --json | jq 'select(.failure)'
Jobs run once, after the capture. Exit codes: 0 fine; 1 a call threw or ran into a limit, or a script did not start; 2 bad usage.";

/// `remora scripts check`.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Scripts.
    #[arg(required = true, value_name = "F.js")]
    files: Vec<PathBuf>,
    /// Take warnings for errors.
    #[arg(long)]
    strict: bool,
    /// Print one JSON object for each script.
    #[arg(long)]
    json: bool,
}

/// `remora scripts test`.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// Scripts, or folders whose *.js are.
    #[arg(required = true, value_name = "F.js|DIR")]
    pub(super) files: Vec<PathBuf>,
    /// Capture file to run them on (repeatable: one capture in parts).
    #[arg(long, required = true, value_name = "F.pcap")]
    pub(super) pcap: Vec<PathBuf>,
    /// What scripts are given.
    #[command(flatten)]
    pub(super) given: Given,
    /// What vendor.webhook and vendor.webhookForm return; without it they throw.
    #[arg(long, value_name = "TEXT")]
    webhook_answer: Option<String>,
    /// Show values of sensitive headers and cookies in items instead of `[REDACTED]`.
    #[arg(long)]
    pub(super) no_redact: bool,
    /// Compute SHA-256 of bodies.
    #[arg(long)]
    pub(super) hash: bool,
    /// Print only calls that led to something.
    #[arg(long)]
    brief: bool,
    /// Print one JSON object for each call.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &ScriptsCommand) -> anyhow::Result<ExitCode> {
    match command {
        ScriptsCommand::Check(args) => Ok(check(args)),
        ScriptsCommand::Test(args) => test(args),
        ScriptsCommand::Types => {
            say::out(format_args!("{}", hooks::DECLARATIONS.trim_end()));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Checks scripts, and those in folders, as `remora scripts check` does.
pub(super) fn check_all(paths: &[PathBuf]) -> ExitCode {
    let files = paths.iter().flat_map(|path| hooks::scripts_at(path)).collect();
    check(&Check { files, strict: false, json: false })
}

/// A line for each script and for each thing that was found.
fn check(args: &Check) -> ExitCode {
    let bad = |finding: &Finding| args.strict || finding.severity == Severity::Error;
    let mut failed = false;
    for file in &args.files {
        let checked = hooks::check(file);
        failed |= checked.as_ref().map_or(true, |outline| outline.findings.iter().any(bad));
        if args.json {
            say::out(format_args!("{}", as_json(file, &checked)));
            continue;
        }
        match &checked {
            Ok(outline) => {
                let wrong = outline.findings.iter().filter(|finding| bad(finding)).count();
                let verdict = if wrong == 0 { "ok".to_owned() } else { format!("{wrong} wrong") };
                say::out(format_args!("{}: {verdict}: {outline}", file.display()));
                outline.findings.iter().for_each(|finding| say::out(format_args!("{finding}")));
            }
            Err(failure) => say::out(format_args!("{failure}")),
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn as_json(file: &Path, checked: &Result<Outline, ScriptFailure>) -> serde_json::Value {
    let place = |path: &Path, line: Option<u32>, column: Option<u32>, severity: Severity, message: &str| {
        json!({ "path": path.display().to_string(), "line": line, "column": column, "severity": severity.as_str(),
                "message": message })
    };
    let script = file.display().to_string();
    match checked {
        Ok(outline) => json!({
            "script": script, "compiles": true, "title": outline.title, "hooks": outline.hooks,
            "registered": outline.registered, "helpers": outline.helpers, "variables": outline.variables,
            "findings": outline.findings.iter().map(|of| {
                place(&of.path, Some(of.line), Some(of.column), of.severity, &of.message)
            }).collect::<Vec<_>>(),
        }),
        Err(failure) => json!({
            "script": script, "compiles": false,
            "findings": [place(&failure.path, failure.line, failure.column, Severity::Error, &failure.message)],
        }),
    }
}

fn test(args: &Test) -> anyhow::Result<ExitCode> {
    let settings = Settings::of_test(args)?;
    let telling = Telling { json: args.json, brief: args.brief };
    let stage = Arc::new(Stage::new(telling, args.webhook_answer.clone()));
    let source = replay::open(&args.pcap)?;
    let mut run = Run::rehearse(&settings, &stage)?;
    let report = run.worker(Box::new(source)).run();
    let published = run.run_jobs();
    let ended = run.finish(vec![report], None)?;
    let counts = stage.finish();
    let said = json!({
        "calls": counts.calls, "failures": counts.failures, "console": counts.console,
        "metrics": published.lines().collect::<Vec<_>>(), "deliveries": counts.deliveries, "folded": counts.folded, "webhooks": counts.webhooks,
    });
    if args.json {
        say::out(format_args!("{}", json!({ "summary": said })));
    } else {
        published.lines().for_each(|line| say::out(format_args!("metric: {line}")));
        say::out(format_args!(
            "{} calls, {} failed; {} console lines; {} deliveries ({} of them folded) and {} webhooks, none sent",
            counts.calls, counts.failures, counts.console, counts.deliveries, counts.folded, counts.webhooks
        ));
    }
    Ok(if counts.failures > 0 { ExitCode::FAILURE } else { ended })
}
