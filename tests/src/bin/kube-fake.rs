//! `kube-fake`: a local API server to try Helm, kubectl and the agent against, without a cluster.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;
use serde::Deserialize as _;
use serde_json::Value;
use testkit::fakes::kube::{KubeApi, KubeConfig};

/// A strict local fake of Kubernetes' API server: objects, watches, server-side apply, RBAC; no controllers.
#[derive(Debug, Parser)]
#[command(name = "kube-fake", after_help = EXAMPLES)]
struct Args {
    /// Where to listen, for HTTP and HTTPS.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// A further name or address that its certificate is for; may be given more than once.
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Where to write a kubeconfig of somebody who may do everything.
    #[arg(long, value_name = "FILE", default_value = "kube-fake.yaml")]
    kubeconfig: PathBuf,
    /// Let everybody do everything, with any token or none.
    #[arg(long)]
    no_rbac: bool,
    /// Objects (YAML) to begin with, statuses included; may be given more than once.
    #[arg(long, value_name = "FILE")]
    load: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  Start it, and install the chart into it:
    kube-fake --kubeconfig /tmp/fake.yaml &
    export KUBECONFIG=/tmp/fake.yaml
    helm install remora helm/remora --namespace remora --create-namespace
    kubectl -n remora get daemonsets

  What a service account may do:
    kubectl auth can-i watch pods --all-namespaces --as system:serviceaccount:remora:remora

Nothing is kept; pods come from you: kubectl apply -f pods.yaml.";

fn main() -> Result<()> {
    let args = Args::parse();
    let config =
        KubeConfig { address: args.listen, names: args.name, rbac: !args.no_rbac, ..KubeConfig::default() };
    let api = KubeApi::start(config)?;
    for path in &args.load {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        for document in serde_norway::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).with_context(|| path.display().to_string())?;
            if !object.is_null() {
                api.apply(&object).with_context(|| path.display().to_string())?;
            }
        }
    }
    let config = api.kubeconfig(api.admin_token());
    std::fs::write(&args.kubeconfig, config).with_context(|| args.kubeconfig.display().to_string())?;
    // Who started it may read the first line and close the pipe.
    let _ = write!(
        std::io::stdout(),
        "server      {}\nkubeconfig  {}\nCtrl-C ends it; nothing is kept.\n",
        api.https_url(),
        args.kubeconfig.display()
    );
    loop {
        std::thread::park();
    }
}
