//! `remora agent`: what `remora tap` does, with the wishes out of a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::args::{Agent, Tap};
use super::daemon::{Daemon, PodNets, Reload, Stamp, Wanted};
use super::http::Http;
use super::kubernetes::{Kubernetes, Wish};
use super::presence::Presence;
use super::settings::{Settings, UsageError, Words};
use super::{say, scripts, tap, units};
use crate::config;
use crate::kube::KubeConfig;
use crate::resolve::Resolver;

/// The folder of the PCAP store in the data folder.
const PCAP: &str = "pcap";

/// Pods behind no service that are looked up in a minute at most, unless the file says otherwise.
const LOOKUPS: u32 = 12;

/// Bytes of memory that the agent's container may take, as the chart sets it.
const MEMORY_LIMIT: &str = "REMORA_MEMORY_LIMIT";

/// A configuration as the program takes it.
pub(super) struct Checked {
    pub(super) read: config::Read,
    /// The file's state before it was read.
    pub(super) seen: Option<Stamp>,
    pub(super) settings: Settings,
    pub(super) filter: Wanted,
    tap: Tap,
    kubernetes: Wish,
}

/// Captures as the file says, until a signal; or only checks it.
pub(super) fn run(args: &Agent) -> anyhow::Result<ExitCode> {
    let mut checked = checked(&args.config)?;
    if args.check {
        let code = scripts::check_all(&checked.settings.scripts);
        if code == ExitCode::SUCCESS {
            say::out(format_args!("{}: ok", args.config.display()));
        }
        return Ok(code);
    }
    // Before anything is captured: an address in use is the sooner told.
    let bound = checked.settings.http.bind()?;
    let told = Arc::new(AtomicBool::new(false));
    checked.settings.hang_up = Some(Arc::clone(&told));
    let Checked { read, seen, mut settings, filter, tap, kubernetes } = checked;
    settings.kubernetes = Kubernetes::start(&kubernetes)?.map(Arc::new);
    // Where capture is by interfaces, targets are addresses.
    let by_address = settings.kubernetes.clone().filter(|_| !tap.interface.is_empty());
    let pods = by_address.and_then(|kubernetes| PodNets::new(kubernetes, filter.clone()));
    let reload = Reload::new(&args.config, told, read, seen, &settings, filter);
    let presence = settings.data_dir.as_deref().map(Presence::new);
    let mut daemon = Daemon { reload: Some(reload), pods, bound, presence };
    tap::capture(&tap, &settings, &mut daemon)
}

/// Reads a configuration and checks all that can be checked without capturing.
///
/// # Errors
/// [`UsageError`] naming the key.
pub(super) fn checked(path: &Path) -> Result<Checked, UsageError> {
    let seen = Stamp::of(path);
    let read = config::read(path).map_err(|error| UsageError(error.to_string()))?;
    let of_this = |error: UsageError| UsageError(format!("{}: {error}", path.display()));
    let mut tap = wishes(&read.file).map_err(|error| UsageError(error.to_string()))?;
    let mut settings = Settings::new(&tap.common, Words::Keys).map_err(of_this)?;
    tap::check(&tap, Words::Keys).map_err(of_this)?;
    if let Some(filter) = &read.file.filter {
        let compiled = units::filter(&filter.0).map_err(|error| UsageError(format!("filter: {error}")));
        settings.filter = Some(compiled.map_err(of_this)?);
    }
    crate::pipeline::check_sinks(&read.file.sinks)
        .map_err(|error| of_this(UsageError(format!("sinks: {error:#}"))))?;
    settings.sinks.clone_from(&read.file.sinks);
    settings.http = Http::new(&read.file, &settings.view).map_err(of_this)?;
    tap.exclude.extend(settings.http.endpoints());
    settings.script_limits = read.file.scripts.limits.whole();
    settings.end_within = read.file.drain_timeout.as_ref().map(|time| time.0);
    let (given, outbox) = (&read.file.outbox, &mut settings.outbox);
    outbox.max_waiting = given.max_waiting.map_or(outbox.max_waiting, |count| count.0 as usize);
    outbox.max_delivery_bytes = given.max_delivery_bytes.map_or(outbox.max_delivery_bytes, |size| size.0);
    settings.drain = given.drain_timeout.as_ref().map_or(settings.drain, |time| time.0);
    let filter = Wanted {
        ports: tap.port.clone(),
        nets: tap::nets(&tap).map_err(of_this)?,
        exclude: tap.exclude.clone(),
        direction: tap.direction.into(),
        direction_changed: false,
    };
    let kubernetes = kubernetes(&read.file);
    check_targets(&tap, &kubernetes).map_err(of_this)?;
    Ok(Checked { read, seen, settings, filter, tap, kubernetes })
}

