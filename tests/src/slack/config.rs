//! The workspace that the fake pretends to be: tokens with their scopes, channels, webhooks, a rate.

use serde::{Deserialize, Serialize};

/// Scopes of the app manifest that Remora documents.
const SCOPES: [&str; 5] = ["chat:write", "chat:write.public", "files:write", "files:read", "channels:join"];

/// A bot token.
#[derive(Clone, Debug)]
pub struct Token {
    /// `xoxb-…`
    pub token: String,
    /// What it may do.
    pub scopes: Vec<String>,
}

impl Token {
    /// A token with every scope of the documented manifest.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self { token: token.to_owned(), scopes: SCOPES.map(str::to_owned).to_vec() }
    }

    /// The same token without `scope`.
    #[must_use]
    pub fn without(mut self, scope: &str) -> Self {
        self.scopes.retain(|s| s != scope);
        self
    }
}

/// A channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// `C…`
    pub id: String,
    /// Without `#`.
    #[serde(default)]
    pub name: String,
    /// A private channel cannot be seen by those who are not in it.
    #[serde(default)]
    pub private: bool,
    /// Whether the bot is in it.
    #[serde(default)]
    pub member: bool,
    /// Nothing can be posted to an archived channel.
    #[serde(default)]
    pub archived: bool,
}

impl Channel {
    /// A public channel that the bot is in.
    #[must_use]
    pub fn new(id: &str, name: &str) -> Self {
        Self { id: id.to_owned(), name: name.to_owned(), private: false, member: true, archived: false }
    }

    /// The same channel, which the bot has not joined.
    #[must_use]
    pub fn not_joined(mut self) -> Self {
        self.member = false;
        self
    }
}

/// An incoming webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// `/services/T…/B…/…`
    pub path: String,
    /// Id of the channel that it posts to.
    pub channel: String,
}

/// What the fake knows.
#[derive(Clone, Debug)]
pub struct FakeConfig {
    /// Tokens that are valid.
    pub tokens: Vec<Token>,
    /// Channels that exist.
    pub channels: Vec<Channel>,
    /// Webhooks that exist.
    pub webhooks: Vec<Webhook>,
    /// Messages taken per channel in any second; more are answered 429 with `Retry-After: 1`. None: no limit.
    pub messages_per_second: Option<u32>,
    /// Largest file taken, in bytes; a larger one is `file_upload_size_restricted`.
    pub max_file: usize,
}

impl FakeConfig {
    /// A token that the default configuration knows.
    pub const TOKEN: &str = "xoxb-000000000000-hushhush-token-of-the-slack-fake";
    /// A channel that the default configuration knows; the bot is in it.
    pub const CHANNEL: &str = "C00000ALERTS";
    /// A webhook path that the default configuration knows; it posts to [`FakeConfig::CHANNEL`].
    pub const WEBHOOK: &str = "/services/T00000000/B00000000/fakeFAKEhushhushfakeFAKE";

    pub(super) fn channel(&self, id_or_name: &str) -> Option<&Channel> {
        let name = id_or_name.strip_prefix('#').unwrap_or(id_or_name);
        self.channels.iter().find(|c| c.id == id_or_name || (!c.name.is_empty() && c.name == name))
    }

    pub(super) fn set_channel(&mut self, channel: Channel) {
        match self.channels.iter_mut().find(|c| c.id == channel.id) {
            Some(known) => *known = channel,
            None => self.channels.push(channel),
        }
    }
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self {
            tokens: vec![Token::new(Self::TOKEN)],
            channels: vec![Channel::new(Self::CHANNEL, "alerts")],
            webhooks: vec![Webhook { path: Self::WEBHOOK.to_owned(), channel: Self::CHANNEL.to_owned() }],
            messages_per_second: None,
            max_file: 256 * 1024 * 1024,
        }
    }
}
