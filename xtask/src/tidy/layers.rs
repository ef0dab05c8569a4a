//! Rules about modules: inside a crate, too, dependencies have a direction.
//!
//! In agent: sinks do not know each other but through the traits at the top of `pcap` and `outbox`; only `pipeline` and
//! `cli` know them all. In agent-core: a dissector knows `dissect` and `item`, never the transport or another dissector.
//! This reads `crate::…` paths in the text; tests may reach further.

use super::{File, Finding};

/// A folder (or file) of modules, and the prefixes of `crate::…` that it may use.
struct Layer {
    folder: &'static str,
    /// `*` ends a prefix; else the path must be equal.
    may: &'static [&'static str],
}

const AGENT: &[Layer] = &[
    Layer { folder: "agent/src/capture", may: &["capture*", "doctor::Check", "process*"] },
    Layer { folder: "agent/src/pcap", may: &["pcap*", "scratch*", "utc*"] },
    Layer { folder: "agent/src/outbox", may: &["outbox*", "scratch*", "secret*", "tls*", "utc*"] },
    Layer { folder: "agent/src/view", may: &["view*", "captured*", "secret*", "utc*"] },
    Layer {
        folder: "agent/src/hooks",
        may: &[
            "hooks*",
            "captured*",
            "exposition*",
            "kfl*",
            "secret*",
            "tls*",
            "view*",
            "pcap::PcapStore",
            "pcap::StoreError",
            "pcap::CaptureFile",
            "outbox::Outbox",
            "outbox::OutboxError",
            "outbox::Alert",
            "outbox::Delivery",
            "outbox::DeliveryId",
            "outbox::ElasticAccess",
            "outbox::ElasticDocument",
            "outbox::ElasticTarget",
            "outbox::Fold",
            "outbox::GcsTarget",
            "outbox::InfluxPoint",
            "outbox::InfluxTarget",
            "outbox::S3Target",
            "outbox::object_key",
            "outbox::SplunkEvent",
            "outbox::SplunkTarget",
        ],
    },
    Layer {
        folder: "agent/src/api",
        may: &[
            "api*",
            "captured*",
            "exposition*",
            "kfl*",
            "outbox::Letter",
            "outbox::LetterState",
            "outbox::Letters",
            "pcap::PcapStore",
            "pcap::StoreError",
            "pcap::StoreFolder",
            "pcap::StreamEntry",
            "secret*",
            "utc*",
            "view*",
        ],
    },
    Layer {
        folder: "agent/src/config",
        may: &[
            "config*",
            "cli*",
            "capture::net::Net",
            "hooks::ScriptLimits",
            "pipeline::SecretFrom",
            "pipeline::SinkConfig",
            "secret*",
        ],
    },
    Layer { folder: "agent/src/kfl", may: &["kfl*", "captured*", "view*"] },
    Layer { folder: "agent/src/process", may: &["process*"] },
    Layer { folder: "agent/src/resolve", may: &["resolve*", "captured*"] },
];

/// Modules of agent-core that a dissector must not know.
const NOT_IN_DISSECTORS: [&str; 5] = ["tcp", "flow", "decode", "engine", "packet"];

/// What all dissectors share, beside the types of `dissect` itself.
const SHARED_BY_DISSECTORS: [&str; 1] = ["content"];

/// A module of tests, which may reach further.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

pub(super) fn check(file: &File) -> Vec<Finding> {
    if !super::is_rust(&file.path) || is_test(&file.path) {
        return Vec::new();
    }
    let layer = AGENT.iter().find(|l| {
        file.path.starts_with(&format!("{}/", l.folder)) || file.path == format!("{}.rs", l.folder)
    });
    let dissector = file
        .path
        .strip_prefix("agent-core/src/dissect/")
        .and_then(|rest| rest.split_once('/'))
        .map(|(d, _)| d);
    let mut findings = Vec::new();
    for (line, used) in crate_paths(&file.text) {
        let allowed = match (layer, dissector) {
            (Some(layer), _) => layer.may.iter().any(|may| fits(&used, may)),
            (None, Some(own)) => dissector_may(&used, own),
            (None, None) => true,
        };
        if !allowed {
            let message = format!("uses crate::{used}, which this part must not know");
            findings.push(Finding::new("layers", &file.path, line, message));
        }
    }
    findings
}

fn fits(used: &str, may: &str) -> bool {
    match may.strip_suffix('*') {
        Some(module) => {
            used == module || used.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"))
        }
        // The item itself, or what belongs to it (a variant, a method).
        None => used == may || used.strip_prefix(may).is_some_and(|rest| rest.starts_with("::")),
    }
}

