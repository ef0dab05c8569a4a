//! `remora scripts test --json`, read.

use std::path::Path;

use serde_json::Value;

use super::remora;

/// What a script did on a capture.
pub(crate) struct Played {
    pub(crate) stdout: String,
    pub(crate) code: i32,
    calls: Vec<Value>,
    summary: Value,
}

impl Played {
    /// Runs it; exit codes 0 and 1 are both fine.
    #[track_caller]
    pub(crate) fn new(script: &Path, capture: &Path, env: &[(&str, &str)], flags: &[&str]) -> Self {
        let mut args = vec!["scripts".to_owned(), "test".to_owned(), "--json".to_owned()];
        args.extend([script.display().to_string(), "--pcap".to_owned(), capture.display().to_string()]);
        args.extend(env.iter().flat_map(|(name, value)| ["--env".to_owned(), format!("{name}={value}")]));
        args.extend(flags.iter().map(|&flag| flag.to_owned()));
        let ran = remora(args).never_panicked();
        let mut calls: Vec<Value> = ran.items();
        let summary = calls.pop().unwrap_or_else(|| panic!("a summary: {}", ran.stderr));
        assert!(summary["summary"].is_object(), "{summary}: {}", ran.stderr);
        Self { stdout: ran.stdout, code: ran.code, calls, summary: summary["summary"].clone() }
    }

    /// What calls threw.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.calls.iter().filter_map(|call| call["failure"].as_str().map(str::to_owned)).collect()
    }

    fn events(&self, what: &str) -> Vec<Value> {
        let all = self.calls.iter().flat_map(|call| call["events"].as_array().cloned().unwrap_or_default());
        all.filter(|event| event["what"] == what).collect()
    }

    pub(crate) fn deliveries(&self) -> Vec<Value> {
        self.events("delivery")
    }

    pub(crate) fn webhooks(&self) -> Vec<Value> {
        self.events("webhook")
    }

    /// Titles of Slack's messages.
    pub(crate) fn alerts(&self) -> Vec<String> {
        let title = |of: &Value| of["content"]["alert"]["pretext"].as_str().map(str::to_owned);
        self.deliveries().iter().filter_map(title).collect()
    }

    /// What the script wrote by `console`.
    pub(crate) fn console(&self) -> Vec<String> {
        self.events("console")
            .iter()
            .map(|line| line["text"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Which hooks and jobs were called.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.iter().map(|call| call["call"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What it publishes.
    pub(crate) fn metrics(&self) -> Vec<String> {
        let lines = self.summary["metrics"].as_array().cloned().unwrap_or_default();
        lines.iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect()
    }

    pub(crate) fn summary(&self) -> &Value {
        &self.summary
    }
}
