//! The way to the API server: who it is, who we are, how often it is asked at most.
//!
//! In a cluster: the service account's token, read again every minute, for it is replaced, and its CA. Elsewhere a kubeconfig.
//! Proxies of the environment are for what scripts send; the API server is asked directly.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::kube::client::{Body, ClientBuilder};
use ::kube::config::{KubeConfigOptions, Kubeconfig};
use ::kube::{Client, Config};
use http::{Request, Response};
use tower::limit::RateLimitLayer;
use tower::{Layer, Service};

use super::hub::KubeError;
use super::status::{Counters, Status, Watched};
use super::watch;

/// Requests in [`SPAN`] at most, whatever happens: a server that ends every watch at once is not asked more often.
const REQUESTS: u64 = 30;
const SPAN: Duration = Duration::from_secs(10);
/// The folder of a pod's service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Whether this process has a service account of a cluster.
#[must_use]
pub fn in_cluster() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(ACCOUNT).join("token").exists()
}

/// # Errors
/// When there is no service account, or the kubeconfig cannot be used.
pub(super) async fn config(kubeconfig: Option<&PathBuf>) -> Result<Config, KubeError> {
    let mut config = match kubeconfig {
        None => Config::incluster().map_err(|error| KubeError::NoAccount(watch::told(&error)))?,
        Some(path) => {
            let bad = |error: &dyn std::error::Error| KubeError::Kubeconfig {
                path: path.clone(),
                cause: watch::told(error),
            };
            let read = Kubeconfig::read_from(path).map_err(|error| bad(&error))?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(read, &options).await.map_err(|error| bad(&error))?
        }
    };
    config.proxy_url = None;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.write_timeout = Some(Duration::from_secs(30));
    // Longer than any watch is silent: what comes later comes never.
    config.read_timeout = Some(Duration::from_secs(2 * u64::from(watch::LASTS) + 10));
    config.reset_reader_on_write = true;
    Ok(config)
}

/// # Errors
/// When the certificates or the token cannot be used.
pub(super) fn client(config: Config, status: &Arc<Status>) -> Result<Client, KubeError> {
    let builder = ClientBuilder::try_from(config).map_err(|error| KubeError::Client(watch::told(&error)))?;
    let observed = ObservedLayer(Arc::clone(status));
    Ok(builder.with_layer(&RateLimitLayer::new(REQUESTS, SPAN)).with_layer(&observed).build())
}

struct ObservedLayer(Arc<Status>);

impl<S> Layer<S> for ObservedLayer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, status: Arc::clone(&self.0) }
    }
}

/// Counts requests, and sees when a watch is answered, of which a watcher says nothing before something changes.
struct Observed<S> {
    inner: S,
    status: Arc<Status>,
}

type Answer<R, E> = std::pin::Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

impl<S, B> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Answer<Response<B>, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watched = watched(request.uri().path(), request.uri().query().unwrap_or_default());
        let status = Arc::clone(&self.status);
        Counters::add(&status.counters.requests);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(watched) = watched.filter(|_| answer.status().is_success()) {
                status.answered(watched);
            }
            Ok(answer)
        })
    }
}

/// What a request is to watch.
fn watched(path: &str, query: &str) -> Option<Watched> {
    if !query.split('&').any(|part| matches!(part, "watch=true" | "watch=1")) {
        return None;
    }
    match path.rsplit('/').next()? {
        "pods" => Some(Watched::Pods),
        "services" => Some(Watched::Services),
        "endpointslices" => Some(Watched::Slices),
        _ => None,
    }
}
