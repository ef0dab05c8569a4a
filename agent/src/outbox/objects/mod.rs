//! Object stores: a file of a delivery becomes an object of S3, of anything that speaks as S3 does, or of Google's storage.
//!
//! The protocol is the crate `object_store`'s; connections, trust, proxies and bounds are the outbox's own ([`web`]), and so
//! is trying again. An object that is sent twice is one object.

mod refusal;
mod target;
mod web;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use object_store::{ObjectStore, PutMultipartOptions, PutOptions, PutPayload};
use tokio::io::AsyncReadExt as _;

pub use target::{GcsTarget, S3Target, object_key};

use super::config::{OutboxConfig, Rate};
use super::delivery::{Body, Content, Job};
use super::failure::Failure;
use super::sender::{Outcome, SendOne, Turn};
use web::Web;

/// Bytes of a part; larger files go in several. Stores take parts of 5 MiB and more.
const PART: usize = 8 * 1024 * 1024;

/// One bucket, by one account.
#[derive(Debug)]
pub(in crate::outbox) struct Objects {
    place: Place,
    open: OnceLock<Result<Open, Failure>>,
}

#[derive(Debug)]
enum Place {
    S3(S3Target),
    Gcs(GcsTarget),
}

/// A store, and what its last call was answered.
#[derive(Debug)]
struct Open {
    store: Arc<dyn ObjectStore>,
    web: Arc<Web>,
}

impl Objects {
    pub(in crate::outbox) fn s3(target: S3Target) -> Self {
        Self { place: Place::S3(target), open: OnceLock::new() }
    }

    pub(in crate::outbox) fn gcs(target: GcsTarget) -> Self {
        Self { place: Place::Gcs(target), open: OnceLock::new() }
    }

    async fn put(&self, turn: &Turn<'_>, job: &Job) -> Result<(), Failure> {
        let Content::Object { key, .. } = &job.content else {
            return Err(Failure::local("bad_content", "not an object".to_owned()));
        };
        let open = self.open.get_or_init(|| {
            let web = Arc::new(Web::new(Arc::clone(&turn.services.http)));
            let store = match &self.place {
                Place::S3(target) => target.open(&web),
                Place::Gcs(target) => target.open(&web),
            };
            Ok(Open { store: store.map_err(|error| refusal::not_opened(&error))?, web })
        });
        let open = open.as_ref().map_err(Failure::clone)?;
        let path = match job.files.first().map(|file| &file.body) {
            Some(Body::Copy(copy)) => turn.file(copy),
            Some(Body::Missing(why)) => return Err(Failure::local("no_file", why.clone())),
            None => return Err(Failure::local("no_file", "there is none".to_owned())),
        };
        open.web.begin();
        let sent = open.upload(&key.as_str().into(), &path).await;
        sent.map_err(|error| match error {
            Upload::File(error) => Failure::local("no_file", error.to_string()),
            Upload::Store(error) => refusal::judge(&error, open.web.last()),
        })
    }
}

/// Why an object was not put.
#[derive(Debug)]
enum Upload {
    File(std::io::Error),
    Store(object_store::Error),
}

impl From<std::io::Error> for Upload {
    fn from(error: std::io::Error) -> Self {
        Self::File(error)
    }
}

impl From<object_store::Error> for Upload {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

impl Open {
    async fn upload(&self, key: &object_store::path::Path, path: &Path) -> Result<(), Upload> {
        let mut file = tokio::fs::File::open(path).await?;
        let size = file.metadata().await?.len();
        let first = part(&mut file).await?;
        if size <= PART as u64 {
            self.store.put_opts(key, first, PutOptions::default()).await?;
            return Ok(());
        }
        let mut upload = self.store.put_multipart_opts(key, PutMultipartOptions::default()).await?;
        let mut next = first;
        loop {
            if let Err(error) = upload.put_part(next).await {
                // What was stored of it costs until somebody removes it.
                let refused = self.web.last();
                let _ = upload.abort().await;
                self.web.recall(refused);
                return Err(error.into());
            }
            next = part(&mut file).await?;
            if next.content_length() == 0 {
                break;
            }
        }
        upload.complete().await?;
        Ok(())
    }
}

/// The next bytes; fewer than a part's only at the end.
async fn part(file: &mut tokio::fs::File) -> std::io::Result<PutPayload> {
    let mut bytes = Vec::new();
    file.take(PART as u64).read_to_end(&mut bytes).await?;
    Ok(PutPayload::from(bytes))
}

impl SendOne for Objects {
    fn rate(&self, _config: &OutboxConfig) -> Rate {
        Rate { per_second: 100.0, burst: 100 }
    }

    async fn send_one(&self, turn: &Turn<'_>, job: &Job) -> Outcome {
        Outcome::of(turn.pace.keep(self.put(turn, job)).await)
    }
}