fn kubernetes(file: &config::File) -> Wish {
    let given = &file.kubernetes;
    Wish {
        enabled: given.enabled.as_ref().and_then(|enabled| enabled.0),
        config: KubeConfig {
            kubeconfig: given.kubeconfig.clone(),
            node: Resolver::of_this_node().node().name.clone(),
            targets: file.targets.whole(),
            lookups_per_minute: given.lookups_per_minute.map_or(LOOKUPS, |count| count.0),
        },
    }
}

/// By interfaces, targets are networks in the kernel's filter, of which there is one.
fn check_targets(tap: &Tap, kubernetes: &Wish) -> Result<(), UsageError> {
    if kubernetes.config.targets.is_all() || tap.interface.is_empty() {
        return Ok(());
    }
    for (other, there) in [("capture.cgroups", !tap.cgroup.is_empty()), ("capture.nets", !tap.net.is_empty())]
    {
        if there {
            return Err(UsageError(format!(
                "targets cannot be had with both capture.interfaces and {other}: give one of the two"
            )));
        }
    }
    Ok(())
}

/// The file's wishes in the words of the command line, whose defaults hold for what it leaves out. Items are not printed.
fn wishes(file: &config::File) -> Result<Tap, clap::Error> {
    let mut tap = Tap::usual()?;
    let capture = &file.capture;
    tap.interface.clone_from(&capture.interfaces);
    tap.cgroup.clone_from(&capture.cgroups);
    tap.identity_cgroup.clone_from(&capture.identity_cgroups);
    tap.tc_hook = capture.tc_hook.unwrap_or(tap.tc_hook);
    // By its type no port is above 65,535.
    tap.port = capture.ports.iter().map(|port| port.0 as u16).collect();
    tap.net = capture.nets.iter().map(|net| net.0.to_string()).collect();
    tap.exclude = capture.exclude.iter().map(|endpoint| endpoint.0).collect();
    tap.direction = capture.direction.unwrap_or(tap.direction);
    tap.mode = capture.mode.unwrap_or(tap.mode);
    tap.promiscuous = capture.promiscuous;
    tap.workers = capture.workers.map(|count| count.0 as u16);
    tap.ring_mib =
        capture.ring_mib.map(|mib| mib.0).or_else(|| ring_mib(memory_limit()?, tap::workers(&tap)));
    tap.pin_workers = capture.pin_workers;
    tap.trim = capture.trim;
    let common = &mut tap.common;
    common.quiet = true;
    common.script.clone_from(&file.scripts.paths);
    common.given.env =
        file.scripts.env.0.iter().map(|(name, value)| format!("{name}={value}").into()).collect();
    common.given.env_file.clone_from(&file.scripts.env_files);
    common.pcap_dir = file.data_dir.as_ref().map(|dir: &PathBuf| dir.join(PCAP));
    common.data_dir.clone_from(&file.data_dir);
    common.pcap_store = file.store.mode.unwrap_or(common.pcap_store);
    common.pcap_max_bytes = file.store.max_bytes.map_or(common.pcap_max_bytes, |size| size.0);
    common.pcap_max_age = file.store.max_age.as_ref().map(|time| time.0).or(common.pcap_max_age);
    common.pcap_reserve = file.store.reserve.map(|size| size.0).or(common.pcap_reserve);
    common.no_redact = !file.redaction.enabled;
    common.redact.clone_from(&file.redaction.headers);
    common.delivery.replace(&file.outbox);
    if let Some(url) = &file.slack_api_url {
        common.slack_api_url.clone_from(&url.0);
    }
    common.s3_endpoint = file.s3_endpoint.as_ref().map(|url| url.0.clone()).or(common.s3_endpoint.take());
    common.ca_file = file.ca_file.clone().or(common.ca_file.take());
    Ok(tap)
}

/// What the pod may take, in bytes. Its own cgroup's file does not tell where the node's cgroups are mounted over it.
fn memory_limit() -> Option<u64> {
    std::env::var(MEMORY_LIMIT).ok()?.parse().ok()
}