/// `own`: the folder below `dissect` that the file is in.
fn dissector_may(used: &str, own: &str) -> bool {
    let mut parts = used.split("::");
    match (parts.next(), parts.next()) {
        // Another dissector is a module, hence in lower case; types of `dissect` itself are not.
        (Some("dissect"), Some(name)) => {
            name == own
                || SHARED_BY_DISSECTORS.contains(&name)
                || !name.starts_with(|c: char| c.is_ascii_lowercase())
        }
        (Some(module), second) => {
            // Of packets, the direction is the dissector's business.
            !NOT_IN_DISSECTORS.contains(&module) || (module == "packet" && second == Some("Direction"))
        }
        _ => true,
    }
}

/// All paths that begin with `crate::`, braces written out, with their lines; up to the tests at the file's end.
fn crate_paths(text: &str) -> Vec<(usize, String)> {
    let code: Vec<&str> = text.lines().take_while(|l| l.trim() != "#[cfg(test)]").collect();
    let code = code.iter().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        let named_so =
            code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
        if named_so {
            continue;
        }
        let line = code[..at].lines().count().max(1) + usize::from(code[..at].ends_with('\n'));
        let mut found = Vec::new();
        expand(&code[at + start.len()..], "", &mut found);
        paths.extend(found.into_iter().map(|p| (line, p)));
    }
    paths
}

/// Reads one path, or a group in braces, and returns what is left of the text.
fn expand<'t>(text: &'t str, prefix: &str, found: &mut Vec<String>) -> &'t str {
    let mut rest = text.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        rest = group;
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let before = rest.len();
            rest = expand(rest, prefix, found);
            if rest.len() == before {
                return rest;
            }
        }
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    if name.is_empty() {
        return after;
    }
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if let Some(deeper) = after.strip_prefix("::")
        && deeper.trim_start().starts_with(|c: char| c.is_alphanumeric() || "_{*".contains(c))
    {
        return expand(deeper, &path, found);
    }
    // `self` in a group is the module itself.
    found.push(path.strip_suffix("::self").map_or(path.clone(), str::to_owned));
    match after.trim_start().strip_prefix("as ") {
        Some(renamed) => renamed.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
        None => after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, String)> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        check(&file).into_iter().map(|f| (f.line, f.message)).collect()
    }

    #[test]
    fn paths_are_read_from_any_form_of_use() {
        let text = "use crate::outbox::{Outbox, slack::{self, Client as C}};\n\nfn a() { crate::pcap::segment::open(); }\n\
            // crate::nothing::here\nuse other_crate::x;\nlet b = crate::view;\n#[cfg(test)]\nmod tests { use crate::cli; }\n";
        let expected = [
            (1, "outbox::Outbox"),
            (1, "outbox::slack"),
            (1, "outbox::slack::Client"),
            (3, "pcap::segment::open"),
            (6, "view"),
        ];
        assert_eq!(crate_paths(text), expected.map(|(l, p)| (l, p.to_owned())));
    }

    #[test]
    fn sinks_know_each_other_by_their_traits_only() {
        let good = "use crate::outbox::{Outbox, Delivery};\nuse crate::pcap::PcapStore;\nuse crate::hooks::limits::X;\n";
        assert_eq!(found("agent/src/hooks/run.rs", good), []);
        let bad = "\nuse crate::outbox::slack::Client;\nuse crate::capture::Loss;\nuse crate::pcap::PcapStoreImpl;\n";
        let lines: Vec<_> = found("agent/src/hooks/run.rs", bad).into_iter().map(|(l, _)| l).collect();
        assert_eq!(lines, [2, 3, 4]);
        assert_eq!(found("agent/src/outbox/mod.rs", "use crate::hooks::Script;\n").len(), 1);
        assert_eq!(
            found("agent/src/pipeline.rs", "use crate::hooks::Script;\nuse crate::outbox::slack::X;\n"),
            []
        );
    }

    #[test]
    fn dissectors_know_neither_the_transport_nor_each_other() {
        let path = "agent-core/src/dissect/http1/body.rs";
        let good =
            "use crate::dissect::http1::head::Head;\nuse crate::dissect::Chunk;\nuse crate::item::Body;\n";
        assert_eq!(found(path, good), []);
        assert_eq!(found(path, "use crate::tcp::Seq;\nuse crate::dissect::redis::X;\n").len(), 2);
        assert_eq!(found("agent-core/src/dissect/mod.rs", "use crate::tcp::Seq;\n"), []);
    }
}
