//! `remora outbox`: the letters of a data folder, also while an agent works on it; and the options of deliveries.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{letter, say, units};
use crate::config;
use crate::outbox::{FoldPolicy, Letter, LetterState, Letters, OutboxConfig, Rate, RetryPolicy};
use crate::utc;

/// How alerts are sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Deliveries")]
pub(super) struct DeliveryArgs {
    /// Messages a second to one Slack channel or webhook.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = units::rate)]
    slack_rate: f64,
    /// Messages that may go to it at once after a quiet time [default: 3; with --slack-rate 1, which never exceeds it].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    slack_burst: Option<u32>,
    /// Alerts alike (script, destination, title) sent in a minute; the rest of that minute is folded into one that says how
    /// many. 0: all are sent. A script that gives a key decides for itself.
    #[arg(long, value_name = "N", default_value_t = 20)]
    flood_limit: u32,
    /// Alerts of one script in a minute; what is past it is folded. 0: any number.
    #[arg(long, value_name = "N", default_value_t = 12_000)]
    script_alerts: u32,
    /// Alerts of all scripts in a minute; what is past it is folded. 0: any number.
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    total_alerts: u32,
    /// Bytes of text and attachments that may wait; past three quarters of it attachments are left out, past all of it alerts
    /// refused.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = units::size)]
    outbox_max_bytes: u64,
    /// How long an alert may wait; then it is a dead letter (`remora outbox list`).
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = units::time)]
    outbox_max_age: Duration,
    /// How long a destination may be out of order before what waits for it becomes dead letters.
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = units::time)]
    give_up_after: Duration,
}

impl DeliveryArgs {
    /// What the agent's file says in place of the defaults.
    pub(super) fn replace(&mut self, file: &config::Outbox) {
        self.slack_rate = file.slack_rate.map_or(self.slack_rate, |rate| rate.0);
        self.slack_burst = file.slack_burst.map(|count| count.0).or(self.slack_burst);
        self.flood_limit = file.flood_limit.map_or(self.flood_limit, |count| count.0);
        self.script_alerts = file.script_alerts.map_or(self.script_alerts, |count| count.0);
        self.total_alerts = file.total_alerts.map_or(self.total_alerts, |count| count.0);
        self.outbox_max_bytes = file.max_bytes.map_or(self.outbox_max_bytes, |size| size.0);
        self.outbox_max_age = file.max_age.as_ref().map_or(self.outbox_max_age, |time| time.0);
        self.give_up_after = file.give_up_after.as_ref().map_or(self.give_up_after, |time| time.0);
    }

    /// All but the folder.
    pub(super) fn config(&self, slack_api_url: String) -> OutboxConfig {
        let usual = OutboxConfig::default();
        let same_rate = self.slack_rate.total_cmp(&usual.slack_rate.per_second).is_eq();
        let burst = if same_rate { usual.slack_rate.burst } else { 1 };
        OutboxConfig {
            slack_api_url,
            slack_rate: Rate { per_second: self.slack_rate, burst: self.slack_burst.unwrap_or(burst) },
            max_bytes: self.outbox_max_bytes,
            max_age: self.outbox_max_age,
            fold: FoldPolicy {
                flood_limit: self.flood_limit,
                script_budget: self.script_alerts,
                total_budget: self.total_alerts,
                ..usual.fold
            },
            retry: RetryPolicy { deadline: self.give_up_after, ..usual.retry },
            ..usual
        }
    }
}

pub(super) const EXAMPLES: &str = "\
Examples:
  remora outbox list --data-dir /var/lib/remora             what waits, and what was given up and why
  remora outbox list --dead --json --data-dir DIR | jq .error
  remora outbox show 4711 --data-dir DIR                    what it says; never a token or webhook URL
  remora outbox retry 4711 4712 --data-dir DIR              send dead letters again (--all: every one)
  remora outbox drop --all --data-dir DIR                   forget all dead letters
An agent that runs takes these up within a second; else the next one does.";

/// Where the outbox is.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The agent's data folder.
    #[arg(long = "data-dir", value_name = "DIR", env = "REMORA_DATA_DIR")]
    dir: PathBuf,
    /// Print JSON: one object a line.
    #[arg(long)]
    json: bool,
}

/// Which letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// Numbers, as `remora outbox list` shows them.
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    /// All dead letters.
    #[arg(long)]
    all: bool,
}