/// Size of each ring, so that all take a sixteenth of `limit` bytes, and none more than by default.
fn ring_mib(limit: u64, workers: u16) -> Option<u32> {
    let share = limit / 16 / u64::from(workers.max(1));
    let mib = u32::try_from(share >> 20).unwrap_or(u32::MAX).clamp(1, 32);
    Some(1 << mib.ilog2())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rings_keep_within_the_pods_memory() {
        for (limit, workers, mib) in
            [(1 << 30, 4, 16), (1 << 30, 64, 1), (3 << 29, 4, 16), (64 << 30, 4, 32), (0, 0, 1)]
        {
            assert_eq!(ring_mib(limit, workers), Some(mib), "{limit} {workers}");
        }
    }

    fn read(text: &str) -> Result<Checked, UsageError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.yaml");
        std::fs::write(&path, text).unwrap();
        checked(&path)
    }

    #[test]
    fn what_the_file_says_of_deliveries_reaches_the_outbox() {
        let settings = read(
            "capture: {interfaces: [lo]}
filter: response.status >= 500
s3Endpoint: http://127.0.0.1:9000
outbox: {maxWaiting: 7, maxBytes: 64M, maxDeliveryBytes: 8M, drainTimeout: 15s, maxAge: 2h, giveUpAfter: 1h, slackRate: 0.5,
  slackBurst: 2, floodLimit: 0, scriptAlerts: 60, totalAlerts: 90}",
        )
        .unwrap()
        .settings;
        let outbox = &settings.outbox;
        assert_eq!((outbox.max_waiting, outbox.max_bytes, outbox.max_delivery_bytes), (7, 64 << 20, 8 << 20));
        assert_eq!(outbox.max_age, Duration::from_secs(7_200));
        assert_eq!(outbox.retry.deadline, Duration::from_secs(3_600));
        assert_eq!((outbox.slack_rate.per_second, outbox.slack_rate.burst), (0.5, 2));
        let fold = &outbox.fold;
        assert_eq!((fold.flood_limit, fold.script_budget, fold.total_budget), (0, 60, 90));
        assert_eq!(settings.drain, Duration::from_secs(15));
        assert_eq!(settings.s3_endpoint.as_deref(), Some("http://127.0.0.1:9000/"));
        assert!(settings.filter.is_some());
        // As on the command line, another rate has no burst of its own.
        let rated = read("capture: {interfaces: [lo]}\noutbox: {slackRate: 2}").unwrap().settings.outbox;
        assert_eq!(rated.slack_rate.burst, 1);
        let usual = read("capture: {interfaces: [lo]}").unwrap().settings;
        assert!(usual.filter.is_none() && usual.outbox.slack_rate.burst == 3);
    }

    #[test]
    fn targets_and_interfaces_go_together_alone() {
        let targets = "targets: {namespaces: [prod]}\n";
        assert!(read(&format!("{targets}capture: {{interfaces: [lo]}}")).is_ok());
        for other in ["cgroups: ['kubepods*']", "nets: [10.0.0.0/8]"] {
            let Err(error) = read(&format!("{targets}capture: {{interfaces: [lo], {other}}}")) else {
                panic!("{other} was taken")
            };
            assert!(error.to_string().contains("targets cannot be had with both"), "{error}");
        }
        let wish = read(targets.replace("prod", "prod, test").as_str());
        assert!(wish.is_err(), "nothing to capture on");
        let wish = read(&format!("{targets}capture: {{cgroups: ['kubepods*']}}")).unwrap().kubernetes;
        assert!(wish.enabled.is_none() && wish.config.lookups_per_minute == LOOKUPS);
        // Here is no service account: all pods would be more than was asked for.
        let Err(error) = Kubernetes::start(&wish) else { panic!("was taken") };
        assert!(error.to_string().contains("kubernetesApi.enabled"), "{error}");
        let all =
            Wish { config: KubeConfig { targets: crate::kube::Targets::default(), ..wish.config }, ..wish };
        assert!(Kubernetes::start(&all).unwrap().is_none());
        let Err(error) = Kubernetes::start(&Wish { enabled: Some(true), ..all }) else { panic!("was taken") };
        assert!(error.to_string().starts_with("kubernetes: "), "{error}");
    }

    #[test]
    fn what_is_wrong_is_called_as_in_the_file() {
        let Err(error) = read("capture: {interfaces: [lo]}\ncaFile: /nowhere/ca.pem") else {
            panic!("was taken")
        };
        let error = error.to_string();
        assert!(error.contains(": caFile: ") && error.contains("/nowhere/ca.pem"), "{error}");
    }
}
