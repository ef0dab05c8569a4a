//! Lists, whole or page by page.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::route::Asked;
use super::select::Selection;
use super::status::Refusal;
use super::store::{Object, Snapshot, Store};

/// The list that is asked for, as JSON. All pages of one list are of one moment.
pub(super) fn answer(store: &mut Store, asked: &Asked, selection: &Selection) -> Result<String, Refusal> {
    let limit = match asked.query("limit") {
        None => usize::MAX,
        Some(text) => text.parse().map_err(|_| Refusal::bad(format!("invalid limit {text:?}")))?,
    };
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut whole = match asked.query("continue") {
        Some(token) => continued(store, token)?,
        None => begun(store, asked, selection)?,
    };
    let page: Vec<_> = whole.rest.drain(..limit.min(whole.rest.len())).collect();
    let mut metadata = json!({"resourceVersion": whole.revision.to_string()});
    if !whole.rest.is_empty() {
        metadata["remainingItemCount"] = json!(whole.rest.len());
        let id = store.keep(whole);
        metadata["continue"] =
            json!(URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "start": id}).to_string()));
    }
    Ok(written(asked, &metadata, &page))
}

fn begun(store: &Store, asked: &Asked, selection: &Selection) -> Result<Snapshot, Refusal> {
    let wanted = asked.query("resourceVersion").unwrap_or("0");
    let wanted: u64 =
        wanted.parse().map_err(|_| Refusal::bad(format!("invalid resource version {wanted:?}")))?;
    if wanted > store.revision {
        return Err(Refusal::from_the_future(wanted, store.revision));
    }
    if asked.query("resourceVersionMatch") == Some("Exact") && wanted != store.revision {
        return Err(Refusal::expired("The resourceVersion for the provided list is too old."));
    }
    let all = store.all(&asked.resource, selection.namespace.as_deref());
    let rest: VecDeque<_> = all.into_iter().filter(|object| selection.takes(&object.value)).collect();
    Ok(Snapshot { id: 0, revision: store.revision, rest })
}

fn continued(store: &Store, token: &str) -> Result<Snapshot, Refusal> {
    let invalid = || Refusal::bad("continue key is not valid");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
    let token: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let id = token["start"].as_u64().ok_or_else(invalid)?;
    store.kept(id).ok_or_else(|| {
        Refusal::expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.")
    })
}

fn written(asked: &Asked, metadata: &Value, page: &[Arc<Object>]) -> String {
    let resource = &asked.resource;
    let (kind, version) = if asked.metadata_only {
        ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
    } else {
        (format!("{}List", resource.kind), resource.api_version())
    };
    let mut text =
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[");
    for (at, object) in page.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        if asked.metadata_only {
            text.push_str(&object.metadata());
        } else {
            text.push_str(object.element());
        }
    }
    text.push_str("]}");
    text
}
