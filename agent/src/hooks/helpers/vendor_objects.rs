//! `vendor.s3.put` and `vendor.gcs.put`: files as objects, through the outbox. They return the URL the object will have.
//!
//! An object's key is a folder and the file's name: the folder is what follows a `/` in the bucket's argument, else the node's
//! name, as streams are numbered on each node anew.

use std::path::PathBuf;

use crate::outbox::{Delivery, GcsTarget, S3Target, object_key};
use crate::secret::Secret;

use super::vendor::queue;
use super::{Call, HelperError, HelperResult, Host, Member};

pub(super) const S3: &[Member] = &[("put", "vendor.s3.put", s3_put)];
pub(super) const GCS: &[Member] = &[("put", "vendor.gcs.put", gcs_put)];

fn s3_put<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (bucket, key, path) = object(host, call)?;
    let region = call.text(2, "region")?;
    let given =
        |index, name| Ok::<_, HelperError>(call.optional_text(index, name)?.filter(|text| !text.is_empty()));
    let keys = match (given(3, "keyID")?, given(4, "accessKey")?) {
        (None, None) => None,
        (Some(id), Some(key)) => Some((id.trim().to_owned(), Secret::new(&key))),
        (Some(_), None) => return Err(call.failed("accessKey", "is empty, but there is a keyID")),
        (None, Some(_)) => return Err(call.failed("keyID", "is empty, but there is an accessKey")),
    };
    let endpoint = host.services().s3_endpoint.as_deref();
    let target =
        S3Target::new(endpoint, &bucket, region.trim(), keys).map_err(|error| call.failed_call(error))?;
    let url = target.url(&key);
    queue(host, call, Delivery::S3 { target, key, path })?;
    call.returns(url)
}

fn gcs_put<'js>(host: &Host, call: &Call<'js>) -> HelperResult<'js> {
    let (bucket, key, path) = object(host, call)?;
    let (account, _) = call.text_or_json(2, "saKeyObj")?;
    let target = GcsTarget::new(&bucket, Secret::new(&account)).map_err(|error| call.failed_call(error))?;
    let url = target.url(&key);
    queue(host, call, Delivery::Gcs { target, key, path })?;
    call.returns(url)
}

/// Bucket, key and file.
fn object(host: &Host, call: &Call<'_>) -> Result<(String, String, PathBuf), HelperError> {
    let place = call.text(0, "bucket")?;
    let path = call.text(1, "path")?;
    let place = place.trim();
    let (bucket, folder) = place.split_once('/').unwrap_or((place, &host.services().node_name));
    let path = host.folder.readable_path(&path).map_err(|error| call.failed("path", error))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let key = object_key(folder, &name).map_err(|error| call.failed_call(error))?;
    Ok((bucket.to_owned(), key, path))
}
