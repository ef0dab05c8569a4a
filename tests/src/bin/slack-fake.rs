//! `slack-fake`: a local Slack to try alerts against, without a workspace.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Result;
use clap::Parser;
use testkit::slack::{Channel, FakeConfig, SlackFake, Token, Webhook};

/// A strict local fake of Slack: see what your alerts look like without a workspace.
#[derive(Debug, Parser)]
#[command(name = "slack-fake", after_help = EXAMPLES)]
struct Args {
    /// Where to listen.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4510")]
    listen: SocketAddr,
    /// A bot token that is valid; may be given more than once.
    #[arg(long, value_name = "TOKEN", default_value = FakeConfig::TOKEN)]
    token: Vec<String>,
    /// A public channel that the bot is in; may be given more than once.
    #[arg(long, value_name = "ID", default_value = FakeConfig::CHANNEL)]
    channel: Vec<String>,
    /// Messages taken per second and channel; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 1)]
    rate: u32,
}

const EXAMPLES: &str = "\
Examples:
  Start it, then open the page it prints:
    slack-fake --listen 127.0.0.1:4510 --token xoxb-try --channel C00000ALERTS

  Send an alert to it from a capture file:
    remora replay capture.pcap --script scripts/alert-on-error.js \\
      --slack-api-url http://127.0.0.1:4510/api/ \\
      --env SLACK_AUTH_TOKEN=xoxb-try --env SLACK_CHANNEL_ID=C00000ALERTS

  What it received, as JSON:
    curl http://127.0.0.1:4510/_fake/messages

  Make the next two messages fail with 429, Retry-After 3 s:
    curl -H 'Content-Type: application/json' http://127.0.0.1:4510/_fake/fail \\
      -d '{\"method\": \"chat.postMessage\", \"times\": 2,
           \"fault\": {\"status\": {\"code\": 429, \"retry_after\": 3}}}'

Other faults: {\"error\": \"not_in_channel\"}, {\"slow_ms\": 5000}, \"half\", \"silent\".";

fn main() -> Result<()> {
    let args = Args::parse();
    let first = args.channel.first().cloned().unwrap_or_default();
    let config = FakeConfig {
        tokens: args.token.iter().map(|t| Token::new(t.trim())).collect(),
        channels: args.channel.iter().map(|id| Channel::new(id, &id.to_lowercase())).collect(),
        webhooks: vec![Webhook { path: FakeConfig::WEBHOOK.to_owned(), channel: first }],
        messages_per_second: (args.rate > 0).then_some(args.rate),
        ..FakeConfig::default()
    };
    let fake = SlackFake::start(args.listen, config)?;
    let (page, api, webhook) = (fake.url(), fake.api_url(), fake.webhook_url());
    // Who started it may read the first line and close the pipe.
    let _ = write!(
        std::io::stdout(),
        "page     {page}/\nAPI      {api}\nwebhook  {webhook}\nCtrl-C ends it; nothing is kept.\n"
    );
    loop {
        std::thread::park();
    }
}