/// `remora outbox …`.
#[derive(Debug, Subcommand)]
pub(super) enum OutboxCommand {
    /// What waits and what is dead, oldest first.
    List {
        /// Only dead letters.
        #[arg(long)]
        dead: bool,
        /// Where.
        #[command(flatten)]
        place: Place,
    },
    /// All of one letter but its secrets, and where its files are.
    Show {
        /// Its number.
        #[arg(value_name = "ID")]
        id: u64,
        /// Where.
        #[command(flatten)]
        place: Place,
    },
    /// Send dead letters again, behind what waits.
    Retry {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Where.
        #[command(flatten)]
        place: Place,
    },
    /// Forget letters, dead or waiting; one that is being sent just now may still arrive.
    Drop {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Where.
        #[command(flatten)]
        place: Place,
    },
}

/// Runs `remora outbox`.
pub(super) fn run(command: &OutboxCommand) -> anyhow::Result<ExitCode> {
    match command {
        OutboxCommand::List { dead, place } => list(*dead, place)?,
        OutboxCommand::Show { id, place } => show(&Letters::open(&place.dir)?.show(*id)?, place.json)?,
        OutboxCommand::Retry { which, place } => {
            let done = Letters::open(&place.dir)?.retry(which.ids())?;
            told(place, "retried", done, "will be sent again");
        }
        OutboxCommand::Drop { which, place } => {
            let done = Letters::open(&place.dir)?.drop(which.ids())?;
            told(place, "dropped", done, "dropped");
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Which {
    fn ids(&self) -> Option<&[u64]> {
        (!self.all).then_some(self.ids.as_slice())
    }
}

fn told(place: &Place, what: &str, count: usize, text: &str) {
    if place.json {
        say::out(format_args!("{}", json!({ what: count })));
    } else {
        let plural = if count == 1 { "" } else { "s" };
        say::out(format_args!("{count} letter{plural} {text}"));
    }
}

fn list(dead: bool, place: &Place) -> anyhow::Result<()> {
    let mut shown = 0u64;
    Letters::open(&place.dir)?.list(&mut |letter| {
        if dead && letter.state == LetterState::Waiting {
            return Ok(());
        }
        shown += 1;
        if place.json {
            say::out(format_args!("{}", serde_json::to_string(&letter)?));
            return Ok(());
        }
        if shown == 1 {
            say::out(format_args!("{:>8}  {:7}  {:20}  {:>8}  WHAT", "ID", "STATE", "MADE", "ATTEMPTS"));
        }
        let (title, made) =
            (one_line(&letter::title(&letter.content), 60), utc::text(letter.made_ms / 1_000));
        let Letter { id, attempts, destination, .. } = &letter;
        let state = state(&letter);
        say::out(format_args!("{id:>8}  {state:7}  {made:20}  {attempts:>8}  {destination}: {title}"));
        if let Some(error) = &letter.error {
            say::out(format_args!("{:>8}  {}", "", one_line(error, 160)));
        }
        Ok(())
    })?;
    if shown == 0 && !place.json {
        say::out(format_args!("nothing {}", if dead { "is dead" } else { "waits, and nothing is dead" }));
    }
    Ok(())
}

fn show(letter: &Letter, json: bool) -> anyhow::Result<()> {
    if json {
        say::out(format_args!("{}", serde_json::to_string(letter)?));
        return Ok(());
    }
    say::out(format_args!("letter       {} ({})", letter.id, state(letter)));
    say::out(format_args!("destination  {}", letter.destination));
    say::out(format_args!("script       {}", letter.script));
    say::out(format_args!("made         {}", utc::text(letter.made_ms / 1_000)));
    if let Some(error) = &letter.error {
        let attempts = letter.attempts;
        say::out(format_args!("error        {error} (failed attempts: {attempts})"));
    }
    if let Some(failed) = letter.failed_ms {
        say::out(format_args!("given up     {}", utc::text(failed / 1_000)));
    }
    for file in &letter.files {
        let place = match (&file.copy, &file.missing) {
            (Some(copy), _) => copy.display().to_string(),
            (None, why) => format!("not attached: {}", why.as_deref().unwrap_or("unknown")),
        };
        say::out(format_args!("file         {} ({} bytes): {place}", one_line(&file.name, 100), file.size));
    }
    letter::lines(&letter.content).iter().for_each(|line| say::out(format_args!("{line}")));
    Ok(())
}

fn state(letter: &Letter) -> &'static str {
    match letter.state {
        LetterState::Waiting => "waiting",
        LetterState::Dead => "dead",
    }
}

fn one_line(text: &str, most: usize) -> String {
    let mut line = letter::plain(&text.chars().take(most).collect::<String>());
    if text.chars().nth(most).is_some() {
        line.push('…');
    }
    line
}
